//! A recurrent model as that of a clip: its frame's nodes once for each frame, the weights shared. For programs that keep no
//! states.

use std::collections::{HashMap, HashSet};

use ndarray::{ArrayD, IxDyn};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, tensor_proto::DataType};

use super::tensor::{float_tensor, int_tensor};
use super::write::{int, node as make, value_info};
use super::{INPUT, NEXT, OUTPUT};
use crate::model::graph::{Element, Graph};
use crate::{Error, ErrorKind, Result};

/// The initialiser that says where the axis of time is put in.
const AXIS: &str = "time.axis";

/// `step`, which was written from `graph`, unrolled over `frames` frames: from `clip`, `[1, C, T, H, W]`, to the logits of
/// each, `[1, T, K]`.
pub(super) fn unroll(graph: &Graph, step: ModelProto, frames: usize) -> Result<ModelProto> {
    let refuse = |why: &str| Error::new(ErrorKind::Model, format_args!("not unrolled: {why}"));
    let states = graph.states();
    let ([_, channels, 1, height, width], &[1, classes]) = (graph.input_shape(), &graph.output().shape[..]) else {
        return Err(refuse("the graph of one frame, with logits [1, K], wanted"));
    };
    if states.is_empty() || frames == 0 {
        return Err(refuse("it has no states, or no frames are wanted"));
    }
    let Some(GraphProto { node, mut initializer, name, .. }) = step.graph else {
        return Err(refuse("it has no graph"));
    };
    // What depends on no frame is there once.
    let mut shared: HashSet<String> = initializer.iter().map(|tensor| tensor.name.clone()).collect();
    let (mut nodes, mut repeated): (Vec<NodeProto>, Vec<NodeProto>) = (vec![], vec![]);
    for node in node {
        if node.input.iter().all(|input| input.is_empty() || shared.contains(input)) {
            shared.extend(node.output.iter().cloned());
            nodes.push(node);
        } else {
            repeated.push(node);
        }
    }
    let at = |name: &str, t: usize| format!("{name}@{t}");
    for (state, _) in &states {
        let state = graph.node(*state);
        initializer.push(float_tensor(&format!("{}.zeros", state.name), &ArrayD::zeros(IxDyn(&state.shape))));
    }
    initializer.push(int_tensor(AXIS, DataType::Int64, &[1], [1]));
    let each = (0..frames).map(|t| at(INPUT, t)).collect();
    nodes.push(make("frames", "Split", vec![INPUT.into()], each, vec![int("axis", 2)]));
    for t in 0..frames {
        let mut named: HashMap<String, String> = HashMap::new();
        for (state, _) in &states {
            let name = &graph.node(*state).name;
            let before =
                t.checked_sub(1).map_or(format!("{name}.zeros"), |before| at(&format!("{name}{NEXT}"), before));
            named.insert(name.clone(), before);
        }
        let rename = |name: &String| match named.get(name) {
            _ if name.is_empty() || shared.contains(name) => name.clone(),
            Some(state) => state.clone(),
            None => at(name, t),
        };
        for node in &repeated {
            let (input, output) = (node.input.iter().map(rename).collect(), node.output.iter().map(rename).collect());
            nodes.push(NodeProto { input, output, name: at(&node.name, t), ..node.clone() });
        }
        let frame = at("frame", t);
        nodes.push(make(&frame, "Unsqueeze", vec![at(OUTPUT, t), AXIS.into()], vec![frame.clone()], vec![]));
    }
    let each = (0..frames).map(|t| at("frame", t)).collect();
    nodes.push(make(OUTPUT, "Concat", each, vec![OUTPUT.into()], vec![int("axis", 1)]));
    let input = vec![value_info(INPUT, Element::F32, &[1, *channels, frames, *height, *width])];
    let output = vec![value_info(OUTPUT, Element::F32, &[1, frames, classes])];
    let graph = GraphProto { node: nodes, initializer, name, input, output, ..GraphProto::default() };
    Ok(ModelProto { graph: Some(graph), ..step })
}
