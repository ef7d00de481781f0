//! From frames to planes: sampling and preprocessing, with what the window has to know about gaps.

use std::time::{Duration, Instant};

use crate::Result;
use crate::frame::Frame;
use crate::model::manifest::Input;
use crate::preprocess::{Preprocessor, Sample, Sampler};

/// A prepared plane on its way to the window.
#[derive(Debug, Clone)]
pub struct Plane {
    /// The values, `[C, H, W]`.
    pub data: Vec<f32>,
    /// Source time of its frame.
    pub timestamp: Duration,
    /// When its frame was captured.
    pub captured: Instant,
    /// Number of its frame.
    pub sequence: u64,
    /// How many moments before it had no frame: the frame before it counts so many times more.
    pub repeats: usize,
    /// Whether it is the first of a new window.
    pub restart: bool,
}

impl Plane {
    /// Takes the place of `lost` too, the plane just before this one, which nobody will see.
    pub fn stand_in_for(&mut self, lost: &Plane) {
        self.restart |= lost.restart;
        self.repeats = if self.restart { 0 } else { self.repeats + lost.repeats + 1 };
    }
}

/// Samples frames by time and prepares each sampled one once.
pub struct Intake {
    sampler: Sampler,
    preprocessor: Preprocessor,
    lost: usize,
    restart: bool,
}

impl Intake {
    /// An intake for a model's `input`.
    pub fn new(input: &Input) -> Self {
        Self {
            sampler: Sampler::new(input.frame_rate, input.frames),
            preprocessor: Preprocessor::new(input),
            lost: 0,
            restart: true,
        }
    }

    /// A buffer for one plane.
    pub fn plane(&self) -> Plane {
        Plane {
            data: vec![0.0; self.preprocessor.plane_len()],
            timestamp: Duration::ZERO,
            captured: Instant::now(),
            sequence: 0,
            repeats: 0,
            restart: false,
        }
    }

    /// Fills `plane` from `frame` if the model should see this frame; `false` if not.
    ///
    /// # Errors
    /// Those of [`Preprocessor::prepare`].
    pub fn offer(&mut self, frame: &Frame, plane: &mut Plane) -> Result<bool> {
        match self.sampler.offer(frame.timestamp) {
            Sample::Skip => return Ok(false),
            Sample::Take { repeats } => self.lost += repeats,
            Sample::Restart => self.begin(),
        }
        if !self.preprocessor.prepare(frame, &mut plane.data)? {
            return Ok(false);
        }
        plane.restart = self.restart;
        plane.repeats = if plane.restart { 0 } else { self.lost };
        (plane.timestamp, plane.captured, plane.sequence) = (frame.timestamp, frame.captured, frame.sequence);
        (self.restart, self.lost) = (false, 0);
        Ok(true)
    }

    /// Forgets the stream: the next frame begins a new window.
    pub fn reset(&mut self) {
        self.sampler.reset();
        self.begin();
    }

    fn begin(&mut self) {
        self.preprocessor.reset();
        (self.restart, self.lost) = (true, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest::{Colour, Resize};

    fn intake(colour: Colour) -> Intake {
        let channels = colour.channels();
        Intake::new(&Input {
            frames: 8,
            height: 8,
            width: 8,
            colour,
            frame_rate: 10.0,
            resize: Resize::Crop,
            mean: vec![0.0; channels],
            std: vec![1.0; channels],
        })
    }

    fn frame(t: f64) -> Frame {
        let mut frame = Frame::new(16, 12);
        frame.timestamp = Duration::from_secs_f64(t);
        frame
    }

    /// `(time, repeats, restart)` of the planes of frames at `times`.
    fn planes(intake: &mut Intake, times: &[f64]) -> Result<Vec<(f64, usize, bool)>> {
        let mut plane = intake.plane();
        let mut list = Vec::new();
        for &t in times {
            if intake.offer(&frame(t), &mut plane)? {
                list.push((plane.timestamp.as_secs_f64(), plane.repeats, plane.restart));
            }
        }
        Ok(list)
    }

    #[test]
    fn gaps_are_passed_on() -> Result<()> {
        let got = planes(&mut intake(Colour::Rgb), &[0.0, 0.1, 0.4, 0.5, 5.0, 5.1])?;
        let want = [(0.0, 0, true), (0.1, 0, false), (0.4, 2, false), (0.5, 0, false), (5.0, 0, true), (5.1, 0, false)];
        assert_eq!(got, want);
        Ok(())
    }

    #[test]
    fn a_lost_plane_is_a_gap_before_the_next() {
        let plain = intake(Colour::Rgb).plane();
        let mut next = Plane { repeats: 2, ..plain.clone() };
        next.stand_in_for(&Plane { repeats: 1, ..plain.clone() });
        assert_eq!((next.repeats, next.restart), (4, false));
        next.stand_in_for(&Plane { restart: true, ..plain });
        assert_eq!((next.repeats, next.restart), (0, true), "a new window begins with what is left of it");
    }

    #[test]
    fn motion_begins_with_the_second_frame() -> Result<()> {
        let got = planes(&mut intake(Colour::Motion), &[0.0, 0.1, 0.2, 9.0, 9.1])?;
        assert_eq!(got, [(0.1, 0, true), (0.2, 0, false), (9.1, 0, true)]);
        Ok(())
    }
}
