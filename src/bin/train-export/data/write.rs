//! `train-export synth`: writes the mannequin's clips as a folder of short MP4 files per class, with a split file. A clip
//! is written under another name and renamed when it is whole; when the command fails or is interrupted, the clips written
//! so far are removed again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use kinora::display::{self, Format};
use kinora::frame::Frame;
use kinora::stop::Stop;
use kinora::synth::{Motion, Scene, World};
use kinora::{Error, ErrorKind};

use super::{Part, mix, usage};
use crate::options::numbers;

/// Pictures a second.
const RATE: f32 = 30.0;
/// Nothing that is shown before and after the action, in seconds, if the scene has it.
const MARGIN_S: f32 = 0.8;

/// What to write.
#[derive(Debug, Clone, clap::Args)]
pub struct SynthArgs {
    /// Folder to write; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What they are seen in: `studio`, alone before a calm camera, or `wild`, as cameras in homes and offices see people
    #[arg(long, value_name = "studio|wild", default_value = "studio")]
    pub world: World,
    /// Clips of each class
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    pub per_class: u32,
    /// The same seed writes the same clips
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Size of the pictures
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "320x240", value_parser = size)]
    pub size: (u32, u32),
    /// Shares of train, validation and test
    #[arg(long, value_name = "TRAIN,VALIDATION,TEST", default_value = "80,10,10", value_parser = numbers::<u32, 3>)]
    pub parts: [u32; 3],
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    // Videos of the usual kind have even sides.
    let fits = |side: u32| (32..=4096).contains(&side) && side.is_multiple_of(2);
    sides.filter(|(w, h)| fits(*w) && fits(*h)).ok_or_else(|| "even sides of 32 to 4096 pixels, such as 320x240".into())
}

/// Writes the set that `args` ask for.
pub fn synth_command(args: SynthArgs) -> anyhow::Result<()> {
    write(&args, &Stop::on_signals()?)
}

fn write(args: &SynthArgs, stop: &Stop) -> anyhow::Result<()> {
    let out = &args.out;
    ensure!(args.parts.iter().sum::<u32>() > 0, usage("--parts: one share at least must be above 0"));
    let created = !out.exists();
    if !created {
        let empty = out.read_dir().map_err(|e| unwritable(out, e))?.next().is_none();
        ensure!(empty, usage(format_args!("--out {}: is not empty; name a new folder", out.display())));
    }
    let written = write_all(args, stop);
    if written.is_err() {
        // Only what this run made: the folder was empty.
        for motion in Motion::ALL {
            let _ = std::fs::remove_dir_all(out.join(motion.label()));
        }
        let _ = std::fs::remove_file(out.join("split.txt"));
        if created {
            let _ = std::fs::remove_dir(out);
        }
    }
    written
}

fn write_all(args: &SynthArgs, stop: &Stop) -> anyhow::Result<()> {
    let total = u64::from(args.per_class) * Motion::ALL.len() as u64;
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} clips, {eta} left")?;
    let bar = ProgressBar::new(total).with_style(style);
    let mut split = String::new();
    for motion in Motion::ALL {
        let folder = args.out.join(motion.label());
        std::fs::create_dir_all(&folder).map_err(|e| unwritable(&folder, e))?;
        for number in 0..args.per_class {
            ensure!(!stop.requested(), "interrupted; the clips written so far are removed");
            let name = format!("{}_{number:04}.mp4", motion.label());
            let whole = folder.join(&name);
            let partial = folder.join(format!(".{name}.part.mp4"));
            write_clip(args, motion, number, &partial)?;
            std::fs::rename(&partial, &whole).map_err(|e| unwritable(&whole, e))?;
            split += &format!("{}/{name} {}\n", motion.label(), part(number, args).name());
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let path = args.out.join("split.txt");
    std::fs::write(&path, split).map_err(|e| unwritable(&path, e))?;
    log::info!("{total} clips of {} classes: {}", Motion::ALL.len(), args.out.display());
    Ok(())
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Output, format_args!("{}: {error}", path.display()))
}

