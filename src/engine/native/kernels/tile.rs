//! The way through memory that all kernels share: a tile of `P` positions by `Q` vectors of output channels stays in
//! registers while the inputs and weights go by once. Per step a group of input channels of each position is spread over a
//! vector and multiplied with the weights of `Q` vectors, so weights are loaded once for `P` positions and inputs once for
//! `Q` vectors.

#![allow(
    clippy::needless_range_loop,
    reason = "P and Q are constants: these loops are unrolled, indices become registers"
)]

use std::mem::MaybeUninit;

use super::lanes::{Arithmetic, Lanes};

/// The most sums of a tile: 28 vectors of 16.
const MOST: usize = 28 * 16;

/// Sums in memory, so aligned that no vector lies on two cache lines.
#[repr(align(64))]
struct Left<T>([MaybeUninit<T>; MOST]);

/// Work for one frame and one tile of output channels. Steps count elements.
pub(super) struct Task<'a, A: Arithmetic> {
    /// The runs of elements that an output sums over: first element for the output at row 0, column 0. Like the other pointers
    /// of activations it may lie outside of the memory if row 0 is not asked for.
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

/// The same for every position that a tile can have: unrolled here, because the compiler gives up on so many.
macro_rules! positions {
    (|$p:ident| $body:expr) => {
        positions!([0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27] $p $body)
    };
    ([$($n:literal)*] $p:ident $body:expr) => {
        $({
            const $p: usize = $n;
            $body
        })*
    };
}

/// Bases of seven positions each.
const BASES: usize = 4;

/// `x`, of which the compiler does not know how it came about.
#[inline(always)]
fn opaque(x: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let mut x = x;
        // SAFETY: does nothing.
        unsafe { std::arch::asm!("/* {0} */", inout(reg) x, options(pure, nomem, nostack, preserves_flags)) };
        x
    }
    #[cfg(not(target_arch = "x86_64"))]
    x
}

/// The same for a pointer.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read or written")]
fn opaque_pointer<T>(x: *const T) -> *const T {
    #[cfg(target_arch = "x86_64")]
    {
        let mut x = x;
        // SAFETY: does nothing.
        unsafe { std::arch::asm!("/* {0} */", inout(reg) x, options(pure, nomem, nostack, preserves_flags)) };
        x
    }
    #[cfg(not(target_arch = "x86_64"))]
    x
}

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
        // Addresses of seven positions are a base, and one of three steps times 1, 2 or 4: the processor adds those for
        // nothing. Left alone the compiler makes a chain of additions, one for each position.
        let step = opaque(task.input.column);
        let (three, five) = (opaque(3 * step), opaque(5 * step));
        let steps = [0, step, 2 * step, three, 4 * step, five, 2 * three];
        let mut weights = task.weights;
        for tap in task.taps {
            let from = tap.wrapping_add(at);
            let mut bases: [_; BASES] = std::array::from_fn(|n| opaque_pointer(from.wrapping_add(7 * n * step)));
            for _ in 0..task.groups {
                let mut vectors = [L::weights(weights); Q];
                for q in 1..Q {
                    vectors[q] = L::weights(weights.add(q * L::LANES * A::GROUP));
                }
                positions!(|POSITION| if POSITION < P {
                    let input = L::input(bases[POSITION / 7].wrapping_add(steps[POSITION % 7]));
                    for q in 0..Q {
                        sums[POSITION][q] = L::dot(sums[POSITION][q], input, vectors[q]);
                    }
                });
                weights = weights.add(Q * L::LANES * A::GROUP);
                for base in bases.iter_mut().take(P.div_ceil(7)) {
                    *base = base.wrapping_add(A::GROUP);
                }
            }
        }
        // The sums leave the registers here: what follows is too long to be unrolled, and registers have no index.
        let mut left = Left([const { MaybeUninit::<A::Sum>::uninit() }; MOST]);
        let left = left.0.as_mut_ptr().cast::<A::Sum>();
        for p in 0..P {
            for q in 0..Q {
                L::keep(sums[p][q], left.add((p * Q + q) * L::LANES));
            }
        }
        L::finish_tile::<Q>(left, P, task, y, x);
    }
}

/// Finishes the sums `left`, `[positions][Q][LANES]`, of the tile at `y`, `x`.
///
/// # Safety
/// As for [`rows`].
#[inline(always)]
pub(super) unsafe fn finish<A: Arithmetic, L: Lanes<A>, const Q: usize>(
    left: *const A::Sum,
    positions: usize,
    task: &Task<'_, A>,
    (y, x): (usize, usize),
) {
    // SAFETY: the caller's.
    unsafe {
        for n in 0..positions * Q {
            let (p, q) = (n / Q, n % Q);
            let to = task.to.wrapping_add(y * task.output.row + (x + p) * task.output.column + q * L::LANES);
            let mut residual = task.residual;
            if !residual.is_null() {
                residual = residual.wrapping_add(y * task.other.row + (x + p) * task.other.column + q * L::LANES);
            }
            let valid = (task.valid - q * L::LANES).min(L::LANES);
            L::finish(L::begin(left.add(n * L::LANES)), task.finish, task.channel + q * L::LANES, valid, residual, to);
        }
    }
}
