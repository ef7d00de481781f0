//! AdamW with a clipped gradient norm, the learning rate's course, and the running average of the weights.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tch::Tensor;

use crate::interpreter::Net;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// How the learning rate goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Schedule {
    /// A straight rise for a twentieth of the steps, then half a cosine down to a hundredth.
    #[default]
    Cosine,
    /// The same for all steps.
    Constant,
}

/// The learning rate of `step` (from 0) of `steps`, the highest of which is `peak`.
pub fn rate(schedule: Schedule, step: u64, steps: u64, peak: f64) -> f64 {
    if schedule == Schedule::Constant {
        return peak;
    }
    let warm_up = (steps / 20).clamp(1, 500);
    if step < warm_up {
        return peak * (step + 1) as f64 / warm_up as f64;
    }
    let done = (step - warm_up) as f64 / (steps.max(warm_up + 1) - warm_up) as f64;
    peak * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()))
}

/// First and second moments of a parameter's gradient.
struct Moments {
    first: Tensor,
    second: Tensor,
}

/// AdamW: weight decay apart from the gradient, on weights only, not on biases and normalisations.
pub struct AdamW {
    moments: BTreeMap<String, Moments>,
    weight_decay: f64,
    /// The gradient's norm over all parameters is cut to this.
    max_norm: f64,
    steps: i32,
}

impl AdamW {
    /// An optimizer for the trained parameters of `net`.
    pub fn new(net: &Net, weight_decay: f64, max_norm: f64) -> Self {
        let zero = |tensor: &Tensor| tensor.detach().zeros_like();
        let moments = net
            .trained()
            .map(|(name, tensor)| (name.clone(), Moments { first: zero(tensor), second: zero(tensor) }))
            .collect();
        Self { moments, weight_decay, max_norm, steps: 0 }
    }

    /// Takes one step by the gradients that `net` holds and clears them. Returns the gradient's norm before it was cut.
    ///
    /// # Errors
    /// When the device fails or a gradient is missing.
    pub fn step(&mut self, net: &Net, rate: f64) -> Result<f64> {
        tch::no_grad(|| {
            let mut gradients = Vec::with_capacity(self.moments.len());
            for (name, tensor) in net.trained() {
                let gradient = tensor.grad();
                anyhow::ensure!(gradient.defined(), "parameter '{name}' has no gradient");
                gradients.push((name, tensor.shallow_clone(), gradient));
            }
            let norms: Vec<Tensor> = gradients.iter().map(|(_, _, g)| g.f_norm()).collect::<Result<_, _>>()?;
            let norm = f64::try_from(Tensor::f_stack(&norms, 0)?.f_norm()?)?;
            let scale = (self.max_norm / (norm + 1e-6)).min(1.0);
            self.steps += 1;
            let (unbias1, unbias2) = (1.0 - BETA1.powi(self.steps), 1.0 - BETA2.powi(self.steps));
            for (name, mut tensor, mut gradient) in gradients {
                let Moments { first, second } =
                    self.moments.get_mut(name).with_context(|| format!("parameter '{name}' has no moments"))?;
                let _ = gradient.f_mul_scalar_(scale)?;
                let _ = first.f_lerp_(&gradient, 1.0 - BETA1)?;
                let _ = second.f_lerp_(&gradient.f_square()?, 1.0 - BETA2)?;
                if tensor.dim() > 1 {
                    let _ = tensor.f_mul_scalar_(1.0 - rate * self.weight_decay)?;
                }
                let divisor = (second.f_sqrt()? / unbias2.sqrt()).f_add_scalar(EPS)?;
                let _ = tensor.f_sub_(&(first.f_div(&divisor)? * (rate / unbias1)))?;
                let _ = gradient.f_zero_()?;
            }
            Ok(norm)
        })
    }

