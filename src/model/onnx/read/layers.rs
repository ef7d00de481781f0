//! Layers with weights: convolution, dense layer, normalisation.

use ndarray::{Array1, ArrayD, Axis, Dimension, IxDyn};
use tract_onnx::pb::tensor_proto::DataType;

use super::super::call::Call;
use super::super::tensor::{Constant, Dequantized};
use super::Reader;
use crate::Result;
use crate::model::graph::{Binary, Conv, Dense, Op, Value, bias_steps};

/// Weights with the output channels on axis 0, and their scales if they are quantised.
struct Kernel {
    weight: ArrayD<f32>,
    scale: Option<Vec<f32>>,
}

impl<'a> Reader<'a> {
    pub(super) fn conv(&mut self, call: &Call<'a>) -> Result<Value> {
        let x = self.value(call, 0)?;
        let name = call.needed(1)?;
        let kernel = self.kernel(call, name, 0)?;
        let kernel = kernel.ok_or_else(|| call.refuse(format_args!("its weights '{name}' must be a constant")))?;
        let shape = self.shape(x);
        let extents = kernel.weight.shape().get(2..).unwrap_or_default().to_vec();
        let windows = self.windows(call, &shape, &extents)?;
        let groups = usize::try_from(call.int("group", 1)?).unwrap_or(0);
        let (channels, inner) = match kernel.weight.shape() {
            [channels, inner, ..] => (*channels, inner.checked_mul(groups)),
            _ => (0, None),
        };
        if shape.len() < 2 || inner != Some(shape[1]) {
            let why = format!("weights {:?} in {groups} groups do not fit {shape:?}", kernel.weight.shape());
            return Err(call.refuse(why));
        }
        let bias = match call.input(2) {
            Some(_) => Some(self.bias(call, x, &kernel, channels)?),
            None => None,
        };
        let (stride, pad, dilation) = (windows.stride, windows.pad, windows.dilation);
        let (bias_there, quantized) = (bias.is_some(), kernel.scale.is_some());
        let conv = Conv { channels, kernel: extents, stride, pad, dilation, groups, bias: bias_there, quantized };
        let value = self.push(call, Op::Conv(conv), &[x])?;
        self.parameters(value, kernel, bias)?;
        Ok(value)
    }

    fn parameters(&mut self, value: Value, kernel: Kernel, bias: Option<ArrayD<f32>>) -> Result<()> {
        let name = self.name(value);
        self.parameter(format!("{name}.weight"), kernel.weight)?;
        if let Some(bias) = bias {
            self.parameter(format!("{name}.bias"), bias)?;
        }
        match kernel.scale {
            Some(scale) => self.parameter(format!("{name}.weight_scale"), Array1::from(scale).into_dyn()),
            None => Ok(()),
        }
    }

    /// Constant weights whose output channels are on axis `axis`; none if the name is no constant.
    fn kernel(&mut self, call: &Call<'a>, name: &str, axis: usize) -> Result<Option<Kernel>> {
        let (mut weight, scale) = match self.constant(call, name)? {
            None => return Ok(None),
            Some(Constant::Floats(weight)) => (weight, None),
            Some(Constant::Dequantized(quantized)) => {
                let scale = scales(call, &quantized, axis)?;
                (quantized.floats(), Some(scale))
            }
            Some(Constant::Ints(_)) => {
                return Err(
                    call.refuse(format_args!("its weights '{name}' are whole numbers: a DequantizeLinear is missing"))
                );
            }
        };
        if axis == 1 && weight.ndim() == 2 {
            weight.swap_axes(0, 1);
        }
        Ok(Some(Kernel { weight, scale }))
    }

    /// The bias `[channels]` of input 2, which may be one that is repeated. A bias of i32 steps must come back from its floats.
    fn bias(&mut self, call: &Call<'a>, x: Value, kernel: &Kernel, channels: usize) -> Result<ArrayD<f32>> {
        let name = call.needed(2)?;
        let constant = self.constant(call, name)?;
        let floats = constant.as_ref().and_then(|constant| constant.floats());
        let floats =
            floats.ok_or_else(|| call.refuse(format_args!("its bias '{name}' must be a constant of floats")))?;
        if floats.shape() != [channels] {
            return Err(call.refuse(format_args!("its bias '{name}' {:?} is not [{channels}]", floats.shape())));
        }
        if let (Some(Constant::Dequantized(bias)), Some(scale)) = (&constant, &kernel.scale)
            && let Op::Dequantize(input) = &self.graph.node(x).op
            && let [input_scale] = input.scale[..]
        {
            for (channel, (&float, &step)) in floats.iter().zip(&bias.steps.array).enumerate() {
                let zero = bias.zero_point[if bias.zero_point.len() == 1 { 0 } else { channel }];
                let back = bias_steps(float, input_scale, scale[channel]);
                if back.map(i64::from) != Some(step - zero) {
                    return Err(call.refuse(format_args!(
                        "its bias '{name}' is {step} steps at channel {channel}, but {back:?} of the input's and the weights' \
                         scale: quantise it with the product of both scales, and within 2^23 steps"
                    )));
                }
            }
        }
        Ok(floats.into_owned())
    }

