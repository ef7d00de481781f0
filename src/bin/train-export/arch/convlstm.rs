//! Recurrent nets of convolutional LSTMs (Shi et al., Convolutional LSTM Network, 2015): graphs of one frame that remember.
//! `convlstm-edge`: three convolutions of half the resolution each, a residual block, one ConvLSTM, a convolution of one pixel
//! and a head per frame. That convolution is there for its batch norm: an LSTM's values are below one, and their mean over a
//! picture in which little happens is so small that a head learns slowly from it.

use kinora::Result;
use kinora::model::graph::Graph;

use super::Architecture;
use super::builder::Builder;

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
    x = net.conv_lstm("lstm", x, filters, [3, 3])?;
    x = net.conv("top".into(), x, 2 * filters, [1; 3], [1; 3])?;
    x = net.norm_relu("top", "", x)?;
    net.head(x, classes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

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
