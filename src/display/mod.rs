//! Where pictures go, opened by URI. A display is used on the main thread only (window systems ask for that).
//!
//! | URI | what |
//! |---|---|
//! | `window` | a desktop window, X11 or Wayland |
//! | `kms:/dev/dri/card0?connector=HDMI-A-1&mode=1280x720@60`, or parts of it | a screen without a desktop (Linux) |
//! | `video:OUT.mp4`, or just `OUT.mp4` | a video file, through the program `ffmpeg` |
//! | `png:DIR` | a folder of numbered pictures |
//! | `none` | nothing |

#[cfg(target_os = "linux")]
mod kms;
#[cfg(not(target_os = "linux"))]
#[path = "no_kms.rs"]
mod kms;
mod none;
mod png;
mod scale;
mod video;
mod window;

use std::path::{Path, PathBuf};

pub use kms::{devices, is_available};
pub use video::Video;

use crate::frame::Frame;
use crate::{Error, ErrorKind, Result};

/// What the user asked a display for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    Continue,
    /// Keep what is shown: Enter, Space or k. Nothing where nobody was asked.
    Keep,
    /// Drop what is shown: Backspace, Delete or d. Nothing where nobody was asked.
    Drop,
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

/// A graphics card of this machine, as [`devices`] lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its device, what `kms:` is followed by.
    pub path: PathBuf,
    /// The name of its driver; empty when it cannot be opened.
    pub driver: String,
    /// Its plugs.
    pub connectors: Vec<Connector>,
    /// Why no pictures can be shown there now, in one line.
    pub problem: Option<String>,
}

/// A plug of a [`Card`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    /// Its name, such as `HDMI-A-1`.
    pub name: String,
    /// Whether a screen is plugged in.
    pub connected: bool,
    /// The mode that is used unless another is asked for, such as `1920x1080@60`; none without a screen.
    pub preferred: Option<String>,
    /// All modes of the screen, the best first.
    pub modes: Vec<String>,
}

/// A place where pictures are shown or kept.
pub trait Display {
    /// Its URI, as the user knows it.
    fn name(&self) -> &str;

    /// Whether it shows pictures at all; if not, nothing is composed for it.
    fn shows(&self) -> bool {
        true
    }

    /// Whether the user has keys here, so that [`poll`](Self::poll) can bring an answer.
    fn has_keys(&self) -> bool {
        false
    }

    /// Shows `frame`. Pictures come in the order of their timestamps.
    ///
    /// # Errors
    /// `Display` when it cannot be drawn to, `Output` when a file cannot be written.
    fn present(&mut self, frame: &Frame) -> Result<()>;

    /// Handles what the user did since the last call; of several keys the last counts, and a wish to quit stays. Never
    /// blocks; called at least every 50 ms.
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

/// What a display URI may be; ends the messages about wrong ones.
const EXISTING: &str = "use window, kms:/dev/dri/card0, video:OUT.mp4, png:DIR or none";

/// Opens the display that `uri` names, for pictures of `format`.
///
/// # Errors
/// `Usage` when there is no such display or its URI is incomplete or asks for a connector or mode that does not exist,
/// `Display` when there is no desktop for a window or no free card for KMS, `Output` when a file or folder cannot be
/// written or `ffmpeg` is missing.
pub fn open(uri: &str, format: Format) -> Result<Box<dyn Display>> {
    let usage = |what: &str| Error::new(ErrorKind::Usage, format_args!("display {uri:?}: {what}; {EXISTING}"));
    let scheme = uri.split_once(':').filter(|(s, _)| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric()));
    match scheme.unwrap_or((uri, "")) {
        ("none", "") => Ok(Box::new(none::Nothing)),
        ("window", "") => Ok(Box::new(window::DesktopWindow::open(format)?)),
        ("kms", rest) => Ok(Box::new(kms::Kms::open(rest)?)),
        ("png", "") => Err(usage("no folder is named")),
        ("png", folder) => Ok(Box::new(png::Pictures::open(Path::new(folder))?)),
        ("video", "") => Err(usage("no file is named")),
        ("video", path) => Ok(Box::new(video::Video::open(Path::new(path), format)?)),
        (path, "") if video::is_video(Path::new(path)) => Ok(Box::new(video::Video::open(Path::new(path), format)?)),
        _ => Err(usage("there is no such display")),
    }
}

/// The file that `uri` writes, if it is a video.
pub fn file(uri: &str) -> Option<PathBuf> {
    let path = uri.strip_prefix("video:").or_else(|| video::is_video(Path::new(uri)).then_some(uri))?;
    Some(path.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FORMAT: Format = Format { width: 8, height: 8, frame_rate: 30.0 };

    fn refusal(uri: &str) -> Error {
        match open(uri, FORMAT) {
            Ok(display) => panic!("{uri:?} opened {}", display.name()),
            Err(error) => error,
        }
    }

    #[test]
    fn unknown_and_incomplete_uris_name_the_displays_that_exist() {
        let wrong = ["", "kmscube:", "screen", "png:", "video:", "none:x", "window:2", "dir/"];
        for uri in wrong {
            let error = refusal(uri);
            assert_eq!(error.kind(), ErrorKind::Usage, "{uri:?}: {error}");
            assert!(error.to_string().contains(EXISTING), "{uri:?}: {error}");
        }
    }

    /// No test opens a card that may be there: it could be the screen of whoever runs the tests.
    #[test]
    fn a_card_that_does_not_exist_is_a_display_error_and_a_wrong_option_one_of_usage() {
        let missing = refusal("kms:/dev/dri/no-card?connector=HDMI-A-1&mode=1280x720@60");
        assert_eq!(missing.kind(), ErrorKind::Display, "{missing}");
        let wrong = refusal("kms:/dev/dri/no-card?mode=720p");
        let expected = if cfg!(target_os = "linux") { ErrorKind::Usage } else { ErrorKind::Display };
        assert_eq!(wrong.kind(), expected, "{wrong}");
    }

    #[test]
    fn none_png_and_video_open_under_their_names() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name).display().to_string();
        assert!(!open("none", FORMAT).unwrap().shows());
        let folder = format!("png:{}", path("pictures"));
        assert_eq!(open(&folder, FORMAT).unwrap().name(), folder);
        let file = path("out.mp4");
        for uri in [file.clone(), format!("video:{file}")] {
            let display = open(&uri, FORMAT).unwrap();
            assert!(display.shows());
            assert_eq!(display.name(), format!("video:{file}"));
        }
        assert!(!Path::new(&file).exists(), "no file before the first picture");
    }
}
