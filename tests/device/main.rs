//! Cameras and displays for real, inside a small virtual machine: Linux' own virtual cameras (vivid, v4l2loopback), a virtual
//! display, the program, and faults. The guest (`guest/`) makes things happen and follows the program's events; this side
//! makes the clips, boots the machine and looks at what the display shows.
//!
//! `make test-device` runs it. `KINORA_DEVICE_KEEP=FOLDER` keeps screenshots, event files and logs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod host {
    pub mod clips;
    pub mod model;
    pub mod screen;
    pub mod vm;
}
mod shared;

use std::time::{Duration, Instant};

use host::{clips, model, screen, vm};
use shared::LEVELS;
use tempfile::TempDir;

/// A boot and its scenario take at most this; only failures come near it.
const PATIENCE: Duration = Duration::from_secs(180);

/// A folder for the machine, with the model in it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    model::write(&folder.path().join("model"));
    folder
}

fn labels() -> Vec<&'static str> {
    LEVELS.iter().map(|(label, _)| *label).filter(|label| *label != "nothing").collect()
}

/// The clips that there are for pictures of this size: the mannequin, and a real one if there is the shared data.
fn pictures(test: &str, width: u32, height: u32, real_only: bool) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut list = Vec::new();
    if !real_only {
        list.push(("mannequin", clips::mannequin(width, height)));
    }
    match clips::real() {
        Some(path) => list.push(("real", clips::decoded(&path, width, height))),
        None => {
            assert!(std::env::var("KINORA_REQUIRE_DATA").as_deref() != Ok("1"), "{test}: no shared test data");
            eprintln!("left out: {test}: the real clip; the mannequin stands in");
            list.push(("real", clips::mannequin(width, height)));
        }
    }
    list.iter_mut().for_each(|(_, pictures)| clips::scripted(pictures));
    list
}

/// Checks a screenshot of a run on `clip`, RGB as a display must show it: one of the clip's pictures outside of the overlay,
/// and in it the label that the event file has.
fn check_shot(outcome: &vm::Outcome, shot: &serde_json::Value, (size, clip): ((u32, u32), &[Vec<u8>]), tolerance: u8) {
    let name = shot["shot"].as_str().unwrap();
    let picture = screen::middle(&outcome.shot(name), size);
    let (number, share, largest) = screen::nearest(&picture, clip, tolerance);
    println!("{name}: picture {number}, {:.3} % differ by more than {tolerance}, at most {largest}", share * 100.0);
    assert!(share < 0.001, "{name} shows no picture of the clip; the nearest is {number}");
    let stretch = LEVELS[shared::SCRIPT[number / shared::STRETCH]].0;
    assert_eq!(Some(stretch), shot["label"].as_str(), "{name}: the clip's picture against the event file");
    assert_eq!(
        screen::label(&picture, &labels()),
        shot["label"].as_str(),
        "{name}: the overlay against the event file"
    );
}

/// What the library presents arrives on the screen pixel by pixel.
#[test]
fn a_known_picture_is_shown_exactly() {
    let outcome = vm::boot("picture", "", folder(), PATIENCE);
    for (name, width, height, size) in
        [("same", 640, 480, (640, 480)), ("wide", 640, 480, (1280, 800)), ("flat", 1280, 720, (640, 480))]
    {
        let mut frame = shared::known_picture(width, height);
        shared::draw_known_status(&mut frame).unwrap();
        let (shown, wanted) = (outcome.shot(name), screen::on_screen(&frame, size));
        assert_eq!(shown.dimensions(), size, "{name}");
        let all = vec![true; shown.as_raw().len() / 3];
        let (share, largest) = screen::difference(&shown, wanted.as_raw(), &all, 0);
        assert_eq!((share, largest), (0.0, 0), "{name}: share of pixels that differ, largest difference");
    }
}

