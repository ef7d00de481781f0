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

/// A ratio of medians that is wanted.
#[derive(Debug, Clone, Copy, Serialize)]
enum Wanted {
    /// kinora's time by the peer's.
    AtMost(f32),
    /// The peer's time by kinora's.
    AtLeast(f32),
    /// kinora's time by the peer's, whatever it is.
    Any,
}

impl Wanted {
    fn of(model: Model, mode: Mode, precision: Precision, peer: Engine) -> Self {
        let edge = model == Model::Edge;
        match (mode, precision, peer) {
            (Mode::Stream, _, Engine::OpenVino | Engine::OpenVinoNoAmx) => {
                Self::AtLeast(if edge { 16.0 } else { 12.0 })
            }
            (Mode::Stream, _, Engine::OnnxRuntime) => Self::AtLeast(1.0),
            (Mode::Window, Precision::Int8, Engine::OnnxRuntime) => Self::AtMost(1.0),
            (Mode::Window, Precision::Int8, _) => Self::AtMost(if edge { 0.7 } else { 1.0 }),
            (Mode::Window, Precision::F32, Engine::OnnxRuntime) => Self::Any,
            (Mode::Window, Precision::F32, _) => Self::AtMost(1.25),
        }
    }
}

/// A peer's times on windows, and kinora's beside them.
#[derive(Debug, Serialize)]
struct Beside {
    peer: Engine,
    times: Times,
    ratio: f32,
    wanted: Wanted,
    reached: Option<bool>,
}

impl Beside {
    fn new(kinora: &Times, peer: Engine, times: &Times, wanted: Wanted) -> Self {
        let ratio = match wanted {
            Wanted::AtLeast(_) => times.p50 / kinora.p50,
            Wanted::AtMost(_) | Wanted::Any => kinora.p50 / times.p50,
        };
        let reached = match wanted {
            Wanted::AtMost(most) => Some(ratio <= most),
            Wanted::AtLeast(least) => Some(ratio >= least),
            Wanted::Any => None,
        };
        Self { peer, times: times.clone(), ratio, wanted, reached }
    }

    /// A cell of a table: the time, and the ratio with the wanted one; bold where that is not reached.
    fn cell(&self) -> String {
        let (times, ratio) = (range(&self.times), digits(self.ratio));
        match (self.wanted, self.reached) {
            (Wanted::AtMost(wanted), Some(true)) => format!("{times}: {ratio} ≤ {wanted}"),
            (Wanted::AtMost(wanted), _) => format!("{times}: **{ratio} > {wanted}**"),
            (Wanted::AtLeast(wanted), Some(true)) => format!("{times}: {ratio} ≥ {wanted}"),
            (Wanted::AtLeast(wanted), _) => format!("{times}: **{ratio} < {wanted}**"),
            (Wanted::Any, _) => format!("{times}: {ratio}"),
        }
    }
}

/// A time or a ratio with three digits.
pub fn digits(x: f32) -> String {
    match x {
        ..10.0 => format!("{x:.2}"),
        ..100.0 => format!("{x:.1}"),
        _ => format!("{x:.0}"),
    }
}

/// Median, and 10th and 90th percentile.
fn range(times: &Times) -> String {
    format!("{} ({} to {})", digits(times.p50), digits(times.p10), digits(times.p90))
}

/// A net with a precision and a number of threads: kinora with some kernels beside all others.
#[derive(Debug, Serialize)]
pub struct Row {
    architecture: String,
    precision: &'static str,
    threads: usize,
    kinora: Times,
    peers: Vec<Beside>,
}

impl Row {
    /// The cells of kinora and of all who are compared with; empty where that is nothing apart.
    fn cells(&self) -> String {
        let mut cells = vec![format!("{} {}", self.kinora.name, range(&self.kinora))];
        cells.extend(Engine::ALL.map(|engine| {
            let beside = self.peers.iter().find(|beside| beside.peer == engine);
            beside.map_or(String::new(), Beside::cell)
        }));
        cells.join(" | ")
    }

    /// The architecture without what is as published.
    fn net(&self) -> &str {
        self.architecture.strip_suffix("(width=16,depth=1)").unwrap_or(&self.architecture)
    }
}

/// The names above [`Row::cells`].
fn head(kinora: &str) -> String {
    format!("kinora, {kinora}, ms | {}", Engine::ALL.map(|engine| format!("{}, a window", engine.name())).join(" | "))
}

