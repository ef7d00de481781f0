//! A source that is lost and comes back, perhaps in another size: nothing is mixed up, and everybody is told in order.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::{Duration, Instant};

use kinora::capture::{Captured, Source, SourceInfo};
use kinora::decision::Decision;
use kinora::display::{self, Format};
use kinora::engine;
use kinora::events::EventWriter;
use kinora::frame::Frame;
use kinora::model::{Bundle, Files};
use kinora::pipeline::{Intake, Limits, Pipeline, Prepared, Recognizer, Runner, Watch};
use kinora::stop::Stop;
use kinora::{Error, ErrorKind};

/// A camera of noise that delivers `left` pictures and then is gone.
struct Camera {
    info: SourceInfo,
    left: u64,
    next: u64,
    last: bool,
}

impl Camera {
    fn boxed(width: u32, height: u32, left: u64, last: bool) -> Box<dyn Source> {
        let info = SourceInfo { name: "camera".into(), width, height, frame_rate: 20.0, live: true, stamped: true };
        Box::new(Self { info, left, next: 0, last })
    }
}

impl Source for Camera {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next_frame(&mut self, into: &mut Frame) -> Result<Captured, Error> {
        if self.next == self.left {
            let gone = || Err(Error::new(ErrorKind::SourceLost, "camera: unplugged"));
            return if self.last { Ok(Captured::End) } else { gone() };
        }
        std::thread::sleep(Duration::from_millis(20));
        into.resize(self.info.width, self.info.height);
        let mut random = fastrand::Rng::with_seed(self.next);
        into.data_mut().fill_with(|| random.u8(..));
        (into.captured, into.timestamp) = (Instant::now(), Duration::from_millis(50 * self.next));
        into.sequence = self.next;
        self.next += 1;
        Ok(Captured::Frame)
    }
}

/// `bundle`, ready to run.
fn prepared(bundle: &Bundle) -> Prepared {
    let manifest = &bundle.manifest;
    let settings = manifest.decision.clone();
    let decision = Decision::new(&bundle.labels, manifest.output.activation, settings, None).unwrap();
    let engine = engine::open(bundle, &engine::Options::default()).unwrap();
    Prepared {
        name: manifest.name.clone(),
        intake: Intake::new(&manifest.input),
        recognizer: Recognizer::new(manifest, Runner::new(&*engine, manifest).unwrap(), decision, 1),
        labels: bundle.labels.clone(),
        nothing: None,
        engine: "test".into(),
    }
}

