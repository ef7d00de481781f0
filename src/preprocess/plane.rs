//! One picture to one plane `[C, H, W]`: cut, resize, difference, normalise.

use super::Flow;
use crate::frame::Frame;
use crate::model::manifest::{Colour, Input, Resize};
use crate::resize::Resizer;
use crate::{Error, ErrorKind, Result};

/// Prepares sampled frames as a manifest's `[input]` says.
///
/// Resizing is bilinear with the kernel widened when shrinking (so it averages, it does not alias), on 8-bit RGB. A
/// channel value v of 0 to 255 becomes `(v / 255 - mean) / std`; for [`Colour::Motion`] v is the difference to the
/// previous sampled frame, -255 to 255. For [`Colour::Flow`] v / 255 stands for the flow in pixels of the model's size, cut off
/// at 20 and divided by that, as Carreira and Zisserman take it (Quo Vadis, Action Recognition?, 2017).
pub struct Preprocessor {
    colour: Colour,
    resize: Resize,
    width: u32,
    height: u32,
    /// `plane = v * scale + offset` for each channel.
    affine: Vec<(f32, f32)>,
    resizer: Resizer,
    /// The picture at the model's size, RGB8.
    small: Vec<u8>,
    /// Of [`Resize::Pad`]: the part of `small` that the picture fills.
    fitted: Vec<u8>,
    /// Of [`Colour::Motion`], none if there was no frame before.
    previous: Option<Vec<u8>>,
    /// Of [`Colour::Flow`], none if there was no frame before.
    flow: Option<Box<Pair>>,
}

/// Two gray pictures and what moves between them.
struct Pair {
    before: Vec<f32>,
    now: Vec<f32>,
    flow: Flow,
}

impl Pair {
    fn new(width: usize, height: usize) -> Self {
        let gray = || vec![0.0; width * height];
        Self { before: gray(), now: gray(), flow: Flow::new(width, height) }
    }
}

/// Pixels of flow that count as one.
const MOST_FLOW: f32 = 20.0;

fn luma(rgb: &[u8]) -> f32 {
    0.299 * f32::from(rgb[0]) + 0.587 * f32::from(rgb[1]) + 0.114 * f32::from(rgb[2])
}

/// Writes the channels of a picture, `[3, H, W]`.
fn rgb(picture: &[u8], affine: &[(f32, f32)], plane: &mut [f32]) {
    for (c, (out, &(scale, offset))) in plane.chunks_exact_mut(picture.len() / 3).zip(affine).enumerate() {
        for (out, pixel) in out.iter_mut().zip(picture.chunks_exact(3)) {
            *out = f32::from(pixel[c]) * scale + offset;
        }
    }
}

fn internal(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format_args!("resizing: {what}"))
}

impl Preprocessor {
    /// A preprocessor for `input`, whose fields are those of a checked manifest.
    pub fn new(input: &Input) -> Self {
        let affine = input.mean.iter().zip(&input.std).map(|(mean, std)| (1.0 / (255.0 * std), -mean / std)).collect();
        let (width, height) = (input.width as u32, input.height as u32);
        Self {
            colour: input.colour,
            resize: input.resize,
            width,
            height,
            affine,
            resizer: Resizer::default(),
            small: vec![0; width as usize * height as usize * 3],
            fitted: Vec::new(),
            previous: None,
            flow: None,
        }
    }

    /// Values of a plane, `C * H * W`.
    pub fn plane_len(&self) -> usize {
        self.colour.channels() * self.width as usize * self.height as usize
    }

    /// Forgets the previous frame.
    pub fn reset(&mut self) {
        self.previous = None;
        self.flow = None;
    }

