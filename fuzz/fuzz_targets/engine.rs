//! From an ONNX file to logits: whatever is read is opened in the engine `native`, with all kernels, as a window and as a
//! stream. Small models run: all kernels and both modes have the same integers, those of the plain reference where no
//! rounding is left to chance, and floats are near the reference.
#![no_main]

use fastrand::Rng;
use kinora::engine::{Engine, Kernels, Native, Precision, Session};
use kinora::model::graph::{Binary, Element, Graph, Op, PoolFunction, Quantization, Unary, Weights};
use kinora::model::manifest::Mode;
use kinora::model::{onnx, passes, reference, testing};
use kinora_fuzz::{mutate, nets};
use ndarray::{Array5, ArrayD, Axis};

fn seeds() -> Vec<Vec<u8>> {
    let rng = &mut Rng::with_seed(2);
    let nets = (0..120).map(|_| nets::net(rng)).collect::<Vec<_>>();
    let others = (0..30).map(|_| {
        let graph = testing::graph(rng);
        let weights = testing::weights(rng, &graph);
        (graph, weights)
    });
    let bytes = nets.into_iter().chain(others).map(|(graph, weights)| onnx::to_bytes(&graph, &weights));
    bytes.filter_map(Result::ok).collect()
}

libfuzzer_sys::fuzz_target!(init: kinora_fuzz::write_seeds(seeds), |bytes: &[u8]| {
    let Ok((graph, weights)) = onnx::graph_from_bytes(bytes) else { return };
    let open = |kernels, mode| Native::new(&graph, &weights, mode, kernels, 1).ok();
    let Some(first) = open(Kernels::Reference, Mode::Window) else { return };
    let Ok((simple, simple_weights)) = passes::simplify(&graph, &weights) else { panic!("opened but not simplified") };
    let Ok(shape) = <[usize; 5]>::try_from(simple.input_shape()) else { panic!("opened without a clip") };
    if !is_small(&simple) {
        return;
    }
    let classes = simple.output().shape.iter().product();
    let seed = bytes.iter().fold(0u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let mut rng = Rng::with_seed(seed);
    let clip = Array5::from_shape_simple_fn(shape, || 2.0 * rng.f32() - 1.0);

    let right = window(&first, &clip, classes);
    let integers = first.precision() == Precision::Int8;
    let bound = largest_sums(&simple, &simple_weights, &clip);
    let agree = |what: &str, logits: &Option<Vec<f32>>, right: &Option<Vec<f32>>| {
        if integers {
            assert_eq!(logits, right, "{what}");
        } else if let (Some(logits), Some(right), Some(bound)) = (logits, right, bound) {
            let near = logits.iter().zip(right).all(|(a, b)| (a - b).abs() <= 1e-4 * bound + f32::MIN_POSITIVE);
            assert!(near, "{what}: {logits:?}, {right:?}, sums up to {bound}");
        }
    };
    for kernels in Kernels::available() {
        let Some(engine) = open(kernels, Mode::Window) else { continue };
        agree(kernels.name(), &window(&engine, &clip, classes), &right);
        let Some(engine) = open(kernels, Mode::Stream) else { continue };
        agree("a stream", &stream(&engine, &clip, classes), &right);
    }
    // Of a recurrent net the definition wants the states, too; its own tests have them.
    if !simple.states().is_empty() {
        return;
    }
    let wanted = reference::run(&simple, &simple_weights, &[clip.into_dyn().into()]).expect("a checked graph runs");
    let wanted: Vec<f32> = wanted[0].to_f32().iter().copied().collect();
    if !integers || is_exact(&simple, &simple_weights) {
        agree("the reference", &right, &wanted.iter().all(|x| x.is_finite()).then_some(wanted));
    }
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::model(data, size, max_size, &mut Rng::with_seed(seed.into()))
});

/// Whether all of it runs in milliseconds: few elements, with what convolutions put around them, and few products.
fn is_small(graph: &Graph) -> bool {
    let count = |node: &kinora::model::graph::Node| {
        let padded = |shape: &[usize], pad: &[(usize, usize)]| {
            shape[..2].iter().product::<usize>()
                * shape[2..].iter().zip(pad).map(|(n, p)| n + p.0 + p.1).product::<usize>()
        };
        match &node.op {
            Op::Conv(conv) => padded(&graph.node(node.inputs[0]).shape, &conv.pad),
            _ => 0,
        }
        .max(node.shape.iter().product())
    };
    graph.nodes().len() < 100 && graph.nodes().iter().map(count).sum::<usize>() < 1 << 18 && graph.macs() < 1 << 22
}

fn window(engine: &Native, clip: &Array5<f32>, classes: usize) -> Option<Vec<f32>> {
    let mut logits = vec![0.0; classes];
    // Logits that are not finite are an error.
    session(engine).infer(clip.view(), &mut logits).ok().map(|()| logits)
}

/// What a stream says when the first window is full.
fn stream(engine: &Native, clip: &Array5<f32>, classes: usize) -> Option<Vec<f32>> {
    let (mut session, mut logits) = (session(engine), vec![0.0; classes]);
    for frame in clip.axis_iter(Axis(2)) {
        let plane: Vec<f32> = frame.iter().copied().collect();
        match session.push(&plane, &mut logits) {
            Ok(true) => return Some(logits),
            Ok(false) => {}
            Err(_) => return None,
        }
    }
    panic!("a stream says nothing in a whole window");
}

fn session(engine: &Native) -> Box<dyn Session> {
    engine.session().expect("a small session")
}

/// What the logits would be if nothing cancelled out: rounding errors are shares of it. `None` for nets with integers.
fn largest_sums(graph: &Graph, weights: &Weights, clip: &Array5<f32>) -> Option<f32> {
    let mut sums = Graph::default();
    let mut map = Vec::new();
    for node in graph.nodes() {
        let inputs: Vec<_> = node.inputs.iter().map(|value: &kinora::model::graph::Value| map[value.index()]).collect();
        map.push(match &node.op {
            Op::Input => sums.input(node.name.clone(), node.element, &node.shape).ok()?,
            Op::Quantize(_) => return None,
            // A clamp makes values small, but not the errors in them; what a gate makes is up to one.
            Op::Unary(function) => {
                let least = if matches!(function, Unary::Relu | Unary::Clip { .. }) { f32::NEG_INFINITY } else { 1.0 };
                let free = Unary::Clip { min: least, max: f32::INFINITY };
                sums.push(node.name.clone(), Op::Unary(free), &inputs).ok()?
            }
            Op::Binary(Binary::Sub) => sums.push(node.name.clone(), Op::Binary(Binary::Add), &inputs).ok()?,
            op => sums.push(node.name.clone(), op.clone(), &inputs).ok()?,
        });
    }
    let outputs = graph.outputs().into_iter().map(|(name, value)| (name, map[value.index()])).collect();
    sums.set_outputs(outputs).ok()?;
    let weights = weights.iter().map(|(name, array)| (name.clone(), array.mapv(f32::abs))).collect();
    let logits = reference::run(&sums, &weights, &[clip.mapv(f32::abs).into_dyn().into()]).ok()?;
    Some(logits[0].to_f32().iter().copied().fold(0.0, f32::max))
}

/// Whether integers stand for floats without any rounding but the one to bytes: all scales and counts are powers of two, and
/// all sums have less than 24 bits.
fn is_exact(graph: &Graph, weights: &Weights) -> bool {
    let power = |x: f32| x.to_bits() << 9 == 0 && (1e-6..1e6).contains(&x);
    let scale = |q: &Quantization| q.element != Element::F32 && q.scale.iter().all(|s| power(*s));
    let parameter = |name: &str, suffix: &str| weights.get(&format!("{name}.{suffix}"));
    let read = |value: kinora::model::graph::Value| match &graph.node(value).op {
        Op::Dequantize(q) => Some(q.scale[0]),
        _ => None,
    };
    let shape = |value: kinora::model::graph::Value| graph.node(value).shape.as_slice();
    graph.nodes().iter().all(|node| match &node.op {
        Op::Input | Op::Unary(Unary::Relu | Unary::Clip { .. }) | Op::Reshape(_) | Op::Concat { .. } => true,
        Op::Quantize(q) | Op::Dequantize(q) => scale(q),
        Op::Conv(_) | Op::Dense(_) => {
            let (Some(input), Some(weight)) = (read(node.inputs[0]), parameter(&node.name, "weight")) else {
                return false;
            };
            let Some(scales) = parameter(&node.name, "weight_scale") else { return false };
            let none = ArrayD::zeros(scales.raw_dim());
            let bias = parameter(&node.name, "bias").unwrap_or(&none);
            weight.outer_iter().zip(scales).zip(bias).all(|((row, &scale), &bias)| {
                let steps = bias / (scale * input);
                let sum = row.iter().map(|w| (w / scale).abs()).sum::<f32>() * 255.0 + steps.abs();
                power(scale) && steps.fract() == 0.0 && sum < 16_777_216.0
            })
        }
        Op::Pool(pool) => pool.function == PoolFunction::Max || pool.kernel.iter().product::<usize>().is_power_of_two(),
        Op::Mean { .. } => {
            let count = shape(node.inputs[0])[2..].iter().product::<usize>();
            count.is_power_of_two() && count < 1 << 15
        }
        // Both terms are whole steps of their sum.
        Op::Binary(Binary::Add) => {
            let reader =
                |of: usize| graph.nodes().iter().find(|node| node.inputs.iter().any(|value| value.index() == of));
            let mut at = graph.values().find(|(_, other)| *other == node).map(|(value, _)| value.index());
            let sum = loop {
                match at.and_then(reader).map(|node| (&node.op, &node.name)) {
                    Some((Op::Unary(_), name)) => {
                        at = graph.values().find(|(_, node)| node.name == *name).map(|(value, _)| value.index());
                    }
                    Some((Op::Quantize(q), _)) => break q.scale[0],
                    _ => return false,
                }
            };
            node.inputs.iter().all(|value| read(*value).is_some_and(|scale| scale >= sum))
        }
        _ => false,
    })
}
