//! Videos of single actions, watched one after another as a live camera would have seen them: what is reported, and what is
//! reported while nobody acts.

use std::time::Duration;

use anyhow::ensure;
use kinora::engine::Engine;
use kinora::model::Bundle;
use kinora::model::manifest::Activation;
use kinora::{Error, ErrorKind};

use super::clips::{Clip, Named, choose};
use super::events::{EventScore, score};
use super::live::{mean_of, reported, table};
use super::playlist::{Playlist, Video};
use super::{EvaluateArgs, how, in_parallel, record, save, threads, unused};
use crate::data::{self, Sampling, usage};

/// Videos are watched in so many goes, each with a part of every class.
const LISTS: usize = 8;

/// Watches the videos that `args` ask for and prints how good the reports are.
pub fn run(args: &EvaluateArgs, bundle: &Bundle, engine: &dyn Engine) -> anyhow::Result<()> {
    let mannequin = [("--seeds", args.seeds.is_some()), ("--duration", args.duration.is_some())];
    unused(&mannequin, "is for the mannequin; --clips says how many videos of each part")?;
    ensure!(args.data.sample == Sampling::Window, usage("--sample: --live watches videos whole, as `window` does"));
    let data = data::open(&args.data, &bundle.manifest.input, 0)?;
    let each_one = [data.activation(), bundle.manifest.output.activation] == [Activation::Softmax; 2];
    let why = "--live watches videos that show one class each, with a model that says one";
    ensure!(each_one, usage(format_args!("--data {}, --model {}: {why}", args.data.data, args.model.display())));
    let named = Named::new(data.labels(), &bundle.labels, &args.labels)?;
    let clips = choose(args, &*data, &named, Activation::Softmax)?;
    let broken = |why: &dyn std::fmt::Display| Error::new(ErrorKind::Source, why);
    let video = |clip: &Clip| -> Video {
        let (data, part, index) = (&*data, clip.part, clip.index);
        let open = move || match data.source(part, index) {
            Ok(source) => source.ok_or_else(|| broken(&"is no video")),
            Err(error) => Err(broken(&format_args!("{error:#}"))),
        };
        (Box::new(open), named.labels[clip.shown[0]].clone())
    };
    let watch = |_: &mut (), list: usize| {
        let mut playlist = Playlist::new(clips.iter().skip(list).step_by(LISTS).map(video).collect());
        let found = reported(args, bundle, engine, &mut playlist, Duration::MAX)?;
        let (mut acted, seconds) = playlist.acted();
        acted.retain(|span| span.label != bundle.manifest.decision.nothing);
        Ok((list as u64 + 1, score(&acted, &found, seconds)))
    };
    let scores = in_parallel(threads(args.threads), LISTS.min(clips.len()), || Ok(()), watch)?;
    let rows: Vec<(u64, &EventScore)> = scores.iter().map(|(list, score)| (*list, score)).collect();
    crate::say(table("list", &rows))?;
    let mean = mean_of(&rows.iter().map(|(_, score)| *score).collect::<Vec<_>>());
    let (count, what, how) = (clips.len(), data.describe(), how(args, bundle, engine));
    let on =
        format!("{count} videos of {what}, one after another, the pictures of their ends to and fro, overlap 0.5{how}");
    crate::say(&on)?;
    if args.record {
        record(bundle, &mean.figures(&on))?;
    }
    let Some(out) = &args.out else { return Ok(()) };
    let json = serde_json::json!({ "model": bundle.manifest.name, "on": on, "mean": mean });
    save(out, "live.json", &format!("{json:#}\n"))
}
