//! A small typed graph: how an architecture is written, once. The trainer interprets it on tensors, the exporter writes
//! it as ONNX with the trained weights, later the native engine runs it. There is no second definition to drift.
//!
//! Values are `[N, C, T, H, W]` until [`Op::GlobalAverage`], then `[N, C]`. Shapes are kept without the batch axis N.
//! Nodes are in topological order by construction: a node can only name values made before it.

use std::collections::BTreeMap;

use ndarray::ArrayD;

use crate::{Error, ErrorKind, Result};

/// Trained parameters by name, e.g. `stage1.conv1.spatial.weight`.
pub type Weights = BTreeMap<String, ArrayD<f32>>;

/// A value of a [`Graph`]: what the node of that index computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value(usize);

impl Value {
    /// Index of the node that computes it.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A convolution over T, H, W. Cross-correlation, as ONNX and PyTorch define it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// Output channels.
    pub channels: usize,
    /// Kernel extent over T, H, W.
    pub kernel: [usize; 3],
    /// Stride over T, H, W.
    pub stride: [usize; 3],
    /// Zeros before and after each axis. A causal temporal kernel of k has `(k - 1, 0)` in time.
    pub pad: [(usize, usize); 3],
    /// Whether there is a bias of shape `[channels]`.
    pub bias: bool,
}

/// What a node computes.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The clip, `[C, T, H, W]`.
    Input,
    /// Convolution; parameters `weight` `[channels, C, kT, kH, kW]`, `bias`.
    Conv(Conv),
    /// Per-channel normalisation; parameters `weight`, `bias`, `running_mean`, `running_var`, each `[C]`.
    BatchNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// `max(x, 0)`.
    Relu,
    /// Mean over windows of `kernel` without padding, stride equal to the kernel; a rest is left out.
    AvgPool {
        /// Extent and stride over T, H, W.
        kernel: [usize; 3],
    },
    /// Sum of two values of one shape.
    Add,
    /// Mean over T, H, W: `[C, T, H, W]` to `[C]`.
    GlobalAverage,
    /// `x W^T + b`; parameters `weight` `[features, C]`, `bias` `[features]`.
    Dense {
        /// Output features.
        features: usize,
    },
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
    /// Shape of its result without the batch axis.
    pub shape: Vec<usize>,
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

/// A computation from one clip to one vector of logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
}

fn refuse(name: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Model, format_args!("graph node '{name}': {why}"))
}

impl Graph {
    /// A graph whose only node is the clip, `[C, T, H, W]`.
    pub fn new(input: [usize; 4]) -> (Self, Value) {
        let node = Node { name: "clip".into(), op: Op::Input, inputs: vec![], shape: input.to_vec() };
        (Self { nodes: vec![node] }, Value(0))
    }

