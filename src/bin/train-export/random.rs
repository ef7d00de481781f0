//! Random tensors that depend on their seed alone, not on libtorch's one generator for all threads.

use anyhow::Result;
use fastrand::Rng;
use tch::Tensor;

/// Values of the standard normal distribution, f32 on the CPU.
///
/// # Errors
/// When the tensor cannot be made.
pub fn normal(rng: &mut Rng, shape: &[i64]) -> Result<Tensor> {
    // Box and Muller: two independent values at a time, from one uniform in (0, 1] and one in [0, 1).
    let mut second = None;
    tensor(shape, || {
        second.take().unwrap_or_else(|| {
            let (radius, angle) = ((-2.0 * (1.0 - rng.f64()).ln()).sqrt(), std::f64::consts::TAU * rng.f64());
            second = Some((radius * angle.sin()) as f32);
            (radius * angle.cos()) as f32
        })
    })
}

/// Values evenly spread over -1 to 1, f32 on the CPU.
///
/// # Errors
/// When the tensor cannot be made.
pub fn uniform(rng: &mut Rng, shape: &[i64]) -> Result<Tensor> {
    tensor(shape, || rng.f32() * 2.0 - 1.0)
}

fn tensor(shape: &[i64], mut next: impl FnMut() -> f32) -> Result<Tensor> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_: i64| next()).collect();
    Ok(Tensor::f_from_slice(&values)?.f_reshape(shape)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn values_have_their_distribution_and_the_seed_decides_them() {
        for (draw, variance) in [(normal as fn(&mut Rng, &[i64]) -> Result<Tensor>, 1.0), (uniform, 1.0 / 3.0)] {
            let of = |seed| Vec::<f32>::try_from(draw(&mut Rng::with_seed(seed), &[100_001]).unwrap()).unwrap();
            let values = of(1);
            let moment = |power| values.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / 100_001.0;
            assert!(moment(1).abs() < 0.02 && (moment(2) - variance).abs() < 0.02, "{} {}", moment(1), moment(2));
            assert!(values == of(1) && values != of(2));
        }
        assert_eq!(normal(&mut Rng::with_seed(1), &[2, 0, 3]).unwrap().size(), [2, 0, 3]);
    }
}
