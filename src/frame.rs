//! A picture on its way through the program: RGB8, owned, recycled. It never allocates once its buffer has the size.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Size};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::primitives::Rectangle;

/// One picture, 8-bit RGB, rows from the top, no padding, with the times that belong to it.
#[derive(Debug, Clone)]
pub struct Frame {
    width: u32,
    height: u32,
    data: Vec<u8>,
    /// Source time: the driver's clock for cameras, position in the stream for files. Never goes back within a stream.
    pub timestamp: Duration,
    /// When the picture was taken on this machine's monotonic clock; latency is measured from here.
    pub captured: Instant,
    /// When the source handed it over, converted: what is between is the camera's transfer and our conversion.
    pub received: Instant,
    /// Number of this frame in its source, from 0, counting frames that were lost before it.
    pub sequence: u64,
    /// What the source knows is being shown (the mannequin does); for tests and a small note in the overlay.
    pub truth: Option<&'static str>,
}

impl Default for Frame {
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl Frame {
    /// A black picture of `width` x `height` pixels at time zero.
    pub fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            data: vec![0; width as usize * height as usize * 3],
            timestamp: Duration::ZERO,
            captured: Instant::now(),
            received: Instant::now(),
            sequence: 0,
            truth: None,
        }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, `height * width * 3` bytes.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The pixels, `height * width * 3` bytes.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// Gives the picture another size, keeping the buffer. The content is unspecified afterwards.
    pub fn resize(&mut self, width: u32, height: u32) {
        self.width = width;
        self.height = height;
        self.data.resize(width as usize * height as usize * 3, 0);
    }

    /// Copies picture and times of `other` into this one's buffer.
    pub fn copy_from(&mut self, other: &Frame) {
        self.width = other.width;
        self.height = other.height;
        self.data.clear();
        self.data.extend_from_slice(&other.data);
        self.timestamp = other.timestamp;
        self.captured = other.captured;
        self.received = other.received;
        self.sequence = other.sequence;
        self.truth = other.truth;
    }

    /// The colour at column `x`, row `y`, or `None` outside the picture.
    pub fn pixel(&self, x: u32, y: u32) -> Option<[u8; 3]> {
        if x >= self.width || y >= self.height {
            return None;
        }
        let at = (y as usize * self.width as usize + x as usize) * 3;
        self.data[at..at + 3].try_into().ok()
    }
}

impl OriginDimensions for Frame {
    fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

impl DrawTarget for Frame {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = Pixel<Self::Color>>,
    {
        for Pixel(point, color) in pixels {
            let (Ok(x), Ok(y)) = (u32::try_from(point.x), u32::try_from(point.y)) else { continue };
            if x < self.width && y < self.height {
                let at = (y as usize * self.width as usize + x as usize) * 3;
                self.data[at..at + 3].copy_from_slice(&[color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }

    fn fill_solid(&mut self, area: &Rectangle, color: Self::Color) -> Result<(), Self::Error> {
        let area = area.intersection(&Rectangle::new(Default::default(), self.size()));
        let (x, y) = (area.top_left.x as usize, area.top_left.y as usize);
        let rgb = [color.r(), color.g(), color.b()];
        for row in y..y + area.size.height as usize {
            let at = (row * self.width as usize + x) * 3;
            for pixel in self.data[at..at + area.size.width as usize * 3].chunks_exact_mut(3) {
                pixel.copy_from_slice(&rgb);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_graphics::geometry::Point;

    #[test]
    fn drawing_outside_is_cut_off() {
        let mut frame = Frame::new(3, 2);
        let red = Rgb888::new(255, 0, 0);
        let pixels = [(-1, 0), (0, 0), (3, 1), (2, 1)].map(|(x, y)| Pixel(Point::new(x, y), red));
        let Ok(()) = frame.draw_iter(pixels);
        let set: Vec<_> = frame.data().chunks(3).map(|p| p[0] != 0).collect();
        assert_eq!(set, [true, false, false, false, false, true]);
    }

    #[test]
    fn fill_solid_equals_draw_iter() {
        let area = Rectangle::new(Point::new(-1, 1), Size::new(4, 9));
        let mut fast = Frame::new(5, 4);
        let mut plain = fast.clone();
        let color = Rgb888::new(1, 2, 3);
        let Ok(()) = fast.fill_solid(&area, color);
        use embedded_graphics::primitives::PointsIter;
        let Ok(()) = plain.draw_iter(area.points().map(|p| Pixel(p, color)));
        assert_eq!(fast.data(), plain.data());
    }

    #[test]
    fn a_copy_keeps_size_and_time() {
        let mut source = Frame::new(4, 3);
        source.data_mut().fill(7);
        source.timestamp = Duration::from_millis(40);
        let mut copy = Frame::default();
        copy.copy_from(&source);
        assert_eq!((copy.width(), copy.height(), copy.timestamp), (4, 3, source.timestamp));
        assert_eq!(copy.pixel(3, 2), Some([7, 7, 7]));
        assert_eq!(copy.pixel(4, 2), None);
    }
}
