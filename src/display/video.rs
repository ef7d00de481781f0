//! The display `video:FILE`: a video file, encoded by a child process `ffmpeg`. The extension chooses the container.
//!
//! **Time stays true.** The video has the constant rate of [`Format::frame_rate`]; its picture k shows the newest frame
//! at or before (k + 1/2) / rate of source time, counted from the first frame. So a lost frame repeats the one before
//! it, and the jitter of a camera neither doubles nor skips a picture. A gap longer than [`LONGEST_GAP`] is cut to that.
//!
//! **Files stay whole.** The file is created, or overwritten, with the first frame. While it grows, an MP4 is made of
//! fragments, so that it plays up to the last two seconds whatever happens; `finish` rewrites it as a plain MP4 with its
//! index in front. The child has a process group of its own, so the terminal's Ctrl-C does not reach it.
//!
//! Blocks while `ffmpeg` takes a picture: a slow disk or processor slows `present` down. One more thread reads the
//! child's messages. Allocates only when it starts and ends.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use super::scale::Scaler;
use super::{Display, Format};
use crate::frame::Frame;
use crate::{Error, ErrorKind, Result};

/// A gap between frames that is longer is shortened to this, so that a source that was away for hours costs no hours.
const LONGEST_GAP: Duration = Duration::from_secs(10);

/// Extensions that name a container.
const EXTENSIONS: [&str; 5] = ["mp4", "mkv", "mov", "avi", "webm"];

const REMEDY_FFMPEG: &str = "install ffmpeg (apt install ffmpeg), or use png:DIR, window or none";
const REMEDY_WRITE: &str = "check free space and permissions, or name another file";

/// Whether the extension of `path` names a container that can be written.
pub(super) fn is_video(path: &Path) -> bool {
    extension(path).is_some()
}

fn extension(path: &Path) -> Option<&'static str> {
    let found = path.extension()?.to_str()?.to_ascii_lowercase();
    EXTENSIONS.into_iter().find(|known| *known == found)
}

/// A video file that grows.
#[derive(Debug)]
pub struct Video {
    name: String,
    path: PathBuf,
    settings: Settings,
    rate: f64,
    state: State,
    timeline: Timeline,
    /// The newest frame, in the video's size; not written yet, because its successor says how often it is shown.
    last: Frame,
    scaler: Scaler,
}

#[derive(Debug)]
enum State {
    Waiting,
    Running(Encoder),
    Ended,
}

/// How `ffmpeg` is called.
#[derive(Debug, Clone)]
struct Settings {
    program: String,
    codec: &'static [&'static str],
    fragmented: bool,
}

impl Video {
    /// Prepares a video file at `path`. Nothing is created before the first frame.
    ///
    /// # Errors
    /// `Usage` when the extension names no container or the rate is no rate, `Output` when the file cannot be written
    /// or there is no usable `ffmpeg`.
    pub fn open(path: &Path, format: Format) -> Result<Self> {
        Self::with_program(path, format, "ffmpeg")
    }

    fn with_program(path: &Path, format: Format, program: &str) -> Result<Self> {
        let name = format!("video:{}", path.display());
        let error = |kind, what: String| Error::new(kind, what).within(&name);
        let Some(extension) = extension(path) else {
            let what = format!("the extension names no container; use one of .{}", EXTENSIONS.join(", ."));
            return Err(error(ErrorKind::Usage, what));
        };
        let rate = f64::from(format.frame_rate);
        if !(rate.is_finite() && rate > 0.0) {
            return Err(error(ErrorKind::Usage, format!("{rate} frames a second is not a rate")));
        }
        check_writable(path).map_err(|e| error(ErrorKind::Output, format!("cannot write: {e}; {REMEDY_WRITE}")))?;
        let settings = Settings::probe(program, extension).map_err(|e| e.within(&name))?;
        Ok(Self {
            name,
            path: path.to_owned(),
            settings,
            rate,
            state: State::Waiting,
            timeline: Timeline::new(rate),
            last: Frame::default(),
            scaler: Scaler::default(),
        })
    }

    /// Writes the last frame `times` times.
    fn write_last(&mut self, times: u64) -> Result<()> {
        let State::Running(encoder) = &mut self.state else { return Ok(()) };
        for _ in 0..times {
            if let Err(e) = encoder.stdin.write_all(self.last.data()) {
                return Err(self.failure(&e));
            }
        }
        Ok(())
    }

    /// Ends the encoder, which broke its input off with `cause`, and says why.
    fn failure(&mut self, cause: &io::Error) -> Error {
        let message = match std::mem::replace(&mut self.state, State::Ended) {
            State::Running(encoder) => encoder.end().err(),
            _ => None,
        };
        let message = message.unwrap_or_else(|| format!("ffmpeg takes no more pictures ({cause})"));
        Error::new(ErrorKind::Output, format_args!("{message}; {REMEDY_WRITE}")).within(&self.name)
    }
}