/// The part of clip `number` of a class: each part gets its share, spread evenly over the numbers.
fn part(number: u32, args: &SynthArgs) -> Part {
    let sum: u64 = args.parts.iter().map(|p| u64::from(*p)).sum();
    let at = (u64::from(number) * sum / u64::from(args.per_class)) as u32;
    let mut end = 0;
    let mut parts = Part::ALL.into_iter().zip(&args.parts);
    let found = parts.find(|(_, share)| {
        end += **share;
        at < end
    });
    found.map_or(Part::Train, |(part, _)| part)
}

/// One performance with a little of what was before and after it, if that is nothing.
fn write_clip(args: &SynthArgs, motion: Motion, number: u32, path: &Path) -> anyhow::Result<()> {
    let mut scene = Scene::clip(args.world, mix(&[args.seed, u64::from(number), 4]), motion);
    let subject = scene.subject();
    let quiet = |scene: &mut Scene, t: f32| scene.segment_at(t).motion == Motion::Nothing;
    let before = if quiet(&mut scene, subject.start_s - 1e-3) { MARGIN_S } else { 0.0 };
    let after = if quiet(&mut scene, subject.end_s + 1e-3) { MARGIN_S } else { 0.0 };
    let (start, end) = ((subject.start_s - before).max(0.0), subject.end_s + after);
    let name = path.to_str().with_context(|| format!("{}: the name is not UTF-8", path.display()))?;
    let (width, height) = args.size;
    let mut video = display::open(&format!("video:{name}"), Format { width, height, frame_rate: RATE })?;
    let mut frame = Frame::new(width, height);
    for n in 0..((end - start) * RATE).ceil().max(2.0) as u32 {
        let t = n as f32 / RATE;
        scene.render(start + t, &mut frame);
        frame.timestamp = Duration::from_secs_f32(t);
        video.present(&frame)?;
    }
    video.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::data::decode::Video;
    use crate::data::split::Listing;

    fn args(out: &Path, per_class: u32) -> SynthArgs {
        SynthArgs {
            out: out.to_path_buf(),
            world: World::Studio,
            per_class,
            seed: 3,
            size: (64, 48),
            parts: [80, 10, 10],
        }
    }

    #[test]
    fn parts_get_their_shares() {
        let args = args(Path::new("x"), 20);
        let count = |part_wanted| (0..20).filter(|n| part(*n, &args) == part_wanted).count();
        assert_eq!(Part::ALL.map(count), [16, 2, 2]);
        let all_test = SynthArgs { parts: [0, 0, 5], ..args };
        assert!((0..20).all(|n| part(n, &all_test) == Part::Test));
    }

    #[test]
    fn a_set_is_whole_and_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("set");
        write(&args(&out, 1), &Stop::default()).unwrap();
        let listing = Listing::read(&out).unwrap();
        assert_eq!((listing.labels.len(), listing.files.len()), (17, 17));
        let split = std::fs::read_to_string(out.join("split.txt")).unwrap();
        assert_eq!(split.lines().count(), 17);
        assert!(split.contains("wave/wave_0000.mp4 train\n"));
        let video = Video::read(&out.join("wave/wave_0000.mp4"), 999).unwrap();
        assert_eq!((video.size, video.rate), ((64, 48), 30.0));
        assert!(video.len() > 20);
        assert!(write(&args(&out, 1), &Stop::default()).unwrap_err().to_string().contains("not empty"));
    }

    #[test]
    fn an_interrupted_set_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("set");
        let stop = Stop::default();
        stop.request();
        assert!(write(&args(&out, 1), &stop).unwrap_err().to_string().contains("interrupted"));
        assert!(!out.exists());
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(size("320x240"), Ok((320, 240)));
        assert!(["320", "321x240", "0x0", "axb", "99999x2"].iter().all(|s| size(s).is_err()));
    }
}
