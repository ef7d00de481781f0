//! Changes in the parts of an ONNX model: of changed bytes hardly any are a model still.

use fastrand::Rng;
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    ValueInfoProto, tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};

const WHOLE: [i64; 24] = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    -1,
    -2,
    -3,
    16,
    127,
    128,
    255,
    1023,
    1024,
    1025,
    32768,
    1 << 20,
    1 << 31,
    1 << 62,
    i64::MAX,
    i64::MIN,
];
const REAL: [f32; 14] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    0.1,
    3.0,
    1e-5,
    1e38,
    1e-45,
    f32::MIN_POSITIVE,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
];
const ATTRIBUTES: [&str; 32] = [
    "axis",
    "axes",
    "perm",
    "pads",
    "strides",
    "dilations",
    "kernel_shape",
    "group",
    "auto_pad",
    "ceil_mode",
    "count_include_pad",
    "epsilon",
    "alpha",
    "beta",
    "transA",
    "transB",
    "to",
    "min",
    "max",
    "mode",
    "value",
    "value_ints",
    "value_floats",
    "value_float",
    "keepdims",
    "noop_with_empty_axes",
    "start",
    "end",
    "num_outputs",
    "split",
    "allowzero",
    "coordinate_transformation_mode",
];
const OPERATORS: [&str; 40] = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "Identity",
    "LayerNormalization",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "QuantizeLinear",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Resize",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "If",
    "LSTM",
];
const TEXTS: [&str; 9] = [
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "NOTSET",
    "linear",
    "constant",
    "align_corners",
    "asymmetric",
    "half_pixel_symmetric",
];

/// Changes the model in the first `size` bytes of `data`, or those bytes if they are none, and returns the new size.
pub fn model(data: &mut [u8], size: usize, max_size: usize, rng: &mut Rng) -> usize {
    if rng.u8(0..10) > 0
        && let Ok(mut model) = ModelProto::decode(&data[..size])
    {
        for _ in 0..rng.usize(1..4) {
            change(&mut model, rng);
        }
        let bytes = model.encode_to_vec();
        if bytes.len() <= max_size.min(data.len()) {
            data[..bytes.len()].copy_from_slice(&bytes);
            return bytes.len();
        }
    }
    libfuzzer_sys::fuzzer_mutate(data, size, max_size)
}

fn pick<'a, T>(rng: &mut Rng, from: &'a mut [T]) -> Option<&'a mut T> {
    let index = (!from.is_empty()).then(|| rng.usize(0..from.len()))?;
    from.get_mut(index)
}

fn whole(rng: &mut Rng, old: i64) -> i64 {
    match rng.u8(0..4) {
        0 => old.wrapping_add(rng.i64(-2..=2)),
        1 => rng.i64(0..9),
        2 => old.wrapping_mul(rng.i64(-1..=2)),
        _ => WHOLE[rng.usize(0..WHOLE.len())],
    }
}

fn real(rng: &mut Rng, old: f32) -> f32 {
    match rng.u8(0..4) {
        0 => old * 2f32.powi(rng.i32(-20..20)),
        1 => f32::from_bits(old.to_bits() ^ 1 << rng.u32(0..32)),
        2 => rng.f32() * 2.0 - 1.0,
        _ => REAL[rng.usize(0..REAL.len())],
    }
}

fn change(model: &mut ModelProto, rng: &mut Rng) {
    if rng.u8(0..24) == 0 {
        match rng.u8(0..4) {
            0 => model.ir_version = whole(rng, model.ir_version),
            1 => model.opset_import.push(OperatorSetIdProto { domain: String::new(), version: rng.i64(0..30) }),
            _ => model.opset_import.iter_mut().for_each(|set| set.version = rng.i64(5..27)),
        }
    }
    let Some(graph) = &mut model.graph else { return };
    match rng.u8(0..16) {
        0..=4 => nodes(graph, rng),
        5..=8 => {
            if let Some(attributes) = pick(rng, &mut graph.node).map(|node| &mut node.attribute) {
                attribute(attributes, rng);
            }
        }
        9..=12 => {
            if let Some(found) = pick(rng, &mut graph.initializer) {
                tensor(found, rng);
            }
        }
        13 => {
            if let Some(index) = (!graph.initializer.is_empty()).then(|| rng.usize(0..graph.initializer.len())) {
                let removed = graph.initializer.remove(index);
                if rng.bool() {
                    let twin = TensorProto { name: format!("{}.twin", removed.name), ..removed.clone() };
                    graph.initializer.extend([removed, twin]);
                }
            }
        }
        14 => {
            let all = if rng.u8(0..4) == 0 { &mut graph.output } else { &mut graph.input };
            if let Some(found) = pick(rng, all) {
                declared(found, rng);
            }
        }
        _ => {
            let name = name(graph, rng);
            match pick(rng, &mut graph.output) {
                Some(output) if rng.bool() => output.name = name,
                _ if rng.bool() => graph.output.push(ValueInfoProto { name, ..Default::default() }),
                _ => graph.input.push(ValueInfoProto { name, ..graph.input.first().cloned().unwrap_or_default() }),
            }
        }
    }
}

fn declared(value: &mut ValueInfoProto, rng: &mut Rng) {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|found| found.value.as_mut())
    else {
        return;
    };
    let Some(shape) = &mut tensor.shape else { return };
    match rng.u8(0..6) {
        0 => tensor.elem_type = [1, 2, 3, 6, 7, 10][rng.usize(0..6)],
        1 => drop(shape.dim.pop()),
        2 => shape.dim.push(Dimension { value: Some(dimension::Value::DimValue(rng.i64(0..9))), ..Default::default() }),
        3 => tensor.shape = None,
        _ => {
            if let Some(Some(dimension::Value::DimValue(n))) = pick(rng, &mut shape.dim).map(|dim| &mut dim.value) {
                *n = whole(rng, *n);
            }
        }
    }
}

