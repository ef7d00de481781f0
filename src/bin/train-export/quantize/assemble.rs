//! The quantised graph: a Quantize and a Dequantize after every value that integers are to stand for, and weights that are
//! an i8 times a scale.

use std::collections::BTreeSet;

use kinora::model::graph::{Binary, Conv, Dense, Graph, Node, Op, Unary, Value, Weights, bias_steps};
use kinora::{Error, ErrorKind, Result};
use ndarray::{ArrayD, Axis, IxDyn};

use super::ranges::Ranges;

/// The least multiplier from sums to an output's steps that engines take: below it a sum that is too large for f32 might
/// not saturate.
const LEAST_MULTIPLIER: f64 = 1.0 / 65536.0;
/// The most steps of a bias: f32 still tells them apart.
const MOST_BIAS_STEPS: f64 = (1 << 22) as f64;

fn refuse(name: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Model, format_args!("graph node '{name}': {why}"))
}

/// The node that reads `value`, if only one does.
fn follower(graph: &Graph, value: Value) -> Option<&Node> {
    let mut readers = graph.nodes().iter().filter(|node| node.inputs.contains(&value));
    readers.next().filter(|_| readers.next().is_none())
}

/// Which values of `graph` are computed in floats: states, and functions of elements that have no form in integers, such as
/// the gates of an LSTM. What an engine with integers does not know it computes as these formulas say.
fn in_floats(graph: &Graph) -> Vec<bool> {
    let mut floats = Vec::with_capacity(graph.nodes().len());
    for (value, node) in graph.values() {
        let reads = || node.inputs.iter().any(|input| floats[input.index()]);
        floats.push(match &node.op {
            Op::Input => value.index() > 0,
            Op::Slice(_) | Op::Binary(Binary::Sub | Binary::Mul) | Op::Transpose(_) => true,
            // A batch norm that a convolution could take in is not here any more.
            Op::LayerNorm { .. } | Op::BatchNorm { .. } => true,
            Op::Unary(function) => *function != Unary::Relu || reads(),
            Op::Binary(Binary::Add) => reads(),
            _ => false,
        });
    }
    floats
}

/// The logits of `graph`: its output, and what that only joins. They stay floats.
fn logits(graph: &Graph) -> Vec<Value> {
    let outputs = graph.outputs().into_iter().take(1).map(|(_, output)| output);
    outputs
        .flat_map(|output| match &graph.node(output) {
            Node { op: Op::Concat { .. }, inputs, .. } => [vec![output], inputs.clone()].concat(),
            _ => vec![output],
        })
        .collect()
}

/// The nodes of `graph` whose values are to be quantised: all but the logits, what only a ReLU reads (that is cut off at zero
/// before it is rounded), and what is computed in floats and read by nothing that wants integers. A state is quantised as its
/// next value is.
pub fn places(graph: &Graph) -> BTreeSet<String> {
    let (floats, logits) = (in_floats(graph), logits(graph));
    let moves = |op: &Op| matches!(op, Op::Pool(_) | Op::Concat { .. } | Op::Pad(_));
    let wants = |node: &Node| moves(&node.op) || matches!(node.op, Op::Conv(_) | Op::Dense(_) | Op::Mean { .. });
    let read = |value: Value| graph.nodes().iter().any(|node| wants(node) && node.inputs.contains(&value));
    let states = graph.states();
    let quantized = |value: Value| {
        let relu = follower(graph, value).is_some_and(|next| next.op == Op::Unary(Unary::Relu));
        let same = states.iter().filter(|(state, next)| [*state, *next].contains(&value));
        let integers = || read(value) || same.flat_map(|(state, next)| [*state, *next]).any(read);
        !logits.contains(&value) && !relu && (!floats[value.index()] || integers())
    };
    graph.values().filter(|(value, _)| quantized(*value)).map(|(_, node)| node.name.clone()).collect()
}

