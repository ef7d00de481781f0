//! `v4l:` — cameras of Linux through Video4Linux 2: found by path, number or name, asked for the format that is cheapest
//! to convert, read with the driver's times and numbers.
//!
//! Everything that ends a stream is `SourceLost`: the device is gone or busy, its signal has changed, an I/O error, or no
//! usable picture for [`STALL`]. A picture that is damaged, stale or cut off is left out and counts as lost.

mod controls;
mod ioctl;
mod node;
mod offers;
mod stream;

use std::io;
use std::time::{Duration, Instant};

use v4l::Device;
use v4l::v4l_sys::{
    v4l2_colorspace_V4L2_COLORSPACE_BT2020 as BT2020, v4l2_colorspace_V4L2_COLORSPACE_DCI_P3 as DCI_P3,
    v4l2_colorspace_V4L2_COLORSPACE_JPEG as JPEG, v4l2_colorspace_V4L2_COLORSPACE_REC709 as REC709,
    v4l2_quantization_V4L2_QUANTIZATION_DEFAULT as DEFAULT,
    v4l2_quantization_V4L2_QUANTIZATION_FULL_RANGE as FULL_RANGE, v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_601 as ENC_601,
    v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_709 as ENC_709, v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_BT2020 as ENC_BT2020,
    v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_SYCC as ENC_SYCC, v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_XV601 as ENC_XV601,
    v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_XV709 as ENC_XV709,
};
use yuv::{YuvRange, YuvStandardMatrix};

use super::modes::{self, Choice, Wanted};
use super::pixels::{Coding, Layout};
use super::uri::{CameraName, CameraQuery};
use super::{Captured, Options, Source, SourceInfo};
use crate::frame::Frame;
use crate::stop::Stop;
use crate::{Error, ErrorKind, Result};
use ioctl::{Filled, PixFormat};
pub(super) use node::{Identity, any_camera, cameras};
use stream::{Ready, Stream};

/// How long a camera may go without a usable picture before it counts as lost.
const STALL: Duration = Duration::from_secs(2);
/// Cameras slower than the stall time get so many intervals.
const STALL_INTERVALS: f32 = 3.0;
/// How long a camera may take for its first picture: some measure the light first, or look for a signal.
const START: Duration = Duration::from_secs(5);

/// A camera that delivers.
pub(super) struct Camera {
    info: SourceInfo,
    stream: Stream,
    layout: Layout,
    stall: Duration,
    /// When the stream began, on the driver's clock: what is older was taken before.
    began: Duration,
    /// Whether a picture has come. Of a driver without a clock the first one may be from before: v4l2loopback shows its
    /// last one to whoever comes.
    seen: bool,
    /// When the last usable picture came.
    last_picture: Instant,
    /// Why pictures since then were not usable.
    unusable: Option<String>,
    /// Time of the first picture on the driver's clock.
    epoch: Option<Instant>,
    last_time: Option<Duration>,
    /// The driver's number of the last picture, and ours.
    numbers: Option<(u32, u64)>,
    stop: Stop,
}

impl Camera {
    /// Opens the camera that `name` says, or the one that was known as `before`; also says which one it is.
    ///
    /// # Errors
    /// `Source` when there is no such camera or it has no format that we know, `SourceLost` when it is busy or does not
    /// work, `Usage` when it has no such control.
    pub(super) fn open(
        name: &CameraName,
        query: &CameraQuery,
        options: &Options,
        before: Option<&Identity>,
        stop: &Stop,
    ) -> Result<(Self, Option<Identity>)> {
        let (node, identity) = node::find(name, before)?;
        let what = format!("{} ({})", node.path.display(), node.capability.card);
        let camera = Self::start(node.device, &what, query, options, stop).map_err(|e| e.within(&what))?;
        Ok((camera, identity))
    }