/// A name of a value of the graph, or one that there is not.
fn name(graph: &GraphProto, rng: &mut Rng) -> String {
    let inputs = graph.input.iter().map(|input| &input.name);
    let tensors = graph.initializer.iter().map(|tensor| &tensor.name);
    let all: Vec<&String> = inputs.chain(tensors).chain(graph.node.iter().flat_map(|node| &node.output)).collect();
    rng.choice(all).filter(|_| rng.u8(0..20) > 0).cloned().unwrap_or_else(|| format!("v{}", rng.u8(..)))
}

fn nodes(graph: &mut GraphProto, rng: &mut Rng) {
    if graph.node.is_empty() {
        return;
    }
    let (index, other) = (rng.usize(0..graph.node.len()), rng.usize(0..graph.node.len()));
    let value = name(graph, rng);
    let count = graph.node.len();
    match rng.u8(0..10) {
        0 => drop(graph.node.remove(index)),
        1 => {
            // A twin whose result the old one's readers take.
            let mut twin: NodeProto = graph.node[index].clone();
            let taken = format!("v{}", rng.u8(..));
            if let Some(old) = twin.output.first().cloned() {
                let readers = graph.node[index + 1..].iter_mut().flat_map(|node| &mut node.input);
                readers.filter(|input| **input == old).for_each(|input| input.clone_from(&taken));
                if let Some(input) = twin.input.first_mut() {
                    *input = old;
                }
            }
            twin.name.push('t');
            twin.output = vec![taken];
            graph.node.insert(index + 1, twin);
        }
        2 => graph.node.swap(index, other),
        3 => graph.node[index].op_type = OPERATORS[rng.usize(0..OPERATORS.len())].into(),
        4 => graph.node[index].input.push(value),
        5 => drop(graph.node[index].input.pop()),
        6 => graph.node[index].output.push(value),
        7 if count > 1 => {
            let NodeProto { attribute, op_type, .. } = graph.node[other].clone();
            (graph.node[index].attribute, graph.node[index].op_type) = (attribute, op_type);
        }
        _ => {
            if let Some(input) = pick(rng, &mut graph.node[index].input) {
                *input = value;
            }
        }
    }
}

fn attribute(all: &mut Vec<AttributeProto>, rng: &mut Rng) {
    let name = ATTRIBUTES[rng.usize(0..ATTRIBUTES.len())].to_owned();
    let index = rng.usize(0..all.len() + 1);
    let Some(found) = all.get_mut(index) else {
        // 1 float, 2 int, 3 string, 6 floats, 7 ints.
        let (i, ints) = (whole(rng, 1), (0..rng.usize(0..7)).map(|_| rng.i64(-1..4)).collect());
        let s = TEXTS[rng.usize(0..TEXTS.len())].into();
        let (f, floats, r#type) = (real(rng, 1.0), vec![real(rng, 1.0)], [1, 2, 3, 6, 7][rng.usize(0..5)]);
        return all.push(AttributeProto { name, r#type, i, ints, s, f, floats, ..Default::default() });
    };
    match rng.u8(0..8) {
        0 => drop(all.remove(index)),
        1 => found.name = name,
        2 => found.r#type = rng.i32(0..9),
        3 => found.s = TEXTS[rng.usize(0..TEXTS.len())].into(),
        4 if rng.bool() => found.ints.push(rng.i64(-1..4)),
        4 => drop(found.ints.pop()),
        _ => {
            found.i = whole(rng, found.i);
            found.f = real(rng, found.f);
            if let Some(n) = pick(rng, &mut found.ints) {
                *n = whole(rng, *n);
            }
            if let Some(t) = &mut found.t {
                tensor(t, rng);
            }
        }
    }
}

fn tensor(tensor: &mut TensorProto, rng: &mut Rng) {
    match rng.u8(0..12) {
        0 => tensor.data_type = [1, 2, 3, 6, 7, 9, 10, 11][rng.usize(0..8)],
        1 => tensor.external_data.push(StringStringEntryProto { key: "location".into(), value: "../x".into() }),
        2 => tensor.dims.push(rng.i64(0..3)),
        3 => drop(tensor.dims.pop()),
        4 => tensor.dims.iter_mut().for_each(|n| *n = if rng.bool() { *n } else { whole(rng, *n) }),
        // Other dimensions with as much data as they want.
        5 | 6 => {
            if let Some(n) = pick(rng, &mut tensor.dims) {
                *n = rng.i64(0..9);
            }
            let size = match tensor.data_type {
                2 | 3 | 9 => 1,
                7 => 8,
                _ => 4,
            };
            let count = tensor.dims.iter().try_fold(size, |all: i64, &n| all.checked_mul(n));
            if let Some(count @ 0..4096) = count {
                tensor.raw_data.resize(count as usize, 0);
            }
        }
        // Some or all floats.
        7 | 8 if tensor.data_type == 1 => {
            let (factor, all) = (2f32.powi(rng.i32(-8..8)), rng.bool());
            let one = rng.usize(0..tensor.raw_data.len() / 4 + 1);
            for (index, bytes) in tensor.raw_data.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let old = f32::from_le_bytes(*bytes);
                let new = if all { old * factor } else { real(rng, old) };
                if all || index == one {
                    *bytes = new.to_le_bytes();
                }
            }
        }
        _ => {
            if let Some(byte) = pick(rng, &mut tensor.raw_data) {
                *byte = [0, 1, 2, 127, 128, 255, rng.u8(..)][rng.usize(0..7)];
            }
        }
    }
}
