//! Tests of the mannequin as a whole. With the environment variable `KINORA_LOOK` set to a folder, `sheets` writes
//! contact sheets of all motions there, of the world that `KINORA_LOOK_WORLD` names.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::frame::Frame;

const WORLDS: [World; 2] = [World::Studio, World::Wild];

#[test]
fn sheets() {
    let Some(folder) = std::env::var_os("KINORA_LOOK") else { return };
    let folder = std::path::PathBuf::from(folder);
    let seeds = std::env::var("KINORA_LOOK_SEEDS").map_or(4, |n| n.parse().unwrap());
    let world = std::env::var("KINORA_LOOK_WORLD").map_or(World::Studio, |name| name.parse().unwrap());
    const COLUMNS: u32 = 12;
    for motion in Motion::every() {
        let mut frame = Frame::new(160, 120);
        let mut sheet = image::RgbImage::new(frame.width() * COLUMNS, frame.height() * seeds);
        for seed in 0..seeds {
            let mut scene = Scene::clip(world, u64::from(seed), motion);
            let subject = scene.subject();
            let (start, end) = (subject.start_s - 0.2, subject.end_s + 0.2);
            for column in 0..COLUMNS {
                scene.render(start + (end - start) * column as f32 / (COLUMNS - 1) as f32, &mut frame);
                let picture = image::RgbImage::from_raw(160, 120, frame.data().to_vec()).unwrap();
                image::imageops::replace(&mut sheet, &picture, i64::from(column * 160), i64::from(seed * 120));
            }
        }
        sheet.save(folder.join(format!("{}.png", motion.label()))).unwrap();
    }
}

/// Mean absolute difference of pictures a tenth of a second apart, over a stretch of a scene.
fn liveliness(scene: &mut Scene, (start_s, end_s): (f32, f32)) -> f64 {
    let (mut before, mut after) = (Frame::new(120, 90), Frame::new(120, 90));
    let (mut sum, mut count) = (0, 0);
    let mut t = start_s;
    scene.render(t, &mut before);
    while t + 0.1 < end_s {
        t += 0.1;
        scene.render(t, &mut after);
        sum += before
            .data()
            .iter()
            .zip(after.data())
            .map(|(a, b)| u64::from(a.abs_diff(*b).saturating_sub(20)))
            .sum::<u64>();
        count += before.data().len();
        std::mem::swap(&mut before, &mut after);
    }
    sum as f64 / count.max(1) as f64
}

#[test]
fn every_motion_moves_far_more_than_nothing() {
    let mean = |motion: Motion| {
        let one = |seed: u64| {
            let mut scene = Scene::clip(World::Studio, seed, motion);
            let subject = scene.subject();
            liveliness(&mut scene, (subject.start_s, subject.end_s))
        };
        (0..12).map(one).sum::<f64>() / 12.0
    };
    let nothing = mean(Motion::Nothing);
    for motion in &Motion::ALL[1..] {
        let moving = mean(*motion);
        assert!(moving > 1.7 * nothing, "{}: {moving:.4}, nothing: {nothing:.4}", motion.label());
    }
}

#[test]
fn the_same_seed_gives_the_same_picture_in_any_order_of_times() {
    let picture = |scene: &mut Scene, t_s: f32| {
        let mut frame = Frame::new(80, 60);
        scene.render(t_s, &mut frame);
        frame.data().to_vec()
    };
    for world in WORLDS {
        for (seed, motion) in [(9, Motion::Wave), (12, Motion::Walk), (15, Motion::Fall), (18, Motion::Nothing)] {
            let (mut a, mut b) = (Scene::clip(world, seed, motion), Scene::clip(world, seed, motion));
            picture(&mut b, 0.4);
            assert_eq!(picture(&mut a, 2.1), picture(&mut b, 2.1));
            assert_ne!(picture(&mut a, 2.1), picture(&mut Scene::clip(world, seed + 1, motion), 2.1));
        }
        let (mut a, mut b) = (Scene::live(world, 3), Scene::live(world, 3));
        picture(&mut b, 150.0);
        assert_eq!(picture(&mut a, 7.3), picture(&mut b, 7.3));
        assert_eq!(picture(&mut a, 95.0), picture(&mut b, 95.0));
    }
}

