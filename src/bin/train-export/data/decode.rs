//! Videos as training needs them: decoded once by the edge program's own source, scaled down, in memory, with a measure of
//! how much moves when.

use std::path::Path;

use anyhow::{Context, ensure};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images::Image, images::ImageRef};
use kinora::capture::{self, Captured, Source};
use kinora::frame::Frame;
use kinora::stop::Stop;

/// Pictures a second that are kept at most.
const HIGHEST_RATE: f32 = 31.0;

/// A decoded video.
#[derive(Debug, Clone, PartialEq)]
pub struct Video {
    /// Width and height of its pictures.
    pub size: (u32, u32),
    /// Pictures a second.
    pub rate: f32,
    /// Pictures of the file for each that is kept.
    pub stride: usize,
    /// The pictures, one after the other, RGB8.
    data: Vec<u8>,
    /// For each picture how far it differs from the one before: mean over pixels, in steps of 255.
    pub motion: Vec<f32>,
    /// The same from the first.
    apart: Vec<f32>,
}

/// A picture whose difference from the first is below this share of the largest shows what the first did.
const AS_AT_FIRST: f32 = 0.25;
/// As long as less than this, in seconds, looks as at first, the video began or ended in the middle of something.
const REST_S: f32 = 0.25;

impl Video {
    /// Decodes `path`, scaled down to `short_side` if its shorter side is longer.
    pub fn read(path: &Path, short_side: u32) -> anyhow::Result<Self> {
        let mut source = open(path)?;
        let info = source.info();
        let stride = (info.frame_rate / HIGHEST_RATE).ceil().max(1.0) as u64;
        let size = scaled((info.width, info.height), short_side.max(1));
        let rate = info.frame_rate / stride as f32;
        let mut video = Self { size, rate, stride: stride as usize, data: Vec::new(), motion: vec![], apart: vec![] };
        let (mut frame, mut scaler) = (Frame::default(), Scaler::new(size));
        while source.next_frame(&mut frame)? == Captured::Frame {
            if frame.sequence.is_multiple_of(stride) {
                video.add(scaler.scale(&frame)?);
            }
        }
        ensure!(!video.motion.is_empty(), "{}: not one picture in it", path.display());
        Ok(video)
    }

    fn add(&mut self, picture: &[u8]) {
        let moved = match self.data.len().checked_sub(picture.len()) {
            Some(last) => difference(&self.data[last..], picture),
            None => 0.0,
        };
        self.motion.push(moved);
        self.apart.push(self.data.get(..picture.len()).map_or(0.0, |first| difference(first, picture)));
        self.data.extend_from_slice(picture);
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.motion.len()
    }

    /// From when to when something is done, in seconds: from where the video no longer looks as it did at first, to where it
    /// does again for good; without bounds where it begins or ends in the middle of something, such as a pose that is held.
    pub fn acted(&self) -> (f32, f32) {
        let noise = self.apart[1..].iter().copied().fold(f32::INFINITY, f32::min);
        let limit = noise + AS_AT_FIRST * (self.apart.iter().copied().fold(0.0, f32::max) - noise);
        let differs = |apart: &f32| *apart > limit;
        let (first, last) = (self.apart.iter().position(differs), self.apart.iter().rposition(differs));
        let seconds = |pictures: usize| pictures as f32 / self.rate;
        let begin = first.map(seconds).filter(|begin| *begin >= REST_S);
        let end = last.map(|last| seconds(last + 1)).filter(|end| seconds(self.len()) - end >= REST_S);
        (begin.unwrap_or(f32::NEG_INFINITY), end.unwrap_or(f32::INFINITY))
    }

    /// Memory that the pictures take.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Puts the picture nearest to `time_s` into `frame`; before the first and after the last it is that one.
    pub fn put(&self, time_s: f32, frame: &mut Frame) {
        let index = ((time_s * self.rate).round().max(0.0) as usize).min(self.len() - 1);
        frame.resize(self.size.0, self.size.1);
        let bytes = frame.data().len();
        frame.data_mut().copy_from_slice(&self.data[index * bytes..(index + 1) * bytes]);
    }
}

/// Opens the video at `path`, to be read as fast as it can be.
pub fn open(path: &Path) -> anyhow::Result<Box<dyn Source>> {
    let path = path.to_str().with_context(|| format!("{}: the name is not UTF-8", path.display()))?;
    let options = capture::Options { realtime: false, ..Default::default() };
    Ok(capture::open(&format!("file:{path}"), &options, &Stop::default())?)
}

