//! Small nets that the engine `native` runs: seeds for the targets.

use fastrand::Rng;
use kinora::model::graph::{
    Binary, Conv, Dense, Element, Graph, NEXT, OUTPUT, Op, Pool, Quantization, Slice, Unary, Value, Weights,
};
use ndarray::{ArrayD, IxDyn};

/// A net on its way. All scales are powers of two, so that integers and the floats that they stand for agree to the last
/// bit.
struct Net<'a> {
    graph: Graph,
    weights: Weights,
    rng: &'a mut Rng,
    quantized: bool,
    causal: bool,
}

/// A random residual net with its weights; half of all are quantised, half are causal. Those of one frame may remember.
pub fn net(rng: &mut Rng) -> (Graph, Weights) {
    let shape = [rng.usize(1..4), [1, 2, 4, 5][rng.usize(0..4)], [8, 8, 8, 9][rng.usize(0..4)], 8];
    let (graph, clip) = Graph::new(shape);
    let (quantized, causal) = (rng.bool(), rng.bool());
    let mut net = Net { graph, weights: Weights::new(), rng, quantized, causal };
    let mut x = net.quantize(clip);
    let mut outputs = Vec::new();
    for _ in 0..net.rng.usize(1..4) {
        x = match net.rng.u8(0..8) {
            0 => net.largest(x),
            1 => net.joined(x),
            2..=4 if shape[1] == 1 => net.remember(x, &mut outputs),
            _ => net.block(x),
        };
    }
    if net.rng.bool() && net.graph.node(x).shape[3..].iter().all(|&n| n > 1) {
        x = net.push(Op::Pool(Pool::average([1, 2, 2])), &[x]);
        x = net.quantize(x);
    }
    let keep = net.rng.bool();
    x = net.push(Op::Mean { axes: vec![2, 3, 4], keep }, &[x]);
    x = net.quantize(x);
    let features = net.graph.node(x).shape[1];
    if net.graph.node(x).shape.len() > 2 {
        x = net.push(Op::Reshape(vec![1, features]), &[x]);
    }
    let classes = net.rng.usize(1..4);
    let head = Dense { features: classes, bias: net.rng.bool(), quantized };
    let logits = net.layer(Op::Dense(head), x);
    outputs.insert(0, (OUTPUT.to_owned(), logits));
    net.graph.set_outputs(outputs).expect("outputs of this net");
    (net.graph, net.weights)
}

