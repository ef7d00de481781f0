//! The bundle's model in 8-bit integers: which clips it is calibrated with and judged by, and what is said of it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use kinora::engine::{Engine, Kernels, Native};
use kinora::model::graph::{Graph, Weights};
use kinora::model::manifest::{Mode, Quantisation};
use kinora::model::{Bundle, Golden};

use super::ExportArgs;
use super::model::{Model, noise};
use crate::data::{self, Batches, Dataset, Loader, Part, usage};
use crate::quantize::{Clips, Quantized, quantize};

/// Clips in a batch.
const BATCH: usize = 8;
/// The streams of random numbers of the two sets of noise.
const CALIBRATION_SEED: u64 = 1;
const VALIDATION_SEED: u64 = 2;

/// `model` quantised as `args` ask, and what the manifest says of it.
///
/// # Errors
/// `Usage` when the data do not fit, `Model` when the net cannot be quantised.
pub fn quantized(args: &ExportArgs, model: &Model, graph: &Graph) -> Result<(Quantized, Quantisation)> {
    let (calibration, validation) = if args.untrained.is_some() {
        (random(model, CALIBRATION_SEED)?, random(model, VALIDATION_SEED)?)
    } else {
        let data: Arc<dyn Dataset> = data::open(&args.data, &model.input, CALIBRATION_SEED)?.into();
        data::fits(&*data, model.activation)?;
        let count = |part, wanted: usize| data.len(part).unwrap_or(wanted).min(wanted);
        let of = |part, wanted, seed| clips(&data, (part, count(part, wanted)), seed, model, graph);
        let judged_by = if args.judge_by_training { Part::Train } else { Part::Validation };
        let mut judge = of(judged_by, args.validation_clips, VALIDATION_SEED)?;
        if judged_by == Part::Train {
            // Clips that were learned say nothing of how often the model is right.
            judge.labels = None;
        }
        (of(Part::Train, args.calibration_clips, CALIBRATION_SEED)?, judge)
    };
    let quantized = quantize(graph, &model.weights, &calibration, &validation)?;
    report(&quantized, &calibration, &validation)?;
    let says = Quantisation { ranges: quantized.method.clone(), calibration: calibration.what };
    Ok((quantized, says))
}

/// What the engine computes of the clip of `golden` with integers: the same with all kernels.
pub fn logits((graph, weights): (&Graph, &Weights), golden: &Golden) -> Result<Vec<f32>> {
    let engine = Native::new(graph, weights, Mode::Window, Kernels::best(), 1)?;
    let mut logits = vec![0.0; golden.logits_f32.len()];
    engine.session()?.infer(golden.clip.view(), &mut logits)?;
    Ok(logits)
}

/// `count` clips of a part of `data`; of training clips `seed` decides which, and how they look.
fn clips(
    data: &Arc<dyn Dataset>,
    (part, count): (Part, usize),
    seed: u64,
    model: &Model,
    graph: &Graph,
) -> Result<Clips> {
    let place = |label: &String| {
        let why = || {
            usage(format_args!("--data: its label `{label}` is none of the model's: name the data it was trained on"))
        };
        model.labels.iter().position(|known| known == label).ok_or_else(why)
    };
    let places = data.labels().iter().map(place).collect::<Result<Vec<usize>, _>>()?;
    if count == 0 {
        let remedy =
            if part == Part::Train { "it needs training clips" } else { "hold some out, as with --validation 0.1" };
        return Err(usage(format_args!("--data: {} has no {} clips: {remedy}", data.describe(), part.name())).into());
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut batches, mut labels) = (vec![], vec![]);
    // The first frames of a clip that begins before the window are as those of any: nothing is before them.
    let past = crate::stream::past(graph, &model.weights, model.mode, model.input.frames)?;
    let wanted = Batches { size: BATCH, past: past..=past, workers, seed };
    for batch in Loader::new(data.clone(), part, wanted).take(count.div_ceil(BATCH)) {
        let batch = batch?;
        let kept = batch.labels.len().min(count - labels.len());
        batches.push(batch.tensor(graph)?.f_narrow(0, 0, kept as i64)?);
        labels.extend(batch.labels[..kept].iter().map(|shown| {
            let mut shown: Vec<usize> = shown.iter().map(|label| places[*label]).collect();
            shown.sort_unstable();
            shown
        }));
    }
    let before = if past > 0 { format!(", and {past} frames before each") } else { String::new() };
    let what = format!("{} {} clips of {}{before}", labels.len(), part.name(), data.describe());
    Ok(Clips { batches, labels: Some(labels), activation: model.activation, what })
}

/// Clips of noise for a net that was never trained.
fn random(model: &Model, seed: u64) -> Result<Clips> {
    let batches = (0..4).map(|number| noise(&model.input, seed, number)).collect::<Result<Vec<_>>>()?;
    Ok(Clips { what: format!("{} clips of noise", batches.len()), batches, labels: None, activation: model.activation })
}

fn report(quantized: &Quantized, calibration: &Clips, validation: &Clips) -> Result<()> {
    crate::say(format_args!("int8: calibrated with {}, judged by {}", calibration.what, validation.what))?;
    crate::say(format_args!("{:<18} {}", "f32", quantized.float))?;
    for (index, (method, verdict)) in quantized.verdicts.iter().enumerate() {
        let kept = if index == quantized.kept { ", kept: nearest to f32" } else { "" };
        crate::say(format_args!("{method:<18} {verdict}{kept}"))?;
    }
    Ok(())
}

/// Says how large the files of `bundle` are.
pub fn sizes(bundle: &Bundle) -> Result<()> {
    let size = |path: &Path| {
        let (name, bytes) =
            (path.file_name().unwrap_or_default(), std::fs::metadata(path).map_or(0, |found| found.len()));
        format!("{} {:.2} MB", name.display(), bytes as f64 / 1e6)
    };
    if let Some(int8) = bundle.onnx_int8() {
        crate::say(format_args!("{}, {}", size(&bundle.onnx()), size(&int8)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::checkpoint::tests::info;

    #[test]
    fn clips_are_counted_and_labelled_by_name() {
        let input = info(&[]).input;
        let data: Arc<dyn Dataset> = data::open(&data::tests::data_args([]), &input, 1).unwrap().into();
        let classes = data.labels().len();
        let architecture = "r2plus1d-edge(width=2)".parse().unwrap();
        let mut model = Model::untrained(architecture, input, classes, 1).unwrap();
        model.labels = data.labels().iter().rev().cloned().collect();
        let graph = model.graph().unwrap();
        let some = clips(&data, (Part::Validation, 9), 1, &model, &graph).unwrap();
        let sizes: Vec<Vec<i64>> = some.batches.iter().map(tch::Tensor::size).collect();
        assert_eq!(sizes, [[8, 1, 4, 16, 16], [1, 1, 4, 16, 16]]);
        assert!(some.what.starts_with("9 validation clips of the mannequin"), "{}", some.what);
        let wanted: Vec<Vec<usize>> =
            (0..9).map(|index| vec![classes - 1 - data.shown(Part::Validation, index).unwrap()[0]]).collect();
        assert_eq!(some.labels.as_ref(), Some(&wanted));
        let refused =
            |part, count, model: &Model| clips(&data, (part, count), 1, model, &graph).err().unwrap().to_string();
        assert!(refused(Part::Validation, 0, &model).contains("--validation 0.1"));
        model.labels[3] = "hop".into();
        assert!(refused(Part::Train, 2, &model).contains("none of the model's"));
    }
}
