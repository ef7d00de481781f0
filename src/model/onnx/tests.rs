//! The format of what is written, and that what is written is read back.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::graph::{Binary, Conv, Element, Op, Pool, Quantization, Unary, bias_steps};
use crate::model::{reference, testing};
use ndarray::{ArrayD, IxDyn};

/// A graph of every operation, and weights that differ in each place.
fn model() -> (Graph, Weights) {
    let (mut graph, clip) = Graph::new([2, 3, 8, 8]);
    let conv = Conv { pad: vec![(1, 0), (1, 1), (1, 1)], bias: true, ..Conv::new(2, [2, 3, 3]) };
    let x = graph.push("conv", Op::Conv(conv), &[clip]).unwrap();
    let x = graph.push("norm", Op::BatchNorm { eps: 1e-5 }, &[x]).unwrap();
    let x = graph.push("relu", Op::Unary(Unary::Relu), &[x]).unwrap();
    let x = graph.push("sum", Op::Binary(Binary::Add), &[x, clip]).unwrap();
    let x = graph.push("pool", Op::Pool(Pool::average([1, 2, 2])), &[x]).unwrap();
    let x = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    graph.push("head", Op::dense(4), &[x]).unwrap();
    let mut next = 0.0;
    let mut count = || {
        next += 0.125;
        next
    };
    let tensor = |shape: &[usize]| ArrayD::from_shape_simple_fn(IxDyn(shape), &mut count);
    let shapes: Vec<_> = graph.parameters().into_iter().map(|p| (p.name, p.shape)).collect();
    let mut tensor = tensor;
    let weights = shapes.into_iter().map(|(name, shape)| (name, tensor(&shape))).collect();
    (graph, weights)
}

#[test]
fn nodes_and_attributes_are_those_of_the_graph() {
    let (graph, weights) = model();
    let model = decode(&to_bytes(&graph, &weights).unwrap()).unwrap();
    let nodes = &model.graph.as_ref().unwrap().node;
    let names: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.op_type.as_str())).collect();
    let wanted = [
        ("conv", "Conv"),
        ("norm", "BatchNormalization"),
        ("relu", "Relu"),
        ("sum", "Add"),
        ("pool", "AveragePool"),
        ("mean", "ReduceMean"),
        ("head", "Gemm"),
    ];
    assert_eq!(names, wanted);
    assert_eq!(nodes[0].input, ["clip", "conv.weight", "conv.bias"]);
    assert_eq!(nodes[0].attribute[2].ints, [1, 1, 1, 0, 1, 1], "begins, then ends");
    let norm = ["conv", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"];
    assert_eq!(nodes[1].input, norm);
    assert_eq!(nodes[6].output, ["logits"]);
    assert_eq!(weights_of(&model).unwrap(), weights);
}

