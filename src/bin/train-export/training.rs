//! Training: batches in, steps of the optimizer, checkpoints and a history out. Runs on the calling thread; clips are
//! made by the loader's threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use kinora::model::Bundle;
use kinora::model::manifest::{Activation, Input, Mode};
use kinora::stop::Stop;
use kinora::{Error, ErrorKind};
use tch::{Device, Tensor};

use crate::checkpoint::{BEST, Checkpoint, Info, LAST};
use crate::data::{Batch, Batches, Dataset, Loader, Part};
use crate::init::{self, Taken};
use crate::interpreter::{Net, Pass, Precision};
use crate::loss::{Frames, Truth, score};
use crate::optimizer::{self, AdamW};
use crate::progress::{History, Progress, Row, Tally};
use crate::settings::Settings;

/// A run: what is trained, on what, and where its files go.
pub struct Plan {
    /// How to train.
    pub settings: Settings,
    /// The architecture's text form.
    pub architecture: String,
    /// What the model sees.
    pub input: Input,
    /// How it is to run: for a stream, clips begin before the window.
    pub mode: Mode,
    /// The command, for the record.
    pub recipe: String,
    /// A bundle or checkpoint to take weights from.
    pub init: Option<PathBuf>,
    /// A 2-D net's state dict to take inflated weights from.
    pub inflate: Option<PathBuf>,
    /// A bundle with a quantised model: train as if in its integers, from its weights.
    pub qat: Option<PathBuf>,
    /// Go on from the last checkpoint in `out`.
    pub resume: bool,
    /// Folder of the run's files.
    pub out: PathBuf,
    /// Where to compute.
    pub device: Device,
}

/// Trains as `plan` says until its last step or until `stop` goes up; either way `last.safetensors` is written.
///
/// # Errors
/// `Usage` when the settings do not fit, `Output` when a file cannot be written; when data cannot be loaded, the loss is
/// no longer a number or the device fails.
pub fn run(plan: Plan, dataset: Arc<dyn Dataset>, stop: &Stop) -> Result<Info> {
    plan.settings.check()?;
    std::fs::create_dir_all(&plan.out)
        .map_err(|why| Error::new(ErrorKind::Output, format_args!("{}: {why}", plan.out.display())))?;
    Run::new(plan, dataset)?.go(stop)
}

struct Run {
    plan: Plan,
    dataset: Arc<dyn Dataset>,
    net: Net,
    average: Net,
    optimizer: AdamW,
    precision: Precision,
    info: Info,
    /// Most frames before the window.
    past: usize,
    steps: u64,
    workers: usize,
    history: History,
    start: Instant,
    seconds_before: f64,
}

impl Run {
    fn new(plan: Plan, dataset: Arc<dyn Dataset>) -> Result<Self> {
        let settings = &plan.settings;
        let mut info = Info {
            architecture: plan.architecture.clone(),
            input: plan.input.clone(),
            mode: plan.mode,
            activation: dataset.activation(),
            labels: dataset.labels().to_vec(),
            nothing: dataset.nothing().map(str::to_owned),
            data: dataset.describe(),
            before: None,
            train_from: settings.train_from.clone(),
            recipe: plan.recipe.clone(),
            seed: settings.seed,
            step: 0,
            clips: 0,
            seconds: 0.0,
            best: None,
        };
        let steps = settings.all_steps(dataset.len(Part::Train))?;
        let seed = settings.seed;
        let mut net = Net::new(info.graph()?, plan.device, seed)?;
        let mut average = Net::new(info.graph()?, plan.device, seed)?;
        if let (Some(frames), false) = (settings.tbptt, net.recurrent()) {
            let message = format!("--tbptt {frames}: {} is not recurrent: leave it out", plan.architecture);
            return Err(Error::new(ErrorKind::Usage, message).into());
        }
        if let Some(first) = &settings.train_from {
            if !plan.resume && plan.init.is_none() && plan.inflate.is_none() && plan.qat.is_none() {
                let message =
                    format!("--train-from {first}: what is before it has to come from --init, --inflate or --qat");
                return Err(Error::new(ErrorKind::Usage, message).into());
            }
            net.train_from(first)?;
        }
        let past = crate::stream::past(net.graph(), &net.weights()?, plan.mode, plan.input.frames)?;
        let mut optimizer = AdamW::new(&net, settings.weight_decay, settings.max_norm);
        if plan.resume {
            let checkpoint = resume(&plan.out.join(LAST), &mut info)?;
            net.set(&checkpoint.weights())?;
            average.set(&checkpoint.average())?;
            optimizer.restore(&checkpoint.state()?, info.step)?;
            log::info!("resumed at step {} of {steps}", info.step);
        } else if let Some(taken) = first_weights(&plan, &info, &net)? {
            log::info!("{}", taken.description);
            info.before = Some(taken.data);
            net.set(&taken.weights)?;
            average.set(&taken.weights)?;
        }
        if let Some(bundle) = &plan.qat {
            let ranges = crate::quantize::ranges_of(bundle)?;
            net.imitate(ranges.clone());
            average.imitate(ranges);
        }
        if !plan.resume {
            // An earlier run's checkpoints are not this run's, not even for as long as this one has none.
            for name in [BEST, LAST] {
                let _ = std::fs::remove_file(plan.out.join(name));
            }
        }
        let history = History::open(&plan.out, info.step)?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if settings.workers > 0 { settings.workers } else { (processors / 2).clamp(1, 16) };
        // Steps of 8 bits are finer than bf16 where values are large.
        let fastest = || if plan.qat.is_some() { Precision::F32 } else { crate::device::precision(plan.device) };
        let precision = settings.precision.unwrap_or_else(fastest);
        if plan.qat.is_some() && precision != Precision::F32 {
            return Err(Error::new(ErrorKind::Usage, "--qat computes in f32: leave --precision out").into());
        }
        let (start, seconds_before) = (Instant::now(), info.seconds);
        Ok(Self {
            plan,
            dataset,
            net,
            average,
            optimizer,
            precision,
            info,
            past,
            steps,
            workers,
            history,
            start,
            seconds_before,
        })
    }