    /// The moments as tensors named `first/NAME` and `second/NAME`.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let both = |(name, m): (&String, &Moments)| {
            [(format!("first/{name}"), m.first.shallow_clone()), (format!("second/{name}"), m.second.shallow_clone())]
        };
        self.moments.iter().flat_map(both).collect()
    }

    /// Goes on from `state`, taken after `steps` steps.
    ///
    /// # Errors
    /// When a moment is missing or has another shape.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>, steps: u64) -> Result<()> {
        for (name, moments) in &mut self.moments {
            for (kind, tensor) in [("first", &mut moments.first), ("second", &mut moments.second)] {
                let saved =
                    state.get(&format!("{kind}/{name}")).with_context(|| format!("no {kind} moment of '{name}'"))?;
                tensor.f_copy_(saved).with_context(|| format!("the {kind} moment of '{name}'"))?;
            }
        }
        self.steps = i32::try_from(steps).unwrap_or(i32::MAX);
        Ok(())
    }
}

/// Moves the weights of `average` towards those of `net`; after `step` steps (from 1) it remembers about
/// `1 / (1 - decay)` steps, fewer at the beginning.
///
/// # Errors
/// When the nets differ or the device fails.
pub fn average(average: &mut Net, net: &Net, decay: f64, step: u64) -> Result<()> {
    let decay = decay.min((1 + step) as f64 / (10 + step) as f64);
    tch::no_grad(|| {
        for (name, tensor) in net.tensors() {
            let mut mean = average.tensors().get(name).with_context(|| format!("no '{name}'"))?.shallow_clone();
            let _ = mean.f_lerp_(tensor, 1.0 - decay)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use kinora::model::graph::{Graph, Op};
    use tch::{Device, Kind};

    fn line() -> Net {
        let (mut graph, clip) = Graph::new([2, 1, 1, 1]);
        let mean = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[clip]).unwrap();
        graph.push("head", Op::dense(2), &[mean]).unwrap();
        Net::new(graph, Device::Cpu, 1).unwrap()
    }

    #[test]
    fn the_rate_rises_and_falls() {
        let rates: Vec<f64> = (0..1000).map(|step| rate(Schedule::Cosine, step, 1000, 1e-3)).collect();
        assert!(rates[0] < 3e-5 && (rates[49] - 1e-3).abs() < 1e-9);
        assert!(rates[49..].windows(2).all(|pair| pair[1] <= pair[0]));
        assert!((rates[999] - 1e-5).abs() < 1e-6, "{}", rates[999]);
        assert!(rate(Schedule::Cosine, 5, 1, 1.0).is_finite());
        assert_eq!([0, 500, 999].map(|step| rate(Schedule::Constant, step, 1000, 1e-4)), [1e-4; 3]);
    }

    /// The first step of AdamW moves every value by the rate against the gradient's sign, after the decay.
    #[test]
    fn first_step_is_the_rate() {
        let net = line();
        let before = net.weights().unwrap();
        let mut optimizer = AdamW::new(&net, 0.5, 1e9);
        let clip = Tensor::ones([1, 2, 1, 1, 1], (Kind::Float, Device::Cpu));
        let logits = net.forward(&clip, crate::interpreter::Pass::Evaluate).unwrap();
        (logits * Tensor::from_slice(&[1.0f32, -1.0])).sum(Kind::Float).backward();
        let norm = optimizer.step(&net, 0.01).unwrap();
        assert!((norm - 6f64.sqrt()).abs() < 1e-5, "two gradients of one for each output, and its bias: {norm}");
        let after = net.weights().unwrap();
        for (row, sign) in [(0, 1.0), (1, -1.0)] {
            let (w0, w1) = (before["head.weight"][[row, 0]], after["head.weight"][[row, 0]]);
            assert!((w1 - (w0 * (1.0 - 0.005) - sign * 0.01)).abs() < 1e-6, "{w0} {w1}");
            let b1 = after["head.bias"][[row]];
            assert!((b1 + sign * 0.01).abs() < 1e-6, "biases do not decay: {b1}");
        }
    }

    #[test]
    fn average_follows_slowly() {
        let (net, mut mean) = (line(), line());
        let far = net.weights().unwrap().into_iter().map(|(name, w)| (name, w + 1.0)).collect();
        let mut net = net;
        net.set(&far).unwrap();
        let before = mean.weights().unwrap()["head.bias"][[0]];
        average(&mut mean, &net, 0.9, 1_000_000).unwrap();
        assert!((mean.weights().unwrap()["head.bias"][[0]] - (before + 0.1)).abs() < 1e-6);
    }
}