#[test]
fn segments_follow_one_another_and_are_the_truth() {
    let mut frame = Frame::new(8, 6);
    for (world, seed) in WORLDS.into_iter().flat_map(|world| (0..6).map(move |seed| (world, seed))) {
        let mut scene = Scene::live(world, seed);
        let mut before = scene.segment_at(0.0);
        assert_eq!(before.start_s, 0.0);
        while before.end_s < 300.0 {
            let next = scene.segment_at(before.end_s);
            assert_eq!(next.start_s, before.end_s);
            assert!(next.end_s > next.start_s + 0.05 && next.end_s - next.start_s < 25.0, "{next:?}");
            assert!(next.motion != Motion::StandUp || before.motion != Motion::SitDown, "no rest on the chair");
            before = next;
        }
        for motion in Motion::ALL {
            let mut scene = Scene::clip(world, seed, motion);
            let subject = scene.subject();
            assert_eq!(subject.motion, motion);
            let shortest = if world == World::Wild { 0.45 } else { 0.9 };
            assert!(subject.start_s >= 0.2 && subject.end_s > subject.start_s + shortest, "{subject:?}");
            assert_eq!(scene.segment_at(subject.end_s + 1.5).motion, Motion::Nothing);
            for share in [0.01, 0.5, 0.99] {
                scene.render(subject.start_s + share * (subject.end_s - subject.start_s), &mut frame);
                assert_eq!(frame.truth, Some(motion.label()));
            }
        }
    }
}

#[test]
fn live_scenes_show_every_motion() {
    for world in WORLDS {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..4 {
            let mut scene = Scene::live(world, seed);
            let mut t = 0.0;
            while t < 600.0 {
                let segment = scene.segment_at(t);
                seen.insert(segment.motion);
                t = segment.end_s;
            }
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), Motion::ALL);
    }
}

#[test]
fn labels_lead_back_to_motions() {
    for motion in Motion::ALL {
        assert_eq!(Motion::from_label(motion.label()), Some(motion));
    }
    assert_eq!(Motion::from_label("juggle"), None);
}

#[test]
fn a_swipe_goes_where_its_name_says() {
    for (motion, way) in [(Motion::SwipeLeft, -1.0), (Motion::SwipeRight, 1.0)] {
        for seed in 0..60 {
            let scene = Scene::clip(World::Studio, seed, motion);
            let subject = scene.subject();
            let places: Vec<_> = (0..60)
                .map(|i| subject.start_s + (subject.end_s - subject.start_s) * i as f32 / 59.0)
                .map(|t| scene.wrists(t, (400.0, 300.0)))
                .collect();
            // The hand that swipes is the one that gets about more; it counts while it is raised.
            let spread = |side: usize| {
                let x = || places.iter().map(|p| p[side].0);
                x().fold(f32::MIN, f32::max) - x().fold(f32::MAX, f32::min)
            };
            let side = usize::from(spread(1) > spread(0));
            let rest = places[0][side].1;
            let top = places.iter().map(|p| p[side].1).fold(f32::MAX, f32::min);
            let raised: Vec<f32> =
                places.iter().filter(|p| p[side].1 < rest + 0.55 * (top - rest)).map(|p| p[side].0).collect();
            let gone = (raised[raised.len() - 1] - raised[0]) * way;
            assert!(gone > 0.15 * (rest - top), "seed {seed} {}: {gone} of {}", motion.label(), rest - top);
        }
    }
}

#[test]
fn jumps_leave_the_floor_and_squats_do_not() {
    for seed in 0..20 {
        for (motion, leaves) in [(Motion::Jump, true), (Motion::Squat, false), (Motion::Wave, false)] {
            let scene = Scene::clip(World::Studio, seed, motion);
            let subject = scene.subject();
            let steps = (0..200).map(|i| subject.start_s + (subject.end_s - subject.start_s) * i as f32 / 199.0);
            let heights: Vec<f32> = steps.map(|t| scene.sole_height(t)).collect();
            let highest = heights.iter().copied().fold(f32::MIN, f32::max);
            let lowest = heights.iter().copied().fold(f32::MAX, f32::min);
            assert!(lowest > -0.03, "seed {seed} {}: {lowest} below the floor", motion.label());
            assert_eq!(highest > 0.08, leaves, "seed {seed} {}: {highest}", motion.label());
        }
    }
}

