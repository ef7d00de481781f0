//! What can be said on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use kinora::capture::{self, Control, Roi, Rotation};
use kinora::engine::{Choice, Kernels, Options, Precision};
use kinora::model::manifest::Mode;

/// Real-time human-action recognition: camera in, current action out.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER, override_usage = "kinora [run] [OPTIONS]\n       kinora <COMMAND> [OPTIONS]")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// More messages; twice for all
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Errors only, and no event lines unless asked for
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

const AFTER: &str = "\
Sources:  v4l:/dev/video0?size=1280x720&fps=30&format=MJPG (or v4l:?name=C920, v4l: for the first camera),
          gst:PIPELINE, nokhwa:0, file:CLIP.mp4 (or just the path), rtsp://HOST/PATH, images:DIR?fps=10,
          synthetic:SEED?size=640x480&fps=30 (and motion=NAME, world=wild)
Displays: window, kms:/dev/dri/card0?connector=HDMI-A-1&mode=1280x720@60 (a screen without a desktop, each part may be
          left out), video:OUT.mp4, png:DIR, none
Keys in the window and on the console: Esc or q quits; in the window f toggles full screen.

Settings come from flags, then KINORA_... environment variables (KINORA_SOURCE, KINORA_FRAME_RATE, ...), then --config.
Exit codes: 0 done, 1 internal, 2 usage or configuration, 3 model, 4 source, 5 display, 6 output, 7 engine.";

const RECORD: &str = "\
Before each clip there are three seconds to get ready; then the picture has a red frame. The clip is shown again until
you say what becomes of it: Enter, Space or k keeps it, Backspace, Delete or d drops it and records it anew, Esc or q
ends.

Clips are OUT/LABEL/clip-0001.mp4 and so on, each new one after those that are there; with --name anna they are
clip-0001-anna.mp4, and `train-export tune --test-pattern anna` keeps them for the test. What is saved is the picture as it
is shown, after --rotate, --mirror and --roi, without what is written on it. Record some of `nothing`, too.

Actions with a side are named by the picture: swipe_left goes to the left edge of what is shown. So record with the same
--mirror that you will run with. train-export mirrors half of its training clips, and labels that differ in `left` and
`right` only then change places; a clip whose other side is no label is not mirrored.";

impl Arguments {
    /// Reads a command line. Without the name of a command it is that of `run`.
    pub fn read(line: impl IntoIterator<Item = OsString>) -> clap::error::Result<Self> {
        let mut line: Vec<OsString> = line.into_iter().collect();
        let for_all = |word: &OsString| ["-v", "-vv", "-q", "--verbose", "--quiet"].iter().any(|flag| word == flag);
        let at = 1 + line.iter().skip(1).take_while(|word| for_all(word)).count();
        let definition = Self::command();
        let commands = definition.get_subcommands().map(clap::Command::get_name);
        let mut known = commands.chain(["help", "-h", "--help", "-V", "--version"]);
        if at >= line.len() || !known.any(|name| line[at] == *name) {
            line.insert(at.min(line.len()), "run".into());
        }
        Self::try_parse_from(line)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Recognize actions in a source and show them: what is done if no command is named
    #[command(after_help = AFTER)]
    Run(Box<RunArgs>),
    /// List cameras with their formats and settings, displays and engines
    Devices,
    /// Tell in words what a model bundle is, or what is wrong with it
    Inspect(InspectArgs),
    /// Say for each video which action it shows: its windows averaged to one answer
    Classify(ClassifyArgs),
    /// Measure time per decision, time per stage, memory and start time on this machine
    Bench(BenchArgs),
    /// Record short clips of your own action, to train on
    #[command(after_help = RECORD)]
    Record(Box<RecordArgs>),
}

/// A choice that may be left to the program.
#[derive(Debug, Clone, Copy)]
pub struct Auto<T>(pub Option<T>);

impl<T: ValueEnum> FromStr for Auto<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(None));
        }
        T::from_str(text, false).map(|value| Self(Some(value))).map_err(|_| {
            let names = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let names: Vec<_> = names.map(|value| value.get_name().to_owned()).collect();
            format!("auto, {} are known", names.join(", "))
        })
    }
}

