//! Fits a picture into an area of another size: centred, aspect kept, black borders. Never blocks.
//!
//! Buffers are kept between calls. A picture of the right size is only copied or converted; otherwise the resizer
//! computes its small tables of weights anew for each picture.

use crate::frame::Frame;
use crate::resize::Resizer;
use crate::{Error, ErrorKind, Result};

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// The largest centred area of a `target` (width, height) with the aspect of `source`; at least one pixel in size
/// unless one of the two is empty.
pub fn letterbox(source: (u32, u32), target: (u32, u32)) -> Area {
    if source.0 == 0 || source.1 == 0 || target.0 == 0 || target.1 == 0 {
        return Area { x: 0, y: 0, width: 0, height: 0 };
    }
    // Rounded to nearest, in integers, so that equal sizes fit exactly.
    let scaled = |length: u32, by: u32, of: u32, limit: u32| {
        let rounded = (u64::from(length) * u64::from(by) * 2 + u64::from(of)) / (u64::from(of) * 2);
        rounded.clamp(1, u64::from(limit)) as u32
    };
    let wide = u64::from(source.0) * u64::from(target.1) >= u64::from(target.0) * u64::from(source.1);
    let (width, height) = if wide {
        (target.0, scaled(source.1, target.0, source.0, target.1))
    } else {
        (scaled(source.0, target.1, source.1, target.0), target.1)
    };
    Area { x: (target.0 - width) / 2, y: (target.1 - height) / 2, width, height }
}

/// Scales pictures, keeping its buffers.
#[derive(Debug, Default)]
pub struct Scaler {
    resizer: Resizer,
    scaled: Vec<u8>,
}

impl Scaler {
    /// Draws `frame` into `target`, `width * height` pixels `0x00RRGGBB`, rows from the top.
    ///
    /// # Errors
    /// `Internal` when `target` has another size, or the resizer refuses.
    pub fn draw_xrgb(&mut self, frame: &Frame, target: &mut [u32], (width, height): (u32, u32)) -> Result<()> {
        if target.len() != width as usize * height as usize {
            return Err(Error::new(ErrorKind::Internal, "a window buffer is not of the window's size"));
        }
        let area = letterbox((frame.width(), frame.height()), (width, height));
        let rgb = self.resized(frame, area)?;
        if area.width == 0 {
            target.fill(0);
            return Ok(());
        }
        let (left, right) = (area.x as usize, (area.x + area.width) as usize);
        let (top, bottom) = (area.y as usize, (area.y + area.height) as usize);
        let mut source = rgb.chunks_exact(area.width as usize * 3);
        for (y, row) in target.chunks_exact_mut(width as usize).enumerate() {
            let picture = if (top..bottom).contains(&y) { source.next() } else { None };
            let Some(picture) = picture else {
                row.fill(0);
                continue;
            };
            row[..left].fill(0);
            row[right..].fill(0);
            for (pixel, rgb) in row[left..right].iter_mut().zip(picture.chunks_exact(3)) {
                *pixel = u32::from(rgb[0]) << 16 | u32::from(rgb[1]) << 8 | u32::from(rgb[2]);
            }
        }
        Ok(())
    }

    /// Draws `frame` into the picture of `target`, whose size and times stay.
    ///
    /// # Errors
    /// `Internal` when the resizer refuses.
    pub fn draw_rgb(&mut self, frame: &Frame, target: &mut Frame) -> Result<()> {
        let row_length = target.width() as usize * 3;
        let area = letterbox((frame.width(), frame.height()), (target.width(), target.height()));
        let rgb = self.resized(frame, area)?;
        target.data_mut().fill(0);
        if area.width == 0 {
            return Ok(());
        }
        let rows = target.data_mut().chunks_exact_mut(row_length).skip(area.y as usize);
        let length = area.width as usize * 3;
        for (row, picture) in rows.zip(rgb.chunks_exact(length)) {
            row[area.x as usize * 3..][..length].copy_from_slice(picture);
        }
        Ok(())
    }

