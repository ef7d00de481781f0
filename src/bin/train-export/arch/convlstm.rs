//! Recurrent nets of convolutional LSTMs (Shi et al., Convolutional LSTM Network, 2015): graphs of one frame that remember.
//!
//! `convlstm-trailer`, for the categories of a film by its trailer: two ConvLSTMs, each with batch norm and a max pool, then
//! for each category another one with a pool, and three dense layers per frame, linear all. `lstm-trailer` has convolutions in
//! their place, and one LSTM over all of what they see.
//!
//! `convlstm-edge`: three convolutions of half the resolution each, a residual block, one ConvLSTM, a convolution of one pixel
//! and a head per frame. That convolution is there for its batch norm: an LSTM's values are below one, and their mean over a
//! picture in which little happens is so small that a head learns slowly from it.

use kinora::Result;
use kinora::model::graph::{CHANNELS_AND_COLUMNS, Conv, Graph, Op, Pool, Unary, Value};

use super::builder::Builder;
use super::{Architecture, Gates};

/// What Keras adds to the variance.
const EPS: f32 = 1e-3;
/// Features of the dense layers of a category.
const DENSE: [usize; 2] = [512, 32];
/// Units of the LSTM of `lstm-trailer`.
const UNITS: usize = 64;

impl Gates {
    fn function(self) -> Unary {
        match self {
            Self::Hard => Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
            Self::Hard3 => Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
            Self::Sigmoid => Unary::Sigmoid,
        }
    }
}

pub fn trailer(options: &Architecture, [channels, _, height, width]: [usize; 4], classes: usize) -> Result<Graph> {
    let (mut net, clip) = Builder::new([channels, 1, height, width], true);
    let gate = options.gates.function();
    let mut x = clip;
    for (name, filters, side) in [("lstm1", options.width, 2), ("lstm2", options.width.div_ceil(2), 3)] {
        x = net.conv_lstm(name, x, filters, gate)?;
        x = norm(&mut net, options, name, x)?;
        x = pool(&mut net, name, x, side)?;
    }
    let mut logits = Vec::new();
    for category in 1..=classes {
        let name = format!("category{category}");
        let mut y = net.conv_lstm(&format!("{name}.lstm"), x, options.width.div_ceil(4), gate)?;
        y = pool(&mut net, &name, y, 2)?;
        let [wide, narrow] = [net.flat(y, DENSE[0]), Conv { bias: true, ..net.conv_op(DENSE[1], [1; 3], [1; 3]) }];
        y = net.graph.push(format!("{name}.dense1"), Op::Conv(wide), &[y])?;
        y = net.graph.push(format!("{name}.dense2"), Op::Conv(narrow), &[y])?;
        y = net.graph.push(format!("{name}.frame"), Op::Mean { axes: vec![2, 3, 4], keep: false }, &[y])?;
        logits.push(net.graph.push(format!("{name}.dense3"), Op::dense(1), &[y])?);
    }
    let logits = net.graph.push("categories", Op::Concat { axis: 1 }, &logits)?;
    net.end(logits)
}

pub fn flat(options: &Architecture, [channels, _, height, width]: [usize; 4], classes: usize) -> Result<Graph> {
    let (mut net, clip) = Builder::new([channels, 1, height, width], true);
    let mut x = clip;
    for (name, filters, side) in [("stem1", options.width, 2), ("stem2", options.width.div_ceil(2), 3)] {
        let conv = Conv { bias: true, ..net.conv_op(filters, [1, 3, 3], [1; 3]) };
        x = net.graph.push(name, Op::Conv(conv), &[x])?;
        x = norm(&mut net, options, name, x)?;
        x = net.relu(format!("{name}.relu"), x)?;
        x = pool(&mut net, name, x, side)?;
    }
    let products = [net.flat(x, 4 * UNITS), net.conv_op(4 * UNITS, [1; 3], [1; 3])];
    x = net.lstm("lstm", x, products, options.gates.function())?;
    net.head(x, classes)
}

/// A batch norm over the channels, or over the columns: Keras' own default is the last axis, which of a picture `[C, H, W]` are
/// its columns.
fn norm(net: &mut Builder, options: &Architecture, name: &str, x: Value) -> Result<Value> {
    let batch_norm = Op::BatchNorm { eps: EPS };
    if !options.norm_columns {
        return net.graph.push(format!("{name}.norm"), batch_norm, &[x]);
    }
    let swap = || Op::Transpose(CHANNELS_AND_COLUMNS.into());
    let x = net.graph.push(format!("{name}.columns"), swap(), &[x])?;
    let x = net.graph.push(format!("{name}.norm"), batch_norm, &[x])?;
    net.graph.push(format!("{name}.channels"), swap(), &[x])
}

/// The largest of `side` by `side` pixels; what is left over at the ends is left out.
fn pool(net: &mut Builder, name: &str, x: Value, side: usize) -> Result<Value> {
    net.graph.push(format!("{name}.pool"), Op::Pool(Pool::max([1, side, side])), &[x])
}

