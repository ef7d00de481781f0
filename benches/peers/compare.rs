//! What a decision takes, kinora beside the others: windows, streams, and both over the length of the window. Each prints
//! its table and returns its figures.

use std::path::PathBuf;

use anyhow::{Context, Result};
use kinora::engine::{self, Choice, Kernels, Options, Precision};
use kinora::model::Bundle;
use kinora::model::manifest::Mode;
use serde::Serialize;

use crate::bundles::{LENGTHS, Model, STREAMS, Spec, WINDOWS};
use crate::peer::{Engine, Peer};
use crate::turns::{Contestant, Kinora, Times, take_turns};

/// How everything is measured.
pub struct Bench {
    /// Folder of the bundles.
    pub bundles: PathBuf,
    pub python: PathBuf,
    pub runs: usize,
    /// Most threads of one inference.
    pub threads: usize,
}

/// A bundle, and what it is to be run with.
struct Case<'a> {
    bundle: &'a Bundle,
    precision: Precision,
    threads: usize,
}

type Named = (String, Box<dyn Contestant>);

impl Case<'_> {
    /// kinora; without `kernels` with the best.
    fn engine(&self, mode: Mode, kernels: Option<Kernels>) -> Result<Box<dyn engine::Engine>> {
        let (engine, precision, threads) = (Choice::Native, Some(self.precision), self.threads);
        Ok(engine::open(self.bundle, &Options { engine, precision, mode: Some(mode), kernels, threads })?)
    }

    /// kinora in `mode`: with the best kernels, and where these use a matrix unit (AMX) without it, too.
    fn ours(&self, mode: Mode) -> Result<Vec<Named>> {
        let clip = self.bundle.golden()?.clip;
        let amx = |kernels: &Kernels| kernels.name().starts_with("amx");
        let without = Kernels::available().filter(|kernels| !amx(kernels)).last();
        let without = without.filter(|_| amx(&Kernels::best()) && self.precision == Precision::Int8);
        let session = |kernels| -> Result<Named> {
            let engine = self.engine(mode, kernels)?;
            let kinora = Kinora::new(&*engine, &clip, self.bundle.labels.len())?;
            Ok((engine.kernels().to_owned(), Box::new(kinora)))
        };
        std::iter::once(None).chain(without.map(Some)).map(session).collect()
    }

    /// `engine` on windows of the same file.
    fn peer(&self, bench: &Bench, engine: Engine) -> Result<Named> {
        let file = match self.precision {
            Precision::F32 => self.bundle.onnx(),
            Precision::Int8 => self.bundle.onnx_int8().context("the bundle has no int8 model")?,
        };
        let mut peer = Peer::start(&bench.python, engine, &file, self.precision, self.threads)?;
        peer.set_clip(&self.bundle.golden()?.clip)?;
        Ok((peer.name.clone(), Box::new(peer)))
    }
}

/// A peer's times, and kinora's beside them.
#[derive(Debug, Serialize)]
pub struct Beside {
    peer: Engine,
    times: Times,
    /// kinora's time by the peer's for windows, the peer's by kinora's for streams: medians.
    ratio: f32,
    /// The largest ratio that is wanted of windows, the least that is of streams.
    wanted: Option<f32>,
    reached: Option<bool>,
    /// Of windows: how far its logits are from kinora's, relative to the largest of those.
    logits_apart: Option<f32>,
}

impl Beside {
    /// A cell of a table: the time, and the ratio with the wanted one; bold where that is not reached.
    fn cell(&self, compared: [&str; 2]) -> String {
        let ratio = match (self.wanted, self.reached) {
            (Some(wanted), Some(true)) => format!("{:.2} {} {wanted}", self.ratio, compared[0]),
            (Some(wanted), _) => format!("**{:.2} {} {wanted}**", self.ratio, compared[1]),
            (None, _) => format!("{:.2}", self.ratio),
        };
        format!("{}: {ratio}", range(&self.times))
    }
}

