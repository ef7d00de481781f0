//! Running a plan: on a window, all layers one after another; on a stream, each new frame through all of them.

use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::aligned::Plain;
use super::frames::Frames;
use super::kernels::Arithmetic;
use super::ops::{self, Sums};
use super::plan::{Buffer, Convolution, Convolve, Function, Kernel, Memory, Operand, Place, Plan, Step, Windowed};
use super::pool::Pool;
use crate::engine::LayerTime;
use crate::model::manifest::Mode;

/// What a session computes with; all memory is allocated here, once.
pub(super) struct State {
    pub plan: Arc<Plan>,
    pool: Arc<Pool>,
    bytes: Values<u8>,
    floats: Values<f32>,
    sums: Vec<Sums>,
    /// Frames that there have been of each value.
    counts: Vec<usize>,
    /// What a function of elements reads.
    operands: [Vec<f32>; 2],
}

/// The frames of all values of a type.
struct Values<T> {
    values: Vec<Frames<T>>,
    /// Between the convolutions of a pair, for each thread.
    between: Vec<Vec<Mutex<Frames<T>>>>,
}

impl<T: Plain> Values<T> {
    fn new(memory: &Memory<T>, threads: usize) -> Self {
        let frames = |buffer: &Buffer<T>| Frames::new(buffer.layout, buffer.slots, buffer.padding);
        Self {
            values: memory.values.iter().map(frames).collect(),
            between: memory
                .between
                .iter()
                .map(|buffer| (0..threads).map(|_| Mutex::new(frames(buffer))).collect())
                .collect(),
        }
    }

    /// Puts the channels of `inputs` one after another into frame `t` of value `output`, from channel `first` on; the others
    /// become padding, which is zero.
    fn gather(&mut self, (first, inputs): (usize, &[Operand]), output: usize, t: usize) {
        let mut to = mem::take(&mut self.values[output]);
        let mut begin = first;
        let all: usize = inputs.iter().map(|input| input.channels.1).sum();
        if all < to.layout.channels {
            let zero = to.data()[to.last()];
            to.rows_mut(t).for_each(|row| row.fill(zero));
        }
        for input in inputs {
            let (Place::U8(n) | Place::F32(n)) = input.place;
            let from = &self.values[n];
            ops::copy(from, input.begin(from, t), input.channels, (&mut to, t, begin));
            begin += input.channels.1;
        }
        self.values[output] = to;
    }

    /// Computes the frames `wanted` of a convolution's result from its input, of which there are `count`.
    fn convolve<A>(&mut self, pool: &Pool, conv: &Convolution<A>, count: usize, wanted: Range<usize>)
    where
        A: Arithmetic<Element = T>,
    {
        let mut output = mem::take(&mut self.values[conv.output]);
        let (input, residual) = (&self.values[conv.input], conv.residual.map(|residual| &self.values[residual]));
        match &conv.kernel {
            Convolve::One(one) => one.run(pool, (input, count), residual, &mut output, wanted),
            Convolve::Pair(pair, between, frames) => {
                pair.run(pool, (input, count), (&self.between[*between], *frames), residual, (&mut output, wanted.end));
            }
        }
        self.values[conv.output] = output;
    }
}

impl Operand {
    /// Index of the first element that it reads of `frames` for frame `t`.
    fn begin<T: Plain>(&self, frames: &Frames<T>, t: usize) -> usize {
        if self.before { frames.frame_before(t) } else { frames.frame(t) }
    }
}

impl State {
    pub fn new(plan: Arc<Plan>, pool: Arc<Pool>) -> Self {
        Self {
            bytes: Values::new(&plan.bytes, pool.threads()),
            floats: Values::new(&plan.floats, pool.threads()),
            sums: plan.means.iter().map(|&(channels, positions)| Sums::new(channels, positions)).collect(),
            counts: vec![0; plan.frames.len()],
            operands: [(); 2].map(|()| vec![0.0; plan.largest]),
            plan,
            pool,
        }
    }

    /// Begins another stream.
    pub fn reset(&mut self) {
        self.counts.fill(0);
        self.sums.iter_mut().for_each(Sums::reset);
    }

    /// Runs the plan on `planes`, `[C, T, H, W]`: a whole clip, or the next frame of a stream. `true` when there are new
    /// logits, which it writes.
    pub fn run(&mut self, planes: &[f32], logits: &mut [f32]) -> bool {
        self.visit(planes, (0, 1), logits, |_| ())
    }

    /// Runs the plan of a recurrent net on a clip of so many `frames`, one after the other; the logits are the last one's.
    pub fn run_frames(&mut self, planes: &[f32], frames: usize, logits: &mut [f32]) {
        self.reset();
        (0..frames).for_each(|n| {
            self.visit(planes, (n, frames), logits, |_| ());
        });
    }

