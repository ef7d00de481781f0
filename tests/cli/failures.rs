//! What goes wrong: one clear line, the documented exit code, no panic, and what had been written is complete.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::{Bench, json_lines, probe, text, video};

/// Runs and returns exit code and message, which must be one line without a panic.
fn fails(bench: &Bench, args: &[&str]) -> (i32, String) {
    let mut command = bench.kinora(args);
    if !args.contains(&"--model") {
        command.env("KINORA_MODEL", bench.path("model"));
    }
    let output = command.output().unwrap();
    let errors: Vec<String> =
        text(&output.stderr).lines().filter(|l| l.contains("error: ")).map(str::to_owned).collect();
    let code = output.status.code().expect("ended by a signal");
    assert!(!text(&output.stderr).contains("panicked"), "{args:?}: {}", text(&output.stderr));
    assert_eq!(errors.len(), 1, "{args:?} exits with {code}: {}", text(&output.stderr));
    (code, errors.join(" "))
}

#[test]
fn each_failure_has_its_code_and_names_the_culprit() {
    let bench = Bench::new();
    fs::write(bench.path("empty.mp4"), "").unwrap();
    fs::write(bench.path("text.mp4"), "not a video").unwrap();
    fs::write(bench.path("bad.toml"), "sauce = 'x'").unwrap();
    fs::write(bench.path("typo.toml"), "decision.nothing = 'noting'").unwrap();
    fs::write(bench.path("low.toml"), "decision.enter = -0.5").unwrap();
    fs::create_dir(bench.path("folder.mp4")).unwrap();
    fs::create_dir(bench.path("nothing")).unwrap();
    let long = "x".repeat(201);
    let table: &[(&[&str], i32, &str)] = &[
        (&["--source", "file:missing.mp4"], 4, "missing.mp4"),
        (&["--source", "missing.mp4"], 4, "missing.mp4"),
        (&["--source", "empty.mp4"], 4, "empty.mp4"),
        (&["--source", "text.mp4"], 4, "text.mp4"),
        (&["--source", "file:folder.mp4"], 4, "folder.mp4"),
        (&["--source", "images:nothing"], 4, "nothing"),
        (&["--source", "v4l:/dev/video0"], 4, "v4l"),
        (&["--source", "synthetic:x"], 4, "synthetic:x"),
        (&["--source", "synthetic:1", "--roi", "600,0,100,100"], 2, "640x480"),
        (&["--display", "hologram"], 2, "hologram"),
        (&["--display", "window"], 5, "DISPLAY"),
        (&["--display", "video:/nowhere/out.mp4"], 6, "/nowhere/out.mp4"),
        (&["--events", "/nowhere/e.jsonl"], 6, "/nowhere/e.jsonl"),
        (&["--events", "/dev/full", "--no-realtime", "--display", "none"], 6, "/dev/full"),
        (&["--labels", "dance"], 2, "dance"),
        (&["--threshold", "1.5"], 2, "1.5"),
        (&["--duration", "-1"], 2, "-1"),
        (&["--config", "bad.toml"], 2, "sauce"),
        (&["--config", "missing.toml"], 2, "missing.toml"),
        (&["--model", "nothing"], 3, "manifest.toml"),
        (&["--model", "missing"], 3, "missing"),
        (&["inspect", "nothing"], 3, "manifest.toml"),
        (&["classify", "missing.mp4"], 4, "missing.mp4"),
        (&["classify", "text.mp4", "--labels", "dance"], 2, "dance"),
        (&["classify", "synthetic:1"], 2, "never ends"),
        (&["--config", "typo.toml"], 2, "noting"),
        (&["--config", "low.toml"], 2, "low.toml"),
        (&["--events", "same.mp4", "--display", "same.mp4"], 2, "same.mp4"),
        (&["bench", "--source", "missing.mp4"], 4, "missing.mp4"),
        (&["record", "--label", "a/b", "--yes"], 2, "a/b"),
        (&["record", "--label", "..", "--yes"], 2, ".."),
        (&["record", "--label", "", "--yes"], 2, "empty"),
        (&["record", "--label", &long, "--yes"], 2, "201 bytes"),
        (&["record", "--label", "wave", "--name", "a/b", "--yes"], 2, "--name \"a/b\""),
        (&["record", "--label", "wave", "--source", "synthetic:1", "--display", "none"], 2, "--yes"),
        (&["record", "--label", "wave", "--source", "synthetic:1", "--display", "png:p"], 2, "--yes"),
        (&["record", "--label", "wave", "--yes", "--source", "synthetic:1", "--seconds", "61"], 2, "60"),
        (&["record", "--label", "wave", "--yes", "--source", "synthetic:1", "--seconds", "NaN"], 2, "60"),
        (&["record", "--label", "wave", "--yes", "--source", "synthetic:1", "--seconds", "0.01"], 2, "two pictures"),
        (&["record", "--label", "wave", "--yes", "--source", "missing.mp4"], 4, "missing.mp4"),
        (&["record", "--label", "wave", "--yes", "--source", "synthetic:1", "--out", "text.mp4"], 6, "text.mp4"),
        (&["record", "--label", "wave", "--yes", "--source", "synthetic:1", "--out", "/proc/none"], 6, "/proc/none"),
        (&["record", "--label", "wave", "--yes", "--model", "missing"], 3, "missing"),
    ];
    for (args, code, culprit) in table {
        let (got, message) = fails(&bench, args);
        assert_eq!(got, *code, "{args:?}: {message}");
        assert!(message.contains(culprit), "{args:?}: {message}");
    }
}