    /// Writes the plane of `frame`, `[C, H, W]`. `false`: there is none yet, as a difference needs a frame before it.
    ///
    /// # Errors
    /// `Source` when the frame is empty, `Internal` when `plane` has another length.
    pub fn prepare(&mut self, frame: &Frame, plane: &mut [f32]) -> Result<bool> {
        if plane.len() != self.plane_len() {
            return Err(internal(format_args!("{} values wanted, {} given", self.plane_len(), plane.len())));
        }
        self.shrink(frame)?;
        let now = &self.small;
        let pixels = plane.len() / self.colour.channels();
        match self.colour {
            Colour::Rgb => rgb(now, &self.affine, plane),
            Colour::Gray => {
                let (scale, offset) = self.affine[0];
                for (out, pixel) in plane.iter_mut().zip(now.chunks_exact(3)) {
                    *out = luma(pixel) * scale + offset;
                }
            }
            Colour::Motion => {
                let Some(previous) = &mut self.previous else {
                    self.previous = Some(now.clone());
                    return Ok(false);
                };
                for (c, (out, &(scale, offset))) in plane.chunks_exact_mut(pixels).zip(&self.affine).enumerate() {
                    for ((out, now), before) in out.iter_mut().zip(now.chunks_exact(3)).zip(previous.chunks_exact(3)) {
                        *out = f32::from(i16::from(now[c]) - i16::from(before[c])) * scale + offset;
                    }
                }
                previous.copy_from_slice(now);
            }
            Colour::Flow => return Ok(self.flow(0, plane)),
            Colour::RgbFlow => {
                let (colours, flow) = plane.split_at_mut(3 * pixels);
                rgb(now, &self.affine, colours);
                return Ok(self.flow(3, flow));
            }
        }
        Ok(true)
    }

    /// Writes the flow to the picture in `small` from the one before, whose channels are those of the plane from `first` on.
    /// `false`: there was none before.
    fn flow(&mut self, first: usize, plane: &mut [f32]) -> bool {
        let before = self.flow.is_some();
        let (width, height) = (self.width as usize, self.height as usize);
        let pair = self.flow.get_or_insert_with(|| Box::new(Pair::new(width, height)));
        std::mem::swap(&mut pair.before, &mut pair.now);
        pair.now.iter_mut().zip(self.small.chunks_exact(3)).for_each(|(gray, pixel)| *gray = luma(pixel));
        if before {
            pair.flow.compute(&pair.before, &pair.now, plane);
            for (plane, &(scale, offset)) in plane.chunks_exact_mut(width * height).zip(&self.affine[first..]) {
                let part = |x: f32| x.clamp(-MOST_FLOW, MOST_FLOW) / MOST_FLOW;
                plane.iter_mut().for_each(|x| *x = part(*x) * 255.0 * scale + offset);
            }
        }
        before
    }