    fn start(device: Device, what: &str, query: &CameraQuery, options: &Options, stop: &Stop) -> Result<Self> {
        let size = query.query.size.or(options.size);
        let wanted = Wanted {
            size: size.unwrap_or(modes::SIZE),
            rate: query.query.frame_rate.or(options.frame_rate).unwrap_or(modes::RATE),
            coding: query.coding,
        };
        // The format of an input follows from its signal.
        ioctl::take_signal(&device).map_err(|e| failed("signal", &e))?;
        let offered = offers::offered(&device, wanted.size);
        let choice = modes::choose(&offered, &wanted).ok_or_else(|| unknown_formats(&device, wanted.coding))?;
        let pix = ioctl::set_format(&device, choice.fourcc, choice.size).map_err(|e| failed("format", &e))?;
        let layout = layout(&pix).map_err(|reason| Error::new(ErrorKind::Source, reason))?;
        // Always set: some drivers begin at a few pictures a second. Inputs with a rate of their own refuse.
        if let Err(e) = ioctl::set_interval(&device, choice.interval) {
            log::debug!("{what}: the rate cannot be set: {e}");
        }
        let interval = ioctl::interval(&device).unwrap_or(choice.interval);
        controls::set(&device, &options.controls)?;
        ioctl::subscribe_source_changes(&device);
        let frame_rate = modes::rate(interval);
        tell(what, &layout, frame_rate, &wanted, size.is_some(), &choice);
        let stall = STALL.max(Duration::from_secs_f32((STALL_INTERVALS / frame_rate.max(0.01)).min(60.0)));
        let began = monotonic();
        let stream = Stream::start(device).map_err(|e| failed("stream", &e))?;
        let (width, height) = (layout.width, layout.height);
        let info = SourceInfo { name: what.into(), width, height, frame_rate, live: true, stamped: true };
        Ok(Self {
            info,
            stream,
            layout,
            stall,
            began,
            seen: false,
            last_picture: Instant::now(),
            unusable: None,
            epoch: None,
            last_time: None,
            numbers: None,
            stop: stop.clone(),
        })
    }

    fn lost(&self, reason: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::SourceLost, format_args!("{}: {reason}", self.info.name))
    }

    /// Sets the times and the number of the picture `filled`.
    fn stamp(&mut self, filled: &Filled, into: &mut Frame) {
        let age = filled.taken.map(|taken| monotonic().saturating_sub(taken));
        // Some drivers stamp when a picture is due to be complete, which can be later than when we have it.
        let taken = age.and_then(|age| Instant::now().checked_sub(age));
        into.captured = taken.unwrap_or(filled.arrived).min(filled.arrived);
        if age.is_none() && self.epoch.is_none() {
            log::info!("{}: the driver has no times of its own: latency counts from arrival", self.info.name);
        }
        let time = into.captured.saturating_duration_since(*self.epoch.get_or_insert(into.captured));
        // Drivers that step back are rare; nothing after us expects it.
        into.timestamp = self.last_time.map_or(time, |last| time.max(last + Duration::from_nanos(1)));
        self.last_time = Some(into.timestamp);
        let number = self.numbers.map_or(0, |(last, number)| number + step(last, filled.sequence));
        self.numbers = Some((filled.sequence, number));
        into.sequence = number;
        into.truth = None;
    }
}

/// How far the driver's numbers went on: they wrap around, and some drivers begin again or stand still.
fn step(last: u32, sequence: u32) -> u64 {
    match sequence.wrapping_sub(last) {
        0 => 1,
        step if step > u32::MAX / 2 => 1,
        step => u64::from(step),
    }
}

