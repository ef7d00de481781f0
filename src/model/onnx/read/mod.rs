//! A graph and its weights from an ONNX model, f32 or QDQ. Operators of which we have several forms are brought to one:
//! Split becomes slices, Flatten and Squeeze a reshape, automatic padding numbers. What is computed of constants alone to make
//! a shape is folded; a DequantizeLinear of weights becomes quantised weights. Everything else is refused by name.

mod layers;
mod ops;
mod quantize;
mod shapes;
#[cfg(test)]
mod tests;
mod windows;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use ndarray::ArrayD;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataType,
    tensor_shape_proto::dimension, type_proto,
};

use super::call::Call;
use super::tensor::{Constant, Ints, decode, elements};
use crate::model::graph::{Element, Graph, Op, Value, Weights};
use crate::{Error, ErrorKind, Result};

/// The operator sets that are read. Operators that meant something else in an older set say so themselves.
const OPSETS: std::ops::RangeInclusive<i64> = 6..=25;
/// The most elements of all values together, and of constants as often as they are read: 4 gigabytes of floats.
const MAX_TOTAL: usize = 1 << 30;
/// How many times the constants of a file may be kept, and elements beyond that: nodes may share a constant, of which each
/// keeps its own, and may repeat one along an axis, so that a short file could fill any memory.
const MAX_KEPT: (usize, usize) = (4, 1 << 24);

/// What a name of the file stands for.
enum Known<'a> {
    Value(Value),
    /// A constant of the file, decoded where it is used.
    Tensor(&'a TensorProto),
    /// A constant that was computed.
    Computed(Constant),
}

pub(super) struct Reader<'a> {
    graph: Graph,
    weights: Weights,
    known: HashMap<&'a str, Known<'a>>,
    /// Names that were taken when a node wanted them, and how often.
    taken: HashMap<String, usize>,
    /// Elements that may still be made or read.
    budget: usize,
    /// Elements of constants that may still be kept.
    room: usize,
}

fn refuse(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Model, why)
}

/// Reads a model that [`check`](super::check::check) found consistent.
///
/// # Errors
/// `Model`, naming the node and the reason.
pub(super) fn read(model: &ModelProto) -> Result<(Graph, Weights)> {
    let graph = model.graph.as_ref().ok_or_else(|| refuse("the model has no graph"))?;
    let opset = opset(model)?;
    let literals = graph.node.iter().flat_map(|node| &node.attribute).flat_map(|attribute| &attribute.t);
    let stored =
        graph.initializer.iter().chain(literals).fold(0usize, |all, tensor| all.saturating_add(elements(tensor)));
    let mut reader = Reader {
        graph: Graph::default(),
        weights: Weights::new(),
        known: graph.initializer.iter().map(|tensor| (tensor.name.as_str(), Known::Tensor(tensor))).collect(),
        taken: HashMap::new(),
        budget: MAX_TOTAL,
        room: stored.saturating_mul(MAX_KEPT.0).saturating_add(MAX_KEPT.1),
    };
    reader.inputs(graph)?;
    for node in &graph.node {
        reader.node(node, opset)?;
    }
    reader.outputs(graph)?;
    reader.graph.check(&reader.weights)?;
    Ok((reader.graph, reader.weights))
}

fn opset(model: &ModelProto) -> Result<i64> {
    let ours = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let versions: Vec<i64> = model.opset_import.iter().filter(|set| ours(&set.domain)).map(|set| set.version).collect();
    match versions[..] {
        [version] if OPSETS.contains(&version) => Ok(version),
        _ => Err(refuse(format_args!(
            "operator set {versions:?} is not read: export the model for one from {} to {}, 17 for example",
            OPSETS.start(),
            OPSETS.end()
        ))),
    }
}

/// Element type and shape that a file says of a value. A batch axis without a size is 1.
fn declared(value: &ValueInfoProto) -> Result<(Element, Vec<usize>)> {
    let refuse = |why: &dyn std::fmt::Display| refuse(format_args!("input '{}': {why}", value.name));
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_ref().and_then(|found| found.value.as_ref())
    else {
        return Err(refuse(&"it is no tensor"));
    };
    let element = element(tensor.elem_type)
        .ok_or_else(|| refuse(&format_args!("element type {} is none of f32, u8 and i8", tensor.elem_type)))?;
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.as_slice()).ok_or_else(|| refuse(&"it has no shape"))?;
    let extent = |(axis, dim): (usize, &tract_onnx::pb::tensor_shape_proto::Dimension)| match dim.value {
        Some(dimension::Value::DimValue(n)) if n > 0 => usize::try_from(n).ok(),
        Some(dimension::Value::DimValue(_)) => None,
        _ => (axis == 0).then_some(1),
    };
    let shape = dims.iter().enumerate().map(extent).collect::<Option<Vec<_>>>();
    let shape =
        shape.ok_or_else(|| refuse(&"only its first axis may be left open: export the model with fixed sizes"))?;
    Ok((element, shape))
}

