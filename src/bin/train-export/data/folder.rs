//! A folder of videos per class as a data set. Videos to train and validate with are decoded when they are first wanted,
//! and kept in memory as long as there is room. One that cannot be decoded is left out of training, with a warning. To
//! evaluate, a video's windows are made as `kinora classify` makes them: from its own size and rate.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use fastrand::Rng;
use kinora::capture::Source;
use kinora::model::manifest::{Activation, Input};

use super::augment::{Look, Strength};
use super::clip::{Maker, Makers, pictures};
use super::decode::{self, Video};
use super::split::Listing;
use super::{DataArgs, Dataset, Part, Sample, mirrored, mix, usage};

/// How much faster and slower than the model's rate training clips are sampled.
const RATE_JITTER: (f32, f32) = (0.8, 1.25);
/// Share of the motion of a mean window that every window is given: how likely one without motion is.
const STILL_SHARE: f32 = 0.25;
/// Largest share of a video's length that `spread` leaves out at each end.
const SPREAD_CUT: f32 = 0.12;

/// What a training clip of a video is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sampling {
    /// Consecutive frames at the model's rate, more often where more moves. This is what the edge program sees.
    Window,
    /// Frames spread over all of the video, so that it is seen whole whatever its length. The edge program cannot do this:
    /// for comparisons.
    Spread,
    /// Every --frame-step-th picture from a place drawn by lot, also to validate and to test; black ones where the video has
    /// ended; none augmented. This is what TensorFlow's tutorial does.
    Step,
}

/// An action can be named this long after its start, in seconds and as a share of it, whichever comes first, and this long
/// after its end; from the last on there is nothing.
const KNOWN: (f32, f32) = (0.5, 0.6);
const JUST_DONE_S: f32 = 0.3;
const LONG_DONE_S: f32 = 0.7;

/// Videos of one folder.
pub struct Folder {
    name: String,
    labels: Vec<String>,
    activation: Activation,
    mirrored: Vec<Option<usize>>,
    /// The class of what is before and after an action.
    nothing: Option<usize>,
    parts: [Vec<Clip>; 3],
    makers: Makers,
    sampling: Sampling,
    frame_step: usize,
    short_side: u32,
    cache_mb: usize,
    cached_bytes: AtomicUsize,
    full: AtomicBool,
}

struct Clip {
    path: PathBuf,
    labels: Vec<usize>,
    video: Mutex<Option<Arc<Video>>>,
    broken: AtomicBool,
}

impl Folder {
    /// Opens the folder that `args` name.
    pub fn open(args: &DataArgs, input: &Input) -> anyhow::Result<Self> {
        ensure!(input.frame_rate > 0.0 && input.frames > 0, "the model's frames and frame rate must be above zero");
        let folder = Path::new(&args.data);
        ensure!(folder.is_dir(), "--data {}: no such folder, and neither `synth` nor `wild`", args.data);
        let whole = Listing::read(folder)?;
        let listing = args.first_classes.map_or_else(|| whole.clone(), |count| whole.first(count.into()));
        // A list may name videos of other classes, too; a lot is drawn of those that are wanted.
        let mut parts = if args.videos.is_some() { &listing } else { &whole }.split(folder, args)?;
        parts.values_mut().for_each(|files| files.retain(|file| listing.files.contains_key(file)));
        let files = Part::ALL.map(|part| parts.remove(&part).unwrap_or_default());
        let used: usize = files.iter().map(Vec::len).sum();
        if used < listing.files.len() {
            log::info!(
                "--data {}: {} of {} videos are in no part",
                args.data,
                listing.files.len() - used,
                listing.files.len()
            );
        }
        let mut labels = listing.labels;
        if let Some(name) = &args.nothing {
            let why = "its moments are those of windows of videos with one class each";
            ensure!(args.sample == Sampling::Window && !listing.several, "--nothing {name}: {why}");
            if !labels.contains(name) {
                labels.push(name.clone());
            }
        }
        let clip = |file: String| Clip {
            path: folder.join(&file),
            labels: listing.files.get(&file).cloned().unwrap_or_default(),
            video: Mutex::default(),
            broken: AtomicBool::new(false),
        };
        Ok(Self {
            name: folder.file_name().map_or_else(|| args.data.clone(), |n| n.to_string_lossy().into_owned()),
            parts: files.map(|files| files.into_iter().map(clip).collect()),
            mirrored: mirrored(&labels),
            nothing: args.nothing.as_ref().and_then(|name| labels.iter().position(|label| label == name)),
            labels,
            activation: if listing.several { Activation::Sigmoid } else { Activation::Softmax },
            makers: Makers::new(input),
            sampling: args.sample,
            frame_step: args.frame_step.into(),
            short_side: args.short_side,
            cache_mb: args.cache_mb,
            cached_bytes: AtomicUsize::new(0),
            full: AtomicBool::new(false),
        })
    }

