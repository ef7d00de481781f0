//! A model whose weights are set by hand: it names the brightness of the newest picture.

use std::path::Path;

use kinora::decision::Settings;
use kinora::model::graph::{Conv, Graph, Op, Weights};
use kinora::model::manifest::{self, Activation, Colour, Input, Manifest, Mode, Output, Provenance, Resize, Run};
use kinora::model::{Golden, bundle};
use ndarray::{Array5, ArrayD, IxDyn};

use crate::shared::LEVELS;

const FRAMES: usize = 4;
const SIDE: usize = 16;
/// Pictures a second. Few, as gaps of half a window begin it anew, and an emulated processor has many.
const RATE: f32 = 5.0;
/// How sure it is: at a level's own brightness its neighbours get a five-hundredth of its probability.
const SHARPNESS: f32 = 150.0;

/// Writes it into `dir`.
pub fn write(dir: &Path) {
    let (mut graph, clip) = Graph::new([1, FRAMES, SIDE, SIDE]);
    let newest = Conv::new(1, [FRAMES, 1, 1]);
    let x = graph.push("newest", Op::Conv(newest), &[clip]).unwrap();
    let x = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    graph.push("head", Op::dense(LEVELS.len()), &[x]).unwrap();

    // The nearest level c to a brightness x has the largest 2cx - c^2.
    let tensor = |shape: &[usize], values: Vec<f32>| ArrayD::from_shape_vec(IxDyn(shape), values).unwrap();
    let slopes = LEVELS.iter().map(|(_, level)| SHARPNESS * 2.0 * level).collect();
    let offsets: Vec<f32> = LEVELS.iter().map(|(_, level)| -SHARPNESS * level * level).collect();
    let weights = Weights::from([
        ("newest.weight".into(), tensor(&[1, 1, FRAMES, 1, 1], vec![0.0, 0.0, 0.0, 1.0])),
        ("head.weight".into(), tensor(&[LEVELS.len(), 1], slopes)),
        ("head.bias".into(), tensor(&[LEVELS.len()], offsets.clone())),
    ]);
    let manifest = Manifest {
        format: manifest::FORMAT,
        name: "brightness".into(),
        architecture: "test".into(),
        input: Input {
            frames: FRAMES,
            height: SIDE,
            width: SIDE,
            colour: Colour::Gray,
            frame_rate: RATE,
            resize: Resize::Stretch,
            mean: vec![0.0],
            std: vec![1.0],
        },
        output: Output { activation: Activation::Softmax, classes: LEVELS.len(), per_frame: false },
        run: Run { mode: Mode::Window, hop: 1 },
        decision: Settings { smoothing_s: 0.0, min_duration_s: 0.0, merge_gap_s: 0.0, ..Settings::default() },
        quantisation: None,
        sided: vec![],
        provenance: Provenance { licence: "MIT".into(), data: "none".into(), recipe: "tests/device".into() },
        measured: vec![],
        sha256: Default::default(),
    };
    let labels: Vec<String> = LEVELS.iter().map(|(label, _)| (*label).into()).collect();
    let golden = Golden { clip: Array5::zeros([1, 1, FRAMES, SIDE, SIDE]), logits_f32: offsets, logits_int8: None };
    let model = (&graph, &weights);
    bundle::write(dir, bundle::Parts { manifest, labels: &labels, model, int8: None, golden: &golden }).unwrap();
}
