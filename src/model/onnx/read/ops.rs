//! Which operator becomes which operation, and the small ones.

use super::super::call::Call;
use super::super::tensor::{Constant, decode, elements};
use super::{Known, Reader, supported};
use crate::Result;
use crate::model::graph::{Binary, Coordinates, Op, Pad, Resize, Slice, Unary, Value};
use ndarray::{ArrayD, IxDyn};

/// The operators that become operations.
pub(super) const OPERATORS: [&str; 34] = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "DequantizeLinear",
    "Dropout",
    "Flatten",
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
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

impl<'a> Reader<'a> {
    /// The values that a node makes.
    pub(super) fn convert(&mut self, call: &Call<'a>) -> Result<Vec<Known<'a>>> {
        let one = |value: Value| vec![Known::Value(value)];
        Ok(match call.op() {
            "Conv" => one(self.conv(call)?),
            "Gemm" => one(self.gemm(call)?),
            "MatMul" => one(self.matmul(call)?),
            "BatchNormalization" => one(self.batch_norm(call)?),
            "LayerNormalization" => one(self.layer_norm(call)?),
            "MaxPool" | "AveragePool" => one(self.pool(call)?),
            "GlobalMaxPool" | "GlobalAveragePool" => one(self.global_pool(call)?),
            "ReduceMean" => one(self.reduce_mean(call)?),
            "Relu" => one(self.unary(call, Unary::Relu)?),
            "Sigmoid" => one(self.unary(call, Unary::Sigmoid)?),
            "Tanh" => one(self.unary(call, Unary::Tanh)?),
            "HardSigmoid" => {
                let (alpha, beta) = (call.float("alpha", 0.2)?, call.float("beta", 0.5)?);
                one(self.unary(call, Unary::HardSigmoid { alpha, beta })?)
            }
            "Clip" => one(self.clip(call)?),
            "Softmax" => one(self.softmax(call)?),
            "Add" => one(self.binary(call, Binary::Add)?),
            "Sub" => one(self.binary(call, Binary::Sub)?),
            "Mul" => one(self.binary(call, Binary::Mul)?),
            "Concat" => one(self.concat(call)?),
            "Split" => self.split(call)?.into_iter().map(Known::Value).collect(),
            "Slice" => one(self.slice(call)?),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => one(self.reshape(call)?),
            "Transpose" => one(self.transpose(call)?),
            "Pad" => one(self.pad(call)?),
            "Resize" => one(self.resize(call)?),
            "QuantizeLinear" => vec![self.quantize(call)?],
            "DequantizeLinear" => vec![self.dequantize(call)?],
            "Identity" => vec![self.same(call)?],
            "Dropout" => {
                if self.scalar(call, 2)?.is_some_and(|trains| trains != 0.0) {
                    return Err(call.refuse("a Dropout that trains is not read: export the model for inference"));
                }
                call.ignore(&["ratio", "seed"]);
                vec![self.same(call)?]
            }
            "Constant" => vec![Known::Computed(self.literal(call)?)],
            op if OPERATORS.contains(&op) || super::shapes::FOLDED.contains(&op) => {
                let why = "it is only read where it computes a shape from constants: export the model with fixed sizes";
                return Err(call.refuse(why));
            }
            _ => {
                let why = format!("this operator is not read; known are {}", supported().join(", "));
                return Err(call.refuse(why));
            }
        })
    }

    /// The same as the first input.
    fn same(&mut self, call: &Call<'a>) -> Result<Known<'a>> {
        let name = call.needed(0)?;
        Ok(match self.constant(call, name)? {
            Some(constant) => Known::Computed(constant),
            None => Known::Value(self.value(call, 0)?),
        })
    }

    fn literal(&mut self, call: &Call<'a>) -> Result<Constant> {
        if let Some(tensor) = call.tensor("value")? {
            self.spend(elements(tensor))?;
            return decode(tensor).map_err(|why| call.refuse(why));
        }
        if let Some(floats) = call.floats("value_floats")? {
            return Ok(Constant::Floats(ndarray::arr1(floats).into_dyn()));
        }
        if let Some(ints) = call.ints("value_ints")? {
            return Ok(super::shapes::list(ints.to_vec()));
        }
        let float = call.float("value_float", f32::NAN)?;
        if !float.is_nan() {
            return Ok(Constant::Floats(ArrayD::from_elem(IxDyn(&[]), float)));
        }
        Err(call.refuse("only constants of numbers are read"))
    }

    fn unary(&mut self, call: &Call<'a>, function: Unary) -> Result<Value> {
        let x = self.value(call, 0)?;
        call.ignore(&["consumed_inputs"]);
        self.push(call, Op::Unary(function), &[x])
    }

    fn clip(&mut self, call: &Call<'a>) -> Result<Value> {
        let min = call.float("min", f32::NEG_INFINITY)?;
        let max = call.float("max", f32::INFINITY)?;
        let min = self.scalar(call, 1)?.unwrap_or(min);
        let max = self.scalar(call, 2)?.unwrap_or(max);
        self.unary(call, Unary::Clip { min, max })
    }

    fn softmax(&mut self, call: &Call<'a>) -> Result<Value> {
        if call.opset < 13 {
            return Err(call.refuse("before operator set 13 it flattens axes: export the model for set 17"));
        }
        let x = self.value(call, 0)?;
        let axis = call.axis(call.int("axis", -1)?, self.shape(x).len())?;
        self.push(call, Op::Softmax { axis }, &[x])
    }

    fn binary(&mut self, call: &Call<'a>, function: Binary) -> Result<Value> {
        if call.opset < 7 {
            return Err(call.refuse("before operator set 7 it broadcasts otherwise: export the model for set 17"));
        }
        let inputs = [self.value(call, 0)?, self.value(call, 1)?];
        self.push(call, Op::Binary(function), &inputs)
    }

    fn concat(&mut self, call: &Call<'a>) -> Result<Value> {
        let inputs = (0..call.node.input.len()).map(|index| self.value(call, index)).collect::<Result<Vec<_>>>()?;
        let rank = inputs.first().map_or(0, |x| self.shape(*x).len());
        let axis = call.axis(call.int("axis", 1)?, rank)?;
        self.push(call, Op::Concat { axis }, &inputs)
    }

    fn split(&mut self, call: &Call<'a>) -> Result<Vec<Value>> {
        let x = self.value(call, 0)?;
        let shape = self.shape(x);
        let axis = call.axis(call.int("axis", 0)?, shape.len())?;
        let parts = call.node.output.len();
        let given = self.whole(call, 1, "split")?;
        let count = call.int("num_outputs", parts as i64)?;
        let lengths = match given {
            Some(lengths) => call.sizes("split", &lengths)?,
            // Equal parts; the last one may be shorter.
            None => {
                let part = shape[axis].div_ceil(parts.max(1));
                (0..parts).map(|index| shape[axis].saturating_sub(index * part).min(part)).collect()
            }
        };
        let whole = lengths.iter().try_fold(0usize, |all, &n| all.checked_add(n)) == Some(shape[axis]);
        if lengths.len() != parts || count != parts as i64 || !whole {
            return Err(
                call.refuse(format_args!("{parts} parts of {lengths:?} do not make {shape:?} along axis {axis}"))
            );
        }
        let mut start = 0;
        let mut values = Vec::with_capacity(parts);
        for (length, output) in lengths.into_iter().zip(&call.node.output) {
            let op = Op::Slice(Slice { axis, start, length, step: 1 });
            let name = if output.is_empty() { super::super::call::label(call.node) } else { output };
            values.push(self.push_named(call, name, op, &[x])?);
            start += length;
        }
        Ok(values)
    }

    fn pad(&mut self, call: &Call<'a>) -> Result<Value> {
        let x = self.value(call, 0)?;
        let shape = self.shape(x);
        let mode = call.text("mode", "constant")?;
        if mode != "constant" {
            return Err(call.refuse(format_args!("mode '{mode}' is not read, only 'constant'")));
        }
        let value = call.float("value", 0.0)?;
        let pads = self.whole(call, 1, "pads")?.ok_or_else(|| call.refuse("pads are missing"))?;
        let pads = call.sizes("pads", &pads)?;
        let value = self.scalar(call, 2)?.unwrap_or(value);
        let axes = match self.whole(call, 3, "axes")? {
            Some(axes) => axes.iter().map(|&axis| call.axis(axis, shape.len())).collect::<Result<Vec<_>>>()?,
            None => (0..shape.len()).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(call.refuse(format_args!("{pads:?} are no pads for {} axes", axes.len())));
        }
        let mut pad = vec![(0, 0); shape.len()];
        for (index, axis) in axes.iter().enumerate() {
            pad[*axis] = (pads[index], pads[index + axes.len()]);
        }
        self.push(call, Op::Pad(Pad { pad, value }), &[x])
    }

    fn resize(&mut self, call: &Call<'a>) -> Result<Value> {
        let only = |name: &str, wanted: &'static str| match call.text(name, wanted)? {
            found if found == wanted => Ok(()),
            found => Err(call.refuse(format_args!("{name} '{found}' is not read, only '{wanted}'"))),
        };
        if call.opset < 11 {
            return Err(call.refuse("before operator set 11 it interpolates otherwise: export the model for set 17"));
        }
        match call.text("mode", "nearest")? {
            "linear" => {}
            mode => return Err(call.refuse(format_args!("mode '{mode}' is not read, only 'linear'"))),
        }
        only("keep_aspect_ratio_policy", "stretch")?;
        if call.flag("antialias", false)? || call.flag("exclude_outside", false)? {
            return Err(call.refuse("antialias and exclude_outside are not read: export without them"));
        }
        call.ignore(&["cubic_coeff_a", "extrapolation_value", "nearest_mode"]);
        let coordinates = match call.text("coordinate_transformation_mode", "half_pixel")? {
            "half_pixel" => Coordinates::HalfPixel,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            other => return Err(call.refuse(format_args!("coordinate_transformation_mode '{other}' is not read"))),
        };
        let x = self.value(call, 0)?;
        let shape = self.shape(x);
        let axes = match call.ints("axes")? {
            Some(axes) => axes.iter().map(|&axis| call.axis(axis, shape.len())).collect::<Result<Vec<_>>>()?,
            None => (0..shape.len()).collect(),
        };
        let (mut size, mut scale) = (shape.clone(), vec![1.0; shape.len()]);
        let scales = if call.input(2).is_some() { self.floats(call, 2)?.into_raw_vec_and_offset().0 } else { vec![] };
        let sizes = call.sizes("sizes", &self.whole(call, 3, "sizes")?.unwrap_or_default())?;
        if (scales.len(), sizes.len()) != (axes.len(), 0) && (scales.len(), sizes.len()) != (0, axes.len()) {
            return Err(call.refuse(format_args!("either scales or sizes for {} axes wanted", axes.len())));
        }
        for (index, &axis) in axes.iter().enumerate() {
            match sizes.get(index) {
                Some(&wanted) => (size[axis], scale[axis]) = (wanted, wanted as f32 / shape[axis] as f32),
                // Too large a product saturates and is refused as a shape.
                None => {
                    (size[axis], scale[axis]) =
                        ((shape[axis] as f64 * f64::from(scales[index])) as usize, scales[index])
                }
            }
        }
        self.push(call, Op::Resize(Resize { size, scale, coordinates }), &[x])
    }
}
