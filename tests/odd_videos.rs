//! Unusual and broken video files: which are read, with how many pictures, and which are refused, in which words.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/data.rs"]
mod data;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use kinora::capture::{Captured, Options, open};
use kinora::frame::Frame;
use kinora::stop::Stop;
use kinora::{Error, ErrorKind};

enum Expect {
    /// Width, height and number of pictures at the rate that the file is read at.
    Reads(u32, u32, u64),
    /// A part of the message.
    Refused(&'static str),
}
use Expect::{Reads, Refused};

/// Every file of `odd_videos`.
const TABLE: &[(&str, Expect)] = &[
    ("apple_double/._a1_s1_t1_color.avi", Refused("Invalid data found")),
    ("decord/corrupted.mp4", Reads(1280, 720, 50)),
    ("decord/unordered.mov", Reads(50, 50, 4)),
    ("decord/video_0.mov", Reads(568, 320, 3)),
    ("decord/video_180.mov", Reads(568, 320, 3)),
    ("decord/video_270.mov", Reads(320, 568, 3)),
    ("decord/video_90.mov", Reads(320, 568, 3)),
    ("moviepy/-video-with-dash-.mp4", Reads(1, 1, 5)),
    ("moviepy/no_duration.webm", Reads(1280, 720, 74)),
    ("moviepy/result.webm", Refused("is empty")),
    ("moviepy/transparent.webm", Reads(200, 200, 150)),
    ("moviepy/video_with_failing_audio.mp4", Reads(640, 360, 280)),
    ("mp4parse/tests_chunk_out_of_range.mp4", Refused("contradictionary STSC and STCO")),
    ("mp4parse/tests_invalid_userdata.mp4", Refused("partial file")),
    ("mp4parse/tests_minimal.mp4", Reads(320, 240, 1)),
    ("mp4parse/tests_no_timescale.mp4", Reads(320, 240, 182)),
    ("mp4parse/tests_zero_empty_stsc.mp4", Refused("Invalid NAL unit size")),
    ("torchcodec/av1_video.mkv", Reads(640, 360, 125)),
    ("torchcodec/frame_exceeds_screen.gif", Reads(4, 4, 1)),
    ("torchcodec/h264_10bits.mp4", Reads(200, 200, 30)),
    ("torchcodec/nasa_13013_rotated.mp4", Reads(270, 480, 17)),
    ("torchcodec/nasa_13013_vfr.mp4", Reads(480, 270, 51)),
    ("torchcodec/test_non_zero_start.mp4", Reads(200, 112, 12)),
    ("torchcodec/testsrc2_mpeg4.mp4", Reads(64, 64, 1)),
    ("torchcodec/testsrc2_odd_height_and_width_444.mp4", Reads(321, 241, 25)),
];

/// Opens `path` and reads at most `limit` pictures: width, height, their number.
fn read(path: &Path, limit: u64) -> Result<(u32, u32, u64), Error> {
    let mut source = open(&format!("file:{}", path.display()), &Options::default(), &Stop::default())?;
    let info = source.info().clone();
    let (mut frame, mut count) = (Frame::default(), 0);
    while count < limit && source.next_frame(&mut frame)? == Captured::Frame {
        assert_eq!((frame.width(), frame.height(), frame.sequence), (info.width, info.height, count));
        count += 1;
    }
    Ok((info.width, info.height, count))
}

fn files_below(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, into);
        } else {
            into.push(path);
        }
    }
}

/// Asserts that `error` is one line that names `path` and says `fragment`.
fn assert_refusal(error: &Error, path: &Path, fragment: &str) {
    let message = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Source, "{message}");
    assert!(message.starts_with(&format!("{}: ", path.display())), "does not name the file first: {message}");
    assert!(message.contains(fragment), "does not say `{fragment}`: {message}");
    assert!(!message.contains('\n') && !message.contains("@ 0x"), "is not one clean line: {message}");
}

#[test]
fn odd_videos_are_read_or_refused_as_the_table_says() {
    let Some(folder) = data::folder("odd_videos_are_read_or_refused_as_the_table_says", "odd_videos") else { return };
    let mut files = Vec::new();
    files_below(&folder, &mut files);
    let found: BTreeSet<_> = files.iter().map(|p| p.strip_prefix(&folder).unwrap().to_str().unwrap()).collect();
    let listed: BTreeSet<_> = TABLE.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, listed, "the table lists every file, and only those");
    for (name, expect) in TABLE {
        let path = folder.join(name);
        match (read(&path, u64::MAX), expect) {
            (Ok(seen), Reads(width, height, count)) => assert_eq!(seen, (*width, *height, *count), "{name}"),
            (Err(error), Refused(fragment)) => assert_refusal(&error, &path, fragment),
            (Ok(seen), Refused(_)) => panic!("{name} was read: {seen:?}"),
            (Err(error), Reads(..)) => panic!("{name} was refused: {error}"),
        }
    }
}

#[test]
fn every_real_clip_is_read() {
    let Some(folder) = data::folder("every_real_clip_is_read", "clips") else { return };
    let mut files = Vec::new();
    files_below(&folder, &mut files);
    assert!(!files.is_empty());
    for path in files {
        let (width, height, count) = read(&path, 30).unwrap();
        assert!(width >= 320 && height >= 240 && count == 30, "{}: {width}x{height}, {count}", path.display());
    }
}

