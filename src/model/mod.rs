//! The model bundle on disk (`models/<name>/`) and the graph an architecture is written as.

pub mod bundle;
pub mod functions;
pub mod golden;
pub mod graph;
pub mod manifest;
pub mod onnx;
pub mod passes;
pub mod reference;
mod stamps;
#[cfg(any(test, fuzzing))]
pub mod testing;

pub use bundle::Bundle;
pub use golden::Golden;
pub use manifest::Manifest;
pub use stamps::{Files, Stamps};

use std::io::Write;
use std::path::Path;

use crate::{Error, ErrorKind, Result};

/// The largest file of a bundle, so that a wrong file is refused before it is read into memory.
const MAX_FILE_BYTES: u64 = 1 << 31;

/// The content of a bundle's file. Only regular files are opened: a pipe would block for ever.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    let refuse = |why: &dyn std::fmt::Display| Error::new(ErrorKind::Model, format_args!("{}: {why}", path.display()));
    let found = std::fs::metadata(path).map_err(|why| refuse(&why))?;
    if !found.is_file() {
        return Err(refuse(&"not a regular file"));
    }
    if found.len() > MAX_FILE_BYTES {
        return Err(refuse(&format_args!("{} bytes are more than a bundle's file may have", found.len())));
    }
    std::fs::read(path).map_err(|why| refuse(&why))
}

/// Writes `bytes` to `path` so that the file is either the old one or the complete new one, also after a power cut.
fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = std::fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|why| {
        let _ = std::fs::remove_file(&temporary);
        Error::new(ErrorKind::Output, format_args!("{}: cannot be written: {why}", path.display()))
    })
}