    fn clip(&self, part: Part, index: u64) -> anyhow::Result<&Clip> {
        let clips = &self.parts[part as usize];
        let clip = usize::try_from(index).ok().and_then(|i| clips.get(i));
        clip.with_context(|| format!("--data {}: {} has {} clips, no {index}", self.name, part.name(), clips.len()))
    }

    /// The decoded video of a clip, kept from now on if there is room.
    fn video(&self, clip: &Clip) -> anyhow::Result<Arc<Video>> {
        let mut kept = clip.video.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(video) = &*kept {
            return Ok(video.clone());
        }
        let video = Arc::new(Video::read(&clip.path, self.short_side)?);
        let before = self.cached_bytes.fetch_add(video.bytes(), Ordering::SeqCst);
        if before + video.bytes() <= self.cache_mb * 1_000_000 {
            *kept = Some(video.clone());
        } else {
            self.cached_bytes.fetch_sub(video.bytes(), Ordering::SeqCst);
            if !self.full.swap(true, Ordering::SeqCst) {
                log::warn!(
                    "--cache-mb {}: not all videos fit, the others are decoded each time, which is slow; raise it if there \
                     is memory, or lower --short-side {}",
                    self.cache_mb,
                    self.short_side
                );
            }
        }
        Ok(video)
    }

    /// The `index`-th training clip and its video, or, if that cannot be decoded, the next that can.
    fn readable(&self, index: u64) -> anyhow::Result<(&Clip, Arc<Video>)> {
        let clips = &self.parts[Part::Train as usize];
        for clip in clips.iter().cycle().skip(index as usize).take(clips.len()) {
            if clip.broken.load(Ordering::SeqCst) {
                continue;
            }
            match self.video(clip) {
                Ok(video) => return Ok((clip, video)),
                Err(error) if !clip.broken.swap(true, Ordering::SeqCst) => log::warn!("left out: {error:#}"),
                Err(_) => {}
            }
        }
        bail!("--data {}: not one training video can be decoded", self.name)
    }

    fn training(&self, index: u64, seed: u64, past: usize) -> anyhow::Result<Sample> {
        let (clip, video) = self.readable(index)?;
        let mut rng = Rng::with_seed(mix(&[seed, index, 3]));
        let input = self.makers.input();
        let times = match self.sampling {
            Sampling::Step => return self.steps(clip, &video, &mut rng),
            Sampling::Window => window_times(&mut rng, &video, input, past),
            Sampling::Spread => {
                let (first, last) = (rng.f32() * SPREAD_CUT, 1.0 - rng.f32() * SPREAD_CUT);
                spread_times(&video, pictures(input), (first, last))
            }
        };
        let other = self.other_side(clip).filter(|_| rng.bool());
        let look = Look::random(&mut rng, video.size, input, Strength::VIDEO, other.is_some());
        let planes = self.makers.with(|maker| fill(maker, &video, (&times, past), &look, &mut rng))?;
        let sample = Sample::new(planes, other.unwrap_or_else(|| clip.labels.clone()));
        let (Some(nothing), &[label]) = (self.nothing, sample.labels.as_slice()) else { return Ok(sample) };
        let window = &times[times.len() - input.frames..];
        let mut moments: Vec<_> = window.iter().map(|t| named(*t, video.acted(), label, nothing)).collect();
        // What the clip shows is what its last moment says.
        let last = moments[input.frames - 1].unwrap_or(label);
        moments[input.frames - 1] = Some(last);
        Ok(Sample { labels: vec![last], moments, ..sample })
    }

