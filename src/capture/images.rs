//! A folder of PNG and JPEG pictures as a source, in natural order of their names (`img2` before `img10`). Each picture
//! is decoded when it is asked for, which allocates.

use std::path::{Path, PathBuf};
use std::time::Instant;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};

use super::rate::Rate;
use super::uri::Query;
use super::{Captured, Source, SourceInfo};
use crate::frame::Frame;
use crate::resize::Resizer;
use crate::stop::Stop;
use crate::{Error, ErrorKind, Result};

/// Pictures a second where nothing else is asked for.
const FRAME_RATE: f32 = 10.0;

/// A folder of pictures.
pub(super) struct Images {
    info: SourceInfo,
    paths: Vec<PathBuf>,
    resize: bool,
    resizer: Resizer,
    rate: Rate,
    next: usize,
    stop: Stop,
}

impl Images {
    /// Opens `folder`, which `uri` names. The first picture is decoded for its size.
    pub(super) fn open(uri: &str, folder: &Path, query: Query, stop: &Stop) -> Result<Self> {
        let paths = list(folder)?;
        let Some(first) = paths.first() else {
            return Err(Error::new(
                ErrorKind::Source,
                format_args!("{}: there is no picture in it (.png, .jpg, .jpeg)", folder.display()),
            ));
        };
        let rate = Rate::new(query.frame_rate.unwrap_or(FRAME_RATE));
        let (width, height) = match query.size {
            Some(size) => size,
            None => read(first)?.dimensions(),
        };
        let info = SourceInfo {
            name: uri.to_string(),
            width,
            height,
            frame_rate: rate.per_second(),
            live: false,
            stamped: false,
        };
        Ok(Self {
            info,
            paths,
            resize: query.size.is_some(),
            resizer: Resizer::default(),
            rate,
            next: 0,
            stop: stop.clone(),
        })
    }
}

impl Source for Images {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next_frame(&mut self, into: &mut Frame) -> Result<Captured> {
        let Some(path) = self.paths.get(self.next).filter(|_| !self.stop.requested()) else {
            return Ok(Captured::End);
        };
        let picture = read(path)?;
        let (width, height) = (self.info.width, self.info.height);
        let (own_width, own_height) = picture.dimensions();
        let fits = (own_width, own_height) == (width, height);
        if !fits && !self.resize {
            return Err(Error::new(
                ErrorKind::Source,
                format_args!(
                    "{}: is {own_width}x{own_height}, but the first picture is {width}x{height}: \
                     give one size for all, such as images:FOLDER?size={width}x{height}",
                    path.display()
                ),
            ));
        }
        into.resize(width, height);
        if fits {
            into.data_mut().copy_from_slice(picture.as_raw());
        } else {
            let source = ((own_width, own_height), picture.as_raw().as_slice());
            self.resizer.scale(source, None, ((width, height), into.data_mut()))?;
        }
        into.captured = Instant::now();
        into.timestamp = self.rate.time_of(self.next as u64);
        into.sequence = self.next as u64;
        into.truth = None;
        self.next += 1;
        Ok(Captured::Frame)
    }
}

/// The pictures in `folder`, in order; hidden files (also AppleDouble's `._*`) are none.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let error = |e: std::io::Error| {
        let reason = match e.kind() {
            std::io::ErrorKind::NotFound => "no such folder".to_string(),
            std::io::ErrorKind::NotADirectory => "is not a folder".to_string(),
            _ => format!("cannot be read: {e}"),
        };
        Error::new(ErrorKind::Source, format_args!("{}: {reason}", folder.display()))
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if !hidden && ["png", "jpg", "jpeg"].contains(&extension.as_str()) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort_by_cached_key(|path| path.file_name().map(|name| natural_key(&name.to_string_lossy())));
    Ok(paths)
}

/// A key that sorts numbers in names by value: alternately text and digits, the digits by length first.
fn natural_key(name: &str) -> Vec<(String, usize, String)> {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let (text, tail) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        let (digits, tail) = tail.split_at(tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len()));
        let value = digits.trim_start_matches('0');
        key.push((text.to_string(), value.len(), value.to_string()));
        rest = tail;
    }
    // Names that differ in leading zeros only still need an order.
    key.push((name.to_string(), 0, String::new()));
    key
}

