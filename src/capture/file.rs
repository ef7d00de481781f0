//! Video files and network streams, decoded by `ffmpeg` into raw pictures of one size, and what else a child process
//! delivers as such (`gst:`). Reading blocks; nothing is allocated per picture.
//!
//! A file is resampled by time to a constant rate, so picture n belongs to time n / rate. Pixels are taken as stored:
//! a sample aspect ratio other than 1:1 is not applied, as the usual data sets and readers do not apply it either. A
//! network stream is not resampled: each picture counts from when it arrived here. Opening connects to it twice, once
//! to ask for size and rate and once to stay.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use super::child::{Process, Wait};
use super::pixels::Layout;
use super::probe::{Stream, probe};
use super::rate::Rate;
use super::{Captured, Options, Source, SourceInfo};
use crate::frame::Frame;
use crate::stop::Stop;
use crate::{Error, ErrorKind, Result};

/// Larger pictures are scaled down to this on their longer side.
const LARGEST: u32 = 4096;
/// How long a file may keep us waiting for a part of a picture.
const FILE_PATIENCE: Duration = Duration::from_secs(60);
/// How long a live source may take to begin.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(15);
/// How long a network stream may be silent before it counts as lost.
const STALL_PATIENCE: Duration = Duration::from_secs(5);
/// How long the child may take to say its last words after its last picture.
const GRACE: Duration = Duration::from_secs(1);

/// How pictures get their times.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clock {
    /// Picture n at n / rate.
    Constant(Rate),
    /// Time since the first picture arrived.
    Arrival(Option<Instant>),
}

/// What the child writes for a picture.
pub(super) enum Wire {
    /// RGB, nothing else.
    Rgb,
    /// A line `FRAME`, then I420: YUV4MPEG2.
    Y4m {
        /// The pictures' form.
        layout: Layout,
        /// One of them.
        buffer: Vec<u8>,
    },
}

/// A video file or network stream.
pub(super) struct Video {
    info: SourceInfo,
    /// What the child calls it.
    url: String,
    process: Option<Process>,
    wire: Wire,
    /// How long the child may keep us waiting.
    patience: Duration,
    /// Whether the end of a live source is an end, if the child was content. A camera or a network stream should not end.
    may_end: bool,
    clock: Clock,
    sequence: u64,
    stop: Stop,
}

impl Video {
    /// Opens the file at `path`, which `uri` names.
    pub(super) fn open_file(uri: &str, path: &Path, options: &Options, stop: &Stop) -> Result<Self> {
        check_file(path)
            .map_err(|reason| Error::new(ErrorKind::Source, format_args!("{}: {reason}", path.display())))?;
        // The prefix keeps ffmpeg from reading a dash or a colon in the name as something else, and the white list
        // keeps a playlist in disguise from reaching for the network.
        let url = format!("file:{}", path.display());
        let open = || {
            let input = ["-protocol_whitelist", "file"];
            let stream = probe(&input, &url, FILE_PATIENCE, stop)?;
            let rate = options.frame_rate.map_or(stream.rate, Rate::new);
            let (width, height) = delivered_size(&stream, options);
            let filter = format!("fps={rate},scale={width}:{height}");
            let process = decode(&input, &url, &stream, &["-vf", &filter])?;
            let process = begin(process, &url, FILE_PATIENCE, stop)?;
            let info = SourceInfo {
                name: uri.to_string(),
                width,
                height,
                frame_rate: rate.per_second(),
                live: false,
                stamped: false,
            };
            Ok(Self::new(info, &url, process, Clock::Constant(rate), stop))
        };
        open().map_err(|e: Error| e.within(path.display()))
    }

