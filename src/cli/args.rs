//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use kinora::capture::{Roi, Rotation};
use kinora::engine::Choice;

/// Real-time human-action recognition: camera in, current action out.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = AFTER)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunArgs,
    /// More messages; twice for all
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Errors only, and no event lines unless asked for
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

const AFTER: &str = "\
Sources:  file:CLIP.mp4 (or just the path), rtsp://HOST/PATH, images:DIR?fps=10, synthetic:SEED?size=640x480&fps=30
Displays: window, video:OUT.mp4, png:DIR, none
Keys in the window: Esc or q quits, f toggles full screen.

Settings come from flags, then KINORA_... environment variables (KINORA_SOURCE, KINORA_FRAME_RATE, ...), then --config.
Exit codes: 0 done, 1 internal, 2 usage or configuration, 3 model, 4 source, 5 display, 6 output, 7 engine.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Recognize actions in a source and show them (the default command)
    Run(RunArgs),
    /// Tell in words what a model bundle is, or what is wrong with it
    Inspect(InspectArgs),
    /// Say for each video which action it shows: its windows averaged to one answer
    Classify(ClassifyArgs),
    /// Measure time per decision, time per stage, memory and start time on this machine
    Bench(BenchArgs),
}

/// Which model runs, and how.
#[derive(Debug, Clone, Default, Args)]
pub struct ModelArgs {
    /// Model bundle, a folder [default: models/mannequin]
    #[arg(long, value_name = "DIR", env = "KINORA_MODEL")]
    pub model: Option<PathBuf>,
    /// Inference engine [default: auto]
    #[arg(long, value_enum, env = "KINORA_ENGINE")]
    pub engine: Option<Choice>,
    /// Sampled frames from one decision to the next [default: the model's]
    #[arg(long, value_name = "N", env = "KINORA_HOP", value_parser = clap::value_parser!(u16).range(1..))]
    pub hop: Option<u16>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Where pictures come from [default: synthetic:1, the built-in mannequin]
    #[arg(long, value_name = "URI", env = "KINORA_SOURCE")]
    pub source: Option<String>,
    /// Where pictures go [default: window on a desktop, else none]
    #[arg(long, value_name = "URI", env = "KINORA_DISPLAY")]
    pub display: Option<String>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// File for events as JSON lines, - for the terminal [default: - unless the display is a window]
    #[arg(long, value_name = "FILE", env = "KINORA_EVENTS")]
    pub events: Option<String>,
    /// Stop after so many frames
    #[arg(long, value_name = "N", env = "KINORA_FRAMES")]
    pub frames: Option<u64>,
    /// Stop after so many seconds of source time
    #[arg(long, value_name = "SECONDS", env = "KINORA_DURATION")]
    pub duration: Option<f64>,
    /// Take every frame, as fast as it goes: the same file gives the same events
    #[arg(long, env = "KINORA_NO_REALTIME", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_realtime: Option<bool>,
    /// Report these actions only
    #[arg(long, value_name = "LABEL,...", value_delimiter = ',', env = "KINORA_LABELS")]
    pub labels: Option<Vec<String>>,
    /// Score at which an action starts, 0 to 1 [default: the model's]
    #[arg(long, value_name = "P", env = "KINORA_THRESHOLD")]
    pub threshold: Option<f32>,
    /// Time constant over which scores are smoothed, in seconds [default: the model's]
    #[arg(long, value_name = "SECONDS", env = "KINORA_SMOOTHING")]
    pub smoothing: Option<f32>,
    /// Exchange left and right, as in a mirror
    #[arg(long, env = "KINORA_MIRROR", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new())]
    pub mirror: Option<bool>,
    /// Turn the picture clockwise: 0, 90, 180 or 270
    #[arg(long, value_name = "DEG", env = "KINORA_ROTATE")]
    pub rotate: Option<Rotation>,
    /// Use a part of the picture only, in pixels after --rotate and --mirror
    #[arg(long, value_name = "X,Y,W,H", env = "KINORA_ROI")]
    pub roi: Option<Roi>,
    /// Bring the source's pictures to this size first
    #[arg(long, value_name = "WxH", env = "KINORA_SIZE", value_parser = size)]
    pub size: Option<(u32, u32)>,
    /// Pictures a second of the source [default: its own]
    #[arg(long, value_name = "HZ", env = "KINORA_FRAME_RATE")]
    pub frame_rate: Option<f32>,
    /// Settings file (TOML); flags and environment go before it
    #[arg(long, value_name = "FILE", env = "KINORA_CONFIG")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Model bundle, a folder
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct ClassifyArgs {
    /// Videos
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Answer with one of these labels
    #[arg(long, value_name = "LABEL,...", value_delimiter = ',')]
    pub labels: Option<Vec<String>>,
    /// How many labels to list
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub top: usize,
    /// One JSON object a file
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Source of the pictures; they are read before the clock starts
    #[arg(long, value_name = "URI", default_value = "synthetic:1?size=640x480&fps=30")]
    pub source: String,
    /// Pictures to measure
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub frames: u32,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Parses `WxH`.
fn size(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    parts
        .filter(|(w, h)| (1..=8192).contains(w) && (1..=8192).contains(h))
        .ok_or_else(|| "wanted: WxH, such as 640x480".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_command() {
        let plain = Arguments::try_parse_from(["kinora", "--source", "a.mp4", "--hop", "2", "-q"]).unwrap();
        assert_eq!(plain.run.source.as_deref(), Some("a.mp4"));
        assert!(plain.command.is_none() && plain.quiet);
        let named = Arguments::try_parse_from(["kinora", "run", "--labels", "wave,clap"]).unwrap();
        let Some(Command::Run(run)) = named.command else { panic!("run expected") };
        assert_eq!(run.labels.unwrap(), ["wave", "clap"]);
    }

    #[test]
    fn switches_can_be_switched_off() {
        let mirror = |flags: &[&str]| {
            let args = Arguments::try_parse_from([&["kinora"], flags].concat()).unwrap();
            (args.run.mirror, args.run.no_realtime)
        };
        assert_eq!(mirror(&[]), (None, None));
        assert_eq!(mirror(&["--mirror", "--no-realtime"]), (Some(true), Some(true)));
        assert_eq!(mirror(&["--mirror=false"]), (Some(false), None));
    }

    #[test]
    fn wrong_values_are_refused() {
        for wrong in [["--hop", "0"], ["--size", "640"], ["--engine", "magic"], ["--rotate", "45"], ["--roi", "1,2"]] {
            assert!(Arguments::try_parse_from(["kinora", wrong[0], wrong[1]]).is_err(), "{wrong:?}");
        }
    }
}