    /// What the clip shows in a mirror; none if one of those is no label.
    fn other_side(&self, clip: &Clip) -> Option<Vec<usize>> {
        let mut labels: Vec<usize> = clip.labels.iter().map(|label| self.mirrored[*label]).collect::<Option<_>>()?;
        labels.sort_unstable();
        Some(labels)
    }

    /// The window in the middle of the video, from memory: fast enough to validate often.
    fn middle(&self, clip: &Clip, past: usize) -> anyhow::Result<Sample> {
        let (video, input) = (self.video(clip)?, self.makers.input());
        let span = (pictures(input) - 1) as f32 / input.frame_rate;
        let start = ((video.len() - 1) as f32 / video.rate - span).max(0.0) / 2.0;
        let times = window(start, past, input, input.frame_rate);
        let look = Look::plain(video.size.0, video.size.1);
        let planes = self.makers.with(|maker| fill(maker, &video, (&times, past), &look, &mut Rng::with_seed(0)))?;
        Ok(Sample::new(planes, clip.labels.clone()))
    }

    /// Every so many-th picture of the video.
    fn steps(&self, clip: &Clip, video: &Video, rng: &mut Rng) -> anyhow::Result<Sample> {
        // In pictures of the file, not all of which are kept.
        let (count, all) = (pictures(self.makers.input()), video.len() * video.stride);
        let start = rng.usize(..=all.saturating_sub(1 + (count - 1) * self.frame_step));
        let planes = self.makers.with(|maker| {
            maker.start(0);
            for picture in (start..).step_by(self.frame_step).take(count) {
                video.put((picture / video.stride) as f32 / video.rate, &mut maker.seen);
                if picture >= all {
                    maker.seen.data_mut().fill(0);
                }
                maker.push_seen()?;
            }
            maker.finish()
        })?;
        Ok(Sample::new(planes, clip.labels.clone()))
    }

    /// The video as one clip, spread over all of it.
    fn spread(&self, clip: &Clip) -> anyhow::Result<Sample> {
        let video = Video::read(&clip.path, self.short_side)?;
        let times = spread_times(&video, pictures(self.makers.input()), (0.0, 1.0));
        let look = Look::plain(video.size.0, video.size.1);
        let planes = self.makers.with(|maker| fill(maker, &video, (&times, 0), &look, &mut Rng::with_seed(0)))?;
        Ok(Sample::new(planes, clip.labels.clone()))
    }
}

impl Dataset for Folder {
    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn nothing(&self) -> Option<&str> {
        self.nothing.map(|index| self.labels[index].as_str())
    }

    fn activation(&self) -> Activation {
        self.activation
    }

    fn len(&self, part: Part) -> Option<usize> {
        Some(self.parts[part as usize].len())
    }

    fn sample(&self, part: Part, index: u64, seed: u64, past: usize) -> anyhow::Result<Sample> {
        if self.sampling != Sampling::Window && past > 0 {
            return Err(
                usage("--sample spread or step: such clips have no past, so they are nothing for a stream").into()
            );
        }
        match (part, self.sampling) {
            (Part::Train, _) => self.training(index, seed, past),
            (_, Sampling::Window) => self.middle(self.clip(part, index)?, past),
            (_, Sampling::Spread) => self.spread(self.clip(part, index)?),
            (_, Sampling::Step) => {
                let clip = self.clip(part, index)?;
                self.steps(clip, &*self.video(clip)?, &mut Rng::with_seed(mix(&[part as u64, index])))
            }
        }
    }

