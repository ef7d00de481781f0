//! `train-export`: trains a model and exports it as a bundle. Runs on the host; no edge build contains it.

mod arch;
mod checkpoint;
mod data;
mod device;
mod evaluation;
mod export;
mod imitation;
mod init;
mod interpreter;
mod join;
mod loss;
mod optimizer;
mod options;
mod plots;
mod progress;
mod quantize;
mod random;
mod recurrence;
mod settings;
mod stream;
mod training;
mod tune;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::{Parser, Subcommand};
use kinora::model::manifest::{Activation, Mode};
use kinora::stop::Stop;

#[derive(Parser)]
#[command(name = "train-export", version, about = "Trains action recognition models and exports them for kinora")]
struct Cli {
    /// Say more; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// Say nothing but warnings
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a set of videos of the mannequin
    Synth(data::SynthArgs),
    /// Show the layers of an architecture, their parameters and multiply-accumulates
    Show(ShowArgs),
    /// Train a model
    Train(Box<TrainArgs>),
    /// Measure a model
    Evaluate(Box<evaluation::EvaluateArgs>),
    /// Learn your own actions from a few videos of each, in minutes on a CPU, beginning with a bundle
    Tune(Box<tune::TuneArgs>),
    /// Choose a bundle's decision settings: those with which live mannequins are reported best
    Thresholds(evaluation::ThresholdArgs),
    /// Write a trained model as a bundle
    Export(Box<export::ExportArgs>),
    /// Join two bundles, one of which sees pictures and one optical flow, into one whose logits are the sum of theirs
    Join(join::JoinArgs),
}

#[derive(clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    model: options::ModelArgs,
    /// Number of classes
    #[arg(long, default_value_t = 17)]
    classes: usize,
    /// Print a diagram in Graphviz' language instead of a table: `| dot -Tsvg > net.svg` draws it
    #[arg(long)]
    dot: bool,
    /// Print a diagram as SVG instead of a table: `> net.svg`, for a browser
    #[arg(long, conflicts_with = "dot")]
    svg: bool,
}

#[derive(clap::Args)]
struct TrainArgs {
    #[command(flatten)]
    data: data::DataArgs,
    #[command(flatten)]
    model: options::ModelArgs,
    /// How the model is to run. For a stream, which needs a causal net, clips begin before the window, at most so long that
    /// the answer depends on all of it, and the model is validated with all of that past
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    #[command(flatten)]
    settings: settings::Settings,
    /// Folder of the run: last.safetensors, best.safetensors, history.csv
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Bundle, run or checkpoint to take the first weights from
    #[arg(long, value_name = "PATH")]
    init: Option<PathBuf>,
    /// Weights of a 2-D net to take the first weights from, repeated along time: a state dict of safetensors with the names of
    /// our parameters, or of torchvision's GoogLeNet for i3d-rgb and i3d-flow, its ResNets for resnet3d-18 to -152 and r3d-18
    #[arg(long, value_name = "FILE", conflicts_with_all = ["init", "qat", "resume"])]
    inflate: Option<PathBuf>,
    /// Bundle that was exported with --int8: train on from its weights, rounding as its integers do, so that the net makes
    /// up for it; a small --lr such as 1e-4 is enough
    #[arg(long, value_name = "DIR", conflicts_with = "init")]
    qat: Option<PathBuf>,
    /// Go on from the last checkpoint in --out
    #[arg(long, conflicts_with = "init")]
    resume: bool,
    /// Where to compute
    #[arg(long, value_enum, default_value = "auto")]
    device: device::Choice,
    /// Threads that compute on the CPU; 0: one a processor
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// Threads of libtorch that wait for one another are to sleep, not to spin: where anything else runs, and be it only the
/// threads that make clips, spinning costs them the processors that they wait for. OpenMP asks its environment when it is
/// loaded, before `main`: so the program begins again with the setting, unless there is one.
fn wait_asleep() {
    use std::os::unix::process::CommandExt;
    const POLICY: &str = "OMP_WAIT_POLICY";
    if let (None, Ok(program)) = (std::env::var_os(POLICY), std::env::current_exe()) {
        let mut arguments = std::env::args_os();
        let mut again = std::process::Command::new(program);
        again.arg0(arguments.next().unwrap_or_default());
        // Comes back only if it fails, and then it goes on as it is.
        let _ = again.args(arguments).env(POLICY, "passive").exec();
    }
}

fn main() -> ExitCode {
    wait_asleep();
    let cli = Cli::parse();
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => "warn",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    env_logger::Builder::from_env(
        env_logger::Env::new().filter_or("KINORA_LOG", format!("warn,kinora={level},train_export={level}")),
    )
    .format_target(false)
    .init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("train-export: {}", format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" "));
            let kind = error.chain().find_map(|cause| cause.downcast_ref::<kinora::Error>()).map(kinora::Error::kind);
            ExitCode::from(kind.unwrap_or(kinora::ErrorKind::Internal).exit_code())
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Synth(args) => data::synth_command(args),
        Command::Show(args) => show(&args),
        Command::Train(args) => train(*args),
        Command::Evaluate(args) => evaluation::command(*args),
        Command::Tune(args) => tune::command(&args),
        Command::Thresholds(args) => evaluation::thresholds(&args),
        Command::Export(args) => export::command(&args).map(|_| ()),
        Command::Join(args) => join::command(&args).map(|_| ()),
    }
}

