//! Bundles on disk: what is written runs in tract as the graph says, and what is broken is refused with one clear line.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod reference;

use std::path::Path;

use kinora::Error;
use kinora::engine::{self, Options};
use kinora::model::bundle;
use kinora::model::graph::{Graph, Weights};
use kinora::model::manifest::{Activation, Colour, Input, Mode, Output, Provenance, Resize, Run};
use kinora::model::{Bundle, Golden, Manifest, onnx};

/// The parts of a bundle whose golden logits come from the reference.
struct Parts {
    manifest: Manifest,
    labels: Vec<String>,
    graph: Graph,
    weights: Weights,
    golden: Golden,
}

impl Parts {
    fn random(seed: u64, [frames, height, width]: [usize; 3], classes: usize) -> Self {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let colour = if seed.is_multiple_of(2) { Colour::Rgb } else { Colour::Gray };
        let channels = colour.channels();
        let graph = reference::graph(rng, [channels, frames, height, width], classes).unwrap();
        let weights = reference::weights(rng, &graph);
        let clip = reference::clip(rng, &graph);
        let logits_f32 = reference::logits(&graph, &weights, &clip).into_iter().map(|x| x as f32).collect();
        let labels = (0..classes).map(|k| format!("action {k}")).collect();
        Self {
            manifest: manifest(colour, [frames, height, width], classes),
            labels,
            graph,
            weights,
            golden: Golden { clip, logits_f32 },
        }
    }

    fn write(&self, dir: &Path) -> Result<Bundle, Error> {
        bundle::write(dir, self.manifest.clone(), &self.labels, &self.graph, &self.weights, &self.golden)
    }
}

fn manifest(colour: Colour, [frames, height, width]: [usize; 3], classes: usize) -> Manifest {
    let mean = vec![0.0; colour.channels()];
    let std = vec![1.0; colour.channels()];
    Manifest {
        format: kinora::model::manifest::FORMAT,
        name: "test".into(),
        architecture: "random".into(),
        input: Input { frames, height, width, colour, frame_rate: 12.0, resize: Resize::Crop, mean, std },
        output: Output { activation: Activation::Softmax, classes },
        run: Run { mode: Mode::Window, hop: 2 },
        decision: Default::default(),
        sided: vec![],
        provenance: Provenance { licence: "MIT".into(), data: "noise".into(), recipe: "none".into() },
        measured: vec![],
        sha256: Default::default(),
    }
}

#[test]
fn tract_computes_what_the_graph_says() {
    let folder = tempfile::tempdir().unwrap();
    let shapes = [[1, 8, 8], [4, 9, 11], [5, 8, 13], [8, 16, 16], [7, 15, 10], [3, 12, 9]];
    for (seed, shape) in (0..24u64).zip(shapes.into_iter().cycle()) {
        let parts = Parts::random(seed, shape, 1 + seed as usize % 5);
        let dir = folder.path().join(seed.to_string());
        let bundle = parts.write(&dir).unwrap();
        let engine = engine::open(&bundle, &Options::default()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let deviation = engine::verify(&*engine, &bundle).unwrap();
        assert!(deviation < 1e-5, "seed {seed}: {deviation}");
        assert_eq!(onnx::read_weights(&bundle.onnx()).unwrap(), parts.weights);
    }
}
