//! The live mannequin, watched through the whole of recognition (sampler, preprocessing, window, engine, decision), not in
//! real time: every frame is seen, and an action counts as reported at the source time of the decision that started it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use kinora::capture::{Captured, Source, Synthetic};
use kinora::decision::{Decision, Event, Kind};
use kinora::engine::Engine;
use kinora::frame::Frame;
use kinora::model::Bundle;
use kinora::pipeline::{Intake, Recognizer, Runner};
use kinora::stop::Stop;
use kinora::synth::{Motion, Scene, World};

use super::events::{EventScore, Found, Span, percentile, score};
use super::{EvaluateArgs, Which, how, in_parallel, record, save, threads, unused};
use crate::data::usage;

/// The mannequin camera's usual pictures.
const CAMERA: (u32, u32, f32) = (640, 480, 30.0);

/// How long a mannequin does what is no class, in seconds: more bodies say more than more repetitions.
const UNKNOWN_S: u64 = 20;

/// Who is watched, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Show {
    /// Where it is seen.
    pub world: World,
    /// The mannequin's.
    pub seed: u64,
    /// What it does again and again, which is no class of the model; none: all that live mannequins do.
    pub unknown: Option<Motion>,
    /// Its length in seconds.
    pub seconds: u64,
}

impl Show {
    /// Its pictures.
    pub fn source(self) -> impl Source {
        Synthetic::new((self.world, self.seed), self.unknown, (CAMERA.0, CAMERA.1), CAMERA.2, Stop::default())
    }
}

/// The live mannequins of `seeds`, then for each motion that `labels` lack one of each seed that does nothing else.
pub fn shows(labels: &[String], world: World, seeds: Range<u64>, seconds: u64) -> Vec<Show> {
    let live = seeds.clone().map(move |seed| Show { world, seed, unknown: None, seconds });
    let show = move |motion| move |seed| Show { world, seed, unknown: Some(motion), seconds: seconds.min(UNKNOWN_S) };
    live.chain(unknown(labels).flat_map(|motion| seeds.clone().map(show(motion)))).collect()
}

/// Motions that are no class of a model with `labels`.
fn unknown(labels: &[String]) -> impl Iterator<Item = Motion> {
    Motion::OTHERS.into_iter().filter(|motion| labels.iter().all(|label| label != motion.label()))
}

/// Watches the mannequins that `args` ask for, one after the other on each thread, and prints how good the reports are.
pub fn run(args: &EvaluateArgs, world: World, bundle: &Bundle, engine: &dyn Engine) -> anyhow::Result<()> {
    let motions = reportable(bundle, &args.labels)?;
    let clips = [("--part", args.part != Which::Test), ("--clips", args.clips.is_some())];
    unused(&clips, "is for clips; of live mannequins there are --seeds and --duration")?;
    let (seeds, seconds) = watched(args);
    let shows = shows(&bundle.labels, world, 1..seeds + 1, seconds);
    let watch = |_: &mut (), index: usize| {
        let show = shows[index];
        let duration = Duration::from_secs(show.seconds);
        let found = reported(args, bundle, engine, &mut show.source(), duration)?;
        Ok((show, score(&truth(show, &motions), &found, show.seconds as f64)))
    };
    let scores = in_parallel(threads(args.threads), shows.len(), || Ok(()), watch)?;
    crate::say(format_args!("{}\n{}", live_table(&scores), unknown_table(&scores)))?;
    if args.record {
        record_mean(args, bundle, &mean(&scores), (world, &how(args, bundle, engine)))?;
    }
    let Some(out) = &args.out else { return Ok(()) };
    let run = |(Show { seed, unknown, .. }, score): &(Show, EventScore)| {
        let unknown = unknown.map(Motion::label);
        serde_json::json!({"seed": seed, "unknown": unknown, "score": score})
    };
    let runs: Vec<_> = scores.iter().map(run).collect();
    let json = serde_json::json!({
        "model": bundle.manifest.name, "world": world.label(), "duration_s": seconds, "mean": mean(&scores), "runs": runs,
    });
    save(out, "live.json", &format!("{json:#}\n"))
}

