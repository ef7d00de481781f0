//! One answer for a whole video: its windows' probabilities averaged. `kinora classify` and the trainer's `evaluate` use
//! this same code, so that they agree.

use ndarray::ArrayView5;

use super::Runner;
use super::intake::{Intake, Plane};
use crate::capture::{Captured, Source};
use crate::frame::Frame;
use crate::model::Manifest;
use crate::model::manifest::{Activation, Input};
use crate::window::Window;
use crate::{Error, ErrorKind, Result};

/// The answer for one video.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Windows that were averaged.
    pub clips: usize,
    /// Mean probability of each label, `[K]`.
    pub probabilities: Vec<f32>,
    /// Mean logit of each label, `[K]`.
    pub logits: Vec<f32>,
}

impl Answer {
    /// The `k` most probable of `labels` (indices; none: all), most probable first, with their probabilities. For
    /// softmax models these are shares among the named labels: they add up to one over all of them.
    pub fn top(&self, k: usize, labels: Option<&[usize]>, activation: Activation) -> Vec<(usize, f32)> {
        let mut list: Vec<(usize, f32)> = match labels {
            Some(labels) => labels.iter().map(|&l| (l, self.probabilities[l])).collect(),
            None => self.probabilities.iter().copied().enumerate().collect(),
        };
        if activation == Activation::Softmax {
            let sum = list.iter().map(|(_, p)| p).sum::<f32>().max(f32::MIN_POSITIVE);
            list.iter_mut().for_each(|(_, p)| *p /= sum);
        }
        list.sort_by(|a, b| b.1.total_cmp(&a.1));
        list.truncate(k);
        list
    }
}

/// Shows each plane of `source` to `visit`, from the first to the last.
///
/// # Errors
/// Those of the source and of `visit`; `Source` when there are too few frames for a single plane.
fn each_plane(
    source: &mut dyn Source,
    intake: &mut Intake,
    plane: &mut Plane,
    mut visit: impl FnMut(&Plane) -> Result<()>,
) -> Result<()> {
    intake.reset();
    let mut frame = Frame::default();
    let mut planes = 0;
    while source.next_frame(&mut frame)? == Captured::Frame {
        if intake.offer(&frame, plane)? {
            visit(plane)?;
            planes += 1;
        }
    }
    match planes {
        0 => {
            let name = &source.info().name;
            Err(Error::new(ErrorKind::Source, format_args!("{name}: too few frames for this model")))
        }
        _ => Ok(()),
    }
}

/// Cuts whole videos into windows.
pub struct Windows {
    intake: Intake,
    plane: Plane,
    window: Window,
    hop: usize,
}

impl Windows {
    /// Windows for a model's `input`, one every `hop` planes.
    pub fn new(input: &Input, hop: usize) -> Self {
        let intake = Intake::new(input);
        Self { plane: intake.plane(), intake, window: Window::new(input), hop: hop.max(1) }
    }

    /// Reads `source` to its end and shows each window, `[1, C, T, H, W]`, to `visit`. A video that is shorter than a
    /// window is continued with its last picture.
    ///
    /// # Errors
    /// Those of the source and of `visit`; `Source` when there are too few frames for a single plane.
    pub fn each(
        &mut self,
        source: &mut dyn Source,
        mut visit: impl FnMut(ArrayView5<'_, f32>) -> Result<()>,
    ) -> Result<()> {
        let Self { intake, plane, window, hop } = self;
        window.reset();
        let mut windows = 0;
        each_plane(source, intake, plane, |plane| {
            if plane.restart {
                window.reset();
            }
            for _ in 0..plane.repeats {
                window.repeat();
            }
            window.push(&plane.data);
            if window.due(*hop) {
                visit(window.clip())?;
                windows += 1;
            }
            Ok(())
        })?;
        if windows == 0 {
            while !window.due(*hop) {
                window.repeat();
            }
            visit(window.clip())?;
        }
        Ok(())
    }
}

/// Classifies whole videos, on windows or as streams.
pub struct Classifier {
    intake: Intake,
    plane: Plane,
    runner: Runner,
    hop: usize,
    activation: Activation,
}

impl Classifier {
    /// A classifier with `runner` of the bundle that `manifest` describes; an answer every `hop` planes.
    pub fn new(manifest: &Manifest, runner: Runner, hop: usize) -> Self {
        let intake = Intake::new(&manifest.input);
        Self { plane: intake.plane(), intake, runner, hop: hop.max(1), activation: manifest.output.activation }
    }