    /// Adds a node and returns its value.
    ///
    /// # Errors
    /// `Model` when the name is taken or the operation does not fit its inputs' shapes.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[Value]) -> Result<Value> {
        let name = name.into();
        if self.nodes.iter().any(|node| node.name == name) {
            return Err(refuse(&name, "the name is taken"));
        }
        let shape = self.shape_of(&name, &op, inputs)?;
        self.nodes.push(Node { name, op, inputs: inputs.to_vec(), shape });
        Ok(Value(self.nodes.len() - 1))
    }

    fn shape_of(&self, name: &str, op: &Op, inputs: &[Value]) -> Result<Vec<usize>> {
        let wanted = if matches!(op, Op::Add) { 2 } else { 1 };
        if inputs.len() != wanted {
            return Err(refuse(name, format_args!("{wanted} inputs wanted, {} given", inputs.len())));
        }
        let x = &self.nodes[inputs[0].0].shape;
        let over_time = || -> Result<[usize; 4]> {
            x.as_slice().try_into().map_err(|_| refuse(name, format_args!("[C, T, H, W] wanted, {x:?} given")))
        };
        match op {
            Op::Input => Err(refuse(name, "a graph has one input, made with it")),
            Op::Conv(conv) => {
                let x = over_time()?;
                let mut shape = vec![conv.channels];
                for axis in 0..3 {
                    let (k, s, (before, after)) = (conv.kernel[axis], conv.stride[axis], conv.pad[axis]);
                    let padded = x[axis + 1] + before + after;
                    if k == 0 || s == 0 || conv.channels == 0 || padded < k {
                        return Err(refuse(name, format_args!("{conv:?} does not fit {x:?}")));
                    }
                    shape.push((padded - k) / s + 1);
                }
                Ok(shape)
            }
            Op::AvgPool { kernel } => {
                let x = over_time()?;
                let mut shape = vec![x[0]];
                for axis in 0..3 {
                    if kernel[axis] == 0 || x[axis + 1] < kernel[axis] {
                        return Err(refuse(name, format_args!("a window of {kernel:?} does not fit {x:?}")));
                    }
                    shape.push(x[axis + 1] / kernel[axis]);
                }
                Ok(shape)
            }
            Op::Add => {
                let y = &self.nodes[inputs[1].0].shape;
                if x != y {
                    return Err(refuse(name, format_args!("shapes {x:?} and {y:?} differ")));
                }
                Ok(x.clone())
            }
            Op::BatchNorm { .. } | Op::Relu => Ok(x.clone()),
            Op::GlobalAverage => Ok(vec![over_time()?[0]]),
            Op::Dense { features } => match x.as_slice() {
                [_] => Ok(vec![*features]),
                _ => Err(refuse(name, format_args!("[C] wanted, {x:?} given"))),
            },
        }
    }

    /// All nodes, each after those it reads.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node that computes `value`.
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[value.0]
    }

    /// Shape of the clip, `[C, T, H, W]`.
    pub fn input_shape(&self) -> &[usize] {
        &self.nodes[0].shape
    }

    /// The last node: the logits, `[K]`.
    pub fn output(&self) -> &Node {
        &self.nodes[self.nodes.len() - 1]
    }

    /// The parameters of `node`, in the order ONNX wants them.
    pub fn node_parameters(&self, node: &Node) -> Vec<Parameter> {
        let channels = node.inputs.first().map_or(0, |x| self.nodes[x.0].shape[0]);
        let make =
            |suffix: &str, shape: Vec<usize>, role| Parameter { name: format!("{}.{suffix}", node.name), shape, role };
        match &node.op {
            Op::Conv(conv) => {
                let [t, h, w] = conv.kernel;
                let mut list = vec![make("weight", vec![conv.channels, channels, t, h, w], Role::Weight)];
                if conv.bias {
                    list.push(make("bias", vec![conv.channels], Role::Bias));
                }
                list
            }
            Op::BatchNorm { .. } => vec![
                make("weight", vec![channels], Role::Scale),
                make("bias", vec![channels], Role::Bias),
                make("running_mean", vec![channels], Role::RunningMean),
                make("running_var", vec![channels], Role::RunningVariance),
            ],
            Op::Dense { features } => {
                vec![make("weight", vec![*features, channels], Role::Weight), make("bias", vec![*features], Role::Bias)]
            }
            Op::Input | Op::Relu | Op::AvgPool { .. } | Op::Add | Op::GlobalAverage => vec![],
        }
    }

    /// All parameters, in the order of the nodes.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.nodes.iter().flat_map(|node| self.node_parameters(node)).collect()
    }

    /// Multiply-accumulates of one clip in `node`: a convolution's or a dense layer's, else none.
    pub fn node_macs(&self, node: &Node) -> u64 {
        let per_output: usize = match &node.op {
            Op::Conv(conv) => conv.kernel.iter().product::<usize>() * self.node(node.inputs[0]).shape[0],
            Op::Dense { .. } => self.node(node.inputs[0]).shape[0],
            _ => 0,
        };
        (node.shape.iter().product::<usize>() * per_output) as u64
    }

    /// Multiply-accumulates of one clip in all nodes.
    pub fn macs(&self) -> u64 {
        self.nodes.iter().map(|node| self.node_macs(node)).sum()
    }

    /// Checks that `weights` holds every parameter in its shape, finite, and nothing else.
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
        }
        match weights.keys().find(|name| !parameters.iter().any(|p| &p.name == *name)) {
            Some(extra) => Err(refuse(extra, "the graph has no such parameter")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::IxDyn;

    fn conv(channels: usize, kernel: [usize; 3], pad: [(usize, usize); 3]) -> Op {
        Op::Conv(Conv { channels, kernel, stride: [1, 1, 1], pad, bias: false })
    }

    #[test]
    fn shapes_parameters_and_macs() -> Result<()> {
        let (mut graph, clip) = Graph::new([3, 4, 9, 9]);
        let x = graph.push("a", conv(8, [1, 3, 3], [(0, 0), (1, 1), (1, 1)]), &[clip])?;
        let x = graph.push("b", conv(8, [3, 1, 1], [(2, 0), (0, 0), (0, 0)]), &[x])?;
        let x = graph.push("norm", Op::BatchNorm { eps: 1e-5 }, &[x])?;
        let x = graph.push("pool", Op::AvgPool { kernel: [1, 2, 2] }, &[x])?;
        assert_eq!(graph.node(x).shape, [8, 4, 4, 4]);
        let x = graph.push("mean", Op::GlobalAverage, &[x])?;
        graph.push("head", Op::Dense { features: 5 }, &[x])?;
        assert_eq!(graph.output().shape, [5]);
        assert_eq!(graph.macs(), 8 * 4 * 81 * 27 + 8 * 4 * 81 * 24 + 40);
        let count: usize = graph.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum();
        assert_eq!(count, 8 * 27 + 8 * 24 + 4 * 8 + 45);
        Ok(())
    }

    #[test]
    fn misfits_are_refused_by_name() -> Result<()> {
        let (mut graph, clip) = Graph::new([3, 4, 8, 8]);
        let big = graph.push("big", conv(8, [5, 1, 1], [(0, 0); 3]), &[clip]);
        assert!(big.is_err_and(|e| e.to_string().contains("'big'")));
        let a = graph.push("a", conv(8, [1, 1, 1], [(0, 0); 3]), &[clip])?;
        assert!(graph.push("a", Op::Relu, &[a]).is_err());
        assert!(graph.push("sum", Op::Add, &[a, clip]).is_err());
        assert!(graph.push("dense", Op::Dense { features: 2 }, &[a]).is_err());
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