    fn go(mut self, stop: &Stop) -> Result<Info> {
        self.announce();
        let settings = self.plan.settings.clone();
        // The clips of a resumed run go on with others than those it began with.
        let seed = settings.seed.wrapping_add(self.info.step << 32);
        let wanted = Batches { size: settings.batch.into(), past: 0..=self.past, workers: self.workers, seed };
        let mut batches = Loader::new(self.dataset.clone(), Part::Train, wanted);
        let mut progress = Progress::new(self.info.step, self.steps)?;
        let (mut tally, mut since) = (Tally::default(), Instant::now());
        let mut last = self.info.step >= self.steps || stop.requested();
        while !last {
            let batch = match batches.next().context("the training data ended").flatten() {
                Ok(batch) => batch,
                // The weights are good: what was learned is not to be lost.
                Err(error) => return Err(self.keep(error)),
            };
            let rate = optimizer::rate(settings.schedule, self.info.step, self.steps, settings.lr);
            let (loss, right) = self.step(&batch, rate)?;
            let clips = batch.labels.len() as i64;
            tally.add(loss, right, clips);
            progress.step(self.info.step, loss, right, clips, rate);
            last = self.info.step >= self.steps || stop.requested();
            if last || self.info.step.is_multiple_of(settings.validate_every) {
                let clips_per_second = tally.clips() as f64 / since.elapsed().as_secs_f64();
                self.milestone(&tally, rate, clips_per_second, stop, &progress)?;
                progress.restart();
                (tally, since) = (Tally::default(), Instant::now());
            }
        }
        progress.finish();
        let [history, curve] = ["history.csv", "history.png"].map(|name| self.plan.out.join(name));
        if let Err(error) = crate::plots::learning_curve(&history, &curve) {
            log::warn!("no learning curve: {error:#}");
        }
        Ok(self.info)
    }

    fn announce(&self) {
        let graph = self.net.graph();
        let parameters: usize = graph.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum();
        log::info!("data: {}", self.info.data);
        if self.past > 0 {
            log::info!("a stream: up to {} frames before each window", self.past);
        }
        log::info!(
            "{}: {parameters} parameters, {:.2} GMAC a clip of {:?}, {} classes; {:?} in {:?}, {} threads, {} workers",
            self.info.architecture,
            graph.macs() as f64 / 1e9,
            graph.input_shape(),
            self.info.labels.len(),
            self.plan.device,
            self.precision,
            tch::get_num_threads(),
            self.workers
        );
    }

    /// One step: the loss and the number of right answers.
    fn step(&mut self, batch: &Batch, rate: f64) -> Result<(f64, f64)> {
        let settings = &self.plan.settings;
        let pass = Pass::Train(self.precision);
        let (value, right) = scored(&self.net, &self.info, settings, batch, pass, &|loss| Ok(loss.f_backward()?))?;
        if !value.is_finite() {
            bail!(
                "the loss of step {} is {value}: use a lower --lr than {} or --precision f32",
                self.info.step + 1,
                settings.lr
            );
        }
        let norm = self.optimizer.step(&self.net, rate)?;
        ensure!(norm.is_finite(), "the gradient of step {} is {norm}: use a lower --lr", self.info.step + 1);
        self.info.step += 1;
        self.info.clips += batch.labels.len() as u64;
        self.info.seconds = self.seconds_before + self.start.elapsed().as_secs_f64();
        optimizer::average(&mut self.average, &self.net, self.plan.settings.average, self.info.step)?;
        Ok((value, right))
    }

