//! Compression as bad cameras and slow networks have it: blocks of 8x8 pixels lose what is faint in them, colours twice
//! as much.

use crate::synth::dice::Dice;

/// How the picture is compressed.
#[derive(Debug, Clone)]
pub(super) struct Codec {
    /// What is less than this in a block is lost, in levels.
    step: f32,
    /// By how much it becomes worse until a new beginning, and how often that is: not at all for cameras that send
    /// pictures one by one.
    decay: f32,
    hz: f32,
}

/// A place in eight blocks at once, which are done at the price of one.
type Place = [i16; 8];

/// Eight blocks side by side, row by row; or the patterns that make them up.
type Blocks = [Place; 64];

/// Columns of the picture in eight blocks.
const WIDE: usize = 64;

/// A row of so many pixels.
type Row = [u8; WIDE * 3];

/// How often each of the eight patterns that make up a row of a block changes its sign.
const CHANGES: [u16; 8] = [0, 7, 3, 4, 1, 6, 2, 5];

impl Codec {
    /// One that loses up to `most` levels.
    pub(super) fn random(dice: &mut Dice, most: f32) -> Self {
        let decay = if dice.chance(0.4) { dice.between(0.2, 1.0) } else { 0.0 };
        Self { step: most * dice.between(-2.0, 0.0).exp(), decay, hz: dice.between(0.4, 2.0) }
    }

    /// Does it to the picture taken at `t_s`.
    pub(super) fn apply(&self, t_s: f32, (width, height): (usize, usize), pixels: &mut [u8]) {
        let turn = self.hz * t_s;
        let step = self.step * (1.0 + self.decay * (turn - turn.floor()));
        let (luma, chroma) = (thresholds(step), thresholds(2.0 * step));
        for top in (0..height).step_by(16) {
            for left in (0..width).step_by(WIDE) {
                let mut part = Part::read(pixels, (width, height), (left, top));
                part.luma.iter_mut().for_each(|blocks| lose(blocks, &luma));
                lose(&mut part.chroma, &chroma);
                part.write(pixels, (width, height), (left, top));
            }
        }
    }
}

/// What is lost of each pattern: the finer, the more.
fn thresholds(step: f32) -> [i16; 64] {
    let mut least = std::array::from_fn(|i| {
        let fine = 1.0 + 0.15 * f32::from(CHANGES[i / 8] + CHANGES[i % 8]);
        // A pattern of one level adds up to 8 times what it is worth.
        (8.0 * step * fine).min(30000.0) as i16
    });
    least[0] = 0;
    least
}

/// Loses from `blocks` what is fainter than `thresholds`. Their patterns are those of the Walsh-Hadamard transform, the
/// poor man's cosine transform: it has no multiplication, and stays within 16 bits for values of 8 bits.
fn lose(blocks: &mut Blocks, thresholds: &[i16; 64]) {
    sums(blocks, [1, 2, 4]);
    sums(blocks, [8, 16, 32]);
    for (place, least) in blocks.iter_mut().zip(thresholds) {
        for value in place {
            let kept = if value.abs() < *least { 0 } else { *value };
            *value = (kept + 4) >> 3;
        }
    }
    sums(blocks, [1, 2, 4]);
    blocks.as_flattened_mut().iter_mut().for_each(|value| *value = (*value + 4) >> 3);
    sums(blocks, [8, 16, 32]);
}

