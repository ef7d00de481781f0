//! Two models as one: a stream that sees pictures and one that sees their optical flow, whose logits are added (Simonyan and
//! Zisserman, Two-Stream Convolutional Networks, 2014; Carreira and Zisserman, Quo Vadis, Action Recognition?, 2017). The two
//! nets become one graph, each of whose halves reads its own channels: what runs one net runs the two.

use std::path::PathBuf;

use anyhow::Result;
use kinora::engine::{self, Precision};
use kinora::model::bundle::{self, Bundle};
use kinora::model::graph::{Binary, Graph, OUTPUT, Op, Slice, Value, Weights};
use kinora::model::manifest::{Colour, Input, Manifest, Mode, Provenance, Quantisation};
use kinora::model::{Golden, onnx};
use ndarray::{ArrayD, Axis, IxDyn};

use crate::data::usage;
use crate::export;
use crate::options::numbers;

/// What to join.
#[derive(Debug, Clone, clap::Args)]
pub struct JoinArgs {
    /// Bundle of the stream that sees pictures, such as one of i3d-rgb
    #[arg(long, value_name = "DIR")]
    pub rgb: PathBuf,
    /// Bundle of the stream that sees optical flow, such as one of i3d-flow
    #[arg(long, value_name = "DIR")]
    pub flow: PathBuf,
    /// What each stream's logits are multiplied by before they are added
    #[arg(long, value_name = "RGB,FLOW", default_value = "1,1", value_parser = numbers::<f32, 2>)]
    pub weights: [f32; 2],
    /// Folder of the bundle to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Its name; else that of the folder
    #[arg(long)]
    pub name: Option<String>,
}

/// One of the two.
struct Stream {
    name: &'static str,
    weight: f32,
    bundle: Bundle,
}

/// Writes the joint bundle, once an engine computes of it what was computed of the two.
pub fn command(args: &JoinArgs) -> Result<Bundle> {
    let stream = |name, dir, weight| -> Result<Stream> { Ok(Stream { name, weight, bundle: Bundle::load(dir)? }) };
    let [rgb, flow] = args.weights;
    if !(rgb.is_finite() && flow.is_finite() && rgb != 0.0 && flow != 0.0) {
        return Err(usage(format_args!("--weights {rgb},{flow}: two numbers other than zero wanted")).into());
    }
    let streams = [stream("rgb", &args.rgb, rgb)?, stream("flow", &args.flow, flow)?];
    fits(&streams)?;
    let name = export::name(args.name.as_ref(), &args.out)?;
    let read = |[rgb, flow]: [PathBuf; 2]| join(&streams, [onnx::read_graph(&rgb)?, onnx::read_graph(&flow)?]);
    let (graph, weights) = read(streams.each_ref().map(|stream| stream.bundle.onnx()))?;
    let int8 = match streams.each_ref().map(|stream| stream.bundle.onnx_int8()) {
        [Some(rgb), Some(flow)] => Some(read([rgb, flow])?),
        _ => None,
    };
    if int8.is_none() && streams.iter().any(|stream| stream.bundle.onnx_int8().is_some()) {
        log::warn!("only one of the two has an int8 model: the joint bundle has none");
    }
    let golden = golden(&streams, int8.is_some())?;
    let manifest = manifest(&streams, name, int8.is_some());
    let write = |dir: &std::path::Path| {
        let (model, int8) = ((&graph, &weights), int8.as_ref().map(|(graph, weights)| (graph, weights)));
        let labels = &streams[0].bundle.labels[..];
        bundle::write(dir, bundle::Parts { manifest: manifest.clone(), labels, model, int8, golden: &golden })
    };
    let check = |bundle: &Bundle| -> Result<()> {
        let precisions = [Some(Precision::F32), int8.as_ref().map(|_| Precision::Int8)];
        precisions.into_iter().flatten().try_for_each(|precision| opens_as_the_two(bundle, &streams, precision))
    };
    let (bundle, ()) = export::write_checked(&args.out, write, check)?;
    log::info!("{}: {}, {} classes", args.out.display(), bundle.manifest.architecture, bundle.labels.len());
    Ok(bundle)
}

