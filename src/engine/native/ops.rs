//! What is not a convolution: quantising a clip, means, the last dense layer. Plain loops, a frame at a time.

use super::aligned::Plain;
use super::frames::{Frames, Layout};
use super::kernels::{Extents, Kernels, Span, compiled_for};
use crate::model::functions;
use crate::model::graph::{Binary, Unary};

/// `round_half_even(x)` for `|x| < 2^22`: adding 1.5 * 2^23 leaves no bits for a fraction. No call, so loops become vectors.
#[inline(always)]
fn round(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()) as i32
}

/// `clamp(round_half_even(x), low, high) + z` as u8. A value that is no number becomes the least.
#[inline(always)]
fn to_u8(x: f32, span: &Span) -> u8 {
    (round(x.max(span.low).min(span.high)) + span.zero) as u8
}

/// Writes plane `n` of `planes`, `[C, T, H, W]`, as frame `t`, each element through `convert`.
#[inline(always)]
fn load<T: Plain + Default>(
    planes: &[f32],
    (n, count): (usize, usize),
    t: usize,
    output: &mut Frames<T>,
    convert: impl Fn(f32) -> T,
) {
    let layout = output.layout;
    let (area, channels, width) = (layout.height * layout.width, layout.channels, layout.width);
    for (y, row) in output.rows_mut(t).enumerate() {
        let plane = |c: usize| &planes[(c * count + n) * area + y * width..][..width];
        // Weaving channels together is a few shuffles where their number is a constant.
        match channels {
            1 => weave([plane(0)], row.as_chunks_mut().0, &convert),
            2 => weave([plane(0), plane(1)], row.as_chunks_mut().0, &convert),
            3 => weave([plane(0), plane(1), plane(2)], row.as_chunks_mut().0, &convert),
            _ => {
                for c in 0..channels {
                    let to = row.iter_mut().skip(c).step_by(channels);
                    to.zip(plane(c)).for_each(|(to, x)| *to = convert(*x));
                }
            }
        }
    }
}

/// Pixels that are converted at a time, before their channels are woven together.
const BLOCK: usize = 32;

/// Writes `C` planes' rows as pixels.
#[inline(always)]
fn weave<T: Plain + Default, const C: usize>(rows: [&[f32]; C], to: &mut [[T; C]], convert: impl Fn(f32) -> T) {
    let mut x = 0;
    let (blocks, rest) = to.as_chunks_mut::<BLOCK>();
    for block in blocks {
        let mut converted = [[T::default(); BLOCK]; C];
        for (converted, row) in converted.iter_mut().zip(rows) {
            converted.iter_mut().zip(&row[x..x + BLOCK]).for_each(|(to, x)| *to = convert(*x));
        }
        for (n, pixel) in block.iter_mut().enumerate() {
            pixel.iter_mut().zip(&converted).for_each(|(to, converted)| *to = converted[n]);
        }
        x += BLOCK;
    }
    for (n, pixel) in rest.iter_mut().enumerate() {
        pixel.iter_mut().zip(rows).for_each(|(to, row)| *to = convert(row[x + n]));
    }
}