/// How many mannequins `args` ask for, and how long to watch each, in seconds.
fn watched(args: &EvaluateArgs) -> (u64, u64) {
    (args.seeds.unwrap_or(5), args.duration.unwrap_or(120))
}

/// Puts the figures into the bundle's manifest.
fn record_mean(args: &EvaluateArgs, bundle: &Bundle, mean: &Mean, (world, how): (World, &str)) -> anyhow::Result<()> {
    let (seeds, seconds) = watched(args);
    let wild = if world == World::Wild { " in the wild" } else { "" };
    let on = format!("the live mannequin{wild}, seeds 1 to {seeds}, {seconds} s each, overlap 0.5{how}");
    let motions: Vec<_> = unknown(&bundle.labels).map(Motion::label).collect();
    let (motions, seconds) = (motions.join(", "), seconds.min(UNKNOWN_S));
    let on_unknown = format!("mannequins{wild} doing {motions}, seeds 1 to {seeds}, {seconds} s each{how}");
    let mut figures = mean.figures(&on);
    let of_unknown = "false alarms per minute of motions that are no class";
    figures.extend(mean.unknown_per_min.map(|n| (of_unknown, n, on_unknown.as_str())));
    record(bundle, &figures)
}

/// What `bundle`, set as `args` ask, reports of `source` until `duration`.
pub fn reported(
    args: &EvaluateArgs,
    bundle: &Bundle,
    engine: &dyn Engine,
    source: &mut dyn Source,
    duration: Duration,
) -> anyhow::Result<Vec<Found>> {
    let manifest = &bundle.manifest;
    let mut settings = manifest.decision.clone();
    if let Some(threshold) = args.threshold {
        settings.set_threshold(threshold);
        settings.check(&bundle.labels).map_err(|e| e.within("--threshold"))?;
    }
    let allow = (!args.labels.is_empty()).then_some(&args.labels[..]);
    let decision = Decision::new(&bundle.labels, manifest.output.activation, settings, allow)?;
    let hop = args.hop.unwrap_or(manifest.run.hop);
    let mut recognizer = Recognizer::new(manifest, Runner::new(engine, manifest)?, decision, hop);
    let mut events = Vec::new();
    watch(&mut recognizer, bundle, (source, duration), &mut events, |_, _| ())?;
    Ok(found(&events, &bundle.labels))
}

/// Shows `source` to `recognizer` until `duration`. What is reported goes into `events`, time and logits of each decision to
/// `visit`.
pub fn watch(
    recognizer: &mut Recognizer,
    bundle: &Bundle,
    (source, duration): (&mut dyn Source, Duration),
    events: &mut Vec<Event>,
    mut visit: impl FnMut(Duration, &[f32]),
) -> anyhow::Result<()> {
    let mut intake = Intake::new(&bundle.manifest.input);
    let (mut plane, mut frame) = (intake.plane(), Frame::default());
    while source.next_frame(&mut frame)? == Captured::Frame && frame.timestamp < duration {
        if intake.offer(&frame, &mut plane)? {
            recognizer.absorb(&plane, events)?;
            if recognizer.decide(events)? {
                visit(plane.timestamp, recognizer.logits());
            }
        }
    }
    recognizer.finish(events);
    Ok(())
}

/// Reported actions from their start and end events.
pub fn found(events: &[Event], labels: &[String]) -> Vec<Found> {
    let starts = events.iter().filter(|e| e.kind == Kind::Start);
    let action = |start: &Event| {
        let end = events.iter().find(|e| e.kind == Kind::End && e.id == start.id)?;
        let label = labels.get(start.label)?.clone();
        let span = Span { label, start: start.t_start.as_secs_f64(), end: end.t_end.unwrap_or(end.t).as_secs_f64() };
        Some(Found { span, reported_at: start.t.as_secs_f64() })
    };
    starts.filter_map(action).collect()
}

