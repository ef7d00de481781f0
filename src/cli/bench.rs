//! `kinora bench`: what a decision and a frame cost on this machine, with this model.

use std::time::Instant;

use anyhow::Result;
use kinora::capture::{self, Captured, Options};
use kinora::decision::Decision;
use kinora::engine;
use kinora::frame::Frame;
use kinora::overlay::{Activity, Overlay, Score, Status};
use kinora::pipeline::{Intake, Recognizer, Runner, nearest_rank, resident_mib};
use kinora::stop::Stop;
use kinora::{Error, ErrorKind};
use serde::Serialize;

use super::args::BenchArgs;
use super::{load_bundle, print};

/// Pictures that are read beforehand and used over and over: few, as their memory is part of what is measured.
const KEPT: usize = 8;

/// Milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Times {
    p50: f32,
    p90: f32,
    p99: f32,
}

#[derive(Debug, Serialize)]
struct Stages {
    /// Sampling, resizing, normalising; of a sampled frame.
    prepare: Times,
    /// Drawing the overlay; of a frame.
    overlay: Times,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    engine: &'static str,
    kernels: &'static str,
    precision: &'static str,
    mode: &'static str,
    threads: usize,
    hop: usize,
    frames: u32,
    source: String,
    /// Window, engine and decision.
    per_decision_ms: Times,
    /// All that a frame costs between source and display, decisions included where one fell due.
    per_frame_ms: Times,
    stages_ms: Stages,
    decisions: u64,
    rss_mb: Option<f32>,
    /// From the start of the program until the engine is ready.
    start_ms: f32,
}

#[derive(Default)]
struct Clock(Vec<f32>);

impl Clock {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = work();
        self.add(begin);
        result
    }

    fn add(&mut self, begin: Instant) {
        self.0.push(begin.elapsed().as_secs_f32() * 1e3);
    }

    fn times(&mut self) -> Times {
        self.0.sort_unstable_by(f32::total_cmp);
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|p| nearest_rank(&self.0, p).unwrap_or(f32::NAN));
        Times { p50, p90, p99 }
    }
}

/// Runs `kinora bench`; `begin` is when the program started.
pub fn command(args: &BenchArgs, begin: Instant) -> Result<()> {
    let bundle = load_bundle(args.model.model.as_deref())?;
    let manifest = &bundle.manifest;
    let options = args.model.engine();
    let engine = engine::open(&bundle, &options)?;
    let runner = Runner::new(&*engine, manifest)?;
    let start_ms = begin.elapsed().as_secs_f32() * 1e3;
    let hop = args.model.hop.map_or(manifest.run.hop, usize::from);
    let decision = Decision::new(&bundle.labels, manifest.output.activation, manifest.decision.clone(), None)?;
    let mut recognizer = Recognizer::new(manifest, runner, decision, hop);
    let mut intake = Intake::new(&manifest.input);
    let pictures = read(&args.source)?;

    let (mut prepare, mut decide, mut draw, mut whole) = <(Clock, Clock, Clock, Clock)>::default();
    let (mut plane, mut events) = (intake.plane(), Vec::with_capacity(64));
    let mut frame = Frame::default();
    let mut overlay = Overlay::new(pictures[0].width(), pictures[0].height())?;
    // The same pictures over and over, but time goes on. The window is filled before anything is counted.
    let period = pictures[1].timestamp - pictures[0].timestamp;
    let filling = (manifest.input.frames as f32 / manifest.input.frame_rate / period.as_secs_f32()) as u32 + 2;
    let mut decisions = 0;
    for n in 0..filling + args.frames {
        frame.copy_from(&pictures[n as usize % pictures.len()]);
        frame.timestamp = period * n;
        let begin = Instant::now();
        let sampled = intake.offer(&frame, &mut plane)?;
        let prepared = begin.elapsed().as_secs_f32() * 1e3;
        let decided = if sampled {
            let begin = Instant::now();
            recognizer.absorb(&plane, &mut events)?;
            recognizer.decide(&mut events)?.then(|| begin.elapsed().as_secs_f32() * 1e3)
        } else {
            None
        };
        let candidates: [Score; 2] =
            std::array::from_fn(|i| Score { label: &bundle.labels[i % bundle.labels.len()], confidence: 0.3 });
        let top = recognizer.view().ranking[0].unwrap_or((0, 0.0));
        let action = [Score { label: &bundle.labels[top.0], confidence: top.1 }];
        let status = Status {
            activity: Activity::Actions(&action),
            candidates: &candidates,
            engine: engine.name(),
            ..Status::default()
        };
        let Ok(()) = draw.time(|| overlay.draw(&mut frame, &status));
        events.clear();
        if n < filling {
            draw = Clock::default();
        }
        if n >= filling {
            whole.add(begin);
            if sampled {
                prepare.0.push(prepared);
            }
            if let Some(took) = decided {
                decide.0.push(took);
                decisions += 1;
            }
        }
    }
    if decisions == 0 {
        let message = format!("--frames {}: too few for a decision every {hop} sampled frames", args.frames);
        return Err(Error::new(ErrorKind::Usage, message).into());
    }
    let report = Report {
        model: manifest.name.clone(),
        engine: engine.name(),
        kernels: engine.kernels(),
        precision: engine.precision().name(),
        mode: engine.mode().name(),
        threads: options.threads,
        hop,
        frames: args.frames,
        source: args.source.clone(),
        per_decision_ms: decide.times(),
        per_frame_ms: whole.times(),
        stages_ms: Stages { prepare: prepare.times(), overlay: draw.times() },
        decisions,
        rss_mb: resident_mib(),
        start_ms,
    };
    if args.layers {
        print_layers(&*engine)?;
    }
    print(&if args.json { serde_json::to_string(&report)? + "\n" } else { words(&report) })
}

