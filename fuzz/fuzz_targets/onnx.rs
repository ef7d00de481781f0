//! The reader of ONNX files, on any bytes. What it reads and can be written again is the same once more.
#![no_main]

use fastrand::Rng;
use kinora::model::{onnx, passes, testing};
use kinora_fuzz::{mutate, nets};

fn seeds() -> Vec<Vec<u8>> {
    let rng = &mut Rng::with_seed(1);
    let graphs = (0..150).map(|n| match n {
        0..30 => nets::net(rng),
        _ => {
            let graph = testing::graph(rng);
            let weights = testing::weights(rng, &graph);
            (graph, weights)
        }
    });
    // Some graphs cannot be written.
    graphs.filter_map(|(graph, weights)| onnx::to_bytes(&graph, &weights).ok()).collect()
}

libfuzzer_sys::fuzz_target!(init: kinora_fuzz::write_seeds(seeds), |bytes: &[u8]| {
    let Ok((graph, weights)) = onnx::graph_from_bytes(bytes) else { return };
    if let Ok(written) = onnx::to_bytes(&graph, &weights)
        && let Ok(again) = onnx::graph_from_bytes(&written)
    {
        assert_eq!(again, (graph.clone(), weights.clone()));
    }
    if let Ok((simple, _)) = passes::simplify(&graph, &weights) {
        let shapes = |graph: &kinora::model::graph::Graph| {
            graph.outputs().into_iter().map(|(name, value)| (name, graph.node(value).shape.clone())).collect::<Vec<_>>()
        };
        assert_eq!(shapes(&simple), shapes(&graph));
    }
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::model(data, size, max_size, &mut Rng::with_seed(seed.into()))
});
