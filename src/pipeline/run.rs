//! The main thread's loop: takes frames, shows them to recognition, draws, presents, writes events.

mod swap;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use self::swap::{Leaving, Note};
use super::feed::{Feed, Opener};
use super::latency::{Latency, Stopwatch};
use super::recognition::Found;
use super::recognizer::View;
use super::running::{Prepared, Running};
use super::slots::Bell;
use super::usage::processor_time;
use super::watch::{Watch, Watcher};
use crate::Result;
use crate::capture::Source;
use crate::decision::Kind;
use crate::display::{Display, Wish};
use crate::events::{Context, EventWriter, SourceState};
use crate::frame::Frame;
use crate::overlay::{self, Activity, Overlay, Score, Status};
use crate::stop::Stop;

/// When to stop before the source does.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// After so many frames.
    pub frames: Option<u64>,
    /// After so much source time.
    pub duration: Option<Duration>,
}

/// All that a run needs.
pub struct Pipeline {
    /// The source, opened.
    pub source: Box<dyn Source>,
    /// Opens it again after it was lost.
    pub reopen: Opener,
    /// The model.
    pub model: Prepared,
    /// Watches the model's bundle: when that changes, it takes the model's place.
    pub watch: Option<Watch>,
    /// Where pictures go.
    pub display: Box<dyn Display>,
    /// Where events go.
    pub events: Option<EventWriter>,
    /// Whether frames come at their times and late ones are lost; if not, none is lost and the run is deterministic.
    pub realtime: bool,
    /// When to stop.
    pub limits: Limits,
    /// Asks for an early end, from outside; at the end of the run it is set, so that the source stops too.
    pub stop: Stop,
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Summary {
    /// Frames that arrived.
    pub frames: u64,
    /// Frames that were lost: by the source, on the way, or not shown because a newer one was there.
    pub dropped: u64,
    /// Moments without a frame, for which the frame before was taken once more.
    pub repeated: u64,
    /// Decisions.
    pub decisions: u64,
    /// Actions that were reported.
    pub actions: u64,
    /// Capture to presented picture, over the last frames; none without real time.
    pub latency: Option<Latency>,
    /// When the first decision was there.
    pub first_decision: Option<Instant>,
    /// Processor time of this process, all threads, as a share of one core's, where the system tells.
    pub processor: Option<f32>,
}

impl Pipeline {
    /// Runs until the source ends, a limit is reached, the display's user quits or a stop is asked for. Display and
    /// event file are complete afterwards, also after an error.
    ///
    /// # Errors
    /// The first error of source, engine, display or event file.
    pub fn run(self) -> Result<Summary> {
        let (begin, processor_before) = (Instant::now(), processor_time());
        let ready = Arc::new(Bell::default());
        let mut run = self.start(&ready)?;
        let result = run.until_the_end(&ready);
        let mut finished = run.finish();
        // A source that waits or opens looks at this one.
        run.stop.request();
        if let Ok(summary) = &mut finished {
            let used = processor_time().zip(processor_before).map(|(after, before)| after.saturating_sub(before));
            summary.processor = used.map(|used| used.as_secs_f32() / begin.elapsed().as_secs_f32());
        }
        result.and(finished)
    }

    /// Starts all threads; they ring `ready`.
    fn start(self, ready: &Arc<Bell>) -> Result<Run> {
        let model = Running::start(self.model, self.realtime, ready)?;
        let info = self.source.info().clone();
        let overlay = Overlay::new(info.width, info.height)?;
        let feed = Feed::start(self.source, self.reopen, self.realtime, ready.clone())?;
        Ok(Run {
            feed,
            model,
            leaving: None,
            watcher: self.watch.map(|watch| swap::start(watch, self.realtime, ready)).transpose()?,
            note: None,
            overlay,
            display: self.display,
            events: self.events,
            realtime: self.realtime,
            limits: self.limits,
            stop: self.stop,
            nominal_rate: info.frame_rate,
            rates: Rates::default(),
            stopwatch: Stopwatch::default(),
            shown_latency: None,
            shown: None,
            size: (info.width, info.height),
            lost: None,
            losses: 0,
            frames_before: 0,
            told: None,
            first: None,
            last_sequence: None,
            last_time: Duration::ZERO,
            told_time: Duration::ZERO,
            before: Summary::default(),
            summary: Summary::default(),
        })
    }
}

/// Frames and decisions a second, measured over the last second.
#[derive(Debug)]
struct Rates {
    since: Instant,
    frames: u64,
    decisions: u64,
    frame_rate: f32,
    decision_rate: f32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { since: Instant::now(), frames: 0, decisions: 0, frame_rate: 0.0, decision_rate: 0.0 }
    }
}