    /// What each step takes: the least of `runs` runs, after as many as fill a stream.
    pub fn profile(&mut self, planes: &[f32], runs: usize) -> Vec<LayerTime> {
        let plan = self.plan.clone();
        let layer = |step: &Step| LayerTime { name: step.name.clone(), seconds: f64::INFINITY, macs: step.macs };
        let mut times: Vec<LayerTime> = plan.steps.iter().map(layer).collect();
        let mut logits = vec![0.0; plan.classes];
        let filling = if plan.mode == Mode::Stream { plan.clip[1] } else { 1 };
        for n in 0..filling + runs {
            let mut begin = Instant::now();
            self.visit(planes, (0, 1), &mut logits, |step| {
                let took = begin.elapsed().as_secs_f64();
                if n >= filling {
                    times[step].seconds = times[step].seconds.min(took);
                }
                begin = Instant::now();
            });
        }
        if plan.mode == Mode::Window {
            plan.steps.iter().zip(&mut times).for_each(|(step, time)| time.macs *= plan.frames[step.output] as u64);
        }
        times
    }

    /// As [`State::run`], and calls `visit` after each step with its number. Of a stream `planes` are so many frames, of which
    /// this is the next.
    fn visit(
        &mut self,
        planes: &[f32],
        next: (usize, usize),
        logits: &mut [f32],
        mut visit: impl FnMut(usize),
    ) -> bool {
        let plan = self.plan.clone();
        if plan.mode == Mode::Window {
            self.reset();
        }
        let mut emitted = false;
        for (number, step) in plan.steps.iter().enumerate() {
            if let &Kernel::Mean { state, input, .. } = &step.kernel {
                self.sum(state, input, self.counts[step.input]);
            }
            let (done, ready) = (self.counts[step.output], self.ready(step));
            emitted = ready > done;
            if emitted {
                self.step(step, (planes, next), done..ready);
                self.counts[step.output] = ready;
            }
            visit(number);
        }
        if emitted {
            let last = plan.steps.last().map_or(0, |step| self.counts[step.output] - 1);
            let values = self.floats.values[plan.logits].rows(last).flatten();
            logits.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
        }
        emitted
    }

    /// Frames of the step's result that there are once it has run.
    fn ready(&self, step: &Step) -> usize {
        let done = self.counts[step.output];
        match (self.plan.mode, &step.kernel) {
            (Mode::Window, _) => self.plan.frames[step.output],
            _ if self.plan.recurrent => done + 1,
            (Mode::Stream, Kernel::LoadU8 { .. } | Kernel::LoadF32 { .. }) => done + 1,
            // One mean for every frame from the first that completes a window.
            (Mode::Stream, Kernel::Mean { positions, state, .. }) => {
                (self.sums[*state].seen() + 1).saturating_sub(*positions)
            }
            // Causal: frame t needs frame t * stride of the input, and earlier ones.
            (Mode::Stream, _) => self.counts[step.input].div_ceil(step.stride),
        }
    }

    /// Computes frame `t` of a function of elements.
    fn map(&mut self, function: &Function, inputs: &[Operand], output: Operand, t: usize) {
        let kernels = self.plan.kernels;
        let volume = match output.place {
            Place::U8(n) => self.bytes.values[n].layout.volume(),
            Place::F32(n) => self.floats.values[n].layout.volume(),
        };
        let [x, y] = self.operands.each_mut().map(|operand| &mut operand[..volume]);
        for (to, input) in [&mut *x, &mut *y].into_iter().zip(inputs) {
            match input.place {
                Place::U8(n) => {
                    let from = &self.bytes.values[n];
                    let quantized = input.quantized.unwrap_or((1.0, 0));
                    ops::gather_u8(kernels, from, input.begin(from, t), input.channels, quantized, to);
                }
                Place::F32(n) => {
                    let from = &self.floats.values[n];
                    ops::gather_f32(kernels, from, input.begin(from, t), input.channels, to);
                }
            }
        }
        match function {
            Function::Unary(function) => ops::unary(kernels, *function, x),
            Function::Binary(function) => ops::binary(kernels, *function, x, y),
            Function::Affine(factor, offset) => ops::affine(kernels, x, factor, offset),
            Function::LayerNorm(weight, bias, eps) => ops::layer_norm(x, weight, bias, *eps),
        }
        match output.place {
            Place::U8(n) => {
                let to = &mut self.bytes.values[n];
                ops::scatter_u8(kernels, x, output.quantized.unwrap_or((1.0, 0)), to, t);
            }
            Place::F32(n) => ops::scatter_f32(kernels, x, &mut self.floats.values[n], t),
        }
    }

