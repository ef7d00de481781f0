//! `kinora record`: clips in a folder per class, whole or not there at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Bench, probe, text, video};

const SOURCE: [&str; 5] = ["--source", "synthetic:1?size=65x48&fps=10", "--display", "none", "--no-realtime"];

/// Records so that all clips are kept; returns what it prints.
fn record(bench: &Bench, args: &[&str]) -> String {
    let output = bench.run(&[&["record", "--yes"], args].concat());
    text(&output.stdout)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn clips_are_whole_and_a_second_run_adds_to_them() {
    let bench = Bench::new();
    let wave = bench.path("recordings/wave");
    let two = [&SOURCE[..], &["--label", "wave", "--count", "2", "--seconds", "1.5"]].concat();
    let said = record(&bench, &two);
    assert_eq!(
        said,
        "wave: 2 clips\nnext, with flags such as --mirror as before: kinora record --label nothing --out recordings\n"
    );
    assert_eq!(names(&wave), ["clip-0001.mp4", "clip-0002.mp4"]);
    for name in names(&wave) {
        // An odd side gets a line more, as yuv420p wants it.
        assert_eq!(probe(&wave.join(name)), (15, 66, 48));
    }
    let before = names(&wave).iter().map(|name| fs::read(wave.join(name)).unwrap()).collect::<Vec<_>>();
    assert_ne!(before[0], before[1], "time goes on between them");

    // The model's window is 5 pictures at 10 Hz, to which comes a quarter.
    let said = record(&bench, &[&SOURCE[..], &["--label", "wave", "--count", "1", "--rotate", "90"]].concat());
    assert!(said.starts_with("wave: 3 clips\n"), "{said}");
    assert_eq!(names(&wave), ["clip-0001.mp4", "clip-0002.mp4", "clip-0003.mp4"]);
    assert_eq!(probe(&wave.join("clip-0003.mp4")), (7, 48, 66));
    assert_eq!(fs::read(wave.join("clip-0001.mp4")).unwrap(), before[0], "never overwritten");

    record(&bench, &[&SOURCE[..], &["--label", "nothing", "--count", "1"]].concat());
    let said = record(&bench, &[&two[..], &["--out", "other"]].concat());
    assert!(said.starts_with("wave: 2 clips\n"), "{said}");
    let other = bench.path("other/wave");
    let again = names(&other).iter().map(|name| fs::read(other.join(name)).unwrap()).collect::<Vec<_>>();
    assert_eq!(again, before, "the same source gives the same clips");
    let named = ["--label", "nothing", "--count", "1", "--name", "anna"];
    let said = record(&bench, &[&SOURCE[..], &named].concat());
    assert_eq!(names(&bench.path("recordings/nothing")), ["clip-0001.mp4", "clip-0002-anna.mp4"]);
    assert!(said.starts_with("nothing: 2 clips\nwave: 3 clips\nnext: train-export tune --data recordings\n"), "{said}");
}

#[test]
fn a_clip_has_no_overlay_and_the_display_has() {
    let bench = Bench::new();
    let source = "synthetic:1?size=320x240&fps=10";
    let args = ["--source", source, "--display", "png:shown", "--no-realtime", "--label", "wave", "--count", "1"];
    record(&bench, &[&args[..], &["--seconds", "1"]].concat());
    let shown = names(&bench.path("shown"));
    assert_eq!(shown.len(), 40, "three seconds to get ready, one of the clip");
    let red = |path: &Path| {
        let picture = image::open(path).unwrap().into_rgb8();
        let [r, g, b] = picture.get_pixel(160, 1).0;
        r > 180 && g < 90 && b < 90
    };
    let framed: Vec<bool> = shown.iter().map(|name| red(&bench.path("shown").join(name))).collect();
    assert!(framed[..30].iter().all(|red| !red), "{framed:?}");
    assert!(framed[30..39].iter().all(|red| *red), "{framed:?}");
    let decode = ["-v", "error", "-i", "recordings/wave/clip-0001.mp4", "-frames:v", "1", "-y", "clip.png"];
    assert!(Command::new("ffmpeg").args(decode).current_dir(bench.folder.path()).status().unwrap().success());
    assert!(!red(&bench.path("clip.png")));
}

#[test]
fn a_file_that_ends_says_how_many_clips_there_are() {
    let bench = Bench::new();
    video(&bench.path("clip.mp4"), 9);
    let args = ["record", "--label", "wave", "--yes", "--source", "clip.mp4", "--display", "none", "--no-realtime"];
    let output = bench.run(&[&args[..], &["--seconds", "1"]].concat());
    assert!(text(&output.stderr).contains("has ended: 2 of 10 clips were made"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().next(), Some("wave: 2 clips"));
    for name in names(&bench.path("recordings/wave")) {
        assert_eq!(probe(&bench.path("recordings/wave").join(name)), (25, 160, 120));
    }
}

/// Ctrl-C between clips and within one: complete clips stay, nothing else does.
#[test]
fn a_signal_leaves_complete_clips_only() {
    let bench = Bench::new();
    let args = ["record", "--label", "wave", "--yes", "--source", "synthetic:5?size=64x48&fps=20", "--display", "none"];
    let mut child = bench
        .kinora(&[&args[..], &["--seconds", "0.5", "--quiet"]].concat())
        .env("KINORA_MODEL", bench.path("model"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let wave = bench.path("recordings/wave");
    let begin = Instant::now();
    while !wave.join("clip-0001.mp4").exists() {
        assert!(begin.elapsed() < Duration::from_secs(30), "no clip");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begin.elapsed() > Duration::from_secs(3), "there was a countdown");
    // In the midst of the next clip, as far as that can be told from here.
    std::thread::sleep(Duration::from_millis(3200));
    assert!(Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let names = names(&wave);
    assert!(names.iter().all(|name| name.starts_with("clip-")), "{names:?}");
    for name in names {
        assert_eq!(probe(&wave.join(name)), (10, 64, 48));
    }
}

#[test]
fn a_full_disk_leaves_no_half_clip() {
    let bench = Bench::new();
    // Stands in for ffmpeg on a full disk: a file system that is full would need root.
    let script = "#!/bin/sh\ncase \" $* \" in *\" -encoders \"*) echo libx264; exit;; esac\n\
                  head -c 5000 > /dev/null; echo 'av_interleaved_write_frame(): No space left on device' >&2; exit 1\n";
    fs::write(bench.path("ffmpeg"), script).unwrap();
    fs::set_permissions(bench.path("ffmpeg"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bench.folder.path().display(), std::env::var("PATH").unwrap());
    let args = [&["record", "--yes", "--label", "wave"], &SOURCE[..]].concat();
    let output = bench.kinora(&args).env("PATH", path).env("KINORA_MODEL", bench.path("model")).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("No space left on device") && !said.contains("panicked"), "{said}");
    assert!(!bench.path("recordings/wave").exists(), "nor a class without clips");
}

#[test]
fn without_ffmpeg_the_error_says_what_to_install() {
    let bench = Bench::new();
    fs::create_dir(bench.path("bin")).unwrap();
    let args = [&["record", "--yes", "--label", "wave"], &SOURCE[..]].concat();
    let output =
        bench.kinora(&args).env("PATH", bench.path("bin")).env("KINORA_MODEL", bench.path("model")).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("install ffmpeg"), "{said}");
}

/// A run that is killed while it writes: what it leaves has a name that nobody trains on.
#[test]
fn a_killed_run_leaves_no_half_clip() {
    let bench = Bench::new();
    let args =
        ["record", "--label", "wave", "--yes", "--source", "synthetic:5?size=640x480&fps=20", "--display", "none"];
    let mut child = bench
        .kinora(&[&args[..], &["--no-realtime", "--seconds", "10", "--quiet"]].concat())
        .env("KINORA_MODEL", bench.path("model"))
        .spawn()
        .unwrap();
    let wave = bench.path("recordings/wave");
    let begin = Instant::now();
    while !wave.join(".clip-0001.mp4").exists() {
        assert!(begin.elapsed() < Duration::from_secs(60), "no clip is written");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let half: Vec<_> = names(&wave).into_iter().filter(|name| !name.starts_with('.')).collect();
    assert!(half.is_empty(), "{half:?}");
}
