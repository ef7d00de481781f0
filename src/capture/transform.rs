//! Turning, mirroring and cutting pictures as they come from a source. One pass from one buffer into another; nothing
//! is allocated per picture.

use std::str::FromStr;

use super::{Captured, Source, SourceInfo};
use crate::frame::Frame;
use crate::synth::Motion;
use crate::{Error, ErrorKind, Result};

/// Clockwise turn of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    /// None.
    #[default]
    None,
    /// The top becomes the right side.
    Quarter,
    /// Upside down.
    Half,
    /// The top becomes the left side.
    ThreeQuarters,
}

impl FromStr for Rotation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "0" => Ok(Self::None),
            "90" => Ok(Self::Quarter),
            "180" => Ok(Self::Half),
            "270" => Ok(Self::ThreeQuarters),
            _ => Err(Error::new(
                ErrorKind::Usage,
                format_args!("rotation `{text}` is not one of 0, 90, 180, 270 degrees (clockwise)"),
            )),
        }
    }
}

/// A part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roi {
    /// Its left column.
    pub x: u32,
    /// Its top row.
    pub y: u32,
    /// Its width, at least 1.
    pub width: u32,
    /// Its height, at least 1.
    pub height: u32,
}

impl FromStr for Roi {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Option<Vec<u32>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[x, y, width, height]) if width > 0 && height > 0 => Ok(Self { x, y, width, height }),
            _ => Err(Error::new(
                ErrorKind::Usage,
                format_args!("roi `{text}` is not X,Y,WIDTH,HEIGHT in pixels with a width and height of at least 1"),
            )),
        }
    }
}

/// What is done to each picture: first turned, then mirrored left to right, then cut to a part of what is then seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transform {
    /// How it is turned.
    pub rotation: Rotation,
    /// Whether left and right are exchanged.
    pub mirror: bool,
    /// The part that is kept; all of it if `None`.
    pub roi: Option<Roi>,
}

impl Transform {
    /// Whether it leaves every picture as it is.
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }

    /// The part of a picture of `width` x `height` that is kept, in the picture as it is seen after turning.
    ///
    /// # Errors
    /// `Usage` when the part does not lie within the picture.
    pub fn part_of(&self, width: u32, height: u32) -> Result<Roi> {
        let (width, height) = match self.rotation {
            Rotation::None | Rotation::Half => (width, height),
            Rotation::Quarter | Rotation::ThreeQuarters => (height, width),
        };
        let Some(roi) = self.roi else { return Ok(Roi { x: 0, y: 0, width, height }) };
        let within =
            |start: u32, length: u32, size: u32| length > 0 && start.checked_add(length).is_some_and(|end| end <= size);
        if within(roi.x, roi.width, width) && within(roi.y, roi.height, height) {
            return Ok(roi);
        }
        let Roi { x, y, width: roi_width, height: roi_height } = roi;
        Err(Error::new(
            ErrorKind::Usage,
            format_args!(
                "roi {x},{y},{roi_width},{roi_height} does not lie within the picture of {width}x{height} pixels"
            ),
        ))
    }

    /// Puts the transformed picture of `from` into `into`, with its times.
    ///
    /// # Errors
    /// `Usage` when the part to keep does not lie within the picture.
    pub fn apply(&self, from: &Frame, into: &mut Frame) -> Result<()> {
        let part = self.part_of(from.width(), from.height())?;
        into.resize(part.width, part.height);
        into.timestamp = from.timestamp;
        into.captured = from.captured;
        into.sequence = from.sequence;
        into.truth = if self.mirror { from.truth.map(mirrored) } else { from.truth };
        copy(from.data(), &self.walk(from, part), into);
        Ok(())
    }

    /// Where in `from` the pixels of `part` are.
    fn walk(&self, from: &Frame, part: Roi) -> Walk {
        let (width, height) = (from.width() as isize, from.height() as isize);
        // Of the picture after turning: the source pixel of its top left corner, a step to the right, a step down.
        let (corner, right, down, turned_width) = match self.rotation {
            Rotation::None => (0, 1, width, width),
            Rotation::Quarter => ((height - 1) * width, -width, 1, height),
            Rotation::Half => (height * width - 1, -1, -width, width),
            Rotation::ThreeQuarters => (width - 1, width, -1, height),
        };
        let (corner, right) = if self.mirror { (corner + (turned_width - 1) * right, -right) } else { (corner, right) };
        Walk { start: corner + part.x as isize * right + part.y as isize * down, right, down }
    }
}

