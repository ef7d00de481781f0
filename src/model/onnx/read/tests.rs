//! Forms that other programs write, and what is refused.
#![allow(clippy::unwrap_used)]

use prost::Message;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};
use tract_onnx::pb::{TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType};
use tract_onnx::pb::{
    tensor_proto::DataType, tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};

use super::super::graph_from_bytes;
use super::super::tensor::{float_tensor, int_tensor};
use super::super::write::{attribute, float, int, ints, string};
use crate::ErrorKind;
use crate::model::graph::{
    Conv, Dense, Element, Graph, Op, Pad, Pool, Quantization, Slice, Unary, Weights, bias_steps,
};
use crate::model::reference;

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let input = inputs.iter().map(|name| (*name).to_owned()).collect();
    let output = output.split(' ').map(String::from).collect();
    NodeProto { op_type: op.into(), input, output, attribute, ..Default::default() }
}

fn value(name: &str, shape: &[i64]) -> ValueInfoProto {
    let size = |n: i64| match n {
        -1 => dimension::Value::DimParam("N".into()),
        n => dimension::Value::DimValue(n),
    };
    let dim = shape.iter().map(|&n| Dimension { value: Some(size(n)), ..Default::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    let r#type = Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

/// A model from `x` to `y`.
fn model(opset: i64, shape: &[i64], node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let (input, output) = (vec![value("x", shape)], vec![value("y", &[])]);
    let graph = GraphProto { node, initializer, input, output, ..Default::default() };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset }];
    ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() }
}

fn read(model: &ModelProto) -> (Graph, Weights) {
    graph_from_bytes(&model.encode_to_vec()).unwrap()
}

fn list(name: &str, values: &[i64]) -> TensorProto {
    int_tensor(name, DataType::Int64, &[values.len()], values.iter().copied())
}

fn floats(name: &str, shape: &[usize], values: &[f32]) -> TensorProto {
    float_tensor(name, &ndarray::ArrayD::from_shape_vec(shape.to_vec(), values.to_vec()).unwrap())
}

/// The operations after the input.
fn ops(graph: &Graph) -> Vec<Op> {
    graph.nodes()[1..].iter().map(|node| node.op.clone()).collect()
}

#[test]
fn a_shape_is_computed_from_constants() {
    let zero = int_tensor("zero", DataType::Int64, &[], [0]);
    let minus = attribute("value", AttributeType::Tensor, |a| a.t = Some(list("", &[-1])));
    let nodes = vec![
        node("Shape", &["x"], "shape", vec![]),
        node("Gather", &["shape", "zero"], "n", vec![int("axis", 0)]),
        node("Unsqueeze", &["n", "axes"], "batch", vec![]),
        node("Constant", &[], "rest", vec![minus]),
        node("Slice", &["shape", "one", "two"], "channels", vec![]),
        node("Mul", &["channels", "two"], "more", vec![]),
        node("Concat", &["batch", "more", "rest"], "wanted", vec![int("axis", 0)]),
        node("Cast", &["wanted"], "cast", vec![int("to", 7)]),
        node("Reshape", &["x", "cast"], "y", vec![]),
    ];
    let constants = vec![zero, list("axes", &[0]), list("one", &[1]), list("two", &[2])];
    let (graph, weights) = read(&model(13, &[-1, 3, 4, 5], nodes, constants));
    assert_eq!(ops(&graph), [Op::Reshape(vec![1, 6, 10])]);
    assert_eq!(graph.outputs()[0].0, "y");
    assert!(weights.is_empty());
}