impl ModelArgs {
    /// How the engine is to run the model.
    pub fn engine(&self) -> Options {
        Options {
            engine: self.engine.unwrap_or_default(),
            precision: self.precision.and_then(|choice| choice.0),
            mode: self.mode.and_then(|choice| choice.0),
            kernels: self.kernels,
            threads: self.threads.map_or(1, usize::from),
        }
    }

    /// The flags among these that say how the engine is to run the model, as they would be typed; empty without any.
    pub fn engine_flags(&self) -> String {
        fn name(value: impl ValueEnum) -> String {
            value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
        }
        let flags = [
            ("engine", self.engine.map(name)),
            ("precision", self.precision.and_then(|choice| choice.0).map(name)),
            ("mode", self.mode.and_then(|choice| choice.0).map(name)),
            ("kernels", self.kernels.map(name)),
            ("threads", self.threads.map(|threads| threads.to_string())),
        ];
        let given = flags.into_iter().filter_map(|(flag, value)| value.map(|value| format!("--{flag} {value}")));
        given.collect::<Vec<_>>().join(" ")
    }
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
    /// What to compute with: int8, f32, or int8 if the model has it [default: auto]
    #[arg(long, value_name = "auto|int8|f32", env = "KINORA_PRECISION")]
    pub precision: Option<Auto<Precision>>,
    /// The last frames anew at each decision (window), or each frame once (stream, causal models only) [default: as the
    /// model was measured]
    #[arg(long, value_name = "auto|stream|window", env = "KINORA_MODE")]
    pub mode: Option<Auto<Mode>>,
    /// Kernels of the engine native [default: the best for this processor]
    #[arg(long, value_name = "NAME", value_enum, env = "KINORA_KERNELS")]
    pub kernels: Option<Kernels>,
    /// Threads of the engine [default: 1]
    #[arg(long, value_name = "N", env = "KINORA_THREADS", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: Option<u8>,
    /// Sampled frames from one decision to the next [default: the model's]
    #[arg(long, value_name = "N", env = "KINORA_HOP", value_parser = clap::value_parser!(u16).range(1..))]
    pub hop: Option<u16>,
}

