//! From a network to a plan: where each value lies, and the kernels that run. Memory is planned once, here.

use super::aligned::Aligned;
use super::frames::{Border, Layout, MAX_ELEMENTS};
use super::kernels::{Arithmetic, Conv, Extents, Float, Geometry, Int8, Kernels, Pair, Rescale, Span};
use super::layers::{ConvArithmetic, ConvLayer, Layer, Network, Work};
use crate::model::graph::{Binary, Unary};
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
    ConvU8(Convolution<Int8>),
    ConvF32(Convolution<Float>),
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
    /// The maxima or means of windows.
    Window {
        function: Windowed,
        extents: Extents,
        input: Place,
        output: Place,
    },
    /// All channels of one value after another, from one on; the others are zeros.
    Gather {
        first: usize,
        inputs: Vec<Operand>,
        output: Operand,
    },
    /// Of one or two values' elements.
    Map {
        function: Function,
        inputs: Vec<Operand>,
        output: Operand,
    },
    Logits {
        weights: Vec<i8>,
        begin: Vec<i32>,
        scale: Vec<f32>,
        input: usize,
        output: usize,
    },
}

/// What becomes of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Windowed {
    Max,
    /// Factor, span and zero point of what is read, as for a pool.
    Mean(f32, Option<Span>, i32),
}

/// A function of elements.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Function {
    Unary(Unary),
    Binary(Binary),
    /// What the elements of a pixel or a row are multiplied by, and what is added.
    Affine(Vec<f32>, Vec<f32>),
    /// Weights, biases and what is added to the variance of each pixel's channels.
    LayerNorm(Vec<f32>, Vec<f32>, f32),
}

/// What a function reads or writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Operand {
    pub place: Place,
    /// Scale and zero point, if it is of integers.
    pub quantized: Option<(f32, i32)>,
    /// Its channels: the first, and how many.
    pub channels: (usize, usize),
    /// Whether it is read a frame before.
    pub before: bool,
}

/// A convolution, or a pair of them, with the buffers between which it runs.
pub(super) struct Convolution<A: Arithmetic> {
    pub kernel: Convolve<A>,
    pub input: usize,
    pub residual: Option<usize>,
    pub output: usize,
}

/// What a convolution runs.
pub(super) enum Convolve<A: Arithmetic> {
    One(Box<Conv<A>>),
    /// With the buffer that lies between the two, and the frames that pass through it.
    Pair(Box<Pair<A>>, usize, usize),
}

/// The buffers for one type of elements.
pub(super) struct Memory<T> {
    pub values: Vec<Buffer<T>>,
    /// Between the convolutions of a pair: each thread has one of its own.
    pub between: Vec<Buffer<T>>,
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
    /// A recurrent net is a stream in either mode: of a window it sees one frame after the other.
    pub mode: Mode,
    pub recurrent: bool,
    /// Those that this processor runs, as was checked.
    pub kernels: Kernels,
    pub steps: Vec<Step>,
    pub bytes: Memory<u8>,
    pub floats: Memory<f32>,
    /// Channels and frames of what each mean keeps sums of.
    pub means: Vec<(usize, usize)>,
    /// Frames of each value in a window.
    pub frames: Vec<usize>,
    /// `[C, T, H, W]`.
    pub clip: [usize; 4],
    /// Where the logits lie.
    pub logits: usize,
    pub classes: usize,
    /// Elements of the largest frame that a function of elements reads.
    pub largest: usize,
}

/// Bytes of weights of a pair that a core's second cache keeps beside what they compute.
const WEIGHTS_IN_CACHE: usize = 512 << 10;

const MIXED: &str = "integers and floats are mixed";

fn refuse<T>(layer: &Layer, why: impl std::fmt::Display) -> Result<T> {
    Err(Error::new(ErrorKind::Engine, format_args!("engine native: node '{}': {why}", layer.name)))
}

