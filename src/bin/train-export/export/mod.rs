//! Export: a trained net becomes a bundle, and only if the engine computes the same logits as the trainer.

pub mod int8;
mod model;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kinora::engine::{self, Precision};
use kinora::model::graph::{Graph, Weights};
use kinora::model::manifest::{FORMAT, Input, Manifest, Mode, Output, Provenance, Run};
use kinora::model::{Bundle, Golden, bundle, onnx};
use kinora::{Error, ErrorKind, decision};

use self::model::noise;
use crate::data::DataArgs;
use crate::device;
use crate::interpreter::{Net, Pass, to_array};
use crate::options::ModelArgs;
use crate::quantize::Quantized;

pub use self::model::Model;

/// How far the engine's logits may be from the trainer's, relative to the largest.
const TOLERANCE: f32 = 1e-4;
/// Clips that both compute.
const CLIPS: u32 = 4;

/// What to export, and where to.
#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// A run's folder (its best state is taken) or a checkpoint
    #[arg(long, value_name = "RUN|FILE", group = "source", conflicts_with = "ModelArgs", required_unless_present_any = ["bundle", "untrained"])]
    pub checkpoint: Option<PathBuf>,
    /// Instead of a checkpoint: a bundle that is written again, with what other flags change
    #[arg(long, value_name = "DIR", group = "source", conflicts_with = "ModelArgs")]
    pub bundle: Option<PathBuf>,
    /// Instead of a checkpoint: random weights of this seed for --arch, to measure speed with
    #[arg(long, value_name = "SEED", group = "source")]
    pub untrained: Option<u64>,
    /// With --untrained: number of classes
    #[arg(long, value_name = "K", default_value_t = 17, value_parser = 1..=100_000, conflicts_with_all = ["checkpoint", "bundle"])]
    pub classes: i64,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Export the mean of its weights and of those of these runs, checkpoints or bundles, which must have begun with the same
    /// weights: often better than each of them on what none has seen ("model soup": Wortsman et al., 2022)
    #[arg(long, value_name = "PATH,..", value_delimiter = ',', conflicts_with = "untrained")]
    pub mean_with: Vec<PathBuf>,
    /// Frames of a window instead of those that the model was trained with: with fewer, answers come sooner and are less sure
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u16).range(1..), conflicts_with_all = ["untrained", "ModelArgs"])]
    pub window: Option<u16>,
    /// Write model.int8.onnx as well: 8-bit integers, calibrated with clips of --data
    #[arg(long)]
    pub int8: bool,
    /// With --int8: training clips whose values say what 8 bits are to span
    #[arg(long, value_name = "N", requires = "int8", default_value_t = 128, value_parser = count)]
    pub calibration_clips: usize,
    /// With --int8: validation clips by which the best span is chosen
    #[arg(long, value_name = "N", requires = "int8", default_value_t = 256, value_parser = count)]
    pub validation_clips: usize,
    /// Of a recurrent net, also write what sees a whole clip to this folder, unrolled over its frames: model.onnx and, with
    /// --int8, model.int8.onnx, for programs that keep no states
    #[arg(long, value_name = "DIR")]
    pub unrolled: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    /// Folder of the bundle
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Name of the bundle; else its folder's
    #[arg(long)]
    pub name: Option<String>,
    /// Added to what the manifest says of the training data
    #[arg(long)]
    pub note: Option<String>,
    /// SPDX expression of the licence of the weights; else the bundle's, or `MIT OR Apache-2.0`
    #[arg(long)]
    pub licence: Option<String>,
    /// Seconds by which a window's answer is behind what happens, by which reported starts and ends are put back; else the
    /// bundle's, or 0.4
    #[arg(long, value_name = "SECONDS")]
    pub lag: Option<f32>,
    /// Sampled frames from one decision to the next; else the bundle's, or 2
    #[arg(long)]
    pub hop: Option<usize>,
    /// Settings of the decision instead of the bundle's or the usual ones.
    #[arg(skip)]
    pub decision: Option<decision::Settings>,
    /// Whether the span of integers is chosen on training clips, too, of data that holds none out.
    #[arg(skip)]
    pub judge_by_training: bool,
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=100_000).contains(n)).ok_or_else(|| "1 to 100000 wanted".into())
}

