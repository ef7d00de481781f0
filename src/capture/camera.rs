//! What is said of cameras and their settings, whatever system they are at.

use std::path::PathBuf;
use std::str::FromStr;

use crate::{Error, ErrorKind, Result};

/// A setting of a camera that is asked for, `NAME=VALUE`: `exposure`, `focus` and `white_balance` take `auto` or a
/// number, `power_line` takes `off`, `50`, `60` or `auto`, and any other control that the camera has goes by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// What is set.
    pub name: String,
    /// What to.
    pub value: String,
}

impl FromStr for Control {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = text.split_once('=').map(|(name, value)| (name.trim(), value.trim())).unwrap_or_default();
        if name.is_empty() || value.is_empty() {
            let message = format!("control `{text}` is not NAME=VALUE, such as exposure=auto or brightness=10");
            return Err(Error::new(ErrorKind::Usage, message));
        }
        Ok(Self { name: name.to_string(), value: value.to_string() })
    }
}

impl std::fmt::Display for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// A setting that a camera has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlState {
    /// Its name, as [`Control::name`] takes it.
    pub name: String,
    /// What it is set to, if the camera tells.
    pub value: Option<i64>,
    /// Least value.
    pub minimum: i64,
    /// Greatest value.
    pub maximum: i64,
    /// What the camera begins with.
    pub default: i64,
    /// What its values mean, if there are only a few.
    pub items: Vec<(i64, String)>,
}

/// A camera of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CameraInfo {
    /// Its node.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// The port that it is at.
    pub bus: String,
    /// The driver.
    pub driver: String,
    /// Formats that we know, with sizes and rates.
    pub modes: Vec<String>,
    /// Its settings.
    pub controls: Vec<ControlState>,
    /// Why it cannot be opened, if it cannot; then nothing else is known.
    pub problem: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_control_is_a_name_and_a_value() {
        let control: Control = " exposure = auto".parse().unwrap();
        assert_eq!((control.name.as_str(), control.value.as_str()), ("exposure", "auto"));
        assert_eq!(control.to_string(), "exposure=auto");
        for wrong in ["", "exposure", "=3", "focus="] {
            assert!(wrong.parse::<Control>().unwrap_err().to_string().contains("is not NAME=VALUE"), "{wrong}");
        }
    }
}