fn ffmpeg(folder: &Path, name: &str, args: &str) -> PathBuf {
    let path = folder.join(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y"]).args(args.split(' ')).arg(format!("file:{}", path.display()));
    assert!(command.status().unwrap().success(), "{name}");
    path
}

#[test]
fn what_is_no_video_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let write = |name: &str, content: &str| {
        std::fs::write(folder.join(name), content).unwrap();
        folder.join(name)
    };
    let sound = "-f lavfi -i sine=duration=0.2";
    let picture = "-f lavfi -i testsrc2=size=64x48:rate=1:duration=1";
    let sound_file = ffmpeg(folder, "sound.mp4", sound);
    let png = ffmpeg(folder, "picture.png", picture);
    let cover = format!(
        "-i {} -i {} -map 0 -map 1 -c:v copy -c:a flac -disposition:v attached_pic",
        sound_file.display(),
        png.display()
    );
    let disguised = folder.join("picture.mp4");
    std::fs::copy(&png, &disguised).unwrap();
    for (path, fragment) in [
        (folder.join("missing.mp4"), "no such file"),
        (folder.to_path_buf(), "is a folder, not a video: for pictures there is images:"),
        (write("empty.mp4", ""), "is empty"),
        (write("text.mp4", "This is no video.\n"), "moov atom not found"),
        (write("text.txt", "This is no video either.\n"), "Invalid data found"),
        (write("terminal.txt", &"\x1b[31mred\x1b[0m\n".repeat(100)), "this is a text, not a video"),
        (sound_file, "no picture stream"),
        (ffmpeg(folder, "cover.flac", &cover), "no picture stream"),
        (png, "single picture"),
        (disguised, "single picture"),
        (PathBuf::from("/dev/null"), "is a device or pipe"),
    ] {
        let error = read(&path, 1).map(|seen| panic!("{} was read: {seen:?}", path.display())).unwrap_err();
        if fragment != "x" {
            assert_refusal(&error, &path, fragment);
        }
    }
}

#[test]
fn a_playlist_in_disguise_reaches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let far = format!("http://{}/a.ts", listener.local_addr().unwrap());
    ffmpeg(folder, "near.ts", "-f lavfi -i testsrc2=size=64x48:rate=10:duration=0.5 -c:v mpeg2video");
    let hls = |target: &str| format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n");
    let concat = |target: &str| format!("ffconcat version 1.0\nfile {target}\n");
    let sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 32\n";
    for (name, content, fragment) in [
        ("far.m3u8", hls(&far), "not on whitelist"),
        ("far.mp4", hls(&far), ""),
        ("far_concat.mp4", concat(&far), "Unsafe file name"),
        ("near.m3u8", hls("near.ts"), "this is a playlist (hls)"),
        ("near_concat.mp4", concat("near.ts"), "this is a playlist (concat)"),
        ("stream.sdp", sdp.to_string(), ""),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        let error = read(&path, 1).map(|seen| panic!("{name} was read: {seen:?}")).unwrap_err();
        assert_refusal(&error, &path, fragment);
    }
    let touched = listener.accept().map(|(_, from)| from);
    assert_eq!(touched.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn of_a_truncated_file_the_whole_pictures_are_read_and_the_log_says_so() {
    static LOGGED: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    struct Logger;
    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            LOGGED.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
        }
        fn flush(&self) {}
    }
    log::set_logger(&Logger).unwrap();
    log::set_max_level(log::LevelFilter::Info);

    let folder = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=size=320x240:rate=20:duration=2 -c:v";
    for (name, codec) in [("cut.avi", "mpeg4 -g 10"), ("cut.mp4", "mpeg4 -movflags +faststart"), ("cut.mkv", "mpeg4")] {
        let path = ffmpeg(folder.path(), name, &format!("{source} {codec}"));
        assert_eq!(read(&path, u64::MAX).unwrap(), (320, 240, 40), "{name}");
        let said = |path: &Path| {
            let logged = LOGGED.lock().unwrap();
            logged.iter().find(|line| line.contains(path.to_str().unwrap())).cloned()
        };
        assert_eq!(said(&path), None);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() * 6 / 10]).unwrap();
        let (_, _, count) = read(&path, u64::MAX).unwrap();
        assert!((10..40).contains(&count), "{name}: {count}");
        let warning = said(&path).expect(name);
        let begin = format!("WARN file:{}: damaged: {count} pictures could be decoded", path.display());
        assert!(warning.starts_with(&begin), "{warning}");
    }
    // Here the index, without which nothing can be read, is what was lost.
    let path = ffmpeg(folder.path(), "headless.mp4", &format!("{source} mpeg4"));
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() * 6 / 10]).unwrap();
    assert_refusal(&read(&path, 1).unwrap_err(), &path, "moov atom not found");
}

#[test]
fn a_file_that_may_not_be_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("locked.mp4");
    std::fs::write(&path, "content").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&path).is_ok() {
        eprintln!("left out: a_file_that_may_not_be_read_is_refused: this user may read everything");
        return;
    }
    assert_refusal(&read(&path, 1).unwrap_err(), &path, "cannot be read: Permission denied");
}
