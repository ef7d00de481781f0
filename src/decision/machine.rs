//! [`Decision`]: the state of every label, advanced one step at a time. Never blocks; allocates only in `new`.

use std::time::Duration;

use super::{Event, Kind, Settings, Thresholds};
use crate::model::manifest::Activation;
use crate::{Error, ErrorKind, Result};

/// An action that has started and not ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Active {
    /// Its number, as in its events.
    pub id: u64,
    /// Index of the label.
    pub label: usize,
    /// Smoothed score, 0 to 1.
    pub confidence: f32,
    /// Source time at which it began.
    pub t_start: Duration,
}

/// What is happening, by the scores so far.
#[derive(Debug)]
pub struct Decision {
    activation: Activation,
    smoothing_s: f32,
    min_duration: Duration,
    merge_gap: Duration,
    cooldown: Duration,
    lag: Duration,
    nothing: Option<usize>,
    tracks: Vec<Track>,
    scores: Vec<f32>,
    ranking: Vec<(usize, f32)>,
    active: Vec<Active>,
    /// Time of the last step; none at the beginning of a stream.
    last: Option<Duration>,
    /// Softmax: when the last action ended; the next one does not begin before it.
    last_end: Duration,
    next_id: u64,
}

/// One label.
#[derive(Debug)]
struct Track {
    thresholds: Thresholds,
    /// Whether it may become an event: allowed, and not the label for nothing.
    action: bool,
    /// Smoothed score.
    score: f32,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Does not rise before `ready`.
    Idle { ready: Duration },
    /// Reached its threshold at `since`, not reported yet.
    Rising { since: Duration },
    /// Reported.
    Running(Run),
    /// Reported, fell below its threshold at `fell`, may come back.
    Held { run: Run, fell: Duration },
}

#[derive(Debug, Clone, Copy)]
struct Run {
    id: u64,
    t_start: Duration,
    peak: f32,
    /// Confidence and time of the last event.
    told: f32,
    told_at: Duration,
}

const IDLE: Phase = Phase::Idle { ready: Duration::ZERO };

impl Decision {
    /// After a longer silence than this what ran is over and the next step begins a new stream.
    pub const LONGEST_STEP: Duration = Duration::from_secs(10);
    /// A running action is told again when its confidence changed by more than this since its last event,
    const UPDATE_CHANGE: f32 = 0.05;
    /// or after this time.
    const UPDATE_EVERY: Duration = Duration::from_secs(1);

    /// A decision for a model with these `labels`, of which `allow` may become events (none: all).
    ///
    /// # Errors
    /// `Usage` when a setting is out of range, when `allow` names a label that the model does not have, or no action.
    pub fn new(
        labels: &[String],
        activation: Activation,
        settings: Settings,
        allow: Option<&[String]>,
    ) -> Result<Self> {
        settings.check(labels)?;
        let nothing = labels.iter().position(|l| *l == settings.nothing);
        if let Some(allow) = allow {
            check_allowed(labels, allow, &settings.nothing)?;
        }
        let track = |(index, label): (usize, &String)| Track {
            thresholds: settings.thresholds(label),
            action: Some(index) != nothing && allow.is_none_or(|a| a.contains(label)),
            score: 0.0,
            phase: IDLE,
        };
        Ok(Self {
            activation,
            smoothing_s: settings.smoothing_s,
            min_duration: seconds(settings.min_duration_s),
            merge_gap: seconds(settings.merge_gap_s),
            cooldown: seconds(settings.cooldown_s),
            lag: seconds(settings.lag_s),
            nothing,
            tracks: labels.iter().enumerate().map(track).collect(),
            scores: vec![0.0; labels.len()],
            ranking: Vec::with_capacity(labels.len()),
            active: Vec::with_capacity(labels.len()),
            last: None,
            last_end: Duration::ZERO,
            next_id: 1,
        })
    }

