//! Engines run a bundle's model. An [`Engine`] is compiled once and shared; a [`Session`] is its mutable state, one a
//! stream of pictures.

mod native;
mod tract;

use ndarray::{ArrayView5, Axis};

use crate::model::Bundle;
use crate::model::manifest::Mode;
use crate::{Error, ErrorKind, Result};

pub use native::{Kernels, Native};
pub use tract::Tract;

/// How far logits in f32 may be from the golden ones, relative to the largest of them.
pub const TOLERANCE: f32 = 1e-4;

/// A compiled model.
pub trait Engine: Send + Sync {
    /// Name of the engine, such as `tract`.
    fn name(&self) -> &'static str;

    /// The kernels that it runs, or its name where there is no choice.
    fn kernels(&self) -> &'static str {
        self.name()
    }

    /// What it computes with.
    fn precision(&self) -> Precision {
        Precision::F32
    }

    /// How far its logits may be from the golden ones, relative to the largest of them: integers have one right answer.
    fn tolerance(&self) -> f32 {
        match self.precision() {
            Precision::F32 => TOLERANCE,
            Precision::Int8 => 0.0,
        }
    }

    /// How its sessions run over time.
    fn mode(&self) -> Mode {
        Mode::Window
    }

    /// State for one stream.
    ///
    /// # Errors
    /// `Engine` when the state cannot be made.
    fn session(&self) -> Result<Box<dyn Session>>;

    /// What each layer takes of a window, or of a frame of a stream or a recurrent model: the least of `runs` runs. `None` where
    /// the engine does not tell.
    fn profile(&self, runs: usize) -> Option<Vec<LayerTime>> {
        let _ = runs;
        None
    }
}

/// What a layer takes.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerTime {
    /// The node that it begins with.
    pub name: String,
    /// Seconds.
    pub seconds: f64,
    /// Multiply-accumulates.
    pub macs: u64,
}

/// The state of one stream.
pub trait Session: Send {
    /// In window mode: runs the model on `clip`, `[1, C, T, H, W]`, and writes the logits, `[K]`. A recurrent model takes any
    /// number of frames; its logits are those of the last.
    ///
    /// # Errors
    /// `Engine`, naming the node that failed, or that this is no window.
    fn infer(&mut self, clip: ArrayView5<'_, f32>, logits: &mut [f32]) -> Result<()>;

    /// In stream mode: runs the model on the next frame, `[C, H, W]`. `true` when it has written logits, `[K]`: after every
    /// frame that completes a step of the net's temporal stride, from the first window on; of a recurrent model every frame.
    ///
    /// # Errors
    /// `Engine`, naming the node that failed, or that this is no stream.
    fn push(&mut self, plane: &[f32], logits: &mut [f32]) -> Result<bool> {
        let _ = (plane, logits);
        Err(Error::new(ErrorKind::Engine, "this session runs windows, not streams"))
    }

    /// Begins another stream.
    fn reset(&mut self) {}
}

/// Which engine runs a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Choice {
    /// `native` if it can run the model as asked, on windows only if it has kernels for this processor, else `tract`.
    #[default]
    Auto,
    /// Our own kernels, int8 and f32, on windows and on streams.
    Native,
    /// tract: any ONNX model on windows, recurrent ones on streams, too; one thread of the CPU; int8 where it is asked for.
    Tract,
}

/// What a model computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// Integers of 8 bits.
    Int8,
    /// Floats of 32 bits.
    F32,
}

impl Precision {
    /// The name that `--precision` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::F32 => "f32",
        }
    }
}

/// How to run a bundle. What is `None` is chosen: see [`open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Which engine.
    pub engine: Choice,
    /// What to compute with; without a choice int8 if the bundle has it and the engine can.
    pub precision: Option<Precision>,
    /// How to run over time; without a choice as the bundle says, or on windows if the engine runs no streams.
    pub mode: Option<Mode>,
    /// Kernels of `native`; without a choice the best that this processor runs.
    pub kernels: Option<Kernels>,
    /// Threads of one inference. `tract` has one and refuses more.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { engine: Choice::Auto, precision: None, mode: None, kernels: None, threads: 1 }
    }
}

/// Compiles `bundle`'s model and verifies that it computes the golden logits; see [`verify`].
///
/// # Errors
/// `Model` when the model is broken, `Engine` when it cannot be run as asked or computes something else.
pub fn open(bundle: &Bundle, options: &Options) -> Result<Box<dyn Engine>> {
    let native = || -> Result<Box<dyn Engine>> { checked(Box::new(Native::open(bundle, options)?), bundle) };
    let tract = || -> Result<Box<dyn Engine>> { checked(Box::new(Tract::open(bundle, options)?), bundle) };
    let mode = bundle.manifest.run.mode;
    match options.engine {
        Choice::Native => native(),
        Choice::Tract => tract(),
        // Plain loops take twice as long for a window as tract's kernels do; a stream's frame is still the quicker way.
        Choice::Auto if Kernels::best() == Kernels::Reference && options.mode.unwrap_or(mode) == Mode::Window => {
            tract().or_else(|_| native())
        }
        Choice::Auto => native().or_else(|refused| {
            // Only what tract can do, too, is left to it; else the first reason is the one to know.
            log::info!("{refused}: tract runs this model");
            tract().map_err(|_| refused)
        }),
    }
}

fn checked(engine: Box<dyn Engine>, bundle: &Bundle) -> Result<Box<dyn Engine>> {
    let deviation = verify(&*engine, bundle)?;
    log::debug!("engine {}: golden logits within {deviation:.1e}", engine.name());
    Ok(engine)
}

/// Runs the bundle's golden clip and returns how far the logits are from the golden ones, relative to the largest.
///
/// # Errors
/// `Engine` when that is more than [`Engine::tolerance`].
pub fn verify(engine: &dyn Engine, bundle: &Bundle) -> Result<f32> {
    let golden = bundle.golden()?;
    let wanted = match engine.precision() {
        Precision::F32 => &golden.logits_f32,
        Precision::Int8 => golden.logits_int8.as_ref().unwrap_or(&golden.logits_f32),
    };
    let tolerance = engine.tolerance();
    let mut logits = vec![0.0; wanted.len()];
    let ran = engine.session().and_then(|mut session| match engine.mode() {
        Mode::Window => session.infer(golden.clip.view(), &mut logits),
        Mode::Stream => {
            let mut frames = golden.clip.axis_iter(Axis(2));
            frames.try_for_each(|frame| {
                let plane: Vec<f32> = frame.iter().copied().collect();
                session.push(&plane, &mut logits).map(|_| ())
            })
        }
    });
    ran.map_err(|error| error.within(bundle.dir.display()))?;
    let largest = wanted.iter().fold(f32::MIN_POSITIVE, |max, x| max.max(x.abs()));
    let apart = wanted.iter().zip(&logits).fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
    let deviation = apart / largest;
    if deviation <= tolerance {
        return Ok(deviation);
    }
    let (name, precision, dir) = (engine.name(), engine.precision().name(), bundle.dir.display());
    let why = format!(
        "{dir}: engine {name} ({precision}) computes logits {deviation:.1e} (relative) from those in golden.safetensors, \
         {tolerance:.0e} is allowed: export the bundle again or choose another engine"
    );
    Err(Error::new(ErrorKind::Engine, why))
}
