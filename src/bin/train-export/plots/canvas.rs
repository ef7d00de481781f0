//! A white picture to draw figures on, with the overlay's text, for a PNG file.

use std::path::Path;

use anyhow::Context;
use embedded_graphics::Drawable;
use embedded_graphics::geometry::{Point, Size};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::primitives::{Line, Primitive, PrimitiveStyle, Rectangle};
use kinora::frame::Frame;
use kinora::overlay::{Ink, Text, Weight};

pub const PAPER: Rgb888 = Rgb888::new(255, 255, 255);
pub const INK: Rgb888 = Rgb888::new(30, 36, 44);
pub const SOFT: Rgb888 = Rgb888::new(110, 118, 128);
pub const GRID: Rgb888 = Rgb888::new(222, 226, 231);
pub const CURVES: [Rgb888; 4] =
    [Rgb888::new(31, 119, 180), Rgb888::new(214, 96, 20), Rgb888::new(44, 140, 60), Rgb888::new(140, 80, 170)];

/// A white picture to draw on.
pub struct Canvas {
    frame: Frame,
    pub text: Text,
}

impl Canvas {
    pub fn new(width: u32, height: u32, text_px: f32) -> anyhow::Result<Self> {
        let mut frame = Frame::new(width, height);
        frame.data_mut().fill(255);
        Ok(Self { frame, text: Text::new(Weight::Regular, text_px)? })
    }

    pub fn fill(&mut self, area: Rectangle, color: Rgb888) {
        let Ok(()) = area.into_styled(PrimitiveStyle::with_fill(color)).draw(&mut self.frame);
    }

    pub fn line(&mut self, from: Point, to: Point, color: Rgb888, width: u32) {
        let Ok(()) = Line::new(from, to).into_styled(PrimitiveStyle::with_stroke(color, width)).draw(&mut self.frame);
    }

    /// Writes with the top left corner at `at`.
    pub fn write(&mut self, at: Point, text: &str, color: Rgb888, ground: Rgb888) {
        let Ok(_) = self.text.draw(&mut self.frame, at, text, Ink { text: color, ground });
    }

    /// Writes so that the text ends at `right`.
    pub fn write_before(&mut self, right: Point, text: &str, color: Rgb888) {
        let width = self.text.width(text) as i32;
        self.write(right - Point::new(width, 0), text, color, PAPER);
    }

    /// Writes from the bottom upwards; the text ends, below, at `at`'s y and is centred on its x.
    pub fn write_upwards(&mut self, at: Point, text: &str, color: Rgb888) {
        let (width, height) = (self.text.width(text), self.text.height());
        let mut lying = Frame::new(width + 2, height);
        lying.data_mut().fill(255);
        let Ok(_) = self.text.draw(&mut lying, Point::new(1, 0), text, Ink { text: color, ground: PAPER });
        for y in 0..height {
            for x in 0..width + 2 {
                let (Some([r, g, b]), to) =
                    (lying.pixel(x, y), at + Point::new(y as i32 - height as i32 / 2, -(x as i32)))
                else {
                    continue;
                };
                self.fill(Rectangle::new(to, Size::new(1, 1)), Rgb888::new(r, g, b));
            }
        }
    }

    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let (width, height) = (self.frame.width(), self.frame.height());
        image::save_buffer_with_format(
            path,
            self.frame.data(),
            width,
            height,
            image::ColorType::Rgb8,
            image::ImageFormat::Png,
        )
        .with_context(|| format!("{}: cannot be written", path.display()))
    }
}