    /// Opens the network stream at `url`.
    pub(super) fn open_rtsp(url: &str, options: &Options, stop: &Stop) -> Result<Self> {
        let name = without_password(url);
        let open = || {
            let mut input = vec!["-rtsp_transport", "tcp"];
            let stream = probe(&input, url, START_PATIENCE, stop)?;
            // So that the child ends even if we are killed while the stream is silent.
            let timeout = if stream.version >= (5, 0) { "-timeout" } else { "-stimeout" };
            input.extend_from_slice(&[timeout, "5000000"]);
            if options.realtime {
                input.extend_from_slice(&["-fflags", "nobuffer", "-flags", "low_delay"]);
            }
            let (width, height) = delivered_size(&stream, options);
            let filter = format!("scale={width}:{height}");
            let passthrough = if stream.version >= (5, 1) { "-fps_mode" } else { "-vsync" };
            let process = decode(&input, url, &stream, &["-vf", &filter, passthrough, "passthrough"])?;
            let process = begin(process, url, START_PATIENCE, stop)?;
            let frame_rate = stream.rate.per_second();
            let info = SourceInfo { name: name.clone(), width, height, frame_rate, live: true, stamped: false };
            Ok(Self::new(info, url, process, Clock::Arrival(None), stop))
        };
        let lost = |e: Error| match e.kind() {
            ErrorKind::Source => Error::new(ErrorKind::SourceLost, e),
            _ => e,
        };
        open().map_err(|e| lost(e).within(&name))
    }

    fn new(info: SourceInfo, url: &str, process: Process, clock: Clock, stop: &Stop) -> Self {
        let (url, stop) = (url.to_string(), stop.clone());
        let patience = if info.live { STALL_PATIENCE } else { FILE_PATIENCE };
        let wire = Wire::Rgb;
        Self { info, url, process: Some(process), wire, patience, may_end: false, clock, sequence: 0, stop }
    }

    /// Pictures as YUV4MPEG2, after its header was read.
    pub(super) fn of_y4m(
        info: SourceInfo,
        process: Process,
        layout: Layout,
        (clock, patience, may_end): (Clock, Duration, bool),
        stop: &Stop,
    ) -> Self {
        let wire = Wire::Y4m { layout, buffer: vec![0; Y4M_MARK.len() + layout.bytes()] };
        Self { wire, patience, may_end, ..Self::new(info, "", process, clock, stop) }
    }

    /// The child's output is over, in the midst of a picture if `partial`.
    fn end(&mut self, partial: bool) -> Result<Captured> {
        let Some(mut process) = self.process.take() else { return Ok(Captured::End) };
        let complaints = process.conclude(GRACE);
        if self.stop.requested() {
            return Ok(Captured::End);
        }
        if self.info.live {
            if self.may_end && complaints.content {
                return Ok(Captured::End);
            }
            return Err(self.error(ErrorKind::SourceLost, &complaints.reason(&self.url, "the stream has ended")));
        }
        if let Some(signal) = complaints.signal {
            let reason = format!("signal {signal} ended ffmpeg after {} pictures: is memory short?", self.sequence);
            return Err(self.error(ErrorKind::Source, &reason));
        }
        if partial || !complaints.is_empty() {
            log::warn!(
                "{}: damaged: {} pictures could be decoded, ffmpeg complained {} times: {}",
                self.info.name,
                self.sequence,
                complaints.count(),
                complaints.reason(&self.url, "the last picture is not whole")
            );
        }
        Ok(Captured::End)
    }

    fn error(&self, kind: ErrorKind, reason: &str) -> Error {
        Error::new(kind, format_args!("{}: {reason}", self.info.name))
    }
}

