//! Whole nets: streams against windows, kernels against kernels, integers against their definition.
#![allow(clippy::unwrap_used)]

mod recurrent;
mod windows;

use fastrand::Rng;
use ndarray::{ArrayD, IxDyn};

use super::fuse::fuse;
use super::layers::Work;
use super::*;
use crate::model::graph::{Binary, Conv, Dense, Element, Op, Pool as GraphPool, Quantization, Unary, Value};
use crate::model::reference;

/// A random residual net, and weights for it. `quantized` puts Quantize and Dequantize around everything.
struct Builder<'a> {
    graph: Graph,
    weights: Weights,
    random: &'a mut Rng,
    quantized: bool,
    causal: bool,
    /// Whether blocks have a shortcut.
    residual: bool,
    count: usize,
}

impl<'a> Builder<'a> {
    /// A net in f32, with residual sums.
    fn floats(graph: Graph, random: &'a mut Rng, causal: bool) -> Self {
        Self { graph, weights: Weights::new(), random, quantized: false, causal, residual: true, count: 0 }
    }

    fn name(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}{}", self.count)
    }

    fn draw(&mut self, shape: &[usize], size: f32) -> ArrayD<f32> {
        ArrayD::from_shape_simple_fn(IxDyn(shape), || size * (2.0 * self.random.f32() - 1.0))
    }

    /// Through u8 and back, if the net is quantised.
    fn quantize(&mut self, x: Value, positive: bool) -> Value {
        if !self.quantized {
            return x;
        }
        let scale = 0.01 + 0.02 * self.random.f32();
        let q = match (positive, self.random.bool()) {
            (true, _) => Quantization::per_tensor(Element::U8, scale, 0),
            (false, true) => Quantization::per_tensor(Element::U8, scale, self.random.i32(100..=150)),
            (false, false) => Quantization::per_tensor(Element::I8, scale, self.random.i32(-20..=20)),
        };
        let name = self.name("q");
        let y = self.graph.push(format!("{name}.q"), Op::Quantize(q.clone()), &[x]).unwrap();
        self.graph.push(format!("{name}.dq"), Op::Dequantize(q), &[y]).unwrap()
    }

    /// Weights and a bias for `name`, which reads `x`.
    fn parameters(&mut self, name: &str, shape: &[usize], x: Value) {
        let fan: usize = shape[1..].iter().product();
        let mut weight = self.draw(shape, (3.0 / fan as f32).sqrt());
        if self.quantized {
            let mut scales = Vec::new();
            for mut row in weight.outer_iter_mut() {
                let scale = row.iter().fold(1e-6, |max: f32, w| max.max(w.abs())) / 127.0;
                row.mapv_inplace(|w| (w / scale).round() * scale);
                scales.push(scale);
            }
            let scales = ArrayD::from_shape_vec(IxDyn(&shape[..1]), scales).unwrap();
            self.weights.insert(format!("{name}.weight_scale"), scales);
        }
        self.weights.insert(format!("{name}.weight"), weight);
        let mut bias = self.draw(&shape[..1], 0.3);
        if let (Op::Dequantize(q), true) = (&self.graph.node(x).op, self.quantized) {
            let scales = &self.weights[&format!("{name}.weight_scale")];
            let steps = |bias: f32, scale: f32| (bias / (q.scale[0] * scale)).round() * (q.scale[0] * scale);
            bias.iter_mut().zip(scales).for_each(|(bias, scale)| *bias = steps(*bias, *scale));
        }
        self.weights.insert(format!("{name}.bias"), bias);
    }

    fn conv(&mut self, x: Value, channels: usize, kernel: [usize; 3], stride: [usize; 3]) -> Value {
        let name = self.name("conv");
        let pad = std::array::from_fn::<_, 3, _>(|axis| match (axis, self.causal) {
            (0, true) => (kernel[0] - 1, 0),
            _ => (kernel[axis] / 2, kernel[axis] / 2),
        });
        let conv = Conv {
            stride: stride.into(),
            pad: pad.into(),
            bias: true,
            quantized: self.quantized,
            ..Conv::new(channels, kernel)
        };
        let inputs = self.graph.node(x).shape[1];
        self.parameters(&name, &[channels, inputs, kernel[0], kernel[1], kernel[2]], x);
        self.graph.push(name, Op::Conv(conv), &[x]).unwrap()
    }

    fn relu(&mut self, x: Value) -> Value {
        let name = self.name("relu");
        let y = self.graph.push(name, Op::Unary(Unary::Relu), &[x]).unwrap();
        self.quantize(y, true)
    }

    /// The mean over time and place, and five logits.
    fn head(&mut self, x: Value, positive: bool) -> Value {
        let features = self.graph.node(x).shape[1];
        let mean = self.graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
        let x = self.quantize(mean, positive);
        self.parameters("head", &[5, features], x);
        let head = Dense { features: 5, bias: true, quantized: self.quantized };
        self.graph.push("head", Op::Dense(head), &[x]).unwrap()
    }

    fn block(&mut self, x: Value, time: usize) -> Value {
        let inputs = self.graph.node(x).shape[1];
        let changes = self.random.bool();
        let channels = if changes { self.random.usize(1..=40) } else { inputs };
        let side = if changes { self.random.usize(1..=2) } else { 1 };
        let time = if changes { time } else { 1 };
        let middle = self.random.usize(1..=40);
        let kernel = if self.causal { self.random.usize(1..=3) } else { [1, 3][self.random.usize(..2)] };
        let mut y = self.conv(x, middle, [1, 3, 3], [1, side, side]);
        y = self.relu(y);
        y = self.conv(y, channels, [kernel, 1, 1], [time, 1, 1]);
        if !self.residual {
            return self.relu(y);
        }
        y = self.quantize(y, false);
        let mut shortcut = x;
        if changes || self.graph.node(y).shape != self.graph.node(x).shape {
            shortcut = self.conv(x, channels, [1, 1, 1], [time, side, side]);
            shortcut = self.quantize(shortcut, false);
        }
        let name = self.name("add");
        y = self.graph.push(name, Op::Binary(Binary::Add), &[y, shortcut]).unwrap();
        self.relu(y)
    }
}

