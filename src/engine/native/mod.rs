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
use super::{Engine, Session};
use crate::model::graph::{Graph, Weights};
use crate::model::manifest::Mode;
use crate::{Error, ErrorKind, Result};

pub use kernels::Kernels;

/// A model prepared for this processor.
pub struct Native {
    plan: Arc<Plan>,
    pool: Arc<Pool>,
    kernels: Kernels,
    int8: bool,
}

impl Native {
    /// Prepares `graph` with `weights`.
    ///
    /// # Errors
    /// `Engine`, naming the node, when the engine cannot run the graph as asked.
    pub fn new(graph: &Graph, weights: &Weights, mode: Mode, kernels: Kernels, threads: usize) -> Result<Self> {
        let network = fuse::fuse(graph, weights)?;
        let plan = Plan::new(&network, kernels, mode)?;
        let failed = |why| Error::new(ErrorKind::Engine, format_args!("engine native: {threads} threads: {why}"));
        let pool = Pool::new(threads).map_err(failed)?;
        Ok(Self { plan: Arc::new(plan), pool: Arc::new(pool), kernels, int8: Network::is_int8(&network) })
    }

    /// The kernels it runs.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Whether every convolution and dense layer computes with integers.
    pub fn is_int8(&self) -> bool {
        self.int8
    }
}

impl Engine for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(Stream { state: State::new(self.plan.clone(), self.pool.clone()), plan: self.plan.clone() }))
    }
}

struct Stream {
    state: State,
    plan: Arc<Plan>,
}

impl Stream {
    fn checked(&mut self, planes: &[f32], shape: &[usize], mode: Mode, logits: &mut [f32]) -> Result<bool> {
        let Plan { clip, classes, .. } = *self.plan;
        let wanted = match mode {
            Mode::Window => clip,
            Mode::Stream => [clip[0], 1, clip[2], clip[3]],
        };
        if self.plan.mode != mode || shape != wanted || logits.len() != classes {
            let why = format_args!(
                "engine native: {shape:?} and {} logits given to a {:?} of {wanted:?} and {classes}",
                logits.len(),
                self.plan.mode
            );
            return Err(Error::new(ErrorKind::Engine, why));
        }
        let emitted = self.state.run(planes, logits);
        if emitted && !logits.iter().all(|x| x.is_finite()) {
            let why = "engine native: a logit is not finite: the model's weights or its input are out of range";
            return Err(Error::new(ErrorKind::Engine, why));
        }
        Ok(emitted)
    }
}

impl Session for Stream {
    fn infer(&mut self, clip: ArrayView5<'_, f32>, logits: &mut [f32]) -> Result<()> {
        let shape = &clip.shape()[1..];
        let Some(planes) = clip.as_slice() else {
            return Err(Error::new(ErrorKind::Engine, "engine native: a clip lies in one piece"));
        };
        self.state.reset();
        self.checked(planes, shape, Mode::Window, logits).map(|_| ())
    }
}
