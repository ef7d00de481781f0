//! A model takes the place of another one between two frames. Nothing waits for the one that leaves: frames go to the new
//! one at once, while the one that leaves may still be deciding. Its last events are written when they are there, then the
//! line that says so, then the new one's.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Run;
use crate::Result;
use crate::events::ModelState;
use crate::overlay::Change;
use crate::pipeline::running::Running;
use crate::pipeline::slots::Bell;
use crate::pipeline::watch::{News, Watch, Watcher};

/// How long the overlay says it, in source time.
const SHOWN_FOR: Duration = Duration::from_secs(5);

/// A model that frames no longer go to.
pub(super) struct Leaving {
    pub model: Running,
    /// Source time at which the other one took its place.
    t: Duration,
}

/// What the overlay says of the model for a while.
pub(super) struct Note {
    state: ModelState,
    text: String,
    until: Duration,
}

impl Note {
    /// What it says in the picture of source time `t`.
    pub fn at(&self, t: Duration) -> Option<Change<'_>> {
        let change = match self.state {
            ModelState::Swapped => Change::Swapped(&self.text),
            ModelState::Kept => Change::Kept(&self.text),
        };
        (t < self.until).then_some(change)
    }
}

/// Starts to watch. What is handed over runs already, it only has to be given frames.
pub(super) fn start(watch: Watch, realtime: bool, ready: &Arc<Bell>) -> Result<Watcher<Running>> {
    let Watch { bundle, seen, mut prepare } = watch;
    let ready = ready.clone();
    Watcher::start(bundle, seen, move |bundle| Running::start(prepare(bundle)?, realtime, &ready))
}

impl Run {
    /// Lets a model that is ready take its place, or says why there is none.
    pub(super) fn follow_model(&mut self) -> Result<()> {
        if self.leaving.is_none() {
            match self.watcher.as_mut().and_then(Watcher::news) {
                None => {}
                Some(News::Ready(model)) => self.swap(model),
                Some(News::Wrong { reason, short }) => self.keep(&reason, short)?,
            }
        }
        let Some(Leaving { model, t }) = &mut self.leaving else { return Ok(()) };
        match model.recognition.interrupt(*t, &mut model.found)? {
            true => self.part(),
            false => Ok(()),
        }
    }

    /// From the next frame on it is `model` that sees them.
    pub(super) fn swap(&mut self, model: Running) {
        log::info!("{}: swapped in, with {}", model.name, model.engine);
        self.note(ModelState::Swapped, model.name.clone());
        let model = std::mem::replace(&mut self.model, model);
        self.leaving = Some(Leaving { model, t: self.last_time });
    }

    fn keep(&mut self, reason: &str, short: String) -> Result<()> {
        log::warn!("{} goes on: {reason}", self.model.name);
        self.note(ModelState::Kept, short);
        // Events that are still to come are not older than what has been seen.
        let seen = self.model.recognition.view().seen;
        self.model.recognition.collect(&mut self.model.found)?;
        self.write_events()?;
        self.tell_model(ModelState::Kept, Some(reason), seen)
    }

    fn note(&mut self, state: ModelState, text: String) {
        self.note = Some(Note { state, text, until: self.last_time + SHOWN_FOR });
    }

    /// Writes the last of the model that leaves, if there is one, and lets it go.
    pub(super) fn part(&mut self) -> Result<()> {
        let Some(Leaving { model, .. }) = &mut self.leaving else { return Ok(()) };
        // The interruption may have been that of a lost source: something may have begun since, and is to end.
        let recognised = model.recognition.finish(&mut model.found);
        let written = self.write_events();
        let Some(Leaving { model, t }) = self.leaving.take() else { return recognised.and(written) };
        let view = model.recognition.view();
        self.before.decisions += view.decisions;
        self.before.repeated += view.repeated;
        self.before.actions = self.summary.actions;
        let told = written.and_then(|()| self.tell_model(ModelState::Swapped, None, t));
        recognised.and(told)
    }

    /// Writes what became of the model at source time `t`.
    fn tell_model(&mut self, state: ModelState, reason: Option<&str>, t: Duration) -> Result<()> {
        self.told_time = self.told_time.max(t);
        let Some(events) = &mut self.events else { return Ok(()) };
        events.write_model(state, &self.model.name, reason, self.told_time, self.realtime.then(SystemTime::now))
    }

    /// Counts the decisions of all models.
    pub(super) fn count_decisions(&mut self) {
        let leaving = self.leaving.as_ref().map(|leaving| leaving.model.recognition.view()).unwrap_or_default();
        let view = self.model.recognition.view();
        self.summary.decisions = self.before.decisions + leaving.decisions + view.decisions;
        self.summary.repeated = self.before.repeated + leaving.repeated + view.repeated;
    }
}
