//! The operations of a [`Graph`](super::Graph) and what they are set to. Axes count from 0, the batch axis, and every
//! setting is resolved: no negative axis, no automatic padding, no shape that depends on a value.

use std::fmt;

/// Type of the elements of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit floats.
    F32,
    /// Unsigned bytes, as quantised activations are.
    U8,
    /// Signed bytes, as quantised weights are.
    I8,
}

impl Element {
    /// The smallest and largest value of a quantised element.
    pub fn range(self) -> (i32, i32) {
        match self {
            Self::F32 => (i32::MIN, i32::MAX),
            Self::U8 => (0, 255),
            Self::I8 => (-128, 127),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::U8 => "u8",
            Self::I8 => "i8",
        })
    }
}

/// What a node computes. `x` is its first input.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// A value that is given from outside.
    Input,
    /// The parameter `value` of this shape, f32.
    Constant(Vec<usize>),
    /// Convolution; parameters `weight` `[channels, C / groups, k...]`, `bias` `[channels]`, `weight_scale` `[channels]`.
    Conv(Conv),
    /// `x W^T + b` of `x` `[N, C]`; parameters `weight` `[features, C]`, `bias` `[features]`, `weight_scale` `[features]`.
    Dense(Dense),
    /// Matrix product of `[..., M, K]` and `[..., K, N]`; the leading axes broadcast.
    MatMul,
    /// `(x - running_mean) / sqrt(running_var + eps) * weight + bias` per channel, axis 1; each parameter `[C]`.
    BatchNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// `(x - mean) / sqrt(var + eps) * weight + bias` with mean and variance over the axes from `axis` on; both parameters
    /// have the shape of those axes.
    LayerNorm {
        /// First of the axes that are normalised together.
        axis: usize,
        /// Added to the variance.
        eps: f32,
    },
    /// A function of each element.
    Unary(Unary),
    /// A function of two values' elements; shapes broadcast as numpy's. Integers wrap around.
    Binary(Binary),
    /// `exp(x) / sum(exp(x))` along an axis.
    Softmax {
        /// The axis whose sum becomes one.
        axis: usize,
    },
    /// Maximum or mean over windows.
    Pool(Pool),
    /// Mean over whole axes.
    Mean {
        /// Ascending.
        axes: Vec<usize>,
        /// Whether the axes stay, with extent one.
        keep: bool,
    },
    /// Any number of values of one type, one after another along an axis.
    Concat {
        /// The axis along which extents add up.
        axis: usize,
    },
    /// Elements `start`, `start + step`, ... of one axis.
    Slice(Slice),
    /// The same elements in row-major order in another shape.
    Reshape(Vec<usize>),
    /// Axis `i` of the result is axis `order[i]` of `x`.
    Transpose(Vec<usize>),
    /// `x` with a border.
    Pad(Pad),
    /// Linear interpolation.
    Resize(Resize),
    /// `q = clamp(round_half_even(x / scale) + zero_point)`, f32 to u8 or i8.
    Quantize(Quantization),
    /// `x = (q - zero_point) * scale`, u8 or i8 to f32.
    Dequantize(Quantization),
}

/// The order of a [`Op::Transpose`] that brings the channels last: `[N, C, T, H, W]` becomes `[N, T, H, W, C]`.
pub const CHANNELS_LAST: [usize; 5] = [0, 2, 3, 4, 1];
/// The order that undoes [`CHANNELS_LAST`].
pub const CHANNELS_FIRST: [usize; 5] = [0, 4, 1, 2, 3];
/// The order that lets channels and columns change places, both ways: `[N, C, T, H, W]` becomes `[N, W, T, H, C]`.
pub const CHANNELS_AND_COLUMNS: [usize; 5] = [0, 4, 2, 3, 1];