compiled_for! {
    /// A plane to u8: `clamp(round_half_even(x / scale) + zero)`.
    pub(super) fn load_u8(
        planes: &[f32],
        at: (usize, usize),
        t: usize,
        output: &mut Frames<u8>,
        quantized: (f32, i32),
    ) {
        let (scale, zero) = quantized;
        let span = Span { low: -zero as f32, high: (255 - zero) as f32, zero };
        load(planes, at, t, output, |x| to_u8(x / scale, &span));
    }

    /// A plane to f32.
    pub(super) fn load_f32(planes: &[f32], at: (usize, usize), t: usize, output: &mut Frames<f32>) {
        load(planes, at, t, output, |x| x);
    }

    /// Means over windows of `kernel` of frame `t`, of u8: `clamp(round((sum - n z) scale), span)`.
    pub(super) fn pool_u8(
        input: &Frames<u8>,
        output: &mut Frames<u8>,
        t: usize,
        kernel: [usize; 2],
        finish: (f32, Span, i32),
    ) {
        let (scale, span, zero) = finish;
        let offset = (kernel[0] * kernel[1]) as i32 * zero;
        let add = |sum: i32, x: u8| sum + i32::from(x);
        pool(input, output, t, kernel, add, |sum: i32| to_u8((sum - offset) as f32 * scale, &span));
    }

    /// Means over windows of `kernel` of frame `t`, of f32.
    pub(super) fn pool_f32(
        input: &Frames<f32>,
        output: &mut Frames<f32>,
        t: usize,
        kernel: [usize; 2],
        scale: f32,
    ) {
        pool(input, output, t, kernel, |sum: f32, x| sum + x, |sum| sum * scale);
    }

    /// Adds the pixels of frame `t`, of u8.
    pub(super) fn sum_u8(input: &Frames<u8>, t: usize, sums: &mut [f64]) {
        sum(input, t, sums);
    }

    /// Adds the pixels of frame `t`, of f32.
    pub(super) fn sum_f32(input: &Frames<f32>, t: usize, sums: &mut [f64]) {
        sum(input, t, sums);
    }
}

/// Which frame of a window's result, which elements a window has, and how many frames of them there are.
type At = (usize, Extents, usize);

compiled_for! {
    /// The largest elements of windows, of u8.
    pub(super) fn max_u8(input: &Frames<u8>, output: &mut Frames<u8>, at: At) {
        windows(input, output, at, 0, |most: u8, x| most.max(x), |most| most);
    }

    /// The largest elements of windows, of f32.
    pub(super) fn max_f32(input: &Frames<f32>, output: &mut Frames<f32>, at: At) {
        windows(input, output, at, f32::NEG_INFINITY, |most: f32, x| if x > most { x } else { most }, |most| most);
    }

    /// Means over windows without padding, of u8.
    pub(super) fn mean_windows_u8(input: &Frames<u8>, output: &mut Frames<u8>, at: At, finish: (f32, Span, i32)) {
        let (scale, span, zero) = finish;
        let offset = at.1.kernel.iter().product::<usize>() as i32 * zero;
        let end = |sum: i32| to_u8((sum - offset) as f32 * scale, &span);
        windows(input, output, at, 0, |sum: i32, x| sum + i32::from(x), end);
    }

    /// Means over windows without padding, of f32.
    pub(super) fn mean_windows_f32(input: &Frames<f32>, output: &mut Frames<f32>, at: At, scale: f32) {
        windows(input, output, at, 0.0, |sum: f32, x| sum + x, |sum| sum * scale);
    }
}

/// The elements of an axis of `extent` that window `n` has: the first, how many, and the distance between them.
#[inline(always)]
fn inside(extents: &Extents, axis: usize, n: usize, extent: usize) -> (usize, usize, usize) {
    let (begin, step) = (n * extents.stride[axis], extents.dilation[axis]);
    let skipped = extents.pad[axis].0.saturating_sub(begin).div_ceil(step);
    let first = begin + skipped * step - extents.pad[axis].0;
    let left = extent.saturating_sub(first).div_ceil(step);
    (first, left.min(extents.kernel[axis].saturating_sub(skipped)), step)
}

