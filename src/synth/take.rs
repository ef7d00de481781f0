//! A stretch of a scene with one camera, backdrop and acting body: what there is, and how it is drawn.

use super::World;
use super::appearance::{Dresser, Look};
use super::backdrop::{Backdrop, Canvas};
use super::body::Skeleton;
use super::camera::Framing;
use super::conditions::Conditions;
use super::desk::Desk;
use super::dice::Dice;
use super::exercise::{SEAT_BEHIND, SEAT_DROP};
use super::geometry::{Axes, v3};
use super::person::Person;
use super::raster::{Light, Limb, Raster};
use super::script::{self, Script, Stage};

/// A stretch with one camera and backdrop, and one body that acts.
#[derive(Debug)]
pub(crate) struct Take {
    pub(crate) stage: Stage,
    pub(crate) actor: Person,
    /// Who else is there.
    pub(crate) others: Vec<Person>,
    pub(crate) desk: Option<Desk>,
    pub(crate) backdrop: Backdrop,
    light: Light,
    shadow: bool,
    pub(crate) conditions: Conditions,
}

impl Take {
    pub(crate) fn new(dice: &mut Dice, (stage, script): (Stage, Script)) -> Self {
        let behind = dice.between(0.6, 4.0);
        let direction = v3(dice.between(-0.9, 0.9), dice.between(-1.0, 0.1), dice.between(0.4, 1.0)).unit();
        let backdrop = Backdrop::random(dice, stage.camera.floor_row(-behind));
        let look = Look::random(dice);
        let light = Light { direction: [direction.x, direction.y, direction.z], ambient: dice.between(0.4, 0.8) };
        let shadow = dice.chance(0.6);
        let actor = Person::new(dice, stage.body.clone(), look, script);
        let others = if stage.world == World::Wild { company(dice, &stage, &actor.script) } else { Vec::new() };
        let desk = (stage.framing == Framing::Desk).then(|| Desk::random(dice, &stage.body));
        let conditions = if stage.world == World::Wild { Conditions::random(dice) } else { Conditions::calm() };
        Self { stage, actor, others, desk, backdrop, light, shadow, conditions }
    }

    /// The take of a live scene that begins at `start_s`.
    pub(crate) fn live(world: World, seed: u64, number: u64, start_s: f32) -> Self {
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

    /// How far the picture is moved at `t_s`, in pixels.
    fn shift(&self, t_s: f32, height: f32) -> (f32, f32) {
        let shift = self.stage.camera.shift_at(t_s);
        (shift.0 * height, shift.1 * height)
    }

    /// Adds what there is of bodies and furniture at `t_s` to `limbs`.
    fn project(&self, t_s: f32, (width, height): (f32, f32), limbs: &mut Vec<Limb>) {
        let shift = self.shift(t_s, height);
        self.dress(t_s, &mut Dresser { camera: &self.stage.camera, size: (width, height), shift, limbs });
    }

    /// How many exposures the picture at `t_s` is made of.
    pub(crate) fn exposures(&self, t_s: f32, (width, height): (usize, usize), limbs: &mut Vec<Limb>) -> usize {
        if self.conditions.shutter_s <= 0.0 {
            return 1;
        }
        let size = (width as f32, height as f32);
        let before_s = (t_s - self.conditions.shutter_s).max(0.0);
        limbs.clear();
        self.project(before_s, size, limbs);
        let half = limbs.len();
        self.project(t_s, size, limbs);
        Conditions::exposures(&limbs[..half], &limbs[half..])
    }

    /// Draws what is to be seen at `t_s`, before anything that a sensor does to it.
    pub(crate) fn draw(
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
        limbs.clear();
        self.project(t_s, (width, height), limbs);
        raster.begin(size.0, size.1);
        if let Some(wall) = &self.conditions.wall {
            let floor = (0.5 + self.backdrop.floor_row) * height + shift.1;
            wall.cast(limbs, ((width, height), shift), floor, raster, pixels);
        }
        for (_, skeleton) in self.people(t_s).filter(|_| self.shadow) {
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

/// Who else is in the wild: mostly nobody, and never where there would be nobody, since a body alone that walks by walks. Each is
/// drawn apart, so that what the actor does changes no more than how long they are there.
fn company(dice: &mut Dice, stage: &Stage, script: &Script) -> Vec<Person> {
    let count = dice.pick(&[0, 0, 0, 1, 1, 2]);
    let seed = dice.seed();
    let someone = |number| {
        let dice = &mut Dice::new(seed, number);
        let look = Look::random(dice);
        let (body, script) = script::bystander(dice, stage, (script.start_s(), script.end_s()));
        Person::new(dice, body, look, script)
    };
    (0..if script.is_away() { 0 } else { count }).map(someone).collect()
}
