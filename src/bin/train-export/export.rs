//! Export: a trained net becomes a bundle, and only if the engine computes the same logits as the trainer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kinora::model::bundle::{self, Parts};
use kinora::model::graph::{Graph, Weights};
use kinora::model::manifest::{Activation, FORMAT, Manifest, Mode, Output, Provenance, Run};
use kinora::model::{Bundle, Golden};
use kinora::{Error, ErrorKind, decision, engine};
use ndarray::Array5;
use tch::{Device, Kind, Tensor};

use crate::checkpoint::{Checkpoint, Info};
use crate::interpreter::{Net, Pass};

/// How far the engine's logits may be from the trainer's, relative to the largest.
const TOLERANCE: f32 = 1e-4;
/// Clips that both compute.
const CLIPS: u64 = 4;

/// What to export, and where to.
#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// A run's folder (its best state is taken) or a checkpoint
    #[arg(long, value_name = "RUN|FILE")]
    pub checkpoint: PathBuf,
    /// Folder of the bundle
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Name of the bundle; else its folder's
    #[arg(long)]
    pub name: Option<String>,
    /// Added to what the manifest says of the training data
    #[arg(long)]
    pub note: Option<String>,
    /// SPDX expression of the licence of the weights
    #[arg(long, default_value = "MIT OR Apache-2.0")]
    pub licence: String,
    /// Seconds by which a window's answer is behind what happens; reported starts and ends are put back by it
    #[arg(long, value_name = "SECONDS", default_value_t = 0.4)]
    pub lag: f32,
    /// Sampled frames from one decision to the next
    #[arg(long, default_value_t = 2)]
    pub hop: usize,
}

/// Writes the bundle that `args` name and returns it.
///
/// # Errors
/// `Model` when the checkpoint is broken, `Engine` when the engine computes something else, `Output` when the bundle
/// cannot be written. A bundle that is there already stays as it is then.
pub fn command(args: &ExportArgs) -> Result<Bundle> {
    let checkpoint = Checkpoint::load(&args.checkpoint)?;
    let info = &checkpoint.info;
    let weights = checkpoint.average();
    let mut net = Net::new(info.graph()?, Device::Cpu, 0)?;
    net.set(&weights)?;
    let golden = (0..CLIPS).map(|number| reference(&net, number)).collect::<Result<Vec<_>>>()?;
    let manifest = manifest(args, info)?;
    let parts = Parts { manifest, labels: &info.labels, graph: net.graph(), weights: &weights, golden: &golden };
    parts.write(&args.out)
}

struct Parts<'a> {
    manifest: Manifest,
    labels: &'a [String],
    graph: &'a Graph,
    weights: &'a Weights,
    /// The first goes into the bundle.
    golden: &'a [Golden],
}