/// A net for clips of `frames`, the same for any number of them.
fn net(seed: u64, frames: usize, quantized: bool, causal: bool) -> (Graph, Weights) {
    any_net(seed, frames, (quantized, causal, true))
}

fn any_net(seed: u64, frames: usize, (quantized, causal, residual): (bool, bool, bool)) -> (Graph, Weights) {
    let mut random = Rng::with_seed(seed);
    let (channels, height, width) = (random.usize(1..=4), random.usize(6..=14), random.usize(6..=14));
    let (graph, clip) = Graph::new([channels, frames, height, width]);
    let mut net =
        Builder { graph, weights: Weights::new(), random: &mut random, quantized, causal, residual, count: 0 };
    let mut x = net.quantize(clip, false);
    let stem = net.random.usize(1..=20);
    let kernel = [1, 3, 3 + 2 * net.random.usize(..2)];
    x = net.conv(x, stem, kernel, [1, 1, 1]);
    x = net.relu(x);
    if net.random.bool() {
        x = net.graph.push("pool", Op::Pool(GraphPool::average([1, 2, 2])), &[x]).unwrap();
        x = net.quantize(x, true);
    }
    for _ in 0..net.random.usize(1..=3) {
        let time = net.random.usize(1..=2);
        x = net.block(x, time);
    }
    net.head(x, true);
    (net.graph, net.weights)
}

fn clip(seed: u64, shape: [usize; 4]) -> Vec<f32> {
    let mut random = Rng::with_seed(seed ^ 77);
    (0..shape.iter().product::<usize>()).map(|_| 2.0 * random.f32() - 1.0).collect()
}

fn pool(threads: usize) -> Arc<Pool> {
    Arc::new(Pool::new(threads).unwrap())
}

fn window(network: &Network, kernels: Kernels, threads: usize, clip: &[f32]) -> Vec<f32> {
    let plan = Arc::new(Plan::new(network, kernels, Mode::Window).unwrap());
    let mut logits = vec![0.0; plan.classes];
    assert!(State::new(plan, pool(threads)).run(clip, &mut logits));
    logits
}

