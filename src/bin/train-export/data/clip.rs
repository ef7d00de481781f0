//! From pictures to a clip's planes, through the same [`Preprocessor`] as the edge program. A [`Maker`] is one thread's
//! workspace; its buffers are kept between clips.

use std::sync::{Mutex, PoisonError};

use anyhow::ensure;
use kinora::frame::Frame;
use kinora::model::manifest::Input;
use kinora::preprocess::Preprocessor;

/// Pictures that a clip of `input` needs: what changed needs one more than there are planes.
pub fn pictures(input: &Input) -> usize {
    input.frames + usize::from(input.colour.needs_previous())
}

/// Makes clips, one at a time.
pub struct Maker {
    preprocessor: Preprocessor,
    input: Input,
    plane: Vec<f32>,
    planes: Vec<f32>,
    /// Planes of the clip: a window's, and those of its past.
    wanted: usize,
    /// Planes put in so far.
    filled: usize,
    /// For the picture as it was drawn or decoded.
    pub raw: Frame,
    /// For the picture as it is augmented.
    pub seen: Frame,
}

impl Maker {
    fn new(input: &Input) -> Self {
        let preprocessor = Preprocessor::new(input);
        let plane = vec![0.0; preprocessor.plane_len()];
        let (input, raw, seen) = (input.clone(), Frame::default(), Frame::default());
        Self { preprocessor, input, plane, planes: Vec::new(), wanted: 0, filled: 0, raw, seen }
    }

    /// Starts a clip of a window and `past` planes before it.
    pub fn start(&mut self, past: usize) {
        self.preprocessor.reset();
        (self.wanted, self.filled) = (past + self.input.frames, 0);
        self.planes.resize(self.plane.len() * self.wanted, 0.0);
    }

    /// Adds [`Maker::seen`] as the next picture.
    pub fn push_seen(&mut self) -> anyhow::Result<()> {
        if self.preprocessor.prepare(&self.seen, &mut self.plane)? {
            ensure!(self.filled < self.wanted, "a clip has {} planes, no more", self.wanted);
            put(&self.plane, self.filled, self.wanted, &mut self.planes, self.input.height * self.input.width);
            self.filled += 1;
        }
        Ok(())
    }

    /// The clip, `[C, past + T, H, W]`.
    pub fn finish(&mut self) -> anyhow::Result<Vec<f32>> {
        ensure!(self.filled == self.wanted, "a clip of {} planes got {}", self.wanted, self.filled);
        Ok(self.planes.clone())
    }
}

/// Copies `plane`, `[C, H, W]`, to time `t` of the `frames` of `planes`, `[C, frames, H, W]`; `area` is H * W.
fn put(plane: &[f32], t: usize, frames: usize, planes: &mut [f32], area: usize) {
    for (channel, values) in plane.chunks_exact(area).enumerate() {
        let at = (channel * frames + t) * area;
        planes[at..at + area].copy_from_slice(values);
    }
}

/// Makers at rest, one for every thread that ever needed one at the same time.
pub struct Makers {
    input: Input,
    idle: Mutex<Vec<Maker>>,
}

impl Makers {
    /// Makers for `input`.
    pub fn new(input: &Input) -> Self {
        Self { input: input.clone(), idle: Mutex::default() }
    }

    /// What they make clips for.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// Lends a maker to `work`.
    pub fn with<R>(&self, work: impl FnOnce(&mut Maker) -> anyhow::Result<R>) -> anyhow::Result<R> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut maker = idle.unwrap_or_else(|| Maker::new(&self.input));
        let result = work(&mut maker);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(maker);
        result
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use kinora::model::manifest::{Colour, Resize};

    /// A small input for tests.
    pub(crate) fn input(colour: Colour) -> Input {
        let channels = colour.channels();
        Input {
            frames: 4,
            height: 24,
            width: 24,
            colour,
            frame_rate: 10.0,
            resize: Resize::Crop,
            mean: vec![0.0; channels],
            std: vec![1.0; channels],
        }
    }

    #[test]
    fn planes_are_in_order_of_channel_and_time() {
        let mut planes = vec![0.0; 12];
        put(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1, 2, &mut planes, 2);
        assert_eq!(planes, [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 5.0, 6.0]);
    }

    #[test]
    fn differences_take_one_picture_more() {
        for (colour, pictures_wanted) in [(Colour::Rgb, 4), (Colour::Motion, 5)] {
            let input = input(colour);
            assert_eq!(pictures(&input), pictures_wanted);
            let clip = Makers::new(&input).with(|maker| {
                maker.start(0);
                for value in 0..pictures(&input) {
                    maker.seen.resize(32, 24);
                    maker.seen.data_mut().fill(51 * value as u8);
                    maker.push_seen()?;
                }
                maker.finish()
            });
            let clip = clip.unwrap();
            assert_eq!(clip.len(), 3 * 4 * 24 * 24);
            let want = if colour == Colour::Motion { [0.2; 4] } else { [0.0, 0.2, 0.4, 0.6] };
            for (t, want) in want.iter().enumerate() {
                assert!((clip[t * 576] - want).abs() < 1e-5, "{colour:?} {t}");
            }
        }
    }

    #[test]
    fn a_clip_that_is_not_full_is_refused() {
        let makers = Makers::new(&input(Colour::Gray));
        let clip = makers.with(|maker| {
            maker.start(0);
            maker.seen.resize(24, 24);
            maker.push_seen()?;
            maker.finish()
        });
        assert!(clip.is_err_and(|e| e.to_string().contains("got 1")));
    }
}