/// Reduces windows to a frame. What lies outside is left out.
#[inline(always)]
fn windows<T: Plain, S: Copy>(
    input: &Frames<T>,
    output: &mut Frames<T>,
    (t, extents, count): At,
    begin: S,
    add: impl Fn(S, T) -> S,
    finish: impl Fn(S) -> T,
) {
    let (layout, from) = (input.layout, input.data());
    let channels = layout.channels;
    let frames = inside(&extents, 0, t, count);
    for (y, row) in output.rows_mut(t).enumerate() {
        let rows = inside(&extents, 1, y, layout.height);
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            let columns = inside(&extents, 2, x, layout.width);
            for (part, to) in pixel.chunks_mut(CHUNK).enumerate() {
                let mut sums = [begin; CHUNK];
                for frame in (0..frames.1).map(|n| input.frame(frames.0 + n * frames.2)) {
                    for row in (0..rows.1).map(|n| frame + (rows.0 + n * rows.2) * layout.row()) {
                        for at in (0..columns.1).map(|n| row + (columns.0 + n * columns.2) * channels + part * CHUNK) {
                            // A whole chunk is a vector.
                            match to.len() {
                                CHUNK => {
                                    let values = &from[at..][..CHUNK];
                                    (0..CHUNK).for_each(|n| sums[n] = add(sums[n], values[n]));
                                }
                                len => (0..len).for_each(|n| sums[n] = add(sums[n], from[at + n])),
                            }
                        }
                    }
                }
                to.iter_mut().zip(sums).for_each(|(to, sum)| *to = finish(sum));
            }
        }
    }
}

/// Copies some channels, the first and how many, of the frame that begins at `start` to frame `t` of `output`, from a channel on.
pub(super) fn copy<T: Plain>(
    input: &Frames<T>,
    start: usize,
    (first, count): (usize, usize),
    (output, t, begin): (&mut Frames<T>, usize, usize),
) {
    let (layout, channels) = (input.layout, output.layout.channels);
    for (y, row) in output.rows_mut(t).enumerate() {
        let from = &input.data()[start + y * layout.row()..][..layout.width * layout.channels];
        for (to, from) in row.chunks_exact_mut(channels).zip(from.chunks_exact(layout.channels)) {
            to[begin..begin + count].copy_from_slice(&from[first..first + count]);
        }
    }
}

compiled_for! {
    /// The elements of some channels, the first and how many, of the frame that begins at `start`, dequantised.
    pub(super) fn gather_u8(
        input: &Frames<u8>,
        start: usize,
        channels: (usize, usize),
        quantized: (f32, i32),
        to: &mut [f32],
    ) {
        let (scale, zero) = quantized;
        gather(input, start, channels, to, |x| (i32::from(x) - zero) as f32 * scale);
    }

    /// The same of f32.
    pub(super) fn gather_f32(input: &Frames<f32>, start: usize, channels: (usize, usize), to: &mut [f32]) {
        gather(input, start, channels, to, |x| x);
    }

    /// Writes frame `t`, quantised.
    pub(super) fn scatter_u8(from: &[f32], quantized: (f32, i32), output: &mut Frames<u8>, t: usize) {
        let (scale, zero) = quantized;
        let span = Span { low: -zero as f32, high: (255 - zero) as f32, zero };
        scatter(from, output, t, |x| to_u8(x / scale, &span));
    }

    /// Writes frame `t`.
    pub(super) fn scatter_f32(from: &[f32], output: &mut Frames<f32>, t: usize) {
        scatter(from, output, t, |x| x);
    }

    /// A function of each element, in place.
    pub(super) fn unary(function: Unary, x: &mut [f32]) {
        match function {
            Unary::Relu => each(x, |x| x.max(0.0)),
            Unary::Clip { min, max } => each(x, |x| x.max(min).min(max)),
            Unary::Sigmoid => each(x, functions::sigmoid),
            Unary::HardSigmoid { alpha, beta } => each(x, |x| (alpha * x + beta).clamp(0.0, 1.0)),
            Unary::Tanh => each(x, functions::tanh),
        }
    }

    /// Elements multiplied and added to, each of a pixel or each of a row by its own.
    pub(super) fn affine(x: &mut [f32], factor: &[f32], offset: &[f32]) {
        for part in x.chunks_exact_mut(factor.len().max(1)) {
            part.iter_mut().zip(factor).zip(offset).for_each(|((x, factor), offset)| *x = *x * factor + offset);
        }
    }

    /// A function of the elements of two values, in place of the first.
    pub(super) fn binary(function: Binary, x: &mut [f32], y: &[f32]) {
        match function {
            Binary::Add => x.iter_mut().zip(y).for_each(|(x, y)| *x += y),
            Binary::Sub => x.iter_mut().zip(y).for_each(|(x, y)| *x -= y),
            Binary::Mul => x.iter_mut().zip(y).for_each(|(x, y)| *x *= y),
        }
    }
}

