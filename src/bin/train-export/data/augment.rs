//! Changes to a training clip's pictures that do not change what is done in them: another cut, the mirror, other light,
//! blur, noise. Cheap: one pass over the pixels of the cut, without resampling; the preprocessor scales afterwards.

use fastrand::Rng;
use kinora::frame::Frame;
use kinora::model::manifest::{Input, Resize};

/// How much pictures are changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strength {
    /// Smallest and largest side of the cut, relative to what the preprocessor would cut by itself. Above 1 the picture
    /// becomes smaller, with a plain colour around it.
    pub zoom: (f32, f32),
    /// Largest shift of the cut, relative to its side.
    pub shift: f32,
    /// Largest noise, in steps of 255.
    pub noise: f32,
}

impl Strength {
    /// For drawn pictures, which have views of many sizes and places already: more would cut off what is done.
    pub const DRAWN: Self = Self { zoom: (0.85, 1.25), shift: 0.05, noise: 4.0 };
    /// For videos, all of which may come from one place and camera.
    pub const VIDEO: Self = Self { zoom: (0.65, 1.25), shift: 0.12, noise: 6.0 };
}

/// One clip's change: the same cut and mirror for all its pictures, light that flickers a little.
#[derive(Debug, Clone)]
pub struct Look {
    /// Left, top, width, height of the cut; may reach outside.
    cut: [i32; 4],
    mirror: bool,
    gain: f32,
    offset: f32,
    gamma: f32,
    tint: [f32; 3],
    flicker: f32,
    blur: bool,
    noise: u32,
}

impl Look {
    /// Nothing changed.
    pub fn plain(width: u32, height: u32) -> Self {
        let cut = [0, 0, width as i32, height as i32];
        let (gain, offset, gamma, tint) = (1.0, 0.0, 1.0, [1.0; 3]);
        Self { cut, mirror: false, gain, offset, gamma, tint, flicker: 0.0, blur: false, noise: 0 }
    }

    /// A change drawn by lot for pictures of `width` x `height`; mirrored if `mirror`.
    pub fn random(rng: &mut Rng, size: (u32, u32), input: &Input, strength: Strength, mirror: bool) -> Self {
        let mut between = |low: f32, high: f32| low + rng.f32() * (high - low);
        let [x, y, w, h] = natural_cut(size, input);
        let zoom = between(strength.zoom.0, strength.zoom.1);
        let (cut_w, cut_h) = (w * zoom, h * zoom);
        let left = x + (w - cut_w) / 2.0 + between(-strength.shift, strength.shift) * cut_w;
        let top = y + (h - cut_h) / 2.0 + between(-strength.shift, strength.shift) * cut_h;
        let cut =
            [left.round() as i32, top.round() as i32, (cut_w.round() as i32).max(1), (cut_h.round() as i32).max(1)];
        let gain = between(0.65, 1.35);
        let offset = between(-25.0, 25.0);
        let gamma = between(0.75, 1.33);
        let tint = [between(0.9, 1.1), between(0.9, 1.1), between(0.9, 1.1)];
        let flicker = if between(0.0, 1.0) < 0.3 { between(0.0, 0.03) } else { 0.0 };
        let blur = between(0.0, 1.0) < 0.25;
        // Half of all cameras are as good as free of noise.
        let noise = ((2.0 * between(0.0, 1.0) - 1.0).max(0.0) * strength.noise) as u32;
        Self { cut, mirror, gain, offset, gamma, tint, flicker, blur, noise }
    }

    /// Puts the changed `from` into `into`.
    pub fn apply(&self, rng: &mut Rng, from: &Frame, into: &mut Frame) {
        let tables = self.tables(rng);
        let [left, top, width, height] = self.cut;
        into.resize(width as u32, height as u32);
        into.timestamp = from.timestamp;
        let row_bytes = width as usize * 3;
        let fill = [tables[0][110], tables[1][110], tables[2][110]];
        // Columns of the cut that lie inside the picture.
        let inside = (-left).clamp(0, width) as usize..(from.width() as i32 - left).clamp(0, width) as usize;
        for (row, out) in into.data_mut().chunks_exact_mut(row_bytes).enumerate() {
            let y = top + row as i32;
            if y < 0 || y >= from.height() as i32 || inside.is_empty() {
                out.chunks_exact_mut(3).for_each(|p| p.copy_from_slice(&fill));
                continue;
            }
            let start = (y as usize * from.width() as usize + (inside.start as i32 + left) as usize) * 3;
            let source = &from.data()[start..start + inside.len() * 3];
            out[..inside.start * 3].chunks_exact_mut(3).for_each(|p| p.copy_from_slice(&fill));
            out[inside.end * 3..].chunks_exact_mut(3).for_each(|p| p.copy_from_slice(&fill));
            for (p, s) in out[inside.start * 3..inside.end * 3].chunks_exact_mut(3).zip(source.chunks_exact(3)) {
                p.copy_from_slice(&[tables[0][s[0] as usize], tables[1][s[1] as usize], tables[2][s[2] as usize]]);
            }
            if self.mirror {
                mirror_row(out);
            }
            if self.blur {
                blur_row(out);
            }
        }
        if self.noise > 0 {
            add_noise(rng, self.noise, into.data_mut());
        }
    }

