//! Running a plan: on a window, all layers one after another; on a stream, each new frame through all of them.

use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::aligned::Plain;
use super::frames::Frames;
use super::kernels::Arithmetic;
use super::ops::{self, Sums};
use super::plan::{Buffer, Convolution, Convolve, Kernel, Memory, Place, Plan, Step};
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

impl State {
    pub fn new(plan: Arc<Plan>, pool: Arc<Pool>) -> Self {
        Self {
            bytes: Values::new(&plan.bytes, pool.threads()),
            floats: Values::new(&plan.floats, pool.threads()),
            sums: plan.means.iter().map(|&(channels, positions)| Sums::new(channels, positions)).collect(),
            counts: vec![0; plan.frames.len()],
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
        self.visit(planes, logits, |_| ())
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
            self.visit(planes, &mut logits, |step| {
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

    /// As [`State::run`], and calls `visit` after each step with its number.
    fn visit(&mut self, planes: &[f32], logits: &mut [f32], mut visit: impl FnMut(usize)) -> bool {
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
                self.step(step, planes, done..ready);
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
            (Mode::Stream, Kernel::LoadU8 { .. } | Kernel::LoadF32 { .. }) => done + 1,
            // One mean for every frame from the first that completes a window.
            (Mode::Stream, Kernel::Mean { positions, state, .. }) => {
                (self.sums[*state].seen() + 1).saturating_sub(*positions)
            }
            // Causal: frame t needs frame t * stride of the input, and earlier ones.
            (Mode::Stream, _) => self.counts[step.input].div_ceil(step.stride),
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
    fn step(&mut self, step: &Step, planes: &[f32], wanted: Range<usize>) {
        let (given, kernels) = (wanted.len(), self.plan.kernels);
        match &step.kernel {
            &Kernel::LoadU8 { scale, zero, output } => {
                for (n, t) in wanted.enumerate() {
                    ops::load_u8(kernels, planes, (n, given), t, &mut self.bytes.values[output], (scale, zero));
                }
            }
            &Kernel::LoadF32 { output } => {
                for (n, t) in wanted.enumerate() {
                    ops::load_f32(kernels, planes, (n, given), t, &mut self.floats.values[output]);
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
