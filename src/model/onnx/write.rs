//! ONNX nodes from a graph's: one operator for each operation, named as its node, its value too; initialisers have their
//! parameters' names. Quantised weights are i8 initialisers behind a DequantizeLinear, and so is, in i32, the bias of such a
//! layer whose input comes from a Dequantize, if it is on that grid.

use std::collections::HashMap;

use ndarray::ArrayD;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto::Dimension,
    tensor_shape_proto::dimension, type_proto,
};

use super::tensor::{float_tensor, int_tensor};
use crate::model::graph::{
    Binary, Coordinates, Element, Graph, Node, Op, PoolFunction, Quantization, Resize, Role, Unary, Value, Weights,
    bias_steps, steps,
};
use crate::{Error, ErrorKind, Result};

const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// Writes `graph` as a model. The same graph and weights give the same model.
pub(super) fn write(graph: &Graph, weights: &Weights) -> Result<ModelProto> {
    graph.check(weights)?;
    let mut writer = Writer { graph, weights, names: HashMap::new(), node: vec![], initializer: vec![] };
    let outputs = writer.name_values()?;
    for (value, node) in graph.values() {
        writer.write(value, node)?;
    }
    for (name, value) in &outputs {
        if writer.name(*value) != name {
            let copied = writer.name(*value).to_owned();
            writer.add(name, "Identity", vec![copied], name, vec![]);
        }
    }
    let info = |name: &str, value: Value| value_info(name, graph.node(value).element, &graph.node(value).shape);
    let proto = GraphProto {
        node: writer.node,
        name: "kinora".into(),
        initializer: writer.initializer,
        input: graph.inputs().map(|(value, node)| info(&node.name, value)).collect(),
        output: outputs.iter().map(|(name, value)| info(name, *value)).collect(),
        ..Default::default()
    };
    Ok(ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        producer_name: "kinora".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(proto),
        ..Default::default()
    })
}

struct Writer<'g> {
    graph: &'g Graph,
    weights: &'g Weights,
    /// Names in the file of values that are not called as their nodes.
    names: HashMap<Value, String>,
    node: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
}

impl<'g> Writer<'g> {
    /// An output's value is called as the output, unless it is an input or has several names.
    fn name_values(&mut self) -> Result<Vec<(String, Value)>> {
        let outputs = self.graph.outputs();
        for (name, value) in &outputs {
            if self.graph.node(*value).op != Op::Input && !self.names.contains_key(value) {
                self.names.insert(*value, name.clone());
            }
        }
        for (name, value) in &outputs {
            let other = self
                .graph
                .values()
                .find(|(other, node)| other != value && self.name(*other) == name && node.name == *name);
            if let Some((_, node)) = other {
                let why = format!("graph node '{}': only the output of this name may be called so", node.name);
                return Err(Error::new(ErrorKind::Model, why));
            }
        }
        Ok(outputs)
    }

    fn name(&self, value: Value) -> &str {
        self.names.get(&value).map_or(&self.graph.node(value).name, |name| name)
    }

    fn add(&mut self, name: &str, op_type: &str, input: Vec<String>, output: &str, attribute: Vec<AttributeProto>) {
        self.node.push(node(name, op_type, input, vec![output.to_owned()], attribute));
    }

