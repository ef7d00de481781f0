//! A typed graph of tensor operations: how an architecture is written, once, and what a model file is read into. The trainer
//! interprets it on tensors, the exporter writes it as ONNX with the trained weights, engines run it. There is no second
//! definition to drift.
//!
//! Shapes include the batch axis, which is 1 in the graphs of architectures: `[1, C, T, H, W]`. The trainer runs any N, batch
//! by batch. Nodes are in topological order by construction: a node can only name values made before it.
//!
//! A recurrent net is the graph of one frame, T = 1, that also reads what it remembers and computes what it will: an input
//! `x` whose next value is the output `x.next`, zeros before the first frame. See [`Graph::states`].

mod op;
mod shape;

use std::collections::{BTreeMap, HashSet};

use ndarray::ArrayD;

use crate::{Error, ErrorKind, Result};

pub use op::*;
pub use shape::{MAX_ELEMENTS, MAX_RANK, broadcast};

/// Parameters by name, e.g. `stage1.conv1.spatial.weight`.
pub type Weights = BTreeMap<String, ArrayD<f32>>;

/// Name of the input of a graph made by [`Graph::new`], and of a bundle's model.
pub const INPUT: &str = "clip";
/// Name of the output of a graph that ends in its last node, and of a bundle's model.
pub const OUTPUT: &str = "logits";
/// What the output that is the next value of a state has behind the state's name.
pub const NEXT: &str = ".next";

/// A value of a [`Graph`]: what the node of that index computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(usize);

impl Value {
    /// Index of the node that computes it.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A node: a named operation on earlier values.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique name, such as `stage1.conv1.spatial`; parameters are `name.weight` and so on.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The values it reads.
    pub inputs: Vec<Value>,
    /// Shape of its result.
    pub shape: Vec<usize>,
    /// Element type of its result.
    pub element: Element,
}

/// What a parameter is, for its first value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Convolution or dense weights.
    Weight,
    /// An added value, first zero.
    Bias,
    /// Scale of a normalisation, first one.
    Scale,
    /// Running mean of a normalisation, first zero; not trained by gradients.
    RunningMean,
    /// Running variance of a normalisation, first one; not trained by gradients.
    RunningVariance,
    /// Size of one step of quantised weights.
    Step,
    /// A constant value; not trained.
    Constant,
}

impl Role {
    /// Whether gradients train it.
    pub fn is_trained(self) -> bool {
        matches!(self, Self::Weight | Self::Bias | Self::Scale)
    }
}

/// A parameter that a graph needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Full name, `node.weight`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// What it is.
    pub role: Role,
}

/// A computation from one or several inputs to one or several outputs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    names: HashSet<String>,
    /// Empty: the last node, named [`OUTPUT`].
    outputs: Vec<(String, Value)>,
}

fn refuse(name: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Model, format_args!("graph node '{name}': {why}"))
}

impl Graph {
    /// A graph whose only node is the input [`INPUT`], f32 `[1, C, T, H, W]`, for a clip `[C, T, H, W]`. Use
    /// [`Graph::default`] and [`Graph::input`] for others.
    pub fn new([c, t, h, w]: [usize; 4]) -> (Self, Value) {
        let shape = vec![1, c, t, h, w];
        let node = Node { name: INPUT.into(), op: Op::Input, inputs: vec![], shape, element: Element::F32 };
        (Self { nodes: vec![node], names: [INPUT.to_owned()].into(), outputs: vec![] }, Value(0))
    }

    /// Adds an input.
    ///
    /// # Errors
    /// `Model` when the name is taken or the shape is empty or too large.
    pub fn input(&mut self, name: impl Into<String>, element: Element, shape: &[usize]) -> Result<Value> {
        self.add(name.into(), Op::Input, vec![], shape.to_vec(), element)
    }

