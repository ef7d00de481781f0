//! Tests of the whole overlay, on pictures and on a target that refuses pixels outside itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use embedded_graphics::Pixel;
use embedded_graphics::mock_display::MockDisplay;
use embedded_graphics::pixelcolor::RgbColor;

use super::*;
use crate::frame::Frame;

/// The sizes that everything is readable at.
pub(super) const USUAL: [(u32, u32); 5] = [(320, 240), (640, 480), (1280, 720), (1920, 1080), (480, 854)];

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
        ("swapped", Status { model: Some(Change::Swapped("mannequin-convlstm")), truth: Some("wave"), ..status(wave) }),
        (
            "kept",
            Status {
                model: Some(Change::Kept("model.onnx: its SHA-256 is not the one in manifest.toml: it was cut off")),
                overload: Some("overload: hop 8"),
                truth: Some("jumping_jack"),
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

/// A target that fails on a pixel outside itself.
pub(super) struct Strict(pub(super) Size);

impl OriginDimensions for Strict {
    fn size(&self) -> Size {
        self.0
    }
}

impl DrawTarget for Strict {
    type Color = Rgb888;
    type Error = String;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), String> {
        let Size { width, height } = self.0;
        let inside = |x, side| (0..side as i32).contains(&x);
        match pixels.into_iter().find(|Pixel(at, _)| !inside(at.x, width) || !inside(at.y, height)) {
            Some(Pixel(at, _)) => Err(format!("{at} is outside {width}x{height}")),
            None => Ok(()),
        }
    }
}

/// `status` on a picture of one blue that the overlay does not use.
fn drawn(size: (u32, u32), status: &Status) -> Frame {
    let mut frame = Frame::new(size.0, size.1);
    let Ok(()) = frame.clear(Rgb888::BLUE);
    Overlay::new(size.0, size.1).unwrap().draw(&mut frame, status).unwrap();
    frame
}

/// How many pixels of `frame` have the colour.
pub(super) fn count(frame: &Frame, color: Rgb888) -> usize {
    frame.data().chunks(3).filter(|p| *p == [color.r(), color.g(), color.b()]).count()
}

#[test]
fn every_status_stays_inside_every_picture() {
    let sizes = (1..40).flat_map(|side| [(side, side), (side, 97), (150, side)]);
    for (width, height) in sizes.chain([(64, 48), (97, 200), (1000, 60), (60, 1000)]).chain(USUAL) {
        let mut overlay = Overlay::new(width, height).unwrap();
        for (name, status) in all_states() {
            let result = overlay.draw(&mut Strict(Size::new(width, height)), &status);
            assert_eq!(result, Ok(()), "{name} on {width}x{height}");
        }
    }
}

#[test]
fn a_mock_display_shows_the_panel_and_its_bar() {
    let mut display = MockDisplay::new();
    display.set_allow_overdraw(true);
    let status = Status { activity: Activity::Actions(const { &[score("walk", 0.5)] }), ..Status::default() };
    Overlay::new(64, 64).unwrap().draw(&mut display, &status).unwrap();
    let colors_at = |y| (0..64).map(|x| display.get_pixel((x, y).into())).collect::<Vec<_>>();
    assert!(colors_at(0).iter().all(Option::is_none), "the panel stands at the bottom");
    let bar = (0..64).map(colors_at).find(|row| row.contains(&Some(colors::TRACK))).expect("a bar");
    let panel = bar.iter().flatten().count();
    let filled = bar.iter().filter(|&&c| c == Some(colors::ACTION)).count();
    let track = bar.iter().filter(|&&c| c == Some(colors::TRACK)).count();
    assert!(panel == 64 && track >= 20, "panel {panel}, track {track}");
    // The stripe at the left has the colour of the bar.
    assert!((1..=5).contains(&(filled - track)), "filled {filled}, track {track}");
}

#[test]
fn the_filled_part_of_the_bar_is_the_confidence() {
    for size in USUAL {
        for confidence in [0.0, 0.25, 0.87, 1.0] {
            let overlay = Overlay::new(size.0, size.1).unwrap();
            let bar = overlay.layout.panel(0, 0).unwrap().bar;
            let scores = [score("walk", confidence)];
            let frame = drawn(size, &Status { activity: Activity::Actions(&scores), ..Status::default() });
            let row = |x: u32| frame.pixel(bar.top_left.x as u32 + x, bar.top_left.y as u32).unwrap();
            let accent = [colors::ACTION.r(), colors::ACTION.g(), colors::ACTION.b()];
            let filled = (0..bar.size.width).take_while(|&x| row(x) == accent).count();
            assert_eq!(filled, (confidence * bar.size.width as f32).round() as usize, "{size:?} {confidence}");
        }
    }
}

#[test]
fn states_are_told_apart_by_more_than_words() {
    for size in USUAL {
        let of = |activity| drawn(size, &Status { activity, ..Status::default() });
        let action = of(Activity::Actions(const { &[score("nothing", 0.9)] }));
        let nothing = of(Activity::Nothing(Some(0.9)));
        let filling = of(Activity::Filling(0.9));
        for (frame, own) in [(&action, colors::ACTION), (&nothing, colors::QUIET), (&filling, colors::FILLING)] {
            for color in [colors::ACTION, colors::QUIET, colors::FILLING] {
                assert_eq!(count(frame, color) > 50, color == own, "{size:?} {color:?}");
            }
        }
        assert!(count(&action, colors::TEXT) > 0 && count(&nothing, colors::TEXT) == 0, "nothing is dimmed");
        assert_eq!(of(Activity::Actions(&[])).data(), of(Activity::Nothing(None)).data());
    }
}

#[test]
fn a_lost_source_has_a_banner_and_no_live_action() {
    for size in USUAL.into_iter().chain([(1, 1), (20, 20), (64, 48)]) {
        let alive = status(Activity::Actions(const { &[score("wave", 0.87)] }));
        let lost = drawn(size, &Status { source_lost: Some("unplugged"), ..alive });
        assert!(count(&lost, colors::WARNING) > 0 || size == (1, 1));
        assert_eq!(count(&lost, colors::ACTION), 0, "{size:?}");
        assert_eq!(count(&drawn(size, &alive), colors::WARNING), 0);
    }
}

#[test]
fn every_part_of_the_status_changes_the_picture() {
    for size in USUAL {
        let plain = status(Activity::Actions(const { &[score("wave", 0.87)] }));
        let base = drawn(size, &plain);
        let changes = [
            ("label", Status { activity: Activity::Actions(const { &[score("walk", 0.87)] }), ..plain }),
            ("confidence", Status { activity: Activity::Actions(const { &[score("wave", 0.5)] }), ..plain }),
            ("candidates", Status { candidates: &CANDIDATES[1..], ..plain }),
            ("frame rate", Status { frame_rate: 12.0, ..plain }),
            ("latency", Status { latency: None, ..plain }),
            ("dropped", Status { dropped: 4, ..plain }),
            ("engine", Status { engine: "native int8", ..plain }),
            ("truth", Status { truth: Some("walk"), ..plain }),
            ("overload", Status { overload: Some("hop 8"), ..plain }),
            ("model swapped", Status { model: Some(Change::Swapped("new")), ..plain }),
            ("model kept", Status { model: Some(Change::Kept("new")), ..plain }),
            ("source lost", Status { source_lost: Some("unplugged"), ..plain }),
        ];
        for (what, changed) in changes {
            assert!(drawn(size, &changed).data() != base.data(), "{what} at {size:?}");
        }
    }
}

#[test]
fn the_picture_stays_visible() {
    for size in USUAL {
        for (name, status) in all_states() {
            let visible = count(&drawn(size, &status), Rgb888::BLUE) as f32 / (size.0 * size.1) as f32;
            assert!(visible > 0.5, "{name} at {size:?} leaves {visible}");
        }
    }
}

#[test]
fn drawing_again_needs_nothing_new_and_gives_the_same() {
    let mut overlay = Overlay::new(640, 480).unwrap();
    let mut frame = Frame::new(640, 480);
    let mut round = || {
        for (_, status) in all_states() {
            overlay.draw(&mut frame, &status).unwrap();
        }
        let texts = [&overlay.title, &overlay.heading, &overlay.state, &overlay.base].map(Text::footprint);
        (texts, overlay.buffer.capacity(), frame.data().to_vec())
    };
    let first = round();
    assert!(round() == first && round() == first);
}

#[test]
fn another_picture_size_is_adapted_to() {
    let mut overlay = Overlay::new(64, 64).unwrap();
    for size in [(320, 240), (5, 5), (0, 0), (1280, 720)] {
        let mut frame = Frame::new(size.0, size.1);
        let Ok(()) = frame.clear(Rgb888::BLUE);
        let status = status(Activity::Nothing(None));
        overlay.draw(&mut frame, &status).unwrap();
        assert!(frame.data() == drawn(size, &status).data(), "{size:?}");
    }
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
