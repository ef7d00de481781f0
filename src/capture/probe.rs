//! What a video is, asked from `ffprobe` before it is decoded.

use std::time::Duration;

use serde::Deserialize;

use super::child::{Process, Wait};
use super::rate::Rate;
use crate::stop::Stop;
use crate::{Error, ErrorKind, Result};

/// The picture stream of a video.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stream {
    /// Its number in the file.
    pub(super) index: u32,
    /// Width in pixels, turned as the file says.
    pub(super) width: u32,
    /// Height in pixels, turned as the file says.
    pub(super) height: u32,
    /// Rate to decode at.
    pub(super) rate: Rate,
    /// Version of the programs, major and minor.
    pub(super) version: (u32, u32),
}

/// Pictures larger than this on a side are refused: a few damaged bytes can claim gigabytes.
const LARGEST: u32 = 16384;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Report {
    program_version: Version,
    format: Format,
    streams: Vec<Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Version {
    version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Format {
    format_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    index: u32,
    codec_type: String,
    codec_name: String,
    width: u32,
    height: u32,
    avg_frame_rate: String,
    r_frame_rate: String,
    disposition: Disposition,
    side_data_list: Vec<SideData>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Disposition {
    attached_pic: u8,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SideData {
    rotation: Option<f64>,
}

const ENTRIES: &str = "program_version=version:format=format_name:\
    stream=index,codec_type,codec_name,width,height,avg_frame_rate,r_frame_rate:\
    stream_disposition=attached_pic:stream_side_data=rotation";

/// Asks what `url` holds; `input` are the options that reading it takes.
///
/// # Errors
/// `Source` with the reason when there is no picture stream, when it does not answer within `patience`, or when a stop
/// was asked for.
pub(super) fn probe(input: &[&str], url: &str, patience: Duration, stop: &Stop) -> Result<Stream> {
    let mut args = vec!["-v", "error", "-of", "json", "-show_program_version", "-show_entries", ENTRIES];
    args.extend_from_slice(input);
    args.push(url);
    let mut process = Process::start("ffprobe", "ffmpeg", &args)?;
    let mut json = vec![0; 1 << 20];
    let (wait, length) = process.fill(&mut json, patience, stop)?;
    let refuse = |reason: &str| Err(Error::new(ErrorKind::Source, reason));
    match wait {
        Wait::End => {}
        Wait::Stopped => return refuse("stopped before it was open"),
        Wait::TimedOut => return refuse("no answer"),
        Wait::Ready => return refuse("its description is endless"),
    }
    let complaints = process.conclude(Duration::from_secs(1));
    let report: Report = serde_json::from_slice(&json[..length]).unwrap_or_default();
    choose(&report, &complaints.reason(url, "this is not a video")).or_else(|reason| refuse(&reason))
}

fn choose(report: &Report, complaint: &str) -> Result<Stream, String> {
    let format = report.format.format_name.as_str();
    if report.streams.is_empty() {
        return Err(complaint.to_string());
    }
    if format == "image2" || format.ends_with("_pipe") {
        return Err("this is a single picture, not a video: for pictures there is images:FOLDER".to_string());
    }
    if ["hls", "concat", "dash", "sdp", "imf"].contains(&format) {
        return Err(format!("this is a playlist ({format}), not a video: name the video itself"));
    }
    let is_picture = |entry: &&Entry| entry.codec_type == "video" && entry.disposition.attached_pic == 0;
    let Some(entry) = report.streams.iter().find(is_picture) else {
        return Err("it has no picture stream (only sound, subtitles or a cover)".to_string());
    };
    // ffmpeg draws text files as a terminal would.
    if ["ansi", "bintext", "xbin", "idf"].contains(&entry.codec_name.as_str()) {
        return Err("this is a text, not a video".to_string());
    }
    let (width, height) = turned(entry);
    if width == 0 || height == 0 {
        return Err(complaint.to_string());
    }
    if width.max(height) > LARGEST {
        return Err(format!("its pictures claim {width}x{height} pixels; at most {LARGEST} on a side are read"));
    }
    Ok(Stream {
        index: entry.index,
        width,
        height,
        rate: Rate::of_claims(&entry.avg_frame_rate, &entry.r_frame_rate),
        version: version(&report.program_version.version),
    })
}

/// Width and height as ffmpeg delivers them: it turns pictures by what the file says, and only quarter turns change the
/// size.
fn turned(entry: &Entry) -> (u32, u32) {
    let rotation = entry.side_data_list.iter().find_map(|data| data.rotation).unwrap_or(0.0);
    match (rotation.abs() - 90.0).abs() < 1.0 || (rotation.abs() - 270.0).abs() < 1.0 {
        true => (entry.height, entry.width),
        false => (entry.width, entry.height),
    }
}

/// `5.1.9-0+deb12u1` is 5.1; what is no number is a build from the newest source.
fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (u32::MAX, 0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chosen(json: &str) -> Result<Stream, String> {
        choose(&serde_json::from_str(json).unwrap(), "complaint")
    }

    #[test]
    fn a_cover_picture_is_not_the_video() {
        let json = r#"{"program_version": {"version": "5.1.9-0+deb12u1"}, "format": {"format_name": "mov,mp4"},
            "streams": [{"index": 0, "codec_type": "video", "width": 9, "height": 9, "disposition": {"attached_pic": 1}},
              {"index": 1, "codec_type": "audio"},
              {"index": 2, "codec_type": "video", "width": 64, "height": 48, "avg_frame_rate": "25/1"}]}"#;
        let stream = chosen(json).unwrap();
        assert_eq!((stream.index, stream.width, stream.height), (2, 64, 48));
        assert_eq!((stream.rate.per_second(), stream.version), (25.0, (5, 1)));
        let cover = json.replace("\"index\": 2, \"codec_type\": \"video\"", "\"codec_type\": \"audio\"");
        assert!(chosen(&cover).unwrap_err().contains("no picture stream"));
    }

    #[test]
    fn what_is_no_video_is_named() {
        for (format, codec, fragment) in [
            ("tty", "ansi", "a text"),
            ("png_pipe", "png", "single picture"),
            ("image2", "mjpeg", "single picture"),
            ("hls", "h264", "playlist (hls)"),
            ("avi", "none", "complaint"),
        ] {
            let json = format!(
                r#"{{"format": {{"format_name": "{format}"}},
                "streams": [{{"codec_type": "video", "codec_name": "{codec}"}}]}}"#
            );
            let reason = chosen(&json).unwrap_err();
            assert!(reason.contains(fragment), "{format}: {reason}");
        }
        assert_eq!(chosen("{}").unwrap_err(), "complaint");
    }

    #[test]
    fn only_quarter_turns_change_the_size() {
        for (rotation, size) in [
            ("-90", (48, 64)),
            ("90", (48, 64)),
            ("270", (48, 64)),
            ("180", (64, 48)),
            ("30", (64, 48)),
            ("-9223372036854775808", (64, 48)),
        ] {
            let json = format!(
                r#"{{"streams": [{{"codec_type": "video", "width": 64, "height": 48,
                "side_data_list": [{{}}, {{"rotation": {rotation}}}]}}]}}"#
            );
            let stream = chosen(&json).unwrap();
            assert_eq!((stream.width, stream.height), size, "{rotation}");
        }
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let json = r#"{"streams": [{"codec_type": "video", "width": 65535, "height": 4}]}"#;
        assert!(chosen(json).unwrap_err().contains("65535x4"));
    }

    #[test]
    fn versions() {
        assert_eq!(version("4.2.7-0ubuntu0.1"), (4, 2));
        assert_eq!(version("N-112-g12ab"), (u32::MAX, 0));
        assert_eq!(version("n7.0"), (u32::MAX, 0));
    }
}
