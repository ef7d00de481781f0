//! One answer for a whole video: its windows' probabilities averaged. `kinora classify` and the trainer's `evaluate` use
//! this same code, so that they agree.

use super::Runner;
use super::intake::{Intake, Plane};
use crate::capture::{Captured, Source};
use crate::frame::Frame;
use crate::model::Manifest;
use crate::model::manifest::Activation;
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

    /// What it runs. Each video begins another stream of it.
    pub fn runner(&mut self) -> &mut Runner {
        &mut self.runner
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
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::Session;
    use crate::model::manifest::{Colour, Mode};
    use crate::pipeline::feed::Scripted;
    use ndarray::ArrayView5;
    use std::sync::mpsc::{Sender, channel};

    /// Tells the first value of each plane it is shown.
    struct Teller(Sender<Vec<f32>>);

    impl Session for Teller {
        fn infer(&mut self, clip: ArrayView5<'_, f32>, _: &mut [f32]) -> Result<()> {
            let _ = self.0.send((0..clip.shape()[2]).map(|t| clip[[0, 0, t, 0, 0]].round()).collect());
            Ok(())
        }
    }

    /// First value of each plane of each window of a video of `frames` at 20 Hz, whose picture n is all n.
    fn windows(colour: Colour, frames: u64, hop: usize) -> Result<Vec<Vec<f32>>> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mannequin/manifest.toml");
        let mut manifest = Manifest::parse(&std::fs::read_to_string(path).unwrap())?;
        let input = &mut manifest.input;
        (input.frames, input.height, input.width, input.frame_rate, input.colour) = (4, 6, 6, 10.0, colour);
        (input.mean, input.std) = (vec![0.0; colour.channels()], vec![1.0 / 255.0; colour.channels()]);
        let (teller, told) = channel();
        let mut source = Scripted::boxed(frames, || Ok(Captured::End));
        let runner = Runner::with(Box::new(Teller(teller)), Mode::Window, &manifest);
        let mut classifier = Classifier::new(&manifest, runner, hop);
        let answer = classifier.classify(source.as_mut())?;
        drop(classifier);
        let list: Vec<Vec<f32>> = told.iter().collect();
        assert_eq!(answer.clips, list.len());
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
