//! Nets that remember: frame by frame against their definition, windows against streams, kernels against kernels.

use super::*;
use crate::model::graph::{NEXT, OUTPUT, Slice};
use crate::model::reference::Tensor;

const FRAMES: usize = 6;

/// A random net of one or two LSTM cells between convolutions.
fn recurrent(seed: u64, quantized: bool) -> (Graph, Weights) {
    let mut random = Rng::with_seed(seed);
    let (channels, height, width) = (random.usize(1..=4), random.usize(6..=14), random.usize(6..=14));
    let (graph, clip) = Graph::new([channels, 1, height, width]);
    let weights = Weights::new();
    let mut net = Builder { graph, weights, random: &mut random, quantized, causal: false, residual: true, count: 0 };
    let mut outputs = Vec::new();
    let mut x = net.quantize(clip, false);
    for _ in 0..net.random.usize(1..=2) {
        let stem = net.random.usize(1..=20);
        let side = net.random.usize(1..=2);
        x = net.conv(x, stem, [1, 3, 3], [1, side, side]);
        x = net.relu(x);
        x = cell(&mut net, x, &mut outputs);
    }
    let head = net.head(x, false);
    outputs.insert(0, (OUTPUT.to_owned(), head));
    net.graph.set_outputs(outputs).unwrap();
    (net.graph, net.weights)
}

/// An LSTM cell on `x`, whose next states are added to `outputs`.
fn cell(net: &mut Builder<'_>, x: Value, outputs: &mut Vec<(String, Value)>) -> Value {
    let filters = net.random.usize(1..=20);
    let given = net.conv(x, 4 * filters, [1, 3, 3], [1; 3]);
    let given = net.quantize(given, false);
    let shape = [&[1, filters], &net.graph.node(given).shape[2..]].concat();
    let name = net.name("cell");
    let [h, c] = ["h", "c"].map(|state| net.graph.input(format!("{name}.{state}"), Element::F32, &shape).unwrap());
    let q = Quantization::per_tensor(Element::U8, 1.0 / 127.0, 128);
    let through = |net: &mut Builder<'_>, suffix: &str, x: Value| {
        if !net.quantized {
            return x;
        }
        let y = net.graph.push(format!("{name}.{suffix}.q"), Op::Quantize(q.clone()), &[x]).unwrap();
        net.graph.push(format!("{name}.{suffix}.dq"), Op::Dequantize(q.clone()), &[y]).unwrap()
    };
    let h = through(net, "before", h);
    let recurrent = net.conv(h, 4 * filters, [1, 3, 3], [1; 3]);
    let recurrent = net.quantize(recurrent, false);
    let gates = net.graph.push(format!("{name}.gates"), Op::Binary(Binary::Add), &[recurrent, given]).unwrap();
    let gates = net.quantize(gates, false);
    let hard = net.random.bool();
    let sigmoid = if hard { Unary::HardSigmoid { alpha: 0.2, beta: 0.5 } } else { Unary::Sigmoid };
    let parts: Vec<Value> = [sigmoid, sigmoid, Unary::Tanh, sigmoid]
        .into_iter()
        .enumerate()
        .map(|(number, function)| {
            let slice = Slice { axis: 1, start: number * filters, length: filters, step: 1 };
            let part = net.graph.push(format!("{name}.part{number}"), Op::Slice(slice), &[gates]).unwrap();
            net.graph.push(format!("{name}.gate{number}"), Op::Unary(function), &[part]).unwrap()
        })
        .collect();
    let mut of = |suffix: &str, function: Binary, a: Value, b: Value| {
        net.graph.push(format!("{name}.{suffix}"), Op::Binary(function), &[a, b]).unwrap()
    };
    let kept = of("kept", Binary::Mul, parts[1], c);
    let added = of("added", Binary::Mul, parts[0], parts[2]);
    let c = of("cell", Binary::Add, kept, added);
    let shown = net.graph.push(format!("{name}.shown"), Op::Unary(Unary::Tanh), &[c]).unwrap();
    let h = net.graph.push(name.clone(), Op::Binary(Binary::Mul), &[parts[3], shown]).unwrap();
    let h = through(net, "after", h);
    outputs.extend([(format!("{name}.h{NEXT}"), h), (format!("{name}.c{NEXT}"), c)]);
    h
}

/// The logits of each frame by the graph's own definition.
fn defined_frames(graph: &Graph, weights: &Weights, clip: &[f32], shape: [usize; 4]) -> Vec<Vec<f32>> {
    let zeros = |(value, _): (Value, Value)| Tensor::from(ArrayD::zeros(IxDyn(&graph.node(value).shape)));
    let mut states: Vec<Tensor> = graph.states().into_iter().map(zeros).collect();
    let mut all = Vec::new();
    for t in 0..shape[1] {
        let frame = ArrayD::from_shape_vec(IxDyn(graph.input_shape()), plane(clip, shape, t)).unwrap();
        let inputs: Vec<Tensor> = std::iter::once(frame.into()).chain(states).collect();
        let mut outputs = reference::run(graph, weights, &inputs).unwrap();
        states = outputs.split_off(1);
        all.push(outputs[0].to_f32().iter().copied().collect());
    }
    all
}

