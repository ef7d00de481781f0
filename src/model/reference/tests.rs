//! What the ONNX node tests leave open. The rest of the definitions is compared with them and with tract.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::graph::{Conv, Pool, steps};

fn run_one(op: Op, element: Element, values: &[f64]) -> Vec<f64> {
    let mut graph = Graph::default();
    let x = graph.input("x", element, &[1, 1, values.len()]).unwrap();
    graph.push("y", op, &[x]).unwrap();
    let values = ArrayD::from_shape_vec(IxDyn(&[1, 1, values.len()]), values.to_vec()).unwrap();
    run(&graph, &Weights::new(), &[Tensor { element, values }]).unwrap()[0].values.iter().copied().collect()
}

#[test]
fn quantisation_rounds_half_to_even_and_saturates() {
    let quantize = |element, zero| Op::Quantize(Quantization::per_tensor(element, 0.5, zero));
    let x = [0.25, 0.75, -0.25, -0.75, 1e9, -1e9, 63.75];
    assert_eq!(run_one(quantize(Element::I8, 0), Element::F32, &x), [0.0, 2.0, 0.0, -2.0, 127.0, -128.0, 127.0]);
    assert_eq!(run_one(quantize(Element::U8, 3), Element::F32, &x), [3.0, 5.0, 3.0, 1.0, 255.0, 0.0, 131.0]);
    let back = Op::Dequantize(Quantization::per_tensor(Element::U8, 0.5, 3));
    assert_eq!(run_one(back, Element::U8, &[0.0, 3.0, 255.0]), [-1.5, 0.0, 126.0]);
}

#[test]
fn padding_never_is_the_maximum() {
    let pool = Pool { pad: vec![(1, 1)], stride: vec![1], ..Pool::max([3]) };
    assert_eq!(run_one(Op::Pool(pool.clone()), Element::F32, &[-3.0, -1.0, -2.0, -5.0]), [-1.0, -1.0, -1.0, -2.0]);
    assert_eq!(run_one(Op::Pool(pool), Element::I8, &[-3.0, -128.0]), [-3.0, -3.0]);
}

#[test]
fn sums_of_bytes_wrap_around() {
    let mut graph = Graph::default();
    let x = graph.input("x", Element::U8, &[2]).unwrap();
    let y = graph.push("y", Op::Binary(Binary::Add), &[x, x]).unwrap();
    graph.push("z", Op::Binary(Binary::Sub), &[x, y]).unwrap();
    let values = ndarray::arr1(&[200.0, 3.0]).into_dyn();
    let z = run(&graph, &Weights::new(), &[Tensor { element: Element::U8, values }]).unwrap();
    assert_eq!(z[0].values.as_slice().unwrap(), [56.0, 253.0]);
}

/// Against sums written out, on shapes where no two axes agree.
#[test]
fn a_grouped_dilated_convolution_is_its_definition() {
    let conv = Conv {
        stride: vec![2, 1, 1],
        pad: vec![(2, 0), (1, 1), (0, 2)],
        dilation: vec![1, 2, 3],
        groups: 2,
        bias: true,
        ..Conv::new(6, [3, 2, 2])
    };
    let mut graph = Graph::default();
    let x = graph.input("x", Element::F32, &[2, 4, 5, 3, 7]).unwrap();
    let y = graph.push("y", Op::Conv(conv), &[x]).unwrap();
    let rng = &mut fastrand::Rng::with_seed(3);
    let weights = crate::model::testing::weights(rng, &graph);
    let inputs = crate::model::testing::inputs(rng, &graph);
    let got = run(&graph, &weights, &inputs).unwrap();
    let (weight, bias, x) = (&weights["y.weight"], &weights["y.bias"], &inputs[0].values);
    assert_eq!(graph.node(y).shape, [2, 6, 3, 3, 6]);
    for (at, value) in got[0].values.indexed_iter() {
        let mut sum = f64::from(bias[at[1]]);
        for (k, w) in weight.indexed_iter().filter(|(k, _)| k[0] == at[1]) {
            let (t, h, w_) = (2 * at[2] + k[2], at[3] + 2 * k[3], at[4] + 3 * k[4]);
            let Some((t, h)) = t.checked_sub(2).zip(h.checked_sub(1)) else { continue };
            let place = [at[0], at[1] / 3 * 2 + k[1], t, h, w_];
            sum += f64::from(*w) * x.get(IxDyn(&place)).copied().unwrap_or(0.0);
        }
        assert!((value - sum).abs() < 1e-5, "{at:?}: {value} {sum}");
    }
}

#[test]
fn quantised_weights_are_steps_of_their_scale() {
    for step in -128..=127i8 {
        let scale = 0.012_345_f32 + f32::from(step) * 1e-5;
        assert_eq!(steps(f32::from(step) * scale, scale), Some(step));
        assert_eq!(steps((f32::from(step) + 0.01) * scale, scale), None);
    }
    assert_eq!(steps(128.0, 1.0), None);
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let (mut graph, clip) = Graph::new([1, 1, 2, 2]);
    graph.push("relu", Op::Unary(Unary::Relu), &[clip]).unwrap();
    let good = Tensor::from(ArrayD::zeros(IxDyn(&[1, 1, 1, 2, 2])));
    let run = |inputs: &[Tensor]| run(&graph, &Weights::new(), inputs).map_err(|error| error.to_string());
    assert!(run(std::slice::from_ref(&good)).is_ok());
    assert!(run(&[]).unwrap_err().contains("missing"));
    assert!(run(&[good.clone(), good.clone()]).unwrap_err().contains("more inputs"));
    let bytes = Tensor { element: Element::U8, ..good };
    assert!(run(&[bytes]).unwrap_err().contains("'clip': f32"));
}