    fn source(&self, part: Part, index: u64) -> anyhow::Result<Option<Box<dyn Source>>> {
        let clip = self.clip(part, index)?;
        (self.sampling == Sampling::Window).then(|| decode::open(&clip.path)).transpose()
    }

    fn check(&self, part: Part, index: u64) -> anyhow::Result<()> {
        self.video(self.clip(part, index)?).map(|_| ())
    }

    fn file(&self, part: Part, index: u64) -> Option<PathBuf> {
        self.clip(part, index).ok().map(|clip| clip.path.clone())
    }

    fn shown(&self, part: Part, index: u64) -> Option<Vec<usize>> {
        self.clip(part, index).ok().map(|clip| clip.labels.clone())
    }

    fn describe(&self) -> String {
        let [train, validation, test] = self.parts.each_ref().map(Vec::len);
        let classes = self.labels.len();
        let classes = match self.activation {
            Activation::Softmax => format!("{classes} classes"),
            Activation::Sigmoid => format!("any of {classes} classes"),
        };
        format!("`{}`, {classes}, videos: {train} train, {validation} validation, {test} test", self.name)
    }
}

/// What is to be said at `t` seconds of a video in which `label` is done from `begin` to `end`, and `nothing` before and after;
/// none where either answer would do.
fn named(t: f32, (begin, end): (f32, f32), label: usize, nothing: usize) -> Option<usize> {
    match t {
        t if t < begin || t >= end + LONG_DONE_S => Some(nothing),
        t if t < begin + KNOWN.0.min(KNOWN.1 * (end - begin)) => None,
        t if t > end + JUST_DONE_S => None,
        _ => Some(label),
    }
}

/// The planes of the pictures at `times`, `past` of them before the window.
fn fill(
    maker: &mut Maker,
    video: &Video,
    (times, past): (&[f32], usize),
    look: &Look,
    rng: &mut Rng,
) -> anyhow::Result<Vec<f32>> {
    maker.start(past);
    for time in times {
        video.put(*time, &mut maker.raw);
        look.apply(rng, &maker.raw, &mut maker.seen);
        maker.push_seen()?;
    }
    maker.finish()
}

/// Times of a training window's pictures, and of `past` before it, at about the model's rate. It lies the more likely
/// somewhere the more moves there, because windows without the action teach nothing; a few of those are wanted, because test
/// videos have them too.
fn window_times(rng: &mut Rng, video: &Video, input: &Input, past: usize) -> Vec<f32> {
    let rate = input.frame_rate * (RATE_JITTER.0 + rng.f32() * (RATE_JITTER.1 - RATE_JITTER.0));
    let span = (pictures(input) - 1) as f32 / rate;
    let start = start(rng, &video.motion, (span * video.rate).round() as usize) as f32 / video.rate;
    let phase = (rng.f32() - 0.5) / video.rate;
    window(start + phase, past, input, rate)
}

/// Times of the pictures, `rate` a second, of a window that begins at `start` and of `past` planes before it. Before its
/// beginning a video shows its first picture.
fn window(start: f32, past: usize, input: &Input, rate: f32) -> Vec<f32> {
    (0..past + pictures(input)).map(|i| start + (i as f32 - past as f32) / rate).collect()
}

/// First picture of a window over `span` pictures more, drawn with weights by the `motion` in the window.
fn start(rng: &mut Rng, motion: &[f32], span: usize) -> usize {
    let starts = motion.len().saturating_sub(span).max(1);
    let mut sorted = motion.to_vec();
    sorted.sort_by(f32::total_cmp);
    // What moves in the stillest fifth is noise.
    let noise = sorted.get(sorted.len() / 5).copied().unwrap_or(0.0);
    let moved = |from: usize| motion[from..].iter().take(span + 1).skip(1).map(|m| (m - noise).max(0.0)).sum::<f32>();
    let mut weights: Vec<f32> = (0..starts).map(moved).collect();
    let floor = STILL_SHARE * weights.iter().sum::<f32>() / starts as f32 + f32::MIN_POSITIVE;
    weights.iter_mut().for_each(|w| *w += floor);
    let mut left = rng.f32() * weights.iter().sum::<f32>();
    let drawn = weights.iter().position(|w| {
        left -= w;
        left < 0.0
    });
    drawn.unwrap_or(starts - 1)
}