/// Refuses a recurrent network of which a layer sees more than the one frame that there is.
fn check_recurrent(network: &Network) -> Result<()> {
    let several = |layer: &&Layer| {
        let over_time = |extents: Extents| extents.kernel[0] > 1 || extents.stride[0] > 1;
        network.values[layer.output].shape[1] > 1 || layer.work.extents().is_some_and(over_time)
    };
    match network.layers.iter().find(several) {
        Some(layer) => refuse(layer, "a recurrent net is the graph of one frame: it sees several over time"),
        None => Ok(()),
    }
}

/// Refuses a network that cannot be streamed, naming the layer that sees frames that come later.
pub fn check_causal(network: &Network) -> Result<()> {
    // Frames of the stream from one of a value's to the next, and whether they are means.
    let mut rates = vec![(1, false); network.values.len()];
    for layer in &network.layers {
        let mut read = layer.inputs.iter().map(|input| rates[network.root(*input).0]);
        let (rate, mean) = read.next().unwrap_or((1, false));
        let stride = layer.work.extents().map_or(1, |extents| extents.stride[0]);
        let averages = matches!(layer.work, Work::Mean { .. });
        let own = (rate * stride, mean || averages);
        // What is added to a convolution's result comes as often as that.
        if read.any(|other| other != own) {
            return refuse(layer, "it cannot be streamed: what it reads has several frame rates: choose --mode window");
        }
        rates[layer.output] = own;
        // In a clip there is one mean, in a stream there are others before it.
        if mean && (averages || stride > 1 || layer.work.extents().is_some_and(|extents| extents.kernel[0] > 1)) {
            return refuse(layer, "it cannot be streamed: it sees several means over time: choose --mode window");
        }
        if let Some(extents) = layer.work.extents() {
            let Extents { kernel, pad, .. } = extents;
            let (wanted, pad) = (extents.frames() - 1, pad[0]);
            if pad != (wanted, 0) {
                let why = format_args!(
                    "it cannot be streamed: padding {pad:?} in time lets it see later frames, a causal kernel of {} has \
                     ({wanted}, 0): choose --mode window or train with causal=true",
                    kernel[0]
                );
                return refuse(layer, why);
            }
        }
    }
    match network.layers.last() {
        Some(last) if !rates[last.output].1 => {
            refuse(last, "it cannot be streamed: it is no mean over time: choose --mode window")
        }
        _ => Ok(()),
    }
}

