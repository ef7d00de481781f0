//! Stands in for the display `kms` on systems other than Linux.

use super::{Card, Display};
use crate::frame::Frame;
use crate::{Error, ErrorKind, Result};

/// Never there.
pub enum Kms {}

impl Kms {
    pub fn open(_: &str) -> Result<Self> {
        Err(Error::new(ErrorKind::Display, "kms: is there on Linux only; use --display window"))
    }
}

impl Display for Kms {
    fn name(&self) -> &str {
        match *self {}
    }

    fn present(&mut self, _: &Frame) -> Result<()> {
        match *self {}
    }
}

/// The graphics cards that `kms:` can use: none on this system.
pub fn devices() -> Vec<Card> {
    Vec::new()
}

/// Whether `kms:` can show pictures: not on this system.
pub fn is_available() -> bool {
    false
}