/// A convolution of `[N, C, ...]` over one to three axes: cross-correlation, as ONNX and PyTorch define it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv {
    /// Output channels.
    pub channels: usize,
    /// Kernel extent of each axis, e.g. T, H, W.
    pub kernel: Vec<usize>,
    /// Stride of each axis.
    pub stride: Vec<usize>,
    /// Zeros before and after each axis. A causal temporal kernel of k has `(k - 1, 0)` in time.
    pub pad: Vec<(usize, usize)>,
    /// Distance of a kernel's elements along each axis; 1 is dense.
    pub dilation: Vec<usize>,
    /// Groups of channels that do not see one another; 1 is a full convolution.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether the weights are `weight_scale[channel]` times an i8: see [`steps`].
    pub quantized: bool,
}

impl Conv {
    /// A convolution of stride and dilation 1, without padding, groups or bias.
    pub fn new(channels: usize, kernel: impl Into<Vec<usize>>) -> Self {
        let kernel = kernel.into();
        let ones = vec![1; kernel.len()];
        let pad = vec![(0, 0); kernel.len()];
        Self { channels, kernel, stride: ones.clone(), pad, dilation: ones, groups: 1, bias: false, quantized: false }
    }
}

/// A dense layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dense {
    /// Output features.
    pub features: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether the weights are `weight_scale[feature]` times an i8: see [`steps`].
    pub quantized: bool,
}

