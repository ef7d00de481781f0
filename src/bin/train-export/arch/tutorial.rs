//! `r2plus1d-tutorial`: the net of TensorFlow's tutorial "Video classification with a 3D convolutional neural network", after
//! Tran et al., 2018: a (2+1)D convolution of 3x7x7 with batch norm, then four residual blocks of twice the channels each, half
//! the resolution before each; layer norms over the channels within the blocks, and a projection (a dense layer and a layer
//! norm) where channels change. Sums go on as they are. Resizing to half by bilinear interpolation is the mean of two by two
//! pixels, as long as there are an even number of them.

use kinora::model::graph::{Binary, CHANNELS_FIRST, CHANNELS_LAST, Conv, Graph, Op, Pool, Value};
use kinora::{Error, ErrorKind, Result};

use super::Architecture;
use super::builder::Builder;

/// What Keras adds to the variance.
const EPS: f32 = 1e-3;

pub fn graph(options: &Architecture, input: [usize; 4], classes: usize) -> Result<Graph> {
    let [_, _, height, width] = input;
    if height % 16 != 0 || width % 16 != 0 {
        let why =
            format_args!("{options}: pictures of {width}x{height} cannot be halved four times: choose multiples of 16");
        return Err(Error::new(ErrorKind::Usage, why));
    }
    let (mut net, clip) = Builder::new(input, options.causal);
    let mut x = conv(&mut net, "stem", clip, options.width, 7)?;
    x = net.graph.push("stem.norm", Op::BatchNorm { eps: EPS }, &[x])?;
    x = net.relu("stem.relu".into(), x)?;
    for stage in 1..=4 {
        x = net.graph.push(format!("stage{stage}.resize"), Op::Pool(Pool::average([1, 2, 2])), &[x])?;
        x = block(&mut net, &format!("stage{stage}"), x, options.width << (stage - 1))?;
    }
    net.head(x, classes)
}

fn block(net: &mut Builder, name: &str, input: Value, channels: usize) -> Result<Value> {
    let mut x = conv(net, &format!("{name}.conv1"), input, channels, 3)?;
    x = norm(net, &format!("{name}.norm1"), x)?;
    x = net.relu(format!("{name}.relu"), x)?;
    x = conv(net, &format!("{name}.conv2"), x, channels, 3)?;
    x = norm(net, &format!("{name}.norm2"), x)?;
    let mut shortcut = input;
    if net.channels(input) != channels {
        let project = Conv { bias: true, ..net.conv_op(channels, [1; 3], [1; 3]) };
        shortcut = net.graph.push(format!("{name}.project"), Op::Conv(project), &[input])?;
        shortcut = norm(net, &format!("{name}.project.norm"), shortcut)?;
    }
    net.graph.push(format!("{name}.add"), Op::Binary(Binary::Add), &[shortcut, x])
}

/// A spatial convolution, then a temporal one, both with a bias.
fn conv(net: &mut Builder, name: &str, x: Value, channels: usize, size: usize) -> Result<Value> {
    let [spatial, temporal] = [[1, size, size], [3, 1, 1]]
        .map(|kernel| Op::Conv(Conv { bias: true, ..net.conv_op(channels, kernel, [1; 3]) }));
    let x = net.graph.push(format!("{name}.spatial"), spatial, &[x])?;
    net.graph.push(format!("{name}.temporal"), temporal, &[x])
}

/// A layer norm over the channels, which it wants last.
fn norm(net: &mut Builder, name: &str, x: Value) -> Result<Value> {
    let x = net.graph.push(format!("{name}.last"), Op::Transpose(CHANNELS_LAST.into()), &[x])?;
    let x = net.graph.push(name, Op::LayerNorm { axis: 4, eps: EPS }, &[x])?;
    net.graph.push(format!("{name}.first"), Op::Transpose(CHANNELS_FIRST.into()), &[x])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::arch::tests::shape;

    #[test]
    fn sizes_are_those_of_the_tutorial() {
        let graph = "r2plus1d-tutorial".parse::<Architecture>().unwrap().graph([3, 10, 224, 224], 10).unwrap();
        // Of (2+1)D convolutions with bias, their norms, the projections and the head.
        let conv = |from: usize, to: usize, k: usize| k * k * from * to + to + 3 * to * to + to;
        let block = |from: usize, to: usize| {
            let project = if from == to { 0 } else { from * to + to + 2 * to };
            conv(from, to, 3) + conv(to, to, 3) + 4 * to + project
        };
        let wanted =
            conv(3, 16, 7) + 4 * 16 + block(16, 16) + block(16, 32) + block(32, 64) + block(64, 128) + 129 * 10;
        let count: usize = graph.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum();
        assert_eq!(count, wanted);
        let shape = |name: &str| shape(&graph, name);
        assert_eq!((shape("stem.relu"), shape("stage4.add")), (&[1, 16, 10, 224, 224][..], &[1, 128, 10, 14, 14][..]));
        assert_eq!(graph.output().shape, [1, 10]);
    }

    #[test]
    fn pictures_that_cannot_be_halved_are_refused() {
        let error = "r2plus1d-tutorial".parse::<Architecture>().unwrap().graph([3, 10, 100, 96], 10).unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("96x100"), "{error}");
    }
}
