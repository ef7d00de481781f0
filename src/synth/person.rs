//! Somebody in a scene: a body, how it looks, and what it does when.

use std::f32::consts::TAU;

use super::appearance::{Dresser, Look};
use super::body::{Body, Skeleton};
use super::dice::Dice;
use super::geometry::v3;
use super::pose::*;
use super::script::Script;

/// A body, how it looks, and what it does when.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) body: Body,
    pub(crate) look: Look,
    pub(crate) script: Script,
    sway: Sway,
}

impl Person {
    pub(crate) fn new(dice: &mut Dice, body: Body, look: Look, script: Script) -> Self {
        Self { sway: Sway::random(dice), body, look, script }
    }

    /// Number of the act at `t_s`.
    pub(crate) fn act_at(&self, t_s: f32) -> usize {
        let acts = &self.script.acts;
        acts.partition_point(|act| act.segment.end_s <= t_s).min(acts.len().saturating_sub(1))
    }

    pub(crate) fn skeleton(&self, t_s: f32) -> Skeleton {
        let act = &self.script.acts[self.act_at(t_s)];
        let (pose, root, lift) = act.at(t_s.clamp(act.segment.start_s, act.segment.end_s));
        self.body.solve(&self.sway.over(pose, t_s), &root, lift)
    }

    pub(crate) fn dress(&self, skeleton: &Skeleton, dresser: &mut Dresser) {
        dresser.dress(&self.body, &self.look, skeleton);
    }
}

/// Breathing, balance and tremor: a body is never quite still.
#[derive(Debug, Clone)]
struct Sway {
    amount: f32,
    tremor: f32,
    phases: [f32; 12],
}

impl Sway {
    fn random(dice: &mut Dice) -> Self {
        Self {
            amount: dice.between(0.3, 1.4),
            tremor: dice.between(0.002, 0.012),
            phases: [0.0; 12].map(|_| dice.between(0.0, 6.3)),
        }
    }

    fn over(&self, pose: Pose, t_s: f32) -> Pose {
        let wave = |i: usize, hz: f32| (TAU * hz * (1.0 + 0.05 * i as f32) * t_s + self.phases[i]).sin() * self.amount;
        let shake = |i: usize| {
            let p = self.phases[i];
            self.tremor
                * ((9.0 * t_s + p).sin() + 0.6 * (17.0 * t_s + 2.0 * p).sin() + 0.8 * (3.1 * t_s + 3.0 * p).sin())
        };
        let mut pose = pose
            .plus(PELVIS_X, 0.007 * wave(0, 0.23) + 0.003 * wave(1, 0.6))
            .plus(PELVIS_Z, 0.006 * wave(2, 0.31))
            .plus(SPINE_PITCH, 0.010 * wave(3, 0.28))
            .plus(SPINE_ROLL, 0.008 * wave(4, 0.19))
            .plus(SPINE_TWIST, 0.012 * wave(5, 0.17))
            .plus(HEAD_YAW, 0.03 * wave(6, 0.21))
            .plus(HEAD_PITCH, 0.02 * wave(7, 0.26));
        for side in 0..2 {
            let (upper, fore) = pose.arm_directions(side);
            let (a, b) = (shake(8 + side), shake(10 + side));
            pose = pose.arm(side, upper + v3(a, 0.0, b), fore + v3(1.5 * b, 0.7 * a, -a));
        }
        pose
    }
}