    /// What each value of red, green and blue becomes in the next picture.
    fn tables(&self, rng: &mut Rng) -> [[u8; 256]; 3] {
        let gain = self.gain * (1.0 + self.flicker * (2.0 * rng.f32() - 1.0));
        let curve: [f32; 256] = std::array::from_fn(|v| 255.0 * (v as f32 / 255.0).powf(self.gamma));
        self.tint.map(|tint| curve.map(|v| ((v - 128.0) * gain * tint + 128.0 + self.offset).round() as u8))
    }
}

/// Left, top, width, height of what the preprocessor cuts by itself.
fn natural_cut((width, height): (u32, u32), input: &Input) -> [f32; 4] {
    let (w, h) = (width as f32, height as f32);
    if input.resize != Resize::Crop {
        return [0.0, 0.0, w, h];
    }
    let aspect = input.width as f32 / input.height as f32;
    let (cut_w, cut_h) = if w > h * aspect { (h * aspect, h) } else { (w, w / aspect) };
    [(w - cut_w) / 2.0, (h - cut_h) / 2.0, cut_w, cut_h]
}

fn mirror_row(row: &mut [u8]) {
    let pixels = row.len() / 3;
    for x in 0..pixels / 2 {
        let (a, b) = (x * 3, (pixels - 1 - x) * 3);
        for channel in 0..3 {
            row.swap(a + channel, b + channel);
        }
    }
}

/// Mean of three neighbours, along the row only: most of a small blur for a fraction of its price.
fn blur_row(row: &mut [u8]) {
    let mut before: [u8; 3] = [row[0], row[1], row[2]];
    for at in 3..row.len().saturating_sub(3) {
        let here = row[at];
        let channel = at % 3;
        row[at] = ((u16::from(before[channel]) + u16::from(here) + u16::from(row[at + 3])) / 3) as u8;
        before[channel] = here;
    }
}

/// Even noise of up to `amount` up and down on every value.
fn add_noise(rng: &mut Rng, amount: u32, data: &mut [u8]) {
    let span = 2 * amount + 1;
    for values in data.chunks_mut(8) {
        let mut bits = rng.u64(..);
        for value in values {
            let noise = ((bits as u32 & 0xff) * span) >> 8;
            *value = (i32::from(*value) + noise as i32 - amount as i32).clamp(0, 255) as u8;
            bits >>= 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::clip::tests::input;
    use kinora::model::manifest::Colour;

    fn ramp(width: u32, height: u32) -> Frame {
        let mut frame = Frame::new(width, height);
        for (i, pixel) in frame.data_mut().chunks_exact_mut(3).enumerate() {
            pixel.fill((i as u32 % width * 3) as u8);
        }
        frame
    }

    #[test]
    fn plain_changes_nothing() {
        let (from, mut into) = (ramp(32, 8), Frame::default());
        Look::plain(32, 8).apply(&mut Rng::with_seed(1), &from, &mut into);
        assert_eq!(into.data(), from.data());
    }

    #[test]
    fn the_mirror_turns_rows_round() {
        let (from, mut into) = (ramp(32, 8), Frame::default());
        Look { mirror: true, ..Look::plain(32, 8) }.apply(&mut Rng::with_seed(1), &from, &mut into);
        assert_eq!(into.pixel(0, 3), from.pixel(31, 3));
        assert_eq!(into.pixel(31, 3), from.pixel(0, 3));
    }

    #[test]
    fn a_cut_may_reach_outside() {
        let (from, mut into) = (ramp(32, 8), Frame::default());
        Look { cut: [-2, -1, 40, 12], ..Look::plain(32, 8) }.apply(&mut Rng::with_seed(1), &from, &mut into);
        assert_eq!((into.width(), into.height()), (40, 12));
        assert_eq!(into.pixel(0, 4), Some([110; 3]));
        assert_eq!(into.pixel(10, 0), Some([110; 3]));
        assert_eq!(into.pixel(12, 1), from.pixel(10, 0));
        assert_eq!(into.pixel(34, 1), Some([110; 3]));
        Look { cut: [50, 2, 10, 4], ..Look::plain(32, 8) }.apply(&mut Rng::with_seed(1), &from, &mut into);
        assert!(into.data().iter().all(|v| *v == 110));
    }

    #[test]
    fn random_looks_are_seeded_and_of_the_models_shape() {
        let input = input(Colour::Rgb);
        let from = ramp(320, 240);
        let make = |seed| {
            let mut rng = Rng::with_seed(seed);
            let mut into = Frame::default();
            Look::random(&mut rng, (320, 240), &input, Strength::VIDEO, false).apply(&mut rng, &from, &mut into);
            into
        };
        assert_eq!(make(3).data(), make(3).data());
        assert_ne!(make(3).data(), make(4).data());
        for seed in 0..50 {
            let into = make(seed);
            assert!(into.width().abs_diff(into.height()) <= 1);
            assert!((155..=301).contains(&into.width()));
        }
    }

    #[test]
    fn noise_stays_within_its_bound_on_both_sides() {
        let mut data = vec![100u8; 4000];
        add_noise(&mut Rng::with_seed(5), 3, &mut data);
        assert_eq!((data.iter().min(), data.iter().max()), (Some(&97), Some(&103)));
        let mut row = [0, 0, 0, 90, 60, 30, 0, 0, 0];
        blur_row(&mut row);
        assert_eq!(row, [0, 0, 0, 30, 20, 10, 0, 0, 0]);
    }
}
