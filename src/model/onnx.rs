//! ONNX files from graphs, and weights from ONNX files, on `tract_onnx::pb`. Blocks on the file system.
//!
//! Batch norm stays a node of its own and every initialiser keeps its parameter's name, so that a bundle can be trained
//! further. The same graph and weights give the same bytes.

use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto::Dimension,
    tensor_shape_proto::dimension, type_proto,
};

use super::graph::{Binary, Graph, Node, Op, Pool, PoolFunction, Unary, Weights};
pub use super::graph::{INPUT, OUTPUT};
use super::{onnx_check, replace_file};
use crate::{Error, ErrorKind, Result};

const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// Writes `graph` with `weights` as ONNX: input `clip` `[1, C, T, H, W]`, output `logits` `[1, K]`. A file that is there
/// is replaced only once the new one is complete.
///
/// # Errors
/// `Model` when the weights do not fit or the graph does not end in logits, `Output` when the file cannot be written.
pub fn write(graph: &Graph, weights: &Weights, path: &Path) -> Result<()> {
    replace_file(path, &encode(graph, weights)?)
}

/// The float initialisers of an ONNX file by name: the parameters it was written from.
///
/// # Errors
/// `Model` when the file cannot be read.
pub fn read_weights(path: &Path) -> Result<Weights> {
    weights_of(&read(path)?).map_err(|error| error.within(path.display()))
}

/// The model in the ONNX file at `path`, checked for consistency: see [`onnx_check::check`].
pub(crate) fn read(path: &Path) -> Result<ModelProto> {
    let bytes = super::read_file(path)?;
    decode(&bytes).map_err(|error| error.within(path.display()))
}

pub(super) fn decode(bytes: &[u8]) -> Result<ModelProto> {
    let refuse = |why: &str| Error::new(ErrorKind::Model, format_args!("{why}: export the bundle again"));
    if bytes.is_empty() {
        return Err(refuse("the file is empty"));
    }
    let model = ModelProto::decode(bytes).map_err(|_| refuse("not an ONNX model, or cut off"))?;
    onnx_check::check(&model)?;
    Ok(model)
}

fn weights_of(model: &ModelProto) -> Result<Weights> {
    let mut weights = Weights::new();
    for tensor in model.graph.iter().flat_map(|graph| &graph.initializer) {
        if tensor.data_type == DataType::Float as i32 {
            weights.insert(tensor.name.clone(), array(tensor)?);
        }
    }
    Ok(weights)
}

fn array(tensor: &TensorProto) -> Result<ArrayD<f32>> {
    let shape: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
    let values = if tensor.raw_data.is_empty() {
        tensor.float_data.clone()
    } else {
        let (values, _) = tensor.raw_data.as_chunks::<4>();
        values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    ArrayD::from_shape_vec(IxDyn(&shape), values)
        .map_err(|why| Error::new(ErrorKind::Model, format_args!("initialiser '{}': {why}", tensor.name)))
}

pub(super) fn encode(graph: &Graph, weights: &Weights) -> Result<Vec<u8>> {
    graph.check(weights)?;
    let output = graph.output();
    if output.op == Op::Input || output.shape.len() != 2 {
        let why = format!("graph node '{}': a model ends in logits [N, K], not in {:?}", output.name, output.shape);
        return Err(Error::new(ErrorKind::Model, why));
    }
    let values = Values::new(graph)?;
    let mut initializer = Vec::new();
    for parameter in graph.parameters() {
        if let Some(tensor) = weights.get(&parameter.name) {
            initializer.push(float_tensor(&parameter.name, tensor));
        }
    }
    let nodes: Result<Vec<_>> = graph.nodes().iter().map(|node| values.node(graph, node)).collect();
    let proto = GraphProto {
        node: nodes?.into_iter().flatten().collect(),
        name: "kinora".into(),
        initializer,
        input: vec![value_info(INPUT, graph.input_shape())],
        output: vec![value_info(OUTPUT, &output.shape)],
        ..Default::default()
    };
    let model = ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        producer_name: "kinora".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(proto),
        ..Default::default()
    };
    onnx_check::check(&model)?;
    Ok(model.encode_to_vec())
}

/// The names of a graph's values in the file: those of its nodes, but for the output.
struct Values(Vec<String>);

impl Values {
    fn new(graph: &Graph) -> Result<Self> {
        let mut names: Vec<String> = graph.nodes().iter().map(|node| node.name.clone()).collect();
        if let Some(last) = names.last_mut() {
            *last = OUTPUT.into();
        }
        match graph.nodes().iter().take(names.len() - 1).find(|node| node.name == OUTPUT) {
            Some(_) => Err(Error::new(ErrorKind::Model, "graph node 'logits': only the last may have this name")),
            None => Ok(Self(names)),
        }
    }

