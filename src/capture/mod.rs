//! Sources of pictures, opened by URI. Each runs on a thread of its own and may block there, but looks at the stop flag
//! at least every [`Stop::TICK`].

mod camera;
mod child;
mod file;
mod gst;
mod images;
mod modes;
#[cfg(feature = "nokhwa")]
mod nokhwa;
pub mod pixels;
mod probe;
mod rate;
pub mod synthetic;
mod transform;
mod uri;
#[cfg(target_os = "linux")]
mod v4l;

use crate::frame::Frame;
use crate::stop::Stop;
use crate::{Error, ErrorKind, Result};

pub use camera::{CameraInfo, Control, ControlState};
pub use synthetic::Synthetic;
pub use transform::{Roi, Rotation, Transform};
use uri::Address;
pub use uri::parse_size;

/// What a source says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceInfo {
    /// Its URI, as the user knows it.
    pub name: String,
    /// Width of its pictures in pixels.
    pub width: u32,
    /// Height of its pictures in pixels.
    pub height: u32,
    /// Pictures a second.
    pub frame_rate: f32,
    /// Whether it delivers in its own time, as a camera does. Others are paced by their timestamps.
    pub live: bool,
    /// Whether its pictures' times are those at which they were taken; if not, latency only counts from their arrival, or
    /// from when they were due.
    pub stamped: bool,
}

/// What a call to [`Source::next_frame`] brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Captured {
    /// A picture.
    Frame,
    /// The end of the source: a file is over, or a stop was asked for.
    End,
}

/// A source of pictures.
pub trait Source: Send {
    /// What it is.
    fn info(&self) -> &SourceInfo;

    /// Waits for the next picture and puts it into `into`, reusing its buffer: picture, `timestamp`, `sequence`, and
    /// `captured` if it is live (else the caller sets it when the picture is due). A lost picture is a step in
    /// `sequence`, not an error.
    ///
    /// # Errors
    /// `SourceLost` when the device or connection went away; `Source` when its content is broken.
    fn next_frame(&mut self, into: &mut Frame) -> Result<Captured>;
}

/// How a source is opened. What a URI says itself goes before `size` and `frame_rate`.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Whether a short delay matters more than every picture; a network stream then buffers as little as it can.
    pub realtime: bool,
    /// Width and height that pictures are brought to, without regard to their shape. Default: as they are.
    pub size: Option<(u32, u32)>,
    /// Pictures a second. Default: the source's own rate. A network stream keeps its own in any case.
    pub frame_rate: Option<f32>,
    /// How each picture is turned and cut.
    pub transform: Transform,
    /// Settings of the camera.
    pub controls: Vec<Control>,
}

impl Default for Options {
    fn default() -> Self {
        Self { realtime: true, size: None, frame_rate: None, transform: Transform::default(), controls: Vec::new() }
    }
}

/// Sides of a picture that can be asked for, in pixels.
const SIDE: std::ops::RangeInclusive<u32> = 16..=4096;
/// Frame rates that can be asked for, a second.
const RATE: std::ops::RangeInclusive<f32> = 0.1..=240.0;

/// Where pictures come from: a URI with options, to be opened once or again and again.
pub struct Place {
    uri: String,
    address: Address,
    options: Options,
    stop: Stop,
    /// The camera that was opened, so that it is found again under another number.
    #[cfg(target_os = "linux")]
    camera: Option<v4l::Identity>,
}

impl Place {
    /// The place that `uri` names: `v4l:/dev/video0?size=640x480&fps=30&format=YUYV`, `v4l:?name=PART`, `nokhwa:0`,
    /// `gst:PIPELINE`, `file:VIDEO`, `images:FOLDER?fps=10&size=640x480`, `rtsp://HOST/PATH`,
    /// `synthetic:SEED?size=640x480&fps=30`, or the path of a video, a folder of pictures or a camera. The path after
    /// `file:` is taken literally.
    ///
    /// # Errors
    /// `Source` when the URI is wrong, `Usage` when options are out of range or are not for such a source.
    pub fn new(uri: &str, options: &Options, stop: &Stop) -> Result<Self> {
        let usage = |message: String| Err(Error::new(ErrorKind::Usage, message));
        if let Some((width, height)) = options.size
            && !(SIDE.contains(&width) && SIDE.contains(&height))
        {
            let (least, most) = (SIDE.start(), SIDE.end());
            return usage(format!("size {width}x{height}: both must be from {least} to {most} pixels"));
        }
        if let Some(rate) = options.frame_rate
            && !RATE.contains(&rate)
        {
            return usage(format!("frame rate {rate}: must be from {} to {} a second", RATE.start(), RATE.end()));
        }
        let address = Address::parse(uri)?;
        if let (Some(control), false) = (options.controls.first(), matches!(address, Address::V4l { .. })) {
            return usage(format!("control {control}: {uri} has no settings; cameras have, see v4l:"));
        }
        Ok(Self {
            uri: uri.to_string(),
            address,
            options: options.clone(),
            stop: stop.clone(),
            #[cfg(target_os = "linux")]
            camera: None,
        })
    }