#[test]
fn graphs_that_are_no_model_are_refused() {
    let (mut graph, clip) = Graph::new([1, 1, 8, 8]);
    graph.push("logits", Op::Unary(Unary::Relu), &[clip]).unwrap();
    let x = graph.push("relu", Op::Unary(Unary::Relu), &[clip]).unwrap();
    graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    assert!(to_bytes(&graph, &Weights::new()).is_err_and(|e| e.to_string().contains("'logits'")));
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let (graph, weights) = model();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    write(&graph, &weights, &path).unwrap();
    let first = std::fs::read(&path).unwrap();
    write(&graph, &weights, &path).unwrap();
    assert_eq!(first, std::fs::read(&path).unwrap());
    assert_eq!(read_weights(&path).unwrap(), weights);
    let blocked = folder.path().join("folder");
    std::fs::create_dir_all(blocked.join("something")).unwrap();
    for path in [blocked, folder.path().join("nowhere/model.onnx"), path.join("model.onnx")] {
        let error = write(&graph, &weights, &path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Output, "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file was left behind");
}

/// Writing and reading gives the same graph and weights, for every operation.
#[test]
fn what_is_written_is_read() {
    let mut operations = std::collections::BTreeSet::new();
    for seed in 0..600 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let graph = testing::graph(rng);
        let weights = testing::weights(rng, &graph);
        let bytes = to_bytes(&graph, &weights).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let (again, same) = graph_from_bytes(&bytes).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{graph:#?}"));
        assert_eq!(again, graph, "seed {seed}");
        assert!(same == weights, "seed {seed}: other weights");
        let name = |op: &Op| op.to_string().split(' ').next().unwrap_or_default().to_owned();
        operations.extend(graph.nodes().iter().map(|node| name(&node.op)));
    }
    assert!(operations.len() >= 25, "{operations:?}");
}

/// `clip`, quantised, a convolution of i8 weights with a bias of i32 steps, quantised again.
fn quantized(bias: i32) -> (Graph, Weights) {
    let (mut graph, clip) = Graph::new([2, 3, 4, 4]);
    let quantization = Quantization::per_tensor(Element::U8, 0.0123, 7);
    let q = graph.push("q", Op::Quantize(quantization.clone()), &[clip]).unwrap();
    let x = graph.push("x", Op::Dequantize(quantization), &[q]).unwrap();
    let conv = Conv { bias: true, quantized: true, ..Conv::new(2, [1, 3, 3]) };
    let y = graph.push("conv", Op::Conv(conv), &[x]).unwrap();
    let z = graph.push("z", Op::Quantize(Quantization::per_tensor(Element::I8, 0.1, -3)), &[y]).unwrap();
    graph.set_outputs(vec![("logits".into(), z)]).unwrap();
    let mut weights = testing::weights(&mut fastrand::Rng::with_seed(4), &graph);
    let grid = weights["conv.weight_scale"].mapv(|scale| 0.0123 * scale);
    weights.insert("conv.bias".into(), grid.mapv(|scale| bias as f32 * scale));
    (graph, weights)
}

#[test]
fn a_quantised_layer_keeps_its_steps() {
    for bias in [0, 1, -5, 12345, -(1 << 20), (1 << 23) - 1] {
        let (graph, weights) = quantized(bias);
        let bytes = to_bytes(&graph, &weights).unwrap();
        let model = decode(&bytes).unwrap();
        let tensor = |name: &str| model.graph.as_ref().unwrap().initializer.iter().find(|t| t.name == name).unwrap();
        assert_eq!(tensor("conv.weight").data_type, DataType::Int8 as i32);
        let stored = tensor("conv.bias");
        assert_eq!(stored.data_type, DataType::Int32 as i32);
        assert_eq!(stored.raw_data[..4], bias.to_le_bytes());
        let (_, again) = graph_from_bytes(&bytes).unwrap();
        assert_eq!(again, weights, "{bias}");
        for (value, scale) in again["conv.bias"].iter().zip(&again["conv.weight_scale"]) {
            assert_eq!(bias_steps(*value, 0.0123, *scale), Some(bias));
        }
    }
}

/// What is done to the quantised model, and a part of the reason it is then refused for.
type Spoil = (fn(&mut tract_onnx::pb::GraphProto), &'static str);

#[test]
fn quantised_models_that_we_cannot_compute_are_refused() {
    fn tensor<'g>(graph: &'g mut tract_onnx::pb::GraphProto, name: &str) -> &'g mut tract_onnx::pb::TensorProto {
        graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }
    let cases: [Spoil; 10] = [
        (|g| tensor(g, "conv.bias_scale").raw_data[2] ^= 1, "its bias 'conv.bias.dequantized' is 1000 steps"),
        (|g| tensor(g, "conv.weight").data_type = DataType::Uint8 as i32, "i8 with zero point 0"),
        (|g| tensor(g, "conv.weight_scale").raw_data[..4].fill(0), "scale 0 is not positive"),
        (|g| tensor(g, "q.scale").raw_data.copy_from_slice(&f32::NAN.to_le_bytes()), "scale NaN"),
        (|g| tensor(g, "q.zero_point").data_type = DataType::Bool as i32, "7 is no BOOL"),
        (|g| tensor(g, "q.zero_point").dims = vec![2], "size of its shape"),
        (|g| g.node[2].attribute[0].i = 1, "along axis 0"),
        (|g| g.node[2].input.truncate(1), "input 1 is missing"),
        (|g| tensor(g, "z.scale").dims = vec![1, 1], "read"),
        (|g| g.node[4].input[1] = "conv.weight".into(), "a DequantizeLinear is missing"),
    ];
    let (graph, weights) = quantized(1000);
    let good = write::write(&graph, &weights).unwrap();
    for (spoil, reason) in cases {
        let mut model = good.clone();
        spoil(model.graph.as_mut().unwrap());
        match graph_from_bytes(&model.encode_to_vec()) {
            Err(error) => assert!(error.to_string().contains(reason), "{reason}: {error}"),
            // One scale is one scale, whatever its shape.
            Ok(_) => assert_eq!(reason, "read"),
        }
    }
}

