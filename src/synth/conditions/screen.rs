//! A screen behind a body: the hardest of backgrounds, since on it anything may move.

use super::background::{Area, Easel};
use crate::synth::dice::{Dice, mix};

/// A television or a monitor.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    area: Area,
    seed: u64,
    shows: Shows,
    /// How long one view lasts, in seconds.
    view_s: f32,
    bright: f32,
    flicker: f32,
}

#[derive(Debug, Clone, Copy)]
enum Shows {
    /// Views in soft colours over which a camera goes, with a cut to the next.
    Film,
    /// Lines of text that are scrolled.
    Text,
}

/// Colours across and down in a view of a film.
const ACROSS: usize = 6;
const DOWN: usize = 5;

type View = [[[f32; 3]; ACROSS]; DOWN];

impl Screen {
    pub(super) fn random(dice: &mut Dice) -> Self {
        let h = dice.between(0.12, 0.4);
        let w = h * dice.between(1.2, 1.8);
        let shows = if dice.chance(0.7) { Shows::Film } else { Shows::Text };
        Self {
            area: Area::random(dice, w, h),
            seed: dice.seed(),
            shows,
            view_s: dice.between(0.5, 5.0),
            bright: dice.between(0.5, 1.2),
            flicker: if dice.chance(0.5) { dice.between(0.02, 0.15) } else { 0.0 },
        }
    }

    pub(super) fn draw(&self, t_s: f32, easel: &mut Easel) {
        let Area { x, y, w, h } = self.area;
        let rim = 0.012;
        for row in easel.rows(y - rim, y + h + rim) {
            let columns = easel.columns(x - rim, x + w + rim);
            easel.line(row, columns).for_each(|(_, pixel)| pixel.fill(18));
        }
        let mut dice = Dice::new(self.seed, (12.0 * t_s) as u64);
        let bright = self.bright * (1.0 + self.flicker * dice.normal());
        match self.shows {
            Shows::Film => self.film(t_s, bright, easel),
            Shows::Text => self.text(t_s, bright, easel),
        }
    }

    fn film(&self, t_s: f32, bright: f32, easel: &mut Easel) {
        let Area { x, y, w, h } = self.area;
        let number = (t_s / self.view_s).floor();
        let mut dice = Dice::new(self.seed ^ 1, number as u64);
        let level = dice.between(20.0, 200.0);
        let mut view = View::default();
        let colors = view.iter_mut().flatten();
        colors.for_each(|c| *c = dice.color((0.4 * level, 1.3 * level), 45.0).map(|c| c * bright));
        let since_s = t_s - number * self.view_s;
        let pan = [0; 2].map(|_| dice.between(0.0, 9.0) + 0.6 * dice.normal() * since_s);
        for row in easel.rows(y, y + h) {
            let (upper, lower, v) = between((easel.y(row) - y) / h * (DOWN - 1) as f32 + pan[1], DOWN);
            let line: [[f32; 3]; ACROSS] = std::array::from_fn(|i| mixed(view[upper][i], view[lower][i], v));
            for (at, pixel) in easel.line(row, easel.columns(x, x + w)) {
                let (left, right, u) = between((at - x) / w * (ACROSS - 1) as f32 + pan[0], ACROSS);
                pixel.iter_mut().zip(mixed(line[left], line[right], u)).for_each(|(p, c)| *p = c as u8);
            }
        }
    }

    fn text(&self, t_s: f32, bright: f32, easel: &mut Easel) {
        let Area { x, y, w, h } = self.area;
        let mut dice = Dice::new(self.seed, 0);
        let (paper, ink) = (dice.color((150.0, 240.0), 20.0), dice.color((10.0, 110.0), 40.0));
        let (paper, ink) = if dice.chance(0.3) { (ink, paper) } else { (paper, ink) };
        let [paper, ink] = [paper, ink].map(|color| color.map(|c| (c * bright) as u8));
        let lines = dice.between(7.0, 14.0);
        // One reads for most of the time, and then scrolls on by some lines.
        let turn = t_s / self.view_s;
        let scrolled = 5.0 * (turn.floor() + ((turn - turn.floor()) * 4.0).min(1.0));
        for row in easel.rows(y, y + h) {
            let place = (easel.y(row) - y) / h * lines + scrolled;
            let line = mix(self.seed ^ place as u64);
            let length = 0.25 + 0.7 * (line >> 40) as f32 / (1_u64 << 24) as f32;
            let between_lines = place - place.floor() > 0.55;
            for (at, pixel) in easel.line(row, easel.columns(x, x + w)) {
                let u = (at - x) / w;
                let gap = mix(line ^ (u * 40.0) as u64).is_multiple_of(6);
                let empty = between_lines || !(0.05..length).contains(&u) || gap;
                pixel.copy_from_slice(if empty { &paper } else { &ink });
            }
        }
    }
}

/// The two of `count` between which `at` lies, and where; there is no end, the first comes after the last.
fn between(at: f32, count: usize) -> (usize, usize, f32) {
    let whole = at.floor();
    let first = whole.rem_euclid(count as f32) as usize % count;
    (first, (first + 1) % count, at - whole)
}

fn mixed(a: [f32; 3], b: [f32; 3], share: f32) -> [f32; 3] {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * share)
}