#[test]
fn a_camera_of_yuyv_is_shown_and_recognized() {
    let folder = folder();
    let mut shown = Vec::new();
    for (name, pictures) in pictures("YUYV", 640, 480, false) {
        let coded: Vec<_> = pictures.iter().map(|picture| clips::to_yuyv(picture)).collect();
        clips::write(&folder.path().join(format!("{name}.yuyv")), &coded);
        shown.push((name, coded.iter().map(|picture| clips::from_yuyv(picture)).collect::<Vec<_>>()));
    }
    let outcome = vm::boot("receiver", "", folder, PATIENCE);
    let shots = outcome.with("shot");
    assert_eq!(shots.len(), 6);
    for (name, clip) in shown {
        let own = shots.iter().filter(|shot| shot["shot"].as_str().unwrap().starts_with(name));
        own.for_each(|shot| check_shot(&outcome, shot, ((640, 480), &clip), 3));
    }
}

#[test]
fn a_camera_of_jpegs_is_shown_and_recognized_and_may_stall() {
    let folder = folder();
    let (_, pictures) = pictures("JPEG", 1280, 720, true).remove(0);
    let coded = clips::to_jpegs(&pictures, 1280, 720);
    clips::write(&folder.path().join("real.jpegs"), &coded);
    let outcome = vm::boot("jpegs", "", folder, PATIENCE);
    let clip: Vec<_> = coded.iter().map(|picture| clips::from_jpeg(picture)).collect();
    let shots = outcome.with("shot");
    assert_eq!(shots.len(), 3);
    shots.iter().for_each(|shot| check_shot(&outcome, shot, ((1280, 720), &clip), 4));
    for fault in outcome.with("fault") {
        for time in ["reported", "back"] {
            assert!(fault[time].as_f64().unwrap() < 3.0, "{fault}");
        }
    }
}

/// Each fault is reported and recovered from in time (the guest checks that); afterwards the display shows what the camera
/// sees and what the program says of it.
#[test]
fn faults_are_reported_and_recovered_from() {
    let outcome = vm::boot("faults", "", folder(), PATIENCE);
    let shots = outcome.with("shot");
    assert_eq!(shots.len(), 1);
    let label = shots[0]["label"].as_str().unwrap();
    let picture = outcome.shot("after-faults");
    assert_eq!(picture.dimensions(), (640, 480));
    let colour = if label == "white" { 255 } else { 0 };
    let (share, largest) = screen::difference(&picture, &vec![colour; 640 * 480 * 3], &screen::outside((640, 480)), 2);
    assert_eq!(share, 0.0, "the camera is all {label}; largest difference {largest}");
    assert_eq!(screen::label(&picture, &labels()), Some(label));
}

/// Without `--source` and `--display` the first camera and a free screen are taken. A screen may also be plugged in later.
#[test]
fn the_first_camera_and_a_free_screen_are_taken_by_default() {
    let outcome = vm::boot("defaults", "", folder(), PATIENCE);
    for name in ["defaults", "late"] {
        let picture = outcome.shot(name);
        let (width, height) = picture.dimensions();
        assert_eq!(picture.get_pixel(width / 2, height / 2).0, [255; 3], "{name}: the camera is all white");
    }
}

