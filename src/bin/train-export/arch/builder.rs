//! What the architectures are put together from.

use kinora::Result;
use kinora::model::graph::{Binary, Conv, Element, Graph, NEXT, OUTPUT, Op, Pool, Slice, Unary, Value};

/// Added to the variance by every batch norm.
const EPS: f32 = 1e-5;

/// A graph in the making. Every convolution is padded so that stride 1 keeps an axis' length.
pub struct Builder {
    /// The nodes so far.
    pub graph: Graph,
    causal: bool,
    /// Next values of states, by the name of their output.
    next: Vec<(String, Value)>,
}

impl Builder {
    /// Begins with a clip of shape `input`, `[C, T, H, W]`; in a `causal` net temporal kernels see only the past.
    pub fn new(input: [usize; 4], causal: bool) -> (Self, Value) {
        let (graph, clip) = Graph::new(input);
        (Self { graph, causal, next: vec![] }, clip)
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
        self.relu(format!("{prefix}.relu{suffix}"), x)
    }

    /// Adds what lets only positive values through.
    pub fn relu(&mut self, name: String, x: Value) -> Result<Value> {
        self.graph.push(name, Op::Unary(Unary::Relu), &[x])
    }

    /// Adds a max pool with the padding of this net.
    pub fn max_pool(&mut self, name: String, x: Value, kernel: [usize; 3], stride: [usize; 3]) -> Result<Value> {
        let Conv { pad, .. } = self.conv_op(0, kernel, stride);
        let pool = Pool { stride: stride.into(), pad, ..Pool::max(kernel) };
        self.graph.push(name, Op::Pool(pool), &[x])
    }

    /// Ends a residual block: `x` plus `shortcut`, of which only what is positive goes on.
    pub fn join(&mut self, block: &str, x: Value, shortcut: Value) -> Result<Value> {
        let x = self.graph.push(format!("{block}.add"), Op::Binary(Binary::Add), &[x, shortcut])?;
        self.relu(format!("{block}.relu2"), x)
    }

    /// A dense layer over all of a frame of `x`, its channels, rows and columns in that order: a convolution as large as that.
    pub fn flat(&self, x: Value, features: usize) -> Conv {
        let shape = &self.graph.node(x).shape;
        Conv { bias: true, ..Conv::new(features, [1, shape[3], shape[4]]) }
    }

    /// Adds a ConvLSTM of 3x3 kernels; see [`Builder::lstm`].
    pub fn conv_lstm(&mut self, name: &str, x: Value, filters: usize, gate: Unary) -> Result<Value> {
        let conv = Conv { bias: true, ..self.conv_op(4 * filters, [1, 3, 3], [1; 3]) };
        self.lstm(name, x, [conv.clone(), conv], gate)
    }

    /// Adds an LSTM without peepholes whose products are these convolutions: `a = conv(x) + conv(h)`, in four parts `i, f, g,
    /// o`, as Keras orders them, then `c' = gate(f) c + gate(i) tanh(g)` and `h' = gate(o) tanh(c')`, its value. They are named
    /// `NAME.input` and `NAME.recurrent`, which has no bias, its states `NAME.h` and `NAME.c`.
    pub fn lstm(&mut self, name: &str, x: Value, [input, recurrent]: [Conv; 2], gate: Unary) -> Result<Value> {
        let filters = input.channels / 4;
        let x = self.graph.push(format!("{name}.input"), Op::Conv(input), &[x])?;
        let shape = [&[1, filters], &self.graph.node(x).shape[2..]].concat();
        let [h, c] = ["h", "c"].map(|state| self.graph.input(format!("{name}.{state}"), Element::F32, &shape));
        let (h, c) = (h?, c?);
        let recurrent = Conv { bias: false, ..recurrent };
        let h = self.graph.push(format!("{name}.recurrent"), Op::Conv(recurrent), &[h])?;
        let gates = self.graph.push(format!("{name}.gates"), Op::Binary(Binary::Add), &[h, x])?;
        let mut part = |number: usize, gate: &str, function: Unary| {
            let slice = Slice { axis: 1, start: number * filters, length: filters, step: 1 };
            let part = self.graph.push(format!("{name}.{gate}.part"), Op::Slice(slice), &[gates])?;
            self.graph.push(format!("{name}.{gate}"), Op::Unary(function), &[part])
        };
        let (i, f) = (part(0, "i", gate)?, part(1, "f", gate)?);
        let (g, o) = (part(2, "g", Unary::Tanh)?, part(3, "o", gate)?);
        let kept = self.graph.push(format!("{name}.kept"), Op::Binary(Binary::Mul), &[f, c])?;
        let added = self.graph.push(format!("{name}.added"), Op::Binary(Binary::Mul), &[i, g])?;
        let c = self.graph.push(format!("{name}.cell"), Op::Binary(Binary::Add), &[kept, added])?;
        let shown = self.graph.push(format!("{name}.shown"), Op::Unary(Unary::Tanh), &[c])?;
        let h = self.graph.push(name, Op::Binary(Binary::Mul), &[o, shown])?;
        self.next.extend([(format!("{name}.h{NEXT}"), h), (format!("{name}.c{NEXT}"), c)]);
        Ok(h)
    }

    /// Ends the net: the mean over time and place, and a dense layer of `classes` logits.
    pub fn head(mut self, x: Value, classes: usize) -> Result<Graph> {
        let x = self.graph.push("average", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x])?;
        let logits = self.graph.push("head", Op::dense(classes), &[x])?;
        self.end(logits)
    }

    /// Ends the net: `logits` are its answer.
    pub fn end(mut self, logits: Value) -> Result<Graph> {
        self.next.insert(0, (OUTPUT.into(), logits));
        self.graph.set_outputs(self.next)?;
        Ok(self.graph)
    }
}