#[test]
fn a_camera_that_comes_back_in_another_size_is_shown_and_recognized() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = common::tiny(&folder.path().join("model"));
    let pictures = folder.path().join("pictures");
    let events = folder.path().join("events.jsonl");
    let format = Format { width: 64, height: 48, frame_rate: 20.0 };
    let mut back = vec![Camera::boxed(80, 60, 40, true), Camera::boxed(48, 64, 40, false)];
    let mut attempts = 0;
    let pipeline = Pipeline {
        source: Camera::boxed(64, 48, 40, false),
        reopen: Box::new(move || {
            attempts += 1;
            let busy = || Error::new(ErrorKind::SourceLost, "camera: busy");
            if attempts % 2 == 1 { Err(busy()) } else { back.pop().ok_or_else(busy) }
        }),
        model: prepared(&bundle),
        watch: None,
        display: display::open(&format!("png:{}", pictures.display()), format).unwrap(),
        events: Some(EventWriter::open(events.to_str().unwrap()).unwrap()),
        realtime: true,
        limits: Limits::default(),
        stop: Stop::default(),
    };
    let summary = pipeline.run().unwrap();
    assert_eq!(summary.frames, 120);
    assert!(summary.latency.is_some() && summary.first_decision.is_some());
    assert_eq!(summary.processor.is_some(), cfg!(target_os = "linux"));

    let lines = std::fs::read_to_string(&events).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_string();
    let told: Vec<_> = lines.iter().filter(|line| of(line, "type") == "source").map(|line| of(line, "state")).collect();
    assert_eq!(told, ["lost", "back", "lost", "back"]);
    assert!(lines.is_sorted_by(|a, b| a["t"].as_f64() <= b["t"].as_f64()), "{lines:#?}");
    let times = |state: &str| -> Vec<f64> {
        lines.iter().filter(|line| of(line, "state") == state).filter_map(|line| line["t"].as_f64()).collect()
    };
    assert!(times("lost").iter().zip(times("back")).all(|(lost, back)| back > lost + 0.5), "half a second of back-off");
    // What runs when the camera goes away ends then, and something runs again after it is back.
    let mut running = 0;
    for (n, line) in lines.iter().enumerate() {
        match (of(line, "type").as_str(), of(line, "state").as_str()) {
            ("start", _) => running += 1,
            ("end", _) => running -= 1,
            ("source", "lost") => {
                assert_eq!(running, 0, "line {n}: {lines:#?}");
                assert!(of(line, "reason").contains("unplugged"), "{line}");
            }
            ("source", _) => {
                assert!(lines[n..].iter().any(|line| of(line, "type") == "start"), "line {n}: {lines:#?}");
            }
            _ => {}
        }
    }
    // The pictures have the size of the camera at the time.
    let mut sizes: Vec<_> = std::fs::read_dir(&pictures)
        .unwrap()
        .map(|entry| image::image_dimensions(entry.unwrap().path()).unwrap())
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    assert_eq!(sizes, [(48, 64), (64, 48), (80, 60)]);
}

#[test]
fn a_model_is_swapped_while_the_camera_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, events) = (folder.path().join("model"), folder.path().join("events.jsonl"));
    let bundle = common::tiny(&dir);
    let seen = Files::of(&dir).look();
    let begin = Instant::now();
    let (path, mut written) = (events.clone(), false);
    // It comes back after the swap.
    let reopen = move || {
        if !std::mem::replace(&mut written, true) {
            common::named(&dir, "other", ["nothing", "left", "right", "swipe_up"]);
        }
        let lines = std::fs::read_to_string(&path).unwrap();
        match lines.contains("swapped") || begin.elapsed() > Duration::from_secs(120) {
            true => Ok(Camera::boxed(64, 48, 40, true)),
            false => Err(Error::new(ErrorKind::SourceLost, "camera: busy")),
        }
    };
    let pipeline = Pipeline {
        source: Camera::boxed(64, 48, 40, false),
        reopen: Box::new(reopen),
        model: prepared(&bundle),
        watch: Some(Watch { bundle, seen, prepare: Box::new(|bundle| Ok(prepared(bundle))) }),
        display: display::open("none", Format { width: 64, height: 48, frame_rate: 20.0 }).unwrap(),
        events: Some(EventWriter::open(events.to_str().unwrap()).unwrap()),
        realtime: true,
        limits: Limits::default(),
        stop: Stop::default(),
    };
    let summary = pipeline.run().unwrap();
    assert_eq!((summary.frames, summary.dropped), (80, 0));

    let lines = std::fs::read_to_string(&events).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.is_sorted_by(|a, b| a["t"].as_f64() <= b["t"].as_f64()), "{lines:#?}");
    let states: Vec<_> = lines.iter().filter_map(|line| line["state"].as_str()).collect();
    assert_eq!(states, ["lost", "swapped", "back"], "{lines:#?}");
    let swapped = lines.iter().position(|line| line["state"] == "swapped").unwrap();
    let known = |label: &str| ["left", "right", "swipe_up"].contains(&label);
    for (n, line) in lines.iter().enumerate() {
        if let Some(label) = line["label"].as_str().filter(|label| *label != "nothing") {
            assert_eq!(known(label), n > swapped, "{line}: {lines:#?}");
        }
    }
    assert!(lines[swapped..].iter().any(|line| line["type"] == "start"), "{lines:#?}");
}