    /// Adds a node and returns its value.
    ///
    /// # Errors
    /// `Model` when the name is taken or the operation does not fit its inputs.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[Value]) -> Result<Value> {
        let name = name.into();
        let nodes: Option<Vec<&Node>> = inputs.iter().map(|value| self.nodes.get(value.0)).collect();
        let nodes = nodes.ok_or_else(|| refuse(&name, "an input is of another graph"))?;
        let (shape, element) = shape::infer(&op, &nodes).map_err(|why| refuse(&name, why))?;
        self.add(name, op, inputs.to_vec(), shape, element)
    }

    fn add(&mut self, name: String, op: Op, inputs: Vec<Value>, shape: Vec<usize>, element: Element) -> Result<Value> {
        shape::check_size(&shape).map_err(|why| refuse(&name, why))?;
        let node = Node { name, op, inputs, shape, element };
        for parameter in self.node_parameters(&node) {
            shape::check_size(&parameter.shape).map_err(|why| refuse(&parameter.name, why))?;
        }
        if !self.names.insert(node.name.clone()) {
            return Err(refuse(&node.name, "the name is taken"));
        }
        self.nodes.push(node);
        Ok(Value(self.nodes.len() - 1))
    }

    /// Whether a node has that name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// All nodes, each after those it reads.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All nodes, each with its value.
    pub fn values(&self) -> impl Iterator<Item = (Value, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (Value(index), node))
    }

    /// The node that computes `value`.
    ///
    /// # Panics
    /// When `value` is of another, larger graph.
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[value.0]
    }

    /// The input nodes, in the order they were added.
    pub fn inputs(&self) -> impl Iterator<Item = (Value, &Node)> {
        self.values().filter(|(_, node)| node.op == Op::Input)
    }

    /// What a recurrent net remembers from one frame to the next: each input `x` that has an output `x.next` of its shape and
    /// type, with the value of that output.
    pub fn states(&self) -> Vec<(Value, Value)> {
        let same = |a: Value, b: Value| {
            (&self.node(a).shape, self.node(a).element) == (&self.node(b).shape, self.node(b).element)
        };
        let next = |value: Value, node: &Node| {
            let outputs = self.outputs.iter().filter(|(name, _)| name.strip_suffix(NEXT) == Some(&node.name));
            outputs.map(|(_, next)| *next).find(|next| same(value, *next))
        };
        self.inputs().filter_map(|(value, node)| Some((value, next(value, node)?))).collect()
    }

    /// Shape of the first node, the clip: `[1, C, T, H, W]`.
    pub fn input_shape(&self) -> &[usize] {
        self.nodes.first().map_or(&[], |node| &node.shape)
    }

    /// The outputs with their names: those of [`Graph::set_outputs`], else the last node as [`OUTPUT`].
    pub fn outputs(&self) -> Vec<(String, Value)> {
        match self.nodes.len().checked_sub(1) {
            Some(last) if self.outputs.is_empty() => vec![(OUTPUT.into(), Value(last))],
            _ => self.outputs.clone(),
        }
    }

    /// Names the outputs.
    ///
    /// # Errors
    /// `Model` when a name is there twice or a value is of another graph.
    pub fn set_outputs(&mut self, outputs: Vec<(String, Value)>) -> Result<()> {
        let mut names = HashSet::new();
        for (name, value) in &outputs {
            if value.0 >= self.nodes.len() || !names.insert(name) {
                return Err(refuse(name, "this output is there twice or is of another graph"));
            }
        }
        let last = self.nodes.len().checked_sub(1);
        let plain = outputs.len() == 1 && outputs[0].0 == OUTPUT && Some(outputs[0].1.0) == last;
        self.outputs = if plain { vec![] } else { outputs };
        Ok(())
    }

    /// The node of the first output: the logits, `[N, K]`; of a recurrent net those of its one frame.
    ///
    /// # Panics
    /// When the graph is empty; one that was read or made by [`Graph::new`] is not.
    pub fn output(&self) -> &Node {
        &self.nodes[self.outputs.first().map_or(self.nodes.len() - 1, |(_, value)| value.0)]
    }

    /// The parameters of `node`, in the order ONNX wants them; the scale of quantised weights comes last.
    pub fn node_parameters(&self, node: &Node) -> Vec<Parameter> {
        let x = node.inputs.first().map_or(&[][..], |x| &self.nodes[x.0].shape);
        let make = |suffix: &str, shape: &[usize], role| Parameter {
            name: format!("{}.{suffix}", node.name),
            shape: shape.to_vec(),
            role,
        };
        let weights = |shape: &[usize], bias: bool, quantized: bool| {
            let mut list = vec![make("weight", shape, Role::Weight)];
            list.extend(bias.then(|| make("bias", &shape[..1], Role::Bias)));
            list.extend(quantized.then(|| make("weight_scale", &shape[..1], Role::Step)));
            list
        };
        match &node.op {
            Op::Conv(conv) => {
                let mut shape = vec![conv.channels, x[1] / conv.groups];
                shape.extend(&conv.kernel);
                weights(&shape, conv.bias, conv.quantized)
            }
            Op::Dense(dense) => weights(&[dense.features, x[1]], dense.bias, dense.quantized),
            Op::BatchNorm { .. } => vec![
                make("weight", &x[1..2], Role::Scale),
                make("bias", &x[1..2], Role::Bias),
                make("running_mean", &x[1..2], Role::RunningMean),
                make("running_var", &x[1..2], Role::RunningVariance),
            ],
            Op::LayerNorm { axis, .. } => {
                vec![make("weight", &x[*axis..], Role::Scale), make("bias", &x[*axis..], Role::Bias)]
            }
            Op::Constant(shape) => vec![make("value", shape, Role::Constant)],
            _ => vec![],
        }
    }

    /// All parameters, in the order of the nodes.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.nodes.iter().flat_map(|node| self.node_parameters(node)).collect()
    }

    /// Multiply-accumulates in `node`: a convolution's, a dense layer's or a matrix product's, else none.
    pub fn node_macs(&self, node: &Node) -> u64 {
        let x = node.inputs.first().map_or(&[][..], |x| &self.nodes[x.0].shape);
        let per_output = match &node.op {
            Op::Conv(conv) => conv.kernel.iter().product::<usize>() * (x[1] / conv.groups),
            Op::Dense(_) | Op::MatMul => x.last().copied().unwrap_or(0),
            _ => 0,
        };
        node.shape.iter().product::<usize>() as u64 * per_output as u64
    }

    /// Multiply-accumulates in all nodes.
    pub fn macs(&self) -> u64 {
        self.nodes.iter().map(|node| self.node_macs(node)).sum()
    }

    /// Checks that `weights` holds every parameter in its shape, finite, and nothing else; and that quantised weights are an
    /// i8 times their scale.
    ///
    /// # Errors
    /// `Model`, naming the parameter.
    pub fn check(&self, weights: &Weights) -> Result<()> {
        let parameters = self.parameters();
        for parameter in &parameters {
            let name = &parameter.name;
            let tensor = weights.get(name).ok_or_else(|| refuse(name, "the weights lack this parameter"))?;
            if tensor.shape() != parameter.shape {
                let message = format!("shape {:?} wanted, {:?} given", parameter.shape, tensor.shape());
                return Err(refuse(name, message));
            }
            if !tensor.iter().all(|x| x.is_finite()) {
                return Err(refuse(name, "a value is not finite"));
            }
            if let (Role::Step, Some(name)) = (parameter.role, name.strip_suffix("_scale")) {
                check_steps(name, weights.get(name), tensor)?;
            }
        }
        let known: HashSet<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        match weights.keys().find(|name| !known.contains(name.as_str())) {
            Some(extra) => Err(refuse(extra, "the graph has no such parameter")),
            None => Ok(()),
        }
    }
}

