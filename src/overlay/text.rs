//! Anti-aliased text on any `DrawTarget`: DejaVu Sans, built in, each glyph rasterised once.
//!
//! A target cannot be read back, so text is blended with a ground colour that the caller names and the whole line is
//! painted in one go. Characters stand one after another from the left: scripts that need shaping or run from right to
//! left come out letter by letter. Drawing allocates only while it meets glyphs or line lengths for the first time. The
//! cache cannot outgrow the font.

use std::collections::HashMap;

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont, point};
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{Point, Size};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::primitives::Rectangle;

use crate::{Error, ErrorKind, Result};

const REGULAR: &[u8] = include_bytes!("DejaVuSans.ttf");
const BOLD: &[u8] = include_bytes!("DejaVuSans-Bold.ttf");

/// Stands for what the font does not cover.
const SUBSTITUTE: char = '\u{FFFD}';
const ELLIPSIS: char = '…';
/// Horizontal positions within a pixel at which glyphs are rasterised: even spacing at small sizes.
const STEPS: f32 = 4.0;
/// Height of a lower-case x in em, of this font.
const X_HEIGHT: f32 = 0.547;

/// How thick the strokes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// For running text.
    Regular,
    /// For headings.
    Bold,
}

/// The colours of a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ink {
    /// Of the letters.
    pub text: Rgb888,
    /// Of what they stand on; painted too.
    pub ground: Rgb888,
}

/// The font at one size and weight, with its glyphs.
///
/// ```
/// use embedded_graphics::{geometry::Point, pixelcolor::{Rgb888, RgbColor}};
/// use kinora::{frame::Frame, overlay::{Ink, Text, Weight}};
///
/// let mut picture = Frame::new(120, 40);
/// let mut text = Text::new(Weight::Regular, 16.0)?;
/// let ink = Ink { text: Rgb888::WHITE, ground: Rgb888::BLACK };
/// let Ok(width) = text.draw(&mut picture, Point::new(8, 8), "jumping jack", ink);
/// assert_eq!(width, text.width("jumping jack"));
/// # Ok::<(), kinora::Error>(())
/// ```
pub struct Text {
    font: FontRef<'static>,
    scale: PxScale,
    ascent: f32,
    height: u32,
    overhang: u32,
    substitute: GlyphId,
    ellipsis: GlyphId,
    space: GlyphId,
    glyphs: HashMap<(GlyphId, u8), Glyph>,
    line: Vec<Placed>,
    coverage: Vec<u8>,
}

/// A rasterised glyph: coverage of `width` pixels a row, and where it stands relative to pen and top of the line.
struct Glyph {
    left: i32,
    top: i32,
    width: usize,
    coverage: Vec<u8>,
}

/// A glyph of the line being drawn, `x` pixels from its start.
#[derive(Clone, Copy)]
struct Placed {
    id: GlyphId,
    x: f32,
}

impl Placed {
    /// Whole pixels to the right, and the step within the pixel.
    fn snapped(self) -> (i32, u8) {
        let steps = (self.x * STEPS).round();
        ((steps / STEPS).floor() as i32, steps.rem_euclid(STEPS) as u8)
    }
}

impl Text {
    /// The font with letters of `size_px` pixels an em (a line is about 1.17 em high). Sizes are kept within 1 to 1000.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the built-in font cannot be read.
    pub fn new(weight: Weight, size_px: f32) -> Result<Self> {
        Ok(Self::with_font(font(weight)?, size_px))
    }

    /// The size nearest to `size_px` at which lower-case letters are a whole number of pixels high: it looks sharper.
    pub fn crisp_px(size_px: f32) -> f32 {
        (size_px * X_HEIGHT).round().max(1.0) / X_HEIGHT
    }

    fn with_font(font: FontRef<'static>, size_px: f32) -> Self {
        let size_px = if size_px.is_finite() { size_px.clamp(1.0, 1000.0) } else { 1.0 };
        let em = font.units_per_em().unwrap_or(2048.0);
        let scale = PxScale::from(size_px * font.height_unscaled() / em);
        let scaled = font.as_scaled(scale);
        let ascent = scaled.ascent().round();
        Self {
            ascent,
            height: (ascent - scaled.descent().round()).max(1.0) as u32,
            overhang: (size_px * 0.1).ceil() as u32,
            substitute: font.glyph_id(SUBSTITUTE),
            ellipsis: font.glyph_id(ELLIPSIS),
            space: font.glyph_id(' '),
            scale,
            font,
            glyphs: HashMap::new(),
            line: Vec::new(),
            coverage: Vec::new(),
        }
    }

