//! Classification of clips. A video is answered as `kinora classify` answers it: every window or moment of its stream, the
//! mean of their probabilities, then the labels asked for. Of the mannequin's clips it is one window, which a stream has come
//! to after as long a past as its net sees.

use std::path::Path;

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use kinora::engine::Engine;
use kinora::model::Bundle;
use kinora::model::manifest::{Activation, Input};
use kinora::model::onnx;
use kinora::pipeline::{Classifier, Runner};
use serde::Serialize;

use super::metrics::{Confusion, shares};
use super::multilabel::MultiLabel;
use super::{EvaluateArgs, how, in_parallel, record, save, threads};
use crate::data::{self, Dataset, Part, usage};
use crate::plots;
use crate::stream;

/// Measures and prints what `args` ask for.
pub fn run(args: &EvaluateArgs, bundle: &Bundle, engine: &dyn Engine) -> anyhow::Result<()> {
    let input = &bundle.manifest.input;
    let data = data::open(&args.data, input, 0)?;
    data::fits(&*data, bundle.manifest.output.activation)?;
    let named = Named::new(data.labels(), &bundle.labels, &args.labels)?;
    let clips = choose(args, &*data, &named, bundle.manifest.output.activation)?;
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} clips, {per_sec}, {eta} left")?;
    let bar = ProgressBar::new(clips.len() as u64).with_style(style);
    let activation = bundle.manifest.output.activation;
    let (graph, weights) = onnx::read_graph(&bundle.onnx())?;
    let past = stream::past(&graph, &weights, engine.mode(), input.frames)?;
    let hop = args.hop.unwrap_or(bundle.manifest.run.hop);
    let answers = in_parallel(
        threads(args.threads),
        clips.len(),
        || Ok(Classifier::new(&bundle.manifest, Runner::new(engine, &bundle.manifest)?, hop)),
        |classifier, i| {
            let Clip { part, index, .. } = clips[i];
            let probabilities = match data.source(part, index)? {
                Some(mut video) => classifier.classify(&mut *video)?.probabilities,
                None => {
                    let mut logits = last(classifier.runner(), input, &data.sample(part, index, 0, past)?.planes)?;
                    activation.apply(&mut logits);
                    logits
                }
            };
            bar.inc(1);
            Ok(shares(&probabilities, &named.kept, activation == Activation::Softmax))
        },
    )?;
    bar.finish_and_clear();
    let what = format!("{}{}", data.describe(), how(args, bundle, engine));
    match activation {
        Activation::Softmax => {
            let mut confusion = Confusion::new(&named.labels);
            clips.iter().zip(&answers).for_each(|(clip, answer)| confusion.add(clip.shown[0], answer));
            report(args, bundle, &confusion, &what)
        }
        Activation::Sigmoid => {
            let mut counted = MultiLabel::new(&named.labels);
            clips.iter().zip(&answers).for_each(|(clip, answer)| counted.add(&clip.shown, answer));
            report_multilabel(args, bundle, &counted, &what)
        }
    }
}

/// The logits, `[K]`, for the last window of `planes`, `[C, past + T, H, W]`, or of the stream of all of them.
fn last(runner: &mut Runner, input: &Input, planes: &[f32]) -> anyhow::Result<Vec<f32>> {
    let area = input.height * input.width;
    let frames = planes.len() / (input.colour.channels() * area);
    runner.reset();
    for t in 0..frames {
        let channels = planes.chunks_exact(frames * area);
        let plane: Vec<f32> = channels.flat_map(|c| &c[t * area..(t + 1) * area]).copied().collect();
        runner.push(&plane)?;
    }
    let logits = runner.decide(1)?.with_context(|| format!("{frames} frames do not give an answer"))?;
    Ok(logits.to_vec())
}

/// A clip that takes part.
pub struct Clip {
    pub part: Part,
    pub index: u64,
    /// What it shows: indices into [`Named::labels`]; one, unless the model says any number.
    pub shown: Vec<usize>,
}

/// The labels that take part, by name.
#[derive(Debug, PartialEq)]
pub struct Named {
    pub labels: Vec<String>,
    /// For each its index in the model.
    kept: Vec<usize>,
    /// For each label of the data its index here; `None` when it does not take part.
    of_data: Vec<Option<usize>>,
}

impl Named {
    /// Matches the labels of data and model; `asked`: only these, if any are named.
    pub fn new(data: &[String], model: &[String], asked: &[String]) -> anyhow::Result<Self> {
        let known = |label: &String| model.contains(label);
        if let Some(unknown) = asked.iter().find(|label| !known(label)) {
            let all = model.join(", ");
            return Err(usage(format_args!("--labels: the model has no label `{unknown}`; it has {all}")).into());
        }
        let labels: Vec<String> = if asked.is_empty() { model.to_vec() } else { asked.to_vec() };
        let missing = data.iter().find(|label| !known(label));
        if let (Some(label), true) = (missing, asked.is_empty()) {
            let remedy = "name those to compare with --labels, or rename the folder";
            return Err(usage(format_args!("the data's label `{label}` is none of the model's; {remedy}")).into());
        }
        let kept = labels.iter().filter_map(|label| model.iter().position(|m| m == label)).collect();
        let of_data = data.iter().map(|label| labels.iter().position(|l| l == label)).collect();
        Ok(Self { labels, kept, of_data })
    }
}