    /// The ONNX nodes of `node`, with its values' and parameters' names.
    fn node(&self, graph: &Graph, node: &Node) -> Result<Vec<NodeProto>> {
        let Some(index) = graph.nodes().iter().position(|other| other.name == node.name) else { return Ok(vec![]) };
        let inputs = node.inputs.iter().map(|value| self.0[value.index()].clone());
        let inputs = inputs.chain(graph.node_parameters(node).into_iter().map(|p| p.name)).collect();
        let (op_type, attribute) = match &node.op {
            Op::Input => return Ok(vec![]),
            Op::Conv(conv) if !conv.quantized => {
                let pads = conv.pad.iter().map(|p| p.0).chain(conv.pad.iter().map(|p| p.1));
                let kernel = ints("kernel_shape", conv.kernel.iter().copied());
                ("Conv", vec![kernel, ints("strides", conv.stride.iter().copied()), ints("pads", pads)])
            }
            Op::BatchNorm { eps } => ("BatchNormalization", vec![float("epsilon", *eps)]),
            Op::Unary(Unary::Relu) => ("Relu", vec![]),
            Op::Pool(Pool { function: PoolFunction::Average { .. }, kernel, stride, .. }) => {
                let strides = ints("strides", stride.iter().copied());
                ("AveragePool", vec![ints("kernel_shape", kernel.iter().copied()), strides])
            }
            Op::Binary(Binary::Add) => ("Add", vec![]),
            Op::Mean { axes, keep: false } if axes == &[2, 3, 4] => {
                return Ok(global_average(node, inputs, &self.0[index]));
            }
            Op::Dense(dense) if !dense.quantized => ("Gemm", vec![int("transB", 1)]),
            other => {
                let why = format!("graph node '{}': operation '{other}' is not written", node.name);
                return Err(Error::new(ErrorKind::Model, why));
            }
        };
        Ok(vec![node_proto(&node.name, op_type, inputs, &self.0[index], attribute)])
    }
}

/// ONNX keeps the averaged axes as ones: they are flattened away.
fn global_average(node: &Node, inputs: Vec<String>, output: &str) -> Vec<NodeProto> {
    let pooled = format!("{}.pool", node.name);
    vec![
        node_proto(&pooled, "GlobalAveragePool", inputs, &pooled, vec![]),
        node_proto(&node.name, "Flatten", vec![pooled.clone()], output, vec![int("axis", 1)]),
    ]
}

fn node_proto(
    name: &str,
    op_type: &str,
    input: Vec<String>,
    output: &str,
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    let output = vec![output.to_owned()];
    NodeProto { input, output, name: name.into(), op_type: op_type.into(), attribute, ..Default::default() }
}

fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> AttributeProto {
    let ints = values.into_iter().map(|x| x as i64).collect();
    AttributeProto { name: name.into(), r#type: AttributeType::Ints as i32, ints, ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..Default::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Float as i32, f, ..Default::default() }
}

fn float_tensor(name: &str, tensor: &ArrayD<f32>) -> TensorProto {
    TensorProto {
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: DataType::Float as i32,
        name: name.into(),
        raw_data: tensor.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn value_info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), ..Default::default() };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    let r#type = Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::graph::Conv;

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
        let model = decode(&encode(&graph, &weights).unwrap()).unwrap();
        let nodes = &model.graph.as_ref().unwrap().node;
        let names: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.op_type.as_str())).collect();
        let wanted = [
            ("conv", "Conv"),
            ("norm", "BatchNormalization"),
            ("relu", "Relu"),
            ("sum", "Add"),
            ("pool", "AveragePool"),
            ("mean.pool", "GlobalAveragePool"),
            ("mean", "Flatten"),
            ("head", "Gemm"),
        ];
        assert_eq!(names, wanted);
        assert_eq!(nodes[0].input, ["clip", "conv.weight", "conv.bias"]);
        assert_eq!(nodes[0].attribute[2].ints, [1, 1, 1, 0, 1, 1], "begins, then ends");
        let norm = ["conv", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"];
        assert_eq!(nodes[1].input, norm);
        assert_eq!(nodes[7].output, ["logits"]);
        assert_eq!(weights_of(&model).unwrap(), weights);
    }

    #[test]
    fn graphs_that_are_no_model_are_refused() {
        let (mut graph, clip) = Graph::new([1, 1, 8, 8]);
        assert!(encode(&graph, &Weights::new()).is_err_and(|e| e.to_string().contains("[N, K]")));
        graph.push("logits", Op::Unary(Unary::Relu), &[clip]).unwrap();
        let x = graph.push("relu", Op::Unary(Unary::Relu), &[clip]).unwrap();
        graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
        assert!(encode(&graph, &Weights::new()).is_err_and(|e| e.to_string().contains("'logits'")));
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

    #[test]
    fn float_data_is_read_as_well() {
        let mut tensor = float_tensor("x", &ArrayD::from_elem(IxDyn(&[2, 1]), 1.5));
        tensor.raw_data.clear();
        tensor.float_data = vec![0.5, -2.0];
        assert_eq!(array(&tensor).unwrap(), ndarray::arr2(&[[0.5f32], [-2.0]]).into_dyn());
    }
}