impl Display for Video {
    fn name(&self) -> &str {
        &self.name
    }

    fn present(&mut self, frame: &Frame) -> Result<()> {
        if matches!(self.state, State::Ended) {
            return Err(Error::new(ErrorKind::Output, "the video was ended before").within(&self.name));
        }
        let repeats = self.timeline.advance(frame.timestamp);
        if matches!(self.state, State::Waiting) {
            let encoder = Encoder::start(&self.settings, &self.path, frame, self.rate);
            self.state = State::Running(encoder.map_err(|e| e.within(&self.name))?);
        } else {
            self.write_last(repeats)?;
            if (frame.width(), frame.height()) != (self.last.width(), self.last.height()) {
                return self.scaler.draw_rgb(frame, &mut self.last);
            }
        }
        self.last.copy_from(frame);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.write_last(1)?;
        let State::Running(encoder) = std::mem::replace(&mut self.state, State::Ended) else { return Ok(()) };
        encoder
            .end()
            .map_err(|e| Error::new(ErrorKind::Output, format_args!("{e}; {REMEDY_WRITE}")).within(&self.name))?;
        if self.settings.fragmented {
            index_in_front(&self.settings.program, &self.path, &self.name);
        }
        Ok(())
    }
}

/// Which picture of the video a time is.
#[derive(Debug)]
struct Timeline {
    rate: f64,
    first: Option<Duration>,
    /// Pictures cut out of gaps.
    cut: u64,
    /// The picture of the newest frame.
    newest: u64,
}

impl Timeline {
    fn new(rate: f64) -> Self {
        Self { rate, first: None, cut: 0, newest: 0 }
    }

    /// Takes a frame of time `timestamp`; returns how often the frame before it is shown.
    fn advance(&mut self, timestamp: Duration) -> u64 {
        let since = timestamp.saturating_sub(*self.first.get_or_insert(timestamp));
        let picture = (since.as_secs_f64() * self.rate).round() as u64;
        let step = picture.saturating_sub(self.cut).saturating_sub(self.newest);
        let longest = (LONGEST_GAP.as_secs_f64() * self.rate).ceil() as u64;
        if step > longest {
            log::warn!("a gap of {:.0} s is {} s in the video", step as f64 / self.rate, LONGEST_GAP.as_secs());
            self.cut += step - longest;
        }
        self.newest += step.min(longest);
        step.min(longest)
    }
}

impl Settings {
    /// Asks `program` which encoders it has.
    fn probe(program: &str, extension: &str) -> Result<Self> {
        let asked = Command::new(program).args(["-nostdin", "-hide_banner", "-encoders"]).stdin(Stdio::null()).output();
        let output = asked.map_err(|e| {
            Error::new(ErrorKind::Output, format_args!("cannot run the program {program}: {e}; {REMEDY_FFMPEG}"))
        })?;
        let listed = String::from_utf8_lossy(&output.stdout);
        let has = |encoder: &str| listed.split_whitespace().any(|word| word == encoder);
        let codec: &[&str] = match extension {
            "webm" if has("libvpx-vp9") => {
                &["libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "32", "-b:v", "0"]
            }
            // Old readers of AVI cannot reorder pictures.
            "avi" if has("libx264") => &["libx264", "-preset", "veryfast", "-crf", "20", "-bf", "0"],
            "mp4" | "mov" | "mkv" if has("libx264") => &["libx264", "-preset", "veryfast", "-crf", "20"],
            "mp4" | "mov" | "mkv" | "avi" if has("mpeg4") => &["mpeg4", "-q:v", "3"],
            _ => {
                let what = format_args!("this ffmpeg has no encoder for .{extension}; {REMEDY_FFMPEG}");
                return Err(Error::new(ErrorKind::Output, what));
            }
        };
        Ok(Self { program: program.to_owned(), codec, fragmented: matches!(extension, "mp4" | "mov") })
    }
}

/// A running `ffmpeg`.
#[derive(Debug)]
struct Encoder {
    child: Child,
    stdin: ChildStdin,
    messages: JoinHandle<String>,
}

impl Encoder {
    fn start(settings: &Settings, path: &Path, frame: &Frame, rate: f64) -> Result<Self> {
        // yuv420p wants even sizes; colours follow BT.709 and say so, or players guess by the size.
        let filter = "pad=ceil(iw/2)*2:ceil(ih/2)*2,scale=out_color_matrix=bt709:out_range=tv";
        let interval = (rate * 2.0).ceil().max(1.0).to_string();
        let size = format!("{}x{}", frame.width(), frame.height());
        let mut command = ffmpeg(&settings.program);
        command.args(["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", &size, "-framerate"]);
        command.args([&rate.to_string(), "-i", "pipe:0", "-an", "-vf", filter, "-c:v"]).args(settings.codec);
        command.args(["-pix_fmt", "yuv420p", "-colorspace", "bt709", "-g", &interval]);
        if settings.fragmented {
            command.args(["-movflags", "+frag_keyframe+empty_moov+default_base_moof"]);
        }
        command.arg("-y").arg(file_argument(path)).stdin(Stdio::piped());
        let failed = |what: &str| Error::new(ErrorKind::Output, format_args!("ffmpeg: {what}; {REMEDY_FFMPEG}"));
        let mut child = command.spawn().map_err(|e| failed(&e.to_string()))?;
        let (Some(stdin), Some(stderr)) = (child.stdin.take(), child.stderr.take()) else {
            return Err(failed("started without pipes"));
        };
        let messages = std::thread::Builder::new().name("ffmpeg messages".into()).spawn(move || first_of(stderr));
        let messages = messages.map_err(|e| failed(&format!("no thread for its messages: {e}")))?;
        Ok(Self { child, stdin, messages })
    }

