//! The desk behind which a body sits: it hides the legs, and at times a screen on it hides part of the rest.

use super::appearance::{Dresser, cloth};
use super::body::Body;
use super::dice::Dice;
use super::geometry::{Vec3, v3};

/// A desk, in metres; the body sits at the origin.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    top: f32,
    half_width: f32,
    /// Where it begins, before the body, and ends, nearer to the camera.
    depth: (f32, f32),
    /// Whether its front reaches to the floor.
    closed: bool,
    color: [f32; 3],
    screen: Option<Screen>,
}

/// The back of a screen.
#[derive(Debug, Clone)]
struct Screen {
    x: f32,
    half_width: f32,
    height: f32,
    color: [f32; 3],
}

/// Distance of the bars that it is drawn as.
const BAR: f32 = 0.05;

impl Desk {
    pub(crate) fn random(dice: &mut Dice, body: &Body) -> Self {
        let near = dice.between(-0.1, 0.02);
        let screen = dice.chance(0.3).then(|| {
            let half_width = dice.between(0.14, 0.25);
            // Beside the body, or only the arm of that side would be left of it.
            let x = dice.sign() * (half_width + dice.between(0.1, 0.4));
            Screen { x, half_width, height: dice.between(0.12, 0.28), color: cloth(dice) }
        });
        Self {
            top: body.desk_height() + dice.between(-0.03, 0.03),
            half_width: dice.between(0.6, 1.2),
            depth: (near, near + dice.between(0.3, 0.6)),
            closed: dice.chance(0.5),
            color: cloth(dice),
            screen,
        }
    }

    pub(crate) fn dress(&self, dresser: &mut Dresser) {
        let mut bar = |x: f32, half: f32, at: Vec3, color: [f32; 3]| {
            dresser.bar([at + v3(x - half, 0.0, 0.0), at + v3(x + half, 0.0, 0.0)], 0.8 * BAR, color);
        };
        let rows = |length: f32| 0..=(length / BAR) as usize;
        for i in rows(self.depth.1 - self.depth.0) {
            bar(0.0, self.half_width, v3(0.0, self.top, self.depth.0 + BAR * i as f32), self.color);
        }
        if self.closed {
            for i in rows(self.top - 0.1) {
                bar(
                    0.0,
                    self.half_width,
                    v3(0.0, self.top - BAR * i as f32, self.depth.1),
                    self.color.map(|c| 0.8 * c),
                );
            }
        }
        if let Some(Screen { x, half_width, height, color }) = self.screen {
            let z = self.depth.0 + 0.1;
            for i in rows(height) {
                bar(x, half_width, v3(0.0, self.top + BAR * (i + 1) as f32, z), color);
            }
        }
    }
}
