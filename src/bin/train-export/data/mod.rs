//! Training data: labelled clips, prepared as the edge program prepares its pictures, from the mannequin or from a
//! folder of videos per class. A [`Loader`] makes batches of them on threads of its own.

mod augment;
mod clip;
mod decode;
mod folder;
mod loader;
mod split;
mod synth;
mod write;

use std::path::PathBuf;

use kinora::capture::Source;
use kinora::model::manifest::{Activation, Input};
use kinora::synth::World;

use crate::options::numbers;

pub use folder::Sampling;
pub use loader::{Batch, Batches, Loader};
pub use write::{SynthArgs, synth_command};

/// One labelled clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The planes, `[C, past + T, H, W]`.
    pub planes: Vec<f32>,
    /// What it shows: indices into [`Dataset::labels`], ascending.
    pub labels: Vec<usize>,
    /// What a stream is to have said at each of the window's T frames, none where either answer would do; empty where nobody
    /// knows more than what the clip shows.
    pub moments: Vec<Option<usize>>,
}

impl Sample {
    /// A clip that shows `labels`, whenever it does.
    pub fn new(planes: Vec<f32>, labels: Vec<usize>) -> Self {
        Self { planes, labels, moments: Vec::new() }
    }
}

/// What a clip is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// To learn from.
    Train,
    /// To choose by.
    Validation,
    /// To report on.
    Test,
}

impl Part {
    /// All parts.
    pub const ALL: [Part; 3] = [Part::Train, Part::Validation, Part::Test];

    /// Its name in split files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// A set of labelled clips. Shared by the loader's threads.
pub trait Dataset: Send + Sync {
    /// The class names.
    fn labels(&self) -> &[String];

    /// What a model makes of them: probabilities that add up to one where each clip shows one class, a probability each where
    /// it shows any number.
    fn activation(&self) -> Activation {
        Activation::Softmax
    }

    /// The class that is no action, where the data says so.
    fn nothing(&self) -> Option<&str> {
        None
    }

    /// Clips in `part`; `None` when it never ends.
    fn len(&self, part: Part) -> Option<usize>;

    /// The `index`-th clip of `part`, one window of it and `past` frames before that. Of [`Part::Train`] a random, augmented
    /// one that `seed` decides; of the others always the same one. The labels are the window's.
    fn sample(&self, part: Part, index: u64, seed: u64, past: usize) -> anyhow::Result<Sample>;

    /// The video that the `index`-th clip of `part` is, to be classified whole as the edge program classifies a file; `None`
    /// where the clip is no more than [`Dataset::sample`] gives.
    fn source(&self, _part: Part, _index: u64) -> anyhow::Result<Option<Box<dyn Source>>> {
        Ok(None)
    }

    /// Whether the `index`-th clip of `part` can be read at all: why not, if not.
    fn check(&self, _part: Part, _index: u64) -> anyhow::Result<()> {
        Ok(())
    }

    /// The file of the `index`-th clip of `part`, if it has one.
    fn file(&self, _part: Part, _index: u64) -> Option<PathBuf> {
        None
    }

    /// What the `index`-th clip of [`Part::Validation`] or [`Part::Test`] (and of a finite [`Part::Train`]) shows, without
    /// making the clip.
    fn shown(&self, part: Part, index: u64) -> Option<Vec<usize>>;

