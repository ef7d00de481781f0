//! `resnet3d-18` to `resnet3d-152`: the 3D ResNets of "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?"
//! (Hara et al., 2018) for 16 frames of 112x112: a 7x7x7 stem of half the resolution, a max pool, four stages of residual
//! blocks, the last three of which halve time and place. Blocks are two 3x3x3 convolutions, from 50 layers on bottlenecks of a
//! 1x1x1, a 3x3x3 and a 1x1x1 one. Where a block changes the shape its shortcut is projected (`projection=true`, their type B)
//! or, without parameters, every other position with zeros for the channels that are missing (type A).

use kinora::Result;
use kinora::model::graph::{Graph, Op, Pad, Pool, Value};

use super::Architecture;
use super::builder::Builder;

pub fn graph(options: &Architecture, input: [usize; 4], classes: usize) -> Result<Graph> {
    let (mut net, clip) = Builder::new(input, options.causal);
    let over_time = if options.temporal_stride { 2 } else { 1 };
    let mut x = net.conv("stem.conv".into(), clip, options.width, [7; 3], [1, 2, 2])?;
    x = net.norm_relu("stem", "", x)?;
    x = net.max_pool("stem.pool".into(), x, [3; 3], [over_time, 2, 2])?;
    let bottleneck = options.family.has_bottlenecks();
    for (stage, blocks) in (1..).zip(options.family.blocks()) {
        for number in 1..=blocks {
            let stride = if stage > 1 && number == 1 { [over_time, 2, 2] } else { [1; 3] };
            let name = format!("stage{stage}.block{number}");
            let channels = options.width << (stage - 1);
            x = block(&mut net, &name, x, (channels, bottleneck), stride, options.projection)?;
        }
    }
    net.head(x, classes)
}

fn block(
    net: &mut Builder,
    name: &str,
    input: Value,
    (channels, bottleneck): (usize, bool),
    stride: [usize; 3],
    projection: bool,
) -> Result<Value> {
    let layers = if bottleneck {
        vec![(channels, 1, [1; 3]), (channels, 3, stride), (4 * channels, 1, [1; 3])]
    } else {
        vec![(channels, 3, stride), (channels, 3, [1; 3])]
    };
    let (mut x, last) = (input, layers.len());
    for (number, (channels, size, stride)) in (1..).zip(layers) {
        let name = format!("{name}.conv{number}");
        x = net.conv(name.clone(), x, channels, [size; 3], stride)?;
        x = if number == last { net.norm(format!("{name}.norm"), x)? } else { net.norm_relu(&name, "", x)? };
    }
    let (given, wanted) = (net.channels(input), net.channels(x));
    let shortcut = if stride == [1; 3] && given == wanted {
        input
    } else if projection {
        let y = net.conv(format!("{name}.shortcut"), input, wanted, [1; 3], stride)?;
        net.norm(format!("{name}.shortcut.norm"), y)?
    } else {
        let thin = Pool { stride: stride.into(), ..Pool::max([1; 3]) };
        let y = net.graph.push(format!("{name}.shortcut.thin"), Op::Pool(thin), &[input])?;
        let mut pad = vec![(0, 0); 5];
        pad[1].1 = wanted - given;
        net.graph.push(format!("{name}.shortcut.pad"), Op::Pad(Pad { pad, value: 0.0 }), &[y])?
    };
    net.join(name, x, shortcut)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use crate::arch::tests::{published, shape, trained};

    /// Parameters as sums over the layers of the paper's table 1.
    #[test]
    fn sizes_are_the_published_ones() {
        for (layers, blocks) in
            [(18, [2, 2, 2, 2]), (34, [3, 4, 6, 3]), (50, [3, 4, 6, 3]), (101, [3, 4, 23, 3]), (152, [3, 8, 36, 3])]
        {
            for projection in [false, true] {
                let graph = published(&format!("resnet3d-{layers}(projection={projection})"));
                let (bottleneck, mut given) = (layers >= 50, 64);
                let norm = |channels: usize| 2 * channels;
                let mut wanted = 7 * 7 * 7 * 3 * 64 + norm(64);
                for (stage, count) in blocks.into_iter().enumerate() {
                    let inner = 64 << stage;
                    let outer = if bottleneck { 4 * inner } else { inner };
                    for _ in 0..count {
                        wanted += match bottleneck {
                            true => given * inner + 27 * inner * inner + inner * outer + 2 * norm(inner) + norm(outer),
                            false => 27 * inner * (given + inner) + 2 * norm(inner),
                        };
                        if given != outer && projection {
                            wanted += given * outer + norm(outer);
                        }
                        given = outer;
                    }
                }
                wanted += given * 400 + 400;
                assert_eq!(trained(&graph), wanted, "{layers} layers, projection {projection}");
                assert_eq!(shape(&graph, "stem.pool"), [1, 64, 8, 28, 28]);
                assert_eq!(shape(&graph, "average"), [1, given]);
                assert_eq!(shape(&graph, &format!("stage4.block{}.relu2", blocks[3]))[2..], [1, 4, 4]);
            }
        }
    }

    #[test]
    fn shortcuts_are_those_of_the_paper() {
        let has = |text: &str, name: &str| published(text).nodes().iter().any(|node| node.name == name);
        assert!(has("resnet3d-18", "stage2.block1.shortcut.pad") && !has("resnet3d-18", "stage2.block1.shortcut"));
        assert!(has("resnet3d-50", "stage1.block1.shortcut") && !has("resnet3d-50", "stage1.block2.shortcut"));
        assert!(has("resnet3d-50(projection=false)", "stage2.block1.shortcut.thin"));
    }
}
