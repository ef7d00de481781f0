//! Seeded randomness of the mannequin. The same seed gives the same numbers on every machine.

use fastrand::Rng;

/// A seeded generator with the draws that scenes are made of.
#[derive(Debug, Clone)]
pub(crate) struct Dice(Rng);

impl Dice {
    /// A generator of its own for part `part` of seed `seed`.
    pub(crate) fn new(seed: u64, part: u64) -> Self {
        Self(Rng::with_seed(mix(seed ^ mix(part.wrapping_add(0x5eed)))))
    }

    /// Evenly between `low` and `high`.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.0.f32()
    }

    /// Around zero, with standard deviation 1; never beyond 3.5.
    pub(crate) fn normal(&mut self) -> f32 {
        let sum: f32 = (0..12).map(|_| self.0.f32()).sum();
        (sum - 6.0).clamp(-3.5, 3.5)
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f32) -> bool {
        self.0.f32() < p
    }

    /// A whole number in `low..=high`.
    pub(crate) fn whole(&mut self, low: usize, high: usize) -> usize {
        self.0.usize(low..=high)
    }

    /// -1 or 1.
    pub(crate) fn sign(&mut self) -> f32 {
        if self.0.bool() { 1.0 } else { -1.0 }
    }

    /// Side 0 or 1.
    pub(crate) fn side(&mut self) -> usize {
        self.0.usize(0..2)
    }

    /// One of `choices`, which must not be empty.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.usize(0..choices.len())]
    }

    /// A colour of a brightness between `low` and `high`, grey but for `spread`.
    pub(crate) fn color(&mut self, (low, high): (f32, f32), spread: f32) -> [f32; 3] {
        let level = self.between(low, high);
        [0; 3].map(|_| (level + self.between(-spread, spread)).clamp(0.0, 255.0))
    }

    /// A seed for something that draws on its own.
    pub(crate) fn seed(&mut self) -> u64 {
        self.0.u64(..)
    }
}

/// Noise of standard deviation 148 out of a random `word`: the sum of four bytes, which is close enough to a normal distribution.
pub(crate) fn noise(word: u64) -> i32 {
    word.to_le_bytes()[..4].iter().map(|b| i32::from(*b)).sum::<i32>() - 510
}

/// Spreads the bits of `x` over the whole word (the finaliser of splitmix64), so that near seeds give unlike scenes.
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
