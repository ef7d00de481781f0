//! Two convolutions at once: one that any net may have, then one over T alone, as the blocks of (2+1)D nets have them (Tran et
//! al., A Closer Look at Spatiotemporal Convolutions, 2018). The value between them is the largest of such a net. Here only some
//! rows of it are there at a time, of the frames that the second one sees, so it never leaves a core's cache.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::super::frames::{Frames, Layout};
use super::super::pool::Pool;
use super::conv::{Bound, Conv, Extents, View};
use super::lanes::Arithmetic;

/// Bytes between the two that a core's second cache keeps beside their weights.
const BETWEEN_IN_CACHE: usize = 384 << 10;

/// Two convolutions, the second of which reads the first one's result.
pub struct Pair<A: Arithmetic> {
    first: Conv<A>,
    second: Conv<A>,
    /// The most rows that are between them at a time.
    rows: usize,
}

impl<A: Arithmetic> Pair<A> {
    /// Both as one. The second sees the same pixel over time, without a border, and what the first computes.
    pub fn new(first: Conv<A>, second: Conv<A>) -> Self {
        let between = first.geometry().output;
        let row = between.row() * second.geometry().extents.frames() * size_of::<A::Element>();
        Self::of_rows(first, second, (BETWEEN_IN_CACHE / row.max(1)).clamp(1, between.height))
    }

    /// A pair with at most so many rows between the two at a time.
    pub(super) fn of_rows(first: Conv<A>, second: Conv<A>, rows: usize) -> Self {
        Self { first, second, rows }
    }

    /// As many frames, of so many rows, as each thread needs between the two.
    pub fn between(&self) -> (Layout, usize) {
        (Layout { height: self.rows, ..self.first.geometry().output }, self.second.geometry().extents.frames())
    }

    /// Computes all `frames` of `output` from all of `input`, of which there are `count`, by way of `middle` frames that only
    /// `between` holds, one for each thread. A residual of the output's shape is added.
    ///
    /// # Panics
    /// If the values are not laid out as the geometries say: a defect of the plan.
    pub fn run(
        &self,
        pool: &Pool,
        (input, count): (&Frames<A::Element>, usize),
        (between, middle): (&[Mutex<Frames<A::Element>>], usize),
        residual: Option<&Frames<A::Element>>,
        (output, frames): (&mut Frames<A::Element>, usize),
    ) {
        let height = self.second.geometry().output.height;
        let (layout, slots) = self.between();
        self.first.check_input(input, self.first.geometry().input, height);
        self.second.check_output(residual, output);
        assert!(between.len() == pool.threads(), "each thread has its own frames between");
        let Extents { stride, pad, .. } = self.second.geometry().extents;
        let (input, residual, output) = (View::of(input), residual.map(View::of), View::of_mut(output));
        let bands = height.div_ceil(self.rows).max(pool.threads()).min(height);
        let rows = height.div_ceil(bands);
        let next = AtomicUsize::new(0);
        pool.run(pool.threads(), &|thread| {
            let mut between = between[thread].lock().unwrap_or_else(PoisonError::into_inner);
            self.second.check_input(&between, layout, self.rows);
            assert!(between.slots() == slots, "all frames that the second one sees are between");
            let between = View::of_mut(&mut between);
            loop {
                let first_row = next.fetch_add(1, Ordering::Relaxed) * rows;
                if first_row >= height {
                    return;
                }
                let band = first_row..(first_row + rows).min(height);
                let between = between.with_first_row(first_row);
                let first = Bound { conv: &self.first, input, count, residual: None, output: between };
                let second = Bound { conv: &self.second, input: between, count: middle, residual, output };
                let mut done = 0;
                for t in 0..frames {
                    let needed = (t * stride[0] + slots).saturating_sub(pad[0].0).min(middle);
                    // SAFETY: all are laid out as the geometries say, of `between` the rows of this band, which is this thread's;
                    // no other thread has this band of the output.
                    unsafe {
                        (done..needed).for_each(|t| first.frame(t, &band));
                        second.frame(t, &band);
                    }
                    done = done.max(needed);
                }
            }
        });
    }
}
