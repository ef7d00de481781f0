//! What must hold of an ONNX model before tract sees it: tract panics or allocates without bound on some of what is
//! refused here.

use std::collections::HashSet;

use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, TensorProto, ValueInfoProto, tensor_proto::DataLocation,
    tensor_proto::DataType, tensor_shape_proto::dimension, type_proto,
};

use super::{INPUT, NEXT, OUTPUT};
use crate::{Error, ErrorKind, Result};

/// The largest kernel, stride, padding or dilation along one axis.
const MAX_EXTENT: i64 = 1024;

fn refuse(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Model, format_args!("{why}: export the bundle again"))
}

/// Checks that `model` has one graph whose values exist, are made before they are read and have data of their shape.
///
/// # Errors
/// `Model`, naming the node or the initialiser.
pub(crate) fn check(model: &ModelProto) -> Result<()> {
    let graph = model.graph.as_ref().ok_or_else(|| refuse("not an ONNX model: it has no graph"))?;
    if model.ir_version < 1 || !model.opset_import.iter().any(|set| set.version > 0) {
        return Err(refuse("not a complete ONNX model: it names no operator set"));
    }
    if !model.functions.is_empty() || !graph.sparse_initializer.is_empty() {
        return Err(refuse("model functions and sparse initialisers are not supported"));
    }
    let mut values: HashSet<&str> = HashSet::new();
    for tensor in &graph.initializer {
        if tensor.name.is_empty() || !values.insert(&tensor.name) {
            return Err(refuse(format_args!("initialiser '{}': the name is empty or taken", tensor.name)));
        }
        check_tensor(tensor)?;
    }
    values.extend(graph.input.iter().map(|input| input.name.as_str()));
    for node in &graph.node {
        let name = if node.name.is_empty() { &node.op_type } else { &node.name };
        if let Some(missing) = node.input.iter().find(|input| !input.is_empty() && !values.contains(input.as_str())) {
            return Err(refuse(format_args!("node '{name}': its input '{missing}' is made by nothing before it")));
        }
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if !values.insert(output) {
                return Err(refuse(format_args!("node '{name}': its output '{output}' is made twice")));
            }
        }
        check_attributes(name, &node.attribute)?;
    }
    match graph.output.iter().find(|output| !values.contains(output.name.as_str())) {
        Some(output) => Err(refuse(format_args!("output '{}' is made by no node", output.name))),
        None => Ok(()),
    }
}

fn check_attributes(node: &str, attributes: &[AttributeProto]) -> Result<()> {
    for attribute in attributes {
        let extent = matches!(attribute.name.as_str(), "kernel_shape" | "strides" | "pads" | "dilations");
        if extent && !attribute.ints.iter().all(|x| (0..=MAX_EXTENT).contains(x)) {
            let (name, ints) = (&attribute.name, &attribute.ints);
            return Err(refuse(format_args!("node '{node}': {name} {ints:?} is out of range")));
        }
        attribute.t.iter().chain(&attribute.tensors).try_for_each(check_tensor)?;
        attribute.g.iter().chain(&attribute.graphs).flat_map(|graph| &graph.initializer).try_for_each(check_tensor)?;
    }
    Ok(())
}

fn check_tensor(tensor: &TensorProto) -> Result<()> {
    let refuse = |why: &dyn std::fmt::Display| refuse(format_args!("initialiser '{}': {why}", tensor.name));
    if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
        return Err(refuse(&"its data are in another file, which is not supported"));
    }
    let (size, unpacked) = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => (4, tensor.float_data.len()),
        Ok(DataType::Int32) => (4, tensor.int32_data.len()),
        Ok(DataType::Int8 | DataType::Uint8 | DataType::Bool) => (1, tensor.int32_data.len()),
        Ok(DataType::Int64) => (8, tensor.int64_data.len()),
        _ => return Err(refuse(&format_args!("data type {} is not supported", tensor.data_type))),
    };
    let len = tensor.dims.iter().try_fold(1usize, |len, &d| len.checked_mul(usize::try_from(d).ok()?));
    let len = len.ok_or_else(|| refuse(&format_args!("shape {:?} is impossible", tensor.dims)))?;
    let (given, wanted) =
        if tensor.raw_data.is_empty() { (unpacked, Some(len)) } else { (tensor.raw_data.len(), len.checked_mul(size)) };
    if tensor.segment.is_some() || wanted != Some(given) {
        return Err(refuse(&format_args!("its data do not have the size of its shape {:?}", tensor.dims)));
    }
    Ok(())
}