/// The clips that `args` ask for.
pub fn choose(args: &EvaluateArgs, data: &dyn Dataset, named: &Named, model: Activation) -> anyhow::Result<Vec<Clip>> {
    let mut clips = Vec::new();
    for part in args.part.parts() {
        let Some(len) = data.len(part) else {
            ensure!(args.part == super::Which::All, usage("--part train: the mannequin's training clips never end"));
            continue;
        };
        for index in 0..len.min(args.clips.unwrap_or(usize::MAX)) as u64 {
            let shown = data.shown(part, index).unwrap_or_default();
            let shown: Vec<usize> = shown.into_iter().filter_map(|label| named.of_data[label]).collect();
            if !shown.is_empty() || model == Activation::Sigmoid {
                clips.push(Clip { part, index, shown });
            }
        }
    }
    let hint = "name another --part (such as all), or a split";
    ensure!(!clips.is_empty(), usage(format_args!("no clips to evaluate in {}: {hint}", data.describe())));
    Ok(clips)
}

fn report(args: &EvaluateArgs, bundle: &Bundle, confusion: &Confusion, data: &str) -> anyhow::Result<()> {
    let figures = confusion.figures();
    crate::say(confusion.table())?;
    let (top1, loss, macro_f1) = (figures.top1, figures.loss, figures.macro_f1);
    crate::say(format_args!(
        "{} clips of {data}: top-1 {top1:.4}, loss {loss:.4}, macro F1 {macro_f1:.4}",
        figures.clips
    ))?;
    keep(args, bundle, ("top-1", top1), &format!("{} clips of {data}", figures.clips))?;
    let Some(out) = &args.out else { return Ok(()) };
    write(out, bundle, data, confusion.labels(), &figures)?;
    save(out, "confusion.csv", &confusion.csv())?;
    let title = format!("{}: {} clips, top-1 {top1:.3}", bundle.manifest.name, figures.clips);
    plots::confusion(confusion, &title, &out.join("confusion.png"))
}

fn report_multilabel(args: &EvaluateArgs, bundle: &Bundle, counted: &MultiLabel, data: &str) -> anyhow::Result<()> {
    let figures = counted.figures();
    crate::say(counted.table())?;
    let (map, loss, macro_f1) = (figures.map, figures.loss, figures.macro_f1);
    crate::say(format_args!(
        "{} clips of {data}: mAP {map:.4}, loss {loss:.4}, macro F1 {macro_f1:.4}",
        figures.clips
    ))?;
    keep(args, bundle, ("mAP", map), &format!("{} clips of {data}", figures.clips))?;
    let Some(out) = &args.out else { return Ok(()) };
    write(out, bundle, data, counted.labels(), &figures)
}

/// Puts a figure into the bundle's manifest, if that is wanted.
fn keep(args: &EvaluateArgs, bundle: &Bundle, (figure, value): (&str, f64), on: &str) -> anyhow::Result<()> {
    if args.record { record(bundle, &[(figure, value, on)]) } else { Ok(()) }
}

/// Writes `metrics.json`.
fn write(out: &Path, bundle: &Bundle, data: &str, labels: &[String], figures: &impl Serialize) -> anyhow::Result<()> {
    let json = serde_json::json!({ "model": bundle.manifest.name, "data": data, "labels": labels, "figures": figures });
    save(out, "metrics.json", &format!("{json:#}\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn names(list: &str) -> Vec<String> {
        list.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn labels_are_matched_by_name() {
        let (data, model) = (names("clap wave"), names("nothing wave walk clap"));
        let all = Named::new(&data, &model, &[]).unwrap();
        assert_eq!((all.kept, all.of_data), (vec![0, 1, 2, 3], vec![Some(3), Some(1)]));
        let some = Named::new(&data, &model, &names("walk clap")).unwrap();
        assert_eq!((some.kept, some.of_data), (vec![2, 3], vec![Some(1), None]));
    }

    #[test]
    fn unknown_labels_are_named() {
        let model = names("nothing wave");
        let error = |data: &str, asked: &str| Named::new(&names(data), &model, &names(asked)).unwrap_err().to_string();
        assert!(error("wave", "jump").contains("no label `jump`; it has nothing, wave"));
        assert!(error("wave hop", "").contains("`hop` is none of the model's"));
        assert!(Named::new(&names("wave hop"), &model, &names("wave")).is_ok());
    }
}
