//! Where clips go: `DIR/LABEL/clip-0001.mp4`, `clip-0002.mp4` and so on, the form that `train-export` reads; with a name,
//! `clip-0003-anna.mp4`. No number comes twice in a folder, whatever the name.
//!
//! A file with that name is always whole. While a clip is written its name begins with a dot, which `train-export`
//! passes over; what a killed run leaves behind is removed by a later one. Files are never overwritten, not even by two
//! runs at the same time. Blocks while `ffmpeg` and the disk work.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clip::Clip;
use crate::display::{Display, Format, Video};
use crate::{Error, ErrorKind, Result};

/// A file with a temporary name that is older than this is nobody's any more.
const ABANDONED: Duration = Duration::from_secs(600);
const PREFIX: &str = "clip-";
/// How the file begins, after its dot, with which it is tried whether there can be any.
const TRIAL: &str = "clip-trial-";
/// Longest label or name in bytes: file systems take 255, and ours have something before and behind.
const LONGEST: usize = 200;
/// What no label or name has: it could not be a file on every file system, or not be named in a list.
const FORBIDDEN: &str = "/\\:*?\"<>|,#\u{feff}";

/// File-name endings of videos; other files in a folder of clips are passed over.
const VIDEOS: [&str; 18] = [
    "mp4", "avi", "mkv", "mov", "webm", "m4v", "mpg", "mpeg", "wmv", "ts", "mts", "m2ts", "ogv", "flv", "3gp", "gif",
    "y4m", "asf",
];

/// Whether the name is that of a video, to train on.
pub fn is_clip(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| VIDEOS.iter().any(|v| end.eq_ignore_ascii_case(v)))
}

/// The folder of a label's clips.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    /// What the names of its clips end with, before their extension: nothing, or `-anna`.
    suffix: String,
}

/// Refuses a label that is no name of a folder or that `labels.txt` cannot have.
///
/// # Errors
/// `Usage`, with the reason.
pub fn check_label(label: &str) -> Result<()> {
    check("--label", label)
}

/// Refuses what cannot be part of a clip's name, by the same rules as a label.
///
/// # Errors
/// `Usage`, with the reason.
pub fn check_name(name: &str) -> Result<()> {
    check("--name", name)
}

fn check(flag: &str, text: &str) -> Result<()> {
    let reason = if text.is_empty() {
        "it is empty".to_owned()
    } else if text.len() > LONGEST {
        format!("it has {} bytes, {LONGEST} at most", text.len())
    } else if text.trim() != text {
        "it begins or ends with a blank".to_owned()
    } else if text.starts_with('.') {
        "what begins with a dot is passed over".to_owned()
    } else if let Some(wrong) = text.chars().find(|c| c.is_control() || FORBIDDEN.contains(*c)) {
        format!("it has {wrong:?}, which files and labels cannot have everywhere")
    } else {
        return Ok(());
    };
    let advice = "use letters, digits, blanks, - and _";
    Err(Error::new(ErrorKind::Usage, format_args!("{flag} {text:?}: {reason}; {advice}")))
}

impl Folder {
    /// The folder of `label` below `root`, which is created if need be; its own comes with its first clip. Tries
    /// whether videos of `format` can be written there.
    ///
    /// # Errors
    /// `Usage` when the label is no name, `Output` when `root` cannot be created or written, or there is no usable
    /// `ffmpeg`.
    pub fn open(root: &Path, label: &str, format: Format) -> Result<Self> {
        check_label(label)?;
        let failed = |e| Error::new(ErrorKind::Output, format_args!("{}: {e}; name another --out", root.display()));
        fs::create_dir_all(root).map_err(failed)?;
        let path = root.join(label);
        let there = if path.exists() { path.as_path() } else { root };
        // In the root of a new label there is nobody else to remove it.
        tidy(root, TRIAL);
        let trial = there.join(format!(".{TRIAL}{}.mp4", std::process::id()));
        drop(Video::open(&trial, format)?);
        Ok(Self { path, suffix: String::new() })
    }