/// Writes the bundle that `args` name and returns it.
///
/// # Errors
/// `Model` when the checkpoint is broken, `Engine` when the engine computes something else, `Output` when the bundle
/// cannot be written. A bundle that is there already stays as it is then.
pub fn command(args: &ExportArgs) -> Result<Bundle> {
    let device = device::open(device::Choice::Cpu, 0)?;
    let mut model = match (&args.checkpoint, &args.bundle, args.untrained) {
        (Some(checkpoint), ..) => Model::trained(checkpoint)?,
        (_, Some(bundle), _) => Model::exported(bundle)?,
        (.., Some(seed)) => {
            let architecture = args.model.architecture()?;
            Model::untrained(architecture, args.model.input()?, args.classes as usize, seed)?
        }
        _ => return Err(Error::new(ErrorKind::Usage, "--checkpoint, --bundle or --untrained wanted").into()),
    };
    if !args.mean_with.is_empty() {
        model = model.mean_with(&args.mean_with)?;
    }
    if let Some(frames) = args.window {
        model = model.of_window(frames.into())?;
    }
    let mut net = Net::new(model.graph()?, device, 0)?;
    net.set(&model.weights)?;
    // What a recurrent net remembers shows in half of a window, too, and the clip is the largest file of a small bundle.
    let frames = if net.recurrent() { model.input.frames.div_ceil(2) } else { model.input.frames };
    let seen = Input { frames, ..model.input.clone() };
    let mut golden = (0..CLIPS).map(|number| reference(&net, &seen, number)).collect::<Result<Vec<_>>>()?;
    let mut manifest = manifest(args, &model)?;
    let mut int8 = None;
    if args.int8 {
        let (quantized, says) = int8::quantized(args, &model, net.graph())?;
        // The others are compared in f32 only.
        if let Some(golden) = golden.first_mut() {
            golden.logits_int8 = Some(int8::logits((&quantized.graph, &quantized.weights), golden)?);
        }
        (int8, manifest.quantisation) = (Some(quantized), Some(says));
    }
    let parts = Parts { manifest, model: &model, graph: net.graph(), int8: int8.as_ref(), golden: &golden };
    if let Some(dir) = &args.unrolled {
        unroll(dir, (net.graph(), &model.weights), int8.as_ref(), model.input.frames)?;
    }
    let bundle = parts.write(&args.out)?;
    int8::sizes(&bundle)?;
    Ok(bundle)
}

/// Writes the nets of one frame as those of a clip of so many `frames` to `dir`.
fn unroll(dir: &Path, net: (&Graph, &Weights), int8: Option<&Quantized>, frames: usize) -> Result<()> {
    if net.0.states().is_empty() {
        return Err(
            Error::new(ErrorKind::Usage, "--unrolled: this net is not recurrent, its bundle sees whole clips").into()
        );
    }
    let failed = |why| Error::new(ErrorKind::Output, format_args!("{}: {why}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let nets = [("model.onnx", Some(net)), ("model.int8.onnx", int8.map(|net| (&net.graph, &net.weights)))];
    for (name, (graph, weights)) in nets.into_iter().filter_map(|(name, net)| Some((name, net?))) {
        onnx::write_unrolled(graph, weights, frames, &dir.join(name))?;
    }
    Ok(())
}

struct Parts<'a> {
    manifest: Manifest,
    model: &'a Model,
    graph: &'a Graph,
    int8: Option<&'a Quantized>,
    /// The first goes into the bundle.
    golden: &'a [Golden],
}

impl Parts<'_> {
    /// Writes the bundle beside `dir` first, and to `dir` only when the engine agrees.
    fn write(&self, dir: &Path) -> Result<Bundle> {
        let first = self.golden.first().context("no golden clip")?;
        let (model, manifest) = (self.model, &self.manifest);
        let int8 = self.int8.map(|net| (&net.graph, &net.weights));
        let write = |dir: &Path| {
            let (manifest, labels) = (manifest.clone(), &model.labels[..]);
            let net = (self.graph, &model.weights);
            bundle::write(dir, bundle::Parts { manifest, labels, model: net, int8, golden: first })
        };
        let (bundle, (engine, deviation)) = write_checked(dir, write, |bundle| compare(bundle, self.golden))?;
        log::info!(
            "{}: {}, {} classes, {} clips: the logits of {engine} and the trainer differ by {deviation:.1e} of the largest",
            dir.display(),
            bundle.manifest.architecture,
            bundle.labels.len(),
            self.golden.len()
        );
        Ok(bundle)
    }
}

