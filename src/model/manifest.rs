//! `manifest.toml`: what a bundle says of itself. A field this program does not know is refused, never skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// The bundle format this program reads and writes.
pub const FORMAT: u32 = 1;

/// The content of `manifest.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the bundle format, [`FORMAT`].
    pub format: u32,
    /// Name of the bundle.
    pub name: String,
    /// Architecture and its options, as `train-export show --arch` takes them.
    pub architecture: String,
    /// What the model sees.
    pub input: Input,
    /// What the model says.
    pub output: Output,
    /// Defaults for running it.
    pub run: Run,
    /// Defaults for turning scores into actions.
    #[serde(default)]
    pub decision: crate::decision::Settings,
    /// Pairs of labels that a mirrored picture exchanges, such as `["swipe_left", "swipe_right"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sided: Vec<[String; 2]>,
    /// How the model was brought to 8-bit integers; only with `model.int8.onnx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantisation: Option<Quantisation>,
    /// How the weights came about, and under which terms they may be used.
    pub provenance: Provenance,
    /// Measured figures, each with what it was measured on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Measured>,
    /// SHA-256 of every other file of the bundle, lower-case hexadecimal, by file name.
    pub sha256: BTreeMap<String, String>,
}

/// What the model sees: a clip `[1, C, T, H, W]`, prepared from the source's pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Frames in a window, T.
    pub frames: usize,
    /// Height of a plane in pixels, H.
    pub height: usize,
    /// Width of a plane in pixels, W.
    pub width: usize,
    /// Which channels a plane has.
    pub colour: Colour,
    /// Frames a second in a window.
    pub frame_rate: f32,
    /// How a picture is brought to `width` x `height`.
    pub resize: Resize,
    /// Subtracted from each channel, whose values are 0 to 1 (differences: -1 to 1). One value a channel.
    pub mean: Vec<f32>,
    /// Each channel is divided by this afterwards. One value a channel.
    pub std: Vec<f32>,
}

/// The channels of a plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Red, green, blue.
    Rgb,
    /// Luma of BT.601: 0.299 R + 0.587 G + 0.114 B.
    Gray,
    /// Difference of each of red, green, blue to the previous sampled frame: T planes need T + 1 frames.
    Motion,
    /// How far each pixel moved since the previous sampled frame, to the right and down.
    Flow,
    /// The channels of `rgb` and then those of `flow`: what a net of two streams sees.
    #[serde(rename = "rgb+flow")]
    RgbFlow,
}

impl Colour {
    /// Channels of a plane, C.
    pub fn channels(self) -> usize {
        match self {
            Self::Rgb | Self::Motion => 3,
            Self::Gray => 1,
            Self::Flow => 2,
            Self::RgbFlow => 5,
        }
    }

    /// Whether a channel of a plane says what changed since the frame before: then it is zero where nothing did.
    pub fn is_change(self, channel: usize) -> bool {
        match self {
            Self::Rgb | Self::Gray => false,
            Self::Motion | Self::Flow => true,
            Self::RgbFlow => channel >= Self::Rgb.channels(),
        }
    }

    /// Whether a plane says what changed since the frame before: then T planes need T + 1 frames.
    pub fn needs_previous(self) -> bool {
        (0..self.channels()).any(|channel| self.is_change(channel))
    }
}

/// How a picture is brought to the model's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Cut the largest centred part of the model's aspect ratio, then scale it.
    Crop,
    /// Scale to fit inside, black around it.
    Pad,
    /// Scale both axes on their own.
    Stretch,
}

/// What the model says: one tensor `logits` of shape `[1, K]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// How logits become scores.
    pub activation: Activation,
    /// Number of classes, K: as many as `labels.txt` has lines.
    pub classes: usize,
    /// Whether the model is recurrent: it sees a frame at a time, has logits for each, and remembers what it needs of those
    /// before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub per_frame: bool,
}

/// How logits become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// One action at a time: probabilities that add up to one.
    Softmax,
    /// Any number of actions at a time: a probability each.
    Sigmoid,
}

impl Activation {
    /// Turns `logits` into scores from 0 to 1, in place.
    pub fn apply(self, logits: &mut [f32]) {
        match self {
            Self::Softmax => {
                let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                logits.iter_mut().for_each(|x| *x = (*x - max).exp());
                let sum: f32 = logits.iter().sum();
                logits.iter_mut().for_each(|x| *x /= sum);
            }
            Self::Sigmoid => logits.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
        }
    }
}

/// Defaults for running a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The mode its figures were measured in.
    pub mode: Mode,
    /// Sampled frames from one decision to the next.
    pub hop: usize,
}

/// How an engine runs a model over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The model sees the last T frames at each decision.
    #[default]
    Window,
    /// Each new frame goes through a causal model that remembers the frames before.
    Stream,
}

impl Mode {
    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Stream => "stream",
        }
    }
}

/// How the weights came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// SPDX expression of the licence the weights are under.
    pub licence: String,
    /// What they were trained on.
    pub data: String,
    /// The command that trained them.
    pub recipe: String,
}

/// How a model was brought to 8-bit integers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantisation {
    /// How the span of each activation was chosen.
    pub ranges: String,
    /// The clips whose values the spans are taken from.
    pub calibration: String,
}

