//! Talk with the host over the serial console: one line each way.

use std::io::{BufRead, Write};

use anyhow::{Context, Result};
use serde_json::Value;

/// Hands a result to the host.
pub fn result(value: &Value) {
    println!("@@RESULT {value}");
}

/// Has the host keep what the display shows, as picture `name`; returns when it has.
pub fn shot(name: &str) -> Result<()> {
    ask(&format!("@@SHOT {name}"))
}

/// Has the host press `keys` (as QEMU names them) on the machine's keyboard.
pub fn key(keys: &str) -> Result<()> {
    ask(&format!("@@KEY {keys}"))
}

fn ask(line: &str) -> Result<()> {
    println!("{line}");
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_line(&mut String::new()).context("waiting for the host")?;
    Ok(())
}
