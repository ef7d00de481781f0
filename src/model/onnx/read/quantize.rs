//! QuantizeLinear and DequantizeLinear, of values and of constants.

use tract_onnx::pb::tensor_proto::DataType;

use super::super::call::Call;
use super::super::tensor::{Constant, Dequantized, Ints};
use super::{Known, Reader, element};
use crate::Result;
use crate::model::graph::{Element, Op, Quantization, Value};

/// Scales and zero points as the file has them.
struct Scales {
    scale: Vec<f32>,
    zero_point: Vec<i64>,
    kind: Option<DataType>,
    axis: usize,
}

impl<'a> Reader<'a> {
    fn scales(&mut self, call: &Call<'a>, shape: &[usize]) -> Result<Scales> {
        if call.int("block_size", 0)? != 0 {
            return Err(call.refuse("scales for blocks are not read: quantise per tensor or per channel"));
        }
        let axis = call.int("axis", 1)?;
        let scale = self.floats(call, 1)?;
        let one = scale.len() == 1;
        if !one && scale.ndim() != 1 {
            return Err(call.refuse(format_args!("scales {:?}: one, or a list for one axis wanted", scale.shape())));
        }
        let (zero_point, kind) = match call.input(2).map(|name| self.constant(call, name)).transpose()? {
            None => (vec![0; scale.len()], None),
            Some(Some(Constant::Ints(ints))) => (ints.array.iter().copied().collect(), Some(ints.kind)),
            Some(_) => return Err(call.refuse("its zero point must be a constant of whole numbers")),
        };
        let axis = if one { 0 } else { call.axis(axis, shape.len())? };
        if zero_point.len() != scale.len() || !(one || shape[axis] == scale.len()) {
            let counts = (scale.len(), zero_point.len());
            return Err(call.refuse(format_args!("{counts:?} scales and zero points for axis {axis} of {shape:?}")));
        }
        let scale: Vec<f32> = scale.into_iter().collect();
        match scale.iter().find(|s| !s.is_normal() || **s < 0.0) {
            Some(bad) => Err(call.refuse(format_args!("scale {bad} is not positive"))),
            None => Ok(Scales { scale, zero_point, kind, axis }),
        }
    }

    fn quantization(&self, call: &Call<'a>, scales: Scales, element: Element) -> Result<Quantization> {
        let zero_point = scales.zero_point.iter().map(|&zero| i32::try_from(zero)).collect::<Result<_, _>>();
        let zero_point = zero_point.map_err(|why| call.refuse(why))?;
        Ok(Quantization { element, scale: scales.scale, zero_point, axis: scales.axis })
    }

    pub(super) fn quantize(&mut self, call: &Call<'a>) -> Result<Known<'a>> {
        let name = call.needed(0)?;
        let constant = self.constant(call, name)?;
        let value = match &constant {
            Some(_) => None,
            None => Some(self.value(call, 0)?),
        };
        let shape = match (&constant, value) {
            (Some(constant), _) => constant.shape().to_vec(),
            (None, Some(value)) => self.shape(value),
            _ => vec![],
        };
        let scales = self.scales(call, &shape)?;
        call.ignore(&["saturate"]);
        let output = DataType::try_from(call.int("output_dtype", 0)? as i32).unwrap_or(DataType::Undefined);
        let kind = scales.kind.unwrap_or(if output == DataType::Undefined { DataType::Uint8 } else { output });
        if call.int("precision", 0)? > 1 || (output != DataType::Undefined && output != kind) {
            return Err(call.refuse("output_dtype or precision contradict its zero point or are not read"));
        }
        let Some(element) = element(kind as i32).filter(|element| *element != Element::F32) else {
            return Err(call.refuse(format_args!("it makes {}, only u8 and i8 are read", kind.as_str_name())));
        };
        let quantization = self.quantization(call, scales, element)?;
        match (constant, value) {
            (None, Some(x)) => Ok(Known::Value(self.push(call, Op::Quantize(quantization), &[x])?)),
            (Some(constant), _) => quantize(&constant, &quantization, kind)
                .map(Known::Computed)
                .ok_or_else(|| call.refuse("a constant of floats wanted")),
            _ => Err(call.refuse("it has no input")),
        }
    }

    pub(super) fn dequantize(&mut self, call: &Call<'a>) -> Result<Known<'a>> {
        let name = call.needed(0)?;
        if let Some(constant) = self.constant(call, name)? {
            let scales = self.scales(call, constant.shape())?;
            let Constant::Ints(steps) = constant else { return Err(call.refuse("whole numbers wanted, floats given")) };
            let fits = scales.kind.is_none_or(|kind| kind == steps.kind);
            if !fits || ![DataType::Int8, DataType::Uint8, DataType::Int32].contains(&steps.kind) {
                return Err(call.refuse(format_args!(
                    "{} and a zero point of {:?}",
                    steps.kind.as_str_name(),
                    scales.kind
                )));
            }
            // A difference of two i32 always fits.
            let Scales { scale, zero_point, axis, .. } = scales;
            return Ok(Known::Computed(Constant::Dequantized(Dequantized { steps, scale, zero_point, axis })));
        }
        let x: Value = self.value(call, 0)?;
        let scales = self.scales(call, &self.shape(x))?;
        let given = self.graph.node(x).element;
        if scales.kind.is_some_and(|kind| element(kind as i32) != Some(given)) {
            return Err(call.refuse(format_args!("its input is {given}, its zero point {:?}", scales.kind)));
        }
        let quantization = self.quantization(call, scales, given)?;
        Ok(Known::Value(self.push(call, Op::Dequantize(quantization), &[x])?))
    }
}

/// Constant floats as steps.
fn quantize(constant: &Constant, quantization: &Quantization, kind: DataType) -> Option<Constant> {
    let floats = constant.floats()?;
    let Quantization { element, scale, zero_point, axis } = quantization;
    let (low, high) = element.range();
    let inner: usize = floats.shape().iter().skip(axis + 1).product();
    let mut array = floats.mapv(|_| 0i64);
    for (index, (to, x)) in array.iter_mut().zip(floats.iter()).enumerate() {
        let place = if scale.len() == 1 { 0 } else { index / inner.max(1) % scale.len() };
        // Saturates; not a number becomes the zero point.
        let steps = (x / scale[place]).round_ties_even() as i64;
        *to = steps.saturating_add(i64::from(zero_point[place])).clamp(i64::from(low), i64::from(high));
    }
    Some(Constant::Ints(Ints { kind, array }))
}
