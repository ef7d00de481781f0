//! Sources of pictures, opened by URI. Each runs on a thread of its own and may block there, but looks at the stop flag
//! at least every [`Stop::TICK`].

pub mod synthetic;

use crate::frame::Frame;
use crate::stop::Stop;
use crate::{Error, ErrorKind, Result};

/// What a source says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceInfo {
    /// Its URI, as the user knows it.
    pub name: String,
    /// Width of its pictures in pixels.
    pub width: u32,
    /// Height of its pictures in pixels.
    pub height: u32,
    /// Pictures a second.
    pub frame_rate: f32,
    /// Whether it delivers in its own time, as a camera does. Others are paced by their timestamps.
    pub live: bool,
}

/// What a call to [`Source::next_frame`] brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Captured {
    /// A picture.
    Frame,
    /// The end of the source: a file is over, or a stop was asked for.
    End,
}

/// A source of pictures.
pub trait Source: Send {
    /// What it is.
    fn info(&self) -> &SourceInfo;

    /// Waits for the next picture and puts it into `into`, reusing its buffer: picture, `timestamp`, `sequence`, and
    /// `captured` if it is live (else the caller sets it when the picture is due). A lost picture is a step in
    /// `sequence`, not an error.
    ///
    /// # Errors
    /// `SourceLost` when the device or connection went away; `Source` when its content is broken.
    fn next_frame(&mut self, into: &mut Frame) -> Result<Captured>;
}
