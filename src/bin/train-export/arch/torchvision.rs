//! What torchvision calls the layers of its 2-D nets that some of ours can be inflated from: GoogLeNet for I3D, the ResNets of
//! as many layers for the 3D ResNets and for R3D-18.

use super::{Architecture, Family};

impl Architecture {
    /// torchvision's name for the layer that `node` of this net has the kernel or the statistics of.
    pub fn torchvision(&self, node: &str) -> Option<String> {
        match self.family {
            Family::I3dRgb | Family::I3dFlow => googlenet(node),
            Family::Resnet3d(_) | Family::R3d18 => resnet(node),
            _ => None,
        }
    }
}

fn googlenet(node: &str) -> Option<String> {
    if node == "head" {
        return Some("fc".into());
    }
    let (place, layer) = node.rsplit_once('.')?;
    let layer = if layer == "norm" { "bn" } else { layer };
    let Some((block, branch)) = place.split_once('.') else {
        let number = ["1a", "2b", "2c"].iter().position(|known| *known == place)? + 1;
        return Some(format!("conv{number}.{layer}"));
    };
    // I3D counts pools too: its first block of a stage is b.
    let (stage, letter) = (block.get(..1)?, block.get(1..)?);
    let letter = ["a", "b", "c", "d", "e", "f"].windows(2).find(|pair| pair[1] == letter)?[0];
    let branch = match branch {
        "branch0" => "branch1",
        "branch1.narrow" => "branch2.0",
        "branch1" => "branch2.1",
        "branch2.narrow" => "branch3.0",
        "branch2" => "branch3.1",
        // Its .0 is the pool.
        "branch3" => "branch4.1",
        _ => return None,
    };
    Some(format!("inception{stage}{letter}.{branch}.{layer}"))
}