/// Refuses a joint bundle that does not run as both of its streams do: on the same engine, in the same mode.
fn opens_as_the_two(joint: &Bundle, streams: &[Stream; 2], precision: Precision) -> Result<()> {
    let how = |bundle: &Bundle| -> Result<(&'static str, Mode)> {
        let engine = engine::open(bundle, &engine::Options { precision: Some(precision), ..Default::default() })?;
        Ok((engine.name(), engine.mode()))
    };
    let (engine, mode) = how(joint)?;
    for stream in streams {
        let (own, alone) = how(&stream.bundle)?;
        if (own, alone) != (engine, mode) {
            let (mode, alone, name) = (mode.name(), alone.name(), precision.name());
            let why = format_args!(
                "it runs on {own} (mode {alone}, {name}), both together on {engine} (mode {mode}) only: streams want two nets \
                 of the same temporal stride"
            );
            return refuse(stream, why);
        }
    }
    Ok(())
}

fn refuse<T>(stream: &Stream, why: impl std::fmt::Display) -> Result<T> {
    Err(usage(format_args!("--{} {}: {why}", stream.name, stream.bundle.dir.display())).into())
}

/// Refuses bundles that do not see the same moments or do not say the same things.
fn fits([rgb, flow]: &[Stream; 2]) -> Result<()> {
    let (a, b) = (&rgb.bundle.manifest, &flow.bundle.manifest);
    for (stream, wanted, colour) in [(rgb, Colour::Rgb, a.input.colour), (flow, Colour::Flow, b.input.colour)] {
        if colour != wanted {
            return refuse(stream, format_args!("a model that sees {wanted:?} wanted, this sees {colour:?}"));
        }
    }
    let said = |bundle: &Bundle| {
        let Manifest { input, output, run, .. } = &bundle.manifest;
        [
            ("frames", input.frames.to_string()),
            ("size", format!("{}x{}", input.width, input.height)),
            ("frame rate", input.frame_rate.to_string()),
            ("resize rule", format!("{:?}", input.resize)),
            ("labels", bundle.labels.join(", ")),
            ("activation", format!("{:?}", output.activation)),
            ("recurrent", output.per_frame.to_string()),
            ("mode", run.mode.name().to_owned()),
        ]
    };
    let mut pairs = said(&rgb.bundle).into_iter().zip(said(&flow.bundle));
    match pairs.find(|((_, one), (_, two))| one != two) {
        Some(((what, one), (_, two))) => {
            let other = rgb.bundle.dir.display();
            refuse(flow, format_args!("{what}: {two}, but {one} in {other}: export both for the same"))
        }
        None => Ok(()),
    }
}

/// The graph whose halves are those of the streams.
fn join(streams: &[Stream; 2], graphs: [(Graph, Weights); 2]) -> Result<(Graph, Weights)> {
    let shapes = graphs.each_ref().map(|(graph, _)| graph.input_shape().to_vec());
    let (mut joint, clip) = Graph::new([shapes[0][1] + shapes[1][1], shapes[0][2], shapes[0][3], shapes[0][4]]);
    let (mut weights, mut logits, mut outputs, mut start) = (Weights::new(), vec![], vec![], 0);
    for (stream, (graph, given)) in streams.iter().zip(graphs) {
        let name = |of: &str| format!("{}.{of}", stream.name);
        let length = graph.input_shape()[1];
        let part = joint.push(name("clip"), Op::Slice(Slice { axis: 1, start, length, step: 1 }), &[clip])?;
        start += length;
        let mut made: Vec<Value> = vec![part];
        for node in &graph.nodes()[1..] {
            let inputs: Vec<Value> = node.inputs.iter().map(|input| made[input.index()]).collect();
            made.push(match node.op {
                Op::Input => joint.input(name(&node.name), node.element, &node.shape)?,
                _ => joint.push(name(&node.name), node.op.clone(), &inputs)?,
            });
        }
        weights.extend(given.into_iter().map(|(parameter, values)| (name(&parameter), values)));
        for (output, value) in graph.outputs() {
            match output.as_str() {
                OUTPUT => logits.push(scaled(&mut joint, &mut weights, stream, made[value.index()])?),
                state => outputs.push((name(state), made[value.index()])),
            }
        }
    }
    let sum = joint.push("sum", Op::Binary(Binary::Add), &logits)?;
    outputs.insert(0, (OUTPUT.into(), sum));
    joint.set_outputs(outputs)?;
    joint.check(&weights)?;
    Ok((joint, weights))
}

/// The logits times the stream's weight: a batch norm that does nothing else.
fn scaled(joint: &mut Graph, weights: &mut Weights, stream: &Stream, logits: Value) -> Result<Value> {
    if stream.weight == 1.0 {
        return Ok(logits);
    }
    let (name, classes) = (format!("{}.weighted", stream.name), joint.node(logits).shape[1]);
    let values = [("weight", stream.weight), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)];
    for (suffix, value) in values {
        weights.insert(format!("{name}.{suffix}"), ArrayD::from_elem(IxDyn(&[classes]), value));
    }
    Ok(joint.push(name, Op::BatchNorm { eps: 0.0 }, &[logits])?)
}

