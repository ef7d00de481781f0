//! Which values an activation takes, and which of them its 256 steps are to span.

use std::collections::BTreeMap;

use anyhow::Result;
use kinora::model::graph::{Element, Graph, Node, Op, PoolFunction, Quantization, Value};
use tch::Tensor;

use super::places;
use crate::interpreter::{Look, Net, Pass};

/// Bins of a histogram: fine enough that a hundredth of its span still has more of them than 8 bits have steps a quarter.
const BINS: usize = 8192;
/// Elements of one value and one batch that are counted at most.
const SAMPLE: i64 = 1 << 18;

/// How the span of an activation follows from what was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// All of it.
    MinMax,
    /// All but this share at each end.
    Percentile(f64),
    /// The part of it whose rounding and cutting off make the least mean squared error.
    Mse,
}

impl Method {
    /// All that are tried.
    pub const ALL: [Method; 4] = [Self::MinMax, Self::Percentile(99.9), Self::Percentile(99.99), Self::Mse];
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MinMax => f.write_str("min-max"),
            Self::Percentile(share) => write!(f, "percentile {share}"),
            Self::Mse => f.write_str("MSE"),
        }
    }
}

/// The quantisation of each value, by the name of its node.
pub type Ranges = BTreeMap<String, Quantization>;

/// The values an activation took.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    min: f64,
    max: f64,
    /// How many fell into each of [`BINS`] equal parts from `min` to `max`.
    counts: Vec<f64>,
}

/// What the values of `graph` that are to be quantised are over `batches`, by the name of their node.
///
/// # Errors
/// When the net fails or a value is not finite.
pub fn observe(net: &Net, batches: &[Tensor]) -> Result<BTreeMap<String, Histogram>> {
    let quantized = places(net.graph());
    let wanted = |node: &Node| quantized.contains(&node.name);
    let mut seen: BTreeMap<String, Histogram> = BTreeMap::new();
    pass(net, batches, &mut |node, x| {
        if wanted(node) {
            let (min, max) = (f64::try_from(x.f_min()?)?, f64::try_from(x.f_max()?)?);
            anyhow::ensure!((max - min).is_finite(), "node '{}': a value is not finite", node.name);
            let histogram = seen.entry(node.name.clone()).or_insert(Histogram { min, max, counts: vec![0.0; BINS] });
            (histogram.min, histogram.max) = (histogram.min.min(min), histogram.max.max(max));
        }
        Ok(())
    })?;
    pass(net, batches, &mut |node, x| {
        if let Some(histogram) = seen.get_mut(&node.name) {
            sample(x)?.into_iter().for_each(|value| histogram.count(value));
        }
        Ok(())
    })?;
    Ok(seen)
}

/// Gives values one quantisation whose elements only move from one to the other, or that are one value at different times: it
/// spans all of them.
pub fn share(graph: &Graph, ranges: &mut Ranges) {
    let moves = |node: &Node| match &node.op {
        Op::Pool(pool) => pool.function == PoolFunction::Max,
        Op::Concat { .. } | Op::Pad(_) => true,
        _ => false,
    };
    let moved = graph.values().filter(|(_, node)| moves(node));
    let mut pairs: Vec<(Value, Value)> =
        moved.flat_map(|(value, node)| node.inputs.iter().map(move |input| (*input, value))).collect();
    pairs.extend(graph.states());
    // Of each value the first one that it is alike.
    let mut first: Vec<usize> = (0..graph.nodes().len()).collect();
    for (a, b) in pairs {
        let (a, b) = (first[a.index()], first[b.index()]);
        first.iter_mut().filter(|group| **group == a.max(b)).for_each(|group| *group = a.min(b));
    }
    let mut spans: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    let group = |name: &str| graph.nodes().iter().position(|node| node.name == name).map(|index| first[index]);
    for (name, q) in ranges.iter() {
        let (zero, scale) = (f64::from(q.zero_point[0]), f64::from(q.scale[0]));
        if let Some(group) = group(name) {
            let span = spans.entry(group).or_insert((0.0, 0.0));
            *span = (span.0.min(-zero * scale), span.1.max((255.0 - zero) * scale));
        }
    }
    for (name, q) in ranges.iter_mut() {
        let Some(group) = group(name).filter(|group| first.iter().filter(|other| *other == group).count() > 1) else {
            continue;
        };
        *q = steps(spans[&group].0, spans[&group].1);
    }
}

fn pass(net: &Net, batches: &[Tensor], look: &mut Look<'_>) -> Result<()> {
    for clips in batches {
        let _ = tch::no_grad(|| net.forward_with(clips, Pass::Evaluate, look))?;
    }
    Ok(())
}

/// Elements of `x`, evenly spread, of all channels alike.
fn sample(x: &Tensor) -> Result<Vec<f32>> {
    let channels = x.size().get(1).copied().unwrap_or(1);
    let all = if x.dim() > 2 { x.f_movedim_int(1, -1)?.f_reshape([-1])? } else { x.f_reshape([-1])? };
    let mut step = (all.numel() as i64 + SAMPLE - 1) / SAMPLE;
    while step > 1 && common_divisor(step, channels) > 1 {
        step += 1;
    }
    Ok(Vec::try_from(all.f_slice(0, None, None, step.max(1))?.f_contiguous()?)?)
}

fn common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

impl Histogram {
    fn count(&mut self, value: f32) {
        let place = (f64::from(value) - self.min) / (self.max - self.min) * BINS as f64;
        // A number that is none, where the span is zero, becomes 0.
        self.counts[(place as usize).min(BINS - 1)] += 1.0;
    }

    /// The value in the middle of a bin.
    fn value(&self, bin: usize) -> f64 {
        self.min + (self.max - self.min) * (bin as f64 + 0.5) / BINS as f64
    }

