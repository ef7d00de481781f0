//! The plain definition of every operation: any graph on f32, u8 and i8, by simple loops, one thread, slow. What every fast
//! path is tested against, and what folds constants. It lies in `model`, because the passes over graphs use it, too.
//!
//! Elements are held as f64, in which f32, u8 and i8 are exact; a node's result is rounded once to its element type. Sums are
//! f64 sums, so fast paths that sum in f32 differ from it by their own rounding only. Quantize and Dequantize divide and
//! multiply in f32, as their formula says, and sigmoid and tanh are those of [`functions`], so that their results are the same
//! everywhere.

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tract;
mod windows;

use ndarray::{ArrayD, Axis, IxDyn};

use super::functions;
use super::graph::{
    Binary, Coordinates, Element, Graph, Node, Op, Pad, Parameter, Quantization, Resize, Unary, Value, Weights,
};
use crate::{Error, ErrorKind, Result};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The type that its elements are exact in.
    pub element: Element,
    /// The elements, in row-major order.
    pub values: ArrayD<f64>,
}

impl From<ArrayD<f32>> for Tensor {
    fn from(array: ArrayD<f32>) -> Self {
        Self { element: Element::F32, values: array.mapv(f64::from) }
    }
}

impl Tensor {
    /// The elements as f32.
    pub fn to_f32(&self) -> ArrayD<f32> {
        self.values.mapv(|x| x as f32)
    }
}

/// The outputs of `graph` for `inputs`, one for each input node in their order.
///
/// # Errors
/// `Model` when weights or inputs do not fit the graph, naming the parameter or input.
pub fn run(graph: &Graph, weights: &Weights, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    graph.check(weights)?;
    let outputs: Vec<Value> = graph.outputs().into_iter().map(|(_, value)| value).collect();
    let mut readers = vec![0usize; graph.nodes().len()];
    for value in graph.nodes().iter().flat_map(|node| &node.inputs).chain(&outputs) {
        readers[value.index()] += 1;
    }
    let mut given = inputs.iter();
    let mut values: Vec<Option<Tensor>> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let refuse = |why: &dyn std::fmt::Display| Error::new(ErrorKind::Model, format_args!("'{}': {why}", node.name));
        if node.op == Op::Input {
            let input = given.next().ok_or_else(|| refuse(&"this input is missing"))?;
            if input.values.shape() != node.shape || input.element != node.element {
                let given = (input.element, input.values.shape());
                return Err(refuse(&format_args!("{} {:?} wanted, {given:?} given", node.element, node.shape)));
            }
            values.push(Some(input.clone()));
            continue;
        }
        let read: Option<Vec<&Tensor>> = node.inputs.iter().map(|value| values[value.index()].as_ref()).collect();
        let read = read.ok_or_else(|| refuse(&"a value was freed too early"))?;
        values.push(Some(evaluate(graph, node, weights, &read)?));
        for value in &node.inputs {
            readers[value.index()] -= 1;
            if readers[value.index()] == 0 {
                values[value.index()] = None;
            }
        }
    }
    if given.next().is_some() {
        return Err(Error::new(ErrorKind::Model, "more inputs given than the graph has"));
    }
    let missing = || Error::new(ErrorKind::Internal, "an output was freed too early");
    outputs.iter().map(|value| values[value.index()].clone().ok_or_else(missing)).collect()
}

/// The result of `node` on the values that it reads.
///
/// # Errors
/// `Model` when a value or parameter has not the shape that the graph says.
pub fn evaluate(graph: &Graph, node: &Node, weights: &Weights, inputs: &[&Tensor]) -> Result<Tensor> {
    let refuse = |why: &dyn std::fmt::Display| Error::new(ErrorKind::Model, format_args!("'{}': {why}", node.name));
    let parameter = |parameter: &Parameter| {
        let found = weights.get(&parameter.name).filter(|array| array.shape() == parameter.shape);
        found
            .map(|array| array.mapv(f64::from))
            .ok_or_else(|| refuse(&format_args!("no parameter '{}'", parameter.name)))
    };
    let parameters = graph.node_parameters(node).iter().map(parameter).collect::<Result<Vec<_>>>()?;
    let inputs: Vec<&ArrayD<f64>> = inputs.iter().map(|input| &input.values).collect();
    let wanted = node.inputs.iter().map(|value| &graph.node(*value).shape);
    if inputs.len() != node.inputs.len() || inputs.iter().zip(wanted).any(|(input, shape)| input.shape() != shape) {
        return Err(refuse(&"its inputs have not the shapes that the graph says"));
    }
    let values =
        compute(node, &inputs, &parameters).ok_or_else(|| refuse(&"its result has not the shape of the graph"))?;
    Ok(Tensor { element: node.element, values: rounded(values, node.element) })
}

