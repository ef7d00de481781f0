//! First weights from a model that was trained before: those whose name and shape fit.

use std::path::Path;

use anyhow::Result;
use kinora::model::graph::{Graph, Weights};
use kinora::model::{Bundle, onnx};
use kinora::{Error, ErrorKind};
use ndarray::{ArrayD, Axis};

use crate::checkpoint::Checkpoint;

/// Weights that fit.
pub struct Taken {
    /// The weights.
    pub weights: Weights,
    /// What was taken and what was not, in a line.
    pub description: String,
}

/// The weights of `path`, a bundle's folder, a run's folder or a checkpoint, that fit `graph`. Of the last layer the rows of
/// classes that the model knows by name are taken; the others stay as `fresh` has them.
///
/// # Errors
/// `Model` when there is no such model, `Usage` when nothing of it fits.
pub fn weights(path: &Path, labels: &[String], graph: &Graph, fresh: &Weights) -> Result<Taken> {
    let (mut weights, old_labels) = if path.join("manifest.toml").exists() {
        let bundle = Bundle::load(path)?;
        (onnx::read_weights(&bundle.onnx())?, bundle.labels)
    } else {
        let checkpoint = Checkpoint::load(path)?;
        (checkpoint.average(), checkpoint.info.labels)
    };
    let known: Vec<(usize, usize)> = (labels.iter().enumerate())
        .filter_map(|(new, label)| Some((new, old_labels.iter().position(|old| old == label)?)))
        .collect();
    let head = format!("{}.", graph.output().name);
    let wanted = graph.parameters();
    weights.retain(|name, array| {
        if name.starts_with(&head) {
            let fits = |fresh: &&ArrayD<f32>| !known.is_empty() && fresh.shape()[1..] == array.shape()[1..];
            let Some(fresh) = fresh.get(name).filter(fits) else { return false };
            *array = rows(fresh, array, &known);
        }
        wanted.iter().any(|p| p.name == *name && p.shape == array.shape())
    });
    if weights.is_empty() {
        let message = format!("--init {}: none of its weights fits this architecture and input", path.display());
        return Err(Error::new(ErrorKind::Usage, message).into());
    }
    let fresh: Vec<&str> = wanted.iter().filter(|p| !weights.contains_key(&p.name)).map(|p| p.name.as_str()).collect();
    let fresh = if fresh.is_empty() { String::new() } else { format!("; fresh: {}", fresh.join(", ")) };
    let description = format!(
        "took {} of {} parameters from {}, which knows {} of the {} classes{fresh}",
        weights.len(),
        wanted.len(),
        path.display(),
        known.len(),
        labels.len()
    );
    Ok(Taken { weights, description })
}

/// `fresh` with some rows of `old` in it: pairs of a row of `fresh` and one of `old`.
fn rows(fresh: &ArrayD<f32>, old: &ArrayD<f32>, pairs: &[(usize, usize)]) -> ArrayD<f32> {
    let mut taken = fresh.clone();
    for &(to, from) in pairs {
        taken.index_axis_mut(Axis(0), to).assign(&old.index_axis(Axis(0), from));
    }
    taken
}
