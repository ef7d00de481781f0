//! From a network to a plan: where each value lies, and the kernels that run. Memory is planned once, here.

use super::aligned::Aligned;
use super::frames::{Border, Layout, MAX_ELEMENTS};
use super::kernels::{Conv, Extents, Float, Geometry, Int8, Kernels, Rescale, Span};
use super::layers::{ConvArithmetic, Layer, Network, Work};
use crate::model::manifest::Mode;
use crate::{Error, ErrorKind, Result};

/// Where a value lies: which of the buffers of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    U8(usize),
    F32(usize),
}

/// A buffer of frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Buffer<T> {
    pub layout: Layout,
    pub slots: usize,
    pub padding: T,
}

/// What a step runs.
pub(super) enum Kernel {
    LoadU8 {
        scale: f32,
        zero: i32,
        output: usize,
    },
    LoadF32 {
        output: usize,
    },
    ConvU8 {
        conv: Conv<Int8>,
        input: usize,
        residual: Option<usize>,
        output: usize,
    },
    ConvF32 {
        conv: Conv<Float>,
        input: usize,
        residual: Option<usize>,
        output: usize,
    },
    PoolU8 {
        kernel: [usize; 2],
        scale: f32,
        span: Span,
        zero: i32,
        input: usize,
        output: usize,
    },
    PoolF32 {
        kernel: [usize; 2],
        scale: f32,
        input: usize,
        output: usize,
    },
    /// The mean of the last `positions` frames; `state` is where their sums are kept.
    Mean {
        positions: usize,
        state: usize,
        scale: f32,
        span: Option<Span>,
        zero: i32,
        input: Place,
        output: Place,
    },
    Logits {
        weights: Vec<i8>,
        begin: Vec<i32>,
        scale: Vec<f32>,
        input: usize,
        output: usize,
    },
}

/// One step, and what it does over time: output frame `t` reads the input frames from `t * stride` to
/// `t * stride + ahead`, and earlier ones.
pub(super) struct Step {
    pub name: String,
    pub kernel: Kernel,
    /// Values, by number.
    pub input: usize,
    pub output: usize,
    pub stride: usize,
    /// Multiply-accumulates for a frame of output.
    pub macs: u64,
}

/// A network prepared for a set of kernels and a mode.
pub(super) struct Plan {
    pub mode: Mode,
    /// Those that this processor runs, as was checked.
    pub kernels: Kernels,
    pub steps: Vec<Step>,
    pub bytes: Vec<Buffer<u8>>,
    pub floats: Vec<Buffer<f32>>,
    /// Channels and frames of what each mean keeps sums of.
    pub means: Vec<(usize, usize)>,
    /// Frames of each value in a window.
    pub frames: Vec<usize>,
    /// `[C, T, H, W]`.
    pub clip: [usize; 4],
    /// Where the logits lie.
    pub logits: usize,
    pub classes: usize,
}

fn refuse<T>(layer: &Layer, why: impl std::fmt::Display) -> Result<T> {
    Err(Error::new(ErrorKind::Engine, format_args!("engine native: node '{}': {why}", layer.name)))
}

/// Refuses a network that cannot be streamed, naming the layer that sees frames that come later.
pub fn check_causal(network: &Network) -> Result<()> {
    let mut averaged = false;
    for layer in &network.layers {
        averaged |= matches!(layer.work, Work::Mean { .. });
        if let Work::Conv(conv) = &layer.work {
            let Extents { kernel, dilation, pad, .. } = conv.extents;
            let (wanted, pad) = (dilation[0] * (kernel[0] - 1), pad[0]);
            if pad != (wanted, 0) {
                let why = format_args!(
                    "it cannot be streamed: padding {pad:?} in time lets it see later frames, a causal kernel of {} has \
                     ({wanted}, 0): choose --mode window or train with causal=true",
                    kernel[0]
                );
                return refuse(layer, why);
            }
            // In a clip there is one mean, in a stream there are others before it.
            if averaged && kernel[0] > 1 {
                let why = "it cannot be streamed: it sees several means over time: choose --mode window";
                return refuse(layer, why);
            }
        }
    }
    match network.layers.iter().filter(|layer| matches!(layer.work, Work::Mean { .. })).count() {
        1 => Ok(()),
        n => Err(Error::new(
            ErrorKind::Engine,
            format_args!("engine native: a streamed net has one mean over time, not {n}: choose --mode window"),
        )),
    }
}