    /// Height of a line in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Distance from the top of a line to its base line, in pixels.
    pub fn ascent(&self) -> u32 {
        self.ascent as u32
    }

    /// How far left and right of the text the ground is painted too, for letters that reach over.
    pub fn overhang(&self) -> u32 {
        self.overhang
    }

    /// Width of `text` in pixels.
    pub fn width(&mut self, text: &str) -> u32 {
        self.place(text, f32::INFINITY).ceil() as u32
    }

    /// Draws `text` as one line with its top left corner at `at`; returns its width in pixels.
    ///
    /// # Errors
    /// That of the target.
    pub fn draw<D>(&mut self, target: &mut D, at: Point, text: &str, ink: Ink) -> Result<u32, D::Error>
    where
        D: DrawTarget<Color = Rgb888>,
    {
        self.draw_within(target, at, u32::MAX, text, ink)
    }

    /// Draws `text` as [`draw`](Self::draw) does, shortened with an ellipsis where it is wider than `max_width` pixels.
    /// Nothing is drawn where not even the ellipsis has room.
    ///
    /// # Errors
    /// That of the target.
    pub fn draw_within<D>(
        &mut self,
        target: &mut D,
        at: Point,
        max_width: u32,
        text: &str,
        ink: Ink,
    ) -> Result<u32, D::Error>
    where
        D: DrawTarget<Color = Rgb888>,
    {
        let width = self.place(text, max_width as f32).ceil() as u32;
        if self.line.is_empty() {
            return Ok(0);
        }
        let size = Size::new(width + 2 * self.overhang, self.height);
        self.compose(size.width as usize);
        let area = Rectangle::new(at - Point::new(self.overhang as i32, 0), size);
        target.fill_contiguous(&area, self.coverage.iter().map(|&coverage| blend(ink, coverage)))?;
        Ok(width)
    }

    /// Cached glyphs and sizes of the buffers.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> [usize; 4] {
        [self.glyphs.len(), self.glyphs.capacity(), self.line.capacity(), self.coverage.capacity()]
    }

    /// Fills `line` with the glyphs of `text`, shortened to `max_width`; returns the width.
    fn place(&mut self, text: &str, max_width: f32) -> f32 {
        self.line.clear();
        let font = self.font.as_scaled(self.scale);
        let mut x = 0.0;
        for c in text.chars() {
            let Some(c) = visible(c) else { continue };
            let id = match self.font.glyph_id(c) {
                GlyphId(0) => self.substitute,
                id => id,
            };
            if let Some(previous) = self.line.last() {
                x += font.kern(previous.id, id);
            }
            self.line.push(Placed { id, x });
            x += font.h_advance(id);
            if x > max_width {
                return self.shorten(max_width);
            }
        }
        x
    }

    /// Takes glyphs from the end of `line` until an ellipsis fits behind the rest.
    fn shorten(&mut self, max_width: f32) -> f32 {
        let font = self.font.as_scaled(self.scale);
        let ellipsis = font.h_advance(self.ellipsis);
        while let Some(Placed { id, x }) = self.line.pop() {
            // A mark goes with its letter, and no space stands before an ellipsis.
            let inside = font.h_advance(id) == 0.0 || self.line.last().is_some_and(|last| last.id == self.space);
            if !inside && x + ellipsis <= max_width {
                self.line.push(Placed { id: self.ellipsis, x });
                return x + ellipsis;
            }
        }
        0.0
    }

    /// Adds up the coverage of the glyphs in `line`, in rows of `width` pixels that begin `overhang` before the text.
    fn compose(&mut self, width: usize) {
        let height = self.height as usize;
        self.coverage.clear();
        self.coverage.resize(width * height, 0);
        for placed in &self.line {
            let (x, step) = placed.snapped();
            let glyph = self.glyphs.entry((placed.id, step)).or_insert_with(|| {
                rasterise(&self.font, self.scale, placed.id, point(f32::from(step) / STEPS, self.ascent))
            });
            if glyph.width == 0 {
                continue;
            }
            let left = x + glyph.left + self.overhang as i32;
            for (row, line) in glyph.coverage.chunks_exact(glyph.width).enumerate() {
                let Ok(y) = usize::try_from(glyph.top + row as i32) else { continue };
                if y >= height {
                    break;
                }
                for (column, &coverage) in line.iter().enumerate() {
                    let Ok(x) = usize::try_from(left + column as i32) else { continue };
                    if x < width {
                        let pixel = &mut self.coverage[y * width + x];
                        *pixel = pixel.saturating_add(coverage);
                    }
                }
            }
        }
    }
}

