//! Engines run a bundle's model. An [`Engine`] is compiled once and shared; a [`Session`] is its mutable state, one a
//! stream of pictures.

mod native;
mod tract;

use ndarray::ArrayView5;

use crate::model::Bundle;
use crate::{Error, ErrorKind, Result};

pub use tract::Tract;

/// How far an engine's logits may be from the golden ones, relative to the largest of them.
pub const TOLERANCE: f32 = 1e-4;

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

/// Which engine runs a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Choice {
    /// The fastest engine that passes the bundle's golden test on this device.
    #[default]
    Auto,
    /// tract: any ONNX model, on the CPU.
    Tract,
}

/// How to run a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Which engine.
    pub engine: Choice,
    /// Threads of one inference. `tract` has one and refuses more.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { engine: Choice::Auto, threads: 1 }
    }
}

/// Compiles `bundle`'s model and verifies that it computes the golden logits; see [`verify`].
///
/// # Errors
/// `Model` when the model is broken, `Engine` when it cannot be run as asked or computes something else.
pub fn open(bundle: &Bundle, options: &Options) -> Result<Box<dyn Engine>> {
    let engine: Box<dyn Engine> = match options.engine {
        Choice::Auto | Choice::Tract => Box::new(Tract::open(bundle, options.threads)?),
    };
    let deviation = verify(&*engine, bundle)?;
    log::debug!("engine {}: golden logits within {deviation:.1e}", engine.name());
    Ok(engine)
}

/// Runs the bundle's golden clip and returns how far the logits are from the golden ones, relative to the largest.
///
/// # Errors
/// `Engine` when that is more than [`TOLERANCE`].
pub fn verify(engine: &dyn Engine, bundle: &Bundle) -> Result<f32> {
    let golden = bundle.golden()?;
    let mut logits = vec![0.0; golden.logits_f32.len()];
    let ran = engine.session().and_then(|mut session| session.infer(golden.clip.view(), &mut logits));
    ran.map_err(|error| error.within(bundle.onnx().display()))?;
    let largest = golden.logits_f32.iter().fold(f32::MIN_POSITIVE, |max, x| max.max(x.abs()));
    let apart = golden.logits_f32.iter().zip(&logits).fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
    let deviation = apart / largest;
    if deviation <= TOLERANCE {
        return Ok(deviation);
    }
    let (name, dir) = (engine.name(), bundle.dir.display());
    let why = format!(
        "{dir}: engine {name} computes logits {deviation:.1e} (relative) from those in golden.safetensors, {TOLERANCE:.0e} \
         is allowed: export the bundle again or choose another engine"
    );
    Err(Error::new(ErrorKind::Engine, why))
}