    /// `alpha A' B' + beta C`: a dense layer where B and C are parameters, else a matrix product and what goes with it.
    pub(super) fn gemm(&mut self, call: &Call<'a>) -> Result<Value> {
        if call.opset < 7 {
            return Err(call.refuse("before operator set 7 it broadcasts otherwise: export the model for set 17"));
        }
        let (alpha, beta) = (call.float("alpha", 1.0)?, call.float("beta", 1.0)?);
        let (turn_a, turn_b) = (call.flag("transA", false)?, call.flag("transB", false)?);
        let label = super::super::call::label(call.node);
        let mut a = self.value(call, 0)?;
        if turn_a {
            a = self.push_named(call, &format!("{label}.a"), Op::Transpose(vec![1, 0]), &[a])?;
        }
        let plain = alpha == 1.0 && (beta == 1.0 || call.input(2).is_none());
        let name = call.needed(1)?;
        let kernel = self.kernel(call, name, usize::from(!turn_b))?;
        let features = kernel.as_ref().and_then(|kernel| kernel.weight.shape().first().copied());
        let bias = features.map_or(Ok(Spread::Other), |features| self.spread_bias(call, features))?;
        let product = format!("{label}.product");
        let y = match (kernel, bias) {
            (Some(kernel), Spread::Bias(bias)) if plain => return self.dense(call, label, a, kernel, bias),
            (Some(kernel), _) => self.dense(call, &product, a, kernel, None)?,
            (None, _) => {
                let mut b = self.value(call, 1)?;
                if turn_b {
                    b = self.push_named(call, &format!("{label}.b"), Op::Transpose(vec![1, 0]), &[b])?;
                }
                let name = if plain && call.input(2).is_none() { label } else { &product };
                self.push_named(call, name, Op::MatMul, &[a, b])?
            }
        };
        let name = format!("{label}.alpha");
        let y = self.scaled(call, y, alpha, if call.input(2).is_none() { label } else { &name })?;
        if call.input(2).is_none() {
            return Ok(y);
        }
        let c = self.value(call, 2)?;
        let c = self.scaled(call, c, beta, &format!("{label}.beta"))?;
        self.push(call, Op::Binary(Binary::Add), &[y, c])
    }

    /// `x` times a constant, if that is not one.
    fn scaled(&mut self, call: &Call<'a>, x: Value, factor: f32, name: &str) -> Result<Value> {
        if factor == 1.0 {
            return Ok(x);
        }
        let constant = self.push_named(call, &format!("{name}.factor"), Op::Constant(vec![]), &[])?;
        self.parameter(format!("{}.value", self.name(constant)), ArrayD::from_elem(IxDyn(&[]), factor))?;
        self.push_named(call, name, Op::Binary(Binary::Mul), &[x, constant])
    }

    /// Gemm's C as a bias `[features]`, where it is constant and the same for each row.
    fn spread_bias(&mut self, call: &Call<'a>, features: usize) -> Result<Spread> {
        let Some(name) = call.input(2) else { return Ok(Spread::Bias(None)) };
        let shape = self.constant(call, name)?.map(|constant| constant.shape().to_vec());
        Ok(match shape.as_deref() {
            Some([n]) if *n == features => Spread::Bias(Some(features)),
            Some([] | [1] | [1, 1]) => Spread::Bias(Some(1)),
            Some([1, n]) if *n == features => Spread::Bias(Some(1)),
            _ => Spread::Other,
        })
    }

    fn dense(&mut self, call: &Call<'a>, name: &str, x: Value, kernel: Kernel, bias: Option<usize>) -> Result<Value> {
        let shape = self.shape(x);
        let features = match (kernel.weight.shape(), shape.as_slice()) {
            ([features, inner], [_, channels]) if inner == channels => *features,
            (weights, _) => return Err(call.refuse(format_args!("weights {weights:?} do not fit {shape:?}"))),
        };
        let bias = match bias {
            None => None,
            // As many as features, maybe i32 steps.
            Some(n) if n == features && self.rank_of(call, 2)? == 1 => Some(self.bias(call, x, &kernel, features)?),
            Some(_) => {
                let floats = self.floats(call, 2)?;
                let flat = floats.broadcast(IxDyn(&[1, features])).map(|all| all.index_axis(Axis(0), 0).to_owned());
                Some(flat.ok_or_else(|| call.refuse("its bias does not fit"))?)
            }
        };
        let op = Dense { features, bias: bias.is_some(), quantized: kernel.scale.is_some() };
        let value = self.push_named(call, name, Op::Dense(op), &[x])?;
        self.parameters(value, kernel, bias)?;
        Ok(value)
    }

