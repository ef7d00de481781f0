//! A second, plain implementation of the graph's operations, in f64 and by direct loops, to compare engines with; and
//! random graphs, weights and clips to compare them on.

use kinora::Result;
use kinora::model::graph::{Conv, Graph, Op, Role, Value, Weights};
use ndarray::{Array5, ArrayD, IxDyn};

/// The logits of `clip`, computed node by node.
pub fn logits(graph: &Graph, weights: &Weights, clip: &Array5<f32>) -> Vec<f64> {
    let mut values: Vec<ArrayD<f64>> = Vec::new();
    for node in graph.nodes() {
        let input = |i: usize| &values[node.inputs[i].index()];
        let weight = |suffix: &str| weights[&format!("{}.{suffix}", node.name)].mapv(f64::from);
        let value = match &node.op {
            Op::Input => {
                let shape = IxDyn(&clip.shape()[1..]);
                ArrayD::from_shape_vec(shape, clip.iter().map(|&x| f64::from(x)).collect()).unwrap()
            }
            Op::Conv(conv) => convolve(input(0), conv, &weight("weight"), conv.bias.then(|| weight("bias"))),
            Op::BatchNorm { eps } => {
                let (scale, bias) = (weight("weight"), weight("bias"));
                let (mean, var) = (weight("running_mean"), weight("running_var"));
                let mut y = input(0).clone();
                for (c, mut plane) in y.outer_iter_mut().enumerate() {
                    plane.mapv_inplace(|x| {
                        (x - mean[[c]]) / (var[[c]] + f64::from(*eps)).sqrt() * scale[[c]] + bias[[c]]
                    });
                }
                y
            }
            Op::Relu => input(0).mapv(|x| x.max(0.0)),
            Op::AvgPool { kernel } => pool(input(0), *kernel, &node.shape),
            Op::Add => input(0) + input(1),
            Op::GlobalAverage => {
                let means = input(0).outer_iter().map(|plane| plane.sum() / plane.len() as f64).collect();
                ArrayD::from_shape_vec(IxDyn(&node.shape), means).unwrap()
            }
            Op::Dense { .. } => {
                let (w, b) = (weight("weight"), weight("bias"));
                ArrayD::from_shape_fn(IxDyn(&node.shape), |k| {
                    b[[k[0]]] + input(0).iter().enumerate().map(|(c, x)| w[[k[0], c]] * x).sum::<f64>()
                })
            }
        };
        assert_eq!(value.shape(), node.shape, "{}", node.name);
        values.push(value);
    }
    values.pop().unwrap().into_iter().collect()
}

fn convolve(x: &ArrayD<f64>, conv: &Conv, w: &ArrayD<f64>, bias: Option<ArrayD<f64>>) -> ArrayD<f64> {
    let out = |axis: usize| {
        (x.shape()[axis + 1] + conv.pad[axis].0 + conv.pad[axis].1 - conv.kernel[axis]) / conv.stride[axis] + 1
    };
    // The position before padding that output `o` reads at kernel offset `k`, unless it is padding.
    let at = |axis: usize, o: usize, k: usize| {
        (o * conv.stride[axis] + k).checked_sub(conv.pad[axis].0).filter(|&i| i < x.shape()[axis + 1])
    };
    let [kt, kh, kw] = conv.kernel;
    ArrayD::from_shape_fn(IxDyn(&[conv.channels, out(0), out(1), out(2)]), |o| {
        let mut sum = bias.as_ref().map_or(0.0, |b| b[[o[0]]]);
        for c in 0..x.shape()[0] {
            for (t, h, w_) in (0..kt * kh * kw).map(|i| (i / (kh * kw), i / kw % kh, i % kw)) {
                if let (Some(it), Some(ih), Some(iw)) = (at(0, o[1], t), at(1, o[2], h), at(2, o[3], w_)) {
                    sum += w[[o[0], c, t, h, w_]] * x[[c, it, ih, iw]];
                }
            }
        }
        sum
    })
}