    /// One line for the log and for a bundle's manifest.
    fn describe(&self) -> String;
}

/// Where clips come from.
#[derive(Debug, Clone, clap::Args)]
pub struct DataArgs {
    /// `synth` for the mannequin in its studio, `wild` for the mannequin as cameras in homes and offices see people, or a folder
    /// with a folder of videos per class, or one of videos with a `labels.csv`: lines `FILE,LABEL,..`, any number of labels each
    #[arg(long, value_name = "synth|wild|DIR", default_value = "synth")]
    pub data: String,
    /// Lines `CLASS/FILE train|validation|test`; `split.txt` in the folder is found by itself
    #[arg(long, value_name = "FILE", conflicts_with_all = ["train_list", "test_list", "test_pattern", "validation_pattern"])]
    pub split: Option<PathBuf>,
    /// Training files, UCF101 style: lines `CLASS/FILE [NUMBER]`
    #[arg(long, value_name = "FILE", requires = "test_list", conflicts_with = "test_pattern")]
    pub train_list: Option<PathBuf>,
    /// Test files, UCF101 style
    #[arg(long, value_name = "FILE", requires = "train_list")]
    pub test_list: Option<PathBuf>,
    /// Test files by name: those with one of these between underscores, dashes, dots or blanks, such as `s2,s4,s6,s8`
    #[arg(long, value_name = "A,B,..", value_delimiter = ',')]
    pub test_pattern: Vec<String>,
    /// Validation files by name, as --test-pattern
    #[arg(long, value_name = "A,B,..", value_delimiter = ',')]
    pub validation_pattern: Vec<String>,
    /// Share of each class's training files that is held out for validation
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub validation: f32,
    /// Class of those moments at both ends of a video in which it looks as it does at first, because nothing is done yet or any
    /// more; added where no folder is called so
    #[arg(long, value_name = "LABEL", conflicts_with = "first_classes")]
    pub nothing: Option<String>,
    /// Only the first so many classes by name
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub first_classes: Option<u16>,
    /// So many videos of each class to train, to validate and to test with, drawn by lot; others are left out
    #[arg(long, value_name = "TRAIN,VALIDATION,TEST", value_parser = numbers::<u32, 3>,
        conflicts_with_all = ["split", "train_list", "test_pattern", "validation_pattern", "validation"])]
    pub videos: Option<[u32; 3]>,
    /// Which lot --videos draws: another number, other videos
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub lot: u64,
    /// What a training clip of a video is: `window` consecutive frames at the model's rate, frames that `spread` over
    /// all of it, or each `step`-th one
    #[arg(long, value_enum, default_value_t = Sampling::Window)]
    pub sample: Sampling,
    /// With --sample step: pictures of a video from one frame to the next
    #[arg(long, value_name = "PICTURES", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    pub frame_step: u16,
    /// Keep decoded pictures to train and validate with in so much memory; what does not fit is decoded each time
    #[arg(long, value_name = "MB", default_value_t = 2000)]
    pub cache_mb: usize,
    /// Those pictures are kept at this height or width, whichever is smaller
    #[arg(long, value_name = "PIXELS", default_value_t = 160)]
    pub short_side: u32,
}

impl DataArgs {
    /// Where the mannequin is seen, if it is the mannequin whose clips are asked for.
    pub fn world(&self) -> Option<World> {
        match self.data.as_str() {
            "synth" => Some(World::Studio),
            "wild" => Some(World::Wild),
            _ => None,
        }
    }
}

/// Opens the data that `args` name, to be prepared as `input` asks. `seed` decides what is drawn by lot.
pub fn open(args: &DataArgs, input: &Input, seed: u64) -> anyhow::Result<Box<dyn Dataset>> {
    let opened: anyhow::Result<Box<dyn Dataset>> = match args.world() {
        Some(_) if args.nothing.is_some() => {
            Err(anyhow::anyhow!("--nothing: --data {} has a class for that; it is for folders of videos", args.data))
        }
        Some(world) => synth::Synth::new(input, world, seed).map(|data| Box::new(data) as _),
        None => folder::Folder::open(args, input).map(|data| Box::new(data) as _),
    };
    // What is wrong here is a flag or what it names.
    opened.map_err(|error| usage(format_args!("{error:#}")).into())
}

/// Refuses data that show any number of classes for a model that says one.
pub fn fits(data: &dyn Dataset, model: Activation) -> anyhow::Result<()> {
    if (data.activation(), model) == (Activation::Sigmoid, Activation::Softmax) {
        let why = "clips show any number of classes (labels.csv), the model says one: train one on such data";
        return Err(usage(format_args!("--data: {}: {why}", data.describe())).into());
    }
    Ok(())
}

/// An error that a flag or what it names is to blame for.
pub(crate) fn usage(message: impl std::fmt::Display) -> kinora::Error {
    kinora::Error::new(kinora::ErrorKind::Usage, message)
}