/// The logits by the graph's own definition.
fn defined(graph: &Graph, weights: &Weights, clip: Vec<f32>) -> Vec<f32> {
    let input = ArrayD::from_shape_vec(IxDyn(graph.input_shape()), clip).unwrap();
    let outputs = reference::run(graph, weights, &[input.into()]).unwrap();
    outputs[0].to_f32().iter().copied().collect()
}

/// Frame `t` of a clip of so many planes.
fn plane(clip: &[f32], [channels, frames, height, width]: [usize; 4], t: usize) -> Vec<f32> {
    let area = height * width;
    (0..channels).flat_map(|c| clip[(c * frames + t) * area..][..area].to_vec()).collect()
}

fn near(a: &[f32], b: &[f32], tolerance: f32) -> bool {
    let largest = b.iter().fold(1e-6, |max: f32, x| max.max(x.abs()));
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance * largest)
}

/// Makes a net for clips of so many frames, the same for any number of them.
type Make<'a> = &'a dyn Fn(usize) -> (Graph, Weights);

/// At every emission a stream computes what the clip net does on all frames so far, with the mean over the last positions.
fn stream_equals_clips(seed: u64, quantized: bool, net: Make<'_>) {
    const LENGTH: usize = 13;
    let (graph, weights) = net(5);
    let network = fuse(&graph, &weights).unwrap();
    assert_eq!(network.is_int8(), quantized);
    let [channels, _, height, width] = network.values[0].shape;
    let shape = [channels, LENGTH, height, width];
    let long = clip(seed, shape);
    let kernels = Kernels::best();
    let plan = Arc::new(Plan::new(&network, kernels, Mode::Stream).unwrap());
    let mut state = State::new(plan, pool(1));
    let mut logits = vec![0.0; 5];
    let mut emissions = 0;
    // The second time after a reset, in the middle of a stream.
    for _ in 0..2 {
        emissions = 0;
        for n in 0..LENGTH {
            if !state.run(&plane(&long, shape, n), &mut logits) {
                continue;
            }
            emissions += 1;
            let (graph, weights) = net(n + 1);
            let mut past = fuse(&graph, &weights).unwrap();
            limit(&mut past, &network);
            let clip: Vec<f32> = (0..channels)
                .flat_map(|c| long[c * LENGTH * height * width..][..(n + 1) * height * width].to_vec())
                .collect();
            let right = window(&past, kernels, 1, &clip);
            let same = if quantized { logits == right } else { near(&logits, &right, 1e-5) };
            assert!(same, "seed {seed}, int8 {quantized}, {n}: {logits:?}, as a clip {right:?}");
        }
        state.reset();
    }
    assert!(emissions > 0, "seed {seed}");
}

#[test]
fn streams_equal_clips() {
    for seed in 0..16 {
        for quantized in [false, true] {
            stream_equals_clips(seed, quantized, &|frames| net(seed, frames, quantized, true));
        }
    }
}

/// Gives `longer` the mean of `network`: over so many of the last frames.
fn limit(longer: &mut Network, network: &Network) {
    for (layer, other) in longer.layers.iter_mut().zip(&network.layers) {
        if let Work::Mean { .. } = layer.work {
            layer.work = other.work.clone();
        }
    }
}

/// The graph's own definition, in plain loops, on f32 that stand for integers. A residual sum of integers has one rounding
/// more than there; without such sums only a value that lies all but on a half may come out on the other side.
#[test]
fn nets_are_those_of_the_reference() {
    let mut exact = 0;
    for seed in 200..216 {
        for (quantized, residual) in [(false, true), (true, true), (true, false)] {
            let (graph, weights) = any_net(seed, 4, (quantized, seed % 2 == 0, residual));
            let network = fuse(&graph, &weights).unwrap();
            let clip = clip(seed, network.values[0].shape);
            let logits = window(&network, Kernels::best(), 1, &clip);
            let wanted = defined(&graph, &weights, clip);
            let tolerance = if quantized { 0.1 } else { 1e-5 };
            let case = format!("seed {seed}, int8 {quantized}, residual {residual}");
            assert!(near(&logits, &wanted, tolerance), "{case}: {logits:?}, right {wanted:?}");
            exact += usize::from(!residual && near(&logits, &wanted, 1e-5));
        }
    }
    assert!(exact >= 13, "of 16 integer nets without residuals {exact} are exactly as defined");
}

