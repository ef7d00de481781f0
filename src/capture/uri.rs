//! What a source URI names. Looks at the file system to tell a path from a scheme; opens nothing.

use std::path::{Path, PathBuf};

use super::{Options, RATE, SIDE};
use crate::{Error, ErrorKind, Result};

/// The forms that exist in this build, for messages.
const FORMS: &str = "file:VIDEO, images:FOLDER?fps=10, rtsp://HOST/PATH, synthetic:SEED?size=640x480&fps=30, \
                     or the path of a video or of a folder of pictures";

/// What a URI names.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Address {
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
        /// What was asked after `?`.
        query: Query,
    },
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
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not KEY=VALUE"))?;
            let twice = match key {
                "size" => query.size.replace(parse_size(value)?).is_some(),
                "fps" => query.frame_rate.replace(parse_rate(value)?).is_some(),
                _ => return Err(format!("unknown option `{key}`: there are size=WxH and fps=N")),
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

    fn synthetic(rest: &str) -> Result<Self, String> {
        let (seed, query) = rest.split_once('?').unwrap_or((rest, ""));
        let seed = match seed {
            "" => 0,
            _ => seed.parse().map_err(|_| format!("seed `{seed}` is not a whole number from 0"))?,
        };
        Ok(Self::Synthetic { seed, query: Query::parse(query)? })
    }

    fn bare(uri: &str, scheme: Option<&str>) -> Result<Self, String> {
        let path = Path::new(uri);
        if path.is_dir() {
            return Ok(Self::Images { folder: path.into(), query: Query::default() });
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
        assert!(refused(&format!("{path}/none")).contains("no such file or folder; there are file:VIDEO"));
    }

    #[test]
    fn unknown_schemes_name_those_that_exist() {
        for uri in ["v4l:/dev/video0", "nokhwa:0", "gst:videotestsrc ! x", "http://host/a.mp4", "rtsp:x"] {
            let message = refused(uri);
            assert!(message.contains("is not in this build; there are file:VIDEO"), "{message}");
        }
    }

    #[test]
    fn queries_are_checked() {
        let synthetic = |seed, size, frame_rate| Address::Synthetic { seed, query: Query { size, frame_rate } };
        assert_eq!(Address::parse("synthetic:").unwrap(), synthetic(0, None, None));
        assert_eq!(
            Address::parse("synthetic:7?size=320x240&fps=12.5").unwrap(),
            synthetic(7, Some((320, 240)), Some(12.5))
        );
        for (uri, fragment) in [
            ("synthetic:x", "seed `x` is not a whole number"),
            ("synthetic:-1", "seed `-1`"),
            ("synthetic:1?size=640", "size `640` is not WIDTHxHEIGHT"),
            ("synthetic:1?size=640x0", "size `640x0`"),
            ("synthetic:1?size=9999x9999", "size `9999x9999`"),
            ("synthetic:1?fps=NaN", "fps `NaN`"),
            ("synthetic:1?fps=0", "fps `0`"),
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