/// The built-in font.
fn font(weight: Weight) -> Result<FontRef<'static>> {
    let (name, bytes) = match weight {
        Weight::Regular => ("DejaVuSans.ttf", REGULAR),
        Weight::Bold => ("DejaVuSans-Bold.ttf", BOLD),
    };
    FontRef::try_from_slice(bytes)
        .map_err(|e| Error::new(ErrorKind::Internal, format_args!("built-in font {name}: {e}")))
}

/// What is drawn for `c`: white space as a space, and nothing for characters that only control others.
fn visible(c: char) -> Option<char> {
    match c {
        _ if c.is_whitespace() => Some(' '),
        '\u{AD}' | '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' => None,
        '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E0FFF}' => None,
        _ if c.is_control() => None,
        _ => Some(c),
    }
}

fn rasterise(font: &FontRef<'static>, scale: PxScale, id: GlyphId, pen: ab_glyph::Point) -> Glyph {
    let Some(outline) = font.outline_glyph(id.with_scale_and_position(scale, pen)) else {
        return Glyph { left: 0, top: 0, width: 0, coverage: Vec::new() };
    };
    let bounds = outline.px_bounds();
    let (width, height) = (bounds.width() as usize, bounds.height() as usize);
    let mut coverage = vec![0; width * height];
    outline.draw(|x, y, c| {
        if let Some(pixel) = coverage.get_mut(y as usize * width + x as usize) {
            *pixel = (c * 255.0).round() as u8;
        }
    });
    Glyph { left: bounds.min.x as i32, top: bounds.min.y as i32, width, coverage }
}

