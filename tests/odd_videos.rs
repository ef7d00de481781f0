//! Unusual and broken video files: which are read, with how many pictures, and which are refused, in which words.

#![allow(clippy::unwrap_used, clippy::expect_used)]

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
const TABLE: &[(&str, Expect)] = &[];

/// The folder `name` of the test data, or `None` where there are none and that is allowed.
fn data(test: &str, name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("KINORA_TEST_DATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data")), PathBuf::from);
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    let required = std::env::var_os("KINORA_REQUIRE_DATA").is_some_and(|value| value == "1");
    assert!(!required, "{} is not there", folder.display());
    eprintln!("left out: {test}: no {}", folder.display());
    None
}

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
    let Some(folder) = data("odd_videos_are_read_or_refused_as_the_table_says", "odd_videos") else { return };
    let mut files = Vec::new();
    files_below(&folder, &mut files);
    let found: BTreeSet<_> = files.iter().map(|p| p.strip_prefix(&folder).unwrap().to_str().unwrap()).collect();
    if std::env::var_os("PRINT").is_some() {
        for name in &found {
            match read(&folder.join(name), u64::MAX) {
                Ok((w, h, n)) => println!("    (\"{name}\", Reads({w}, {h}, {n})),"),
                Err(e) => println!("    (\"{name}\", Refused(\"{e}\")),"),
            }
        }
    }
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
    let Some(folder) = data("every_real_clip_is_read", "clips") else { return };
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
        (write("text.txt", "This is no video either.\n"), "this is a text, not a video"),
        (write("list.m3u8", "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n"), "x"),
        (write("list.mp4", "ffconcat version 1.0\nfile http://127.0.0.1:9/a.ts\n"), "x"),
        (sound_file, "no picture stream"),
        (ffmpeg(folder, "cover.flac", &cover), "no picture stream"),
        (png, "single picture"),
        (disguised, "single picture"),
        (PathBuf::from("/dev/null"), "is a device or pipe"),
    ] {
        let error = read(&path, 1).map(|seen| panic!("{} was read: {seen:?}", path.display())).unwrap_err();
        println!("{error}");
        if fragment != "x" {
            assert_refusal(&error, &path, fragment);
        }
    }
}
