//! A session and the planes that it is fed: the last ones as a window, or each of them once as a stream.

use crate::Result;
use crate::engine::{Engine, Session};
use crate::model::Manifest;
use crate::model::manifest::Mode;
use crate::window::Window;

/// Runs a model over the planes of one stream.
pub struct Runner {
    mode: Mode,
    session: Box<dyn Session>,
    window: Window,
    logits: Vec<f32>,
    /// Whether a stream has written logits since the last decision.
    fresh: bool,
}

impl Runner {
    /// A new session of `engine` for the model that `manifest` describes.
    ///
    /// # Errors
    /// Those of [`Engine::session`].
    pub fn new(engine: &dyn Engine, manifest: &Manifest) -> Result<Self> {
        Ok(Self::with(engine.session()?, engine.mode(), manifest))
    }

    /// Runs `session`, which was made for `mode`.
    pub(super) fn with(session: Box<dyn Session>, mode: Mode, manifest: &Manifest) -> Self {
        let (window, logits) = (Window::new(&manifest.input), vec![0.0; manifest.output.classes]);
        Self { mode, session, window, logits, fresh: false }
    }

    /// How the session runs over time.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Begins another stream.
    pub fn reset(&mut self) {
        self.window.reset();
        self.session.reset();
        self.fresh = false;
    }

    /// Adds the next plane, `[C, H, W]`.
    ///
    /// # Errors
    /// Those of [`Session::push`].
    pub fn push(&mut self, plane: &[f32]) -> Result<()> {
        self.window.push(plane);
        self.stream()
    }

    /// Adds the newest plane once more; see [`Window::repeat`].
    ///
    /// # Errors
    /// Those of [`Session::push`].
    pub fn repeat(&mut self) -> Result<()> {
        self.window.repeat();
        self.stream()
    }

    fn stream(&mut self) -> Result<()> {
        if self.mode == Mode::Stream {
            self.fresh |= self.session.push(self.window.newest(), &mut self.logits)?;
        }
        Ok(())
    }

    /// New logits, `[K]`, if the window is full and `hop` planes came since the last ones.
    ///
    /// # Errors
    /// Those of [`Session::infer`].
    pub fn decide(&mut self, hop: usize) -> Result<Option<&mut [f32]>> {
        if self.mode == Mode::Stream && !self.fresh || !self.window.due(hop) {
            return Ok(None);
        }
        match self.mode {
            Mode::Window => self.session.infer(self.window.clip(), &mut self.logits)?,
            Mode::Stream => self.window.decided(),
        }
        self.fresh = false;
        Ok(Some(&mut self.logits))
    }

    /// The last logits, `[K]`.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Planes in a window.
    pub fn frames(&self) -> usize {
        self.window.frames()
    }

    /// How full the window is, 0 to 1.
    pub fn filled(&self) -> f32 {
        self.window.filled()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::ArrayView5;

    /// Writes the number of planes it has seen, after every second one.
    struct Counter(usize);

    impl Session for Counter {
        fn infer(&mut self, _: ArrayView5<'_, f32>, _: &mut [f32]) -> Result<()> {
            unreachable!("a stream")
        }

        fn push(&mut self, _: &[f32], logits: &mut [f32]) -> Result<bool> {
            self.0 += 1;
            let emits = self.0.is_multiple_of(2);
            if emits {
                logits[0] = self.0 as f32;
            }
            Ok(emits)
        }

        fn reset(&mut self) {
            self.0 = 0;
        }
    }

    #[test]
    fn a_stream_sees_each_plane_once_and_is_asked_every_hop() -> Result<()> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mannequin/manifest.toml");
        let mut manifest = Manifest::parse(&std::fs::read_to_string(path).unwrap())?;
        (manifest.input.frames, manifest.input.height, manifest.input.width) = (4, 1, 1);
        let mut runner = Runner::with(Box::new(Counter(0)), Mode::Stream, &manifest);
        for _ in 0..2 {
            let mut decided = Vec::new();
            for n in 1..=14 {
                if n == 9 {
                    runner.repeat()?
                } else {
                    runner.push(&[0.0; 3])?
                }
                decided.extend(runner.decide(3)?.map(|logits| (n, logits[0] as usize)));
            }
            // From the first full window on, every hop, on the last logits there were.
            assert_eq!(decided, [(4, 4), (7, 6), (10, 10), (13, 12)]);
            runner.reset();
        }
        Ok(())
    }
}
