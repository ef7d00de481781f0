//! Rewrites of a graph that leave its outputs as they are: what engines run before they compile it. Each makes a new graph;
//! activations stay nodes of their own.

use std::collections::{HashMap, HashSet};

use ndarray::{ArrayD, Axis, IxDyn};

use super::graph::{Conv, Element, Graph, Node, Op, Pad, Resize, Slice, Unary, Value, Weights};
use super::reference;
use crate::Result;

/// What computing constants may cost, in elements and products: what costs more stays a node. A short file can ask for
/// constants of any size.
const MAX_FOLDING: u64 = 1 << 24;

/// All passes: constants folded, identities removed, batch norm folded into convolutions, and what nobody reads left out.
///
/// # Errors
/// `Model` when the weights do not fit the graph.
pub fn simplify(graph: &Graph, weights: &Weights) -> Result<(Graph, Weights)> {
    graph.check(weights)?;
    let (graph, weights) = remove_unused(graph, weights)?;
    let (graph, weights) = fold_constants(&graph, &weights)?;
    let (graph, weights) = remove_identities(&graph, &weights)?;
    let (graph, weights) = remove_unused(&graph, &weights)?;
    fold_batch_norm(&graph, &weights)
}

/// Computes nodes that read constants only. Those that make bytes stay: a constant is f32.
///
/// # Errors
/// `Model` when the weights do not fit the graph.
pub fn fold_constants(graph: &Graph, weights: &Weights) -> Result<(Graph, Weights)> {
    let mut known: HashMap<Value, reference::Tensor> = HashMap::new();
    let mut left = MAX_FOLDING;
    rewrite(graph, weights, |new, value, node| {
        let read: Option<Vec<_>> = node.inputs.iter().map(|input| known.get(input)).collect();
        let Some(read) = read.filter(|_| node.op != Op::Input) else { return Ok(None) };
        match left.checked_sub(cost(graph, node)) {
            Some(rest) => left = rest,
            None => return Ok(None),
        }
        let tensor = reference::evaluate(graph, node, weights, &read)?;
        let floats = tensor.element == Element::F32;
        let array = tensor.to_f32();
        known.insert(value, tensor);
        // Its readers may be folded, too; then nobody reads it any more.
        match &node.op {
            Op::Constant(_) => Ok(None),
            _ if floats => new.constant(node, array).map(Some),
            _ => Ok(None),
        }
    })
    .and_then(|(graph, weights)| remove_unused(&graph, &weights))
}

/// Elements that computing `node` reads, goes through and makes, or products.
fn cost(graph: &Graph, node: &Node) -> u64 {
    let count = |shape: &[usize]| shape.iter().map(|&n| n as u64).product::<u64>();
    let read = || node.inputs.iter().map(|input| graph.node(*input).shape.as_slice());
    let through = match (&node.op, read().next()) {
        // As large as the file has it.
        (Op::Constant(_), _) => return 0,
        (Op::Pool(pool), _) => pool.kernel.iter().fold(count(&node.shape), |all, &n| all.saturating_mul(n as u64)),
        // One axis after the other.
        (Op::Resize(resize), Some(x)) => {
            x.iter().zip(&resize.size).fold(1, |all: u64, (&n, &size)| all.saturating_mul(n.max(size) as u64))
        }
        _ => graph.node_macs(node),
    };
    read().map(count).sum::<u64>().max(count(&node.shape)).max(through)
}

/// Leaves out what gives its input back, joins reshapes of reshapes, and drops the axes of a mean in the mean itself where a
/// reshape did.
///
/// # Errors
/// `Model` when the weights do not fit the graph.
pub fn remove_identities(graph: &Graph, weights: &Weights) -> Result<(Graph, Weights)> {
    rewrite(graph, weights, |new, _, node| {
        let Some(&input) = node.inputs.first() else { return Ok(None) };
        let before = graph.node(input);
        if is_identity(node, before) {
            return Ok(Some(new.map[input.index()]));
        }
        let (Op::Reshape(shape), Some(&inner)) = (&node.op, before.inputs.first()) else { return Ok(None) };
        let op = match &before.op {
            Op::Reshape(_) => Op::Reshape(shape.clone()),
            Op::Mean { axes, keep: true } => {
                let kept = before.shape.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, &n)| n);
                if !kept.eq(shape.iter().copied()) {
                    return Ok(None);
                }
                Op::Mean { axes: axes.clone(), keep: false }
            }
            _ => return Ok(None),
        };
        if graph.node(inner).shape == node.shape && matches!(op, Op::Reshape(_)) {
            return Ok(Some(new.map[inner.index()]));
        }
        let inner = new.map[inner.index()];
        new.graph.push(node.name.clone(), op, &[inner]).map(Some)
    })
    .and_then(|(graph, weights)| remove_unused(&graph, &weights))
}