/// What a recurrent model remembers from one frame to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// `[1, C, 1, H, W]`.
    pub shape: Vec<usize>,
    /// Which of the outputs is its next value; of the inputs it is the one after the states before it, the first being the clip.
    pub output: usize,
}

/// The most elements of all states together.
const MAX_STATE: usize = 1 << 24;

/// Checks that `model` has the input `clip` of shape `clip` and the output `logits` of shape `[1, classes]`, both f32. A
/// recurrent one sees one frame of the clip, and has as further inputs the states that it returns; no other has any.
///
/// # Errors
/// `Model`, naming the input or output and both shapes.
pub(crate) fn check_signature(
    model: &ModelProto,
    mut clip: [usize; 5],
    (classes, recurrent): (usize, bool),
) -> Result<Vec<State>> {
    let graph = model.graph.as_ref().ok_or_else(|| refuse("it has no graph"))?;
    let (inputs, outputs) = (inputs(graph), graph.output.iter().collect::<Vec<_>>());
    if !recurrent {
        check_value("input", INPUT, &inputs, &clip)?;
        check_value("output", OUTPUT, &outputs, &[1, classes])?;
        return Ok(Vec::new());
    }
    clip[2] = 1;
    check_value("input", INPUT, &inputs[..inputs.len().min(1)], &clip)?;
    check_value("output", OUTPUT, &outputs[..outputs.len().min(1)], &[1, classes])?;
    let mut left = MAX_STATE;
    let states = inputs[1..].iter().map(|input| {
        let shape: Option<Vec<usize>> = dims(input).map(|d| d.and_then(|d| usize::try_from(d).ok())).collect();
        let count = |shape: &Vec<usize>| shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n)).filter(|n| *n > 0);
        let rest = shape.as_ref().and_then(count).and_then(|count| left.checked_sub(count));
        let (Some(shape), Some(rest)) = (shape, rest) else {
            return Err(refuse(format_args!("state '{}' has no sound shape, or all are too large", input.name)));
        };
        left = rest;
        check_value("state", &input.name, &[input], &shape)?;
        let next = format!("{}{NEXT}", input.name);
        let output = outputs.iter().position(|output| output.name == next);
        let output = output.ok_or_else(|| refuse(format_args!("state '{}' has no output '{next}'", input.name)))?;
        check_value("output", &next, &[outputs[output]], &shape)?;
        Ok(State { shape, output })
    });
    let states = states.collect::<Result<Vec<_>>>()?;
    match (states.is_empty(), outputs.len() == 1 + states.len()) {
        (false, true) => Ok(states),
        (true, _) => Err(refuse("it remembers nothing, but the manifest says 'per_frame'")),
        _ => Err(refuse("an output is neither the logits nor the next value of a state")),
    }
}

/// Old files list initialisers among the inputs.
fn inputs(graph: &GraphProto) -> Vec<&ValueInfoProto> {
    graph.input.iter().filter(|input| !graph.initializer.iter().any(|tensor| tensor.name == input.name)).collect()
}

