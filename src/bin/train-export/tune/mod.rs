//! `tune`: a model of the user's own actions, in minutes on a CPU, from a bundle that knows others and a few videos of each.
//! First the videos are judged by what the bundle sees in them ([`judge`]), so that few, mislabelled or indistinct ones are
//! told before they are learned; then the last layer is trained, then the last stages; then the mean of both states is written
//! in integers, which loses less of what few videos do not show than the last alone (WiSE-FT: Wortsman et al., 2022).

mod judge;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use kinora::decision::Settings;
use kinora::model::graph::Graph;
use kinora::model::manifest::Activation;
use kinora::model::{Bundle, bundle};
use kinora::stop::Stop;
use kinora::{Error, ErrorKind};
use tch::Device;

use crate::data::{self, DataArgs, Dataset, Part, Sampling, usage};
use crate::evaluation::{self, EvaluateArgs};
use crate::export::{self, ExportArgs, Model};
use crate::interpreter::Net;
use crate::options::numbers;
use crate::{device, training};

/// Videos of a class from which on nothing is said about their number.
const ENOUGH: usize = 8;
/// Share of the parameters that the last stages have.
const LAST: f64 = 0.9;
/// Highest learning rates of the last layer alone, and of the last stages.
const RATES: [f64; 2] = [1e-2, 1e-3];

/// What to learn, and from where on.
#[derive(Debug, Clone, clap::Args)]
#[command(mut_arg("data", |data| {
    let help = "A folder with a folder of videos per class, as `kinora record` makes it";
    data.value_name("DIR").default_value(None::<&str>).required(true).help(help)
}))]
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
    // What can be refused is refused before anything takes its time.
    export::name(None, &out)?;
    bundle::refuse_foreign(&out)?;
    if args.out.is_none() && out.file_name() == args.model.file_name() {
        let message =
            format!("--data {}: its model would take the place of --model: name another --out", args.data.data);
        return Err(usage(message).into());
    }
    if args.epochs == [0, 0] {
        return Err(usage("--epochs 0,0: nothing would be learned; --dry-run only judges").into());
    }
    let device = device::open(args.device, args.threads)?;
    let model = Model::exported(&args.model)?;
    if let Some(layer) = &args.train_from {
        Net::new(model.graph()?, Device::Cpu, 0)?.train_from(layer)?;
    }
    let run = beside(&out);
    if !args.dry_run {
        try_to_make(&run, &out)?;
    }
    let args = &resting(args, &model);
    let data = learnable(args, &model)?;
    let begun = model.manifest.as_ref().map_or_else(Settings::default, |manifest| manifest.decision.clone());
    let decision = decision(begun, args.data.nothing.clone(), data.labels());
    for warning in warnings(&counts(&*data), &decision.nothing) {
        log::warn!("{warning}");
    }
    judge::report(&judge::judge(&model, &args.model, &*data, args.seed)?, data.labels())?;
    if args.dry_run {
        return Ok(());
    }
    let stop = Stop::on_signals()?;
    let trained = train(args, &model, &data, device, &run, &stop);
    let (Ok(Some((trained, before))), false) = (trained.as_ref().map(|runs| runs.split_last()), stop.requested())
    else {
        if trained.is_ok() {
            let _ = std::fs::remove_dir_all(&run);
            log::warn!("stopped: {} is not written", out.display());
        }
        return trained.map(|_| ());
    };
    let kept = || {
        let with: String = before.iter().map(|run| format!(" --mean-with {}", run.display())).collect();
        format!(
            "what was learned is kept: train-export export --checkpoint {}{with} --out {}",
            trained.display(),
            out.display()
        )
    };
    let bundle = write(args, &model, &data, decision, (trained, before), &out).with_context(kept)?;
    let _ = std::fs::remove_dir_all(&run);
    if data.len(Part::Test).is_some_and(|n| n > 0) && !stop.requested() {
        let words = [flag("--model=", &out)];
        evaluation::command(EvaluateArgs { data: args.data.clone(), ..parsed(words)? })?;
    }
    let (count, seconds) = (bundle.labels.len(), begin.elapsed().as_secs_f64());
    log::info!("{count} classes learned in {seconds:.0} s; try it: kinora --model {}", out.display());
    Ok(())
}

