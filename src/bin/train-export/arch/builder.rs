//! What the architectures are put together from.

use kinora::Result;
use kinora::model::graph::{Binary, Conv, Graph, Op, Unary, Value};

/// Added to the variance by every batch norm.
const EPS: f32 = 1e-5;

/// A graph in the making. Every convolution is padded so that stride 1 keeps an axis' length.
pub struct Builder {
    /// The nodes so far.
    pub graph: Graph,
    causal: bool,
}

impl Builder {
    /// Begins with a clip of shape `input`, `[C, T, H, W]`; in a `causal` net temporal kernels see only the past.
    pub fn new(input: [usize; 4], causal: bool) -> (Self, Value) {
        let (graph, clip) = Graph::new(input);
        (Self { graph, causal }, clip)
    }

    /// Channels of `x`.
    pub fn channels(&self, x: Value) -> usize {
        self.graph.node(x).shape[1]
    }

    /// A convolution with the padding of this net, and no bias: a normalisation follows most of them.
    pub fn conv_op(&self, channels: usize, kernel: [usize; 3], stride: [usize; 3]) -> Conv {
        let both = |k: usize| (k / 2, k / 2);
        let time = if self.causal { (kernel[0] - 1, 0) } else { both(kernel[0]) };
        let pad = vec![time, both(kernel[1]), both(kernel[2])];
        Conv { stride: stride.into(), pad, ..Conv::new(channels, kernel) }
    }

    /// Adds [`Builder::conv_op`].
    pub fn conv(
        &mut self,
        name: String,
        x: Value,
        channels: usize,
        kernel: [usize; 3],
        stride: [usize; 3],
    ) -> Result<Value> {
        let conv = self.conv_op(channels, kernel, stride);
        self.graph.push(name, Op::Conv(conv), &[x])
    }

    /// Adds a batch norm.
    pub fn norm(&mut self, name: String, x: Value) -> Result<Value> {
        self.graph.push(name, Op::BatchNorm { eps: EPS }, &[x])
    }

    /// Adds a batch norm and what lets only positive values through, named `PREFIX.norm` and `PREFIX.relu` with
    /// `suffix`, a number or nothing.
    pub fn norm_relu(&mut self, prefix: &str, suffix: &str, x: Value) -> Result<Value> {
        let x = self.norm(format!("{prefix}.norm{suffix}"), x)?;
        self.graph.push(format!("{prefix}.relu{suffix}"), Op::Unary(Unary::Relu), &[x])
    }

    /// Ends a residual block: `x` plus `shortcut`, of which only what is positive goes on.
    pub fn join(&mut self, block: &str, x: Value, shortcut: Value) -> Result<Value> {
        let x = self.graph.push(format!("{block}.add"), Op::Binary(Binary::Add), &[x, shortcut])?;
        self.graph.push(format!("{block}.relu2"), Op::Unary(Unary::Relu), &[x])
    }

    /// Ends the net: the mean over time and place, and a dense layer of `classes` logits.
    pub fn head(mut self, x: Value, classes: usize) -> Result<Graph> {
        let x = self.graph.push("average", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x])?;
        self.graph.push("head", Op::dense(classes), &[x])?;
        Ok(self.graph)
    }
}