impl Source for Camera {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next_frame(&mut self, into: &mut Frame) -> Result<Captured> {
        loop {
            if self.stop.requested() {
                return Ok(Captured::End);
            }
            let silent = self.last_picture.elapsed();
            let patience = if self.epoch.is_some() { self.stall } else { self.stall.max(START) };
            if silent >= patience {
                let seconds = patience.as_secs_f32();
                let why = self.unusable.take().map_or(String::new(), |why| format!(": {why}"));
                return Err(self.lost(format_args!("no usable picture for {seconds:.0} s{why}")));
            }
            match self.stream.wait(Stop::TICK.min(patience - silent)).map_err(|e| self.lost(words(&e)))? {
                Ready::Nothing => continue,
                Ready::Changed => return Err(self.lost("the signal's format has changed")),
                Ready::Picture => {}
            }
            let (layout, began, seen) = (self.layout, self.began, self.seen);
            let look = |filled: &Filled, data: &[u8]| {
                let usable = match filled {
                    Filled { damaged: true, .. } => Err("the driver says that it is damaged".to_string()),
                    Filled { taken: Some(taken), .. } if *taken < began => Err("it is from before".to_string()),
                    Filled { taken: None, .. } if !seen => Err("it may be from before".to_string()),
                    _ => layout.decode(data, into),
                };
                (*filled, usable)
            };
            let newest = self.stream.newest(look);
            self.seen |= matches!(newest, Ok(Some(_)));
            match newest {
                Err(e) => return Err(self.lost(words(&e))),
                // Woken for nothing, as some drivers do, at once and again.
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Ok(Some((filled, Ok(())))) => {
                    self.stamp(&filled, into);
                    (self.last_picture, self.unusable) = (Instant::now(), None);
                    return Ok(Captured::Frame);
                }
                Ok(Some((filled, Err(reason)))) => {
                    log::debug!("{}: picture {} is left out: {reason}", self.info.name, filled.sequence);
                    self.unusable = Some(reason);
                }
            }
        }
    }
}

/// Time since the start of the system on the clock that drivers use.
#[allow(unsafe_code)]
fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid structure that lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// An error of the system in words that say what to do.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => "the camera is gone (unplugged?)".to_string(),
        Some(libc::EBUSY) => "it is busy: another program uses it".to_string(),
        Some(libc::EACCES | libc::EPERM) => "no permission: add the user to the group `video`".to_string(),
        Some(libc::EIO) => "input/output error: the camera or its cable does not work".to_string(),
        Some(libc::ENOSPC) => "the USB bus has no room for it: use another port or a smaller size".to_string(),
        Some(libc::EPROTO) => "the USB connection does not work".to_string(),
        Some(libc::ENOLINK | libc::ENOLCK) => "there is no signal at its input".to_string(),
        Some(libc::ERANGE) => "the signal at its input is out of its range".to_string(),
        _ => error.to_string(),
    }
}

/// An error on opening. Most of them pass: a device that is busy or just being plugged in.
fn failed(what: &str, error: &io::Error) -> Error {
    let kind = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM | libc::ENOTTY) => ErrorKind::Source,
        _ => ErrorKind::SourceLost,
    };
    Error::new(kind, format_args!("{what}: {}", words(error)))
}

fn unknown_formats(device: &Device, wanted: Option<Coding>) -> Error {
    let names: Vec<_> = ioctl::formats(device).iter().map(|code| String::from_utf8_lossy(code).into_owned()).collect();
    let known = Coding::OF_CAMERAS.map(|coding| coding.to_string()).join(", ");
    let message = match (wanted, names.is_empty()) {
        // A loopback device without a writer, or one that is just going away.
        (_, true) => return Error::new(ErrorKind::SourceLost, "it offers no format at present"),
        (Some(wanted), _) => format!("it does not offer {wanted}; it has {}", names.join(", ")),
        (None, _) => format!("it has {} only; known are {known} (see gst: for others)", names.join(", ")),
    };
    Error::new(ErrorKind::Source, message)
}

/// Says what was agreed on, and where it is not what was asked for.
fn tell(what: &str, layout: &Layout, rate: f32, wanted: &Wanted, size_asked: bool, choice: &Choice) {
    let (width, height) = (layout.width, layout.height);
    log::info!("{what}: {} {width}x{height} at {rate:.4} Hz", layout.coding);
    if size_asked && (width, height) != wanted.size {
        log::warn!("{what}: {}x{} is not offered, {width}x{height} is the nearest", wanted.size.0, wanted.size.1);
    }
    if rate < wanted.rate * 0.9 && modes::rate(choice.interval) < wanted.rate * 0.9 {
        log::info!("{what}: {} Hz is not offered at this size", wanted.rate);
    }
}

