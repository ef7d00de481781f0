//! `train-export evaluate`: how good a bundle is, through the edge program's own engine: on clips, or live on the
//! mannequin.

mod acted;
mod clips;
mod events;
mod live;
mod metrics;
mod multilabel;
mod playlist;
mod thresholds;

use std::path::{Path, PathBuf};

use kinora::engine::{self, Engine, Precision};
use kinora::model::manifest::{Measured, Mode};
use kinora::model::{Bundle, Manifest};
use kinora::{Error, ErrorKind};

use crate::data::{DataArgs, Part, usage};

pub use metrics::Confusion;
pub use thresholds::{ThresholdArgs, command as thresholds};

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct EvaluateArgs {
    /// The bundle
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    /// Which clips of the data
    #[arg(long, value_enum, default_value_t = Which::Test)]
    pub part: Which,
    /// Only these labels: clips of others are left out, and answers are chosen among these; of a model of any number of
    /// classes only these are counted
    #[arg(long, value_name = "A,B,..", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// At most so many clips of each part
    #[arg(long, value_name = "N")]
    pub clips: Option<usize>,
    /// Folder for confusion.csv, confusion.png and metrics.json, or live.json
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write the figures into the bundle's manifest too
    #[arg(long)]
    pub record: bool,
    /// Watch the live mannequin instead of clips, and judge the actions reported; then mannequins that do what is no class. Of a
    /// folder: its videos one after another; the pictures that each begins and ends with, in which the body is taken to stand
    /// still, go to and fro for some seconds, in which nobody acts
    #[arg(long)]
    pub live: bool,
    /// With --live: mannequins, of seeds 1 to N [default: 5]
    #[arg(long, value_name = "N", requires = "live", value_parser = clap::value_parser!(u64).range(1..thresholds::FIRST_SEED))]
    pub seeds: Option<u64>,
    /// With --live: how long to watch each; of motions that are no class 20 at most [default: 120]
    #[arg(long, value_name = "SECONDS", requires = "live", value_parser = clap::value_parser!(u64).range(1..))]
    pub duration: Option<u64>,
    /// Windows or the stream; the bundle's own if left out
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// What to compute with; int8 if left out and the bundle has it
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Sampled frames from one decision to the next; the bundle's own if left out
    #[arg(long, value_name = "N")]
    pub hop: Option<usize>,
    /// With --live: score from which an action is reported; the bundle's own if left out
    #[arg(long, value_name = "P", requires = "live")]
    pub threshold: Option<f32>,
    /// Threads; 0: one a processor
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

/// Which clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// Those to learn from, not augmented.
    Train,
    /// Those to choose by.
    Validation,
    /// Those to report on.
    Test,
    /// Those of every part.
    All,
}

impl Which {
    fn parts(self) -> Vec<Part> {
        match self {
            Self::Train => vec![Part::Train],
            Self::Validation => vec![Part::Validation],
            Self::Test => vec![Part::Test],
            Self::All => Part::ALL.to_vec(),
        }
    }
}

/// Measures what `args` ask for and prints it.
pub fn command(args: EvaluateArgs) -> anyhow::Result<()> {
    let bundle = Bundle::load(&args.model)?;
    let options = engine::Options { mode: args.mode, precision: args.precision, ..Default::default() };
    let engine = engine::open(&bundle, &options)?;
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).map_err(|e| unwritable(out, e))?;
    }
    match (args.live, args.data.world()) {
        (false, _) => clips::run(&args, &bundle, &*engine),
        (true, Some(world)) => live::run(&args, world, &bundle, &*engine),
        (true, None) => acted::run(&args, &bundle, &*engine),
    }
}

/// Refuses flags that are given and mean nothing here, for the reason `why`.
fn unused(flags: &[(&str, bool)], why: &str) -> kinora::Result<()> {
    match flags.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(usage(format_args!("{flag}: {why}"))),
        None => Ok(()),
    }
}

