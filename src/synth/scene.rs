//! A mannequin, its place, its camera and its script, joined: what is to be seen at a time.

use std::f32::consts::TAU;

use super::appearance::{Dresser, Look};
use super::backdrop::{Backdrop, Canvas};
use super::body::Skeleton;
use super::conditions::Conditions;
use super::dice::Dice;
use super::exercise::{SEAT_BEHIND, SEAT_DROP};
use super::geometry::{Axes, v3};
use super::pose::*;
use super::raster::{Light, Limb, Raster};
use super::script::{self, Script, Stage};
use super::{Motion, Segment};
use crate::frame::Frame;

/// A mannequin, its place, its camera and its script. After the first picture of a size, pictures of that size are drawn
/// without allocation, except where a live scene cuts to another body.
#[derive(Debug)]
pub struct Scene {
    seed: u64,
    /// Number of the current take; `None` where there is only one.
    take: Option<u64>,
    subject: usize,
    now: Take,
    canvas: Canvas,
    raster: Raster,
    limbs: Vec<Limb>,
}

/// A stretch with one body, camera and backdrop.
#[derive(Debug)]
struct Take {
    stage: Stage,
    script: Script,
    look: Look,
    backdrop: Backdrop,
    light: Light,
    shadow: bool,
    sway: Sway,
    conditions: Conditions,
}

impl Take {
    fn new(dice: &mut Dice, (stage, script): (Stage, Script)) -> Self {
        let behind = dice.between(0.6, 4.0);
        let direction = v3(dice.between(-0.9, 0.9), dice.between(-1.0, 0.1), dice.between(0.4, 1.0)).unit();
        Self {
            backdrop: Backdrop::random(dice, stage.camera.floor_row(-behind)),
            look: Look::random(dice),
            light: Light { direction: [direction.x, direction.y, direction.z], ambient: dice.between(0.4, 0.8) },
            shadow: dice.chance(0.6),
            sway: Sway::random(dice),
            conditions: Conditions::calm(),
            stage,
            script,
        }
    }

    /// The take of a live scene that begins at `start_s`.
    fn live(seed: u64, number: u64, start_s: f32) -> Self {
        let mut dice = Dice::new(seed, 1000 + number);
        let parts = script::take(&mut dice, start_s);
        Self::new(&mut dice, parts)
    }

    fn act_at(&self, t_s: f32) -> usize {
        let acts = &self.script.acts;
        acts.partition_point(|act| act.segment.end_s <= t_s).min(acts.len().saturating_sub(1))
    }

    fn skeleton(&self, t_s: f32) -> Skeleton {
        let act = &self.script.acts[self.act_at(t_s)];
        let (pose, root, lift) = act.at(t_s.clamp(act.segment.start_s, act.segment.end_s));
        self.stage.body.solve(&self.sway.over(pose, t_s), &root, lift)
    }

