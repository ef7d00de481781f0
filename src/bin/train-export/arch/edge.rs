//! `r2plus1d-edge`: a small (2+1)D residual net. A 3x7x7 stem and four stages of doubling channels, half the resolution
//! before each, every convolution a spatial 1 x k x k followed by a temporal 3 x 1 x 1.

use kinora::Result;
use kinora::model::graph::{Conv, Graph, Op, Pool, Value};

use super::Architecture;
use super::builder::Builder;

pub fn graph(options: &Architecture, input: [usize; 4], classes: usize) -> Result<Graph> {
    let (mut net, clip) = Builder::new(input, options.causal);
    let mut x = conv(&mut net, "stem", clip, options.width, 7)?;
    x = net.norm_relu("stem", "", x)?;
    for stage in 1..=4 {
        let channels = options.width << (stage - 1);
        x = net.graph.push(format!("stage{stage}.pool"), Op::Pool(Pool::average([1, 2, 2])), &[x])?;
        for number in 1..=options.depth {
            x = block(&mut net, &format!("stage{stage}.block{number}"), x, channels)?;
        }
    }
    net.head(x, classes)
}

/// A spatial convolution, then a temporal one.
fn conv(net: &mut Builder, name: &str, x: Value, channels: usize, size: usize) -> Result<Value> {
    let x = net.conv(format!("{name}.spatial"), x, channels, [1, size, size], [1; 3])?;
    net.conv(format!("{name}.temporal"), x, channels, [3, 1, 1], [1; 3])
}

fn block(net: &mut Builder, name: &str, input: Value, channels: usize) -> Result<Value> {
    let mut x = conv(net, &format!("{name}.conv1"), input, channels, 3)?;
    x = net.norm_relu(name, "1", x)?;
    x = conv(net, &format!("{name}.conv2"), x, channels, 3)?;
    x = net.norm(format!("{name}.norm2"), x)?;
    let shortcut = if net.channels(input) == channels {
        input
    } else {
        let conv = Conv { bias: true, ..net.conv_op(channels, [1; 3], [1; 3]) };
        net.graph.push(format!("{name}.shortcut"), Op::Conv(conv), &[input])?
    };
    net.join(name, x, shortcut)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn count(graph: &Graph) -> usize {
        graph.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum()
    }

    #[test]
    fn sizes_are_the_published_ones() {
        let graph = Architecture::default().graph([3, 16, 112, 112], 17).unwrap();
        assert_eq!(graph.output().shape, [1, 17]);
        assert!((0.40e6..0.48e6).contains(&(count(&graph) as f64)), "{} parameters", count(&graph));
        assert!((1.6e9..1.8e9).contains(&(graph.macs() as f64)), "{} MACs", graph.macs());
        let last = graph.nodes().iter().find(|node| node.name == "stage4.block1.relu2").unwrap();
        assert_eq!(last.shape, [1, 128, 16, 7, 7]);
    }

    #[test]
    fn options_change_the_net() {
        let base = Architecture::default();
        let deep = Architecture { depth: 2, ..base }.graph([3, 8, 32, 32], 5).unwrap();
        let wide = Architecture { width: 32, ..base }.graph([3, 8, 32, 32], 5).unwrap();
        let plain = base.graph([3, 8, 32, 32], 5).unwrap();
        assert!(count(&deep) > count(&plain) && count(&wide) > 3 * count(&plain));
        assert!(deep.nodes().iter().any(|node| node.name == "stage4.block2.conv2.temporal"));
        let centred = Architecture { causal: false, ..base }.graph([3, 8, 32, 32], 5).unwrap();
        let Op::Conv(conv) = &centred.nodes()[2].op else { panic!("a temporal convolution") };
        assert_eq!(conv.pad[0], (1, 1));
    }

    #[test]
    fn too_small_an_input_is_refused() {
        assert!(Architecture::default().graph([3, 16, 8, 8], 5).is_err());
    }
}