fn element(data_type: i32) -> Option<Element> {
    match DataType::try_from(data_type) {
        Ok(DataType::Float) => Some(Element::F32),
        Ok(DataType::Uint8) => Some(Element::U8),
        Ok(DataType::Int8) => Some(Element::I8),
        _ => None,
    }
}

impl<'a> Reader<'a> {
    fn inputs(&mut self, graph: &'a GraphProto) -> Result<()> {
        for input in &graph.input {
            // Old files list initialisers among the inputs.
            if self.known.contains_key(input.name.as_str()) {
                continue;
            }
            let (element, shape) = declared(input)?;
            let value = self.graph.input(input.name.clone(), element, &shape)?;
            self.spend(shape.iter().product()).map_err(|why| why.within(format_args!("input '{}'", input.name)))?;
            self.known.insert(&input.name, Known::Value(value));
        }
        Ok(())
    }

    fn outputs(&mut self, graph: &'a GraphProto) -> Result<()> {
        let mut outputs = Vec::new();
        for output in &graph.output {
            let value = self.named(&output.name).map_err(|why| why.within(format_args!("output '{}'", output.name)))?;
            outputs.push((output.name.clone(), value));
        }
        if outputs.is_empty() {
            return Err(refuse("the model has no output"));
        }
        self.graph.set_outputs(outputs)
    }

    /// Takes elements from the budget.
    fn spend(&mut self, elements: usize) -> Result<()> {
        let left = self.budget.checked_sub(elements);
        self.budget = left.ok_or_else(|| refuse(format_args!("the model has more than {MAX_TOTAL} elements")))?;
        Ok(())
    }

    /// Refuses to keep so many elements of constants if there is no room for them.
    fn needs_room(&self, elements: usize) -> Result<()> {
        match elements <= self.room {
            true => Ok(()),
            false => Err(refuse("its constants, as often as they are kept, are far larger than those in the file")),
        }
    }

    fn keep(&mut self, elements: usize) -> Result<()> {
        self.needs_room(elements)?;
        self.room -= elements;
        Ok(())
    }

    /// `name`, or one like it that no node has.
    fn unique(&mut self, name: &str) -> String {
        let mut found = name.to_owned();
        while self.graph.has(&found) {
            let count = self.taken.entry(name.to_owned()).or_insert(1);
            *count += 1;
            found = format!("{name}.{count}");
        }
        found
    }