/// What of the mannequin's actions `bundle` can report.
///
/// # Errors
/// `Usage` when it is none.
pub fn reportable(bundle: &Bundle, allow: &[String]) -> kinora::Result<Vec<Motion>> {
    let asked = |m: &Motion| allow.is_empty() || allow.iter().any(|label| label == m.label());
    let known = |m: &Motion| bundle.labels.iter().any(|label| label == m.label());
    let motions: Vec<_> = Motion::ALL.into_iter().filter(|m| *m != Motion::Nothing && asked(m) && known(m)).collect();
    if motions.is_empty() {
        let (dir, labels) = (bundle.dir.display(), bundle.labels.join(", "));
        let message =
            format!("{dir}: its labels are none of the mannequin's actions, so it cannot be watched: {labels}");
        return Err(usage(message));
    }
    Ok(motions)
}

/// Which of `motions` the mannequin of `show` does, and when; none where all that it does is no class.
pub fn truth(show: Show, motions: &[Motion]) -> Vec<Span> {
    if show.unknown.is_some() {
        return Vec::new();
    }
    let (mut scene, duration) = (Scene::live(show.world, show.seed), show.seconds as f64);
    let (mut spans, mut t) = (Vec::new(), 0.0f32);
    while f64::from(t) < duration {
        let segment = scene.segment_at(t);
        if motions.contains(&segment.motion) {
            let (start, end) = (f64::from(segment.start_s), f64::from(segment.end_s).min(duration));
            spans.push(Span { label: segment.motion.label().to_string(), start, end });
        }
        // Past the end even where the segment is shorter than a step of the clock's precision.
        t = segment.end_s.max(t + 1e-3);
    }
    spans
}

/// Means over live mannequins of the figures of [`EventScore`]; delays are those of all matches together.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Mean {
    pub f1: f64,
    pub precision: f64,
    pub recall: f64,
    pub delay_p50_s: Option<f64>,
    pub delay_p90_s: Option<f64>,
    pub flips_per_minute: f64,
    pub true_flips_per_minute: f64,
    pub false_alarms_per_10_min: Option<f64>,
    /// Actions reported in a minute of what is no class.
    pub unknown_per_min: Option<f64>,
}

impl Mean {
    /// Those that a bundle keeps, measured on `on`.
    pub fn figures<'a>(&self, on: &'a str) -> Vec<(&'static str, f64, &'a str)> {
        let figures = [
            ("event F1", Some(self.f1)),
            ("median delay in seconds", self.delay_p50_s),
            ("false alarms per 10 minutes of nothing", self.false_alarms_per_10_min),
        ];
        figures.into_iter().filter_map(|(figure, value)| Some((figure, value?, on))).collect()
    }
}

pub fn mean(all: &[(Show, EventScore)]) -> Mean {
    let of = |is_unknown: bool| {
        let of = all.iter().filter(move |(show, _)| show.unknown.is_some() == is_unknown);
        of.map(|(_, score)| score).collect::<Vec<_>>()
    };
    Mean { unknown_per_min: alarms_per_min(of(true)), ..mean_of(&of(false)) }
}

/// Those of `live`.
pub fn mean_of(live: &[&EventScore]) -> Mean {
    let of = |value: fn(&EventScore) -> f64| live.iter().map(|s| value(s)).sum::<f64>() / live.len().max(1) as f64;
    let mut delays: Vec<f64> = live.iter().flat_map(|s| s.delays_s.clone()).collect();
    delays.sort_by(f64::total_cmp);
    Mean {
        f1: of(|s| s.f1),
        precision: of(|s| s.precision),
        recall: of(|s| s.recall),
        delay_p50_s: percentile(&delays, 0.5),
        delay_p90_s: percentile(&delays, 0.9),
        flips_per_minute: of(|s| s.flips_per_minute),
        true_flips_per_minute: of(|s| s.true_flips_per_minute),
        false_alarms_per_10_min: alarms_per_min(live.iter().copied()).map(|n| 10.0 * n),
        unknown_per_min: None,
    }
}

