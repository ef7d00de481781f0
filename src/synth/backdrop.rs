//! What is behind a mannequin: drawn once per scene and size, with a margin for a trembling camera. Then per frame: a
//! shifted copy, a shadow, and at the end brightness and noise of a sensor.

use super::conditions::Film;
use super::dice::{Dice, mix, noise};

/// How bright things are.
const PAINT: (f32, f32) = (20.0, 235.0);

/// A rectangle in picture heights from the middle, with a fill.
#[derive(Debug, Clone, Copy)]
struct Patch {
    x: f32,
    y: f32,
    w: f32,
    h: f32,
    color: [f32; 3],
    texture: Texture,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Texture {
    Solid,
    Frame,
    Checks(f32),
    Bars(f32),
}

/// Everything that is drawn once.
#[derive(Debug, Clone)]
pub(crate) struct Backdrop {
    seed: u64,
    wall: [[f32; 3]; 2],
    floor: [f32; 3],
    /// Row where the floor begins, from the middle down, in picture heights.
    pub(crate) floor_row: f32,
    skirting: f32,
    clouds: f32,
    grain: f32,
    patches: Vec<Patch>,
    drifter: Option<(Patch, f32)>,
    pub(crate) noise: f32,
    flicker: f32,
    drift: f32,
}

impl Backdrop {
    /// A backdrop with the floor's far edge at `floor_row`.
    pub(crate) fn random(dice: &mut Dice, floor_row: f32) -> Self {
        let plain = dice.chance(0.3);
        let wall = dice.color(PAINT, 40.0);
        let shade = dice.between(-40.0, 40.0);
        let has_floor = dice.chance(if plain { 0.4 } else { 0.8 });
        let count = if plain { 0 } else { dice.whole(0, 10) };
        Self {
            seed: dice.seed(),
            wall: [wall, wall.map(|c| (c + shade).clamp(0.0, 255.0))],
            floor: dice.color(PAINT, 30.0),
            floor_row: if has_floor { floor_row } else { 9.0 },
            skirting: if dice.chance(0.5) { dice.between(0.004, 0.025) } else { 0.0 },
            clouds: if plain { 0.0 } else { dice.between(0.0, 45.0) },
            grain: if plain { 0.0 } else { dice.between(0.0, 8.0) },
            patches: (0..count).map(|_| Patch::random(dice)).collect(),
            drifter: dice.chance(0.1).then(|| (Patch::random(dice), dice.between(-0.12, 0.12))),
            noise: if dice.chance(0.45) { 0.0 } else { dice.between(0.5, 6.0) },
            flicker: if dice.chance(0.4) { dice.between(0.0, 0.02) } else { 0.0 },
            drift: if dice.chance(0.15) { dice.between(0.02, 0.12) } else { 0.0 },
        }
    }

    /// The colour at a place; `clouds` are those of row `y`.
    fn pixel(&self, x: f32, y: f32, clouds: &CloudRow) -> [f32; 3] {
        let depth = y - self.floor_row;
        let mut rgb = if depth > self.skirting {
            self.floor.map(|c| c * (0.85 + 0.35 * depth))
        } else if depth > 0.0 {
            self.floor.map(|c| 0.45 * c)
        } else {
            let share = (y + 0.5).clamp(0.0, 1.0);
            [0, 1, 2].map(|i| self.wall[0][i] + (self.wall[1][i] - self.wall[0][i]) * share)
        };
        for patch in &self.patches {
            if let Some(color) = patch.at(x, y) {
                rgb = color;
            }
        }
        if self.clouds > 0.0 {
            let cloud = clouds.at(x);
            rgb = [0, 1, 2].map(|i| rgb[i] + self.clouds * cloud[i]);
        }
        rgb
    }

    /// Draws it into `into`, `width` x `height` pixels of a picture that is `scale` pixels high.
    fn paint(&self, into: &mut [u8], (width, height): (usize, usize), scale: f32) {
        let clouds = Clouds::new(self.seed);
        for (row, line) in into.chunks_exact_mut((width * 3).max(1)).enumerate() {
            let y = (row as f32 + 0.5 - 0.5 * height as f32) / scale;
            let clouds = clouds.row(y);
            let mut random = mix(self.seed ^ row as u64);
            for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
                let x = (column as f32 + 0.5 - 0.5 * width as f32) / scale;
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                let grain = ((random >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * self.grain;
                let rgb = self.pixel(x, y, &clouds);
                for (value, color) in pixel.iter_mut().zip(rgb) {
                    *value = (color + grain).clamp(0.0, 255.0) as u8;
                }
            }
        }
    }
}

impl Patch {
    fn random(dice: &mut Dice) -> Self {
        let texture = match dice.whole(0, 9) {
            0..=4 => Texture::Solid,
            5 | 6 => Texture::Frame,
            7 => Texture::Checks(dice.between(8.0, 40.0)),
            _ => Texture::Bars(dice.between(6.0, 40.0)),
        };
        let (w, h) = (dice.between(0.05, 0.6), dice.between(0.05, 0.7));
        let (x, y) = (dice.between(-0.9, 0.9) - 0.5 * w, dice.between(-0.6, 0.5) - 0.5 * h);
        Self { x, y, w, h, color: dice.color(PAINT, 60.0), texture }
    }

