//! The definition of a convolution: plain loops over plain arrays. Every other kernel must give the same.

use super::lanes::Arithmetic;
use super::{Extents, Geometry};

/// One output frame, channels last and without a border, from the `kT` input frames it sees, each channels last and without
/// a border; `None` is a frame of padding. `weights` is `[channels, C, kT, kH, kW]`, `padding` the value around a frame.
pub fn frame<A: Arithmetic>(
    geometry: &Geometry,
    (weights, begin, finish): (&[A::Weight], &[A::Sum], &A::Finish),
    inputs: &[Option<&[A::Element]>],
    residual: Option<&[A::Element]>,
    padding: A::Element,
) -> Vec<A::Element> {
    let Geometry { extents: Extents { kernel, stride, dilation, pad }, input, output } = geometry;
    let mut result = Vec::with_capacity(output.volume());
    for y in 0..output.height {
        for x in 0..output.width {
            for (channel, begin) in begin.iter().enumerate() {
                let mut sum = *begin;
                for (t, frame) in inputs.iter().enumerate() {
                    for i in 0..kernel[1] {
                        for j in 0..kernel[2] {
                            let row = (y * stride[1] + i * dilation[1]).checked_sub(pad[1].0);
                            let column = (x * stride[2] + j * dilation[2]).checked_sub(pad[2].0);
                            let inside = row.filter(|y| *y < input.height).zip(column.filter(|x| *x < input.width));
                            for c in 0..input.channels {
                                let value = match (frame, inside) {
                                    (Some(frame), Some((y, x))) => frame[(y * input.width + x) * input.channels + c],
                                    _ => padding,
                                };
                                let at = channel * input.channels + c;
                                let weight = ((at * kernel[0] + t) * kernel[1] + i) * kernel[2] + j;
                                sum = A::add(sum, value, weights[weight]);
                            }
                        }
                    }
                }
                let other = residual.map(|residual| residual[result.len()]);
                result.push(A::finish(finish, sum, channel, other));
            }
        }
    }
    result
}
