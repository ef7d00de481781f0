//! Flags that say what a model is: its architecture and what it sees.

use kinora::model::manifest::{Colour, Input, Resize};
use kinora::{Error, ErrorKind, Result};

use crate::arch::Architecture;

/// Architecture and input of a model.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelArgs {
    /// r2plus1d-edge, r2plus1d-tutorial, r2plus1d-18, r2plus1d-34, r3d-18, resnet3d-18, -34, -50, -101, -152, i3d-rgb,
    /// i3d-flow, convlstm-edge, convlstm-trailer or lstm-trailer, with options as in `r2plus1d-edge(width=16,depth=1)` or
    /// `r2plus1d-18(causal=true,temporal_stride=false)`
    #[arg(long, default_value = "r2plus1d-edge", value_parser = |text: &str| text.parse::<Architecture>())]
    pub arch: Architecture,
    /// Channels of its first stage
    #[arg(long)]
    pub width: Option<usize>,
    /// Blocks of each of its stages
    #[arg(long)]
    pub depth: Option<usize>,
    /// Let temporal kernels see the past only, so that the net can be streamed (r2plus1d-edge is so, recurrent nets are so anyway)
    #[arg(long, conflicts_with = "non_causal")]
    pub causal: bool,
    /// Let temporal kernels see the future too: such a net cannot be streamed
    #[arg(long)]
    pub non_causal: bool,
    /// Frames in a clip
    #[arg(long, default_value_t = 16)]
    pub frames: usize,
    /// Height and width of a frame in pixels; else the architecture's usual: 96 for those for boards, 224 for i3d-rgb and the
    /// tutorial, 400 for trailers, or 112
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<usize>,
    /// Frames a second: with 16 frames a clip of 8 lasts two seconds, which a gesture needs
    #[arg(long, default_value_t = 8.0)]
    pub frame_rate: f32,
    /// What a frame shows: rgb, gray, motion (differences of frames) or flow (optical flow, TV-L1, which takes far longer than
    /// most nets); else motion, flow for i3d-flow and rgb for i3d-rgb
    #[arg(long, value_parser = colour)]
    pub colour: Option<Colour>,
    /// What is subtracted from each channel, whose values are 0 to 1; else 0.45, and 0 of motion and flow
    #[arg(long)]
    pub mean: Option<f32>,
    /// What each channel is divided by afterwards; else 0.225, 0.25 of motion, and 1 of flow
    #[arg(long)]
    pub std: Option<f32>,
    /// How pictures are brought to size: crop, pad or stretch
    #[arg(long, default_value = "crop", value_parser = resize)]
    pub resize: Resize,
}

/// So many numbers with commas between them.
pub fn numbers<T: std::str::FromStr, const N: usize>(text: &str) -> Result<[T; N], String> {
    let all: Option<Vec<T>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    all.and_then(|all| all.try_into().ok()).ok_or_else(|| format!("{N} numbers with commas between them wanted"))
}

fn colour(text: &str) -> Result<Colour, String> {
    match text {
        "rgb" => Ok(Colour::Rgb),
        "gray" => Ok(Colour::Gray),
        "motion" => Ok(Colour::Motion),
        "flow" => Ok(Colour::Flow),
        _ => Err("rgb, gray, motion or flow wanted".into()),
    }
}

fn resize(text: &str) -> Result<Resize, String> {
    match text {
        "crop" => Ok(Resize::Crop),
        "pad" => Ok(Resize::Pad),
        "stretch" => Ok(Resize::Stretch),
        _ => Err("crop, pad or stretch wanted".into()),
    }
}

impl ModelArgs {
    /// The architecture with the flags' options.
    ///
    /// # Errors
    /// `Usage` when an option is out of range.
    pub fn architecture(&self) -> Result<Architecture> {
        let options = [("width", self.width), ("depth", self.depth)];
        let given = options.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let architecture = given.into_iter().try_fold(self.arch, |arch, (key, value)| arch.with(key, value))?;
        match (self.causal, self.non_causal) {
            (true, _) => architecture.with("causal", true),
            (_, true) => architecture.with("causal", false),
            _ => Ok(architecture),
        }
    }

    /// What the model sees. Pictures are normalised to about unit spread; differences of frames are small, so theirs is
    /// taken as a quarter.
    ///
    /// # Errors
    /// `Usage` when a number is out of range.
    pub fn input(&self) -> Result<Input> {
        let colour = self.colour.unwrap_or(self.arch.colour());
        let (mean, std) = match colour {
            Colour::Rgb | Colour::Gray => (0.45, 0.225),
            Colour::Motion => (0.0, 0.25),
            Colour::Flow => (0.0, 1.0),
            Colour::RgbFlow => return Err(Error::new(ErrorKind::Usage, "two streams are trained apart, then joined")),
        };
        let channels = colour.channels();
        let size = self.size.unwrap_or(self.arch.picture_size());
        let input = Input {
            frames: self.frames,
            height: size,
            width: size,
            colour,
            frame_rate: self.frame_rate,
            resize: self.resize,
            mean: vec![self.mean.unwrap_or(mean); channels],
            std: vec![self.std.unwrap_or(std); channels],
        };
        let flags = "--frames, --size, --frame-rate, --mean or --std";
        input.check().map(|()| input).map_err(|e| Error::new(ErrorKind::Usage, format_args!("{flags}: {e}")))
    }
}
