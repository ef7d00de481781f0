//! From QDQ to QLinearConv, for engines that see no integers in Dequantize, Conv, Quantize: tract runs those in f32.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataType};

use super::call::label;
use super::tensor::int_tensor;
use crate::{Error, ErrorKind, Result};

/// Makes every convolution of `model` between Dequantize and Quantize a QLinearConv; a ReLU before the Quantize goes into its
/// saturation. What is not a convolution stays in f32.
///
/// # Errors
/// `Model`, naming the first convolution that is not quantised so.
pub(crate) fn convolutions(model: &mut ModelProto) -> Result<()> {
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let (nodes, mut zeros) = (rewritten(graph)?, Vec::new());
    for node in nodes.iter().filter(|node| node.op_type == "QLinearConv") {
        zeros.push(int_tensor(&node.input[5], DataType::Int8, &[], [0]));
    }
    graph.initializer.extend(zeros);
    graph.node = nodes;
    drop_unread(graph);
    Ok(())
}

/// The nodes with the convolutions rewritten, in their order. What they replace is still there.
fn rewritten(graph: &GraphProto) -> Result<Vec<NodeProto>> {
    let tensors: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut makers: HashMap<&str, &NodeProto> = HashMap::new();
    let mut readers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
    for node in &graph.node {
        makers.extend(node.output.iter().map(|name| (name.as_str(), node)));
        node.input.iter().for_each(|name| readers.entry(name).or_default().push(node));
    }
    let outputs: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let only_reader = |node: &NodeProto| match readers.get(node.output.first()?.as_str())?.as_slice() {
        [one] if !outputs.contains(node.output[0].as_str()) => Some(*one),
        _ => None,
    };
    let dequantized = |name: &str| makers.get(name).filter(|node| node.op_type == "DequantizeLinear").copied();
    let mut fused = HashMap::new();
    for node in graph.node.iter().filter(|node| node.op_type == "Conv") {
        let refuse = |why: &str| {
            let why = format!("node '{}' (Conv): {why}: it would run in floats", label(node));
            Error::new(ErrorKind::Model, why)
        };
        let given = |n: usize| node.input.get(n).filter(|name| !name.is_empty());
        let from = |n: usize, what: &str| {
            let maker = given(n).and_then(|name| dequantized(name)).filter(|maker| maker.input.len() > 1);
            maker.ok_or_else(|| refuse(&format!("{what} does not come from a DequantizeLinear")))
        };
        let (input, weights) = (from(0, "its input")?, from(1, "its weight")?);
        let [x, x_scale, x_zero] = &input.input[..] else { return Err(refuse("its input has no zero point")) };
        if weights.input.len() > 2 && !weights.input[2].is_empty() {
            return Err(refuse("its weight has a zero point"));
        }
        let mut end = only_reader(node).ok_or_else(|| refuse("its result is not only quantised"))?;
        let relu = end.op_type == "Relu";
        if relu {
            end = only_reader(end).ok_or_else(|| refuse("its result is not only quantised"))?;
        }
        let [_, y_scale, y_zero] = &end.input[..] else { return Err(refuse("its result is not quantised")) };
        // A ReLU is the saturation of a type whose least value stands for zero.
        let least = tensors.get(y_zero.as_str()).is_some_and(|zero| {
            zero.data_type == DataType::Uint8 as i32
                && zero.raw_data.iter().all(|byte| *byte == 0)
                && zero.int32_data.iter().all(|value| *value == 0)
        });
        if end.op_type != "QuantizeLinear" || relu && !least {
            return Err(refuse("its result is not quantised to a u8 whose zero point is 0 behind a Relu"));
        }
        let zero = format!("{}.zero", weights.input[0]);
        let mut inputs = vec![x, x_scale, x_zero, &weights.input[0], &weights.input[1], &zero, y_scale, y_zero];
        if given(2).is_some() {
            inputs.push(&from(2, "its bias")?.input[0]);
        }
        let node = NodeProto {
            op_type: "QLinearConv".into(),
            input: inputs.into_iter().cloned().collect(),
            output: end.output.clone(),
            ..node.clone()
        };
        fused.insert(end.output[0].as_str(), node);
    }
    let mut place = |node: &NodeProto| node.output.first().and_then(|name| fused.remove(name.as_str()));
    Ok(graph.node.iter().map(|node| place(node).unwrap_or_else(|| node.clone())).collect())
}

/// Removes nodes and initialisers that nothing reads any more.
fn drop_unread(graph: &mut GraphProto) {
    let mut read: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|name| read.contains(name)) {
            read.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|tensor| read.contains(&tensor.name));
}
