//! The way through memory that all kernels share: a tile of `P` positions by `Q` vectors of output channels stays in
//! registers while the inputs and weights go by once. Per step a group of input channels of each position is spread over a
//! vector and multiplied with the weights of `Q` vectors, so weights are loaded once for `P` positions and inputs once for
//! `Q` vectors.

use std::mem::MaybeUninit;

use super::lanes::{Arithmetic, Lanes};

/// The most sums of a tile: 28 vectors of 16.
const MOST: usize = 28 * 16;

/// Work for one frame and one tile of output channels. Steps count elements.
pub(super) struct Task<'a, A: Arithmetic> {
    /// The runs of elements that an output sums over: first element for the output at row 0, column 0.
    pub taps: &'a [*const A::Element],
    /// Groups of a run.
    pub groups: usize,
    /// `[tap][group][Q * LANES][GROUP]`.
    pub weights: *const A::Weight,
    /// What sums begin with, of this tile's channels.
    pub begin: *const A::Sum,
    pub finish: &'a A::Finish,
    /// The first channel.
    pub channel: usize,
    /// Channels that there are, at most `Q * LANES`.
    pub valid: usize,
    /// Output rows to compute.
    pub rows: std::ops::Range<usize>,
    /// Output columns, at least `P`.
    pub width: usize,
    pub input: Steps,
    pub to: *mut A::Element,
    pub output: Steps,
    /// Null without a residual.
    pub residual: *const A::Element,
    pub other: Steps,
}

/// Elements from one output position to the next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Steps {
    pub row: usize,
    pub column: usize,
}

/// A kernel: computes a task.
pub(super) type Kernel<A> = unsafe fn(&Task<'_, A>);

/// Computes `task` in tiles of `P` positions of a row by `Q` vectors of channels. Where `P` does not divide the width the
/// last tile overlaps the one before: the same values are written twice.
///
/// # Safety
/// As for [`Lanes`]; the pointers reach as far as the task says, and nothing else writes there.
#[inline(always)]
pub(super) unsafe fn rows<A: Arithmetic, L: Lanes<A>, const P: usize, const Q: usize>(task: &Task<'_, A>) {
    // SAFETY: the caller's.
    unsafe {
        for y in task.rows.clone() {
            let mut x = 0;
            loop {
                tile::<A, L, P, Q>(task, y, x);
                if x + P >= task.width {
                    break;
                }
                x = (x + P).min(task.width - P);
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<A: Arithmetic, L: Lanes<A>, const P: usize, const Q: usize>(task: &Task<'_, A>, y: usize, x: usize) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[L::begin(task.begin); Q]; P];
        for q in 1..Q {
            let begin = L::begin(task.begin.add(q * L::LANES));
            sums.iter_mut().for_each(|sums| sums[q] = begin);
        }
        let at = y * task.input.row + x * task.input.column;
        let mut weights = task.weights;
        for tap in task.taps {
            let mut from = tap.add(at);
            for _ in 0..task.groups {
                let mut vectors = [L::weights(weights); Q];
                for q in 1..Q {
                    vectors[q] = L::weights(weights.add(q * L::LANES * A::GROUP));
                }
                for p in 0..P {
                    let input = L::input(from.add(p * task.input.column));
                    for q in 0..Q {
                        sums[p][q] = L::dot(sums[p][q], input, vectors[q]);
                    }
                }
                weights = weights.add(Q * L::LANES * A::GROUP);
                from = from.add(A::GROUP);
            }
        }
        // The sums leave the registers here: what follows is too long to be unrolled, and registers have no index.
        let mut left = [const { MaybeUninit::<A::Sum>::uninit() }; MOST];
        let left = left.as_mut_ptr().cast::<A::Sum>();
        for p in 0..P {
            for q in 0..Q {
                L::keep(sums[p][q], left.add((p * Q + q) * L::LANES));
            }
        }
        for p in 0..P {
            let to = task.to.add(y * task.output.row + (x + p) * task.output.column);
            let mut residual = task.residual;
            if !residual.is_null() {
                residual = residual.add(y * task.other.row + (x + p) * task.other.column);
            }
            for q in 0..Q {
                let sum = L::begin(left.add((p * Q + q) * L::LANES));
                let valid = (task.valid - q * L::LANES).min(L::LANES);
                let other = if residual.is_null() { residual } else { residual.add(q * L::LANES) };
                L::finish(sum, task.finish, task.channel + q * L::LANES, valid, other, to.add(q * L::LANES));
            }
        }
    }
}
