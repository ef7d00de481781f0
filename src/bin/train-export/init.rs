//! First weights from a model that was trained before: those whose name and shape fit, or those of a 2-D net, inflated.

use std::fmt::Display;
use std::path::Path;

use anyhow::Result;
use kinora::model::graph::{Graph, Weights};
use kinora::model::{Bundle, onnx};
use kinora::{Error, ErrorKind};
use ndarray::{ArrayD, Axis};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Kind, Tensor};

use crate::arch::Architecture;
use crate::checkpoint::Checkpoint;
use crate::interpreter::to_array;

/// Weights that fit.
pub struct Taken {
    /// The weights.
    pub weights: Weights,
    /// What was taken and what was not, in a line.
    pub description: String,
    /// What they were trained on.
    pub data: String,
}

/// The weights of `path`, a bundle's folder, a run's folder or a checkpoint, that fit `graph`. Of the last layer the rows of
/// classes that the model knows by name are taken; the others stay as `fresh` has them.
///
/// # Errors
/// `Model` when there is no such model, `Usage` when nothing of it fits.
pub fn weights(path: &Path, labels: &[String], graph: &Graph, fresh: &Weights) -> Result<Taken> {
    let (mut weights, old_labels, data) = if path.join("manifest.toml").exists() {
        let bundle = Bundle::load(path)?;
        (onnx::read_weights(&bundle.onnx())?, bundle.labels, bundle.manifest.provenance.data)
    } else {
        let checkpoint = Checkpoint::load(path)?;
        let seen = checkpoint.info.seen();
        (checkpoint.average(), checkpoint.info.labels, seen)
    };
    let known: Vec<(usize, usize)> = (labels.iter().enumerate())
        .filter_map(|(new, label)| Some((new, old_labels.iter().position(|old| old == label)?)))
        .collect();
    let head = format!("{}.", graph.output().name);
    let wanted = graph.parameters();
    weights.retain(|name, array| {
        if name.starts_with(&head) {
            let fits = |fresh: &&ArrayD<f32>| !known.is_empty() && fresh.shape()[1..] == array.shape()[1..];
            let Some(fresh) = fresh.get(name).filter(fits) else { return false };
            *array = rows(fresh, array, &known);
        }
        wanted.iter().any(|p| p.name == *name && p.shape == array.shape())
    });
    let about = format!("{}, which knows {} of the {} classes", path.display(), known.len(), labels.len());
    taken("--init", path, (&about, data), weights, graph)
}

/// What of `graph` the `weights` are, in words: taken from what `about` says, trained on `data`, as `flag` asked for.
///
/// # Errors
/// `Usage` when there are none.
fn taken(flag: &str, path: &Path, (about, data): (&str, String), weights: Weights, graph: &Graph) -> Result<Taken> {
    if weights.is_empty() {
        let message = format!("{flag} {}: none of its weights fits this architecture and input", path.display());
        return Err(Error::new(ErrorKind::Usage, message).into());
    }
    let wanted = graph.parameters();
    let fresh: Vec<&str> = wanted.iter().filter(|p| !weights.contains_key(&p.name)).map(|p| p.name.as_str()).collect();
    let fresh = if fresh.is_empty() { String::new() } else { format!("; fresh: {}", fresh.join(", ")) };
    let description = format!("took {} of {} parameters from {about}{fresh}", weights.len(), wanted.len());
    Ok(Taken { weights, description, data })
}

/// `fresh` with some rows of `old` in it: pairs of a row of `fresh` and one of `old`.
fn rows(fresh: &ArrayD<f32>, old: &ArrayD<f32>, pairs: &[(usize, usize)]) -> ArrayD<f32> {
    let mut taken = fresh.clone();
    for &(to, from) in pairs {
        taken.index_axis_mut(Axis(0), to).assign(&old.index_axis(Axis(0), from));
    }
    taken
}

