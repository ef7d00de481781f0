//! A model that is swapped while the one before is deciding.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::capture::Captured;
use crate::decision::{Decision, Settings};
use crate::display::{self, Format};
use crate::engine::Session;
use crate::model::manifest::Mode;
use crate::model::testing::small_bundle;
use crate::model::{Bundle, Files};
use crate::pipeline::feed::Scripted;
use crate::pipeline::{Intake, Recognizer, Runner};
use ndarray::ArrayView5;

/// Is sure of the second label, and slow.
struct Slow(Duration);

impl Session for Slow {
    fn infer(&mut self, _: ArrayView5<'_, f32>, logits: &mut [f32]) -> Result<()> {
        std::thread::sleep(self.0);
        logits.copy_from_slice(&[0.0, 5.0]);
        Ok(())
    }
}

fn prepared(bundle: &Bundle, pause: Duration) -> Prepared {
    let manifest = &bundle.manifest;
    let settings = Settings { smoothing_s: 0.0, min_duration_s: 0.0, ..Settings::default() };
    let decision = Decision::new(&bundle.labels, manifest.output.activation, settings, None).unwrap();
    let runner = Runner::with(Box::new(Slow(pause)), Mode::Window, manifest);
    Prepared {
        name: manifest.name.clone(),
        intake: Intake::new(&manifest.input),
        recognizer: Recognizer::new(manifest, runner, decision, 1),
        labels: bundle.labels.clone(),
        nothing: Some(0),
        engine: "test".into(),
    }
}

/// The source is lost, comes back, and the model begins an action before it was asked whether the interruption is done.
#[test]
fn what_began_after_a_loss_that_is_not_dealt_with_yet_ends_before_its_model_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.jsonl");
    let [old, new] = ["old", "new"].map(|name| small_bundle(&folder.path().join(name), name, &["nothing", name]));
    let format = Format { width: 16, height: 12, frame_rate: 20.0 };
    let ready = Arc::new(Bell::default());
    let pipeline = Pipeline {
        source: Scripted::boxed(0, || Ok(Captured::End)),
        reopen: Box::new(|| unreachable!()),
        model: prepared(&old, Duration::ZERO),
        watch: None,
        display: display::open("none", format).unwrap(),
        events: Some(EventWriter::open(events.to_str().unwrap()).unwrap()),
        realtime: true,
        limits: Limits::default(),
        stop: Stop::default(),
    };
    let mut run = pipeline.start(&ready).unwrap();
    assert!(!run.model.recognition.interrupt(Duration::ZERO, &mut run.model.found).unwrap());
    let mut frame = Frame::new(16, 12);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !run.model.recognition.view().active.iter().any(Option::is_some) {
        assert!(Instant::now() < deadline, "nothing begins");
        let Running { recognition, intake, found, .. } = &mut run.model;
        recognition.offer(intake, &frame, found).unwrap();
        run.last_time = frame.timestamp;
        frame.timestamp += Duration::from_millis(50);
        frame.sequence += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    run.swap(Running::start(prepared(&new, Duration::ZERO), true, &ready).unwrap());
    while run.leaving.is_some() {
        assert!(Instant::now() < deadline, "it does not leave");
        run.follow_model().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    run.finish().unwrap();
    let lines = std::fs::read_to_string(&events).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).filter(|t| *t != "update").collect();
    assert_eq!(kinds, ["start", "end", "model"], "{lines:#?}");
    assert!(lines.is_sorted_by(|a, b| a["t"].as_f64() <= b["t"].as_f64()), "{lines:#?}");
}

#[test]
fn no_frame_is_lost_and_no_line_is_out_of_order() {
    for realtime in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (dir, events) = (folder.path().join("bundle"), folder.path().join("events.jsonl"));
        let bundle = small_bundle(&dir, "first", &["nothing", "old"]);
        let model = prepared(&bundle, Duration::from_millis(if realtime { 900 } else { 5 }));
        let seen = Files::of(&dir).look();
        small_bundle(&dir, "second", &["nothing", "new"]);
        // Handed over when the slow one has begun its first decisions, if the machine is not slower than that.
        let begin = Instant::now();
        let prepare = Box::new(move |bundle: &Bundle| {
            std::thread::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed()));
            Ok(prepared(bundle, Duration::ZERO))
        });
        let format = Format { width: 16, height: 12, frame_rate: 20.0 };
        let (frames, stop) = (80, Stop::default());
        let pipeline = Pipeline {
            source: Scripted::boxed(if realtime { frames } else { u64::MAX }, || Ok(Captured::End)),
            reopen: Box::new(|| unreachable!()),
            model,
            watch: Some(Watch { bundle, seen, prepare }),
            display: display::open("none", format).unwrap(),
            events: Some(EventWriter::open(events.to_str().unwrap()).unwrap()),
            realtime,
            limits: Limits::default(),
            stop: stop.clone(),
        };
        // Without real time the frames are endless: until the new model was seen at work.
        let path = events.clone();
        let ender = std::thread::spawn(move || {
            let deadline = Instant::now() + Duration::from_secs(60);
            let done = || std::fs::read_to_string(&path).unwrap_or_default().contains("\"new\"");
            while !realtime && !done() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            if !realtime {
                stop.request();
            }
        });
        let summary = pipeline.run().unwrap();
        ender.join().unwrap();
        assert_eq!(summary.dropped, 0);
        assert!(summary.frames == frames || !realtime);

        let lines = std::fs::read_to_string(&events).unwrap();
        let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.is_sorted_by(|a, b| a["t"].as_f64() <= b["t"].as_f64()), "{lines:#?}");
        let told: Vec<_> = lines
            .iter()
            .filter(|line| line["type"] != "update")
            .map(|line| {
                let of = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
                (of("type"), of("label") + &of("name"), line["id"].as_u64())
            })
            .collect();
        let line = |kind: &str, what: &str, id| (kind.to_owned(), what.to_owned(), id);
        let wanted = [
            line("start", "old", Some(1)),
            line("end", "old", Some(1)),
            line("model", "second", None),
            line("start", "new", Some(2)),
            line("end", "new", Some(2)),
        ];
        assert_eq!(told, wanted, "{lines:#?}");
        assert_eq!(summary.actions, 2);
        assert!(summary.decisions >= 2, "those of both: {summary:?}");
    }
}