fn blend(ink: Ink, coverage: u8) -> Rgb888 {
    if coverage == 0 {
        return ink.ground;
    }
    let mix = |text: u8, ground: u8| {
        let (text, ground, coverage) = (u32::from(text), u32::from(ground), u32::from(coverage));
        ((text * coverage + ground * (255 - coverage) + 127) / 255) as u8
    };
    Rgb888::new(mix(ink.text.r(), ink.ground.r()), mix(ink.text.g(), ink.ground.g()), mix(ink.text.b(), ink.ground.b()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::frame::Frame;
    use std::collections::HashSet;

    const INK: Ink = Ink { text: Rgb888::WHITE, ground: Rgb888::BLACK };

    fn drawn(text: &str, max_width: u32) -> (Frame, u32) {
        let mut frame = Frame::new(320, 40);
        let width =
            Text::new(Weight::Regular, 22.0).unwrap().draw_within(&mut frame, Point::new(10, 5), max_width, text, INK);
        (frame, width.unwrap())
    }

    fn same(a: &Frame, b: &Frame) -> bool {
        a.data() == b.data()
    }

    /// Columns of `frame` that hold ink.
    fn inked(frame: &Frame) -> HashSet<u32> {
        (0..frame.width()).filter(|&x| (0..frame.height()).any(|y| frame.pixel(x, y).unwrap()[0] > 0)).collect()
    }

    #[test]
    fn edges_are_smooth() {
        let (frame, _) = drawn("Smooth", 300);
        let greys: HashSet<u8> = frame.data().iter().copied().collect();
        assert!(greys.contains(&255) && greys.contains(&0) && greys.len() > 20, "{} shades", greys.len());
    }

    #[test]
    fn the_width_is_where_the_ink_is() {
        let (frame, width) = drawn("HHHH", 300);
        let columns = inked(&frame);
        let (first, last) = (*columns.iter().min().unwrap(), *columns.iter().max().unwrap());
        assert!(
            (10..=13).contains(&first) && (10 + width - 4..10 + width).contains(&last),
            "{first}..{last} of {width}"
        );
    }

    #[test]
    fn long_text_ends_in_an_ellipsis_within_the_width() {
        let (all, full) = drawn("playing musical instruments", 300);
        assert!(full > 120);
        let (cut, width) = drawn("playing musical instruments", 120);
        assert!(width <= 120 && width > 90, "{width}");
        assert!(*inked(&cut).iter().max().unwrap() < 130);
        // The ellipsis: its dots are all the ink in its columns, low in the line.
        let dots: Vec<u32> =
            (0..40).filter(|&y| (width - 10..width + 10).any(|x| cut.pixel(x, y).unwrap()[0] > 0)).collect();
        assert!(*dots.first().unwrap() > 20, "{dots:?}");
        assert_eq!(cut.pixel(16, 15), all.pixel(16, 15));
    }

    #[test]
    fn no_space_before_the_ellipsis_and_no_mark_without_its_letter() {
        let mut text = Text::new(Weight::Regular, 20.0).unwrap();
        for width in 0..120 {
            text.place("a b e\u{301} c d e f g h i", width as f32);
            let line: Vec<GlyphId> = text.line.iter().map(|p| p.id).collect();
            if let [.., before, last] = line[..] {
                assert_eq!(last, text.ellipsis, "{width}");
                assert_ne!(before, text.space, "{width}");
                assert_ne!(before, text.font.glyph_id('e'), "cut between letter and mark at {width}");
            }
        }
    }

    #[test]
    fn without_room_nothing_is_drawn() {
        for width in [0, 3] {
            let (frame, drawn) = drawn("wide", width);
            assert_eq!((drawn, inked(&frame).len()), (0, 0));
        }
    }

    #[test]
    fn unknown_characters_show_the_substitute() {
        let (substitute, width) = drawn("\u{FFFD}", 300);
        assert!(inked(&substitute).len() > 8);
        for unknown in ["語", "🏃", "\u{E123}"] {
            let (frame, w) = drawn(unknown, 300);
            assert!(same(&frame, &substitute) && w == width, "{unknown}");
        }
    }

    #[test]
    fn scripts_of_the_font_are_covered() {
        let (substitute, _) = drawn("\u{FFFD}", 300);
        for covered in ["ä", "ß", "Ω", "Я", "ı", "Ș", "ე", "א", "→"] {
            assert!(!same(&drawn(covered, 300).0, &substitute), "{covered}");
        }
    }

    #[test]
    fn control_characters_take_no_room_and_marks_none_of_their_own() {
        assert!(same(&drawn("a\u{7}\u{200D}\u{202E}b\u{FE0F}", 300).0, &drawn("ab", 300).0));
        assert!(same(&drawn("a\tb\nc", 300).0, &drawn("a b c", 300).0));
        let (marked, width) = drawn("ae\u{301}", 300);
        let (plain, plain_width) = drawn("ae", 300);
        assert_eq!(width, plain_width);
        assert!(!same(&marked, &plain));
        // A mark with no letter before it reaches over the start; nothing breaks.
        drawn("\u{301}\u{301}", 300);
    }

    #[test]
    fn glyphs_are_rasterised_once_and_buffers_reused() {
        let mut frame = Frame::new(320, 40);
        let mut text = Text::new(Weight::Bold, 22.0).unwrap();
        let mut state = Vec::new();
        for _ in 0..3 {
            text.draw(&mut frame, Point::new(10, 5), "jumping jack 99%", INK).unwrap();
            state.push(text.footprint());
        }
        assert!(state[0][0] >= 12 && state[0] == state[1] && state[1] == state[2], "{state:?}");
    }

    #[test]
    fn any_size_and_place_is_survived() {
        for size in [f32::NAN, f32::INFINITY, -3.0, 0.0, 0.3, 1.0, 7.0, 60.0] {
            let mut text = Text::new(Weight::Bold, size).unwrap();
            let mut frame = Frame::new(9, 7);
            for at in [Point::new(-50, -50), Point::new(-3, -3), Point::new(8, 6), Point::new(500, 500)] {
                text.draw(&mut frame, at, "Ág", INK).unwrap();
            }
            assert!(text.height() >= 1 && text.ascent() <= text.height());
        }
    }

    #[test]
    fn crisp_sizes_are_near() {
        for size in 4..80 {
            let crisp = Text::crisp_px(size as f32);
            assert!((crisp - size as f32).abs() < 1.0);
            assert!((crisp * X_HEIGHT).fract().min(1.0 - (crisp * X_HEIGHT).fract()) < 1e-3);
        }
    }
}