/// A figure and what it was measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// What was measured, such as `top-1`.
    pub figure: String,
    /// The value.
    pub value: f64,
    /// The data it was measured on, and how.
    pub on: String,
}

impl Input {
    /// Shape of a clip, `[1, C, T, H, W]`.
    pub fn clip_shape(&self) -> [usize; 5] {
        [1, self.colour.channels(), self.frames, self.height, self.width]
    }
}

/// The most values a clip may have: a gigabyte of them.
const MAX_CLIP_VALUES: usize = 1 << 28;

fn refuse(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Model, why)
}

fn range<T: PartialOrd + std::fmt::Display>(field: &str, value: T, min: T, max: T) -> Result<()> {
    if value >= min && value <= max {
        return Ok(());
    }
    Err(refuse(format_args!("field '{field}': {value} is not from {min} to {max}")))
}

impl Manifest {
    /// The manifest in `text`, its fields checked one by one and against one another.
    ///
    /// # Errors
    /// `Model`, naming line or field.
    pub fn parse(text: &str) -> Result<Self> {
        let located = |why: toml::de::Error| {
            let line = why.span().map_or(1, |span| text.bytes().take(span.start).filter(|&b| b == b'\n').count() + 1);
            refuse(format_args!("line {line}: {}", why.message()))
        };
        // The version first: a newer manifest would otherwise be refused for the fields it adds.
        let table: toml::Table = text.parse().map_err(located)?;
        match table.get("format").and_then(toml::Value::as_integer) {
            Some(format) if format == i64::from(FORMAT) => {}
            Some(format) => {
                let remedy = if format > i64::from(FORMAT) { "update kinora" } else { "export the bundle again" };
                return Err(refuse(format_args!(
                    "field 'format': this program reads version {FORMAT}, not {format}: {remedy}"
                )));
            }
            None => return Err(refuse(format_args!("field 'format' is missing: a bundle has format = {FORMAT}"))),
        }
        let manifest: Self = toml::from_str(text).map_err(located)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The text of `manifest.toml`.
    ///
    /// # Errors
    /// `Model` when a field cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(refuse)
    }

    /// Checks every field's range, and the fields against one another.
    ///
    /// # Errors
    /// `Model`, naming the field.
    pub fn check(&self) -> Result<()> {
        let texts = [
            ("name", &self.name),
            ("architecture", &self.architecture),
            ("provenance.licence", &self.provenance.licence),
            ("provenance.data", &self.provenance.data),
            ("provenance.recipe", &self.provenance.recipe),
        ];
        if let Some((field, _)) = texts.into_iter().find(|(_, text)| text.trim().is_empty()) {
            return Err(refuse(format_args!("field '{field}' is empty")));
        }
        self.input.check()?;
        range("output.classes", self.output.classes, 1, 100_000)?;
        range("run.hop", self.run.hop, 1, 1024)?;
        match self.measured.iter().find(|measured| !measured.value.is_finite()) {
            Some(measured) => Err(refuse(format_args!("field 'measured': '{}' is not finite", measured.figure))),
            None => Ok(()),
        }
    }

    /// Checks `labels` against the number of classes, the sided pairs and the decision.
    ///
    /// # Errors
    /// `Model`, naming the field.
    pub fn check_labels(&self, labels: &[String]) -> Result<()> {
        let (classes, count) = (self.output.classes, labels.len());
        if classes != count {
            return Err(refuse(format_args!("field 'output.classes': {classes}, but labels.txt has {count} labels")));
        }
        let mut seen = std::collections::BTreeSet::new();
        for label in self.sided.iter().flatten() {
            if !labels.contains(label) {
                return Err(refuse(format_args!("field 'sided': '{label}' is not in labels.txt")));
            }
            if !seen.insert(label) {
                return Err(refuse(format_args!("field 'sided': '{label}' is named twice")));
            }
        }
        self.decision.check(labels).map_err(refuse)
    }
}

impl Input {
    /// Checks every field's range.
    ///
    /// # Errors
    /// `Model`, naming the field.
    pub fn check(&self) -> Result<()> {
        range("input.frames", self.frames, 1, 1024)?;
        range("input.height", self.height, 8, 2048)?;
        range("input.width", self.width, 8, 2048)?;
        range("input.frame_rate", self.frame_rate, 0.5, 240.0)?;
        let values: usize = self.clip_shape().iter().product();
        if values > MAX_CLIP_VALUES {
            return Err(refuse(format_args!("field 'input': a clip of {values} values is too large")));
        }
        let channels = self.colour.channels();
        for (field, list) in [("input.mean", &self.mean), ("input.std", &self.std)] {
            if list.len() != channels {
                let count = list.len();
                return Err(refuse(format_args!("field '{field}': {count} values for {channels} channels")));
            }
            if !list.iter().all(|x| x.is_finite()) {
                return Err(refuse(format_args!("field '{field}': {list:?} is not finite")));
            }
        }
        match self.std.iter().all(|&x| x > 0.0) {
            true => Ok(()),
            false => Err(refuse(format_args!("field 'input.std': {:?} is not above 0", self.std))),
        }
    }
}
