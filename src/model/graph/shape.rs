//! The shape and element type of an operation's result, or why it does not fit its inputs. All sizes are checked: they may
//! come from a file.

use super::Node;
use super::op::{Binary, Conv, Element, Op, Pad, Pool, Quantization, Resize, Slice, Unary};

/// The most elements of one value or parameter: a gigabyte of floats.
pub const MAX_ELEMENTS: usize = 1 << 28;
/// The most axes of a value.
pub const MAX_RANK: usize = 8;
/// The largest kernel, stride, padding or dilation along one axis.
const MAX_EXTENT: usize = 1 << 15;

/// A shape and element type, or the reason why there is none.
pub(super) type Outcome<T = (Vec<usize>, Element)> = Result<T, String>;

macro_rules! ensure {
    ($condition:expr, $($why:tt)*) => {
        if !$condition {
            return Err(format!($($why)*));
        }
    };
}

/// Shape and element type of `op` on `inputs`.
pub(super) fn infer(op: &Op, inputs: &[&Node]) -> Outcome {
    let wanted = match op {
        Op::Input | Op::Constant(_) => 0..=0,
        Op::MatMul | Op::Binary(_) => 2..=2,
        Op::Concat { .. } => 1..=usize::MAX,
        _ => 1..=1,
    };
    ensure!(wanted.contains(&inputs.len()), "{} inputs wanted, {} given", wanted.start(), inputs.len());
    let Some(first) = inputs.first() else {
        return match op {
            Op::Constant(shape) => Ok((shape.clone(), Element::F32)),
            _ => Err("inputs are made by Graph::input".into()),
        };
    };
    let (x, element) = (first.shape.as_slice(), first.element);
    if takes_floats_only(op) {
        let other = inputs.iter().find(|input| input.element != Element::F32);
        ensure!(
            other.is_none(),
            "{op} takes f32, not {}: put a Dequantize before it",
            other.map_or(element, |o| o.element)
        );
    }
    let shape = match op {
        Op::Input | Op::Constant(_) => vec![],
        Op::Conv(conv) => convolution(x, conv)?,
        Op::Dense(dense) => match x {
            [n, _] if dense.features > 0 => vec![*n, dense.features],
            _ => return Err(format!("[N, C] and at least one feature wanted, {x:?} and {} given", dense.features)),
        },
        Op::MatMul => product(x, &inputs[1].shape)?,
        Op::BatchNorm { eps } => {
            ensure!(x.len() >= 2, "[N, C, ...] wanted, {x:?} given");
            positive(*eps)?;
            x.to_vec()
        }
        Op::LayerNorm { axis, eps } => {
            ensure!(*axis < x.len(), "there is no axis {axis} in {x:?}");
            positive(*eps)?;
            x.to_vec()
        }
        Op::Unary(function) => unary(*function, x, element)?,
        Op::Binary(_) => {
            let (b, other) = (&inputs[1].shape, inputs[1].element);
            ensure!(element == other, "its inputs are {element} and {other}");
            broadcast(x, b).ok_or_else(|| format!("shapes {x:?} and {b:?} do not broadcast"))?
        }
        Op::Softmax { axis } => {
            ensure!(*axis < x.len(), "there is no axis {axis} in {x:?}");
            x.to_vec()
        }
        Op::Pool(pool) => windows(x, pool, element)?,
        Op::Mean { axes, keep } => mean(x, axes, *keep)?,
        Op::Concat { axis } => concatenation(inputs, *axis)?,
        Op::Slice(slice) => part(x, slice)?,
        Op::Reshape(shape) => {
            ensure!(count(shape) == count(x), "{x:?} has not as many elements as {shape:?}");
            shape.clone()
        }
        Op::Transpose(order) => {
            let all = (0..x.len()).all(|axis| order.contains(&axis));
            ensure!(order.len() == x.len() && all, "{order:?} is no order of the axes of {x:?}");
            order.iter().map(|&axis| x[axis]).collect()
        }
        Op::Pad(pad) => padded(x, pad)?,
        Op::Resize(resize) => resized(x, resize)?,
        Op::Quantize(quantization) => {
            check_quantization(quantization, x)?;
            return Ok((x.to_vec(), quantization.element));
        }
        Op::Dequantize(quantization) => {
            ensure!(element == quantization.element, "it takes {}, {element} given", quantization.element);
            check_quantization(quantization, x)?;
            return Ok((x.to_vec(), Element::F32));
        }
    };
    Ok((shape, element))
}

fn takes_floats_only(op: &Op) -> bool {
    match op {
        Op::Conv(_) | Op::Dense(_) | Op::MatMul | Op::BatchNorm { .. } | Op::LayerNorm { .. } => true,
        Op::Softmax { .. } | Op::Mean { .. } | Op::Resize(_) | Op::Quantize(_) => true,
        Op::Unary(function) => !matches!(function, Unary::Relu | Unary::Clip { .. }),
        Op::Pool(pool) => pool.function != super::op::PoolFunction::Max,
        Op::Binary(Binary::Add | Binary::Sub | Binary::Mul) => false,
        Op::Input | Op::Constant(_) | Op::Concat { .. } | Op::Slice(_) => false,
        Op::Reshape(_) | Op::Transpose(_) | Op::Pad(_) | Op::Dequantize(_) => false,
    }
}

