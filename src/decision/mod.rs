//! Scores over time become actions with a start and an end. A pure function of scores and timestamps.

use serde::{Deserialize, Serialize};

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
    /// The label that means that nothing is happening; it never becomes an event.
    pub nothing: String,
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
            nothing: "nothing".into(),
        }
    }
}

/// What happened to an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It began.
    Start,
    /// It goes on.
    Update,
    /// It is over.
    End,
}

/// A change of what is happening.
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
    pub t_start: std::time::Duration,
    /// Source time of this change.
    pub t: std::time::Duration,
}
