//! The shadow of a body on the wall behind it.

use crate::synth::dice::Dice;
use crate::synth::raster::{Limb, Raster};

/// A shadow on the wall: the body's outline, moved and soft. It moves as the body does, elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct WallShadow {
    /// Where it lies from the body, right and down, in picture heights.
    offset: (f32, f32),
    /// How large it is against the body.
    scale: f32,
    /// Width of its edge in picture heights.
    edge: f32,
    /// Share of the light that is missing in it.
    strength: f32,
}

impl WallShadow {
    pub(super) fn random(dice: &mut Dice) -> Self {
        Self {
            offset: (dice.sign() * dice.between(0.04, 0.28), dice.between(-0.08, 0.1)),
            scale: dice.between(0.88, 1.25),
            edge: dice.between(0.008, 0.05),
            strength: dice.between(0.12, 0.5),
        }
    }

    /// Darkens the picture where the shadow of `limbs` falls, above the row `floor` (in pixels) where the wall ends.
    /// The picture is moved by `shift`.
    pub(crate) fn cast(
        &self,
        limbs: &[Limb],
        (size, shift): ((f32, f32), (f32, f32)),
        floor: f32,
        raster: &mut Raster,
        pixels: &mut [u8],
    ) {
        let (x, y) = (0.5 * size.0 + shift.0, 0.5 * size.1 + shift.1);
        let moved = |p: [f32; 4]| {
            let (dx, dy) = (self.offset.0 * size.1, self.offset.1 * size.1);
            [x + (p[0] - x) * self.scale + dx, y + (p[1] - y) * self.scale + dy, p[2] * self.scale, p[3]]
        };
        for limb in limbs {
            raster.cast(&Limb { from: moved(limb.from), to: moved(limb.to), ..*limb }, self.edge * size.1);
        }
        raster.darken(self.strength, floor, pixels);
    }
}
