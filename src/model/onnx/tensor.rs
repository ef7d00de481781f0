//! Constants of a file: initialisers, attributes, and what is computed of them while a graph is read.

use std::borrow::Cow;

use ndarray::{ArrayD, IxDyn};
use tract_onnx::pb::{TensorProto, tensor_proto::DataType};

use crate::{Error, ErrorKind, Result};

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Constant {
    /// 32-bit floats.
    Floats(ArrayD<f32>),
    /// Integers of any type.
    Ints(Ints),
    /// `(steps - zero_point) * scale`: what DequantizeLinear makes of integers.
    Dequantized(Dequantized),
}

/// Integers with the type that they have in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ints {
    pub(super) kind: DataType,
    pub(super) array: ArrayD<i64>,
}

/// Integers, and the floats that they stand for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dequantized {
    pub(super) steps: Ints,
    /// One for all, or one for each index along `axis`.
    pub(super) scale: Vec<f32>,
    pub(super) zero_point: Vec<i64>,
    pub(super) axis: usize,
}

impl Dequantized {
    /// The floats: `f32(steps - zero_point) * scale`.
    pub(super) fn floats(&self) -> ArrayD<f32> {
        let inner: usize = self.steps.array.shape().iter().skip(self.axis + 1).product();
        let mut floats = self.steps.array.mapv(|_| 0f32);
        for (index, (to, step)) in floats.iter_mut().zip(&self.steps.array).enumerate() {
            let place = if self.scale.len() == 1 { 0 } else { index / inner.max(1) % self.scale.len() };
            *to = (step - self.zero_point[place]) as f32 * self.scale[place];
        }
        floats
    }
}

impl Constant {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Floats(array) => array.shape(),
            Self::Ints(ints) => ints.array.shape(),
            Self::Dequantized(dequantized) => dequantized.steps.array.shape(),
        }
    }

    /// The floats, if it has any.
    pub(super) fn floats(&self) -> Option<Cow<'_, ArrayD<f32>>> {
        match self {
            Self::Floats(array) => Some(Cow::Borrowed(array)),
            Self::Dequantized(dequantized) => Some(Cow::Owned(dequantized.floats())),
            Self::Ints(_) => None,
        }
    }
}

/// Elements of a tensor in the file; [`check`](super::check::check) made sure that they are there.
pub(super) fn elements(tensor: &TensorProto) -> usize {
    tensor.dims.iter().fold(1usize, |all, &d| all.saturating_mul(usize::try_from(d).unwrap_or(0)))
}

/// Reads a tensor that was checked.
///
/// # Errors
/// `Model`, naming the tensor, when its type is none of those of [`Constant`] or its data do not fit its shape.
pub(super) fn decode(tensor: &TensorProto) -> Result<Constant> {
    let refuse = |why: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Model, format_args!("initialiser '{}': {why}: export the model again", tensor.name))
    };
    let shape: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
    let kind = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
    let raw = tensor.raw_data.as_slice();
    if kind == DataType::Float {
        let values = if raw.is_empty() { tensor.float_data.clone() } else { each(raw, f32::from_le_bytes) };
        return ArrayD::from_shape_vec(IxDyn(&shape), values).map(Constant::Floats).map_err(|why| refuse(&why));
    }
    let given = || tensor.int32_data.iter().map(|&n| i64::from(n)).collect();
    let values: Vec<i64> = match kind {
        DataType::Int64 if raw.is_empty() => tensor.int64_data.clone(),
        DataType::Int64 => each(raw, i64::from_le_bytes),
        DataType::Int32 if !raw.is_empty() => each(raw, |bytes| i64::from(i32::from_le_bytes(bytes))),
        DataType::Int8 if !raw.is_empty() => raw.iter().map(|&n| i64::from(n as i8)).collect(),
        DataType::Uint8 | DataType::Bool if !raw.is_empty() => raw.iter().map(|&n| i64::from(n)).collect(),
        DataType::Int32 | DataType::Int8 | DataType::Uint8 | DataType::Bool => given(),
        _ => return Err(refuse(&format_args!("data type {} is not supported", tensor.data_type))),
    };
    let (low, high) = match kind {
        DataType::Int8 => (-128, 127),
        DataType::Uint8 => (0, 255),
        DataType::Bool => (0, 1),
        _ => (i64::MIN, i64::MAX),
    };
    if let Some(bad) = values.iter().find(|n| !(low..=high).contains(*n)) {
        return Err(refuse(&format_args!("{bad} is no {}", kind.as_str_name())));
    }
    let array = ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|why| refuse(&why))?;
    Ok(Constant::Ints(Ints { kind, array }))
}