impl Parts<'_> {
    /// Writes the bundle beside `dir` first, and to `dir` only when the engine agrees.
    fn write(&self, dir: &Path) -> Result<Bundle> {
        let first = self.golden.first().context("no golden clip")?;
        let write = |dir: &Path| {
            let (manifest, model) = (self.manifest.clone(), (self.graph, self.weights));
            bundle::write(dir, Parts { manifest, labels: self.labels, model, int8: None, golden: first })
        };
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.check", std::process::id()));
        let draft = dir.with_file_name(name);
        let agreed = write(&draft).map_err(Into::into).and_then(|bundle| compare(&bundle, self.golden));
        let _ = std::fs::remove_dir_all(&draft);
        let (engine, deviation) = agreed?;
        let bundle = write(dir)?;
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

/// A clip of noise, coarser and stronger with `number`, and the trainer's logits for it in f32 on the CPU.
fn reference(net: &Net, number: u64) -> Result<Golden> {
    let shape: Vec<i64> = net.graph().input_shape().iter().map(|&n| n as i64).collect();
    let [_, c, t, h, w] = shape[..] else { anyhow::bail!("a clip [N, C, T, H, W] wanted, {shape:?} given") };
    tch::manual_seed(number as i64);
    let cell = 1 << number;
    let coarse = [1, c, t, (h / cell).max(1), (w / cell).max(1)];
    let noise = Tensor::f_randn(coarse, (Kind::Float, Device::Cpu))? * (0.5 * (number + 1) as f64);
    let clip = noise.f_upsample_nearest3d([t, h, w], None, None, None)?;
    let logits = tch::no_grad(|| net.forward(&clip, Pass::Evaluate))?;
    let values = Vec::<f32>::try_from(clip.f_contiguous()?.f_view(-1)?)?;
    let shape = [1, c as usize, t as usize, h as usize, w as usize];
    Ok(Golden {
        clip: Array5::from_shape_vec(shape, values)?,
        logits_f32: Vec::<f32>::try_from(logits.f_view(-1)?)?,
        logits_int8: None,
    })
}

/// Runs every clip on the bundle's engine. Returns the engine's name and the largest relative deviation.
fn compare(bundle: &Bundle, golden: &[Golden]) -> Result<(&'static str, f32)> {
    let engine = engine::open(bundle, &engine::Options::default())?;
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

fn manifest(args: &ExportArgs, info: &Info) -> Result<Manifest> {
    if args.hop == 0 {
        return Err(Error::new(ErrorKind::Usage, "--hop 0: at least 1 wanted").into());
    }
    let folder = || args.out.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = args.name.clone().or_else(folder);
    let name = name.ok_or_else(|| Error::new(ErrorKind::Usage, "--out: a folder with a name wanted, or --name"))?;
    let note = args.note.as_ref().map_or(String::new(), |note| format!("; {note}"));
    Ok(Manifest {
        format: FORMAT,
        name,
        architecture: info.architecture.clone(),
        input: info.input.clone(),
        output: Output { activation: Activation::Softmax, classes: info.labels.len() },
        run: Run { mode: Mode::Window, hop: args.hop },
        decision: decision::Settings { lag_s: args.lag, ..decision::Settings::default() },
        sided: crate::data::sided(&info.labels),
        provenance: Provenance {
            licence: args.licence.clone(),
            data: format!("{} ({} clips seen in {} steps){note}", info.data, info.clips, info.step),
            recipe: info.recipe.clone(),
        },
        measured: vec![],
        sha256: Default::default(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::checkpoint::{LAST, tests::info};
    use std::collections::BTreeMap;

    fn run(labels: &[&str], dir: &Path) -> Weights {
        let info = info(labels);
        let net = Net::new(info.graph().unwrap(), Device::Cpu, 3).unwrap();
        let weights = net.weights().unwrap();
        let checkpoint = Checkpoint::new(info, weights.clone(), weights.clone(), &BTreeMap::new()).unwrap();
        checkpoint.save(&dir.join(LAST)).unwrap();
        weights
    }

    fn args(run: &Path, out: &Path) -> ExportArgs {
        let (checkpoint, out) = (run.to_owned(), out.to_owned());
        ExportArgs { checkpoint, out, name: None, note: Some("a test".into()), licence: "MIT".into(), hop: 2, lag: 0.4 }
    }

    #[test]
    fn a_bundle_runs_and_gives_its_weights_back() {
        let dir = tempfile::tempdir().unwrap();
        let weights = run(&["swipe_left", "swipe_right", "nothing"], dir.path());
        let out = dir.path().join("models");
        let bundle = command(&args(dir.path(), &out)).unwrap();
        assert_eq!(bundle.manifest.name, "models");
        assert_eq!(bundle.manifest.sided, [["swipe_left".to_owned(), "swipe_right".to_owned()]]);
        assert!(bundle.manifest.provenance.data.ends_with("; a test"));
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
        let info = info(&["a", "b"]);
        let mut net = Net::new(info.graph().unwrap(), Device::Cpu, 3).unwrap();
        net.set(&weights).unwrap();
        let mut golden = vec![reference(&net, 0).unwrap(), reference(&net, 1).unwrap()];
        golden[1].logits_f32[0] *= 1.01;
        golden[1].logits_f32[1] *= 1.01;
        let manifest = manifest(&args, &info).unwrap();
        let parts = Parts { manifest, labels: &info.labels, graph: net.graph(), weights: &weights, golden: &golden };
        let error = parts.write(&out).unwrap_err().downcast::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::Engine);
        assert!(error.to_string().contains("clip 1"), "{error}");
        assert_eq!(std::fs::read(out.join("manifest.toml")).unwrap(), before);
    }

    #[test]
    fn deviation_is_relative_to_the_largest() {
        assert_eq!(deviation(&[1.0, -4.0], &[1.5, -4.0]), 0.125);
        assert!(deviation(&[f32::NAN, 1.0], &[1.0, 1.0]).is_nan());
    }
}
