//! `kinora run`: opens what the arguments name and runs the pipeline.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use kinora::capture::{self, Options, Place, Source, SourceInfo, Transform};
use kinora::display::{self, Display, Format};
use kinora::events::EventWriter;
use kinora::model::{Bundle, Files};
use kinora::pipeline::{Limits, Opener, Pipeline, Share, Summary, Watch, peak_resident_mib};
use kinora::stop::Stop;
use kinora::{Error, ErrorKind};

use super::args::{PictureArgs, RunArgs};
use super::bundle_folder;
use super::config::Config;
use super::prepare::Wishes;

/// The built-in camera, used when no source is named and no camera is there.
const BUILT_IN: &str = "synthetic:1";

/// Runs `kinora run`; `begin` is when the program started.
pub fn command(mut args: RunArgs, quiet: bool, begin: Instant) -> Result<()> {
    let mut config = args.pictures.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let overrides = std::mem::take(&mut config.decision);
    config.complete(&mut args);
    let stop = Stop::on_signals()?;
    let dir = bundle_folder(args.model.model.as_deref())?;
    let seen = Files::of(&dir).look();
    let bundle = Bundle::load(&dir)?;
    let wishes = Wishes::new(&args, overrides);
    let model = wishes.prepare(&bundle)?;
    let limits = Limits { frames: args.frames, duration: args.duration.map(seconds).transpose()? };
    refuse_overwriting(&args.pictures, args.events.as_deref())?;

    let (source, reopen) = match open_source(&args.pictures, &stop) {
        // Ctrl-C while a camera was waited for is no failure.
        Err(_) if stop.requested() => return Ok(()),
        opened => opened?,
    };
    let info = source.info().clone();
    let format = Format { width: info.width, height: info.height, frame_rate: info.frame_rate };
    let (uri, display) = open_display(&args.pictures, format)?;
    warn_of_few_pictures(&info, &bundle);
    let events = match args.events {
        Some(target) => Some(EventWriter::open(&target)?),
        // On a console without a desktop the lines would be drawn over by the picture.
        None if quiet || uri == "window" || uri.starts_with("kms") => None,
        None => Some(EventWriter::open("-")?),
    };
    log::info!(
        "{} ({}x{}, {:.4} Hz) -> {} with {}, {} -> {}",
        info.name,
        info.width,
        info.height,
        info.frame_rate,
        model.name,
        model.engine,
        wishes.hop_words(&bundle),
        display.name()
    );
    let watch = args.watch.unwrap_or(false).then(|| {
        let info = info.clone();
        let prepare = move |bundle: &Bundle| {
            let model = wishes.prepare(bundle)?;
            warn_of_few_pictures(&info, bundle);
            Ok(model)
        };
        Watch { bundle, seen, prepare: Box::new(prepare) }
    });
    let summary = Pipeline {
        source,
        reopen,
        model,
        watch,
        display,
        events,
        realtime: !args.pictures.no_realtime.unwrap_or(false),
        limits,
        stop,
    }
    .run()?;
    report(&summary, &info, begin);
    Ok(())
}

fn warn_of_few_pictures(info: &SourceInfo, bundle: &Bundle) {
    let input = &bundle.manifest.input;
    if info.frame_rate * (input.frames as f32 / 2.0).max(1.0) < input.frame_rate {
        let (name, rate) = (&info.name, info.frame_rate);
        log::warn!("{name}: {rate} pictures a second are too few for this model: its window never fills");
    }
}

