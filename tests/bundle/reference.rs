//! A second, plain implementation of the graph's operations, in f64 and by direct loops, to compare engines with; and
//! random graphs, weights and clips to compare them on.

use kinora::Result;
use kinora::model::graph::{Binary, Conv, Graph, Op, Pool, Role, Unary, Value, Weights};
use ndarray::{Array5, ArrayD, Axis, IxDyn};

/// The logits of `clip`, computed node by node.
pub fn logits(graph: &Graph, weights: &Weights, clip: &Array5<f32>) -> Vec<f64> {
    let mut values: Vec<ArrayD<f64>> = Vec::new();
    for node in graph.nodes() {
        let input = |i: usize| &values[node.inputs[i].index()];
        let weight = |suffix: &str| weights[&format!("{}.{suffix}", node.name)].mapv(f64::from);
        let value = match &node.op {
            Op::Input => {
                ArrayD::from_shape_vec(IxDyn(clip.shape()), clip.iter().map(|&x| f64::from(x)).collect()).unwrap()
            }
            Op::Conv(conv) => convolve(input(0), conv, &weight("weight"), conv.bias.then(|| weight("bias"))),
            Op::BatchNorm { eps } => {
                let (scale, bias) = (weight("weight"), weight("bias"));
                let (mean, var) = (weight("running_mean"), weight("running_var"));
                let mut y = input(0).clone();
                for (c, mut plane) in y.axis_iter_mut(Axis(1)).enumerate() {
                    plane.mapv_inplace(|x| {
                        (x - mean[[c]]) / (var[[c]] + f64::from(*eps)).sqrt() * scale[[c]] + bias[[c]]
                    });
                }
                y
            }
            Op::Unary(Unary::Relu) => input(0).mapv(|x| x.max(0.0)),
            Op::Pool(pool) => average(input(0), &pool.kernel, &node.shape),
            Op::Binary(Binary::Add) => input(0) + input(1),
            Op::Mean { .. } => {
                let means = input(0).axis_iter(Axis(1)).map(|plane| plane.sum() / plane.len() as f64).collect();
                ArrayD::from_shape_vec(IxDyn(&node.shape), means).unwrap()
            }
            Op::Dense(_) => {
                let (w, b) = (weight("weight"), weight("bias"));
                ArrayD::from_shape_fn(IxDyn(&node.shape), |k| {
                    b[[k[1]]] + input(0).iter().enumerate().map(|(c, x)| w[[k[1], c]] * x).sum::<f64>()
                })
            }
            other => panic!("operation '{other}'"),
        };
        assert_eq!(value.shape(), node.shape, "{}", node.name);
        values.push(value);
    }
    values.pop().unwrap().into_iter().collect()
}

fn convolve(x: &ArrayD<f64>, conv: &Conv, w: &ArrayD<f64>, bias: Option<ArrayD<f64>>) -> ArrayD<f64> {
    let out = |axis: usize| {
        (x.shape()[axis + 2] + conv.pad[axis].0 + conv.pad[axis].1 - conv.kernel[axis]) / conv.stride[axis] + 1
    };
    // The position before padding that output `o` reads at kernel offset `k`, unless it is padding.
    let at = |axis: usize, o: usize, k: usize| {
        (o * conv.stride[axis] + k).checked_sub(conv.pad[axis].0).filter(|&i| i < x.shape()[axis + 2])
    };
    let [kt, kh, kw] = conv.kernel[..] else { panic!("{conv:?}") };
    ArrayD::from_shape_fn(IxDyn(&[1, conv.channels, out(0), out(1), out(2)]), |o| {
        let mut sum = bias.as_ref().map_or(0.0, |b| b[[o[1]]]);
        for c in 0..x.shape()[1] {
            for (t, h, w_) in (0..kt * kh * kw).map(|i| (i / (kh * kw), i / kw % kh, i % kw)) {
                if let (Some(it), Some(ih), Some(iw)) = (at(0, o[2], t), at(1, o[3], h), at(2, o[4], w_)) {
                    sum += w[[o[1], c, t, h, w_]] * x[[0, c, it, ih, iw]];
                }
            }
        }
        sum
    })
}

