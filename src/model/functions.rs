//! The functions that no two libraries compute alike, defined: in f32 by additions, products and quotients alone, each rounded
//! as IEEE 754 says, so that every engine has the same bits of them on any processor. Polynomials after the Cephes library
//! (Moshier), within 2 units in the last place. Plain arithmetic without calls, so loops over them become vectors.

/// `e^x`; of x outside of -87 to 88 that of the nearest of these, so the result is always normal.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves no bits for a fraction, and the whole number in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    // ln 2 in two parts, the first of which has few bits: its products with whole numbers are exact.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let whole = shifted - MAGIC;
    let r = (x - whole * LN2[0]) - whole * LN2[1];
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
        p = p * r + c;
    }
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127) << 23);
    (p * (r * r) + r + 1.0) * power
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let z = x * x;
    let mut p = -5.704_988_7e-3;
    for c in [2.063_909e-2, -5.373_971_6e-2, 0.133_314_42, -0.333_332_8] {
        p = p * z + c;
    }
    let near = p * z * x + x;
    let far = (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    if size < 0.625 { near } else { far }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units of the last place of `wanted`.
    fn apart(got: f32, wanted: f64) -> f64 {
        let unit = f64::from((wanted as f32).abs().next_up() - (wanted as f32).abs());
        (f64::from(got) - wanted).abs() / unit
    }

    #[test]
    fn they_are_near_the_real_ones() {
        let mut worst = [0f64; 3];
        for step in -400_000..=400_000 {
            let x = step as f32 * 2e-4;
            let real = f64::from(x);
            let errors = [
                apart(exp(x), real.exp()),
                apart(sigmoid(x), 1.0 / (1.0 + (-real).exp())),
                apart(tanh(x), real.tanh()),
            ];
            worst = std::array::from_fn(|i| worst[i].max(errors[i]));
        }
        assert!(worst.iter().all(|ulps| *ulps < 2.5), "{worst:?}");
    }

    #[test]
    fn nothing_leaves_their_range() {
        for x in [0.0, -0.0, 1e-30, -1e-30, 100.0, -100.0, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(exp(x).is_normal() && (0.0..=1.0).contains(&sigmoid(x)) && tanh(x).abs() <= 1.0, "{x}");
            assert_eq!(tanh(-x), -tanh(x), "{x}");
        }
        assert_eq!((tanh(1e-30), sigmoid(0.0), tanh(40.0), sigmoid(-200.0) < 1e-37), (1e-30, 0.5, 1.0, true));
        assert!(sigmoid(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
    }
}