fn is_identity(node: &Node, before: &Node) -> bool {
    match &node.op {
        Op::Reshape(shape) => *shape == before.shape,
        Op::Transpose(order) => order.iter().enumerate().all(|(axis, &from)| axis == from),
        Op::Slice(Slice { axis, length, .. }) => *length == before.shape[*axis],
        Op::Pad(Pad { pad, .. }) => pad.iter().all(|pad| *pad == (0, 0)),
        Op::Resize(Resize { size, scale, .. }) => *size == before.shape && scale.iter().all(|scale| *scale == 1.0),
        Op::Unary(Unary::Clip { min, max }) => *min == f32::NEG_INFINITY && *max == f32::INFINITY,
        Op::Concat { .. } => node.inputs.len() == 1,
        _ => false,
    }
}

/// Folds a batch norm into the convolution before it, if nobody else reads that: `w' = w f`, `b' = (b - mean) f + bias` with
/// `f = weight / sqrt(var + eps)` per channel. The result has the convolution's name. Quantised convolutions stay: their
/// weights would leave their grid.
///
/// # Errors
/// `Model` when the weights do not fit the graph.
pub fn fold_batch_norm(graph: &Graph, weights: &Weights) -> Result<(Graph, Weights)> {
    let folded: HashSet<Value> = folds(graph).into_iter().map(|(conv, _)| conv).collect();
    rewrite(graph, weights, |new, value, node| {
        // Its place is that of its batch norm.
        if folded.contains(&value) {
            return Ok(Some(new.map[node.inputs[0].index()]));
        }
        // Only its batch norm reads it.
        let Some(&input) = node.inputs.first().filter(|input| folded.contains(input)) else { return Ok(None) };
        let before = graph.node(input);
        let (Op::Conv(conv), Some(terms)) = (&before.op, norm_terms(node, weights)) else { return Ok(None) };
        let x = new.map[input.index()];
        let op = Op::Conv(Conv { bias: true, ..conv.clone() });
        let made = new.graph.push(before.name.clone(), op, &[x])?;
        let of = |suffix: &str| weights.get(&format!("{}.{suffix}", before.name)).cloned().unwrap_or_default();
        let (mut weight, old_bias) = (of("weight"), of("bias"));
        let mut bias = ArrayD::zeros(IxDyn(&[conv.channels]));
        for (channel, mut kernel) in weight.axis_iter_mut(Axis(0)).enumerate() {
            let NormTerms { mean, factor, shift } = terms[channel];
            kernel.mapv_inplace(|w| (f64::from(w) * factor) as f32);
            let old = if conv.bias { f64::from(old_bias[channel]) } else { 0.0 };
            bias[channel] = ((old - mean) * factor + shift) as f32;
        }
        new.weights.insert(format!("{}.weight", before.name), weight);
        new.weights.insert(format!("{}.bias", before.name), bias);
        Ok(Some(made))
    })
}

/// The convolutions that [`fold_batch_norm`] folds a batch norm into, each with that.
pub fn folds(graph: &Graph) -> Vec<(Value, Value)> {
    let readers = readers(graph);
    let takes = |input: &Value| {
        matches!(&graph.node(*input).op, Op::Conv(conv) if !conv.quantized) && readers[input.index()] == 1
    };
    let norms = graph.values().filter(|(_, node)| matches!(node.op, Op::BatchNorm { .. }));
    norms.filter_map(|(norm, node)| node.inputs.first().copied().filter(takes).map(|conv| (conv, norm))).collect()
}

/// What a batch norm does to a channel: `(x - mean) factor + shift`.
pub(crate) struct NormTerms {
    pub(crate) mean: f64,
    /// `weight / sqrt(var + eps)`.
    pub(crate) factor: f64,
    pub(crate) shift: f64,
}

/// The terms of each channel of the batch norm `node`; none if it is no batch norm or lacks a parameter.
pub(crate) fn norm_terms(node: &Node, weights: &Weights) -> Option<Vec<NormTerms>> {
    let Op::BatchNorm { eps } = node.op else { return None };
    let of = |suffix: &str| Some(weights.get(&format!("{}.{suffix}", node.name))?.iter().map(|x| f64::from(*x)));
    let factors = of("weight")?.zip(of("running_var")?).map(|(weight, var)| weight / (var + f64::from(eps)).sqrt());
    let terms = factors.zip(of("running_mean")?).zip(of("bias")?);
    Some(terms.map(|((factor, mean), shift)| NormTerms { mean, factor, shift }).collect())
}

