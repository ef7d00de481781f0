//! The mannequin's skeleton: proportions, and from a pose to joints in the world.

use super::World;
use super::dice::Dice;
use super::exercise::SEAT_DROP;
use super::geometry::{Axes, Vec3, two_bones, v3};
use super::pose::*;

/// Lengths in metres. Sides are alike.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) height: f32,
    pub(crate) thigh: f32,
    pub(crate) shin: f32,
    pub(crate) ankle: f32,
    pub(crate) foot: f32,
    pub(crate) hip: f32,
    pub(crate) waist: f32,
    pub(crate) chest: f32,
    pub(crate) shoulder: f32,
    pub(crate) upper_arm: f32,
    pub(crate) forearm: f32,
    pub(crate) hand: f32,
    pub(crate) head: f32,
    /// Half of the distance between the ankles in standing.
    pub(crate) stance: f32,
    /// Thickness of the limbs against the usual.
    pub(crate) girth: f32,
    /// Thickness of the torso against the usual.
    pub(crate) breadth: f32,
}

impl Body {
    /// A grown body; in the wild also children and people of all builds.
    pub(crate) fn random(dice: &mut Dice, world: World) -> Self {
        let wild = world == World::Wild;
        let child = wild && dice.chance(0.12);
        let height =
            (1.70 + 0.11 * dice.normal()).clamp(1.35, 2.0) * if child { dice.between(0.65, 0.85) } else { 1.0 };
        let girth = dice.between(0.8, if wild { 1.7 } else { 1.35 });
        let mut part = |share: f32, spread: f32| height * share * dice.between(1.0 - spread, 1.0 + spread);
        Self {
            height,
            thigh: part(0.245, 0.05),
            shin: part(0.24, 0.05),
            ankle: part(0.042, 0.1),
            foot: part(0.13, 0.1),
            hip: part(0.052, 0.12),
            waist: part(0.10, 0.1),
            chest: part(0.185, 0.08),
            shoulder: part(0.108, 0.12),
            upper_arm: part(0.168, 0.06),
            forearm: part(0.145, 0.06),
            hand: part(0.06, 0.15),
            head: part(if child { 0.07 } else { 0.056 }, 0.1),
            stance: part(0.065, 0.6),
            girth,
            breadth: 0.5 * girth + 0.5 * part(1.0, 0.15) / height,
        }
    }

    pub(crate) fn leg(&self) -> f32 {
        self.thigh + self.shin
    }

    /// Height of the hips in standing; knees are never quite straight.
    pub(crate) fn hip_height(&self) -> f32 {
        self.ankle + 0.992 * self.leg()
    }

    /// Height of a desk for it, seated: that of its elbows.
    pub(crate) fn desk_height(&self) -> f32 {
        self.hip_height() - SEAT_DROP * self.leg() + self.waist + self.chest - self.upper_arm
    }

    /// Arm directions that bring the wrist of either side to `target`, in the chest's axes and body heights from the
    /// middle of the shoulders (x outward, so negative beyond the middle), with the elbow towards `pole`.
    pub(crate) fn reach(&self, target: Vec3, pole: Vec3) -> (Vec3, Vec3) {
        let shoulder = v3(self.shoulder, 0.0, 0.0);
        let bones = (self.upper_arm, self.forearm);
        let (elbow, wrist) = two_bones(shoulder, target * self.height, bones, pole);
        ((elbow - shoulder).unit(), (wrist - elbow).unit())
    }