fn check_value(what: &str, name: &str, values: &[&ValueInfoProto], wanted: &[usize]) -> Result<()> {
    let [value] = values else {
        let names: Vec<&str> = values.iter().map(|value| value.name.as_str()).collect();
        return Err(refuse(format_args!("one {what}, '{name}', wanted, {names:?} found")));
    };
    if value.name != name {
        return Err(refuse(format_args!("the {what} is named '{}', not '{name}'", value.name)));
    }
    let tensor = match value.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor,
        None => return Err(refuse(format_args!("{what} '{name}' has no type"))),
    };
    if tensor.elem_type != DataType::Float as i32 {
        return Err(refuse(format_args!("{what} '{name}' has element type {}, not f32", tensor.elem_type)));
    }
    let dims: Vec<Option<i64>> = dims(value).collect();
    let fits = |(given, &wanted): (&Option<i64>, &usize)| given.is_none_or(|d| usize::try_from(d) == Ok(wanted));
    if dims.len() != wanted.len() || !dims.iter().zip(wanted).all(fits) {
        let dims: Vec<String> = dims.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect();
        let dims = dims.join(", ");
        return Err(refuse(format_args!("{what} '{name}' is [{dims}], but manifest and labels say {wanted:?}")));
    }
    Ok(())
}