/// What each layer takes, and how fast it computes.
fn print_layers(engine: &dyn engine::Engine) -> Result<()> {
    let Some(layers) = engine.profile(20) else {
        let message = format!("--layers: engine {} does not tell: choose --engine native", engine.name());
        return Err(Error::new(ErrorKind::Usage, message).into());
    };
    let mut text = format!("{:<36} {:>10} {:>10} {:>8}\n", "layer", "us", "MMAC", "GMAC/s");
    let rate = |macs: u64, seconds: f64| macs as f64 / seconds / 1e9;
    for layer in &layers {
        let (us, mmac) = (layer.seconds * 1e6, layer.macs as f64 / 1e6);
        text += &format!("{:<36} {us:>10.1} {mmac:>10.2} {:>8.1}\n", layer.name, rate(layer.macs, layer.seconds));
    }
    let (seconds, macs) = (layers.iter().map(|l| l.seconds).sum::<f64>(), layers.iter().map(|l| l.macs).sum::<u64>());
    let (us, mmac) = (seconds * 1e6, macs as f64 / 1e6);
    print(&format!("{text}{:<36} {us:>10.1} {mmac:>10.2} {:>8.1}\n", "all", rate(macs, seconds)))
}

/// The first pictures of the source, at least two.
fn read(uri: &str) -> Result<Vec<Frame>, Error> {
    let options = Options { realtime: false, ..Options::default() };
    let mut source = capture::open(uri, &options, &Stop::default())?;
    let mut pictures = Vec::new();
    let mut frame = Frame::default();
    while pictures.len() < KEPT && source.next_frame(&mut frame)? == Captured::Frame {
        pictures.push(frame.clone());
    }
    if pictures.len() < 2 {
        return Err(Error::new(ErrorKind::Source, format_args!("{uri}: at least two pictures are needed")));
    }
    Ok(pictures)
}

fn words(report: &Report) -> String {
    let row = |name: &str, t: &Times| format!("{name:<22} {:8.2} {:8.2} {:8.2}\n", t.p50, t.p90, t.p99);
    let mut text = format!(
        "{} with {} {} ({}), {} thread(s), hop {}, {} frames, {} decisions\n{:<22} {:>8} {:>8} {:>8}\n",
        report.model,
        report.engine,
        report.precision,
        report.mode,
        report.threads,
        report.hop,
        report.frames,
        report.decisions,
        "milliseconds",
        "p50",
        "p90",
        "p99"
    );
    text += &row("per decision", &report.per_decision_ms);
    text += &row("per frame", &report.per_frame_ms);
    text += &row("  prepare", &report.stages_ms.prepare);
    text += &row("  overlay", &report.stages_ms.overlay);
    text += &format!("start until ready      {:8.1} ms\n", report.start_ms);
    if let Some(mib) = report.rss_mb {
        text += &format!("resident memory        {mib:8.1} MiB\n");
    }
    text
}
