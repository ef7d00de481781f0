//! How each motion is performed: a performance is a track of key poses, and for walking and running a gait.

use super::body::Body;
use super::dice::Dice;
use super::gait::Gait;
use super::geometry::{Vec3, v3};
use super::pose::*;
use super::{Motion, exercise, gesture, idle, other};

/// What a performer is given: its body, the pose it rests in, and randomness.
pub(crate) struct Cast<'a> {
    pub(crate) dice: &'a mut Dice,
    pub(crate) body: &'a Body,
    /// The pose that the motion begins in and returns to.
    pub(crate) base: Pose,
    /// Whether it is done in any of the ways in which people do it who were not asked to, rather than in one of a few.
    pub(crate) wild: bool,
}

/// A motion as it will be shown.
#[derive(Debug, Clone)]
pub(crate) struct Performance {
    pub(crate) track: Track,
    pub(crate) gait: Option<Gait>,
}

impl Cast<'_> {
    /// Direction `d`, a little off.
    pub(crate) fn aim(&mut self, d: (f32, f32, f32), spread: f32) -> Vec3 {
        let d = v3(d.0, d.1, d.2).unit();
        (d + self.scatter(spread)).unit()
    }

    /// Around zero, with standard deviation `spread` along each axis.
    pub(crate) fn scatter(&mut self, spread: f32) -> Vec3 {
        v3(self.dice.normal(), self.dice.normal(), self.dice.normal()) * spread
    }

    /// `pose` with the small movements of trunk and head that go along with any action.
    pub(crate) fn lively(&mut self, pose: Pose, amount: f32) -> Pose {
        let mut n = |s: f32| self.dice.normal() * s * amount;
        pose.plus(PELVIS_X, n(0.012))
            .plus(PELVIS_Z, n(0.01))
            .plus(PELVIS_YAW, n(0.04))
            .plus(SPINE_PITCH, n(0.04))
            .plus(SPINE_ROLL, n(0.03))
            .plus(SPINE_TWIST, n(0.06))
            .plus(HEAD_YAW, n(0.1))
            .plus(HEAD_PITCH, n(0.06))
    }
}

/// The performance of `motion`; walking and running on the spot only (see [`Gait`] for ways through the picture).
pub(crate) fn perform(motion: Motion, cast: &mut Cast) -> Performance {
    let track = match motion {
        Motion::Nothing => {
            let seconds = cast.dice.between(1.0, 4.0);
            idle::nothing(cast, seconds)
        }
        Motion::Walk | Motion::Run => {
            let gait = Gait::on_the_spot(cast.dice, motion == Motion::Run);
            return Performance { track: Track::new(cast.base), gait: Some(gait) };
        }
        Motion::Jump => exercise::jump(cast),
        Motion::JumpingJack => exercise::jumping_jack(cast),
        Motion::Squat => exercise::squat(cast),
        Motion::Kick => exercise::kick(cast),
        Motion::Bend => exercise::bend(cast),
        Motion::SitDown => exercise::sit_down(cast),
        Motion::StandUp => exercise::stand_up(cast),
        Motion::Fall => exercise::fall(cast),
        Motion::Wave => gesture::wave(cast),
        Motion::Clap => gesture::clap(cast),
        Motion::Punch => gesture::punch(cast),
        Motion::SwipeLeft => gesture::swipe(cast, 0),
        Motion::SwipeRight => gesture::swipe(cast, 1),
        Motion::Throw => gesture::throw(cast),
        Motion::ArmCircles => other::arm_circles(cast),
        Motion::Stretch => other::stretch(cast),
        Motion::Drink => other::drink(cast),
        Motion::Point => other::point(cast),
        Motion::CrossArms => other::cross_arms(cast),
    };
    Performance { track, gait: None }
}