    /// Loss and accuracy of the averaged weights on the validation part, if there is one.
    fn validate(&self, stop: &Stop) -> Result<Option<(f64, f64)>> {
        let size = usize::from(self.plan.settings.batch);
        let limit = self.plan.settings.validation_clips;
        let wanted = self.dataset.len(Part::Validation).unwrap_or(limit).min(limit);
        if wanted == 0 || stop.requested() {
            return Ok(None);
        }
        let batches = Batches { size, past: self.past..=self.past, workers: self.workers, seed: 0 };
        let loader = Loader::new(self.dataset.clone(), Part::Validation, batches);
        let batches = loader.take(wanted.div_ceil(size));
        let tally = evaluate(&self.average, &self.info, &self.plan.settings, batches, stop)?;
        Ok((tally.clips() > 0 && !stop.requested()).then(|| (tally.loss(), tally.accuracy())))
    }

    /// Validates, unless there is a hurry, and writes history and checkpoints.
    fn milestone(&mut self, tally: &Tally, rate: f64, speed: f64, stop: &Stop, progress: &Progress) -> Result<()> {
        let validation = match self.validate(stop) {
            Ok(validation) => validation,
            Err(error) => return Err(self.keep(error)),
        };
        if let Some((loss, accuracy)) = validation {
            progress.say(&format!("step {}: validation loss {loss:.4} accuracy {accuracy:.4}", self.info.step));
        }
        self.record(&Row {
            step: self.info.step,
            epoch: self.dataset.len(Part::Train).map(|n| self.info.clips as f64 / n.max(1) as f64),
            rate,
            loss: tally.loss(),
            accuracy: tally.accuracy(),
            validation,
            clips_per_second: speed,
            seconds: self.info.seconds,
        })
    }

    /// Writes the last checkpoint after an `error` of the data.
    fn keep(&self, error: anyhow::Error) -> anyhow::Error {
        let saved = self.checkpoint().and_then(|checkpoint| checkpoint.save(&self.plan.out.join(LAST)));
        match saved {
            Ok(()) => {
                let kept = self.plan.out.join(LAST);
                error.context(format!(
                    "stopped at step {}, kept in {}, from where `train --resume` goes on",
                    self.info.step,
                    kept.display()
                ))
            }
            Err(unsaved) => error.context(format!("stopped at step {}, not saved: {unsaved:#}", self.info.step)),
        }
    }

    fn checkpoint(&self) -> Result<Checkpoint> {
        let (weights, average) = (self.net.weights()?, self.average.weights()?);
        Checkpoint::new(self.info.clone(), weights, average, &self.optimizer.state())
    }

    /// Writes the row and the checkpoints.
    fn record(&mut self, row: &Row) -> Result<()> {
        // Where most clips do not show most classes, to say no to all is right most often.
        let worth = row.validation.map(|(loss, accuracy)| match self.info.activation {
            Activation::Softmax => accuracy,
            Activation::Sigmoid => -loss,
        });
        let better = worth.is_some_and(|worth| self.info.best.is_none_or(|best| worth >= best));
        if better {
            self.info.best = worth;
        }
        self.history.add(row)?;
        let checkpoint = self.checkpoint()?;
        if better {
            checkpoint.save(&self.plan.out.join(BEST))?;
        }
        checkpoint.save(&self.plan.out.join(LAST))
    }
}

/// The weights that `net` begins with, if it does not begin with fresh ones.
fn first_weights(plan: &Plan, info: &Info, net: &Net) -> Result<Option<Taken>> {
    let of = |path| init::weights(path, &info.labels, net.graph(), &net.weights()?);
    match (&plan.init, &plan.qat, &plan.inflate) {
        (Some(path), ..) => of(path).map(Some),
        (_, Some(bundle), _) => {
            let before = Bundle::load(bundle)?.manifest;
            let same = [
                ("architecture", before.architecture == info.architecture),
                ("input", before.input == info.input),
                ("mode", before.run.mode == info.mode),
            ];
            require("--qat", bundle, &same)?;
            of(bundle).map(Some)
        }
        (.., Some(path)) => init::inflated(path, &info.architecture.parse()?, net.graph()).map(Some),
        _ => Ok(None),
    }
}