#[test]
fn what_is_no_protobuf_is_refused() {
    let (graph, weights) = model();
    let good = to_bytes(&graph, &weights).unwrap();
    let cases: [(&[u8], &str); 4] = [
        (b"", "the file is empty"),
        (&good[..good.len() - 1], "not an ONNX model, or cut off"),
        (&[0xff; 40], "not an ONNX model, or cut off"),
        (b"model: a text", "not an ONNX model, or cut off"),
    ];
    for (bytes, reason) in cases {
        let error = graph_from_bytes(bytes).unwrap_err();
        assert!(error.kind() == ErrorKind::Model && error.to_string().contains(reason), "{reason}: {error}");
    }
}

/// Bytes that were changed anywhere give a graph or an error that names its reason in one line.
#[test]
fn hostile_bytes_give_errors() {
    let (mut refused, mut read) = (0, 0);
    for seed in 0..60 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let graph = testing::graph(rng);
        let good = to_bytes(&graph, &testing::weights(rng, &graph)).unwrap();
        for _ in 0..150 {
            let mut broken = good.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(0..broken.len());
                broken[at] = if rng.bool() { broken[at] ^ (1 << rng.u8(0..8)) } else { rng.u8(..) };
            }
            if rng.u8(0..8) == 0 {
                broken.truncate(rng.usize(0..broken.len()));
            }
            match graph_from_bytes(&broken) {
                Ok(_) => read += 1,
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.kind(), ErrorKind::Model, "seed {seed}: {error}");
                }
            }
        }
    }
    assert!(refused > 1000 && read > 300, "{refused} refused, {read} read");
}

#[test]
fn quantised_convolutions_become_qlinear() {
    let (graph, weights) = quantized(1000);
    let mut model = write::write(&graph, &weights).unwrap();
    qlinear::convolutions(&mut model).unwrap();
    let operators = |model: &ModelProto| -> Vec<String> {
        model.graph.as_ref().unwrap().node.iter().map(|node| node.op_type.clone()).collect()
    };
    assert_eq!(operators(&model), ["QuantizeLinear", "QLinearConv"]);
    let rewritten = model.graph.as_ref().unwrap();
    let names = ["q", "x.scale", "x.zero_point"].into_iter();
    let names = names.chain(["conv.weight", "conv.weight_scale", "conv.weight.zero", "z.scale", "z.zero_point"]);
    assert!(rewritten.node[1].input.iter().eq(names.chain(["conv.bias"])), "{:?}", rewritten.node[1].input);
    assert_eq!(rewritten.node[1].output, ["logits"]);
    assert!(rewritten.initializer.iter().all(|tensor| tensor.name != "conv.bias_scale"), "nothing reads it");
    check::check(&model).unwrap();

    let (graph, weights) = model_with_relu(0);
    let mut model = write::write(&graph, &weights).unwrap();
    qlinear::convolutions(&mut model).unwrap();
    assert_eq!(operators(&model), ["QuantizeLinear", "QLinearConv"], "the saturation is the Relu");
    let (graph, weights) = model_with_relu(3);
    let error = qlinear::convolutions(&mut write::write(&graph, &weights).unwrap()).unwrap_err();
    assert!(error.to_string().contains("'conv' (Conv): its result is not quantised to a u8 whose"), "{error}");
    let (graph, weights) = self::model();
    let error = qlinear::convolutions(&mut write::write(&graph, &weights).unwrap()).unwrap_err();
    assert!(error.to_string().contains("'conv' (Conv): its input does not come from"), "{error}");
}