impl Net<'_> {
    fn push(&mut self, op: Op, inputs: &[Value]) -> Value {
        let name = format!("n{}", self.graph.nodes().len());
        self.graph.push(name, op, inputs).expect("a net fits together")
    }

    /// Through bytes and back, if the net is quantised.
    fn quantize(&mut self, x: Value) -> Value {
        let scale = 2f32.powi(self.rng.i32(-7..-3));
        self.quantize_to(x, scale)
    }

    fn quantize_to(&mut self, x: Value, scale: f32) -> Value {
        if !self.quantized {
            return x;
        }
        let (element, zero) =
            if self.rng.bool() { (Element::U8, self.rng.i32(0..256)) } else { (Element::I8, self.rng.i32(-128..128)) };
        let q = Quantization::per_tensor(element, scale, zero);
        let bytes = self.push(Op::Quantize(q.clone()), &[x]);
        self.push(Op::Dequantize(q), &[bytes])
    }

    /// As `from` is, through bytes and back, if the net is quantised.
    fn quantize_as(&mut self, from: Value, x: Value) -> Value {
        let Op::Dequantize(q) = self.graph.node(from).op.clone() else { return x };
        let bytes = self.push(Op::Quantize(q.clone()), &[x]);
        self.push(Op::Dequantize(q), &[bytes])
    }

    /// The largest of overlapping windows.
    fn largest(&mut self, x: Value) -> Value {
        let pad = vec![(if self.causal { 1 } else { 0 }, 0), (1, 0), (1, 1)];
        let kernel = [1 + usize::from(self.causal), 2, 3];
        let stride = vec![1, 1, self.rng.usize(1..3)];
        let pool = Pool { pad, stride, ..Pool::max(kernel) };
        let y = self.push(Op::Pool(pool), &[x]);
        self.quantize_as(x, y)
    }

    /// A value after itself.
    fn joined(&mut self, x: Value) -> Value {
        let y = self.push(Op::Concat { axis: 1 }, &[x, x]);
        self.quantize_as(x, y)
    }

    /// What a convolution sees of the frame before, gated by a part of it.
    fn remember(&mut self, x: Value, outputs: &mut Vec<(String, Value)>) -> Value {
        let shape = self.graph.node(x).shape.clone();
        let name = format!("state{}", self.graph.nodes().len());
        let state = self.graph.input(name.clone(), Element::F32, &shape).expect("a new name");
        let before = self.quantize(state);
        let y = self.conv(before, 2 * shape[1], [1, 3, 3], [1; 3]);
        let y = self.quantize(y);
        let mut part = |start: usize, function: Unary| {
            let part = self.push(Op::Slice(Slice { axis: 1, start, length: shape[1], step: 1 }), &[y]);
            self.push(Op::Unary(function), &[part])
        };
        let (gate, given) = (part(0, Unary::Sigmoid), part(shape[1], Unary::Tanh));
        let kept = self.push(Op::Binary(Binary::Mul), &[gate, given]);
        let next = self.push(Op::Binary(Binary::Sub), &[kept, x]);
        let next = self.quantize_as(before, next);
        outputs.push((format!("{name}{NEXT}"), next));
        next
    }

    /// The scale of a value that was quantised.
    fn scale(&self, x: Value) -> f32 {
        match &self.graph.node(x).op {
            Op::Dequantize(q) => q.scale[0],
            _ => 1.0,
        }
    }

    /// A convolution or dense layer with its weights.
    fn layer(&mut self, op: Op, x: Value) -> Value {
        let value = self.push(op, &[x]);
        let parameters = self.graph.node_parameters(self.graph.node(value));
        let input = self.scale(x);
        let channels = parameters[0].shape[0];
        let scales: Vec<f32> = (0..channels).map(|_| 2f32.powi(self.rng.i32(-9..-6))).collect();
        for parameter in parameters {
            let per_channel: usize = parameter.shape[1..].iter().product();
            let values = (0..channels * per_channel).map(|index| {
                let scale = scales[index / per_channel];
                match parameter.name.rsplit('.').next() {
                    Some("weight") if self.quantized => f32::from(self.rng.i8(..)) * scale,
                    Some("bias") if self.quantized => self.rng.i32(-500..500) as f32 * (scale * input),
                    Some("weight_scale") => scale,
                    _ => self.rng.f32() - 0.5,
                }
            });
            let array = ArrayD::from_shape_vec(IxDyn(&parameter.shape), values.collect()).expect("as many as wanted");
            self.weights.insert(parameter.name, array);
        }
        value
    }

    fn conv(&mut self, x: Value, channels: usize, kernel: [usize; 3], stride: [usize; 3]) -> Value {
        let side = |k: usize| (k / 2, k / 2);
        let time = if self.causal { (kernel[0] - 1, 0) } else { side(kernel[0]) };
        let conv = Conv {
            stride: stride.into(),
            pad: vec![time, side(kernel[1]), side(kernel[2])],
            bias: self.rng.bool(),
            quantized: self.quantized,
            ..Conv::new(channels, kernel)
        };
        self.layer(Op::Conv(conv), x)
    }

    /// Two convolutions, sometimes beside a shortcut.
    fn block(&mut self, x: Value) -> Value {
        let channels = self.graph.node(x).shape[1];
        let (plain, side) = (self.rng.bool(), self.rng.usize(1..3));
        let (to, stride) = if plain { (channels, [1; 3]) } else { (self.rng.usize(1..18), [1, side, side]) };
        let middle = self.rng.usize(1..6);
        let kernel = [1 + 2 * self.rng.usize(0..2), 1, 1];
        let mut y = self.conv(x, middle, [1, 3, 3], stride);
        y = self.push(Op::Unary(Unary::Relu), &[y]);
        y = self.quantize(y);
        y = self.conv(y, to, kernel, [1; 3]);
        let mut scale = 2f32.powi(self.rng.i32(-7..-3));
        if plain {
            y = self.quantize(y);
            // Both terms are whole steps of their sum.
            scale = scale.min(self.scale(x)).min(self.scale(y));
            y = self.push(Op::Binary(Binary::Add), &[y, x]);
        }
        if self.rng.bool() {
            y = self.push(Op::Unary(Unary::Clip { min: -0.5, max: 6.0 }), &[y]);
        }
        self.quantize_to(y, scale)
    }
}
