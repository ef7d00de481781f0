//! What a source URI names. Looks at the file system to tell a path from a scheme; opens nothing.

use std::path::{Path, PathBuf};

use super::pixels::Coding;
use super::{Options, RATE, SIDE};
use crate::synth::{Motion, World};
use crate::{Error, ErrorKind, Result};

/// The forms that exist in this build, for messages.
const FORMS: &str = "v4l:/dev/video0?size=640x480&fps=30, v4l:?name=CAMERA, gst:PIPELINE, nokhwa:0, file:VIDEO, \
                     rtsp://HOST/PATH, images:FOLDER?fps=10, synthetic:SEED?size=640x480&fps=30, or the path of a \
                     video, of a folder of pictures or of a camera";

/// What a URI names.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Address {
    /// A camera of Linux.
    V4l {
        /// Which one.
        name: CameraName,
        /// What was asked after `?`.
        query: CameraQuery,
    },
    /// A camera through crate `nokhwa`.
    Nokhwa {
        /// Its number.
        index: u32,
        /// What was asked after `?`.
        query: Query,
    },
    /// A pipeline of GStreamer, as `gst-launch-1.0` takes it.
    Gst(String),
    /// A video file.
    File(PathBuf),
    /// A folder of pictures.
    Images {
        /// The folder.
        folder: PathBuf,
        /// What was asked after `?`.
        query: Query,
    },
    /// A network stream: the whole URL.
    Rtsp(String),
    /// The mannequin.
    Synthetic {
        /// Its seed.
        seed: u64,
        /// The world that it is seen in.
        world: World,
        /// What it does; if nothing is asked, all that there is.
        motion: Option<Motion>,
        /// What was asked after `?`.
        query: Query,
    },
}

/// How a camera is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CameraName {
    /// Not at all: the first one.
    First,
    /// By its node.
    Path(PathBuf),
    /// By a part of its own name.
    Card(String),
}

impl std::fmt::Display for CameraName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::First => f.write_str("v4l:"),
            Self::Path(path) => write!(f, "v4l:{}", path.display()),
            Self::Card(part) => write!(f, "v4l:?name={part}"),
        }
    }
}

/// `size`, `fps` and `format` of a camera's URI.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct CameraQuery {
    /// What other sources take, too.
    pub(super) query: Query,
    /// The format.
    pub(super) coding: Option<Coding>,
}

/// `size` and `fps` of a URI.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Query {
    /// Width and height.
    pub(super) size: Option<(u32, u32)>,
    /// Pictures a second.
    pub(super) frame_rate: Option<f32>,
}

impl Query {
    /// Completes what the URI leaves open from `options`.
    pub(super) fn or(self, options: &Options) -> Self {
        Self { size: self.size.or(options.size), frame_rate: self.frame_rate.or(options.frame_rate) }
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::with(text, "", |_, _| Ok(None))
    }

    /// Reads a query that has other keys, too: `own` takes what it knows and says whether it had it before. `names` are those,
    /// for messages.
    fn with(
        text: &str,
        names: &str,
        mut own: impl FnMut(&str, &str) -> Result<Option<bool>, String>,
    ) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not KEY=VALUE"))?;
            let twice = match key {
                "size" => query.size.replace(parse_size(value)?).is_some(),
                "fps" => query.frame_rate.replace(parse_rate(value)?).is_some(),
                _ => own(key, value)?
                    .ok_or_else(|| format!("unknown option `{key}`: there are {names}size=WxH and fps=N"))?,
            };
            if twice {
                return Err(format!("`{key}` is given twice"));
            }
        }
        Ok(query)
    }
}

/// Reads a size of pictures, `WIDTHxHEIGHT`.
///
/// # Errors
/// What is wanted instead.
pub fn parse_size(text: &str) -> Result<(u32, u32), String> {
    text.split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)))
        .filter(|(width, height)| SIDE.contains(width) && SIDE.contains(height))
        .ok_or_else(|| format!("size `{text}` is not WIDTHxHEIGHT of {} to {} pixels each", SIDE.start(), SIDE.end()))
}

