//! The architectures beside the published layers: logits, loss and gradients of one step as `tests/peers/fixtures.py` wrote them
//! with torchvision, Keras and PyTorch, given the same weights and clips. Both sides draw these from the same hash.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use kinora::model::graph::{Role, Weights};
use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::Architecture;
use crate::interpreter::{Net, Pass, Precision};
use kinora::model::manifest::Activation;

use crate::loss::{Frames, Truth, score};

#[derive(Deserialize)]
struct Fixture {
    arch: String,
    shape: [usize; 5],
    /// `[N, K]`, by the running statistics.
    logits: Vec<f32>,
    /// By those of the batch.
    loss: f64,
    /// Sum and norm of what reaches each parameter of the loss by the running statistics.
    gradients: BTreeMap<String, [f64; 2]>,
}

/// Numbers from -1 to 1 that `name` decides: SplitMix64 of its FNV-1a hash.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let seed =
        name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (1..=count as u64).map(move |n| {
        let mut z: u64 = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f64 / 2f64.powi(23) - 1.0
    })
}

/// The value of a parameter.
fn value(name: &str, shape: &[usize], role: Role) -> ArrayD<f32> {
    let fan: usize = shape[1..].iter().product();
    let number = |u: f64| match role {
        Role::Weight => u * (3.0 / fan as f64).sqrt(),
        Role::Scale | Role::RunningVariance => 1.0 + 0.25 * u,
        _ => 0.1 * u,
    };
    let values = uniform(name, shape.iter().product()).map(|u| number(u) as f32).collect();
    ArrayD::from_shape_vec(IxDyn(shape), values).unwrap()
}

/// How far `got` is from `wanted`, of which the largest counts.
fn apart(got: &[f64], wanted: &[f64]) -> f64 {
    let largest = wanted.iter().fold(1e-9, |max: f64, x| max.max(x.abs()));
    got.iter().zip(wanted).fold(0.0, |max: f64, (a, b)| max.max((a - b).abs())) / largest
}

#[test]
fn they_compute_what_the_published_layers_do() {
    let fixtures: Vec<Fixture> = serde_json::from_str(include_str!("../../../../tests/peers/layers.json")).unwrap();
    for Fixture { arch, shape, logits, loss, gradients } in fixtures {
        let [clips, channels, frames, height, width] = shape;
        let classes = logits.len() / clips;
        let graph = arch.parse::<Architecture>().unwrap().graph([channels, frames, height, width], classes).unwrap();
        let draw = |p: kinora::model::graph::Parameter| (p.name.clone(), value(&p.name, &p.shape, p.role));
        let weights: Weights = graph.parameters().into_iter().map(draw).collect();
        let mut net = Net::new(graph, Device::Cpu, 0).unwrap();
        net.set(&weights).unwrap();
        let values: Vec<f32> = uniform("clip", shape.iter().product()).map(|u| u as f32).collect();
        let input = Tensor::from_slice(&values).reshape(shape.map(|n| n as i64));
        let labels: Vec<Vec<usize>> = (0..clips).map(|class| vec![class]).collect();
        let truth = Truth::new(&labels, classes, Activation::Softmax, Device::Cpu).unwrap();
        let frames = Frames { first: 0, all: 1, window: 1 };
        let answer = net.answer(&input, Pass::Evaluate).unwrap();
        let wanted: Vec<f64> = logits.iter().map(|x| f64::from(*x)).collect();
        let logits = apart(&Vec::<f64>::try_from(&answer.reshape([-1]).to_kind(Kind::Double)).unwrap(), &wanted);
        assert!(logits < 1e-4, "{arch}: logits {logits:.1e} of the largest apart");
        score(&answer, &truth, frames, 0.0).unwrap().0.backward();
        let answer = tch::no_grad(|| net.answer(&input, Pass::Train(Precision::F32))).unwrap();
        let (got, _) = score(&answer, &truth, frames, 0.0).unwrap();
        let loss = (f64::try_from(&got).unwrap() / loss - 1.0).abs();
        assert!(loss < 1e-4, "{arch}: loss {loss:.1e} apart");
        let trained: BTreeMap<&String, &Tensor> = net.trained().collect();
        assert!(trained.keys().copied().eq(gradients.keys()), "{arch}: other parameters than the published net");
        let mut worst = (0.0, String::new());
        for (name, wanted) in &gradients {
            let gradient = trained[name].grad().to_kind(Kind::Double);
            let numbers = [gradient.sum(Kind::Double), gradient.norm()].map(|x| f64::try_from(x).unwrap());
            // A sum may cancel out: the norm is what it is measured by.
            let off = apart(&numbers, wanted);
            worst = if off > worst.0 { (off, name.clone()) } else { worst };
        }
        let (count, (gradient, name)) = (gradients.len(), &worst);
        println!(
            "{arch}: apart at most: logits {logits:.1e}, loss {loss:.1e}, {count} gradients {gradient:.1e} ('{name}')"
        );
        // A value that is all but zero may come out on the other side of a ReLU.
        assert!(worst.0 < 1e-2, "{arch}: the gradient of '{}' is {:.1e} apart", worst.1, worst.0);
    }
}
