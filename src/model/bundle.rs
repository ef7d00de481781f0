//! A model bundle: a folder with `manifest.toml`, `labels.txt`, `model.onnx` and `golden.safetensors`.

use std::path::{Path, PathBuf};

use super::Manifest;
use crate::{Error, ErrorKind, Result};

/// A bundle that was read and found consistent.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// The folder.
    pub dir: PathBuf,
    /// Its `manifest.toml`.
    pub manifest: Manifest,
    /// The class names, in the order of the logits.
    pub labels: Vec<String>,
}

impl Bundle {
    /// Reads the bundle in `dir` and checks it: fields, labels, hashes of the files.
    ///
    /// # Errors
    /// `Model`, with file, field and reason.
    pub fn load(dir: &Path) -> Result<Self> {
        Err(Error::new(ErrorKind::Model, dir.display()))
    }

    /// The f32 model.
    pub fn onnx(&self) -> PathBuf {
        self.dir.join("model.onnx")
    }
}
