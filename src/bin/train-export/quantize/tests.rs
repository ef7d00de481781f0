#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::arch::Architecture;
use crate::checkpoint::Checkpoint;
use crate::export::Model;
use crate::interpreter::{Pass, Precision, to_array};
use crate::random;
use kinora::model::bundle;
use kinora::model::graph::{Conv, Element, Op, Quantization, Unary};
use kinora::model::manifest::{Colour, Input, Resize};
use std::path::PathBuf;
use tch::Tensor;

/// An untrained net of 5 classes, its weights, and clips for it.
pub fn model(architecture: Architecture, seed: u64) -> (Graph, Weights, Tensor) {
    let input = Input {
        frames: 5,
        height: 32,
        width: 32,
        colour: Colour::Rgb,
        frame_rate: 8.0,
        resize: Resize::Crop,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
    };
    let model = Model::untrained(architecture, input, 5, seed).unwrap();
    let clips = random::normal(&mut fastrand::Rng::with_seed(seed), &[3, 3, 5, 32, 32]).unwrap();
    (model.graph().unwrap(), model.weights, clips)
}

pub fn logits(graph: &Graph, weights: &Weights, clips: &Tensor) -> Tensor {
    tch::no_grad(|| net(graph.clone(), weights).unwrap().forward(clips, Pass::Evaluate).unwrap())
}

fn clips(tensor: &Tensor) -> Clips {
    let activation = kinora::model::manifest::Activation::Softmax;
    Clips { batches: tensor.split(2, 0), labels: None, activation, what: "noise".into() }
}

/// Every architecture in integers answers nearly as in floats, and every operation of it computes in integers.
#[test]
fn quantised_nets_answer_alike() {
    // Untrained nets make more of a small difference with every layer.
    let nets = [
        ("r2plus1d-edge(width=4)", 0.03),
        ("r2plus1d-18(width=4,causal=true)", 0.5),
        ("r3d-18(width=4)", 0.3),
        ("r2plus1d-tutorial(width=4)", 0.1),
        ("resnet3d-18(width=4)", 0.3),
        ("resnet3d-50(width=2,projection=false)", 0.5),
        ("convlstm-edge(width=4)", 0.05),
        ("convlstm-trailer(width=4)", 0.05),
        ("lstm-trailer(width=4,norm=columns)", 0.05),
    ];
    for (arch, tolerance) in nets {
        let (graph, weights, tensor) = model(arch.parse().unwrap(), 11);
        let clips = clips(&tensor);
        let quantized = quantize(&graph, &weights, &clips, &clips).unwrap();
        assert_eq!((quantized.verdicts.len(), quantized.float.divergence), (Method::ALL.len(), 0.0));
        let kept = quantized.verdicts[quantized.kept].1;
        assert!(quantized.verdicts.iter().all(|(_, v)| v.divergence >= kept.divergence));
        let (a, b) = (logits(&graph, &weights, &tensor), logits(&quantized.graph, &quantized.weights, &tensor));
        let apart = f64::try_from((&a - &b).norm() / a.norm()).unwrap();
        assert!(apart > 0.0 && apart < tolerance, "{arch}: {apart}");
        for (name, scales) in quantized.weights.iter().filter(|(name, _)| name.ends_with(".weight_scale")) {
            let weight = &quantized.weights[name.strip_suffix("_scale").unwrap()];
            for (kernel, scale) in weight.outer_iter().zip(scales) {
                let most = kernel.iter().map(|w| (w / scale).abs().round()).fold(0.0, f32::max);
                assert_eq!(most, 127.0, "{arch}: {name}");
            }
        }
    }
}

#[test]
fn what_would_run_in_floats_is_refused() {
    let (graph, weights, clips) = model(Architecture::default().with("width", 2).unwrap(), 5);
    let (graph, weights) = passes::fold_batch_norm(&graph, &weights).unwrap();
    let float = net(graph.clone(), &weights).unwrap();
    let histograms = ranges::observe(&float, &[clips]).unwrap();
    assert_eq!(histograms.len(), places(&graph).len());
    let ranges: Ranges = histograms.iter().map(|(name, h)| (name.clone(), h.quantization(Method::MinMax))).collect();
    let assemble = |ranges: &Ranges| {
        let (graph, weights) = assemble::assemble(&graph, &weights, ranges)?;
        assemble::check_integer(&graph, &weights)
    };
    assemble(&ranges).unwrap();
    for name in ranges.keys() {
        let mut fewer = ranges.clone();
        fewer.remove(name);
        let error = assemble(&fewer).expect_err(name).to_string();
        assert!(error.contains("floats"), "{name}: {error}");
    }
    assert!(assemble::check_integer(&graph, &weights).unwrap_err().to_string().contains("'stem.spatial'"));
}