struct Run {
    feed: Feed,
    model: Running,
    /// The model before, until what it last decides is written.
    leaving: Option<Leaving>,
    watcher: Option<Watcher<Running>>,
    /// What the overlay says of the model.
    note: Option<Note>,
    overlay: Overlay,
    display: Box<dyn Display>,
    events: Option<EventWriter>,
    realtime: bool,
    limits: Limits,
    stop: Stop,
    nominal_rate: f32,
    rates: Rates,
    stopwatch: Stopwatch,
    shown_latency: Option<overlay::Latency>,
    /// The frame that is being shown, kept for the banner of a lost source.
    shown: Option<Frame>,
    /// Width and height of the source's pictures.
    size: (u32, u32),
    /// Why the source is lost, if it is and that was reported.
    lost: Option<String>,
    /// Losses that were reported.
    losses: u64,
    /// Frames that had arrived when it was lost.
    frames_before: u64,
    /// What the event file says of the source.
    told: Option<SourceState>,
    first: Option<Duration>,
    last_sequence: Option<u64>,
    last_time: Duration,
    /// The highest time in the event file.
    told_time: Duration,
    /// What the models before this one did.
    before: Summary,
    summary: Summary,
}

impl Run {
    fn until_the_end(&mut self, ready: &Bell) -> Result<()> {
        while !self.stop.requested() {
            // Asked before receiving, so that the last frames before the end are still seen.
            let closed = self.feed.frames.closed();
            let took = self.take_frames()?;
            self.model.recognition.collect(&mut self.model.found)?;
            self.write_events()?;
            self.follow_model()?;
            // Without real time the frames before a loss still wait, one for each turn.
            if self.realtime || !took {
                self.follow_source()?;
            }
            if self.display.poll()? == Wish::Quit || self.limit_reached() {
                return Ok(());
            }
            match self.events.as_ref() {
                Some(events) if events.is_closed() => return Ok(()),
                _ => {}
            }
            if !took {
                if closed {
                    return self.feed.failure().map_or(Ok(()), Err);
                }
                ready.wait(Stop::TICK);
            }
        }
        Ok(())
    }

    /// Takes what has arrived: recognition sees every frame, the display the newest. `false`: nothing has.
    fn take_frames(&mut self) -> Result<bool> {
        let mut newest: Option<Frame> = None;
        let mut taken = Instant::now();
        while !self.limit_reached()
            && let Some(frame) = self.feed.frames.receive()
        {
            taken = Instant::now();
            self.count(&frame);
            let Running { recognition, intake, found, .. } = &mut self.model;
            recognition.offer(intake, &frame, found)?;
            if let Some(older) = newest.replace(frame) {
                self.summary.dropped += u64::from(self.display.shows());
                self.feed.frames.give_back(older);
            }
            if !self.realtime {
                break;
            }
        }
        let Some(mut frame) = newest else { return Ok(false) };
        if self.display.shows() {
            self.compose(&mut frame);
            let composed = Instant::now();
            self.display.present(&frame)?;
            if self.realtime {
                self.stopwatch.presented(&frame, taken, composed);
            }
        }
        self.measure();
        if let Some(before) = self.shown.replace(frame) {
            self.feed.frames.give_back(before);
        }
        Ok(true)
    }

    fn count(&mut self, frame: &Frame) {
        self.first.get_or_insert(frame.timestamp);
        if let Some(last) = self.last_sequence {
            self.summary.dropped += frame.sequence.saturating_sub(last + 1);
        }
        self.summary.frames += 1;
        (self.last_sequence, self.last_time) = (Some(frame.sequence), frame.timestamp);
    }

    fn limit_reached(&self) -> bool {
        let lasted = self.last_time.saturating_sub(self.first.unwrap_or_default());
        self.limits.frames.is_some_and(|n| self.summary.frames >= n)
            || self.limits.duration.is_some_and(|d| self.first.is_some() && lasted >= d)
    }

    fn measure(&mut self) {
        self.count_decisions();
        let decisions = self.summary.decisions;
        if decisions > 0 {
            self.summary.first_decision.get_or_insert_with(Instant::now);
        }
        if !self.realtime {
            let lasted = self.last_time.saturating_sub(self.first.unwrap_or_default());
            self.rates.frame_rate = self.nominal_rate;
            self.rates.decision_rate = decisions as f32 / lasted.as_secs_f32().max(1.0);
            return;
        }
        let elapsed = self.rates.since.elapsed();
        if elapsed >= Duration::from_secs(1) {
            let rates = &mut self.rates;
            rates.frame_rate = (self.summary.frames - rates.frames) as f32 / elapsed.as_secs_f32();
            rates.decision_rate = (decisions - rates.decisions) as f32 / elapsed.as_secs_f32();
            (rates.frames, rates.decisions) = (self.summary.frames, decisions);
            rates.since = Instant::now();
            self.shown_latency = self.stopwatch.read().map(|latency| {
                let [p50, p99] = latency.total.map(|ms| Duration::from_secs_f32(ms / 1e3));
                overlay::Latency { p50, p99 }
            });
        }
    }