impl Plan {
    /// The plan of `network` for `kernels`.
    ///
    /// # Errors
    /// `Engine`, naming the node, when the kernels cannot run it or it cannot be streamed.
    pub fn new(network: &Network, kernels: Kernels, mode: Mode) -> Result<Self> {
        if mode == Mode::Stream {
            check_causal(network)?;
        }
        let (Some(first), Some(last)) = (network.layers.first(), network.layers.last()) else {
            return Err(Error::new(ErrorKind::Engine, "engine native: the model has no layers"));
        };
        kernels.require()?;
        let mut plan = Self {
            mode,
            kernels,
            steps: Vec::new(),
            bytes: Vec::new(),
            floats: Vec::new(),
            means: Vec::new(),
            frames: network.values.iter().map(|value| value.shape[1]).collect(),
            clip: network.values[first.output].shape,
            logits: 0,
            classes: network.values[last.output].shape[0],
        };
        let (layouts, histories) = needs(network);
        for layer in &network.layers {
            let value = layer.output;
            let slots = network.values[value].shape[1].max(histories[value]);
            if !layouts[value].fits(slots) {
                return refuse(layer, format_args!("its result {:?} with its border is too large", layouts[value]));
            }
        }
        let mut last_read = vec![usize::MAX; network.values.len()];
        for (n, layer) in network.layers.iter().enumerate() {
            layer.inputs.iter().for_each(|input| last_read[*input] = n);
        }
        let mut places: Vec<Option<Place>> = vec![None; network.values.len()];
        let mut free: Vec<Place> = Vec::new();
        for (n, layer) in network.layers.iter().enumerate() {
            let value = &network.values[layer.output];
            let slots = match mode {
                Mode::Window => value.shape[1],
                Mode::Stream => histories[layer.output],
            };
            let place =
                plan.place(layouts[layer.output], slots, value.quantized.map(|(_, zero)| zero as u8), &mut free);
            places[layer.output] = Some(place);
            let inputs: Vec<Place> = layer.inputs.iter().filter_map(|input| places[*input]).collect();
            let stride = match &layer.work {
                Work::Conv(conv) => conv.extents.stride[0],
                _ => 1,
            };
            let kernel = plan.kernel(network, layer, (&layouts, kernels), &inputs, place)?;
            let input = layer.inputs.first().copied().unwrap_or(layer.output);
            let macs = layer.macs / value.shape[1].max(1) as u64;
            plan.steps.push(Step { name: layer.name.clone(), kernel, input, output: layer.output, stride, macs });
            // In a window a value is dead after its last reader, and its memory goes to the next of the same layout, whose
            // border is the same.
            if mode == Mode::Window {
                free.extend(
                    layer.inputs.iter().filter(|input| last_read[**input] == n).filter_map(|input| places[*input]),
                );
            }
        }
        let bytes = plan.bytes.iter().map(|buffer| buffer.layout.len() * (buffer.slots + 1));
        let floats = plan.floats.iter().map(|buffer| buffer.layout.len() * (buffer.slots + 1));
        let elements: usize = bytes.chain(floats).sum();
        if elements > MAX_ELEMENTS {
            return refuse(last, format_args!("the values of all layers together, {elements} elements, are too large"));
        }
        match places[last.output] {
            Some(Place::F32(index)) => plan.logits = index,
            _ => return refuse(last, "the logits are not f32"),
        }
        Ok(plan)
    }

    /// Memory for a value: a free buffer of the same layout, else a new one.
    fn place(&mut self, layout: Layout, slots: usize, zero: Option<u8>, free: &mut Vec<Place>) -> Place {
        let same = |place: &Place| match (*place, zero) {
            (Place::U8(n), Some(padding)) => self.bytes[n] == Buffer { layout, slots, padding },
            (Place::F32(n), None) => self.floats[n] == Buffer { layout, slots, padding: 0.0 },
            _ => false,
        };
        if let Some(found) = free.iter().position(same) {
            return free.swap_remove(found);
        }
        match zero {
            Some(padding) => {
                self.bytes.push(Buffer { layout, slots, padding });
                Place::U8(self.bytes.len() - 1)
            }
            None => {
                self.floats.push(Buffer { layout, slots, padding: 0.0 });
                Place::F32(self.floats.len() - 1)
            }
        }
    }