impl Source for Video {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next_frame(&mut self, into: &mut Frame) -> Result<Captured> {
        let Some(process) = &mut self.process else { return Ok(Captured::End) };
        let kind = if self.info.live { ErrorKind::SourceLost } else { ErrorKind::Source };
        let patience = self.patience;
        into.resize(self.info.width, self.info.height);
        let buffer = match &mut self.wire {
            Wire::Rgb => into.data_mut(),
            Wire::Y4m { buffer, .. } => buffer,
        };
        let (wait, filled) = process.fill(buffer, patience, &self.stop)?;
        match wait {
            Wait::Ready => {}
            Wait::End => return self.end(filled > 0),
            Wait::Stopped => {
                self.process = None;
                return Ok(Captured::End);
            }
            Wait::TimedOut => {
                self.process = None;
                return Err(self.error(kind, &format!("no picture for {} s", patience.as_secs())));
            }
        }
        into.captured = Instant::now();
        if let Wire::Y4m { layout, buffer } = &self.wire {
            let data = buffer.strip_prefix(Y4M_MARK).ok_or("the pictures are not where they belong".to_string());
            let decoded = data.and_then(|data| layout.decode(data, into));
            decoded.map_err(|reason| self.error(kind, &reason))?;
        }
        into.timestamp = match &mut self.clock {
            Clock::Constant(rate) => rate.time_of(self.sequence),
            Clock::Arrival(first) => into.captured.duration_since(*first.get_or_insert(into.captured)),
        };
        into.sequence = self.sequence;
        into.truth = None;
        self.sequence += 1;
        Ok(Captured::Frame)
    }
}

/// What stands before each picture of a YUV4MPEG2 stream.
const Y4M_MARK: &[u8] = b"FRAME\n";

/// Starts decoding the picture stream of `url` into raw RGB pictures.
fn decode(input: &[&str], url: &str, stream: &Stream, output: &[&str]) -> Result<Process> {
    let map = format!("0:{}", stream.index);
    let mut args = vec!["-nostdin", "-v", "error", "-nostats"];
    args.extend_from_slice(input);
    args.extend_from_slice(&["-i", url, "-map", &map, "-an", "-sn", "-dn"]);
    args.extend_from_slice(output);
    args.extend_from_slice(&["-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1"]);
    Process::start("ffmpeg", "ffmpeg", &args)
}

/// Waits for the first picture's first byte, so that what cannot be decoded is refused on opening.
fn begin(mut process: Process, url: &str, patience: Duration, stop: &Stop) -> Result<Process> {
    let reason = match process.wait(patience, stop)? {
        Wait::Ready => return Ok(process),
        Wait::Stopped => "stopped before it was open".to_string(),
        Wait::TimedOut => format!("no picture within {} s", patience.as_secs()),
        Wait::End => process.conclude(GRACE).reason(url, "not one picture can be decoded"),
    };
    Err(Error::new(ErrorKind::Source, reason))
}

/// The size that pictures are asked for in. It is forced on ffmpeg, so that every picture has the same number of bytes,
/// whatever the file does.
fn delivered_size(stream: &Stream, options: &Options) -> (u32, u32) {
    let (width, height) = options.size.unwrap_or((stream.width, stream.height));
    let longer = width.max(height);
    if longer <= LARGEST {
        return (width, height);
    }
    let scaled = |side: u32| (u64::from(side) * u64::from(LARGEST) / u64::from(longer)).max(1) as u32;
    let size = (scaled(width), scaled(height));
    log::info!("pictures of {width}x{height} are scaled down to {}x{}", size.0, size.1);
    size
}

fn check_file(path: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_string(),
        _ => format!("cannot be read: {e}"),
    })?;
    if metadata.is_dir() {
        return Err("is a folder, not a video: for pictures there is images:FOLDER".to_string());
    }
    if !metadata.is_file() {
        return Err("is a device or pipe, not a video file".to_string());
    }
    if metadata.len() == 0 {
        return Err("is empty".to_string());
    }
    File::open(path).map(drop).map_err(|e| format!("cannot be read: {e}"))
}