impl Plan {
    /// The plan of `network` for `kernels`.
    ///
    /// # Errors
    /// `Engine`, naming the node, when the kernels cannot run it or it cannot be streamed.
    pub fn new(network: &Network, kernels: Kernels, mode: Mode) -> Result<Self> {
        let recurrent = network.is_recurrent();
        let mode = if recurrent { Mode::Stream } else { mode };
        match mode {
            _ if recurrent => check_recurrent(network)?,
            Mode::Stream => check_causal(network)?,
            Mode::Window => {}
        }
        let (Some(first), Some(last)) = (network.layers.first(), network.layers.last()) else {
            return Err(Error::new(ErrorKind::Engine, "engine native: the model has no layers"));
        };
        kernels.require()?;
        let mut plan = Self {
            mode,
            recurrent,
            kernels,
            steps: Vec::new(),
            bytes: Memory::default(),
            floats: Memory::default(),
            means: Vec::new(),
            frames: network.values.iter().map(|value| value.shape[1]).collect(),
            clip: network.values[first.output].shape,
            logits: 0,
            classes: network.values[last.output].shape[0],
            largest: 0,
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
            layer.inputs.iter().for_each(|input| last_read[network.root(*input).0] = n);
        }
        let mut places: Vec<Option<Place>> = vec![None; network.values.len()];
        let mut free: Vec<Place> = Vec::new();
        let quantized = |value: usize| network.values[value].quantized.map(|(_, zero)| zero as u8);
        // What a state becomes is read before it is computed.
        for state in (0..network.values.len()).filter(|value| network.root(*value).2) {
            let (of, ..) = network.root(state);
            if places[of].is_none() {
                places[of] = Some(plan.place(layouts[of], histories[of], quantized(of), &mut free));
            }
        }
        let mut number = 0;
        while let Some(first) = network.layers.get(number) {
            let second = network.layers.get(number + 1);
            let second = second.filter(|_| mode == Mode::Window && is_pair(network, number));
            let last = second.unwrap_or(first);
            let name = second.map_or(first.name.clone(), |second| format!("{}, {}", first.name, second.name));
            let value = &network.values[last.output];
            let slots = match mode {
                Mode::Window => value.shape[1],
                Mode::Stream => histories[last.output],
            };
            let place = match places[last.output] {
                Some(place) => place,
                None => plan.place(layouts[last.output], slots, quantized(last.output), &mut free),
            };
            places[last.output] = Some(place);
            let read: Vec<usize> = first.inputs.iter().take(1).chain(last.inputs.iter().skip(1)).copied().collect();
            let kernel = match plan.elements(network, first, &places) {
                Some(map) => map,
                None => {
                    let state = |input: usize| network.root(input).2 && !matches!(first.work, Work::Conv(_));
                    if read.iter().any(|input| !network.is_whole(*input) || state(*input)) {
                        return refuse(first, "it reads a state or some channels of a value: choose --engine tract");
                    }
                    let inputs: Vec<Place> = read.iter().filter_map(|input| places[network.root(*input).0]).collect();
                    plan.kernel(network, (first, second), (&layouts, kernels), &inputs, place)?
                }
            };
            let itself = |input: &usize| network.root(*input).2 && network.root(*input).0 == last.output;
            if !matches!(kernel, Kernel::Map { .. }) && read.iter().any(itself) {
                return refuse(first, "it reads its own result of the frame before: choose --engine tract");
            }
            let read: Vec<usize> = read.into_iter().map(|input| network.root(input).0).collect();
            let stride = last.work.extents().map_or(1, |extents| extents.stride[0]);
            let input = read.first().copied().unwrap_or(last.output);
            let macs = (first.macs + second.map_or(0, |second| second.macs)) / value.shape[1].max(1) as u64;
            plan.steps.push(Step { name, kernel, input, output: last.output, stride, macs });
            number += 1 + usize::from(second.is_some());
            // In a window a value is dead after its last reader, and its memory goes to the next of the same layout, whose
            // border is the same. Once: what a block reads it may add at its end, too.
            for input in read.into_iter().filter(|input| mode == Mode::Window && last_read[*input] < number) {
                free.extend(places[input].take());
            }
        }
        let elements = plan.bytes.elements() + plan.floats.elements() + 2 * plan.largest;
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
            (Place::U8(n), Some(padding)) => self.bytes.values[n] == Buffer { layout, slots, padding },
            (Place::F32(n), None) => self.floats.values[n] == Buffer { layout, slots, padding: 0.0 },
            _ => false,
        };
        if let Some(found) = free.iter().position(same) {
            return free.swap_remove(found);
        }
        match zero {
            Some(padding) => {
                self.bytes.values.push(Buffer { layout, slots, padding });
                Place::U8(self.bytes.values.len() - 1)
            }
            None => {
                self.floats.values.push(Buffer { layout, slots, padding: 0.0 });
                Place::F32(self.floats.values.len() - 1)
            }
        }
    }

    /// What runs a layer that is a function of elements, or moves them.
    fn elements(&mut self, network: &Network, layer: &Layer, places: &[Option<Place>]) -> Option<Kernel> {
        let operand = |value: usize| {
            let (root, first, before) = network.root(value);
            let [count, ..] = network.values[value].shape;
            let quantized = network.values[root].quantized;
            Some(Operand { place: places[root]?, quantized, channels: (first, count), before })
        };
        let inputs = layer.inputs.iter().map(|input| operand(*input)).collect::<Option<_>>()?;
        let output = operand(layer.output)?;
        let function = match &layer.work {
            Work::Unary(function) => Function::Unary(*function),
            Work::Binary(function) => Function::Binary(*function),
            Work::Affine { factor, offset } => Function::Affine(factor.clone(), offset.clone()),
            Work::LayerNorm { weight, bias, eps } => Function::LayerNorm(weight.clone(), bias.clone(), *eps),
            Work::Concat => return Some(Kernel::Gather { first: 0, inputs, output }),
            Work::Widen(first) => return Some(Kernel::Gather { first: *first, inputs, output }),
            _ => return None,
        };
        let [channels, _, height, width] = network.values[layer.output].shape;
        self.largest = self.largest.max(channels * height * width);
        Some(Kernel::Map { function, inputs, output })
    }

    /// What runs a layer, or two that are a pair of convolutions.
    fn kernel(
        &mut self,
        network: &Network,
        (layer, second): (&Layer, Option<&Layer>),
        (layouts, kernels): (&[Layout], Kernels),
        inputs: &[Place],
        output: Place,
    ) -> Result<Kernel> {
        let given = layer.inputs.first().and_then(|input| network.values[*input].quantized);
        let zero = given.map_or(0, |(_, zero)| zero);
        let to = &network.values[layer.output];
        let int8 = |layer| int8(network, layer, layouts, kernels);
        let float = |layer| float(network, layer, layouts, kernels);
        Ok(match (&layer.work, inputs, output) {
            (Work::Load, [], Place::U8(output)) => {
                let (scale, zero) = to.quantized.unwrap_or((1.0, 0));
                Kernel::LoadU8 { scale, zero, output }
            }
            (Work::Load, [], Place::F32(output)) => Kernel::LoadF32 { output },
            (Work::Conv(_), [Place::U8(input), rest @ ..], Place::U8(output)) if rest.iter().all(Place::is_u8) => {
                let (input, residual) = (*input, rest.first().map(Place::index));
                let padding = to.quantized.map_or(0, |(_, zero)| zero as u8);
                let convs = (int8(layer)?, second.map(int8).transpose()?);
                let kernel = self.bytes.convolve(convs, to.shape[1], padding);
                Kernel::ConvU8(Convolution { kernel, input, residual, output })
            }
            (Work::Conv(_), [Place::F32(input), rest @ ..], Place::F32(output)) if !rest.iter().any(Place::is_u8) => {
                let (input, residual) = (*input, rest.first().map(Place::index));
                let convs = (float(layer)?, second.map(float).transpose()?);
                let kernel = self.floats.convolve(convs, to.shape[1], 0.0);
                Kernel::ConvF32(Convolution { kernel, input, residual, output })
            }
            (&Work::AveragePool { kernel, scale, span: Some(span) }, &[Place::U8(input)], Place::U8(output)) => {
                Kernel::PoolU8 { kernel, scale, span, zero, input, output }
            }
            (&Work::AveragePool { kernel, scale, span: None }, &[Place::F32(input)], Place::F32(output)) => {
                Kernel::PoolF32 { kernel, scale, input, output }
            }
            (&Work::Max(extents), &[input], output) if input.is_u8() == output.is_u8() => {
                Kernel::Window { function: Windowed::Max, extents, input, output }
            }
            (&Work::Average { extents, scale, span }, &[input], output) if input.is_u8() == output.is_u8() => {
                Kernel::Window { function: Windowed::Mean(scale, span, zero), extents, input, output }
            }
            (&Work::Mean { positions, scale, span }, &[input], output) => {
                let from = layouts[network.root(layer.inputs[0]).0];
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
            _ => return refuse(layer, MIXED),
        })
    }
}