#[test]
fn older_and_newer_forms_mean_the_same() {
    let padding = vec![(0, 0), (0, 0), (1, 2), (0, 3)];
    let pads = [0, 0, 1, 0, 0, 0, 2, 3].map(|n: usize| n);
    let two = |old: (i64, NodeProto), new: (i64, NodeProto), constants: Vec<TensorProto>, wanted: Op| {
        let (graph, _) = read(&model(old.0, &[1, 1, 4, 6], vec![old.1], vec![]));
        assert_eq!(ops(&graph), std::slice::from_ref(&wanted));
        let (graph, _) = read(&model(new.0, &[1, 1, 4, 6], vec![new.1], constants));
        assert_eq!(ops(&graph), [wanted]);
    };
    let one = |n: f32| float_tensor("one", &ndarray::arr0(n).into_dyn());
    two(
        (10, node("Pad", &["x"], "y", vec![ints("pads", pads), float("value", 1.0)])),
        (13, node("Pad", &["x", "pads", "one"], "y", vec![])),
        vec![list("pads", &pads.map(|n| n as i64)), one(1.0)],
        Op::Pad(Pad { pad: padding, value: 1.0 }),
    );
    two(
        (6, node("Clip", &["x"], "y", vec![float("max", 6.0)])),
        (13, node("Clip", &["x", "", "one"], "y", vec![])),
        vec![one(6.0)],
        Op::Unary(Unary::Clip { min: f32::NEG_INFINITY, max: 6.0 }),
    );
    two(
        (11, node("Squeeze", &["x"], "y", vec![ints("axes", [1])])),
        (13, node("Squeeze", &["x", "axes"], "y", vec![])),
        vec![list("axes", &[-3])],
        Op::Reshape(vec![1, 4, 6]),
    );
    two(
        (13, node("ReduceMean", &["x"], "y", vec![ints("axes", [3, 2]), int("keepdims", 0)])),
        (18, node("ReduceMean", &["x", "axes"], "y", vec![int("keepdims", 0)])),
        vec![list("axes", &[2, -1])],
        Op::Mean { axes: vec![2, 3], keep: false },
    );
    let pool = Pool { pad: vec![(1, 1), (0, 0)], ..Pool::average([3, 2]) };
    two(
        (
            11,
            node(
                "AveragePool",
                &["x"],
                "y",
                vec![ints("kernel_shape", [3, 2]), ints("strides", [3, 2]), ints("pads", [1, 0, 1, 0])],
            ),
        ),
        (
            19,
            node(
                "AveragePool",
                &["x"],
                "y",
                vec![ints("kernel_shape", [3, 2]), ints("strides", [3, 2]), string("auto_pad", "SAME_UPPER")],
            ),
        ),
        vec![],
        Op::Pool(pool),
    );
}

#[test]
fn splits_and_slices_are_slices_of_one_axis() {
    let slice = |axis, start, length, step| Op::Slice(Slice { axis, start, length, step });
    let sum = |a: &str, b: &str| node("Concat", &[a, b], "y", vec![int("axis", -1)]);
    let nodes = vec![node("Split", &["x"], "a b", vec![int("axis", 1)]), sum("a", "b")];
    let (graph, _) = read(&model(11, &[1, 5], nodes, vec![]));
    assert_eq!(ops(&graph)[..2], [slice(1, 0, 3, 1), slice(1, 3, 2, 1)]);
    let nodes = vec![node("Split", &["x", "parts"], "a b", vec![int("axis", 1)]), sum("b", "a")];
    let (graph, _) = read(&model(13, &[1, 5], nodes, vec![list("parts", &[1, 4])]));
    assert_eq!(ops(&graph), [slice(1, 0, 1, 1), slice(1, 1, 4, 1), Op::Concat { axis: 1 }]);
    let constants = vec![
        list("starts", &[0, -3, 1]),
        list("ends", &[99, -1, i64::MAX]),
        list("axes", &[0, 2, -3]),
        list("steps", &[1, 1, 2]),
    ];
    let nodes = vec![node("Slice", &["x", "starts", "ends", "axes", "steps"], "y", vec![])];
    let (graph, _) = read(&model(13, &[2, 6, 4, 3], nodes, constants));
    assert_eq!(ops(&graph), [slice(2, 1, 2, 1), slice(1, 1, 3, 2)]);
    assert_eq!(graph.output().shape, [2, 3, 2, 3]);
}

#[test]
fn what_does_nothing_for_inference_goes() {
    let nodes = vec![
        node("Dropout", &["x"], "a mask", vec![float("ratio", 0.5)]),
        node("Identity", &["a"], "b", vec![]),
        node("Identity", &["c"], "same", vec![]),
        node("Add", &["b", "same"], "y", vec![]),
    ];
    let (graph, weights) = read(&model(13, &[1, 2], nodes, vec![floats("c", &[2], &[1.0, 2.0])]));
    assert_eq!(graph.nodes().len(), 3);
    assert_eq!(weights["same.value"].as_slice().unwrap(), [1.0, 2.0]);
}