fn check_steps(name: &str, weight: Option<&ArrayD<f32>>, scale: &ArrayD<f32>) -> Result<()> {
    if let Some(bad) = scale.iter().find(|s| !s.is_normal() || **s < 0.0) {
        return Err(refuse(&format!("{name}_scale"), format_args!("scale {bad} is not positive")));
    }
    for (channel, scale) in weight.iter().flat_map(|weight| weight.outer_iter()).zip(scale) {
        if let Some(bad) = channel.iter().find(|w| steps(**w, *scale).is_none()) {
            return Err(refuse(name, format_args!("{bad} is no i8 times the scale {scale}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::IxDyn;

    fn conv(channels: usize, kernel: [usize; 3], pad: [(usize, usize); 3]) -> Op {
        Op::Conv(Conv { pad: pad.into(), ..Conv::new(channels, kernel) })
    }

    #[test]
    fn shapes_parameters_and_macs() -> Result<()> {
        let (mut graph, clip) = Graph::new([3, 4, 9, 9]);
        let x = graph.push("a", conv(8, [1, 3, 3], [(0, 0), (1, 1), (1, 1)]), &[clip])?;
        let x = graph.push("b", conv(8, [3, 1, 1], [(2, 0), (0, 0), (0, 0)]), &[x])?;
        let x = graph.push("norm", Op::BatchNorm { eps: 1e-5 }, &[x])?;
        let x = graph.push("pool", Op::Pool(Pool::average([1, 2, 2])), &[x])?;
        assert_eq!(graph.node(x).shape, [1, 8, 4, 4, 4]);
        let x = graph.push("mean", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x])?;
        graph.push("head", Op::dense(5), &[x])?;
        assert_eq!(graph.output().shape, [1, 5]);
        assert_eq!(graph.macs(), 8 * 4 * 81 * 27 + 8 * 4 * 81 * 24 + 40);
        let count: usize = graph.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum();
        assert_eq!(count, 8 * 27 + 8 * 24 + 4 * 8 + 45);
        Ok(())
    }

    #[test]
    fn weights_are_steps_of_their_scale_or_none() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let scale = 2.0_f32.powi(random.i32(-30..=30)) * (1.0 + random.f32());
            for step in i8::MIN..=i8::MAX {
                assert_eq!(steps(f32::from(step) * scale, scale), Some(step), "{step} times {scale}");
                assert_eq!(steps((f32::from(step) + 0.5) * scale, scale), None, "{step} and a half times {scale}");
            }
            for beyond in [128.0, -129.0, 1e7, -1e30, f32::INFINITY, f32::NAN] {
                assert_eq!(steps(beyond * scale, scale), None, "{beyond} times {scale}");
            }
        }
    }

    #[test]
    fn misfits_are_refused_by_name() -> Result<()> {
        let (mut graph, clip) = Graph::new([3, 4, 8, 8]);
        let big = graph.push("big", conv(8, [5, 1, 1], [(0, 0); 3]), &[clip]);
        assert!(big.is_err_and(|e| e.to_string().contains("'big'")));
        let a = graph.push("a", conv(8, [1, 1, 1], [(0, 0); 3]), &[clip])?;
        assert!(graph.push("a", Op::Unary(Unary::Relu), &[a]).is_err());
        assert!(graph.push("sum", Op::Binary(Binary::Add), &[a, clip]).is_err());
        assert!(graph.push("dense", Op::dense(2), &[a]).is_err());
        Ok(())
    }

    #[test]
    fn weights_are_checked() -> Result<()> {
        let (mut graph, clip) = Graph::new([1, 1, 1, 1]);
        graph.push("a", conv(1, [1, 1, 1], [(0, 0); 3]), &[clip])?;
        let mut weights = Weights::new();
        assert!(graph.check(&weights).is_err());
        weights.insert("a.weight".into(), ArrayD::from_elem(IxDyn(&[1, 1, 1, 1, 1]), 1.0));
        graph.check(&weights)?;
        weights.insert("b.weight".into(), ArrayD::zeros(IxDyn(&[1])));
        assert!(graph.check(&weights).is_err_and(|e| e.to_string().contains("b.weight")));
        weights.remove("b.weight");
        weights.insert("a.weight".into(), ArrayD::from_elem(IxDyn(&[1, 1, 1, 1, 1]), f32::NAN));
        assert!(graph.check(&weights).is_err_and(|e| e.to_string().contains("finite")));
        Ok(())
    }
}