/// Writes a bundle beside `dir` first, and to `dir` only when `check` agrees.
///
/// # Errors
/// Those of `write` and `check`.
pub fn write_checked<T>(
    dir: &Path,
    write: impl Fn(&Path) -> kinora::Result<Bundle>,
    check: impl FnOnce(&Bundle) -> Result<T>,
) -> Result<(Bundle, T)> {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.check", std::process::id()));
    let draft = dir.with_file_name(name);
    let checked = write(&draft).map_err(Into::into).and_then(|bundle| check(&bundle));
    let _ = std::fs::remove_dir_all(&draft);
    let found = checked?;
    Ok((write(dir)?, found))
}

/// A clip of noise and the trainer's logits for it in f32 on the CPU.
fn reference(net: &Net, input: &Input, number: u32) -> Result<Golden> {
    let clip = noise(input, 0, number)?;
    let logits = tch::no_grad(|| net.answer(&clip, Pass::Evaluate))?;
    let clip = to_array(&clip)?.into_dimensionality()?;
    Ok(Golden { clip, logits_f32: Vec::<f32>::try_from(logits.f_view(-1)?)?, logits_int8: None })
}

/// Runs every clip on the bundle's engine in f32, as windows; in int8, if the bundle has that, and as a stream, if it is to
/// run so, the first. Returns the engine's name and the largest relative deviation.
fn compare(bundle: &Bundle, golden: &[Golden]) -> Result<(&'static str, f32)> {
    let open = |precision, mode| engine::open(bundle, &engine::Options { precision, mode, ..Default::default() });
    // As it will run; then the floats, which are compared below.
    open(None, None)?;
    open(Some(Precision::F32), None)?;
    let engine = open(Some(Precision::F32), Some(Mode::Window))?;
    let mut session = engine.session()?;
    let mut worst = 0f32;
    for (number, golden) in golden.iter().enumerate() {
        let mut logits = vec![0.0; golden.logits_f32.len()];
        session.infer(golden.clip.view(), &mut logits)?;
        let deviation = deviation(&logits, &golden.logits_f32);
        if deviation.is_nan() || deviation > TOLERANCE {
            let name = engine.name();
            let message = format!(
                "not exported: on clip {number} the logits of {name} and the trainer differ by {deviation:.1e} of the \
                 largest, more than {TOLERANCE:.0e}"
            );
            return Err(Error::new(ErrorKind::Engine, message).into());
        }
        worst = worst.max(deviation);
    }
    Ok((engine.name(), worst))
}

/// Largest difference relative to the largest wanted value; not a number when a value is none.
fn deviation(got: &[f32], wanted: &[f32]) -> f32 {
    let largest = wanted.iter().fold(f32::MIN_POSITIVE, |max, x| max.max(x.abs()));
    let differences = got.iter().zip(wanted).map(|(a, b)| (a - b).abs() / largest);
    differences.fold(0.0, |max, x| if x.is_nan() || x > max { x } else { max })
}

