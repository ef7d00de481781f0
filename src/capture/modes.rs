//! Which format, size and rate a camera is asked for: pure choice from what it offers, so that it can be tested without
//! one.

use super::pixels::Coding;

/// What is taken where nothing is asked for.
pub(super) const SIZE: (u32, u32) = (640, 480);
/// What is taken where nothing is asked for.
pub(super) const RATE: f32 = 30.0;

/// Sizes that a camera offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizes {
    /// One.
    Exact(u32, u32),
    /// From, to and in steps of (width, height).
    Range((u32, u32), (u32, u32), (u32, u32)),
    /// It does not say.
    Unknown,
}

/// Seconds from one picture to the next, as a fraction.
pub(super) type Interval = (u32, u32);

/// A format that a camera offers, at a size or a range of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mode {
    /// The format.
    pub(super) coding: Coding,
    /// What the system calls it: some drivers have more than one name for a format.
    pub(super) fourcc: [u8; 4],
    /// The sizes.
    pub(super) sizes: Sizes,
    /// The times from picture to picture at this size, shortest first; empty if it does not say.
    pub(super) intervals: Vec<Interval>,
}

/// What is wanted of a camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wanted {
    /// Width and height.
    pub(super) size: (u32, u32),
    /// Pictures a second.
    pub(super) rate: f32,
    /// A certain format.
    pub(super) coding: Option<Coding>,
}

/// What a camera is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    /// The format.
    pub(super) coding: Coding,
    /// What the system calls it.
    pub(super) fourcc: [u8; 4],
    /// Width and height.
    pub(super) size: (u32, u32),
    /// Time from picture to picture.
    pub(super) interval: Interval,
}

/// Pictures a second of an interval.
pub(super) fn rate((numerator, denominator): Interval) -> f32 {
    denominator as f32 / numerator.max(1) as f32
}

/// Chooses: the size that is wanted or else the next larger one, then the wanted rate, then the format that is cheapest
/// to convert. So YUYV is taken as long as the cable carries it at that size and rate, else JPEG. `None` if there is no
/// format that we know (or not the one that is asked for).
pub(super) fn choose(modes: &[Mode], wanted: &Wanted) -> Option<Choice> {
    let order = |coding| Coding::OF_CAMERAS.iter().position(|known| *known == coding);
    let candidates = modes.iter().filter(|mode| wanted.coding.is_none_or(|coding| coding == mode.coding));
    let ranked = candidates.map(|mode| {
        let size = mode.sizes.nearest(wanted.size);
        let interval = nearest_interval(&mode.intervals, wanted.rate);
        // A hundredth is how far 29.97 is from 30, and further.
        let short = (1.0 - rate(interval) / wanted.rate).max(0.01);
        let too_small = size.0 < wanted.size.0 || size.1 < wanted.size.1;
        let off = u64::from(size.0) * u64::from(size.1);
        let wanted_area = u64::from(wanted.size.0) * u64::from(wanted.size.1);
        let key = (too_small, off.abs_diff(wanted_area), (short * 1000.0) as u32, order(mode.coding));
        (key, Choice { coding: mode.coding, fourcc: mode.fourcc, size, interval })
    });
    ranked.min_by_key(|(key, _)| *key).map(|(_, choice)| choice)
}

/// The longest interval that reaches `wanted` pictures a second, or the shortest there is.
fn nearest_interval(intervals: &[Interval], wanted: f32) -> Interval {
    let reaching = intervals.iter().rev().find(|interval| rate(**interval) >= wanted * 0.99);
    reaching.or(intervals.first()).copied().unwrap_or((1000, (wanted * 1000.0).round() as u32))
}

