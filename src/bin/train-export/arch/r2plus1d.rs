//! `r2plus1d-18`, `r2plus1d-34` and `r3d-18`: nets of "A Closer Look at Spatiotemporal Convolutions for Action
//! Recognition" (Tran et al., 2018), in the form in which torchvision has them: a stem of half the resolution, four
//! stages of residual blocks, the last three of which halve resolution and (with `temporal_stride`) frame rate.
//! r3d-18 convolves with 3 x 3 x 3 kernels; r2plus1d with a 1 x 3 x 3 and a 3 x 1 x 1 kernel, a batch norm and a ReLU
//! between them, and as many channels there that the number of parameters is about the same.

use kinora::Result;
use kinora::model::graph::{Graph, Value};

use super::builder::Builder;
use super::{Architecture, Family};

pub fn graph(options: &Architecture, input: [usize; 4], classes: usize) -> Result<Graph> {
    let (mut builder, clip) = Builder::new(input, options.causal);
    let factorised = options.family != Family::R3d18;
    let stem = [1, 2, 2];
    let mut x = if factorised {
        // torchvision's 45 for a width of 64.
        let middle = (45 * options.width).div_ceil(64);
        let x = builder.conv("stem.spatial".into(), clip, middle, [1, 7, 7], stem)?;
        let x = builder.norm_relu("stem.spatial", "", x)?;
        builder.conv("stem.temporal".into(), x, options.width, [3, 1, 1], [1; 3])?
    } else {
        builder.conv("stem.conv".into(), clip, options.width, [3, 7, 7], stem)?
    };
    x = builder.norm_relu("stem", "", x)?;
    let mut net = Net { builder, factorised };
    for (stage, blocks) in (1..).zip(options.family.blocks()) {
        let half = if options.temporal_stride { [2; 3] } else { [1, 2, 2] };
        for number in 1..=blocks {
            let stride = if stage > 1 && number == 1 { half } else { [1; 3] };
            x = net.block(&format!("stage{stage}.block{number}"), x, options.width << (stage - 1), stride)?;
        }
    }
    net.builder.head(x, classes)
}

struct Net {
    builder: Builder,
    factorised: bool,
}

impl Net {
    fn block(&mut self, name: &str, input: Value, channels: usize, stride: [usize; 3]) -> Result<Value> {
        let given = self.builder.channels(input);
        // Both convolutions of a block have the channels in between that the first one's shape asks for.
        let middle = given * channels * 27 / (given * 9 + 3 * channels);
        let mut x = self.conv(&format!("{name}.conv1"), input, channels, middle, stride)?;
        x = self.builder.norm_relu(name, "1", x)?;
        x = self.conv(&format!("{name}.conv2"), x, channels, middle, [1; 3])?;
        x = self.builder.norm(format!("{name}.norm2"), x)?;
        let shortcut = if stride == [1; 3] && given == channels {
            input
        } else {
            let y = self.builder.conv(format!("{name}.shortcut"), input, channels, [1; 3], stride)?;
            self.builder.norm(format!("{name}.shortcut.norm"), y)?
        };
        self.builder.join(name, x, shortcut)
    }

    fn conv(&mut self, name: &str, x: Value, channels: usize, middle: usize, stride: [usize; 3]) -> Result<Value> {
        if !self.factorised {
            return self.builder.conv(name.to_owned(), x, channels, [3; 3], stride);
        }
        let [over_time, down, across] = stride;
        let x = self.builder.conv(format!("{name}.spatial"), x, middle, [1, 3, 3], [1, down, across])?;
        let x = self.builder.norm_relu(&format!("{name}.spatial"), "", x)?;
        self.builder.conv(format!("{name}.temporal"), x, channels, [3, 1, 1], [over_time, 1, 1])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::arch::tests::{published, shape, trained};
    use kinora::model::graph::Op;

    /// The figures torchvision documents for its weights of Kinetics-400: parameters, to which running statistics do not
    /// count, and multiply-accumulates.
    #[test]
    fn sizes_are_the_published_ones() {
        for (text, parameters, macs) in [("r2plus1d-18", 31_505_325, 40.52), ("r3d-18", 33_371_472, 40.70)] {
            let graph = published(text);
            assert_eq!(trained(&graph), parameters, "{text}");
            assert_eq!((graph.macs() as f64 / 1e7).round() / 100.0, macs, "{text}");
            assert!(!graph.parameters().iter().any(|p| p.name.starts_with("stage") && p.name.ends_with("conv1.bias")));
            assert_eq!(shape(&graph, "stem.relu"), [1, 64, 16, 56, 56]);
            assert_eq!(shape(&graph, "stage1.block2.relu2"), [1, 64, 16, 56, 56]);
            assert_eq!(shape(&graph, "stage4.block2.relu2"), [1, 512, 2, 7, 7]);
        }
    }

    #[test]
    fn channels_in_between_are_computed_once_a_block() {
        let graph = published("r2plus1d-18");
        assert_eq!(shape(&graph, "stem.spatial"), [1, 45, 16, 56, 56]);
        assert_eq!(shape(&graph, "stage1.block1.conv1.spatial")[1], 144);
        for (block, middle) in [("stage2.block1", 230), ("stage2.block2", 288), ("stage4.block1", 921)] {
            assert_eq!(shape(&graph, &format!("{block}.conv1.spatial"))[1], middle);
            assert_eq!(shape(&graph, &format!("{block}.conv2.spatial"))[1], middle);
        }
        let names: Vec<&str> = graph.nodes().iter().map(|node| node.name.as_str()).collect();
        let first = names.iter().position(|name| *name == "stage2.block1.conv1.spatial").unwrap();
        let block = [
            "conv1.spatial",
            "conv1.spatial.norm",
            "conv1.spatial.relu",
            "conv1.temporal",
            "norm1",
            "relu1",
            "conv2.spatial",
            "conv2.spatial.norm",
            "conv2.spatial.relu",
            "conv2.temporal",
            "norm2",
            "shortcut",
            "shortcut.norm",
            "add",
            "relu2",
        ];
        assert_eq!(names[first..first + block.len()], block.map(|part| format!("stage2.block1.{part}")));
    }

    #[test]
    fn options_change_time_only() {
        let parameters = |graph: &Graph| graph.parameters();
        for family in ["r2plus1d-18", "r3d-18"] {
            let plain = published(family);
            let causal = published(&format!("{family}(causal=true)"));
            let steady = published(&format!("{family}(temporal_stride=false)"));
            assert_eq!(shape(&steady, "stage4.block2.relu2"), [1, 512, 16, 7, 7]);
            for other in [&causal, &steady] {
                assert_eq!(parameters(other), parameters(&plain));
            }
            for (graph, wanted) in [(&plain, (1, 1)), (&causal, (2, 0))] {
                for node in graph.nodes() {
                    if let Op::Conv(conv) = &node.op {
                        let wanted = if conv.kernel[0] == 3 { wanted } else { (0, 0) };
                        assert_eq!(conv.pad[0], wanted, "{}", node.name);
                    }
                }
            }
        }
    }
}