#[test]
fn wrong_flags_exit_with_2() {
    let bench = Bench::new();
    for args in [&["--sauce", "x"][..], &["--hop", "0"], &["--engine", "magic"], &["classify"], &["dance"]] {
        assert_eq!(bench.kinora(args).output().unwrap().status.code(), Some(2), "{args:?}");
    }
    let record = ["record", "--yes", "--source", "synthetic:1"];
    for args in [&["--count", "3"][..], &["--label", "x", "--count", "0"], &["--label", "x", "--seconds", "long"]] {
        let output = bench.kinora(&[&record, args].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["bench", "--help"], &["record", "--help"]] {
        assert_eq!(bench.kinora(args).output().unwrap().status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn the_clip_that_is_watched_is_never_written_over() {
    let bench = Bench::new();
    video(&bench.path("clip.mp4"), 1);
    symlink("clip.mp4", bench.path("link.mp4")).unwrap();
    let before = fs::read(bench.path("clip.mp4")).unwrap();
    for target in [["--display", "video:clip.mp4"], ["--display", "link.mp4"], ["--events", "clip.mp4"]] {
        let (code, message) = fails(&bench, &[&["--source", "file:clip.mp4"], &target[..]].concat());
        assert_eq!(code, 2, "{message}");
        assert!(message.contains("is the source too"), "{message}");
    }
    assert_eq!(fs::read(bench.path("clip.mp4")).unwrap(), before);
}

#[test]
fn settings_of_run_do_not_disturb_other_commands() {
    let bench = Bench::new();
    let output = bench.kinora(&["-q", "inspect", "model"]).env("KINORA_ROTATE", "45").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_damaged_bundle_is_refused_by_file_and_field() {
    let edit = |bench: &Bench, from: &str, to: &str| {
        let path = bench.path("model/manifest.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        fs::write(&path, text.replace(from, to)).unwrap();
    };
    for (n, culprit) in ["model.onnx", "labels.txt", "color", "99"].into_iter().enumerate() {
        let bench = Bench::new();
        match n {
            0 => fs::write(bench.path("model/model.onnx"), "hello").unwrap(),
            1 => fs::write(bench.path("model/labels.txt"), "one\ntwo\n").unwrap(),
            2 => edit(&bench, "format = 1", "format = 1\ncolor = 3"),
            _ => edit(&bench, "format = 1", "format = 99"),
        }
        let (code, message) = fails(&bench, &["--display", "none"]);
        assert_eq!(code, 3, "{culprit}: {message}");
        assert!(message.contains(culprit), "{culprit}: {message}");
    }
}

/// A file that breaks off: its frames are used, and what was written is complete.
#[test]
fn a_truncated_file_gives_what_decodes() {
    let bench = Bench::new();
    video(&bench.path("whole.mkv"), 4);
    let whole = fs::read(bench.path("whole.mkv")).unwrap();
    fs::write(bench.path("cut.mkv"), &whole[..whole.len() / 2]).unwrap();
    bench.run(&["--source", "cut.mkv", "--no-realtime", "--display", "out.mp4", "--events", "e.jsonl"]);
    let frames = probe(&bench.path("out.mp4")).0;
    assert!((10..100).contains(&frames), "{frames} frames");
    assert!(!json_lines(&fs::read_to_string(bench.path("e.jsonl")).unwrap()).is_empty());
}

#[test]
fn one_bad_file_does_not_keep_the_others_from_being_classified() {
    let bench = Bench::new();
    video(&bench.path("good.mp4"), 2);
    let output = bench
        .kinora(&["classify", "missing.mp4", "good.mp4", "--json"])
        .env("KINORA_MODEL", bench.path("model"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    let lines = json_lines(&text(&output.stdout));
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["file"], "good.mp4");
}

/// Without ffmpeg on the path the message says what to install.
#[test]
fn a_missing_ffmpeg_is_named() {
    let bench = Bench::new();
    video(&bench.path("clip.mp4"), 1);
    fs::create_dir(bench.path("bin")).unwrap();
    symlink("/bin/true", bench.path("bin/true")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kinora"))
        .env("PATH", bench.path("bin"))
        .args(["--model", &bench.arg("model"), "--source", &bench.arg("clip.mp4"), "--display", "none"])
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("ffmpeg"), "{said}");
}
