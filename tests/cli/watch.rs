//! `--watch`: a bundle that changes is swapped in, one that cannot run is not.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Bench, common, json_lines, text};

/// Much longer than it takes, as other programs may have the processor.
const DEADLINE: Duration = Duration::from_secs(120);
const OTHER: [&str; 4] = ["nothing", "left", "right", "swipe_up"];

/// `kinora` that watches its bundle and writes `e.jsonl`.
struct Watching<'a> {
    bench: &'a Bench,
    child: Option<Child>,
}

impl Drop for Watching<'_> {
    /// A test that fails leaves nothing running.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

impl<'a> Watching<'a> {
    fn start(bench: &'a Bench, args: &[&str]) -> Self {
        let usual =
            ["--source", "synthetic:5?size=64x48&fps=20", "--display", "none", "--events", "e.jsonl", "--watch"];
        let mut command = bench.kinora(&[&usual, args].concat());
        if bench.path("model").exists() {
            command.env("KINORA_MODEL", bench.path("model"));
        }
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + DEADLINE;
        while !bench.path("e.jsonl").exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { bench, child: Some(child) }
    }

    fn lines(&self) -> Vec<Value> {
        // The last line may be half there.
        let whole = fs::read_to_string(self.bench.path("e.jsonl")).unwrap_or_default();
        json_lines(whole.rfind('\n').map_or("", |end| &whole[..end]))
    }

    /// The first event line for which `is` holds.
    fn wait_for(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let lines = self.lines();
            if let Some(line) = lines.iter().find(|line| is(line)) {
                return line.clone();
            }
            assert!(Instant::now() < deadline, "{what}: {lines:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the model is kept for a reason that has `fragment` in it.
    fn wait_for_kept(&self, fragment: &str) -> Value {
        let has = |line: &Value| line["reason"].as_str().is_some_and(|reason| reason.contains(fragment));
        self.wait_for(fragment, |line| line["type"] == "model" && line["state"] == "kept" && has(line))
    }

    fn wait_for_swapped(&self, name: &str) {
        let is = |line: &Value| line["type"] == "model" && line["state"] == "swapped" && line["name"] == name;
        self.wait_for(name, is);
    }

    /// Ends the run; its lines and what it said.
    fn end(mut self) -> (Vec<Value>, String) {
        let child = self.child.take().unwrap();
        assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        (json_lines(&fs::read_to_string(self.bench.path("e.jsonl")).unwrap()), said)
    }
}

/// What holds for the lines of any run: times never go back, all that starts ends, and before its model leaves, and no two
/// actions have the same number.
fn check(lines: &[Value]) {
    assert!(lines.is_sorted_by(|a, b| a["t"].as_f64() <= b["t"].as_f64()), "{lines:#?}");
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    let numbers: Vec<_> = of("start").iter().map(|line| line["id"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
    let mut running = 0;
    for line in lines {
        match line["type"].as_str().unwrap() {
            "start" => running += 1,
            "end" => running -= 1,
            "model" if line["state"] == "swapped" => assert_eq!(running, 0, "{line}: {lines:#?}"),
            _ => {}
        }
    }
    assert_eq!(running, 0);
}

fn cut(path: &Path) {
    let whole = fs::read(path).unwrap();
    fs::write(path, &whole[..whole.len() / 2]).unwrap();
}

#[test]
fn another_bundle_is_swapped_in_and_a_broken_one_is_not() {
    for mode in [&[][..], &["--no-realtime", "--mode", "stream", "--engine", "native"]] {
        let bench = Bench::new();
        let run = Watching::start(&bench, mode);
        run.wait_for("an action", |line| line["type"] == "start");
        common::named(&bench.path("model"), "other", OTHER);
        run.wait_for_swapped("other");
        run.wait_for("new labels", |line| OTHER[1..].iter().any(|label| line["label"] == *label));

        let model = bench.path("model/model.onnx");
        let whole = fs::read(&model).unwrap();
        cut(&model);
        let kept = run.wait_for_kept("model.onnx: its SHA-256");
        assert_eq!(kept["name"], "other");
        fs::write(&model, &whole).unwrap();
        let manifest = bench.path("model/manifest.toml");
        let hashes = fs::read_to_string(&manifest).unwrap();
        let at = hashes.find("labels.txt\" = \"").unwrap() + "labels.txt\" = \"".len();
        fs::write(&manifest, format!("{}{}{}", &hashes[..at], "0".repeat(8), &hashes[at + 8..])).unwrap();
        run.wait_for_kept("labels.txt: its SHA-256");
        fs::remove_dir_all(bench.path("model")).unwrap();
        run.wait_for_kept("there is no manifest.toml");
        common::tiny(&bench.path("model"));
        run.wait_for_swapped("tiny");

        let (lines, said) = run.end();
        check(&lines);
        let swaps: Vec<usize> = (0..lines.len()).filter(|&n| lines[n]["state"] == "swapped").collect();
        assert_eq!(swaps.len(), 2, "{lines:#?}");
        for (part, known) in [(0..swaps[0], common::LABELS), (swaps[0]..swaps[1], OTHER)] {
            let labels = lines[part].iter().filter_map(|line| line["label"].as_str());
            labels.for_each(|label| assert!(known.contains(&label), "{label}: {lines:#?}"));
        }
        assert_eq!(lines.iter().filter(|line| line["state"] == "kept").count(), 3, "{lines:#?}");
        assert!(said.contains("other: swapped in, with") && said.contains("other goes on: "), "{said}");
        assert!(said.contains(" frames, 0 lost"), "{said}");
        let wall = mode.is_empty();
        assert!(lines.iter().filter(|l| l["type"] == "model").all(|l| l.get("wall").is_some() == wall));
    }
}

#[test]
fn a_bundle_that_flags_or_settings_do_not_fit_is_not_taken() {
    let bench = Bench::new();
    fs::write(bench.path("k.toml"), "[decision.labels.down]\nenter = 0.3\nexit = 0.2\n").unwrap();
    let cases = [(&["--labels", "up"][..], "--labels: the model has no label up"), (&["--config", "k.toml"], "k.toml")];
    for (args, fragment) in cases {
        common::tiny(&bench.path("model"));
        let _ = fs::remove_file(bench.path("e.jsonl"));
        let run = Watching::start(&bench, args);
        common::named(&bench.path("model"), "other", OTHER);
        run.wait_for_kept(fragment);
        // One that fits is.
        common::named(&bench.path("model"), "third", ["nothing", "down", "up", "right"]);
        run.wait_for_swapped("third");
        check(&run.end().0);
    }
}

#[test]
fn where_no_bundle_is_named_the_one_that_was_found_is_watched() {
    let bench = Bench::new();
    fs::create_dir(bench.path("models")).unwrap();
    fs::rename(bench.path("model"), bench.path("models/mannequin")).unwrap();
    let run = Watching::start(&bench, &[]);
    common::named(&bench.path("models/mannequin"), "other", OTHER);
    run.wait_for_swapped("other");
    check(&run.end().0);
}
