//! Draws what the program knows onto the picture: the current action, what else is likely, and how it is running.
//!
//! Works on any embedded-graphics `DrawTarget`. Targets cannot be read back, so text stands on opaque panels: a status
//! line along the top edge and a compact panel at the bottom left. Called on the thread that composes the picture; once
//! the glyphs in use have been seen, drawing allocates nothing.

mod layout;
mod panel;
mod strip;
mod take;
mod text;

use std::time::Duration;

use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Size};
use embedded_graphics::pixelcolor::Rgb888;

use crate::Result;
use layout::{Layout, Sizes};
use strip::FieldWidths;
pub use take::{Stage, Take};
pub use text::{Ink, Text, Weight};

/// Few and calm. No state is told by its hue alone: words, weight and lightness differ too.
mod colors {
    use embedded_graphics::pixelcolor::Rgb888;

    pub const PANEL: Rgb888 = Rgb888::new(16, 20, 26);
    pub const TRACK: Rgb888 = Rgb888::new(50, 58, 68);
    pub const TEXT: Rgb888 = Rgb888::new(245, 247, 249);
    pub const SOFT: Rgb888 = Rgb888::new(172, 182, 193);
    pub const QUIET: Rgb888 = Rgb888::new(122, 133, 146);
    pub const ACTION: Rgb888 = Rgb888::new(38, 200, 165);
    pub const FILLING: Rgb888 = Rgb888::new(86, 180, 233);
    pub const RECORDING: Rgb888 = Rgb888::new(229, 57, 53);
    pub const WARNING: Rgb888 = Rgb888::new(240, 172, 40);
    pub const ON_WARNING: Rgb888 = Rgb888::new(24, 18, 4);
}

/// A label and how sure the model is of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score<'a> {
    /// The label as the model names it; underscores are shown as spaces.
    pub label: &'a str,
    /// 0 to 1.
    pub confidence: f32,
}

/// What is going on in front of the camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activity<'a> {
    /// The window is not full yet: how far it is, 0 to 1.
    Filling(f32),
    /// Nothing is happening, and how sure the model is, where it says so.
    Nothing(Option<f32>),
    /// These actions, the strongest first: one of a soft-max model, any number of a sigmoid model (none is shown as
    /// nothing).
    Actions(&'a [Score<'a>]),
}

impl Default for Activity<'_> {
    fn default() -> Self {
        Self::Filling(0.0)
    }
}

/// From capture to presented picture, over the last seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Half of the pictures were faster.
    pub p50: Duration,
    /// All but one in a hundred were faster.
    pub p99: Duration,
}

/// What became of a model that changed on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// The model of this name has taken the place of the one before.
    Swapped(&'a str),
    /// The one before goes on, for this reason.
    Kept(&'a str),
}

/// All that is shown. It borrows its text, so a new one for each picture costs nothing.
///
/// ```
/// use kinora::{frame::Frame, overlay::{Activity, Overlay, Score, Status}};
///
/// let mut picture = Frame::new(320, 240);
/// let mut overlay = Overlay::new(320, 240)?;
/// let actions = [Score { label: "jumping_jack", confidence: 0.87 }];
/// let status = Status { activity: Activity::Actions(&actions), engine: "native int8", ..Status::default() };
/// let Ok(()) = overlay.draw(&mut picture, &status);
/// # Ok::<(), kinora::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Status<'a> {
    /// What is going on.
    pub activity: Activity<'a>,
    /// The next candidates, the strongest first; two are shown.
    pub candidates: &'a [Score<'a>],
    /// Pictures a second.
    pub frame_rate: f32,
    /// Decisions a second.
    pub decisions_per_s: f32,
    /// How old the picture is when it is seen, once measured.
    pub latency: Option<Latency>,
    /// Frames lost since the start.
    pub dropped: u64,
    /// Engine and precision, such as `tract f32`.
    pub engine: &'a str,
    /// What the source says that it is showing.
    pub truth: Option<&'a str>,
    /// Why there is no picture from the source at present.
    pub source_lost: Option<&'a str>,
    /// What is being done about too little time, such as `overload: hop 8`.
    pub overload: Option<&'a str>,
    /// What became of the model lately.
    pub model: Option<Change<'a>>,
}

/// Draws a [`Status`] or a [`Take`], with fonts for one picture size at a time.
pub struct Overlay {
    layout: Layout,
    /// The current action.
    title: Text,
    /// A current action with a long name, numbers, headings.
    heading: Text,
    /// A state instead of an action.
    state: Text,
    /// All other text.
    base: Text,
    /// The number of a countdown, to be read from afar.
    number: Text,
    percent_widths: PercentWidths,
    field_widths: FieldWidths,
    /// Text is put together here.
    buffer: String,
}

/// Room for a percentage.
struct PercentWidths {
    heading: u32,
    base: u32,
}

impl Overlay {
    /// An overlay for pictures of `width` x `height` pixels. It adapts when it meets another size.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal) when a built-in font cannot be read.
    pub fn new(width: u32, height: u32) -> Result<Self> {
        let picture = Size::new(width, height);
        let sizes = Sizes::of(picture);
        let title = Text::new(Weight::Bold, sizes.title)?;
        let mut heading = Text::new(Weight::Bold, sizes.heading)?;
        let mut base = Text::new(Weight::Regular, sizes.base)?;
        Ok(Self {
            layout: Layout::new(picture, sizes, title.height(), base.height()),
            percent_widths: PercentWidths { heading: heading.width("100%"), base: base.width("100%") },
            field_widths: strip::field_widths(&mut base),
            state: Text::new(Weight::Regular, sizes.heading)?,
            number: Text::new(Weight::Bold, sizes.number)?,
            title,
            heading,
            base,
            buffer: String::new(),
        })
    }

    /// Draws `status` onto `target`, over the picture that is there.
    ///
    /// # Errors
    /// That of the target.
    pub fn draw<D>(&mut self, target: &mut D, status: &Status) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb888> + OriginDimensions,
    {
        if !self.adapt(target.size()) {
            return Ok(());
        }
        self.draw_strip(target, status)?;
        self.draw_notes(target, status)?;
        self.draw_panel(target, status)?;
        match status.source_lost {
            Some(reason) => self.draw_banner(target, reason),
            None => Ok(()),
        }
    }

    /// Adapts to a picture's size; `false` where there is nothing to draw on.
    fn adapt(&mut self, picture: Size) -> bool {
        // Fonts that were read once are read again: this does not fail, and if it did, targets cut off what is outside.
        if self.layout.picture != picture
            && let Ok(adapted) = Self::new(picture.width, picture.height)
        {
            *self = adapted;
        }
        picture.width > 0 && picture.height > 0
    }
}

#[cfg(test)]
mod tests;