    fn tensor(&self, name: &str) -> Result<&'g ArrayD<f32>> {
        let missing =
            || Error::new(ErrorKind::Model, format_args!("graph node '{name}': the weights lack this parameter"));
        self.weights.get(name).ok_or_else(missing)
    }

    /// Adds an initialiser of whole numbers for an input of `node`; returns its name.
    fn whole(&mut self, node: &Node, suffix: &str, values: Vec<i64>) -> String {
        let name = format!("{}.{suffix}", node.name);
        self.initializer.push(int_tensor(&name, DataType::Int64, &[values.len()], values));
        name
    }

    /// Adds a scalar of the element type of `node`, for one of its inputs; returns its name.
    fn scalar(&mut self, node: &Node, suffix: &str, value: f32) -> String {
        let name = format!("{}.{suffix}", node.name);
        self.initializer.push(match data_type(node.element) {
            DataType::Float => float_tensor(&name, &ndarray::arr0(value).into_dyn()),
            kind => int_tensor(&name, kind, &[], [value as i64]),
        });
        name
    }

    fn write(&mut self, value: Value, node: &'g Node) -> Result<()> {
        let mut inputs: Vec<String> = node.inputs.iter().map(|input| self.name(*input).to_owned()).collect();
        let output = self.name(value).to_owned();
        let (op_type, attributes) = self.operator(node, &mut inputs)?;
        let Some(op_type) = op_type else { return Ok(()) };
        self.parameters(node, &mut inputs)?;
        self.add(&node.name, op_type, inputs, &output, attributes);
        Ok(())
    }

    /// Operator and attributes of `node`; adds to `inputs` what is no parameter. An input has no operator.
    fn operator(
        &mut self,
        node: &Node,
        inputs: &mut Vec<String>,
    ) -> Result<(Option<&'static str>, Vec<AttributeProto>)> {
        let (op_type, attributes) = match &node.op {
            Op::Input => return Ok((None, vec![])),
            Op::Constant(_) => {
                let tensor = float_tensor("", self.tensor(&format!("{}.value", node.name))?);
                ("Constant", vec![attribute("value", AttributeType::Tensor, |a| a.t = Some(tensor))])
            }
            Op::Conv(conv) => {
                let mut attributes = windows(&conv.kernel, &conv.stride, &conv.pad, &conv.dilation);
                attributes.extend((conv.groups != 1).then(|| int("group", conv.groups as i64)));
                ("Conv", attributes)
            }
            Op::Dense(_) => ("Gemm", vec![int("transB", 1)]),
            Op::MatMul => ("MatMul", vec![]),
            Op::BatchNorm { eps } => ("BatchNormalization", vec![float("epsilon", *eps)]),
            Op::LayerNorm { axis, eps } => {
                ("LayerNormalization", vec![int("axis", *axis as i64), float("epsilon", *eps)])
            }
            Op::Unary(function) => self.unary(node, *function, inputs),
            Op::Binary(Binary::Add) => ("Add", vec![]),
            Op::Binary(Binary::Sub) => ("Sub", vec![]),
            Op::Binary(Binary::Mul) => ("Mul", vec![]),
            Op::Softmax { axis } => ("Softmax", vec![int("axis", *axis as i64)]),
            Op::Pool(pool) => {
                let mut attributes = windows(&pool.kernel, &pool.stride, &pool.pad, &pool.dilation);
                attributes.extend(pool.ceil.then(|| int("ceil_mode", 1)));
                match pool.function {
                    PoolFunction::Max => ("MaxPool", attributes),
                    PoolFunction::Average { .. } if pool.dilation.iter().any(|n| *n != 1) => {
                        let why = format!("graph node '{}': operator set {OPSET} has no dilated means", node.name);
                        return Err(Error::new(ErrorKind::Model, why));
                    }
                    PoolFunction::Average { count_pad } => {
                        attributes.extend(count_pad.then(|| int("count_include_pad", 1)));
                        ("AveragePool", attributes)
                    }
                }
            }
            Op::Mean { axes, keep } => {
                ("ReduceMean", vec![ints("axes", axes.iter().copied()), int("keepdims", i64::from(*keep))])
            }
            Op::Concat { axis } => ("Concat", vec![int("axis", *axis as i64)]),
            Op::Slice(slice) => {
                // Past the last element, but not past the end: the step may not divide the rest.
                let end = slice.start + (slice.length - 1) * slice.step + 1;
                for (suffix, n) in [("starts", slice.start), ("ends", end), ("axes", slice.axis), ("steps", slice.step)]
                {
                    inputs.push(self.whole(node, suffix, vec![n as i64]));
                }
                ("Slice", vec![])
            }
            Op::Reshape(shape) => {
                inputs.push(self.whole(node, "shape", shape.iter().map(|&n| n as i64).collect()));
                ("Reshape", vec![])
            }
            Op::Transpose(order) => ("Transpose", vec![ints("perm", order.iter().copied())]),
            Op::Pad(pad) => {
                let (before, after) = (pad.pad.iter().map(|p| p.0 as i64), pad.pad.iter().map(|p| p.1 as i64));
                inputs.push(self.whole(node, "pads", before.chain(after).collect()));
                inputs.push(self.scalar(node, "value", pad.value));
                ("Pad", vec![])
            }
            Op::Resize(resize) => self.resize(node, resize, inputs),
            Op::Quantize(quantization) => self.scales(node, "QuantizeLinear", quantization, inputs),
            Op::Dequantize(quantization) => self.scales(node, "DequantizeLinear", quantization, inputs),
        };
        Ok((Some(op_type), attributes))
    }

    fn unary(&mut self, node: &Node, function: Unary, inputs: &mut Vec<String>) -> (&'static str, Vec<AttributeProto>) {
        match function {
            Unary::Relu => ("Relu", vec![]),
            Unary::Sigmoid => ("Sigmoid", vec![]),
            Unary::Tanh => ("Tanh", vec![]),
            Unary::HardSigmoid { alpha, beta } => ("HardSigmoid", vec![float("alpha", alpha), float("beta", beta)]),
            Unary::Clip { min, max } => {
                for (suffix, bound) in [("min", min), ("max", max)] {
                    let given = bound.is_finite().then(|| self.scalar(node, suffix, bound));
                    inputs.push(given.unwrap_or_default());
                }
                ("Clip", vec![])
            }
        }
    }

    fn resize(
        &mut self,
        node: &Node,
        resize: &Resize,
        inputs: &mut Vec<String>,
    ) -> (&'static str, Vec<AttributeProto>) {
        let coordinates = match resize.coordinates {
            Coordinates::HalfPixel => "half_pixel",
            Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
            Coordinates::HalfPixelSymmetric => "half_pixel_symmetric",
            Coordinates::AlignCorners => "align_corners",
            Coordinates::Asymmetric => "asymmetric",
        };
        let before = &self.graph.node(node.inputs[0]).shape;
        let quotient = |axis: usize| resize.size[axis] as f32 / before[axis] as f32;
        inputs.push(String::new());
        if (0..before.len()).all(|axis| resize.scale[axis] == quotient(axis)) {
            inputs.extend([String::new(), self.whole(node, "sizes", resize.size.iter().map(|&n| n as i64).collect())]);
        } else {
            let name = format!("{}.scales", node.name);
            self.initializer.push(float_tensor(&name, &ndarray::arr1(&resize.scale).into_dyn()));
            inputs.push(name);
        }
        ("Resize", vec![string("mode", "linear"), string("coordinate_transformation_mode", coordinates)])
    }

    fn scales(
        &mut self,
        node: &Node,
        op_type: &'static str,
        quantization: &Quantization,
        inputs: &mut Vec<String>,
    ) -> (&'static str, Vec<AttributeProto>) {
        let Quantization { element, scale, zero_point, axis } = quantization;
        let name = |suffix: &str| format!("{}.{suffix}", node.name);
        let whole = scale.len() == 1 && *axis == 0;
        let shape: &[usize] = if whole { &[] } else { &[scale.len()] };
        let scales = if whole { ndarray::arr0(scale[0]).into_dyn() } else { ndarray::arr1(scale).into_dyn() };
        self.initializer.push(float_tensor(&name("scale"), &scales));
        let zeros = zero_point.iter().map(|&zero| i64::from(zero));
        self.initializer.push(int_tensor(&name("zero_point"), data_type(*element), shape, zeros));
        inputs.extend([name("scale"), name("zero_point")]);
        (op_type, if whole { vec![] } else { vec![int("axis", *axis as i64)] })
    }

    /// Adds the initialisers of `node`'s parameters and their names to `inputs`.
    fn parameters(&mut self, node: &Node, inputs: &mut Vec<String>) -> Result<()> {
        let parameters = self.graph.node_parameters(node);
        let scale = parameters.iter().find(|parameter| parameter.role == Role::Step);
        let scale = scale.map(|parameter| self.tensor(&parameter.name)).transpose()?;
        for parameter in &parameters {
            let tensor = self.tensor(&parameter.name)?;
            let name = &parameter.name;
            match (parameter.role, scale) {
                (Role::Constant | Role::Step, _) => continue,
                (Role::Weight, Some(scale)) => {
                    let all = tensor.outer_iter().zip(scale).flat_map(|(channel, scale)| {
                        channel.iter().map(|w| i64::from(steps(*w, *scale).unwrap_or(0))).collect::<Vec<_>>()
                    });
                    let given = int_tensor(name, DataType::Int8, tensor.shape(), all);
                    inputs.push(self.dequantized(given, &format!("{name}_scale"), scale.clone()));
                }
                (Role::Bias, Some(scale)) => match self.bias(node, tensor, scale) {
                    Some((all, scales)) => {
                        let given = int_tensor(name, DataType::Int32, tensor.shape(), all);
                        inputs.push(self.dequantized(given, &format!("{name}_scale"), scales));
                    }
                    None => inputs.push(self.float(name, tensor)),
                },
                _ => inputs.push(self.float(name, tensor)),
            }
        }
        Ok(())
    }

    fn float(&mut self, name: &str, tensor: &ArrayD<f32>) -> String {
        self.initializer.push(float_tensor(name, tensor));
        name.into()
    }

    /// Adds steps, their scales along axis 0 and the DequantizeLinear of both; returns the name of its output.
    fn dequantized(&mut self, steps: TensorProto, scale_name: &str, scale: ArrayD<f32>) -> String {
        let output = format!("{}.dequantized", steps.name);
        let inputs = vec![steps.name.clone(), scale_name.to_owned()];
        self.initializer.push(steps);
        self.initializer.push(float_tensor(scale_name, &scale));
        self.add(&output, "DequantizeLinear", inputs, &output, vec![int("axis", 0)]);
        output
    }

    /// The i32 steps of a bias and their scales, if its layer's input is dequantised and every value is on that grid.
    fn bias(&self, node: &Node, bias: &ArrayD<f32>, scale: &ArrayD<f32>) -> Option<(Vec<i64>, ArrayD<f32>)> {
        let Op::Dequantize(input) = &self.graph.node(*node.inputs.first()?).op else { return None };
        let [input_scale] = input.scale[..] else { return None };
        let scales = scale.mapv(|scale| input_scale * scale);
        let step = |(&bias, &scale): (&f32, &f32)| {
            let step = bias_steps(bias, input_scale, scale)?;
            (step as f32 * (input_scale * scale) == bias && step.unsigned_abs() < 1 << 24).then_some(i64::from(step))
        };
        let all = bias.iter().zip(scale).map(step).collect::<Option<Vec<_>>>()?;
        scales.iter().all(|scale| scale.is_normal()).then_some((all, scales))
    }
}