#[test]
fn bodies_stay_above_the_floor_and_move_without_jumps() {
    for (world, motion) in WORLDS.into_iter().flat_map(|world| Motion::every().map(move |motion| (world, motion))) {
        for seed in 0..12 {
            let mut scene = Scene::clip(world, seed, motion);
            let end = scene.subject().end_s + 1.5;
            let mut before: Option<super::body::Skeleton> = None;
            for i in 0..(end * 60.0) as usize {
                let t = i as f32 / 60.0;
                let now = scene.skeleton(t);
                for p in [now.pelvis, now.head, now.sides[0].wrist, now.sides[1].knee] {
                    assert!(p.y > 0.0 && p.y < 4.0, "{} seed {seed} at {t}: {p:?}", motion.label());
                }
                // A way through the picture begins and ends outside of it, there the step changes at once.
                let subject = scene.subject();
                let cut = (t - subject.start_s).abs().min((t - subject.end_s).abs()) < 0.02;
                let outside = matches!(motion, Motion::Walk | Motion::Run) && cut;
                if let Some(before) = before.filter(|_| !outside) {
                    let gone = (now.pelvis - before.pelvis).length().max((now.head - before.head).length());
                    let hand = (now.sides[0].wrist - before.sides[0].wrist).length();
                    assert!(gone < 0.2 && hand < 0.45, "{} seed {seed} at {t}: {gone} {hand}", motion.label());
                }
                before = Some(now);
            }
            scene.segment_at(end);
        }
    }
}

#[test]
fn any_size_of_picture_can_be_drawn() {
    for (width, height) in [(0, 0), (1, 1), (333, 127), (7, 200), (64, 48), (2, 1)] {
        let mut frame = Frame::new(width, height);
        for seed in 0..25 {
            Scene::clip(World::Studio, seed, Motion::ALL[seed as usize % 17]).render(2.0, &mut frame);
            Scene::clip(World::Wild, seed, Motion::ALL[seed as usize % 17]).render(2.0, &mut frame);
        }
    }
    let (mut scene, mut frame) = (Scene::live(World::Studio, 1), Frame::new(16, 12));
    for t in [f32::NAN, f32::INFINITY, -3.0, 0.0] {
        scene.render(t, &mut frame);
    }
}

/// One body does the one thing again and again, and it is the same body whatever it does.
#[test]
fn a_drill_is_one_motion_by_one_body() {
    let picture = |world, motion| {
        let mut frame = Frame::new(80, 60);
        Scene::drill(world, 5, motion, 20.0).render(0.0, &mut frame);
        frame.data().to_vec()
    };
    for motion in [Motion::Stretch, Motion::Wave, Motion::Walk, Motion::SitDown, Motion::Nothing] {
        let mut scene = Scene::drill(World::Studio, 5, motion, 20.0);
        let seen: std::collections::BTreeSet<Motion> =
            (0..200).map(|i| scene.segment_at(i as f32 / 10.0).motion).collect();
        let wanted = match motion {
            Motion::SitDown => [Motion::Nothing, Motion::SitDown, Motion::StandUp].into(),
            motion => [Motion::Nothing, motion].into(),
        };
        assert!(seen.is_subset(&wanted) && seen.contains(&motion), "{motion:?}: {seen:?}");
        assert!(scene.segment_at(1e6).end_s >= 20.0);
    }
    let differ = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a.abs_diff(**b) > 40).count();
    for world in WORLDS {
        let [stretch, drink] = [Motion::Stretch, Motion::Drink].map(|motion| picture(world, motion));
        // In the wild they may stand in other postures.
        let most = stretch.len() / 20;
        assert!(differ(&stretch, &drink) < most, "{world:?}: another body or place");
    }
}

#[test]
fn the_wild_has_desks_children_and_company() {
    let (mut desks, mut company, mut small) = (0, 0, 0);
    for seed in 0..100 {
        let scene = Scene::clip(World::Wild, seed, Motion::Wave);
        desks += usize::from(scene.at_a_desk());
        company += usize::from(scene.people() > 1);
        small += usize::from(scene.skeleton(0.0).head.y < 1.2 && !scene.at_a_desk());
        assert!(Scene::clip(World::Studio, seed, Motion::Wave).people() == 1);
    }
    assert!((10..40).contains(&desks) && (25..75).contains(&company) && small > 2, "{desks} {company} {small}");
}