fn parse_rate(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|rate| RATE.contains(rate))
        .ok_or_else(|| format!("fps `{text}` is not a number from {} to {}", RATE.start(), RATE.end()))
}

fn parse_coding(code: &str) -> Result<Coding, String> {
    let bytes: Option<[u8; 4]> = code.to_ascii_uppercase().as_bytes().try_into().ok();
    bytes.and_then(Coding::of_fourcc).ok_or_else(|| {
        let known = Coding::OF_CAMERAS.map(|coding| coding.to_string());
        format!("format `{code}` is not one of {}", known.join(", "))
    })
}

impl Address {
    /// Reads `uri`.
    pub(super) fn parse(uri: &str) -> Result<Self> {
        Self::read(uri).map_err(|reason| Error::new(ErrorKind::Source, format_args!("source `{uri}`: {reason}")))
    }

    fn read(uri: &str) -> Result<Self, String> {
        match uri.split_once(':') {
            Some(("file", "")) => Err("no file is named: file:VIDEO".to_string()),
            Some(("file", path)) => Ok(Self::File(path.into())),
            Some(("images", rest)) => Self::images(rest),
            Some(("v4l", rest)) => Self::camera(rest),
            Some(("nokhwa", rest)) => Self::nokhwa(rest),
            Some(("gst", rest)) if rest.trim().is_empty() => {
                Err("no pipeline is named: gst:v4l2src ! videoconvert".to_string())
            }
            Some(("gst", pipeline)) => Ok(Self::Gst(pipeline.trim().to_string())),
            Some(("synthetic", rest)) => Self::synthetic(rest),
            Some(("rtsp" | "rtsps", rest)) if rest.len() > 2 && rest.starts_with("//") => Ok(Self::Rtsp(uri.into())),
            scheme => Self::bare(uri, scheme.map(|(scheme, _)| scheme)),
        }
    }

    fn images(rest: &str) -> Result<Self, String> {
        // A folder may have `?` in its name, so one that exists goes before the query.
        let (folder, query) = match rest.rsplit_once('?') {
            Some((folder, query)) if !Path::new(rest).is_dir() => (folder, Query::parse(query)?),
            _ => (rest, Query::default()),
        };
        match folder {
            "" => Err("no folder is named: images:FOLDER".to_string()),
            _ => Ok(Self::Images { folder: folder.into(), query }),
        }
    }

    fn camera(rest: &str) -> Result<Self, String> {
        if rest.contains('\0') {
            return Err("a path cannot hold a zero".to_string());
        }
        let (node, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut card, mut coding) = (None, None);
        let query = Query::with(query, "name=PART, format=YUYV, ", |key, value| match key {
            "name" if !value.is_empty() => Ok(Some(card.replace(value.to_string()).is_some())),
            "format" => Ok(Some(coding.replace(parse_coding(value)?).is_some())),
            _ => Ok(None),
        })?;
        let name = match (node, card) {
            ("", None) => CameraName::First,
            ("", Some(part)) => CameraName::Card(part),
            (node, None) if node.bytes().all(|b| b.is_ascii_digit()) => {
                CameraName::Path(format!("/dev/video{node}").into())
            }
            (node, None) => CameraName::Path(node.into()),
            (_, Some(_)) => return Err("a camera is named by its path or by name=, not by both".to_string()),
        };
        Ok(Self::V4l { name, query: CameraQuery { query, coding } })
    }

    fn nokhwa(rest: &str) -> Result<Self, String> {
        let (index, query) = rest.split_once('?').unwrap_or((rest, ""));
        let index = match index {
            "" => 0,
            _ => index.parse().map_err(|_| format!("camera `{index}` is not a whole number from 0"))?,
        };
        Ok(Self::Nokhwa { index, query: Query::parse(query)? })
    }

