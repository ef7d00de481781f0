//! Compression as bad cameras and slow networks have it: blocks of 8x8 pixels lose what is faint in them, colours twice as
//! much.

use crate::synth::dice::Dice;

/// How the picture is compressed.
#[derive(Debug, Clone)]
pub(super) struct Codec {
    /// What is less than this in a block is lost, in levels.
    step: f32,
    /// By how much it becomes worse until a new beginning, and how often that is: none for cameras that send pictures one
    /// by one.
    decay: f32,
    hz: f32,
}

/// Part of a picture, of one colour; or what makes it up.
type Block = [[i16; 8]; 8];

/// How often each of the eight patterns that make up a row of a block changes its sign.
const CHANGES: [u16; 8] = [0, 7, 3, 4, 1, 6, 2, 5];

impl Codec {
    pub(super) fn random(dice: &mut Dice) -> Self {
        let decay = if dice.chance(0.4) { dice.between(0.2, 1.0) } else { 0.0 };
        Self { step: 3.0 * dice.between(0.0, 2.3).exp(), decay, hz: dice.between(0.4, 2.0) }
    }

    /// Does it to the picture taken at `t_s`.
    pub(super) fn apply(&self, t_s: f32, (width, height): (usize, usize), pixels: &mut [u8]) {
        let turn = self.hz * t_s;
        let step = self.step * (1.0 + self.decay * (turn - turn.floor()));
        let (luma, chroma) = (thresholds(step), thresholds(2.0 * step));
        for top in (0..height).step_by(16) {
            for left in (0..width).step_by(16) {
                let mut part = Part::read(pixels, (width, height), (left, top));
                part.luma.iter_mut().for_each(|block| lose(block, &luma));
                part.chroma.iter_mut().for_each(|block| lose(block, &chroma));
                part.write(pixels, (width, height), (left, top));
            }
        }
    }
}

/// What is lost of each pattern: the finer, the more.
fn thresholds(step: f32) -> Block {
    let mut block = Block::default();
    for (row, line) in block.iter_mut().enumerate() {
        for (column, value) in line.iter_mut().enumerate() {
            let fine = 1.0 + 0.15 * f32::from(CHANGES[row] + CHANGES[column]);
            // A pattern of one level adds up to 8 times what it is worth.
            *value = (8.0 * step * fine).min(30000.0) as i16;
        }
    }
    block[0][0] = 0;
    block
}

/// Loses from `block` what is fainter than `thresholds`.
fn lose(block: &mut Block, thresholds: &Block) {
    patterns(block);
    for (value, least) in block.as_flattened_mut().iter_mut().zip(thresholds.as_flattened()) {
        let kept = if value.abs() < *least { 0 } else { *value };
        *value = (kept + 4) >> 3;
    }
    sums(block);
    turn(block);
    block.as_flattened_mut().iter_mut().for_each(|value| *value = (*value + 4) >> 3);
    sums(block);
    turn(block);
}

/// The share of each pattern in `block`: the Walsh-Hadamard transform, the poor man's cosine transform. It has no
/// multiplication, and stays within 16 bits for values of 8 bits.
fn patterns(block: &mut Block) {
    sums(block);
    turn(block);
    sums(block);
    turn(block);
}

/// Sums and differences of rows in all combinations.
fn sums(block: &mut Block) {
    for span in [1, 2, 4] {
        for upper in (0..8).filter(|row| row & span == 0) {
            for column in 0..8 {
                let (a, b) = (block[upper][column], block[upper + span][column]);
                block[upper][column] = a + b;
                block[upper + span][column] = a - b;
            }
        }
    }
}

/// Makes rows of columns.
fn turn(block: &mut Block) {
    let old = *block;
    for (row, line) in block.iter_mut().enumerate() {
        for (column, value) in line.iter_mut().enumerate() {
            *value = old[column][row];
        }
    }
}

/// 16x16 pixels: brightness in four blocks, and what blue and red have beyond it at half the resolution.
struct Part {
    luma: [Block; 4],
    chroma: [Block; 2],
}

impl Part {
    /// Takes it out of the picture; beyond that's edges its last pixels go on.
    fn read(pixels: &[u8], (width, height): (usize, usize), (left, top): (usize, usize)) -> Self {
        let mut part = Self { luma: [Block::default(); 4], chroma: [Block::default(); 2] };
        for y in 0..16 {
            let row = (top + y).min(height - 1) * width;
            for x in 0..16 {
                let at = (row + (left + x).min(width - 1)) * 3;
                let [r, g, b] = [0, 1, 2].map(|c| i16::from(pixels[at + c]));
                // Halves of the usual weights: 16 bits are enough.
                let luma = ((38 * r + 75 * g + 15 * b + 64) >> 7).min(255);
                part.luma[y / 8 * 2 + x / 8][y % 8][x % 8] = luma - 128;
                part.chroma[0][y / 2][x / 2] += b - luma;
                part.chroma[1][y / 2][x / 2] += r - luma;
            }
        }
        // The sum of four; a quarter of the greatest difference is as wide as brightness.
        part.chroma.as_flattened_mut().as_flattened_mut().iter_mut().for_each(|value| *value >>= 3);
        part
    }

    /// Puts it where it was.
    fn write(&self, pixels: &mut [u8], (width, height): (usize, usize), (left, top): (usize, usize)) {
        for y in 0..16.min(height - top) {
            let row = (top + y) * width + left;
            let line = &mut pixels[row * 3..][..16.min(width - left) * 3];
            for (x, pixel) in line.chunks_exact_mut(3).enumerate() {
                let luma = self.luma[y / 8 * 2 + x / 8][y % 8][x % 8] + 128;
                let [blue, red] = [0, 1].map(|c| 2 * self.chroma[c][y / 2][x / 2]);
                // From luma = 0.3 red + 0.59 green + 0.11 blue.
                let green = -((65 * red + 25 * blue) >> 7);
                for (value, more) in pixel.iter_mut().zip([red, green, blue]) {
                    *value = (luma + more).clamp(0, 255) as u8;
                }
            }
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
