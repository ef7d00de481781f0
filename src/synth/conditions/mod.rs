//! What a room and a camera do to the picture: things that move behind the body, its shadow on the wall, light that
//! changes, a shutter that stays open, noise and compression. All of it follows from seed and time, never from an
//! earlier picture, so that any order of times gives the same pictures.

mod background;
mod codec;
mod film;
mod light;
mod screen;
mod shadow;
mod wind;

#[cfg(test)]
mod tests;

use self::background::Mover;
use self::codec::Codec;
pub(crate) use self::film::Film;
use self::light::Lighting;
pub(crate) use self::shadow::WallShadow;
use super::dice::Dice;
use super::raster::Limb;

/// The conditions under which a scene is taken.
#[derive(Debug, Clone)]
pub(crate) struct Conditions {
    seed: u64,
    movers: Vec<Mover>,
    pub(crate) wall: Option<WallShadow>,
    lighting: Lighting,
    /// How long a picture is exposed, in seconds.
    pub(crate) shutter_s: f32,
    /// Standard deviation of the noise that comes on top of the backdrop's.
    noise: f32,
    /// Whether the camera has only half the pixels that its picture has each way.
    coarse: bool,
    codec: Option<Codec>,
}

/// The most exposures that one picture is made of.
const MOST_EXPOSURES: usize = 4;

impl Conditions {
    /// Those of a studio: nothing changes.
    pub(crate) fn calm() -> Self {
        Self {
            seed: 0,
            movers: Vec::new(),
            wall: None,
            lighting: Lighting::steady(),
            shutter_s: 0.0,
            noise: 0.0,
            coarse: false,
            codec: None,
        }
    }

    /// Those that cameras meet in homes, offices and streets: about two at once, and none in one scene of seven.
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let seed = dice.seed();
        if dice.chance(0.09) {
            return Self::calm();
        }
        let movers = if dice.chance(0.4) { 1 + usize::from(dice.chance(0.25)) } else { 0 };
        let dim = dice.chance(0.15);
        // What has lost so much already must keep the rest, or nobody could tell what is done.
        let coarse = !dim && dice.chance(0.14);
        // The darker, the longer a camera exposes.
        let shutter_s = match dim {
            true if dice.chance(0.85) => dice.between(1.0 / 30.0, 1.0 / 15.0),
            false if dice.chance(0.3) => dice.between(0.008, 1.0 / 30.0),
            _ => 0.0,
        };
        Self {
            seed,
            movers: (0..movers).map(|_| Mover::random(dice)).collect(),
            wall: dice.chance(0.2).then(|| WallShadow::random(dice)),
            lighting: Lighting::random(dice, dim),
            shutter_s,
            noise: if dim { dice.between(3.0, 9.0) } else { 0.0 },
            coarse,
            codec: dice.chance(0.3).then(|| Codec::random(dice, if dim || coarse { 10.0 } else { 22.0 })),
        }
    }

    /// How many exposures a picture needs in whose time limbs went from `before` to `after`: enough for a trace without
    /// gaps. One for what stands still, so that only movement costs time.
    pub(crate) fn exposures(before: &[Limb], after: &[Limb]) -> usize {
        if before.len() != after.len() {
            return MOST_EXPOSURES;
        }
        let gone = |a: [f32; 4], b: [f32; 4]| (a[0] - b[0]).abs().max((a[1] - b[1]).abs());
        let pairs = before.iter().zip(after);
        let farthest = pairs.map(|(a, b)| gone(a.from, b.from).max(gone(a.to, b.to))).fold(0.0, f32::max);
        ((farthest / 1.5) as usize + 1).min(MOST_EXPOSURES)
    }

    /// Draws what moves behind the body at `t_s` into a picture that is moved by `shift` pixels.
    pub(crate) fn draw_movers(&self, t_s: f32, size: (usize, usize), shift: (f32, f32), pixels: &mut [u8]) {
        let mut easel = background::Easel { size, shift, pixels };
        self.movers.iter().for_each(|mover| mover.draw(t_s, &mut easel));
    }

    /// Lays the room's light at `t_s` over the picture.
    pub(crate) fn light(&self, t_s: f32, size: (usize, usize), pixels: &mut [u8]) {
        self.lighting.apply(t_s, size, pixels);
    }

    /// What sensor and transmission do to the picture taken at `t_s`.
    pub(crate) fn transmit(&self, t_s: f32, film: &mut Film, pixels: &mut [u8]) {
        if self.noise > 0.0 {
            film.grain(Dice::new(self.seed, u64::from(t_s.to_bits())).seed(), pixels);
        }
        if self.coarse {
            film.coarsen(pixels);
        }
        if let Some(codec) = &self.codec {
            codec.apply(t_s, film.size(), pixels);
        }
    }
}
