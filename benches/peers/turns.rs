//! Contestants that take turns, so that what else happens on the machine hits all of them alike.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use kinora::engine::{Engine, Session};
use kinora::model::manifest::Mode;
use kinora::pipeline::nearest_rank;
use ndarray::Array5;
use serde::Serialize;

/// Turns before those that are counted.
const WARM_UP: usize = 3;
/// Before each turn: threads of the one before go to sleep.
const PAUSE: Duration = Duration::from_millis(5);

/// Someone who makes decisions.
pub trait Contestant {
    /// What a decision takes, in seconds.
    fn decide(&mut self) -> Result<f64>;

    /// The logits of the last decision, `[K]`.
    fn logits(&self) -> &[f32];
}

/// kinora: windows, or a stream with a decision at every frame.
pub struct Kinora {
    session: Box<dyn Session>,
    mode: Mode,
    clip: Array5<f32>,
    /// Of a stream, each `[C, H, W]`: noise, three clips of it, so that no window is like the one before it.
    frames: Vec<Vec<f32>>,
    next: usize,
    logits: Vec<f32>,
}

impl Kinora {
    /// A session of `engine` that runs `clip`, `[1, C, T, H, W]`, or a stream of frames like its.
    pub fn new(engine: &dyn Engine, clip: &Array5<f32>, classes: usize) -> Result<Self> {
        let [_, channels, length, height, width] = *clip.shape() else {
            anyhow::bail!("a clip [1, C, T, H, W] wanted")
        };
        let mut random = Rng::with_seed(1);
        let mut frame = |_| (0..channels * height * width).map(|_| 2.0 * random.f32() - 1.0).collect();
        let mut new = Self {
            session: engine.session()?,
            mode: engine.mode(),
            clip: clip.clone(),
            frames: if engine.mode() == Mode::Stream { (0..3 * length).map(&mut frame).collect() } else { Vec::new() },
            next: 0,
            logits: vec![0.0; classes],
        };
        // A stream decides once its first window is full.
        (0..if new.frames.is_empty() { 0 } else { length }).try_for_each(|_| new.push().map(|_| ()))?;
        Ok(new)
    }

    /// Whether the next frame of the stream brings logits, and writes them.
    fn push(&mut self) -> Result<bool> {
        let emitted = self.session.push(&self.frames[self.next], &mut self.logits)?;
        self.next = (self.next + 1) % self.frames.len();
        Ok(emitted)
    }

    /// Of a stream: the largest number of frames from one change of the logits to the next, over three clips.
    pub fn interval(&mut self) -> Result<usize> {
        let (mut largest, mut since) = (0, 0);
        for _ in 0..self.frames.len() {
            let before = self.logits.clone();
            since += 1;
            if self.push()? && self.logits != before {
                largest = largest.max(since);
                since = 0;
            }
        }
        Ok(largest.max(since))
    }
}

impl Contestant for Kinora {
    fn decide(&mut self) -> Result<f64> {
        let begin = Instant::now();
        if self.mode == Mode::Window {
            self.session.infer(self.clip.view(), &mut self.logits)?;
            return Ok(begin.elapsed().as_secs_f64());
        }
        // As many frames as a window has: a decision is their mean.
        let frames = self.frames.len() / 3;
        for _ in 0..frames {
            self.push()?;
        }
        Ok(begin.elapsed().as_secs_f64() / frames as f64)
    }

    fn logits(&self) -> &[f32] {
        &self.logits
    }
}

/// What a decision takes, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Times {
    pub name: String,
    pub p10: f32,
    pub p50: f32,
    pub p90: f32,
    /// All that was counted, sorted.
    pub all: Vec<f32>,
}

/// Lets all decide in turn, forwards and backwards, until each has been counted `runs` times. A turn is a decision that brings
/// caches and threads back, and one that is timed.
pub fn take_turns(contestants: &mut [(String, Box<dyn Contestant>)], runs: usize) -> Result<Vec<Times>> {
    let mut all = vec![Vec::with_capacity(runs); contestants.len()];
    for turn in 0..WARM_UP + runs {
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        if turn % 2 == 1 {
            order.reverse();
        }
        for number in order {
            let (name, contestant) = &mut contestants[number];
            std::thread::sleep(PAUSE);
            let seconds = contestant.decide().and_then(|_| contestant.decide()).with_context(|| name.clone())?;
            if turn >= WARM_UP {
                all[number].push(seconds as f32 * 1e3);
            }
        }
    }
    let times = all.into_iter().zip(contestants).map(|(mut all, (name, _))| {
        all.sort_unstable_by(f32::total_cmp);
        let [p10, p50, p90] = [0.1, 0.5, 0.9].map(|p| nearest_rank(&all, p).unwrap_or(f32::NAN));
        eprintln!("  {name:<36} {p50:9.3} ms ({p10:.3} to {p90:.3})");
        Times { name: name.clone(), p10, p50, p90, all }
    });
    Ok(times.collect())
}
