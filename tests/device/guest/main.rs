//! Runs inside the virtual machine of the device tests: provides virtual cameras, starts `kinora` on them, makes faults
//! happen and tells the host what it saw. The kernel's command line names the scenario (`kinora.scenario=faults`).

mod console;
mod faults;
mod loopback;
mod modules;
mod program;
mod pump;
mod scenarios;
#[path = "../shared.rs"]
mod shared;
mod v4l2;
mod vivid;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Waits until `check` has something; `None` when it has not within `patience`.
fn wait<T>(patience: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        let found = check();
        if found.is_some() || begin.elapsed() > patience {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The value of `kinora.NAME=` on the kernel's command line.
fn parameter(name: &str) -> Result<String> {
    let line = std::fs::read_to_string("/proc/cmdline")?;
    let prefix = format!("kinora.{name}=");
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(&prefix));
    value.map(str::to_owned).with_context(|| format!("no {prefix} on the kernel's command line"))
}

fn run() -> Result<()> {
    faults::display_ready()?;
    match parameter("scenario")?.as_str() {
        "picture" => scenarios::picture(),
        "receiver" => scenarios::receiver(),
        "jpegs" => scenarios::jpegs(),
        "faults" => scenarios::faults(),
        "signal" => scenarios::signal(),
        "losses" => scenarios::losses(),
        "defaults" => scenarios::defaults(),
        "console" => scenarios::console(),
        "record" => scenarios::record(),
        "colours" => scenarios::colours(),
        "campaign" => scenarios::campaign(parameter("seed")?.parse()?, parameter("count")?.parse()?),
        other => bail!("there is no scenario {other}"),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error:?}");
            ExitCode::FAILURE
        }
    }
}
