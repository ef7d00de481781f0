//! `gst:PIPELINE` — pictures of a GStreamer pipeline, for cameras that only it can open: CSI cameras of Jetson
//! (`nvarguscamerasrc`) and Raspberry Pi (`libcamerasrc`).
//!
//! The program `gst-launch-1.0` runs as a child: nothing is linked, and a driver that hangs or crashes does not take us
//! along. It writes YUV4MPEG2, which says size and rate in its header. Pictures of a live pipeline count from when they
//! arrive here, and what it drops because we are late is not counted; one that plays a file is paced by GStreamer, or read
//! as fast as it goes without real time.

use std::time::Duration;

use super::child::{Process, Wait};
use super::file::{Clock, START_PATIENCE, Video};
use super::pixels::{Coding, Layout};
use super::rate::Rate;
use super::{Options, SourceInfo};
use crate::stop::Stop;
use crate::{Error, ErrorKind, Result};

/// How long a pipeline may be silent before it counts as lost.
const STALL_PATIENCE: Duration = Duration::from_secs(2);
/// Longest header line that is read.
const HEADER: usize = 256;
/// Pictures go through a pipe of their own: elements print on the standard output (`nvarguscamerasrc` does).
const SCRIPT: &str = "exec gst-launch-1.0 \"$@\" 3>&1 1>&2";
const PACKAGES: &str = "gstreamer1.0-tools, gstreamer1.0-plugins-base and gstreamer1.0-plugins-good";

/// Opens a pipeline; what it delivers is read as a [`Video`].
pub(super) struct Pipeline;

impl Pipeline {
    /// Starts `pipeline`, whose last element gives raw pictures.
    ///
    /// # Errors
    /// `Source` when the pipeline is wrong or GStreamer is not installed, `SourceLost` when it does not begin.
    pub(super) fn open(pipeline: &str, options: &Options, stop: &Stop) -> Result<Video> {
        let name = format!("gst:{pipeline}");
        Self::start(&name, pipeline, options, stop).map_err(|e| e.within(&name))
    }