/// Weights as Gemm and MatMul have them, `[C, features]`, i8 along axis 1, beside floats that pass through Quantize.
#[test]
fn quantised_weights_in_other_places() {
    let quantization = [floats("s", &[], &[0.5]), int_tensor("z", DataType::Uint8, &[], [3])];
    let input = || {
        vec![
            node("QuantizeLinear", &["x", "s", "z"], "q", vec![]),
            node("DequantizeLinear", &["q", "s", "z"], "d", vec![]),
        ]
    };
    let mut nodes = input();
    nodes.push(node("DequantizeLinear", &["w", "ws"], "wd", vec![int("axis", 1)]));
    nodes.push(node("DequantizeLinear", &["b", "bs"], "bd", vec![int("axis", 0)]));
    nodes.push(node("Gemm", &["d", "wd", "bd"], "y", vec![]));
    let mut constants = quantization.to_vec();
    constants.push(int_tensor("w", DataType::Int8, &[3, 2], [1, 2, 3, -4, 5, -128]));
    constants.push(floats("ws", &[2], &[0.1, 0.3]));
    constants.push(int_tensor("b", DataType::Int32, &[2], [1000, -8_000_000]));
    constants.push(floats("bs", &[2], &[0.5 * 0.1, 0.5 * 0.3]));
    let (graph, weights) = read(&model(13, &[1, 3], nodes.clone(), constants.clone()));
    assert_eq!(graph.nodes()[1].op, Op::Quantize(Quantization::per_tensor(Element::U8, 0.5, 3)));
    assert_eq!(graph.output().op, Op::Dense(Dense { features: 2, bias: true, quantized: true }));
    assert_eq!(weights["y.weight_scale"].as_slice().unwrap(), [0.1, 0.3]);
    let wanted = [1.0 * 0.1, 3.0 * 0.1, 5.0 * 0.1, 2.0 * 0.3, -4.0 * 0.3, -128.0 * 0.3f32];
    assert_eq!(weights["y.weight"].as_slice().unwrap(), wanted);
    assert_eq!(bias_steps(weights["y.bias"][1], 0.5, 0.3), Some(-8_000_000));
    // The floats that are quantised are the same weights.
    nodes[2] = node("QuantizeLinear", &["wf", "ws", "wz"], "w", vec![int("axis", 1)]);
    nodes.insert(3, node("DequantizeLinear", &["w", "ws", "wz"], "wd", vec![int("axis", 1)]));
    constants.remove(2);
    constants.push(floats("wf", &[3, 2], &[0.1, 0.64, 0.33, -1.2, 0.5, -99.0]));
    constants.push(int_tensor("wz", DataType::Int8, &[2], [0, 0]));
    assert_eq!(read(&model(13, &[1, 3], nodes, constants)).1, weights);
    // One scale for all, and no bias.
    let mut nodes = input();
    nodes.push(node("DequantizeLinear", &["w", "ws"], "wd", vec![]));
    nodes.push(node("MatMul", &["d", "wd"], "y", vec![]));
    let mut constants = quantization.to_vec();
    constants.push(int_tensor("w", DataType::Int8, &[3, 2], [1, 2, 3, -4, 5, -128]));
    constants.push(floats("ws", &[], &[0.1]));
    let (graph, weights) = read(&model(13, &[1, 3], nodes, constants));
    assert_eq!(weights["y.weight_scale"].as_slice().unwrap(), [0.1, 0.1]);
    let x = ndarray::arr2(&[[1.0f32, 0.2, 0.26]]).into_dyn();
    let y = reference::run(&graph, &weights, &[x.into()]).unwrap()[0].to_f32();
    // x is 1, 0, 0.5 (halves, ties to even).
    let wanted = [1.0 * 0.1 + 0.5 * 0.5, 0.2 - 0.5 * 12.8];
    assert!(y.iter().zip(wanted).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{y}");
}

fn assert_refused(model: &ModelProto, reason: &str) {
    let error = graph_from_bytes(&model.encode_to_vec()).unwrap_err();
    assert!(error.kind() == ErrorKind::Model && error.to_string().contains(reason), "{reason}: {error}");
}

#[test]
fn what_we_cannot_compute_is_refused_by_name() {
    let conv = |attributes| node("Conv", &["x", "w"], "y", attributes);
    let w = || vec![floats("w", &[1, 2, 1, 1], &[1.0, 2.0])];
    let case = |opset, shape: &[i64], nodes, constants| model(opset, shape, nodes, constants);
    let x = &[1, 2, 4, 4][..];
    let spoiled = |x| vec![floats("w", &[1, 2, 1, 1], &[1.0, x])];
    let cases: Vec<(ModelProto, &str)> = vec![
        (case(5, x, vec![conv(vec![])], w()), "operator set [5] is not read"),
        (case(99, x, vec![conv(vec![])], w()), "17 for example"),
        (
            case(13, x, vec![node("Einsum", &["x"], "y", vec![])], vec![]),
            "node 'y' (Einsum): this operator is not read",
        ),
        (case(13, x, vec![node("Div", &["x", "x"], "y", vec![])], vec![]), "node 'y' (Div): it is only read where"),
        (case(13, x, vec![conv(vec![int("spam", 1)])], w()), "attribute 'spam' is not supported"),
        (case(13, x, vec![conv(vec![int("strides", 1)])], w()), "attribute 'strides' is no INTS"),
        (case(13, x, vec![conv(vec![ints("strides", [0, 1])])], w()), "is 0"),
        (case(13, x, vec![conv(vec![ints("kernel_shape", [2, 1])])], w()), "not that of the weights"),
        (case(13, x, vec![conv(vec![int("group", -1)])], w()), "do not fit"),
        (case(13, x, vec![conv(vec![string("auto_pad", "SAME")])], w()), "auto_pad 'SAME'"),
        (case(13, x, vec![conv(vec![])], spoiled(f32::INFINITY)), "parameter 'y.weight': inf is not finite"),
        (case(13, x, vec![conv(vec![])], spoiled(f32::NAN)), "parameter 'y.weight': NaN is not finite"),
        (case(13, x, vec![node("Conv", &["x", "x"], "y", vec![])], vec![]), "must be a constant"),
        (case(13, &[1, 2, -1, 4], vec![conv(vec![])], w()), "only its first axis may be left open"),
        (case(13, &[1, 2, 1 << 40, 4], vec![conv(vec![])], w()), "empty or too large"),
        (case(13, &[1, 0, 4], vec![node("Relu", &["x"], "y", vec![])], vec![]), "fixed sizes"),
        (case(13, x, vec![node("Relu", &["y"], "y", vec![])], vec![]), "made by nothing before it"),
        (case(13, x, vec![node("Reshape", &["x", "x"], "y", vec![])], vec![]), "does not depend on the model's input"),
        (
            case(13, x, vec![node("Reshape", &["x", "s"], "y", vec![])], vec![list("s", &[-1, -1])]),
            "cannot get the shape",
        ),
        (
            case(13, x, vec![node("Reshape", &["x", "s"], "y", vec![])], vec![list("s", &[5, -1])]),
            "not as many elements",
        ),
        (
            case(13, x, vec![node("Tile", &["x", "s"], "y", vec![])], vec![list("s", &[1 << 40; 4])]),
            "this operator is not read",
        ),
        (case(13, x, vec![node("Pad", &["x", "s"], "y", vec![])], vec![list("s", &[1 << 40; 8])]), "does not fit"),
        (
            case(
                13,
                x,
                vec![
                    node("MaxPool", &["x"], "y z", vec![ints("kernel_shape", [1, 1])]),
                    node("Relu", &["z"], "u", vec![]),
                ],
                vec![],
            ),
            "'z' is an output of a node that we do not compute",
        ),
        (case(11, x, vec![node("Softmax", &["x"], "y", vec![])], vec![]), "export the model for set 17"),
        (case(13, x, vec![node("Softmax", &["x"], "y", vec![int("axis", 4)])], vec![]), "there is no axis 4 of 4"),
    ];
    for (model, reason) in cases {
        assert_refused(&model, reason);
    }
    // What the cases above are spoiled from.
    let (graph, _) = read(&model(13, x, vec![conv(vec![])], w()));
    assert_eq!(ops(&graph), [Op::Conv(Conv::new(1, [1, 1]))]);
}

#[test]
fn graphs_that_go_in_circles_are_refused() {
    let nodes = vec![node("Add", &["x", "b"], "a", vec![]), node("Relu", &["a"], "b", vec![])];
    let mut circle = model(13, &[1, 2], nodes, vec![]);
    circle.graph.as_mut().unwrap().output[0].name = "b".into();
    assert_refused(&circle, "node 'Add': its input 'b' is made by nothing before it");
}

/// Lists of whole numbers that are computed while a file is read.
#[test]
fn computed_lists_are_checked() {
    let add = |inputs: &[&str]| vec![node("Add", inputs, "s", vec![]), node("Reshape", &["x", "s"], "y", vec![])];
    let constants = vec![list("a", &[1, 2]), list("b", &[i64::MAX, 1]), list("c", &[1, 2, 3])];
    for (inputs, reason) in [
        (&["a"][..], "node 's' (Add): 2 inputs wanted, 1 given"),
        (&["a", "a", "a"], "2 inputs wanted, 3 given"),
        (&["a", "b"], "a number is out of range"),
        (&["a", "c"], "do not broadcast"),
    ] {
        assert_refused(&model(13, &[2, 2], add(inputs), constants.clone()), reason);
    }
    let long = vec![node("Concat", &["l", "l"], "y", vec![int("axis", 0)])];
    assert_refused(&model(13, &[2, 2], long, vec![list("l", &[1; 600])]), "node 'y' (Concat): a list of more than");
}

/// Short files whose constants would fill the memory.
#[test]
fn constants_without_end_are_refused() {
    let one = vec![floats("w", &[], &[1.0])];
    let spread = vec![node("LayerNormalization", &["x", "w"], "y", vec![int("axis", 0)])];
    assert_refused(&model(17, &[1, 1 << 14, 1 << 14], spread, one), "node 'y' (LayerNormalization): its constants");
    let mut repeated: Vec<_> = (0..40).map(|n| node("Identity", &["w"], &format!("w{n}"), vec![])).collect();
    repeated.push(node("Relu", &["x"], "y", vec![]));
    let large = vec![float_tensor("w", &ndarray::ArrayD::zeros(vec![1 << 20]))];
    assert_refused(&model(13, &[1, 2], repeated, large), "(Identity): its constants, as often as they are kept");
}
