//! Scores over time become actions with a start and an end. A pure function of scores and timestamps: no clock, no
//! thread, no blocking, and no allocation after [`Decision::new`] as long as the caller's event list has room.
//!
//! The way of one action's score:
//!
//! 1. Smoothed exponentially over source time, so neither hop nor frame rate changes what is decided.
//! 2. *Rising* from the moment it reaches `enter`; forgotten when it falls below `exit` too early.
//! 3. *Running*, and reported, once it has lasted `min_duration_s`; its `t_start` is when it rose.
//! 4. *Held* from the moment it falls below `exit`: it goes on with the same id if it reaches `enter` again within
//!    `merge_gap_s`, else its end is reported, with the time at which it fell.
//! 5. Not rising again before `cooldown_s` is over.
//!
//! A softmax model gives one action at a time: only the leading one rises, it must lead `nothing` too, and when it
//! starts, it ends the one before it, also a held one. A sigmoid model gives any number.
//!
//! With an allow list, scores are not renormalised: a person who walks must not become a fall because only `fall` is
//! allowed. For softmax what is not allowed counts as `nothing`, to whose score it is added; for sigmoid it is left out.

mod machine;

#[cfg(test)]
mod tests;

pub use machine::{Active, Decision};

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// How scores become actions. All times are seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Time constant of the exponential smoothing of scores; 0 turns it off.
    pub smoothing_s: f32,
    /// An action starts when its smoothed score rises to this.
    pub enter: f32,
    /// It ends when its smoothed score falls below this.
    pub exit: f32,
    /// Shorter actions are never reported: a start is reported once the action has lasted this long.
    pub min_duration_s: f32,
    /// An action that comes back within this time goes on as the same action.
    pub merge_gap_s: f32,
    /// Time after an action's end in which the same action does not start again.
    pub cooldown_s: f32,
    /// How far the scores are behind what happens: a window has to see some of an action before, and some of what
    /// follows after. Reported starts and ends are put back by this.
    pub lag_s: f32,
    /// The label that means that nothing is happening; it never becomes an event. A model need not have it.
    pub nothing: String,
    /// Thresholds of single labels, in place of `enter` and `exit`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Thresholds>,
}

/// The thresholds of one label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// An action starts when its smoothed score rises to this.
    pub enter: f32,
    /// It ends when its smoothed score falls below this.
    pub exit: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            smoothing_s: 0.2,
            enter: 0.6,
            exit: 0.4,
            min_duration_s: 0.2,
            merge_gap_s: 0.3,
            cooldown_s: 0.0,
            lag_s: 0.0,
            nothing: "nothing".into(),
            labels: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Longest time that a setting may have, in seconds.
    const LONGEST_S: f32 = 3600.0;

    /// Sets `enter`; `exit` keeps its proportion to it.
    pub fn set_enter(&mut self, enter: f32) {
        self.exit *= enter / self.enter;
        self.enter = enter;
    }

    /// Sets one threshold for all labels, as [`Self::set_enter`] does; the thresholds of single labels are dropped.
    pub fn set_threshold(&mut self, threshold: f32) {
        self.set_enter(threshold);
        self.labels.clear();
    }

    /// The thresholds of `label`.
    pub fn thresholds(&self, label: &str) -> Thresholds {
        self.labels.get(label).copied().unwrap_or(Thresholds { enter: self.enter, exit: self.exit })
    }

    /// Checks every field, for a model with these `labels`.
    ///
    /// # Errors
    /// `Usage`, naming the field, its value and what it may be.
    pub fn check(&self, labels: &[String]) -> Result<()> {
        let times = [
            ("smoothing_s", self.smoothing_s),
            ("min_duration_s", self.min_duration_s),
            ("merge_gap_s", self.merge_gap_s),
            ("cooldown_s", self.cooldown_s),
            ("lag_s", self.lag_s),
        ];
        for (field, value) in times {
            if !(0.0..=Self::LONGEST_S).contains(&value) {
                let message = format!("decision.{field} = {value}: must be from 0 to {} seconds", Self::LONGEST_S);
                return Err(Error::new(ErrorKind::Usage, message));
            }
        }
        check_thresholds("decision", Thresholds { enter: self.enter, exit: self.exit })?;
        for (label, &thresholds) in &self.labels {
            if !labels.contains(label) {
                let known = labels.join(", ");
                let message = format!("decision.labels.{label}: the model has no such label; it has {known}");
                return Err(Error::new(ErrorKind::Usage, message));
            }
            check_thresholds(&format!("decision.labels.{label}"), thresholds)?;
        }
        Ok(())
    }
}

/// Checks one pair of thresholds; `what` names where they are set.
fn check_thresholds(what: &str, Thresholds { enter, exit }: Thresholds) -> Result<()> {
    let wrong = if !(enter > 0.0 && enter <= 1.0) {
        format!("{what}.enter = {enter}: must be above 0 and at most 1")
    } else if !(exit > 0.0 && exit <= enter) {
        format!("{what}.exit = {exit}: must be above 0 and at most {what}.enter = {enter}")
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Usage, wrong))
}

/// What happened to an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It began.
    Start,
    /// It goes on: its confidence changed by more than 0.05 since the last event, or a second has passed.
    Update,
    /// It is over.
    End,
}

/// A change of what is happening.
///
/// Events of one id have rising times. Over all ids that also holds for softmax models; for sigmoid models an end,
/// held back by the merge gap, may be older than an event of another action before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// Number of the action in this run, from 1; start, updates and end of an action share it.
    pub id: u64,
    /// Index of the label.
    pub label: usize,
    /// Smoothed score, 0 to 1; at the end the highest that it had.
    pub confidence: f32,
    /// Source time at which it began.
    pub t_start: Duration,
    /// Of an end: source time at which the action was over.
    pub t_end: Option<Duration>,
    /// Source time at which this was seen.
    pub t: Duration,
}
