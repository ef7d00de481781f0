//! `i3d-rgb` and `i3d-flow`: Inception-v1 with its kernels inflated over time, of "Quo Vadis, Action Recognition?" (Carreira and Zisserman,
//! 2017), as the authors published it: TensorFlow's SAME padding, which depends on the size and is larger at the end where it
//! is odd; each convolution followed by batch norm and ReLU; mean over 2x7x7 and then over time. The authors average logits over
//! time; the mean of what a dense layer sees is the same.

use kinora::model::graph::{Conv, Graph, Op, Pool, Value};
use kinora::{Error, ErrorKind, Result};

use super::builder::Builder;
use super::{Architecture, Family};

/// Channels of a block for a width of 64: of its 1x1x1 branch, of the two convolutions of its two 3x3x3 branches, and behind
/// its pool.
const BLOCKS: [(&str, [usize; 6]); 9] = [
    ("3b", [64, 96, 128, 16, 32, 32]),
    ("3c", [128, 128, 192, 32, 96, 64]),
    ("4b", [192, 96, 208, 16, 48, 64]),
    ("4c", [160, 112, 224, 24, 64, 64]),
    ("4d", [128, 128, 256, 24, 64, 64]),
    ("4e", [112, 144, 288, 32, 64, 64]),
    ("4f", [256, 160, 320, 32, 128, 128]),
    ("5b", [256, 160, 320, 32, 128, 128]),
    ("5c", [384, 192, 384, 48, 128, 128]),
];

/// Of its batch norms.
const EPS: f32 = 1e-3;

pub fn graph(options: &Architecture, input: [usize; 4], classes: usize) -> Result<Graph> {
    let wanted = options.colour().channels();
    if input[0] != wanted {
        let colour = if options.family == Family::I3dFlow { "flow" } else { "rgb" };
        let why = format_args!("{options}: {} channels given, it has {wanted}: choose --colour {colour}", input[0]);
        return Err(Error::new(ErrorKind::Usage, why));
    }
    let (builder, clip) = Builder::new(input, false);
    let mut net = Net { builder, width: options.width };
    let mut x = net.conv("1a", clip, 64, [7; 3], [2; 3])?;
    x = net.max_pool("2a", x, [1, 3, 3], [1, 2, 2])?;
    x = net.conv("2b", x, 64, [1; 3], [1; 3])?;
    x = net.conv("2c", x, 192, [3; 3], [1; 3])?;
    x = net.max_pool("3a", x, [1, 3, 3], [1, 2, 2])?;
    for (name, channels) in BLOCKS {
        x = match name {
            "4b" => net.max_pool("4a", x, [3; 3], [2; 3])?,
            "5b" => net.max_pool("5a", x, [2; 3], [2; 3])?,
            _ => x,
        };
        x = net.block(name, x, channels)?;
    }
    let mean = Pool { stride: vec![1; 3], ..Pool::average([2, 7, 7]) };
    x = net.builder.graph.push("average.window", Op::Pool(mean), &[x])?;
    net.builder.head(x, classes)
}

struct Net {
    builder: Builder,
    width: usize,
}

impl Net {
    /// What of the padding that gives `ceil(n / stride)` positions lies before and after each axis of `x`.
    fn same(&self, x: Value, kernel: [usize; 3], stride: [usize; 3]) -> Vec<(usize, usize)> {
        let shape = &self.builder.graph.node(x).shape[2..];
        let pad = |axis: usize| {
            let (n, k, s) = (shape[axis], kernel[axis], stride[axis]);
            let all = ((n.div_ceil(s) - 1) * s + k).saturating_sub(n);
            (all / 2, all - all / 2)
        };
        (0..3).map(pad).collect()
    }

    fn conv(&mut self, name: &str, x: Value, channels: usize, kernel: [usize; 3], stride: [usize; 3]) -> Result<Value> {
        let channels = (channels * self.width).div_ceil(64);
        let conv = Conv { stride: stride.into(), pad: self.same(x, kernel, stride), ..Conv::new(channels, kernel) };
        let x = self.builder.graph.push(format!("{name}.conv"), Op::Conv(conv), &[x])?;
        let x = self.builder.graph.push(format!("{name}.norm"), Op::BatchNorm { eps: EPS }, &[x])?;
        self.builder.relu(format!("{name}.relu"), x)
    }

    fn max_pool(&mut self, name: &str, x: Value, kernel: [usize; 3], stride: [usize; 3]) -> Result<Value> {
        let pad = self.same(x, kernel, stride);
        let pool = Pool { stride: stride.into(), pad, ..Pool::max(kernel) };
        self.builder.graph.push(format!("{name}.pool"), Op::Pool(pool), &[x])
    }

