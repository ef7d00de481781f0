//! The reference kernels: arrays for vectors, no instruction set.

use std::convert::identity;

use super::conv::Table;
use super::lanes::{Arithmetic, Lanes};
use super::tile::{Kernel, rows};

struct Plain;

const LANES: usize = 8;

/// One table for both kinds of arithmetic.
pub(super) fn table<A: Arithmetic>() -> Table<A> {
    Table { lanes: LANES, groups: identity, positions: [4, 2], kernel }
}

fn kernel<A: Arithmetic>(positions: usize, vectors: usize) -> Option<Kernel<A>> {
    Some(match (positions, vectors) {
        (1, 1) => rows::<A, Plain, 1, 1>,
        (2, 1) => rows::<A, Plain, 2, 1>,
        (3, 1) => rows::<A, Plain, 3, 1>,
        (4, 1) => rows::<A, Plain, 4, 1>,
        (1, 2) => rows::<A, Plain, 1, 2>,
        (2, 2) => rows::<A, Plain, 2, 2>,
        _ => return None,
    })
}

/// The most elements that a group has.
const GROUP: usize = 4;

// SAFETY: needs no instruction set.
unsafe impl<A: Arithmetic> Lanes<A> for Plain {
    const LANES: usize = LANES;
    type Sum = [A::Sum; LANES];
    type Weights = [[A::Weight; GROUP]; LANES];
    type Input = [A::Element; GROUP];

    #[inline(always)]
    unsafe fn begin(from: *const A::Sum) -> Self::Sum {
        // SAFETY: the caller's.
        std::array::from_fn(|lane| unsafe { *from.add(lane) })
    }

    #[inline(always)]
    unsafe fn keep(sum: Self::Sum, to: *mut A::Sum) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Self::Sum>().write_unaligned(sum) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const A::Weight) -> Self::Weights {
        // SAFETY: the caller's; a group may be smaller than the array, and then repeats.
        std::array::from_fn(|lane| std::array::from_fn(|n| unsafe { *from.add(lane * A::GROUP + n % A::GROUP) }))
    }

    #[inline(always)]
    unsafe fn input(from: *const A::Element) -> Self::Input {
        // SAFETY: the caller's.
        std::array::from_fn(|n| unsafe { *from.add(n % A::GROUP) })
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Sum, input: Self::Input, weights: Self::Weights) -> Self::Sum {
        std::array::from_fn(|lane| (0..A::GROUP).fold(sum[lane], |sum, n| A::add(sum, input[n], weights[lane][n])))
    }

    #[inline(always)]
    unsafe fn finish(
        sum: Self::Sum,
        finish: &A::Finish,
        channel: usize,
        valid: usize,
        residual: *const A::Element,
        to: *mut A::Element,
    ) {
        for (lane, sum) in sum.into_iter().enumerate().take(valid) {
            // SAFETY: the caller's.
            unsafe {
                let other = (!residual.is_null()).then(|| *residual.add(lane));
                *to.add(lane) = A::finish(finish, sum, channel + lane, other);
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod tables {
    use super::super::Kernels;
    use super::super::conv::{Table, Tabled};
    use super::super::lanes::{Float, Int8};

    impl Tabled for Int8 {
        fn table(_: Kernels) -> Table<Self> {
            super::table()
        }
    }

    impl Tabled for Float {
        fn table(_: Kernels) -> Table<Self> {
            super::table()
        }
    }
}
