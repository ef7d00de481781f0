//! A trained net in 8-bit integers: batch norms folded, activations u8 with a span chosen on calibration clips, weights i8 per
//! output channel, biases corrected. The result is a graph of Quantize and Dequantize nodes; what it computes is judged
//! here by interpreting it on tensors.

mod assemble;
mod correct;
mod judge;
mod ranges;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use kinora::model::graph::{Graph, Node, Op, Weights};
use kinora::model::{Bundle, onnx, passes};
use kinora::{Error, ErrorKind};
use tch::Device;

use crate::interpreter::Net;
use assemble::places;
use ranges::Method;

pub use judge::{Clips, Verdict};
pub use ranges::Ranges;

/// Values of one activation that the clips of one bias correction may have.
const CORRECTION_VALUES: usize = 1 << 26;

/// A quantised model.
pub struct Quantized {
    /// The graph, with Quantize and Dequantize nodes.
    pub graph: Graph,
    /// Its parameters.
    pub weights: Weights,
    /// How the spans of the activations were chosen.
    pub method: String,
    /// What every way to choose them was worth, in the order they were tried; the kept one's is `kept`.
    pub verdicts: Vec<(String, Verdict)>,
    /// Index into `verdicts`.
    pub kept: usize,
    /// Of the net in floats on the same clips.
    pub float: Verdict,
}

/// Quantises the net of `graph` and `weights`: spans are taken from `calibration`, and of the ways to choose them that is
/// kept whose answers for `validation` are nearest to those in floats.
///
/// # Errors
/// `Model` when the net cannot be quantised; when it fails.
pub fn quantize(graph: &Graph, weights: &Weights, calibration: &Clips, validation: &Clips) -> Result<Quantized> {
    ensure!(
        !calibration.batches.is_empty() && !validation.batches.is_empty(),
        "no clips to calibrate with or to judge by"
    );
    let (graph, weights) = passes::fold_batch_norm(graph, weights)?;
    let float = net(graph, &weights)?;
    let graph = float.graph();
    log::info!("int8: the values of {} clips", calibration.len());
    let histograms = ranges::observe(&float, &calibration.batches)?;
    let answers = judge::answers(&float, validation)?;
    let largest = graph.nodes().iter().map(|node| node.shape.iter().product::<usize>()).max().unwrap_or(1);
    let clips = calibration.first((CORRECTION_VALUES / largest).clamp(4, 32))?;
    let mut tried = vec![];
    for method in Method::ALL {
        let mut ranges: Ranges = histograms.iter().map(|(name, h)| (name.clone(), h.quantization(method))).collect();
        ranges::share(graph, &mut ranges);
        let (graph, mut weights) = assemble::assemble(graph, &weights, &ranges)?;
        assemble::check_integer(&graph, &weights)?;
        let mut quantized = net(graph, &weights)?;
        correct::correct_biases(&float, &mut quantized, &mut weights, &clips)?;
        let verdict = judge::answers(&quantized, validation)?.verdict(&answers, validation);
        log::info!("int8: {method}: {verdict}");
        tried.push((method, quantized.graph().clone(), weights, verdict));
    }
    let nearest = (tried.iter().enumerate()).min_by(|(_, a), (_, b)| a.3.divergence.total_cmp(&b.3.divergence));
    let kept = nearest.map(|(index, _)| index).context("nothing was tried")?;
    let verdicts = tried.iter().map(|(method, _, _, verdict)| (method.to_string(), *verdict)).collect();
    let (method, graph, weights, _) = tried.swap_remove(kept);
    graph.check(&weights)?;
    assemble::check_integer(&graph, &weights)?;
    let float = answers.verdict(&answers, validation);
    Ok(Quantized { graph, weights, method: method.to_string(), verdicts, kept, float })
}

/// The quantisation of each value in the integer model of the bundle in `dir`, to train with.
///
/// # Errors
/// `Model` when the bundle is broken or has no integer model.
pub fn ranges_of(dir: &Path) -> Result<Ranges> {
    let bundle = Bundle::load(dir)?;
    let why = "it has no model.int8.onnx: export it with --int8 first";
    let path =
        bundle.onnx_int8().ok_or_else(|| Error::new(ErrorKind::Model, format_args!("{}: {why}", dir.display())))?;
    let (graph, _) = onnx::read_graph(&path)?;
    let of = |node: &Node| match (&node.op, node.inputs.first()) {
        (Op::Quantize(q), Some(input)) => Some((graph.node(*input).name.clone(), q.clone())),
        _ => None,
    };
    Ok(graph.nodes().iter().filter_map(of).collect())
}

fn net(graph: Graph, weights: &Weights) -> Result<Net> {
    let mut net = Net::new(graph, Device::Cpu, 0)?;
    net.set(weights)?;
    Ok(net)
}

#[cfg(test)]
pub(crate) mod tests;