/// Normalises the channels of each pixel, in f64 and in order, as the definition does.
pub(super) fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let count = weight.len() as f64;
    for pixel in x.chunks_exact_mut(weight.len().max(1)) {
        let mean = pixel.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
        let var = pixel.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
        let deviation = (var + f64::from(eps)).sqrt();
        for ((x, weight), bias) in pixel.iter_mut().zip(weight).zip(bias) {
            *x = ((f64::from(*x) - mean) / deviation * f64::from(*weight) + f64::from(*bias)) as f32;
        }
    }
}

#[inline(always)]
fn each(x: &mut [f32], function: impl Fn(f32) -> f32) {
    x.iter_mut().for_each(|x| *x = function(*x));
}

#[inline(always)]
fn gather<T: Plain>(
    input: &Frames<T>,
    start: usize,
    (first, count): (usize, usize),
    to: &mut [f32],
    convert: impl Fn(T) -> f32,
) {
    let (layout, all) = (input.layout, input.data());
    let width = layout.width * layout.channels;
    for (y, to) in to.chunks_exact_mut(layout.width * count).enumerate() {
        let row = &all[start + y * layout.row()..][..width];
        if count == layout.channels {
            to.iter_mut().zip(row).for_each(|(to, x)| *to = convert(*x));
            continue;
        }
        for (to, pixel) in to.chunks_exact_mut(count).zip(row.chunks_exact(layout.channels)) {
            to.iter_mut().zip(&pixel[first..first + count]).for_each(|(to, x)| *to = convert(*x));
        }
    }
}

#[inline(always)]
fn scatter<T: Plain>(from: &[f32], output: &mut Frames<T>, t: usize, convert: impl Fn(f32) -> T) {
    let width = (output.layout.width * output.layout.channels).max(1);
    for (row, from) in output.rows_mut(t).zip(from.chunks_exact(width)) {
        row.iter_mut().zip(from).for_each(|(to, x)| *to = convert(*x));
    }
}

/// Channels that are summed at a time.
const CHUNK: usize = 16;

#[inline(always)]
fn pool<T: Plain, S: Copy + Default>(
    input: &Frames<T>,
    output: &mut Frames<T>,
    t: usize,
    kernel: [usize; 2],
    add: impl Fn(S, T) -> S,
    finish: impl Fn(S) -> T,
) {
    let (layout, from, start) = (input.layout, input.data(), input.frame(t));
    for (y, row) in output.rows_mut(t).enumerate() {
        let from = &from[start + y * kernel[0] * layout.row()..];
        // Loops over the usual window vanish where its size is a constant.
        match kernel {
            [2, 2] => pool_row(from, &layout, row, [2, 2], &add, &finish),
            _ => pool_row(from, &layout, row, kernel, &add, &finish),
        }
    }
}

/// Pools from a row on of frames of `layout` into a row.
#[inline(always)]
fn pool_row<T: Plain, S: Copy + Default>(
    from: &[T],
    layout: &Layout,
    row: &mut [T],
    [height, width]: [usize; 2],
    add: impl Fn(S, T) -> S,
    finish: impl Fn(S) -> T,
) {
    let (channels, below) = (layout.channels, layout.row());
    let pixels = row.len() / channels;
    let whole = channels / CHUNK * CHUNK;
    for channel in (0..whole).step_by(CHUNK) {
        for x in 0..pixels {
            let at = x * width * channels + channel;
            let mut sums = [S::default(); CHUNK];
            for i in 0..height {
                for j in 0..width {
                    let values = &from[at + i * below + j * channels..][..CHUNK];
                    for n in 0..CHUNK {
                        sums[n] = add(sums[n], values[n]);
                    }
                }
            }
            let to = &mut row[x * channels + channel..][..CHUNK];
            for n in 0..CHUNK {
                to[n] = finish(sums[n]);
            }
        }
    }
    for x in 0..pixels {
        for channel in whole..channels {
            let at = x * width * channels + channel;
            let mut sum = S::default();
            for i in 0..height {
                for j in 0..width {
                    sum = add(sum, from[at + i * below + j * channels]);
                }
            }
            row[x * channels + channel] = finish(sum);
        }
    }
}

