//! What of a run depends on the model: as it is made ready from a bundle, and while it runs.

use std::sync::Arc;

use super::intake::Intake;
use super::recognition::{Found, Recognition};
use super::recognizer::Recognizer;
use super::slots::Bell;
use crate::Result;

/// A model that is ready to run.
pub struct Prepared {
    /// Its name, for log and events.
    pub name: String,
    /// Sampling and preprocessing.
    pub intake: Intake,
    /// Window, engine and decision.
    pub recognizer: Recognizer,
    /// Names of the labels.
    pub labels: Vec<String>,
    /// The label that means that nothing is happening.
    pub nothing: Option<usize>,
    /// Engine and precision, for the overlay.
    pub engine: String,
}

/// A model that runs.
pub(super) struct Running {
    pub name: String,
    pub intake: Intake,
    pub recognition: Recognition,
    pub labels: Vec<String>,
    pub nothing: Option<usize>,
    pub engine: String,
    /// What was found and is not written yet.
    pub found: Vec<Found>,
}

impl Running {
    /// Starts recognition, on a thread of its own with real time; `ready` is rung when that has found something.
    ///
    /// # Errors
    /// `Internal` when the system starts no thread.
    pub fn start(model: Prepared, realtime: bool, ready: &Arc<Bell>) -> Result<Self> {
        let Prepared { name, intake, recognizer, labels, nothing, engine } = model;
        let recognition = if realtime {
            Recognition::beside(recognizer, &intake, ready.clone())?
        } else {
            Recognition::inline(recognizer, &intake)
        };
        Ok(Self { name, intake, recognition, labels, nothing, engine, found: Vec::with_capacity(16) })
    }
}