    fn kernel(
        &mut self,
        network: &Network,
        layer: &Layer,
        (layouts, kernels): (&[Layout], Kernels),
        inputs: &[Place],
        output: Place,
    ) -> Result<Kernel> {
        let given = layer.inputs.first().and_then(|input| network.values[*input].quantized);
        let zero = given.map_or(0, |(_, zero)| zero);
        let to = &network.values[layer.output];
        Ok(match (&layer.work, inputs, output) {
            (Work::Load, [], Place::U8(output)) => {
                let (scale, zero) = to.quantized.unwrap_or((1.0, 0));
                Kernel::LoadU8 { scale, zero, output }
            }
            (Work::Load, [], Place::F32(output)) => Kernel::LoadF32 { output },
            (Work::Conv(conv), [input, rest @ ..], output) => {
                let (input_layout, output_layout) = (layouts[layer.inputs[0]], layouts[layer.output]);
                let geometry = Geometry { extents: conv.extents, input: input_layout, output: output_layout };
                let residual = rest.first().copied();
                match (&conv.arithmetic, *input, residual, output) {
                    (
                        ConvArithmetic::Int8 { weights, begin, scale, span, residual: add },
                        Place::U8(input),
                        None | Some(Place::U8(_)),
                        Place::U8(output),
                    ) => {
                        let finish = Rescale { scale: Aligned::from(&scale[..]), span: *span, residual: *add };
                        let conv = named(layer, Conv::new(kernels, geometry, weights, begin, finish))?;
                        Kernel::ConvU8 { conv, input, residual: residual.map(Place::index), output }
                    }
                    (
                        ConvArithmetic::Float { weights, bias, span },
                        Place::F32(input),
                        None | Some(Place::F32(_)),
                        Place::F32(output),
                    ) => {
                        let conv = named(layer, Conv::new(kernels, geometry, weights, bias, *span))?;
                        Kernel::ConvF32 { conv, input, residual: residual.map(Place::index), output }
                    }
                    _ => return refuse(layer, "integers and floats are mixed"),
                }
            }
            (&Work::AveragePool { kernel, scale, span: Some(span) }, &[Place::U8(input)], Place::U8(output)) => {
                Kernel::PoolU8 { kernel, scale, span, zero, input, output }
            }
            (&Work::AveragePool { kernel, scale, span: None }, &[Place::F32(input)], Place::F32(output)) => {
                Kernel::PoolF32 { kernel, scale, input, output }
            }
            (&Work::Mean { positions, scale, span }, &[input], output) => {
                let from = layouts[layer.inputs[0]];
                if from.height * from.width * positions > i32::MAX as usize / 255 {
                    return refuse(layer, "too many elements for a sum of 32 bits");
                }
                self.means.push((from.channels, positions));
                let state = self.means.len() - 1;
                Kernel::Mean { positions, state, scale, span, zero, input, output }
            }
            (Work::Logits { weights, begin, scale }, &[Place::U8(input)], Place::F32(output)) => {
                let (weights, begin, scale) = (weights.clone(), begin.clone(), scale.clone());
                Kernel::Logits { weights, begin, scale, input, output }
            }
            _ => return refuse(layer, "integers and floats are mixed"),
        })
    }
}

impl Place {
    fn index(self) -> usize {
        match self {
            Self::U8(n) | Self::F32(n) => n,
        }
    }
}

fn named<T>(layer: &Layer, result: Result<T>) -> Result<T> {
    result.map_err(|error| error.within(format_args!("engine native: node '{}'", layer.name)))
}

/// The layout of each value, with the border that its readers want, and how many of its frames they look back on.
fn needs(network: &Network) -> (Vec<Layout>, Vec<usize>) {
    let bare =
        |shape: [usize; 4]| Layout { channels: shape[0], height: shape[2], width: shape[3], border: Border::default() };
    let mut layouts: Vec<Layout> = network.values.iter().map(|value| bare(value.shape)).collect();
    let mut histories = vec![1; network.values.len()];
    for layer in &network.layers {
        if let (Work::Conv(conv), Some(input)) = (&layer.work, layer.inputs.first()) {
            let Extents { kernel, dilation, pad: [_, (top, bottom), (left, right)], .. } = conv.extents;
            let border = &mut layouts[*input].border;
            *border = border.union(Border { top, bottom, left, right });
            histories[*input] = histories[*input].max(dilation[0] * (kernel[0] - 1) + 1);
        }
    }
    (layouts, histories)
}
