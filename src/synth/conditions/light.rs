//! Light that changes: lamps that go on and off and an exposure that follows, slow drift, mains, and a colour cast.

use std::array;
use std::f32::consts::TAU;

use crate::synth::dice::Dice;

/// The room's light and how the camera makes up for it.
#[derive(Debug, Clone)]
pub(super) struct Lighting {
    /// What is left of each colour.
    tint: [f32; 3],
    /// What is added everywhere: the grey that black becomes in the dark, in levels.
    veil: f32,
    drift: Option<Drift>,
    swings: Option<Swings>,
    mains: Option<Mains>,
}

impl Lighting {
    /// Light in which nothing changes.
    pub(super) fn steady() -> Self {
        Self { tint: [1.0; 3], veil: 0.0, drift: None, swings: None, mains: None }
    }

    /// Light of a room, with little of it if `dim`.
    pub(super) fn random(dice: &mut Dice, dim: bool) -> Self {
        let level = if dim { dice.between(0.4, 0.75) } else { 1.0 };
        let cast = if dice.chance(0.25) { dice.between(0.03, 0.13) } else { 0.0 };
        Self {
            tint: [0; 3].map(|_| level * (1.0 + dice.between(-cast, cast))),
            veil: if dim { dice.between(4.0, 28.0) } else { 0.0 },
            drift: dice.chance(0.2).then(|| Drift::random(dice)),
            swings: dice.chance(0.22).then(|| Swings::random(dice)),
            mains: dice.chance(0.12).then(|| Mains::random(dice)),
        }
    }

    /// By what the colours are multiplied at `t_s`.
    pub(super) fn gains(&self, t_s: f32) -> [f32; 3] {
        let drift = self.drift.as_ref().map_or(0.0, |drift| drift.at(t_s));
        let swing = self.swings.as_ref().map_or([0.0; 3], |swings| swings.at(t_s));
        array::from_fn(|c| self.tint[c] * (drift + swing[c]).clamp(-1.2, 1.2).exp2())
    }

    /// Lays it over the picture taken at `t_s`. What becomes brighter than white is white.
    pub(super) fn apply(&self, t_s: f32, (width, height): (usize, usize), pixels: &mut [u8]) {
        let (gains, veil) = (self.gains(t_s), self.veil as u16);
        if gains == [1.0; 3] && veil == 0 && self.mains.is_none() {
            return;
        }
        for (y, line) in pixels.chunks_exact_mut((width * 3).max(1)).enumerate() {
            let row = self.mains.as_ref().map_or(1.0, |mains| mains.at(t_s, y as f32 / height as f32));
            // Eight pixels at a time, so that they are done at once.
            let gains: [u16; 24] = array::from_fn(|i| (gains[i % 3] * row * 256.0 + 0.5) as u16);
            let lit = |p: u8, gain: u16| {
                let light = (u32::from(u16::from(p) << 8) * u32::from(gain)) >> 16;
                (light as u16 + veil).min(255) as u8
            };
            let mut parts = line.chunks_exact_mut(24);
            for part in &mut parts {
                part.iter_mut().zip(gains).for_each(|(p, gain)| *p = lit(*p, gain));
            }
            parts.into_remainder().iter_mut().zip(gains).for_each(|(p, gain)| *p = lit(*p, gain));
        }
    }
}

/// Clouds before the sun: slow, and never quite made up for.
#[derive(Debug, Clone)]
struct Drift {
    amount: f32,
    hz: f32,
    phase: f32,
}

impl Drift {
    fn random(dice: &mut Dice) -> Self {
        Self { amount: dice.between(0.03, 0.2), hz: dice.between(0.03, 0.2), phase: dice.between(0.0, TAU) }
    }

    /// Of the light, in powers of two.
    fn at(&self, t_s: f32) -> f32 {
        let turn = TAU * self.hz * t_s + self.phase;
        self.amount * (turn.sin() + 0.4 * (2.7 * turn).sin())
    }
}

/// Sudden changes of light that the camera's exposure makes up for: a lamp, a door, something bright before the lens.
#[derive(Debug, Clone)]
pub(super) struct Swings {
    seed: u64,
    /// Time in which there is one, more or less.
    every_s: f32,
    /// Until the camera begins to follow, and what it then needs to make up for two thirds.
    lag_s: f32,
    follow_s: f32,
    /// By how much each colour changes more or less than the light: lamps are not as white as the sky.
    cast: [f32; 3],
}

impl Swings {
    fn random(dice: &mut Dice) -> Self {
        let warm = dice.between(-0.25, 0.25);
        Self {
            seed: dice.seed(),
            every_s: dice.between(2.5, 8.0),
            lag_s: dice.between(0.05, 0.3),
            follow_s: dice.between(0.17, 0.65),
            cast: [warm, 0.0, -warm],
        }
    }

