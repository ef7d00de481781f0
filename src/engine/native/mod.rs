//! The engine `native`: our own integer and float kernels, on windows and on streams.
//!
//! A graph becomes a network of fused layers (`fuse`), the network a plan with memory and packed weights (`plan`), and a
//! session runs the plan (`session`). Frames are the unit of everything: a value is a ring of channels-last frames, a
//! convolution computes an output frame from the input frames it sees. So a stream runs the very same code as a window, only
//! a frame at a time, and computes the same numbers.

mod aligned;
mod frames;
mod fuse;
mod kernels;
mod layers;
mod ops;
mod plan;
mod pool;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ndarray::ArrayView5;

use self::layers::Network;
use self::plan::Plan;
use self::pool::Pool;
use self::session::State;
use super::{Engine, LayerTime, Options, Precision, Session};
use crate::model::Bundle;
use crate::model::graph::{Graph, Weights};
use crate::model::manifest::Mode;
use crate::model::onnx;
use crate::{Error, ErrorKind, Result};

pub use kernels::Kernels;

/// A model prepared for this processor.
pub struct Native {
    plan: Arc<Plan>,
    mode: Mode,
    pool: Arc<Pool>,
    kernels: Kernels,
    int8: bool,
}

impl Native {
    /// Prepares `bundle`'s model.
    ///
    /// # Errors
    /// `Model` when the file is broken, `Engine` when the engine cannot run it as asked.
    pub fn open(bundle: &Bundle, options: &Options) -> Result<Self> {
        let int8 = bundle.onnx_int8().filter(|_| options.precision != Some(Precision::F32));
        if int8.is_none() && options.precision == Some(Precision::Int8) {
            return Err(bundle.lacks_int8());
        }
        let wanted = int8.is_some();
        let path = int8.unwrap_or_else(|| bundle.onnx());
        let (graph, weights) = onnx::read_graph(&path)?;
        let kernels = options.kernels.unwrap_or_else(Kernels::best);
        let mode = options.mode.unwrap_or(bundle.manifest.run.mode);
        let native = Self::new(&graph, &weights, mode, kernels, options.threads)
            .map_err(|error| error.within(path.display()))?;
        match native.int8 == wanted {
            true => Ok(native),
            false => {
                let why =
                    format!("{}: a convolution of this int8 model computes in float: export it again", path.display());
                Err(Error::new(ErrorKind::Engine, why))
            }
        }
    }

    /// Prepares `graph` with `weights`.
    ///
    /// # Errors
    /// `Engine`, naming the node, when the engine cannot run the graph as asked.
    pub fn new(graph: &Graph, weights: &Weights, mode: Mode, kernels: Kernels, threads: usize) -> Result<Self> {
        let network = fuse::fuse(graph, weights)?;
        let plan = Plan::new(&network, kernels, mode)?;
        let failed = |why| Error::new(ErrorKind::Engine, format_args!("engine native: {threads} threads: {why}"));
        let pool = Pool::new(threads).map_err(failed)?;
        Ok(Self { plan: Arc::new(plan), mode, pool: Arc::new(pool), kernels, int8: Network::is_int8(&network) })
    }
}

impl Engine for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn kernels(&self) -> &'static str {
        self.kernels.name()
    }

    fn precision(&self) -> Precision {
        if self.int8 { Precision::Int8 } else { Precision::F32 }
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(Stream { state: State::new(self.plan.clone(), self.pool.clone()), mode: self.mode }))
    }

    fn profile(&self, runs: usize) -> Option<Vec<LayerTime>> {
        let [channels, frames, height, width] = self.plan.clip;
        let given = if self.plan.mode == Mode::Stream { 1 } else { frames };
        let planes = vec![0.5; channels * given * height * width];
        let mut state = State::new(self.plan.clone(), self.pool.clone());
        Some(state.profile(&planes, runs))
    }
}

struct Stream {
    state: State,
    mode: Mode,
}

impl Stream {
    /// Runs a clip of so many `frames`, or the next frame of a stream.
    fn run(&mut self, planes: &[f32], (mode, frames): (Mode, usize), logits: &mut [f32]) -> Result<bool> {
        let failed = |why: String| Err(Error::new(ErrorKind::Engine, format_args!("engine native: {why}")));
        let Plan { clip: [channels, _, height, width], classes, recurrent, .. } = *self.state.plan;
        let wanted = channels * frames * height * width;
        if self.mode != mode {
            return failed(format!("a {mode:?} was asked of a session that was made for a {:?}", self.mode));
        }
        if planes.len() != wanted || logits.len() != classes {
            return failed(format!(
                "{} values and {} logits given, {wanted} and {classes} wanted",
                planes.len(),
                logits.len()
            ));
        }
        let emitted = if recurrent && mode == Mode::Window {
            self.state.run_frames(planes, frames, logits);
            true
        } else {
            self.state.run(planes, logits)
        };
        match emitted && !logits.iter().all(|x| x.is_finite()) {
            true => failed("a logit is not finite: the model's weights or its input are out of range".into()),
            false => Ok(emitted),
        }
    }
}

impl Session for Stream {
    fn infer(&mut self, clip: ArrayView5<'_, f32>, logits: &mut [f32]) -> Result<()> {
        let Plan { clip: wanted, recurrent, .. } = *self.state.plan;
        let given: [usize; 5] = clip.dim().into();
        // A recurrent net takes clips of any length.
        let fits = given[0] == 1 && (0..4).all(|axis| given[axis + 1] == wanted[axis] || recurrent && axis == 1);
        // A copy only if it does not lie in one piece.
        match clip.as_standard_layout().as_slice() {
            Some(planes) if fits && given[2] > 0 => self.run(planes, (Mode::Window, given[2]), logits).map(|_| ()),
            _ => {
                let why = format_args!("engine native: a clip {given:?} given, {wanted:?} wanted");
                Err(Error::new(ErrorKind::Engine, why))
            }
        }
    }

    fn push(&mut self, plane: &[f32], logits: &mut [f32]) -> Result<bool> {
        self.run(plane, (Mode::Stream, 1), logits)
    }

    fn reset(&mut self) {
        self.state.reset();
    }
}
