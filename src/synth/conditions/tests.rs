//! Tests of conditions as a whole. With the environment variable `KINORA_LOOK` set to a folder, `looks` writes a
//! contact sheet there, of other seeds with `KINORA_LOOK_FROM`, and `costs` says what they cost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Instant;

use super::*;
use crate::frame::Frame;
use crate::synth::raster::{Light, Pattern, Raster};
use crate::synth::{Motion, Scene, World};

fn random(seed: u64) -> Conditions {
    Conditions::random(&mut Dice::new(seed, 77))
}

/// How many things are not as in a studio.
fn count(conditions: &Conditions) -> usize {
    conditions.movers.len()
        + usize::from(conditions.wall.is_some())
        + conditions.lighting.count()
        + usize::from(conditions.shutter_s > 0.0)
        + usize::from(conditions.noise > 0.0)
        + usize::from(conditions.coarse)
        + usize::from(conditions.codec.is_some())
}

fn picture(scene: &mut Scene, t_s: f32) -> Vec<u8> {
    let mut frame = Frame::new(80, 60);
    scene.render(t_s, &mut frame);
    frame.data().to_vec()
}

#[test]
fn looks() {
    let Some(folder) = std::env::var_os("KINORA_LOOK") else { return };
    let from: u64 = std::env::var("KINORA_LOOK_FROM").map_or(0, |n| n.parse().unwrap());
    let (rows, columns) = (12, 8);
    let mut frame = Frame::new(160, 120);
    let mut sheet = image::RgbImage::new(frame.width() * columns, frame.height() * rows);
    for row in 0..rows {
        let seed = from + u64::from(row);
        let conditions = random(seed);
        println!("{seed}: {conditions:.2?}");
        let mut scene = Scene::clip(World::Studio, seed, Motion::Wave).under(conditions);
        let subject = scene.subject();
        let (start, end) = (subject.start_s - 0.3, subject.end_s + 0.3);
        for column in 0..columns {
            scene.render(start + (end - start) * column as f32 / (columns - 1) as f32, &mut frame);
            let picture = image::RgbImage::from_raw(160, 120, frame.data().to_vec()).unwrap();
            image::imageops::replace(&mut sheet, &picture, i64::from(column * 160), i64::from(row * 120));
        }
    }
    sheet.save(std::path::PathBuf::from(folder).join("conditions.png")).unwrap();
}

#[test]
fn costs() {
    if std::env::var_os("KINORA_LOOK").is_none() {
        return;
    }
    let mut frame = Frame::new(320, 240);
    let mut time = |conditions: &dyn Fn(u64) -> Conditions| {
        let mut spent_s = 0.0;
        for seed in 0..60 {
            let motion = Motion::ALL[seed as usize % Motion::ALL.len()];
            let mut scene = Scene::clip(World::Studio, seed, motion).under(conditions(seed));
            scene.render(0.0, &mut frame);
            let begin = Instant::now();
            (0..40).for_each(|i| scene.render(i as f32 / 12.0, &mut frame));
            spent_s += begin.elapsed().as_secs_f64();
        }
        60.0 * 40.0 / spent_s
    };
    let calm = time(&|_| Conditions::calm());
    let only = |change: fn(&mut Conditions)| {
        move |_| {
            let mut conditions = Conditions::calm();
            change(&mut conditions);
            conditions
        }
    };
    println!("calm: {calm:.0} pictures a second");
    println!("random: {:.2} of that", time(&random) / calm);
    println!("shutter: {:.2}", time(&only(|c| c.shutter_s = 1.0 / 30.0)) / calm);
    println!("coarse: {:.2}", time(&only(|c| c.coarse = true)) / calm);
    println!("noise: {:.2}", time(&only(|c| c.noise = 6.0)) / calm);
    println!("codec: {:.2}", time(&only(|c| c.codec = Some(Codec::random(&mut Dice::new(1, 1), 20.0)))) / calm);
    println!("wall: {:.2}", time(&only(|c| c.wall = Some(WallShadow::random(&mut Dice::new(1, 1))))) / calm);
    println!("dim: {:.2}", time(&only(|c| c.lighting = Lighting::random(&mut Dice::new(1, 1), true))) / calm);
    println!("mover: {:.2}", time(&|seed| Conditions { movers: vec![mover(seed)], ..Conditions::calm() }) / calm);
}