/// Weights for `graph`, the net of `architecture`, from those of a 2-D net in the state dict at `path`: by the names of our
/// parameters or by torchvision's ([`Architecture::torchvision`]). A kernel is repeated along time and divided by how often
/// ("inflated": Carreira and Zisserman, 2017), so that of a picture that stands still the net computes what the 2-D net does of
/// the picture, except where it sees the padding before or behind the clip. A first layer of another number of channels has
/// the mean over them in each of ours, scaled so that the sum stays. What has another shape stays fresh, a head of other classes
/// above all.
///
/// Not equal stay: how pictures are normalised (ours are as a ResNet's were, while torchvision's GoogLeNet saw about half the
/// contrast); I3D's first layer, which for even sizes sees a pixel further to the right and below; R3D-18, which
/// has no pool behind its first layer.
///
/// # Errors
/// `Model`, naming the file and the tensor, when it is no such file; `Usage` when nothing of it fits.
pub fn inflated(path: &Path, architecture: &Architecture, graph: &Graph) -> Result<Taken> {
    let bytes = std::fs::read(path).map_err(|why| refuse(path, why))?;
    let wanted = "a state dict as `safetensors.torch.save_file` writes it is wanted";
    let tensors = SafeTensors::deserialize(&bytes).map_err(|why| refuse(path, format_args!("{why}: {wanted}")))?;
    let (mut weights, mut notes, mut read) = (Weights::new(), String::new(), Vec::new());
    for node in graph.nodes() {
        let sees_clip = node.inputs.first().is_some_and(|input| input.index() == 0);
        for parameter in graph.node_parameters(node) {
            let part = parameter.name.strip_prefix(&node.name).unwrap_or_default();
            let theirs = architecture.torchvision(&node.name).map(|layer| layer + part);
            let names = [Some(parameter.name.clone()), theirs];
            let find = |name: String| Some((tensors.tensor(&name).ok()?, name));
            let Some((view, name)) = names.into_iter().flatten().find_map(find) else { continue };
            let mut array = flat(path, &name, &view, &parameter.shape)?;
            if let [_, channels, frames, ..] = parameter.shape[..] {
                let given = array.shape()[1];
                if sees_clip && given != channels {
                    let one = array.sum_axis(Axis(1)).insert_axis(Axis(1)) / channels as f32;
                    array = ndarray::concatenate(Axis(1), &vec![one.view(); channels])?;
                    notes += &format!(", the {given} channels of '{name}' made {channels}");
                }
                let one = array.insert_axis(Axis(2)) / frames as f32;
                array = ndarray::concatenate(Axis(2), &vec![one.view(); frames])?;
            }
            if array.shape() == parameter.shape {
                weights.insert(parameter.name, array);
            } else {
                notes += &format!(", not '{name}' of shape {:?}", view.shape());
            }
            read.push(name);
        }
    }
    // Counters, and heads for training only, have no counterpart in any of our nets.
    let ours = |name: &&str| !name.ends_with(".num_batches_tracked") && !name.starts_with("aux");
    let left: Vec<&str> =
        tensors.names().into_iter().filter(ours).filter(|name| !read.iter().any(|r| r == name)).collect();
    if let Some(first) = left.iter().min() {
        notes += &format!(", {} of its tensors have no place here, such as '{first}'", left.len());
    }
    let file = path.file_name().unwrap_or_default().display();
    let data = format!("pictures, by a 2-D net ({file}, repeated along time)");
    taken("--inflate", path, (&format!("{}{notes}", path.display()), data), weights, graph)
}

fn refuse(path: &Path, why: impl Display) -> Error {
    Error::new(ErrorKind::Model, format_args!("--inflate {}: {why}", path.display()))
}