impl Place {
    fn index(&self) -> usize {
        match self {
            Self::U8(n) | Self::F32(n) => *n,
        }
    }

    fn is_u8(&self) -> bool {
        matches!(self, Self::U8(_))
    }
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self { values: Vec::new(), between: Vec::new() }
    }
}

impl<T: PartialEq> Memory<T> {
    fn elements(&self) -> usize {
        self.values.iter().chain(&self.between).map(|buffer| buffer.layout.len() * (buffer.slots + 1)).sum()
    }

    /// What runs one convolution or a pair, with `frames` and `padding` of the first one's result.
    fn convolve<A: Arithmetic<Element = T>>(
        &mut self,
        convs: (Conv<A>, Option<Conv<A>>),
        frames: usize,
        padding: T,
    ) -> Convolve<A> {
        let (first, Some(second)) = convs else { return Convolve::One(Box::new(convs.0)) };
        let pair = Pair::new(first, second);
        let (layout, slots) = pair.between();
        let buffer = Buffer { layout, slots, padding };
        let known = self.between.iter().position(|other| *other == buffer);
        let between = known.unwrap_or_else(|| {
            self.between.push(buffer);
            self.between.len() - 1
        });
        Convolve::Pair(Box::new(pair), between, frames)
    }
}

/// Whether layer `number` and the next are convolutions that run as a pair: none else wants what lies between, of which the
/// second one sees one pixel over time, and the weights of both stay in the cache.
fn is_pair(network: &Network, number: usize) -> bool {
    let [first, second, ..] = &network.layers[number..] else { return false };
    let reads =
        network.layers.iter().flat_map(|layer| &layer.inputs).filter(|input| network.root(**input).0 == first.output);
    let (Work::Conv(one), Work::Conv(other)) = (&first.work, &second.work) else { return false };
    let bytes = match (&one.arithmetic, &other.arithmetic) {
        (ConvArithmetic::Int8 { weights, .. }, ConvArithmetic::Int8 { weights: more, .. }) => {
            weights.len() + more.len()
        }
        (ConvArithmetic::Float { weights, .. }, ConvArithmetic::Float { weights: more, .. }) => {
            size_of::<f32>() * (weights.len() + more.len())
        }
        _ => return false,
    };
    let chained = first.inputs.len() == 1 && second.inputs.first() == Some(&first.output) && reads.count() == 1;
    let Extents { kernel, stride, pad, .. } = other.extents;
    let over_time = kernel[1..] == [1, 1] && stride[1..] == [1, 1] && pad[1..] == [(0, 0); 2];
    chained && over_time && bytes <= WEIGHTS_IN_CACHE
}

