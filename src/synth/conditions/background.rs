//! What moves behind a body and is none: curtains, screens, leaves, light that passes, fans. Lengths are in picture
//! heights from the middle, as those of the backdrop.

use std::f32::consts::TAU;
use std::ops::Range;

use super::screen::Screen;
use super::wind::{Curtain, Leaves};
use crate::synth::dice::Dice;

/// A picture to draw on, moved by `shift` pixels as the backdrop is.
pub(super) struct Easel<'a> {
    pub(super) size: (usize, usize),
    pub(super) shift: (f32, f32),
    pub(super) pixels: &'a mut [u8],
}

impl Easel<'_> {
    /// The column or row, counted in pixels, at `x` or `y`.
    fn column(&self, x: f32) -> f32 {
        0.5 * self.size.0 as f32 + x * self.size.1 as f32 + self.shift.0
    }

    fn row(&self, y: f32) -> f32 {
        (0.5 + y) * self.size.1 as f32 + self.shift.1
    }

    /// Where the middle of a column or row of pixels lies.
    fn x(&self, column: usize) -> f32 {
        (column as f32 + 0.5 - self.shift.0 - 0.5 * self.size.0 as f32) / self.size.1 as f32
    }

    pub(super) fn y(&self, row: usize) -> f32 {
        (row as f32 + 0.5 - self.shift.1) / self.size.1 as f32 - 0.5
    }

    /// The columns that are at least partly between `left` and `right`.
    pub(super) fn columns(&self, left: f32, right: f32) -> Range<usize> {
        cut(self.column(left), self.column(right), self.size.0)
    }

    /// The rows that are at least partly between `top` and `bottom`.
    pub(super) fn rows(&self, top: f32, bottom: f32) -> Range<usize> {
        cut(self.row(top), self.row(bottom), self.size.1)
    }

    /// The pixels of `columns` in `row`, with where they lie.
    pub(super) fn line(&mut self, row: usize, columns: Range<usize>) -> impl Iterator<Item = (f32, &mut [u8])> {
        let (first, step) = (self.x(columns.start), 1.0 / self.size.1 as f32);
        let at = row * self.size.0;
        let line = &mut self.pixels[(at + columns.start) * 3..(at + columns.end) * 3];
        line.chunks_exact_mut(3).enumerate().map(move |(i, pixel)| (first + i as f32 * step, pixel))
    }
}

fn cut(low: f32, high: f32, size: usize) -> Range<usize> {
    let low = low.clamp(0.0, size as f32) as usize;
    low..(high.ceil().clamp(0.0, size as f32) as usize).max(low)
}

/// Covers a share of a pixel with a colour.
pub(super) fn blend(pixel: &mut [u8], color: [f32; 3], cover: f32) {
    for (value, color) in pixel.iter_mut().zip(color) {
        let old = f32::from(*value);
        *value = (old + (color - old) * cover) as u8;
    }
}

/// A rectangle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) w: f32,
    pub(super) h: f32,
}

impl Area {
    /// One of the given width and height, anywhere in the picture.
    pub(super) fn random(dice: &mut Dice, w: f32, h: f32) -> Self {
        Self { x: dice.between(-0.7, 0.7) - 0.5 * w, y: dice.between(-0.42, 0.3) - 0.5 * h, w, h }
    }
}

/// Something that moves.
#[derive(Debug, Clone)]
pub(super) enum Mover {
    Curtain(Curtain),
    Screen(Screen),
    Leaves(Leaves),
    Passing(Passing),
    Fan(Fan),
}

impl Mover {
    pub(super) fn random(dice: &mut Dice) -> Self {
        match dice.whole(0, 9) {
            0..=2 => Self::Curtain(Curtain::random(dice)),
            3..=5 => Self::Screen(Screen::random(dice)),
            6 | 7 => Self::Leaves(Leaves::random(dice)),
            8 => Self::Passing(Passing::random(dice)),
            _ => Self::Fan(Fan::random(dice)),
        }
    }

    pub(super) fn draw(&self, t_s: f32, easel: &mut Easel) {
        match self {
            Self::Curtain(curtain) => curtain.draw(t_s, easel),
            Self::Screen(screen) => screen.draw(t_s, easel),
            Self::Leaves(leaves) => leaves.draw(t_s, easel),
            Self::Passing(passing) => passing.draw(t_s, easel),
            Self::Fan(fan) => fan.draw(t_s, easel),
        }
    }
}

/// Light that passes over a wall or behind a window now and then: of cars, of a door.
#[derive(Debug, Clone)]
pub(super) struct Passing {
    area: Area,
    seed: u64,
    every_s: f32,
    color: [f32; 3],
}

impl Passing {
    fn random(dice: &mut Dice) -> Self {
        let (w, h) = (dice.between(0.3, 1.8), dice.between(0.15, 0.9));
        Self {
            area: Area::random(dice, w, h),
            seed: dice.seed(),
            every_s: dice.between(2.0, 7.0),
            color: dice.color((30.0, 140.0), 25.0),
        }
    }

    fn draw(&self, t_s: f32, easel: &mut Easel) {
        let number = (t_s / self.every_s).floor();
        let mut dice = Dice::new(self.seed, number as i64 as u64);
        let (takes_s, width, way) = (self.every_s * dice.between(0.3, 1.0), dice.between(0.06, 0.25), dice.sign());
        let share = (t_s - number * self.every_s) / takes_s;
        if share > 1.0 {
            return;
        }
        let Area { x, y, w, h } = self.area;
        let half = 0.5 * w + width;
        let middle = x + 0.5 * w + way * (2.0 * share - 1.0) * half;
        let columns = easel.columns(x.max(middle - width), (x + w).min(middle + width));
        for row in easel.rows(y, y + h) {
            for (at, pixel) in easel.line(row, columns.clone()) {
                let near = 1.0 - ((at - middle) / width).powi(2);
                let bright = self.color.map(|c| c * near.max(0.0));
                pixel.iter_mut().zip(bright).for_each(|(p, more)| *p = (f32::from(*p) + more) as u8);
            }
        }
    }
}

/// A fan: blades that turn.
#[derive(Debug, Clone)]
pub(super) struct Fan {
    middle: (f32, f32),
    radius: f32,
    blades: f32,
    hz: f32,
    color: [f32; 3],
    cover: f32,
}

impl Fan {
    fn random(dice: &mut Dice) -> Self {
        Self {
            middle: (dice.between(-0.7, 0.7), dice.between(-0.45, 0.3)),
            radius: dice.between(0.05, 0.16),
            blades: dice.whole(3, 5) as f32,
            hz: dice.sign() * dice.between(0.4, 4.0),
            color: dice.color((10.0, 240.0), 20.0),
            cover: dice.between(0.4, 1.0),
        }
    }

    fn draw(&self, t_s: f32, easel: &mut Easel) {
        let ((x, y), r) = (self.middle, self.radius);
        // Whole turns first: an angle of many turns has no precision left.
        let turned = self.blades * (self.hz * t_s).fract();
        for row in easel.rows(y - r, y + r) {
            let dy = easel.y(row) - y;
            for (at, pixel) in easel.line(row, easel.columns(x - r, x + r)) {
                let dx = at - x;
                let out = dx.hypot(dy) / r;
                let blade = dy.atan2(dx) / TAU * self.blades - turned;
                let inside = 0.25 - (blade - blade.floor() - 0.5).abs();
                let edge = (10.0 * inside * out).max(6.0 * (0.2 - out)).min(12.0 * (1.0 - out));
                blend(pixel, self.color, self.cover * edge.clamp(0.0, 1.0));
            }
        }
    }
}