/// Whole numbers wrap around; only sums, differences and products of bytes can be out of range.
fn rounded(values: ArrayD<f64>, element: Element) -> ArrayD<f64> {
    match element {
        Element::F32 => values.mapv_into(|x| f64::from(x as f32)),
        Element::U8 => values.mapv_into(|x| f64::from(x as i64 as u8)),
        Element::I8 => values.mapv_into(|x| f64::from(x as i64 as i8)),
    }
}

/// The result before it is rounded; none if a shape does not fit, which a checked graph rules out.
fn compute(node: &Node, inputs: &[&ArrayD<f64>], parameters: &[ArrayD<f64>]) -> Option<ArrayD<f64>> {
    let shape = node.shape.as_slice();
    if let Op::Constant(_) = node.op {
        return parameters.first().cloned();
    }
    let x = *inputs.first()?;
    let values = match &node.op {
        Op::Input | Op::Constant(_) => return None,
        Op::Conv(conv) => windows::convolve(x, conv, shape, parameters.first()?, conv.bias.then(|| &parameters[1]))?,
        Op::Dense(dense) => {
            let (weight, bias) = (&parameters[0], dense.bias.then(|| &parameters[1]));
            ArrayD::from_shape_fn(IxDyn(shape), |at| {
                let sum: f64 = (0..x.shape()[1]).map(|c| x[[at[0], c]] * weight[[at[1], c]]).sum();
                sum + bias.map_or(0.0, |bias| bias[at[1]])
            })
        }
        Op::MatMul => product(x, inputs.get(1)?, shape)?,
        Op::BatchNorm { eps } => {
            let [weight, bias, mean, var] = parameters else { return None };
            let mut y = x.clone();
            for (c, channel) in y.axis_iter_mut(Axis(1)).enumerate() {
                let deviation = (var[c] + f64::from(*eps)).sqrt();
                channel.into_iter().for_each(|x| *x = (*x - mean[c]) / deviation * weight[c] + bias[c]);
            }
            y
        }
        Op::LayerNorm { axis, eps } => layer_norm(x, *axis, f64::from(*eps), parameters)?,
        Op::Unary(function) => x.mapv(|x| unary(*function, x)),
        Op::Binary(function) => {
            let (a, b) = (x.broadcast(IxDyn(shape))?, inputs.get(1)?.broadcast(IxDyn(shape))?);
            match function {
                Binary::Add => &a + &b,
                Binary::Sub => &a - &b,
                Binary::Mul => &a * &b,
            }
        }
        Op::Softmax { axis } => softmax(x, *axis),
        Op::Pool(pool) => windows::pool(x, pool, shape)?,
        Op::Mean { axes, .. } => {
            let mut mean = x.clone();
            for &axis in axes {
                mean = mean.sum_axis(Axis(axis)).insert_axis(Axis(axis)) / x.shape()[axis] as f64;
            }
            reshaped(&mean, shape)?
        }
        Op::Concat { axis } => {
            let views: Vec<_> = inputs.iter().map(|input| input.view()).collect();
            ndarray::concatenate(Axis(*axis), &views).ok()?
        }
        Op::Slice(slice) => {
            let places: Vec<usize> = (0..slice.length).map(|i| slice.start + i * slice.step).collect();
            x.select(Axis(slice.axis), &places)
        }
        Op::Reshape(shape) => reshaped(x, shape)?,
        Op::Transpose(order) => x.view().permuted_axes(IxDyn(order)).as_standard_layout().into_owned(),
        Op::Pad(pad) => padded(x, pad, shape),
        Op::Resize(resize) => resized(x, resize),
        Op::Quantize(quantization) => per_channel(x, quantization, |x, scale, zero_point| {
            let (low, high) = quantization.element.range();
            // Saturates; what is not a number becomes zero.
            let steps = (x as f32 / scale).round_ties_even() as i32;
            f64::from(steps.saturating_add(zero_point).clamp(low, high))
        }),
        Op::Dequantize(quantization) => {
            per_channel(x, quantization, |q, scale, zero_point| f64::from((q as i32 - zero_point) as f32 * scale))
        }
    };
    (values.shape() == shape).then_some(values)
}

fn unary(function: Unary, x: f64) -> f64 {
    match function {
        Unary::Relu => x.max(0.0),
        Unary::Clip { min, max } => x.max(f64::from(min)).min(f64::from(max)),
        Unary::Sigmoid => functions::sigmoid(x as f32).into(),
        Unary::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
        Unary::Tanh => functions::tanh(x as f32).into(),
    }
}

fn reshaped(x: &ArrayD<f64>, shape: &[usize]) -> Option<ArrayD<f64>> {
    ArrayD::from_shape_vec(IxDyn(shape), x.iter().copied().collect()).ok()
}

