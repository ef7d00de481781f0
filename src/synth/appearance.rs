//! How a mannequin looks: skin, hair, clothes, and the limbs that its skeleton is dressed with.

use super::body::{Body, Skeleton, sign};
use super::camera::Camera;
use super::dice::Dice;
use super::geometry::{Axes, Vec3, v3};
use super::raster::{Limb, Pattern};

/// Colours and cut of the clothes.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    skin: [f32; 3],
    hair: [f32; 3],
    shirt: [f32; 3],
    trousers: [f32; 3],
    shoes: [f32; 3],
    sleeve: Sleeve,
    shorts: bool,
    long_hair: bool,
    pattern: Pattern,
    chair: [f32; 3],
    backrest: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleeve {
    Long,
    Short,
    None,
}

/// Any colour, cloth-like: mostly muted, at times bright or nearly black or white.
pub(crate) fn cloth(dice: &mut Dice) -> [f32; 3] {
    let level = dice.between(15.0, 235.0);
    let spread = if dice.chance(0.4) { 90.0 } else { 30.0 };
    [0; 3].map(|_| (level + dice.between(-spread, spread)).clamp(8.0, 250.0))
}

impl Look {
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let tone = dice.between(0.32, 1.05);
        let warm = dice.between(-12.0, 12.0);
        let skin = [232.0 * tone + 10.0, 186.0 * tone + warm * 0.5, 155.0 * tone + warm].map(|c: f32| c.min(250.0));
        let hair = dice.pick(&[
            [25.0, 20.0, 18.0],
            [60.0, 40.0, 25.0],
            [120.0, 85.0, 50.0],
            [190.0, 160.0, 100.0],
            [150.0; 3],
        ]);
        let strength = dice.between(0.1, 0.45);
        let pattern = match dice.whole(0, 9) {
            0 | 1 => Pattern::Rings { count: dice.between(2.0, 7.0), strength },
            2 | 3 => Pattern::Stripes { count: dice.between(2.0, 7.0), strength },
            _ => Pattern::Plain,
        };
        Self {
            skin,
            hair: hair.map(|c| c * dice.between(0.7, 1.2)),
            shirt: cloth(dice),
            trousers: cloth(dice),
            shoes: cloth(dice),
            sleeve: dice.pick(&[Sleeve::Long, Sleeve::Long, Sleeve::Long, Sleeve::Short, Sleeve::Short, Sleeve::None]),
            shorts: dice.chance(0.2),
            long_hair: dice.chance(0.35),
            pattern,
            chair: cloth(dice),
            backrest: dice.chance(0.7),
        }
    }
}

/// A limb in the world: ends and radii in metres.
#[derive(Clone, Copy)]
struct Solid {
    ends: [Vec3; 2],
    radii: [f32; 2],
    /// Axes of the cross-section and its depth against its width; round if `None`.
    flat: Option<(Axes, f32)>,
    cap: f32,
    color: [f32; 3],
    pattern: Pattern,
}

fn round(ends: [Vec3; 2], radii: [f32; 2], color: [f32; 3]) -> Solid {
    Solid { ends, radii, flat: None, cap: 1.0, color, pattern: Pattern::Plain }
}

/// Projects solids and collects them as limbs.
pub(crate) struct Dresser<'a> {
    pub(crate) camera: &'a Camera,
    pub(crate) size: (f32, f32),
    pub(crate) shift: (f32, f32),
    pub(crate) limbs: &'a mut Vec<Limb>,
}

