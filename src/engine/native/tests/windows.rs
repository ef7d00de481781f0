//! Pools of all kinds, branches that are joined, and channels of zeros: against their definition, and as streams.

use super::*;
use crate::model::graph::{CHANNELS_AND_COLUMNS, CHANNELS_FIRST, CHANNELS_LAST, Pad};

/// Through u8 and back as `from` is, if the net is quantised.
fn alike(net: &mut Builder<'_>, from: Value, x: Value) -> Value {
    let Op::Dequantize(q) = net.graph.node(from).op.clone() else { return x };
    let name = net.name("q");
    let y = net.graph.push(format!("{name}.q"), Op::Quantize(q.clone()), &[x]).unwrap();
    net.graph.push(format!("{name}.dq"), Op::Dequantize(q), &[y]).unwrap()
}

/// A pool of random windows that fit any clip of two frames.
fn pool(net: &mut Builder<'_>, x: Value, max: bool, stride: [usize; 3]) -> Value {
    let kernel: [usize; 3] = std::array::from_fn(|_| net.random.usize(1..=3));
    let dilation = if max && net.random.u8(..4) == 0 { vec![1, 2, 1] } else { vec![1; 3] };
    let pad = std::array::from_fn::<_, 3, _>(|axis| match axis {
        _ if !max => (0, 0),
        0 if net.causal => (kernel[0] - 1, 0),
        axis => (kernel[axis] / 2, (kernel[axis] - 1) / 2),
    });
    let pool = if max { GraphPool::max(kernel) } else { GraphPool::average([1, kernel[1], kernel[2]]) };
    let pool = GraphPool { stride: stride.into(), pad: pad.into(), dilation, ..pool };
    let name = net.name("pool");
    let y = net.graph.push(name, Op::Pool(pool), &[x]).unwrap();
    if max { alike(net, x, y) } else { net.quantize(y, false) }
}

/// A layer norm over the channels.
fn norm(net: &mut Builder<'_>, x: Value) -> Value {
    let channels = net.graph.node(x).shape[1];
    let name = net.name("norm");
    let y = net.graph.push(format!("{name}.last"), Op::Transpose(CHANNELS_LAST.into()), &[x]).unwrap();
    let y = net.graph.push(name.clone(), Op::LayerNorm { axis: 4, eps: 1e-3 }, &[y]).unwrap();
    for suffix in ["weight", "bias"] {
        let values = net.draw(&[channels], 1.0);
        net.weights.insert(format!("{name}.{suffix}"), values);
    }
    let y = net.graph.push(format!("{name}.first"), Op::Transpose(CHANNELS_FIRST.into()), &[y]).unwrap();
    net.quantize(y, false)
}

/// A batch norm on its own, over the channels or over the columns.
fn batch_norm(net: &mut Builder<'_>, x: Value, columns: bool) -> Value {
    let name = net.name("batch_norm");
    let swap = |net: &mut Builder<'_>, suffix: &str, x| match columns {
        true => net.graph.push(format!("{name}.{suffix}"), Op::Transpose(CHANNELS_AND_COLUMNS.into()), &[x]).unwrap(),
        false => x,
    };
    let x = swap(net, "columns", x);
    let count = net.graph.node(x).shape[1];
    for suffix in ["weight", "bias", "running_mean", "running_var"] {
        let values = net.draw(&[count], 1.0).mapv(|x| if suffix == "running_var" { 0.5 + x.abs() } else { x });
        net.weights.insert(format!("{name}.{suffix}"), values);
    }
    let x = net.graph.push(name.clone(), Op::BatchNorm { eps: 1e-3 }, &[x]).unwrap();
    let x = swap(net, "channels", x);
    net.quantize(x, false)
}

