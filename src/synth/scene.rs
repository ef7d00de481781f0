//! Mannequins, their place, camera and scripts, joined: what is to be seen at a time.

use super::appearance::{Dresser, Look};
use super::backdrop::{Backdrop, Canvas};
use super::body::Skeleton;
use super::camera::Framing;
use super::desk::Desk;
use super::dice::Dice;
use super::exercise::{SEAT_BEHIND, SEAT_DROP};
use super::geometry::{Axes, v3};
use super::person::Person;
use super::raster::{Light, Limb, Raster};
use super::script::{self, Script, Stage};
use super::{Motion, Segment, World};
use crate::frame::Frame;

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

/// A stretch with one camera and backdrop, and one body that acts.
#[derive(Debug)]
struct Take {
    stage: Stage,
    actor: Person,
    /// Who else is there.
    others: Vec<Person>,
    desk: Option<Desk>,
    backdrop: Backdrop,
    light: Light,
    shadow: bool,
}

impl Take {
    fn new(dice: &mut Dice, (stage, script): (Stage, Script)) -> Self {
        let behind = dice.between(0.6, 4.0);
        let direction = v3(dice.between(-0.9, 0.9), dice.between(-1.0, 0.1), dice.between(0.4, 1.0)).unit();
        let backdrop = Backdrop::random(dice, stage.camera.floor_row(-behind));
        let look = Look::random(dice);
        let light = Light { direction: [direction.x, direction.y, direction.z], ambient: dice.between(0.4, 0.8) };
        let shadow = dice.chance(0.6);
        let actor = Person::new(dice, stage.body.clone(), look, script);
        let others = if stage.world == World::Wild { company(dice, &stage, &actor.script) } else { Vec::new() };
        let desk = (stage.framing == Framing::Desk).then(|| Desk::random(dice, &stage.body));
        Self { stage, actor, others, desk, backdrop, light, shadow }
    }

    /// The take of a live scene that begins at `start_s`.
    fn live(world: World, seed: u64, number: u64, start_s: f32) -> Self {
        let mut dice = Dice::new(seed, 1000 + number);
        let parts = script::take(&mut dice, world, start_s);
        Self::new(&mut dice, parts)
    }

    /// Everybody at `t_s`, the one who acts first.
    fn people(&self, t_s: f32) -> impl Iterator<Item = (&Person, Skeleton)> {
        std::iter::once(&self.actor).chain(&self.others).map(move |person| (person, person.skeleton(t_s)))
    }

    /// Puts bodies and furniture before the camera.
    fn dress(&self, t_s: f32, dresser: &mut Dresser) {
        let (body, look) = (&self.stage.body, &self.actor.look);
        if self.stage.chair {
            let axes = Axes::WORLD.yaw(self.stage.facing);
            let place = axes.front * (-SEAT_BEHIND * body.leg() - 0.02);
            let seat = body.hip_height() - SEAT_DROP * body.leg() - 0.055 * body.height * body.breadth - 0.03;
            dresser.chair(look, &axes, place, seat.max(0.1));
        }
        if let Some(desk) = &self.desk {
            desk.dress(dresser);
        }
        self.people(t_s).for_each(|(person, skeleton)| person.dress(&skeleton, dresser));
    }
}

/// Who else is in the wild: mostly nobody.
fn company(dice: &mut Dice, stage: &Stage, script: &Script) -> Vec<Person> {
    let count = dice.pick(&[0, 0, 0, 1, 1, 2]);
    let mut someone = || {
        let (body, script) = script::bystander(dice, stage, (script.start_s(), script.end_s()));
        let look = Look::random(dice);
        Person::new(dice, body, look, script)
    };
    (0..count).map(|_| someone()).collect()
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
        Self { world, seed, take, subject, now, canvas, raster, limbs: Vec::with_capacity(48) }
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
        let (width, height) = (size.0 as f32, size.1 as f32);
        let camera = &now.stage.camera;
        let shift = camera.shift_at(t_s);
        let shift = (shift.0 * height, shift.1 * height);
        canvas.prepare(&now.backdrop, size, camera.largest_shift());
        let pixels = frame.data_mut();
        canvas.copy(shift, pixels);
        canvas.drift(&now.backdrop, t_s, pixels);
        if now.shadow {
            for (_, skeleton) in now.people(t_s) {
                let middle = v3(skeleton.pelvis.x, 0.0, skeleton.pelvis.z);
                if let Some(at) = camera.project(middle, (width, height), shift) {
                    let flat = camera.view(v3(0.0, 1.0, 0.0)).z.abs().max(0.04);
                    canvas.shadow((at.x, at.y), (0.42 * at.scale, 0.42 * at.scale * flat), pixels);
                }
            }
        }
        limbs.clear();
        now.dress(t_s, &mut Dresser { camera, size: (width, height), shift, limbs });
        limbs.sort_unstable_by(|a, b| (b.from[3] + b.to[3]).total_cmp(&(a.from[3] + a.to[3])));
        raster.begin(size.0, size.1);
        limbs.iter().for_each(|limb| raster.draw(limb, &now.light, pixels));
        canvas.sense(&now.backdrop, t_s, pixels);
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