/// `count` times spread evenly from a `first` to a `last` share of the video.
fn spread_times(video: &Video, count: usize, (first, last): (f32, f32)) -> Vec<f32> {
    let end = (video.len() - 1) as f32 / video.rate;
    (0..count).map(|i| end * (first + (last - first) * i as f32 / (count - 1).max(1) as f32)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::data::clip::tests::input;
    use crate::data::decode::tests::make_video;
    use crate::data::tests::data_args;
    use kinora::model::manifest::Colour;

    /// Two classes of two videos of 1.5 s, the second half of which moves.
    fn folder(flags: &[&str]) -> (tempfile::TempDir, DataArgs) {
        let dir = tempfile::tempdir().unwrap();
        for file in ["swipe_left/p_s1.mp4", "swipe_left/p_s2.mp4", "swipe_right/p_s1.mp4", "swipe_right/p_s2.mp4"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            make_video(&path, "64x48", 1.5, 0.8);
        }
        let path = dir.path().to_str().unwrap().to_string();
        let args = ["--data", &path].into_iter().chain(flags.iter().copied());
        let args = data_args(args);
        (dir, args)
    }

    #[test]
    fn a_folder_gives_clips_of_every_part() {
        let (_dir, args) = folder(&["--test-pattern", "s2"]);
        let data = Folder::open(&args, &input(Colour::Motion)).unwrap();
        assert_eq!(Part::ALL.map(|p| data.len(p)), [Some(2), Some(0), Some(2)]);
        assert_eq!(data.labels(), ["swipe_left", "swipe_right"]);
        let one = data.sample(Part::Train, 0, 7, 0).unwrap();
        assert!(one == data.sample(Part::Train, 0, 7, 0).unwrap());
        assert!(one != data.sample(Part::Train, 0, 8, 0).unwrap());
        let source = data.source(Part::Test, 1).unwrap().unwrap();
        assert!(source.info().name.ends_with("swipe_right/p_s2.mp4"), "{}", source.info().name);
        let error = data.sample(Part::Validation, 0, 0, 0).unwrap_err().to_string();
        assert!(error.contains("validation has 0 clips"), "{error}");
    }

    #[test]
    fn nothing_is_before_and_after_what_is_done() {
        let at = |acted: (f32, f32)| [-1.0, 0.4, 1.0, 1.4, 2.2, 2.6, 2.8, 9.0].map(|t| named(t, acted, 1, 0));
        assert_eq!(at((0.5, 2.0)), [Some(0), Some(0), Some(1), Some(1), Some(1), None, Some(0), Some(0)]);
        assert_eq!(at((0.9, 9.0))[1..5], [Some(0), None, Some(1), Some(1)]);
        assert_eq!(at((f32::NEG_INFINITY, f32::INFINITY)), [Some(1); 8]);

        let (_dir, args) = folder(&["--nothing", "rest"]);
        let data = Folder::open(&args, &input(Colour::Motion)).unwrap();
        assert_eq!(data.labels(), ["swipe_left", "swipe_right", "rest"]);
        let all: Vec<Sample> = (0..40).map(|seed| data.sample(Part::Train, 0, seed, 0).unwrap()).collect();
        assert!(all.iter().all(|sample| sample.moments.len() == 4 && sample.moments[3] == Some(sample.labels[0])));
        let ends = |label| all.iter().filter(|sample| sample.labels == [label]).count();
        assert!([0, 1, 2].map(ends).iter().all(|n| *n > 0), "{:?}", [0, 1, 2].map(ends));
        let (_dir, args) = folder(&["--nothing", "swipe_left"]);
        assert_eq!(Folder::open(&args, &input(Colour::Motion)).unwrap().labels().len(), 2);
        let (_dir, args) = folder(&["--nothing", "rest", "--sample", "spread"]);
        let error = Folder::open(&args, &input(Colour::Motion)).err().unwrap();
        assert!(error.to_string().contains("--nothing rest"), "{error}");
    }

    #[test]
    fn validation_is_the_middle_and_always_the_same() {
        let (_dir, args) = folder(&["--validation-pattern", "s2"]);
        let data = Folder::open(&args, &input(Colour::Motion)).unwrap();
        let one = data.sample(Part::Validation, 1, 1, 0).unwrap();
        assert!(one == data.sample(Part::Validation, 1, 2, 0).unwrap());
        // From 0.53 to 0.93 s; at 0.8 s the gray gives way to what moves.
        let moved = |t: usize| one.planes[t * 576..(t + 1) * 576].iter().map(|v| v.abs()).sum::<f32>() / 576.0;
        assert_eq!(one.labels, [1]);
        assert!(moved(0) < 0.002 && moved(2) > 0.05 && moved(3) > 0.002, "{:?}", [0, 1, 2, 3].map(moved));
    }

    #[test]
    fn mirrored_clips_have_the_other_sides_label() {
        let (_dir, args) = folder(&[]);
        let data = Folder::open(&args, &input(Colour::Gray)).unwrap();
        let labels = (0..30).flat_map(|seed| data.sample(Part::Train, 0, seed, 0).unwrap().labels).collect::<Vec<_>>();
        assert!(labels.contains(&0) && labels.contains(&1));
    }

    /// Every fifth picture, from a place that leaves room for all, and black ones where there is no room.
    #[test]
    fn steps_are_pictures_apart_and_end_in_black() {
        let (_dir, args) = folder(&["--sample", "step", "--frame-step", "5", "--videos", "1,0,1"]);
        let data = Folder::open(&args, &input(Colour::Gray)).unwrap();
        assert_eq!(Part::ALL.map(|p| data.len(p)), [Some(2), Some(0), Some(2)]);
        let video = data.video(data.clip(Part::Train, 0).unwrap()).unwrap();
        let of = |seed| data.sample(Part::Train, 0, seed, 0).unwrap().planes;
        assert!(of(1) == of(1) && (0..40).any(|seed| of(seed) != of(1)));
        assert!(data.sample(Part::Test, 0, 1, 0).unwrap() == data.sample(Part::Test, 0, 2, 0).unwrap());
        let plane = |picture: usize| {
            let one = |maker: &mut Maker| {
                maker.start(0);
                for _ in 0..4 {
                    video.put(picture as f32 / video.rate, &mut maker.seen);
                    maker.push_seen()?;
                }
                maker.finish()
            };
            data.makers.with(one).unwrap()[..576].to_vec()
        };
        let starts: Vec<usize> =
            (0..40).filter_map(|seed| (0..=video.len() - 16).find(|start| of(seed)[..576] == plane(*start))).collect();
        assert!(starts.len() == 40, "{} of {} pictures", starts.len(), video.len());
        let long = folder(&["--sample", "step", "--frame-step", "9"]);
        let data = Folder::open(&long.1, &input(Colour::Gray)).unwrap();
        let planes = data.sample(Part::Train, 0, 3, 0).unwrap().planes;
        let light = |t: usize| planes[t * 576..(t + 1) * 576].iter().any(|v| *v != 0.0);
        assert_eq!([0, 1, 2, 3].map(light), [0, 1, 2, 3].map(|t| t * 9 < video.len()));
        assert!(!light(3));
        assert!(data.sample(Part::Train, 0, 3, 1).unwrap_err().to_string().contains("no past"));
    }

    /// A list may name classes that are left out.
    #[test]
    fn the_first_classes_are_kept_of_any_split() {
        let (dir, _) = folder(&[]);
        let split = "swipe_left/p_s1.mp4 train\nswipe_right/p_s1.mp4 train\nswipe_left/p_s2.mp4 test\n";
        std::fs::write(dir.path().join("split.txt"), split).unwrap();
        let args = data_args(["--data", dir.path().to_str().unwrap(), "--first-classes", "1"]);
        let data = Folder::open(&args, &input(Colour::Gray)).unwrap();
        assert_eq!(Part::ALL.map(|p| data.len(p)), [Some(1), Some(0), Some(1)]);
        assert_eq!(data.labels(), ["swipe_left"]);
    }

    #[test]
    fn the_past_of_a_window_is_the_video_before_it() {
        let (_dir, args) = folder(&["--validation-pattern", "s2"]);
        let data = Folder::open(&args, &input(Colour::Gray)).unwrap();
        let (past, area) = (8, 576);
        let window = data.sample(Part::Validation, 1, 1, 0).unwrap().planes;
        let longer = data.sample(Part::Validation, 1, 1, past).unwrap().planes;
        assert!(longer.len() == (past + 4) * area && longer[past * area..] == window);
        // The window begins after 0.55 s: so long there is a video before it, and its first picture before that.
        assert!(longer[..area] == longer[area..2 * area]);
        assert_eq!(data.sample(Part::Train, 0, 1, past).unwrap().planes.len(), longer.len());
    }

    #[test]
    fn spread_sees_a_video_whole_and_has_no_past() {
        let (_dir, args) = folder(&["--sample", "spread", "--test-pattern", "s2"]);
        let data = Folder::open(&args, &input(Colour::Gray)).unwrap();
        assert!(data.source(Part::Test, 0).unwrap().is_none());
        let spread = data.sample(Part::Test, 0, 0, 0).unwrap().planes;
        assert!(spread[..576] != spread[3 * 576..]);
        let error = data.sample(Part::Test, 0, 0, 1).unwrap_err().to_string();
        assert!(error.contains("--sample spread"), "{error}");
    }

    #[test]
    fn what_does_not_fit_into_memory_is_decoded_again() {
        let (_dir, args) = folder(&["--cache-mb", "0"]);
        let data = Folder::open(&args, &input(Colour::Gray)).unwrap();
        assert!(data.sample(Part::Train, 0, 1, 0).unwrap() == data.sample(Part::Train, 0, 1, 0).unwrap());
        assert_eq!(data.cached_bytes.load(Ordering::SeqCst), 0);
        assert!(data.parts[0].iter().all(|clip| clip.video.lock().unwrap().is_none()));
    }

    #[test]
    fn broken_videos_are_left_out_of_training() {
        let (dir, args) = folder(&[]);
        for file in ["swipe_left/p_s1.mp4", "swipe_left/p_s2.mp4", "swipe_right/p_s1.mp4"] {
            std::fs::write(dir.path().join(file), "no video").unwrap();
        }
        let data = Folder::open(&args, &input(Colour::Gray)).unwrap();
        for index in 0..4 {
            assert_eq!(data.readable(index).unwrap().0.path.file_name().unwrap(), "p_s2.mp4");
        }
        std::fs::write(dir.path().join("swipe_right/p_s2.mp4"), "no video either").unwrap();
        let data = Folder::open(&args, &input(Colour::Gray)).unwrap();
        let error = data.sample(Part::Train, 0, 1, 0).unwrap_err().to_string();
        assert!(error.contains("not one training video"), "{error}");
    }

    #[test]
    fn windows_are_drawn_where_something_moves() {
        let mut motion = vec![0.5; 60];
        motion[30..40].fill(8.0);
        let mut rng = Rng::with_seed(2);
        let starts: Vec<usize> = (0..400).map(|_| start(&mut rng, &motion, 20)).collect();
        assert!(starts.iter().all(|s| *s < 40));
        let moving = starts.iter().filter(|s| (11..39).contains(*s)).count();
        assert!((300..400).contains(&moving), "{moving}");
        assert_eq!(start(&mut rng, &motion, 99), 0);
        assert!((0..50).map(|_| start(&mut rng, &[0.0; 60], 20)).any(|s| s > 20));
    }
}