/// Elements of a shape, if they are not too many.
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    let all = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    all.filter(|&all| all <= MAX_ELEMENTS && shape.len() <= MAX_RANK)
}

/// Refuses what has no elements, too many, or too many axes.
pub(super) fn check_size(shape: &[usize]) -> Outcome<()> {
    let fits = count(shape).is_some_and(|all| all > 0);
    ensure!(fits, "shape {shape:?} is empty or too large: at most {MAX_ELEMENTS} elements and {MAX_RANK} axes");
    Ok(())
}

fn positive(eps: f32) -> Outcome<()> {
    ensure!(eps.is_finite() && eps >= 0.0, "eps {eps} is out of range");
    Ok(())
}

/// How many windows fit into an axis of `extent`. None if a setting is out of range or no window fits.
fn positions(
    extent: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: (usize, usize),
    ceil: bool,
) -> Option<usize> {
    let sound = [kernel, stride, dilation].iter().all(|n| (1..=MAX_EXTENT).contains(n));
    if !sound || pad.0 > MAX_EXTENT || pad.1 > MAX_EXTENT {
        return None;
    }
    let padded = extent.checked_add(pad.0)?.checked_add(pad.1)?;
    let rest = padded.checked_sub(dilation * (kernel - 1) + 1)?;
    let windows = rest / stride + 1;
    // One more that reaches beyond the end, unless it would begin in the padding after the axis.
    let more = ceil && !rest.is_multiple_of(stride) && windows * stride < extent + pad.0;
    Some(windows + usize::from(more))
}

fn convolution(x: &[usize], conv: &Conv) -> Outcome<Vec<usize>> {
    let rank = x.len().saturating_sub(2);
    let given = [conv.kernel.len(), conv.stride.len(), conv.pad.len(), conv.dilation.len()];
    ensure!((1..=3).contains(&rank) && given == [rank; 4], "{conv:?} does not fit {x:?}");
    let grouped = conv.groups > 0 && x[1].is_multiple_of(conv.groups) && conv.channels.is_multiple_of(conv.groups);
    ensure!(
        grouped && conv.channels > 0,
        "{} groups do not divide {} and {} channels",
        conv.groups,
        x[1],
        conv.channels
    );
    let mut shape = vec![x[0], conv.channels];
    for axis in 0..rank {
        let (k, s, d) = (conv.kernel[axis], conv.stride[axis], conv.dilation[axis]);
        let extent = positions(x[axis + 2], k, s, d, conv.pad[axis], false);
        shape.push(extent.ok_or_else(|| format!("{conv:?} does not fit {x:?}"))?);
    }
    Ok(shape)
}

fn windows(x: &[usize], pool: &Pool, element: Element) -> Outcome<Vec<usize>> {
    let rank = x.len().saturating_sub(2);
    let given = [pool.kernel.len(), pool.stride.len(), pool.pad.len(), pool.dilation.len()];
    ensure!((1..=3).contains(&rank) && given == [rank; 4], "{pool:?} does not fit {x:?}");
    let mut shape = x[..2].to_vec();
    for axis in 0..rank {
        let (k, s, d, pad) = (pool.kernel[axis], pool.stride[axis], pool.dilation[axis], pool.pad[axis]);
        let extent = positions(x[axis + 2], k, s, d, pad, pool.ceil);
        let extent = extent.filter(|&windows| meets(x[axis + 2], k, s, d, pad.0, windows));
        let extent = extent.ok_or_else(|| format!("{pool:?} does not fit {x:?} of {element}"))?;
        shape.push(extent);
    }
    Ok(shape)
}

/// Whether every window has an element of the axis: one in the padding alone has no largest element and no mean.
fn meets(extent: usize, kernel: usize, stride: usize, dilation: usize, before: usize, windows: usize) -> bool {
    let begins_inside = (windows - 1) * stride < extent + before;
    let mut in_padding = (0..windows.min(before.div_ceil(stride))).map(|window| before - window * stride);
    begins_inside
        && in_padding.all(|left| {
            let first = left.div_ceil(dilation);
            first < kernel && first * dilation - left < extent
        })
}

fn product(a: &[usize], b: &[usize]) -> Outcome<Vec<usize>> {
    let why = || format!("[..., M, K] and [..., K, N] wanted, {a:?} and {b:?} given");
    let ([batch_a @ .., m, k], [batch_b @ .., l, n]) = (a, b) else { return Err(why()) };
    ensure!(k == l, "{}", why());
    let mut shape = broadcast(batch_a, batch_b).ok_or_else(why)?;
    shape.extend([m, n]);
    Ok(shape)
}

