//! Points, directions and frames of the mannequin's world: metres, x to the picture's right, y up, z towards the camera.

use std::ops::{Add, Mul, Sub};

/// A point or direction.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Vec3 {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) z: f32,
}

/// Short for a [`Vec3`].
pub(crate) const fn v3(x: f32, y: f32, z: f32) -> Vec3 {
    Vec3 { x, y, z }
}

impl Add for Vec3 {
    type Output = Vec3;
    fn add(self, o: Vec3) -> Vec3 {
        v3(self.x + o.x, self.y + o.y, self.z + o.z)
    }
}

impl Sub for Vec3 {
    type Output = Vec3;
    fn sub(self, o: Vec3) -> Vec3 {
        v3(self.x - o.x, self.y - o.y, self.z - o.z)
    }
}

impl Mul<f32> for Vec3 {
    type Output = Vec3;
    fn mul(self, s: f32) -> Vec3 {
        v3(self.x * s, self.y * s, self.z * s)
    }
}

impl Vec3 {
    pub(crate) fn dot(self, o: Vec3) -> f32 {
        self.x * o.x + self.y * o.y + self.z * o.z
    }

    pub(crate) fn length(self) -> f32 {
        self.dot(self).sqrt()
    }

    /// The direction, or straight down where there is none.
    pub(crate) fn unit(self) -> Vec3 {
        let length = self.length();
        if length > 1e-6 { self * (1.0 / length) } else { v3(0.0, -1.0, 0.0) }
    }

    /// The part of this that is at right angles to the unit direction `axis`.
    pub(crate) fn across(self, axis: Vec3) -> Vec3 {
        self - axis * self.dot(axis)
    }

    pub(crate) fn lerp(self, o: Vec3, t: f32) -> Vec3 {
        self + (o - self) * t
    }
}

/// Three directions at right angles: a body part's right (the picture's right when it faces the camera), up and front.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Axes {
    pub(crate) right: Vec3,
    pub(crate) up: Vec3,
    pub(crate) front: Vec3,
}

impl Axes {
    pub(crate) const WORLD: Axes = Axes { right: v3(1.0, 0.0, 0.0), up: v3(0.0, 1.0, 0.0), front: v3(0.0, 0.0, 1.0) };

    /// From these axes into the world.
    pub(crate) fn apply(&self, p: Vec3) -> Vec3 {
        self.right * p.x + self.up * p.y + self.front * p.z
    }

    fn compose(&self, local: Axes) -> Axes {
        Axes { right: self.apply(local.right), up: self.apply(local.up), front: self.apply(local.front) }
    }

    /// Leans forward by `angle`.
    pub(crate) fn pitch(&self, angle: f32) -> Axes {
        let (s, c) = angle.sin_cos();
        self.compose(Axes { right: v3(1.0, 0.0, 0.0), up: v3(0.0, c, s), front: v3(0.0, -s, c) })
    }

    /// Leans to the right by `angle`.
    pub(crate) fn roll(&self, angle: f32) -> Axes {
        let (s, c) = angle.sin_cos();
        self.compose(Axes { right: v3(c, -s, 0.0), up: v3(s, c, 0.0), front: v3(0.0, 0.0, 1.0) })
    }

    /// Turns to the right by `angle`.
    pub(crate) fn yaw(&self, angle: f32) -> Axes {
        let (s, c) = angle.sin_cos();
        self.compose(Axes { right: v3(c, 0.0, -s), up: v3(0.0, 1.0, 0.0), front: v3(s, 0.0, c) })
    }
}

/// From 0 to 1 with rest at both ends.
pub(crate) fn smooth(x: f32) -> f32 {
    let x = x.clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

/// Two-bone joint: the middle joint between `root` and `target` for bones of lengths `upper` and `lower`, bent towards
/// `pole`, and the end that is reached.
pub(crate) fn two_bones(root: Vec3, target: Vec3, (upper, lower): (f32, f32), pole: Vec3) -> (Vec3, Vec3) {
    let to = target - root;
    let axis = to.unit();
    let shortest = (upper - lower).abs() + 0.28 * upper.min(lower);
    let reach = to.length().clamp(shortest, (upper + lower) * 0.9995);
    let along = (upper * upper - lower * lower + reach * reach) / (2.0 * reach);
    let aside = (upper * upper - along * along).max(0.0).sqrt();
    (root + axis * along + pole.across(axis).unit() * aside, root + axis * reach)
}