/// Leaves out nodes that no output depends on. Inputs stay.
///
/// # Errors
/// `Model` when the weights do not fit the graph.
pub fn remove_unused(graph: &Graph, weights: &Weights) -> Result<(Graph, Weights)> {
    let mut used = vec![false; graph.nodes().len()];
    graph.outputs().iter().for_each(|(_, value)| used[value.index()] = true);
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        if used[index] {
            node.inputs.iter().for_each(|input| used[input.index()] = true);
        }
    }
    rewrite(graph, weights, |new, value, node| {
        // Stands for nothing that is read.
        let unused = !used[value.index()] && node.op != Op::Input;
        Ok(unused.then(|| new.map.first().copied().unwrap_or(value)))
    })
}

/// How many nodes and outputs read each value.
fn readers(graph: &Graph) -> Vec<usize> {
    let mut readers = vec![0; graph.nodes().len()];
    let outputs = graph.outputs();
    let outputs = outputs.iter().map(|(_, value)| value);
    graph.nodes().iter().flat_map(|node| &node.inputs).chain(outputs).for_each(|value| readers[value.index()] += 1);
    readers
}

/// A graph that is being made of another.
struct Rewriter {
    graph: Graph,
    weights: Weights,
    /// The new value of each old one so far.
    map: Vec<Value>,
}

impl Rewriter {
    /// A constant in place of `node`.
    fn constant(&mut self, node: &Node, array: ArrayD<f32>) -> Result<Value> {
        let value = self.graph.push(node.name.clone(), Op::Constant(array.shape().to_vec()), &[])?;
        self.weights.insert(format!("{}.value", node.name), array);
        Ok(value)
    }
}

