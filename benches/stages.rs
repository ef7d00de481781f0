//! Time of each stage of a frame's way, and of the way as a whole.
//!
//! `make bench` runs all, `make bench ARGS=prepare` some. The engine runs the shipped model. For percentiles of the whole
//! program use `kinora bench`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kinora::capture::pixels::{Coding, Layout};
use kinora::decision::Decision;
use kinora::engine::{self, Options};
use kinora::frame::Frame;
use kinora::model::Bundle;
use kinora::model::manifest::{Colour, Input, Mode, Resize};
use kinora::overlay::{Activity, Overlay, Score, Status};
use kinora::pipeline::{Intake, Recognizer, Runner};
use kinora::preprocess::Preprocessor;
use kinora::synth::{Scene, World};

const SIZES: [(u32, u32); 3] = [(320, 240), (640, 480), (1280, 720)];

fn shipped() -> Bundle {
    Bundle::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mannequin")).unwrap()
}

/// Two seconds of the mannequin at 30 Hz.
fn pictures((width, height): (u32, u32)) -> Vec<Frame> {
    let mut scene = Scene::live(World::Studio, 1);
    let draw = |n: u32| {
        let mut frame = Frame::new(width, height);
        scene.render(n as f32 / 30.0, &mut frame);
        frame
    };
    (0..60).map(draw).collect()
}

fn prepare(c: &mut Criterion) {
    let mut group = c.benchmark_group("prepare");
    for colour in [Colour::Rgb, Colour::Gray, Colour::Motion] {
        for size in SIZES {
            let channels = colour.channels();
            let (mean, std) = (vec![0.5; channels], vec![0.25; channels]);
            let input =
                Input { frames: 16, height: 96, width: 96, colour, frame_rate: 10.0, resize: Resize::Crop, mean, std };
            let mut preprocessor = Preprocessor::new(&input);
            let mut plane = vec![0.0; preprocessor.plane_len()];
            let frame = &pictures(size)[0];
            let id = BenchmarkId::new(format!("{colour:?}").to_lowercase(), format!("{}x{}", size.0, size.1));
            group.bench_function(id, |b| b.iter(|| preprocessor.prepare(black_box(frame), &mut plane).unwrap()));
        }
    }
}

fn render(c: &mut Criterion) {
    let mut group = c.benchmark_group("render");
    for (world, size) in [World::Studio, World::Wild].into_iter().flat_map(|world| SIZES.map(|size| (world, size))) {
        let (mut scene, mut frame, mut n) = (Scene::live(world, 1), Frame::new(size.0, size.1), 0_u32);
        group.bench_function(BenchmarkId::new(world.label(), format!("{}x{}", size.0, size.1)), |b| {
            b.iter(|| {
                scene.render((n % 600) as f32 / 30.0, &mut frame);
                n += 1;
            });
        });
    }
}

/// From what a camera delivers to RGB.
fn convert(c: &mut Criterion) {
    let mut group = c.benchmark_group("convert");
    let (width, height) = (1280, 720);
    let mut frame = pictures((width, height)).swap_remove(30);
    let mut jpeg = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 85);
    image::ImageEncoder::write_image(encoder, frame.data(), width, height, image::ExtendedColorType::Rgb8).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    for coding in Coding::OF_CAMERAS {
        let layout = Layout::new(coding, width, height);
        let raw: Vec<u8> = (0..layout.bytes()).map(|_| random.u8(16..=235)).collect();
        let data = if coding == Coding::Mjpg { &jpeg } else { &raw };
        let id = format!("{coding} {width}x{height}");
        group.bench_function(id, |b| b.iter(|| layout.decode(black_box(data), &mut frame).unwrap()));
    }
}

fn overlay(c: &mut Criterion) {
    let mut group = c.benchmark_group("overlay");
    for (width, height) in SIZES {
        let (mut overlay, mut frame) = (Overlay::new(width, height).unwrap(), Frame::new(width, height));
        let scores = ["wave", "clap", "throw"].map(|label| Score { label, confidence: 0.4 });
        let status = Status {
            activity: Activity::Actions(&scores[..1]),
            candidates: &scores[1..],
            engine: "tract f32",
            ..Status::default()
        };
        group.bench_function(format!("{width}x{height}"), |b| b.iter(|| overlay.draw(&mut frame, black_box(&status))));
    }
}

fn engine(c: &mut Criterion) {
    let bundle = shipped();
    let clip = bundle.golden().unwrap().clip;
    let mut logits = vec![0.0; bundle.labels.len()];
    let windows = Options { mode: Some(Mode::Window), ..Options::default() };
    let mut session = engine::open(&bundle, &windows).unwrap().session().unwrap();
    c.bench_function("engine/one window", |b| {
        b.iter(|| session.infer(black_box(clip.view()), &mut logits).unwrap());
    });
}

/// A second of video at 30 Hz through sampling, preparing, window, engine and decision.
fn pipeline(c: &mut Criterion) {
    let bundle = shipped();
    let manifest = &bundle.manifest;
    let engine = engine::open(&bundle, &Options::default()).unwrap();
    let runner = Runner::new(&*engine, manifest).unwrap();
    let decision = Decision::new(&bundle.labels, manifest.output.activation, manifest.decision.clone(), None).unwrap();
    let mut recognizer = Recognizer::new(manifest, runner, decision, manifest.run.hop);
    let mut intake = Intake::new(&manifest.input);
    let (mut plane, mut events) = (intake.plane(), Vec::new());
    let mut frames = pictures((640, 480));
    let mut n = 0_u32;
    c.bench_function("pipeline/one second of 640x480", |b| {
        b.iter(|| {
            for _ in 0..30 {
                let frame = &mut frames[n as usize % 60];
                frame.timestamp = Duration::from_secs(1) * n / 30;
                n += 1;
                if intake.offer(frame, &mut plane).unwrap() {
                    recognizer.absorb(&plane, &mut events).unwrap();
                    recognizer.decide(&mut events).unwrap();
                }
                events.clear();
            }
        });
    });
}

criterion_group! {
    name = stages;
    config = Criterion::default().sample_size(20);
    targets = convert, prepare, render, overlay, engine, pipeline
}
criterion_main!(stages);