    fn rank_of(&mut self, call: &Call<'a>, index: usize) -> Result<usize> {
        let name = call.needed(index)?;
        Ok(self.constant(call, name)?.map_or(0, |constant| constant.shape().len()))
    }

    /// A dense layer without bias where the second matrix is constant and both are plain matrices.
    pub(super) fn matmul(&mut self, call: &Call<'a>) -> Result<Value> {
        let x = self.value(call, 0)?;
        let name = call.needed(1)?;
        if self.shape(x).len() == 2
            && let Some(kernel) = self.kernel(call, name, 1)?
            && kernel.weight.ndim() == 2
        {
            return self.dense(call, super::super::call::label(call.node), x, kernel, None);
        }
        let b = self.value(call, 1)?;
        self.push(call, Op::MatMul, &[x, b])
    }

    pub(super) fn batch_norm(&mut self, call: &Call<'a>) -> Result<Value> {
        let eps = call.float("epsilon", 1e-5)?;
        let inference =
            if call.opset < 7 { call.flag("is_test", false)? } else { !call.flag("training_mode", false)? };
        if !inference || !call.flag("spatial", true)? {
            return Err(call.refuse("a normalisation that trains is not read: export the model for inference"));
        }
        call.ignore(&["momentum", "consumed_inputs"]);
        let x = self.value(call, 0)?;
        let parameters = (1..5).map(|index| self.floats(call, index)).collect::<Result<Vec<_>>>()?;
        let value = self.push(call, Op::BatchNorm { eps }, &[x])?;
        let name = self.name(value);
        for (suffix, array) in ["weight", "bias", "running_mean", "running_var"].into_iter().zip(parameters) {
            self.parameter(format!("{name}.{suffix}"), array)?;
        }
        Ok(value)
    }

    pub(super) fn layer_norm(&mut self, call: &Call<'a>) -> Result<Value> {
        let eps = call.float("epsilon", 1e-5)?;
        if call.int("stash_type", 1)? != 1 {
            return Err(call.refuse("only stash_type 1, f32, is read"));
        }
        let x = self.value(call, 0)?;
        let shape = self.shape(x);
        let axis = call.axis(call.int("axis", -1)?, shape.len())?;
        let inner = IxDyn(&shape[axis..]);
        self.needs_room(2 * inner.size()).map_err(|why| call.refuse(why))?;
        let mut parameters = vec![];
        for index in [1, 2] {
            let given = match call.input(index) {
                None if index == 2 => ArrayD::zeros(inner.clone()),
                _ => self.floats(call, index)?,
            };
            let spread = given.broadcast(inner.clone()).map(|all| all.to_owned());
            parameters
                .push(spread.ok_or_else(|| call.refuse(format_args!("{:?} does not fit {inner:?}", given.shape())))?);
        }
        let value = self.push(call, Op::LayerNorm { axis, eps }, &[x])?;
        let name = self.name(value);
        for (suffix, array) in ["weight", "bias"].into_iter().zip(parameters) {
            self.parameter(format!("{name}.{suffix}"), array)?;
        }
        Ok(value)
    }
}

/// Gemm's C.
enum Spread {
    /// A bias of so many elements, or none.
    Bias(Option<usize>),
    /// Something that only an addition can do.
    Other,
}

/// The scales of weights for each channel of `axis`; refuses those that are not i8 around zero.
fn scales(call: &Call<'_>, weights: &Dequantized, axis: usize) -> Result<Vec<f32>> {
    if weights.steps.kind != DataType::Int8 || weights.zero_point.iter().any(|&zero| zero != 0) {
        return Err(call.refuse("quantised weights must be i8 with zero point 0: quantise them symmetrically"));
    }
    let channels = weights.steps.array.shape().get(axis).copied().unwrap_or(0);
    match weights.scale[..] {
        [scale] => Ok(vec![scale; channels]),
        ref all if weights.axis == axis && all.len() == channels => Ok(all.to_vec()),
        _ => Err(call
            .refuse(format_args!("weights must be quantised per tensor or along axis {axis}, their output channels"))),
    }
}