    fn block(&mut self, name: &str, x: Value, channels: [usize; 6]) -> Result<Value> {
        let [one, narrow, wide, narrow5, wide5, pooled] = channels;
        let mut conv = |branch: &str, x, channels, size: usize| {
            self.conv(&format!("{name}.{branch}"), x, channels, [size; 3], [1; 3])
        };
        let first = conv("branch0", x, one, 1)?;
        let second = conv("branch1.narrow", x, narrow, 1)?;
        let second = conv("branch1", second, wide, 3)?;
        let third = conv("branch2.narrow", x, narrow5, 1)?;
        let third = conv("branch2", third, wide5, 3)?;
        let fourth = self.max_pool(&format!("{name}.branch3"), x, [3; 3], [1; 3])?;
        let fourth = self.conv(&format!("{name}.branch3"), fourth, pooled, [1; 3], [1; 3])?;
        self.builder.graph.push(name, Op::Concat { axis: 1 }, &[first, second, third, fourth])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::arch::tests::{shape, trained};
    use kinora::model::graph::Role;

    fn net(frames: usize, size: usize) -> Result<Graph> {
        "i3d-rgb".parse::<Architecture>().unwrap().graph([3, frames, size, size], 400)
    }

    #[test]
    fn sizes_are_the_published_ones() {
        let graph = net(64, 224).unwrap();
        let weights = graph.parameters().into_iter().filter(|p| matches!(p.role, Role::Weight | Role::Bias));
        let convolutions = weights.filter(|p| !p.name.contains(".norm."));
        let count: usize = convolutions.map(|p| p.shape.iter().product::<usize>()).sum();
        assert_eq!(count, expected(), "parameters");
        for (name, wanted) in [
            ("1a.relu", [64, 32, 112, 112]),
            ("2a.pool", [64, 32, 56, 56]),
            ("2c.relu", [192, 32, 56, 56]),
            ("3c", [480, 32, 28, 28]),
            ("4f", [832, 16, 14, 14]),
            ("5c", [1024, 8, 7, 7]),
            ("average.window", [1024, 7, 1, 1]),
        ] {
            assert_eq!(shape(&graph, name)[1..], wanted, "{name}");
        }
        assert_eq!(graph.output().shape, [1, 400]);
    }

    /// The streams differ in what they see only.
    #[test]
    fn flow_has_two_channels() {
        let flow = |channels| "i3d-flow".parse::<Architecture>().unwrap().graph([channels, 9, 224, 224], 400);
        let error = flow(3).unwrap_err().to_string();
        assert!(error.contains("3 channels given, it has 2: choose --colour flow"), "{error}");
        let (flow, rgb) = (flow(2).unwrap(), net(9, 224).unwrap());
        assert_eq!(trained(&flow) + 343 * 64, trained(&rgb));
    }

    /// Sum over the blocks as the paper's figure 3 has them.
    fn expected() -> usize {
        let mut given = 192;
        let mut sum = 343 * 3 * 64 + 64 * 64 + 27 * 64 * 192;
        for (_, [one, narrow, wide, narrow5, wide5, pooled]) in BLOCKS {
            sum += given * (one + narrow + narrow5 + pooled) + 27 * (narrow * wide + narrow5 * wide5);
            given = one + wide + wide5 + pooled;
        }
        sum + given * 400 + 400
    }

    /// TensorFlow pads 7 wide kernels of stride 2 on 224 by 2 and 3, and 3 wide ones on 112 by 0 and 1.
    #[test]
    fn padding_depends_on_the_size() {
        let graph = net(10, 224).unwrap();
        let pads = |name: &str| match &graph.nodes().iter().find(|node| node.name == name).expect(name).op {
            Op::Conv(conv) => conv.pad.clone(),
            Op::Pool(pool) => pool.pad.clone(),
            _ => panic!("{name}"),
        };
        assert_eq!(pads("1a.conv"), [(2, 3), (2, 3), (2, 3)]);
        assert_eq!(pads("2a.pool"), [(0, 0), (0, 1), (0, 1)]);
        assert_eq!(pads("4a.pool"), [(1, 1), (0, 1), (0, 1)]);
    }

    #[test]
    fn nine_frames_are_enough() {
        assert_eq!(shape(&net(9, 224).unwrap(), "average.window"), [1, 1024, 1, 1, 1]);
        assert!(net(8, 224).is_err());
    }
}
