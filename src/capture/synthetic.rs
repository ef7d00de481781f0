//! `synthetic:SEED`: the mannequin as a camera. It draws on the thread that asks, does not block, and allocates only for
//! the first picture and at cuts.

use std::time::Duration;

use super::{Captured, Source, SourceInfo};
use crate::Result;
use crate::frame::Frame;
use crate::stop::Stop;
use crate::synth::{Motion, Scene, World};

/// How long a mannequin does what it is asked to do, in seconds; then it stands still.
const DRILL_S: f32 = 3600.0;

/// The endless live scene of a seed, or one in which a mannequin does the same again and again, at a constant frame rate.
#[derive(Debug)]
pub struct Synthetic {
    info: SourceInfo,
    scene: Scene,
    next: u64,
    stop: Stop,
}

impl Synthetic {
    /// The live scene of `world` and `seed`, or one of `motion` alone, as pictures of `width` x `height` pixels. A rate that is
    /// no positive number counts as 30.
    pub fn new(
        (world, seed): (World, u64),
        motion: Option<Motion>,
        (width, height): (u32, u32),
        frame_rate: f32,
        stop: Stop,
    ) -> Self {
        let frame_rate = if frame_rate.is_finite() && frame_rate > 0.0 { frame_rate } else { 30.0 };
        let scene = match motion {
            Some(motion) => Scene::drill(world, seed, motion, DRILL_S),
            None => Scene::live(world, seed),
        };
        let info =
            SourceInfo { name: format!("synthetic:{seed}"), width, height, frame_rate, live: false, stamped: false };
        Self { info, scene, next: 0, stop }
    }
}

impl Source for Synthetic {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next_frame(&mut self, into: &mut Frame) -> Result<Captured> {
        if self.stop.requested() {
            return Ok(Captured::End);
        }
        let seconds = self.next as f64 / f64::from(self.info.frame_rate);
        into.resize(self.info.width, self.info.height);
        self.scene.render(seconds as f32, into);
        into.timestamp = Duration::from_secs_f64(seconds);
        into.sequence = self.next;
        self.next += 1;
        Ok(Captured::Frame)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn pictures_follow_at_the_rate_until_a_stop() {
        let stop = Stop::default();
        let mut source = Synthetic::new((World::Studio, 4), None, (64, 48), 25.0, stop.clone());
        let mut frame = Frame::default();
        for n in 0..3 {
            assert_eq!(source.next_frame(&mut frame).unwrap(), Captured::Frame);
            assert_eq!((frame.sequence, frame.timestamp), (n, Duration::from_millis(40 * n)));
            assert_eq!((frame.width(), frame.height(), frame.truth), (64, 48, Some("nothing")));
        }
        assert_eq!(source.info().name, "synthetic:4");
        stop.request();
        assert_eq!(source.next_frame(&mut frame).unwrap(), Captured::End);
    }

    #[test]
    fn the_same_seed_gives_the_same_pictures() {
        let pictures = |seed| {
            let mut source = Synthetic::new((World::Studio, seed), None, (40, 30), 10.0, Stop::default());
            let mut frame = Frame::default();
            let mut all = Vec::new();
            for _ in 0..20 {
                source.next_frame(&mut frame).unwrap();
                all.extend_from_slice(frame.data());
            }
            all
        };
        assert_eq!(pictures(1), pictures(1));
        assert_ne!(pictures(1), pictures(2));
    }
}