    /// All joints for `pose` at `root`, `lift` metres above the ground.
    pub(crate) fn solve(&self, pose: &Pose, root: &Root, lift: f32) -> Skeleton {
        let leg = self.leg();
        let offset = v3(pose.get(PELVIS_X), pose.get(PELVIS_Y), pose.get(PELVIS_Z)) * leg;
        let pelvis = v3(0.0, self.hip_height(), 0.0) + offset;
        let turned = Axes::WORLD.yaw(pose.get(PELVIS_YAW));
        let hips = turned.roll(pose.get(PELVIS_ROLL)).pitch(pose.get(PELVIS_PITCH).clamp(-0.6, 1.5));
        let spine = (pose.get(SPINE_TWIST).clamp(-0.8, 0.8), pose.get(SPINE_PITCH).clamp(-0.4, 1.1));
        let chest = hips.yaw(spine.0).roll(pose.get(SPINE_ROLL).clamp(-0.6, 0.6)).pitch(spine.1);
        let waist = pelvis + hips.up * self.waist;
        let neck = waist + chest.up * self.chest;
        let gaze = chest.yaw(pose.get(HEAD_YAW).clamp(-1.2, 1.2)).pitch(pose.get(HEAD_PITCH).clamp(-0.7, 0.8));
        let head = neck + chest.up * (0.25 * self.head) + gaze.up * (1.45 * self.head) + gaze.front * (0.2 * self.head);
        let mut skeleton = Skeleton { pelvis, waist, neck, head, hips, chest, gaze, sides: [Side::default(); 2] };
        for (side, joints) in skeleton.sides.iter_mut().enumerate() {
            self.solve_arm(pose, side, (neck, &chest), joints);
            self.solve_leg(pose, side, (pelvis, &hips, &turned), joints);
        }
        self.stand(&mut skeleton, pose, root, lift);
        skeleton
    }

    fn solve_arm(&self, pose: &Pose, side: usize, (neck, chest): (Vec3, &Axes), joints: &mut Side) {
        let out = sign(side);
        let (upper, fore) = pose.arm_directions(side);
        // An elbow closes to about 30 degrees.
        let fore =
            if upper.dot(fore) < -0.85 { (fore.across(upper).unit() * 0.53 - upper * 0.85).unit() } else { fore };
        // A raised arm lifts its shoulder.
        let raised = 0.022 * self.height * (upper.y.max(-0.2) + 0.2);
        let world = |p: Vec3| chest.apply(v3(p.x * out, p.y, p.z));
        joints.shoulder = neck + world(v3(self.shoulder, raised - 0.018 * self.height, 0.0));
        joints.elbow = joints.shoulder + world(upper) * self.upper_arm;
        joints.wrist = joints.elbow + world(fore) * self.forearm;
        joints.hand = joints.wrist + world(fore) * self.hand;
    }

    fn solve_leg(&self, pose: &Pose, side: usize, (pelvis, hips, turned): (Vec3, &Axes, &Axes), joints: &mut Side) {
        let out = sign(side);
        let (offset, toes_down) = pose.foot_place(side);
        joints.hip = pelvis + hips.right * (self.hip * out);
        let target = v3(out * self.stance, self.ankle, 0.0) + v3(offset.x * out, offset.y, offset.z) * self.leg();
        let pole = turned.front + turned.right * (0.18 * out);
        let (knee, ankle) = two_bones(joints.hip, target, (self.thigh, self.shin), pole);
        (joints.knee, joints.ankle) = (knee, ankle);
        let (s, c) = toes_down.clamp(-0.6, 1.4).sin_cos();
        let ahead = turned.front + turned.right * (0.2 * out);
        let toes = (ahead.unit() * c - turned.up * s).unit();
        let sole = (turned.up * c + ahead.unit() * s) * (self.ankle - 0.022 * self.height);
        joints.heel = ankle - sole - toes * (0.25 * self.foot);
        joints.toe = ankle - sole + toes * (0.75 * self.foot);
    }

    /// From the body's own axes into the world: whole-body tilt, heading, place, and nothing below the floor.
    fn stand(&self, skeleton: &mut Skeleton, pose: &Pose, root: &Root, lift: f32) {
        let heading = Axes::WORLD.yaw(root.yaw);
        let axes = heading.roll(pose.get(TILT_ROLL)).pitch(pose.get(TILT_PITCH));
        skeleton.each_point(|p| *p = axes.apply(*p));
        skeleton
            .each_axes(|a| *a = Axes { right: axes.apply(a.right), up: axes.apply(a.up), front: axes.apply(a.front) });
        let sole = 0.022 * self.height;
        let trunk = 0.055 * self.height * self.breadth;
        let lowest = skeleton.lowest(sole, trunk);
        // A tilted body lies on whatever is lowest; an upright one is only kept from sinking in.
        let sunk = -lowest;
        let shift = v3(root.x, lift + sunk.max(0.0), root.z);
        skeleton.each_point(|p| *p = *p + shift);
    }
}

