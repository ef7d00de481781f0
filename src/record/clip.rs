//! The pictures of one clip, as they will be written: at a constant rate, picked by the time at which they were taken.
//! Its memory is that of its pictures; it is kept for the next clip.

use std::time::Duration;

use crate::capture::SourceInfo;
use crate::frame::Frame;
use crate::model::manifest::Input;
use crate::{Error, ErrorKind, Result};

/// Longest clip in seconds.
const LONGEST: f64 = 60.0;
/// Most memory that the pictures of a clip may take, in bytes.
const MEMORY: u64 = 2 << 30;
/// How much longer than the model's window a clip is: training also shows it at 0.8 times its rate, and a window that
/// fits exactly would leave it no choice of where that begins.
const ROOM: f64 = 1.25;

/// How long clips for a model of this `input` are unless the user says otherwise, in seconds, a tenth being the least
/// step: as long as the pictures of a window and some room.
pub fn usual_seconds(input: &Input) -> f64 {
    let pictures = input.frames + usize::from(input.colour.needs_previous());
    (10.0 * ROOM * pictures as f64 / f64::from(input.frame_rate)).ceil() / 10.0
}

/// How many pictures of `source` a clip of `seconds` has.
///
/// # Errors
/// `Usage` when that is too long, too short to show a movement, or more than fits into memory.
pub fn pictures(seconds: f64, source: &SourceInfo) -> Result<usize> {
    let usage = |what: String| Err(Error::new(ErrorKind::Usage, format_args!("--seconds {seconds}: {what}")));
    if !(seconds > 0.0 && seconds <= LONGEST) {
        return usage(format!("clips are short: more than 0, {LONGEST} at most"));
    }
    let SourceInfo { name, width, height, frame_rate, .. } = source;
    let count = (seconds * f64::from(*frame_rate)).round();
    if count < 2.0 {
        return usage(format!("too short for two pictures of {name}, which has {frame_rate} a second"));
    }
    let bytes = u64::from(*width) * u64::from(*height) * 3 * count as u64;
    if bytes > MEMORY {
        let (gib, most) = (bytes as f64 / f64::from(1 << 30), MEMORY >> 30);
        let what = format!("{width}x{height} at {frame_rate} Hz take {gib:.1} GiB of memory, {most} at most");
        return usage(format!("{what}; choose a smaller --size or --frame-rate"));
    }
    Ok(count as usize)
}

/// A clip that fills up. Its picture k is the newest frame at or before (k + 1/2) / rate, counted from its first frame,
/// so frames that were lost are made up for by the one before them, and of frames too many the newest counts.
#[derive(Debug, Default)]
pub struct Clip {
    rate: f64,
    wanted: usize,
    /// Source time of its first frame.
    first: Duration,
    /// Pictures that it has so far; what is behind them in `frames` is of a clip before.
    filled: usize,
    frames: Vec<Frame>,
}

impl Clip {
    /// An empty clip of `wanted` pictures, `rate` a second.
    pub fn new(rate: f32, wanted: usize) -> Self {
        Self { rate: f64::from(rate), wanted, ..Self::default() }
    }

    /// Forgets the pictures.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Adds a frame; `true` when the clip is full.
    pub fn push(&mut self, frame: &Frame) -> bool {
        if self.filled == 0 {
            self.first = frame.timestamp;
        }
        let since = frame.timestamp.saturating_sub(self.first).as_secs_f64();
        let place = (since * self.rate).round() as usize;
        while self.filled < place.min(self.wanted) {
            self.add(None);
        }
        if place < self.filled {
            // Two frames for one picture.
            let last = self.filled - 1;
            if place < self.wanted {
                self.frames[last].copy_from(frame);
                self.frames[last].timestamp = self.time_of(last);
            }
        } else if place < self.wanted {
            self.add(Some(frame));
        }
        self.filled == self.wanted
    }

    /// Adds a picture of `frame`, or the last one again.
    fn add(&mut self, frame: Option<&Frame>) {
        if self.frames.len() == self.filled {
            self.frames.push(Frame::default());
        }
        let (before, after) = self.frames.split_at_mut(self.filled);
        if let (Some(picture), Some(next)) = (frame.or(before.last()), after.first_mut()) {
            next.copy_from(picture);
        }
        self.frames[self.filled].timestamp = self.time_of(self.filled);
        self.filled += 1;
    }

    fn time_of(&self, picture: usize) -> Duration {
        Duration::from_secs_f64(picture as f64 / self.rate)
    }

    /// The pictures so far; number k has the time k / rate.
    pub fn pictures(&self) -> &[Frame] {
        &self.frames[..self.filled]
    }

    /// Pictures a second.
    pub fn rate(&self) -> f32 {
        self.rate as f32
    }

    /// How long it is when it is full.
    pub fn length(&self) -> Duration {
        self.time_of(self.wanted)
    }

    /// How much of that is still to come.
    pub fn left(&self) -> Duration {
        self.length().saturating_sub(self.time_of(self.filled))
    }