/// `args` with the class that `model` has for nothing, if they name none: what it says between actions is kept.
fn resting(args: &TuneArgs, model: &Model) -> TuneArgs {
    let mut args = args.clone();
    if args.data.nothing.is_none() && args.data.first_classes.is_none() && args.data.sample == Sampling::Window {
        let nothing = model.manifest.as_ref().map(|manifest| manifest.decision.nothing.clone());
        args.data.nothing = nothing.filter(|nothing| model.labels.contains(nothing));
    }
    args
}

/// The settings of the decision that the model began with for one that knows these `labels`, of which `nothing` is no action.
fn decision(begun: Settings, nothing: Option<String>, labels: &[String]) -> Settings {
    let known = Some(begun.nothing.clone()).filter(|nothing| labels.contains(nothing));
    let nothing = nothing.or(known).unwrap_or(Settings::default().nothing);
    Settings { labels: Default::default(), nothing, ..begun }
}

/// Where the bundle of a folder of videos goes if nothing is said.
fn default_out(data: &str) -> PathBuf {
    Path::new("models").join(Path::new(data).file_name().unwrap_or_else(|| "mine".as_ref()))
}

/// A folder for what is kept while a bundle is being made.
fn beside(out: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(out.file_name().unwrap_or_default());
    name.push(format!(".{}.run", std::process::id()));
    out.with_file_name(name)
}

/// Refuses an `out` beside which the folder `run` cannot be made.
fn try_to_make(run: &Path, out: &Path) -> Result<()> {
    let tried = std::fs::create_dir_all(run).and_then(|()| std::fs::remove_dir(run));
    let why = |why| Error::new(ErrorKind::Output, format_args!("--out {}: cannot be written: {why}", out.display()));
    Ok(tried.map_err(why)?)
}

/// The videos, if they are something to learn.
fn learnable(args: &TuneArgs, model: &Model) -> Result<Arc<dyn Dataset>> {
    let wanted = "a folder with a folder of videos per class";
    if args.data.world().is_some() {
        return Err(usage(format_args!("--data: {wanted} wanted; `kinora record` makes one")).into());
    }
    let data: Arc<dyn Dataset> = data::open(&args.data, &model.input, args.seed)?.into();
    if (data.activation(), model.activation) != (Activation::Softmax, Activation::Softmax) {
        let why = "tune learns one class a video; for any number of them (labels.csv) use `train --init`";
        return Err(usage(format_args!("--data {}, --model {}: {why}", args.data.data, args.model.display())).into());
    }
    let (_, actions): (Vec<_>, Vec<_>) =
        counts(&*data).into_iter().partition(|(label, n)| *n == 0 && Some(label) == args.data.nothing.as_ref());
    let missing: Vec<String> = actions.iter().filter(|(_, n)| *n < 2).map(|(label, _)| label.clone()).collect();
    if actions.len() < 2 || !missing.is_empty() {
        let of = if missing.is_empty() { String::new() } else { format!(": too few of {}", missing.join(", ")) };
        let message =
            format!("--data {}: two classes or more of two training videos or more wanted{of}", args.data.data);
        return Err(usage(message).into());
    }
    let all = Part::ALL.into_iter().flat_map(|part| (0..data.len(part).unwrap_or(0) as u64).map(move |n| (part, n)));
    let broken: Vec<String> =
        all.filter_map(|(part, n)| data.check(part, n).err()).map(|why| format!("{why:#}")).collect();
    if !broken.is_empty() {
        let remedy = "remove such videos or record them again";
        return Err(usage(format_args!("--data {}: {remedy}: {}", args.data.data, broken.join("; "))).into());
    }
    Ok(data)
}

/// Training videos of each class.
fn counts(data: &dyn Dataset) -> Vec<(String, usize)> {
    let mut counts = vec![0; data.labels().len()];
    for index in 0..data.len(Part::Train).unwrap_or(0) as u64 {
        for label in data.shown(Part::Train, index).unwrap_or_default() {
            counts[label] += 1;
        }
    }
    data.labels().iter().cloned().zip(counts).collect()
}