    /// Reads `source` to its end. Probabilities, not logits, are averaged: a window in which nothing happens then says
    /// little about which action it was. A video that is shorter than a window is continued with its last picture.
    ///
    /// # Errors
    /// Those of the source and of the engine; `Source` when there are too few frames for a single plane.
    pub fn classify(&mut self, source: &mut dyn Source) -> Result<Answer> {
        let Self { intake, plane, runner, hop, activation } = self;
        runner.reset();
        let classes = runner.logits().len();
        let mut answer = Answer { clips: 0, probabilities: vec![0.0; classes], logits: vec![0.0; classes] };
        let mut take = |runner: &mut Runner| -> Result<bool> {
            let Some(logits) = runner.decide(*hop)? else { return Ok(false) };
            answer.logits.iter_mut().zip(logits.iter()).for_each(|(sum, x)| *sum += x);
            activation.apply(logits);
            answer.probabilities.iter_mut().zip(logits.iter()).for_each(|(sum, p)| *sum += p);
            answer.clips += 1;
            Ok(true)
        };
        let mut answered = false;
        each_plane(source, intake, plane, |plane| {
            if plane.restart {
                runner.reset();
            }
            for _ in 0..plane.repeats {
                runner.repeat()?;
            }
            runner.push(&plane.data)?;
            answered |= take(runner)?;
            Ok(())
        })?;
        while !answered {
            runner.repeat()?;
            answered = take(runner)?;
        }
        let share = 1.0 / answer.clips as f32;
        answer.probabilities.iter_mut().chain(&mut answer.logits).for_each(|x| *x *= share);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest::{Colour, Resize};
    use crate::pipeline::feed::Scripted;

    fn input(colour: Colour) -> Input {
        let channels = colour.channels();
        Input {
            frames: 4,
            height: 6,
            width: 6,
            colour,
            frame_rate: 10.0,
            resize: Resize::Crop,
            mean: vec![0.0; channels],
            std: vec![1.0 / 255.0; channels],
        }
    }

    /// First value of each plane of each window of a video of `frames` at 20 Hz, whose picture n is all n.
    fn windows(colour: Colour, frames: u64, hop: usize) -> Result<Vec<Vec<f32>>> {
        let mut source = Scripted::boxed(frames, || Ok(Captured::End));
        let mut list = Vec::new();
        Windows::new(&input(colour), hop).each(source.as_mut(), |clip| {
            list.push((0..4).map(|t| clip[[0, 0, t, 0, 0]].round()).collect());
            Ok(())
        })?;
        Ok(list)
    }

    #[test]
    fn a_window_every_hop() -> Result<()> {
        let want = [[0.0, 2.0, 4.0, 6.0], [4.0, 6.0, 8.0, 10.0], [8.0, 10.0, 12.0, 14.0]];
        assert_eq!(windows(Colour::Rgb, 16, 2)?, want);
        Ok(())
    }

    #[test]
    fn a_short_video_is_continued() -> Result<()> {
        assert_eq!(windows(Colour::Rgb, 4, 2)?, [[0.0, 2.0, 2.0, 2.0]]);
        assert_eq!(windows(Colour::Motion, 5, 2)?, [[2.0, 2.0, 0.0, 0.0]], "nothing moves any more");
        assert!(windows(Colour::Motion, 1, 2).is_err_and(|e| e.to_string().contains("too few frames")));
        Ok(())
    }

    #[test]
    fn shares_are_among_the_named_labels() {
        let answer = Answer { clips: 1, probabilities: vec![0.5, 0.1, 0.3, 0.1], logits: vec![0.0; 4] };
        let order = |list: Vec<(usize, f32)>| list.iter().map(|(l, _)| *l).collect::<Vec<_>>();
        assert_eq!(order(answer.top(2, None, Activation::Softmax)), [0, 2]);
        let top = answer.top(9, Some(&[1, 2]), Activation::Softmax);
        assert!(top[0].0 == 2 && (top[0].1 - 0.75).abs() < 1e-6 && (top[1].1 - 0.25).abs() < 1e-6);
        assert!((answer.top(1, Some(&[1]), Activation::Sigmoid)[0].1 - 0.1).abs() < 1e-6);
    }
}
