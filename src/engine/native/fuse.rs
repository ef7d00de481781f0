//! From a graph to a network: it is simplified (batch norms are folded), and what follows a convolution (quantisation, a residual sum, an
//! activation) is fused into it. What cannot be run as it stands is refused by name.

mod simple;

use ndarray::ArrayD;

use super::kernels::{Extents, Residual, Span};
use super::layers::{ConvArithmetic, ConvLayer, Layer, Network, Origin, Value, Work};
use crate::model::graph::{
    Binary, CHANNELS_AND_COLUMNS, CHANNELS_LAST, Conv, Dense, Element, Graph, Node, Op, Quantization, Slice, Unary,
    Weights, bias_steps, steps,
};
use crate::model::passes;
use crate::{Error, ErrorKind, Result};

/// The largest factor between two quantised values: beyond, a difference of one would overflow.
const MAX_FACTOR: f32 = 65536.0;

fn refuse<T>(node: &Node, why: impl std::fmt::Display) -> Result<T> {
    let op = &node.op;
    Err(Error::new(ErrorKind::Engine, format_args!("engine native: node '{}' ({op}): {why}", node.name)))
}

/// The network that computes what `graph` does with `weights`.
///
/// # Errors
/// `Model` when the weights do not fit, `Engine` naming the node that the engine cannot run as it stands.
pub fn fuse(graph: &Graph, weights: &Weights) -> Result<Network> {
    let (graph, weights) = &passes::simplify(graph, weights)?;
    let mut readers = vec![Vec::new(); graph.nodes().len()];
    for (value, node) in graph.values() {
        node.inputs.iter().for_each(|input| readers[input.index()].push(value.index()));
    }
    let (outputs, states) = (graph.outputs(), graph.states());
    let Some((_, output)) = outputs.first().filter(|_| outputs.len() == 1 + states.len()) else {
        let why = "engine native: a model has one output, the logits, and the next value of each state";
        return Err(Error::new(ErrorKind::Engine, why));
    };
    // An output is read from outside.
    outputs.iter().for_each(|(_, value)| readers[value.index()].push(usize::MAX));
    let mut fuser = Fuser {
        graph,
        weights,
        readers,
        places: vec![None; graph.nodes().len()],
        fused: vec![false; graph.nodes().len()],
        network: Network { values: vec![], layers: vec![] },
    };
    for index in 0..graph.nodes().len() {
        if !fuser.fused[index] {
            fuser.node(index)?;
        }
    }
    for (state, next) in states {
        fuser.join(state.index(), next.index())?;
    }
    let last = fuser.places[output.index()];
    let whole = fuser.network.layers.last().map(|layer| layer.output);
    let node = graph.node(*output);
    if last.is_none() || last != whole {
        return refuse(node, "the output is not what the last layer computes");
    }
    match last.map(|last| &fuser.network.values[last]) {
        Some(value) if value.quantized.is_none() && value.shape[1..] == [1; 3] => Ok(fuser.network),
        _ => refuse(node, "the output is not a vector of f32"),
    }
}

struct Fuser<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    /// The nodes that read each node's value.
    readers: Vec<Vec<usize>>,
    /// The value that holds each node's result. A Dequantize is the value that it reads.
    places: Vec<Option<usize>>,
    /// Nodes that are part of a layer that was made for an earlier node.
    fused: Vec<bool>,
    network: Network,
}

/// What follows a convolution and is fused into it.
struct Tail {
    /// The node whose result the layer computes.
    end: usize,
    /// Clamp of the convolution's own result.
    clamp: (f32, f32),
    quantized: Option<Quantized>,
    residual: Option<Added>,
}

/// A residual sum: the value that is added, the clamp of the sum, and what it is quantised to.
struct Added {
    value: usize,
    clamp: (f32, f32),
    quantized: Option<Quantized>,
}

/// Scale and zero point of a u8. An i8 is the same with 128 more.
type Quantized = (f32, i32);

const FREE: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// The whole numbers without the zero point that stand for reals in `clamp`.
fn span((scale, zero): Quantized, clamp: (f32, f32)) -> Span {
    let (low, high) = (-zero as f32, (255 - zero) as f32);
    let to = |x: f32| (x / scale).round_ties_even().clamp(low, high);
    Span { low: to(clamp.0), high: to(clamp.1), zero }
}