/// The common shape of two values after numpy's rule: axes are matched from the last one on, an extent of one is repeated.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    (0..rank)
        .map(|axis| match (extent(a, axis), extent(b, axis)) {
            (a, b) if a == b => Some(a),
            (1, b) => Some(b),
            (a, 1) => Some(a),
            _ => None,
        })
        .collect()
}

fn unary(function: Unary, x: &[usize], element: Element) -> Outcome<Vec<usize>> {
    let (low, high) = element.range();
    let sound = match function {
        // Of bytes, bounds are those that a byte can have.
        Unary::Clip { min, max } if element != Element::F32 => {
            [min, max].iter().all(|b| b.is_infinite() || (b.fract() == 0.0 && (low as f32..=high as f32).contains(b)))
        }
        Unary::Clip { min, max } => !min.is_nan() && !max.is_nan(),
        Unary::HardSigmoid { alpha, beta } => alpha.is_finite() && beta.is_finite(),
        Unary::Relu | Unary::Sigmoid | Unary::Tanh => true,
    };
    ensure!(sound, "{function:?} of {element} is out of range");
    Ok(x.to_vec())
}

fn mean(x: &[usize], axes: &[usize], keep: bool) -> Outcome<Vec<usize>> {
    let sound = !axes.is_empty() && axes.is_sorted_by(|a, b| a < b) && axes.iter().all(|&axis| axis < x.len());
    ensure!(sound, "{axes:?} are no axes of {x:?} in ascending order");
    let one = |(axis, &n): (usize, &usize)| if axes.contains(&axis) { keep.then_some(1) } else { Some(n) };
    Ok(x.iter().enumerate().filter_map(one).collect())
}

fn concatenation(inputs: &[&Node], axis: usize) -> Outcome<Vec<usize>> {
    let (mut shape, element) = (inputs[0].shape.clone(), inputs[0].element);
    ensure!(axis < shape.len(), "there is no axis {axis} in {shape:?}");
    for input in &inputs[1..] {
        let other = &input.shape;
        let fits = other.len() == shape.len() && (0..shape.len()).all(|i| i == axis || other[i] == shape[i]);
        ensure!(fits, "{shape:?} and {other:?} differ in another axis than {axis}");
        ensure!(input.element == element, "its inputs are {element} and {}", input.element);
        shape[axis] = shape[axis].checked_add(other[axis]).ok_or("the extents' sum is too large")?;
    }
    Ok(shape)
}

fn part(x: &[usize], slice: &Slice) -> Outcome<Vec<usize>> {
    let Slice { axis, start, length, step } = *slice;
    let last = length.checked_sub(1).and_then(|n| n.checked_mul(step)).and_then(|n| n.checked_add(start));
    let fits = step > 0 && axis < x.len() && last.is_some_and(|last| last < x[axis]);
    ensure!(fits, "{slice:?} is no part of {x:?}");
    let mut shape = x.to_vec();
    shape[axis] = length;
    Ok(shape)
}

fn padded(x: &[usize], pad: &Pad) -> Outcome<Vec<usize>> {
    let sound = pad.pad.len() == x.len() && pad.pad.iter().all(|p| p.0 <= MAX_EXTENT && p.1 <= MAX_EXTENT);
    ensure!(sound && !pad.value.is_nan(), "{pad:?} does not fit {x:?}");
    Ok(x.iter().zip(&pad.pad).map(|(n, p)| n + p.0 + p.1).collect())
}

fn resized(x: &[usize], resize: &Resize) -> Outcome<Vec<usize>> {
    let Resize { size, scale, .. } = resize;
    let sound = size.len() == x.len() && scale.len() == x.len() && scale.iter().all(|s| s.is_finite() && *s > 0.0);
    ensure!(sound, "{resize:?} does not fit {x:?}");
    Ok(size.clone())
}

fn check_quantization(quantization: &Quantization, x: &[usize]) -> Outcome<()> {
    let Quantization { element, scale, zero_point, axis } = quantization;
    ensure!(*element != Element::F32, "a quantised type wanted, f32 given");
    let (low, high) = element.range();
    let whole = scale.len() == 1 && *axis == 0;
    let wanted = if whole { Some(1) } else { x.get(*axis).copied() };
    ensure!(
        wanted == Some(scale.len()) && scale.len() == zero_point.len(),
        "one scale and zero point, or as many as axis {axis} of {x:?} has elements wanted, {} and {} given",
        scale.len(),
        zero_point.len()
    );
    let bad = scale.iter().find(|s| !s.is_normal() || **s < 0.0);
    ensure!(bad.is_none(), "scale {} is not positive", bad.copied().unwrap_or_default());
    let bad = zero_point.iter().find(|z| !(low..=high).contains(*z));
    ensure!(bad.is_none(), "zero point {} is no {element}", bad.copied().unwrap_or_default());
    Ok(())
}
