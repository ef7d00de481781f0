//! `tune`: a model of the user's own actions, in minutes on a CPU, from a bundle that knows others and a few videos of each.
//! First the videos are judged by what the bundle sees in them ([`judge`]), so that few, mislabelled or indistinct ones are
//! told before they are learned; then the last layer is trained, then the last stages; then it is written in integers.

mod judge;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kinora::decision;
use kinora::model::graph::Graph;
use kinora::model::manifest::Activation;
use kinora::model::{Bundle, Manifest};
use kinora::stop::Stop;
use kinora::{Error, ErrorKind};
use tch::Device;

use crate::data::{self, DataArgs, Dataset, Part, usage};
use crate::evaluation::{self, EvaluateArgs};
use crate::export::{self, ExportArgs, Model};
use crate::options::numbers;
use crate::settings::Settings;
use crate::{device, training};

/// Videos of a class from which on nothing is said about their number.
const ENOUGH: usize = 8;
/// Share of the parameters that the last stages have.
const LAST: f64 = 0.9;
/// Highest learning rates of the last layer alone, and of the last stages.
const RATES: [f64; 2] = [1e-2, 1e-3];
/// Share of the videos by which the span of integers is chosen, where none are held out for that.
const JUDGES: f32 = 0.2;

/// What to learn, and from where on.
#[derive(Debug, clap::Args)]
pub struct TuneArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Bundle to begin with
    #[arg(long, value_name = "DIR", default_value = "models/mannequin")]
    model: PathBuf,
    /// Folder of the new bundle; else one in models/, called as the data's
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Passes over the videos in which the last layer alone is trained, and in which the last stages are
    #[arg(long, value_name = "LAYER,STAGES", default_value = "20,40", value_parser = numbers::<u32, 2>)]
    epochs: [u32; 2],
    /// Layer that the last stages begin with (`show` prints their names); else they have nine tenths of the parameters
    #[arg(long, value_name = "LAYER")]
    train_from: Option<String>,
    /// Clips in a batch
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Decides the order of the clips and their augmentation
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only judge the videos
    #[arg(long)]
    dry_run: bool,
    /// Where to compute
    #[arg(long, value_enum, default_value = "auto")]
    device: device::Choice,
    /// Threads that compute on the CPU; 0: one a processor
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// Judges the videos, learns them and writes the bundle.
///
/// # Errors
/// `Usage` when the data is none to learn from, `Model` when the bundle is none to begin with; those of training and export.
pub fn command(args: &TuneArgs) -> Result<()> {
    let begin = Instant::now();
    let out = args.out.clone().unwrap_or_else(|| default_out(&args.data.data));
    let device = device::open(args.device, args.threads)?;
    let model = Model::exported(&args.model)?;
    let data = learnable(args, &model)?;
    for warning in warnings(&counts(&*data)) {
        log::warn!("{warning}");
    }
    judge::report(&judge::judge(&model, &args.model, &*data, args.seed)?, data.labels());
    if args.dry_run {
        return Ok(());
    }
    let stop = Stop::on_signals()?;
    let run = beside(&out);
    let written = train(args, &model, &data, device, &run, &stop).and_then(|trained| {
        ensure!(!stop.requested(), "stopped: {} is not written", out.display());
        write(args, &model, &data, &trained, &out)
    });
    let _ = std::fs::remove_dir_all(&run);
    let bundle = written?;
    if data.len(Part::Test).is_some_and(|n| n > 0) {
        let words = ["--model".into(), out.clone().into_os_string()];
        evaluation::command(EvaluateArgs { data: args.data.clone(), ..parsed(words)? })?;
    }
    let (count, seconds) = (bundle.labels.len(), begin.elapsed().as_secs_f64());
    log::info!("{count} classes learned in {seconds:.0} s; try it: kinora --model {}", out.display());
    Ok(())
}

/// Where the bundle of a folder of videos goes if nothing is said.
fn default_out(data: &str) -> PathBuf {
    Path::new("models").join(Path::new(data).file_name().unwrap_or_else(|| "mine".as_ref()))
}