/// `graph`, without batch norms, with every value of `ranges` quantised, and its weights rounded. The bias of a
/// convolution or dense layer is a whole number of steps of `scale of input * scale of weights`.
///
/// # Errors
/// `Model` when an operation has no form in integers, naming the node.
pub fn assemble(graph: &Graph, weights: &Weights, ranges: &Ranges) -> Result<(Graph, Weights)> {
    let [_, c, t, h, w] = *graph.input_shape() else {
        return Err(Error::new(ErrorKind::Model, "a net from a clip [1, C, T, H, W] wanted"));
    };
    let (mut quantized, clip) = Graph::new([c, t, h, w]);
    let (mut made, mut rounded): (Vec<Value>, Weights) = (vec![], Weights::new());
    for (value, node) in graph.values() {
        let inputs: Vec<Value> = node.inputs.iter().map(|input| made[input.index()]).collect();
        let op = match &node.op {
            Op::Conv(conv) if conv.groups == 1 => Op::Conv(Conv { bias: true, quantized: true, ..conv.clone() }),
            Op::Dense(dense) => Op::Dense(Dense { bias: true, quantized: true, ..*dense }),
            Op::Pool(_)
            | Op::Concat { .. }
            | Op::Pad(_)
            | Op::Input
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Slice(_)
            | Op::LayerNorm { .. }
            | Op::BatchNorm { .. }
            | Op::Transpose(_)
            | Op::Mean { .. } => node.op.clone(),
            other => {
                return Err(refuse(&node.name, format_args!("'{other}' has no form in integers: leave --int8 out")));
            }
        };
        if matches!(op, Op::Conv(_) | Op::Dense(_)) {
            rounded.extend(round(graph, value, node, weights, ranges)?);
        }
        if let Op::LayerNorm { .. } | Op::BatchNorm { .. } = op {
            let parameters = graph.node_parameters(node).into_iter();
            rounded.extend(parameters.filter_map(|p| Some((p.name.clone(), weights.get(&p.name)?.clone()))));
        }
        let mut x = match op {
            Op::Input if value.index() == 0 => clip,
            Op::Input => quantized.input(node.name.clone(), node.element, &node.shape)?,
            _ => quantized.push(node.name.clone(), op, &inputs)?,
        };
        if let Some(q) = ranges.get(&node.name) {
            x = quantized.push(format!("{}.quantize", node.name), Op::Quantize(q.clone()), &[x])?;
            x = quantized.push(format!("{}.dequantize", node.name), Op::Dequantize(q.clone()), &[x])?;
        }
        made.push(x);
    }
    quantized.set_outputs(graph.outputs().into_iter().map(|(name, value)| (name, made[value.index()])).collect())?;
    quantized.check(&rounded)?;
    Ok((quantized, rounded))
}

/// The parameters of a convolution or dense layer, rounded.
fn round(graph: &Graph, value: Value, node: &Node, weights: &Weights, ranges: &Ranges) -> Result<Weights> {
    let name = |suffix: &str| format!("{}.{suffix}", node.name);
    let input = &graph.node(node.inputs[0]).name;
    let scale_in =
        ranges.get(input).ok_or_else(|| refuse(&node.name, format_args!("its input '{input}' is in floats")))?;
    let scale_in = scale_in.scale[0];
    // The scale of what leaves it, after its ReLU if it has one; logits have none.
    let relu = follower(graph, value).filter(|next| next.op == Op::Unary(Unary::Relu));
    let scale_out = ranges.get(&node.name).or(relu.and_then(|relu| ranges.get(&relu.name))).map(|q| q.scale[0]);
    let weight = weights.get(&name("weight")).ok_or_else(|| refuse(&node.name, "it has no weights"))?;
    let bias = weights.get(&name("bias")).cloned().unwrap_or_else(|| ArrayD::zeros(IxDyn(&weight.shape()[..1])));
    let (mut kernel, mut scales) = (weight.clone(), bias.clone());
    for (channel, mut part) in kernel.axis_iter_mut(Axis(0)).enumerate() {
        let largest = part.iter().fold(0f32, |max, w| max.max(w.abs()));
        // A channel of hardly any weights would need steps so small that its bias or its multiplier goes out of range.
        let least = scale_out.map_or(0.0, |out| 1.01 * LEAST_MULTIPLIER * f64::from(out) / f64::from(scale_in));
        let for_bias = f64::from(bias[channel].abs()) / f64::from(scale_in) / MOST_BIAS_STEPS;
        let scale = (f64::from(largest) / 127.0).max(least).max(for_bias).max(1e-30) as f32;
        part.mapv_inplace(|w| (w / scale).round_ties_even().clamp(-127.0, 127.0) * scale);
        scales[channel] = scale;
    }
    let biases: Option<Vec<f32>> =
        bias.iter().zip(&scales).map(|(b, scale)| whole_bias(f64::from(*b), scale_in, *scale)).collect();
    let biases = biases.ok_or_else(|| refuse(&node.name, "a bias is out of range"))?;
    let biases = ArrayD::from_shape_vec(bias.raw_dim(), biases).map_err(|why| refuse(&node.name, why))?;
    Ok([(name("weight"), kernel), (name("bias"), biases), (name("weight_scale"), scales)].into())
}

