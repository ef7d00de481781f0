//! A tiny bundle for tests and benches that are about the program, not about the model's answers.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use kinora::decision::Settings;
use kinora::model::graph::{Conv, Graph, Op, Unary, Weights};
use kinora::model::manifest::{self, Activation, Colour, Input, Manifest, Mode, Output, Provenance, Resize, Run};
use kinora::model::{Bundle, Golden, bundle};
use ndarray::{Array5, ArrayD, IxDyn};

/// The labels of [`tiny`].
pub const LABELS: [&str; 4] = ["nothing", "up", "down", "swipe_left"];

/// Writes a bundle with a random net of a few weights into `dir` that sees 4 planes of 16x16 at 10 Hz. Its thresholds are
/// so low that the leading label always is an action, so every run has events.
pub fn tiny(dir: &Path) -> Bundle {
    named(dir, "tiny", LABELS)
}

/// The same as [`tiny`] with another name and other labels.
pub fn named(dir: &Path, name: &str, labels: [&str; 4]) -> Bundle {
    let (mut graph, clip) = Graph::new([3, 4, 16, 16]);
    let (stride, pad) = (vec![1, 2, 2], vec![(2, 0), (1, 1), (1, 1)]);
    let conv = Conv { stride, pad, bias: true, ..Conv::new(6, [3, 3, 3]) };
    let x = graph.push("conv", Op::Conv(conv), &[clip]).unwrap();
    let x = graph.push("relu", Op::Unary(Unary::Relu), &[x]).unwrap();
    let x = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    graph.push("head", Op::dense(LABELS.len()), &[x]).unwrap();
    let mut rng = fastrand::Rng::with_seed(11);
    let weights: Weights = graph
        .parameters()
        .into_iter()
        .map(|p| {
            let count = p.shape.iter().product();
            let values = (0..count).map(|_| 2.0 * rng.f32() - 1.0).collect();
            (p.name, ArrayD::from_shape_vec(IxDyn(&p.shape), values).unwrap())
        })
        .collect();
    let settings = Settings {
        enter: 0.2,
        exit: 0.1,
        smoothing_s: 0.05,
        min_duration_s: 0.0,
        nothing: "none".into(),
        ..Settings::default()
    };
    let manifest = Manifest {
        format: manifest::FORMAT,
        name: name.into(),
        architecture: "test".into(),
        input: Input {
            frames: 4,
            height: 16,
            width: 16,
            colour: Colour::Motion,
            frame_rate: 10.0,
            resize: Resize::Crop,
            mean: vec![0.0; 3],
            std: vec![0.1; 3],
        },
        output: Output { activation: Activation::Softmax, classes: LABELS.len(), per_frame: false },
        run: Run { mode: Mode::Window, hop: 1 },
        decision: settings,
        quantisation: None,
        sided: vec![],
        provenance: Provenance { licence: "MIT".into(), data: "random".into(), recipe: "tests/common".into() },
        measured: vec![],
        sha256: Default::default(),
    };
    // All zeros give the bias of `conv` through `relu` and `head`: simple enough to write down.
    let (bias, head, offset) = (&weights["conv.bias"], &weights["head.weight"], &weights["head.bias"]);
    let logit = |k: usize| offset[[k]] + (0..6).map(|c| head[[k, c]] * bias[[c]].max(0.0)).sum::<f32>();
    let golden = Golden {
        clip: Array5::zeros([1, 3, 4, 16, 16]),
        logits_f32: (0..LABELS.len()).map(logit).collect(),
        logits_int8: None,
    };
    let labels = labels.map(String::from);
    let model = (&graph, &weights);
    bundle::write(dir, bundle::Parts { manifest, labels: &labels, model, int8: None, golden: &golden }).unwrap()
}
