//! Tests of the whole overlay, on pictures and on a target that refuses pixels outside itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use super::*;
use crate::frame::Frame;

const CANDIDATES: &[Score] = &[score("jumping_jack", 0.09), score("clap", 0.03)];

const fn score(label: &str, confidence: f32) -> Score<'_> {
    Score { label, confidence }
}

fn status<'a>(activity: Activity<'a>) -> Status<'a> {
    Status {
        activity,
        candidates: CANDIDATES,
        frame_rate: 29.97,
        decisions_per_s: 12.4,
        latency: Some(Latency { p50: Duration::from_millis(41), p99: Duration::from_millis(68) }),
        dropped: 3,
        engine: "tract f32",
        ..Status::default()
    }
}

/// Every kind of status, with a name.
fn all_states() -> Vec<(&'static str, Status<'static>)> {
    const SEVERAL: &[Score] = &[
        score("talking_on_the_phone", 0.91),
        score("walk", 0.84),
        score("wave", 0.66),
        score("carry", 0.52),
        score("smile", 0.51),
        score("blink", 0.5),
        score("nod", 0.5),
    ];
    let wave = Activity::Actions(const { &[score("wave", 0.87)] });
    vec![
        ("action", Status { truth: Some("wave"), ..status(wave) }),
        (
            "long",
            status(Activity::Actions(const { &[score("playing_musical_instruments_in_a_large_orchestra", 0.996)] })),
        ),
        ("medium", status(Activity::Actions(const { &[score("clean_and_jerk_heavy", 0.71)] }))),
        (
            "scripts",
            Status {
                candidates: const { &[score("χορός_και_Прыжок", 0.3), score("跳ぶ", 0.21)] },
                ..status(Activity::Actions(const { &[score("Händeschütteln", 0.64)] }))
            },
        ),
        ("several2", status(Activity::Actions(&SEVERAL[..2]))),
        ("several", status(Activity::Actions(SEVERAL))),
        ("nothing", Status { truth: Some("sit_down"), ..status(Activity::Nothing(Some(0.93))) }),
        ("nothing_unsure", status(Activity::Nothing(None))),
        ("filling", Status { latency: None, ..status(Activity::Filling(0.4)) }),
        (
            "overload",
            Status {
                overload: Some("too slow: every 8th frame is recognised"),
                truth: Some("jumping_jack"),
                dropped: 1234,
                ..status(wave)
            },
        ),
        (
            "lost",
            Status {
                source_lost: Some("v4l:/dev/video0: no frame for 3 s; waiting for it to come back"),
                ..status(wave)
            },
        ),
        ("empty", Status::default()),
    ]
}

/// Writes all states in several sizes as PNG into the folder named by `KINORA_LOOK`, over `bg.png` there, for people to
/// look at.
#[test]
fn pictures_to_look_at() {
    let Some(folder) = std::env::var_os("KINORA_LOOK") else { return };
    let folder = Path::new(&folder);
    let background = image::open(folder.join("bg.png")).unwrap();
    for (width, height) in [(64, 48), (160, 120), (320, 240), (640, 480), (1280, 720), (1920, 1080), (480, 854)] {
        let filled = background.resize_to_fill(width, height, image::imageops::FilterType::Triangle).to_rgb8();
        let mut overlay = Overlay::new(width, height).unwrap();
        for (name, status) in all_states() {
            let mut frame = Frame::new(width, height);
            frame.data_mut().copy_from_slice(&filled);
            overlay.draw(&mut frame, &status).unwrap();
            let path = folder.join(format!("{width}x{height}_{name}.png"));
            image::save_buffer(path, frame.data(), width, height, image::ColorType::Rgb8).unwrap();
        }
    }
}