/// Refuses what `flag` says to go on from at `path` where it is not the `same` as what the other flags say.
fn require(flag: &str, path: &Path, same: &[(&str, bool)]) -> Result<()> {
    let Some((what, _)) = same.iter().find(|(_, same)| !same) else { return Ok(()) };
    let message = format!("{flag}: {} has another {what}: give the flags it was trained with", path.display());
    Err(Error::new(ErrorKind::Usage, message).into())
}

/// The checkpoint to go on from, whose state goes into `info`.
fn resume(path: &Path, info: &mut Info) -> Result<Checkpoint> {
    let checkpoint = Checkpoint::load(path)?;
    let before = &checkpoint.info;
    let same = [
        ("architecture", before.architecture == info.architecture),
        ("input", before.input == info.input),
        ("mode", before.mode == info.mode),
        ("number of labels a clip, one or any (labels.csv)", before.activation == info.activation),
        ("labels", before.labels == info.labels),
        ("first layer that is trained (--train-from)", before.train_from == info.train_from),
    ];
    require("--resume", path, &same)?;
    (info.step, info.clips, info.seconds, info.best) = (before.step, before.clips, before.seconds, before.best);
    info.before = before.before.clone();
    if !before.recipe.ends_with(&info.recipe) {
        info.recipe = format!("{} && {}", before.recipe, info.recipe);
    }
    Ok(checkpoint)
}

/// Loss and number of right answers of `net` for a batch. Each part's loss is given to `learn` before the next is computed.
fn scored(
    net: &Net,
    info: &Info,
    settings: &Settings,
    batch: &Batch,
    pass: Pass,
    learn: &dyn Fn(&Tensor) -> Result<()>,
) -> Result<(f64, f64)> {
    let clips = batch.tensor(net.graph())?;
    let (all, window) = (clips.size()[2], info.input.frames as i64);
    let truth = Truth::new(&batch.labels, info.labels.len(), info.activation, net.device())?.at(&batch.moments, all)?;
    let smoothing = if pass == Pass::Evaluate { 0.0 } else { settings.label_smoothing };
    let (mut loss, mut right) = (0.0, 0.0);
    net.in_parts(&clips, settings.tbptt.map_or(usize::MAX, usize::from), pass, &mut |first, logits| {
        let (part, hits) = score(&logits, &truth, Frames { first, all, window }, smoothing)?;
        learn(&part)?;
        (loss, right) = (loss + f64::try_from(&part)?, right + hits);
        Ok(())
    })?;
    Ok((loss, right))
}

