//! What a camera offers, in words and as modes to choose from.

use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::video::Capture;
use v4l::{Device, FourCC};

use super::ioctl;
use crate::capture::modes::{Interval, Mode, Sizes, rate};
use crate::capture::pixels::Coding;

/// All that `device` offers in formats that we know.
pub(super) fn offered(device: &Device, wanted: (u32, u32)) -> Vec<Mode> {
    let mut modes = Vec::new();
    for fourcc in ioctl::formats(device) {
        let Some(coding) = Coding::of_fourcc(fourcc) else { continue };
        let listed = device.enum_framesizes(FourCC::new(&fourcc)).unwrap_or_default();
        let mut sizes: Vec<Sizes> = listed.iter().map(of_offer).collect();
        if sizes.is_empty() {
            sizes.push(Sizes::Unknown);
        }
        for sizes in sizes {
            let intervals = intervals(device, FourCC::new(&fourcc), sizes.nearest(wanted));
            modes.push(Mode { coding, fourcc, sizes, intervals });
        }
    }
    modes
}

fn of_offer(offer: &v4l::framesize::FrameSize) -> Sizes {
    match &offer.size {
        FrameSizeEnum::Discrete(size) => Sizes::Exact(size.width, size.height),
        FrameSizeEnum::Stepwise(s) => {
            Sizes::Range((s.min_width, s.min_height), (s.max_width, s.max_height), (s.step_width, s.step_height))
        }
    }
}

fn intervals(device: &Device, fourcc: FourCC, (width, height): (u32, u32)) -> Vec<Interval> {
    let offers = device.enum_frameintervals(fourcc, width, height).unwrap_or_default();
    let mut intervals: Vec<Interval> = offers
        .iter()
        .flat_map(|offer| match &offer.interval {
            FrameIntervalEnum::Discrete(f) => vec![(f.numerator, f.denominator)],
            // Whole rates within the range stand for all of it.
            FrameIntervalEnum::Stepwise(s) => {
                let (fast, slow) =
                    (rate((s.min.numerator, s.min.denominator)), rate((s.max.numerator, s.max.denominator)));
                (1..=240_u32).filter(|n| (slow..=fast).contains(&(*n as f32))).map(|n| (1, n)).collect()
            }
        })
        .filter(|(numerator, denominator)| *numerator > 0 && *denominator > 0)
        .collect();
    intervals.sort_by(|a, b| rate(*b).total_cmp(&rate(*a)));
    intervals.dedup();
    intervals
}

/// A mode in words.
pub(super) fn describe(mode: &Mode) -> String {
    let size = match mode.sizes {
        Sizes::Exact(width, height) => format!("{width}x{height}"),
        Sizes::Range(from, to, step) => {
            format!("{}x{} to {}x{} by {}x{}", from.0, from.1, to.0, to.1, step.0, step.1)
        }
        Sizes::Unknown => "any size".to_string(),
    };
    let mut rates: Vec<_> = mode.intervals.iter().map(|interval| format!("{:.4}", rate(*interval))).collect();
    for rate in &mut rates {
        *rate = rate.trim_end_matches('0').trim_end_matches('.').to_string();
    }
    // A range of rates was written out one by one.
    match rates.as_slice() {
        [] => format!("{} {size}", mode.coding),
        [first, .., last] if rates.len() > 12 => format!("{} {size} at {last} to {first} Hz", mode.coding),
        rates => format!("{} {size} at {} Hz", mode.coding, rates.join(", ")),
    }
}
