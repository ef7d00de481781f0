//! What works.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Bench, data, json_lines, probe, text, video};

const FAST: [&str; 2] = ["--no-realtime", "--quiet"];

#[test]
fn the_same_file_gives_the_same_events_byte_for_byte() {
    let bench = Bench::new();
    video(&bench.path("clip.mp4"), 4);
    let run = |events: &str, display: &str| {
        bench.run(&["--source", "file:clip.mp4", "--display", display, "--events", events, FAST[0], FAST[1]]);
        fs::read(bench.path(events)).unwrap()
    };
    let first = run("a.jsonl", "none");
    assert_eq!(first, run("b.jsonl", "png:pictures"), "drawing changes nothing");
    let lines = json_lines(&text(&first));
    assert!(lines.iter().any(|l| l["type"] == "start"), "{lines:?}");
    let ends = lines.iter().filter(|l| l["type"] == "end").count();
    assert_eq!(ends, lines.iter().filter(|l| l["type"] == "start").count(), "all that starts ends");
    assert!(lines.iter().all(|l| l.get("latency_ms").is_none() && l.get("wall").is_none()));
    assert_eq!(fs::read_dir(bench.path("pictures")).unwrap().count(), 100, "a picture for each frame");
}

#[test]
fn a_video_of_the_run_is_complete() {
    let bench = Bench::new();
    let source = "synthetic:3?size=320x240&fps=30";
    bench.run(&["run", "--source", source, "--display", "video:out.mp4", "--frames", "45", FAST[0], FAST[1]]);
    assert_eq!(probe(&bench.path("out.mp4")), (45, 320, 240));
}

#[test]
fn limits_transforms_and_allowed_labels() {
    let bench = Bench::new();
    let args =
        ["--source", "synthetic:1?size=64x48", "--duration", "2", "--rotate", "90", "--mirror", "--roi", "4,8,40,50"];
    let output = bench.run(&[&args[..], &["--labels", "up", "--display", "png:p", FAST[0]]].concat());
    let picture = image::open(fs::read_dir(bench.path("p")).unwrap().next().unwrap().unwrap().path()).unwrap();
    assert_eq!((picture.width(), picture.height()), (40, 50));
    let lines = json_lines(&text(&output.stdout));
    assert!(lines.iter().all(|l| l["label"] == "up"), "{lines:?}");
    let said = text(&output.stderr);
    assert!(said.contains("61 frames") && said.contains("0 lost"), "{said}");
    let costs = ["% of one core", "MiB of memory at most", "first decision"];
    assert!(costs.iter().all(|cost| said.contains(cost)), "{said}");
}

