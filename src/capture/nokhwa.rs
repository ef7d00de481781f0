//! `nokhwa:INDEX` — cameras through crate `nokhwa`: meant for macOS and Windows, on which the rest of the program was not
//! built yet, and a second opinion on Linux, where `v4l:` is the better one (it has the driver's times and finds a camera
//! again).
//!
//! The crate blocks without a limit, so it has a thread of its own, which hands over one picture at a time. A thread that
//! never comes back is left behind when the source is dropped.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nokhwa::utils::{CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType, Resolution};
use nokhwa::{Buffer, NokhwaError};

use super::modes::{self, Mode, Sizes, Wanted};
use super::pixels::{Coding, Layout};
use super::uri::Query;
use super::{Captured, Source, SourceInfo};
use crate::frame::Frame;
use crate::stop::Stop;
use crate::{Error, ErrorKind, Result};

/// Formats that we convert.
const FORMATS: [FrameFormat; 4] = [FrameFormat::YUYV, FrameFormat::NV12, FrameFormat::MJPEG, FrameFormat::GRAY];
/// How long a camera may take to begin.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// How long a camera may be silent before it counts as lost.
const STALL: Duration = Duration::from_secs(2);

/// A picture on its way from the thread.
struct Taken {
    buffer: Buffer,
    captured: Instant,
    sequence: u64,
}

/// What the thread says.
type Message = Result<Taken, NokhwaError>;

/// A camera that delivers.
pub(super) struct Camera {
    info: SourceInfo,
    layout: Layout,
    /// Behind a lock only because a source can be sent to another thread.
    pictures: Mutex<Receiver<Message>>,
    epoch: Option<Instant>,
    stop: Stop,
    /// Ends the thread.
    ended: Stop,
}

impl Camera {
    /// Opens camera `index`.
    ///
    /// # Errors
    /// `SourceLost` when it cannot be opened or does not begin.
    pub(super) fn open(uri: &str, index: u32, query: Query, stop: &Stop) -> Result<Self> {
        let lost = |reason: &dyn std::fmt::Display| Error::new(ErrorKind::SourceLost, format_args!("{uri}: {reason}"));
        let size = query.size.unwrap_or(modes::SIZE);
        let wanted = Wanted { size, rate: query.frame_rate.unwrap_or(modes::RATE), coding: None };
        let ended = Stop::default();
        let (told, opened) = sync_channel(1);
        let (sender, pictures) = sync_channel(1);
        let stopped = ended.clone();
        std::thread::Builder::new()
            .name("nokhwa".into())
            .spawn(move || run(index, wanted, &told, &sender, &stopped))
            .map_err(|e| Error::new(ErrorKind::Internal, format_args!("starting a thread: {e}")))?;
        let begun = Instant::now();
        let format = loop {
            match opened.recv_timeout(Stop::TICK) {
                Ok(format) => break format.map_err(|e| lost(&e))?,
                Err(RecvTimeoutError::Timeout) if begun.elapsed() < START_PATIENCE && !stop.requested() => {}
                Err(_) => {
                    ended.request();
                    return Err(lost(&"it does not begin"));
                }
            }
        };
        let layout = layout(format.format(), format.resolution()).map_err(|reason| lost(&reason))?;
        let frame_rate = format.frame_rate() as f32;
        log::info!("{uri}: {} {}x{} at {frame_rate} Hz", layout.coding, layout.width, layout.height);
        let info = SourceInfo {
            name: uri.to_string(),
            width: layout.width,
            height: layout.height,
            frame_rate,
            live: true,
            stamped: false,
        };
        Ok(Self { info, layout, pictures: Mutex::new(pictures), epoch: None, stop: stop.clone(), ended })
    }

    fn lost(&self, reason: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::SourceLost, format_args!("{}: {reason}", self.info.name))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.ended.request();
    }
}

/// The thread: opens the camera, then hands over pictures until it fails or nobody wants them.
fn run(
    index: u32,
    wanted: Wanted,
    told: &SyncSender<Result<CameraFormat, NokhwaError>>,
    pictures: &SyncSender<Message>,
    ended: &Stop,
) {
    let mut camera = match start(index, &wanted) {
        Ok(camera) => camera,
        Err(e) => return drop(told.send(Err(e))),
    };
    if told.send(Ok(camera.camera_format())).is_err() {
        return;
    }
    let mut next = 0;
    while !ended.requested() {
        let message = camera.frame().map(|buffer| {
            let sequence = next;
            next += 1;
            Taken { buffer, captured: Instant::now(), sequence }
        });
        let failed = message.is_err();
        match pictures.try_send(message) {
            // Nobody took the one before: this one is lost, and its number tells.
            Err(TrySendError::Full(_)) if !failed => {}
            Err(TrySendError::Full(message)) => return drop(pictures.send(message)),
            Err(TrySendError::Disconnected(_)) => return,
            Ok(()) if failed => return,
            Ok(()) => {}
        }
    }
}