/// The two clips as one, and the sum of what is computed of them.
fn golden(streams: &[Stream; 2], int8: bool) -> Result<Golden> {
    let [rgb, flow] = [streams[0].bundle.golden()?, streams[1].bundle.golden()?];
    let [one, two] = [rgb.clip.len_of(Axis(2)), flow.clip.len_of(Axis(2))];
    if one != two {
        return refuse(
            &streams[1],
            format_args!("a golden clip of {two} frames, the other's has {one}: export both again"),
        );
    }
    let clip = ndarray::concatenate(Axis(1), &[rgb.clip.view(), flow.clip.view()])?;
    let add = |a: &[f32], b: &[f32]| -> Vec<f32> {
        a.iter().zip(b).map(|(a, b)| a * streams[0].weight + b * streams[1].weight).collect()
    };
    let integers = rgb.logits_int8.as_ref().zip(flow.logits_int8.as_ref()).filter(|_| int8);
    Ok(Golden {
        clip,
        logits_f32: add(&rgb.logits_f32, &flow.logits_f32),
        logits_int8: integers.map(|(a, b)| add(a, b)),
    })
}

fn manifest([rgb, flow]: &[Stream; 2], name: String, int8: bool) -> Manifest {
    let (a, b) = (&rgb.bundle.manifest, &flow.bundle.manifest);
    let each = |a: &str, b: &str| format!("{}: {a}; {}: {b}", rgb.name, flow.name);
    let both = |a: &str, b: &str| if a == b { a.to_owned() } else { each(a, b) };
    let chain = |a: &[f32], b: &[f32]| a.iter().chain(b).copied().collect();
    let licence = match (a.provenance.licence.as_str(), b.provenance.licence.as_str()) {
        (a, b) if a == b => a.to_owned(),
        (a, b) => format!("({a}) AND ({b})"),
    };
    let said = |manifest: &Manifest| manifest.quantisation.clone();
    let quantisation = said(a).zip(said(b)).filter(|_| int8).map(|(a, b)| Quantisation {
        ranges: each(&a.ranges, &b.ranges),
        calibration: each(&a.calibration, &b.calibration),
    });
    Manifest {
        name,
        architecture: format!(
            "two streams: {} * {} + {} * {}",
            rgb.weight, a.architecture, flow.weight, b.architecture
        ),
        input: Input {
            colour: Colour::RgbFlow,
            mean: chain(&a.input.mean, &b.input.mean),
            std: chain(&a.input.std, &b.input.std),
            ..a.input.clone()
        },
        provenance: Provenance {
            licence,
            data: both(&a.provenance.data, &b.provenance.data),
            recipe: format!("{}; {}", both(&a.provenance.recipe, &b.provenance.recipe), crate::recipe()),
        },
        quantisation,
        measured: vec![],
        sha256: Default::default(),
        ..a.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::path::Path;

    use super::*;
    use clap::Parser;
    use kinora::engine::Choice;

    fn exported(dir: &Path, arch: &str, flags: &str) -> PathBuf {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            export: export::ExportArgs,
        }
        let out = dir.join(format!("{}{}", dir.read_dir().unwrap().count(), flags.len()));
        let line = format!("export --untrained 3 --classes 3 --arch {arch} {flags} --out {}", out.display());
        export::command(&Line::parse_from(line.split_whitespace()).export).unwrap();
        out
    }

    fn joined(rgb: &Path, flow: &Path, weights: [f32; 2]) -> Result<Bundle> {
        let out = rgb.with_file_name("joint");
        command(&JoinArgs { rgb: rgb.into(), flow: flow.into(), weights, out, name: None })
    }

    /// Windows of Inception nets, causal nets' streams and recurrent nets, in floats and in integers.
    #[test]
    fn the_joint_logits_are_the_sum_on_both_engines() {
        for (nets, flags, weights, modes) in [
            (["i3d-rgb(width=2)", "i3d-flow(width=2)"], "--frames 9", [1.0, 1.0], &[Mode::Window][..]),
            (["r2plus1d-edge(width=4,depth=1)"; 2], "--frames 4 --size 24", [0.75, 1.5], &[Mode::Window, Mode::Stream]),
            (["convlstm-edge(width=2)"; 2], "--frames 4 --size 24", [1.0, -2.0], &[Mode::Window, Mode::Stream]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let of =
                |n: usize, colour: &str| exported(dir.path(), nets[n], &format!("{flags} --colour {colour} --int8"));
            let (rgb, flow) = (of(0, "rgb"), of(1, "flow"));
            let bundle = joined(&rgb, &flow, weights).unwrap();
            assert_eq!((bundle.manifest.input.colour, bundle.manifest.input.mean.len()), (Colour::RgbFlow, 5));
            for (engine, precision) in
                [(Choice::Native, Precision::F32), (Choice::Native, Precision::Int8), (Choice::Tract, Precision::F32)]
            {
                for mode in modes.iter().filter(|mode| engine == Choice::Native || **mode == Mode::Window) {
                    let (mode, precision) = (Some(*mode), Some(precision));
                    let opened =
                        engine::open(&bundle, &engine::Options { engine, precision, mode, ..Default::default() });
                    opened.unwrap_or_else(|why| panic!("{nets:?}: {why}"));
                }
            }
            if modes.contains(&Mode::Stream) {
                let parts = [rgb, flow].map(|dir| Bundle::load(&dir).unwrap());
                for precision in [Precision::F32, Precision::Int8] {
                    streams_add_up(&bundle, &parts, weights, precision);
                }
            }
        }
    }

    /// At every frame the logits of the joint stream are the sum of those of the two: integers to the last bit.
    fn streams_add_up(joint: &Bundle, parts: &[Bundle; 2], weights: [f32; 2], precision: Precision) {
        let open = |bundle: &Bundle| {
            let (precision, mode) = (Some(precision), Some(Mode::Stream));
            engine::open(bundle, &engine::Options { engine: Choice::Native, precision, mode, ..Default::default() })
                .unwrap()
                .session()
                .unwrap()
        };
        let (mut whole, mut halves) = (open(joint), parts.each_ref().map(open));
        let (mut logits, mut added, mut rng) = ([0.0; 3], [[0.0; 3]; 2], fastrand::Rng::with_seed(5));
        let input = &joint.manifest.input;
        for frame in 0..11 {
            let plane: Vec<f32> = (0..5 * input.height * input.width).map(|_| rng.f32() - 0.5).collect();
            let (rgb, flow) = plane.split_at(3 * input.height * input.width);
            let emitted = whole.push(&plane, &mut logits).unwrap();
            assert_eq!(emitted, halves[0].push(rgb, &mut added[0]).unwrap(), "{frame}");
            assert_eq!(emitted, halves[1].push(flow, &mut added[1]).unwrap(), "{frame}");
            for (class, got) in logits.iter().enumerate() {
                let wanted = added[0][class] * weights[0] + added[1][class] * weights[1];
                let allowed = if precision == Precision::Int8 { 0.0 } else { 1e-5 * wanted.abs().max(1.0) };
                assert!((got - wanted).abs() <= allowed, "{frame}: {logits:?} of {added:?}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let of = |flags: &str| exported(dir.path(), "r2plus1d-edge(width=2,depth=1)", flags);
        let rgb = of("--frames 4 --size 16 --colour rgb");
        let refused = |flow: &Path, weights: [f32; 2]| joined(&rgb, flow, weights).unwrap_err().to_string();
        let flow = of("--frames 4 --size 16 --colour flow");
        assert!(refused(&rgb, [1.0, 1.0]).contains("a model that sees Flow wanted, this sees Rgb"));
        assert!(refused(&of("--frames 5 --size 16 --colour flow"), [1.0; 2]).contains("frames: 5, but 4 in "));
        let strided = |colour: &str, stride: &str, dir: &Path| {
            let arch = format!("r2plus1d-18(width=2,causal=true,temporal_stride={stride})");
            let flags = format!("--frames 8 --size 16 --colour {colour}");
            let out = exported(dir, &arch, &flags);
            let path = out.join("manifest.toml");
            let text = std::fs::read_to_string(&path).unwrap().replace("mode = \"window\"", "mode = \"stream\"");
            std::fs::write(&path, text).unwrap();
            out
        };
        let (one, two) = (strided("rgb", "true", dir.path()), strided("flow", "false", dir.path()));
        let error = joined(&one, &two, [1.0; 2]).unwrap_err().to_string();
        assert!(error.contains("mode stream") && error.contains("temporal stride"), "{error}");
        assert!(refused(&flow, [1.0, 0.0]).contains("other than zero"));
        assert!(joined(&rgb, &flow, [1.0, 1.0]).unwrap().onnx_int8().is_none());
    }
}