    /// The pixels of `frame` at the size of `area`: its own if that is its size.
    fn resized<'a>(&'a mut self, frame: &'a Frame, area: Area) -> Result<&'a [u8]> {
        if (frame.width(), frame.height()) == (area.width, area.height) || area.width == 0 {
            return Ok(frame.data());
        }
        self.scaled.resize(area.width as usize * area.height as usize * 3, 0);
        let size = (area.width, area.height);
        self.resizer.scale(((frame.width(), frame.height()), frame.data()), None, (size, &mut self.scaled))?;
        Ok(&self.scaled)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn area(x: u32, y: u32, width: u32, height: u32) -> Area {
        Area { x, y, width, height }
    }

    #[test]
    fn the_aspect_is_kept_and_the_picture_centred() {
        assert_eq!(letterbox((640, 480), (640, 480)), area(0, 0, 640, 480));
        assert_eq!(letterbox((640, 480), (1000, 480)), area(180, 0, 640, 480));
        assert_eq!(letterbox((640, 480), (320, 480)), area(0, 120, 320, 240));
        assert_eq!(letterbox((1920, 1080), (1280, 1024)), area(0, 152, 1280, 720));
        assert_eq!(letterbox((3, 5), (7, 11)), area(0, 0, 7, 11));
        assert_eq!(letterbox((5, 3), (8, 8)), area(0, 1, 8, 5));
    }

    #[test]
    fn every_size_fits_and_touches_two_edges() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..2000 {
            let mut size = || (random.u32(1..3000), random.u32(1..3000));
            let (source, target) = (size(), size());
            let area = letterbox(source, target);
            assert!(area.width >= 1 && area.height >= 1, "{source:?} {target:?}");
            assert!(area.x + area.width <= target.0 && area.y + area.height <= target.1, "{source:?} {target:?}");
            assert!(area.width == target.0 || area.height == target.1, "{source:?} {target:?}");
            let (right, bottom) = (target.0 - area.x - area.width, target.1 - area.y - area.height);
            assert!(right.abs_diff(area.x) <= 1 && bottom.abs_diff(area.y) <= 1, "{source:?} {target:?}");
        }
        assert_eq!(letterbox((0, 4), (9, 9)).width, 0);
        assert_eq!(letterbox((1, 3000), (2, 2)), area(0, 0, 1, 2));
    }

    fn picture(width: u32, height: u32) -> Frame {
        let mut frame = Frame::new(width, height);
        let mut random = fastrand::Rng::with_seed(2);
        frame.data_mut().fill_with(|| random.u8(..));
        frame
    }

    #[test]
    fn an_equal_size_is_converted_exactly() {
        let frame = picture(13, 7);
        let mut target = vec![u32::MAX; 13 * 7];
        Scaler::default().draw_xrgb(&frame, &mut target, (13, 7)).unwrap();
        let back: Vec<u8> = target.iter().flat_map(|p| p.to_be_bytes()[1..].to_vec()).collect();
        assert_eq!(back, frame.data());
        assert!(target.iter().all(|p| p >> 24 == 0));
    }

    #[test]
    fn borders_are_black_and_the_picture_fills_the_rest() {
        let mut frame = Frame::new(2, 2);
        frame.data_mut().fill(200);
        let mut scaler = Scaler::default();
        for (width, height) in [(9, 4), (4, 9), (5, 5)] {
            let mut target = vec![u32::MAX; (width * height) as usize];
            scaler.draw_xrgb(&frame, &mut target, (width, height)).unwrap();
            let mut rgb = Frame::new(width, height);
            rgb.data_mut().fill(77);
            scaler.draw_rgb(&frame, &mut rgb).unwrap();
            let area = letterbox((2, 2), (width, height));
            for y in 0..height {
                for x in 0..width {
                    let inside =
                        (area.x..area.x + area.width).contains(&x) && (area.y..area.y + area.height).contains(&y);
                    let value = if inside { 200 } else { 0 };
                    assert_eq!(target[(y * width + x) as usize], value * 0x01_01_01, "{width}x{height} at {x},{y}");
                    assert_eq!(rgb.pixel(x, y), Some([value as u8; 3]), "{width}x{height} at {x},{y}");
                }
            }
        }
    }

    #[test]
    fn a_buffer_of_the_wrong_size_and_an_empty_picture_are_handled() {
        let mut scaler = Scaler::default();
        assert!(scaler.draw_xrgb(&picture(2, 2), &mut [0; 3], (2, 2)).is_err());
        let mut target = [5; 4];
        scaler.draw_xrgb(&Frame::new(0, 0), &mut target, (2, 2)).unwrap();
        assert_eq!(target, [0; 4]);
    }
}