/// What normalises but follows no convolution is computed in floats between integers, and by its running statistics where
/// integers are imitated.
#[test]
fn a_norm_on_its_own_is_computed_in_floats() {
    let (mut graph, clip) = Graph::new([2, 2, 8, 8]);
    let x = graph.push("alone", Op::BatchNorm { eps: 1e-5 }, &[clip]).unwrap();
    let x = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    graph.push("head", Op::dense(2), &[x]).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let mut weights = Net::new(graph.clone(), Device::Cpu, 1).unwrap().weights().unwrap();
    for (name, value) in weights.iter_mut().filter(|(name, _)| name.starts_with("alone.")) {
        value.mapv_inplace(|_| random.f32() + if name.ends_with("var") { 0.5 } else { 0.0 });
    }
    let tensor = random::normal(&mut random, &[2, 2, 2, 8, 8]).unwrap() + 0.5;
    let clips = clips(&tensor);
    let quantized = quantize(&graph, &weights, &clips, &clips).unwrap();
    let wanted = logits(&graph, &weights, &tensor);
    let apart = |x: &Tensor| f64::try_from((x - &wanted).norm() / wanted.norm()).unwrap();
    let integers = logits(&quantized.graph, &quantized.weights, &tensor);
    assert!(apart(&integers) > 0.0 && apart(&integers) < 0.02, "{}", apart(&integers));
    let histograms = ranges::observe(&net(graph.clone(), &weights).unwrap(), &[tensor.copy()]).unwrap();
    let mut imitating = net(graph, &weights).unwrap();
    imitating.imitate(histograms.iter().map(|(name, h)| (name.clone(), h.quantization(Method::MinMax))).collect());
    let got = tch::no_grad(|| imitating.forward(&tensor, Pass::Train(Precision::F32)).unwrap());
    assert!(apart(&got) > 0.0 && apart(&got) < 0.02, "{}", apart(&got));
}

/// A net that is trained as if in integers computes what its integers compute, and its gradients reach every parameter but
/// the statistics of its normalisations, which stay.
#[test]
fn imitated_integers_are_the_integers() {
    for arch in ["r2plus1d-edge(width=4)", "r2plus1d-18(width=4)", "r3d-18(width=4)"] {
        let (graph, weights, tensor) = model(arch.parse().unwrap(), 23);
        let (folded, rest) = passes::fold_batch_norm(&graph, &weights).unwrap();
        let histograms = ranges::observe(&net(folded.clone(), &rest).unwrap(), &[tensor.copy()]).unwrap();
        let ranges: Ranges = histograms.iter().map(|(name, h)| (name.clone(), h.quantization(Method::Mse))).collect();
        let (integers, rounded) = assemble::assemble(&folded, &rest, &ranges).unwrap();
        let step = f64::from(ranges["stem.relu"].scale[0]);
        let mut imitating = net(graph, &weights).unwrap();
        imitating.imitate(ranges);
        let stem = |net: &Net, name: &str, pass| {
            let mut value = None;
            let logits = net.forward_with(&tensor, pass, &mut |node, x| {
                value = if node.name == name { Some(x.detach().copy()) } else { value.take() };
                Ok(())
            });
            (logits.unwrap(), value.unwrap())
        };
        let (wanted, wanted_stem) = stem(&net(integers, &rounded).unwrap(), "stem.relu.dequantize", Pass::Evaluate);
        let (got, got_stem) = stem(&imitating, "stem.relu", Pass::Train(Precision::F32));
        // A bias is not rounded here, by which a value may fall to the other side between two steps.
        let steps = (&got_stem - &wanted_stem).abs() / step;
        let others = f64::try_from(steps.gt(0.5).mean(tch::Kind::Float)).unwrap();
        assert!(others < 1e-2 && f64::try_from(steps.max()).unwrap() < 1.5, "{arch}: {others}");
        let apart = |a: &Tensor| f64::try_from((a - &wanted).norm() / wanted.norm()).unwrap();
        let float = logits(&folded, &rest, &tensor);
        assert!(apart(&got) < 0.7 * apart(&float), "{arch}: {} and {}", apart(&got), apart(&float));
        got.square().sum(tch::Kind::Float).backward();
        for (name, parameter) in imitating.trained() {
            let gradient = parameter.grad();
            assert!(gradient.defined() && f64::try_from(gradient.abs().max()).unwrap() > 0.0, "{arch}: {name}");
        }
        let after = imitating.weights().unwrap();
        assert_eq!(after["stem.norm.running_mean"], weights["stem.norm.running_mean"]);
    }
}

