//! Walking and running: a cycle of legs and arms, on the spot or along a way of straight pieces.

use std::f32::consts::{PI, TAU};

use super::body::{Body, Root};
use super::dice::Dice;
use super::geometry::{smooth, v3};
use super::pose::*;

/// A straight piece of a way.
#[derive(Debug, Clone, Copy)]
struct Piece {
    heading: f32,
    end_s: f32,
}

/// A stretch of walking or running, from rest to rest.
#[derive(Debug, Clone)]
pub(crate) struct Gait {
    period_s: f32,
    /// Length of the ground contact of a foot, in leg lengths, and its share of the period.
    stride: f32,
    duty: f32,
    foot_lift: f32,
    phase: f32,
    arm_swing: f32,
    elbow: f32,
    lean: f32,
    bounce: f32,
    /// Metres a second; 0 on the spot.
    speed: f32,
    pieces: Vec<Piece>,
    /// Starts at full speed and ends so, as for a way from outside of the picture to outside.
    flying: bool,
    pub(crate) duration_s: f32,
}

/// Time to get going, to stop, and to turn, in seconds.
const RAMP_S: f32 = 0.45;

impl Gait {
    fn random(dice: &mut Dice, run: bool) -> Self {
        let vigour = dice.between(0.0, 1.0);
        let between = |low: f32, high: f32| low + (high - low) * vigour;
        Self {
            period_s: if run { between(0.78, 0.56) } else { between(1.35, 0.9) } * dice.between(0.95, 1.05),
            stride: 0.0,
            duty: if run { 0.36 } else { 0.6 },
            foot_lift: if run { between(0.2, 0.5) } else { between(0.07, 0.16) } * dice.between(0.8, 1.2),
            phase: dice.between(0.0, 1.0),
            arm_swing: if run { between(0.5, 0.95) } else { between(0.15, 0.55) } * dice.between(0.7, 1.2),
            elbow: if run { dice.between(1.2, 1.8) } else { dice.between(0.1, 0.45) },
            lean: if run { between(0.08, 0.22) } else { between(0.0, 0.07) },
            bounce: if run { between(0.03, 0.07) } else { between(0.01, 0.025) },
            speed: 0.0,
            pieces: Vec::new(),
            flying: false,
            duration_s: dice.between(2.0, 5.0),
        }
    }

    /// Marching or running without leaving the spot.
    pub(crate) fn on_the_spot(dice: &mut Dice, run: bool) -> Self {
        let mut gait = Self::random(dice, run);
        gait.stride = dice.between(0.0, 0.12);
        gait.foot_lift *= 1.6;
        gait.lean *= 0.5;
        gait
    }

    /// Along `targets` from `from`; `flying` if it neither starts from rest nor ends so.
    pub(crate) fn along(
        dice: &mut Dice,
        run: bool,
        body: &Body,
        (from, targets): (Root, &[Root]),
        flying: bool,
    ) -> Self {
        let mut gait = Self::random(dice, run);
        let natural = if run { dice.between(1.9, 3.2) } else { dice.between(0.75, 1.45) };
        gait.stride = (natural * gait.duty * gait.period_s / body.leg()).min(0.85);
        gait.speed = gait.stride * body.leg() / (gait.duty * gait.period_s);
        gait.flying = flying;
        let mut at = from;
        let mut end_s = if flying { 0.0 } else { 0.5 * RAMP_S };
        for target in targets {
            let (dx, dz) = (target.x - at.x, target.z - at.z);
            end_s += dx.hypot(dz) / gait.speed;
            gait.pieces.push(Piece { heading: dx.atan2(dz), end_s });
            at = *target;
        }
        gait.duration_s = if flying { end_s } else { (end_s + 0.5 * RAMP_S).max(2.2 * RAMP_S) };
        gait
    }

    /// How much of the full motion there is at `t_s`.
    fn vigour(&self, t_s: f32) -> f32 {
        if self.flying { 1.0 } else { smooth(t_s / RAMP_S) * smooth((self.duration_s - t_s) / RAMP_S) }
    }

    /// Metres gone by `t_s`: the integral of speed and vigour.
    fn gone(&self, t_s: f32) -> f32 {
        let t = t_s.clamp(0.0, self.duration_s);
        if self.flying {
            return self.speed * t;
        }
        let ramp = |x: f32| RAMP_S * (x * x * x - 0.5 * x * x * x * x);
        let start = ramp((t / RAMP_S).min(1.0));
        let middle = (t.min(self.duration_s - RAMP_S) - RAMP_S).max(0.0);
        let stop = 0.5 * RAMP_S - ramp(((self.duration_s - t) / RAMP_S).clamp(0.0, 1.0));
        self.speed * (start + middle + stop.max(0.0))
    }

