//! ONNX files from graphs and graphs from ONNX files, on `tract_onnx::pb`. Blocks on the file system.
//!
//! Batch norm stays a node of its own and every initialiser keeps its parameter's name, so that a bundle can be trained
//! further. The same graph and weights give the same bytes, and reading them gives the same graph and weights back.

mod call;
pub(crate) mod check;
pub(crate) mod qlinear;
mod read;
mod size;
mod tensor;
#[cfg(test)]
mod tests;
mod unroll;
mod write;

use std::path::Path;

use prost::Message;
use tract_onnx::pb::{ModelProto, tensor_proto::DataType};

use super::graph::{Graph, Weights};
use super::{read_file, replace_file};
use crate::{Error, ErrorKind, Result};

pub use super::graph::{INPUT, NEXT, OUTPUT};

/// Writes `graph` with `weights` as ONNX: inputs and outputs have the graph's names, of an architecture `clip`
/// `[1, C, T, H, W]` and `logits` `[1, K]`. A file that is there is replaced only once the new one is complete.
///
/// # Errors
/// `Model` when the weights do not fit or a name is taken, `Output` when the file cannot be written.
pub fn write(graph: &Graph, weights: &Weights, path: &Path) -> Result<()> {
    replace_file(path, &to_bytes(graph, weights)?)
}

/// Writes the recurrent net of `graph`, which is that of one frame, as ONNX of a clip of so many `frames`: from `clip`,
/// `[1, C, T, H, W]`, to the `logits` of each frame, `[1, T, K]`.
///
/// # Errors
/// As [`write()`]; `Model` when the net is not recurrent.
pub fn write_unrolled(graph: &Graph, weights: &Weights, frames: usize, path: &Path) -> Result<()> {
    replace_file(path, &unrolled(graph, weights, frames)?)
}

fn unrolled(graph: &Graph, weights: &Weights, frames: usize) -> Result<Vec<u8>> {
    let model = unroll::unroll(graph, write::write(graph, weights)?, frames)?;
    check::check(&model)?;
    Ok(model.encode_to_vec())
}

/// `graph` with `weights` as the bytes of an ONNX file.
///
/// # Errors
/// `Model` when the weights do not fit or a name is taken.
pub fn to_bytes(graph: &Graph, weights: &Weights) -> Result<Vec<u8>> {
    let model = write::write(graph, weights)?;
    check::check(&model)?;
    Ok(model.encode_to_vec())
}

/// The graph and weights in an ONNX file.
///
/// # Errors
/// As [`graph_from_bytes`], naming the file.
pub fn read_graph(path: &Path) -> Result<(Graph, Weights)> {
    graph_from_bytes(&read_file(path)?).map_err(|error| error.within(path.display()))
}

/// The graph and weights in the bytes of an ONNX file, which may be anything. Batch size, if it is left open, is 1.
///
/// # Errors
/// `Model` when they are no model, contradict themselves, or need what the graph does not have, naming the node.
pub fn graph_from_bytes(bytes: &[u8]) -> Result<(Graph, Weights)> {
    read::read(&decode(bytes)?)
}

/// The float initialisers of an ONNX file by name: of a file that [`write()`] made, the parameters it was written from.
///
/// # Errors
/// `Model` when the file cannot be read.
pub fn read_weights(path: &Path) -> Result<Weights> {
    weights_of(&read(path)?).map_err(|error| error.within(path.display()))
}

/// The model in the ONNX file at `path`, checked for consistency: see [`check::check`].
pub(crate) fn read(path: &Path) -> Result<ModelProto> {
    decode(&read_file(path)?).map_err(|error| error.within(path.display()))
}

fn decode(bytes: &[u8]) -> Result<ModelProto> {
    let refuse = |why: &str| Error::new(ErrorKind::Model, format_args!("{why}: export the bundle again"));
    if bytes.is_empty() {
        return Err(refuse("the file is empty"));
    }
    size::check(bytes)?;
    let model = ModelProto::decode(bytes).map_err(|_| refuse("not an ONNX model, or cut off"))?;
    check::check(&model)?;
    Ok(model)
}

fn weights_of(model: &ModelProto) -> Result<Weights> {
    let floats = model.graph.iter().flat_map(|graph| &graph.initializer);
    let floats = floats.filter(|tensor| tensor.data_type == DataType::Float as i32);
    let mut weights = Weights::new();
    for tensor in floats {
        if let tensor::Constant::Floats(array) = tensor::decode(tensor)? {
            weights.insert(tensor.name.clone(), array);
        }
    }
    Ok(weights)
}