/// Goes through the nodes of `graph`; what `replace` makes no value for is copied with its parameters.
fn rewrite(
    graph: &Graph,
    weights: &Weights,
    mut replace: impl FnMut(&mut Rewriter, Value, &Node) -> Result<Option<Value>>,
) -> Result<(Graph, Weights)> {
    let mut new = Rewriter { graph: Graph::default(), weights: Weights::new(), map: vec![] };
    for (value, node) in graph.values() {
        let made = match replace(&mut new, value, node)? {
            Some(made) => made,
            None => {
                let inputs: Vec<Value> = node.inputs.iter().map(|input| new.map[input.index()]).collect();
                for parameter in graph.node_parameters(node) {
                    if let Some(array) = weights.get(&parameter.name) {
                        new.weights.insert(parameter.name, array.clone());
                    }
                }
                match node.op {
                    Op::Input => new.graph.input(node.name.clone(), node.element, &node.shape)?,
                    _ => new.graph.push(node.name.clone(), node.op.clone(), &inputs)?,
                }
            }
        };
        new.map.push(made);
    }
    let outputs = graph.outputs().into_iter().map(|(name, value)| (name, new.map[value.index()])).collect();
    new.graph.set_outputs(outputs)?;
    new.graph.check(&new.weights)?;
    Ok((new.graph, new.weights))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::graph::{Coordinates, Pool};
    use crate::model::testing;

    type Pass = fn(&Graph, &Weights) -> Result<(Graph, Weights)>;

    /// The same outputs before and after, relative to the largest value of each; bytes may be off where f32 is at a tie.
    fn same(pass: Pass, graph: &Graph, weights: &Weights, seed: u64) -> (Graph, Weights) {
        let inputs = testing::inputs(&mut fastrand::Rng::with_seed(seed), graph);
        let before = reference::run(graph, weights, &inputs).unwrap();
        let (new_graph, new_weights) = pass(graph, weights).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let after = reference::run(&new_graph, &new_weights, &inputs).unwrap();
        let names = |graph: &Graph| graph.outputs().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(graph), names(&new_graph), "seed {seed}");
        for (a, b) in before.iter().zip(&after) {
            let largest = a.values.iter().fold(1e-3, |max: f64, x| max.max(x.abs()));
            let apart = (&a.values - &b.values).iter().fold(0.0, |max: f64, x| max.max(x.abs()));
            assert!(apart <= 1e-5 * largest, "seed {seed}: {apart:e} of {largest:e}\n{graph:#?}");
        }
        (new_graph, new_weights)
    }

    #[test]
    fn passes_leave_outputs_as_they_are() {
        let passes: [Pass; 4] = [fold_constants, remove_identities, remove_unused, fold_batch_norm];
        for seed in 0..400 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let graph = testing::graph(rng);
            let weights = testing::weights(rng, &graph);
            // A value just beside a tie may be rounded to the other byte once batch norm is folded.
            let quantizes = graph.nodes().iter().any(|node| matches!(node.op, Op::Quantize(_)));
            for (number, pass) in passes.into_iter().enumerate() {
                if number < 3 || !quantizes {
                    same(pass, &graph, &weights, seed);
                }
            }
            if !quantizes {
                let (simple, _) = same(simplify, &graph, &weights, seed);
                assert!(simple.nodes().len() <= graph.nodes().len(), "seed {seed}");
            }
        }
    }

    #[test]
    fn batch_norm_goes_into_the_convolution_that_only_it_reads() {
        for (seed, (bias, quantized, shared, wanted)) in
            [(false, false, false, 2), (true, false, false, 2), (true, true, false, 3), (true, false, true, 4)]
                .into_iter()
                .enumerate()
        {
            let (mut graph, clip) = Graph::new([2, 3, 4, 5]);
            let conv = Conv { bias, quantized, ..Conv::new(3, [2, 3, 1]) };
            let x = graph.push("conv", Op::Conv(conv), &[clip]).unwrap();
            let y = graph.push("norm", Op::BatchNorm { eps: 1e-5 }, &[x]).unwrap();
            if shared {
                graph.push("sum", Op::Binary(crate::model::graph::Binary::Add), &[x, y]).unwrap();
            }
            let weights = testing::weights(&mut fastrand::Rng::with_seed(seed as u64), &graph);
            let (new, new_weights) = same(fold_batch_norm, &graph, &weights, seed as u64);
            assert_eq!(new.nodes().len(), wanted, "{new:?}");
            assert_eq!(new_weights.contains_key("norm.weight"), wanted > 2);
            if wanted == 2 {
                assert_eq!(new.output().name, "conv");
            }
        }
    }

    /// Constants that a file asks for in few bytes stay as they are written.
    #[test]
    fn constants_that_cost_too_much_are_not_folded() {
        let spread = |graph: &mut Graph, from: Value, extent: usize| {
            let (size, scale) = (vec![extent, extent], vec![extent as f32; 2]);
            graph.push("spread", Op::Resize(Resize { size, scale, coordinates: Coordinates::HalfPixel }), &[from])
        };
        for (extent, wanted) in [(8, "constant"), (1 << 14, "resize")] {
            let (mut graph, clip) = Graph::new([1, 1, 1, 1]);
            let small = graph.push("small", Op::Constant(vec![1, 1]), &[]).unwrap();
            let large = spread(&mut graph, small, extent).unwrap();
            graph.push("sum", Op::Binary(crate::model::graph::Binary::Add), &[clip, large]).unwrap();
            let weights = testing::weights(&mut fastrand::Rng::with_seed(1), &graph);
            let (new, _) = fold_constants(&graph, &weights).unwrap();
            assert_eq!(new.nodes()[new.nodes().len() - 2].op.to_string(), wanted);
        }
        // One element of a window without end.
        let (mut graph, clip) = Graph::new([1, 1, 1, 1]);
        let small = graph.push("small", Op::Constant(vec![1, 1, 1, 1, 1]), &[]).unwrap();
        let pool = Pool { pad: vec![(1023, 0); 3], stride: vec![1; 3], ..Pool::average([1024; 3]) };
        let pooled = graph.push("pool", Op::Pool(pool), &[small]).unwrap();
        graph.push("sum", Op::Binary(crate::model::graph::Binary::Add), &[clip, pooled]).unwrap();
        let weights = testing::weights(&mut fastrand::Rng::with_seed(1), &graph);
        assert_eq!(fold_constants(&graph, &weights).unwrap().0.nodes().len(), 4);
    }

    #[test]
    fn constants_and_identities_go() {
        let (mut graph, clip) = Graph::new([2, 3, 4, 5]);
        let a = graph.push("a", Op::Constant(vec![5]), &[]).unwrap();
        let b = graph.push("b", Op::Unary(Unary::Tanh), &[a]).unwrap();
        let c = graph.push("c", Op::Binary(crate::model::graph::Binary::Mul), &[clip, b]).unwrap();
        let d = graph.push("d", Op::Reshape(vec![1, 2, 3, 20]), &[c]).unwrap();
        let e = graph.push("e", Op::Reshape(vec![1, 2, 3, 4, 5]), &[d]).unwrap();
        let f = graph.push("f", Op::Pool(Pool::average([1, 2, 1])), &[e]).unwrap();
        let g = graph.push("g", Op::Transpose(vec![0, 1, 2, 3, 4]), &[f]).unwrap();
        let h = graph.push("h", Op::Mean { axes: vec![2, 3, 4], keep: true }, &[g]).unwrap();
        graph.push("unused", Op::Unary(Unary::Relu), &[h]).unwrap();
        let i = graph.push("i", Op::Reshape(vec![1, 2]), &[h]).unwrap();
        graph.set_outputs(vec![("logits".into(), i)]).unwrap();
        let weights = testing::weights(&mut fastrand::Rng::with_seed(1), &graph);
        let (new, _) = same(simplify, &graph, &weights, 1);
        let names: Vec<&str> = new.nodes().iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["clip", "b", "c", "f", "i"]);
        assert_eq!(new.output().op, Op::Mean { axes: vec![2, 3, 4], keep: false });
    }
}
