//! The mannequin: an articulated body that performs known actions before a random camera. Built-in source and training
//! set. Deterministic: a seed gives the same pictures on every machine run of this version.

mod appearance;
mod backdrop;
mod body;
mod camera;
mod conditions;
mod desk;
mod dice;
mod everyday;
mod exercise;
mod gait;
mod geometry;
mod gesture;
mod idle;
mod motion;
mod other;
mod person;
mod pose;
mod raster;
mod scene;
mod script;
mod take;

#[cfg(test)]
mod tests;

pub use scene::Scene;

/// The world that mannequins are seen in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum World {
    /// One grown body in good light, before a camera that is nearly still.
    #[default]
    Studio,
    /// What cameras meet in homes and offices: others who are there too, desks, children, tasks begun and given up, any distance,
    /// moving backgrounds, bad light and bad pictures.
    Wild,
}

impl World {
    /// Its name.
    pub fn label(self) -> &'static str {
        match self {
            Self::Studio => "studio",
            Self::Wild => "wild",
        }
    }
}

impl std::str::FromStr for World {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = [Self::Studio, Self::Wild].into_iter().find(|world| world.label() == name);
        known.ok_or_else(|| format!("world `{name}` is neither studio nor wild"))
    }
}

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
    ArmCircles,
    Stretch,
    Drink,
    Point,
    CrossArms,
}

impl Motion {
    /// Those that the shipped models know, in the order of their labels.
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

    /// Those that they do not know: to learn as actions of one's own, and not to be taken for any of the others.
    pub const OTHERS: [Motion; 5] =
        [Motion::ArmCircles, Motion::Stretch, Motion::Drink, Motion::Point, Motion::CrossArms];

    const LABELS: [&'static str; 22] = [
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
        "arm_circles",
        "stretch",
        "drink",
        "point",
        "cross_arms",
    ];

    /// Its label, such as `jumping_jack`.
    pub fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }

    /// All that a mannequin can do: [`Motion::ALL`] and [`Motion::OTHERS`].
    pub fn every() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::OTHERS)
    }

    /// The motion of a label, if it is one of ours.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::every().find(|motion| motion.label() == label)
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