/// A quantised convolution, a ReLU and a quantisation with the zero point `zero`.
fn model_with_relu(zero: i32) -> (Graph, Weights) {
    let (mut graph, clip) = Graph::new([2, 3, 4, 4]);
    let quantization = Quantization::per_tensor(Element::U8, 0.0123, 7);
    let q = graph.push("q", Op::Quantize(quantization.clone()), &[clip]).unwrap();
    let x = graph.push("x", Op::Dequantize(quantization), &[q]).unwrap();
    let conv = Conv { quantized: true, ..Conv::new(2, [1, 3, 3]) };
    let y = graph.push("conv", Op::Conv(conv), &[x]).unwrap();
    let y = graph.push("relu", Op::Unary(Unary::Relu), &[y]).unwrap();
    let z = graph.push("z", Op::Quantize(Quantization::per_tensor(Element::U8, 0.1, zero)), &[y]).unwrap();
    graph.set_outputs(vec![("logits".into(), z)]).unwrap();
    let weights = testing::weights(&mut fastrand::Rng::with_seed(4), &graph);
    (graph, weights)
}

/// Frame after frame with states, or all at once: the same logits, to the last bit, in floats and in integers.
#[test]
fn what_is_unrolled_computes_what_its_frames_do() {
    const FRAMES: usize = 4;
    for quantized in [false, true] {
        let (graph, weights) = recurrent(quantized);
        let (all, all_weights) = graph_from_bytes(&unrolled(&graph, &weights, FRAMES).unwrap()).unwrap();
        assert_eq!((all.input_shape(), &all.output().shape[..]), (&[1, 2, FRAMES, 5, 5][..], &[1, FRAMES, 3][..]));
        let mut random = fastrand::Rng::with_seed(3);
        let clip = ArrayD::from_shape_simple_fn(IxDyn(&[1, 2, FRAMES, 5, 5]), || random.f32() - 0.5);
        let wanted = reference::run(&all, &all_weights, &[clip.clone().into()]).unwrap()[0].to_f32();
        let mut state = reference::Tensor::from(ArrayD::zeros(IxDyn(&[1, 2, 1, 5, 5])));
        for t in 0..FRAMES {
            let frame =
                clip.slice_each_axis(|axis| if axis.axis.index() == 2 { (t..t + 1).into() } else { (..).into() });
            let mut outputs = reference::run(&graph, &weights, &[frame.to_owned().into(), state]).unwrap();
            state = outputs.pop().unwrap();
            let logits: Vec<f32> = outputs[0].to_f32().iter().copied().collect();
            assert_eq!(logits, wanted.index_axis(ndarray::Axis(1), t).iter().copied().collect::<Vec<_>>(), "frame {t}");
        }
    }
    let (graph, weights) = model();
    assert!(unrolled(&graph, &weights, 3).unwrap_err().to_string().contains("not unrolled"));
}

/// A state that a convolution sees, and logits of it.
fn recurrent(quantized: bool) -> (Graph, Weights) {
    let (mut graph, clip) = Graph::new([2, 1, 5, 5]);
    let state = graph.input("state", Element::F32, &[1, 2, 1, 5, 5]).unwrap();
    let pad = vec![(0, 0), (1, 1), (1, 1)];
    let through = |graph: &mut Graph, name: &str, x| {
        let q = Quantization::per_tensor(Element::U8, 1.0 / 64.0, 128);
        if !quantized {
            return x;
        }
        let y = graph.push(format!("{name}.q"), Op::Quantize(q.clone()), &[x]).unwrap();
        graph.push(format!("{name}.dq"), Op::Dequantize(q), &[y]).unwrap()
    };
    let x = through(&mut graph, "before", state);
    let x = graph.push("conv", Op::Conv(Conv { pad, quantized, ..Conv::new(2, [1, 3, 3]) }), &[x]).unwrap();
    let x = graph.push("sum", Op::Binary(Binary::Add), &[x, clip]).unwrap();
    let x = graph.push("next", Op::Unary(Unary::Tanh), &[x]).unwrap();
    let next = through(&mut graph, "after", x);
    let mean = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[next]).unwrap();
    let head = graph.push("head", Op::dense(3), &[mean]).unwrap();
    graph.set_outputs(vec![(OUTPUT.into(), head), ("state.next".into(), next)]).unwrap();
    let weights = testing::weights(&mut fastrand::Rng::with_seed(5), &graph);
    (graph, weights)
}