    /// Brings the picture to the model's size, into `small`.
    fn shrink(&mut self, frame: &Frame) -> Result<()> {
        let (w, h) = (frame.width(), frame.height());
        if w == 0 || h == 0 {
            return Err(Error::new(ErrorKind::Source, format_args!("a picture of {w}x{h} pixels cannot be used")));
        }
        let source = ((w, h), frame.data());
        let (w, h, to_w, to_h) = (f64::from(w), f64::from(h), f64::from(self.width), f64::from(self.height));
        let whole = (self.width, self.height);
        match self.resize {
            Resize::Stretch => self.resizer.scale(source, None, (whole, &mut self.small)),
            Resize::Crop => {
                let scale = (w / to_w).min(h / to_h);
                let (cut_w, cut_h) = (to_w * scale, to_h * scale);
                let cut = [(w - cut_w) / 2.0, (h - cut_h) / 2.0, cut_w, cut_h];
                self.resizer.scale(source, Some(cut), (whole, &mut self.small))
            }
            Resize::Pad => {
                let scale = (to_w / w).min(to_h / h);
                let fit_w = ((w * scale).round() as u32).clamp(1, self.width);
                let fit_h = ((h * scale).round() as u32).clamp(1, self.height);
                self.fitted.resize(fit_w as usize * fit_h as usize * 3, 0);
                self.resizer.scale(source, None, ((fit_w, fit_h), &mut self.fitted))?;
                self.small.fill(0);
                let (left, top) = (((self.width - fit_w) / 2) as usize, ((self.height - fit_h) / 2) as usize);
                let rows = self.small.chunks_exact_mut(self.width as usize * 3).skip(top);
                for (row, picture) in rows.zip(self.fitted.chunks_exact(fit_w as usize * 3)) {
                    row[left * 3..][..picture.len()].copy_from_slice(picture);
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(colour: Colour, resize: Resize, size: (usize, usize)) -> Input {
        let channels = colour.channels();
        Input {
            frames: 4,
            width: size.0,
            height: size.1,
            colour,
            frame_rate: 10.0,
            resize,
            mean: vec![0.5; channels],
            std: vec![0.25; channels],
        }
    }

    fn solid(w: u32, h: u32, rgb: [u8; 3]) -> Frame {
        let mut frame = Frame::new(w, h);
        frame.data_mut().chunks_exact_mut(3).for_each(|p| p.copy_from_slice(&rgb));
        frame
    }

    fn plane(pre: &mut Preprocessor, frame: &Frame) -> Result<Option<Vec<f32>>> {
        let mut plane = vec![f32::NAN; pre.plane_len()];
        Ok(pre.prepare(frame, &mut plane)?.then_some(plane))
    }

    #[test]
    fn values_are_normalised_by_channel() -> Result<()> {
        for size in [(8, 8), (7, 5), (31, 16)] {
            let mut pre = Preprocessor::new(&input(Colour::Rgb, Resize::Crop, size));
            let got = plane(&mut pre, &solid(33, 21, [0, 51, 255]))?.unwrap_or_default();
            let pixels = size.0 * size.1;
            for (c, want) in [-2.0, -1.2, 2.0].into_iter().enumerate() {
                assert!(got[c * pixels..(c + 1) * pixels].iter().all(|x| (x - want).abs() < 1e-5));
            }
        }
        let mut gray = Preprocessor::new(&input(Colour::Gray, Resize::Stretch, (4, 4)));
        let got = plane(&mut gray, &solid(9, 9, [255, 0, 0]))?.unwrap_or_default();
        assert!(got.iter().all(|x| (x - (0.299 - 0.5) / 0.25).abs() < 1e-5));
        Ok(())
    }

    #[test]
    fn crop_takes_the_centre_and_pad_keeps_everything() -> Result<()> {
        // Left and right quarter white, middle black.
        let mut frame = Frame::new(32, 16);
        for (i, p) in frame.data_mut().chunks_exact_mut(3).enumerate() {
            p.fill(if (8..24).contains(&(i % 32)) { 0 } else { 255 });
        }
        let mut crop = Preprocessor::new(&input(Colour::Rgb, Resize::Crop, (16, 16)));
        assert!(plane(&mut crop, &frame)?.unwrap_or_default().iter().all(|x| *x == -2.0));
        let mut pad = Preprocessor::new(&input(Colour::Rgb, Resize::Pad, (16, 16)));
        let got = plane(&mut pad, &frame)?.unwrap_or_default();
        let row = |y: usize| &got[y * 16..(y + 1) * 16];
        assert!(row(0).iter().chain(row(15)).all(|x| *x == -2.0), "black bars above and below");
        assert!(row(8)[0] == 2.0 && row(8)[8] == -2.0 && row(8)[15] == 2.0, "{:?}", row(8));
        Ok(())
    }

    #[test]
    fn motion_is_the_difference_to_the_frame_before() -> Result<()> {
        let mut input = input(Colour::Motion, Resize::Crop, (8, 8));
        (input.mean, input.std) = (vec![0.0; 3], vec![0.125; 3]);
        let mut pre = Preprocessor::new(&input);
        assert_eq!(plane(&mut pre, &solid(20, 20, [10; 3]))?, None);
        let got = plane(&mut pre, &solid(20, 20, [61; 3]))?.unwrap_or_default();
        assert!(got.iter().all(|x| (x - 51.0 / 255.0 * 8.0).abs() < 1e-5));
        pre.reset();
        assert_eq!(plane(&mut pre, &solid(20, 20, [10; 3]))?, None);
        Ok(())
    }

    #[test]
    fn flow_is_how_far_the_picture_moved() -> Result<()> {
        let mut input = input(Colour::Flow, Resize::Stretch, (64, 64));
        (input.mean, input.std) = (vec![0.0; 2], vec![0.5; 2]);
        let mut pre = Preprocessor::new(&input);
        let moved = |by: f32| {
            let mut frame = Frame::new(64, 64);
            for (n, pixel) in frame.data_mut().chunks_exact_mut(3).enumerate() {
                let (x, y) = ((n % 64) as f32 - by, (n / 64) as f32);
                pixel.fill((128.0 + 60.0 * (x / 4.0).sin() + 60.0 * (y / 5.0 + x / 17.0).cos()) as u8);
            }
            frame
        };
        assert_eq!(plane(&mut pre, &moved(0.0))?, None);
        for (now, by) in [(2.0, 2.0), (1.0, -1.0)] {
            let got = plane(&mut pre, &moved(now))?.unwrap_or_default();
            let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
            let (right, down) = got.split_at(64 * 64);
            // Of 20 pixels, by a standard deviation of a half.
            assert!(
                (mean(right) - by / 20.0 / 0.5).abs() < 0.03 && mean(down).abs() < 0.03,
                "{} {}",
                mean(right),
                mean(down)
            );
        }
        Ok(())
    }

    /// Of two streams the planes of either lie one after the other, each normalised by its own numbers.
    #[test]
    fn two_streams_see_what_each_sees() -> Result<()> {
        let of = |colour: Colour| {
            let mut input = input(colour, Resize::Crop, (16, 12));
            if colour == Colour::Flow {
                (input.mean, input.std) = (vec![0.1, -0.2], vec![0.5, 2.0]);
            }
            input
        };
        let mut both = of(Colour::RgbFlow);
        both.mean = [of(Colour::Rgb).mean, of(Colour::Flow).mean].concat();
        both.std = [of(Colour::Rgb).std, of(Colour::Flow).std].concat();
        let mut all = [both, of(Colour::Rgb), of(Colour::Flow)].map(|input| Preprocessor::new(&input));
        let mut rng = fastrand::Rng::with_seed(3);
        for n in 0..3 {
            let mut frame = Frame::new(20, 12);
            frame.data_mut().fill_with(|| rng.u8(..));
            let planes: Vec<_> = all.iter_mut().map(|pre| plane(pre, &frame)).collect::<Result<_>>()?;
            match &planes[..] {
                [Some(both), Some(rgb), Some(flow)] => assert_eq!(*both, [&rgb[..], flow].concat()),
                [both, _, flow] => assert!(n == 0 && both.is_none() && flow.is_none(), "{n}"),
                _ => unreachable!(),
            }
        }
        all[0].reset();
        assert_eq!(plane(&mut all[0], &Frame::new(20, 12))?, None);
        Ok(())
    }

    #[test]
    fn shrinking_averages() -> Result<()> {
        // A fine checkerboard becomes grey, not a pattern.
        let mut frame = Frame::new(128, 128);
        for (i, p) in frame.data_mut().chunks_exact_mut(3).enumerate() {
            p.fill(if (i % 128 + i / 128).is_multiple_of(2) { 255 } else { 0 });
        }
        let mut pre = Preprocessor::new(&input(Colour::Rgb, Resize::Crop, (16, 16)));
        let got = plane(&mut pre, &frame)?.unwrap_or_default();
        assert!(got.iter().all(|x| x.abs() < 0.1));
        Ok(())
    }

    #[test]
    fn an_empty_picture_is_refused() {
        let mut pre = Preprocessor::new(&input(Colour::Rgb, Resize::Crop, (8, 8)));
        assert!(plane(&mut pre, &Frame::new(0, 5)).is_err_and(|e| e.kind() == ErrorKind::Source));
    }
}