/// However a camera codes its colours, the same ones are seen.
#[test]
fn colours_are_right_in_every_coding() {
    const BARS: [[u8; 3]; 8] = [
        [255, 255, 255],
        [255, 255, 0],
        [0, 255, 255],
        [0, 255, 0],
        [255, 0, 255],
        [255, 0, 0],
        [0, 0, 255],
        [0, 0, 0],
    ];
    let outcome = vm::boot("colours", "", folder(), PATIENCE);
    let mut wrong = Vec::new();
    for bars in outcome.with("bars") {
        let name = bars["bars"].as_str().unwrap();
        let picture = outcome.shot(name);
        for (n, wanted) in BARS.iter().enumerate() {
            let shown = picture.get_pixel(40 + 80 * n as u32, 240).0;
            // Pure colours are cut off in 8 bits; another matrix is off by 10 or more.
            if shown.iter().zip(wanted).any(|(a, b)| a.abs_diff(*b) > 6) {
                wrong.push(format!("{name}: bar {n} is {shown:?} instead of {wanted:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_signal_that_goes_or_changes_is_followed() {
    let outcome = vm::boot("signal", "", folder(), PATIENCE);
    let faults = outcome.with("fault");
    assert_eq!(faults.len(), 2);
    for fault in faults {
        for time in ["reported", "back"] {
            assert!(fault[time].as_f64().unwrap() < 3.0, "{fault}");
        }
    }
}

/// The guest checks keys and settings; here, that text and pictures are where they belong.
#[test]
fn the_console_gives_way_to_pictures_and_comes_back() {
    let outcome = vm::boot("console", "", folder(), PATIENCE);
    let dark = |name: &str| {
        let shot = outcome.shot(name);
        let black = shot.pixels().filter(|pixel| pixel.0.iter().all(|value| *value < 8)).count();
        black as f64 / (shot.width() * shot.height()) as f64
    };
    for name in ["console-run", "console-back"] {
        assert!(dark(name) < 0.3, "{name}: {:.2} of the picture are black", dark(name));
    }
    for name in ["console-other", "console-after"] {
        assert!(dark(name) > 0.9, "{name}: {:.2} of the text console are black", dark(name));
    }
}

/// The guest checks what keys do to the clips; here, that the questions were on the screen when they were pressed.
#[test]
fn clips_are_kept_and_dropped_by_keys_without_a_desktop() {
    // What the overlay draws its bar and the stripe beside its text with.
    const COUNTDOWN: [u8; 3] = [86, 180, 233];
    const QUESTION: [u8; 3] = [38, 200, 165];
    let outcome = vm::boot("record", "", folder(), PATIENCE);
    for (name, wanted, other) in [
        ("record-question", QUESTION, COUNTDOWN),
        ("record-again", COUNTDOWN, QUESTION),
        ("record-second", QUESTION, COUNTDOWN),
    ] {
        let shot = outcome.shot(name);
        let count = |colour: [u8; 3]| shot.pixels().filter(|pixel| pixel.0 == colour).count();
        let (found, none) = (count(wanted), count(other));
        assert!(
            found > 500 && none == 0,
            "{name}: {found} pixels of the colour that it should have, {none} of the other"
        );
    }
}

#[test]
fn lost_and_damaged_pictures_are_counted() {
    vm::boot("losses", "", folder(), PATIENCE);
}

/// Many faults of random kinds in one run; `make fault-campaign`.
#[test]
#[ignore = "takes five minutes"]
fn fault_campaign() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let count = number("FAULTS").unwrap_or(100);
    println!("campaign of {count} faults, SEED={seed}");
    let begin = Instant::now();
    let parameters = format!("kinora.seed={seed} kinora.count={count}");
    let outcome = vm::boot("campaign", &parameters, folder(), PATIENCE + Duration::from_secs(20) * count as u32);
    let outcomes = outcome.with("fault");
    assert_eq!(outcomes.len() as u64, count);
    println!("{}", table(&outcomes));
    println!("SEED={seed}: {count} faults survived in {:.0} s", begin.elapsed().as_secs_f64());
}

/// Times in seconds, half of them and the longest, for each kind of fault.
fn table(outcomes: &[&serde_json::Value]) -> String {
    let mut kinds: Vec<&str> = outcomes.iter().map(|outcome| outcome["fault"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let line = |kind: &str, count: &str, times: [String; 3]| {
        format!("{kind:<12} {count:>8}  {:>14}  {:>14}  {:>14}\n", times[0], times[1], times[2])
    };
    let mut text = line("fault", "survived", ["reported", "back", "recognized"].map(str::to_owned));
    text += &line("", "", [(); 3].map(|()| "p50, max".to_owned()));
    for kind in kinds {
        let own: Vec<_> = outcomes.iter().filter(|outcome| outcome["fault"] == kind).collect();
        let times = ["reported", "back", "recognized"].map(|field| {
            let mut times: Vec<f64> = own.iter().filter_map(|outcome| outcome[field].as_f64()).collect();
            times.sort_by(f64::total_cmp);
            times.last().map_or("-".into(), |max| format!("{:.2}, {max:.2}", times[times.len() / 2]))
        });
        text += &line(kind, &own.len().to_string(), times);
    }
    text
}
