//! Random graphs of all operations, for tests of what must hold for any graph, and as seeds of the fuzz targets; and a small
//! bundle.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use fastrand::Rng;
use ndarray::{Array5, ArrayD, IxDyn};

use super::graph::{
    Binary, Conv, Coordinates, Dense, Element, Graph, Op, Pad, Pool, PoolFunction, Quantization, Resize, Role, Slice,
    Unary, Value, Weights,
};
use super::manifest::{self, Activation, Colour, Input, Manifest, Mode, Output, Provenance, Run};
use super::reference::Tensor;
use super::{Bundle, Golden, bundle};

/// Writes a bundle `name` with these `labels` to `dir`. Each label's logit is the brightness of the last 3 planes of 8x8 at
/// 20 Hz, the more of it the later the label.
pub fn small_bundle(dir: &std::path::Path, name: &str, labels: &[&str]) -> Bundle {
    let (mut graph, clip) = Graph::new([1, 3, 8, 8]);
    let mean = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[clip]).unwrap();
    graph.push("head", Op::dense(labels.len()), &[mean]).unwrap();
    let head = (0..labels.len()).map(|n| n as f32).collect();
    let weights = Weights::from([
        ("head.weight".to_owned(), ArrayD::from_shape_vec(IxDyn(&[labels.len(), 1]), head).unwrap()),
        ("head.bias".to_owned(), ArrayD::zeros(IxDyn(&[labels.len()]))),
    ]);
    let input = Input {
        frames: 3,
        height: 8,
        width: 8,
        colour: Colour::Gray,
        frame_rate: 20.0,
        resize: manifest::Resize::Crop,
        mean: vec![0.0],
        std: vec![1.0],
    };
    let manifest = Manifest {
        format: manifest::FORMAT,
        name: name.into(),
        architecture: "test".into(),
        input,
        output: Output { activation: Activation::Softmax, classes: labels.len(), per_frame: false },
        run: Run { mode: Mode::Window, hop: 1 },
        decision: Default::default(),
        quantisation: None,
        sided: vec![],
        provenance: Provenance { licence: "MIT".into(), data: "none".into(), recipe: "by hand".into() },
        measured: vec![],
        sha256: Default::default(),
    };
    let golden =
        Golden { clip: Array5::zeros([1, 1, 3, 8, 8]), logits_f32: vec![0.0; labels.len()], logits_int8: None };
    let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
    let parts = bundle::Parts { manifest, labels: &labels, model: (&graph, &weights), int8: None, golden: &golden };
    bundle::write(dir, parts).unwrap()
}

/// A small graph of random operations on up to two inputs, with one or two outputs. Constants come right before the node
/// that reads them.
pub fn graph(rng: &mut Rng) -> Graph {
    let mut graph = Graph::default();
    let rank = rng.usize(2..6);
    let shape: Vec<usize> = (0..rank).map(|axis| if axis == 0 { rng.usize(1..3) } else { rng.usize(1..7) }).collect();
    let mut values = vec![graph.input("x", Element::F32, &shape).unwrap()];
    if rng.u8(0..4) == 0 {
        let element = if rng.bool() { Element::U8 } else { Element::I8 };
        values.push(graph.input("bytes", element, &shape).unwrap());
    }
    for step in 0..rng.usize(1..14) {
        let x = if rng.bool() { values[values.len() - 1] } else { *rng.choice(&values).unwrap() };
        // What does not fit is refused by the graph, and another is tried.
        let mut added = None;
        for _ in 0..20 {
            added = added.or_else(|| add(rng, &mut graph, &format!("n{step}"), x, &values));
        }
        values.extend(added);
    }
    let last = values[values.len() - 1];
    let mut outputs = vec![("logits".to_owned(), last)];
    if rng.bool() {
        outputs.push(("second".into(), *rng.choice(&values).unwrap()));
    }
    graph.set_outputs(outputs).unwrap();
    graph
}