/// What a driver's format means.
fn layout(pix: &PixFormat) -> Result<Layout, String> {
    let fourcc = pix.pixelformat.to_le_bytes();
    let coding = Coding::of_fourcc(fourcc)
        .ok_or_else(|| format!("the driver answers with format {}", String::from_utf8_lossy(&fourcc)))?;
    if !super::SIDE.contains(&pix.width) || !super::SIDE.contains(&pix.height) {
        return Err(format!("the driver answers with pictures of {}x{}", pix.width, pix.height));
    }
    let mut layout = Layout::new(coding, pix.width, pix.height);
    layout.stride = layout.stride.max(pix.bytesperline.min(1 << 20));
    layout.matrix = matrix(pix);
    let full = pix.quantization == FULL_RANGE || (pix.quantization == DEFAULT && pix.colorspace == JPEG);
    layout.range = if full { YuvRange::Full } else { YuvRange::Limited };
    Ok(layout)
}

/// The matrix that a driver's format names, else the one that belongs to its colour space.
fn matrix(pix: &PixFormat) -> YuvStandardMatrix {
    match (ioctl::encoding(pix), pix.colorspace) {
        (ENC_601 | ENC_XV601 | ENC_SYCC, _) => YuvStandardMatrix::Bt601,
        (ENC_709 | ENC_XV709, _) | (_, REC709 | DCI_P3) => YuvStandardMatrix::Bt709,
        (ENC_BT2020, _) | (_, BT2020) => YuvStandardMatrix::Bt2020,
        _ => YuvStandardMatrix::Bt601,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_wrap_around_and_never_stand_still() {
        assert_eq!(step(4, 5), 1);
        assert_eq!(step(4, 9), 5);
        assert_eq!(step(u32::MAX, 1), 2);
        assert_eq!(step(7, 7), 1, "a driver that does not count");
        assert_eq!(step(900, 0), 1, "a driver that begins again");
    }

    #[test]
    fn a_format_is_understood_with_its_padding_and_colours() {
        let plain = |fourcc: &[u8; 4], width, bytesperline| {
            let mut pix = ioctl::blank_format();
            (pix.pixelformat, pix.width, pix.height) = (u32::from_le_bytes(*fourcc), width, 48);
            pix.bytesperline = bytesperline;
            pix
        };
        let padded = layout(&plain(b"YUYV", 60, 128)).unwrap();
        assert_eq!((padded.coding, padded.stride, padded.bytes()), (Coding::Yuyv, 128, 128 * 48));
        assert_eq!(layout(&plain(b"NV12", 64, 0)).unwrap().stride, 64, "a driver that says nothing");
        let mut hd = plain(b"UYVY", 64, 128);
        (hd.colorspace, hd.quantization) = (REC709, FULL_RANGE);
        let hd = layout(&hd).unwrap();
        assert_eq!((hd.matrix, hd.range), (YuvStandardMatrix::Bt709, YuvRange::Full));
        let mut webcam = plain(b"YUYV", 64, 128);
        webcam.colorspace = REC709;
        webcam.__bindgen_anon_1.ycbcr_enc = ENC_601;
        assert_eq!(layout(&webcam).unwrap().matrix, YuvStandardMatrix::Bt601, "colours of HDTV, coded as TV was");
        assert!(layout(&plain(b"RGB3", 64, 192)).unwrap_err().contains("RGB3"));
        assert!(layout(&plain(b"YUYV", 0, 0)).unwrap_err().contains("0x48"));
    }

    #[test]
    fn errors_say_what_to_do() {
        let of = |code| words(&io::Error::from_raw_os_error(code));
        assert!(of(libc::EBUSY).contains("another program"));
        assert!(of(libc::EACCES).contains("group `video`"));
        assert!(of(libc::ENODEV).contains("gone"));
        assert_eq!(failed("x", &io::Error::from_raw_os_error(libc::EBUSY)).kind(), ErrorKind::SourceLost);
        assert_eq!(failed("x", &io::Error::from_raw_os_error(libc::EACCES)).kind(), ErrorKind::Source);
    }
}
