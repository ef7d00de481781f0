//! Mannequins, their place, camera and scripts, joined: what is to be seen at a time.

use super::backdrop::Canvas;
use super::dice::Dice;
use super::raster::{Limb, Raster};
use super::take::Take;
use super::{Motion, Segment, World, script};
use crate::frame::Frame;

#[cfg(test)]
use super::{body::Skeleton, conditions::Conditions};

/// A mannequin, its place, its camera and its script. After the first picture of a size, pictures of that size are drawn
/// without allocation, except where a live scene cuts to another body.
#[derive(Debug)]
pub struct Scene {
    world: World,
    seed: u64,
    /// Number of the current take; `None` where there is only one.
    take: Option<u64>,
    subject: usize,
    now: Take,
    canvas: Canvas,
    raster: Raster,
    limbs: Vec<Limb>,
}

impl Scene {
    /// A scene around one performance of `motion`: something else or nothing before, `motion`, nothing after.
    pub fn clip(world: World, seed: u64, motion: Motion) -> Self {
        let mut dice = Dice::new(seed, motion as u64);
        let (stage, script, subject) = script::clip(&mut dice, world, motion);
        Self::of((world, seed), None, subject, Take::new(&mut dice, (stage, script)))
    }

    /// An endless scene: several actions after one another with pauses of `nothing`, and every 20 to 60 seconds a cut to
    /// another body, camera and place.
    pub fn live(world: World, seed: u64) -> Self {
        Self::of((world, seed), Some(0), 0, Take::live(world, seed, 0, 0.0))
    }

    /// A scene in which one body does `motion` again and again for `seconds`, with short pauses: somebody who was asked to.
    pub fn drill(world: World, seed: u64, motion: Motion, seconds: f32) -> Self {
        let mut dice = Dice::new(seed, 500);
        let parts = script::drill(&mut dice, world, motion, seconds);
        Self::of((world, seed), None, 0, Take::new(&mut dice, parts))
    }

    fn of((world, seed): (World, u64), take: Option<u64>, subject: usize, now: Take) -> Self {
        let (canvas, raster) = (Canvas::default(), Raster::default());
        Self { world, seed, take, subject, now, canvas, raster, limbs: Vec::with_capacity(200) }
    }

    /// Of a clip: the segment that it is about. Of a live scene: the first of the current body.
    pub fn subject(&self) -> Segment {
        self.now.actor.script.acts[self.subject].segment
    }

    /// The segment at scene time `t_s`: segments follow one another without gaps from 0 on. After a clip's end, its last.
    pub fn segment_at(&mut self, t_s: f32) -> Segment {
        self.advance(t_s);
        self.now.actor.script.acts[self.now.actor.act_at(t_s)].segment
    }

    /// Goes to the take that shows `t_s`.
    fn advance(&mut self, t_s: f32) {
        let Some(mut number) = self.take else { return };
        let begins = |take: &Take| take.actor.script.acts.first().map_or(0.0, |act| act.segment.start_s);
        if t_s < begins(&self.now) {
            number = 0;
            self.now = Take::live(self.world, self.seed, 0, 0.0);
            self.canvas.clear();
        }
        while t_s >= self.now.actor.script.end_s() {
            number += 1;
            self.now = Take::live(self.world, self.seed, number, self.now.actor.script.end_s());
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
        canvas.prepare(&now.backdrop, size, now.stage.camera.largest_shift());
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

#[cfg(test)]
impl Scene {
    pub(crate) fn at_a_desk(&self) -> bool {
        self.now.desk.is_some()
    }

    /// How many people there are.
    pub(crate) fn people(&self) -> usize {
        1 + self.now.others.len()
    }

    /// The same scene under other conditions.
    pub(crate) fn under(mut self, conditions: Conditions) -> Self {
        self.now.conditions = conditions;
        self.canvas.clear();
        self
    }

    /// The joints at `t_s`.
    pub(crate) fn skeleton(&self, t_s: f32) -> Skeleton {
        self.now.actor.skeleton(t_s)
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