impl Fuser<'_> {
    fn node_at(&self, index: usize) -> &Node {
        &self.graph.nodes()[index]
    }

    fn parameter(&self, node: &Node, suffix: &str) -> Option<&ArrayD<f32>> {
        self.weights.get(&format!("{}.{suffix}", node.name))
    }

    /// The one node that reads `index`'s value, if there is just one.
    fn reader(&self, index: usize) -> Option<usize> {
        match self.readers[index].as_slice() {
            [one] if *one != usize::MAX => Some(*one),
            _ => None,
        }
    }

    fn input(&self, node: &Node, n: usize) -> Result<usize> {
        match node.inputs.get(n).and_then(|value| self.places[value.index()]) {
            Some(place) => Ok(place),
            None => refuse(node, "what it reads is not computed on its own: the engine cannot run this sequence"),
        }
    }

    /// Adds the layer for `node` and what is fused behind it; the result is that of the node `end`.
    fn layer(
        &mut self,
        index: usize,
        end: usize,
        work: Work,
        inputs: Vec<usize>,
        quantized: Option<Quantized>,
    ) -> Result<()> {
        let (node, last) = (self.node_at(index), self.node_at(end));
        let shape = match last.shape[..] {
            [1, c, t, h, w] => [c, t, h, w],
            [1, c] => [c, 1, 1, 1],
            _ => return refuse(last, format_args!("shape {:?}, [1, C, T, H, W] or [1, C] wanted", last.shape)),
        };
        let layer = Layer {
            name: node.name.clone(),
            work,
            inputs,
            output: self.network.values.len(),
            macs: self.graph.node_macs(node),
        };
        self.network.values.push(Value { shape, quantized, origin: Origin::Computed });
        self.places[end] = Some(layer.output);
        self.network.layers.push(layer);
        Ok(())
    }

    /// Makes the value of the node `end`, which is where `origin` says, in the shape of that node.
    fn view(&mut self, end: usize, origin: Origin, quantized: Option<Quantized>) -> Result<()> {
        let node = self.node_at(end);
        let [1, c, t, h, w] = node.shape[..] else {
            return refuse(node, format_args!("shape {:?}, [1, C, T, H, W] wanted", node.shape));
        };
        self.places[end] = Some(self.network.values.len());
        self.network.values.push(Value { shape: [c, t, h, w], quantized, origin });
        Ok(())
    }

    /// Says of the state `state` that it is the value of `next` a frame before.
    fn join(&mut self, state: usize, next: usize) -> Result<()> {
        let computed = |of: &usize| self.network.values[*of].origin == Origin::Computed;
        let (Some(view), Some(of)) = (self.places[state], self.places[next].filter(computed)) else {
            return refuse(self.node_at(state), "its next value is not computed on its own");
        };
        if self.network.values[view].quantized != self.network.values[of].quantized {
            return refuse(self.node_at(state), "its next value is not quantised as it is read");
        }
        self.network.values[view].origin = Origin::Before(of);
        Ok(())
    }

    fn node(&mut self, index: usize) -> Result<()> {
        let node = self.node_at(index);
        match &node.op {
            Op::Input if index > 0 => {
                let known = self.graph.states().iter().any(|(state, _)| state.index() == index);
                if !known || node.element != Element::F32 || node.shape.get(2) != Some(&1) {
                    return refuse(node, "besides the clip there are only states, f32, [1, C, 1, H, W]");
                }
                let (end, quantized) = self.quantize(index);
                // Of which value is only known at the end: see `join`.
                self.view(end, Origin::Before(self.network.values.len()), quantized)?;
                self.places[index] = self.places[end];
                Ok(())
            }
            Op::Input => {
                if node.element != Element::F32 || node.shape.len() != 5 {
                    return refuse(node, "a model has one input, f32, [1, C, T, H, W]");
                }
                let (end, quantized) = self.quantize(index);
                self.layer(index, end, Work::Load, vec![], quantized)
            }
            // Some channels of the clip. What is computed in floats may differ in the last bit from kernels to kernels, and
            // integers made of it by a whole step.
            Op::Quantize(q) => {
                let (place, to) = (self.input(node, 0)?, per_tensor(node, q)?);
                let clip = self.network.layers.first().map(|load| (load.output, false));
                let (root, _, before) = self.network.root(place);
                if clip != Some((root, before)) || self.network.values[place].quantized.is_some() {
                    return refuse(node, "only the clip and what layers of integers compute is quantised");
                }
                let same = Work::Unary(Unary::Clip { min: FREE.0, max: FREE.1 });
                self.layer(index, index, same, vec![place], Some(to))
            }
            Op::Dequantize(q) => {
                let place = self.input(node, 0)?;
                if self.network.values[place].quantized != Some(per_tensor(node, q)?) {
                    return refuse(node, "it does not undo the quantisation of what it reads");
                }
                self.places[index] = Some(place);
                Ok(())
            }
            Op::Conv(conv) => self.conv(index, &conv.clone()),
            Op::Dense(dense) => self.dense(index, *dense),
            Op::Pool(pool) => self.pool(index, &pool.clone()),
            Op::Mean { axes, .. } if *axes == [2, 3, 4] => self.mean(index),
            Op::Concat { axis: 1 } => {
                let inputs = (0..node.inputs.len()).map(|n| self.input(node, n)).collect::<Result<_>>()?;
                self.unchanged(index, Work::Concat, inputs)
            }
            Op::Pad(pad) if pad.value == 0.0 && pad.pad.iter().enumerate().all(|(n, p)| n == 1 || *p == (0, 0)) => {
                let before = pad.pad[1].0;
                self.unchanged(index, Work::Widen(before), vec![self.input(node, 0)?])
            }
            &Op::Slice(Slice { axis: 1, start, step: 1, .. }) => {
                let place = self.input(node, 0)?;
                let quantized = self.network.values[place].quantized;
                self.view(index, Origin::Part(place, start), quantized)?;
                // Functions of elements read some channels of a value where they are, others want frames of their own.
                let functions = |reader: &usize| {
                    let op = self.graph.nodes().get(*reader).map(|node| &node.op);
                    matches!(op, Some(Op::Unary(_) | Op::Binary(_) | Op::Quantize(_) | Op::Concat { .. }))
                };
                match self.places[index] {
                    Some(part) if !self.readers[index].iter().all(functions) => {
                        self.layer(index, index, Work::Concat, vec![part], quantized)
                    }
                    _ => Ok(()),
                }
            }
            Op::Transpose(order) if order[..] == CHANNELS_LAST => self.layer_norm(index),
            Op::Transpose(order) if order[..] == CHANNELS_AND_COLUMNS => self.column_norm(index),
            Op::BatchNorm { .. } => {
                let (factor, offset) = self.affine(node)?;
                self.map(index, Work::Affine { factor, offset })
            }
            &Op::Unary(function) => self.map(index, Work::Unary(function)),
            &Op::Binary(function) => self.map(index, Work::Binary(function)),
            Op::Reshape(shape) if matches!(shape[..], [1, _]) => {
                // The mean's kept axes are flattened away.
                let place = self.input(node, 0)?;
                if self.network.values[place].shape[1..] != [1; 3] {
                    return refuse(node, "only the mean's axes can be left out");
                }
                self.places[index] = Some(place);
                Ok(())
            }
            _ => refuse(node, "this operation is not supported here: choose --engine tract"),
        }
    }

    /// A Quantize that alone reads `index`, taken as part of its layer: the node that the layer ends in, and to what.
    fn quantize(&mut self, index: usize) -> (usize, Option<Quantized>) {
        if let Some(next) = self.reader(index)
            && let Op::Quantize(q) = &self.node_at(next).op
            && let Ok(quantized) = per_tensor(self.node_at(next), q)
        {
            self.fused[next] = true;
            return (next, Some(quantized));
        }
        (index, None)
    }

    /// Activations that alone read `index` and one another, taken as part of its layer.
    fn clamp(&mut self, mut index: usize) -> (usize, (f32, f32)) {
        let mut clamp = FREE;
        while let Some(next) = self.reader(index) {
            let (low, high) = match self.node_at(next).op {
                Op::Unary(Unary::Relu) => (0.0, f32::INFINITY),
                Op::Unary(Unary::Clip { min, max }) if min <= max => (min, max),
                _ => break,
            };
            clamp = (clamp.0.clamp(low, high), clamp.1.clamp(low, high));
            self.fused[next] = true;
            index = next;
        }
        (index, clamp)
    }

    /// Takes what follows the convolution `index`.
    fn tail(&mut self, index: usize) -> Tail {
        let (end, clamp) = self.clamp(index);
        let (end, quantized) = self.quantize(end);
        let mut tail = Tail { end, clamp, quantized, residual: None };
        // A sum follows directly, or behind a Dequantize.
        let mut at = end;
        let mut passed = None;
        if quantized.is_some() {
            let undone = self.reader(at).filter(|next| {
                let node = self.node_at(*next);
                matches!(&node.op, Op::Dequantize(q) if per_tensor(node, q).ok() == quantized)
            });
            let Some(next) = undone else { return tail };
            (at, passed) = (next, Some(next));
        } else if clamp != FREE {
            return tail;
        }
        let Some(sum) = self.reader(at).filter(|next| self.node_at(*next).op == Op::Binary(Binary::Add)) else {
            return tail;
        };
        let other = self.node_at(sum).inputs.iter().find(|value| value.index() != at).copied();
        let Some(value) = other.and_then(|other| self.places[other.index()]) else { return tail };
        let same = other.is_some_and(|other| self.graph.node(other).shape == self.node_at(at).shape)
            && self.network.values[value].origin == Origin::Computed;
        if !same || self.network.values[value].quantized.is_some() != quantized.is_some() {
            return tail;
        }
        let fused = self.fused.clone();
        let (end, clamp) = self.clamp(sum);
        let (end, to) = self.quantize(end);
        if to.is_some() != quantized.is_some() {
            // A sum of integers that is not quantised: not ours.
            self.fused = fused;
            return tail;
        }
        self.fused[sum] = true;
        if let Some(passed) = passed {
            self.fused[passed] = true;
        }
        tail.end = end;
        tail.residual = Some(Added { value, clamp, quantized: to });
        tail
    }

    fn conv(&mut self, index: usize, conv: &Conv) -> Result<()> {
        let node = self.node_at(index);
        if node.shape.len() != 5 || conv.groups != 1 {
            return refuse(node, "only convolutions over T, H, W without groups run here: choose --engine tract");
        }
        let extents = extents(&conv.kernel, &conv.stride, &conv.dilation, &conv.pad);
        self.product(index, extents, (conv.channels, conv.bias, conv.quantized))
    }

    fn dense(&mut self, index: usize, dense: Dense) -> Result<()> {
        let node = self.node_at(index);
        let input = self.input(node, 0)?;
        let integers = dense.quantized && self.network.values[input].quantized.is_some();
        let followed = self.reader(index).is_some_and(|next| {
            matches!(self.node_at(next).op, Op::Quantize(_) | Op::Unary(Unary::Relu | Unary::Clip { .. }))
        });
        if integers && !followed {
            let (scale_x, zero) = self.network.values[input].quantized.unwrap_or((1.0, 0));
            let (weights, begin, scales) = self.integers(index, (scale_x, zero), (dense.features, dense.bias))?;
            let scale = scales.iter().map(|s| (f64::from(scale_x) * f64::from(*s)) as f32).collect();
            return self.layer(index, index, Work::Logits { weights, begin, scale }, vec![input], None);
        }
        let extents = Extents { kernel: [1; 3], stride: [1; 3], dilation: [1; 3], pad: [(0, 0); 3] };
        self.product(index, extents, (dense.features, dense.bias, dense.quantized))
    }

    /// The integer weights of `index`, its bias without the input's zero point, and the weights' scales.
    fn integers(
        &self,
        index: usize,
        (scale_x, zero): Quantized,
        (rows, bias): (usize, bool),
    ) -> Result<(Vec<i8>, Vec<i32>, Vec<f32>)> {
        let node = self.node_at(index);
        let (Some(weight), Some(scales)) = (self.parameter(node, "weight"), self.parameter(node, "weight_scale"))
        else {
            return refuse(node, "its weights are not quantised, but what it reads is");
        };
        let bias = if bias { self.parameter(node, "bias") } else { None };
        let (mut weights, mut begin) = (Vec::with_capacity(weight.len()), Vec::with_capacity(rows));
        let scales: Vec<f32> = scales.iter().copied().collect();
        for (n, (row, scale)) in weight.outer_iter().zip(&scales).enumerate() {
            let first = weights.len();
            for value in row.iter() {
                match steps(*value, *scale) {
                    Some(step) => weights.push(step),
                    None => return refuse(node, format_args!("weight {value} is no i8 times {scale}")),
                }
            }
            let offset = match bias.and_then(|bias| bias.iter().nth(n)) {
                Some(bias) => match bias_steps(*bias, scale_x, *scale) {
                    Some(steps) => i64::from(steps),
                    None => return refuse(node, format_args!("bias {bias} is too large")),
                },
                None => 0,
            };
            let (sum, total) = weights[first..]
                .iter()
                .fold((0_i64, 0_i64), |(sum, total), w| (sum + i64::from(*w), total + i64::from(w.unsigned_abs())));
            let start = offset - i64::from(zero) * sum;
            if start.abs() + 255 * total > i64::from(i32::MAX) {
                return refuse(node, format_args!("sums of channel {n} do not fit 32 bits"));
            }
            begin.push(start as i32);
        }
        Ok((weights, begin, scales))
    }

    /// A convolution or dense layer and its tail.
    fn product(
        &mut self,
        index: usize,
        extents: Extents,
        (rows, has_bias, quantized): (usize, bool, bool),
    ) -> Result<()> {
        let node = self.node_at(index);
        let input = self.input(node, 0)?;
        let given = self.network.values[input].quantized;
        let mut inputs = vec![input];
        if given.is_none() || !quantized {
            if given.is_some() {
                return refuse(node, "its weights are not quantised, but what it reads is");
            }
            let (Some(weight), bias) = (self.parameter(node, "weight"), self.parameter(node, "bias")) else {
                return refuse(node, "it has no weights");
            };
            let weights: Vec<f32> = weight.iter().copied().collect();
            let bias = bias.filter(|_| has_bias).map_or(vec![0.0; rows], |bias| bias.iter().copied().collect());
            let tail = self.tail(index);
            if tail.quantized.is_some() {
                return refuse(self.node_at(index), "a float layer whose result is quantised is not supported");
            }
            let mut clamp = tail.clamp;
            if let Some(added) = &tail.residual {
                inputs.push(added.value);
                clamp = added.clamp;
            }
            let arithmetic = ConvArithmetic::Float { weights, bias, span: clamp };
            let work = Work::Conv(ConvLayer { extents, arithmetic });
            return self.layer(index, tail.end, work, inputs, None);
        }
        let from = given.unwrap_or((1.0, 0));
        let (weights, begin, scales) = self.integers(index, from, (rows, has_bias))?;
        let tail = self.tail(index);
        let node = self.node_at(index);
        let Some(to) = tail.quantized else {
            return refuse(node, "its result is not quantised, so it would run in float");
        };
        let scale: Vec<f32> =
            scales.iter().map(|s| (f64::from(from.0) * f64::from(*s) / f64::from(to.0)) as f32).collect();
        if let Some(bad) = scale.iter().find(|m| !m.is_finite() || **m <= 0.0) {
            return refuse(node, format_args!("a factor of {bad} from its sums to its result"));
        }
        let mut result = to;
        let residual = match &tail.residual {
            Some(added) => {
                let (Some(other), Some(sum)) = (self.network.values[added.value].quantized, added.quantized) else {
                    return refuse(node, "what is added is not quantised");
                };
                let (own, factor) = (to.0 / sum.0, other.0 / sum.0);
                if !(own <= MAX_FACTOR && factor <= MAX_FACTOR) {
                    return refuse(
                        node,
                        format_args!("the scales {}, {} and {} are too far apart", to.0, other.0, sum.0),
                    );
                }
                inputs.push(added.value);
                result = sum;
                Some(Residual { own, other: factor, other_zero: other.1, span: span(sum, added.clamp) })
            }
            None => None,
        };
        let arithmetic = ConvArithmetic::Int8 { weights, begin, scale, span: span(to, tail.clamp), residual };
        let work = Work::Conv(ConvLayer { extents, arithmetic });
        self.layer(index, tail.end, work, inputs, Some(result))
    }
}

/// What windows over T, H, W see.
fn extents(kernel: &[usize], stride: &[usize], dilation: &[usize], pad: &[(usize, usize)]) -> Extents {
    let three = |list: &[usize]| std::array::from_fn(|axis| list[axis]);
    let pad = std::array::from_fn(|axis| pad[axis]);
    Extents { kernel: three(kernel), stride: three(stride), dilation: three(dilation), pad }
}

/// Scale and zero point as those of a u8.
fn per_tensor(node: &Node, q: &Quantization) -> Result<Quantized> {
    let ([scale], [zero]) = (&q.scale[..], &q.zero_point[..]) else {
        return refuse(node, "an activation has one scale, not one per channel");
    };
    match q.element {
        Element::U8 => Ok((*scale, *zero)),
        Element::I8 => Ok((*scale, *zero + 128)),
        Element::F32 => refuse(node, "quantised to f32"),
    }
}