/// A folder for what is kept while a bundle is being made.
fn beside(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.run", std::process::id()));
    out.with_file_name(name)
}

/// The videos, if they are something to learn.
fn learnable(args: &TuneArgs, model: &Model) -> Result<Arc<dyn Dataset>> {
    let wanted = "a folder with a folder of videos per class";
    if args.data.data == "synth" {
        return Err(usage(format_args!("--data: {wanted} wanted; `kinora record` makes one")).into());
    }
    let data: Arc<dyn Dataset> = data::open(&args.data, &model.input, args.seed)?.into();
    if (data.activation(), model.activation) != (Activation::Softmax, Activation::Softmax) {
        let why = "tune learns one class a video; for any number of them (labels.csv) use `train --init`";
        return Err(usage(format_args!("--data {}, --model {}: {why}", args.data.data, args.model.display())).into());
    }
    let missing: Vec<String> = (counts(&*data).into_iter()).filter(|(_, n)| *n < 2).map(|(label, _)| label).collect();
    if data.labels().len() < 2 || !missing.is_empty() {
        let of = if missing.is_empty() { String::new() } else { format!(": too few of {}", missing.join(", ")) };
        let message =
            format!("--data {}: two classes or more of two training videos or more wanted{of}", args.data.data);
        return Err(usage(message).into());
    }
    Ok(data)
}

/// Training videos of each class.
fn counts(data: &dyn Dataset) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<usize, usize> = (0..data.labels().len()).map(|label| (label, 0)).collect();
    for index in 0..data.len(Part::Train).unwrap_or(0) as u64 {
        for label in data.shown(Part::Train, index).unwrap_or_default() {
            *counts.entry(label).or_default() += 1;
        }
    }
    counts.into_iter().map(|(label, count)| (data.labels()[label].clone(), count)).collect()
}

/// What is to be said of so many videos of each class.
fn warnings(counts: &[(String, usize)]) -> Vec<String> {
    let mut said = Vec::new();
    let few: Vec<String> =
        counts.iter().filter(|(_, n)| *n < ENOUGH).map(|(label, n)| format!("{label} ({n})")).collect();
    if !few.is_empty() {
        said.push(format!("few videos of {}: {ENOUGH} or more of each are better", few.join(", ")));
    }
    let nothing = decision::Settings::default().nothing;
    if counts.iter().all(|(label, _)| *label != nothing) {
        said.push(format!(
            "no class `{nothing}`: the model will always see one of the actions; record some of what happens between them"
        ));
    }
    let (least, most) = (counts.iter().min_by_key(|(_, n)| *n), counts.iter().max_by_key(|(_, n)| *n));
    if let (Some((rare, least)), Some((common, most))) = (least, most)
        && *most > 4 * least
    {
        said.push(format!("{most} videos of {common} and {least} of {rare}: rare actions will be seen too seldom"));
    }
    said
}

/// Name of the first of the last stages: behind it there are at least [`LAST`] of the parameters.
fn last_stages(graph: &Graph) -> String {
    let of = |node| graph.node_parameters(node).iter().map(|p| p.shape.iter().product::<usize>()).sum::<usize>() as f64;
    let sizes: Vec<f64> = graph.nodes().iter().map(of).collect();
    let (all, mut behind) = (sizes.iter().sum::<f64>(), 0.0);
    let first = (0..sizes.len()).rev().find(|node| {
        behind += sizes[*node];
        behind >= LAST * all
    });
    graph.nodes()[first.unwrap_or(0)].name.clone()
}