#[inline(always)]
fn sum<T: Plain + Into<f64>>(input: &Frames<T>, t: usize, sums: &mut [f64]) {
    for row in input.rows(t) {
        for pixel in row.chunks_exact(sums.len()) {
            sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += (*x).into());
        }
    }
}

/// Sums over H, W of the last frames of a value, and over all of those.
pub(super) struct Sums {
    channels: usize,
    /// `[positions, C]`. Sums of integers stay below 2^53 and are exact.
    ring: Vec<f64>,
    total: Vec<f64>,
    seen: usize,
}

impl Sums {
    pub fn new(channels: usize, positions: usize) -> Self {
        Self { channels, ring: vec![0.0; channels * positions], total: vec![0.0; channels], seen: 0 }
    }

    pub fn reset(&mut self) {
        self.seen = 0;
    }

    /// Frames summed since the stream began.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Adds the next frame, of which `add` adds the pixels of number t to zeros.
    pub fn add(&mut self, add: impl FnOnce(usize, &mut [f64])) {
        let positions = self.ring.len() / self.channels;
        let slot = &mut self.ring[self.seen % positions * self.channels..][..self.channels];
        slot.fill(0.0);
        add(self.seen, slot);
        self.seen += 1;
    }

    /// The sums over the last frames, from the oldest to the newest: summed anew, as running sums drift.
    pub fn total(&mut self) -> &[f64] {
        self.total.fill(0.0);
        let positions = self.ring.len() / self.channels;
        for n in 0..positions {
            let slot = &self.ring[(self.seen + n) % positions * self.channels..][..self.channels];
            self.total.iter_mut().zip(slot).for_each(|(total, sum)| *total += sum);
        }
        &self.total
    }
}

/// Writes a mean as frame `t` of one pixel, of u8.
pub(super) fn mean_u8(
    total: &[f64],
    count: usize,
    output: &mut Frames<u8>,
    t: usize,
    (scale, span, zero): (f32, Span, i32),
) {
    let offset = (count as i64 * i64::from(zero)) as f64;
    let row = output.rows_mut(t).flatten();
    row.zip(total).for_each(|(to, sum)| *to = to_u8((sum - offset) as f32 * scale, &span));
}

/// Writes a mean as frame `t` of one pixel, as f32.
pub(super) fn mean_f32(total: &[f64], count: usize, output: &mut Frames<f32>, t: usize, (scale, zero): (f32, i32)) {
    let offset = (count as i64 * i64::from(zero)) as f64;
    let row = output.rows_mut(t).flatten();
    row.zip(total).for_each(|(to, sum)| *to = (sum - offset) as f32 * scale);
}

/// A dense layer from u8 to f32.
pub(super) fn logits(
    input: &Frames<u8>,
    output: &mut Frames<f32>,
    t: usize,
    (weights, begin, scale): (&[i8], &[i32], &[f32]),
) {
    let from = &input.data()[input.frame(t)..][..input.layout.channels];
    let rows = weights.chunks_exact(input.layout.channels.max(1)).zip(begin).zip(scale);
    for (to, ((row, begin), scale)) in output.rows_mut(t).flatten().zip(rows) {
        let sum = row.iter().zip(from).fold(*begin, |sum, (w, x)| sum.wrapping_add(i32::from(*w) * i32::from(*x)));
        *to = sum as f32 * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_half_to_even() {
        for step in -4000..=4000 {
            let x = step as f32 / 8.0;
            assert_eq!(round(x), x.round_ties_even() as i32, "{x}");
        }
        assert_eq!(to_u8(f32::NAN, &Span { low: -3.0, high: 252.0, zero: 3 }), 0);
    }
}