/// Sums and differences in all combinations of places that are `spans` apart.
fn sums(blocks: &mut Blocks, spans: [usize; 3]) {
    for span in spans {
        for pair in blocks.chunks_exact_mut(2 * span) {
            let (a, b) = pair.split_at_mut(span);
            for (a, b) in a.as_flattened_mut().iter_mut().zip(b.as_flattened_mut()) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
    }
}

/// 16 rows of pixels: brightness in two rows of blocks, and in one what blue and, in the last four, red have beyond it
/// at half the resolution.
struct Part {
    luma: [Blocks; 2],
    chroma: Blocks,
}

impl Part {
    /// Takes it out of the picture; beyond the edges of that its last pixels go on.
    fn read(pixels: &[u8], (width, height): (usize, usize), (left, top): (usize, usize)) -> Self {
        let mut part = Self { luma: [[[0; 8]; 64]; 2], chroma: [[0; 8]; 64] };
        let count = WIDE.min(width - left);
        let mut line: Row = [0; WIDE * 3];
        for y in 0..16 {
            let at = (top + y).min(height - 1) * width + left;
            line[..count * 3].copy_from_slice(&pixels[at * 3..][..count * 3]);
            for x in count..WIDE {
                line.copy_within((count - 1) * 3..count * 3, x * 3);
            }
            part.take(&line, y);
        }
        // The sum of four; a quarter of the greatest difference is as wide as brightness.
        part.chroma.as_flattened_mut().iter_mut().for_each(|value| *value >>= 3);
        part
    }

    fn take(&mut self, line: &Row, y: usize) {
        // First apart by colour: what follows is then done for many pixels at once.
        let mut colors = [[0; WIDE]; 3];
        for (x, pixel) in line.as_chunks::<3>().0.iter().enumerate() {
            (0..3).for_each(|c| colors[c][x] = i16::from(pixel[c]));
        }
        let [red, green, blue] = &mut colors;
        for ((r, g), b) in red.iter_mut().zip(green.iter_mut()).zip(blue) {
            // Halves of the usual weights: 16 bits are enough.
            let bright = ((38 * *r + 75 * *g + 15 * *b + 64) >> 7).min(255);
            (*r, *g, *b) = (*r - bright, bright - 128, *b - bright);
        }
        let [red, luma, blue] = &colors;
        let places: &mut [Place] = &mut self.luma[y / 8][y % 8 * 8..][..8];
        for (block, bright) in luma.as_chunks::<8>().0.iter().enumerate() {
            (0..8).for_each(|x| places[x][block] = bright[x]);
        }
        let places: &mut [Place] = &mut self.chroma[y / 2 * 8..][..8];
        for (color, first) in [(blue, 0), (red, 4)] {
            for (block, more) in color.as_chunks::<16>().0.iter().enumerate() {
                (0..8).for_each(|x| places[x][first + block] += more[2 * x] + more[2 * x + 1]);
            }
        }
    }

    /// Puts it where it was.
    fn write(&self, pixels: &mut [u8], (width, height): (usize, usize), (left, top): (usize, usize)) {
        let count = WIDE.min(width - left) * 3;
        let mut line: Row = [0; WIDE * 3];
        for y in 0..16.min(height - top) {
            self.give(y, &mut line);
            pixels[((top + y) * width + left) * 3..][..count].copy_from_slice(&line[..count]);
        }
    }

    fn give(&self, y: usize, line: &mut Row) {
        let mut colors = [[0; WIDE]; 3];
        let places: &[Place] = &self.chroma[y / 2 * 8..][..8];
        for (color, first) in [(0, 4), (2, 0)] {
            for (block, more) in colors[color].as_chunks_mut::<16>().0.iter_mut().enumerate() {
                (0..16).for_each(|x| more[x] = 2 * places[x / 2][first + block]);
            }
        }
        let places: &[Place] = &self.luma[y / 8][y % 8 * 8..][..8];
        for (block, bright) in colors[1].as_chunks_mut::<8>().0.iter_mut().enumerate() {
            (0..8).for_each(|x| bright[x] = places[x][block] + 128);
        }
        let [red, green, blue] = &mut colors;
        for ((r, g), b) in red.iter_mut().zip(green.iter_mut()).zip(blue) {
            // What little is left of a block can be far from what it was.
            (*r, *b) = ((*r).clamp(-255, 255), (*b).clamp(-255, 255));
            // From brightness = 0.3 red + 0.59 green + 0.11 blue.
            let more = -((65 * *r + 25 * *b) >> 7);
            (*r, *g, *b) = (*g + *r, *g + more, *g + *b);
        }
        for (x, pixel) in line.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            (0..3).for_each(|c| pixel[c] = colors[c][x].clamp(0, 255) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::dice::mix;

    fn apply(step: f32, size: (usize, usize), pixels: &[u8]) -> Vec<u8> {
        let mut after = pixels.to_vec();
        Codec { step, decay: 0.0, hz: 1.0 }.apply(1.0, size, &mut after);
        after
    }

    fn noisy(count: usize, spread: u64) -> Vec<u8> {
        (0..count as u64).map(|i| (128 - spread / 2 + mix(i) % (spread + 1)) as u8).collect()
    }

    #[test]
    fn without_a_step_little_is_lost() {
        let before = noisy(32 * 32 * 3, 0);
        assert!(apply(0.0, (32, 32), &before).iter().all(|p| p.abs_diff(128) < 3));
        // Brightness survives, colour only at half the resolution.
        let grey: Vec<u8> = noisy(32 * 32, 200).iter().flat_map(|p| [*p; 3]).collect();
        let worst = grey.iter().zip(apply(0.0, (32, 32), &grey)).map(|(a, b)| a.abs_diff(b)).max();
        assert!(worst.is_some_and(|worst| worst < 6), "{worst:?}");
    }

    #[test]
    fn faint_detail_is_lost_and_strong_edges_are_not() {
        let detail = |pixels: &[u8]| pixels.windows(4).map(|w| u64::from(w[0].abs_diff(w[3]))).sum::<u64>();
        let faint: Vec<u8> = noisy(32 * 32, 30).iter().flat_map(|p| [*p; 3]).collect();
        let counts = [0.0, 4.0, 8.0, 30.0].map(|step| detail(&apply(step, (32, 32), &faint)));
        assert!(counts.is_sorted_by(|a, b| a > b), "{counts:?}");
        assert!(counts[3] * 5 < counts[0], "{counts:?}");
        let edge: Vec<u8> = (0..32 * 32).flat_map(|i| if i % 32 < 12 { [40; 3] } else { [210; 3] }).collect();
        let after = apply(20.0, (32, 32), &edge);
        assert!(after[0] < 60 && after[15 * 3] > 190, "{after:?}");
    }

    #[test]
    fn colours_stay_what_they_are() {
        for color in [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255; 3], [0; 3], [200, 120, 90]] {
            let before = color.repeat(24 * 20);
            let after = apply(10.0, (24, 20), &before);
            assert!(before.iter().zip(&after).all(|(a, b)| a.abs_diff(*b) < 8), "{color:?}: {:?}", &after[..3]);
        }
    }
}