fn show(args: &ShowArgs) -> Result<()> {
    let (architecture, input) = (args.model.architecture()?, args.model.input()?);
    let shape = [input.colour.channels(), input.frames, input.height, input.width];
    let graph = architecture.graph(shape, args.classes)?;
    let name = architecture.to_string();
    let text = match (args.dot, args.svg) {
        (true, _) => arch::dot(&graph, &name),
        (_, true) => arch::svg(&graph, &name),
        _ => format!("{name}\n{}", arch::table(&graph)),
    };
    say(text.trim_end())
}

/// Prints a line. Whoever reads may have seen enough (`| head`): what is being done goes on.
///
/// # Errors
/// `Output` when it cannot be written for another reason.
pub(crate) fn say(line: impl std::fmt::Display) -> Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(kinora::Error::new(kinora::ErrorKind::Output, format_args!("standard output: {why}")).into())
        }
        _ => Ok(()),
    }
}

fn train(args: TrainArgs) -> Result<()> {
    let input = args.model.input()?;
    let dataset: Arc<dyn data::Dataset> = data::open(&args.data, &input, args.settings.seed)?.into();
    let plan = training::Plan {
        architecture: args.model.architecture()?.to_string(),
        settings: args.settings,
        input,
        mode: args.mode,
        recipe: recipe(),
        init: args.init,
        inflate: args.inflate,
        qat: args.qat,
        resume: args.resume,
        out: args.out,
        device: device::open(args.device, args.threads)?,
    };
    let out = plan.out.clone();
    let stop = Stop::on_signals()?;
    let info = training::run(plan, dataset, &stop)?;
    if stop.requested() {
        log::warn!("stopped at step {}: go on with --resume", info.step);
    }
    let best = match (info.best, info.activation) {
        (None, _) => String::new(),
        (Some(best), Activation::Softmax) => format!(", best validation accuracy {best:.4}"),
        (Some(best), Activation::Sigmoid) => format!(", lowest validation loss {:.4}", -best),
    };
    log::info!("{} steps in {:.0} s{best}: {}", info.step, info.seconds, out.display());
    Ok(())
}

/// The command line, as a shell would take it.
fn recipe() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    let quoted =
        |word: String| if word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) };
    let words = std::env::args_os().skip(1).map(|word| quoted(word.to_string_lossy().into_owned()));
    std::iter::once("train-export".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