    /// The constant of that name, if it is one.
    fn find_constant(&mut self, name: &str) -> Result<Option<Cow<'_, Constant>>> {
        if let Some(Known::Tensor(tensor)) = self.known.get(name) {
            let tensor = *tensor;
            self.spend(elements(tensor))?;
            return decode(tensor).map(|constant| Some(Cow::Owned(constant)));
        }
        match self.known.get(name) {
            Some(Known::Computed(constant)) => {
                let left = self.budget.checked_sub(constant.shape().iter().product());
                self.budget = left.ok_or_else(|| refuse("the model's constants have too many elements"))?;
                Ok(Some(Cow::Borrowed(constant)))
            }
            Some(_) => Ok(None),
            None => Err(refuse(format_args!("'{name}' is an output of a node that we do not compute"))),
        }
    }

    fn constant(&mut self, call: &Call<'a>, name: &str) -> Result<Option<Constant>> {
        let found = self.find_constant(name).map_err(|why| call.refuse(why))?;
        Ok(found.map(Cow::into_owned))
    }

    /// Floats that must be constant, such as a normalisation's parameters.
    fn floats(&mut self, call: &Call<'a>, index: usize) -> Result<ArrayD<f32>> {
        let name = call.needed(index)?;
        let floats = self.constant(call, name)?.and_then(|constant| constant.floats().map(Cow::into_owned));
        floats.ok_or_else(|| call.refuse(format_args!("input '{name}' must be a constant of floats")))
    }

    /// An optional scalar, such as Clip's bounds.
    fn scalar(&mut self, call: &Call<'a>, index: usize) -> Result<Option<f32>> {
        let Some(name) = call.input(index) else { return Ok(None) };
        let only = match self.constant(call, name)? {
            Some(Constant::Ints(ints)) if ints.array.len() == 1 => ints.array.first().map(|&n| n as f32),
            Some(constant) => constant.floats().filter(|all| all.len() == 1).and_then(|all| all.first().copied()),
            None => None,
        };
        only.map(Some).ok_or_else(|| call.refuse(format_args!("input '{name}' must be one constant")))
    }

    /// Whole numbers from an input or, in older operator sets, an attribute.
    fn whole(&mut self, call: &Call<'a>, index: usize, attribute: &str) -> Result<Option<Vec<i64>>> {
        let given = call.ints(attribute)?.map(<[i64]>::to_vec);
        let Some(name) = call.input(index) else { return Ok(given) };
        match self.constant(call, name)? {
            Some(Constant::Ints(Ints { array, .. })) if array.ndim() <= 1 && given.is_none() => {
                Ok(Some(array.into_iter().collect()))
            }
            _ => Err(call.refuse(format_args!(
                "input '{name}' must be a list of whole numbers that does not depend on the model's input: export with fixed sizes"
            ))),
        }
    }

    /// The value of that name; a constant becomes a node.
    fn named(&mut self, name: &'a str) -> Result<Value> {
        if let Some(Known::Value(value)) = self.known.get(name) {
            return Ok(*value);
        }
        let floats = self.find_constant(name)?.and_then(|constant| constant.floats().map(Cow::into_owned));
        let Some(floats) = floats else {
            return Err(refuse(format_args!("'{name}' is a constant of whole numbers, f32 wanted")));
        };
        let node = self.unique(name);
        let value = self.graph.push(node.clone(), Op::Constant(floats.shape().to_vec()), &[])?;
        self.parameter(format!("{node}.value"), floats)?;
        self.known.insert(name, Known::Value(value));
        Ok(value)
    }

    fn value(&mut self, call: &Call<'a>, index: usize) -> Result<Value> {
        let name = call.needed(index)?;
        self.named(name).map_err(|why| call.refuse(why))
    }

    fn shape(&self, value: Value) -> Vec<usize> {
        self.graph.node(value).shape.clone()
    }

    fn parameter(&mut self, name: String, array: ArrayD<f32>) -> Result<()> {
        if let Some(bad) = array.iter().find(|x| !x.is_finite()) {
            return Err(refuse(format_args!(
                "parameter '{name}': {bad} is not finite: train or export the model again"
            )));
        }
        self.keep(array.len()).map_err(|why| why.within(format_args!("parameter '{name}'")))?;
        // In row-major order, whatever was done to it.
        let array = if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() };
        self.weights.insert(name, array);
        Ok(())
    }

    /// Adds a node that is called as the file's, with a suffix if that is taken.
    fn push(&mut self, call: &Call<'a>, op: Op, inputs: &[Value]) -> Result<Value> {
        self.push_named(call, super::call::label(call.node), op, inputs)
    }

    fn push_named(&mut self, call: &Call<'a>, name: &str, op: Op, inputs: &[Value]) -> Result<Value> {
        let name = self.unique(name);
        let value = self.graph.push(name, op, inputs).map_err(|why| call.refuse(why))?;
        let elements = self.graph.node(value).shape.iter().product();
        self.spend(elements).map_err(|why| call.refuse(why))?;
        Ok(value)
    }

    /// Name of the node of `value`, which its parameters begin with.
    fn name(&self, value: Value) -> String {
        self.graph.node(value).name.clone()
    }

    fn define(&mut self, name: &'a str, known: Known<'a>) {
        self.known.insert(name, known);
    }

    fn node(&mut self, node: &'a NodeProto, opset: i64) -> Result<()> {
        let call = Call::new(node, opset)?;
        if !(node.domain.is_empty() || node.domain == "ai.onnx") {
            return Err(call.refuse(format_args!("operators of the domain '{}' are not read", node.domain)));
        }
        let outputs: Vec<&'a str> = node.output.iter().map(String::as_str).collect();
        let made = match self.fold(&call)? {
            Some(constant) => vec![Known::Computed(constant)],
            None => self.convert(&call)?,
        };
        call.finish()?;
        for (name, known) in outputs.into_iter().zip(made) {
            if name.is_empty() {
                continue;
            }
            if let Known::Computed(constant) = &known {
                self.keep(constant.shape().iter().product()).map_err(|why| call.refuse(why))?;
            }
            self.define(name, known);
        }
        Ok(())
    }
}

/// The set of operators that are read, for the refusal of another.
fn supported() -> Vec<&'static str> {
    let mut all: HashSet<&'static str> = ops::OPERATORS.iter().copied().collect();
    all.extend(shapes::FOLDED);
    let mut all: Vec<&'static str> = all.into_iter().collect();
    all.sort_unstable();
    all
}
