//! What kernels compute with: the arithmetic, and vectors of it.

use super::super::aligned::{Aligned, Plain};
use super::tile::{self, Task};

/// A kind of arithmetic: what is multiplied, what is summed, and what becomes of a sum.
pub trait Arithmetic: Copy + Send + Sync + 'static {
    /// Activations.
    type Element: Plain + Send + Sync + PartialEq + std::fmt::Debug + 'static;
    /// Weights.
    type Weight: Plain + Send + Sync + 'static;
    /// Sums of products, and what they begin with.
    type Sum: Plain + Send + Sync + 'static;
    /// How a sum becomes an activation.
    type Finish: Send + Sync;
    /// Products that an instruction sums at once: input channels are taken in groups of so many.
    const GROUP: usize;

    /// `finish` with values for `channels` channels in all, so that a vector of the last ones can be loaded.
    fn padded(finish: Self::Finish, channels: usize) -> Self::Finish;

    /// The definition of a sum's end; `reference` (in tests) has the rest. `residual` is the value to add.
    fn finish(finish: &Self::Finish, sum: Self::Sum, channel: usize, residual: Option<Self::Element>) -> Self::Element;

    /// The definition of a product's sum.
    fn add(sum: Self::Sum, x: Self::Element, w: Self::Weight) -> Self::Sum;
}

/// u8 activations, i8 weights, i32 sums. The zero point of the input is in what the sums begin with:
/// `sum((x - z) w) = sum(x w) - z sum(w)`.
#[derive(Debug, Clone, Copy)]
pub struct Int8;

/// f32 throughout.
#[derive(Debug, Clone, Copy)]
pub struct Float;

/// From an i32 sum to u8: `y = clamp(round_half_even(f32(sum) * m), low, high) + z`, after which a residual may be added.
/// `low` and `high` are whole numbers, so clamping before rounding is the same as after it and cannot overflow.
pub struct Rescale {
    /// `m = f32(s_x * s_w / s_y)` of each output channel.
    pub scale: Aligned<f32>,
    /// Least and largest value without the zero point: `-z` or, with a ReLU, 0; and `255 - z`.
    pub span: Span,
    /// A value of the same shape that is added.
    pub residual: Option<Residual>,
}

/// The values that an activation may have: `low..=high`, and `zero` that is added to them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Least value without the zero point.
    pub low: f32,
    /// Largest value without the zero point.
    pub high: f32,
    /// The zero point.
    pub zero: i32,
}

/// A residual sum: `clamp(round(a * own) + round((b - z_b) * other), low, high) + z`, where `a` is the convolution's result
/// without its zero point.
#[derive(Debug, Clone, Copy)]
pub struct Residual {
    /// `s_a / s_y`.
    pub own: f32,
    /// `s_b / s_y`.
    pub other: f32,
    /// Zero point of the other value.
    pub other_zero: i32,
    /// Of the sum.
    pub span: Span,
}

impl Arithmetic for Int8 {
    type Element = u8;
    type Weight = i8;
    type Sum = i32;
    type Finish = Rescale;
    const GROUP: usize = 4;

    fn padded(finish: Rescale, channels: usize) -> Rescale {
        let mut scale = Aligned::zeros(channels);
        scale[..finish.scale.len()].copy_from_slice(&finish.scale);
        Rescale { scale, ..finish }
    }

    fn finish(finish: &Rescale, sum: i32, channel: usize, residual: Option<u8>) -> u8 {
        let Span { low, high, zero } = finish.span;
        let a = (sum as f32 * finish.scale[channel]).clamp(low, high).round_ties_even() as i32;
        match (&finish.residual, residual) {
            (Some(add), Some(b)) => {
                let a = (a as f32 * add.own).round_ties_even() as i32;
                let b = ((i32::from(b) - add.other_zero) as f32 * add.other).round_ties_even() as i32;
                ((a + b).clamp(add.span.low as i32, add.span.high as i32) + add.span.zero) as u8
            }
            _ => (a + zero) as u8,
        }
    }

    fn add(sum: i32, x: u8, w: i8) -> i32 {
        sum.wrapping_add(i32::from(x) * i32::from(w))
    }
}

impl Arithmetic for Float {
    type Element = f32;
    type Weight = f32;
    type Sum = f32;
    /// Least and largest result, after a residual was added: 0 and infinity for a ReLU.
    type Finish = (f32, f32);
    const GROUP: usize = 1;

    fn padded(finish: (f32, f32), _: usize) -> (f32, f32) {
        finish
    }

    fn finish(&(low, high): &(f32, f32), sum: f32, _: usize, residual: Option<f32>) -> f32 {
        (sum + residual.unwrap_or(0.0)).max(low).min(high)
    }

    fn add(sum: f32, x: f32, w: f32) -> f32 {
        sum + x * w
    }
}

/// A vector of output channels of an instruction set.
///
/// # Safety
/// Its functions may only be called where that instruction set is enabled, with pointers to as many values as they take.
pub(super) unsafe trait Lanes<A: Arithmetic> {
    /// Output channels in a vector.
    const LANES: usize;
    /// A vector of sums.
    type Sum: Copy;
    /// A vector of weights, [`Arithmetic::GROUP`] for each output channel.
    type Weights: Copy;
    /// A group of input channels in every lane.
    type Input: Copy;

    /// `LANES` values that sums begin with.
    unsafe fn begin(from: *const A::Sum) -> Self::Sum;
    /// Writes all lanes of `sum`.
    unsafe fn keep(sum: Self::Sum, to: *mut A::Sum);
    /// `LANES * GROUP` weights.
    unsafe fn weights(from: *const A::Weight) -> Self::Weights;
    /// `GROUP` elements, the same in every lane.
    unsafe fn input(from: *const A::Element) -> Self::Input;
    /// `sum + dot(input, weights)` in each lane.
    unsafe fn dot(sum: Self::Sum, input: Self::Input, weights: Self::Weights) -> Self::Sum;
    /// Writes the first `valid` lanes of `sum` as elements of the channels from `channel` on; `residual` may be null.
    unsafe fn finish(
        sum: Self::Sum,
        finish: &A::Finish,
        channel: usize,
        valid: usize,
        residual: *const A::Element,
        to: *mut A::Element,
    );
    /// Finishes a whole tile: the sums `left`, `[positions][Q][LANES]`, at row `y`, column `x`.
    #[inline(always)]
    unsafe fn finish_tile<const Q: usize>(left: *const A::Sum, positions: usize, task: &Task<'_, A>, y: usize, x: usize)
    where
        Self: Sized,
    {
        // SAFETY: the caller's.
        unsafe { tile::finish::<A, Self, Q>(left, positions, task, (y, x)) }
    }
}