/// Where pictures come from and go to, and what is done to them.
#[derive(Debug, Clone, Default, Args)]
pub struct PictureArgs {
    /// Where pictures come from [default: the first camera, else synthetic:1, the built-in mannequin]
    #[arg(long, value_name = "URI", env = "KINORA_SOURCE")]
    pub source: Option<String>,
    /// Where pictures go [default: window on a desktop, else kms on a free screen, else none]
    #[arg(long, value_name = "URI", env = "KINORA_DISPLAY")]
    pub display: Option<String>,
    /// Take every frame, as fast as it goes: the same file gives the same result
    #[arg(long, env = "KINORA_NO_REALTIME", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_realtime: Option<bool>,
    /// Exchange left and right, as in a mirror
    #[arg(long, env = "KINORA_MIRROR", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new())]
    pub mirror: Option<bool>,
    /// Turn the picture clockwise: 0, 90, 180 or 270
    #[arg(long, value_name = "DEG", env = "KINORA_ROTATE")]
    pub rotate: Option<Rotation>,
    /// Use a part of the picture only, in pixels after --rotate and --mirror
    #[arg(long, value_name = "X,Y,W,H", env = "KINORA_ROI")]
    pub roi: Option<Roi>,
    /// Bring the source's pictures to this size first; a camera is asked for it, and the nearest it has is taken
    #[arg(long, value_name = "WxH", env = "KINORA_SIZE", value_parser = capture::parse_size)]
    pub size: Option<(u32, u32)>,
    /// Pictures a second of the source [default: its own]
    #[arg(long, value_name = "HZ", env = "KINORA_FRAME_RATE")]
    pub frame_rate: Option<f32>,
    /// Settings of the camera, such as exposure=auto,power_line=50 (`kinora devices` lists them)
    #[arg(long, value_name = "NAME=VALUE,...", value_delimiter = ',', env = "KINORA_CONTROL")]
    pub control: Option<Vec<Control>>,
    /// Settings file (TOML); flags and environment go before it
    #[arg(long, value_name = "FILE", env = "KINORA_CONFIG")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub pictures: PictureArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// File for events as JSON lines, replaced if it is there; - for the terminal [default: - unless the display is a window or a screen]
    #[arg(long, value_name = "FILE", env = "KINORA_EVENTS")]
    pub events: Option<String>,
    /// Stop after so many frames
    #[arg(long, value_name = "N", env = "KINORA_FRAMES")]
    pub frames: Option<u64>,
    /// Stop after so many seconds of source time
    #[arg(long, value_name = "SECONDS", env = "KINORA_DURATION")]
    pub duration: Option<f64>,
    /// When the model bundle changes on disk, swap it in without a pause; one that cannot run is not taken
    #[arg(long, env = "KINORA_WATCH", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new())]
    pub watch: Option<bool>,
    /// Report these actions only
    #[arg(long, value_name = "LABEL,...", value_delimiter = ',', env = "KINORA_LABELS")]
    pub labels: Option<Vec<String>>,
    /// Score at which an action starts, 0 to 1, in place of the thresholds of all labels [default: the model's]
    #[arg(long, value_name = "P", env = "KINORA_THRESHOLD")]
    pub threshold: Option<f32>,
    /// Time constant over which scores are smoothed, in seconds [default: the model's]
    #[arg(long, value_name = "SECONDS", env = "KINORA_SMOOTHING")]
    pub smoothing: Option<f32>,
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
    /// Time each layer of the model, too (engine native)
    #[arg(long)]
    pub layers: bool,
    /// Pictures to measure
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub frames: u32,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Name of the action, `nothing` for none: the folder that its clips go to
    #[arg(long, value_name = "NAME")]
    pub label: String,
    /// Who is seen, or where: a part of the clips' names, by which they can be kept for a test
    #[arg(long, value_name = "WHO")]
    pub name: Option<String>,
    /// Clips to record
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=9999))]
    pub count: u32,
    /// Length of a clip, 60 at most [default: what the model sees at a time and a quarter more, for the shipped one 2.1]
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// Folder for a folder of clips per action
    #[arg(long, value_name = "DIR", default_value = "recordings")]
    pub out: PathBuf,
    /// Keep every clip without asking
    #[arg(long)]
    pub yes: bool,
    /// Model that the clips are for, a folder [default: models/mannequin]
    #[arg(long, value_name = "DIR", env = "KINORA_MODEL")]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub pictures: PictureArgs,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(line: &[&str]) -> clap::error::Result<Arguments> {
        Arguments::read(line.iter().map(OsString::from))
    }

    fn run(line: &[&str]) -> RunArgs {
        match read(line).unwrap().command {
            Command::Run(run) => *run,
            other => panic!("run expected, not {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_command() {
        let source = |line: &[&str]| run(line).pictures.source;
        assert_eq!(source(&["kinora", "--source", "a.mp4", "--hop", "2", "-q"]).as_deref(), Some("a.mp4"));
        assert_eq!(run(&["kinora", "run", "--labels", "wave,clap"]).labels.unwrap(), ["wave", "clap"]);
        assert!(source(&["kinora"]).is_none() && source(&["kinora", "-v"]).is_none());
        assert!(read(&["kinora", "-q", "--frames", "3"]).unwrap().quiet);
    }

    #[test]
    fn flags_for_all_commands_go_before_and_after_their_names() {
        for line in [["kinora", "-v", "inspect", "dir"], ["kinora", "inspect", "dir", "-v"]] {
            let arguments = read(&line).unwrap();
            assert!(matches!(arguments.command, Command::Inspect(_)) && arguments.verbose == 1, "{line:?}");
        }
        assert!(read(&["kinora", "--source", "a.mp4", "inspect", "dir"]).is_err());
    }

    #[test]
    fn switches_can_be_switched_off() {
        let switches = |line: &[&str]| (run(line).pictures.mirror, run(line).pictures.no_realtime);
        assert_eq!(switches(&["kinora"]), (None, None));
        assert_eq!(switches(&["kinora", "--mirror", "--no-realtime"]), (Some(true), Some(true)));
        assert_eq!(switches(&["kinora", "--mirror=false"]), (Some(false), None));
        let watch = |line: &[&str]| run(line).watch;
        assert_eq!((watch(&["kinora", "--watch"]), watch(&["kinora", "--watch=false"])), (Some(true), Some(false)));
    }

    #[test]
    fn wrong_values_are_refused() {
        for wrong in [["--hop", "0"], ["--size", "640"], ["--engine", "magic"], ["--rotate", "45"], ["--roi", "1,2"]] {
            assert!(read(&["kinora", wrong[0], wrong[1]]).is_err(), "{wrong:?}");
        }
    }
}
