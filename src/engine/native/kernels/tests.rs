//! Every kernel against the definition, over odd sizes, borders, tails and extreme values.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use super::super::aligned::{Aligned, Plain};
use super::super::frames::{Border, Frames, Layout};
use super::super::pool::Pool;
use super::conv::Tabled;
use super::*;
use crate::error::Result;

/// A random convolution, and frames of different borders.
fn geometry(random: &mut fastrand::Rng) -> Geometry {
    let size = |random: &mut fastrand::Rng| if random.bool() { 1 } else { random.usize(2..=4) };
    let kernel = [size(random), size(random), if random.u8(..8) == 0 { 7 } else { size(random) }];
    let stride = std::array::from_fn(|_| if random.u8(..3) == 0 { random.usize(2..=3) } else { 1 });
    let dilation = std::array::from_fn(|_| if random.u8(..5) == 0 { 2 } else { 1 });
    let pad: [(usize, usize); 3] = std::array::from_fn(|axis| (random.usize(..=kernel[axis] / 2), random.usize(..3)));
    let extent = |axis: usize| dilation[axis] * (kernel[axis] - 1) + 1;
    let channels = |random: &mut fastrand::Rng| match random.u8(..4) {
        0 => random.usize(1..=5),
        1 => 16 * random.usize(1..=3),
        _ => random.usize(1..=70),
    };
    let side = |axis: usize, random: &mut fastrand::Rng| {
        let least = extent(axis).saturating_sub(pad[axis].0 + pad[axis].1).max(1);
        least + if random.u8(..6) == 0 { random.usize(20..=40) } else { random.usize(..12) }
    };
    let (height, width) = (side(1, random), side(2, random));
    let more = |random: &mut fastrand::Rng| random.usize(..2);
    let border = Border {
        top: pad[1].0 + more(random),
        bottom: pad[1].1 + more(random),
        left: pad[2].0 + more(random),
        right: pad[2].1 + more(random),
    };
    let input = Layout { channels: channels(random), height, width, border };
    let out = |axis: usize, size: usize| (size + pad[axis].0 + pad[axis].1 - extent(axis)) / stride[axis] + 1;
    let border = Border { top: more(random), bottom: more(random), left: more(random), right: more(random) };
    let output = Layout { channels: channels(random), height: out(1, height), width: out(2, width), border };
    Geometry { extents: Extents { kernel, stride, dilation, pad }, input, output }
}

/// The frames of a value without their border.
fn interior<T: Plain>(frames: &Frames<T>, t: usize) -> Vec<T> {
    frames.rows(t).flatten().copied().collect()
}

fn filled<T: Plain>(layout: Layout, slots: usize, padding: T, mut value: impl FnMut() -> T) -> Frames<T> {
    let mut frames = Frames::new(layout, slots, padding);
    for t in 0..slots {
        frames.rows_mut(t).flatten().for_each(|element| *element = value());
    }
    frames
}

/// Frames that a convolution makes of so many, if there are enough.
fn taken(frames: usize, extents: &Extents) -> Option<usize> {
    let (before, after) = extents.pad[0];
    (frames + before + after).checked_sub(extents.frames()).map(|room| room / extents.stride[0] + 1)
}

/// One convolution of `count` frames with every kernel, compared with the definition by `same`.
fn check<A: Tabled>(
    geometry: &Geometry,
    (weights, begin): (&[A::Weight], &[A::Sum]),
    finish: impl Fn() -> A::Finish,
    (input, padding): (&Frames<A::Element>, A::Element),
    residual: Option<&Frames<A::Element>>,
    same: impl Fn(A::Element, A::Element) -> bool,
) -> Result<()> {
    let count = input.slots();
    let Some(wanted) = taken(count, &geometry.extents) else { return Ok(()) };
    let planes: Vec<_> = (0..count).map(|t| interior(input, t)).collect();
    for kernels in Kernels::available() {
        let conv = Conv::<A>::new(kernels, *geometry, weights, begin, finish())?;
        for threads in [1, 3] {
            let mut output = Frames::new(geometry.output, wanted, padding);
            let untouched = output.clone();
            conv.run(&Pool::new(threads).unwrap(), (input, count), residual, &mut output, 0..wanted);
            for t in 0..wanted {
                let inputs: Vec<_> = (0..geometry.extents.kernel[0])
                    .map(|n| {
                        (t * geometry.extents.stride[0] + n * geometry.extents.dilation[0])
                            .checked_sub(geometry.extents.pad[0].0)
                    })
                    .map(|t| t.and_then(|t| planes.get(t)).map(Vec::as_slice))
                    .collect();
                let other = residual.map(|frames| interior(frames, t));
                let parts = (weights, begin, &finish());
                let right = reference::frame::<A>(geometry, parts, &inputs, other.as_deref(), padding);
                for (n, (a, b)) in interior(&output, t).into_iter().zip(right).enumerate() {
                    assert!(same(a, b), "{kernels}, {threads} threads, frame {t}, element {n}: {a:?}, right {b:?}");
                }
            }
            // What lies around the frames is as it was.
            for t in 0..wanted {
                let inside: Vec<_> = interior(&untouched, t);
                output.rows_mut(t).flatten().zip(inside).for_each(|(a, b)| *a = b);
            }
            assert!(output.data() == untouched.data(), "{kernels}, {threads} threads: wrote beside a frame");
        }
    }
    Ok(())
}

