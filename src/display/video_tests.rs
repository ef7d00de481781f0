//! Tests of the video display: what `ffprobe` and `ffmpeg` find in the files it wrote.
#![allow(clippy::unwrap_used)]

use super::*;

const FORMAT: Format = Format { width: 64, height: 48, frame_rate: 25.0 };

/// A picture of one grey value.
fn grey(value: u8, millis: u64, (width, height): (u32, u32)) -> Frame {
    let mut frame = Frame::new(width, height);
    frame.data_mut().fill(value);
    frame.timestamp = Duration::from_millis(millis);
    frame
}

/// What a program of the ffmpeg family writes about `path`, which stands between the two lists of arguments.
fn output(program: &str, before: &[&str], path: &Path, after: &[&str]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(["-v", "error"]).args(before).arg(path).args(after);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// width, height, rate and number of pictures.
fn probe(path: &Path) -> String {
    let entries = "stream=width,height,r_frame_rate,nb_read_frames";
    let text = output("ffprobe", &["-count_frames", "-show_entries", entries, "-of", "csv=p=0"], path, &[]);
    String::from_utf8(text).unwrap().trim().to_owned()
}

/// The mean grey value of each picture.
fn greys(path: &Path, pixels: usize) -> Vec<u8> {
    let raw = output("ffmpeg", &["-i"], path, &["-vsync", "0", "-f", "rawvideo", "-pix_fmt", "gray", "-"]);
    let mean = |picture: &[u8]| (picture.iter().map(|v| u32::from(*v)).sum::<u32>() / pixels as u32) as u8;
    raw.chunks_exact(pixels).map(mean).collect()
}

fn near(found: &[u8], wanted: &[u8]) {
    let close = found.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) <= 3);
    assert!(found.len() == wanted.len() && close, "{found:?} instead of {wanted:?}");
}

fn record(path: &Path, format: Format, frames: &[Frame]) {
    let mut video = Video::open(path, format).unwrap();
    for frame in frames {
        video.present(frame).unwrap();
    }
    video.finish().unwrap();
}

#[test]
fn every_container_holds_every_picture_at_its_rate() {
    let folder = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..30).map(|n| grey(8 * n as u8, n * 40, (64, 48))).collect();
    for extension in EXTENSIONS {
        let path = folder.path().join(format!("out.{extension}"));
        record(&path, FORMAT, &frames);
        assert_eq!(probe(&path), "64,48,25/1,30", "{extension}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), EXTENSIONS.len(), "no temporary files");
}

#[test]
fn an_mp4_ends_with_its_index_in_front() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mp4");
    record(&path, FORMAT, &[grey(9, 0, (64, 48)), grey(9, 40, (64, 48))]);
    let bytes = fs::read(&path).unwrap();
    let at = |name: &[u8]| bytes.windows(4).position(|w| w == name).unwrap_or(usize::MAX);
    assert!(at(b"moov") < at(b"mdat") && at(b"moof") == usize::MAX);
}

#[test]
fn odd_sizes_get_a_line_and_colours_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mp4");
    let mut frame = Frame::new(33, 17);
    for pixel in frame.data_mut().chunks_exact_mut(3) {
        pixel.copy_from_slice(&[200, 30, 60]);
    }
    record(&path, FORMAT, &[frame]);
    assert_eq!(probe(&path), "34,18,25/1,1");
    let read = output("ffmpeg", &["-i"], &path, &["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
    let middle: [u8; 3] = read[(8 * 34 + 16) * 3..][..3].try_into().unwrap();
    assert!(middle.iter().zip([200, 30, 60]).all(|(a, b)| a.abs_diff(b) <= 6), "{middle:?}");
}

#[test]
fn lost_frames_repeat_the_one_before_and_extra_ones_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mkv");
    let size = (64, 48);
    // Pictures 0 and 1, with jitter; 2 to 4 lost; two frames within picture 5; picture 6.
    let frames = [(50, 1000), (80, 1047), (110, 1188), (140, 1207), (170, 1240)];
    let frames = frames.map(|(value, millis)| grey(value, millis, size));
    record(&path, FORMAT, &frames);
    near(&greys(&path, 64 * 48), &[50, 80, 80, 80, 80, 140, 170]);
}

#[test]
fn a_very_long_gap_is_cut() {
    let mut timeline = Timeline::new(25.0);
    let mut at = |millis| timeline.advance(Duration::from_millis(millis));
    assert_eq!([at(5000), at(5040), at(5000 + 10_040)], [0, 1, 250]);
    assert_eq!(at(3_600_000), 250, "ten seconds for an hour");
    assert_eq!([at(3_600_040), at(3_600_040), at(3_600_000)], [1, 0, 0], "then as before, and never back");
}