fn resnet(node: &str) -> Option<String> {
    match node {
        "head" => return Some("fc".into()),
        "stem.conv" => return Some("conv1".into()),
        "stem.norm" => return Some("bn1".into()),
        _ => {}
    }
    let (stage, block) = node.strip_prefix("stage")?.split_once(".block")?;
    let (number, layer) = block.split_once('.')?;
    let number = number.parse::<usize>().ok()?.checked_sub(1)?;
    let layer = match layer {
        "shortcut" => "downsample.0".into(),
        "shortcut.norm" => "downsample.1".into(),
        // `conv1.norm` in the 3D ResNets, `norm1` in R3D-18.
        _ => match (layer.strip_prefix("norm"), layer.strip_prefix("conv")) {
            (Some(n), _) => format!("bn{n}"),
            (_, Some(n)) => n.strip_suffix(".norm").map_or(format!("conv{n}"), |n| format!("bn{n}")),
            _ => return None,
        },
    };
    Some(format!("layer{stage}.{number}.{layer}"))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::collections::BTreeMap;

    /// A state dict's tensors by name.
    type Shapes = BTreeMap<String, Vec<usize>>;

    fn convolution(shapes: &mut Shapes, [conv, norm]: [String; 2], [to, from, size]: [usize; 3]) {
        shapes.insert(format!("{conv}.weight"), vec![to, from, size, size]);
        for part in ["weight", "bias", "running_mean", "running_var"] {
            shapes.insert(format!("{norm}.{part}"), vec![to]);
        }
    }

    fn dense(shapes: &mut Shapes, classes: usize, features: usize) {
        shapes.insert("fc.weight".into(), vec![classes, features]);
        shapes.insert("fc.bias".into(), vec![classes]);
    }

    /// Of `torchvision.models.googlenet(aux_logits=False)`, as its constructor has it.
    pub(crate) fn googlenet() -> Shapes {
        let mut shapes = Shapes::new();
        let mut conv = |name: &str, shape| {
            convolution(&mut shapes, [format!("{name}.conv"), format!("{name}.bn")], shape);
        };
        conv("conv1", [64, 3, 7]);
        conv("conv2", [64, 64, 1]);
        conv("conv3", [192, 64, 3]);
        for (name, [given, one, red3, three, red5, five, pool]) in [
            ("3a", [192, 64, 96, 128, 16, 32, 32]),
            ("3b", [256, 128, 128, 192, 32, 96, 64]),
            ("4a", [480, 192, 96, 208, 16, 48, 64]),
            ("4b", [512, 160, 112, 224, 24, 64, 64]),
            ("4c", [512, 128, 128, 256, 24, 64, 64]),
            ("4d", [512, 112, 144, 288, 32, 64, 64]),
            ("4e", [528, 256, 160, 320, 32, 128, 128]),
            ("5a", [832, 256, 160, 320, 32, 128, 128]),
            ("5b", [832, 384, 192, 384, 48, 128, 128]),
        ] {
            conv(&format!("inception{name}.branch1"), [one, given, 1]);
            conv(&format!("inception{name}.branch2.0"), [red3, given, 1]);
            conv(&format!("inception{name}.branch2.1"), [three, red3, 3]);
            conv(&format!("inception{name}.branch3.0"), [red5, given, 1]);
            conv(&format!("inception{name}.branch3.1"), [five, red5, 3]);
            conv(&format!("inception{name}.branch4.1"), [pool, given, 1]);
        }
        dense(&mut shapes, 1000, 1024);
        shapes
    }

    /// Of one of `torchvision.models.resnet18` to `resnet152`, with other widths than 64, too.
    pub(crate) fn resnet(width: usize, blocks: [usize; 4], bottleneck: bool) -> Shapes {
        let mut shapes = Shapes::new();
        convolution(&mut shapes, ["conv1".into(), "bn1".into()], [width, 3, 7]);
        let mut given = width;
        for (stage, count) in (1..).zip(blocks) {
            let inner = width << (stage - 1);
            for number in 0..count {
                let names = |n: usize| ["conv", "bn"].map(|kind| format!("layer{stage}.{number}.{kind}{n}"));
                let outer = if bottleneck { 4 * inner } else { inner };
                if bottleneck {
                    convolution(&mut shapes, names(1), [inner, given, 1]);
                    convolution(&mut shapes, names(2), [inner, inner, 3]);
                    convolution(&mut shapes, names(3), [outer, inner, 1]);
                } else {
                    convolution(&mut shapes, names(1), [inner, given, 3]);
                    convolution(&mut shapes, names(2), [inner, inner, 3]);
                }
                if given != outer {
                    let names = [0, 1].map(|n| format!("layer{stage}.{number}.downsample.{n}"));
                    convolution(&mut shapes, names, [outer, given, 1]);
                }
                given = outer;
            }
        }
        dense(&mut shapes, 1000, given);
        shapes
    }

    /// Every parameter of ours is one of theirs, whose shape lacks the axis of time, and the other way round.
    #[test]
    fn all_layers_of_torchvision_s_nets_have_their_place() {
        for (text, theirs) in [
            ("i3d-rgb", googlenet()),
            ("resnet3d-18(projection=true)", resnet(64, [2; 4], false)),
            ("r3d-18", resnet(64, [2; 4], false)),
            ("resnet3d-34(projection=true)", resnet(64, [3, 4, 6, 3], false)),
            ("resnet3d-50", resnet(64, [3, 4, 6, 3], true)),
            ("resnet3d-152", resnet(64, [3, 8, 36, 3], true)),
        ] {
            let architecture: Architecture = text.parse().unwrap();
            let graph = architecture.graph([3, 16, 224, 224], 1000).unwrap();
            let flat = |p: kinora::model::graph::Parameter| {
                let (node, part) = p.name.rsplit_once('.').unwrap();
                let name = architecture.torchvision(node).unwrap_or_else(|| panic!("{text}: {node}"));
                let time = if p.shape.len() == 5 { 2..3 } else { 0..0 };
                let mut shape = p.shape.clone();
                shape.drain(time);
                (format!("{name}.{part}"), shape)
            };
            let ours: Shapes = graph.parameters().into_iter().map(flat).collect();
            assert_eq!(ours.len(), graph.parameters().len(), "{text}: two parameters with one name");
            assert_eq!(ours, theirs, "{text}");
        }
    }

    #[test]
    fn what_torchvision_has_not_has_no_name() {
        let name = |arch: &str, node: &str| arch.parse::<Architecture>().unwrap().torchvision(node);
        for node in ["2a.pool", "3a.branch0.conv", "3b.branch7.conv", "stage1.block1.conv1"] {
            assert_eq!(name("i3d-flow", node), None, "{node}");
        }
        for node in
            ["stage1.block0.conv1", "stage1.blockx.conv1", "stage1.block1.add", "stem.spatial", "3b.branch0.conv"]
        {
            assert_eq!(name("resnet3d-34", node), None, "{node}");
        }
        assert_eq!(name("r2plus1d-18", "stage1.block1.norm2"), None);
    }
}