/// False alarms in a minute with nothing done that is a class.
fn alarms_per_min<'a>(scores: impl IntoIterator<Item = &'a EventScore>) -> Option<f64> {
    let sum = |(n, s), score: &EventScore| (n + score.false_alarms, s + score.nothing_s);
    let (alarms, nothing_s) = scores.into_iter().fold((0, 0.0), sum);
    (nothing_s > 0.0).then(|| alarms as f64 * 60.0 / nothing_s)
}

/// What was reported while mannequins did what is no class: a line for each motion, then all.
fn unknown_table(scores: &[(Show, EventScore)]) -> String {
    let of = |motion: Motion| scores.iter().filter(move |(show, _)| show.unknown == Some(motion));
    let mut lines = vec!["      no class  alarms/min  reported as".to_string()];
    for motion in Motion::OTHERS {
        let Some(alarms) = alarms_per_min(of(motion).map(|(_, s)| s)) else { continue };
        let mut labels = BTreeMap::<&str, usize>::new();
        of(motion).flat_map(|(_, s)| &s.labels).for_each(|(label, n)| *labels.entry(label).or_default() += n.reported);
        let labels: Vec<_> = labels.iter().map(|(label, n)| format!("{label} {n}")).collect();
        let line = format!("{:>14} {alarms:>11.2}  {}", motion.label(), labels.join(", "));
        lines.push(line.trim_end().into());
    }
    let mean = mean(scores).unknown_per_min.map_or("-".into(), |n| format!("{n:.2}"));
    lines.push(format!("{:>14} {mean:>11}", "all"));
    lines.join("\n")
}

/// The scores of live mannequins.
fn live_table(all: &[(Show, EventScore)]) -> String {
    let live = all.iter().filter(|(show, _)| show.unknown.is_none());
    table("seed", &live.map(|(show, score)| (show.seed, score)).collect::<Vec<_>>())
}