/// What is to be said of so many videos of each class, of which the one called `nothing` is none of an action.
fn warnings(counts: &[(String, usize)], nothing: &str) -> Vec<String> {
    let mut said = Vec::new();
    let few: Vec<String> =
        counts.iter().filter(|(_, n)| (1..ENOUGH).contains(n)).map(|(label, n)| format!("{label} ({n})")).collect();
    if !few.is_empty() {
        said.push(format!("few videos of {}: {ENOUGH} or more of each are better", few.join(", ")));
    }
    match counts.iter().find(|(label, _)| label == nothing) {
        None => said.push(format!(
            "no class `{nothing}`: the model will always see one of the actions; record some of what happens between them"
        )),
        Some((_, 0)) => said.push(format!(
            "no videos of `{nothing}`: it learns that from how the others begin and end; record some of what else happens"
        )),
        Some(_) => {}
    }
    let counts: Vec<_> = counts.iter().filter(|(_, n)| *n > 0).collect();
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

/// Name of the last layer that has weights.
fn last_layer(graph: &Graph) -> Result<String> {
    let last = graph.nodes().iter().rev().find(|node| !graph.node_parameters(node).is_empty());
    last.map(|node| node.name.clone()).context("a net without weights")
}

/// Trains the last layer, then the last stages, in `run`; the folders of those that were not left out. Once `stop` goes up,
/// nothing more is trained.
fn train(
    args: &TuneArgs,
    model: &Model,
    data: &Arc<dyn Dataset>,
    device: Device,
    run: &Path,
    stop: &Stop,
) -> Result<Vec<PathBuf>> {
    let graph = model.graph_for(data.labels().len())?;
    let stages = args.train_from.clone().unwrap_or_else(|| last_stages(&graph));
    let mut runs: Vec<PathBuf> = Vec::new();
    for (number, layer) in [last_layer(&graph)?, stages].into_iter().enumerate() {
        let epochs = args.epochs[number];
        if epochs == 0 || stop.requested() {
            continue;
        }
        log::info!("training from `{layer}` on, {epochs} passes");
        let words = ["--epochs".into(), epochs.to_string().into()];
        let settings = crate::settings::Settings {
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
            init: Some(runs.last().unwrap_or(&args.model).clone()),
            inflate: None,
            qat: None,
            resume: false,
            out: out.clone(),
            device,
        };
        training::run(plan, data.clone(), stop)?;
        runs.push(out);
    }
    Ok(runs)
}

/// Writes the mean of the run `trained` and of those before to `out`, with the settings of the bundle that they began with.
fn write(
    args: &TuneArgs,
    model: &Model,
    data: &Arc<dyn Dataset>,
    decision: Settings,
    (trained, before): (&Path, &[PathBuf]),
    out: &Path,
) -> Result<Bundle> {
    let begun = model.manifest.as_ref().context("the bundle to begin with has no manifest")?;
    export::command(&ExportArgs {
        data: args.data.clone(),
        judge_by_training: data.len(Part::Validation) == Some(0),
        licence: Some(begun.provenance.licence.clone()),
        hop: Some(begun.run.hop),
        decision: Some(decision),
        mean_with: before.to_vec(),
        ..parsed([flag("--checkpoint=", trained), flag("--out=", out), "--int8".into()])?
    })
}

/// A flag with a path, which may begin with a dash.
fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(path);
    flag
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
        warnings(&counts.iter().map(|(label, n)| ((*label).to_owned(), *n)).collect::<Vec<_>>(), "nothing")
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
    fn nothing_need_not_be_recorded() {
        let said = counted(&[("hop", 8), ("spin", 8), ("nothing", 0)]);
        assert!(said.len() == 1 && said[0].contains("no videos of `nothing`"), "{said:?}");
    }

    #[test]
    fn nothing_is_called_as_it_was_said() {
        let nothing = |begun: &str, said: Option<&str>| {
            let begun = Settings { nothing: begun.into(), ..Settings::default() };
            decision(begun, said.map(str::to_owned), &["hop", "pause", "rest"].map(String::from)).nothing
        };
        assert_eq!(nothing("pause", Some("rest")), "rest");
        assert_eq!([nothing("pause", None), nothing("idle", None)], ["pause", "nothing"]);
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
