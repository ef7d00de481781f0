//! `gst:` with the real GStreamer: a test picture, a file, and pipelines that are wrong, stall or break off.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;
use std::time::{Duration, Instant};

use kinora::capture::{Captured, Options, Source, open};
use kinora::frame::Frame;
use kinora::stop::Stop;
use kinora::{Error, ErrorKind};

fn start(pipeline: &str, realtime: bool) -> Result<Box<dyn Source>, Error> {
    open(&format!("gst:{pipeline}"), &Options { realtime, ..Options::default() }, &Stop::default())
}

/// All pictures until the end, or until an error.
fn read(source: &mut dyn Source) -> (Vec<Frame>, Option<Error>) {
    let (mut frame, mut frames) = (Frame::default(), Vec::new());
    loop {
        match source.next_frame(&mut frame) {
            Ok(Captured::Frame) => frames.push(frame.clone()),
            Ok(Captured::End) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

const BARS: &str = "videotestsrc pattern=smpte num-buffers=20 ! video/x-raw,width=320,height=240,framerate=20/1";

#[test]
fn a_test_picture_without_real_time_has_exact_times_and_true_colours() {
    let mut source = start(BARS, false).unwrap();
    let info = source.info().clone();
    assert_eq!((info.width, info.height, info.frame_rate, info.live), (320, 240, 20.0, false));
    let (frames, error) = read(source.as_mut());
    assert_eq!((frames.len(), error), (20, None));
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!((frame.sequence, frame.timestamp), (n as u64, Duration::from_millis(50 * n as u64)));
    }
    // The second bar is yellow, the last one blue.
    for (x, want) in [(70, [255, 255, 0]), (300, [0, 0, 255])] {
        let got = frames[9].pixel(x, 60).unwrap();
        assert!(got.iter().zip(want).all(|(a, b)| a.abs_diff(b) < 6), "{got:?}, not {want:?}");
    }
}

#[test]
fn in_real_time_a_live_pipeline_and_a_file_come_at_their_pace() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a clip.avi");
    let made = Command::new("ffmpeg")
        .args("-nostdin -v error -f lavfi -i testsrc=size=192x144:rate=10:duration=2 -c:v mjpeg".split(' '))
        .arg(&file)
        .status();
    assert!(made.unwrap().success());
    let file = format!("filesrc location=\"{}\" ! avidemux ! jpegdec", file.display());
    for (pipeline, count) in [(BARS.replace("videotestsrc", "videotestsrc is-live=true"), 20), (file, 20)] {
        let mut source = start(&pipeline, true).unwrap();
        assert!(source.info().live);
        let begun = Instant::now();
        let (frames, error) = read(source.as_mut());
        // How long it takes is not asked, only that it is not read at once: a second is left of 1 and 2 seconds.
        assert!(begun.elapsed() > Duration::from_millis(500), "{pipeline}");
        assert_eq!(error, None, "{pipeline}");
        // A busy machine may lose some at the start.
        assert!((count - 5..=count).contains(&frames.len()), "{pipeline}: {}", frames.len());
        assert!(frames.is_sorted_by(|a, b| a.timestamp < b.timestamp && a.sequence < b.sequence), "{pipeline}");
    }
}

#[test]
fn what_a_pipeline_prints_does_not_come_between_its_pictures() {
    // -v prints each property that changes, the time of fpsdisplaysink and the like.
    let mut source = start(&format!("-v {BARS} ! progressreport update-freq=1 silent=false"), false).unwrap();
    let (frames, error) = read(source.as_mut());
    assert_eq!((frames.len(), error), (20, None));
}

#[test]
fn a_camera_whose_stream_ends_is_lost() {
    // Nothing in its text says that it is over after 20 pictures.
    let mut source =
        start("videotestsrc is-live=true ! identity eos-after=20 ! video/x-raw,framerate=20/1", true).unwrap();
    let (frames, error) = read(source.as_mut());
    assert!(!frames.is_empty());
    assert_eq!(error.unwrap().kind(), ErrorKind::SourceLost);
}

#[test]
fn size_and_rate_are_those_asked_for() {
    let options = Options { realtime: false, size: Some((160, 120)), frame_rate: Some(5.0), ..Options::default() };
    let mut source = open(&format!("gst:{BARS}"), &options, &Stop::default()).unwrap();
    let info = source.info().clone();
    assert_eq!((info.width, info.height, info.frame_rate), (160, 120, 5.0));
    let (frames, _) = read(source.as_mut());
    assert!((4..=6).contains(&frames.len()), "a second at 5 Hz: {}", frames.len());
}

#[test]
fn odd_sizes_become_the_nearest_even_ones() {
    let odd = BARS.replace("width=320,height=240", "width=161,height=121");
    let mut source = start(&odd, false).unwrap();
    let (width, height) = (source.info().width, source.info().height);
    assert!(width % 8 == 0 && height % 2 == 0 && width.abs_diff(161) < 8, "{width}x{height}");
    let (frames, error) = read(source.as_mut());
    assert_eq!((frames.len(), error), (20, None));
}

#[test]
fn what_is_wrong_with_a_pipeline_is_said() {
    for (pipeline, fragment) in [
        ("nosuchsource ! x", "no element"),
        ("filesrc location=/nowhere.avi ! avidemux ! jpegdec", "Resource not found"),
        ("videotestsrc ! 'video/x-raw", "is not closed"),
        ("audiotestsrc num-buffers=1", "could not link"),
        ("videotestsrc num-buffers=0", "without a picture"),
    ] {
        let error = start(pipeline, true).err().unwrap_or_else(|| panic!("{pipeline} opened"));
        assert_eq!(error.kind(), ErrorKind::Source, "{error}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("gst:{pipeline}: ")) && message.contains(fragment), "{message}");
    }
}

#[test]
fn a_pipeline_that_falls_silent_is_lost_after_two_seconds() {
    // A picture every six seconds.
    let slow = "videotestsrc ! video/x-raw,width=160,height=120,framerate=20/1 ! identity sleep-time=6000000";
    let mut source = start(slow, true).unwrap();
    let (_, error) = read(source.as_mut());
    let error = error.unwrap();
    assert_eq!(error.kind(), ErrorKind::SourceLost);
    assert!(error.to_string().contains("no picture for 2 s"), "{error}");
}

#[test]
fn a_pipeline_that_breaks_is_lost_with_its_reason() {
    let mut source = start(&format!("{BARS} ! identity error-after=6"), true).unwrap();
    let (frames, error) = read(source.as_mut());
    let error = error.unwrap();
    assert!(frames.len() < 20 && error.kind() == ErrorKind::SourceLost, "{error}");
    assert!(error.to_string().contains("ERROR: from element"), "{error}");
}