/// A seed from several numbers: as good as independent for any change of any of them. A part may itself be mixed from
/// the parts before it, so what was mixed is multiplied first: combined with itself as it is, it would cancel out.
pub(crate) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |hash, part| {
        let mut z = hash.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(*part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// For each label the one that a mirrored picture shows: itself, unless it names a side. `None` where the other side is
/// not a label, so that such a clip must not be mirrored.
pub(crate) fn mirrored(labels: &[String]) -> Vec<Option<usize>> {
    let find = |name: String| labels.iter().position(|l| *l == name);
    let other = |(index, label): (usize, &String)| match other_side(label) {
        Some(other) => find(other),
        // `swipeLeft` is a side if there is `swipeRight`, `copyright` is none.
        None => find(exchanged(label)).or(Some(index)),
    };
    labels.iter().enumerate().map(other).collect()
}

/// Pairs of labels, that of the left side first, which a mirrored picture exchanges.
pub(crate) fn sided(labels: &[String]) -> Vec<[String; 2]> {
    // They differ in the words for the sides alone, of which that for the left comes first in the alphabet.
    let pair = |(left, right): (&String, Option<usize>)| {
        right.map(|right| &labels[right]).filter(|right| left < *right).map(|right| [left.clone(), right.clone()])
    };
    labels.iter().zip(mirrored(labels)).filter_map(pair).collect()
}

/// Words for the sides.
const SIDES: [[&str; 2]; 3] = [["left", "right"], ["Left", "Right"], ["LEFT", "RIGHT"]];

/// The label with the words for the sides exchanged; `None` if it has none.
fn other_side(label: &str) -> Option<String> {
    let is_side = |word: &str| SIDES.iter().flatten().any(|side| word == *side);
    let other = |word: &str| if is_side(word) { exchanged(word) } else { word.to_owned() };
    let other: String = label
        .split_inclusive(is_gap)
        .map(|word| {
            let end = word.trim_end_matches(is_gap).len();
            other(&word[..end]) + &word[end..]
        })
        .collect();
    (other != label).then_some(other)
}

/// `text` with left for right and right for left, wherever that stands.
fn exchanged(text: &str) -> String {
    SIDES
        .iter()
        .fold(text.to_owned(), |text, [left, right]| text.replace(left, "\0").replace(right, left).replace('\0', right))
}

fn is_gap(c: char) -> bool {
    !c.is_alphanumeric()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The data that a command line, without its program, asks for.
    pub(crate) fn data_args<'a>(line: impl IntoIterator<Item = &'a str>) -> DataArgs {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            data: DataArgs,
        }
        <Line as clap::Parser>::try_parse_from(std::iter::once("train-export").chain(line)).unwrap().data
    }

    #[test]
    fn sides_change_places_in_the_mirror() {
        let labels = ["swipe_right", "clap", "swipe_left", "turn_left"].map(String::from);
        assert_eq!(mirrored(&labels), [Some(2), Some(1), Some(0), None]);
        let labels = ["Swiping Right", "left-hook", "Swiping Left", "copyright", "right-hook"].map(String::from);
        assert_eq!(mirrored(&labels), [Some(2), Some(4), Some(0), Some(3), Some(1)]);
        let pairs = [["left-hook", "right-hook"], ["Swiping Left", "Swiping Right"]];
        assert_eq!(sided(&labels), pairs.map(|pair| pair.map(String::from)));
        // Both sides in one label, no gap, and what only looks like a side.
        let labels = ["right_to_left", "swipeRight", "2left", "left_to_right", "swipeLeft", "bright"].map(String::from);
        assert_eq!(mirrored(&labels), [Some(3), Some(4), Some(2), Some(0), Some(1), Some(5)]);
        let pairs = [["left_to_right", "right_to_left"], ["swipeLeft", "swipeRight"]];
        assert_eq!(sided(&labels), pairs.map(|pair| pair.map(String::from)));
    }

    #[test]
    fn seeds_differ_in_every_part() {
        let all = [mix(&[1, 2]), mix(&[2, 1]), mix(&[1, 3]), mix(&[1]), mix(&[1, 2, 0])];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
    }
}