    fn sum(&mut self, state: usize, input: Place, frames: usize) {
        let (kernels, sums) = (self.plan.kernels, &mut self.sums[state]);
        while sums.seen() < frames {
            match input {
                Place::U8(input) => sums.add(|t, sums| ops::sum_u8(kernels, &self.bytes.values[input], t, sums)),
                Place::F32(input) => sums.add(|t, sums| ops::sum_f32(kernels, &self.floats.values[input], t, sums)),
            }
        }
    }

    /// Computes the frames `wanted` of the step's result.
    fn step(&mut self, step: &Step, (planes, next): (&[f32], (usize, usize)), wanted: Range<usize>) {
        let kernels = self.plan.kernels;
        let (stream, count) = (self.plan.mode == Mode::Stream, wanted.len());
        let plane = |t: usize| if stream { next } else { (t, count) };
        match &step.kernel {
            &Kernel::LoadU8 { scale, zero, output } => {
                for t in wanted {
                    ops::load_u8(kernels, planes, plane(t), t, &mut self.bytes.values[output], (scale, zero));
                }
            }
            &Kernel::LoadF32 { output } => {
                for t in wanted {
                    ops::load_f32(kernels, planes, plane(t), t, &mut self.floats.values[output]);
                }
            }
            Kernel::ConvU8(conv) => self.bytes.convolve(&self.pool, conv, self.counts[step.input], wanted),
            Kernel::ConvF32(conv) => self.floats.convolve(&self.pool, conv, self.counts[step.input], wanted),
            &Kernel::PoolU8 { kernel, scale, span, zero, input, output } => {
                let mut to = mem::take(&mut self.bytes.values[output]);
                let from = &self.bytes.values[input];
                wanted.for_each(|t| ops::pool_u8(kernels, from, &mut to, t, kernel, (scale, span, zero)));
                self.bytes.values[output] = to;
            }
            &Kernel::PoolF32 { kernel, scale, input, output } => {
                let mut to = mem::take(&mut self.floats.values[output]);
                let from = &self.floats.values[input];
                wanted.for_each(|t| ops::pool_f32(kernels, from, &mut to, t, kernel, scale));
                self.floats.values[output] = to;
            }
            &Kernel::Mean { state, scale, span, zero, output, input, positions } => {
                let layout = match input {
                    Place::U8(input) => self.bytes.values[input].layout,
                    Place::F32(input) => self.floats.values[input].layout,
                };
                let count = layout.height * layout.width * positions;
                let total = self.sums[state].total();
                let t = wanted.end - 1;
                match (output, span) {
                    (Place::U8(output), Some(span)) => {
                        ops::mean_u8(total, count, &mut self.bytes.values[output], t, (scale, span, zero));
                    }
                    (Place::U8(_), None) => {}
                    (Place::F32(output), _) => {
                        ops::mean_f32(total, count, &mut self.floats.values[output], t, (scale, zero))
                    }
                }
            }
            &Kernel::Window { function, extents, input, output } => {
                let at = |t: usize| (t, extents, self.counts[step.input]);
                match (input, output) {
                    (Place::U8(input), Place::U8(output)) => {
                        let mut to = mem::take(&mut self.bytes.values[output]);
                        let from = &self.bytes.values[input];
                        wanted.for_each(|t| match function {
                            Windowed::Mean(scale, Some(span), zero) => {
                                ops::mean_windows_u8(kernels, from, &mut to, at(t), (scale, span, zero));
                            }
                            _ => ops::max_u8(kernels, from, &mut to, at(t)),
                        });
                        self.bytes.values[output] = to;
                    }
                    (Place::F32(input), Place::F32(output)) => {
                        let mut to = mem::take(&mut self.floats.values[output]);
                        let from = &self.floats.values[input];
                        wanted.for_each(|t| match function {
                            Windowed::Mean(scale, ..) => ops::mean_windows_f32(kernels, from, &mut to, at(t), scale),
                            Windowed::Max => ops::max_f32(kernels, from, &mut to, at(t)),
                        });
                        self.floats.values[output] = to;
                    }
                    _ => {}
                }
            }
            Kernel::Gather { first, inputs, output } => {
                wanted.for_each(|t| match output.place {
                    Place::U8(n) => self.bytes.gather((*first, inputs), n, t),
                    Place::F32(n) => self.floats.gather((*first, inputs), n, t),
                });
            }
            Kernel::Map { function, inputs, output } => {
                wanted.for_each(|t| self.map(function, inputs, *output, t));
            }
            Kernel::Logits { weights, begin, scale, input, output } => {
                for t in wanted {
                    ops::logits(
                        &self.bytes.values[*input],
                        &mut self.floats.values[*output],
                        t,
                        (weights, begin, scale),
                    );
                }
            }
        }
    }
}