/// Mean difference of two pictures, from every fifth value.
fn difference(a: &[u8], b: &[u8]) -> f32 {
    let pairs = a.iter().step_by(5).zip(b.iter().step_by(5));
    let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f32 / a.len().div_ceil(5).max(1) as f32
}

/// `size` with its shorter side brought down to `short_side`.
fn scaled((width, height): (u32, u32), short_side: u32) -> (u32, u32) {
    let factor = (f64::from(short_side) / f64::from(width.min(height))).min(1.0);
    let scale = |side: u32| ((f64::from(side) * factor).round() as u32).max(1);
    (scale(width), scale(height))
}

struct Scaler {
    resizer: Resizer,
    image: Image<'static>,
}

impl Scaler {
    fn new((width, height): (u32, u32)) -> Self {
        Self { resizer: Resizer::new(), image: Image::new(width, height, PixelType::U8x3) }
    }

    /// The pixels of `frame` at this scaler's size.
    fn scale(&mut self, frame: &Frame) -> anyhow::Result<&[u8]> {
        let from = ImageRef::new(frame.width(), frame.height(), frame.data(), PixelType::U8x3)?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        self.resizer.resize(&from, &mut self.image, &options)?;
        Ok(self.image.buffer())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::process::Command;

    /// Makes a video: gray at first, then from `moves_from` on something that moves until `seconds`.
    pub(crate) fn make_video(path: &Path, size: &str, seconds: f32, moves_from: f32) {
        let still = format!("color=gray:size={size}:rate=15:duration={moves_from}");
        let moving = format!("testsrc=size={size}:rate=15:duration={}", seconds - moves_from);
        let status = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &still, "-f", "lavfi", "-i", &moving])
            .args(["-filter_complex", "[0][1]concat=n=2,format=yuv420p", "-c:v", "mpeg4", "-q:v", "3"])
            .arg(path)
            .status();
        assert!(status.unwrap().success());
    }

    #[test]
    fn a_video_is_decoded_small_with_its_motion() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a clip.mp4");
        make_video(&path, "96x64", 2.0, 1.0);
        let video = Video::read(&path, 32).unwrap();
        assert_eq!((video.size, video.rate, video.len()), ((48, 32), 15.0, 30));
        assert_eq!(video.bytes(), 30 * 48 * 32 * 3);
        assert!(video.motion[1..14].iter().all(|m| *m < 1.0) && video.motion[15] > 10.0, "{:?}", video.motion);
        let (mut first, mut last) = (Frame::default(), Frame::default());
        video.put(-1.0, &mut first);
        video.put(99.0, &mut last);
        assert!(first.pixel(5, 5).unwrap().iter().all(|v| v.abs_diff(128) < 8));
        assert_ne!(first.data(), last.data());
        assert_eq!(video.acted(), (1.0, f32::INFINITY));
        assert_eq!(Video::read(&path, 999).unwrap().size, (96, 64));
    }

    #[test]
    fn something_is_done_while_it_looks_otherwise_than_at_first() {
        let acted = |apart: &[f32]| {
            let motion = vec![0.0; apart.len()];
            Video { size: (1, 1), rate: 8.0, stride: 1, data: vec![], motion, apart: apart.to_vec() }.acted()
        };
        assert_eq!(acted(&[0.0, 0.5, 0.6, 5.0, 9.0, 1.0, 7.0, 6.0, 0.6, 0.7, 0.5]), (0.375, 1.0));
        let (never, always) = (f32::NEG_INFINITY, f32::INFINITY);
        // It ends in a pose, or begins in the middle of something, or shows nothing at all.
        assert_eq!(acted(&[0.0, 0.5, 0.6, 5.0, 9.0, 8.0, 8.0, 8.0]), (0.375, always));
        assert_eq!(acted(&[0.0, 5.0, 9.0, 1.0, 1.0, 1.0]), (never, 0.375));
        assert_eq!(acted(&[0.0]), (never, always));
        assert_eq!(acted(&[0.0, 0.0, 0.0, 0.0]), (never, always));
    }

    #[test]
    fn what_is_no_video_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broken.mp4");
        std::fs::write(&path, "no video").unwrap();
        assert!(Video::read(&path, 32).unwrap_err().to_string().contains("broken.mp4"));
    }
}