    fn synthetic(rest: &str) -> Result<Self, String> {
        let (seed, query) = rest.split_once('?').unwrap_or((rest, ""));
        let seed = match seed {
            "" => 0,
            _ => seed.parse().map_err(|_| format!("seed `{seed}` is not a whole number from 0"))?,
        };
        let (mut motion, mut world) = (None, None);
        let known = || Motion::every().map(Motion::label).collect::<Vec<_>>().join(", ");
        let of = |name: &str| Motion::from_label(name).ok_or_else(|| format!("motion `{name}` is none of {}", known()));
        let query = Query::with(query, "motion=NAME, world=studio|wild, ", |key, value| match key {
            "motion" => Ok(Some(motion.replace(of(value)?).is_some())),
            "world" => Ok(Some(world.replace(value.parse()?).is_some())),
            _ => Ok(None),
        })?;
        Ok(Self::Synthetic { seed, world: world.unwrap_or_default(), motion, query })
    }

    fn bare(uri: &str, scheme: Option<&str>) -> Result<Self, String> {
        let path = Path::new(uri);
        if path.is_dir() {
            return Ok(Self::Images { folder: path.into(), query: Query::default() });
        }
        if uri.starts_with("/dev/video") || uri.starts_with("/dev/v4l/") {
            return Ok(Self::V4l { name: CameraName::Path(path.into()), query: CameraQuery::default() });
        }
        if path.exists() {
            return Ok(Self::File(path.into()));
        }
        let is_scheme = |s: &&str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-".contains(&b));
        match scheme.filter(is_scheme) {
            Some(scheme) => Err(format!("`{scheme}:` is not in this build; there are {FORMS}")),
            None => Err(format!("no such file or folder; there are {FORMS}")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(uri: &str) -> String {
        Address::parse(uri).unwrap_err().to_string()
    }

    #[test]
    fn a_file_path_is_taken_literally() {
        for path in ["-dash.mp4", "a b.mp4", "50%d?fps=3.mp4", "grüße/日本.mp4", "c:d.mp4", "/x/y.mp4"] {
            assert_eq!(Address::parse(&format!("file:{path}")).unwrap(), Address::File(path.into()));
        }
        assert!(refused("file:").contains("no file is named"));
    }

    #[test]
    fn a_bare_path_is_a_file_or_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert!(matches!(Address::parse(path).unwrap(), Address::Images { .. }));
        let file = format!("{path}/v4l:0");
        std::fs::write(&file, "").unwrap();
        assert_eq!(Address::parse(&file).unwrap(), Address::File(file.into()));
        assert!(refused(&format!("{path}/none")).contains("no such file or folder; there are v4l:"));
    }

    #[test]
    fn unknown_schemes_name_those_that_exist() {
        for uri in ["http://host/a.mp4", "rtsp:x", "csi:0"] {
            let message = refused(uri);
            assert!(message.contains("is not in this build; there are v4l:"), "{message}");
        }
    }

    #[test]
    fn cameras_go_by_path_number_or_name() {
        let camera = |uri: &str| match Address::parse(uri).unwrap() {
            Address::V4l { name, query } => (name, query),
            other => panic!("{uri}: {other:?}"),
        };
        let none = CameraQuery::default();
        let path = |path: &str| CameraName::Path(path.into());
        assert_eq!(camera("v4l:"), (CameraName::First, none));
        for uri in ["v4l:2", "v4l:/dev/video2", "/dev/video2"] {
            assert_eq!(camera(uri), (path("/dev/video2"), none), "{uri}");
        }
        let by_id = "/dev/v4l/by-id/usb-046d_C920-video-index0";
        assert_eq!(camera(by_id).0, path(by_id));
        let (name, query) = camera("v4l:?name=C920 HD&size=1280x720&fps=30&format=mjpg");
        assert_eq!(name, CameraName::Card("C920 HD".into()));
        assert_eq!(query.query, Query { size: Some((1280, 720)), frame_rate: Some(30.0) });
        assert_eq!(query.coding, Some(Coding::Mjpg));
        for (uri, fragment) in [
            ("v4l:/dev/video0?name=x", "by its path or by name=, not by both"),
            ("v4l:?format=H264", "format `H264` is not one of YUYV, NV12, YU12, UYVY, MJPG, GREY"),
            ("v4l:?zoom=2", "unknown option `zoom`: there are name=PART, format=YUYV, size=WxH and fps=N"),
            ("v4l:?name=", "unknown option `name`"),
            ("v4l:?format=YUYV&format=NV12", "is given twice"),
            ("nokhwa:x", "camera `x` is not a whole number"),
            ("gst: ", "no pipeline is named"),
        ] {
            assert!(refused(uri).contains(fragment), "{uri}: {}", refused(uri));
        }
        assert_eq!(Address::parse("gst: videotestsrc ! x").unwrap(), Address::Gst("videotestsrc ! x".into()));
    }

    #[test]
    fn queries_are_checked() {
        let synthetic = |seed, size, frame_rate| Address::Synthetic {
            seed,
            world: World::Studio,
            motion: None,
            query: Query { size, frame_rate },
        };
        assert_eq!(Address::parse("synthetic:").unwrap(), synthetic(0, None, None));
        assert_eq!(
            Address::parse("synthetic:7?size=320x240&fps=12.5").unwrap(),
            synthetic(7, Some((320, 240)), Some(12.5))
        );
        let wild = Address::parse("synthetic:7?world=wild&motion=wave").unwrap();
        assert!(matches!(wild, Address::Synthetic { seed: 7, world: World::Wild, motion: Some(Motion::Wave), .. }));
        for (uri, fragment) in [
            ("synthetic:x", "seed `x` is not a whole number"),
            ("synthetic:-1", "seed `-1`"),
            ("synthetic:1?size=640", "size `640` is not WIDTHxHEIGHT"),
            ("synthetic:1?size=640x0", "size `640x0`"),
            ("synthetic:1?size=9999x9999", "size `9999x9999`"),
            ("synthetic:1?fps=NaN", "fps `NaN`"),
            ("synthetic:1?fps=0", "fps `0`"),
            ("synthetic:1?motion=hop", "motion `hop` is none of nothing, walk,"),
            ("synthetic:1?motion=drink&motion=point", "`motion` is given twice"),
            ("synthetic:1?world=moon", "world `moon` is neither studio nor wild"),
            ("synthetic:1?world=wild&world=wild", "`world` is given twice"),
            ("synthetic:1?fps", "`fps` is not KEY=VALUE"),
            ("synthetic:1?fps=5&fps=6", "`fps` is given twice"),
            ("images:/x?rate=5", "unknown option `rate`"),
            ("images:", "no folder is named"),
        ] {
            assert!(refused(uri).contains(fragment), "{uri}: {}", refused(uri));
        }
    }

    #[test]
    fn a_folder_with_a_question_mark_is_found() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("what?fps=5");
        std::fs::create_dir(&folder).unwrap();
        let uri = format!("images:{}", folder.display());
        let expect = |query| Address::Images { folder: folder.clone(), query };
        assert_eq!(Address::parse(&uri).unwrap(), expect(Query::default()));
        let five = Query { frame_rate: Some(5.0), ..Query::default() };
        assert_eq!(Address::parse(&format!("{uri}?fps=5")).unwrap(), expect(five));
    }

    #[test]
    fn the_uri_goes_before_the_options() {
        let options = Options { size: Some((64, 48)), frame_rate: Some(5.0), ..Options::default() };
        let query = Query { size: None, frame_rate: Some(9.0) }.or(&options);
        assert_eq!(query, Query { size: Some((64, 48)), frame_rate: Some(9.0) });
    }
}
