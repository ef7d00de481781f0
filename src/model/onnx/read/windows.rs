//! Kernel, stride, padding and dilation; pooling and means.

use super::super::call::Call;
use super::Reader;
use crate::Result;
use crate::model::graph::{Op, Pool, PoolFunction, Value};

/// How windows lie on the axes after the second.
pub(super) struct Windows {
    pub(super) stride: Vec<usize>,
    pub(super) pad: Vec<(usize, usize)>,
    pub(super) dilation: Vec<usize>,
}

impl<'a> Reader<'a> {
    /// The windows of a convolution or pooling with this kernel on `x`.
    pub(super) fn windows(&mut self, call: &Call<'a>, x: &[usize], kernel: &[usize]) -> Result<Windows> {
        let rank = kernel.len();
        if x.len() != rank + 2 || rank == 0 {
            return Err(call.refuse(format_args!("a kernel {kernel:?} does not fit {x:?}")));
        }
        let each = |name: &str| -> Result<Vec<usize>> {
            let found = call.ints(name)?.map_or(Ok(vec![1; rank]), |found| call.sizes(name, found))?;
            if found.len() == rank {
                Ok(found)
            } else {
                Err(call.refuse(format_args!("{name} {found:?} for {rank} axes")))
            }
        };
        let (stride, dilation) = (each("strides")?, each("dilations")?);
        if let Some(given) = call.ints("kernel_shape")?
            && call.sizes("kernel_shape", given)? != kernel
        {
            return Err(call.refuse(format_args!("kernel_shape {given:?} is not that of the weights, {kernel:?}")));
        }
        if stride.contains(&0) || dilation.contains(&0) || kernel.contains(&0) {
            return Err(call.refuse("a kernel, stride or dilation is 0"));
        }
        let automatic = call.text("auto_pad", "NOTSET")?;
        let given = call.ints("pads")?.map(|pads| call.sizes("pads", pads)).transpose()?;
        let pad = match (automatic, given) {
            ("NOTSET" | "", None) => vec![(0, 0); rank],
            ("VALID", _) => vec![(0, 0); rank],
            ("NOTSET" | "", Some(pads)) if pads.len() == 2 * rank => {
                (0..rank).map(|i| (pads[i], pads[i + rank])).collect()
            }
            ("SAME_UPPER" | "SAME_LOWER", _) => {
                let pad =
                    |axis| same(x[axis + 2], kernel[axis], stride[axis], dilation[axis], automatic == "SAME_LOWER");
                let pad = (0..rank).map(pad).collect::<Option<Vec<_>>>();
                pad.ok_or_else(|| call.refuse("its padding is too large"))?
            }
            (mode, pads) => {
                return Err(call.refuse(format_args!("pads {pads:?} or auto_pad '{mode}' do not fit {rank} axes")));
            }
        };
        Ok(Windows { stride, pad, dilation })
    }

    pub(super) fn pool(&mut self, call: &Call<'a>) -> Result<Value> {
        let x = self.value(call, 0)?;
        let kernel = call.ints("kernel_shape")?.ok_or_else(|| call.refuse("kernel_shape is missing"))?;
        let kernel = call.sizes("kernel_shape", kernel)?;
        let windows = self.windows(call, &self.shape(x), &kernel)?;
        let ceil = call.flag("ceil_mode", false)?;
        let function = match call.op() {
            "MaxPool" => {
                // Of the indices, which we do not compute.
                call.ignore(&["storage_order"]);
                PoolFunction::Max
            }
            _ => PoolFunction::Average { count_pad: call.flag("count_include_pad", false)? },
        };
        let (stride, pad, dilation) = (windows.stride, windows.pad, windows.dilation);
        self.push(call, Op::Pool(Pool { function, kernel, stride, pad, dilation, ceil }), &[x])
    }

    pub(super) fn global_pool(&mut self, call: &Call<'a>) -> Result<Value> {
        let x = self.value(call, 0)?;
        let shape = self.shape(x);
        if shape.len() < 3 {
            return Err(call.refuse(format_args!("[N, C, ...] wanted, {shape:?} given")));
        }
        let op = match call.op() {
            "GlobalMaxPool" => Op::Pool(Pool::max(&shape[2..])),
            _ => Op::Mean { axes: (2..shape.len()).collect(), keep: true },
        };
        self.push(call, op, &[x])
    }

    pub(super) fn reduce_mean(&mut self, call: &Call<'a>) -> Result<Value> {
        let x = self.value(call, 0)?;
        let rank = self.shape(x).len();
        let keep = call.flag("keepdims", true)?;
        let nothing = call.flag("noop_with_empty_axes", false)?;
        let axes = self.whole(call, 1, "axes")?.unwrap_or_default();
        let axes = if axes.is_empty() { (0..rank).collect() } else { call.axes(&axes, rank)? };
        if nothing && axes.len() == rank {
            return Err(call.refuse("noop_with_empty_axes is not read"));
        }
        self.push(call, Op::Mean { axes, keep }, &[x])
    }
}

/// Padding so that an axis of `extent` gives `ceil(extent / stride)` windows; the odd one comes first if `lower`.
fn same(extent: usize, kernel: usize, stride: usize, dilation: usize, lower: bool) -> Option<(usize, usize)> {
    let reach = dilation.checked_mul(kernel - 1)?.checked_add(1)?;
    let needed = (extent.div_ceil(stride) - 1).checked_mul(stride)?.checked_add(reach)?;
    let total = needed.saturating_sub(extent);
    let (less, more) = (total / 2, total.div_ceil(2));
    Some(if lower { (more, less) } else { (less, more) })
}