fn each<const N: usize, T>(raw: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|bytes| from(*bytes)).collect()
}

/// A float tensor for a file.
pub(super) fn float_tensor(name: &str, tensor: &ArrayD<f32>) -> TensorProto {
    let raw_data = tensor.iter().flat_map(|x| x.to_le_bytes()).collect();
    proto(name, DataType::Float, tensor.shape(), raw_data)
}

/// A tensor of whole numbers for a file: bytes, i32 or i64.
pub(super) fn int_tensor(
    name: &str,
    kind: DataType,
    shape: &[usize],
    values: impl IntoIterator<Item = i64>,
) -> TensorProto {
    let values = values.into_iter();
    let raw_data = match kind {
        DataType::Int64 => values.flat_map(i64::to_le_bytes).collect(),
        DataType::Int32 => values.flat_map(|n| (n as i32).to_le_bytes()).collect(),
        _ => values.map(|n| n as u8).collect(),
    };
    proto(name, kind, shape, raw_data)
}

fn proto(name: &str, kind: DataType, shape: &[usize], raw_data: Vec<u8>) -> TensorProto {
    let dims = shape.iter().map(|&d| d as i64).collect();
    TensorProto { dims, data_type: kind as i32, name: name.into(), raw_data, ..Default::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn data_of_all_kinds_are_read() {
        let typed = |kind: DataType| TensorProto { dims: vec![2, 1], data_type: kind as i32, ..Default::default() };
        let floats = TensorProto { float_data: vec![0.5, -2.0], ..typed(DataType::Float) };
        let wanted = Constant::Floats(ndarray::arr2(&[[0.5f32], [-2.0]]).into_dyn());
        assert_eq!(decode(&floats).unwrap(), wanted);
        let Constant::Floats(array) = &wanted else { panic!("floats") };
        assert_eq!(decode(&float_tensor("x", array)).unwrap(), wanted);
        for kind in [DataType::Int8, DataType::Uint8, DataType::Int32, DataType::Int64] {
            let array = ndarray::arr2(&[[3i64], [100]]).into_dyn();
            let wanted = Constant::Ints(Ints { kind, array });
            assert_eq!(decode(&int_tensor("x", kind, &[2, 1], [3, 100])).unwrap(), wanted);
            let unpacked = match kind {
                DataType::Int64 => TensorProto { int64_data: vec![3, 100], ..typed(kind) },
                _ => TensorProto { int32_data: vec![3, 100], ..typed(kind) },
            };
            assert_eq!(decode(&unpacked).unwrap(), wanted);
        }
        let bad = TensorProto { int32_data: vec![3, 200], ..typed(DataType::Int8) };
        assert!(decode(&bad).unwrap_err().to_string().contains("200 is no INT8"));
    }

    #[test]
    fn steps_have_the_scale_of_their_channel() {
        let array = ndarray::arr3(&[[[1i64, 2], [3, 4]], [[5, 6], [7, 8]]]).into_dyn();
        let steps = Ints { kind: DataType::Int8, array };
        let of = |axis| Dequantized { steps: steps.clone(), scale: vec![1.0, 10.0], zero_point: vec![0, 1], axis };
        assert_eq!(of(0).floats().into_raw_vec_and_offset().0, [1.0, 2.0, 3.0, 4.0, 40.0, 50.0, 60.0, 70.0]);
        assert_eq!(of(1).floats().into_raw_vec_and_offset().0, [1.0, 2.0, 20.0, 30.0, 5.0, 6.0, 60.0, 70.0]);
        assert_eq!(of(2).floats().into_raw_vec_and_offset().0, [1.0, 10.0, 3.0, 30.0, 5.0, 50.0, 7.0, 70.0]);
    }
}