fn average(x: &ArrayD<f64>, kernel: &[usize], shape: &[usize]) -> ArrayD<f64> {
    let [kt, kh, kw] = kernel[..] else { panic!("{kernel:?}") };
    ArrayD::from_shape_fn(IxDyn(shape), |o| {
        let window = (0..kt * kh * kw).map(|i| (i / (kh * kw), i / kw % kh, i % kw));
        window.map(|(t, h, w)| x[[0, o[1], o[2] * kt + t, o[3] * kh + h, o[4] * kw + w]]).sum::<f64>()
            / (kt * kh * kw) as f64
    })
}

/// A random small causal (2+1)D residual graph for clips `[C, T, H, W]` with `classes` logits.
pub fn graph(rng: &mut fastrand::Rng, input: [usize; 4], classes: usize) -> Result<Graph> {
    let (mut graph, clip) = Graph::new(input);
    let mut x = clip;
    let stem = [1 + 2 * rng.usize(0..2), 3, 3];
    x = block(rng, &mut graph, "stem", x, stem)?;
    for stage in 0..rng.usize(1..3) {
        let y = block(rng, &mut graph, &format!("stage{stage}.a"), x, [3, 3, 3])?;
        let shape = graph.node(y).shape.clone();
        let skip = graph.node(x).shape.clone();
        let x_fits = if shape == skip {
            x
        } else {
            let stride = [2, 3, 4].map(|axis| skip[axis].div_ceil(shape[axis])).into();
            let conv = Conv { stride, bias: true, ..Conv::new(shape[1], [1; 3]) };
            graph.push(format!("stage{stage}.skip"), Op::Conv(conv), &[x])?
        };
        x = graph.push(format!("stage{stage}.sum"), Op::Binary(Binary::Add), &[y, x_fits])?;
        x = graph.push(format!("stage{stage}.relu"), Op::Unary(Unary::Relu), &[x])?;
    }
    let shape = graph.node(x).shape.clone();
    if rng.bool() {
        let kernel = [2, 3, 4].map(|axis| rng.usize(1..3).min(shape[axis]));
        x = graph.push("pool", Op::Pool(Pool::average(kernel)), &[x])?;
    }
    x = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x])?;
    graph.push("head", Op::dense(classes), &[x])?;
    Ok(graph)
}

/// A spatial and a causal temporal convolution, batch norm and ReLU.
fn block(rng: &mut fastrand::Rng, graph: &mut Graph, name: &str, x: Value, kernel: [usize; 3]) -> Result<Value> {
    let [kt, kh, kw] = kernel;
    let stride = rng.usize(1..3);
    let channels = rng.usize(1..7);
    let spatial = Conv {
        stride: vec![1, stride, stride],
        pad: vec![(0, 0), (kh / 2, kh / 2), (kw / 2, kw / 2)],
        bias: rng.bool(),
        ..Conv::new(channels, [1, kh, kw])
    };
    let channels = rng.usize(1..7);
    let temporal = Conv {
        stride: vec![rng.usize(1..3), 1, 1],
        pad: vec![(kt - 1, 0), (0, 0), (0, 0)],
        bias: rng.bool(),
        ..Conv::new(channels, [kt, 1, 1])
    };
    let x = graph.push(format!("{name}.spatial"), Op::Conv(spatial), &[x])?;
    let x = graph.push(format!("{name}.temporal"), Op::Conv(temporal), &[x])?;
    let x = graph.push(format!("{name}.norm"), Op::BatchNorm { eps: 1e-3 }, &[x])?;
    graph.push(format!("{name}.relu"), Op::Unary(Unary::Relu), &[x])
}

/// Random weights for `graph`; no variance is near zero.
pub fn weights(rng: &mut fastrand::Rng, graph: &Graph) -> Weights {
    let mut weights = Weights::new();
    for parameter in graph.parameters() {
        let fan_in: usize = parameter.shape.iter().skip(1).product();
        let tensor = ArrayD::from_shape_fn(IxDyn(&parameter.shape), |_| match parameter.role {
            Role::Weight => (rng.f32() * 2.0 - 1.0) * (3.0 / fan_in as f32).sqrt(),
            Role::Scale | Role::RunningVariance => rng.f32() + 0.5,
            _ => rng.f32() - 0.5,
        });
        weights.insert(parameter.name, tensor);
    }
    weights
}

/// A random clip `[1, C, T, H, W]` for `graph`.
pub fn clip(rng: &mut fastrand::Rng, graph: &Graph) -> Array5<f32> {
    let shape: [usize; 5] = graph.input_shape().try_into().unwrap();
    Array5::from_shape_fn(shape, |_| rng.f32() * 2.0 - 1.0)
}