/// A convolution with ReLU between Quantize and Dequantize against the integer arithmetic that engines use: the sum of
/// products of integers, one multiplier, one rounding.
#[test]
fn the_interpreter_computes_what_integers_do() {
    let seed = 17;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut graph, clip) = Graph::new([3, 4, 6, 5]);
    let conv = Conv { stride: vec![2, 1, 2], pad: vec![(2, 0), (1, 1), (0, 1)], ..Conv::new(7, [3, 3, 2]) };
    let x = graph.push("conv", Op::Conv(conv.clone()), &[clip]).unwrap();
    let x = graph.push("relu", Op::Unary(Unary::Relu), &[x]).unwrap();
    let x = graph.push("pad", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x]).unwrap();
    graph.push("head", Op::dense(2), &[x]).unwrap();
    let net_of = |graph: &Graph| Net::new(graph.clone(), Device::Cpu, seed).unwrap();
    let mut weights = net_of(&graph).weights().unwrap();
    weights.get_mut("conv.weight").unwrap().mapv_inplace(|w| w * 3.0);
    let (s_x, z_x, s_y) = (0.021f32, 117, 0.043f32);
    let u8s = |scale, zero| Quantization::per_tensor(Element::U8, scale, zero);
    let ranges =
        Ranges::from([("clip".into(), u8s(s_x, z_x)), ("relu".into(), u8s(s_y, 0)), ("pad".into(), u8s(0.01, 0))]);
    let (graph, weights) = assemble::assemble(&graph, &weights, &ranges).unwrap();
    let clips = random::normal(&mut random, &[2, 3, 4, 6, 5]).unwrap();
    let (mut input, mut output) = (None, None);
    let mut net = net_of(&graph);
    net.set(&weights).unwrap();
    let _ = net
        .forward_with(&clips, Pass::Evaluate, &mut |node, x| {
            match node.name.as_str() {
                "clip.quantize" => input = Some(to_array(x)?),
                "relu.quantize" => output = Some(to_array(x)?),
                _ => {}
            }
            Ok(())
        })
        .unwrap();
    let shape = graph.nodes().iter().find(|node| node.name == "conv").unwrap().shape.clone();
    let (w, s_w, bias) = (&weights["conv.weight"], &weights["conv.weight_scale"], &weights["conv.bias"]);
    let x = input.unwrap().into_shape_with_order([2, 3, 4, 6, 5]).unwrap();
    let y = output.unwrap().into_shape_with_order([2, shape[1], shape[2], shape[3], shape[4]]).unwrap();
    let mut apart = 0;
    for ((n, c, t, h, v), got) in y.indexed_iter() {
        let mut sum = (bias[c] / (s_x * s_w[c])).round() as i32;
        for (k, weight) in w.index_axis(ndarray::Axis(0), c).indexed_iter() {
            let at = |out: usize, axis: usize| (out * conv.stride[axis] + k[axis + 1]).checked_sub(conv.pad[axis].0);
            if let (Some(t), Some(h), Some(v)) = (at(t, 0), at(h, 1), at(v, 2)) {
                let q = x.get([n, k[0], t, h, v]).map_or(0, |q| *q as i32 - z_x);
                sum += q * (weight / s_w[c]).round() as i32;
            }
        }
        let wanted = (sum as f32 * (s_x * s_w[c] / s_y)).round_ties_even().clamp(0.0, 255.0);
        assert!((got - wanted).abs() <= 1.0, "seed {seed}: {got} instead of {wanted}");
        apart += usize::from(*got != wanted);
    }
    assert!(apart * 1000 <= y.len() && y.iter().any(|y| *y > 100.0), "seed {seed}: {apart} of {}", y.len());
}

/// A bundle of `checkpoint`, quantised with steps `factor` times as large as its values ask for.
pub fn coarse_bundle(dir: &Path, checkpoint: &Checkpoint, factor: f32) -> PathBuf {
    let (graph, weights) = (checkpoint.info.graph().unwrap(), checkpoint.average());
    let (folded, rest) = passes::fold_batch_norm(&graph, &weights).unwrap();
    let clips = random::normal(&mut fastrand::Rng::with_seed(1), &[4, 1, 4, 16, 16]).unwrap();
    let float = net(folded.clone(), &rest).unwrap();
    let mut ranges: Ranges = (ranges::observe(&float, &[clips]).unwrap().iter())
        .map(|(name, h)| (name.clone(), h.quantization(Method::MinMax)))
        .collect();
    ranges.values_mut().for_each(|q| q.scale[0] *= factor);
    let (integers, rounded) = assemble::assemble(&folded, &rest, &ranges).unwrap();
    let manifest = crate::export::tests::manifest_of(checkpoint);
    let mut golden = crate::export::tests::golden_of(&checkpoint.info.input, (&graph, &weights));
    let int8 = (&integers, &rounded);
    golden.logits_int8 = Some(crate::export::int8::logits(int8, &golden).unwrap());
    let (labels, model) = (&checkpoint.info.labels[..], (&graph, &weights));
    bundle::write(dir, bundle::Parts { manifest, labels, model, int8: Some(int8), golden: &golden }).unwrap();
    dir.to_owned()
}