fn geometry(network: &Network, layer: &Layer, conv: &ConvLayer, layouts: &[Layout]) -> Geometry {
    let (root, _, before) = network.root(layer.inputs[0]);
    let mut extents = conv.extents;
    // A frame before is what padding moves a convolution to.
    extents.pad[0].0 += usize::from(before);
    Geometry { extents, input: layouts[root], output: layouts[layer.output] }
}

fn int8(network: &Network, layer: &Layer, layouts: &[Layout], kernels: Kernels) -> Result<Conv<Int8>> {
    match &layer.work {
        Work::Conv(
            conv @ ConvLayer { arithmetic: ConvArithmetic::Int8 { weights, begin, scale, span, residual }, .. },
        ) => {
            let finish = Rescale { scale: Aligned::from(&scale[..]), span: *span, residual: *residual };
            named(layer, Conv::new(kernels, geometry(network, layer, conv, layouts), weights, begin, finish))
        }
        _ => refuse(layer, MIXED),
    }
}

fn float(network: &Network, layer: &Layer, layouts: &[Layout], kernels: Kernels) -> Result<Conv<Float>> {
    match &layer.work {
        Work::Conv(conv @ ConvLayer { arithmetic: ConvArithmetic::Float { weights, bias, span }, .. }) => {
            named(layer, Conv::new(kernels, geometry(network, layer, conv, layouts), weights, bias, *span))
        }
        _ => refuse(layer, MIXED),
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
        if let (Some(extents), Some(input)) = (layer.work.extents(), layer.inputs.first()) {
            let (input, ..) = network.root(*input);
            histories[input] = histories[input].max(extents.frames());
            // Other windows leave out what is not there.
            if let Work::Conv(_) = layer.work {
                let [_, (top, bottom), (left, right)] = extents.pad;
                let border = &mut layouts[input].border;
                *border = border.union(Border { top, bottom, left, right });
            }
        }
        for (root, ..) in layer.inputs.iter().map(|input| network.root(*input)).filter(|(.., before)| *before) {
            histories[root] = histories[root].max(2);
        }
    }
    (layouts, histories)
}