#[test]
fn states_are_those_of_the_frame_before() {
    for seed in 0..24 {
        for quantized in [false, true] {
            let (graph, weights) = recurrent(seed, quantized);
            let [_, channels, _, height, width] = *graph.input_shape() else { panic!("a clip") };
            let shape = [channels, FRAMES, height, width];
            let clip = clip(seed, shape);
            let wanted = defined_frames(&graph, &weights, &clip, shape);
            let case = format!("seed {seed}, int8 {quantized}");
            let mut all: Vec<Vec<Vec<f32>>> = Vec::new();
            for kernels in Kernels::available() {
                let native = Native::new(&graph, &weights, Mode::Stream, kernels, 1).unwrap();
                assert_eq!(native.precision(), if quantized { Precision::Int8 } else { Precision::F32 });
                let mut session = native.session().unwrap();
                let mut logits = vec![0.0; 5];
                for begun in [2, FRAMES] {
                    session.reset();
                    let mut got = Vec::new();
                    for t in 0..begun {
                        assert!(session.push(&plane(&clip, shape, t), &mut logits).unwrap());
                        got.push(logits.clone());
                    }
                    // Residual sums of integers are rounded once more than there, and what is rounded comes around.
                    let tolerance = if quantized { 0.25 } else { 1e-5 };
                    for (t, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
                        assert!(near(got, wanted, tolerance), "{case}, {kernels}, {t}: {got:?}, right {wanted:?}");
                    }
                    if begun == FRAMES {
                        all.push(got);
                    }
                }
                let window = Native::new(&graph, &weights, Mode::Window, kernels, 2).unwrap();
                let given = ArrayD::from_shape_vec(IxDyn(&[1, channels, FRAMES, height, width]), clip.clone()).unwrap();
                let given = given.into_dimensionality().unwrap();
                let mut session = window.session().unwrap();
                for _ in 0..2 {
                    session.infer(given.view(), &mut logits).unwrap();
                    assert_eq!(
                        Some(&logits),
                        all.last().and_then(|frames| frames.last()),
                        "{case}, {kernels}: a window"
                    );
                }
            }
            if quantized {
                assert!(all.iter().all(|frames| *frames == all[0]), "{case}: kernels do not agree");
            }
        }
    }
}

#[test]
fn what_is_no_recurrent_net_of_one_frame_is_refused() {
    let refused = |graph: &Graph, weights: &Weights| {
        Native::new(graph, weights, Mode::Stream, Kernels::best(), 1).err().unwrap().to_string()
    };
    let (graph, weights) = recurrent(1, true);
    let outputs = graph.outputs();
    let mut missing = graph.clone();
    missing.set_outputs(outputs[..outputs.len() - 1].to_vec()).unwrap();
    let error = refused(&missing, &weights);
    assert!(error.contains("besides the clip there are only states"), "{error}");
    // The next value of h is read as it was before it was quantised.
    let mut unquantized = graph.clone();
    let before = |value: Value| {
        let quantize = graph.node(value).inputs[0];
        graph.node(quantize).inputs[0]
    };
    let floats = |(name, value): (String, Value)| {
        let value = if name.ends_with("h.next") { before(value) } else { value };
        (name, value)
    };
    unquantized.set_outputs(outputs.into_iter().map(floats).collect()).unwrap();
    let error = refused(&unquantized, &weights);
    assert!(error.contains("(quantize)"), "{error}");
    // Several frames at a time.
    let (mut several, clip) = Graph::new([1, 2, 8, 8]);
    let state = several.input("s", Element::F32, &[1, 1, 2, 8, 8]).unwrap();
    let next = several.push("next", Op::Binary(Binary::Add), &[clip, state]).unwrap();
    let mean = several.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[next]).unwrap();
    several.set_outputs(vec![(OUTPUT.into(), mean), ("s.next".into(), next)]).unwrap();
    let error = refused(&several, &Weights::new());
    assert!(error.contains("only states, f32, [1, C, 1, H, W]"), "{error}");
    // What becomes of a state is a convolution of it, with all that is fused into that.
    let (graph, clip) = Graph::new([2, 1, 8, 8]);
    let mut random = Rng::with_seed(1);
    let mut net = Builder::floats(graph, &mut random, false);
    let state = net.graph.input("s", Element::F32, &[1, 2, 1, 8, 8]).unwrap();
    let x = net.conv(state, 2, [1, 3, 3], [1; 3]);
    let x = net.graph.push("sum", Op::Binary(Binary::Add), &[x, clip]).unwrap();
    let next = net.relu(x);
    let mean = net.graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[next]).unwrap();
    net.graph.set_outputs(vec![(OUTPUT.into(), mean), ("s.next".into(), next)]).unwrap();
    let error = refused(&net.graph, &net.weights);
    assert!(error.contains("'conv1'") && error.contains("its own result of the frame before"), "{error}");
    // Padding over time makes a second frame.
    let (mut padded, clip) = Graph::new([1, 1, 8, 8]);
    let state = padded.input("s", Element::F32, &[1, 1, 1, 8, 8]).unwrap();
    let next = padded.push("next", Op::Binary(Binary::Add), &[clip, state]).unwrap();
    let pool = GraphPool { pad: vec![(1, 0), (0, 0), (0, 0)], stride: vec![1; 3], ..GraphPool::max([2, 1, 1]) };
    let x = padded.push("pool", Op::Pool(pool), &[next]).unwrap();
    let mean = padded.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    padded.set_outputs(vec![(OUTPUT.into(), mean), ("s.next".into(), next)]).unwrap();
    let error = refused(&padded, &Weights::new());
    assert!(error.contains("'pool'") && error.contains("the graph of one frame"), "{error}");
}