pub fn edge(options: &Architecture, [channels, _, height, width]: [usize; 4], classes: usize) -> Result<Graph> {
    let (mut net, clip) = Builder::new([channels, 1, height, width], true);
    let mut x = clip;
    for (number, size) in [(1, 5), (2, 3), (3, 3)] {
        x = net.conv(format!("stem{number}"), x, options.width << (number - 1), [1, size, size], [1, 2, 2])?;
        x = net.norm_relu(&format!("stem{number}"), "", x)?;
    }
    let filters = options.width << 2;
    let before = x;
    x = net.conv("block.conv1".into(), x, filters, [1, 3, 3], [1; 3])?;
    x = net.norm_relu("block", "1", x)?;
    x = net.conv("block.conv2".into(), x, filters, [1, 3, 3], [1; 3])?;
    x = net.norm("block.norm2".into(), x)?;
    x = net.join("block", x, before)?;
    x = net.conv_lstm("lstm", x, filters, Gates::Sigmoid.function())?;
    x = net.conv("top".into(), x, 2 * filters, [1; 3], [1; 3])?;
    x = net.norm_relu("top", "", x)?;
    net.head(x, classes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::arch::tests::{shape, trained};

    fn net(text: &str, size: usize) -> Graph {
        text.parse::<Architecture>().unwrap().graph([3, 16, size, size], 6).unwrap()
    }

    /// Of the source: six categories, 400x400 pixels. A ConvLSTM with F filters on C channels has 4 F (9 (C + F) + 1)
    /// parameters.
    #[test]
    fn the_trailer_net_is_the_published_one() {
        let graph = net("convlstm-trailer", 400);
        let lstm = |given: usize, filters: usize| 4 * filters * (9 * (given + filters) + 1);
        let branch = lstm(10, 5) + (5 * 33 * 33 * 512 + 512) + (512 * 32 + 32) + (32 + 1);
        assert_eq!(trained(&graph), lstm(3, 20) + 2 * 20 + lstm(20, 10) + 2 * 10 + 6 * branch);
        for (name, wanted) in [
            ("lstm1", [20, 1, 400, 400]),
            ("lstm1.pool", [20, 1, 200, 200]),
            ("lstm2", [10, 1, 200, 200]),
            ("lstm2.pool", [10, 1, 66, 66]),
            ("category6.lstm", [5, 1, 66, 66]),
            ("category6.pool", [5, 1, 33, 33]),
            ("category6.dense1", [512, 1, 1, 1]),
        ] {
            assert_eq!(shape(&graph, name)[1..], wanted, "{name}");
        }
        assert_eq!((graph.output().shape.as_slice(), graph.states().len()), ([1, 6].as_slice(), 2 * 8));
        // One factor and one offset per column.
        let columns = trained(&net("convlstm-trailer(norm=columns)", 400));
        assert_eq!(columns, trained(&graph) - 2 * (20 + 10) + 2 * (400 + 200));
    }

    #[test]
    fn gates_are_kerass() {
        let gate = |text: &str| {
            let graph = net(text, 24);
            graph.nodes().iter().find(|node| node.name == "lstm2.f").expect(text).op.clone()
        };
        let hard = |alpha| Op::Unary(Unary::HardSigmoid { alpha, beta: 0.5 });
        assert_eq!(gate("convlstm-trailer"), hard(0.2));
        assert_eq!(gate("convlstm-trailer(gates=hard3)"), hard(1.0 / 6.0));
        assert_eq!(gate("convlstm-trailer(gates=sigmoid)"), Op::Unary(Unary::Sigmoid));
    }

    /// Of an LSTM with F units on C numbers: 4 F (C + F + 1).
    #[test]
    fn a_flat_lstm_sees_all_of_a_frame() {
        let graph = net("lstm-trailer", 48);
        let lstm = 4 * UNITS * (10 * 8 * 8 + UNITS + 1);
        let stem = (27 * 20 + 3 * 20) + (180 * 10 + 3 * 10);
        assert_eq!(trained(&graph), stem + lstm + 6 * (UNITS + 1));
        assert_eq!(shape(&graph, "lstm"), [1, UNITS, 1, 1, 1]);
    }

    #[test]
    fn it_is_the_graph_of_one_frame_that_remembers() {
        let graph = "convlstm-edge".parse::<Architecture>().unwrap().graph([3, 16, 96, 96], 17).unwrap();
        assert_eq!(graph.input_shape(), [1, 3, 1, 96, 96]);
        assert_eq!(graph.output().shape, [1, 17]);
        let states: Vec<_> = graph.states().iter().map(|(state, _)| graph.node(*state)).collect();
        assert_eq!(states.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["lstm.h", "lstm.c"]);
        assert!(states.iter().all(|node| node.shape == [1, 64, 1, 12, 12]));
        // Of a ConvLSTM with F filters on C channels: 4 F (9 (C + F) + 1).
        let lstm = graph.parameters().into_iter().filter(|p| p.name.starts_with("lstm."));
        let count: usize = lstm.map(|p| p.shape.iter().product::<usize>()).sum();
        assert_eq!(count, 4 * 64 * (9 * (64 + 64) + 1));
    }
}
