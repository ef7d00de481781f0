//! Shapes: operations that only rearrange, and what is computed of constants to make a shape.

use std::cmp::Ordering;

use ndarray::{Array1, ArrayD, IxDyn};
use tract_onnx::pb::tensor_proto::DataType;

use super::super::call::Call;
use super::super::tensor::{Constant, Ints};
use super::{Known, Reader};
use crate::Result;
use crate::model::graph::{Op, Slice, Value};

/// Operators that are folded where all they read is a short list of whole numbers.
pub(super) const FOLDED: [&str; 12] =
    ["Shape", "Gather", "Concat", "Unsqueeze", "Squeeze", "Cast", "Slice", "Add", "Sub", "Mul", "Div", "Reshape"];
/// The longest list.
const MAX_LIST: usize = 1024;

/// A list of whole numbers as a constant.
pub(super) fn list(values: Vec<i64>) -> Constant {
    Constant::Ints(Ints { kind: DataType::Int64, array: Array1::from(values).into_dyn() })
}

impl<'a> Reader<'a> {
    /// What a node makes of constant whole numbers; none if it is no such node.
    pub(super) fn fold(&mut self, call: &Call<'a>) -> Result<Option<Constant>> {
        if !FOLDED.contains(&call.op()) {
            return Ok(None);
        }
        if call.op() == "Shape" {
            return self.shape_as_list(call).map(Some);
        }
        // Only its data decide: the axes of Unsqueeze, for one, are whole numbers anyway.
        let data =
            if matches!(call.op(), "Concat" | "Add" | "Sub" | "Mul" | "Div") { call.node.input.len() } else { 1 };
        let mut lists = Vec::with_capacity(data);
        for index in 0..data {
            match self.short_list(call, index)? {
                // More numbers than these are refused anyway.
                Some(list) if lists.len() <= MAX_LIST => lists.push(list),
                Some(_) => return Err(call.refuse(format_args!("more than {MAX_LIST} lists"))),
                None => return Ok(None),
            }
        }
        let first = lists.first().cloned().ok_or_else(|| call.refuse("it has no input"))?;
        let kind = first.kind;
        let scalar = |n: i64| ArrayD::from_elem(IxDyn(&[]), n);
        let vector = |values: Vec<i64>| Array1::from(values).into_dyn();
        let all = |array: &ArrayD<i64>| array.iter().copied().collect::<Vec<_>>();
        let array = match call.op() {
            "Concat" => {
                call.ignore(&["axis"]);
                let whole: Vec<i64> = lists.iter().flat_map(|list| all(&list.array)).take(MAX_LIST + 1).collect();
                if whole.len() > MAX_LIST {
                    return Err(call.refuse(format_args!("a list of more than {MAX_LIST} numbers")));
                }
                vector(whole)
            }
            "Cast" => {
                let to = call.int("to", 0)?;
                if ![DataType::Int64 as i64, DataType::Int32 as i64].contains(&to) {
                    return Err(call.refuse("only casts between whole numbers are read"));
                }
                first.array
            }
            "Reshape" => {
                call.ignore(&["allowzero"]);
                match self.whole(call, 1, "shape")?.as_deref() {
                    Some([]) if first.array.len() == 1 => scalar(first.array.iter().sum()),
                    Some([n]) if *n == -1 || usize::try_from(*n) == Ok(first.array.len()) => vector(all(&first.array)),
                    other => return Err(call.refuse(format_args!("shape {other:?} of {} numbers", first.array.len()))),
                }
            }
            "Unsqueeze" | "Squeeze" => {
                let axes = self.whole(call, 1, "axes")?;
                let grown = call.op() == "Unsqueeze";
                if first.array.ndim() != usize::from(!grown)
                    || axes.as_deref().is_some_and(|axes| !matches!(axes, [0 | -1]))
                {
                    return Err(call.refuse(format_args!("axes {axes:?} of a list of shape {:?}", first.array.shape())));
                }
                match (grown, first.array.first()) {
                    (true, _) => vector(all(&first.array)),
                    (false, Some(&only)) if first.array.len() == 1 => scalar(only),
                    _ => return Err(call.refuse("more than one element")),
                }
            }
            "Gather" => {
                let from = all(&first.array);
                call.ignore(&["axis"]);
                let name = call.needed(1)?;
                let Some(Constant::Ints(index)) = self.constant(call, name)? else {
                    return Err(call.refuse(format_args!("its indices '{name}' must be constant")));
                };
                let pick = |&at: &i64| call.axis(at, from.len()).map(|at| from[at]);
                let picked = index.array.iter().map(pick).collect::<Result<Vec<_>>>()?;
                ArrayD::from_shape_vec(index.array.raw_dim(), picked).map_err(|why| call.refuse(why))?
            }
            "Slice" => {
                let from = all(&first.array);
                let parts = self.parts(call, &[from.len()])?;
                let pick = |part: &Slice| (0..part.length).map(|i| from[part.start + i * part.step]).collect();
                vector(parts.first().map_or(from.clone(), pick))
            }
            op => match lists.as_slice() {
                [a, b] => arithmetic(call, op, &a.array, &b.array)?,
                _ => return Err(call.refuse(format_args!("2 inputs wanted, {} given", lists.len()))),
            },
        };
        Ok(Some(Constant::Ints(Ints { kind, array })))
    }