    /// Takes the `logits`, `[K]`, of the window that ends at source time `t` and appends what changed to `events`.
    ///
    /// Logits that are not finite, or not K, say nothing: the step is ignored. A `t` before that of the last step, or more
    /// than [`Self::LONGEST_STEP`] after it, is another stream: what ran ends at the last step.
    pub fn step(&mut self, t: Duration, logits: &[f32], events: &mut Vec<Event>) {
        if let Some(last) = self.last
            && (t < last || t - last > Self::LONGEST_STEP)
        {
            self.finish(last, events);
        }
        if logits.len() != self.scores.len() || !logits.iter().all(|x| x.is_finite()) {
            return;
        }
        self.smooth(t, logits);
        let leader = self.leader();
        for label in 0..self.tracks.len() {
            if self.tracks[label].action {
                self.advance(label, t, leader, events);
            }
        }
        for label in 0..self.tracks.len() {
            if let Phase::Rising { since } = self.tracks[label].phase
                && t - since >= self.min_duration
            {
                self.start(label, since, t, events);
            }
        }
        self.update(t, events);
        self.publish();
    }

    /// Ends what runs at `t` (not before the last step), and forgets the scores: the source is over or lost, or the
    /// window was reset. Ids go on.
    pub fn finish(&mut self, t: Duration, events: &mut Vec<Event>) {
        let t = self.last.map_or(t, |last| last.max(t));
        for label in 0..self.tracks.len() {
            self.end(label, t, events);
        }
        self.reset();
    }