fn pool(x: &ArrayD<f64>, [kt, kh, kw]: [usize; 3], shape: &[usize]) -> ArrayD<f64> {
    ArrayD::from_shape_fn(IxDyn(shape), |o| {
        let window = (0..kt * kh * kw).map(|i| (i / (kh * kw), i / kw % kh, i % kw));
        window.map(|(t, h, w)| x[[o[0], o[1] * kt + t, o[2] * kh + h, o[3] * kw + w]]).sum::<f64>()
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
            let stride = [1, 2, 3].map(|axis| skip[axis].div_ceil(shape[axis]));
            let conv = Conv { channels: shape[0], kernel: [1; 3], stride, pad: [(0, 0); 3], bias: true };
            graph.push(format!("stage{stage}.skip"), Op::Conv(conv), &[x])?
        };
        x = graph.push(format!("stage{stage}.sum"), Op::Add, &[y, x_fits])?;
        x = graph.push(format!("stage{stage}.relu"), Op::Relu, &[x])?;
    }
    let shape = graph.node(x).shape.clone();
    if rng.bool() {
        let kernel = [1, 2, 3].map(|axis| rng.usize(1..3).min(shape[axis]));
        x = graph.push("pool", Op::AvgPool { kernel }, &[x])?;
    }
    x = graph.push("mean", Op::GlobalAverage, &[x])?;
    graph.push("head", Op::Dense { features: classes }, &[x])?;
    Ok(graph)
}

/// A spatial and a causal temporal convolution, batch norm and ReLU.
fn block(rng: &mut fastrand::Rng, graph: &mut Graph, name: &str, x: Value, kernel: [usize; 3]) -> Result<Value> {
    let [kt, kh, kw] = kernel;
    let stride = rng.usize(1..3);
    let spatial = Conv {
        channels: rng.usize(1..7),
        kernel: [1, kh, kw],
        stride: [1, stride, stride],
        pad: [(0, 0), (kh / 2, kh / 2), (kw / 2, kw / 2)],
        bias: rng.bool(),
    };
    let temporal = Conv {
        channels: rng.usize(1..7),
        kernel: [kt, 1, 1],
        stride: [rng.usize(1..3), 1, 1],
        pad: [(kt - 1, 0), (0, 0), (0, 0)],
        bias: rng.bool(),
    };
    let x = graph.push(format!("{name}.spatial"), Op::Conv(spatial), &[x])?;
    let x = graph.push(format!("{name}.temporal"), Op::Conv(temporal), &[x])?;
    let x = graph.push(format!("{name}.norm"), Op::BatchNorm { eps: 1e-3 }, &[x])?;
    graph.push(format!("{name}.relu"), Op::Relu, &[x])
}

/// Random weights for `graph`; no variance is near zero.
pub fn weights(rng: &mut fastrand::Rng, graph: &Graph) -> Weights {
    let mut weights = Weights::new();
    for parameter in graph.parameters() {
        let fan_in: usize = parameter.shape.iter().skip(1).product();
        let tensor = ArrayD::from_shape_fn(IxDyn(&parameter.shape), |_| match parameter.role {
            Role::Weight => (rng.f32() * 2.0 - 1.0) * (3.0 / fan_in as f32).sqrt(),
            Role::Scale | Role::RunningVariance => rng.f32() + 0.5,
            Role::Bias | Role::RunningMean => rng.f32() - 0.5,
        });
        weights.insert(parameter.name, tensor);
    }
    weights
}

/// A random clip `[1, C, T, H, W]` for `graph`.
pub fn clip(rng: &mut fastrand::Rng, graph: &Graph) -> Array5<f32> {
    let [c, t, h, w] = graph.input_shape().try_into().unwrap();
    Array5::from_shape_fn((1, c, t, h, w), |_| rng.f32() * 2.0 - 1.0)
}
