//! The definitions against another implementation: random graphs of all operations, written as ONNX and run by tract.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use prost::Message;
use tract_onnx::prelude::{DatumExt, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor as Array, TractResult};

use super::*;
use crate::model::{onnx, testing};

fn array(tensor: &Tensor) -> Array {
    match tensor.element {
        Element::F32 => tensor.to_f32().into(),
        Element::U8 => tensor.values.mapv(|x| x as u8).into(),
        Element::I8 => tensor.values.mapv(|x| x as i8).into(),
    }
}

fn compute_by_tract(bytes: &[u8], inputs: &[Tensor]) -> TractResult<TVec<TValue>> {
    let proto = tract_onnx::pb::ModelProto::decode(bytes)?;
    let mut model = tract_onnx::onnx().parse(&proto, None)?.model;
    for (index, input) in inputs.iter().enumerate() {
        let fact = match input.element {
            Element::F32 => f32::fact(input.values.shape()),
            Element::U8 => u8::fact(input.values.shape()),
            Element::I8 => i8::fact(input.values.shape()),
        };
        model = model.with_input_fact(index, fact.into())?;
    }
    let values = inputs.iter().map(|input| array(input).into()).collect();
    model.into_typed()?.into_runnable()?.run(values)
}

#[test]
fn tract_agrees() {
    let mut operations = BTreeSet::new();
    for seed in 1000..1300 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let graph = testing::graph(rng);
        // Where sums of bytes wrap around, tract's overflow.
        if graph.nodes().iter().any(|node| matches!(node.op, Op::Binary(_)) && node.element != Element::F32) {
            continue;
        }
        let weights = testing::weights(rng, &graph);
        let inputs = testing::inputs(rng, &graph);
        let wanted = run(&graph, &weights, &inputs).unwrap();
        let bytes = onnx::to_bytes(&graph, &weights).unwrap();
        let got = compute_by_tract(&bytes, &inputs).unwrap_or_else(|e| panic!("seed {seed}: {e:?}\n{graph:#?}"));
        assert_eq!(got.len(), wanted.len(), "seed {seed}");
        for (got, wanted) in got.iter().zip(&wanted) {
            assert_eq!(got.shape(), wanted.values.shape(), "seed {seed}");
            let got = got.cast_to::<f32>().unwrap();
            let got = got.to_plain_array_view::<f32>().unwrap();
            let largest = wanted.values.iter().fold(1e-3, |max: f64, x| max.max(x.abs()));
            for (a, b) in got.iter().zip(&wanted.values) {
                assert!((f64::from(*a) - b).abs() <= 1e-4 * largest, "seed {seed}: {a} instead of {b}\n{graph:#?}");
            }
        }
        operations.extend(graph.nodes().iter().map(|node| node.op.to_string().split(' ').next().map(String::from)));
    }
    assert!(operations.len() >= 25, "{operations:?}");
}