/// Refuses to write a video or events over the file that is watched, or both to one file.
pub(super) fn refuse_overwriting(args: &PictureArgs, events: Option<&str>) -> Result<(), Error> {
    let source = args.source.as_deref().and_then(capture::file);
    let video = args.display.as_deref().and_then(display::file);
    let events = events.filter(|target| *target != "-").map(PathBuf::from);
    let same = |a: &Option<PathBuf>, b: &Option<PathBuf>| match (a, b) {
        (Some(a), Some(b)) => {
            a == b || std::fs::canonicalize(a).ok().is_some_and(|a| std::fs::canonicalize(b).ok() == Some(a))
        }
        _ => false,
    };
    let pairs = [
        ("--display", &video, "the source", &source),
        ("--events", &events, "the source", &source),
        ("--events", &events, "the video", &video),
    ];
    match pairs.into_iter().find(|(_, a, _, b)| same(a, b)) {
        Some((flag, Some(path), what, _)) => {
            let message = format!("{flag} {}: is {what} too; name another file", path.display());
            Err(Error::new(ErrorKind::Usage, message))
        }
        _ => Ok(()),
    }
}

fn seconds(seconds: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| Error::new(ErrorKind::Usage, format_args!("--duration {seconds}: seconds from 0 up are wanted")))
}

/// The display that is asked for, else the best there is, and its URI.
pub(super) fn open_display(args: &PictureArgs, format: Format) -> Result<(&str, Box<dyn Display>), Error> {
    match &args.display {
        Some(uri) => Ok((uri, display::open(uri, format)?)),
        None => default_display(format),
    }
}

/// A window where there is a desktop, else a screen that is free, else the terminal's event lines alone.
fn default_display(format: Format) -> Result<(&'static str, Box<dyn Display>), Error> {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if cfg!(not(target_os = "linux")) || set("WAYLAND_DISPLAY") || set("DISPLAY") {
        return Ok(("window", display::open("window", format)?));
    }
    if display::is_available() {
        match display::open("kms", format) {
            Ok(display) => return Ok(("kms", display)),
            Err(error) => log::warn!("{error}"),
        }
    }
    Ok(("none", display::open("none", format)?))
}

/// The source, opened, and what opens it again.
pub(super) fn open_source(args: &PictureArgs, stop: &Stop) -> Result<(Box<dyn Source>, Opener), Error> {
    let uri = args.source.clone().unwrap_or_else(|| default_source().into());
    let options = Options {
        realtime: !args.no_realtime.unwrap_or(false),
        size: args.size,
        frame_rate: args.frame_rate,
        transform: Transform {
            rotation: args.rotate.unwrap_or_default(),
            mirror: args.mirror.unwrap_or(false),
            roi: args.roi,
        },
        controls: args.control.clone().unwrap_or_default(),
    };
    let mut place = Place::new(&uri, &options, stop)?;
    let source = place.open()?;
    Ok((source, Box::new(move || place.open())))
}

/// The first camera, else the mannequin.
fn default_source() -> &'static str {
    if capture::any_camera() {
        return "v4l:";
    }
    log::info!("no camera that can be used: the built-in mannequin is the source");
    BUILT_IN
}

fn report(summary: &Summary, source: &SourceInfo, begin: Instant) {
    let Summary { frames, dropped, repeated, decisions, actions, latency, first_decision, processor } = summary;
    log::info!("{frames} frames, {dropped} lost, {repeated} repeated, {decisions} decisions, {actions} actions");
    let costs = [
        processor.map(|share| format!("{:.1} % of one core", share * 100.0)),
        peak_resident_mib().map(|mib| format!("{mib:.0} MiB of memory at most")),
        first_decision.map(|at| format!("first decision {:.1} s after the start", (at - begin).as_secs_f32())),
    ];
    let costs: Vec<_> = costs.into_iter().flatten().collect();
    if !costs.is_empty() {
        log::info!("{}", costs.join(", "));
    }
    let Some(latency) = latency else { return };
    let words = |[p50, p99]: Share| format!("{p50:.1} ms, p99 {p99:.1}");
    let from = match (source.stamped, source.live) {
        (true, _) => "capture",
        (false, true) => "arrival",
        (false, false) => "due",
    };
    log::info!(
        "{from} to picture {} (capture {}; wait {}; compose {}; present {})",
        words(latency.total),
        words(latency.capture),
        words(latency.wait),
        words(latency.compose),
        words(latency.present)
    );
}