/// Runs `test` with many seeds; one that fails is printed. `KINORA_TEST_SEED=N` runs that one only.
fn seeds(name: &str, count: u64, test: impl Fn(&mut fastrand::Rng)) {
    let given = std::env::var("KINORA_TEST_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    for seed in given.map_or(0..count, |seed| seed..seed + 1) {
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&mut fastrand::Rng::with_seed(seed))));
        if let Err(panic) = outcome {
            eprintln!("{name}: fails with KINORA_TEST_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn span(random: &mut fastrand::Rng) -> Span {
    let zero = [0, 128, 255, random.i32(0..=255)][random.usize(..4)];
    let low = if random.bool() { 0.0 } else { -zero as f32 };
    Span { low, high: (255 - zero) as f32, zero }
}

#[test]
fn integers_are_those_of_the_definition() {
    seeds("int8", 150, |random| {
        let geometry = geometry(random);
        let frames = random.usize(1..=4);
        // Now and then all values are extreme.
        let extreme = random.u8(..4) == 0;
        let padding = random.u8(..);
        let mut byte = random.fork();
        let input = filled(geometry.input, frames, padding, || match extreme {
            true => [0, 255][byte.usize(..2)],
            false => byte.u8(..),
        });
        let per_output = geometry.extents.kernel.iter().product::<usize>() * geometry.input.channels;
        let weight = |random: &mut fastrand::Rng| match extreme {
            true => [-128, 127][random.usize(..2)],
            false => random.i8(..),
        };
        let weights: Vec<_> = (0..per_output * geometry.output.channels).map(|_| weight(random)).collect();
        let begin: Vec<_> = (0..geometry.output.channels).map(|_| random.i32(-100_000..=100_000)).collect();
        // From sums that vanish to sums that all saturate.
        let around = 2.0_f32.powi(random.i32(-14..=2));
        let scale: Vec<_> = begin.iter().map(|_| around * (0.5 + random.f32())).collect();
        let (own, adds) = (span(random), random.bool());
        let slots = (frames + 8) * 3;
        let layout = Layout { border: Border { left: 2, ..Border::default() }, ..geometry.output };
        let other = filled(layout, slots, 0, || byte.u8(..));
        let add = Residual {
            own: 2.0 * random.f32(),
            other: 2.0 * random.f32(),
            other_zero: random.i32(0..=255),
            span: span(random),
        };
        let finish = || Rescale { scale: Aligned::from(&scale[..]), span: own, residual: adds.then_some(add) };
        let residual = adds.then_some(&other);
        check::<Int8>(&geometry, (&weights, &begin), finish, (&input, padding), residual, |a, b| a == b).unwrap();
    });
}

/// A random convolution of `geometry` and one over time behind it, at once and one after the other, with every kernel.
#[test]
fn pairs_are_two_convolutions() {
    seeds("pair", 60, |random| {
        let first = geometry(random);
        let between = Layout { border: Border::default(), ..first.output };
        let first = Geometry { output: between, ..first };
        let size = random.usize(1..=3);
        let extents = Extents {
            kernel: [size, 1, 1],
            stride: [random.usize(1..=3), 1, 1],
            dilation: [random.usize(1..=2), 1, 1],
            pad: [(random.usize(..=size), random.usize(..=size)), (0, 0), (0, 0)],
        };
        let output = Layout { channels: random.usize(1..=40), ..between };
        let second = Geometry { extents, input: between, output };
        let count = random.usize(1..=8);
        let Some(middle) = taken(count, &first.extents) else { return };
        let Some(frames) = taken(middle, &second.extents) else { return };
        let mut byte = random.fork();
        let input = filled(first.input, count, 7, || byte.u8(..));
        let other = filled(output, frames, 0, || byte.u8(..));
        let adds = random.bool();
        let add = Residual { own: 0.7, other: random.f32(), other_zero: 3, span: span(random) };
        let rows = random.usize(1..=between.height);
        let padding = random.u8(..);
        let spans = [span(random), span(random)];
        for kernels in Kernels::available() {
            let mut same = random.clone();
            let mut conv = |geometry: &Geometry, span: Span, residual: Option<Residual>| {
                let per_output = geometry.extents.kernel.iter().product::<usize>() * geometry.input.channels;
                let weights: Vec<_> = (0..per_output * geometry.output.channels).map(|_| same.i8(..)).collect();
                let begin: Vec<_> = (0..geometry.output.channels).map(|_| same.i32(-9000..=9000)).collect();
                let scale = Aligned::from(&vec![0.5 / per_output as f32; begin.len()][..]);
                Conv::<Int8>::new(kernels, *geometry, &weights, &begin, Rescale { scale, span, residual }).unwrap()
            };
            let (one, two) = (conv(&first, spans[0], None), conv(&second, spans[1], adds.then_some(add)));
            let residual = adds.then_some(&other);
            let pool = Pool::new(1).unwrap();
            let mut value = Frames::new(between, middle, padding);
            let mut right = Frames::new(output, frames, 0);
            one.run(&pool, (&input, count), None, &mut value, 0..middle);
            two.run(&pool, (&value, middle), residual, &mut right, 0..frames);
            let pair = Pair::of_rows(one, two, rows);
            for threads in [1, 3] {
                let (layout, slots) = pair.between();
                let between: Vec<_> = (0..threads).map(|_| Mutex::new(Frames::new(layout, slots, padding))).collect();
                let mut output = Frames::new(output, frames, 0);
                let pool = Pool::new(threads).unwrap();
                pair.run(&pool, (&input, count), (&between, middle), residual, (&mut output, frames));
                for t in 0..frames {
                    assert!(interior(&output, t) == interior(&right, t), "{kernels}, {threads} threads, frame {t}");
                }
            }
        }
    });
}

#[test]
fn floats_are_near_the_definition() {
    seeds("f32", 100, |random| {
        let geometry = geometry(random);
        let mut value = random.fork();
        let mut draw = move || 2.0 * value.f32() - 1.0;
        let input = filled(geometry.input, random.usize(1..=4), 0.0, &mut draw);
        let per_output = geometry.extents.kernel.iter().product::<usize>() * geometry.input.channels;
        let weights: Vec<_> = (0..per_output * geometry.output.channels).map(|_| draw()).collect();
        let begin: Vec<_> = (0..geometry.output.channels).map(|_| draw()).collect();
        let span = if random.bool() { (0.0, f32::INFINITY) } else { (f32::NEG_INFINITY, f32::INFINITY) };
        let other = filled(geometry.output, 64, 0.0, &mut draw);
        let residual = random.bool().then_some(&other);
        let bound = 1e-6 * per_output as f32 + 1e-6;
        check::<Float>(&geometry, (&weights, &begin), || span, (&input, 0.0), residual, |a, b| (a - b).abs() <= bound)
            .unwrap();
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    let layout = Layout { channels: 3, height: 4, width: 4, border: Border::default() };
    let extents = Extents { kernel: [1; 3], stride: [1; 3], dilation: [1; 3], pad: [(0, 0); 3] };
    let geometry = Geometry { extents, input: layout, output: layout };
    let with = |extents| Geometry { extents, ..geometry };
    let new = |geometry, weights| Conv::<Float>::new(Kernels::Reference, geometry, weights, &[0.0; 3], (0.0, 1.0));
    assert!(new(geometry, &[0.0; 9]).is_ok());
    assert!(new(geometry, &[0.0; 8]).is_err());
    assert!(new(with(Extents { pad: [(0, 0), (1, 1), (1, 1)], ..extents }), &[0.0; 9]).is_err(), "no border");
    assert!(new(with(Extents { kernel: [9, 9, 1], ..extents }), &[0.0; 9 * 81]).is_err(), "too many rows");
}