/// The size of each axis, unless it is symbolic.
fn dims(value: &ValueInfoProto) -> impl Iterator<Item = Option<i64>> {
    let tensor = value.r#type.as_ref().and_then(|t| match t.value.as_ref() {
        Some(type_proto::Value::TensorType(tensor)) => Some(tensor),
        _ => None,
    });
    tensor.and_then(|tensor| tensor.shape.as_ref()).into_iter().flat_map(|shape| &shape.dim).map(|dim| {
        match dim.value {
            Some(dimension::Value::DimValue(d)) => Some(d),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::graph::{Element, Graph, Op, Pool, Weights};
    use crate::model::onnx::{self, write::value_info};
    use ndarray::{ArrayD, IxDyn};
    use tract_onnx::pb::{StringStringEntryProto, tensor_proto::Segment};

    fn model() -> ModelProto {
        let (mut graph, clip) = Graph::new([2, 3, 8, 8]);
        let x = graph.push("pool", Op::Pool(Pool::average([1, 2, 2])), &[clip]).unwrap();
        let x = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
        graph.push("head", Op::dense(4), &[x]).unwrap();
        let parameters = graph.parameters();
        let weights: Weights = parameters.iter().map(|p| (p.name.clone(), ArrayD::ones(IxDyn(&p.shape)))).collect();
        onnx::decode(&onnx::to_bytes(&graph, &weights).unwrap()).unwrap()
    }

    fn tensor(model: &mut ModelProto) -> &mut TensorProto {
        &mut graph(model).initializer[0]
    }

    fn graph(model: &mut ModelProto) -> &mut GraphProto {
        model.graph.as_mut().unwrap()
    }

    /// What is done to a good model, and a part of the reason it is then refused for.
    type Case = (fn(&mut ModelProto), &'static str);

    #[test]
    fn inconsistent_models_are_refused() {
        let cases: [Case; 18] = [
            (|m| m.graph = None, "no graph"),
            (|m| m.opset_import.clear(), "operator set"),
            (|m| m.ir_version = 0, "operator set"),
            (|m| graph(m).sparse_initializer.push(Default::default()), "sparse"),
            (|m| tensor(m).name.clear(), "empty or taken"),
            (|m| tensor(m).name = "head.bias".into(), "empty or taken"),
            (|m| tensor(m).name = "other".into(), "node 'head': its input 'head.weight'"),
            (|m| tensor(m).dims[0] = -4, "'head.weight': shape [-4, 2]"),
            (|m| tensor(m).dims = vec![i64::MAX, i64::MAX], "impossible"),
            (|m| tensor(m).dims = vec![1 << 62, 2], "size of its shape"),
            (|m| tensor(m).dims[0] = 5, "size of its shape"),
            (|m| tensor(m).raw_data.truncate(7), "size of its shape"),
            (|m| tensor(m).raw_data.clear(), "size of its shape"),
            (|m| tensor(m).segment = Some(Segment { begin: 0, end: 1 }), "size of its shape"),
            (|m| tensor(m).data_type = DataType::Double as i32, "data type 11"),
            (|m| tensor(m).external_data.push(StringStringEntryProto::default()), "another file"),
            (|m| tensor(m).data_location = Some(DataLocation::External as i32), "another file"),
            (|m| graph(m).node[0].attribute[0].ints[1] = 1 << 40, "node 'pool': kernel_shape"),
        ];
        check(&model()).unwrap();
        for (spoil, reason) in cases {
            let mut model = model();
            spoil(&mut model);
            let error = check(&model).unwrap_err();
            assert!(error.kind() == ErrorKind::Model && error.to_string().contains(reason), "{reason}: {error}");
        }
    }

    #[test]
    fn values_are_made_once_and_before_they_are_read() {
        let cases: [Case; 3] = [
            (|m| graph(m).node.swap(0, 1), "node 'mean': its input 'pool'"),
            (|m| graph(m).node[1].output[0] = "pool".into(), "'pool' is made twice"),
            (|m| graph(m).output[0].name = "scores".into(), "output 'scores'"),
        ];
        for (spoil, reason) in cases {
            let mut model = model();
            spoil(&mut model);
            let error = check(&model).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }

    #[test]
    fn the_signature_is_clip_to_logits() {
        let shape = [1, 2, 3, 8, 8];
        assert_eq!(check_signature(&model(), shape, (4, false)).unwrap(), []);
        let wrong = |spoil: fn(&mut ModelProto), shape, classes| {
            let mut model = model();
            spoil(&mut model);
            check_signature(&model, shape, (classes, false)).unwrap_err().to_string()
        };
        assert!(wrong(|_| {}, [1, 2, 3, 8, 9], 4).contains("input 'clip' is [1, 2, 3, 8, 8]"));
        assert!(wrong(|_| {}, shape, 5).contains("output 'logits' is [1, 4]"));
        assert!(wrong(|m| graph(m).input[0].name = "x".into(), shape, 4).contains("the input is named 'x'"));
        assert!(wrong(|m| graph(m).output.clear(), shape, 4).contains("one output, 'logits', wanted"));
        assert!(wrong(|m| graph(m).output[0].r#type = None, shape, 4).contains("no type"));
        let half: fn(&mut ModelProto) = |m| match graph(m).input[0].r#type.as_mut().unwrap().value.as_mut().unwrap() {
            type_proto::Value::TensorType(tensor) => tensor.elem_type = DataType::Float16 as i32,
        };
        assert!(wrong(half, shape, 4).contains("not f32"));
    }

    #[test]
    fn a_recurrent_model_returns_its_states() {
        let value = |name: &str, shape: &[usize]| value_info(name, Element::F32, shape);
        let recurrent = || {
            let state = |suffix: &str| value(&format!("s{suffix}"), &[1, 5, 1, 4, 4]);
            let graph = GraphProto {
                input: vec![value("clip", &[1, 2, 1, 8, 8]), state("")],
                output: vec![value("logits", &[1, 4]), state(".next")],
                ..GraphProto::default()
            };
            ModelProto { graph: Some(graph), ..ModelProto::default() }
        };
        let signature = |model: &ModelProto| check_signature(model, [1, 2, 3, 8, 8], (4, true));
        assert_eq!(signature(&recurrent()).unwrap(), [State { shape: vec![1, 5, 1, 4, 4], output: 1 }]);
        let cases: [Case; 5] = [
            (|m| graph(m).output[1].name = "t".into(), "state 's' has no output 's.next'"),
            (|m| graph(m).output.swap(0, 1), "the output is named 's.next'"),
            (|m| graph(m).output[1] = graph(m).output[0].clone(), "has no output"),
            (|m| graph(m).input[1].r#type = None, "state 's' has no type"),
            (|m| (graph(m).input.truncate(1), graph(m).output.truncate(1)).1, "it remembers nothing"),
        ];
        for (spoil, reason) in cases {
            let mut model = recurrent();
            spoil(&mut model);
            let error = signature(&model).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
        assert!(signature(&model()).unwrap_err().to_string().contains("say [1, 2, 1, 8, 8]"));
    }
}
