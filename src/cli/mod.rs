//! The command line: arguments and configuration, then open by URI, then run.

mod args;
mod bench;
mod classify;
mod config;
mod devices;
mod inspect;
mod prepare;
mod record;
mod run;

use std::io::{ErrorKind as Io, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use args::{Arguments, Command};
use kinora::model::Bundle;
use kinora::{Error, ErrorKind};

/// Runs the program. Errors are one line on the standard error stream; the exit code tells their area.
pub fn main() -> ExitCode {
    let begin = Instant::now();
    let arguments = Arguments::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    start_log(arguments.verbose, arguments.quiet);
    let result = match arguments.command {
        Command::Run(run) => run::command(*run, arguments.quiet, begin),
        Command::Devices => print(&devices::describe()),
        Command::Inspect(inspect) => inspect_command(&inspect.dir),
        Command::Classify(classify) => classify::command(&classify),
        Command::Bench(bench) => bench::command(&bench, begin),
        Command::Record(record) => record::command(*record),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            let kind = error.downcast_ref::<Error>().map_or(ErrorKind::Internal, Error::kind);
            ExitCode::from(kind.exit_code())
        }
    }
}

fn start_log(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn,kinora=info",
        (false, 1) => "info,kinora=debug,tract_core=warn,tract_onnx=warn",
        (false, _) => "trace",
    };
    let env = env_logger::Env::new().filter_or("KINORA_LOG", level);
    env_logger::Builder::from_env(env)
        .format(|out, record| match record.level() {
            log::Level::Info => writeln!(out, "kinora: {}", record.args()),
            level => writeln!(out, "kinora: {}: {}", level.as_str().to_lowercase(), record.args()),
        })
        .init();
}

fn inspect_command(dir: &Path) -> Result<()> {
    print(&inspect::describe(&Bundle::load(dir)?)?)
}

/// Writes to the standard output; a closed pipe is where the reader had enough.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != Io::BrokenPipe => {
            Err(Error::new(ErrorKind::Output, format_args!("standard output: {error}"))).context("writing the answer")
        }
        _ => Ok(()),
    }
}

/// Name of the bundle that is taken when none is named.
const SHIPPED: &str = "models/mannequin";

/// The bundle at `dir`, or the shipped one.
fn load_bundle(dir: Option<&Path>) -> Result<Bundle, Error> {
    Bundle::load(&bundle_folder(dir)?)
}

/// `dir`, or the folder of the shipped bundle: below the current folder, beside the program, or where packages put it.
fn bundle_folder(dir: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(dir) = dir {
        return Ok(dir.to_owned());
    }
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf)).unwrap_or_default();
    let places = ["", "../..", "../share/kinora"].map(|up| beside.join(up).join(SHIPPED));
    let found = [PathBuf::from(SHIPPED)].into_iter().chain(places).find(|dir| dir.is_dir());
    found.ok_or_else(|| {
        let message = format!("no {SHIPPED} here or beside the program: name a bundle with --model DIR");
        Error::new(ErrorKind::Model, message)
    })
}

/// Indices of the labels named in `wanted`.
fn label_indices(labels: &[String], wanted: &[String]) -> Result<Vec<usize>, Error> {
    let find = |name: &String| {
        labels.iter().position(|label| label == name).ok_or_else(|| {
            let known = labels.join(", ");
            Error::new(ErrorKind::Usage, format_args!("--labels: the model has no label {name:?}; it has {known}"))
        })
    };
    let mut indices = wanted.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    indices.sort_unstable();
    indices.dedup();
    Ok(indices)
}
