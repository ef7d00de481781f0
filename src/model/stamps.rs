//! What the file system says of a bundle's files: a cheap look that tells whether any of them was written, moved or
//! replaced since. A look reads no file and allocates nothing.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::bundle::FILES;

/// Where the files of a bundle are, or would be.
#[derive(Debug, Clone)]
pub struct Files([PathBuf; FILES.len()]);

impl Files {
    /// Those of the bundle in `dir`. The folder need not be there.
    pub fn of(dir: &Path) -> Self {
        Self(FILES.map(|name| dir.join(name)))
    }

    /// What they look like now. A file that is missing, or that cannot be looked at, is one that is not there.
    pub fn look(&self) -> Stamps {
        Stamps(self.0.each_ref().map(|path| std::fs::metadata(path).ok().map(|found| Stamp::of(&found))))
    }
}

/// What the files of a bundle looked like at some time. Equal ones mean that nothing was written between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamps([Option<Stamp>; FILES.len()]);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    /// Device and number of the file and when it was last changed in any way: a copy may bring an old time along.
    #[cfg(unix)]
    identity: (u64, u64, i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            bytes: found.len(),
            modified: found.modified().ok(),
            #[cfg(unix)]
            identity: (found.dev(), found.ino(), found.ctime(), found.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn whatever_becomes_of_a_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("bundle");
        let files = Files::of(&dir);
        let none = files.look();
        fs::create_dir(&dir).unwrap();
        assert_eq!(files.look(), none, "an empty folder is no other bundle than none");
        let mut seen = vec![none];
        let mut differs = |what: &str| {
            let now = files.look();
            assert!(!seen.contains(&now), "{what}");
            assert_eq!(now, files.look());
            seen.push(now);
        };
        for name in FILES {
            fs::write(dir.join(name), "one").unwrap();
            differs(name);
        }
        fs::write(dir.join("model.onnx"), "other").unwrap();
        differs("longer");
        fs::write(folder.path().join("new"), "OTHER").unwrap();
        fs::rename(folder.path().join("new"), dir.join("model.onnx")).unwrap();
        differs("replaced");
        fs::remove_file(dir.join("labels.txt")).unwrap();
        differs("removed");
        fs::write(dir.join("readme"), "no part of it").unwrap();
        assert_eq!(files.look(), seen[seen.len() - 1]);
    }
}