    fn shape_as_list(&mut self, call: &Call<'a>) -> Result<Constant> {
        let name = call.needed(0)?;
        let shape = match self.constant(call, name)? {
            Some(constant) => constant.shape().to_vec(),
            None => {
                let value = self.value(call, 0)?;
                self.shape(value)
            }
        };
        let rank = shape.len() as i64;
        let bound = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize;
        let (start, end) = (bound(call.int("start", 0)?), bound(call.int("end", rank)?));
        Ok(list(shape.get(start..end).unwrap_or_default().iter().map(|&n| n as i64).collect()))
    }

    fn short_list(&mut self, call: &Call<'a>, index: usize) -> Result<Option<Ints>> {
        let name = call.needed(index)?;
        Ok(match self.known.get(name) {
            Some(Known::Tensor(tensor)) if tensor.dims.len() > 1 || tensor.data_type == DataType::Float as i32 => None,
            Some(Known::Tensor(_) | Known::Computed(Constant::Ints(_))) => match self.constant(call, name)? {
                Some(Constant::Ints(ints)) if ints.array.ndim() <= 1 && ints.array.len() <= MAX_LIST => Some(ints),
                _ => None,
            },
            _ => None,
        })
    }

    pub(super) fn reshape(&mut self, call: &Call<'a>) -> Result<Value> {
        let x = self.value(call, 0)?;
        let from = self.shape(x);
        let rank = from.len();
        let shape = match call.op() {
            "Flatten" => {
                let axis = call.int("axis", 1)?;
                // May also be the rank: then all axes become the first one.
                let axis = if axis == rank as i64 { rank } else { call.axis(axis, rank)? };
                vec![from[..axis].iter().product(), from[axis..].iter().product()]
            }
            "Squeeze" => {
                let axes = match self.whole(call, 1, "axes")? {
                    Some(axes) => call.axes(&axes, rank)?,
                    None => (0..rank).filter(|&axis| from[axis] == 1).collect(),
                };
                if axes.iter().any(|&axis| from[axis] != 1) {
                    return Err(call.refuse(format_args!("axes {axes:?} of {from:?} are not all 1")));
                }
                (0..rank).filter(|axis| !axes.contains(axis)).map(|axis| from[axis]).collect()
            }
            "Unsqueeze" => {
                let axes = self.whole(call, 1, "axes")?.ok_or_else(|| call.refuse("axes are missing"))?;
                let axes = call.axes(&axes, rank.saturating_add(axes.len()))?;
                let mut shape = from.clone();
                axes.iter().for_each(|&axis| shape.insert(axis, 1));
                shape
            }
            _ => {
                let wanted = self.whole(call, 1, "shape")?.ok_or_else(|| call.refuse("shape is missing"))?;
                let zero_is_zero = call.flag("allowzero", false)?;
                resolve(&from, &wanted, zero_is_zero)
                    .ok_or_else(|| call.refuse(format_args!("{from:?} cannot get the shape {wanted:?}")))?
            }
        };
        self.push(call, Op::Reshape(shape), &[x])
    }

    pub(super) fn transpose(&mut self, call: &Call<'a>) -> Result<Value> {
        let x = self.value(call, 0)?;
        let order = match call.ints("perm")? {
            Some(order) => call.sizes("perm", order)?,
            None => (0..self.shape(x).len()).rev().collect(),
        };
        self.push(call, Op::Transpose(order), &[x])
    }