/// `[..., M, K] x [..., K, N]`.
fn product(a: &ArrayD<f64>, b: &ArrayD<f64>, shape: &[usize]) -> Option<ArrayD<f64>> {
    let (batch, inner) = (&shape[..shape.len() - 2], *a.shape().last()?);
    let spread = |x: &ArrayD<f64>| {
        let matrix = &x.shape()[x.ndim() - 2..];
        x.broadcast(IxDyn(&[batch, matrix].concat())).map(|all| all.to_owned())
    };
    let (a, b) = (spread(a)?, spread(b)?);
    Some(ArrayD::from_shape_fn(IxDyn(shape), |at| {
        let at: Vec<usize> = (0..shape.len()).map(|axis| at[axis]).collect();
        let (row, column) = (at[at.len() - 2], at[at.len() - 1]);
        let place = |i: usize, j: usize| [&at[..at.len() - 2], &[i, j]].concat();
        (0..inner).map(|k| a[&place(row, k)[..]] * b[&place(k, column)[..]]).sum()
    }))
}

fn layer_norm(x: &ArrayD<f64>, axis: usize, eps: f64, parameters: &[ArrayD<f64>]) -> Option<ArrayD<f64>> {
    let [weight, bias] = parameters else { return None };
    let count = weight.len();
    let (weight, bias): (Vec<f64>, Vec<f64>) = (weight.iter().copied().collect(), bias.iter().copied().collect());
    let all: Vec<f64> = x.iter().copied().collect();
    let mut y = Vec::with_capacity(all.len());
    for group in all.chunks_exact(count) {
        let mean = group.iter().sum::<f64>() / count as f64;
        let var = group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count as f64;
        y.extend(group.iter().enumerate().map(|(i, x)| (x - mean) / (var + eps).sqrt() * weight[i] + bias[i]));
    }
    debug_assert!(x.shape()[axis..].iter().product::<usize>() == count);
    ArrayD::from_shape_vec(x.raw_dim(), y).ok()
}

fn softmax(x: &ArrayD<f64>, axis: usize) -> ArrayD<f64> {
    let mut y = x.clone();
    for mut lane in y.lanes_mut(Axis(axis)) {
        let largest = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        lane.mapv_inplace(|x| (x - largest).exp());
        let sum = lane.sum();
        lane.mapv_inplace(|x| x / sum);
    }
    y
}

fn padded(x: &ArrayD<f64>, pad: &Pad, shape: &[usize]) -> ArrayD<f64> {
    let mut y = ArrayD::from_elem(IxDyn(shape), f64::from(pad.value));
    for (at, value) in x.indexed_iter() {
        let at: Vec<usize> = pad.pad.iter().enumerate().map(|(axis, pad)| at[axis] + pad.0).collect();
        y[&at[..]] = *value;
    }
    y
}

/// Interpolates one axis after the other.
fn resized(x: &ArrayD<f64>, resize: &Resize) -> ArrayD<f64> {
    let mut y = x.clone();
    for (axis, (&size, &scale)) in resize.size.iter().zip(&resize.scale).enumerate() {
        let extent = y.shape()[axis];
        if size == extent && scale == 1.0 {
            continue;
        }
        let mut shape = y.shape().to_vec();
        shape[axis] = size;
        let mut next = ArrayD::zeros(IxDyn(&shape));
        for (o, mut plane) in next.axis_iter_mut(Axis(axis)).enumerate() {
            let at = position(resize.coordinates, o, extent, size, f64::from(scale));
            let low = at.floor();
            let near = |at: f64| y.index_axis(Axis(axis), at.clamp(0.0, (extent - 1) as f64) as usize);
            plane.assign(&(&near(low) * (1.0 - (at - low)) + &near(low + 1.0) * (at - low)));
        }
        y = next;
    }
    y
}

/// Where element `o` is read; see [`Coordinates`].
fn position(coordinates: Coordinates, o: usize, extent: usize, size: usize, scale: f64) -> f64 {
    let (o, n, m) = (o as f64, extent as f64, size as f64);
    let half_pixel = (o + 0.5) / scale - 0.5;
    match coordinates {
        Coordinates::HalfPixel => half_pixel,
        Coordinates::PytorchHalfPixel if size == 1 => 0.0,
        Coordinates::PytorchHalfPixel => half_pixel,
        Coordinates::HalfPixelSymmetric => half_pixel + n / 2.0 * (1.0 - m / (scale * n)),
        Coordinates::AlignCorners if size == 1 => 0.0,
        Coordinates::AlignCorners => o * (n - 1.0) / (scale * n - 1.0),
        Coordinates::Asymmetric => o / scale,
    }
}

/// Each element with the scale and zero point of its channel.
fn per_channel(x: &ArrayD<f64>, quantization: &Quantization, f: impl Fn(f64, f32, i32) -> f64) -> ArrayD<f64> {
    let Quantization { scale, zero_point, axis, .. } = quantization;
    let mut y = x.clone();
    for (at, value) in y.indexed_iter_mut() {
        let channel = if scale.len() == 1 { 0 } else { at[*axis] };
        *value = f(*value, scale[channel], zero_point[channel]);
    }
    y
}