fn mover(seed: u64) -> Mover {
    Mover::random(&mut Dice::new(seed, 3))
}

#[test]
fn scenes_have_one_to_three_conditions_and_some_have_none() {
    let counts: Vec<usize> = (0..4000).map(|seed| count(&random(seed))).collect();
    let share = |range: std::ops::RangeInclusive<usize>| {
        counts.iter().filter(|n| range.contains(n)).count() as f32 / counts.len() as f32
    };
    assert!((0.11..0.2).contains(&share(0..=0)), "{}", share(0..=0));
    assert!(share(1..=3) > 0.55, "{}", share(1..=3));
}

#[test]
fn calm_conditions_change_nothing() {
    let (size, calm) = ((40, 30), Conditions::calm());
    let before: Vec<u8> = (0..40 * 30 * 3).map(|i| (i * 7 % 256) as u8).collect();
    let (mut after, mut film) = (before.clone(), Film::default());
    film.prepare(&calm, size);
    calm.draw_movers(1.0, size, (0.0, 0.0), &mut after);
    calm.light(1.0, size, &mut after);
    calm.transmit(1.0, &mut film, &mut after);
    assert_eq!(before, after);
    assert!(calm.wall.is_none() && calm.shutter_s == 0.0);
    let mut scene = Scene::clip(World::Studio, 4, Motion::Wave);
    let before = picture(&mut scene, 1.3);
    assert_eq!(before, picture(&mut scene.under(calm), 1.3));
}

#[test]
fn the_same_seed_gives_the_same_picture_in_any_order_of_times() {
    for seed in 0..40 {
        let scene = || Scene::clip(World::Studio, seed, Motion::Punch).under(random(seed));
        let (mut a, mut b) = (scene(), scene());
        picture(&mut b, 2.9);
        picture(&mut b, 0.1);
        assert_eq!(picture(&mut a, 1.7), picture(&mut b, 1.7), "seed {seed}");
    }
}

#[test]
fn any_size_and_time_can_be_drawn() {
    for (width, height) in [(0, 0), (1, 1), (2, 1), (1, 2), (7, 200), (333, 17), (17, 16), (64, 48)] {
        let mut frame = Frame::new(width, height);
        for seed in 0..60 {
            let conditions = Conditions { movers: (0..9).map(mover).collect(), ..random(seed) };
            let mut scene = Scene::clip(World::Studio, seed, Motion::Jump).under(conditions);
            for t in [0.0, 2.0, f32::NAN, -1.0, f32::INFINITY, 1e9, f32::MAX] {
                scene.render(t, &mut frame);
            }
        }
    }
}

#[test]
fn what_is_behind_moves() {
    for seed in 0..60 {
        let draw = |t_s: f32, shift: (f32, f32)| {
            let mut pixels = vec![90; 160 * 120 * 3];
            let conditions = Conditions { movers: vec![mover(seed)], ..Conditions::calm() };
            conditions.draw_movers(t_s, (160, 120), shift, &mut pixels);
            pixels
        };
        let pictures: Vec<_> = (0..20).map(|i| draw(i as f32 * 0.6, (0.0, 0.0))).collect();
        let changes = pictures.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes > 3, "{:?}: {changes}", mover(seed));
        // A picture moved by whole pixels has the same in it, but for its edges.
        let (still, moved) = (draw(3.0, (0.0, 0.0)), draw(3.0, (2.0, 1.0)));
        let differ = (20..100)
            .flat_map(|y| (20..140).map(move |x| (x, y)))
            .filter(|(x, y)| still[(y * 160 + x) * 3].abs_diff(moved[((y + 1) * 160 + x + 2) * 3]) > 12)
            .count();
        assert!(differ < 120, "{:?}: {differ}", mover(seed));
    }
}

fn limb(x: f32) -> Limb {
    let (from, to) = ([x, 10.0, 3.0, 1.0], [x, 30.0, 3.0, 1.0]);
    Limb { from, to, bulge: 0.05, cap: 1.0, color: [250.0; 3], pattern: Pattern::Plain }
}