/// Outward on the x axis for a side.
pub(crate) fn sign(side: usize) -> f32 {
    if side == 0 { -1.0 } else { 1.0 }
}

/// Where a body stands and which way it faces (0: the camera; positive: to the picture's right).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Root {
    pub(crate) x: f32,
    pub(crate) z: f32,
    pub(crate) yaw: f32,
}

/// The joints of one side.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Side {
    pub(crate) shoulder: Vec3,
    pub(crate) elbow: Vec3,
    pub(crate) wrist: Vec3,
    pub(crate) hand: Vec3,
    pub(crate) hip: Vec3,
    pub(crate) knee: Vec3,
    pub(crate) ankle: Vec3,
    pub(crate) heel: Vec3,
    pub(crate) toe: Vec3,
}

/// All joints in the world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Skeleton {
    pub(crate) pelvis: Vec3,
    pub(crate) waist: Vec3,
    pub(crate) neck: Vec3,
    pub(crate) head: Vec3,
    pub(crate) hips: Axes,
    pub(crate) chest: Axes,
    pub(crate) gaze: Axes,
    pub(crate) sides: [Side; 2],
}

impl Skeleton {
    fn each_point(&mut self, mut f: impl FnMut(&mut Vec3)) {
        for p in [&mut self.pelvis, &mut self.waist, &mut self.neck, &mut self.head] {
            f(p);
        }
        for s in &mut self.sides {
            for p in [&mut s.shoulder, &mut s.elbow, &mut s.wrist, &mut s.hand, &mut s.hip, &mut s.knee] {
                f(p);
            }
            for p in [&mut s.ankle, &mut s.heel, &mut s.toe] {
                f(p);
            }
        }
    }

    fn each_axes(&mut self, f: impl FnMut(&mut Axes)) {
        [&mut self.hips, &mut self.chest, &mut self.gaze].into_iter().for_each(f);
    }

    /// Height of the lowest surface point, for soles and trunk of the given radii.
    fn lowest(&self, sole: f32, trunk: f32) -> f32 {
        let side = |s: &Side| {
            let foot = s.heel.y.min(s.toe.y) - sole;
            let rest = s.elbow.y.min(s.wrist.y).min(s.hand.y).min(s.knee.y) - 1.2 * sole;
            foot.min(rest).min(s.shoulder.y - 1.5 * sole).min(s.hip.y - 2.0 * sole)
        };
        let middle = self.pelvis.y.min(self.neck.y).min(self.head.y) - trunk;
        middle.min(side(&self.sides[0])).min(side(&self.sides[1]))
    }

    /// Height of the lowest sole above the floor.
    #[cfg(test)]
    pub(crate) fn sole_height(&self, body: &Body) -> f32 {
        let foot = |s: &Side| s.heel.y.min(s.toe.y) - 0.022 * body.height;
        foot(&self.sides[0]).min(foot(&self.sides[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bones_keep_their_lengths_and_feet_stand_on_the_floor() {
        for seed in 0..40 {
            let mut dice = Dice::new(seed, 0);
            let body = Body::random(&mut dice, World::Studio);
            let pose = Pose::standing().with(PELVIS_Y, dice.between(-0.5, 0.0)).with(PELVIS_Z, dice.between(-0.2, 0.1));
            let skeleton = body.solve(&pose, &Root { x: 1.0, z: -2.0, yaw: 0.7 }, 0.0);
            for s in &skeleton.sides {
                assert!(((s.knee - s.hip).length() - body.thigh).abs() < 1e-3);
                assert!(((s.ankle - s.knee).length() - body.shin).abs() < 1e-3);
                assert!(((s.wrist - s.elbow).length() - body.forearm).abs() < 1e-3);
            }
            assert!(skeleton.sole_height(&body).abs() < 0.02, "{}", skeleton.sole_height(&body));
        }
    }

    #[test]
    fn reaching_brings_the_wrist_there() {
        let body = Body::random(&mut Dice::new(3, 0), World::Studio);
        let target = v3(-0.02, -0.05, 0.2);
        let (upper, fore) = body.reach(target, v3(0.5, -1.0, 0.0));
        let wrist = v3(body.shoulder, 0.0, 0.0) + upper * body.upper_arm + fore * body.forearm;
        assert!((wrist - target * body.height).length() < 1e-3);
    }
}
