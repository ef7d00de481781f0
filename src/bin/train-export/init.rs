//! First weights from a model that was trained before: those whose name and shape fit.

use std::path::Path;

use anyhow::Result;
use kinora::model::graph::{Graph, Weights};
use kinora::model::{Bundle, onnx};
use kinora::{Error, ErrorKind};

use crate::checkpoint::Checkpoint;

/// Weights that fit.
pub struct Taken {
    /// The weights.
    pub weights: Weights,
    /// What was taken and what was not, in a line.
    pub description: String,
}

/// The weights of `path`, a bundle's folder, a run's folder or a checkpoint, that fit `graph`. The last layer is taken
/// only when the classes are the same, in the same order.
///
/// # Errors
/// `Model` when there is no such model, `Usage` when nothing of it fits.
pub fn weights(path: &Path, labels: &[String], graph: &Graph) -> Result<Taken> {
    let (mut weights, old_labels) = if path.join("manifest.toml").exists() {
        let bundle = Bundle::load(path)?;
        (onnx::read_weights(&bundle.onnx())?, bundle.labels)
    } else {
        let checkpoint = Checkpoint::load(path)?;
        (checkpoint.average(), checkpoint.info.labels)
    };
    let head = format!("{}.", graph.output().name);
    let wanted = graph.parameters();
    let fits = |name: &String, shape: &[usize]| wanted.iter().any(|p| p.name == *name && p.shape == shape);
    weights.retain(|name, array| fits(name, array.shape()) && (labels == old_labels || !name.starts_with(&head)));
    if weights.is_empty() {
        let message = format!("--init {}: none of its weights fits this architecture and input", path.display());
        return Err(Error::new(ErrorKind::Usage, message).into());
    }
    let fresh: Vec<&str> = wanted.iter().filter(|p| !weights.contains_key(&p.name)).map(|p| p.name.as_str()).collect();
    let fresh = if fresh.is_empty() { String::new() } else { format!("; fresh: {}", fresh.join(", ")) };
    let description = format!("took {} of {} parameters from {}{fresh}", weights.len(), wanted.len(), path.display());
    Ok(Taken { weights, description })
}
