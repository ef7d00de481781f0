//! A network as layers: what the engine runs one after another, each with all that is fused into it. Values lie frame by
//! frame; vectors (after the mean over T, H, W) are frames of one pixel.

use super::kernels::{Extents, Residual, Span};
use crate::model::graph::{Binary, Unary};

/// What layers read, and what they compute.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Channels, T, H, W.
    pub shape: [usize; 4],
    /// Scale and zero point as u8; `None` is f32.
    pub quantized: Option<(f32, i32)>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A layer computes it.
    Computed,
    /// It is what a layer computes, a frame before: a state. Zeros before the first frame.
    Before(usize),
    /// It is those channels of another value that begin with this one.
    Part(usize, usize),
}

/// One step of a network.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The graph node that it begins with.
    pub name: String,
    /// What it computes.
    pub work: Work,
    /// The values it reads; a convolution's second one is added to its result.
    pub inputs: Vec<usize>,
    /// The value it computes.
    pub output: usize,
    /// Multiply-accumulates for a clip.
    pub macs: u64,
}

/// What a layer computes.
#[derive(Debug, Clone)]
pub enum Work {
    /// Planes of f32 to frames, quantised if the value is.
    Load,
    /// A convolution, or a dense layer as one of 1x1x1.
    Conv(ConvLayer),
    /// Means over windows of a frame: kernel and stride over H, W. Integers: `clamp(round((sum - n z_x) m), span) + z_y`.
    AveragePool {
        /// Extent and stride over H, W.
        kernel: [usize; 2],
        /// `m = s_x / (n s_y)`, or `1 / n` for f32.
        scale: f32,
        /// Of integers; `None` for f32.
        span: Option<Span>,
    },
    /// The largest element of each window. Integers stay on their scale.
    Max(Extents),
    /// Means over windows that may overlap or reach over T, none of which has padding. Otherwise as a pool.
    Average {
        /// Which elements a window has.
        extents: Extents,
        /// As for a pool.
        scale: f32,
        /// Of integers; `None` for f32.
        span: Option<Span>,
    },
    /// All channels of one value after another. Integers stay on their scale.
    Concat,
    /// So many channels of zeros before those of a value, and others behind them.
    Widen(usize),
    /// The mean over T, H, W. Integers as for a pool.
    Mean {
        /// How many of the last frames: in a window all.
        positions: usize,
        /// As for a pool.
        scale: f32,
        /// Of integers; `None` from u8 to f32 (and from f32 to f32).
        span: Option<Span>,
    },
    /// A function of each element. Integers are dequantised, the function is computed in f32, and its result quantised if the
    /// value is.
    Unary(Unary),
    /// A function of two values' elements, as above.
    Binary(Binary),
    /// A batch norm that no convolution could take in: `x * factor + offset`, in f32. Integers as above.
    Affine {
        /// Of each channel, or of each channel of each pixel of a row.
        factor: Vec<f32>,
        /// As many.
        offset: Vec<f32>,
    },
    /// `(x - mean) / sqrt(var + eps) * weight + bias` over the channels of each pixel, computed in f64. Integers as above.
    LayerNorm {
        /// Of each channel.
        weight: Vec<f32>,
        /// Of each channel.
        bias: Vec<f32>,
        /// Added to the variance.
        eps: f32,
    },
    /// A dense layer from u8 to f32: `f32(sum) * m`.
    Logits {
        /// `[features, C]`.
        weights: Vec<i8>,
        /// Bias without the zero point of the input.
        begin: Vec<i32>,
        /// `s_x s_w` of each feature.
        scale: Vec<f32>,
    },
}

/// A convolution with what is fused into it.
#[derive(Debug, Clone)]
pub struct ConvLayer {
    /// Which inputs it sees.
    pub extents: Extents,
    /// Weights `[channels, C, kT, kH, kW]` and what becomes of the sums.
    pub arithmetic: ConvArithmetic,
}

/// The numbers of a convolution.
#[derive(Debug, Clone)]
pub enum ConvArithmetic {
    /// From u8 to u8.
    Int8 {
        /// Weights.
        weights: Vec<i8>,
        /// Bias without the zero point of the input.
        begin: Vec<i32>,
        /// `s_x s_w / s_y` of each channel.
        scale: Vec<f32>,
        /// Of the result.
        span: Span,
        /// What is added to it.
        residual: Option<Residual>,
    },
    /// From f32 to f32.
    Float {
        /// Weights.
        weights: Vec<f32>,
        /// Bias.
        bias: Vec<f32>,
        /// Least and largest result.
        span: (f32, f32),
    },
}

/// A network: layers in the order in which they run.
#[derive(Debug, Clone)]
pub struct Network {
    /// All values.
    pub values: Vec<Value>,
    /// All layers; the first loads the clip, the last computes the logits, f32.
    pub layers: Vec<Layer>,
}

impl Work {
    /// Which inputs an output sees over time, where that is not one frame or all.
    pub fn extents(&self) -> Option<Extents> {
        match self {
            Self::Conv(conv) => Some(conv.extents),
            Self::Max(extents) | Self::Average { extents, .. } => Some(*extents),
            _ => None,
        }
    }
}

impl Network {
    /// Whether it remembers: then it computes a frame at a time.
    pub fn is_recurrent(&self) -> bool {
        self.values.iter().any(|value| matches!(value.origin, Origin::Before(_)))
    }

    /// The value that a layer computes of which `value` is a part or the frame before, the first of its channels, and whether
    /// it is of the frame before.
    pub fn root(&self, value: usize) -> (usize, usize, bool) {
        match self.values[value].origin {
            Origin::Computed => (value, 0, false),
            Origin::Before(of) => {
                let (root, channel, _) = self.root(of);
                (root, channel, true)
            }
            Origin::Part(of, first) => {
                let (root, channel, before) = self.root(of);
                (root, channel + first, before)
            }
        }
    }

    /// Whether `value` has all channels of what a layer computes.
    pub fn is_whole(&self, value: usize) -> bool {
        self.values[value].shape[0] == self.values[self.root(value).0].shape[0]
    }

    /// Whether every convolution and dense layer computes with integers, and there are some.
    pub fn is_int8(&self) -> bool {
        let mut products = self.layers.iter().filter_map(|layer| match &layer.work {
            Work::Conv(conv) => Some(matches!(conv.arithmetic, ConvArithmetic::Int8 { .. })),
            Work::Logits { .. } => Some(true),
            _ => None,
        });
        products.next().is_some_and(|first| first && products.all(|integers| integers))
    }
}