fn branches(seed: u64, frames: usize, quantized: bool, causal: bool) -> (Graph, Weights) {
    let mut random = Rng::with_seed(seed);
    let (channels, height, width) = (random.usize(1..=4), random.usize(9..=14), random.usize(9..=14));
    let (graph, clip) = Graph::new([channels, frames, height, width]);
    let weights = Weights::new();
    let mut net = Builder { graph, weights, random: &mut random, quantized, causal, residual: true, count: 0 };
    let mut x = net.quantize(clip, false);
    let stem = net.random.usize(1..=40);
    x = net.conv(x, stem, [1, 3, 3], [1; 3]);
    x = net.relu(x);
    let over_time = net.random.usize(1..=2);
    let first = pool(&mut net, x, true, [over_time, 1, 2]);
    let name = net.name("thin");
    let thin = GraphPool { stride: vec![over_time, 1, 2], ..GraphPool::max([1; 3]) };
    let second = net.graph.push(name, Op::Pool(thin), &[x]).unwrap();
    let second = alike(&mut net, x, second);
    let [a, b] = [first, second].map(|value| net.graph.node(value).shape.clone());
    let joined = if a == b {
        let name = net.name("joined");
        let y = net.graph.push(name, Op::Concat { axis: 1 }, &[first, second, first]).unwrap();
        alike(&mut net, first, y)
    } else {
        first
    };
    let mut pad = vec![(0, 0); 5];
    pad[1] = (net.random.usize(..3), net.random.usize(..20));
    let name = net.name("wide");
    x = net.graph.push(name, Op::Pad(Pad { pad, value: 0.0 }), &[joined]).unwrap();
    x = alike(&mut net, joined, x);
    x = norm(&mut net, x);
    let columns = net.random.bool();
    x = batch_norm(&mut net, x, columns);
    x = pool(&mut net, x, false, [1, 1, 1]);
    net.head(x, true);
    (net.graph, net.weights)
}

#[test]
fn branches_are_those_of_the_reference() {
    let mut exact = 0;
    for seed in 0..24 {
        for quantized in [false, true] {
            let (graph, weights) = branches(seed, 5, quantized, seed % 2 == 0);
            let network = fuse(&graph, &weights).unwrap();
            let clip = clip(seed, network.values[0].shape);
            assert_eq!(network.is_int8(), quantized);
            let right = kernels_agree_on(&network, &clip, &format!("seed {seed}"));
            let wanted = defined(&graph, &weights, clip);
            let tolerance = if quantized { 0.1 } else { 1e-5 };
            assert!(near(&right, &wanted, tolerance), "seed {seed}, int8 {quantized}: {right:?}, right {wanted:?}");
            exact += usize::from(quantized && near(&right, &wanted, 1e-5));
        }
    }
    assert!(exact >= 20, "of 24 integer nets {exact} are exactly as defined");
}

#[test]
fn branches_are_streamed() {
    for seed in 0..16 {
        for quantized in [false, true] {
            stream_equals_clips(seed, quantized, &|frames| branches(seed, frames, quantized, true));
        }
    }
}

#[test]
fn integers_on_another_scale_are_refused() {
    let (graph, clip) = Graph::new([2, 2, 8, 8]);
    let mut random = Rng::with_seed(1);
    let mut net = Builder { quantized: true, ..Builder::floats(graph, &mut random, true) };
    let x = net.quantize(clip, false);
    let x = net.graph.push("pool", Op::Pool(GraphPool::max([1, 2, 2])), &[x]).unwrap();
    let x = net.quantize(x, false);
    net.graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    let refused = fuse(&net.graph, &net.weights).err().unwrap().to_string();
    assert!(refused.contains("'pool'") && refused.contains("not quantised as what it reads"), "{refused}");
}

/// Frames of different rates have nothing to do with one another in a stream, even if a clip has one of each.
#[test]
fn several_frame_rates_are_not_streamed() {
    let (mut graph, clip) = Graph::new([2, 1, 8, 8]);
    let thin = GraphPool { stride: vec![2, 1, 1], ..GraphPool::max([1; 3]) };
    let x = graph.push("thin", Op::Pool(thin), &[clip]).unwrap();
    let x = graph.push("product", Op::Binary(Binary::Mul), &[clip, x]).unwrap();
    graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    let open = |mode| Native::new(&graph, &Weights::new(), mode, Kernels::best(), 1).map(|_| ());
    let error = open(Mode::Stream).unwrap_err().to_string();
    assert!(error.contains("'product'") && error.contains("several frame rates"), "{error}");
    open(Mode::Window).unwrap();
}
