//! `kinora record`: opens what the arguments name and records clips of an action.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use kinora::display::Format;
use kinora::record::{self, Folder, Outcome, Recorder};
use kinora::stop::Stop;
use kinora::{Error, ErrorKind};

use super::args::RecordArgs;
use super::config::Config;
use super::run::{open_display, open_source, refuse_overwriting};
use super::{load_bundle, print};

/// What a model needs to have seen, too.
const NOTHING: &str = "nothing";

/// Runs `kinora record`.
pub fn command(mut args: RecordArgs) -> Result<()> {
    let mut config = args.pictures.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    config.complete_pictures(&mut args.pictures);
    let model = args.model.take().or_else(|| config.model());
    record::check_label(&args.label)?;
    args.name.as_deref().map_or(Ok(()), record::check_name)?;
    let stop = Stop::on_signals()?;
    let seconds = match args.seconds {
        Some(seconds) => seconds,
        None => record::usual_seconds(&load_bundle(model.as_deref())?.manifest.input),
    };
    refuse_overwriting(&args.pictures, None)?;

    let (source, reopen) = match open_source(&args.pictures, &stop) {
        // Ctrl-C while a camera was waited for is no failure.
        Err(_) if stop.requested() => return Ok(()),
        opened => opened?,
    };
    let info = source.info().clone();
    let pictures = record::pictures(seconds, &info)?;
    let format = Format { width: info.width, height: info.height, frame_rate: info.frame_rate };
    let (uri, display) = open_display(&args.pictures, format)?;
    if !args.yes && !display.has_keys() {
        let message = format!("--display {uri}: no keys there to keep or drop clips with; --yes keeps them all");
        return Err(Error::new(ErrorKind::Usage, message).into());
    }
    let folder = Folder::open(&args.out, &args.label, format)?.with_name(args.name.as_deref())?;
    log::info!(
        "{} ({}x{}, {:.4} Hz) -> {}, {} clips of {:.2} s",
        info.name,
        info.width,
        info.height,
        info.frame_rate,
        folder.path().display(),
        args.count,
        pictures as f32 / info.frame_rate
    );
    let recorder = Recorder {
        source,
        reopen,
        display,
        folder,
        label: args.label.clone(),
        count: args.count,
        pictures,
        asks: !args.yes,
        realtime: !args.pictures.no_realtime.unwrap_or(false),
        stop,
    };
    let Outcome { made, ended } = recorder.run()?;
    if ended {
        log::warn!("{} has ended: {made} of {} clips were made", info.name, args.count);
    }
    print(&report(&args.out, args.name.as_deref(), &record::classes(&args.out)?)?)
}

/// What is in the folder, and what to do next.
fn report(out: &Path, name: Option<&str>, classes: &[(String, usize)]) -> Result<String> {
    let (mut text, shown) = (String::new(), quoted(&out.display().to_string()));
    for (label, count) in classes {
        writeln!(text, "{label}: {count} {}", if *count == 1 { "clip" } else { "clips" })?;
    }
    if classes.len() < 2 || classes.iter().all(|(label, _)| label != NOTHING) {
        let next = if classes.iter().any(|(label, _)| label == NOTHING) { "ANOTHER-ACTION" } else { NOTHING };
        let name = name.map(|name| format!(" --name {}", quoted(name))).unwrap_or_default();
        writeln!(
            text,
            "next, with flags such as --mirror as before: kinora record --label {next}{name} --out {shown}"
        )?;
    } else {
        writeln!(text, "next: train-export tune --data {shown}")?;
    }
    Ok(text)
}

/// `path` as a shell takes it for one word.
fn quoted(path: &str) -> String {
    let plain = path.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
    if plain { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_next_command_follows_from_what_is_there() {
        let after = |labels: &[&str]| {
            let classes: Vec<_> = labels.iter().zip(1..).map(|(label, count)| ((*label).to_owned(), count)).collect();
            report(Path::new("r"), None, &classes).unwrap()
        };
        assert_eq!(after(&[]), "next, with flags such as --mirror as before: kinora record --label nothing --out r\n");
        assert_eq!(
            after(&["wave"]),
            "wave: 1 clip\nnext, with flags such as --mirror as before: kinora record --label nothing --out r\n"
        );
        assert!(
            after(&["clap", "wave"])
                .ends_with("next, with flags such as --mirror as before: kinora record --label nothing --out r\n")
        );
        assert!(
            after(&["nothing"]).ends_with(
                "next, with flags such as --mirror as before: kinora record --label ANOTHER-ACTION --out r\n"
            )
        );
        assert_eq!([quoted("a/b-1"), quoted("my clips"), quoted("it's")], ["a/b-1", "'my clips'", r"'it'\''s'"]);
        let named = report(Path::new("r"), Some("anna b"), &[]).unwrap();
        assert_eq!(
            named,
            "next, with flags such as --mirror as before: kinora record --label nothing --name 'anna b' --out r\n"
        );
        let trained = after(&["nothing", "wave"]);
        assert!(trained.contains("nothing: 1 clip\nwave: 2 clips\nnext: train-export tune --data r"), "{trained}");
    }
}