#[test]
fn kernels_and_threads_agree() {
    for seed in 100..130 {
        for quantized in [false, true] {
            let (graph, weights) = net(seed, 6, quantized, seed % 2 == 0);
            let network = fuse(&graph, &weights).unwrap();
            assert_eq!(network.is_int8(), quantized);
            let clip = clip(seed, network.values[0].shape);
            kernels_agree_on(&network, &clip, &format!("seed {seed}"));
        }
    }
}

/// What the reference kernels compute, and all others on one and two threads.
fn kernels_agree_on(network: &Network, clip: &[f32], case: &str) -> Vec<f32> {
    let right = window(network, Kernels::Reference, 1, clip);
    for kernels in Kernels::available() {
        for threads in [1, 2] {
            let logits = window(network, kernels, threads, clip);
            let same = if network.is_int8() { logits == right } else { near(&logits, &right, 1e-5) };
            assert!(same, "{case}, {kernels}, {threads} threads: {logits:?}, right {right:?}");
        }
    }
    right
}

/// Blocks that read a value and add it at their end, one after another: the memory of each goes to one later value only.
#[test]
fn what_is_read_twice_is_free_once() {
    let (graph, clip) = Graph::new([4, 5, 8, 9]);
    let mut random = Rng::with_seed(1);
    let mut net = Builder::floats(graph, &mut random, false);
    let mut x = net.conv(clip, 4, [1, 3, 3], [1, 1, 1]);
    for n in 0..6 {
        let first = net.conv(x, 4 + n % 2, [1, 3, 3], [1, 1, 1]);
        let y = if n % 2 == 0 { first } else { net.conv(first, 4, [3, 1, 1], [1, 1, 1]) };
        let name = net.name("add");
        x = net.graph.push(name, Op::Binary(Binary::Add), &[y, x]).unwrap();
        x = net.relu(x);
    }
    x = net.graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    net.parameters("head", &[5, 4], x);
    net.graph.push("head", Op::dense(5), &[x]).unwrap();
    let (graph, weights) = (net.graph, net.weights);
    let network = fuse(&graph, &weights).unwrap();
    let clip = self::clip(1, network.values[0].shape);
    let logits = window(&network, Kernels::best(), 1, &clip);
    let wanted = defined(&graph, &weights, clip);
    assert!(near(&logits, &wanted, 1e-5), "{logits:?}, right {wanted:?}");
}

/// A Dequantize with another scale than the Quantize before it is a change of value, not part of a residual sum.
#[test]
fn what_does_not_undo_its_quantisation_is_refused() {
    let (graph, weights) = net(1, 4, true, true);
    let (mut other, _) = Graph::new(graph.input_shape()[1..].try_into().unwrap());
    let last = graph.nodes().iter().rposition(|node| matches!(node.op, Op::Dequantize(_))).unwrap();
    for (index, node) in graph.nodes().iter().enumerate().skip(1) {
        let op = match &node.op {
            Op::Dequantize(q) if index == last => {
                let scale = vec![q.scale[0] * 2.0];
                Op::Dequantize(Quantization { scale, ..q.clone() })
            }
            op => op.clone(),
        };
        other.push(node.name.clone(), op, &node.inputs).unwrap();
    }
    let refused = fuse(&other, &weights).err().unwrap().to_string();
    assert!(refused.contains("does not undo"), "{refused}");
}

#[test]
fn what_reads_no_clip_is_refused() {
    let mut graph = Graph::default();
    let x = graph.input("x", Element::F32, &[1, 3]).unwrap();
    graph.set_outputs(vec![("y".into(), x)]).unwrap();
    let refused = Native::new(&graph, &Weights::new(), Mode::Window, Kernels::best(), 1).err().unwrap();
    assert!(refused.to_string().contains("node 'x' (input): a model has one input"), "{refused}");
}

