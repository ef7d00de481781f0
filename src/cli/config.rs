//! The settings file: the run command's flags as TOML, and the decision's settings.

use std::collections::BTreeMap;
use std::num::{NonZeroU8, NonZeroU16};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use kinora::capture::{Control, Roi, Rotation, parse_size};
use kinora::decision::{Settings, Thresholds};
use kinora::engine::{Choice, Kernels, Precision};
use kinora::model::manifest::Mode;
use kinora::{Error, ErrorKind, Result};
use serde::Deserialize;

use super::args::{Auto, PictureArgs, RunArgs};

/// A settings file. Names are those of the flags; what is not known is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    source: Option<String>,
    display: Option<String>,
    model: Option<PathBuf>,
    #[serde(default, deserialize_with = "choice")]
    engine: Option<Choice>,
    #[serde(default, deserialize_with = "parsed")]
    precision: Option<Auto<Precision>>,
    #[serde(default, deserialize_with = "parsed")]
    mode: Option<Auto<Mode>>,
    #[serde(default, deserialize_with = "choice")]
    kernels: Option<Kernels>,
    threads: Option<NonZeroU8>,
    hop: Option<NonZeroU16>,
    events: Option<String>,
    frames: Option<u64>,
    duration: Option<f64>,
    no_realtime: Option<bool>,
    watch: Option<bool>,
    labels: Option<Vec<String>>,
    threshold: Option<f32>,
    smoothing: Option<f32>,
    mirror: Option<bool>,
    #[serde(default, deserialize_with = "parsed")]
    rotate: Option<Rotation>,
    #[serde(default, deserialize_with = "parsed")]
    roi: Option<Roi>,
    frame_rate: Option<f32>,
    #[serde(default, deserialize_with = "size")]
    size: Option<(u32, u32)>,
    #[serde(default, deserialize_with = "controls")]
    control: Option<Vec<Control>>,
    #[serde(default)]
    pub decision: Decision,
}

/// The decision's settings that differ from the model's.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    smoothing_s: Option<f32>,
    enter: Option<f32>,
    exit: Option<f32>,
    min_duration_s: Option<f32>,
    merge_gap_s: Option<f32>,
    cooldown_s: Option<f32>,
    lag_s: Option<f32>,
    nothing: Option<String>,
    labels: Option<BTreeMap<String, Thresholds>>,
}

fn choice<'de, D: serde::Deserializer<'de>, T: ValueEnum>(input: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(input)?;
    T::from_str(&text, false).map(Some).map_err(serde::de::Error::custom)
}

fn parsed<'de, D, T>(input: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    // A number may be written as one.
    let text = match toml::Value::deserialize(input)? {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// A table of settings of the camera; numbers and switches may be written as such.
fn controls<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<Vec<Control>>, D::Error> {
    let table = BTreeMap::<String, toml::Value>::deserialize(input)?;
    let control = |(name, value): (String, toml::Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        format!("{name}={value}").parse().map_err(serde::de::Error::custom)
    };
    table.into_iter().map(control).collect::<Result<_, _>>().map(Some)
}

fn size<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<(u32, u32)>, D::Error> {
    parse_size(&String::deserialize(input)?).map(Some).map_err(serde::de::Error::custom)
}

fn fill<T>(arg: &mut Option<T>, setting: Option<T>) {
    if arg.is_none() {
        *arg = setting;
    }
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// `Usage`, with file, line and reason.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::new(ErrorKind::Usage, format_args!("--config {}: {e}", path.display())))?;
        toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(1, |span| 1 + text.bytes().take(span.start).filter(|b| *b == b'\n').count());
            Error::new(ErrorKind::Usage, format_args!("{}, line {line}: {}", path.display(), e.message()))
        })
    }

    /// Fills in what `args` left open.
    pub fn complete(mut self, args: &mut RunArgs) {
        self.complete_pictures(&mut args.pictures);
        fill(&mut args.model.model, self.model);
        fill(&mut args.model.engine, self.engine);
        fill(&mut args.model.precision, self.precision);
        fill(&mut args.model.mode, self.mode);
        fill(&mut args.model.kernels, self.kernels);
        fill(&mut args.model.threads, self.threads.map(NonZeroU8::get));
        fill(&mut args.model.hop, self.hop.map(NonZeroU16::get));
        fill(&mut args.events, self.events);
        fill(&mut args.frames, self.frames);
        fill(&mut args.duration, self.duration);
        fill(&mut args.labels, self.labels);
        fill(&mut args.threshold, self.threshold);
        fill(&mut args.smoothing, self.smoothing);
        fill(&mut args.watch, self.watch);
    }

    /// Fills in what `args` left open of where pictures come from and go to.
    pub fn complete_pictures(&mut self, args: &mut PictureArgs) {
        fill(&mut args.source, self.source.take());
        fill(&mut args.display, self.display.take());
        fill(&mut args.rotate, self.rotate);
        fill(&mut args.roi, self.roi);
        fill(&mut args.frame_rate, self.frame_rate);
        fill(&mut args.size, self.size);
        fill(&mut args.control, self.control.take());
        fill(&mut args.no_realtime, self.no_realtime);
        fill(&mut args.mirror, self.mirror);
    }

    /// The model that the file names.
    pub fn model(&mut self) -> Option<PathBuf> {
        self.model.take()
    }
}

