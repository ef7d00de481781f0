//! Engines run a bundle's model. An [`Engine`] is compiled once and shared; a [`Session`] is its mutable state, one a
//! stream of pictures.

use ndarray::ArrayView5;

use crate::{Error, ErrorKind, Result};

/// A compiled model.
pub trait Engine: Send + Sync {
    /// Name of the engine, such as `tract`.
    fn name(&self) -> &'static str;

    /// State for one stream.
    ///
    /// # Errors
    /// `Engine` when the state cannot be made.
    fn session(&self) -> Result<Box<dyn Session>>;
}

/// The state of one stream.
pub trait Session: Send {
    /// Runs the model on `clip`, `[1, C, T, H, W]`, and writes the logits, `[K]`.
    ///
    /// # Errors
    /// `Engine`, naming the node that failed.
    fn infer(&mut self, clip: ArrayView5<'_, f32>, logits: &mut [f32]) -> Result<()>;
}