/// Which answers `args` allow, and how `engine` runs `bundle`, where that is not how the bundle is run by default.
fn how(args: &EvaluateArgs, bundle: &Bundle, engine: &dyn Engine) -> String {
    let default = if bundle.onnx_int8().is_some() { Precision::Int8 } else { Precision::F32 };
    let mode = Some(engine.mode()).filter(|mode| *mode != bundle.manifest.run.mode).map(Mode::name);
    let precision = Some(engine.precision()).filter(|precision| *precision != default).map(Precision::name);
    let among = (!args.labels.is_empty()).then(|| format!("among {}", args.labels.join(", ")));
    let threshold = args.threshold.map(|p| format!("threshold {p}"));
    let hop = args.hop.filter(|hop| *hop != bundle.manifest.run.hop).map(|hop| format!("hop {hop}"));
    let engine = mode.into_iter().chain(precision).map(String::from);
    among.into_iter().chain(threshold).chain(hop).chain(engine).map(|said| format!(", {said}")).collect()
}

fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
        n => n,
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Output, format_args!("{}: {error}", path.display()))
}

fn save(folder: &Path, name: &str, content: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    Ok(std::fs::write(&path, content).map_err(|e| unwritable(&path, e))?)
}

/// Puts `figures`, each with its value and what it was measured on, into the bundle's manifest, in place of what it had
/// of the same.
fn record(bundle: &Bundle, figures: &[(&str, f64, &str)]) -> anyhow::Result<()> {
    let mut manifest = bundle.manifest.clone();
    for (figure, value, on) in figures {
        manifest.measured.retain(|m| m.figure != *figure || m.on != *on);
        let value = (value * 1e4).round() / 1e4;
        manifest.measured.push(Measured { figure: (*figure).into(), value, on: (*on).into() });
    }
    rewrite(bundle, &manifest)
}

/// Gives `bundle` another manifest.
fn rewrite(bundle: &Bundle, manifest: &Manifest) -> anyhow::Result<()> {
    let unfinished = "manifest.toml.new";
    save(&bundle.dir, unfinished, &manifest.to_toml()?)?;
    let [from, to] = [unfinished, "manifest.toml"].map(|name| bundle.dir.join(name));
    std::fs::rename(&from, &to).map_err(|e| unwritable(&to, e))?;
    Ok(())
}

/// Does `work` for `0..count` on several threads; each has a state of its own, made by `start`. Results are in order; the
/// first error ends all.
fn in_parallel<S, R: Send>(
    threads: usize,
    count: usize,
    start: impl Fn() -> anyhow::Result<S> + Sync,
    work: impl Fn(&mut S, usize) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let next = AtomicUsize::new(0);
    let worker = || -> anyhow::Result<Vec<(usize, R)>> {
        let mut state = start()?;
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            if index >= count {
                return Ok(done);
            }
            match work(&mut state, index) {
                Ok(result) => done.push((index, result)),
                Err(error) => {
                    next.store(count, Ordering::SeqCst);
                    return Err(error);
                }
            }
        }
    };
    let parts = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.clamp(1, count.max(1))).map(|_| scope.spawn(worker)).collect();
        let join = |w: std::thread::ScopedJoinHandle<'_, _>| w.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        workers.into_iter().map(join).collect::<anyhow::Result<Vec<_>>>()
    })?;
    let mut all: Vec<(usize, R)> = parts.into_iter().flatten().collect();
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn parallel_work_keeps_order_and_stops_at_an_error() {
        let squares = in_parallel(3, 50, || Ok(0), |_, i| Ok(i * i)).unwrap();
        assert_eq!(squares, (0..50).map(|i| i * i).collect::<Vec<_>>());
        assert!(in_parallel(3, 0, || Ok(()), |_, i| Ok(i)).unwrap().is_empty());
        let failed = in_parallel(3, 50, || Ok(()), |_, i| if i == 7 { anyhow::bail!("seven") } else { Ok(i) });
        assert_eq!(failed.unwrap_err().to_string(), "seven");
    }
}