impl Dresser<'_> {
    fn put(&mut self, solid: &Solid) {
        let project = |p| self.camera.project(p, self.size, self.shift);
        let (Some(a), Some(b)) = (project(solid.ends[0]), project(solid.ends[1])) else { return };
        let (mut widen, mut bulge) = (1.0, 1.0);
        if let Some((axes, depth)) = solid.flat {
            let (dx, dy) = (b.x - a.x, b.y - a.y);
            let length = dx.hypot(dy).max(1e-3);
            let across = |d: Vec3| (d.x * -dy + d.y * dx) / length;
            let (right, front) = (self.camera.view(axes.right), self.camera.view(axes.front));
            widen = across(right).hypot(across(front) * depth).max(depth * 0.8);
            bulge = right.z.hypot(front.z * depth).max(depth * 0.8);
        }
        let [ra, rb] = solid.radii;
        self.limbs.push(Limb {
            from: [a.x, a.y, ra * a.scale * widen, a.depth],
            to: [b.x, b.y, rb * b.scale * widen, b.depth],
            bulge: 0.5 * (ra + rb) * bulge,
            cap: solid.cap,
            color: solid.color,
            pattern: solid.pattern,
        });
    }

    /// Adds the limbs of a body.
    pub(crate) fn dress(&mut self, body: &Body, look: &Look, skeleton: &Skeleton) {
        self.torso(body, look, skeleton);
        self.head(body, look, skeleton);
        let thick = body.height * body.girth;
        let upper_arm = if look.sleeve == Sleeve::None { look.skin } else { look.shirt };
        let forearm = if look.sleeve == Sleeve::Long { look.shirt } else { look.skin };
        let shin = if look.shorts { look.skin } else { look.trousers };
        for s in &skeleton.sides {
            let cuff = s.wrist.lerp(s.elbow, 0.05);
            self.put(&round([s.shoulder, s.elbow], [0.030 * thick, 0.024 * thick], upper_arm));
            self.put(&round([s.elbow, cuff], [0.0235 * thick, 0.018 * thick], forearm));
            self.put(&round([s.wrist, s.hand], [0.018 * body.height, 0.021 * body.height], look.skin));
            self.put(&round([s.hip, s.knee], [0.050 * thick, 0.034 * thick], look.trousers));
            self.put(&round([s.knee, s.ankle], [0.033 * thick, 0.023 * thick], shin));
            self.put(&round([s.heel, s.toe], [0.024 * body.height, 0.020 * body.height], look.shoes));
        }
    }

    fn torso(&mut self, body: &Body, look: &Look, skeleton: &Skeleton) {
        let wide = body.breadth;
        let (hip, waist) = ((body.hip + 0.033 * body.height) * wide.sqrt(), 0.078 * body.height * wide);
        let chest = (body.shoulder * 0.86).max(waist * 0.9);
        let belly = skeleton.waist + skeleton.hips.up * (0.01 * body.height);
        let top = skeleton.neck - skeleton.chest.up * (0.045 * body.height);
        let flat = |ends, radii, axes, color, pattern| Solid {
            ends,
            radii,
            flat: Some((axes, 0.66)),
            cap: 2.2,
            color,
            pattern,
        };
        let seat = skeleton.pelvis - skeleton.hips.up * (0.015 * body.height);
        self.put(&flat([seat, belly], [hip, waist], skeleton.hips, look.trousers, Pattern::Plain));
        self.put(&flat([belly, top], [waist * 1.03, chest], skeleton.chest, look.shirt, look.pattern));
        let hem = skeleton.waist - skeleton.hips.up * (0.07 * body.height);
        self.put(&flat([hem, belly], [hip * 1.03, waist * 1.04], skeleton.hips, look.shirt, Pattern::Plain));
        // The slope from the neck to each shoulder.
        for s in &skeleton.sides {
            let root = skeleton.neck - skeleton.chest.up * (0.02 * body.height);
            self.put(&round([root, s.shoulder], [0.034 * body.height, 0.031 * body.height * body.girth], look.shirt));
        }
    }

    fn head(&mut self, body: &Body, look: &Look, skeleton: &Skeleton) {
        let (up, front, r) = (skeleton.gaze.up, skeleton.gaze.front, body.head);
        let head = skeleton.head;
        self.put(&round([skeleton.neck, head], [0.030 * body.height, 0.028 * body.height], look.skin));
        self.put(&round([head - up * (0.3 * r), head + up * (0.2 * r)], [0.8 * r, 0.95 * r], look.skin));
        let crown = head + up * (0.28 * r) - front * (0.18 * r);
        let (nape, behind) = if look.long_hair { (-1.5, 0.8) } else { (-0.1, 0.4) };
        self.put(&round([crown, head + up * (nape * r) - front * (behind * r)], [1.02 * r, 0.7 * r], look.hair));
    }

    /// Adds a round bar between `ends`.
    pub(crate) fn bar(&mut self, ends: [Vec3; 2], radius: f32, color: [f32; 3]) {
        self.put(&round(ends, [radius; 2], color));
    }

    /// Adds a chair whose seat is `height` above the floor with its middle at `place`, facing as `axes` do.
    pub(crate) fn chair(&mut self, look: &Look, axes: &Axes, place: Vec3, height: f32) {
        let at = |x: f32, y: f32, z: f32| place + axes.apply(v3(x, y, z));
        for i in 0..4 {
            let z = 0.15 - 0.11 * i as f32;
            self.put(&round([at(-0.2, height, z), at(0.2, height, z)], [0.03; 2], look.chair));
        }
        for side in 0..2 {
            let x = sign(side) * 0.2;
            for z in [0.15, -0.19] {
                let top = if z < 0.0 && look.backrest { height + 0.45 } else { height };
                self.put(&round([at(x, 0.02, z), at(x, top, z)], [0.02; 2], look.chair.map(|c| c * 0.8)));
            }
        }
        if look.backrest {
            for i in 0..3 {
                let y = height + 0.2 + 0.11 * i as f32;
                self.put(&round([at(-0.2, y, -0.2), at(0.2, y, -0.2)], [0.045; 2], look.chair));
            }
        }
    }
}
