//! The live mannequin, watched through the whole of recognition (sampler, preprocessing, window, engine, decision), not in
//! real time: every frame is seen, and an action counts as reported at the source time of the decision that started it.

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
use super::{EvaluateArgs, how, in_parallel, record, save, threads};
use crate::data::usage;

/// The mannequin camera's usual pictures.
const CAMERA: (u32, u32, f32) = (640, 480, 30.0);

/// Watches the mannequins that `args` ask for, one after the other on each thread, and prints how good the reports are.
pub fn run(args: &EvaluateArgs, bundle: &Bundle, engine: &dyn Engine) -> anyhow::Result<()> {
    let duration = Duration::from_secs(args.duration);
    let motions = reportable(bundle, &args.labels)?;
    let manifest = &bundle.manifest;
    let mut settings = manifest.decision.clone();
    if let Some(threshold) = args.threshold {
        settings.set_threshold(threshold);
    }
    let allow = (!args.labels.is_empty()).then_some(&args.labels[..]);
    let watch = |_: &mut (), index: usize| {
        let seed = 1 + index as u64;
        let decision = Decision::new(&bundle.labels, manifest.output.activation, settings.clone(), allow)?;
        let hop = args.hop.unwrap_or(manifest.run.hop);
        let mut recognizer = Recognizer::new(manifest, Runner::new(engine, manifest)?, decision, hop);
        let mut events = Vec::new();
        watch(&mut recognizer, bundle, seed, duration, &mut events, |_, _| ())?;
        let found = found(&events, &bundle.labels);
        Ok((seed, score(&truth(seed, duration, &motions), &found, duration.as_secs_f64())))
    };
    let scores = in_parallel(threads(args.threads), args.seeds as usize, || Ok(()), watch)?;
    println!("{}", table(&scores));
    if args.record {
        let mean = mean(&scores);
        let mut figures = vec![("event F1", mean.f1)];
        figures.extend(mean.delay_p50_s.map(|s| ("median delay in seconds", s)));
        figures.extend(mean.false_alarms_per_10_min.map(|n| ("false alarms per 10 minutes of nothing", n)));
        let (seeds, seconds, how) = (args.seeds, args.duration, how(bundle, engine));
        let on = format!("the live mannequin, seeds 1 to {seeds}, {seconds} s each, overlap 0.5{how}");
        record(bundle, &figures, &on)?;
    }
    let Some(out) = &args.out else { return Ok(()) };
    let runs: Vec<_> = scores.iter().map(|(seed, score)| serde_json::json!({"seed": seed, "score": score})).collect();
    let json = serde_json::json!({
        "model": bundle.manifest.name, "duration_s": args.duration, "mean": mean(&scores), "seeds": runs,
    });
    save(out, "live.json", &format!("{json:#}\n"))
}

/// Shows the mannequin of `seed` to `recognizer` until `duration`. What is reported goes into `events`, time and logits
/// of each decision to `visit`.
pub fn watch(
    recognizer: &mut Recognizer,
    bundle: &Bundle,
    seed: u64,
    duration: Duration,
    events: &mut Vec<Event>,
    mut visit: impl FnMut(Duration, &[f32]),
) -> anyhow::Result<()> {
    let mut source = Synthetic::new((World::Studio, seed), None, (CAMERA.0, CAMERA.1), CAMERA.2, Stop::default());
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

/// Which of `motions` the mannequin of `seed` does until `duration`, and when.
pub fn truth(seed: u64, duration: Duration, motions: &[Motion]) -> Vec<Span> {
    let (mut scene, duration) = (Scene::live(World::Studio, seed), duration.as_secs_f64());
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

/// Means over seeds of the figures of [`EventScore`]; delays are those of all matches together.
#[derive(Debug, Default, serde::Serialize)]
pub struct Mean {
    pub f1: f64,
    pub precision: f64,
    pub recall: f64,
    pub delay_p50_s: Option<f64>,
    pub delay_p90_s: Option<f64>,
    pub flips_per_minute: f64,
    pub true_flips_per_minute: f64,
    pub false_alarms_per_10_min: Option<f64>,
}

pub fn mean(scores: &[(u64, EventScore)]) -> Mean {
    let of =
        |value: fn(&EventScore) -> f64| scores.iter().map(|(_, s)| value(s)).sum::<f64>() / scores.len().max(1) as f64;
    let mut delays: Vec<f64> = scores.iter().flat_map(|(_, s)| s.delays_s.clone()).collect();
    delays.sort_by(f64::total_cmp);
    let nothing_s: f64 = scores.iter().map(|(_, s)| s.nothing_s).sum();
    let alarms: usize = scores.iter().map(|(_, s)| s.false_alarms).sum();
    Mean {
        f1: of(|s| s.f1),
        precision: of(|s| s.precision),
        recall: of(|s| s.recall),
        delay_p50_s: percentile(&delays, 0.5),
        delay_p90_s: percentile(&delays, 0.9),
        flips_per_minute: of(|s| s.flips_per_minute),
        true_flips_per_minute: of(|s| s.true_flips_per_minute),
        false_alarms_per_10_min: (nothing_s > 0.0).then(|| alarms as f64 * 600.0 / nothing_s),
    }
}

fn table(scores: &[(u64, EventScore)]) -> String {
    let or_dash = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.2}"));
    let row = |name: String, f: [f64; 5], o: [Option<f64>; 3]| {
        let (p50, p90, alarms) = (or_dash(o[0]), or_dash(o[1]), or_dash(o[2]));
        let [f1, precision, recall, flips, due] = f;
        format!(
            "{name:>5} {f1:>6.3} {precision:>9.3} {recall:>6.3} {p50:>7} {p90:>7} {flips:>9.1} ({due:>4.1}) {alarms:>12}"
        )
    };
    let mut lines = vec![" seed     F1 precision recall  p50 s  p90 s  flips/min (true) alarms/10min".to_string()];
    for (seed, s) in scores {
        let figures = [s.f1, s.precision, s.recall, s.flips_per_minute, s.true_flips_per_minute];
        lines.push(row(seed.to_string(), figures, [s.delay_p50_s, s.delay_p90_s, s.false_alarms_per_10_min]));
    }
    let m = mean(scores);
    let figures = [m.f1, m.precision, m.recall, m.flips_per_minute, m.true_flips_per_minute];
    lines.push(row("mean".into(), figures, [m.delay_p50_s, m.delay_p90_s, m.false_alarms_per_10_min]));
    let mut labels = std::collections::BTreeMap::<&str, [usize; 3]>::new();
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

    #[test]
    fn the_truth_is_the_script_without_gaps_or_nothing() {
        let spans = truth(3, Duration::from_secs(60), &Motion::ALL[1..]);
        assert!(spans.len() > 5, "{spans:?}");
        assert!(spans.windows(2).all(|s| s[0].end <= s[1].start + 1e-6));
        assert!(spans.iter().all(|s| s.label != "nothing" && s.start < s.end && s.end <= 60.0));
        let walks = truth(3, Duration::from_secs(60), &[Motion::Walk]);
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
        let scores =
            [(1, score(std::slice::from_ref(&span), &found, 10.0)), (2, score(std::slice::from_ref(&span), &[], 10.0))];
        let mean = mean(&scores);
        assert_eq!((mean.f1, mean.delay_p50_s, mean.false_alarms_per_10_min), (0.5, Some(1.0), Some(0.0)));
        let table = table(&scores);
        assert!(table.lines().nth(3).unwrap().trim_start().starts_with("mean  0.500"), "{table}");
        assert!(table.ends_with("wave     2         1      1"), "{table}");
    }
}