    /// Begin and size, in powers of two, of the event in the stretch of time number `slot`.
    pub(super) fn event(&self, slot: f32) -> Option<(f32, f32)> {
        let mut dice = Dice::new(self.seed, slot as i64 as u64);
        let factor = if dice.chance(0.5) { dice.between(0.6, 0.85) } else { dice.between(1.15, 1.6) };
        dice.chance(0.8).then(|| ((slot + dice.between(0.0, 1.0)) * self.every_s, factor.log2()))
    }

    /// Of each colour, in powers of two: what is left of the events of late.
    fn at(&self, t_s: f32) -> [f32; 3] {
        let now = (t_s / self.every_s).floor();
        let (mut light, mut cast) = (0.0, 0.0);
        // Those before have been made up for to less than a level of 255.
        for (begin_s, size) in (0..4).filter_map(|ago| self.event(now - ago as f32)) {
            let since_s = t_s - begin_s;
            if since_s >= 0.0 {
                let share = (since_s - self.lag_s).max(0.0) / self.follow_s;
                light += size * (-share).exp();
                // The balance of colours follows later than brightness.
                cast += size * (-share / 3.0).exp();
            }
        }
        self.cast.map(|c| light + c * cast)
    }
}

/// Lamps that flicker with the mains, seen by a camera that reads row by row: bands that travel with the beat of both.
#[derive(Debug, Clone)]
struct Mains {
    depth: f32,
    beat_hz: f32,
    bands: f32,
}

impl Mains {
    fn random(dice: &mut Dice) -> Self {
        let beat_hz = dice.sign() * dice.between(0.1, 6.0);
        Self { depth: dice.between(0.015, 0.08), beat_hz, bands: dice.between(0.8, 3.5) }
    }

    fn at(&self, t_s: f32, row: f32) -> f32 {
        1.0 + self.depth * (TAU * (self.beat_hz * t_s + self.bands * row)).sin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Lighting {
        /// How many things are not as in a studio.
        pub(in crate::synth) fn count(&self) -> usize {
            let cast = self.tint[0] != self.tint[1];
            let changes = [cast, self.drift.is_some(), self.swings.is_some(), self.mains.is_some()];
            changes.iter().filter(|is| **is).count()
        }
    }

    fn brightness(lighting: &Lighting, t_s: f32) -> f32 {
        let mut pixels = vec![100; 30 * 20 * 3];
        lighting.apply(t_s, (30, 20), &mut pixels);
        pixels.iter().map(|p| f32::from(*p)).sum::<f32>() / pixels.len() as f32
    }

    #[test]
    fn brightness_swings_and_recovers() {
        let (mut dark, mut bright) = (0, 0);
        for seed in 0..100 {
            let swings = Swings { every_s: 6.0, ..Swings::random(&mut Dice::new(seed, 1)) };
            let Some((begin_s, size)) = swings.event(50.0) else { continue };
            let next = swings.event(51.0).map_or(f32::MAX, |event| event.0);
            let lighting = Lighting { swings: Some(swings), ..Lighting::steady() };
            let before = brightness(&lighting, begin_s - 0.01);
            let after = brightness(&lighting, begin_s + 0.01);
            assert!((after / before).log2() / size > 0.6, "seed {seed}: {before} {after}");
            (dark, bright) = (dark + usize::from(after < before), bright + usize::from(after > before));
            if next > begin_s + 2.5 {
                let late = brightness(&lighting, begin_s + 2.5);
                assert!((late - 100.0).abs() < 6.0, "seed {seed}: {late}");
            }
        }
        assert!(dark > 20 && bright > 20);
    }

    #[test]
    fn bands_travel_and_white_stays_white() {
        let mains = Mains { depth: 0.1, beat_hz: 1.0, bands: 1.0 };
        let lighting = Lighting { mains: Some(mains), ..Lighting::steady() };
        let rows = |t_s: f32, level: u8| {
            let mut pixels = vec![level; 40 * 3];
            lighting.apply(t_s, (1, 40), &mut pixels);
            pixels.chunks(3).map(|pixel| pixel[0]).collect::<Vec<u8>>()
        };
        let brightest = |rows: &[u8]| (0..rows.len()).max_by_key(|y| rows[*y]).unwrap_or(0);
        assert_eq!((brightest(&rows(0.0, 100)) + 40 - brightest(&rows(0.25, 100))) % 40, 10);
        let white = rows(0.0, 250);
        assert!(white.contains(&255) && white.contains(&225), "{white:?}");
    }
}