    /// Place and heading at `t_s` on the way from `from`, whose end faces `end_yaw`.
    pub(crate) fn root_at(&self, t_s: f32, from: Root, end_yaw: f32) -> Root {
        let mut root = from;
        let mut begin = 0.0;
        for (i, piece) in self.pieces.iter().enumerate() {
            let last = i + 1 == self.pieces.len();
            let end = if last { self.duration_s } else { piece.end_s };
            let gone = self.gone(t_s.min(end)) - self.gone(t_s.min(begin));
            root.x += piece.heading.sin() * gone;
            root.z += piece.heading.cos() * gone;
            let share = if self.flying && i == 0 { 1.0 } else { smooth((t_s - begin + 0.1) / RAMP_S) };
            root.yaw += shortest(piece.heading - root.yaw) * share;
            begin = end;
        }
        if !self.flying && !self.pieces.is_empty() {
            root.yaw += shortest(end_yaw - root.yaw) * smooth(1.0 + (t_s - self.duration_s) / (1.2 * RAMP_S));
        }
        root
    }

    /// The pose at `t_s` over the standing pose `base`.
    pub(crate) fn pose_at(&self, t_s: f32, base: Pose) -> Pose {
        let vigour = self.vigour(t_s);
        let phase = self.phase + t_s / self.period_s;
        let crouch = 0.6 * (1.0 - (1.0 - 0.25 * self.stride * self.stride).sqrt()) + 0.012;
        let sway = (TAU * phase).cos();
        let mut pose = base
            .plus(PELVIS_Y, vigour * (self.bounce * (2.0 * TAU * phase + 0.6).cos() - crouch - 0.5 * self.bounce))
            .plus(PELVIS_X, vigour * 0.02 * (TAU * phase).sin())
            .plus(PELVIS_YAW, vigour * 0.1 * sway)
            .plus(SPINE_TWIST, -vigour * 0.2 * sway)
            .plus(SPINE_PITCH, vigour * self.lean)
            .plus(PELVIS_PITCH, vigour * self.lean * 0.4);
        for side in 0..2 {
            let own = (phase + 0.5 * side as f32).rem_euclid(1.0);
            let (z, y, toes) = self.foot(own);
            pose = pose.foot(side, v3(0.0, y, z) * vigour, toes * vigour);
            let angle = -self.arm_swing * (TAU * own).cos() + 0.1;
            let bent = angle + self.elbow + 0.2 * self.arm_swing * angle.signum();
            let (upper, fore) = base.arm_directions(side);
            let swung = v3(0.15, -angle.cos(), angle.sin());
            let inward = if self.elbow > 1.0 { -0.25 } else { 0.02 };
            let folded = v3(inward, -bent.cos(), bent.sin());
            pose = pose.arm(side, upper.lerp(swung, vigour), fore.lerp(folded, vigour));
        }
        pose
    }

    /// Foot against standing at its phase: forward, up, toes down.
    fn foot(&self, phase: f32) -> (f32, f32, f32) {
        let half = 0.5 * self.stride;
        if phase < self.duty {
            let u = phase / self.duty;
            return (half * (1.0 - 2.0 * u), 0.0, 0.5 * ((u - 0.75) * 4.0).max(0.0) * (self.stride * 1.5).min(1.0));
        }
        let u = (phase - self.duty) / (1.0 - self.duty);
        let trail = if self.duty < 0.5 { 0.35 } else { 0.1 } * self.foot_lift * 2.0;
        let z = -half * (PI * u).cos() - trail * (PI * u).sin() * (1.0 - u);
        (
            z,
            self.foot_lift * (PI * u).sin(),
            0.5 * (1.0 - u) * (self.stride * 1.5).min(1.0) + 0.5 * (PI * u).sin() * (1.0 - u),
        )
    }
}

/// The same turn, the short way round.
fn shortest(angle: f32) -> f32 {
    (angle + PI).rem_euclid(TAU) - PI
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_ends_at_its_target_and_turns_back() {
        let mut dice = Dice::new(5, 5);
        let body = Body::random(&mut dice, super::super::World::Studio);
        let targets = [Root { x: 2.0, z: -1.0, yaw: 0.0 }, Root { x: -1.0, z: 0.5, yaw: 0.0 }];
        for run in [false, true] {
            let from = Root::default();
            let gait = Gait::along(&mut dice, run, &body, (from, &targets), false);
            let end = gait.root_at(gait.duration_s, from, 0.3);
            assert!(
                (end.x + 1.0).abs() < 0.05 && (end.z - 0.5).abs() < 0.05 && shortest(end.yaw - 0.3).abs() < 0.01,
                "{end:?}"
            );
            let steps: Vec<Root> = (0..200).map(|i| gait.root_at(i as f32 / 30.0, from, 0.3)).collect();
            assert!(steps.windows(2).all(|s| (s[1].x - s[0].x).hypot(s[1].z - s[0].z) < 0.2));
        }
    }
}
