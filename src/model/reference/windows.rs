//! Convolution and pooling. Fewer than three axes are three of which the first have extent one.

use ndarray::{ArrayD, IxDyn};

use crate::model::graph::{Conv, Pool, PoolFunction};

/// One axis: where kernel element `k` of output `o` lies, unless it is in the padding.
#[derive(Clone, Copy)]
struct Window {
    extent: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: (usize, usize),
}

impl Window {
    fn at(&self, o: usize, k: usize) -> Option<usize> {
        (o * self.stride + k * self.dilation).checked_sub(self.pad.0).filter(|&at| at < self.extent)
    }

    /// How many elements lie inside, or, with the padding, before its end.
    fn count(&self, o: usize, with_padding: bool) -> usize {
        let end = self.pad.0 + self.extent + self.pad.1;
        let all = 0..self.kernel;
        match with_padding {
            true => all.filter(|k| o * self.stride + k * self.dilation < end).count(),
            false => all.filter(|&k| self.at(o, k).is_some()).count(),
        }
    }
}

/// The last three axes of `x` and of the result, with kernel, stride, dilation and padding.
fn windows(x: &[usize], y: &[usize], each: impl Fn(usize) -> (usize, usize, usize, (usize, usize))) -> [Window; 3] {
    let missing = 5 - x.len();
    std::array::from_fn(|axis| match axis.checked_sub(missing) {
        Some(axis) => {
            let (kernel, stride, dilation, pad) = each(axis);
            Window { extent: x[axis + 2], outputs: y[axis + 2], kernel, stride, dilation, pad }
        }
        None => Window { extent: 1, outputs: 1, kernel: 1, stride: 1, dilation: 1, pad: (0, 0) },
    })
}

pub(super) fn convolve(
    x: &ArrayD<f64>,
    conv: &Conv,
    shape: &[usize],
    weight: &ArrayD<f64>,
    bias: Option<&ArrayD<f64>>,
) -> Option<ArrayD<f64>> {
    let axis = |i: usize| (conv.kernel[i], conv.stride[i], conv.dilation[i], conv.pad[i]);
    let [t, h, w] = windows(x.shape(), shape, axis);
    let plane_in = t.extent * h.extent * w.extent;
    let (channels_in, inner) = (x.shape()[1], weight.shape()[1]);
    let x: Vec<f64> = x.iter().copied().collect();
    let weight: Vec<f64> = weight.iter().copied().collect();
    let mut y = Vec::with_capacity(shape.iter().product());
    for n in 0..shape[0] {
        for channel in 0..conv.channels {
            let mut sums = vec![bias.map_or(0.0, |bias| bias[channel]); t.outputs * h.outputs * w.outputs];
            let first = channel / (conv.channels / conv.groups) * inner;
            for c in 0..inner {
                let plane = &x[(n * channels_in + first + c) * plane_in..][..plane_in];
                for k in 0..t.kernel * h.kernel * w.kernel {
                    let factor = weight[(channel * inner + c) * t.kernel * h.kernel * w.kernel + k];
                    let (kt, kh, kw) = (k / (h.kernel * w.kernel), k / w.kernel % h.kernel, k % w.kernel);
                    for o in 0..t.outputs * h.outputs {
                        let (ot, oh) = (o / h.outputs, o % h.outputs);
                        let (Some(it), Some(ih)) = (t.at(ot, kt), h.at(oh, kh)) else { continue };
                        let row = &plane[(it * h.extent + ih) * w.extent..][..w.extent];
                        for (ow, sum) in sums[o * w.outputs..][..w.outputs].iter_mut().enumerate() {
                            if let Some(iw) = w.at(ow, kw) {
                                *sum += factor * row[iw];
                            }
                        }
                    }
                }
            }
            y.extend(sums);
        }
    }
    ArrayD::from_shape_vec(IxDyn(shape), y).ok()
}

pub(super) fn pool(x: &ArrayD<f64>, pool: &Pool, shape: &[usize]) -> Option<ArrayD<f64>> {
    let axis = |i: usize| (pool.kernel[i], pool.stride[i], pool.dilation[i], pool.pad[i]);
    let [t, h, w] = windows(x.shape(), shape, axis);
    let plane_in = t.extent * h.extent * w.extent;
    let x: Vec<f64> = x.iter().copied().collect();
    let mut y = Vec::with_capacity(shape.iter().product());
    for plane in x.chunks_exact(plane_in) {
        for o in 0..t.outputs * h.outputs * w.outputs {
            let (ot, oh, ow) = (o / (h.outputs * w.outputs), o / w.outputs % h.outputs, o % w.outputs);
            let inside = (0..t.kernel * h.kernel * w.kernel).filter_map(|k| {
                let (kt, kh, kw) = (k / (h.kernel * w.kernel), k / w.kernel % h.kernel, k % w.kernel);
                Some(plane[(t.at(ot, kt)? * h.extent + h.at(oh, kh)?) * w.extent + w.at(ow, kw)?])
            });
            y.push(match pool.function {
                PoolFunction::Max => inside.fold(f64::NEG_INFINITY, f64::max),
                PoolFunction::Average { count_pad } => {
                    let count = t.count(ot, count_pad) * h.count(oh, count_pad) * w.count(ow, count_pad);
                    inside.sum::<f64>() / count as f64
                }
            });
        }
    }
    ArrayD::from_shape_vec(IxDyn(shape), y).ok()
}