impl Decision {
    /// The label that the file says means nothing.
    pub fn nothing(&self) -> Option<&str> {
        self.nothing.as_deref()
    }

    /// Puts these settings over the model's. Where only `enter` is set, `exit` keeps its proportion to it.
    pub fn apply(&self, settings: &mut Settings) {
        fn put<T: Clone>(field: &mut T, setting: &Option<T>) {
            if let Some(value) = setting {
                *field = value.clone();
            }
        }
        if let Some(enter) = self.enter {
            settings.set_enter(enter);
        }
        put(&mut settings.smoothing_s, &self.smoothing_s);
        put(&mut settings.exit, &self.exit);
        put(&mut settings.min_duration_s, &self.min_duration_s);
        put(&mut settings.merge_gap_s, &self.merge_gap_s);
        put(&mut settings.cooldown_s, &self.cooldown_s);
        put(&mut settings.lag_s, &self.lag_s);
        put(&mut settings.nothing, &self.nothing);
        put(&mut settings.labels, &self.labels);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Config> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::read(file.path())
    }

    #[test]
    fn flags_go_before_the_file() {
        let config =
            read("source = 'a.mp4'\nhop = 3\nrotate = '90'\nmirror = true\nengine = 'tract'\nroi = '1,2,3,4'").unwrap();
        let mut args = RunArgs::default();
        args.pictures.source = Some("b.mp4".into());
        config.complete(&mut args);
        let PictureArgs { source, mirror, rotate, roi, .. } = args.pictures;
        assert_eq!((source.as_deref(), args.model.hop, mirror), (Some("b.mp4"), Some(3), Some(true)));
        assert!(rotate.is_some() && roi.is_some());
        assert_eq!(args.model.engine, Some(Choice::Tract));
        let mut args = RunArgs::default();
        args.pictures.mirror = Some(false);
        let text = "mirror = true\nrotate = 90\nsize = '640x480'\nthreshold = 0.8\nwatch = true";
        read(text).unwrap().complete(&mut args);
        assert_eq!(args.watch, Some(true));
        let PictureArgs { mirror, size, rotate, .. } = args.pictures;
        assert_eq!((mirror, size, args.threshold), (Some(false), Some((640, 480)), Some(0.8)));
        assert!(rotate.is_some());
        let mut args = RunArgs::default();
        read("[control]\nexposure = 'auto'\nbrightness = 10\nflip = true").unwrap().complete(&mut args);
        let controls: Vec<_> = args.pictures.control.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(controls, ["brightness=10", "exposure=auto", "flip=true"]);
    }

    #[test]
    fn the_decision_is_changed_field_by_field() {
        let config = read("[decision]\nenter = 0.9\n[decision.labels.wave]\nenter = 0.5\nexit = 0.3").unwrap();
        let mut settings = Settings::default();
        config.decision.apply(&mut settings);
        assert_eq!(settings.enter, 0.9);
        assert!((settings.exit - 0.6).abs() < 1e-6, "as far below as it was");
        assert_eq!(settings.thresholds("wave").enter, 0.5);
        assert_eq!(settings.smoothing_s, Settings::default().smoothing_s);
    }

    #[test]
    fn mistakes_name_file_and_line() {
        for (text, fragment) in [
            ("\nsorce = 'x'", "line 2"),
            ("hop = 'many'", "line 1"),
            ("a = = b", "line 1"),
            ("rotate = '45'", "45"),
            ("hop = 0", "line 1"),
            ("size = '5'", "16 to 4096"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(fragment), "{error}");
        }
        assert!(Config::read(Path::new("/nowhere/x.toml")).is_err());
    }

    #[test]
    fn the_shipped_files_are_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-config");
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files {
            Config::read(&file).unwrap();
        }
    }
}
