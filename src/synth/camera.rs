//! The camera before a mannequin: framing, perspective, roll and a trembling hand. Lengths in the picture are shares of
//! its height, so that a scene looks the same in every size.

use std::f32::consts::TAU;

use super::World;
use super::dice::Dice;
use super::geometry::{Vec3, v3};

/// How much of the body is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// All of it.
    Whole,
    /// All of it with room to go about.
    Far,
    /// From about the waist or knees up.
    Upper,
    /// From a desk up, behind which the body sits.
    Desk,
}

impl Framing {
    /// Whether legs are out of the picture.
    pub(crate) fn cuts_legs(self) -> bool {
        matches!(self, Self::Upper | Self::Desk)
    }
}

/// A camera. It looks along -z, pitched down by a little.
#[derive(Debug, Clone)]
pub(crate) struct Camera {
    position: Vec3,
    front: Vec3,
    up: Vec3,
    /// Focal length, and where the point that it looks at lies from the middle, right and up, in picture heights.
    focal: f32,
    offset: (f32, f32),
    roll: (f32, f32),
    /// Amplitude of the tremble, in picture heights, and its seeds.
    shake: f32,
    phases: [f32; 4],
    /// Amplitude of a slow pan, in picture heights, and its frequency.
    pan: f32,
    pan_hz: f32,
}

/// A point in the picture: pixels from the top left corner, depth in metres, and pixels per metre there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Projected {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) depth: f32,
    pub(crate) scale: f32,
}

/// How much lower a sitting body is than a standing one, in body heights.
const SITTING: f32 = 0.22;
/// The nearest that is drawn, in metres.
const NEAR: f32 = 0.25;

impl Camera {
    /// A camera for a body of `height` metres at the origin.
    pub(crate) fn random(dice: &mut Dice, world: World, framing: Framing, height: f32) -> Self {
        let wild = world == World::Wild;
        let share = match framing {
            // A tenth of the picture's height is a body at the other end of a hall.
            Framing::Whole if wild && dice.chance(0.12) => dice.between(0.1, 0.35),
            Framing::Far if wild && dice.chance(0.15) => dice.between(0.1, 0.3),
            Framing::Whole => dice.between(0.35, 0.95),
            Framing::Far => dice.between(0.3, 0.65),
            Framing::Upper if wild => dice.between(0.85, 1.9),
            Framing::Upper => dice.between(0.85, 1.4),
            Framing::Desk => dice.between(1.1, 2.2),
        };
        let focal = dice.between(0.85, 1.7);
        let distance = focal * height / share;
        let top = if framing == Framing::Desk { 1.06 - SITTING } else { 1.06 };
        let aim = if framing.cuts_legs() { top - 0.5 / share } else { 0.5 } * height;
        let room = if framing.cuts_legs() { 0.09 } else { 0.45 * (1.0 - share) };
        // The larger the body, the nearer to the middle it has to be to be seen.
        let aside = (0.33 - 0.18 * share).max(0.08);
        let level = if framing == Framing::Desk { dice.between(0.45, 1.0) } else { dice.between(0.35, 1.25) } * height;
        let (lowest, steepest) = if wild { (-0.25, 0.5) } else { (-0.2, 0.3) };
        let pitch = ((level - aim) / distance).atan().clamp(lowest, steepest);
        let (s, c) = pitch.sin_cos();
        let roll = if dice.chance(0.5) { 0.02 * dice.normal() } else { 0.0 };
        let pan = if wild && dice.chance(0.12) { dice.between(0.02, 0.15) } else { 0.0 };
        Self {
            position: v3(0.0, aim + distance * s, distance * c),
            front: v3(0.0, -s, -c),
            up: v3(0.0, c, -s),
            focal,
            offset: (dice.between(-aside, aside), dice.between(-room, room)),
            roll: roll.sin_cos(),
            shake: if dice.chance(0.25) { dice.between(0.0005, if wild { 0.012 } else { 0.006 }) } else { 0.0 },
            phases: [0.0; 4].map(|_| dice.between(0.0, 6.3)),
            pan,
            pan_hz: if wild { dice.between(0.03, 0.15) } else { 0.0 },
        }
    }

    /// Where `p` is seen in a picture of the given size moved by `shift` pixels, or `None` behind or too near.
    pub(crate) fn project(&self, p: Vec3, (width, height): (f32, f32), shift: (f32, f32)) -> Option<Projected> {
        let from = p - self.position;
        let depth = from.dot(self.front);
        if depth < NEAR {
            return None;
        }
        let narrow = (width / height / 1.33).min(1.0);
        let x = self.focal * from.x / depth + self.offset.0 * narrow;
        let y = -self.focal * from.dot(self.up) / depth - self.offset.1;
        let (s, c) = self.roll;
        let at = (x * c - y * s, x * s + y * c);
        Some(Projected {
            x: 0.5 * width + at.0 * height + shift.0,
            y: 0.5 * height + at.1 * height + shift.1,
            depth,
            scale: self.focal * height / depth,
        })
    }

    /// A direction as right, down and towards the camera.
    pub(crate) fn view(&self, d: Vec3) -> Vec3 {
        let (x, y) = (d.x, -d.dot(self.up));
        let (s, c) = self.roll;
        v3(x * c - y * s, x * s + y * c, -d.dot(self.front))
    }

    /// The largest shift there is, in picture heights.
    pub(crate) fn largest_shift(&self) -> f32 {
        2.0 * self.shake + self.pan
    }

    /// The picture's shift by hand and pan at `t_s`, in picture heights.
    pub(crate) fn shift_at(&self, t_s: f32) -> (f32, f32) {
        let (x, y) = self.tremble(t_s);
        (x + self.pan * (TAU * self.pan_hz * t_s + self.phases[0]).sin(), y)
    }

    fn tremble(&self, t_s: f32) -> (f32, f32) {
        if self.shake == 0.0 {
            return (0.0, 0.0);
        }
        let [a, b, c, d] = self.phases;
        let x = (1.7 * t_s + a).sin() + 0.5 * (4.3 * t_s + b).sin() + 0.2 * (11.0 * t_s + c).sin();
        let y = (2.1 * t_s + d).sin() + 0.5 * (3.7 * t_s + a).sin() + 0.2 * (12.7 * t_s + b).sin();
        (self.shake * x, self.shake * y)
    }

    /// The point on the floor under the picture's column `u` (from the middle, in picture heights), `share` as large as
    /// a body at the origin is seen.
    pub(crate) fn floor_at(&self, u: f32, share: f32) -> (f32, f32) {
        let depth = (self.position.z / -self.front.z) / share;
        let z = self.position.z + self.front.z * depth;
        ((u - self.offset.0) * depth / self.focal, z)
    }

    /// Row (from the middle down, in picture heights) of the floor's line at `z` metres.
    pub(crate) fn floor_row(&self, z: f32) -> f32 {
        self.project(v3(0.0, 0.0, z), (1.33, 1.0), (0.0, 0.0)).map_or(1.0, |p| p.y - 0.5)
    }
}
