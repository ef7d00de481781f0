//! One answer for a whole video: its windows' probabilities averaged. `kinora classify` and the trainer's `evaluate` use
//! this same code, so that they agree.

use super::intake::{Intake, Plane};
use crate::capture::{Captured, Source};
use crate::engine::Session;
use crate::frame::Frame;
use crate::model::Manifest;
use crate::model::manifest::Activation;
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

/// Classifies whole videos with one session.
pub struct Classifier {
    intake: Intake,
    plane: Plane,
    window: Window,
    session: Box<dyn Session>,
    activation: Activation,
    hop: usize,
    logits: Vec<f32>,
}

impl Classifier {
    /// A classifier with `session` of the bundle that `manifest` describes; windows begin every `hop` planes.
    pub fn new(manifest: &Manifest, session: Box<dyn Session>, hop: usize) -> Self {
        let intake = Intake::new(&manifest.input);
        Self {
            plane: intake.plane(),
            intake,
            window: Window::new(&manifest.input),
            session,
            activation: manifest.output.activation,
            hop: hop.max(1),
            logits: vec![0.0; manifest.output.classes],
        }
    }

    /// Reads `source` to its end. Probabilities, not logits, are averaged: a window in which nothing happens then says
    /// little about which action it was. A video shorter than a window is continued with its last picture.
    ///
    /// # Errors
    /// Those of the source and the engine; `Source` when there are too few frames for a single plane.
    pub fn classify(&mut self, source: &mut dyn Source) -> Result<Answer> {
        self.intake.reset();
        self.window.reset();
        let classes = self.logits.len();
        let mut answer = Answer { clips: 0, probabilities: vec![0.0; classes], logits: vec![0.0; classes] };
        let mut frame = Frame::default();
        let mut planes = 0;
        while source.next_frame(&mut frame)? == Captured::Frame {
            if self.intake.offer(&frame, &mut self.plane)? {
                for _ in 0..self.plane.repeats {
                    self.window.repeat();
                }
                self.window.push(&self.plane.data);
                planes += 1;
                if self.window.due(self.hop) {
                    self.infer(&mut answer)?;
                }
            }
        }
        if planes == 0 {
            let name = &source.info().name;
            return Err(Error::new(ErrorKind::Source, format_args!("{name}: too few frames for this model")));
        }
        if answer.clips == 0 {
            while !self.window.due(self.hop) {
                self.window.repeat();
            }
            self.infer(&mut answer)?;
        }
        let share = 1.0 / answer.clips as f32;
        answer.probabilities.iter_mut().chain(&mut answer.logits).for_each(|x| *x *= share);
        Ok(answer)
    }

    fn infer(&mut self, answer: &mut Answer) -> Result<()> {
        self.session.infer(self.window.clip(), &mut self.logits)?;
        answer.logits.iter_mut().zip(&self.logits).for_each(|(sum, x)| *sum += x);
        self.activation.apply(&mut self.logits);
        answer.probabilities.iter_mut().zip(&self.logits).for_each(|(sum, p)| *sum += p);
        answer.clips += 1;
        Ok(())
    }
}
