//! What the wind moves: curtains, leaves and branches.

use std::f32::consts::TAU;

use super::background::{Area, Easel, blend};
use crate::synth::dice::Dice;

/// Wind: it comes and goes.
#[derive(Debug, Clone)]
struct Wind {
    strength: f32,
    phases: [f32; 2],
}

impl Wind {
    fn random(dice: &mut Dice) -> Self {
        Self { strength: dice.between(0.2, 1.0), phases: [0.0; 2].map(|_| dice.between(0.0, TAU)) }
    }

    fn at(&self, t_s: f32) -> f32 {
        let gust = (0.9 * t_s + self.phases[0]).sin() * (0.37 * t_s + self.phases[1]).sin();
        self.strength * (0.35 + 0.65 * gust * gust)
    }
}

/// A curtain: folds that sway, the more the lower.
#[derive(Debug, Clone)]
pub(super) struct Curtain {
    area: Area,
    color: [f32; 3],
    /// How much darker it is in its folds, and how many of these there are in a picture height.
    depth: f32,
    folds: f32,
    sway: f32,
    hz: f32,
    wind: Wind,
}

/// Steps in which the colour of a fold changes.
const FOLD: usize = 32;

impl Curtain {
    pub(super) fn random(dice: &mut Dice) -> Self {
        let (w, h) = (dice.between(0.12, 0.5), dice.between(0.5, 1.0));
        let area = Area { y: dice.between(-0.6, -0.3), ..Area::random(dice, w, h) };
        Self {
            area,
            color: dice.color((40.0, 240.0), 30.0),
            depth: dice.between(0.1, 0.6),
            folds: dice.between(7.0, 30.0),
            sway: dice.between(0.015, 0.06),
            hz: dice.between(0.25, 0.9),
            wind: Wind::random(dice),
        }
    }

    pub(super) fn draw(&self, t_s: f32, easel: &mut Easel) {
        let Area { x, y, w, h } = self.area;
        let wind = self.wind.at(t_s);
        let mut fold = [[0.0; 3]; FOLD];
        for (i, shade) in fold.iter_mut().enumerate() {
            let bright = 1.0 - self.depth * (0.5 + 0.5 * (TAU * i as f32 / FOLD as f32).cos());
            *shade = self.color.map(|c| c * bright);
        }
        for row in easel.rows(y, y + h) {
            let low = ((easel.y(row) - y) / h).clamp(0.0, 1.0);
            // The wave runs down the cloth.
            let sway = self.sway * wind * low * ((TAU * self.hz * t_s - 2.5 * low).sin() + 0.6);
            let edges = (x + sway, x + w + 1.4 * sway);
            let stretch = w * self.folds * FOLD as f32 / (edges.1 - edges.0);
            let scale = easel.size.1 as f32;
            for (at, pixel) in easel.line(row, easel.columns(edges.0, edges.1)) {
                let inside = (at - edges.0).min(edges.1 - at);
                let shade = fold[((at - edges.0).max(0.0) * stretch) as usize % FOLD];
                blend(pixel, shade, (inside * scale + 0.5).clamp(0.0, 1.0));
            }
        }
    }
}

/// Leaves on branches, or what is seen of them through a window: each hangs somewhere and sways with the wind.
#[derive(Debug, Clone)]
pub(super) struct Leaves {
    leaves: Vec<Leaf>,
    cover: f32,
    wind: Wind,
}

#[derive(Debug, Clone)]
struct Leaf {
    home: (f32, f32),
    /// Half its width and height.
    half: (f32, f32),
    /// How far the wind moves it, and how often it swings.
    reach: (f32, f32),
    hz: f32,
    phase: f32,
    color: [f32; 3],
}

impl Leaves {
    pub(super) fn random(dice: &mut Dice) -> Self {
        let color = [dice.between(20.0, 120.0), dice.between(50.0, 170.0), dice.between(10.0, 90.0)];
        let sway = dice.between(0.008, 0.04);
        let leaves = (0..dice.whole(2, 5)).flat_map(|_| branch(dice, color, sway)).collect();
        Self { leaves, cover: dice.between(0.35, 1.0), wind: Wind::random(dice) }
    }

    pub(super) fn draw(&self, t_s: f32, easel: &mut Easel) {
        let wind = self.wind.at(t_s);
        for leaf in &self.leaves {
            let swing = wind * (0.7 + (TAU * leaf.hz * t_s + leaf.phase).sin());
            let (x, y) = (leaf.home.0 + swing * leaf.reach.0, leaf.home.1 + swing * leaf.reach.1);
            let (rx, ry) = leaf.half;
            for row in easel.rows(y - ry, y + ry) {
                let v = (easel.y(row) - y) / ry;
                for (at, pixel) in easel.line(row, easel.columns(x - rx, x + rx)) {
                    let u = (at - x) / rx;
                    let near = (2.0 * (1.0 - u * u - v * v)).clamp(0.0, 1.0);
                    blend(pixel, leaf.color, self.cover * near);
                }
            }
        }
    }
}

/// The leaves of a branch. Its end is moved more than its root.
fn branch(dice: &mut Dice, color: [f32; 3], sway: f32) -> Vec<Leaf> {
    let (root, angle) = ((dice.between(-0.8, 0.8), dice.between(-0.55, 0.1)), dice.between(0.0, TAU));
    let (length, droop) = (dice.between(0.15, 0.45), dice.between(0.0, 0.2));
    let (hz, phase, way) = (dice.between(0.4, 1.3), dice.between(0.0, TAU), dice.sign());
    let leaf = |_| {
        let out = dice.between(0.0, 1.0);
        let bright = dice.between(0.6, 1.35);
        Leaf {
            home: (
                root.0 + out * length * angle.cos() + 0.03 * dice.normal(),
                root.1 + out * length * angle.sin() + droop * out * out + 0.03 * dice.normal(),
            ),
            half: (dice.between(0.006, 0.028), dice.between(0.006, 0.028)),
            reach: (way * sway * (0.4 + out), 0.5 * sway * out * dice.between(0.3, 1.0)),
            hz: hz * dice.between(0.85, 1.2),
            phase: phase + dice.between(-0.6, 0.6),
            color: color.map(|c| (c * bright).min(255.0)),
        }
    };
    (0..30).map(leaf).collect()
}