/// Opens the camera, and starts it with the format that we would choose.
fn start(index: u32, wanted: &Wanted) -> Result<nokhwa::Camera, NokhwaError> {
    // The crate's own choice takes one format at one size only.
    let any = RequestedFormat::with_formats(RequestedFormatType::AbsoluteHighestFrameRate, &FORMATS);
    let mut camera = nokhwa::Camera::new(CameraIndex::Index(index), any)?;
    let formats = camera.compatible_camera_formats()?;
    let mode = |format: &CameraFormat| {
        let coding = coding(format.format())?;
        let sizes = Sizes::Exact(format.resolution().width(), format.resolution().height());
        Some(Mode { coding, fourcc: coding.fourcc(), sizes, intervals: vec![(1, format.frame_rate())] })
    };
    let modes: Vec<_> = formats.iter().filter_map(mode).collect();
    let choice = modes::choose(&modes, wanted);
    let format = formats.iter().find(|format| {
        let size = (format.resolution().width(), format.resolution().height());
        choice.is_some_and(|c| {
            (Some(c.coding), c.size, c.interval) == (coding(format.format()), size, (1, format.frame_rate()))
        })
    });
    if let Some(format) = format {
        let exactly = RequestedFormat::with_formats(RequestedFormatType::Exact(*format), &FORMATS);
        camera.set_camera_requset(exactly)?;
    }
    camera.open_stream()?;
    Ok(camera)
}

fn coding(format: FrameFormat) -> Option<Coding> {
    match format {
        FrameFormat::YUYV => Some(Coding::Yuyv),
        FrameFormat::NV12 => Some(Coding::Nv12),
        FrameFormat::GRAY => Some(Coding::Grey),
        FrameFormat::MJPEG => Some(Coding::Mjpg),
        FrameFormat::RAWRGB | FrameFormat::RAWBGR => None,
    }
}

fn layout(format: FrameFormat, size: Resolution) -> Result<Layout, String> {
    let coding = coding(format).ok_or_else(|| format!("it delivers {format}, which is not known"))?;
    if !super::SIDE.contains(&size.width()) || !super::SIDE.contains(&size.height()) {
        return Err(format!("it delivers pictures of {size}"));
    }
    Ok(Layout::new(coding, size.width(), size.height()))
}

impl Source for Camera {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next_frame(&mut self, into: &mut Frame) -> Result<Captured> {
        let begun = Instant::now();
        loop {
            if self.stop.requested() {
                return Ok(Captured::End);
            }
            if begun.elapsed() >= STALL {
                return Err(self.lost(format_args!("no usable picture for {} s", STALL.as_secs())));
            }
            let message = self.pictures.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(Stop::TICK);
            let taken = match message {
                Ok(Ok(taken)) => taken,
                Ok(Err(e)) => return Err(self.lost(e)),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Err(self.lost("the camera has ended")),
            };
            if let Err(reason) = self.layout.decode(taken.buffer.buffer(), into) {
                log::debug!("{}: picture {} is left out: {reason}", self.info.name, taken.sequence);
                continue;
            }
            into.captured = taken.captured;
            into.timestamp = taken.captured.saturating_duration_since(*self.epoch.get_or_insert(taken.captured));
            into.sequence = taken.sequence;
            into.truth = None;
            return Ok(Captured::Frame);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_camera_that_is_not_there_is_an_error_with_its_name() {
        let error = Camera::open("nokhwa:4000", 4000, Query::default(), &Stop::default()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::SourceLost);
        assert!(error.to_string().starts_with("nokhwa:4000: "), "{error}");
    }

    #[test]
    fn formats_that_are_not_known_are_refused() {
        let size = Resolution::new(640, 480);
        assert_eq!(layout(FrameFormat::NV12, size).unwrap().coding, Coding::Nv12);
        assert!(layout(FrameFormat::RAWBGR, size).unwrap_err().contains("not known"));
        assert!(layout(FrameFormat::YUYV, Resolution::new(1, 1)).is_err());
    }
}