    /// Ends the input and waits until the file is complete; otherwise what `ffmpeg` says about it.
    fn end(self) -> Result<(), String> {
        let Self { mut child, stdin, messages } = self;
        drop(stdin);
        let status = child.wait().map_err(|e| format!("ffmpeg: {e}"))?;
        let messages = messages.join().unwrap_or_default();
        // Told to end by whoever ended us too (systemd signals all): it completes the file and says nothing.
        let told_to_end = status.code() == Some(255) && messages.trim().is_empty();
        let complete = (status.success() || told_to_end) && !messages.lines().any(tells_of_system);
        if complete { Ok(()) } else { Err(format!("ffmpeg: {} ({status})", cause(&messages))) }
    }
}

/// `program` without questions, terminal and our Ctrl-C.
fn ffmpeg(program: &str) -> Command {
    let mut command = Command::new(program);
    // With -xerror also a failure at the very end, as when the last bytes do not fit on the disk, is a failure.
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-xerror"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    command
}

/// `path` as ffmpeg's argument: never an option or a protocol.
fn file_argument(path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from("file:");
    argument.push(path);
    argument
}

/// The first 8 KiB of what `pipe` brings; reads it to its end, so that the child never waits for us.
fn first_of(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let _ = pipe.by_ref().take(8192).read_to_end(&mut kept);
    let _ = io::copy(&mut pipe, &mut io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}

/// Whether a line of ffmpeg's messages is the system's word on the file.
fn tells_of_system(line: &str) -> bool {
    let telling = ["No space left", "Permission denied", "Read-only file system", "No such file", "Input/output error"];
    telling.iter().any(|t| line.contains(t))
}

/// The line of ffmpeg's messages that tells most: the system's word on the file if there is one, else the first.
fn cause(messages: &str) -> &str {
    let lines = || messages.lines().map(str::trim).filter(|line| !line.is_empty());
    let found = lines().find(|line| tells_of_system(line)).or_else(|| lines().next());
    // "[libx264 @ 0x55d0c0ffee] message": the address says nothing.
    let found = found.unwrap_or("no message");
    found.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(found, |(_, message)| message)
}

/// Whether a file at `path` can be written, leaving what is there as it is.
fn check_writable(path: &Path) -> io::Result<()> {
    if path.exists() {
        // A device or pipe may act on being opened.
        let plain = fs::metadata(path)?;
        if plain.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        return if plain.is_file() { OpenOptions::new().append(true).open(path).map(drop) } else { Ok(()) };
    }
    OpenOptions::new().write(true).create_new(true).open(path)?;
    fs::remove_file(path)
}

/// Files above this many bytes are not copied at the end of a run, which should not take long.
const LARGEST_REWRITE: u64 = 256 << 20;

/// Rewrites a fragmented file so that its index stands in front. The file is good without: whatever fails, it stays.
fn index_in_front(program: &str, path: &Path, name: &str) {
    let Ok(path) = path.canonicalize() else { return };
    let (Some(folder), Some(file), Some(extension)) = (path.parent(), path.file_name(), extension(&path)) else {
        return;
    };
    let short_enough = |m: std::fs::Metadata| m.is_file() && m.len() <= LARGEST_REWRITE;
    if !fs::metadata(&path).is_ok_and(short_enough) {
        return;
    }
    let part = folder.join(format!(".{}.part", file.to_string_lossy()));
    let mut command = ffmpeg(program);
    command.arg("-i").arg(file_argument(&path)).args(["-map", "0", "-c", "copy", "-movflags", "+faststart", "-f"]);
    let rewritten = command.arg(extension).arg("-y").arg(file_argument(&part)).output().and_then(|output| {
        if output.status.success() && output.stderr.is_empty() {
            return fs::rename(&part, &path);
        }
        Err(io::Error::other(cause(&String::from_utf8_lossy(&output.stderr)).to_owned()))
    });
    if let Err(e) = rewritten {
        let _ = fs::remove_file(&part);
        log::warn!("{name}: complete, but its index could not be moved to the front: {e}");
    }
}

#[cfg(test)]
#[path = "video_tests.rs"]
mod tests;