/// A row of each set of kernels.
fn rows(bench: &Bench, model: Model, case: &Case<'_>, mode: Mode) -> Result<Vec<Row>> {
    let (architecture, precision) = (&case.bundle.manifest.architecture, case.precision);
    eprintln!("{architecture}, {}, {}, {} thread(s)", precision.name(), mode.name(), case.threads);
    let engines: Vec<Engine> = Engine::ALL.into_iter().filter(|engine| engine.is_apart(precision)).collect();
    let mut contestants = case.ours(mode)?;
    let ours = contestants.len();
    for engine in &engines {
        contestants.push(case.peer(bench, *engine)?);
    }
    let times = take_turns(&mut contestants, bench.runs)?;
    if mode == Mode::Window {
        for (name, peer) in &contestants[ours..] {
            let apart = apart(contestants[0].1.logits(), peer.logits());
            eprintln!("  {name}: its logits are {apart:.1e} of the largest apart from kinora's");
        }
    }
    let (ours, theirs) = times.split_at(ours);
    let row = |kinora: &Times| {
        let beside = |(peer, times): (&Engine, &Times)| {
            Beside::new(kinora, *peer, times, Wanted::of(model, mode, precision, *peer))
        };
        let peers = engines.iter().zip(theirs).map(beside).collect();
        let (architecture, kinora) = (architecture.clone(), kinora.clone());
        Row { architecture, precision: precision.name(), threads: case.threads, kinora, peers }
    };
    Ok(ours.iter().map(row).collect())
}

/// The largest difference, relative to the largest of `logits`.
fn apart(logits: &[f32], others: &[f32]) -> f32 {
    let largest = logits.iter().fold(f32::MIN_POSITIVE, |max, x| max.max(x.abs()));
    logits.iter().zip(others).fold(0.0_f32, |max, (a, b)| max.max((a - b).abs())) / largest
}

/// Windows of `models`, in int8 and f32, on each number of threads.
pub fn windows(bench: &Bench, models: &[Model]) -> Result<Vec<Row>> {
    let mut all = Vec::new();
    println!("\n| net | computes in | threads | {} |\n|---|---|---|---|---|---|---|", head("a window"));
    for spec in WINDOWS.iter().filter(|spec| models.contains(&spec.model)) {
        let bundle = spec.bundle(&bench.bundles)?;
        for precision in [Precision::Int8, Precision::F32] {
            for threads in 1..=bench.threads {
                let case = Case { bundle: &bundle, precision, threads };
                for row in rows(bench, spec.model, &case, Mode::Window)? {
                    println!("| {} | {} | {threads} | {} |", row.net(), row.precision, row.cells());
                    all.push(row);
                }
            }
        }
    }
    Ok(all)
}

/// A net with a decision at every frame, in int8 on one thread: kinora streams, the others run windows.
#[derive(Debug, Serialize)]
pub struct StreamRow {
    /// Multiply-accumulates of a decision.
    window_macs: u64,
    stream_macs: u64,
    /// Frames from one change of the stream's logits to the next, at most.
    interval: usize,
    #[serde(flatten)]
    row: Row,
}

/// A decision at every frame of those of `models` that can be streamed.
pub fn streams(bench: &Bench, models: &[Model]) -> Result<Vec<StreamRow>> {
    let mut all = Vec::new();
    println!("\n| net | multiply-accumulates, window and stream | new logits | {} |", head("streamed"));
    println!("|---|---|---|---|---|---|---|");
    for spec in STREAMS.iter().filter(|spec| models.contains(&spec.model)) {
        let bundle = spec.bundle(&bench.bundles)?;
        let case = Case { bundle: &bundle, precision: Precision::Int8, threads: 1 };
        let macs = |mode| -> Result<u64> {
            let layers = case.engine(mode, None)?.profile(1).context("the engine does not tell its work")?;
            Ok(layers.iter().map(|layer| layer.macs).sum())
        };
        let (window_macs, stream_macs) = (macs(Mode::Window)?, macs(Mode::Stream)?);
        let engine = case.engine(Mode::Stream, None)?;
        let interval = Kinora::new(&*engine, &bundle.golden()?.clip, bundle.labels.len())?.interval()?;
        for row in rows(bench, spec.model, &case, Mode::Stream)? {
            let [window, stream] = [window_macs, stream_macs].map(|macs| macs as f64 / 1e6);
            let (net, cells) = (row.net(), row.cells());
            println!("| {net} | {window:.0} M, {stream:.0} M | {interval} frame(s) apart | {cells} |");
            all.push(StreamRow { window_macs, stream_macs, interval, row });
        }
    }
    Ok(all)
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
