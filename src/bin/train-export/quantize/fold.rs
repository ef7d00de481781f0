//! Batch norms folded into the convolutions before them.

use kinora::model::graph::{Conv, Graph, Node, Op, Value, Weights};
use kinora::{Error, ErrorKind, Result};
use ndarray::{ArrayD, Axis};

/// `graph` without batch norms, and its weights: with `s = weight / sqrt(running_var + eps)` of the norm, a convolution's
/// kernel of each output channel is multiplied by `s` and its bias `b` becomes `(b - running_mean) s + bias`.
///
/// # Errors
/// `Model` when a norm does not follow a convolution that only it reads.
pub fn fold(graph: &Graph, weights: &Weights) -> Result<(Graph, Weights)> {
    graph.check(weights)?;
    let [_, c, t, h, w] = *graph.input_shape() else {
        return Err(Error::new(ErrorKind::Model, "a net from a clip [1, C, T, H, W] wanted"));
    };
    let (mut folded, clip) = Graph::new([c, t, h, w]);
    let (mut made, mut rest): (Vec<Value>, Weights) = (vec![clip], Weights::new());
    for (value, node) in graph.values().skip(1) {
        let norm = follower(graph, value).filter(|next| matches!(next.op, Op::BatchNorm { .. }));
        let inputs: Vec<Value> = node.inputs.iter().map(|input| made[input.index()]).collect();
        let own = |suffix: &str| weights.get(&format!("{}.{suffix}", node.name));
        let next = match (&node.op, norm) {
            (Op::Conv(conv), Some(norm)) => {
                let (weight, bias) = merged(own("weight"), own("bias"), norm, weights)?;
                rest.extend([(format!("{}.weight", node.name), weight), (format!("{}.bias", node.name), bias)]);
                folded.push(node.name.clone(), Op::Conv(Conv { bias: true, ..conv.clone() }), &inputs)?
            }
            (Op::BatchNorm { .. }, _) => {
                let before = node.inputs[0];
                if !matches!(graph.node(before).op, Op::Conv(_)) || follower(graph, before).is_none() {
                    let why = "this batch norm does not follow a convolution that only it reads, so it cannot be folded: \
                               leave --int8 out";
                    return Err(refuse(node, why));
                }
                inputs[0]
            }
            (op, _) => {
                for parameter in graph.node_parameters(node) {
                    rest.extend(weights.get(&parameter.name).map(|w| (parameter.name.clone(), w.clone())));
                }
                folded.push(node.name.clone(), op.clone(), &inputs)?
            }
        };
        made.push(next);
    }
    folded.check(&rest)?;
    Ok((folded, rest))
}

fn refuse(node: &Node, why: &str) -> Error {
    Error::new(ErrorKind::Model, format_args!("graph node '{}': {why}", node.name))
}

/// The node that reads `value`, if only one does.
pub fn follower(graph: &Graph, value: Value) -> Option<&Node> {
    let mut readers = graph.nodes().iter().filter(|node| node.inputs.contains(&value));
    readers.next().filter(|_| readers.next().is_none())
}

/// Kernel and bias of a convolution with `norm` folded in.
fn merged(
    weight: Option<&ArrayD<f32>>,
    bias: Option<&ArrayD<f32>>,
    norm: &Node,
    weights: &Weights,
) -> Result<(ArrayD<f32>, ArrayD<f32>)> {
    let Op::BatchNorm { eps } = norm.op else { return Err(refuse(norm, "no batch norm")) };
    let of = |suffix: &str| {
        weights.get(&format!("{}.{suffix}", norm.name)).ok_or_else(|| refuse(norm, "a parameter is missing"))
    };
    let (scale, shift, mean, variance) = (of("weight")?, of("bias")?, of("running_mean")?, of("running_var")?);
    let mut weight = weight.ok_or_else(|| refuse(norm, "the convolution before it has no weights"))?.clone();
    let mut merged = bias.cloned().unwrap_or_else(|| ArrayD::zeros(mean.raw_dim()));
    for (channel, mut kernel) in weight.axis_iter_mut(Axis(0)).enumerate() {
        let s = f64::from(scale[channel]) / (f64::from(variance[channel]) + f64::from(eps)).sqrt();
        kernel.mapv_inplace(|w| (f64::from(w) * s) as f32);
        let b = (f64::from(merged[channel]) - f64::from(mean[channel])) * s + f64::from(shift[channel]);
        merged[channel] = b as f32;
    }
    Ok((weight, merged))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::arch::Architecture;
    use crate::quantize::tests::{logits, model};

    #[test]
    fn a_folded_net_computes_the_same() {
        for arch in ["r2plus1d-edge(width=4)", "r2plus1d-18(width=4)", "r3d-18(width=4,causal=true)"] {
            let architecture: Architecture = arch.parse().unwrap();
            let (graph, weights, clips) = model(architecture, 3);
            let (folded, rest) = fold(&graph, &weights).unwrap();
            assert!(!folded.nodes().iter().any(|node| matches!(node.op, Op::BatchNorm { .. })));
            let (a, b) = (logits(&graph, &weights, &clips), logits(&folded, &rest, &clips));
            let apart = f64::try_from((&a - &b).abs().max() / a.abs().max()).unwrap();
            assert!(apart < 1e-4, "{arch}: {apart}");
        }
    }

    #[test]
    fn a_norm_on_its_own_is_refused() {
        let (mut graph, clip) = Graph::new([2, 2, 8, 8]);
        let x = graph.push("alone", Op::BatchNorm { eps: 1e-5 }, &[clip]).unwrap();
        let x = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
        graph.push("head", Op::dense(2), &[x]).unwrap();
        let net = crate::interpreter::Net::new(graph, tch::Device::Cpu, 1).unwrap();
        let error = fold(net.graph(), &net.weights().unwrap()).unwrap_err().to_string();
        assert!(error.contains("'alone'") && error.contains("--int8"), "{error}");
    }
}