#[test]
fn settings_come_from_flags_then_environment_then_file() {
    let bench = Bench::new();
    fs::write(bench.path("k.toml"), "source = 'synthetic:1?size=64x48'\nframes = 3\ndisplay = 'png:from-file'\n")
        .unwrap();
    let run = |args: &[&str], environment: &[(&str, &str)]| {
        let mut command = bench.kinora(&[args, &["--no-realtime", "--config", "k.toml"]].concat());
        command.env("KINORA_MODEL", bench.path("model")).envs(environment.iter().copied());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    assert!(run(&[], &[]).contains("3 frames"));
    assert_eq!(fs::read_dir(bench.path("from-file")).unwrap().count(), 3);
    assert!(run(&[], &[("KINORA_FRAMES", "4")]).contains("4 frames"));
    assert!(run(&["--frames", "5"], &[("KINORA_FRAMES", "4")]).contains("5 frames"));
}

#[test]
fn in_real_time_events_carry_latency_and_wall_clock() {
    let bench = Bench::new();
    let begin = Instant::now();
    let output = bench.run(&["--source", "synthetic:2?size=64x48&fps=20", "--duration", "2", "--display", "none"]);
    assert!(begin.elapsed() >= Duration::from_secs(2), "paced by its timestamps");
    let lines = json_lines(&text(&output.stdout));
    assert!(!lines.is_empty());
    let last = lines.iter().filter_map(|line| line["t"].as_f64()).fold(0.0, f64::max);
    for line in lines {
        // What ends because the run does, at its last time, follows from no frame.
        let at_the_end = line["type"] == "end" && line["t"].as_f64() == Some(last);
        assert!(at_the_end || line["latency_ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{line}");
        assert!(line["wall"].as_str().is_some_and(|wall| wall.ends_with('Z')), "{line}");
    }
}

/// Ctrl-C and SIGTERM: exit code 0, a playable video, whole lines, nothing that started without an end.
#[test]
fn a_signal_ends_a_run_with_complete_files() {
    for signal in ["INT", "TERM"] {
        let bench = Bench::new();
        let mut child = bench
            .kinora(&["--source", "synthetic:5?size=160x120&fps=25", "--display", "out.mp4", "--events", "e.jsonl"])
            .env("KINORA_MODEL", bench.path("model"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_secs(3));
        assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
        let begin = Instant::now();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "SIG{signal}");
        assert!(begin.elapsed() < Duration::from_secs(10), "stopping takes {:?}", begin.elapsed());
        assert!(probe(&bench.path("out.mp4")).0 >= 10);
        let lines = json_lines(&fs::read_to_string(bench.path("e.jsonl")).unwrap());
        let count = |kind: &str| lines.iter().filter(|l| l["type"] == kind).count();
        assert!(count("start") > 0);
        assert_eq!(count("start"), count("end"));
    }
}

#[test]
fn a_closed_pipe_is_a_clean_end() {
    let bench = Bench::new();
    let mut child = bench
        .kinora(&[
            "--source",
            "synthetic:5?size=64x48",
            "--display",
            "none",
            "--no-realtime",
            "--quiet",
            "--events",
            "-",
        ])
        .env("KINORA_MODEL", bench.path("model"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn classify_answers_in_words_and_json() {
    let bench = Bench::new();
    video(&bench.path("a b.mp4"), 2);
    let output = bench.run(&["classify", "a b.mp4", "--json", "--labels", "up,down"]);
    let answer = &json_lines(&text(&output.stdout))[0];
    assert_eq!(answer["file"], "a b.mp4");
    assert_eq!(answer["clips"], 16, "19 planes at 10 Hz are 16 windows of 4");
    let top = answer["top"].as_array().unwrap();
    let sum: f64 = top.iter().map(|entry| entry["probability"].as_f64().unwrap()).sum();
    assert!(top.len() == 2 && (sum - 1.0).abs() < 1e-5, "{answer}");
    let words = text(&bench.run(&["classify", "a b.mp4", "--top", "1"]).stdout);
    assert_eq!(words.lines().count(), 2, "{words}");
}

#[test]
fn bench_and_inspect_tell_about_the_model() {
    let bench = Bench::new();
    let source = "synthetic:1?size=160x120";
    let output = bench.run(&["bench", "--json", "--frames", "60", "--source", source]);
    let report = &json_lines(&text(&output.stdout))[0];
    for field in ["per_decision_ms", "per_frame_ms"] {
        let [p50, p99] = ["p50", "p99"].map(|p| report[field][p].as_f64().unwrap());
        assert!(p50 > 0.0 && p50 <= p99, "{report}");
    }
    assert_eq!((&report["model"], &report["hop"], &report["mode"]), (&"tiny".into(), &1.into(), &"window".into()));
    assert!(report["decisions"].as_u64().unwrap() >= 19, "10 Hz out of 30: {report}");
    assert!(report["rss_mb"].as_f64().unwrap() > 1.0 && report["start_ms"].as_f64().unwrap() > 0.0);
    let words = text(&bench.run(&["inspect", &bench.arg("model")]).stdout);
    assert!(words.contains("tiny") && words.contains("16x16"), "{words}");
}

/// Every real clip runs; needs the shared test data.
#[test]
fn real_clips_run() {
    let Some(clips) = data::folder("real_clips_run", "clips") else { return };
    let bench = Bench::new();
    let mut count = 0;
    let mut folders = vec![clips];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let source = format!("file:{}", entry.path().display());
            let output = bench.run(&["--source", &source, "--display", "none", "--frames", "40", FAST[0]]);
            assert!(text(&output.stderr).contains("40 frames, 0 lost"), "{source}: {}", text(&output.stderr));
            count += 1;
        }
    }
    assert!(count >= 10, "{count} clips");
}