    /// Forgets scores and what runs, without an event. Ids go on.
    pub fn reset(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.phase = IDLE);
        self.ranking.clear();
        self.active.clear();
        self.last = None;
        self.last_end = Duration::ZERO;
    }

    /// Actions that have started and not ended, oldest first.
    pub fn active(&self) -> &[Active] {
        &self.active
    }

    /// Smoothed scores by label index, highest first: the allowed actions and, if the model has it, the label for
    /// nothing. Empty before the first step of a stream.
    pub fn ranking(&self) -> &[(usize, f32)] {
        &self.ranking
    }

    /// Index of the label that means that nothing is happening, if the model has it.
    pub fn nothing(&self) -> Option<usize> {
        self.nothing
    }

    fn smooth(&mut self, t: Duration, logits: &[f32]) {
        self.scores.copy_from_slice(logits);
        self.activation.apply(&mut self.scores);
        if let (Activation::Softmax, Some(nothing)) = (self.activation, self.nothing) {
            let tracks = self.tracks.iter().enumerate();
            let left_out = tracks.filter(|(label, track)| !track.action && *label != nothing);
            self.scores[nothing] += left_out.map(|(label, _)| self.scores[label]).sum::<f32>();
        }
        let share = match self.last {
            Some(last) if self.smoothing_s > 0.0 => -(-(t - last).as_secs_f32() / self.smoothing_s).exp_m1(),
            _ => 1.0,
        };
        for (track, score) in self.tracks.iter_mut().zip(&self.scores) {
            track.score = if share < 1.0 { track.score + share * (score - track.score) } else { *score };
        }
        self.last = Some(t);
    }

    /// Softmax: the action with the highest score, if it is higher than that of nothing.
    fn leader(&self) -> Option<usize> {
        let floor = self.nothing.map_or(0.0, |nothing| self.tracks[nothing].score);
        let actions = self.tracks.iter().enumerate().filter(|(_, track)| track.action && track.score > floor);
        actions.max_by(|a, b| a.1.score.total_cmp(&b.1.score)).map(|(label, _)| label)
    }

    /// Takes one label to its next phase, short of starting it.
    fn advance(&mut self, label: usize, t: Duration, leader: Option<usize>, events: &mut Vec<Event>) {
        let merge_gap = self.merge_gap;
        let leads = self.activation == Activation::Sigmoid || leader == Some(label);
        let Track { thresholds, score, phase, .. } = &mut self.tracks[label];
        let rises = leads && *score >= thresholds.enter;
        let falls = *score < thresholds.exit;
        match *phase {
            Phase::Idle { ready } if rises && t >= ready => *phase = Phase::Rising { since: t },
            Phase::Rising { .. } if falls || !leads => *phase = IDLE,
            Phase::Running(run) if falls => *phase = Phase::Held { run, fell: t },
            Phase::Held { run, .. } if rises => *phase = Phase::Running(run),
            _ => {}
        }
        match phase {
            Phase::Running(run) => run.peak = run.peak.max(*score),
            Phase::Held { fell, .. } if t - *fell >= merge_gap => self.end(label, t, events),
            _ => {}
        }
    }

    fn start(&mut self, label: usize, since: Duration, t: Duration, events: &mut Vec<Event>) {
        let mut t_start = since.saturating_sub(self.lag);
        if self.activation == Activation::Softmax {
            for other in 0..self.tracks.len() {
                self.end(other, since, events);
            }
            t_start = t_start.max(self.last_end);
        }
        let confidence = self.tracks[label].score;
        let run = Run { id: self.next_id, t_start, peak: confidence, told: confidence, told_at: t };
        self.next_id += 1;
        self.tracks[label].phase = Phase::Running(run);
        events.push(Event { kind: Kind::Start, id: run.id, label, confidence, t_start, t_end: None, t });
    }

    /// Ends `label` if it was reported, at `t` or when it fell, whichever is earlier.
    fn end(&mut self, label: usize, t: Duration, events: &mut Vec<Event>) {
        let (run, t) = match self.tracks[label].phase {
            Phase::Running(run) => (run, t),
            Phase::Held { run, fell } => (run, fell.min(t)),
            Phase::Idle { .. } | Phase::Rising { .. } => return,
        };
        let Run { id, t_start, peak: confidence, .. } = run;
        let t_end = t.saturating_sub(self.lag).max(t_start);
        events.push(Event { kind: Kind::End, id, label, confidence, t_start, t_end: Some(t_end), t });
        self.tracks[label].phase = Phase::Idle { ready: t + self.cooldown };
        self.last_end = t_end;
    }

    /// Tells what changed about running actions. Softmax: not while another action rises, which may turn out to have
    /// ended the running one before now.
    fn update(&mut self, t: Duration, events: &mut Vec<Event>) {
        let rival = self.tracks.iter().any(|track| matches!(track.phase, Phase::Rising { .. }));
        if rival && self.activation == Activation::Softmax {
            return;
        }
        for (label, track) in self.tracks.iter_mut().enumerate() {
            let Phase::Running(run) = &mut track.phase else { continue };
            let changed = (track.score - run.told).abs() > Self::UPDATE_CHANGE;
            if changed || t - run.told_at >= Self::UPDATE_EVERY {
                (run.told, run.told_at) = (track.score, t);
                let Run { id, t_start, .. } = *run;
                events.push(Event { kind: Kind::Update, id, label, confidence: track.score, t_start, t_end: None, t });
            }
        }
    }

    /// Brings `ranking` and `active` up to date.
    fn publish(&mut self) {
        self.ranking.clear();
        self.active.clear();
        for (label, track) in self.tracks.iter().enumerate() {
            if track.action || Some(label) == self.nothing {
                self.ranking.push((label, track.score));
            }
            if let Phase::Running(run) | Phase::Held { run, .. } = track.phase {
                let Run { id, t_start, .. } = run;
                self.active.push(Active { id, label, confidence: track.score, t_start });
            }
        }
        self.ranking.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        self.active.sort_unstable_by_key(|active| active.id);
    }
}

/// A checked setting as a duration, to the microsecond, so that 0.2 is as long as two steps of 0.1 seconds.
fn seconds(value: f32) -> Duration {
    Duration::from_micros((f64::from(value) * 1e6).round() as u64)
}

fn check_allowed(labels: &[String], allow: &[String], nothing: &str) -> Result<()> {
    let unknown: Vec<&str> = allow.iter().filter(|l| !labels.contains(l)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let (unknown, known) = (unknown.join(", "), labels.join(", "));
        return Err(Error::new(ErrorKind::Usage, format!("the model has no label {unknown}; it has {known}")));
    }
    if allow.iter().all(|label| label == nothing) {
        return Err(Error::new(ErrorKind::Usage, "no action is allowed; name at least one"));
    }
    Ok(())
}