/// Functions of one element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, min), max)`.
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound; it holds where it is below `min`.
        max: f32,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `min(max(alpha x + beta, 0), 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at zero.
        beta: f32,
    },
    /// Hyperbolic tangent.
    Tanh,
}

/// Functions of two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
}

/// Windows over the axes of `[N, C, ...]` from the third on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// What becomes of a window.
    pub function: PoolFunction,
    /// Extent of each axis.
    pub kernel: Vec<usize>,
    /// Stride of each axis.
    pub stride: Vec<usize>,
    /// Padding before and after each axis.
    pub pad: Vec<(usize, usize)>,
    /// Distance of a window's elements along each axis.
    pub dilation: Vec<usize>,
    /// Whether a last window may reach beyond the padded end, as long as it begins before the end padding.
    pub ceil: bool,
}

impl Pool {
    /// Means over `kernel` without padding or overlap; a rest is left out.
    pub fn average(kernel: impl Into<Vec<usize>>) -> Self {
        let kernel = kernel.into();
        let (stride, rank) = (kernel.clone(), kernel.len());
        let function = PoolFunction::Average { count_pad: false };
        Self { function, kernel, stride, pad: vec![(0, 0); rank], dilation: vec![1; rank], ceil: false }
    }

    /// The largest over `kernel`, else as [`Pool::average`].
    pub fn max(kernel: impl Into<Vec<usize>>) -> Self {
        Self { function: PoolFunction::Max, ..Self::average(kernel) }
    }
}

/// What becomes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolFunction {
    /// The largest element; padding never is.
    Max,
    /// The sum divided by the number of elements.
    Average {
        /// Whether padding counts as elements, zeros. What `ceil` adds beyond the padding never does.
        count_pad: bool,
    },
}

/// Some elements of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The axis.
    pub axis: usize,
    /// First element.
    pub start: usize,
    /// Number of elements.
    pub length: usize,
    /// Distance of two elements.
    pub step: usize,
}

/// A border of one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    /// Elements before and after each axis, the batch axis too.
    pub pad: Vec<(usize, usize)>,
    /// What they are.
    pub value: f32,
}

/// Linear interpolation of all axes. Element `o` of an axis is read at the position that `coordinates` says, between the
/// two elements around it, or at the nearest one beyond an end.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// Extent of each axis of the result.
    pub size: Vec<usize>,
    /// Result over input for each axis; need not be the quotient of the extents, which are whole numbers.
    pub scale: Vec<f32>,
    /// Where an element is read.
    pub coordinates: Coordinates,
}

/// Where element `o` of an axis of `n` becoming `m` elements is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// `(o + 0.5) / scale - 0.5`.
    HalfPixel,
    /// As half pixel, but 0 if `m` is 1.
    PytorchHalfPixel,
    /// As half pixel, shifted so that the centre stays: plus `n / 2 * (1 - m / (scale n))`.
    HalfPixelSymmetric,
    /// `o (n - 1) / (scale n - 1)`, 0 if `m` is 1.
    AlignCorners,
    /// `o / scale`.
    Asymmetric,
}

/// How f32 and u8 or i8 stand for one another: `q = clamp(round_half_even(x / scale) + zero_point)`, and back
/// `x = (q - zero_point) * scale`.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantization {
    /// The quantised type.
    pub element: Element,
    /// One for the whole value, or one for each index along `axis`.
    pub scale: Vec<f32>,
    /// What zero becomes; as many as scales.
    pub zero_point: Vec<i32>,
    /// The axis of several scales; 0 where there is one.
    pub axis: usize,
}

impl Quantization {
    /// One scale and zero point for the whole value.
    pub fn per_tensor(element: Element, scale: f32, zero_point: i32) -> Self {
        Self { element, scale: vec![scale], zero_point: vec![zero_point], axis: 0 }
    }
}

/// The i8 that a quantised weight stands for: `round(weight / scale)`, if `weight` is exactly that times `scale` in f32.
pub fn steps(weight: f32, scale: f32) -> Option<i8> {
    // Half to even below 2^22, what is above stays too large: adding 1.5 * 2^23 leaves no bits for a fraction. Rounding itself is
    // a call on plain x86-64, and there are millions of weights.
    const MAGIC: f32 = 12_582_912.0;
    let step = (weight / scale + MAGIC) - MAGIC;
    ((-128.0..=127.0).contains(&step) && step * scale == weight).then_some(step as i8)
}

/// The i32 that a bias stands for beside an input of scale `input_scale` and weights of scale `weight_scale`:
/// `round_half_even(bias / (input_scale * weight_scale))`, with the product in f32 and the quotient in f64. It gives back
/// every i32 below 2^23 in magnitude whose product with that scale was rounded to f32; beyond, f32 may not tell two of them
/// apart. None where that is no i32.
pub fn bias_steps(bias: f32, input_scale: f32, weight_scale: f32) -> Option<i32> {
    let steps = (f64::from(bias) / f64::from(input_scale * weight_scale)).round_ties_even();
    (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&steps).then_some(steps as i32)
}

/// Short name, such as `conv 1x3x3`.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |extents: &[usize]| extents.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        match self {
            Self::Input => f.write_str("input"),
            Self::Constant(_) => f.write_str("constant"),
            Self::Conv(conv) => write!(f, "conv {}", by(&conv.kernel)),
            Self::Dense(_) => f.write_str("dense"),
            Self::MatMul => f.write_str("matmul"),
            Self::BatchNorm { .. } => f.write_str("norm"),
            Self::LayerNorm { .. } => f.write_str("layer norm"),
            Self::Unary(Unary::Relu) => f.write_str("relu"),
            Self::Unary(Unary::Clip { min, max }) => write!(f, "clip {min} {max}"),
            Self::Unary(Unary::Sigmoid) => f.write_str("sigmoid"),
            Self::Unary(Unary::HardSigmoid { .. }) => f.write_str("hard sigmoid"),
            Self::Unary(Unary::Tanh) => f.write_str("tanh"),
            Self::Binary(Binary::Add) => f.write_str("add"),
            Self::Binary(Binary::Sub) => f.write_str("sub"),
            Self::Binary(Binary::Mul) => f.write_str("mul"),
            Self::Softmax { .. } => f.write_str("softmax"),
            Self::Pool(Pool { function: PoolFunction::Max, kernel, .. }) => write!(f, "max {}", by(kernel)),
            Self::Pool(Pool { kernel, .. }) => write!(f, "mean {}", by(kernel)),
            Self::Mean { .. } => f.write_str("mean all"),
            Self::Concat { .. } => f.write_str("concat"),
            Self::Slice(_) => f.write_str("slice"),
            Self::Reshape(_) => f.write_str("reshape"),
            Self::Transpose(_) => f.write_str("transpose"),
            Self::Pad(_) => f.write_str("pad"),
            Self::Resize(_) => f.write_str("resize"),
            Self::Quantize(_) => f.write_str("quantize"),
            Self::Dequantize(_) => f.write_str("dequantize"),
        }
    }
}

impl Op {
    /// A dense layer with bias.
    pub fn dense(features: usize) -> Self {
        Self::Dense(Dense { features, bias: true, quantized: false })
    }
}