/// `rtsp://user:secret@host/path` without `user:secret`, for messages.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_string() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{path}"),
        None => url.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::PathBuf;

    /// Writes a video with ffmpeg; `args` say which.
    fn make(folder: &Path, name: &str, args: &str) -> PathBuf {
        let path = folder.join(name);
        let status = std::process::Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-y"])
            .args(args.split(' '))
            .arg(format!("file:{}", path.display()))
            .status()
            .unwrap();
        assert!(status.success());
        path
    }

    fn open(path: &Path, options: &Options) -> Result<Video> {
        Video::open_file("the uri", path, options, &Stop::default())
    }

    fn read(video: &mut Video) -> Vec<Frame> {
        let (mut frame, mut frames) = (Frame::default(), Vec::new());
        while video.next_frame(&mut frame).unwrap() == Captured::Frame {
            frames.push(frame.clone());
        }
        assert_eq!(video.next_frame(&mut frame).unwrap(), Captured::End);
        frames
    }

    #[test]
    fn odd_names_odd_sizes_and_exact_times() {
        let folder = tempfile::tempdir().unwrap();
        let source = "-f lavfi -i testsrc=size=161x121:rate=30000/1001:duration=1 -c:v ffv1 -f avi";
        let made = make(folder.path(), "plain.avi", source);
        for name in ["-dash.avi", "a b.avi", "100%d?fps=3.avi", "grüße 日本.avi", "http:x.avi", "no extension"] {
            let path = folder.path().join(name);
            std::fs::rename(folder.path().join("plain.avi"), &path).unwrap();
            let video = open(&path, &Options::default()).unwrap();
            assert_eq!((video.info.width, video.info.height, video.info.live), (161, 121, false), "{name}");
            std::fs::rename(&path, &made).unwrap();
        }
        let mut video = open(&made, &Options::default()).unwrap();
        assert!((video.info.frame_rate - 29.97).abs() < 0.001);
        let frames = read(&mut video);
        assert_eq!(frames.len(), 30);
        for (n, frame) in frames.iter().enumerate() {
            assert_eq!((frame.width(), frame.height(), frame.sequence), (161, 121, n as u64));
            assert_eq!(frame.timestamp.as_nanos(), n as u128 * 1_001_000_000_000 / 30_000);
        }
        assert_ne!(frames[0].data(), frames[20].data());
    }

    #[test]
    fn the_pixels_are_those_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let filter = "-f lavfi -i color=red:size=64x48:rate=10:duration=0.5,drawbox=0:0:32:24:blue:fill";
        let path = make(folder.path(), "x.mkv", &format!("{filter} -c:v ffv1 -pix_fmt gbrp"));
        let frames = read(&mut open(&path, &Options::default()).unwrap());
        assert_eq!(frames.len(), 5);
        let near = |x, y, expected: [u8; 3]| {
            let pixel = frames[4].pixel(x, y).unwrap();
            assert!(pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 4), "{x},{y}: {pixel:?}");
        };
        near(8, 8, [0, 0, 255]);
        near(40, 8, [255, 0, 0]);
        near(8, 40, [255, 0, 0]);
    }

    #[test]
    fn a_turned_video_comes_upright() {
        let folder = tempfile::tempdir().unwrap();
        let filter = "-f lavfi -i color=black:size=64x48:rate=10:duration=0.3,drawbox=0:0:64:16:white:fill";
        let flat = make(folder.path(), "flat.mp4", &format!("{filter} -c:v mpeg4 -qscale:v 2"));
        let copy = format!("-i {} -c copy -metadata:s:v:0 rotate=90", flat.display());
        let path = make(folder.path(), "turned.mp4", &copy);
        let mut video = open(&path, &Options::default()).unwrap();
        assert_eq!((video.info.width, video.info.height), (48, 64));
        let frames = read(&mut video);
        assert_eq!(frames.len(), 3);
        // What is the top of the stored picture is one of its sides now.
        let bright = |x| frames[0].pixel(x, 32).unwrap()[0] > 128;
        assert!(bright(4) != bright(43) && bright(4) == (frames[0].pixel(4, 4).unwrap()[0] > 128));
    }

    #[test]
    fn an_uneven_video_is_evened_out() {
        let folder = tempfile::tempdir().unwrap();
        // Ten pictures a second in the first second, two a second in the next.
        let filter = "-f lavfi -i testsrc2=size=64x48:rate=10:duration=2";
        let select = "-vf select='lt(n,10)+not(mod(n,5))' -vsync vfr -c:v ffv1";
        let path = make(folder.path(), "uneven.mkv", &format!("{filter} {select}"));
        let ten = Options { frame_rate: Some(10.0), ..Options::default() };
        let frames = read(&mut open(&path, &ten).unwrap());
        assert!((16..=20).contains(&frames.len()), "{}", frames.len());
        assert_eq!(frames[11].data(), frames[13].data());
        assert_ne!(frames[3].data(), frames[4].data());
        assert_eq!(frames[15].timestamp, Duration::from_millis(1500));
    }

    #[test]
    fn a_size_that_changes_midway_does_not_break_the_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let source =
            |size, color| format!("-f lavfi -i color={color}:size={size}:rate=10:duration=0.5 -c:v mpeg2video");
        let first = make(folder.path(), "1.ts", &source("64x48", "red"));
        let second = make(folder.path(), "2.ts", &source("160x96", "blue"));
        let both = folder.path().join("both.ts");
        std::fs::write(&both, [std::fs::read(first).unwrap(), std::fs::read(second).unwrap()].concat()).unwrap();
        let frames = read(&mut open(&both, &Options::default()).unwrap());
        assert!(frames.iter().all(|frame| (frame.width(), frame.height()) == (64, 48)));
        let (first, last) = (frames[0].pixel(32, 24).unwrap(), frames.last().unwrap().pixel(32, 24).unwrap());
        assert!(first[0] > 200 && first[2] < 60 && last[2] > 200 && last[0] < 60, "{first:?} {last:?}");
    }

    #[test]
    fn size_and_rate_can_be_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let source = "-f lavfi -i testsrc2=size=5000x16:rate=20:duration=0.5 -c:v ffv1";
        let path = make(folder.path(), "wide.mkv", source);
        let video = open(&path, &Options::default()).unwrap();
        assert_eq!((video.info.width, video.info.height), (4096, 13));
        let options = Options { size: Some((50, 40)), frame_rate: Some(5.0), ..Options::default() };
        let mut video = open(&path, &options).unwrap();
        assert_eq!((video.info.width, video.info.height, video.info.frame_rate), (50, 40, 5.0));
        assert!((2..=3).contains(&read(&mut video).len()));
    }

    #[test]
    fn a_stop_ends_it_and_the_child_is_reaped() {
        let folder = tempfile::tempdir().unwrap();
        let source = "-f lavfi -i testsrc2=size=320x240:rate=30:duration=10 -c:v mpeg4";
        let path = make(folder.path(), "long.avi", source);
        let mut video = open(&path, &Options::default()).unwrap();
        let mut frame = Frame::default();
        assert_eq!(video.next_frame(&mut frame).unwrap(), Captured::Frame);
        let buffer = frame.data().as_ptr();
        assert_eq!(video.next_frame(&mut frame).unwrap(), Captured::Frame);
        assert_eq!(frame.data().as_ptr(), buffer, "the buffer is reused");
        video.stop.request();
        assert_eq!(video.next_frame(&mut frame).unwrap(), Captured::End);
        let error = Video::open_file("x", &path, &Options::default(), &video.stop).err().unwrap();
        assert!(error.to_string().contains("stopped before it was open"), "{error}");
    }

    #[test]
    fn a_stream_that_nobody_serves_is_lost_and_its_password_is_kept() {
        // The port of a listener that is closed again.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("rtsp://me:secret@127.0.0.1:{port}/x");
        let error = Video::open_rtsp(&url, &Options::default(), &Stop::default()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::SourceLost);
        let message = error.to_string();
        assert!(message.contains(&format!("rtsp://***@127.0.0.1:{port}/x: ")), "{message}");
        assert!(message.contains("refused") && !message.contains("secret"), "{message}");
        assert_eq!(without_password("rtsp://host/a@b"), "rtsp://host/a@b");
    }
}