#[test]
fn padding_without_end_is_refused() {
    let (mut graph, clip) = Graph::new([1, 4, 8, 8]);
    let (huge, far) = (30_000, 30_000);
    let conv = Conv { stride: vec![1, far, far], pad: vec![(0, 0), (huge, 0), (huge, 0)], ..Conv::new(1, [1, 1, 1]) };
    let x = graph.push("conv", Op::Conv(conv), &[clip]).unwrap();
    let x = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    graph.push("head", Op::Dense(Dense { features: 1, bias: false, quantized: false }), &[x]).unwrap();
    let shapes: Vec<_> = graph.parameters().into_iter().map(|p| (p.name, ArrayD::zeros(IxDyn(&p.shape)))).collect();
    let weights: Weights = shapes.into_iter().collect();
    let refused = Native::new(&graph, &weights, Mode::Window, Kernels::best(), 1).err().unwrap();
    assert!(refused.to_string().contains("too large"), "{refused}");
}

/// Each value is small enough on its own, but a window keeps all of them.
#[test]
fn values_that_are_too_large_together_are_refused() {
    let (mut graph, clip) = Graph::new([1, 1, 8000, 8000]);
    let mut x = clip;
    for n in 0..5 {
        x = graph.push(format!("pool{n}"), Op::Pool(GraphPool::average([1, 1, 1])), &[x]).unwrap();
        let conv = Conv { pad: vec![(0, 0), (n, n), (n, n)], ..Conv::new(1, [1, 1 + 2 * n, 1 + 2 * n]) };
        x = graph.push(format!("conv{n}"), Op::Conv(conv), &[x]).unwrap();
    }
    x = graph.push("small", Op::Pool(GraphPool::average([1, 100, 100])), &[x]).unwrap();
    x = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    graph.push("head", Op::Dense(Dense { features: 1, bias: false, quantized: false }), &[x]).unwrap();
    let weights = graph.parameters().into_iter().map(|p| (p.name, ArrayD::zeros(IxDyn(&p.shape)))).collect();
    let refused = Native::new(&graph, &weights, Mode::Window, Kernels::best(), 1).err().unwrap();
    assert!(refused.to_string().contains("all layers together"), "{refused}");
}

#[test]
fn what_sees_later_frames_is_not_streamed() {
    let (graph, clip) = Graph::new([1, 4, 8, 8]);
    let mut random = Rng::with_seed(1);
    let mut net = Builder::floats(graph, &mut random, false);
    let x = net.conv(clip, 4, [3, 1, 1], [1, 1, 1]);
    let x = net.graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    net.parameters("head", &[5, 4], x);
    net.graph.push("head", Op::dense(5), &[x]).unwrap();
    let refused = Native::new(&net.graph, &net.weights, Mode::Stream, Kernels::best(), 1).err().unwrap();
    assert!(refused.to_string().contains("'conv1'") && refused.to_string().contains("causal"), "{refused}");
    assert!(Native::new(&net.graph, &net.weights, Mode::Window, Kernels::best(), 1).is_ok());
}

/// A clip has one mean over time, so its stream must not see the means before.
#[test]
fn what_sees_earlier_means_is_not_streamed() {
    let (graph, clip) = Graph::new([4, 4, 8, 8]);
    let mut random = Rng::with_seed(1);
    let mut net = Builder::floats(graph, &mut random, true);
    let x = net.graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: true }, &[clip]).unwrap();
    let x = net.conv(x, 4, [3, 1, 1], [1, 1, 1]);
    let x = net.graph.push("flat", Op::Reshape(vec![1, 4]), &[x]).unwrap();
    net.parameters("head", &[5, 4], x);
    net.graph.push("head", Op::dense(5), &[x]).unwrap();
    let refused = Native::new(&net.graph, &net.weights, Mode::Stream, Kernels::best(), 1).err().unwrap();
    assert!(refused.to_string().contains("'conv1'") && refused.to_string().contains("means"), "{refused}");
    assert!(Native::new(&net.graph, &net.weights, Mode::Window, Kernels::best(), 1).is_ok());
}