impl Sizes {
    pub(super) fn nearest(self, (width, height): (u32, u32)) -> (u32, u32) {
        match self {
            Self::Exact(width, height) => (width, height),
            Self::Unknown => (width, height),
            Self::Range(from, to, step) => {
                let fit = |wanted: u32, from: u32, to: u32, step: u32| {
                    let steps = wanted.clamp(from, to.max(from)) - from;
                    from + steps / step.max(1) * step.max(1)
                };
                (fit(width, from.0, to.0, step.0), fit(height, from.1, to.1, step.1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mode(coding: Coding, width: u32, height: u32, rates: &[u32]) -> Mode {
        let intervals = rates.iter().map(|rate| (1, *rate)).collect();
        Mode { coding, fourcc: coding.fourcc(), sizes: Sizes::Exact(width, height), intervals }
    }

    /// A webcam on USB 2: raw pictures at a low rate where they are large.
    fn webcam() -> Vec<Mode> {
        vec![
            mode(Coding::Mjpg, 1280, 720, &[30, 15]),
            mode(Coding::Mjpg, 640, 480, &[60, 30, 15]),
            mode(Coding::Grey, 640, 480, &[30]),
            mode(Coding::Yuyv, 640, 480, &[30, 15, 5]),
            mode(Coding::Yuyv, 1280, 720, &[10, 5]),
            mode(Coding::Yuyv, 160, 120, &[30]),
        ]
    }

    fn chosen(modes: &[Mode], size: (u32, u32), rate: f32) -> (Coding, (u32, u32), Interval) {
        let choice = choose(modes, &Wanted { size, rate, coding: None }).unwrap();
        (choice.coding, choice.size, choice.interval)
    }

    #[test]
    fn raw_pictures_where_they_reach_the_rate_else_jpeg() {
        let modes = webcam();
        assert_eq!(chosen(&modes, (640, 480), 30.0), (Coding::Yuyv, (640, 480), (1, 30)));
        assert_eq!(chosen(&modes, (1280, 720), 30.0), (Coding::Mjpg, (1280, 720), (1, 30)));
        assert_eq!(chosen(&modes, (1280, 720), 10.0), (Coding::Yuyv, (1280, 720), (1, 10)));
        assert_eq!(chosen(&modes, (640, 480), 60.0), (Coding::Mjpg, (640, 480), (1, 60)));
        assert_eq!(chosen(&modes, (640, 480), 12.0), (Coding::Yuyv, (640, 480), (1, 15)));
    }

    #[test]
    fn a_size_that_is_not_there_becomes_the_next_larger_one() {
        let modes = webcam();
        assert_eq!(chosen(&modes, (320, 240), 30.0).1, (640, 480));
        assert_eq!(chosen(&modes, (800, 600), 30.0).1, (1280, 720));
        assert_eq!(chosen(&modes, (1920, 1080), 30.0).1, (1280, 720), "the largest, if all are smaller");
    }

    #[test]
    fn a_format_can_be_asked_for_and_grey_is_the_last_resort() {
        let wanted = |coding| Wanted { size: (640, 480), rate: 30.0, coding };
        assert_eq!(choose(&webcam(), &wanted(Some(Coding::Grey))).unwrap().coding, Coding::Grey);
        assert_eq!(choose(&webcam(), &wanted(Some(Coding::Nv12))), None);
        assert_eq!(choose(&[], &wanted(None)), None);
        let grey = [mode(Coding::Grey, 640, 400, &[15])];
        assert_eq!(chosen(&grey, (640, 480), 30.0), (Coding::Grey, (640, 400), (1, 15)));
    }

    #[test]
    fn ranges_are_cut_to_their_steps_and_silence_means_what_is_wanted() {
        let range = Sizes::Range((48, 32), (1920, 1080), (16, 8));
        let of = |coding: Coding, sizes| [Mode { coding, fourcc: coding.fourcc(), sizes, intervals: vec![] }];
        let modes = of(Coding::Nv12, range);
        assert_eq!(chosen(&modes, (650, 485), 29.97), (Coding::Nv12, (640, 480), (1000, 29_970)));
        assert_eq!(chosen(&modes, (16, 9000), 25.0).1, (48, 1080));
        let modes = of(Coding::Yuyv, Sizes::Unknown);
        assert_eq!(chosen(&modes, (654, 321), 30.0).1, (654, 321));
        assert_eq!(Sizes::Range((8, 8), (4, 4), (0, 0)).nearest((6, 6)), (8, 8), "a driver's nonsense");
    }
}