/// Milliseconds with three digits.
pub fn digits(ms: f32) -> String {
    match ms {
        ..10.0 => format!("{ms:.2}"),
        ..100.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

/// Median, and 10th and 90th percentile.
fn range(times: &Times) -> String {
    format!("{} ({} to {})", digits(times.p50), digits(times.p10), digits(times.p90))
}

/// A net with a precision and a number of threads: kinora with some kernels beside all others.
#[derive(Debug, Serialize)]
pub struct WindowRow {
    architecture: String,
    precision: &'static str,
    threads: usize,
    kinora: Times,
    peers: Vec<Beside>,
}

/// The largest ratio of kinora's time for a window to the peer's that is wanted.
fn wanted_of_windows(model: Model, precision: Precision, peer: Engine) -> Option<f32> {
    match (precision, peer) {
        (Precision::Int8, Engine::OnnxRuntime) => Some(1.0),
        (Precision::Int8, _) => Some(if model == Model::Edge { 0.7 } else { 1.0 }),
        (Precision::F32, Engine::OnnxRuntime) => None,
        (Precision::F32, _) => Some(1.25),
    }
}

/// Windows of `models`, in int8 and f32, on each number of threads.
pub fn windows(bench: &Bench, models: &[Model]) -> Result<Vec<WindowRow>> {
    let mut rows = Vec::new();
    let head = Engine::ALL.map(Engine::name).join(" | ");
    println!("\n| net | computes in | threads | kinora, ms | {head} |\n|---|---|---|---|---|---|---|");
    for spec in WINDOWS.iter().filter(|spec| models.contains(&spec.model)) {
        let bundle = spec.bundle(&bench.bundles)?;
        for precision in [Precision::Int8, Precision::F32] {
            for threads in 1..=bench.threads {
                let case = Case { bundle: &bundle, precision, threads };
                for row in windows_of(bench, spec, &case)? {
                    print_windows(&row);
                    rows.push(row);
                }
            }
        }
    }
    Ok(rows)
}

fn windows_of(bench: &Bench, spec: &Spec, case: &Case<'_>) -> Result<Vec<WindowRow>> {
    let architecture = &case.bundle.manifest.architecture;
    eprintln!("{architecture}, {}, {} thread(s), a window", case.precision.name(), case.threads);
    let engines: Vec<Engine> = Engine::ALL.into_iter().filter(|engine| engine.is_apart(case.precision)).collect();
    let mut contestants = case.ours(Mode::Window)?;
    let ours = contestants.len();
    for engine in &engines {
        contestants.push(case.peer(bench, *engine)?);
    }
    let times = take_turns(&mut contestants, bench.runs)?;
    let apart: Vec<f32> =
        contestants.iter().map(|(_, other)| apart(contestants[0].1.logits(), other.logits())).collect();
    let (ours, theirs) = times.split_at(ours);
    let row = |kinora: &Times| {
        let beside = |((peer, times), apart): ((&Engine, &Times), &f32)| {
            let (ratio, wanted) = (kinora.p50 / times.p50, wanted_of_windows(spec.model, case.precision, *peer));
            let (reached, logits_apart) = (wanted.map(|wanted| ratio <= wanted), Some(*apart));
            Beside { peer: *peer, times: times.clone(), ratio, wanted, reached, logits_apart }
        };
        WindowRow {
            architecture: architecture.clone(),
            precision: case.precision.name(),
            threads: case.threads,
            kinora: kinora.clone(),
            peers: engines.iter().zip(theirs).zip(&apart[ours.len()..]).map(beside).collect(),
        }
    };
    Ok(ours.iter().map(row).collect())
}

/// The largest difference, relative to the largest of `logits`.
fn apart(logits: &[f32], others: &[f32]) -> f32 {
    let largest = logits.iter().fold(f32::MIN_POSITIVE, |max, x| max.max(x.abs()));
    logits.iter().zip(others).fold(0.0_f32, |max, (a, b)| max.max((a - b).abs())) / largest
}

fn print_windows(row: &WindowRow) {
    let cell = |engine: Engine| {
        let beside = row.peers.iter().find(|beside| beside.peer == engine);
        beside.map_or("".to_owned(), |beside| beside.cell(["≤", ">"]))
    };
    let (net, kernels, cells) = (short(&row.architecture), &row.kinora.name, Engine::ALL.map(cell).join(" | "));
    let (precision, threads, kinora) = (row.precision, row.threads, range(&row.kinora));
    println!("| {net} | {precision} | {threads} | {kernels} {kinora} | {cells} |");
}

/// The architecture without what is as published.
fn short(architecture: &str) -> &str {
    architecture.strip_suffix("(width=16,depth=1)").unwrap_or(architecture)
}

/// A net with a decision at every frame, in int8 on one thread: a stream of kinora's with some kernels beside windows of
/// OpenVINO's.
#[derive(Debug, Serialize)]
pub struct StreamRow {
    architecture: String,
    /// Multiply-accumulates of a decision.
    window_macs: u64,
    stream_macs: u64,
    /// Frames from one change of the logits to the next, at most.
    interval: usize,
    kinora: Times,
    peers: Vec<Beside>,
}

/// How much less time than OpenVINO's a streamed decision is wanted to take.
fn wanted_of_streams(model: Model) -> f32 {
    if model == Model::Edge { 16.0 } else { 12.0 }
}

/// A decision at every frame of those of `models` that can be streamed.
pub fn streams(bench: &Bench, models: &[Model]) -> Result<Vec<StreamRow>> {
    let mut rows = Vec::new();
    let engines: Vec<Engine> = [Engine::OpenVino, Engine::OpenVinoNoAmx].into();
    let head = engines.iter().map(|engine| engine.name()).collect::<Vec<_>>().join(" window, ms | ");
    println!(
        "\n| net | multiply-accumulates, window and streamed | new logits | kinora streamed, ms | {head} window, ms |"
    );
    println!("|---|---|---|---|---|---|");
    for spec in STREAMS.iter().filter(|spec| models.contains(&spec.model)) {
        let bundle = spec.bundle(&bench.bundles)?;
        let case = Case { bundle: &bundle, precision: Precision::Int8, threads: 1 };
        for row in streams_of(bench, spec, &case, &engines)? {
            print_streams(&row);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn streams_of(bench: &Bench, spec: &Spec, case: &Case<'_>, engines: &[Engine]) -> Result<Vec<StreamRow>> {
    let architecture = &case.bundle.manifest.architecture;
    eprintln!("{architecture}, int8, 1 thread, a decision at every frame");
    let macs = |mode| -> Result<u64> {
        let layers = case.engine(mode, None)?.profile(1).context("no profile")?;
        Ok(layers.iter().map(|layer| layer.macs).sum())
    };
    let (window_macs, stream_macs) = (macs(Mode::Window)?, macs(Mode::Stream)?);
    let (golden, classes) = (case.bundle.golden()?, case.bundle.labels.len());
    let interval = Kinora::new(&*case.engine(Mode::Stream, None)?, &golden.clip, classes)?.interval()?;
    let mut contestants = case.ours(Mode::Stream)?;
    let ours = contestants.len();
    let engines: Vec<Engine> = engines.iter().copied().filter(|engine| engine.is_apart(Precision::Int8)).collect();
    for engine in &engines {
        contestants.push(case.peer(bench, *engine)?);
    }
    let times = take_turns(&mut contestants, bench.runs)?;
    let (ours, theirs) = times.split_at(ours);
    let row = |kinora: &Times| {
        let beside = |(peer, times): (&Engine, &Times)| {
            let (ratio, wanted) = (times.p50 / kinora.p50, wanted_of_streams(spec.model));
            let reached = Some(ratio >= wanted);
            Beside { peer: *peer, times: times.clone(), ratio, wanted: Some(wanted), reached, logits_apart: None }
        };
        let peers = engines.iter().zip(theirs).map(beside).collect();
        let (architecture, kinora) = (architecture.clone(), kinora.clone());
        StreamRow { architecture, window_macs, stream_macs, interval, kinora, peers }
    };
    Ok(ours.iter().map(row).collect())
}

fn print_streams(row: &StreamRow) {
    let cells: Vec<String> = row.peers.iter().map(|beside| beside.cell(["≥", "<"])).collect();
    let (net, kernels, kinora, cells) =
        (short(&row.architecture), &row.kinora.name, range(&row.kinora), cells.join(" | "));
    let [window, stream] = [row.window_macs, row.stream_macs].map(|macs| macs as f64 / 1e6);
    let interval = match row.interval {
        1 => "every frame".to_owned(),
        n => format!("every {n} frames"),
    };
    println!("| {net} | {window:.0} M, {stream:.0} M | {interval} | {kernels} {kinora} | {cells} |");
}

/// A length of the window: what a decision takes in int8 on one thread.
#[derive(Debug, Serialize)]
pub struct Length {
    pub frames: usize,
    pub window: Times,
    pub stream: Times,
}

/// The same net for windows of several lengths, all in one go.
pub fn lengths(bench: &Bench) -> Result<Vec<Length>> {
    eprintln!("r2plus1d-edge, int8, 1 thread, windows of several lengths and streams");
    let mut contestants = Vec::new();
    for spec in &LENGTHS {
        let bundle = spec.bundle(&bench.bundles)?;
        let case = Case { bundle: &bundle, precision: Precision::Int8, threads: 1 };
        for mode in [Mode::Window, Mode::Stream] {
            let (kernels, kinora) = case.ours(mode)?.swap_remove(0);
            contestants.push((format!("{} {kernels}, {} frames", mode.name(), spec.frames), kinora));
        }
    }
    let times = take_turns(&mut contestants, bench.runs)?;
    let length = |(spec, pair): (&Spec, &[Times])| match pair {
        [window, stream] => Some(Length { frames: spec.frames, window: window.clone(), stream: stream.clone() }),
        _ => None,
    };
    let lengths: Vec<Length> = LENGTHS.iter().zip(times.chunks(2)).filter_map(length).collect();
    println!("\n| frames in a window | a window, ms | a window by its frames, ms | streamed, ms |\n|---|---|---|---|");
    for Length { frames, window, stream } in &lengths {
        let share = window.p50 / *frames as f32;
        println!("| {frames} | {} | {share:.2} | {} |", range(window), range(stream));
    }
    Ok(lengths)
}