#[test]
fn another_size_later_is_fitted_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mkv");
    record(&path, FORMAT, &[grey(100, 0, (64, 48)), grey(200, 40, (128, 48)), grey(30, 80, (64, 48))]);
    assert_eq!(probe(&path), "64,48,25/1,3");
    // Half of the height, the rest is black.
    near(&greys(&path, 64 * 48), &[100, 100, 30]);
}

#[test]
fn without_frames_there_is_no_file_and_an_old_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mp4");
    record(&path, FORMAT, &[]);
    assert!(!path.exists());
    fs::write(&path, "old").unwrap();
    record(&path, FORMAT, &[]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    record(&path, FORMAT, &[grey(1, 0, (64, 48))]);
    assert_eq!(probe(&path), "64,48,25/1,1");
}

#[test]
fn a_full_disk_is_one_line_and_the_display_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mp4");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let mut video = Video::open(&path, FORMAT).unwrap();
    let failed = (0..2000u64).find_map(|n| video.present(&grey(n as u8, n * 40, (64, 48))).err());
    let error = failed.or_else(|| video.finish().err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Output);
    assert!(error.to_string().contains("out.mp4") && error.to_string().contains("No space left"), "{error}");
    assert!(video.present(&grey(0, 99_000, (64, 48))).is_err());
    video.finish().unwrap();
}

/// All of a short recording waits in buffers, so that only the end finds the disk full.
#[test]
fn a_disk_that_is_full_only_at_the_end_is_told_too() {
    let folder = tempfile::tempdir().unwrap();
    for extension in EXTENSIONS {
        let path = folder.path().join(format!("out.{extension}"));
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut video = Video::open(&path, FORMAT).unwrap();
        let failed = (0..5).find_map(|n| video.present(&grey(9, n * 40, (64, 48))).err());
        let error = failed.or_else(|| video.finish().err()).unwrap_or_else(|| panic!("{extension}: no error"));
        assert!(error.to_string().contains("No space left"), "{extension}: {error}");
    }
}

#[test]
fn what_was_written_plays_when_nobody_finishes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mp4");
    let mut video = Video::open(&path, FORMAT).unwrap();
    for n in 0..10 {
        video.present(&grey(20 * n as u8, n * 40, (64, 48))).unwrap();
    }
    // As when the program is killed: the child sees the end of its input. The newest frame was not written yet.
    let State::Running(encoder) = std::mem::replace(&mut video.state, State::Ended) else { panic!("not running") };
    encoder.end().unwrap();
    assert_eq!(probe(&path), "64,48,25/1,9");
}

#[test]
fn wrong_paths_formats_and_programs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("folder.mp4")).unwrap();
    let refused = |file: &str, rate: f32, program: &str| {
        let format = Format { frame_rate: rate, ..FORMAT };
        let error = Video::with_program(&folder.path().join(file), format, program).unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
        (error.kind(), error.to_string())
    };
    assert_eq!(refused("out.txt", 25.0, "ffmpeg").0, ErrorKind::Usage);
    assert_eq!(refused("out", 25.0, "ffmpeg").0, ErrorKind::Usage);
    assert_eq!(refused("out.mp4", 0.0, "ffmpeg").0, ErrorKind::Usage);
    assert_eq!(refused("out.mp4", f32::NAN, "ffmpeg").0, ErrorKind::Usage);
    assert_eq!(refused("missing/out.mp4", 25.0, "ffmpeg").0, ErrorKind::Output);
    assert_eq!(refused("folder.mp4", 25.0, "ffmpeg").0, ErrorKind::Output);
    let (kind, text) = refused("out.mp4", 25.0, "no-such-ffmpeg");
    assert!(kind == ErrorKind::Output && text.contains("apt install ffmpeg"), "{text}");
    let (kind, text) = refused("out.mp4", 25.0, "true");
    assert!(kind == ErrorKind::Output && text.contains("no encoder"), "{text}");
    assert!(!folder.path().join("out.mp4").exists());
}

#[test]
fn the_telling_line_is_chosen() {
    assert_eq!(cause("[mp4 @ 0x1] first\n\nfile:x: No space left on device\n"), "file:x: No space left on device");
    assert_eq!(cause("[mp4 @ 0x1] first\nsecond"), "first");
    assert_eq!(cause(" \n"), "no message");
}