fn data_type(element: Element) -> DataType {
    match element {
        Element::F32 => DataType::Float,
        Element::U8 => DataType::Uint8,
        Element::I8 => DataType::Int8,
    }
}

fn windows(kernel: &[usize], stride: &[usize], pad: &[(usize, usize)], dilation: &[usize]) -> Vec<AttributeProto> {
    let pads = pad.iter().map(|p| p.0).chain(pad.iter().map(|p| p.1));
    let each = |name: &str, all: &[usize]| ints(name, all.iter().copied());
    let mut attributes = vec![each("kernel_shape", kernel), each("strides", stride), ints("pads", pads)];
    attributes.extend(dilation.iter().any(|n| *n != 1).then(|| each("dilations", dilation)));
    attributes
}

pub(super) fn attribute(name: &str, kind: AttributeType, fill: impl FnOnce(&mut AttributeProto)) -> AttributeProto {
    let mut attribute = AttributeProto { name: name.into(), r#type: kind as i32, ..Default::default() };
    fill(&mut attribute);
    attribute
}

/// A node.
pub(super) fn node(
    name: &str,
    op_type: &str,
    input: Vec<String>,
    output: Vec<String>,
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto { input, output, name: name.into(), op_type: op_type.into(), attribute, ..Default::default() }
}

pub(super) fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> AttributeProto {
    attribute(name, AttributeType::Ints, |a| a.ints = values.into_iter().map(|x| x as i64).collect())
}

pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    attribute(name, AttributeType::Int, |a| a.i = i)
}

pub(super) fn float(name: &str, f: f32) -> AttributeProto {
    attribute(name, AttributeType::Float, |a| a.f = f)
}

pub(super) fn string(name: &str, text: &str) -> AttributeProto {
    attribute(name, AttributeType::String, |a| a.s = text.into())
}

pub(super) fn value_info(name: &str, element: Element, shape: &[usize]) -> ValueInfoProto {
    let dim = |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), ..Default::default() };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: data_type(element) as i32, shape: Some(shape) };
    let r#type = Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}