/// What a bundle is called: `given`, or as the folder `out`.
///
/// # Errors
/// `Usage` when neither says.
pub fn name(given: Option<&String>, out: &Path) -> Result<String> {
    let folder = || out.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = given.cloned().or_else(folder);
    Ok(name.ok_or_else(|| Error::new(ErrorKind::Usage, "--out: a folder with a name wanted, or --name"))?)
}

fn manifest(args: &ExportArgs, model: &Model) -> Result<Manifest> {
    if args.hop == Some(0) {
        return Err(Error::new(ErrorKind::Usage, "--hop 0: at least 1 wanted").into());
    }
    let name = name(args.name.as_ref(), &args.out)?;
    let note = args.note.as_ref().map_or(String::new(), |note| format!("; {note}"));
    let per_frame = !model.graph()?.states().is_empty();
    let fresh = || Manifest {
        format: FORMAT,
        name: name.clone(),
        architecture: model.architecture.clone(),
        input: model.input.clone(),
        output: Output { activation: model.activation, classes: model.labels.len(), per_frame },
        run: Run { mode: model.mode, hop: 2 },
        decision: {
            let usual = decision::Settings::default();
            decision::Settings { lag_s: 0.4, nothing: model.nothing.clone().unwrap_or(usual.nothing.clone()), ..usual }
        },
        quantisation: None,
        sided: crate::data::sided(&model.labels),
        provenance: Provenance {
            licence: "MIT OR Apache-2.0".into(),
            data: model.data.clone(),
            recipe: model.recipe.clone(),
        },
        measured: vec![],
        sha256: Default::default(),
    };
    let mut manifest = model.manifest.clone().unwrap_or_else(fresh);
    (manifest.name, manifest.quantisation) = (name, None);
    manifest.run.hop = args.hop.unwrap_or(manifest.run.hop);
    if let Some(decision) = &args.decision {
        manifest.decision = decision.clone();
    }
    manifest.decision.lag_s = args.lag.unwrap_or(manifest.decision.lag_s);
    manifest.provenance.data += &note;
    if let Some(licence) = &args.licence {
        manifest.provenance.licence = licence.clone();
    }
    Ok(manifest)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::checkpoint::{Checkpoint, LAST, tests::info};
    use kinora::model::manifest::{Colour, Measured};
    use std::collections::BTreeMap;
    use tch::Device;

    fn run(labels: &[&str], dir: &Path) -> Weights {
        let info = info(labels);
        let net = Net::new(info.graph().unwrap(), Device::Cpu, 3).unwrap();
        let weights = net.weights().unwrap();
        let checkpoint = Checkpoint::new(info, weights.clone(), weights.clone(), &BTreeMap::new()).unwrap();
        checkpoint.save(&dir.join(LAST)).unwrap();
        weights
    }

    fn parse(line: &str, out: &Path) -> Result<ExportArgs, clap::Error> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: ExportArgs,
        }
        let words = ["export", "--out", out.to_str().unwrap()].into_iter().chain(line.split_whitespace());
        Ok(<Line as clap::Parser>::try_parse_from(words)?.args)
    }

    fn args(run: &Path, out: &Path) -> ExportArgs {
        let checkpoint = Some(run.to_owned());
        ExportArgs { checkpoint, untrained: None, ..parse("--untrained 1 --note test --licence MIT", out).unwrap() }
    }

    pub fn manifest_of(checkpoint: &Checkpoint) -> Manifest {
        let dir = tempfile::tempdir().unwrap();
        checkpoint.save(&dir.path().join(LAST)).unwrap();
        let (args, model) = (args(dir.path(), &dir.path().join("x")), Model::trained(dir.path()).unwrap());
        manifest(&args, &model).unwrap()
    }

    pub fn golden_of(input: &Input, (graph, weights): (&Graph, &Weights)) -> Golden {
        let mut net = Net::new(graph.clone(), Device::Cpu, 0).unwrap();
        net.set(weights).unwrap();
        reference(&net, input, 0).unwrap()
    }

    #[test]
    fn a_bundle_runs_and_gives_its_weights_back() {
        let dir = tempfile::tempdir().unwrap();
        let weights = run(&["swipe_left", "swipe_right", "nothing"], dir.path());
        let out = dir.path().join("models");
        let bundle = command(&args(dir.path(), &out)).unwrap();
        assert_eq!(bundle.manifest.name, "models");
        assert_eq!(bundle.manifest.sided, [["swipe_left".to_owned(), "swipe_right".to_owned()]]);
        assert!(bundle.manifest.provenance.data.ends_with("; test"));
        let again = Bundle::load(&out).unwrap();
        engine::open(&again, &engine::Options::default()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no draft stays");
        let labels: Vec<String> = ["swipe_left", "swipe_right", "nothing"].map(String::from).to_vec();
        let graph = info(&["a", "b", "c"]).graph().unwrap();
        let fresh = |classes| {
            Net::new(info(&["x", "y", "z"][..classes]).graph().unwrap(), Device::Cpu, 5).unwrap().weights().unwrap()
        };
        let taken = crate::init::weights(&out, &labels, &graph, &fresh(3)).unwrap();
        assert_eq!(taken.weights, weights);
        // Of two classes, one is known by name, at another place.
        let (two, labels) = (info(&["x", "y"]).graph().unwrap(), ["hop", "swipe_right"].map(String::from));
        let taken = crate::init::weights(&out, &labels, &two, &fresh(2)).unwrap();
        for name in ["head.weight", "head.bias"] {
            let row = |weights: &Weights, row| weights[name].index_axis(ndarray::Axis(0), row).to_owned();
            assert_eq!(row(&taken.weights, 0), row(&fresh(2), 0), "{name}");
            assert_eq!(row(&taken.weights, 1), row(&weights, 1), "{name}");
        }
        let one = info(&["x"]).graph().unwrap();
        let taken = crate::init::weights(dir.path(), &["x".into()], &one, &fresh(1)).unwrap();
        assert_eq!(taken.weights.len() + 2, weights.len(), "all but the head");
        assert!(taken.description.contains("fresh: head.weight, head.bias"), "{}", taken.description);
    }

    #[test]
    fn other_logits_are_refused_and_the_old_bundle_stays() {
        let dir = tempfile::tempdir().unwrap();
        let weights = run(&["a", "b"], dir.path());
        let out = dir.path().join("models");
        let args = args(dir.path(), &out);
        command(&args).unwrap();
        let before = std::fs::read(out.join("manifest.toml")).unwrap();
        let model = Model::trained(dir.path()).unwrap();
        let mut net = Net::new(model.graph().unwrap(), Device::Cpu, 3).unwrap();
        net.set(&weights).unwrap();
        let mut golden: Vec<Golden> = [0, 1].map(|n| reference(&net, &model.input, n).unwrap()).into();
        golden[1].logits_f32[0] *= 1.01;
        golden[1].logits_f32[1] *= 1.01;
        let manifest = manifest(&args, &model).unwrap();
        let parts = Parts { manifest, model: &model, graph: net.graph(), int8: None, golden: &golden };
        let error = parts.write(&out).unwrap_err().downcast::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::Engine);
        assert!(error.to_string().contains("clip 1"), "{error}");
        assert_eq!(std::fs::read(out.join("manifest.toml")).unwrap(), before);
    }

    #[test]
    fn an_untrained_bundle_says_so_and_keeps_its_scale() {
        let dir = tempfile::tempdir().unwrap();
        let deep = "stage4.block1.norm1";
        let nets = [
            ("r2plus1d-edge(width=4)", deep),
            ("r2plus1d-18(width=4,causal=true)", deep),
            ("r3d-18(width=4)", deep),
            ("resnet3d-34(width=4)", "stage4.block1.conv1.norm"),
            ("r2plus1d-tutorial(width=4)", "stem.norm"),
            ("convlstm-edge(width=4)", "block.norm2"),
        ];
        for (arch, deepest) in nets {
            let out = dir.path().join("speed");
            let line = format!("--untrained 5 --arch {arch} --classes 9 --frames 4 --size 32 --colour rgb");
            let args = parse(&line, &out).unwrap();
            let bundle = command(&args).unwrap();
            assert_eq!((bundle.labels.len(), bundle.labels[8].as_str()), (9, "class_8"));
            let Provenance { data, .. } = &bundle.manifest.provenance;
            assert!(data.contains("UNTRAINED") && data.contains("seed 5") && data.contains("not for use"), "{data}");
            let model = onnx::read_weights(&bundle.onnx()).unwrap();
            assert_eq!(command(&args).map(|b| onnx::read_weights(&b.onnx()).unwrap()).unwrap(), model);
            let variance = &model[&format!("{deepest}.running_var")];
            assert!(variance.iter().all(|v| (1e-3..1e3).contains(v) && *v != 1.0), "{variance:?}");
            let golden = bundle.golden().unwrap().logits_f32;
            assert!(golden.iter().all(|x| x.abs() < 20.0) && golden.iter().any(|x| x.abs() > 0.05), "{golden:?}");
        }
    }

    /// What was tuned and measured stays, and the model comes out of the bundle as it went in.
    #[test]
    fn a_bundle_is_quantised_and_keeps_what_is_known_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let line = "--untrained 3 --arch r2plus1d-edge(width=2) --classes 3 --frames 4 --size 16 --colour gray --int8";
        let fresh = command(&parse(&format!("{line} --hop 5 --lag 0.25"), &first).unwrap()).unwrap();
        let quantisation = fresh.manifest.quantisation.clone().unwrap();
        assert!(quantisation.calibration.contains("4 clips of noise"), "{quantisation:?}");
        let graph = onnx::read_graph(&fresh.onnx_int8().unwrap()).unwrap().0;
        assert!(graph.nodes().iter().any(|node| matches!(node.op, kinora::model::graph::Op::Quantize(_))));
        let from = |flags: &str| parse(&format!("--bundle {} {flags}", first.display()), &second).unwrap();
        let again = command(&from("--note more")).unwrap();
        assert!(again.onnx_int8().is_none() && again.manifest.quantisation.is_none());
        assert_eq!((again.manifest.run.hop, again.manifest.decision.lag_s), (5, 0.25));
        assert!(again.manifest.provenance.data.ends_with("; more"));
        assert_eq!(again.manifest.sha256["model.onnx"], fresh.manifest.sha256["model.onnx"]);
        // Its labels mean nothing, so no data fit.
        let error = command(&from("--int8")).unwrap_err().to_string();
        assert!(error.contains("--data: its label") && error.contains("none of the model's"), "{error}");
    }

    /// A mean over other frames: the same weights, of which nothing is measured yet.
    #[test]
    fn a_window_may_have_other_frames() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
        let line = "--untrained 3 --arch r2plus1d-edge(width=2) --classes 3 --frames 4 --size 16 --colour gray";
        let bundle = command(&parse(line, &first).unwrap()).unwrap();
        let measured = vec![Measured { figure: "top-1".into(), value: 0.5, on: "4 clips".into() }];
        let manifest = Manifest { measured, ..bundle.manifest.clone() };
        std::fs::write(first.join("manifest.toml"), manifest.to_toml().unwrap()).unwrap();
        let from =
            |bundle: &Path, flags: &str| parse(&format!("--bundle {} {flags}", bundle.display()), &second).unwrap();
        assert_eq!(command(&from(&first, "--window 4")).unwrap().manifest.measured.len(), 1);
        let shorter = command(&from(&first, "--window 3")).unwrap();
        assert_eq!((shorter.manifest.input.frames, shorter.manifest.measured.len()), (3, 0));
        assert_eq!(shorter.golden().unwrap().clip.shape()[2], 3);
        let weights = |bundle: &Bundle| onnx::read_weights(&bundle.onnx()).unwrap();
        assert_eq!(weights(&shorter), weights(&bundle));
        let line = "--untrained 3 --arch convlstm-edge(width=4) --classes 3 --frames 4 --size 32";
        let recurrent = dir.path().join("recurrent");
        command(&parse(line, &recurrent).unwrap()).unwrap();
        let error = command(&from(&recurrent, "--window 3")).unwrap_err();
        assert!(format!("{error:#}").contains("--window 3: a recurrent net"), "{error:#}");
    }

    /// The mean of a run and a bundle, and of a bundle and a run; not of nets that say other things.
    #[test]
    fn weights_of_several_are_averaged() {
        let dir = tempfile::tempdir().unwrap();
        let [run_dir, first, mean] = ["run", "first", "mean"].map(|name| dir.path().join(name));
        std::fs::create_dir(&run_dir).unwrap();
        let labels = ["a", "b"];
        let one = run(&labels, &run_dir);
        let twice: Weights = one.iter().map(|(name, array)| (name.clone(), array * 2.0)).collect();
        let path = dir.path().join("twice.safetensors");
        Checkpoint::new(info(&labels), twice.clone(), twice, &BTreeMap::new()).unwrap().save(&path).unwrap();
        command(&parse(&format!("--checkpoint {}", path.display()), &first).unwrap()).unwrap();
        let [bundle, of_run] =
            [("bundle", &first, &run_dir), ("checkpoint", &run_dir, &first)].map(|(flag, from, with)| {
                let line = format!("--{flag} {} --mean-with {},{}", from.display(), with.display(), run_dir.display());
                command(&parse(&line, &mean).unwrap()).unwrap()
            });
        let data = &bundle.manifest.provenance.data;
        assert!(data.starts_with("mean of 3 models' weights: squares (28 clips seen in 7 steps); and: "), "{data}");
        assert!(
            bundle.manifest.provenance.recipe.starts_with("train-export train && "),
            "{:?}",
            bundle.manifest.provenance
        );
        for bundle in [bundle, of_run] {
            let weights = onnx::read_weights(&bundle.onnx()).unwrap();
            for (name, array) in &weights {
                let far = (array - &one[name] * (4.0 / 3.0)).iter().fold(0f32, |far, x| far.max(x.abs()));
                assert!(far < 1e-5, "{name}: {far}");
            }
        }
        let line = "--untrained 3 --arch r2plus1d-edge(width=4) --classes 2 --frames 4 --size 16 --colour gray";
        let other = dir.path().join("other");
        command(&parse(line, &other).unwrap()).unwrap();
        let line = format!("--bundle {} --mean-with {}", first.display(), other.display());
        let error = command(&parse(&line, &mean).unwrap()).unwrap_err().to_string();
        assert!(error.contains(&format!("--mean-with {}: of another", other.display())), "{error}");
    }

    /// Branches, max pools and padding that differs between the ends of an axis, in floats and in integers on both engines.
    #[test]
    fn an_inception_net_runs_on_both_engines() {
        for stream in ["rgb", "flow"] {
            let dir = tempfile::tempdir().unwrap();
            let line = format!("--untrained 3 --arch i3d-{stream}(width=2) --classes 3 --frames 9 --int8");
            let bundle = command(&parse(&line, &dir.path().join("bundle")).unwrap()).unwrap();
            let Input { colour, height, width, .. } = bundle.manifest.input;
            assert_eq!((colour, height, width), (if stream == "rgb" { Colour::Rgb } else { Colour::Flow }, 224, 224));
            for precision in [Precision::F32, Precision::Int8] {
                for engine in [engine::Choice::Native, engine::Choice::Tract] {
                    let options = engine::Options { engine, precision: Some(precision), ..Default::default() };
                    engine::open(&bundle, &options).unwrap();
                }
            }
        }
    }

    /// Both engines, frame by frame and as a window, in floats and in integers; each is verified when it is opened.
    #[test]
    fn recurrent_bundles_run_on_both_engines() {
        let nets = [
            "convlstm-edge(width=2)",
            "convlstm-trailer(width=4)",
            "convlstm-trailer(width=4,gates=hard3,norm=columns)",
            "lstm-trailer(width=4,gates=sigmoid)",
        ];
        for arch in nets {
            let dir = tempfile::tempdir().unwrap();
            let line = format!("--untrained 3 --arch {arch} --classes 3 --frames 5 --size 24 --int8");
            let bundle = command(&parse(&line, &dir.path().join("bundle")).unwrap()).unwrap();
            assert!(bundle.manifest.output.per_frame && bundle.onnx().ends_with("model.step.onnx"), "{arch}");
            for precision in [Precision::F32, Precision::Int8] {
                // Dense layers in a row of an untrained net make more of tract's other rounding than is let pass.
                let native = arch.starts_with("convlstm-trailer") && precision == Precision::Int8;
                let engines = if native { &BOTH[..1] } else { &BOTH };
                let answers = answers(&bundle, precision, engines);
                // Window and stream are the same to the last bit.
                let same = answers.chunks(4).all(|same| same.iter().all(|logits| *logits == same[0]));
                assert!(same, "{arch}: {answers:?}");
            }
        }
    }

    const BOTH: [engine::Choice; 2] = [engine::Choice::Native, engine::Choice::Tract];

    /// What each engine and mode answers to the golden clip, twice.
    fn answers(bundle: &Bundle, precision: Precision, engines: &[engine::Choice]) -> Vec<Vec<f32>> {
        let clip = bundle.golden().unwrap().clip;
        let mut answers = vec![];
        for engine in engines {
            for mode in [Mode::Window, Mode::Stream] {
                let (engine, precision, mode) = (*engine, Some(precision), Some(mode));
                let options = engine::Options { engine, precision, mode, ..Default::default() };
                let opened = engine::open(bundle, &options).unwrap();
                assert_eq!(Some(opened.mode()), mode);
                let (mut session, mut logits) = (opened.session().unwrap(), vec![0.0; 3]);
                // What was before a reset is forgotten.
                for _ in 0..2 {
                    match opened.mode() {
                        Mode::Window => session.infer(clip.view(), &mut logits).unwrap(),
                        Mode::Stream => {
                            session.reset();
                            for frame in clip.axis_iter(ndarray::Axis(2)) {
                                let plane: Vec<f32> = frame.iter().copied().collect();
                                assert!(session.push(&plane, &mut logits).unwrap());
                            }
                        }
                    }
                    answers.push(logits.clone());
                }
            }
        }
        answers
    }

    #[test]
    fn flags_that_contradict_one_another_are_refused() {
        let refused = |line: &str| parse(line, Path::new("x")).unwrap_err().to_string();
        assert!(refused("").contains("--checkpoint"));
        assert!(refused("--checkpoint a --untrained 1").contains("cannot be used with"));
        assert!(refused("--checkpoint a --arch r3d-18").contains("cannot be used with"));
        assert!(refused("--checkpoint a --classes 3").contains("cannot be used with"));
        assert!(refused("--bundle a --size 64").contains("cannot be used with"));
        assert!(refused("--untrained 1 --calibration-clips 5").contains("--int8"));
        assert!(refused("--untrained 1 --classes 0").contains("0 is not in 1..=100000"));
    }

    #[test]
    fn deviation_is_relative_to_the_largest() {
        assert_eq!(deviation(&[1.0, -4.0], &[1.5, -4.0]), 0.125);
        assert!(deviation(&[f32::NAN, 1.0], &[1.0, 1.0]).is_nan());
    }
}