/// Trains the last layer, then the last stages, in `run`; the folder of the second run.
fn train(
    args: &TuneArgs,
    model: &Model,
    data: &Arc<dyn Dataset>,
    device: Device,
    run: &Path,
    stop: &Stop,
) -> Result<PathBuf> {
    let [_, c, t, h, w] = model.input.clip_shape();
    let graph = model.architecture.parse::<crate::arch::Architecture>()?.graph([c, t, h, w], data.labels().len())?;
    let stages = args.train_from.clone().unwrap_or_else(|| last_stages(&graph));
    let mut first = args.model.clone();
    for (number, layer) in [graph.output().name.clone(), stages].into_iter().enumerate() {
        log::info!("training from `{layer}` on");
        let words = ["--epochs".into(), args.epochs[number].max(1).to_string().into()];
        let settings = Settings {
            batch: args.batch,
            lr: RATES[number],
            average: 0.98,
            validate_every: u64::MAX,
            train_from: Some(layer),
            seed: args.seed,
            ..parsed(words)?
        };
        let out = run.join(number.to_string());
        let plan = training::Plan {
            settings,
            architecture: model.architecture.clone(),
            input: model.input.clone(),
            mode: model.mode,
            recipe: crate::recipe(),
            init: Some(std::mem::replace(&mut first, out.clone())),
            inflate: None,
            qat: None,
            resume: false,
            out,
            device,
        };
        training::run(plan, data.clone(), stop)?;
    }
    Ok(first)
}

/// Writes the bundle of the run `trained` to `out`, with the settings of the one that it began with.
fn write(args: &TuneArgs, model: &Model, data: &Arc<dyn Dataset>, trained: &Path, out: &Path) -> Result<Bundle> {
    let begun = model.manifest.as_ref().context("the bundle to begin with has no manifest")?;
    let words: [OsString; 5] = ["--checkpoint".into(), trained.into(), "--out".into(), out.into(), "--int8".into()];
    let mut data_args = args.data.clone();
    if data.len(Part::Validation) == Some(0) {
        data_args.validation = JUDGES;
    }
    let args = ExportArgs {
        data: data_args,
        licence: Some(begun.provenance.licence.clone()),
        hop: Some(begun.run.hop),
        ..parsed(words)?
    };
    let bundle = export::command(&args)?;
    let decision = decision::Settings { labels: Default::default(), ..begun.decision.clone() };
    evaluation::rewrite(&bundle, &Manifest { decision, ..bundle.manifest.clone() })?;
    Bundle::load(out).map_err(Into::into)
}

/// The arguments that `words` say of a command.
fn parsed<T: clap::Args>(words: impl IntoIterator<Item = OsString>) -> Result<T> {
    let definition = T::augment_args(clap::Command::new("train-export")).no_binary_name(true);
    let parsed = definition.try_get_matches_from(words).and_then(|matches| T::from_arg_matches(&matches));
    parsed.map_err(|why| Error::new(ErrorKind::Internal, why).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::arch::Architecture;

    fn counted(counts: &[(&str, usize)]) -> Vec<String> {
        warnings(&counts.iter().map(|(label, n)| ((*label).to_owned(), *n)).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_too_few_is_told() {
        assert!(counted(&[("nothing", 8), ("hop", 20)]).is_empty());
        let said = counted(&[("hop", 3), ("spin", 40)]);
        assert!(said.len() == 3 && said[0].contains("hop (3)") && !said[0].contains("spin"), "{said:?}");
        assert!(
            said[1].contains("no class `nothing`") && said[2].contains("40 videos of spin and 3 of hop"),
            "{said:?}"
        );
    }

    #[test]
    fn the_last_stages_have_most_parameters() {
        let stages = |arch: &str, size| {
            last_stages(&arch.parse::<Architecture>().unwrap().graph([3, 16, size, size], 5).unwrap())
        };
        assert!(stages("r2plus1d-edge", 96).starts_with("stage3."), "{}", stages("r2plus1d-edge", 96));
        assert!(!stages("r3d-18", 112).starts_with("stem"), "{}", stages("r3d-18", 112));
    }

    #[test]
    fn bundles_are_called_as_their_data() {
        assert_eq!(default_out("clips/mine/"), Path::new("models/mine"));
        assert_eq!(default_out(".."), Path::new("models/mine"));
    }
}
