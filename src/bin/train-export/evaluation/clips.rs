//! Classification of clips: every window of a clip, the mean of its probabilities, then the labels asked for, as
//! `kinora classify` answers.

use anyhow::ensure;
use indicatif::{ProgressBar, ProgressStyle};
use kinora::engine::Engine;
use kinora::model::Bundle;
use kinora::model::manifest::Activation;
use kinora::{Error, ErrorKind};
use ndarray::ArrayView5;

use super::metrics::{Confusion, clip_probabilities};
use super::{EvaluateArgs, in_parallel, record, save, threads};
use crate::data::{self, Dataset, Part, usage};
use crate::plots;

/// Measures and prints what `args` ask for.
pub fn run(args: &EvaluateArgs, bundle: &Bundle, engine: &dyn Engine) -> anyhow::Result<()> {
    let input = &bundle.manifest.input;
    let data = data::open(&args.data, input, 0)?;
    let named = Named::new(data.labels(), &bundle.labels, &args.labels)?;
    let clips = choose(args, &*data, &named)?;
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} clips, {per_sec}, {eta} left")?;
    let bar = ProgressBar::new(clips.len() as u64).with_style(style);
    let activation = bundle.manifest.output.activation;
    let shape = (1, input.colour.channels(), input.frames, input.height, input.width);
    let answers = in_parallel(
        threads(args.threads),
        clips.len(),
        || Ok(engine.session()?),
        |session, i| {
            let mut probabilities = Vec::new();
            data.windows(clips[i].part, clips[i].index, bundle.manifest.run.hop, &mut |planes| {
                let mut logits = vec![0.0; bundle.labels.len()];
                let clip = ArrayView5::from_shape(shape, planes)
                    .map_err(|e| Error::new(ErrorKind::Internal, format_args!("a window of {shape:?}: {e}")))?;
                session.infer(clip, &mut logits)?;
                activation.apply(&mut logits);
                probabilities.push(logits);
                Ok(())
            })?;
            bar.inc(1);
            Ok(clip_probabilities(&probabilities, &named.kept, activation == Activation::Softmax))
        },
    )?;
    bar.finish_and_clear();
    let mut confusion = Confusion::new(&named.labels);
    clips.iter().zip(&answers).for_each(|(clip, answer)| confusion.add(clip.label, answer));
    report(args, bundle, &confusion, &data.describe())
}

/// A clip to classify.
struct Clip {
    part: Part,
    index: u64,
    /// Index into [`Named::labels`].
    label: usize,
}

/// The labels that take part, by name.
#[derive(Debug, PartialEq)]
struct Named {
    labels: Vec<String>,
    /// For each its index in the model.
    kept: Vec<usize>,
    /// For each label of the data its index here; `None` when it does not take part.
    of_data: Vec<Option<usize>>,
}

impl Named {
    /// Matches the labels of data and model; `asked`: only these, if any are named.
    fn new(data: &[String], model: &[String], asked: &[String]) -> anyhow::Result<Self> {
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

fn choose(args: &EvaluateArgs, data: &dyn Dataset, named: &Named) -> anyhow::Result<Vec<Clip>> {
    let mut clips = Vec::new();
    for part in args.part.parts() {
        let Some(len) = data.len(part) else {
            ensure!(args.part == super::Which::All, usage("--part train: the mannequin's training clips never end"));
            continue;
        };
        for index in 0..len.min(args.clips.unwrap_or(usize::MAX)) as u64 {
            let label = data.label(part, index).and_then(|label| named.of_data[label]);
            clips.extend(label.map(|label| Clip { part, index, label }));
        }
    }
    let hint = "name another --part (such as all), or a split";
    ensure!(!clips.is_empty(), usage(format_args!("no clips to evaluate in {}: {hint}", data.describe())));
    Ok(clips)
}

fn report(args: &EvaluateArgs, bundle: &Bundle, confusion: &Confusion, data: &str) -> anyhow::Result<()> {
    let figures = confusion.figures();
    println!("{}", confusion.table());
    let (top1, loss, macro_f1) = (figures.top1, figures.loss, figures.macro_f1);
    println!("{} clips of {data}: top-1 {top1:.4}, loss {loss:.4}, macro F1 {macro_f1:.4}", figures.clips);
    if args.record {
        let among = match args.labels.as_slice() {
            [] => String::new(),
            labels => format!(", among {}", labels.join(", ")),
        };
        record(bundle, &[("top-1", top1)], &format!("{} clips of {data}{among}", figures.clips))?;
    }
    let Some(out) = &args.out else { return Ok(()) };
    let json = serde_json::json!({
        "model": bundle.manifest.name, "data": data, "labels": confusion.labels(), "figures": figures,
    });
    save(out, "metrics.json", &format!("{json:#}\n"))?;
    save(out, "confusion.csv", &confusion.csv())?;
    let title = format!("{}: {} clips, top-1 {top1:.3}", bundle.manifest.name, figures.clips);
    plots::confusion(confusion, &title, &out.join("confusion.png"))
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
