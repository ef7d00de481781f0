//! What a picture is collected on: exposures that are averaged, noise, and a grid that may be coarser than the picture.

use super::Conditions;
use crate::synth::dice::{self, mix};

/// Length by which the noise of rows can differ in where it begins.
const ROOM: usize = 4096;

/// Buffers in the size of the picture, only those that the scene's conditions need.
#[derive(Debug, Default)]
pub(crate) struct Film {
    size: (usize, usize),
    /// Sums of exposures.
    sums: Vec<u16>,
    noise: Vec<i8>,
    /// The picture in half its size.
    small: Vec<u8>,
    /// Two rows of it, joined in the course of enlarging.
    row: Vec<u16>,
}

impl Film {
    /// Forgets the conditions: another scene begins.
    pub(crate) fn clear(&mut self) {
        self.size = (0, 0);
    }

    /// Makes ready for a picture of this size, which must not be empty.
    pub(crate) fn prepare(&mut self, conditions: &Conditions, (width, height): (usize, usize)) {
        if self.size == (width, height) {
            return;
        }
        self.size = (width, height);
        self.sums.clear();
        if conditions.shutter_s > 0.0 {
            self.sums.resize(width * height * 3, 0);
        }
        self.noise.clear();
        if conditions.noise > 0.0 {
            self.noise.extend(noise(conditions.seed, conditions.noise, width * 3 + ROOM));
        }
        if conditions.coarse {
            let half = width.div_ceil(2) * 3;
            self.small.resize(half * height.div_ceil(2), 0);
            self.row.resize(half + 6, 0);
        }
    }

    pub(super) fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Adds an exposure.
    pub(crate) fn expose(&mut self, pixels: &[u8]) {
        self.sums.iter_mut().zip(pixels).for_each(|(sum, p)| *sum += u16::from(*p));
    }

    /// Takes the mean of the `count` exposures since the last time.
    pub(crate) fn develop(&mut self, count: usize, pixels: &mut [u8]) {
        // Of a few exposures only: sums stay within 16 bits, and their products with the inverse within 32. The inverse
        // is rounded up, so that the mean of equal values is that value.
        let (count, half) = (count.max(1) as u32, count as u32 / 2);
        let inverse = (1_u32 << 16).div_ceil(count);
        for (sum, p) in self.sums.iter_mut().zip(pixels) {
            *p = (((u32::from(*sum) + half) * inverse) >> 16) as u8;
            *sum = 0;
        }
    }

    /// Lays noise over the picture, different for each `seed`. Neighbouring rows share half of theirs, neighbouring
    /// columns too: cameras smooth it, and it is coarse enough to be seen in a small picture.
    pub(super) fn grain(&self, seed: u64, pixels: &mut [u8]) {
        let row = self.size.0 * 3;
        let at = |word: u64| &self.noise[word as usize % ROOM / 3 * 3..][..row];
        let mut word = mix(seed);
        for line in pixels.chunks_exact_mut(row.max(1)) {
            let above = at(word);
            word = mix(word);
            for ((p, a), b) in line.iter_mut().zip(above).zip(at(word)) {
                *p = (i16::from(*p) + i16::from(*a) + i16::from(*b)).clamp(0, 255) as u8;
            }
        }
    }

    /// Halves the picture and enlarges it again.
    pub(super) fn coarsen(&mut self, pixels: &mut [u8]) {
        let (width, height) = self.size;
        let (stride, half) = (width * 3, width.div_ceil(2) * 3);
        for (y, line) in self.small.chunks_exact_mut(half.max(1)).enumerate() {
            let upper = &pixels[2 * y * stride..][..stride];
            let lower = &pixels[(2 * y + 1).min(height - 1) * stride..][..stride];
            for ((pixel, a), b) in line.chunks_exact_mut(3).zip(upper.chunks(6)).zip(lower.chunks(6)) {
                let right = if a.len() == 6 { 3 } else { 0 };
                for (c, value) in pixel.iter_mut().enumerate() {
                    let sum = [a[c], a[c + right], b[c], b[c + right]].iter().map(|p| u16::from(*p)).sum::<u16>();
                    *value = ((sum + 2) >> 2) as u8;
                }
            }
        }
        for (y, line) in pixels.chunks_exact_mut(stride.max(1)).enumerate() {
            let near = y / 2;
            let far = if y % 2 == 0 { near.saturating_sub(1) } else { (near + 1).min(height.div_ceil(2) - 1) };
            let (near, far) = (&self.small[near * half..][..half], &self.small[far * half..][..half]);
            for (sum, (a, b)) in self.row[3..].iter_mut().zip(near.iter().zip(far)) {
                *sum = 3 * u16::from(*a) + u16::from(*b);
            }
            // The first and the last once more, so that each has neighbours.
            self.row.copy_within(3..6, 0);
            self.row.copy_within(half..half + 3, half + 3);
            for (pair, three) in line.chunks_mut(6).zip(self.row.windows(9).step_by(3)) {
                let value = |c: usize, beside: usize| ((3 * three[3 + c] + three[beside + c] + 8) >> 4) as u8;
                let (left, right) = pair.split_at_mut(3);
                left.iter_mut().enumerate().for_each(|(c, p)| *p = value(c, 0));
                right.iter_mut().enumerate().for_each(|(c, p)| *p = value(c, 6));
            }
        }
    }
}

/// Noise of standard deviation `amount` once two of its rows are added; each value is close to the one of its colour
/// before.
fn noise(seed: u64, amount: f32, count: usize) -> impl Iterator<Item = i8> {
    let mut word = seed;
    let mut before = [0; 3];
    (0..count).map(move |i| {
        word = mix(word);
        let own = dice::noise(word);
        let value = before[i % 3] + own;
        before[i % 3] = own;
        // Two values are added across and two down.
        (value as f32 * amount / 148.0 * 0.5).round() as i8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_pixels_lose_what_is_fine_and_nothing_else() {
        for (width, height) in [(24, 16), (25, 17), (1, 1), (2, 1), (1, 2)] {
            let mut film = Film::default();
            film.prepare(&Conditions { coarse: true, ..Conditions::calm() }, (width, height));
            let mut flat = vec![77; width * height * 3];
            film.coarsen(&mut flat);
            assert!(flat.iter().all(|p| *p == 77), "{width}x{height}");
            let place = |i: usize| (i / 3 % width, i / 3 / width);
            let checks = |i: usize| if (place(i).0 + place(i).1).is_multiple_of(2) { 50 } else { 150 };
            let mut fine: Vec<u8> = (0..width * height * 3).map(checks).collect();
            film.coarsen(&mut fine);
            let inner = |i: &usize| place(*i).0 + 2 < width && place(*i).1 + 2 < height;
            assert!((0..fine.len()).filter(inner).all(|i| fine[i].abs_diff(100) < 3), "{width}x{height}");
        }
        let mut film = Film::default();
        film.prepare(&Conditions { coarse: true, ..Conditions::calm() }, (24, 16));
        let ramp: Vec<u8> = (0..24 * 16 * 3).map(|i| (i / 3 % 24 * 10) as u8).collect();
        let mut after = ramp.clone();
        film.coarsen(&mut after);
        assert!(ramp.iter().zip(&after).all(|(a, b)| a.abs_diff(*b) < 7));
    }
}