fn add(rng: &mut Rng, graph: &mut Graph, name: &str, x: Value, values: &[Value]) -> Option<Value> {
    // One that was too large has the name.
    if graph.has(name) {
        return None;
    }
    let shape = graph.node(x).shape.clone();
    let (rank, element) = (shape.len(), graph.node(x).element);
    let axis = rng.usize(0..rank.max(1));
    let other = *rng.choice(values)?;
    let op = match rng.u8(0..19) {
        0 | 1 => Op::Conv(conv(rng, &shape)?),
        2 => Op::BatchNorm { eps: 1e-3 },
        3 => Op::LayerNorm { axis, eps: 1e-3 },
        4 => Op::Unary(unary(rng, element)),
        5 => return graph.push(name, Op::Binary(binary(rng)), &[x, other]).ok(),
        6 if element == Element::F32 => {
            let trailing = &shape[rng.usize(0..=rank)..];
            let constant = trailing.iter().map(|&n| if rng.bool() { n } else { 1 }).collect();
            let constant = graph.push(format!("{name}.constant"), Op::Constant(constant), &[]).ok()?;
            return graph.push(name, Op::Binary(binary(rng)), &[x, constant]).ok();
        }
        7 => Op::Softmax { axis },
        8 => Op::Pool(pool(rng, &shape)?),
        9 => {
            let axes: Vec<usize> = (0..rank).filter(|_| rng.bool()).collect();
            Op::Mean { axes, keep: rng.bool() }
        }
        10 => return graph.push(name, Op::Concat { axis }, &[x, other, x]).ok(),
        11 => {
            let (start, step) = (rng.usize(0..*shape.get(axis)?), rng.usize(1..3));
            Op::Slice(Slice { axis, start, length: rng.usize(1..4), step })
        }
        12 => {
            let cut = rng.usize(0..=rank);
            Op::Reshape(vec![shape[..cut].iter().product(), 1, shape[cut..].iter().product()])
        }
        13 => Op::Reshape(vec![*shape.first()?, shape[1..].iter().product()]),
        14 => {
            let mut order: Vec<usize> = (0..rank).collect();
            rng.shuffle(&mut order);
            Op::Transpose(order)
        }
        15 => Op::Pad(Pad { pad: shape.iter().map(|_| (rng.usize(0..2), rng.usize(0..2))).collect(), value: 3.0 }),
        16 => Op::Resize(resize(rng, &shape)),
        17 => return quantized(rng, graph, name, x),
        18 if rng.bool() => {
            let (bias, quantized) = (rng.bool(), rng.bool());
            Op::Dense(Dense { features: rng.usize(1..6), bias, quantized })
        }
        _ => return graph.push(name, Op::MatMul, &[x, other]).ok(),
    };
    let size = graph.push(name, op, &[x]).ok()?;
    Some(size).filter(|value| graph.node(*value).shape.iter().product::<usize>() < 20_000)
}

fn binary(rng: &mut Rng) -> Binary {
    [Binary::Add, Binary::Sub, Binary::Mul][rng.usize(0..3)]
}

fn unary(rng: &mut Rng, element: Element) -> Unary {
    match rng.u8(0..5) {
        0 => Unary::Relu,
        1 if element == Element::F32 => Unary::Clip { min: -0.5, max: if rng.bool() { 0.75 } else { f32::INFINITY } },
        1 => Unary::Clip { min: f32::NEG_INFINITY, max: 100.0 },
        2 => Unary::Sigmoid,
        3 => Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
        _ => Unary::Tanh,
    }
}

fn each<T>(shape: &[usize], mut make: impl FnMut() -> T) -> Vec<T> {
    shape.iter().skip(2).map(|_| make()).collect()
}

fn conv(rng: &mut Rng, shape: &[usize]) -> Option<Conv> {
    let groups = if rng.bool() { *shape.get(1)? } else { 1 };
    Some(Conv {
        channels: groups * rng.usize(1..4),
        kernel: each(shape, || rng.usize(1..4)),
        stride: each(shape, || rng.usize(1..3)),
        pad: each(shape, || (rng.usize(0..3), rng.usize(0..3))),
        dilation: each(shape, || rng.usize(1..3)),
        groups,
        bias: rng.bool(),
        quantized: rng.u8(0..3) == 0,
    })
}

fn pool(rng: &mut Rng, shape: &[usize]) -> Option<Pool> {
    let max = rng.bool();
    let function = if max { PoolFunction::Max } else { PoolFunction::Average { count_pad: rng.bool() } };
    Some(Pool {
        function,
        kernel: each(shape, || rng.usize(1..4)),
        stride: each(shape, || rng.usize(1..3)),
        pad: each(shape, || (rng.usize(0..2), rng.usize(0..2))),
        // The written operator set has no dilated means.
        dilation: each(shape, || if max { rng.usize(1..3) } else { 1 }),
        ceil: rng.bool(),
    })
}

