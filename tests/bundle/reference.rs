//! Random graphs, weights and clips, and the logits that their plain definition gives, to compare engines with.

use kinora::Result;
use kinora::model::graph::{Binary, Conv, Graph, Op, Pool, Role, Unary, Value, Weights};
use kinora::model::reference;
use ndarray::{Array5, ArrayD, IxDyn};

/// The logits of `clip`.
pub fn logits(graph: &Graph, weights: &Weights, clip: &Array5<f32>) -> Vec<f32> {
    reference::run(graph, weights, &[clip.clone().into_dyn().into()]).unwrap()[0].to_f32().into_iter().collect()
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
