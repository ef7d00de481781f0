//! The mannequin: an articulated body that performs known actions before a random camera. Built-in source and training
//! set. Deterministic: a seed gives the same pictures on every machine run of this version.

use crate::frame::Frame;

/// What a mannequin can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Motion {
    Nothing,
    Walk,
    Run,
    Jump,
    JumpingJack,
    Squat,
    Wave,
    Clap,
    Punch,
    Kick,
    Bend,
    SitDown,
    StandUp,
    Fall,
    SwipeLeft,
    SwipeRight,
    Throw,
}

impl Motion {
    /// All motions, in the order of the labels.
    pub const ALL: [Motion; 17] = [
        Motion::Nothing,
        Motion::Walk,
        Motion::Run,
        Motion::Jump,
        Motion::JumpingJack,
        Motion::Squat,
        Motion::Wave,
        Motion::Clap,
        Motion::Punch,
        Motion::Kick,
        Motion::Bend,
        Motion::SitDown,
        Motion::StandUp,
        Motion::Fall,
        Motion::SwipeLeft,
        Motion::SwipeRight,
        Motion::Throw,
    ];

    /// Its label, such as `jumping_jack`.
    pub fn label(self) -> &'static str {
        [
            "nothing",
            "walk",
            "run",
            "jump",
            "jumping_jack",
            "squat",
            "wave",
            "clap",
            "punch",
            "kick",
            "bend",
            "sit_down",
            "stand_up",
            "fall",
            "swipe_left",
            "swipe_right",
            "throw",
        ][self as usize]
    }
}

/// A stretch of a scene's script during which one motion is performed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// What is performed.
    pub motion: Motion,
    /// Scene time at which it begins, in seconds.
    pub start_s: f32,
    /// Scene time at which it is over, in seconds.
    pub end_s: f32,
}

/// A mannequin, its place, its camera and its script.
pub struct Scene {}

impl Scene {
    /// A scene around one performance of `motion`: something else or nothing before, `motion`, something after.
    pub fn clip(seed: u64, motion: Motion) -> Self {
        let _ = (seed, motion);
        Self {}
    }

    /// An endless scene: several actions after one another with pauses of `nothing`.
    pub fn live(seed: u64) -> Self {
        let _ = seed;
        Self {}
    }

    /// Of a clip: the segment that it is about.
    pub fn subject(&self) -> Segment {
        Segment { motion: Motion::Nothing, start_s: 0.0, end_s: 0.0 }
    }

    /// The segment at scene time `t_s`.
    pub fn segment_at(&mut self, t_s: f32) -> Segment {
        let _ = t_s;
        self.subject()
    }

    /// Draws the scene at time `t_s` into `frame`, in the size that it has. Times must not go back.
    pub fn render(&mut self, t_s: f32, frame: &mut Frame) {
        let _ = (t_s, frame);
    }
}