/// Reads one picture, turned as its EXIF data say.
fn read(path: &Path) -> Result<RgbImage> {
    let error = |reason: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Source, format_args!("{}: cannot be read as a picture: {reason}", path.display()))
    };
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(|e| error(&e))?;
    let mut decoder = reader.into_decoder().map_err(|e| error(&e))?;
    let orientation = decoder.orientation().map_err(|e| error(&e))?;
    // A header is a few bytes and can promise a picture that fills the memory.
    Limits::default().reserve(decoder.total_bytes()).map_err(|e| error(&e))?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| error(&e))?;
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn save(folder: &Path, name: &str, (width, height): (u32, u32), gray: u8) {
        RgbImage::from_pixel(width, height, image::Rgb([gray; 3])).save(folder.join(name)).unwrap();
    }

    fn open(folder: &Path, query: Query) -> Result<Images> {
        Images::open("images:x", folder, query, &Stop::default())
    }

    fn grays(source: &mut Images) -> Result<Vec<(u8, u64, u128)>> {
        let (mut frame, mut seen) = (Frame::default(), Vec::new());
        while source.next_frame(&mut frame)? == Captured::Frame {
            seen.push((frame.pixel(0, 0).unwrap()[0], frame.sequence, frame.timestamp.as_millis()));
        }
        Ok(seen)
    }

    #[test]
    fn pictures_come_in_natural_order_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        for (name, gray) in [("img10.png", 30), ("img2.PNG", 20), ("img01.png", 10), ("other.jpeg", 40)] {
            save(folder.path(), name, (16, 12), gray);
        }
        std::fs::write(folder.path().join("._img2.png"), "junk").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "junk").unwrap();
        std::fs::create_dir(folder.path().join("a.png")).unwrap();
        let mut source = open(folder.path(), Query { frame_rate: Some(8.0), ..Query::default() }).unwrap();
        let info = source.info().clone();
        assert_eq!((info.width, info.height, info.frame_rate, info.live), (16, 12, 8.0, false));
        assert_eq!(grays(&mut source).unwrap(), [(10, 0, 0), (20, 1, 125), (30, 2, 250), (40, 3, 375)]);
    }

    #[test]
    fn pictures_of_another_size_are_refused_unless_one_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), "a.png", (16, 12), 1);
        save(folder.path(), "b.jpg", (12, 16), 2);
        let message = grays(&mut open(folder.path(), Query::default()).unwrap()).unwrap_err().to_string();
        assert!(message.contains("b.jpg: is 12x16, but the first picture is 16x12"), "{message}");
        let query = Query { size: Some((20, 20)), ..Query::default() };
        let mut source = open(folder.path(), query).unwrap();
        assert_eq!(source.info().width, 20);
        assert_eq!(grays(&mut source).unwrap().len(), 2);
    }

    #[test]
    fn other_kinds_of_pixels_become_rgb() {
        let folder = tempfile::tempdir().unwrap();
        image::GrayImage::from_pixel(4, 4, image::Luma([90])).save(folder.path().join("a.png")).unwrap();
        image::RgbaImage::from_pixel(4, 4, image::Rgba([91, 0, 0, 5])).save(folder.path().join("b.png")).unwrap();
        let deep = image::ImageBuffer::<image::Rgb<u16>, _>::from_pixel(4, 4, image::Rgb([92 * 257; 3]));
        deep.save(folder.path().join("c.png")).unwrap();
        // A JPEG that is called PNG.
        let bytes = {
            save(folder.path(), "d.jpg", (4, 4), 93);
            std::fs::read(folder.path().join("d.jpg")).unwrap()
        };
        std::fs::remove_file(folder.path().join("d.jpg")).unwrap();
        std::fs::write(folder.path().join("d.png"), bytes).unwrap();
        let seen = grays(&mut open(folder.path(), Query::default()).unwrap()).unwrap();
        assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), [90, 91, 92, 93]);
    }

    #[test]
    fn what_is_broken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| open(path, Query::default()).err().unwrap().to_string();
        assert!(refused(folder.path()).contains("there is no picture in it"));
        assert!(refused(&folder.path().join("none")).contains("no such folder"));
        save(folder.path(), "a.png", (4, 4), 1);
        std::fs::write(folder.path().join("b.png"), &std::fs::read(folder.path().join("a.png")).unwrap()[..30])
            .unwrap();
        assert!(refused(&folder.path().join("a.png")).contains("is not a folder"));
        let message = grays(&mut open(folder.path(), Query::default()).unwrap()).unwrap_err().to_string();
        assert!(message.contains("b.png: cannot be read as a picture"), "{message}");
    }

    #[test]
    fn a_stop_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), "a.png", (4, 4), 1);
        let mut source = open(folder.path(), Query::default()).unwrap();
        source.stop.request();
        assert!(grays(&mut source).unwrap().is_empty());
    }

    #[test]
    fn natural_order() {
        let mut names = ["b", "a10", "a9", "a1b2", "a1b10", "a", "a009", "10", "9", "a99999999999999999999999"];
        names.sort_by_cached_key(|name| natural_key(name));
        assert_eq!(names, ["9", "10", "a", "a1b2", "a1b10", "a009", "a9", "a10", "a99999999999999999999999", "b"]);
    }
}