    /// One slice for each axis that is named.
    fn parts(&mut self, call: &Call<'a>, shape: &[usize]) -> Result<Vec<Slice>> {
        let starts = self.whole(call, 1, "starts")?.ok_or_else(|| call.refuse("starts are missing"))?;
        let ends = self.whole(call, 2, "ends")?.ok_or_else(|| call.refuse("ends are missing"))?;
        let axes = self.whole(call, 3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.whole(call, 4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        let counts = [ends.len(), axes.len(), steps.len()];
        if counts != [starts.len(); 3] {
            return Err(call.refuse("starts, ends, axes and steps differ in length"));
        }
        let all = call.axes(&axes, shape.len())?;
        let mut parts = Vec::with_capacity(all.len());
        for (index, &axis) in axes.iter().enumerate() {
            let axis = call.axis(axis, shape.len())?;
            let extent = shape[axis] as i64;
            let bound = |at: i64| (if at < 0 { at.saturating_add(extent) } else { at }).clamp(0, extent) as usize;
            let (start, end) = (bound(starts[index]), bound(ends[index]));
            let step = match usize::try_from(steps[index]) {
                Ok(step) if step > 0 => step,
                _ => return Err(call.refuse(format_args!("step {}: only forward slices are read", steps[index]))),
            };
            if end <= start {
                return Err(call.refuse(format_args!("nothing is left of axis {axis}")));
            }
            parts.push(Slice { axis, start, length: (end - start).div_ceil(step), step });
        }
        Ok(parts)
    }

    pub(super) fn slice(&mut self, call: &Call<'a>) -> Result<Value> {
        let mut x = self.value(call, 0)?;
        let shape = self.shape(x);
        let mut parts = self.parts(call, &shape)?;
        if parts.len() > 1 {
            parts.retain(|part| part.length != shape[part.axis]);
        }
        let label = super::super::call::label(call.node).to_owned();
        for (index, part) in parts.iter().enumerate() {
            let name = if index + 1 == parts.len() { label.clone() } else { format!("{label}.axis{}", part.axis) };
            x = self.push_named(call, &name, Op::Slice(*part), &[x])?;
        }
        Ok(x)
    }
}

/// A shape with 0 for "as before" and one -1 for "the rest" resolved.
fn resolve(from: &[usize], wanted: &[i64], zero_is_zero: bool) -> Option<Vec<usize>> {
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (axis, &n) in wanted.iter().enumerate() {
        match n.cmp(&0) {
            Ordering::Greater => shape.push(usize::try_from(n).ok()?),
            Ordering::Equal if zero_is_zero => return None,
            Ordering::Equal => shape.push(*from.get(axis)?),
            Ordering::Less if n == -1 && open.replace(axis).is_none() => shape.push(1),
            Ordering::Less => return None,
        }
    }
    if let Some(axis) = open {
        let known = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n))?;
        let all: usize = from.iter().product();
        shape[axis] = all.checked_div(known)?;
    }
    Some(shape)
}

fn arithmetic(call: &Call<'_>, op: &str, a: &ArrayD<i64>, b: &ArrayD<i64>) -> Result<ArrayD<i64>> {
    let long = if a.ndim() == 0 || (b.ndim() == 1 && a.len() == 1) { b } else { a };
    if [a, b].iter().any(|side| side.len() != long.len() && side.len() != 1) {
        return Err(call.refuse(format_args!("{:?} and {:?} do not broadcast", a.shape(), b.shape())));
    }
    let (a, b) = (a.iter().copied().collect::<Vec<_>>(), b.iter().copied().collect::<Vec<_>>());
    let result = (0..long.len()).map(|index| {
        let (a, b) = (a[index % a.len()], b[index % b.len()]);
        match op {
            "Add" => a.checked_add(b),
            "Sub" => a.checked_sub(b),
            "Mul" => a.checked_mul(b),
            _ => a.checked_div(b),
        }
    });
    let result = result.collect::<Option<Vec<_>>>().ok_or_else(|| call.refuse("a number is out of range"))?;
    ArrayD::from_shape_vec(long.raw_dim(), result).map_err(|why| call.refuse(why))
}
