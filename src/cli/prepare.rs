//! From a bundle to a model that is ready to run, as flags and settings file want it: the one that a run begins with, and any
//! that takes its place later.

use std::path::PathBuf;

use kinora::decision::{Decision, Settings};
use kinora::engine;
use kinora::model::Bundle;
use kinora::pipeline::{Intake, Prepared, Recognizer, Runner};
use kinora::{Error, ErrorKind, Result};

use super::args::{ModelArgs, RunArgs};
use super::config;

/// What flags and settings file say of whatever model runs.
pub struct Wishes {
    model: ModelArgs,
    labels: Option<Vec<String>>,
    threshold: Option<f32>,
    smoothing: Option<f32>,
    /// The settings file, for messages, and what it says of the decision.
    config: Option<PathBuf>,
    overrides: config::Decision,
}

impl Wishes {
    /// Those of `args`, which the settings file has completed, and of that file's `overrides`.
    pub fn new(args: &RunArgs, overrides: config::Decision) -> Self {
        Self {
            model: args.model.clone(),
            labels: args.labels.clone(),
            threshold: args.threshold,
            smoothing: args.smoothing,
            config: args.pictures.config.clone(),
            overrides,
        }
    }

    /// Makes `bundle` ready to run: opens its engine, which takes its time.
    ///
    /// # Errors
    /// `Usage` when a flag or the settings file does not fit the bundle, `Engine` when it cannot be run as they want it; what
    /// is wrong is said of what asked for it. `Model` when the model is broken.
    pub fn prepare(&self, bundle: &Bundle) -> Result<Prepared> {
        let (manifest, settings) = (&bundle.manifest, self.settings(bundle)?);
        let nothing = bundle.labels.iter().position(|label| *label == settings.nothing);
        let decision = Decision::new(&bundle.labels, manifest.output.activation, settings, self.labels.as_deref())
            .map_err(|e| e.within("--labels"))?;
        let hop = self.hop(bundle);
        if hop as f32 / manifest.input.frame_rate >= Decision::LONGEST_STEP.as_secs_f32() {
            let message = format!("--hop {hop}: decisions more than {:?} apart find no action", Decision::LONGEST_STEP);
            return Err(Error::new(ErrorKind::Usage, message));
        }
        let engine = engine::open(bundle, &self.model.engine()).map_err(|error| {
            let flags = self.model.engine_flags();
            if error.kind() == ErrorKind::Engine && !flags.is_empty() { error.within(flags) } else { error }
        })?;
        Ok(Prepared {
            name: manifest.name.clone(),
            intake: Intake::new(&manifest.input),
            recognizer: Recognizer::new(manifest, Runner::new(&*engine, manifest)?, decision, hop),
            labels: bundle.labels.clone(),
            nothing,
            engine: format!("{} {}", engine.name(), engine.precision().name()),
        })
    }

    /// How often `bundle` is decided on, in words.
    pub fn hop_words(&self, bundle: &Bundle) -> String {
        format!("a decision every {:.0} ms", self.hop(bundle) as f32 / bundle.manifest.input.frame_rate * 1e3)
    }

    fn hop(&self, bundle: &Bundle) -> usize {
        self.model.hop.map_or(bundle.manifest.run.hop, usize::from)
    }

    /// The model's settings, changed by the settings file, then by flags. What is wrong is said of what set it.
    fn settings(&self, bundle: &Bundle) -> Result<Settings> {
        let mut settings = bundle.manifest.decision.clone();
        let file = self.config.as_deref().map_or(String::new(), |path| path.display().to_string());
        self.overrides.apply(&mut settings);
        settings.check(&bundle.labels).map_err(|e| e.within(&file))?;
        if let Some(nothing) =
            self.overrides.nothing().filter(|nothing| bundle.labels.iter().all(|label| label != nothing))
        {
            let known = bundle.labels.join(", ");
            let message =
                format!("{file}: decision.nothing = {nothing:?}: the model has no such label; it has {known}");
            return Err(Error::new(ErrorKind::Usage, message));
        }
        if let Some(threshold) = self.threshold {
            settings.set_threshold(threshold);
            settings.check(&bundle.labels).map_err(|e| e.within("--threshold"))?;
        }
        if let Some(smoothing) = self.smoothing {
            settings.smoothing_s = smoothing;
            settings.check(&bundle.labels).map_err(|e| e.within("--smoothing"))?;
        }
        Ok(settings)
    }
}