/// Scores by number, which is a `kind` of one, their mean, and what was reported of each action.
pub fn table(kind: &str, scores: &[(u64, &EventScore)]) -> String {
    let or_dash = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.2}"));
    let row = |name: String, f: [f64; 5], o: [Option<f64>; 3]| {
        let (p50, p90, alarms) = (or_dash(o[0]), or_dash(o[1]), or_dash(o[2]));
        let [f1, precision, recall, flips, due] = f;
        format!(
            "{name:>5} {f1:>6.3} {precision:>9.3} {recall:>6.3} {p50:>7} {p90:>7} {flips:>9.1} ({due:>4.1}) {alarms:>12}"
        )
    };
    let mut lines = vec![format!("{kind:>5}     F1 precision recall  p50 s  p90 s  flips/min (true) alarms/10min")];
    for (number, s) in scores {
        let figures = [s.f1, s.precision, s.recall, s.flips_per_minute, s.true_flips_per_minute];
        lines.push(row(number.to_string(), figures, [s.delay_p50_s, s.delay_p90_s, s.false_alarms_per_10_min]));
    }
    let m = mean_of(&scores.iter().map(|(_, score)| *score).collect::<Vec<_>>());
    let figures = [m.f1, m.precision, m.recall, m.flips_per_minute, m.true_flips_per_minute];
    lines.push(row("mean".into(), figures, [m.delay_p50_s, m.delay_p90_s, m.false_alarms_per_10_min]));
    let mut labels = BTreeMap::<&str, [usize; 3]>::new();
    for (label, counts) in scores.iter().flat_map(|(_, s)| &s.labels) {
        let sum = labels.entry(label).or_default();
        [counts.done, counts.reported, counts.matched].into_iter().zip(sum).for_each(|(n, sum)| *sum += n);
    }
    lines.push("        action  done  reported  right".into());
    lines.extend(labels.iter().map(|(label, [d, r, m])| format!("{label:>14} {d:>5} {r:>9} {m:>6}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const LIVE: Show = Show { world: World::Studio, seed: 3, unknown: None, seconds: 60 };

    #[test]
    fn the_truth_is_the_script_without_gaps_or_nothing() {
        let spans = truth(LIVE, &Motion::ALL[1..]);
        assert!(spans.len() > 5, "{spans:?}");
        assert!(spans.windows(2).all(|s| s[0].end <= s[1].start + 1e-6));
        assert!(spans.iter().all(|s| s.label != "nothing" && s.start < s.end && s.end <= 60.0));
        let walks = truth(LIVE, &[Motion::Walk]);
        assert_eq!(walks, spans.iter().filter(|s| s.label == "walk").cloned().collect::<Vec<_>>());
        let mut scene = Scene::live(World::Studio, 3);
        for span in &spans {
            assert_eq!(scene.segment_at(((span.start + span.end) / 2.0) as f32).motion.label(), span.label);
        }
    }

    #[test]
    fn events_become_spans() {
        let event = |kind, id, label, start, t| Event {
            kind,
            id,
            label,
            confidence: 0.9,
            t_start: Duration::from_secs(start),
            t_end: None,
            t: Duration::from_secs(t),
        };
        use Kind::*;
        let events =
            [event(Start, 1, 1, 2, 3), event(Update, 1, 1, 2, 4), event(End, 1, 1, 2, 5), event(Start, 2, 0, 6, 7)];
        let found = found(&events, &["nothing".into(), "wave".into()]);
        let span = Span { label: "wave".into(), start: 2.0, end: 5.0 };
        assert_eq!(found, [Found { span: span.clone(), reported_at: 3.0 }]);
        let scores = [
            (LIVE, score(std::slice::from_ref(&span), &found, 10.0)),
            (LIVE, score(std::slice::from_ref(&span), &[], 10.0)),
        ];
        let mean = mean(&scores);
        assert_eq!((mean.f1, mean.delay_p50_s, mean.false_alarms_per_10_min), (0.5, Some(1.0), Some(0.0)));
        let table = live_table(&scores);
        assert!(table.lines().nth(3).unwrap().trim_start().starts_with("mean  0.500"), "{table}");
        assert!(table.ends_with("wave     2         1      1"), "{table}");
    }

    #[test]
    fn what_is_no_class_is_watched_and_counted_apart() {
        let labels = ["nothing", "wave", "drink"].map(String::from);
        let shows = shows(&labels, World::Studio, 4..6, 60);
        assert_eq!(shows.len(), 2 + 4 * 2);
        assert!(shows[..2].iter().all(|show| show.unknown.is_none() && show.seconds == 60));
        assert!(shows[2..].iter().all(|show| ![None, Some(Motion::Drink)].contains(&show.unknown)));
        assert!(shows[2..].iter().all(|show| (4..6).contains(&show.seed) && show.seconds == UNKNOWN_S));
        assert!(truth(shows[2], &Motion::ALL).is_empty());
        let wave = |start, end| Span { label: "wave".into(), start, end };
        let found = [(1.0, 3.0), (5.0, 6.0)].map(|(a, b)| Found { span: wave(a, b), reported_at: b });
        let live = (shows[0], score(&[wave(1.0, 3.0)], &found[..1], 60.0));
        let scores = [live, (shows[2], score(&[], &found, 20.0)), (shows[3], score(&[], &[], 20.0))];
        let both = mean(&scores);
        assert_eq!((both.f1, both.false_alarms_per_10_min, both.unknown_per_min), (1.0, Some(0.0), Some(3.0)));
        assert_eq!(mean(&scores[..1]).unknown_per_min, None);
        assert!(live_table(&scores).ends_with("wave     1         1      1"));
        let table = unknown_table(&scores);
        assert!(
            table.contains("   arm_circles        3.00  wave 2\n") && table.ends_with("all        3.00"),
            "{table}"
        );
        assert!(unknown_table(&scores[..1]).ends_with("all           -"));
    }
}