/// The values of a tensor for a parameter of `shape`, which may have an axis of time that the tensor has not.
fn flat(path: &Path, name: &str, view: &TensorView, shape: &[usize]) -> Result<ArrayD<f32>> {
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        other => {
            let why = format_args!("'{name}' is {other:?}: F32, F16 or BF16 wanted, so save it after `.float()`");
            return Err(refuse(path, why).into());
        }
    };
    let (given, axes) = (view.shape(), if shape.len() == 5 { 4 } else { shape.len() });
    if given.len() != axes || given.contains(&0) {
        let hint = if given.len() == 5 { "; weights that have an axis of time are for --init" } else { "" };
        return Err(refuse(
            path,
            format_args!("'{name}' has the shape {given:?}, {axes} axes of at least 1 wanted{hint}"),
        )
        .into());
    }
    let size: Vec<i64> = given.iter().map(|&n| n as i64).collect();
    let array = to_array(&Tensor::f_from_data_size(view.data(), &size, kind)?)?;
    if !array.iter().all(|x| x.is_finite()) {
        return Err(refuse(path, format_args!("a value of '{name}' is not finite")).into());
    }
    Ok(array)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::arch::torchvision::tests::{googlenet, resnet};
    use crate::interpreter::{Net, Pass};
    use kinora::model::graph::{Conv, Op, Parameter};
    use std::collections::BTreeMap;
    use tch::Device;

    /// A state dict in a file.
    fn save(path: &Path, tensors: &[(&str, Dtype, &[usize], &[u8])]) {
        let views = tensors.iter().map(|(name, kind, shape, bytes)| {
            (name.to_string(), TensorView::new(*kind, shape.to_vec(), bytes).unwrap())
        });
        std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    fn bytes(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
        values.into_iter().flat_map(f32::to_le_bytes).collect()
    }

    /// Saves a state dict of these shapes, and returns it: random values, those of variances and scales near one.
    pub(crate) fn save_random(path: &Path, shapes: &BTreeMap<String, Vec<usize>>) -> Weights {
        let mut random = fastrand::Rng::with_seed(5);
        let mut values = |name: &str, shape: &[usize]| {
            let about = if shape.len() == 1 && (name.ends_with("var") || name.ends_with("weight")) { 1.0 } else { 0.0 };
            let spread =
                if shape.len() == 1 { 0.3 } else { (6.0 / shape[1..].iter().product::<usize>() as f32).sqrt() };
            ArrayD::from_shape_simple_fn(shape, || about + spread * (2.0 * random.f32() - 1.0))
        };
        let weights: Weights = shapes.iter().map(|(name, shape)| (name.clone(), values(name, shape))).collect();
        let all: Vec<Vec<u8>> = weights.values().map(|array| bytes(array.iter().copied())).collect();
        let tensors: Vec<_> = (weights.iter().zip(&all))
            .map(|((name, array), bytes)| (name.as_str(), Dtype::F32, array.shape(), &bytes[..]))
            .collect();
        save(path, &tensors);
        weights
    }

    /// Name and shape in a state dict of a parameter of ours.
    fn named(architecture: &Architecture, parameter: &Parameter) -> (String, Vec<usize>) {
        let (node, part) = parameter.name.rsplit_once('.').unwrap();
        let name = architecture.torchvision(node).unwrap_or_else(|| node.into());
        let shape = &parameter.shape;
        let shape = if shape.len() == 5 { [&shape[..2], &shape[3..]].concat() } else { shape.clone() };
        (format!("{name}.{part}"), shape)
    }

    /// The 2-D net: each kernel only at the time that its output is of, so that frames know nothing of each other.
    fn twin(flat: &Weights, architecture: &Architecture, graph: &Graph) -> Weights {
        let mut weights = Weights::new();
        for node in graph.nodes() {
            for parameter in graph.node_parameters(node) {
                let mut array = flat[&named(architecture, &parameter).0].clone();
                if let (Op::Conv(conv), 5) = (&node.op, parameter.shape.len()) {
                    let kernel = std::mem::replace(&mut array, ArrayD::zeros(&parameter.shape[..]));
                    array.index_axis_mut(Axis(2), conv.pad[0].0).assign(&kernel);
                }
                weights.insert(parameter.name, array);
            }
        }
        weights
    }

    /// Of a picture that stands still, frame `frame` of the value of `node`.
    fn features(graph: &Graph, weights: &Weights, node: &str, frame: i64) -> Tensor {
        let mut net = Net::new(graph.clone(), Device::Cpu, 1).unwrap();
        net.set(weights).unwrap();
        let [channels, frames, height, width] = [1, 2, 3, 4].map(|axis| graph.input_shape()[axis] as i64);
        tch::manual_seed(3);
        let picture = Tensor::randn([1, channels, 1, height, width], (Kind::Float, Device::Cpu));
        let clip = picture.repeat([1, 1, frames, 1, 1]);
        let mut found = None;
        let mut look = |at: &kinora::model::graph::Node, value: &Tensor| {
            if at.name == node {
                found = Some(value.select(2, frame).copy());
            }
            Ok(())
        };
        let _logits = tch::no_grad(|| net.forward_with(&clip, Pass::Evaluate, &mut look)).unwrap();
        found.expect(node)
    }

    /// A frame's features, so far from the clip's ends that no padding is seen, are those of the 2-D net of the picture; of a
    /// causal net only the beginning has an end. Kernels are named as torchvision or as we name them.
    #[test]
    fn a_still_picture_is_seen_as_in_two_dimensions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flat.safetensors");
        for (text, frames, size, node, frame) in [
            ("resnet3d-18(width=4,temporal_stride=false,projection=true)", 45, 48, "stage4.block2.relu2", 22),
            ("resnet3d-50(width=2)", 64, 48, "stage3.block1.relu2", 4),
            ("r3d-18(width=4,causal=true,temporal_stride=false)", 40, 32, "stage4.block2.relu2", 39),
            ("i3d-rgb(width=4)", 64, 224, "4d", 7),
            ("r2plus1d-edge(width=4,depth=1)", 40, 32, "", 39),
        ] {
            let architecture: Architecture = text.parse().unwrap();
            let graph = architecture.graph([3, frames, size, size], 5).unwrap();
            let shapes = graph.parameters().iter().map(|p| named(&architecture, p)).collect();
            let flat = save_random(&path, &shapes);
            let last = graph.nodes().iter().rev().find(|node| node.shape.len() == 5).unwrap();
            let node = if node.is_empty() { &last.name } else { node };
            let taken = inflated(&path, &architecture, &graph).unwrap();
            assert_eq!(taken.weights.len(), graph.parameters().len(), "{}", taken.description);
            let (got, wanted) = (
                features(&graph, &taken.weights, node, frame),
                features(&graph, &twin(&flat, &architecture, &graph), node, frame),
            );
            let number = |x: Tensor| f64::try_from(x).unwrap();
            let (apart, largest) = (number((&got - &wanted).abs().max()), number(wanted.abs().max()));
            println!("{text}: {apart:.1e} of {largest:.1} apart");
            assert!(largest > 0.1 && apart < 1e-4 * largest, "{text}: {apart:.1e} of {largest:.1} apart");
            let begin = features(&graph, &taken.weights, node, 0);
            assert!(number((&begin - &wanted).abs().max()) > 1e-3 * largest, "{text}: nothing sees the padding");
        }
    }

    #[test]
    fn heads_and_channels_that_differ_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("googlenet.safetensors");
        let mut shapes = googlenet();
        shapes.extend([("aux1.fc1.weight".into(), vec![2, 2]), ("conv1.bn.num_batches_tracked".into(), vec![1])]);
        let flat = save_random(&path, &shapes);
        for (text, channels) in [("i3d-rgb", 3), ("i3d-flow", 2)] {
            let architecture: Architecture = text.parse().unwrap();
            let graph = architecture.graph([channels, 16, 224, 224], 17).unwrap();
            let Taken { weights, description, .. } = inflated(&path, &architecture, &graph).unwrap();
            assert_eq!(weights.len() + 2, graph.parameters().len());
            assert!(description.contains("fresh: head.weight, head.bias"), "{description}");
            assert!(description.contains("not 'fc.weight' of shape [1000, 1024]"), "{description}");
            assert!(!description.contains("no place"), "{description}");
            let spread = description.contains("the 3 channels of 'conv1.conv.weight' made 2");
            assert_eq!(spread, channels == 2, "{description}");
            // Equal values in all channels, at all times, give the same sum.
            let sums = |array: &ArrayD<f32>| array.sum_axis(Axis(1));
            let ours = sums(&weights["1a.conv.weight"]).sum_axis(Axis(1));
            let apart = (&ours - &sums(&flat["conv1.conv.weight"])).iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            assert!(apart < 1e-5, "{text}: {apart}");
        }
    }

    #[test]
    fn what_a_file_has_too_much_or_too_little_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resnet.safetensors");
        let architecture: Architecture = "resnet3d-18(width=4)".parse().unwrap();
        let graph = architecture.graph([1, 16, 112, 112], 5).unwrap();
        save_random(&path, &resnet(4, [2, 2, 2, 1], false));
        let Taken { description, .. } = inflated(&path, &architecture, &graph).unwrap();
        assert!(description.contains("the 3 channels of 'conv1.weight' made 1"), "{description}");
        // Its shortcuts have no parameters.
        assert!(description.contains("15 of its tensors have no place here, such as 'layer2.0.down"), "{description}");
        assert!(description.contains("fresh: stage4.block2.conv1.weight, stage4.block2.conv1.norm.w"), "{description}");
        let other: Architecture = "r2plus1d-edge".parse().unwrap();
        let error = inflated(&path, &other, &other.graph([1, 16, 96, 96], 5).unwrap()).err().unwrap();
        let error = error.downcast::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("resnet.safetensors: none of its weights fits"), "{error}");
    }

    #[test]
    fn numbers_of_two_bytes_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let (mut graph, clip) = Graph::new([1, 2, 1, 1]);
        let conv = Conv::new(1, [2, 1, 1]);
        graph.push("a", Op::Conv(conv), &[clip]).unwrap();
        // 3 in each format.
        for (kind, bytes) in [(Dtype::F16, [0x00, 0x42]), (Dtype::BF16, [0x40, 0x40])] {
            save(&path, &[("a.weight", kind, &[1; 4], &bytes)]);
            let taken = inflated(&path, &Architecture::default(), &graph).unwrap();
            assert_eq!(taken.weights["a.weight"].iter().copied().collect::<Vec<_>>(), [1.5, 1.5], "{kind:?}");
        }
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let architecture: Architecture = "r3d-18(width=1)".parse().unwrap();
        let graph = architecture.graph([1, 16, 32, 32], 5).unwrap();
        let error = || {
            let error = inflated(&path, &architecture, &graph).err().unwrap().downcast::<Error>().unwrap();
            assert_eq!(error.kind(), ErrorKind::Model);
            assert!(error.to_string().contains("x.safetensors"), "{error}");
            error.to_string()
        };
        assert!(error().contains("No such file"), "{}", error());
        let kernel = bytes([0.5; 49]);
        let cases: [(Dtype, &[usize], &[u8], &str); 5] = [
            (Dtype::I64, &[1], &[0; 8], "'conv1.weight' is I64: F32, F16 or BF16 wanted"),
            (Dtype::F32, &[1, 7, 7], &kernel, "'conv1.weight' has the shape [1, 7, 7], 4 axes of at least 1 wanted"),
            (
                Dtype::F32,
                &[1, 1, 1, 7, 7],
                &kernel,
                "at least 1 wanted; weights that have an axis of time are for --init",
            ),
            (Dtype::F32, &[1, 0, 7, 7], &[], "'conv1.weight' has the shape [1, 0, 7, 7]"),
            (Dtype::F32, &[1, 1, 1, 1], &bytes([f32::NAN]), "a value of 'conv1.weight' is not finite"),
        ];
        for (kind, shape, bytes, why) in cases {
            save(&path, &[("conv1.weight", kind, shape, bytes)]);
            assert!(error().contains(why), "{}", error());
        }
        save(&path, &[("conv1.weight", Dtype::F32, &[1, 1, 7, 7], &kernel)]);
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 4, 20, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(error().contains("a state dict as `safetensors.torch.save_file` writes it"), "{}", error());
        }
    }
}
