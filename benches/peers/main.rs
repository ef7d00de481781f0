//! `make peers`: what a decision costs beside OpenVINO and ONNX Runtime: the same ONNX files, clips and numbers of
//! threads, medians of runs that take turns. The peers run in Python (`peers.py`), one process each; what is timed is the
//! call that runs the model, there as here.
//!
//! Tables (Markdown) go to standard output, progress to standard error, all figures to `peers.json` in the folder of
//! `--out`, and a picture to `cost.png` there.

mod agreement;
mod bundles;
// `plots.rs` of the trainer draws on it, too, and uses all of it.
#[allow(dead_code)]
#[path = "../../src/bin/train-export/plots/canvas.rs"]
mod canvas;
mod compare;
mod peer;
mod plot;
mod turns;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use bundles::Model;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// Windows of each model, int8 and f32, on one thread and on two
    Windows,
    /// A decision at every frame: streams beside windows
    Streams,
    /// Windows and streams over the length of the window
    Lengths,
    /// Answers of the shipped model beside ONNX Runtime's
    Agreement,
}

#[derive(Parser)]
struct Arguments {
    /// Folder of peers.json and of the bundles; those that are missing are exported
    #[arg(long)]
    out: PathBuf,
    /// Python with the packages of requirements.txt
    #[arg(long)]
    python: PathBuf,
    /// Runs of each that are counted
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Nets
    #[arg(long, value_enum, num_args = 1.., default_values = ["edge", "r18", "r3d18"])]
    models: Vec<Model>,
    /// What is measured
    #[arg(long, value_enum, num_args = 1.., default_values = ["windows", "streams", "lengths", "agreement"])]
    rows: Vec<Rows>,
    /// Cargo says so to benches
    #[arg(long, hide = true)]
    bench: bool,
}

/// Where it is measured.
#[derive(Serialize)]
struct Machine {
    processor: String,
    threads: usize,
    /// How many threads wanted to run in the last minute, where the system tells (Linux).
    load: Option<f32>,
}

impl Machine {
    fn this() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let processor = name.map_or("unknown", |(_, name)| name.trim()).to_owned();
        let load = std::fs::read_to_string("/proc/loadavg").ok().and_then(|text| text.split(' ').next()?.parse().ok());
        Self { processor, load, threads: std::thread::available_parallelism().map_or(1, usize::from) }
    }
}

fn main() -> ExitCode {
    // `make bench` and `cargo test` start all benches.
    if !std::env::args().any(|arg| arg == "--out") {
        println!("peers: run with `make peers`");
        return ExitCode::SUCCESS;
    }
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Arguments) -> Result<()> {
    let machine = Machine::this();
    eprintln!("{}, {} threads, medians of {} runs", machine.processor, machine.threads, args.runs);
    if let Some(load) = machine.load.filter(|load| *load > 0.5) {
        eprintln!("warning: something else runs here (load {load}): times will be too long");
    }
    let bench = compare::Bench {
        bundles: args.out.clone(),
        python: args.python,
        runs: args.runs.into(),
        threads: machine.threads.min(2),
    };
    let mut report = json!({ "machine": machine, "runs": args.runs });
    for rows in Rows::value_variants().iter().filter(|rows| args.rows.contains(rows)) {
        let (name, figures) = match rows {
            Rows::Windows => ("windows", serde_json::to_value(compare::windows(&bench, &args.models)?)?),
            Rows::Streams => ("streams", serde_json::to_value(compare::streams(&bench, &args.models)?)?),
            Rows::Lengths if args.models.contains(&Model::Edge) => {
                let lengths = compare::lengths(&bench)?;
                plot::cost(&lengths, &args.out.join("cost.png"))?;
                ("lengths", serde_json::to_value(lengths)?)
            }
            Rows::Lengths => ("lengths", Value::Null),
            Rows::Agreement => ("agreement", serde_json::to_value(agreement::measure(&bench)?)?),
        };
        report[name] = figures;
    }
    let path = args.out.join("peers.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&report)?).with_context(|| path.display().to_string())?;
    eprintln!("all figures: {}", path.display());
    Ok(())
}
