//! Window, engine and decision for one stream: what turns planes into events. Used on the main thread without real
//! time, on a thread of its own otherwise.

use std::time::{Duration, Instant};

use super::Runner;
use super::intake::Plane;
use crate::Result;
use crate::decision::{Decision, Event};
use crate::model::Manifest;
use crate::model::manifest::Mode;

/// What the overlay shows of the state of recognition. Plain data of fixed size.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct View {
    /// Running actions, the latest first: index of the label and smoothed score.
    pub active: [Option<(usize, f32)>; View::ACTIVE],
    /// The highest smoothed scores: index of the label and score.
    pub ranking: [Option<(usize, f32)>; View::RANKED],
    /// How full the window is, 0 to 1.
    pub filled: f32,
    /// Source time up to which frames have been seen.
    pub seen: Duration,
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
    runner: Runner,
    decision: Decision,
    period: Duration,
    wanted_hop: usize,
    hop: usize,
    /// A stream that is too slow sees every so many planes only.
    thinned: usize,
    skipped: usize,
    /// What the engine takes for a decision, or for a plane of a stream.
    engine_s: f32,
    last: Duration,
    decisions: u64,
    repeats: u64,
}

impl Recognizer {
    /// Recognition with `runner` of the bundle that `manifest` describes, decided every `hop` planes.
    pub fn new(manifest: &Manifest, runner: Runner, decision: Decision, hop: usize) -> Self {
        Self {
            runner,
            decision,
            period: Duration::from_secs_f32(1.0 / manifest.input.frame_rate),
            wanted_hop: hop.max(1),
            hop: hop.max(1),
            thinned: 1,
            skipped: 0,
            engine_s: 0.0,
            last: Duration::ZERO,
            decisions: 0,
            repeats: 0,
        }
    }

    /// Adds `plane` to the window or the stream. What ran is ended in `events` when the plane begins a new one.
    ///
    /// # Errors
    /// Those of [`Runner::push`].
    pub fn absorb(&mut self, plane: &Plane, events: &mut Vec<Event>) -> Result<()> {
        if plane.restart {
            self.decision.finish(self.last, events);
            self.runner.reset();
        }
        self.last = plane.timestamp;
        self.repeats += plane.repeats as u64;
        self.skipped += 1 + plane.repeats;
        if self.skipped < self.thinned && !plane.restart {
            return Ok(());
        }
        self.skipped = 0;
        let begin = Instant::now();
        for _ in 0..plane.repeats / self.thinned {
            self.runner.repeat()?;
        }
        self.runner.push(&plane.data)?;
        if self.runner.mode() == Mode::Stream {
            self.measure(begin);
        }
        Ok(())
    }

    fn measure(&mut self, begin: Instant) {
        let took_s = begin.elapsed().as_secs_f32();
        self.engine_s = if self.engine_s == 0.0 { took_s } else { 0.8 * self.engine_s + 0.2 * took_s };
    }

    /// Decides if a decision is due and appends what changed to `events`; `false` if none is due.
    ///
    /// # Errors
    /// Those of [`Runner::decide`].
    pub fn decide(&mut self, events: &mut Vec<Event>) -> Result<bool> {
        let begin = Instant::now();
        let Some(logits) = self.runner.decide(self.hop)? else { return Ok(false) };
        self.decision.step(self.last, logits, events);
        self.decisions += 1;
        if self.runner.mode() == Mode::Window {
            self.measure(begin);
        }
        Ok(true)
    }

    /// Adapts to what the engine manages: under overload the hop grows, or a stream sees every second plane, or fewer; with
    /// time again all is as before. `Some` when it changed: planes from one run of the engine to the next.
    pub fn adapt(&mut self) -> Option<usize> {
        let (now, least) = match self.runner.mode() {
            Mode::Window => (self.hop, self.wanted_hop),
            Mode::Stream => (self.thinned, 1),
        };
        // A tenth in reserve, and shrinking only with a fifth to spare, so that it does not swing.
        let planes = |reserve: f32| (self.engine_s * reserve / self.period.as_secs_f32()).ceil() as usize;
        let next = if planes(1.1) > now {
            planes(1.1)
        } else if planes(1.3) < now {
            planes(1.3)
        } else {
            now
        };
        let next = next.max(least);
        match self.runner.mode() {
            Mode::Window => self.hop = next,
            Mode::Stream => self.thinned = next,
        }
        (next != now).then_some(next)
    }

    /// Ends what runs at time `t`: the source is lost.
    pub fn interrupt(&mut self, t: Duration, events: &mut Vec<Event>) {
        self.last = self.last.max(t);
        self.finish(events);
    }

