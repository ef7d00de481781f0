//! Where pictures go, opened by URI. A display is used on the main thread only (window systems ask for that).

use crate::frame::Frame;
use crate::{Error, ErrorKind, Result};

/// What the user asked a display for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    Continue,
    /// Quit the program: the window was closed, or a key says so.
    Quit,
}

/// What a display is told when it is opened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Format {
    /// Width of the pictures in pixels.
    pub width: u32,
    /// Height of the pictures in pixels.
    pub height: u32,
    /// Pictures a second.
    pub frame_rate: f32,
}

/// A place where pictures are shown or kept.
pub trait Display {
    /// Its URI, as the user knows it.
    fn name(&self) -> &str;

    /// Whether it shows pictures at all; if not, nothing is composed for it.
    fn shows(&self) -> bool {
        true
    }

    /// Shows `frame`. Pictures come in the order of their timestamps.
    ///
    /// # Errors
    /// `Display` when it cannot be drawn to, `Output` when a file cannot be written.
    fn present(&mut self, frame: &Frame) -> Result<()>;

    /// Handles what the user did since the last call. Never blocks; called at least every 50 ms.
    ///
    /// # Errors
    /// `Display` when the display went away.
    fn poll(&mut self) -> Result<Wish> {
        Ok(Wish::Continue)
    }

    /// Completes what was written. Called once, also after Ctrl-C or an error elsewhere.
    ///
    /// # Errors
    /// `Output` when a file cannot be completed.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