    fn start(name: &str, pipeline: &str, options: &Options, stop: &Stop) -> Result<Video> {
        let words = words(pipeline).map_err(|reason| Error::new(ErrorKind::Source, reason))?;
        let tail = tail(options);
        let mut args = vec!["-c", SCRIPT, "sh", "-q"];
        args.extend(words.iter().map(String::as_str));
        args.extend(tail.split(' '));
        if !is_installed("gst-launch-1.0") {
            let message = format!("`gst-launch-1.0` is not there: install {PACKAGES}");
            return Err(Error::new(ErrorKind::Source, message));
        }
        let mut process = Process::start("sh", "dash", &args)?;
        let line = header(&mut process, stop)?;
        let (layout, rate) = parse(&line)
            .ok_or_else(|| Error::new(ErrorKind::Source, format_args!("unknown header `{}`", line.escape_debug())))?;
        let live = options.realtime;
        let clock = if live { Clock::Arrival(None) } else { Clock::Constant(rate) };
        let (width, height) = (layout.width, layout.height);
        let info =
            SourceInfo { name: name.to_string(), width, height, frame_rate: rate.per_second(), live, stamped: false };
        let patience = if live { STALL_PATIENCE } else { START_PATIENCE };
        // A camera that fails may say no more than that its stream is over.
        let finite = ["filesrc", "num-buffers=", "uri=file:"].iter().any(|part| pipeline.contains(part));
        Ok(Video::of_y4m(info, process, layout, (clock, patience, finite), stop))
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What follows the user's pipeline: the size and rate that are asked for, I420 in the colours that we convert, and the
/// pipe to us. Widths are multiples of 8, because `y4menc` (1.22) writes the padding of other rows along.
fn tail(options: &Options) -> String {
    let size = match options.size {
        Some((width, height)) => format!("width={},height={}", width.next_multiple_of(8), height.next_multiple_of(2)),
        None => "width=[16,4096,8],height=[16,4096,2],pixel-aspect-ratio=1/1".to_string(),
    };
    let (converter, rate) = match options.frame_rate {
        Some(rate) => (" ! videorate", format!(",framerate={}/1000", (rate * 1000.0).round() as u32)),
        None => ("", String::new()),
    };
    // `sync` paces a pipeline that plays a file, the offset takes back what that would delay a live one, and what comes
    // too late for us is left out there.
    let sync = match options.realtime {
        true => "sync=true ts-offset=-100000000 max-lateness=300000000",
        false => "sync=false",
    };
    format!(
        "! videoconvert ! videoscale{converter} ! video/x-raw,format=I420,colorimetry=bt601,{size}{rate} ! y4menc \
         ! fdsink fd=3 {sync}"
    )
}

/// Splits a pipeline into words as a shell would: at blanks, but not within quotes.
fn words(pipeline: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in pipeline.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    match quote {
        Some(quote) => Err(format!("a quote {quote} is not closed")),
        None => Ok(words),
    }
}

/// The first line of the stream.
fn header(process: &mut Process, stop: &Stop) -> Result<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    let (kind, reason) = loop {
        match process.fill(&mut byte, START_PATIENCE, stop)?.0 {
            Wait::Ready if byte == [b'\n'] || line.len() == HEADER => {
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            Wait::Ready => line.push(byte[0]),
            Wait::Stopped => break (ErrorKind::Source, "stopped before it was open".to_string()),
            Wait::TimedOut => {
                break (ErrorKind::SourceLost, format!("no picture within {} s", START_PATIENCE.as_secs()));
            }
            Wait::End => {
                let complaints = process.conclude(Duration::from_secs(1));
                let reason = complaints.reason("", "it ends without a picture");
                let hint = if reason.contains("no element \"y4menc\"") { ": install " } else { "" };
                let packages = if hint.is_empty() { "" } else { PACKAGES };
                break (ErrorKind::Source, format!("{reason}{hint}{packages}"));
            }
        }
    };
    Err(Error::new(kind, reason))
}

/// Reads `YUV4MPEG2 C420 W640 H480 Ip F30:1 A1:1`.
fn parse(header: &str) -> Option<(Layout, Rate)> {
    let mut fields = header.strip_prefix("YUV4MPEG2 ")?.split(' ');
    let field = |key: char| fields.clone().find_map(|field| field.strip_prefix(key));
    let side = |text: &str| text.parse().ok().filter(|side| super::SIDE.contains(side));
    let (width, height) = (side(field('W')?)?, side(field('H')?)?);
    // A rate of 0:1 is a pipeline that does not know its own.
    let rate = Rate::parse(&field('F')?.replace(':', "/")).unwrap_or(Rate::DEFAULT);
    fields.any(|field| field == "C420").then(|| (Layout::new(Coding::I420, width, height), rate))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pipeline_is_split_as_a_shell_does() {
        let split = |text: &str| words(text).unwrap();
        assert_eq!(split("a  b=1 ! c"), ["a", "b=1", "!", "c"]);
        assert_eq!(
            split("x 'video/x-raw(memory:NVMM), width=(int)640' !"),
            ["x", "video/x-raw(memory:NVMM), width=(int)640", "!"]
        );
        assert_eq!(split(r#"location="a b.avi" n="""#), ["location=a b.avi", "n="]);
        assert!(words("a 'b").unwrap_err().contains("not closed"));
        assert!(split("  ").is_empty());
    }

    #[test]
    fn headers_are_read_and_nonsense_is_refused() {
        let (layout, rate) = parse("YUV4MPEG2 C420 W160 H122 Ip F30000:1001 A1:1").unwrap();
        assert_eq!((layout.width, layout.height, layout.bytes()), (160, 122, 160 * 122 * 3 / 2));
        assert!((rate.per_second() - 29.97).abs() < 0.001);
        assert_eq!(parse("YUV4MPEG2 C420 W160 H122 F0:1").unwrap().1, Rate::DEFAULT);
        for wrong in
            ["", "RIFF", "YUV4MPEG2 C420 W160 F1:1", "YUV4MPEG2 C444 W160 H122 F1:1", "YUV4MPEG2 C420 W9 H9 F1:1"]
        {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
