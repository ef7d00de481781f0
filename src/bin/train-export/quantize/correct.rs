//! Bias correction: what rounding shifts the mean of a channel by is taken back in its bias.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use kinora::model::graph::{Node, Op, Weights};
use tch::{Kind, Tensor};

use super::assemble::whole_bias;
use crate::interpreter::{Net, Pass};

/// Gives each bias of `quantized` the value with which its convolution's or dense layer's means over `clips` are those of
/// `float`, as far as whole steps allow, and writes them to `weights`. Layers are corrected in order, each on what the
/// corrected ones before it compute. What runs frame by frame keeps its biases: there each frame shifts the next.
///
/// # Errors
/// When a net fails or a bias goes out of range.
pub fn correct_biases(float: &Net, quantized: &mut Net, weights: &mut Weights, clips: &Tensor) -> Result<()> {
    let mut means = BTreeMap::new();
    let repeated: BTreeSet<&str> = float.repeated().collect();
    let _ = tch::no_grad(|| {
        float.forward_with(clips, Pass::Evaluate, &mut |node, x| {
            if matches!(node.op, Op::Conv(_) | Op::Dense(_)) && !repeated.contains(node.name.as_str()) {
                means.insert(node.name.clone(), channel_means(node, x)?);
            }
            Ok(())
        })
    })?;
    let graph = quantized.graph();
    let scale_in = |node: &Node| match node.inputs.first().map(|input| &graph.node(*input).op) {
        Some(Op::Dequantize(q)) => Some(q.scale[0]),
        _ => None,
    };
    let _ = tch::no_grad(|| {
        quantized.forward_with(clips, Pass::Evaluate, &mut |node, x| {
            let (Some(wanted), Some(scale_in)) = (means.get(&node.name), scale_in(node)) else { return Ok(()) };
            let name = |suffix: &str| format!("{}.{suffix}", node.name);
            let scales = weights.get(&name("weight_scale")).context("no scales")?.clone();
            let bias = weights.get_mut(&name("bias")).context("no bias")?;
            let mut shift = vec![];
            for (((bias, scale), wanted), got) in bias.iter_mut().zip(&scales).zip(wanted).zip(channel_means(node, x)?)
            {
                let corrected = whole_bias(f64::from(*bias) + wanted - got, scale_in, *scale)
                    .with_context(|| format!("node '{}': a bias is out of range", node.name))?;
                shift.push(corrected - *bias);
                *bias = corrected;
            }
            let mut shape = vec![1; x.dim()];
            shape[channels(node, x) as usize] = -1;
            let _ = x.shallow_clone().f_add_(&Tensor::f_from_slice(&shift)?.f_reshape(&shape)?)?;
            Ok(())
        })
    })?;
    quantized.set(weights)
}

/// The axis of the channels of `node`, whose value is `x`: of a dense layer the last, as a recurrent net has `[N, T, C]`.
fn channels(node: &Node, x: &Tensor) -> i64 {
    if matches!(node.op, Op::Dense(_)) { x.dim() as i64 - 1 } else { 1 }
}

/// The mean of each channel.
fn channel_means(node: &Node, x: &Tensor) -> Result<Vec<f64>> {
    let axes: Vec<i64> = (0..x.dim() as i64).filter(|axis| *axis != channels(node, x)).collect();
    Ok(Vec::try_from(x.f_mean_dim(axes, false, Kind::Double)?)?)
}