    /// Draws the state onto `frame`.
    fn compose(&mut self, frame: &mut Frame) {
        let Running { labels, nothing, engine, .. } = &self.model;
        let view = self.model.recognition.view();
        let name = |index: usize| labels.get(index).map_or("?", String::as_str);
        let score = |(label, confidence): (usize, f32)| Score { label: name(label), confidence };
        let mut active = [Score::default(); View::ACTIVE];
        let mut count = 0;
        for (slot, found) in active.iter_mut().zip(view.active.iter().flatten()) {
            *slot = score(*found);
            count += 1;
        }
        let actions = &active[..count];
        let mut candidates = [Score::default(); View::RANKED];
        let mut others = 0;
        // What stands there in large letters is no candidate.
        let is_shown = |label: usize| match actions {
            [] => Some(label) == *nothing,
            actions => actions.iter().any(|a| a.label == name(label)),
        };
        for ranked in view.ranking.iter().flatten() {
            if !is_shown(ranked.0) {
                candidates[others] = score(*ranked);
                others += 1;
            }
        }
        let sure_of_nothing = view.ranking.iter().flatten().find(|r| Some(r.0) == *nothing).map(|r| r.1);
        let overload = view.overloaded.then(|| format!("overload: hop {}", view.hop));
        let truth = frame.truth;
        let status = Status {
            activity: match (view.filled < 1.0, actions.is_empty()) {
                (true, _) => Activity::Filling(view.filled),
                (false, true) => Activity::Nothing(sure_of_nothing),
                (false, false) => Activity::Actions(actions),
            },
            candidates: &candidates[..others],
            frame_rate: self.rates.frame_rate,
            decisions_per_s: self.rates.decision_rate,
            latency: self.shown_latency,
            dropped: self.summary.dropped,
            engine,
            truth,
            source_lost: self.lost.as_deref(),
            overload: overload.as_deref(),
            model: self.note.as_ref().and_then(|note| note.at(frame.timestamp)),
        };
        let Ok(()) = self.overlay.draw(frame, &status);
    }

    /// Writes what was found. As long as a model is leaving, that is what it found, and the other's events wait.
    fn write_events(&mut self) -> Result<()> {
        let wall = self.realtime.then(SystemTime::now);
        let model = self.leaving.as_mut().map_or(&mut self.model, |leaving| &mut leaving.model);
        for Found { mut event, frame, latency } in model.found.drain(..) {
            // Each model counts from one.
            event.id += self.before.actions;
            self.told_time = self.told_time.max(event.t);
            let label = model.labels.get(event.label).map_or("?", String::as_str);
            if event.kind == Kind::Start {
                self.summary.actions += 1;
            }
            if let Some(writer) = &mut self.events {
                writer.write(&event, &Context { label, frame, latency, wall })?;
            }
        }
        Ok(())
    }

    /// Reports a source that went away or came back: event line, and the banner on the last picture.
    fn follow_source(&mut self) -> Result<()> {
        let loss = self.feed.loss();
        let new = loss.count > self.losses;
        if (new || loss.present) && self.lost.as_ref() != Some(&loss.reason) {
            if self.lost.is_none() {
                // What comes next begins a new window, even if it comes while a decision on the old one is being made.
                self.model.intake.reset();
                self.frames_before = self.summary.frames;
            }
            self.show_loss(loss.reason.clone())?;
        }
        // What was seen until then is written first, so that times in the event file never go back.
        if self.leaving.is_some() {
            return Ok(());
        }
        if new {
            if !self.model.recognition.interrupt(self.last_time, &mut self.model.found)? {
                return Ok(());
            }
            self.write_events()?;
            self.tell_source(SourceState::Lost, Some(&loss.reason))?;
            self.losses = loss.count;
        }
        // Back with the first frame that is seen.
        if !loss.present && self.lost.is_some() && self.summary.frames > self.frames_before {
            self.lost = None;
            self.tell_source(SourceState::Back, None)?;
        }
        Ok(())
    }

    /// Writes what became of the source. One that was lost again before its return was written was back in between.
    fn tell_source(&mut self, state: SourceState, reason: Option<&str>) -> Result<()> {
        self.told_time = self.last_time;
        let Some(events) = &mut self.events else { return Ok(()) };
        let wall = self.realtime.then(SystemTime::now);
        if state == SourceState::Lost && self.told == Some(SourceState::Lost) {
            events.write_source(SourceState::Back, None, self.last_time, wall)?;
        }
        self.told = Some(state);
        events.write_source(state, reason, self.last_time, wall)
    }

    /// Says on the last picture why there is no other.
    fn show_loss(&mut self, reason: String) -> Result<()> {
        self.lost = Some(reason);
        if !self.display.shows() {
            return Ok(());
        }
        let before = self.shown.take();
        let is_slot = before.is_some();
        // A camera that never delivered has no picture to write on.
        let mut frame = before.unwrap_or_else(|| Frame::new(self.size.0, self.size.1));
        self.compose(&mut frame);
        self.display.present(&frame)?;
        self.shown = is_slot.then_some(frame);
        Ok(())
    }

    /// Completes what was written; the first error counts, but everything is tried.
    fn finish(&mut self) -> Result<Summary> {
        let left = self.part();
        let recognised = self.model.recognition.finish(&mut self.model.found);
        let written = self.write_events();
        let shown = self.display.finish();
        self.count_decisions();
        self.summary.latency = self.stopwatch.read();
        left.and(recognised).and(written).and(shown)?;
        Ok(self.summary)
    }
}

#[cfg(test)]
mod tests;