/// Loss and accuracy of `net` over `batches`, in f32; ends early when `stop` goes up.
///
/// # Errors
/// When a batch cannot be loaded or the device fails.
pub fn evaluate(
    net: &Net,
    info: &Info,
    settings: &Settings,
    batches: impl Iterator<Item = Result<Batch>>,
    stop: &Stop,
) -> Result<Tally> {
    let mut tally = Tally::default();
    for batch in batches {
        if stop.requested() {
            break;
        }
        let batch = batch?;
        let (loss, right) = tch::no_grad(|| scored(net, info, settings, &batch, Pass::Evaluate, &|_| Ok(())))?;
        tally.add(loss, right, batch.labels.len() as i64);
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::checkpoint::tests::info;
    use crate::data::Sample;

    /// Bright squares that move up, down, left or right: the direction is the class.
    struct Squares {
        labels: Vec<String>,
        /// From this clip on planes are no numbers.
        broken_from: u64,
        /// From this clip on there are none.
        missing_from: u64,
        /// Pixels of a side.
        size: usize,
    }

    impl Squares {
        fn shared(broken_from: u64) -> Arc<dyn Dataset> {
            Self::ending(broken_from, u64::MAX)
        }

        fn ending(broken_from: u64, missing_from: u64) -> Arc<dyn Dataset> {
            let labels = ["up", "down", "left", "right"].map(String::from).to_vec();
            Arc::new(Self { labels, broken_from, missing_from, size: 16 })
        }

        fn sized(size: usize) -> Arc<dyn Dataset> {
            let labels = ["up", "down", "left", "right"].map(String::from).to_vec();
            Arc::new(Self { labels, broken_from: u64::MAX, missing_from: u64::MAX, size })
        }
    }

    impl Dataset for Squares {
        fn labels(&self) -> &[String] {
            &self.labels
        }

        fn len(&self, part: Part) -> Option<usize> {
            (part != Part::Train).then_some(24)
        }

        fn sample(&self, part: Part, index: u64, seed: u64, past: usize) -> Result<Sample> {
            ensure!(index < self.missing_from, "clip {index} is missing");
            let mut random = fastrand::Rng::with_seed(if part == Part::Train { seed } else { 1_000_000 + index });
            let label = random.usize(..4);
            let (mut y, mut x) = (random.usize(5..8), random.usize(5..8));
            let size = self.size;
            let mut planes = vec![0.0; (past + 4) * size * size];
            // Before the window there is nothing.
            for plane in planes.chunks_mut(size * size).skip(past) {
                for at in (0..9).map(|i| (y + i / 3) * size + x + i % 3) {
                    plane[at] = if index >= self.broken_from { f32::NAN } else { 2.0 };
                }
                match label {
                    0 => y -= 1,
                    1 => y += 1,
                    2 => x -= 1,
                    _ => x += 1,
                }
            }
            Ok(Sample::new(planes, vec![label]))
        }

        fn shown(&self, part: Part, index: u64) -> Option<Vec<usize>> {
            self.sample(part, index, 0, 0).ok().map(|sample| sample.labels)
        }

        fn describe(&self) -> String {
            "moving squares".into()
        }
    }

    fn settings(steps: u64) -> Settings {
        Settings {
            steps,
            epochs: None,
            batch: 8,
            lr: 1e-2,
            schedule: Default::default(),
            weight_decay: 1e-3,
            max_norm: 5.0,
            label_smoothing: 0.0,
            average: 0.9,
            precision: Some(Precision::F32),
            validate_every: 10,
            validation_clips: 24,
            workers: 1,
            seed: 1,
            tbptt: None,
            train_from: None,
        }
    }

    fn validation(past: usize) -> Batches {
        Batches { size: 8, past: past..=past, workers: 1, seed: 0 }
    }

    fn plan(out: &Path, settings: Settings) -> Plan {
        // The nets are so small that handing work to threads costs more than doing it.
        tch::set_num_threads(1);
        Plan {
            settings,
            architecture: "r2plus1d-edge(width=4,depth=1)".into(),
            input: info(&[]).input,
            mode: Mode::Window,
            recipe: "train-export train".into(),
            init: None,
            inflate: None,
            qat: None,
            resume: false,
            out: out.to_owned(),
            device: Device::Cpu,
        }
    }

    fn history(dir: &Path) -> Vec<Vec<f64>> {
        let text = std::fs::read_to_string(dir.join("history.csv")).unwrap();
        text.lines().skip(1).map(|line| line.split(',').map(|x| x.parse().unwrap_or(f64::NAN)).collect()).collect()
    }

    #[test]
    fn it_learns_and_its_checkpoint_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let info = run(plan(dir.path(), settings(80)), Squares::shared(u64::MAX), &Stop::default()).unwrap();
        let rows = history(dir.path());
        assert_eq!((rows.len(), info.step, info.clips), (8, 80, 640));
        assert!(rows[7][3] < 0.5 * rows[0][3], "training loss {} to {}", rows[0][3], rows[7][3]);
        assert!(rows[7][4] > 0.8 && info.best.unwrap() > 0.8, "accuracy {}, validation {:?}", rows[7][4], info.best);
        let checkpoint = Checkpoint::load(&dir.path().join(LAST)).unwrap();
        // JSON keeps all but the last bit of a number.
        assert!((checkpoint.info.seconds - info.seconds).abs() < 1e-9);
        assert_eq!(checkpoint.info, Info { seconds: checkpoint.info.seconds, ..info.clone() });
        let mut net = Net::new(info.graph().unwrap(), Device::Cpu, 9).unwrap();
        net.set(&checkpoint.average()).unwrap();
        let loader = Loader::new(Squares::shared(u64::MAX), Part::Validation, validation(0));
        let tally = evaluate(&net, &checkpoint.info, &settings(1), loader, &Stop::default()).unwrap();
        assert!((tally.accuracy() - rows[7][6]).abs() < 1e-9);
    }

    #[test]
    fn a_stream_is_trained_and_judged_with_a_past() {
        let dir = tempfile::tempdir().unwrap();
        let plan = |architecture: &str| Plan {
            mode: Mode::Stream,
            architecture: architecture.into(),
            ..plan(dir.path(), settings(60))
        };
        run(plan("r2plus1d-edge(width=4,depth=1)"), Squares::shared(u64::MAX), &Stop::default()).unwrap();
        let rows = history(dir.path());
        assert!(rows[5][3] < 0.7 * rows[0][3], "training loss {} to {}", rows[0][3], rows[5][3]);
        let checkpoint = Checkpoint::load(dir.path()).unwrap();
        assert_eq!(checkpoint.info.mode, Mode::Stream);
        let mut net = Net::new(checkpoint.info.graph().unwrap(), Device::Cpu, 9).unwrap();
        net.set(&Checkpoint::load(&dir.path().join(LAST)).unwrap().average()).unwrap();
        let loader = Loader::new(Squares::shared(u64::MAX), Part::Validation, validation(18));
        let tally = evaluate(&net, &checkpoint.info, &settings(1), loader, &Stop::default()).unwrap();
        assert!((tally.accuracy() - rows[5][6]).abs() < 1e-9);
        let centred = plan("r2plus1d-edge(width=4,depth=1,causal=false)");
        let error = run(centred, Squares::shared(u64::MAX), &Stop::default()).unwrap_err().to_string();
        assert!(error.contains("'stem.temporal'"), "{error}");
    }

    #[test]
    fn every_architecture_learns() {
        let architectures = [
            "r2plus1d-18(width=4)",
            "r2plus1d-34(width=4)",
            "r2plus1d-tutorial(width=4)",
            "r3d-18(width=8,causal=true,temporal_stride=false)",
            "resnet3d-18(width=4)",
            "resnet3d-50(width=4,projection=false)",
            "convlstm-edge(width=4)",
        ];
        for architecture in architectures {
            let dir = tempfile::tempdir().unwrap();
            let plan = Plan { architecture: architecture.into(), ..plan(dir.path(), settings(60)) };
            run(plan, Squares::shared(u64::MAX), &Stop::default()).unwrap();
            let rows = history(dir.path());
            assert!(rows[5][3] < 0.8 * rows[0][3], "{architecture}: training loss {} to {}", rows[0][3], rows[5][3]);
        }
    }

    /// In parts as long as the clips the loss and its gradients are those of the whole; in shorter ones the loss is, and what a
    /// part learns is of its own frames alone.
    #[test]
    fn a_recurrent_net_learns_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let parts = |frames: Option<u16>| Plan {
            architecture: "convlstm-trailer(width=4)".into(),
            input: Input { height: 24, width: 24, ..info(&[]).input },
            settings: Settings { tbptt: frames, ..settings(60) },
            ..plan(dir.path(), settings(60))
        };
        let gradients = |frames: Option<u16>| {
            let run = Run::new(parts(frames), Squares::sized(24)).unwrap();
            let batch = Loader::new(Squares::sized(24), Part::Train, validation(0)).next().unwrap().unwrap();
            let learn = |loss: &Tensor| Ok(loss.f_backward()?);
            // With its own statistics, which are those of all frames.
            let (loss, _) = scored(&run.net, &run.info, &run.plan.settings, &batch, Pass::Evaluate, &learn).unwrap();
            let of = |name: &str| {
                let gradient = run.net.tensors()[name].grad();
                Vec::<f32>::try_from(gradient.reshape([-1])).unwrap()
            };
            (loss, of("lstm1.recurrent.weight"), of("lstm1.input.bias"))
        };
        let (whole, all, part) = (gradients(None), gradients(Some(4)), gradients(Some(3)));
        assert!(whole == all && (whole.0 - part.0).abs() < 1e-6 && whole.1 != part.1 && whole.2 != part.2);
        let none = gradients(Some(1)).1;
        assert!(
            none.iter().any(|x| *x != 0.0),
            "what is remembered is there, though nothing is learned of how it came"
        );
        run(parts(Some(2)), Squares::sized(24), &Stop::default()).unwrap();
        let rows = history(dir.path());
        assert!(rows[5][3] < 0.8 * rows[0][3], "training loss {} to {}", rows[0][3], rows[5][3]);
        let other = Plan { architecture: "r2plus1d-edge(width=4,depth=1)".into(), ..parts(Some(2)) };
        let error = run(other, Squares::sized(24), &Stop::default()).unwrap_err().to_string();
        assert!(error.contains("--tbptt 2") && error.contains("not recurrent"), "{error}");
    }

    /// Of a bundle whose quantised form lost what it knew, because the steps are coarse, training in integers brings it back.
    #[test]
    fn training_as_if_in_integers_makes_up_for_the_rounding() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        run(plan(&place("float"), settings(80)), Squares::shared(u64::MAX), &Stop::default()).unwrap();
        let checkpoint = Checkpoint::load(&place("float")).unwrap();
        let labels = checkpoint.info.labels.clone();
        let mut net = Net::new(checkpoint.info.graph().unwrap(), Device::Cpu, 0).unwrap();
        net.set(&checkpoint.average()).unwrap();
        let accuracy = |net: &Net| {
            let loader = Loader::new(Squares::shared(u64::MAX), Part::Validation, validation(0));
            evaluate(net, &checkpoint.info, &settings(1), loader, &Stop::default()).unwrap()
        };
        let bundle = crate::quantize::tests::coarse_bundle(&place("bundle"), &checkpoint, 10.0);
        let ranges = crate::quantize::ranges_of(&bundle).unwrap();
        net.imitate(ranges.clone());
        let before = accuracy(&net);
        let settings = Settings { lr: 2e-3, ..settings(60) };
        let qat = Plan { qat: Some(bundle.clone()), ..plan(&place("qat"), settings.clone()) };
        run(qat, Squares::shared(u64::MAX), &Stop::default()).unwrap();
        let trained = Checkpoint::load(&place("qat")).unwrap();
        assert_eq!(trained.info.labels, labels);
        let first = kinora::model::Bundle::load(&bundle).unwrap().manifest.provenance.data;
        assert_eq!(trained.info.before, Some(first));
        let mut net = Net::new(trained.info.graph().unwrap(), Device::Cpu, 0).unwrap();
        net.set(&trained.average()).unwrap();
        net.imitate(ranges);
        let after = accuracy(&net);
        assert!(after.loss() < 0.8 * before.loss(), "loss {} to {}", before.loss(), after.loss());
        let qat = Some(bundle.clone());
        let other = "r2plus1d-edge(width=4,depth=2)".into();
        let deeper = Plan { qat, architecture: other, ..plan(&place("deeper"), settings.clone()) };
        let error = run(deeper, Squares::shared(u64::MAX), &Stop::default()).unwrap_err().to_string();
        assert!(error.contains("--qat") && error.contains("architecture"), "{error}");
        let bf16 = Settings { precision: Some(Precision::Bf16), ..settings };
        let refused = Plan { qat: Some(bundle), ..plan(&place("bf16"), bf16) };
        let error = run(refused, Squares::shared(u64::MAX), &Stop::default()).unwrap_err().to_string();
        assert!(error.contains("--precision"), "{error}");
    }

    #[test]
    fn a_run_that_was_stopped_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let stop = Stop::default();
        stop.request();
        let begun = run(plan(dir.path(), settings(6)), Squares::shared(u64::MAX), &stop).unwrap();
        assert_eq!(begun.step, 0);
        run(plan(dir.path(), settings(5)), Squares::shared(u64::MAX), &Stop::default()).unwrap();
        let before = Checkpoint::load(&dir.path().join(LAST)).unwrap();
        let go_on = |steps| Plan { resume: true, recipe: "again".into(), ..plan(dir.path(), settings(steps)) };
        let info = run(go_on(8), Squares::shared(u64::MAX), &Stop::default()).unwrap();
        assert_eq!((info.step, info.clips), (8, 64));
        let after = Checkpoint::load(&dir.path().join(LAST)).unwrap();
        assert_ne!(after.weights(), before.weights());
        assert_eq!(after.info.recipe, "train-export train && again");
        let rows = history(dir.path());
        assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), [5.0, 8.0]);
        let other = Plan { architecture: "r2plus1d-edge(width=2,depth=1)".into(), ..go_on(9) };
        let error = run(other, Squares::shared(u64::MAX), &Stop::default()).unwrap_err();
        assert!(error.to_string().contains("another architecture"), "{error}");
    }

    /// Two short runs, one of which stops and goes on, take the same optimizer steps when they see the same clips.
    #[test]
    fn resuming_restores_the_optimizer() {
        let batch = |seed: i64| {
            tch::manual_seed(seed);
            let clips = Vec::<f32>::try_from(Tensor::randn([4 * 4 * 256], (tch::Kind::Float, Device::Cpu))).unwrap();
            Batch { clips, labels: (0..4).map(|label| vec![label]).collect(), moments: vec![vec![]; 4] }
        };
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut straight = Run::new(plan(a.path(), settings(4)), Squares::shared(u64::MAX)).unwrap();
        for seed in 0..4 {
            straight.step(&batch(seed), 1e-3).unwrap();
        }
        let mut first = Run::new(plan(b.path(), settings(4)), Squares::shared(u64::MAX)).unwrap();
        for seed in 0..2 {
            first.step(&batch(seed), 1e-3).unwrap();
        }
        let row = Row {
            step: 2,
            epoch: None,
            rate: 0.0,
            loss: 0.0,
            accuracy: 0.0,
            validation: None,
            clips_per_second: 0.0,
            seconds: 0.0,
        };
        first.record(&row).unwrap();
        let resumed = Plan { resume: true, ..plan(b.path(), settings(4)) };
        let mut second = Run::new(resumed, Squares::shared(u64::MAX)).unwrap();
        for seed in 2..4 {
            second.step(&batch(seed), 1e-3).unwrap();
        }
        for (one, two) in [(&straight.net, &second.net), (&straight.average, &second.average)] {
            let two = two.weights().unwrap();
            for (name, array) in one.weights().unwrap() {
                let worst = array.iter().zip(&two[&name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-5, "{name}: {worst}");
            }
        }
    }

    #[test]
    fn a_run_begins_with_inflated_weights() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("flat.safetensors");
        init::tests::save_random(&file, &[("stem.spatial.weight".to_owned(), vec![4, 3, 7, 7])].into());
        let fresh = Run::new(plan(dir.path(), settings(1)), Squares::shared(u64::MAX)).unwrap().net.weights().unwrap();
        let begun = Plan { inflate: Some(file), ..plan(dir.path(), settings(1)) };
        let run = Run::new(begun, Squares::shared(u64::MAX)).unwrap();
        let seen = run.info.seen();
        assert!(
            seen.ends_with("first weights from: pictures, by a 2-D net (flat.safetensors, repeated along time)"),
            "{seen}"
        );
        for net in [&run.net, &run.average] {
            let differ = net.weights().unwrap().into_iter().filter(|(name, array)| fresh[name] != *array);
            assert_eq!(differ.map(|(name, _)| name).collect::<Vec<_>>(), ["stem.spatial.weight"]);
        }
    }

    #[test]
    fn what_comes_before_a_layer_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        run(plan(&place("first"), settings(3)), Squares::shared(u64::MAX), &Stop::default()).unwrap();
        let before = Checkpoint::load(&place("first")).unwrap().average();
        let again = |layer: &str, init: bool| {
            let settings = Settings { train_from: Some(layer.into()), ..settings(3) };
            let init = init.then(|| place("first"));
            run(Plan { init, ..plan(&place("again"), settings) }, Squares::shared(u64::MAX), &Stop::default())
        };
        again("stage4", true).unwrap();
        let after = Checkpoint::load(&place("again")).unwrap();
        for weights in [after.weights(), after.average()] {
            let last = |name: &str| name.starts_with("stage4.") || name.starts_with("head.");
            for (name, array) in &weights {
                assert_eq!(*array != before[name], last(name), "{name}");
            }
        }
        let refused = again("stage", true).unwrap_err().to_string();
        assert!(refused.contains("--train-from stage: this net has no such layer"), "{refused}");
        let other = Settings { train_from: Some("head".into()), ..settings(9) };
        let resumed = Plan { resume: true, ..plan(&place("again"), other) };
        let refused = run(resumed, Squares::shared(u64::MAX), &Stop::default()).unwrap_err().to_string();
        assert!(refused.contains("another first layer that is trained (--train-from)"), "{refused}");
        let refused = again("head", false).unwrap_err().to_string();
        assert!(refused.contains("has to come from --init"), "{refused}");
    }

    #[test]
    fn a_loss_that_is_no_number_ends_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let error = run(plan(dir.path(), settings(9)), Squares::shared(16), &Stop::default()).unwrap_err();
        assert!(error.to_string().contains("the loss of step 3 is NaN"), "{error}");
    }

    #[test]
    fn what_was_learned_is_kept_when_the_data_fails() {
        let dir = tempfile::tempdir().unwrap();
        let error = run(plan(dir.path(), settings(9)), Squares::ending(u64::MAX, 40), &Stop::default()).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("clip 40 is missing")
                && text.contains("stopped at step 5, kept in")
                && text.contains("--resume"),
            "{text}"
        );
        assert_eq!(Checkpoint::load(&dir.path().join(LAST)).unwrap().info.step, 5);
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = || Squares::shared(u64::MAX);
        let kind = |error: anyhow::Error| error.downcast::<Error>().unwrap().kind();
        let rate = Settings { lr: 0.0, ..settings(2) };
        assert_eq!(kind(run(plan(dir.path(), rate), data(), &Stop::default()).unwrap_err()), ErrorKind::Usage);
        let epochs = Settings { epochs: Some(2), ..settings(2) };
        assert_eq!(epochs.all_steps(Some(80)).unwrap(), 20);
        assert_eq!(kind(run(plan(dir.path(), epochs), data(), &Stop::default()).unwrap_err()), ErrorKind::Usage);
        std::fs::write(dir.path().join("file"), "").unwrap();
        let out = plan(&dir.path().join("file"), settings(2));
        assert_eq!(kind(run(out, data(), &Stop::default()).unwrap_err()), ErrorKind::Output);
    }
}
