//! The shipped models give right answers: on mannequins that they were not trained on, and on real people.
#![allow(clippy::unwrap_used)]

#[path = "common/data.rs"]
mod data;

use std::path::{Path, PathBuf};
use std::time::Duration;

use kinora::capture::{self, Options as SourceOptions};
use kinora::engine::{self, Options, Precision};
use kinora::frame::Frame;
use kinora::model::Bundle;
use kinora::model::manifest::Mode;
use kinora::pipeline::{Classifier, Intake, Runner};
use kinora::stop::Stop;
use kinora::synth::{Motion, Scene, World};

fn shipped(name: &str) -> Bundle {
    Bundle::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)).unwrap()
}

/// Frames before a window that the stream still sees.
const PAST: usize = 18;

#[test]
fn mannequins_are_recognized() {
    let (right, all) = mannequins(&shipped("mannequin"));
    assert!(right.iter().all(|right| right * 10 >= all * 8), "{right:?} of {all}, as windows and as streams");
}

/// The recurrent model, which is small and in integers, and runs as a stream.
#[test]
fn a_recurrent_model_recognizes_mannequins() {
    let bundle = shipped("mannequin-convlstm");
    let files = std::fs::read_dir(bundle.onnx().parent().unwrap()).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 3_000_000, "{bytes} bytes");
    let engine = engine::open(&bundle, &Options::default()).unwrap();
    assert_eq!((engine.precision(), engine.mode()), (Precision::Int8, Mode::Stream));
    let (right, all) = mannequins(&bundle);
    assert!(right[1] * 10 >= all * 8, "{right:?} of {all}, as windows and as streams");
}

/// Each motion as a camera of 30 Hz sees it, judged once, on the window in its middle, as a window and as the end of a stream.
/// The bound is far below the measured accuracy, which the manifest has: this test is there for a model that was exported
/// wrongly or whose pictures are prepared otherwise than in training.
fn mannequins(bundle: &Bundle) -> ([usize; 2], usize) {
    let input = &bundle.manifest.input;
    let mut runners = [Mode::Window, Mode::Stream].map(|mode| {
        let engine = engine::open(bundle, &Options { mode: Some(mode), ..Options::default() }).unwrap();
        Runner::new(&*engine, &bundle.manifest).unwrap()
    });
    let (mut right, mut all) = ([0; 2], 0);
    for (seed, motion) in (0..2).flat_map(|seed| Motion::ALL.map(|motion| (seed, motion))) {
        let mut scene = Scene::clip(World::Studio, 0x7e57_0000_0000 + seed, motion);
        let mut intake = Intake::new(input);
        let (mut plane, mut frame) = (intake.plane(), Frame::new(320, 240));
        let seconds = |frames: usize| frames as f32 / input.frame_rate;
        let end_s = (scene.subject().start_s + scene.subject().end_s + seconds(input.frames + 1)) / 2.0;
        let count = (seconds(PAST + input.frames + 1) * 30.0) as u32 + 2;
        runners.iter_mut().for_each(Runner::reset);
        for n in 0..count {
            scene.render((end_s - (count - 1 - n) as f32 / 30.0).abs(), &mut frame);
            frame.timestamp = Duration::from_secs(1) * n / 30;
            if intake.offer(&frame, &mut plane).unwrap() {
                runners.iter_mut().for_each(|runner| runner.push(&plane.data).unwrap());
            }
        }
        for (runner, right) in runners.iter_mut().zip(&mut right) {
            let logits = runner.decide(1).unwrap().unwrap();
            let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
            *right += usize::from(bundle.labels[best] == motion.label());
        }
        all += 1;
    }
    (right, all)
}

/// The model reads into the graph, and by its plain definition the graph gives the golden logits, simplified or not.
#[test]
fn the_graph_gives_the_golden_logits() {
    use kinora::model::{graph::Op, onnx, passes, reference};

    let bundle = shipped("mannequin");
    let golden = bundle.golden().unwrap();
    let (graph, weights) = onnx::read_graph(&bundle.onnx()).unwrap();
    let (simple, simple_weights) = passes::simplify(&graph, &weights).unwrap();
    assert!(simple.nodes().iter().all(|node| !matches!(node.op, Op::BatchNorm { .. } | Op::Reshape(_))));
    let largest = golden.logits_f32.iter().fold(0f32, |max, x| max.max(x.abs()));
    for (graph, weights) in [(graph, weights), (simple, simple_weights)] {
        let outputs = reference::run(&graph, &weights, &[golden.clip.clone().into_dyn().into()]).unwrap();
        let logits = outputs[0].to_f32();
        assert_eq!(logits.shape(), [1, golden.logits_f32.len()]);
        let apart = logits.iter().zip(&golden.logits_f32).fold(0f32, |max, (a, b)| max.max((a - b).abs()));
        println!("{} nodes: {:.1e} of the largest apart", graph.nodes().len(), apart / largest);
        assert!(apart <= 1e-4 * largest, "{apart} of {largest}");
    }
}

/// Real gestures without any training on real people, an eighth of the clips; needs the shared test data.
#[test]
fn real_gestures_are_recognized() {
    let Some(gestures) = data::folder("real_gestures_are_recognized", "gestures") else { return };
    let bundle = shipped("mannequin");
    let engine = engine::open(&bundle, &Options::default()).unwrap();
    let runner = Runner::new(&*engine, &bundle.manifest).unwrap();
    let mut classifier = Classifier::new(&bundle.manifest, runner, 4);
    let names = ["wave", "clap", "throw", "swipe_left", "swipe_right"];
    let labels = names.map(|name| bundle.labels.iter().position(|label| label == name).unwrap());
    let (mut right, mut all) = (0, 0);
    for (name, label) in names.iter().zip(labels) {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(gestures.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.iter().step_by(8) {
            let options = SourceOptions { realtime: false, ..SourceOptions::default() };
            let mut source = capture::open(file.to_str().unwrap(), &options, &Stop::default()).unwrap();
            let answer = classifier.classify(source.as_mut()).unwrap();
            all += 1;
            right += usize::from(answer.top(1, Some(&labels), bundle.manifest.output.activation)[0].0 == label);
        }
    }
    assert!(all == 20 && right * 10 >= all * 7, "{right} of {all}");
}
