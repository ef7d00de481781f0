//! Window, engine and decision for one stream: what turns planes into events. Used on the main thread without real
//! time, on a thread of its own otherwise.

use std::time::{Duration, Instant};

use super::intake::Plane;
use crate::Result;
use crate::decision::{Active, Decision, Event};
use crate::engine::Session;
use crate::model::Manifest;
use crate::window::Window;

/// What the overlay shows of the state of recognition. Plain data of fixed size.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct View {
    /// Running actions, the latest first: index of the label and smoothed score.
    pub active: [Option<(usize, f32)>; View::ACTIVE],
    /// The highest smoothed scores: index of the label and score.
    pub ranking: [Option<(usize, f32)>; View::RANKED],
    /// How full the window is, 0 to 1.
    pub filled: f32,
    /// Decisions so far.
    pub decisions: u64,
    /// Moments without a frame, for which the frame before was taken once more.
    pub repeated: u64,
    /// Planes from one decision to the next, as it is now.
    pub hop: usize,
    /// Whether the hop is longer than wanted, as the engine is too slow.
    pub overloaded: bool,
}

impl View {
    /// Running actions that are shown at most.
    pub const ACTIVE: usize = 4;
    /// Candidates that are shown at most.
    pub const RANKED: usize = 3;
}

/// The state of recognition of one stream.
pub struct Recognizer {
    window: Window,
    session: Box<dyn Session>,
    decision: Decision,
    logits: Vec<f32>,
    period: Duration,
    wanted_hop: usize,
    hop: usize,
    infer_s: f32,
    last: Duration,
    decisions: u64,
    repeats: u64,
}

impl Recognizer {
    /// Recognition with `session` of the bundle that `manifest` describes, decided every `hop` planes.
    pub fn new(manifest: &Manifest, session: Box<dyn Session>, decision: Decision, hop: usize) -> Self {
        Self {
            window: Window::new(&manifest.input),
            session,
            decision,
            logits: vec![0.0; manifest.output.classes],
            period: Duration::from_secs_f32(1.0 / manifest.input.frame_rate),
            wanted_hop: hop.max(1),
            hop: hop.max(1),
            infer_s: 0.0,
            last: Duration::ZERO,
            decisions: 0,
            repeats: 0,
        }
    }

    /// Adds `plane` to the window. What ran is ended in `events` when the plane begins a new window.
    pub fn absorb(&mut self, plane: &Plane, events: &mut Vec<Event>) {
        if plane.restart {
            self.decision.finish(self.last, events);
            self.decision.reset();
            self.window.reset();
        }
        for _ in 0..plane.repeats {
            self.window.repeat();
        }
        self.repeats += plane.repeats as u64;
        self.window.push(&plane.data);
        self.last = plane.timestamp;
    }

    /// Runs the engine on the window if a decision is due and appends what changed to `events`; `false` if none is due.
    ///
    /// # Errors
    /// Those of [`Session::infer`].
    pub fn decide(&mut self, events: &mut Vec<Event>) -> Result<bool> {
        if !self.window.due(self.hop) {
            return Ok(false);
        }
        let begin = Instant::now();
        self.session.infer(self.window.clip(), &mut self.logits)?;
        let took_s = begin.elapsed().as_secs_f32();
        self.infer_s = if self.decisions == 0 { took_s } else { 0.8 * self.infer_s + 0.2 * took_s };
        self.decisions += 1;
        self.decision.step(self.last, &self.logits, events);
        Ok(true)
    }

    /// Adapts the hop to what the engine manages: it grows under overload and shrinks back when there is time again.
    /// `Some` when it changed: the new hop.
    pub fn adapt(&mut self) -> Option<usize> {
        // A tenth in reserve, and shrinking only with a fifth to spare, so that it does not swing.
        let planes = |reserve: f32| (self.infer_s * reserve / self.period.as_secs_f32()).ceil() as usize;
        let hop = if planes(1.1) > self.hop {
            planes(1.1)
        } else if planes(1.3) < self.hop {
            planes(1.3)
        } else {
            self.hop
        };
        let hop = hop.max(self.wanted_hop);
        (std::mem::replace(&mut self.hop, hop) != hop).then_some(hop)
    }

    /// Ends what runs: the source is over or lost.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        self.decision.finish(self.last, events);
        self.decision.reset();
        self.window.reset();
    }

    /// The running actions.
    pub fn active(&self) -> &[Active] {
        self.decision.active()
    }

    /// The hop that was asked for.
    pub fn wanted_hop(&self) -> usize {
        self.wanted_hop
    }

    /// The state, for the overlay.
    pub fn view(&self) -> View {
        let mut view = View {
            filled: self.window.filled(),
            decisions: self.decisions,
            repeated: self.repeats,
            hop: self.hop,
            overloaded: self.hop > self.wanted_hop,
            ..View::default()
        };
        for (slot, active) in view.active.iter_mut().zip(self.decision.active().iter().rev()) {
            *slot = Some((active.label, active.confidence));
        }
        // Without a full window the scores are those of a stream that is over.
        if view.filled >= 1.0 {
            for (slot, ranked) in view.ranking.iter_mut().zip(self.decision.ranking()) {
                *slot = Some(*ranked);
            }
        }
        view
    }
}