    /// Its colour at a place, if it covers that.
    fn at(&self, x: f32, y: f32) -> Option<[f32; 3]> {
        let (u, v) = (x - self.x, y - self.y);
        if u < 0.0 || v < 0.0 || u >= self.w || v >= self.h {
            return None;
        }
        let odd = |a: f32, n: f32| (a * n) as i32 & 1;
        match self.texture {
            Texture::Solid => Some(self.color),
            Texture::Frame => (u.min(v).min(self.w - u).min(self.h - v) < 0.012).then_some(self.color),
            Texture::Checks(n) => Some(self.color.map(|c| if odd(u, n) ^ odd(v, n) == 1 { 0.7 * c } else { c })),
            Texture::Bars(n) => Some(self.color.map(|c| if odd(u, n) == 1 { 0.6 * c } else { c })),
        }
    }
}

/// Soft colour noise of low frequency.
struct Clouds {
    grid: [[[f32; 3]; 9]; 7],
}

impl Clouds {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 7);
        let mut grid = [[[0.0; 3]; 9]; 7];
        for cell in grid.iter_mut().flatten() {
            let level = dice.between(-0.7, 0.7);
            *cell = [0; 3].map(|_| level + dice.between(-0.3, 0.3));
        }
        Self { grid }
    }

    fn row(&self, y: f32) -> CloudRow {
        let v = ((y + 0.6) * 5.0).clamp(0.0, 5.99);
        let (top, bottom) = (&self.grid[v as usize], &self.grid[v as usize + 1]);
        let v = v.fract();
        let mut row = [[0.0; 3]; 9];
        for (cell, (top, bottom)) in row.iter_mut().zip(top.iter().zip(bottom)) {
            *cell = [0, 1, 2].map(|c| top[c] * (1.0 - v) + bottom[c] * v);
        }
        CloudRow(row)
    }
}

/// The clouds of one row.
struct CloudRow([[f32; 3]; 9]);

impl CloudRow {
    fn at(&self, x: f32) -> [f32; 3] {
        let u = ((x + 1.0) * 4.0).clamp(0.0, 7.99);
        let (left, right) = (&self.0[u as usize], &self.0[u as usize + 1]);
        let u = u.fract();
        [0, 1, 2].map(|c| left[c] * (1.0 - u) + right[c] * u)
    }
}

/// Length by which the noise of rows can differ in where it begins.
const NOISE_ROOM: usize = 4096;

/// The backdrop in the size of the picture, and noise to lay over it.
#[derive(Debug, Default)]
pub(crate) struct Canvas {
    size: (usize, usize),
    margin: usize,
    pixels: Vec<u8>,
    noise: Vec<i8>,
    pub(crate) film: Film,
}

impl Canvas {
    /// Forgets the backdrop: another scene begins.
    pub(crate) fn clear(&mut self) {
        self.size = (0, 0);
        self.film.clear();
    }

    /// Draws the backdrop if the size is new; `shake` is the largest shift in picture heights.
    pub(crate) fn prepare(&mut self, backdrop: &Backdrop, (width, height): (usize, usize), shake: f32) {
        if self.size == (width, height) {
            return;
        }
        self.size = (width, height);
        self.margin = if shake > 0.0 { (shake * height as f32).ceil() as usize + 2 } else { 0 };
        let (full_width, full_height) = (width + 2 * self.margin, height + 2 * self.margin);
        self.pixels.resize(full_width * full_height * 3, 0);
        backdrop.paint(&mut self.pixels, (full_width, full_height), height as f32);
        self.noise.clear();
        if backdrop.noise > 0.0 {
            let mut dice = Dice::new(backdrop.seed, 9);
            let mut word = dice.seed();
            self.noise.extend((0..width * 3 + NOISE_ROOM).map(|_| {
                word = mix(word);
                (noise(word) as f32 * backdrop.noise / 148.0).round() as i8
            }));
        }
    }