    /// Opens it. Blocks until the source has its first picture, fails, or a stop is asked for; a camera is only started.
    ///
    /// # Errors
    /// `Source` when what it names cannot be read as pictures, `SourceLost` when a camera is busy or a network stream
    /// does not answer, `Usage` when options do not fit the picture.
    pub fn open(&mut self) -> Result<Box<dyn Source>> {
        let (uri, options, stop) = (&self.uri, &self.options, &self.stop);
        let source: Box<dyn Source> = match &self.address {
            #[cfg(target_os = "linux")]
            Address::V4l { name, query } => {
                let (camera, identity) = v4l::Camera::open(name, query, options, self.camera.as_ref(), stop)?;
                self.camera = identity;
                Box::new(camera)
            }
            #[cfg(not(target_os = "linux"))]
            Address::V4l { .. } => return Err(missing(uri, "is for Linux; use nokhwa:0")),
            #[cfg(feature = "nokhwa")]
            Address::Nokhwa { index, query } => Box::new(nokhwa::Camera::open(uri, *index, query.or(options), stop)?),
            #[cfg(not(feature = "nokhwa"))]
            Address::Nokhwa { .. } => return Err(missing(uri, "is not in this build: build with --features nokhwa")),
            Address::Gst(pipeline) => Box::new(gst::Pipeline::open(pipeline, options, stop)?),
            Address::File(path) => Box::new(file::Video::open_file(uri, path, options, stop)?),
            Address::Rtsp(url) => Box::new(file::Video::open_rtsp(url, options, stop)?),
            Address::Images { folder, query } => Box::new(images::Images::open(uri, folder, query.or(options), stop)?),
            Address::Synthetic { seed, world, motion, query } => {
                let query = query.or(options);
                let size = query.size.unwrap_or((640, 480));
                let rate = query.frame_rate.unwrap_or(30.0);
                Box::new(Synthetic::new((*world, *seed), *motion, size, rate, stop.clone()))
            }
        };
        transform::apply(source, self.options.transform)
    }
}

#[cfg(any(not(target_os = "linux"), not(feature = "nokhwa")))]
fn missing(uri: &str, why: &str) -> Error {
    Error::new(ErrorKind::Source, format_args!("{uri}: {why}"))
}

/// Opens the [`Place`] that `uri` names, once.
///
/// # Errors
/// Those of [`Place::new`] and [`Place::open`].
pub fn open(uri: &str, options: &Options, stop: &Stop) -> Result<Box<dyn Source>> {
    Place::new(uri, options, stop)?.open()
}

/// Whether this machine has a camera that can be taken where none is named.
pub fn any_camera() -> bool {
    #[cfg(target_os = "linux")]
    return v4l::any_camera();
    #[cfg(not(target_os = "linux"))]
    false
}

/// The cameras of this machine; on other systems than Linux none are listed.
pub fn cameras() -> Vec<CameraInfo> {
    #[cfg(target_os = "linux")]
    return v4l::cameras();
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

/// Whether `uri` names a source that never ends by itself.
pub fn is_endless(uri: &str) -> bool {
    use Address::{Gst, Nokhwa, Rtsp, Synthetic, V4l};
    matches!(Address::parse(uri), Ok(V4l { .. } | Nokhwa { .. } | Gst(_) | Rtsp(_) | Synthetic { .. }))
}

/// The file that `uri` names, if it names one.
pub fn file(uri: &str) -> Option<std::path::PathBuf> {
    match Address::parse(uri) {
        Ok(Address::File(path)) => Some(path),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_mannequin_opens_as_the_uri_and_the_options_say() {
        let options = Options {
            size: Some((96, 64)),
            transform: Transform { rotation: Rotation::Quarter, ..Transform::default() },
            ..Options::default()
        };
        let mut source = open("synthetic:3?fps=12", &options, &Stop::default()).unwrap();
        let info = source.info().clone();
        assert_eq!((info.width, info.height, info.frame_rate), (64, 96, 12.0));
        let mut frame = Frame::default();
        assert_eq!(source.next_frame(&mut frame).unwrap(), Captured::Frame);
        assert_eq!((frame.width(), frame.height()), (64, 96));
        let info = open("synthetic:", &Options::default(), &Stop::default()).unwrap().info().clone();
        assert_eq!((info.width, info.height, info.frame_rate), (640, 480, 30.0));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_source_named() {
        let transform = Transform { roi: "600,0,100,10".parse().ok(), ..Transform::default() };
        let refused = |options: Options| open("synthetic:1", &options, &Stop::default()).err().unwrap();
        let error = refused(Options { transform, ..Options::default() });
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("synthetic:1: roi 600,0,100,10 does not lie within the picture of 640x480"));
        let error = refused(Options { size: Some((0, 5)), ..Options::default() });
        assert!(error.to_string().contains("size 0x5"), "{error}");
    }
}