    /// Puts body and furniture before the camera.
    fn dress(&self, skeleton: &Skeleton, dresser: &mut Dresser) {
        let body = &self.stage.body;
        if self.stage.chair {
            let axes = Axes::WORLD.yaw(self.stage.facing);
            let place = axes.front * (-SEAT_BEHIND * body.leg() - 0.02);
            let seat = body.hip_height() - SEAT_DROP * body.leg() - 0.055 * body.height * body.breadth - 0.03;
            dresser.chair(&self.look, &axes, place, seat.max(0.1));
        }
        dresser.dress(body, &self.look, skeleton);
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

impl Scene {
    /// A scene around one performance of `motion`: something else or nothing before, `motion`, nothing after.
    pub fn clip(seed: u64, motion: Motion) -> Self {
        let mut dice = Dice::new(seed, motion as u64);
        let (stage, script, subject) = script::clip(&mut dice, motion);
        Self::of(seed, None, subject, Take::new(&mut dice, (stage, script)))
    }

    /// An endless scene: several actions after one another with pauses of `nothing`, and every 20 to 60 seconds a cut to
    /// another body, camera and place.
    pub fn live(seed: u64) -> Self {
        Self::of(seed, Some(0), 0, Take::live(seed, 0, 0.0))
    }

    /// A scene in which one body does `motion` again and again for `seconds`, with short pauses: somebody who was asked to.
    pub fn drill(seed: u64, motion: Motion, seconds: f32) -> Self {
        let mut dice = Dice::new(seed, 500);
        let parts = script::drill(&mut dice, motion, seconds);
        Self::of(seed, None, 0, Take::new(&mut dice, parts))
    }

    fn of(seed: u64, take: Option<u64>, subject: usize, now: Take) -> Self {
        let (canvas, raster) = (Canvas::default(), Raster::default());
        Self { seed, take, subject, now, canvas, raster, limbs: Vec::with_capacity(48) }
    }

    /// Of a clip: the segment that it is about. Of a live scene: the first of the current body.
    pub fn subject(&self) -> Segment {
        self.now.script.acts[self.subject].segment
    }

    /// The segment at scene time `t_s`: segments follow one another without gaps from 0 on. After a clip's end, its last.
    pub fn segment_at(&mut self, t_s: f32) -> Segment {
        self.advance(t_s);
        self.now.script.acts[self.now.act_at(t_s)].segment
    }

    /// Goes to the take that shows `t_s`.
    fn advance(&mut self, t_s: f32) {
        let Some(mut number) = self.take else { return };
        let begins = |take: &Take| take.script.acts.first().map_or(0.0, |act| act.segment.start_s);
        if t_s < begins(&self.now) {
            number = 0;
            self.now = Take::live(self.seed, 0, 0.0);
            self.canvas.clear();
        }
        while t_s >= self.now.script.end_s() {
            number += 1;
            self.now = Take::live(self.seed, number, self.now.script.end_s());
            self.canvas.clear();
        }
        self.take = Some(number);
    }

    /// Draws the scene at time `t_s` into `frame`, in the size that it has, and sets its `truth`. Any order of times
    /// works; in a live scene going back over a cut takes longer.
    pub fn render(&mut self, t_s: f32, frame: &mut Frame) {
        let t_s = if t_s.is_finite() { t_s.max(0.0) } else { 0.0 };
        frame.truth = Some(self.segment_at(t_s).motion.label());
        let size = (frame.width() as usize, frame.height() as usize);
        if size.0 == 0 || size.1 == 0 {
            return;
        }
        let Self { now, canvas, raster, limbs, .. } = self;
        canvas.prepare(&now.backdrop, size, 2.0 * now.stage.camera.shake);
        canvas.film.prepare(&now.conditions, size);
        let pixels = frame.data_mut();
        let shutter_s = now.conditions.shutter_s;
        let count = now.exposures(t_s, size, limbs);
        for i in 0..count {
            let share = (i as f32 + 0.5) / count as f32;
            now.draw((t_s - shutter_s * share).max(0.0), (canvas, raster, limbs), size, pixels);
            if count > 1 {
                canvas.film.expose(pixels);
            }
        }
        if count > 1 {
            canvas.film.develop(count, pixels);
        }
        now.conditions.light(t_s, size, pixels);
        canvas.sense(&now.backdrop, t_s, pixels);
        now.conditions.transmit(t_s, &mut canvas.film, pixels);
    }
}

impl Take {
    /// The tremble at `t_s`, in pixels.
    fn shift(&self, t_s: f32, height: f32) -> (f32, f32) {
        let shift = self.stage.camera.tremble(t_s);
        (shift.0 * height, shift.1 * height)
    }

    /// Adds what there is of body and furniture at `t_s` to `limbs`.
    fn project(&self, t_s: f32, skeleton: &Skeleton, (width, height): (f32, f32), limbs: &mut Vec<Limb>) {
        let shift = self.shift(t_s, height);
        self.dress(skeleton, &mut Dresser { camera: &self.stage.camera, size: (width, height), shift, limbs });
    }

    /// How many exposures the picture at `t_s` is made of.
    fn exposures(&self, t_s: f32, (width, height): (usize, usize), limbs: &mut Vec<Limb>) -> usize {
        if self.conditions.shutter_s <= 0.0 {
            return 1;
        }
        let size = (width as f32, height as f32);
        let before_s = (t_s - self.conditions.shutter_s).max(0.0);
        limbs.clear();
        self.project(before_s, &self.skeleton(before_s), size, limbs);
        let half = limbs.len();
        self.project(t_s, &self.skeleton(t_s), size, limbs);
        Conditions::exposures(&limbs[..half], &limbs[half..])
    }

    /// Draws what is to be seen at `t_s`, before anything that a sensor does to it.
    fn draw(
        &self,
        t_s: f32,
        (canvas, raster, limbs): (&Canvas, &mut Raster, &mut Vec<Limb>),
        size: (usize, usize),
        pixels: &mut [u8],
    ) {
        let (width, height) = (size.0 as f32, size.1 as f32);
        let camera = &self.stage.camera;
        let shift = self.shift(t_s, height);
        canvas.copy(shift, pixels);
        canvas.drift(&self.backdrop, t_s, pixels);
        self.conditions.draw_movers(t_s, size, shift, pixels);
        let skeleton = self.skeleton(t_s);
        limbs.clear();
        self.project(t_s, &skeleton, (width, height), limbs);
        raster.begin(size.0, size.1);
        if let Some(wall) = &self.conditions.wall {
            let floor = (0.5 + self.backdrop.floor_row) * height + shift.1;
            wall.cast(limbs, ((width, height), shift), floor, raster, pixels);
        }
        if self.shadow {
            let middle = v3(skeleton.pelvis.x, 0.0, skeleton.pelvis.z);
            if let Some(at) = camera.project(middle, (width, height), shift) {
                let flat = camera.view(v3(0.0, 1.0, 0.0)).z.abs().max(0.04);
                canvas.shadow((at.x, at.y), (0.42 * at.scale, 0.42 * at.scale * flat), pixels);
            }
        }
        limbs.sort_unstable_by(|a, b| (b.from[3] + b.to[3]).total_cmp(&(a.from[3] + a.to[3])));
        limbs.iter().for_each(|limb| raster.draw(limb, &self.light, pixels));
    }
}

#[cfg(test)]
impl Scene {
    /// The same scene under other conditions.
    pub(crate) fn under(mut self, conditions: Conditions) -> Self {
        self.now.conditions = conditions;
        self.canvas.clear();
        self
    }

    /// The joints at `t_s`.
    pub(crate) fn skeleton(&self, t_s: f32) -> Skeleton {
        self.now.skeleton(t_s)
    }

    /// Where the wrists are seen at `t_s` in a picture of the given size.
    pub(crate) fn wrists(&self, t_s: f32, size: (f32, f32)) -> [(f32, f32); 2] {
        let skeleton = self.skeleton(t_s);
        skeleton.sides.map(|side| {
            let at = self.now.stage.camera.project(side.wrist, size, (0.0, 0.0));
            at.map_or((0.0, 0.0), |at| (at.x, at.y))
        })
    }

    /// Height of the lower sole above the floor at `t_s`.
    pub(crate) fn sole_height(&self, t_s: f32) -> f32 {
        self.skeleton(t_s).sole_height(&self.now.stage.body)
    }
}