    /// Copies the backdrop, shifted by `shift` pixels, into `into`.
    pub(crate) fn copy(&self, shift: (f32, f32), into: &mut [u8]) {
        let (width, height) = self.size;
        if self.margin == 0 {
            into.copy_from_slice(&self.pixels);
            return;
        }
        let limit = self.margin as f32 - 1.001;
        let at = |s: f32| self.margin as f32 - s.clamp(-limit, limit);
        let (x, y) = (at(shift.0), at(shift.1));
        let (column, row) = (x as usize, y as usize);
        let part = |a: f32| ((a - a.floor()) * 16.0) as u16;
        let (u, v) = (part(x), part(y));
        let weights = [(16 - u) * (16 - v), u * (16 - v), (16 - u) * v, u * v];
        let stride = (width + 2 * self.margin) * 3;
        for (i, line) in into.chunks_exact_mut(width * 3).enumerate().take(height) {
            let from = (row + i) * stride + column * 3;
            let [a, b, c, d] =
                [from, from + 3, from + stride, from + stride + 3].map(|at| &self.pixels[at..][..width * 3]);
            for (value, (((a, b), c), d)) in line.iter_mut().zip(a.iter().zip(b).zip(c).zip(d)) {
                let weigh = |value: &u8, k: usize| u16::from(*value) * weights[k];
                *value = ((weigh(a, 0) + weigh(b, 1) + weigh(c, 2) + weigh(d, 3)) >> 8) as u8;
            }
        }
    }

    /// Draws what moves slowly in the backdrop at `t_s`.
    pub(crate) fn drift(&self, backdrop: &Backdrop, t_s: f32, into: &mut [u8]) {
        let Some((patch, speed)) = &backdrop.drifter else { return };
        let (width, height) = (self.size.0 as f32, self.size.1 as f32);
        let x = patch.x + 0.5 * (speed * 2.0 * t_s).sin();
        let cut = |a: f32, size: f32| a.clamp(0.0, size) as usize;
        let left = cut(0.5 * width + x * height, width);
        let right = cut(0.5 * width + (x + patch.w) * height, width);
        let (top, bottom) = (cut((0.5 + patch.y) * height, height), cut((0.5 + patch.y + patch.h) * height, height));
        let rgb = patch.color.map(|c| c as u8);
        for row in top..bottom {
            let at = row * self.size.0;
            for pixel in into[(at + left) * 3..(at + right.max(left)) * 3].chunks_exact_mut(3) {
                pixel.copy_from_slice(&rgb);
            }
        }
    }

    /// Brightness and noise of the picture taken at `t_s`.
    pub(crate) fn sense(&self, backdrop: &Backdrop, t_s: f32, pixels: &mut [u8]) {
        let mut dice = Dice::new(backdrop.seed, u64::from(t_s.to_bits()));
        let slow = backdrop.drift * (0.9 * t_s + (backdrop.seed & 7) as f32).sin();
        let gain = 256.0 * (backdrop.flicker * dice.normal() + slow);
        // In 16 bits, so that many pixels are done at once.
        let gain = gain.round().clamp(-127.0, 127.0) as i16;
        let brighter = |p: u8| i16::from(p) + ((i16::from(p) * gain) >> 8);
        if self.noise.is_empty() {
            if gain != 0 {
                pixels.iter_mut().for_each(|p| *p = brighter(*p).clamp(0, 255) as u8);
            }
            return;
        }
        let mut word = dice.seed();
        let row = self.size.0 * 3;
        for line in pixels.chunks_exact_mut(row.max(1)) {
            word = mix(word);
            let from = word as usize % NOISE_ROOM;
            let noise = self.noise[from..from + row].iter();
            line.iter_mut().zip(noise).for_each(|(p, n)| *p = (brighter(*p) + i16::from(*n)).clamp(0, 255) as u8);
        }
    }

    /// Darkens a soft ellipse: centre and half axes in pixels.
    pub(crate) fn shadow(&self, centre: (f32, f32), (rx, ry): (f32, f32), pixels: &mut [u8]) {
        let (width, height) = (self.size.0 as f32, self.size.1 as f32);
        if !(rx > 0.5 && ry > 0.5) {
            return;
        }
        let range = |c: f32, r: f32, size: f32| (c - r).clamp(0.0, size) as usize..(c + r).clamp(0.0, size) as usize;
        for y in range(centre.1, ry, height) {
            let v = (y as f32 + 0.5 - centre.1) / ry;
            for x in range(centre.0, rx, width) {
                let u = (x as f32 + 0.5 - centre.0) / rx;
                let near = (1.0 - u * u - v * v).max(0.0);
                let keep = 256 - (110.0 * near) as u32;
                let at = (y * self.size.0 + x) * 3;
                pixels[at..at + 3].iter_mut().for_each(|p| *p = ((u32::from(*p) * keep) >> 8) as u8);
            }
        }
    }
}
