//! The display `png:DIR`: one picture file per frame, `000000.png` onwards. It blocks while a file is written.
//!
//! A picture is encoded in memory, written under a temporary name and renamed, so that a picture with its final name is
//! always whole, also after Ctrl-C or on a full disk. The encode buffer is reused; the encoder itself allocates.

use std::fs;
use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use super::Display;
use crate::frame::Frame;
use crate::{Error, ErrorKind, Result};

/// A folder of numbered pictures.
#[derive(Debug)]
pub struct Pictures {
    name: String,
    folder: PathBuf,
    count: u64,
    encoded: Vec<u8>,
}

impl Pictures {
    /// Creates `folder` if need be. Pictures that are there already are overwritten number by number.
    ///
    /// # Errors
    /// `Output` when the folder cannot be created.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| {
            let what = format_args!("png:{}: cannot create the folder: {e}; name another one", folder.display());
            Error::new(ErrorKind::Output, what)
        })?;
        if folder.join("000000.png").exists() {
            log::warn!("png:{}: the folder has pictures of an earlier run; they mix with new ones", folder.display());
        }
        let name = format!("png:{}", folder.display());
        Ok(Self { name, folder: folder.to_owned(), count: 0, encoded: Vec::new() })
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let part = path.with_extension("png.part");
        let written = fs::write(&part, &self.encoded).and_then(|()| fs::rename(&part, path));
        if written.is_err() {
            // What is left of the temporary file would only keep a full disk full.
            let _ = fs::remove_file(&part);
        }
        written
    }
}

impl Display for Pictures {
    fn name(&self) -> &str {
        &self.name
    }

    fn present(&mut self, frame: &Frame) -> Result<()> {
        let path = self.folder.join(format!("{:06}.png", self.count));
        self.encoded.clear();
        PngEncoder::new_with_quality(&mut self.encoded, CompressionType::Fast, FilterType::Sub)
            .write_image(frame.data(), frame.width(), frame.height(), ExtendedColorType::Rgb8)
            .map_err(|e| Error::new(ErrorKind::Output, format_args!("{}: cannot encode: {e}", path.display())))?;
        self.write(&path).map_err(|e| {
            let what = format_args!("{}: cannot write: {e}; free some space or name another folder", path.display());
            Error::new(ErrorKind::Output, what)
        })?;
        self.count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn picture(seed: u64) -> Frame {
        let mut frame = Frame::new(7, 5);
        let mut random = fastrand::Rng::with_seed(seed);
        frame.data_mut().fill_with(|| random.u8(..));
        frame
    }

    #[test]
    fn frames_become_numbered_lossless_files_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/b");
        let mut display = Pictures::open(&folder).unwrap();
        for seed in 0..3 {
            display.present(&picture(seed)).unwrap();
        }
        display.finish().unwrap();
        let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["000000.png", "000001.png", "000002.png"]);
        let read = image::open(folder.join("000002.png")).unwrap().into_rgb8();
        assert_eq!((read.dimensions(), read.as_raw().as_slice()), ((7, 5), picture(2).data()));
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = Pictures::open(&file.join("sub")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Output);
        assert!(error.to_string().contains("file/sub"), "{error}");
    }

    #[test]
    fn a_failed_write_names_the_picture_and_leaves_no_part_behind() {
        let base = tempfile::tempdir().unwrap();
        let mut display = Pictures::open(base.path()).unwrap();
        // A folder with the picture's name refuses the rename, whoever runs the test.
        fs::create_dir(base.path().join("000000.png")).unwrap();
        let error = display.present(&picture(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Output);
        assert!(error.to_string().contains("000000.png"), "{error}");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_is_an_output_error() {
        let base = tempfile::tempdir().unwrap();
        let mut display = Pictures::open(base.path()).unwrap();
        std::os::unix::fs::symlink("/dev/full", base.path().join("000000.png.part")).unwrap();
        let error = display.present(&picture(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Output);
        assert!(error.to_string().contains("No space left"), "{error}");
        assert!(!base.path().join("000000.png").exists());
    }
}
