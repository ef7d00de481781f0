//! A folder of videos per class as a data set. Videos to train and validate with are decoded when they are first wanted,
//! and kept in memory as long as there is room. One that cannot be decoded is left out of training, with a warning. To
//! evaluate, a video's windows are made as `kinora classify` makes them: from its own size and rate.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use fastrand::Rng;
use kinora::model::manifest::Input;
use kinora::pipeline::Windows;

use super::augment::{Look, Strength};
use super::clip::{Maker, Makers, pictures};
use super::decode::{self, Video};
use super::split::Listing;
use super::{DataArgs, Dataset, Part, Sample, Visit, mirrored, mix};

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
}

/// Videos of one folder.
pub struct Folder {
    name: String,
    labels: Vec<String>,
    mirrored: Vec<Option<usize>>,
    parts: [Vec<Clip>; 3],
    makers: Makers,
    sampling: Sampling,
    short_side: u32,
    cache_mb: usize,
    cached_bytes: AtomicUsize,
    full: AtomicBool,
}

struct Clip {
    path: PathBuf,
    label: usize,
    video: Mutex<Option<Arc<Video>>>,
    broken: AtomicBool,
}

impl Folder {
    /// Opens the folder that `args` name.
    pub fn open(args: &DataArgs, input: &Input) -> anyhow::Result<Self> {
        ensure!(input.frame_rate > 0.0 && input.frames > 0, "the model's frames and frame rate must be above zero");
        let folder = Path::new(&args.data);
        ensure!(folder.is_dir(), "--data {}: no such folder, and not `synth`", args.data);
        let listing = Listing::read(folder)?;
        let mut parts = listing.split(folder, args)?;
        let files = Part::ALL.map(|part| parts.remove(&part).unwrap_or_default());
        let used: usize = files.iter().map(Vec::len).sum();
        if used < listing.files.len() {
            log::info!("--data {}: {} of {} videos are in no part", args.data, listing.files.len() - used, used);
        }
        let clip = |file: String| Clip {
            path: folder.join(&file),
            label: listing.files.get(&file).copied().unwrap_or_default(),
            video: Mutex::default(),
            broken: AtomicBool::new(false),
        };
        Ok(Self {
            name: folder.file_name().map_or_else(|| args.data.clone(), |n| n.to_string_lossy().into_owned()),
            parts: files.map(|files| files.into_iter().map(clip).collect()),
            mirrored: mirrored(&listing.labels),
            labels: listing.labels,
            makers: Makers::new(input),
            sampling: args.sample,
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

    fn training(&self, index: u64, seed: u64) -> anyhow::Result<Sample> {
        let (clip, video) = self.readable(index)?;
        let mut rng = Rng::with_seed(mix(&[seed, index, 3]));
        let input = self.makers.input();
        let times = match self.sampling {
            Sampling::Window => window_times(&mut rng, &video, input),
            Sampling::Spread => {
                let (first, last) = (rng.f32() * SPREAD_CUT, 1.0 - rng.f32() * SPREAD_CUT);
                spread_times(&video, pictures(input), (first, last))
            }
        };
        let other = self.mirrored[clip.label].filter(|_| rng.bool());
        let look = Look::random(&mut rng, video.size, input, Strength::VIDEO, other.is_some());
        let planes = self.makers.with(|maker| fill(maker, &video, &times, &look, &mut rng))?;
        Ok(Sample { planes, label: other.unwrap_or(clip.label) })
    }

    /// The window in the middle of the video, from memory: fast enough to validate often.
    fn middle(&self, clip: &Clip) -> anyhow::Result<Sample> {
        let (video, input) = (self.video(clip)?, self.makers.input());
        let span = (pictures(input) - 1) as f32 / input.frame_rate;
        let start = ((video.len() - 1) as f32 / video.rate - span).max(0.0) / 2.0;
        let times: Vec<f32> = (0..pictures(input)).map(|i| start + i as f32 / input.frame_rate).collect();
        let look = Look::plain(video.size.0, video.size.1);
        let planes = self.makers.with(|maker| fill(maker, &video, &times, &look, &mut Rng::with_seed(0)))?;
        Ok(Sample { planes, label: clip.label })
    }

    /// The video as one clip, spread over all of it.
    fn spread(&self, clip: &Clip) -> anyhow::Result<Vec<f32>> {
        let video = Video::read(&clip.path, self.short_side)?;
        let times = spread_times(&video, pictures(self.makers.input()), (0.0, 1.0));
        let look = Look::plain(video.size.0, video.size.1);
        self.makers.with(|maker| fill(maker, &video, &times, &look, &mut Rng::with_seed(0)))
    }
}

impl Dataset for Folder {
    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn len(&self, part: Part) -> Option<usize> {
        Some(self.parts[part as usize].len())
    }

    fn sample(&self, part: Part, index: u64, seed: u64) -> anyhow::Result<Sample> {
        if part == Part::Train {
            return self.training(index, seed);
        }
        if part == Part::Validation && self.sampling == Sampling::Window {
            return self.middle(self.clip(part, index)?);
        }
        let (clip, mut windows) = (self.clip(part, index)?, Vec::new());
        self.windows(part, index, (self.makers.input().frames / 2).max(1), &mut |planes| {
            windows.push(planes.to_vec());
            Ok(())
        })?;
        Ok(Sample { planes: windows.swap_remove(windows.len() / 2), label: clip.label })
    }

    fn windows(&self, part: Part, index: u64, hop: usize, visit: &mut Visit<'_>) -> anyhow::Result<()> {
        let clip = self.clip(part, index)?;
        if self.sampling == Sampling::Spread {
            return Ok(visit(&self.spread(clip)?)?);
        }
        sliding(&clip.path, self.makers.input(), hop, visit)
    }

    fn label(&self, part: Part, index: u64) -> Option<usize> {
        self.clip(part, index).ok().map(|clip| clip.label)
    }

    fn describe(&self) -> String {
        let [train, validation, test] = self.parts.each_ref().map(Vec::len);
        let classes = self.labels.len();
        format!("`{}`, {classes} classes, videos: {train} train, {validation} validation, {test} test", self.name)
    }
}

fn fill(maker: &mut Maker, video: &Video, times: &[f32], look: &Look, rng: &mut Rng) -> anyhow::Result<Vec<f32>> {
    maker.start();
    for time in times {
        video.put(*time, &mut maker.raw);
        look.apply(rng, &maker.raw, &mut maker.seen);
        maker.push_seen()?;
    }
    maker.finish()
}

/// Shows every window of the video, as the edge program classifies it, to `visit`.
fn sliding(path: &Path, input: &Input, hop: usize, visit: &mut Visit<'_>) -> anyhow::Result<()> {
    let mut source = decode::open(path)?;
    let mut planes = Vec::new();
    Windows::new(input, hop).each(&mut *source, |clip| {
        planes.clear();
        planes.extend(clip.iter());
        visit(&planes)
    })?;
    Ok(())
}

/// Times of a training window's pictures at about the model's rate. It lies the more likely somewhere the more moves
/// there, because windows without the action teach nothing; a few of those are wanted, because test videos have them too.
fn window_times(rng: &mut Rng, video: &Video, input: &Input) -> Vec<f32> {
    let rate = input.frame_rate * (RATE_JITTER.0 + rng.f32() * (RATE_JITTER.1 - RATE_JITTER.0));
    let span = (pictures(input) - 1) as f32 / rate;
    let start = start(rng, &video.motion, (span * video.rate).round() as usize) as f32 / video.rate;
    let phase = (rng.f32() - 0.5) / video.rate;
    (0..pictures(input)).map(|i| start + phase + i as f32 / rate).collect()
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

    fn windows(data: &Folder, part: Part, index: u64) -> Vec<Vec<f32>> {
        let mut windows = Vec::new();
        data.windows(part, index, 2, &mut |planes| {
            windows.push(planes.to_vec());
            Ok(())
        })
        .unwrap();
        windows
    }

    #[test]
    fn a_folder_gives_clips_of_every_part() {
        let (_dir, args) = folder(&["--test-pattern", "s2"]);
        let data = Folder::open(&args, &input(Colour::Motion)).unwrap();
        assert_eq!(Part::ALL.map(|p| data.len(p)), [Some(2), Some(0), Some(2)]);
        assert_eq!(data.labels(), ["swipe_left", "swipe_right"]);
        let one = data.sample(Part::Train, 0, 7).unwrap();
        assert!(one == data.sample(Part::Train, 0, 7).unwrap());
        assert!(one != data.sample(Part::Train, 0, 8).unwrap());
        // 1.5 s at 10 Hz are 15 samples, so 14 differences: windows of 4 at 0, 2, 4, ... 10.
        let windows = windows(&data, Part::Test, 1);
        assert_eq!(windows.len(), 6);
        assert!(windows.iter().all(|w| w.len() == 3 * 4 * 24 * 24));
        let moved = |i: usize| windows[i].iter().map(|v| v.abs()).sum::<f32>() / windows[i].len() as f32;
        assert!(moved(0) < 0.01 && moved(3) > 0.01, "{} {}", moved(0), moved(3));
        let middle = data.sample(Part::Test, 1, 5).unwrap();
        assert!(middle.label == 1 && middle.planes == windows[3]);
        let error = data.sample(Part::Validation, 0, 0).unwrap_err().to_string();
        assert!(error.contains("validation has 0 clips"), "{error}");
    }

    #[test]
    fn validation_is_the_middle_and_always_the_same() {
        let (_dir, args) = folder(&["--validation-pattern", "s2"]);
        let data = Folder::open(&args, &input(Colour::Motion)).unwrap();
        let one = data.sample(Part::Validation, 1, 1).unwrap();
        assert!(one == data.sample(Part::Validation, 1, 2).unwrap());
        // From 0.53 to 0.93 s; at 0.8 s the gray gives way to what moves.
        let moved = |t: usize| one.planes[t * 576..(t + 1) * 576].iter().map(|v| v.abs()).sum::<f32>() / 576.0;
        assert_eq!(one.label, 1);
        assert!(moved(0) < 0.002 && moved(2) > 0.05 && moved(3) > 0.002, "{:?}", [0, 1, 2, 3].map(moved));
    }

    #[test]
    fn mirrored_clips_have_the_other_sides_label() {
        let (_dir, args) = folder(&[]);
        let data = Folder::open(&args, &input(Colour::Gray)).unwrap();
        let labels: Vec<usize> = (0..30).map(|seed| data.sample(Part::Train, 0, seed).unwrap().label).collect();
        assert!(labels.contains(&0) && labels.contains(&1));
    }

    #[test]
    fn a_short_video_is_held_and_spread_sees_it_whole() {
        let (_dir, args) = folder(&["--sample", "spread"]);
        let long = Input { frames: 30, ..input(Colour::Motion) };
        let file = Path::new(&args.data).join("swipe_left/p_s1.mp4");
        let mut held = 0;
        sliding(&file, &long, 2, &mut |_| {
            held += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(held, 1);
        let spread = windows(&Folder::open(&args, &input(Colour::Gray)).unwrap(), Part::Train, 0);
        assert_eq!(spread.len(), 1);
        assert!(spread[0][..576] != spread[0][3 * 576..]);
    }

    #[test]
    fn what_does_not_fit_into_memory_is_decoded_again() {
        let (_dir, args) = folder(&["--cache-mb", "0"]);
        let data = Folder::open(&args, &input(Colour::Gray)).unwrap();
        assert!(data.sample(Part::Train, 0, 1).unwrap() == data.sample(Part::Train, 0, 1).unwrap());
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
        let error = data.sample(Part::Train, 0, 1).unwrap_err().to_string();
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