    /// The same, for clips that have `name` in their names.
    ///
    /// # Errors
    /// `Usage` when it is none.
    pub fn with_name(self, name: Option<&str>) -> Result<Self> {
        name.map_or(Ok(()), check_name)?;
        Ok(Self { suffix: name.map(|name| format!("-{name}")).unwrap_or_default(), ..self })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `clip`; returns the path of its file.
    ///
    /// # Errors
    /// `Output` when it cannot be written. Nothing of it is left then.
    pub fn save(&self, clip: &Clip) -> Result<PathBuf> {
        let failed = |e| Error::new(ErrorKind::Output, format_args!("{}: cannot write: {e}", self.path.display()));
        fs::create_dir_all(&self.path).map_err(failed)?;
        tidy(&self.path, PREFIX);
        let (part, name) = self.reserve().map_err(failed)?;
        let written = write(&part, clip).and_then(|()| fs::rename(&part, &name).map_err(failed));
        if written.is_err() {
            // Either fails where there is nothing to remove; a class without a clip cannot be trained on.
            let _ = fs::remove_file(&part);
            let _ = fs::remove_dir(&self.path);
        }
        written.map(|()| name)
    }

    /// Creates the file that the next clip is written to; returns its path and the one that the clip will have. Only the
    /// number is in the first one, so that two runs with different names cannot both have it.
    fn reserve(&self) -> io::Result<(PathBuf, PathBuf)> {
        let last = numbers(&self.path)?.into_iter().max().unwrap_or(0);
        for next in last.saturating_add(1)..=u32::MAX {
            let part = self.path.join(format!(".{PREFIX}{next:04}.mp4"));
            match OpenOptions::new().write(true).create_new(true).open(&part) {
                // Looked at once the number is ours: another run may have just had it.
                Ok(_) if numbers(&self.path)?.contains(&next) => fs::remove_file(&part)?,
                Ok(_) => return Ok((part, self.path.join(format!("{PREFIX}{next:04}{}.mp4", self.suffix)))),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other("there are too many clips"))
    }
}

/// Removes what killed runs left behind in `folder` and what begins, after its dots, with `prefix`; what cannot be removed
/// does no harm.
fn tidy(folder: &Path, prefix: &str) {
    let ours = |name: &&String| name.starts_with('.') && name.trim_start_matches('.').starts_with(prefix);
    for name in names(folder).unwrap_or_default().iter().filter(ours) {
        let path = folder.join(name);
        let age = fs::metadata(&path).and_then(|file| file.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > ABANDONED) && fs::remove_file(&path).is_ok() {
            log::info!("{}: removed, a run that was killed had left it", path.display());
        }
    }
}

/// Writes `clip` to `path`, down to the disk.
fn write(path: &Path, clip: &Clip) -> Result<()> {
    let Some(first) = clip.pictures().first() else {
        return Err(Error::new(ErrorKind::Internal, "a clip without pictures is to be written"));
    };
    let format = Format { width: first.width(), height: first.height(), frame_rate: clip.rate() };
    let mut video = Video::open(path, format)?;
    clip.pictures().iter().try_for_each(|picture| video.present(picture))?;
    video.finish()?;
    let synced = OpenOptions::new().append(true).open(path).and_then(|file| file.sync_all());
    synced.map_err(|e| Error::new(ErrorKind::Output, format_args!("{}: cannot write: {e}", path.display())))
}

/// The names in `folder`, those that are text.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The numbers of the clips in `folder`, whatever is behind them in their names.
fn numbers(folder: &Path) -> io::Result<Vec<u32>> {
    let number = |name: String| {
        let rest = name.strip_prefix(PREFIX)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Ok(names(folder)?.into_iter().filter_map(number).collect())
}

/// The classes in `root` and how many videos each has, by name. Those without any are left out.
///
/// # Errors
/// `Output` when the folder cannot be read.
pub fn classes(root: &Path) -> Result<Vec<(String, usize)>> {
    let counted = || -> io::Result<Vec<(String, usize)>> {
        let mut classes = Vec::new();
        for label in names(root)?.into_iter().filter(|name| !name.starts_with('.') && root.join(name).is_dir()) {
            let shown = |name: &&String| !name.starts_with('.') && is_clip(name);
            let count = names(&root.join(&label))?.iter().filter(shown).count();
            classes.extend((count > 0).then_some((label, count)));
        }
        classes.sort();
        Ok(classes)
    };
    counted().map_err(|e| Error::new(ErrorKind::Output, format_args!("{}: {e}", root.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::frame::Frame;

    const FORMAT: Format = Format { width: 32, height: 24, frame_rate: 20.0 };

    fn clip(pictures: usize) -> Clip {
        let mut clip = Clip::new(FORMAT.frame_rate, pictures);
        for n in 0..pictures as u64 {
            let mut frame = Frame::new(FORMAT.width, FORMAT.height);
            frame.timestamp = Duration::from_millis(50 * n);
            clip.push(&frame);
        }
        clip
    }

    fn listed(folder: &Path) -> Vec<String> {
        let mut names = names(folder).unwrap();
        names.sort();
        names
    }

    #[test]
    fn labels_are_what_folders_and_labels_txt_can_have() {
        for label in ["nothing", "sit_down", "Händeschütteln", "left-hook", "नमस्ते", "two words", "v1.2", "(x)"]
        {
            check_label(label).unwrap();
            check_name(label).unwrap();
        }
        let [longest, longer] = [LONGEST, LONGEST + 1].map(|bytes| "x".repeat(bytes));
        check_label(&longest).unwrap();
        assert!(check_label(&longer).unwrap_err().to_string().contains("it has 201 bytes"));
        assert!(check_label(&"é".repeat(LONGEST)).is_err());
        assert!(check_name("a/b").unwrap_err().to_string().contains("--name \"a/b\""));
        for label in ["", " ", "a ", " a", ".", "..", ".hidden", "a/b", "a\\b", "a\nb", "a,b", "x:y", "#x", "\u{feff}a"]
        {
            let error = check_label(label).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains("--label"), "{error}");
        }
    }

    #[test]
    fn clips_are_numbered_after_those_that_are_there() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(&root.path().join("all"), "wave", FORMAT).unwrap();
        assert!(!folder.path().exists(), "no class without a clip");
        folder.save(&clip(3)).unwrap();
        // Numbers that others have, in whatever container, and files that are none of ours.
        fs::write(folder.path().join("clip-0005.avi"), "theirs").unwrap();
        fs::write(folder.path().join("clip-x.mp4"), "theirs").unwrap();
        fs::write(folder.path().join(".clip-0006.mp4"), "being written").unwrap();
        let path = folder.save(&clip(3)).unwrap();
        assert_eq!(path, folder.path().join("clip-0007.mp4"));
        let wanted = [".clip-0006.mp4", "clip-0001.mp4", "clip-0005.avi", "clip-0007.mp4", "clip-x.mp4"];
        assert_eq!(listed(folder.path()), wanted);
        fs::create_dir(root.path().join("all/empty")).unwrap();
        fs::write(folder.path().join("from-a-phone.M4V"), "theirs").unwrap();
        assert_eq!(classes(&root.path().join("all")).unwrap(), [("wave".to_owned(), 5)]);
    }

    #[test]
    fn names_are_behind_numbers_that_no_other_clip_has() {
        let root = tempfile::tempdir().unwrap();
        let open = |name| Folder::open(root.path(), "wave", FORMAT).unwrap().with_name(name);
        let path = root.path().join("wave");
        for name in [Some("anna"), Some("2"), None, Some("Jörg-0")] {
            open(name).unwrap().save(&clip(3)).unwrap();
        }
        // The number that another run is writing to is its own, whatever the names.
        fs::write(path.join(".clip-0005.mp4"), "being written").unwrap();
        fs::write(path.join("clip-ben.mp4"), "theirs").unwrap();
        open(Some("ben")).unwrap().save(&clip(3)).unwrap();
        let wanted = ["0001-anna", "0002-2", "0003", "0004-Jörg-0", "0006-ben", "ben"];
        assert_eq!(listed(&path)[1..], wanted.map(|name| format!("clip-{name}.mp4")));
        // As long as names can be.
        let [longest, longer] = [LONGEST, LONGEST + 1].map(|bytes| "x".repeat(bytes));
        open(Some(&longest)).unwrap().save(&clip(3)).unwrap();
        assert!(open(Some(&longer)).is_err());
    }

    #[test]
    fn what_a_killed_run_left_is_removed_once_it_is_old() {
        let root = tempfile::tempdir().unwrap();
        let wave = root.path().join("wave");
        fs::create_dir(&wave).unwrap();
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        let left = [
            ("wave/.clip-0001.mp4", true),
            ("wave/..clip-0001.mp4.part", true),
            ("wave/.clip-0002.mp4", false),
            // In the root, which may have anything in it, only what is certainly ours.
            (".clip-trial-1.mp4", true),
            (".clip-trial-2.mp4", false),
            (".clip-art", true),
        ];
        for (name, old) in left {
            let file = fs::File::create(root.path().join(name)).unwrap();
            if old {
                file.set_modified(long_ago).unwrap();
            }
        }
        Folder::open(root.path(), "clap", FORMAT).unwrap();
        assert_eq!(listed(root.path()), [".clip-art", ".clip-trial-2.mp4", "wave"]);
        Folder::open(root.path(), "wave", FORMAT).unwrap().save(&clip(3)).unwrap();
        assert_eq!(listed(&wave), [".clip-0002.mp4", "clip-0001.mp4"]);
    }

    #[test]
    fn a_clip_that_cannot_be_written_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), "wave", FORMAT).unwrap();
        assert!(folder.save(&clip(0)).is_err());
        assert!(!folder.path().exists());
        fs::write(root.path().join("file"), "").unwrap();
        let error = Folder::open(&root.path().join("file"), "wave", FORMAT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Output);
        let error = Folder::open(root.path(), "file", FORMAT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Output);
        assert!(error.to_string().contains("file"), "{error}");
    }
}
