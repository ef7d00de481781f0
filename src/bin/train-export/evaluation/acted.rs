//! Videos of single actions, watched one after another as a live camera would have seen them: what is reported, and what is
//! reported while nobody acts.

use std::time::Duration;

use anyhow::ensure;
use kinora::engine::Engine;
use kinora::model::Bundle;
use kinora::model::manifest::Activation;

use super::clips::{Clip, Named, choose};
use super::events::{EventScore, score};
use super::live::{mean_of, reported, table};
use super::playlist::{Playlist, Video};
use super::{EvaluateArgs, how, in_parallel, record, save, threads};
use crate::data::{self, usage};

/// Videos that are watched in one go: a part of the set, of all classes.
const LISTS: usize = 8;

/// Watches the videos that `args` ask for and prints how good the reports are.
pub fn run(args: &EvaluateArgs, bundle: &Bundle, engine: &dyn Engine) -> anyhow::Result<()> {
    let data = data::open(&args.data, &bundle.manifest.input, 0)?;
    let one_each = [data.activation(), bundle.manifest.output.activation] == [Activation::Softmax; 2];
    ensure!(one_each, usage("--live: of videos that show one class each only"));
    let named = Named::new(data.labels(), &bundle.labels, &args.labels)?;
    let clips = choose(args, &*data, &named, Activation::Softmax)?;
    let watch = |_: &mut (), list: usize| {
        let mut videos = Vec::new();
        for Clip { part, index, shown } in clips.iter().skip(list).step_by(LISTS) {
            let source = data
                .source(*part, *index)?
                .ok_or_else(|| usage("--live: videos are watched whole: --sample window"))?;
            videos.push((source, named.labels[shown[0]].clone()) as Video);
        }
        let mut playlist = Playlist::new(videos);
        let found = reported(args, bundle, engine, &mut playlist, Duration::MAX)?;
        let (mut acted, seconds) = playlist.acted();
        acted.retain(|span| span.label != bundle.manifest.decision.nothing);
        Ok((list as u64 + 1, score(&acted, &found, seconds)))
    };
    let scores = in_parallel(threads(args.threads), LISTS.min(clips.len()), || Ok(()), watch)?;
    let rows: Vec<(u64, &EventScore)> = scores.iter().map(|(list, score)| (*list, score)).collect();
    println!("{}", table("list", &rows));
    let mean = mean_of(&rows.iter().map(|(_, score)| *score).collect::<Vec<_>>());
    let among = if args.labels.is_empty() { String::new() } else { format!(", among {}", args.labels.join(", ")) };
    let (count, what, how) = (clips.len(), data.describe(), how(bundle, engine));
    let on = format!("{count} videos of {what}, one after another, overlap 0.5{among}{how}");
    println!("{on}");
    if args.record {
        let figures = [
            ("event F1", Some(mean.f1)),
            ("median delay in seconds", mean.delay_p50_s),
            ("false alarms per 10 minutes of nothing", mean.false_alarms_per_10_min),
        ];
        let known = figures.into_iter().filter_map(|(figure, value)| Some((figure, value?, on.as_str())));
        record(bundle, &known.collect::<Vec<_>>())?;
    }
    let Some(out) = &args.out else { return Ok(()) };
    let json = serde_json::json!({ "model": bundle.manifest.name, "on": on, "mean": mean });
    save(out, "live.json", &format!("{json:#}\n"))
}