    /// The quantisation, u8, whose steps span what `method` chooses, and zero, which stands for padding and must be exact.
    pub fn quantization(&self, method: Method) -> Quantization {
        let (min, max) = (self.min.min(0.0), self.max.max(0.0));
        match method {
            Method::MinMax => steps(min, max),
            Method::Percentile(share) => {
                let left_out = (1.0 - share / 100.0) * self.counts.iter().sum::<f64>();
                let low = self.beyond(0..BINS, left_out);
                let high = self.beyond((0..BINS).rev(), left_out);
                // Where next to nothing is left, as of a map that is nearly always zero, all is kept.
                if high.max(0.0) - low.min(0.0) < 1e-3 * (max - min) {
                    return steps(min, max);
                }
                steps(if self.min < 0.0 { low.min(0.0) } else { 0.0 }, high.max(0.0))
            }
            Method::Mse => {
                let candidates =
                    (10..=100).map(|part| steps(min * f64::from(part) / 100.0, max * f64::from(part) / 100.0));
                let errors = candidates.map(|candidate| (self.squared_error(&candidate), candidate));
                errors.min_by(|a, b| a.0.total_cmp(&b.0)).map_or_else(|| steps(min, max), |(_, best)| best)
            }
        }
    }

    /// The value of the first of `bins` with which more than `count` values are passed.
    fn beyond(&self, mut bins: impl Iterator<Item = usize>, count: f64) -> f64 {
        let mut sum = 0.0;
        let past = |bin: &usize| {
            sum += self.counts[*bin];
            sum > count
        };
        bins.find(past).map_or(0.0, |bin| self.value(bin))
    }

    /// The sum of the squared errors that `q` makes.
    fn squared_error(&self, q: &Quantization) -> f64 {
        let (scale, zero) = (f64::from(q.scale[0]), f64::from(q.zero_point[0]));
        let error = |(bin, count): (usize, &f64)| {
            let x = self.value(bin);
            let back = ((x / scale).round_ties_even().clamp(-zero, 255.0 - zero)) * scale;
            count * (x - back) * (x - back)
        };
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0.0).map(error).sum()
    }
}

/// 256 steps from `min` to `max`, `min <= 0 <= max`, such that zero is one of them.
fn steps(min: f64, max: f64) -> Quantization {
    // What is always zero has no span: any scale will do.
    let span = if max - min > 1e-30 { max - min } else { 1.0 };
    let scale = (span / 255.0) as f32;
    let zero_point = (-min / f64::from(scale)).round().clamp(0.0, 255.0) as i32;
    Quantization::per_tensor(Element::U8, scale, zero_point)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use tch::{Device, Kind};

    fn histogram(values: &[f32]) -> Histogram {
        let bound = |pick: fn(f32, f32) -> f32| f64::from(values.iter().copied().reduce(pick).unwrap());
        let mut histogram = Histogram { min: bound(f32::min), max: bound(f32::max), counts: vec![0.0; BINS] };
        values.iter().for_each(|value| histogram.count(*value));
        histogram
    }

    fn span(q: &Quantization) -> (f32, f32) {
        let zero = q.zero_point[0] as f32;
        (-zero * q.scale[0], (255.0 - zero) * q.scale[0])
    }

    #[test]
    fn zero_is_exact_and_the_span_is_kept() {
        for (values, wanted) in [
            (vec![0.0, 2.55], (0.0, 2.55)),
            (vec![1.0, 5.1], (0.0, 5.1)),
            (vec![-1.0, 1.55], (-1.0, 1.55)),
            (vec![-2.55, -1.0], (-2.55, 0.0)),
            (vec![0.0, 0.0], (0.0, 1.0)),
        ] {
            let (low, high) = span(&histogram(&values).quantization(Method::MinMax));
            assert!((low - wanted.0).abs() < 1e-5 && (high - wanted.1).abs() < 1e-5, "{values:?}: {low} {high}");
        }
    }

    #[test]
    fn outliers_are_left_out() {
        let mut values: Vec<f32> = (0..99_990).map(|n| n as f32 / 1e5).collect();
        values.extend([50.0; 10]);
        let histogram = histogram(&values);
        let high = |method| span(&histogram.quantization(method)).1;
        assert_eq!(high(Method::MinMax), 50.0);
        assert!((high(Method::Percentile(99.9)) - 1.0).abs() < 0.02, "{}", high(Method::Percentile(99.9)));
        assert_eq!(high(Method::Percentile(99.999)), 50.0 - 25.0 / BINS as f32, "the middle of the last bin");
        let (mse, all) = (histogram.quantization(Method::Mse), histogram.quantization(Method::MinMax));
        assert!(histogram.squared_error(&mse) <= histogram.squared_error(&all));
        // Nearly always zero: the few values that are not are all there is.
        let mut rare = vec![0.0; 99_999];
        rare.push(4.0);
        assert_eq!(span(&self::histogram(&rare).quantization(Method::Percentile(99.9))).1, 4.0);
    }

    #[test]
    fn samples_are_of_all_channels() {
        let channels =
            Tensor::arange(6, (Kind::Float, Device::Cpu)).reshape([1, 6, 1, 1]).expand([2, 6, 9, 70_000], false);
        let sample = sample(&channels).unwrap();
        assert!(sample.len() as i64 <= SAMPLE && sample.len() as i64 > SAMPLE / 4);
        for channel in 0..6 {
            let share = sample.iter().filter(|x| **x == channel as f32).count() as f64 / sample.len() as f64;
            assert!((share - 1.0 / 6.0).abs() < 1e-3, "{channel}: {share}");
        }
    }
}