/// What a mirrored picture shows: sided actions are named by the picture.
fn mirrored(label: &'static str) -> &'static str {
    let (left, right) = (Motion::SwipeLeft.label(), Motion::SwipeRight.label());
    match label {
        _ if label == left => right,
        _ if label == right => left,
        _ => label,
    }
}

/// A way over a picture: the first pixel and the steps to the next one to the right and below, in pixels.
struct Walk {
    start: isize,
    right: isize,
    down: isize,
}

/// Pixels a side of the squares that a turned picture is copied in, so that rows of both pictures stay in the cache.
const BLOCK: usize = 32;

/// Copies pixels along `walk`, which stays within `from`, into all of `into`.
fn copy(from: &[u8], walk: &Walk, into: &mut Frame) {
    let (width, height) = (into.width() as usize, into.height() as usize);
    let at = |x: usize, y: usize| (walk.start + x as isize * walk.right + y as isize * walk.down) as usize * 3;
    if walk.right == 1 {
        for (y, row) in into.data_mut().chunks_exact_mut(width * 3).enumerate() {
            row.copy_from_slice(&from[at(0, y)..][..width * 3]);
        }
        return;
    }
    let step = walk.right * 3;
    let data = into.data_mut();
    for top in (0..height).step_by(BLOCK) {
        for left in (0..width).step_by(BLOCK) {
            let columns = BLOCK.min(width - left);
            for y in top..(top + BLOCK).min(height) {
                let mut start = at(left, y);
                for pixel in data[(y * width + left) * 3..][..columns * 3].chunks_exact_mut(3) {
                    pixel.copy_from_slice(&from[start..start + 3]);
                    // After the last pixel it may lie outside, but is not used any more.
                    start = start.wrapping_add_signed(step);
                }
            }
        }
    }
}

/// `source` with `transform` done to its pictures; `source` itself if there is nothing to do.
///
/// # Errors
/// `Usage` when the part to keep does not lie within the source's pictures.
pub(super) fn apply(source: Box<dyn Source>, transform: Transform) -> Result<Box<dyn Source>> {
    if transform.is_identity() {
        return Ok(source);
    }
    let mut info = source.info().clone();
    let part = transform.part_of(info.width, info.height).map_err(|e| e.within(&info.name))?;
    (info.width, info.height) = (part.width, part.height);
    Ok(Box::new(Transformed { source, transform, info, picture: Frame::default() }))
}

/// A source whose pictures are transformed.
struct Transformed {
    source: Box<dyn Source>,
    transform: Transform,
    info: SourceInfo,
    picture: Frame,
}

impl Source for Transformed {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next_frame(&mut self, into: &mut Frame) -> Result<Captured> {
        let captured = self.source.next_frame(&mut self.picture)?;
        if captured == Captured::Frame {
            self.transform.apply(&self.picture, into)?;
        }
        Ok(captured)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    /// A picture in which every pixel is its own number.
    fn numbered(width: u32, height: u32) -> Frame {
        let mut frame = Frame::new(width, height);
        for (i, pixel) in frame.data_mut().chunks_exact_mut(3).enumerate() {
            pixel.copy_from_slice(&[(i % 251) as u8, (i / 251) as u8, 7]);
        }
        frame
    }

    fn numbers(frame: &Frame) -> Vec<usize> {
        frame.data().chunks(3).map(|pixel| usize::from(pixel[1]) * 251 + usize::from(pixel[0])).collect()
    }

    fn transform(rotation: &str, mirror: bool, roi: Option<&str>) -> Transform {
        Transform { rotation: rotation.parse().unwrap(), mirror, roi: roi.map(|text| text.parse().unwrap()) }
    }

    fn transformed(transform: Transform, from: &Frame) -> Frame {
        let mut into = Frame::default();
        transform.apply(from, &mut into).unwrap();
        into
    }

    #[test]
    fn turns_and_mirrors_of_a_small_picture() {
        // 0 1 2
        // 3 4 5
        let from = numbered(3, 2);
        for (rotation, mirror, size, expected) in [
            ("0", false, (3, 2), [0, 1, 2, 3, 4, 5]),
            ("0", true, (3, 2), [2, 1, 0, 5, 4, 3]),
            ("90", false, (2, 3), [3, 0, 4, 1, 5, 2]),
            ("90", true, (2, 3), [0, 3, 1, 4, 2, 5]),
            ("180", false, (3, 2), [5, 4, 3, 2, 1, 0]),
            ("180", true, (3, 2), [3, 4, 5, 0, 1, 2]),
            ("270", false, (2, 3), [2, 5, 1, 4, 0, 3]),
            ("270", true, (2, 3), [5, 2, 4, 1, 3, 0]),
        ] {
            let into = transformed(transform(rotation, mirror, None), &from);
            assert_eq!((into.width(), into.height()), size, "{rotation} {mirror}");
            assert_eq!(numbers(&into), expected, "{rotation} {mirror}");
        }
    }

    #[test]
    fn a_part_is_cut_from_the_picture_as_it_is_seen() {
        let from = numbered(70, 45);
        for rotation in ["0", "90", "180", "270"] {
            for mirror in [false, true] {
                let whole = transformed(transform(rotation, mirror, None), &from);
                let part = transformed(transform(rotation, mirror, Some("3,5,40,37")), &from);
                assert_eq!((part.width(), part.height()), (40, 37));
                for (x, y) in [(0, 0), (39, 0), (0, 36), (39, 36), (33, 32)] {
                    assert_eq!(part.pixel(x, y), whole.pixel(x + 3, y + 5), "{rotation} {mirror} {x},{y}");
                }
            }
        }
    }

    #[test]
    fn times_and_truth_go_along_and_mirroring_exchanges_sides() {
        let mut from = numbered(4, 4);
        from.timestamp = Duration::from_millis(120);
        from.sequence = 9;
        from.truth = Some("swipe_left");
        let into = transformed(transform("180", false, None), &from);
        assert_eq!((into.timestamp, into.sequence, into.truth), (from.timestamp, 9, Some("swipe_left")));
        assert_eq!(transformed(transform("0", true, None), &from).truth, Some("swipe_right"));
        from.truth = Some("walk");
        assert_eq!(transformed(transform("0", true, None), &from).truth, Some("walk"));
    }

    #[test]
    fn wrong_texts_and_parts_are_refused() {
        for text in ["", "1,2,3", "1,2,3,4,5", "1,2,0,4", "-1,2,3,4", "a,b,c,d", "1,,3,4,5"] {
            let error = text.parse::<Roi>().unwrap_err();
            assert!(error.to_string().contains("X,Y,WIDTH,HEIGHT"), "{text}");
        }
        assert_eq!("1, 2,3,4".parse::<Roi>().unwrap(), Roi { x: 1, y: 2, width: 3, height: 4 });
        assert!("45".parse::<Rotation>().unwrap_err().to_string().contains("0, 90, 180, 270"));
        let turned = transform("90", false, Some("0,0,30,20"));
        assert!(turned.part_of(20, 30).is_ok());
        let message = turned.part_of(30, 20).unwrap_err().to_string();
        assert!(message.contains("roi 0,0,30,20 does not lie within the picture of 20x30"), "{message}");
        assert!(transform("0", false, Some("4294967295,0,2,1")).part_of(30, 20).is_err());
    }

    struct Still(SourceInfo);

    impl Source for Still {
        fn info(&self) -> &SourceInfo {
            &self.0
        }

        fn next_frame(&mut self, into: &mut Frame) -> Result<Captured> {
            into.copy_from(&numbered(self.0.width, self.0.height));
            Ok(Captured::Frame)
        }
    }

    #[test]
    fn a_wrapped_source_tells_its_new_size() {
        let still = || {
            let info =
                SourceInfo { name: "still".into(), width: 8, height: 6, frame_rate: 1.0, live: true, stamped: false };
            Box::new(Still(info)) as Box<dyn Source>
        };
        let mut source = apply(still(), transform("270", false, Some("1,1,4,5"))).unwrap();
        assert_eq!((source.info().width, source.info().height, source.info().live), (4, 5, true));
        let mut frame = Frame::default();
        source.next_frame(&mut frame).unwrap();
        let buffer = frame.data().as_ptr();
        source.next_frame(&mut frame).unwrap();
        assert_eq!((frame.width(), frame.height(), frame.data().as_ptr()), (4, 5, buffer));
        assert!(apply(still(), transform("0", false, Some("0,0,9,1"))).is_err());
        assert_eq!(apply(still(), Transform::default()).unwrap().info().width, 8);
    }
}