fn resize(rng: &mut Rng, shape: &[usize]) -> Resize {
    let all = [
        Coordinates::HalfPixel,
        Coordinates::PytorchHalfPixel,
        Coordinates::HalfPixelSymmetric,
        Coordinates::AlignCorners,
        Coordinates::Asymmetric,
    ];
    let coordinates = all[rng.usize(0..all.len())];
    if rng.bool() {
        let size: Vec<usize> = shape.iter().map(|&n| if rng.bool() { n } else { rng.usize(1..6) }).collect();
        let scale = size.iter().zip(shape).map(|(&size, &n)| size as f32 / n as f32).collect();
        return Resize { size, scale, coordinates };
    }
    let scale: Vec<f32> = shape.iter().map(|_| [0.6, 1.0, 1.5][rng.usize(0..3)]).collect();
    let size = scale.iter().zip(shape).map(|(&scale, &n)| (n as f64 * f64::from(scale)) as usize).collect();
    Resize { size, scale, coordinates }
}

/// Quantize, sometimes a pooling of bytes, and Dequantize.
fn quantized(rng: &mut Rng, graph: &mut Graph, name: &str, x: Value) -> Option<Value> {
    let shape = graph.node(x).shape.clone();
    let element = if rng.bool() { Element::U8 } else { Element::I8 };
    let (low, high) = element.range();
    let axis = rng.usize(0..shape.len().max(1));
    let channels = if rng.bool() || shape.is_empty() { 1 } else { shape[axis] };
    let axis = if channels == 1 { 0 } else { axis };
    let scale = (0..channels).map(|_| 0.01 + 0.05 * rng.f32()).collect();
    let zero_point = (0..channels).map(|_| rng.i32(low..=high)).collect();
    let quantization = Quantization { element, scale, zero_point, axis };
    let mut q = graph.push(format!("{name}.q"), Op::Quantize(quantization.clone()), &[x]).ok()?;
    if rng.bool() {
        q = graph.push(format!("{name}.relu"), Op::Unary(Unary::Relu), &[q]).ok()?;
    }
    graph.push(name, Op::Dequantize(quantization), &[q]).ok()
}

/// Random weights; no variance is near zero, and quantised ones are steps of their scales.
pub fn weights(rng: &mut Rng, graph: &Graph) -> Weights {
    let mut weights = Weights::new();
    for node in graph.nodes() {
        let parameters = graph.node_parameters(node);
        for parameter in &parameters {
            let fan_in: usize = parameter.shape.iter().skip(1).product();
            let array = ArrayD::from_shape_simple_fn(IxDyn(&parameter.shape), || match parameter.role {
                Role::Weight => (rng.f32() * 2.0 - 1.0) * (3.0 / fan_in as f32).sqrt(),
                Role::Scale | Role::RunningVariance => rng.f32() + 0.5,
                Role::Step => 0.001 + 0.01 * rng.f32(),
                Role::Bias | Role::RunningMean | Role::Constant => rng.f32() - 0.5,
            });
            weights.insert(parameter.name.clone(), array);
        }
        if let Some(step) = parameters.iter().find(|parameter| parameter.role == Role::Step) {
            let scale = weights[&step.name].clone();
            let weight = weights.get_mut(&parameters[0].name).unwrap();
            for (mut channel, &scale) in weight.outer_iter_mut().zip(&scale) {
                channel.mapv_inplace(|w| (w / scale).round().clamp(-128.0, 127.0) * scale);
            }
        }
    }
    weights
}

/// Random inputs for `graph`.
pub fn inputs(rng: &mut Rng, graph: &Graph) -> Vec<Tensor> {
    let make = |node: &super::graph::Node, rng: &mut Rng| {
        let (low, high) = node.element.range();
        let values = ArrayD::from_shape_simple_fn(IxDyn(&node.shape), || match node.element {
            Element::F32 => f64::from(rng.f32() * 2.0 - 1.0),
            Element::U8 | Element::I8 => f64::from(rng.i32(low..=high)),
        });
        Tensor { element: node.element, values }
    };
    graph.inputs().map(|(_, node)| make(node, rng)).collect()
}