    /// An empty clip of the same kind, in whose place this one can be handed over.
    pub fn another(&self) -> Self {
        Self { rate: self.rate, wanted: self.wanted, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::manifest::{Colour, Resize};

    fn source(width: u32, height: u32, frame_rate: f32) -> SourceInfo {
        SourceInfo { name: "camera".into(), width, height, frame_rate, live: true, stamped: true }
    }

    /// First byte of each picture of a clip at 10 Hz, of frames (time in ms, value), and after which frame it was full.
    fn clip(wanted: usize, frames: &[(u64, u8)]) -> (Vec<u8>, Option<usize>) {
        let mut clip = Clip::new(10.0, wanted);
        let full = frames.iter().position(|&(millis, value)| {
            let mut frame = Frame::new(2, 2);
            frame.data_mut().fill(value);
            frame.timestamp = Duration::from_millis(500 + millis);
            clip.push(&frame)
        });
        for (n, picture) in clip.pictures().iter().enumerate() {
            assert_eq!(picture.timestamp, Duration::from_millis(100 * n as u64));
        }
        (clip.pictures().iter().map(|picture| picture.data()[0]).collect(), full)
    }

    #[test]
    fn the_usual_length_has_room_for_a_window_at_any_rate_of_training() {
        let input = |frames, frame_rate, colour| Input {
            frames,
            height: 8,
            width: 8,
            colour,
            frame_rate,
            resize: Resize::Crop,
            mean: vec![],
            std: vec![],
        };
        assert_eq!(usual_seconds(&input(16, 8.0, Colour::Motion)), 2.7);
        assert_eq!(usual_seconds(&input(16, 8.0, Colour::Rgb)), 2.5);
        assert_eq!(usual_seconds(&input(4, 10.0, Colour::Motion)), 0.7);
        for (frames, rate) in [(16, 8.0), (8, 12.5), (10, 1.6667)] {
            let input = input(frames, rate, Colour::Flow);
            let span = frames as f64 / (0.8 * f64::from(rate));
            let last = (pictures(usual_seconds(&input), &source(640, 480, 30.0)).unwrap() - 1) as f64 / 30.0;
            assert!(last >= span, "{frames} at {rate}: {last} of {span} s");
        }
    }

    #[test]
    fn lengths_that_are_none_or_do_not_fit_are_refused() {
        let usual = source(640, 480, 30.0);
        assert_eq!([2.0, 60.0, 1.99].map(|seconds| pictures(seconds, &usual).ok()), [Some(60), Some(1800), Some(60)]);
        assert_eq!(pictures(2.0, &source(1920, 1080, 59.94)).ok(), Some(120));
        let refused = |seconds, source: &SourceInfo, why: &str| {
            let error = pictures(seconds, source).err();
            assert!(error.as_ref().is_some_and(|e| e.kind() == ErrorKind::Usage), "{seconds}");
            assert!(error.is_some_and(|e| e.to_string().contains(why)), "{seconds}: {why}");
        };
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 60.1] {
            refused(seconds, &usual, "60 at most");
        }
        refused(0.04, &usual, "two pictures");
        refused(2.0, &source(64, 64, 0.5), "two pictures");
        refused(60.0, &source(1920, 1080, 30.0), "10.4 GiB");
    }

    #[test]
    fn frames_at_the_rate_are_the_pictures() {
        assert_eq!(clip(3, &[(0, 1), (100, 2), (200, 3), (300, 4)]), (vec![1, 2, 3], Some(2)));
        assert_eq!(clip(3, &[(0, 1), (100, 2)]), (vec![1, 2], None));
    }

    #[test]
    fn jitter_neither_doubles_nor_skips() {
        assert_eq!(clip(4, &[(0, 1), (140, 2), (160, 3), (330, 4)]), (vec![1, 2, 3, 4], Some(3)));
    }

    #[test]
    fn lost_frames_are_made_up_for_and_too_many_are_left_out() {
        assert_eq!(clip(5, &[(0, 1), (300, 2), (400, 3)]), (vec![1, 1, 1, 2, 3], Some(2)));
        assert_eq!(clip(3, &[(0, 1), (30, 2), (60, 3), (110, 4), (200, 5)]), (vec![2, 4, 5], Some(4)));
        assert_eq!(clip(3, &[(0, 1), (9000, 2)]), (vec![1, 1, 1], Some(1)), "the late one is none of it");
    }

    #[test]
    fn what_is_left_and_memory_that_is_kept() {
        let mut clip = Clip::new(10.0, 3);
        let mut frame = Frame::new(2, 2);
        assert_eq!((clip.left(), clip.length()), (Duration::from_millis(300), Duration::from_millis(300)));
        for n in 0..3 {
            frame.timestamp = Duration::from_millis(100 * n);
            clip.push(&frame);
            assert_eq!(clip.left(), Duration::from_millis(200 - 100 * n));
        }
        let before = clip.pictures().as_ptr();
        clip.clear();
        assert!(clip.pictures().is_empty());
        clip.push(&frame);
        assert_eq!((clip.pictures().len(), clip.pictures().as_ptr()), (1, before));
    }
}