#[test]
fn an_open_shutter_widens_what_moves_and_leaves_what_stands() {
    let size = (60, 40);
    let (light, mut raster) = (Light { direction: [0.0; 3], ambient: 1.0 }, Raster::default());
    let mut take = |places: &[f32]| {
        let mut film = Film::default();
        film.prepare(&Conditions { shutter_s: 0.1, ..Conditions::calm() }, size);
        let mut pixels = vec![0; 60 * 40 * 3];
        for x in places {
            pixels.fill(0);
            raster.begin(size.0, size.1);
            raster.draw(&limb(*x), &light, &mut pixels);
            film.expose(&pixels);
        }
        film.develop(places.len(), &mut pixels);
        pixels
    };
    let width = |pixels: &[u8]| (0..60).filter(|x| pixels[(20 * 60 + x) * 3] > 30).count();
    let still = take(&[20.0]);
    for count in 2..=4 {
        assert_eq!(still, take(&vec![20.0; count]));
    }
    assert!(width(&take(&[17.0, 19.0, 21.0, 23.0])) >= width(&still) + 5);
    assert_eq!(Conditions::exposures(&[limb(20.0)], &[limb(20.5)]), 1);
    assert_eq!(Conditions::exposures(&[limb(20.0)], &[limb(60.0)]), MOST_EXPOSURES);
    assert_eq!(Conditions::exposures(&[limb(20.0)], &[]), MOST_EXPOSURES);
}

#[test]
fn a_long_exposure_shows_in_a_scene_that_moves() {
    let mut differ = 0;
    for seed in 0..10 {
        let mut sharp = Scene::clip(World::Studio, seed, Motion::Run);
        let t_s = 0.5 * (sharp.subject().start_s + sharp.subject().end_s);
        let mut long = Scene::clip(World::Studio, seed, Motion::Run)
            .under(Conditions { shutter_s: 1.0 / 15.0, ..Conditions::calm() });
        differ += usize::from(picture(&mut sharp, t_s) != picture(&mut long, t_s));
    }
    assert!(differ > 7, "{differ}");
}

#[test]
fn a_shadow_on_the_wall_darkens_once_and_ends_at_the_floor() {
    let size = (60.0, 40.0);
    let shade = |limbs: &[Limb]| {
        let (mut raster, mut pixels) = (Raster::default(), vec![200; 60 * 40 * 3]);
        raster.begin(60, 40);
        random_wall().cast(limbs, (size, (0.0, 0.0)), 25.0, &mut raster, &mut pixels);
        // Nothing is left of it for the body, which is drawn into the same depths.
        let mut again = vec![200; 60 * 40 * 3];
        raster.darken(1.0, 40.0, &mut again);
        assert!(again.iter().all(|p| *p == 200));
        pixels
    };
    let once = shade(&[limb(30.0)]);
    assert_eq!(once, shade(&[limb(30.0), limb(30.0), limb(30.0)]));
    let darkest = once.iter().min().unwrap();
    assert!((70..190).contains(darkest), "{darkest}");
    assert!(once[25 * 60 * 3..].iter().all(|p| *p == 200));
}

fn random_wall() -> WallShadow {
    WallShadow::random(&mut Dice::new(2, 2))
}

#[test]
fn noise_is_new_in_each_picture_and_as_strong_as_it_says() {
    let conditions = Conditions { noise: 6.0, ..Conditions::calm() };
    let mut film = Film::default();
    film.prepare(&conditions, (160, 120));
    let mut take = |t_s: f32| {
        let mut pixels = vec![128; 160 * 120 * 3];
        conditions.transmit(t_s, &mut film, &mut pixels);
        pixels
    };
    let (one, other) = (take(1.0), take(1.1));
    assert_ne!(one, other);
    let variance = one.iter().map(|p| (f32::from(*p) - 128.0).powi(2)).sum::<f32>() / one.len() as f32;
    assert!((5.0..7.0).contains(&variance.sqrt()), "{}", variance.sqrt());
}