/// The bias nearest to `bias` that is a whole number of steps, as f32.
pub fn whole_bias(bias: f64, scale_in: f32, scale: f32) -> Option<f32> {
    bias_steps(bias as f32, scale_in, scale).map(|steps| steps as f32 * (scale_in * scale))
}

/// Refuses `graph` unless every operation between clip and logits that has a form in integers computes in them: reads
/// quantised values and, but for the last, is quantised; and unless its multipliers are in range.
///
/// # Errors
/// `Model`, naming the node that would run in floats.
pub fn check_integer(graph: &Graph, weights: &Weights) -> Result<()> {
    let (floats, logits) = (in_floats(graph), logits(graph));
    for (value, node) in graph.values() {
        let float = |why: &str| refuse(&node.name, format_args!("'{}' would run in floats: {why}", node.op));
        let scale_of = |value: Value| match &graph.node(value).op {
            Op::Dequantize(q) => Some(q.scale[0]),
            _ => None,
        };
        let relu = |value: Value| follower(graph, value).filter(|next| next.op == Op::Unary(Unary::Relu));
        match &node.op {
            Op::Input | Op::Quantize(_) | Op::Dequantize(_) => continue,
            Op::Concat { .. } if logits.contains(&value) => continue,
            _ if floats[value.index()] => continue,
            Op::Unary(Unary::Relu) => {}
            Op::Conv(Conv { quantized: false, .. }) | Op::Dense(Dense { quantized: false, .. }) => {
                return Err(float("its weights are no integers"));
            }
            _ => {
                if !node.inputs.iter().all(|input| scale_of(*input).is_some()) {
                    return Err(float("it reads a value that is not quantised"));
                }
            }
        }
        let quantize = |node: Option<&Node>| match node.map(|node| &node.op) {
            Some(Op::Quantize(q)) => Some(q.scale[0]),
            _ => None,
        };
        let out = quantize(follower(graph, value)).or_else(|| {
            let relu = relu(value)?;
            let (relu, _) = graph.values().find(|(_, node)| node.name == relu.name)?;
            quantize(follower(graph, relu))
        });
        let Some(out) = out else {
            if logits.contains(&value) && matches!(node.op, Op::Dense(_)) {
                continue;
            }
            return Err(float("its result is not quantised"));
        };
        if let (Op::Conv(_) | Op::Dense(_), Some(scale_in)) = (&node.op, scale_of(node.inputs[0])) {
            let scales = weights.get(&format!("{}.weight_scale", node.name));
            for scale in scales.ok_or_else(|| float("it has no scales"))? {
                if f64::from(scale_in * scale / out) < LEAST_MULTIPLIER {
                    return Err(refuse(
                        &node.name,
                        format_args!("its multiplier {:e} is too small", scale_in * scale / out),
                    ));
                }
            }
        }
    }
    Ok(())
}