    /// Ends what runs: the source is over.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        self.decision.finish(self.last, events);
        self.runner.reset();
    }

    /// The logits, `[K]`, of the last decision.
    pub fn logits(&self) -> &[f32] {
        self.runner.logits()
    }

    /// Planes in a window.
    pub fn frames(&self) -> usize {
        self.runner.frames()
    }

    /// Planes from one run of the engine to the next, as they should be, and in words.
    pub fn wanted(&self) -> (usize, String) {
        match (self.runner.mode(), self.wanted_hop) {
            (Mode::Window, hop @ 2..) => (hop, format!("a decision every {hop} sampled frames")),
            (Mode::Window, _) => (1, "a decision at every sampled frame".into()),
            (Mode::Stream, _) => (1, "every sampled frame".into()),
        }
    }

    /// The state, for the overlay.
    pub fn view(&self) -> View {
        let mut view = View {
            filled: self.runner.filled(),
            seen: self.last,
            decisions: self.decisions,
            repeated: self.repeats,
            hop: self.hop.max(self.thinned),
            overloaded: self.hop > self.wanted_hop || self.thinned > 1,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::decision::{Kind, Settings};
    use crate::engine::Session;
    use crate::model::manifest::{Activation, Colour, Input, Output, Provenance, Resize, Run};
    use ndarray::ArrayView5;

    /// Says `up` as loudly as the newest plane is bright, and can be slow.
    struct Brightness {
        pause: Duration,
    }

    impl Session for Brightness {
        fn infer(&mut self, clip: ArrayView5<'_, f32>, logits: &mut [f32]) -> Result<()> {
            std::thread::sleep(self.pause);
            logits.copy_from_slice(&[0.0, clip[[0, 0, clip.dim().2 - 1, 0, 0]]]);
            Ok(())
        }
    }

    fn recognizer(pause: Duration) -> Recognizer {
        let manifest = Manifest {
            format: 1,
            name: "test".into(),
            architecture: "test".into(),
            input: Input {
                frames: 3,
                height: 8,
                width: 8,
                colour: Colour::Gray,
                frame_rate: 100.0,
                resize: Resize::Crop,
                mean: vec![0.0],
                std: vec![1.0],
            },
            output: Output { activation: Activation::Softmax, classes: 2, per_frame: false },
            run: Run { mode: Mode::Window, hop: 1 },
            decision: Settings { smoothing_s: 0.0, min_duration_s: 0.0, merge_gap_s: 0.0, ..Settings::default() },
            quantisation: None,
            sided: vec![],
            provenance: Provenance { licence: String::new(), data: String::new(), recipe: String::new() },
            measured: vec![],
            sha256: Default::default(),
        };
        let labels = ["nothing", "up"].map(String::from);
        let decision = Decision::new(&labels, Activation::Softmax, manifest.decision.clone(), None).unwrap();
        let runner = Runner::with(Box::new(Brightness { pause }), Mode::Window, &manifest);
        Recognizer::new(&manifest, runner, decision, 1)
    }

    fn plane(n: u64, value: f32) -> Plane {
        Plane {
            data: vec![value; 64],
            timestamp: Duration::from_millis(10 * n),
            captured: Instant::now(),
            sequence: n,
            repeats: 0,
            restart: n == 0,
        }
    }

    #[test]
    fn a_full_window_is_decided_on_and_a_restart_ends_what_runs() -> Result<()> {
        let mut recognizer = recognizer(Duration::ZERO);
        let mut events = Vec::new();
        let decided: Vec<bool> = (0..4)
            .map(|n| {
                recognizer.absorb(&plane(n, 5.0), &mut events)?;
                recognizer.decide(&mut events)
            })
            .collect::<Result<_>>()?;
        assert_eq!(decided, [false, false, true, true]);
        assert_eq!(events.iter().map(|e| e.kind).collect::<Vec<_>>(), [Kind::Start]);
        assert_eq!(recognizer.view().active[0].map(|a| a.0), Some(1));
        recognizer.absorb(&Plane { restart: true, ..plane(9, 5.0) }, &mut events)?;
        assert_eq!(events.last().map(|e| (e.kind, e.t)), Some((Kind::End, Duration::from_millis(30))));
        let view = recognizer.view();
        assert!(view.filled < 0.5 && view.active[0].is_none() && view.ranking[0].is_none());
        Ok(())
    }

    #[test]
    fn a_gap_fills_the_window_with_the_frame_before_it() -> Result<()> {
        let mut recognizer = recognizer(Duration::ZERO);
        let mut events = Vec::new();
        recognizer.absorb(&plane(0, 5.0), &mut events)?;
        recognizer.absorb(&Plane { repeats: 1, ..plane(2, 5.0) }, &mut events)?;
        assert!(recognizer.decide(&mut events)?);
        assert_eq!(recognizer.view().repeated, 1);
        Ok(())
    }

    /// 35 ms a decision at a plane each 10 ms: one every 4 planes can be had.
    #[test]
    fn the_hop_grows_under_overload_and_shrinks_back() -> Result<()> {
        let mut recognizer = recognizer(Duration::from_millis(35));
        let mut events = Vec::new();
        for n in 0..3 {
            recognizer.absorb(&plane(n, 0.0), &mut events)?;
        }
        assert!(recognizer.decide(&mut events)?);
        let grown = recognizer.adapt();
        assert!(grown.is_some_and(|hop| hop >= 4), "{grown:?}");
        assert!(recognizer.view().overloaded);
        recognizer.engine_s = 0.001;
        assert_eq!(recognizer.adapt(), Some(1));
        assert!(!recognizer.view().overloaded);
        assert_eq!(recognizer.adapt(), None);
        Ok(())
    }
}
