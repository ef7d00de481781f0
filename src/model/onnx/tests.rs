//! The format of what is written, and that what is written is read back.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::graph::{Binary, Conv, Op, Pool, Unary};
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
