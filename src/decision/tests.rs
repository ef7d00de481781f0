//! Written-out sequences of scores and the events that they must give, and properties of random ones.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use super::{Decision, Event, Kind, Settings, Thresholds};
use crate::ErrorKind;
use crate::model::manifest::Activation::{self, Sigmoid, Softmax};

const LABELS: [&str; 4] = ["nothing", "wave", "clap", "throw"];
const STEP_S: f64 = 0.1;

fn labels() -> Vec<String> {
    LABELS.map(String::from).to_vec()
}

/// No smoothing, so that sequences can be followed by hand; enter 0.6, exit 0.4.
fn plain() -> Settings {
    Settings { smoothing_s: 0.0, ..Settings::default() }
}

fn decision(activation: Activation, settings: Settings) -> Decision {
    Decision::new(&labels(), activation, settings, None).unwrap()
}

/// The logits of `scores` of wave, clap and throw; for softmax nothing has the rest.
fn logits(activation: Activation, scores: [f32; 3]) -> [f32; 4] {
    let [a, b, c] = scores;
    match activation {
        Softmax => [1.0 - a - b - c, a, b, c].map(|p| p.max(1e-6).ln()),
        Sigmoid => [0.01, a, b, c].map(|p| (p.clamp(1e-6, 1.0 - 1e-6) / (1.0 - p.clamp(1e-6, 1.0 - 1e-6))).ln()),
    }
}

fn at(seconds: f64) -> Duration {
    Duration::from_micros((seconds * 1e6).round() as u64)
}

/// Runs `(scores, steps)` one after another, finishes one step after the last, and gives all events as
/// `kind label id t_start t`, updates left out.
fn play(decision: &mut Decision, activation: Activation, sequence: &[([f32; 3], usize)]) -> Vec<String> {
    let mut events = Vec::new();
    let mut step = 0;
    for &(scores, times) in sequence {
        for _ in 0..times {
            decision.step(at(f64::from(step) * STEP_S), &logits(activation, scores), &mut events);
            step += 1;
        }
    }
    decision.finish(at(f64::from(step) * STEP_S), &mut events);
    written(&events)
}

fn written(events: &[Event]) -> Vec<String> {
    let told = events.iter().filter(|e| e.kind != Kind::Update);
    told.map(|e| {
        let (label, t_start, t) = (LABELS[e.label], e.t_start.as_secs_f64(), e.t.as_secs_f64());
        format!("{:?} {label} {} {t_start:.1} {t:.1}", e.kind, e.id)
    })
    .collect()
}

const WAVE: [f32; 3] = [0.9, 0.0, 0.0];
const CLAP: [f32; 3] = [0.0, 0.9, 0.0];
const QUIET: [f32; 3] = [0.0, 0.0, 0.0];

#[test]
fn one_action_starts_when_it_rose_and_ends_when_it_fell() {
    for activation in [Softmax, Sigmoid] {
        let events = play(&mut decision(activation, plain()), activation, &[(QUIET, 10), (WAVE, 10), (QUIET, 10)]);
        assert_eq!(events, ["Start wave 1 1.0 1.2", "End wave 1 1.0 2.0"]);
    }
}

#[test]
fn silence_and_the_label_for_nothing_give_no_event() {
    assert!(play(&mut decision(Softmax, plain()), Softmax, &[(QUIET, 100)]).is_empty());
    let mut sigmoid = decision(Sigmoid, plain());
    let mut events = Vec::new();
    for step in 0..50 {
        sigmoid.step(at(f64::from(step) * STEP_S), &[9.0, -9.0, -9.0, -9.0], &mut events);
    }
    assert!(events.is_empty() && sigmoid.active().is_empty());
    assert_eq!(sigmoid.ranking()[0].0, 0);
}

#[test]
fn flicker_below_the_minimum_duration_gives_no_event() {
    let mut settings = plain();
    settings.min_duration_s = 0.3;
    let sequence: Vec<_> = (0..40).map(|i| (if i % 3 == 0 { QUIET } else { WAVE }, 1)).collect();
    assert!(play(&mut decision(Softmax, settings), Softmax, &sequence).is_empty());
}

#[test]
fn flicker_is_smoothed_into_one_action() {
    let settings = Settings { smoothing_s: 0.5, enter: 0.5, exit: 0.3, ..Settings::default() };
    let mut sequence: Vec<_> = (0..40).map(|i| (if i % 3 == 0 { QUIET } else { WAVE }, 1)).collect();
    sequence.push((QUIET, 20));
    let events = play(&mut decision(Softmax, settings), Softmax, &sequence);
    assert_eq!(events.len(), 2, "{events:?}");
}

#[test]
fn scores_between_the_thresholds_neither_start_nor_end() {
    let between = [0.5, 0.0, 0.0];
    let sequence = [(between, 10), (WAVE, 5), (between, 20), (QUIET, 10), (between, 10)];
    let events = play(&mut decision(Sigmoid, plain()), Sigmoid, &sequence);
    assert_eq!(events, ["Start wave 1 1.0 1.2", "End wave 1 1.0 3.5"]);
}

#[test]
fn a_slow_rise_starts_when_the_threshold_is_reached() {
    let rise: Vec<_> = (0..=20).map(|i| ([i as f32 * 0.05 - 0.001, 0.0, 0.0], 1)).collect();
    let events = play(&mut decision(Softmax, plain()), Softmax, &rise);
    assert_eq!(events, ["Start wave 1 1.3 1.5", "End wave 1 1.3 2.1"]);
}

#[test]
fn the_minimum_duration_is_reached_to_the_step() {
    assert_eq!(play(&mut decision(Softmax, plain()), Softmax, &[(QUIET, 3), (WAVE, 2), (QUIET, 9)]), [""; 0]);
    let events = play(&mut decision(Softmax, plain()), Softmax, &[(QUIET, 3), (WAVE, 3), (QUIET, 9)]);
    assert_eq!(events, ["Start wave 1 0.3 0.5", "End wave 1 0.3 0.6"]);
}

#[test]
fn a_short_gap_is_merged_and_a_long_one_is_not() {
    let gap = |steps| [(WAVE, 5), (QUIET, steps), (WAVE, 5), (QUIET, 9)];
    let merged = play(&mut decision(Softmax, plain()), Softmax, &gap(3));
    assert_eq!(merged, ["Start wave 1 0.0 0.2", "End wave 1 0.0 1.3"]);
    let split = play(&mut decision(Softmax, plain()), Softmax, &gap(4));
    let two = ["Start wave 1 0.0 0.2", "End wave 1 0.0 0.5", "Start wave 2 0.9 1.1", "End wave 2 0.9 1.4"];
    assert_eq!(split, two);
}

#[test]
fn an_end_is_held_back_for_the_gap_and_carries_the_time_of_the_fall() {
    let mut decision = decision(Softmax, plain());
    let mut events = Vec::new();
    for step in 0..20 {
        let scores = if step < 10 { WAVE } else { QUIET };
        decision.step(at(f64::from(step) * STEP_S), &logits(Softmax, scores), &mut events);
        let ended = events.last().is_some_and(|e| e.kind == Kind::End);
        assert_eq!(ended, step >= 13, "step {step}");
        assert_eq!(decision.active().len(), usize::from((2..13).contains(&step)), "step {step}");
    }
    assert_eq!(events.last().unwrap().t, at(1.0));
}

#[test]
fn the_next_action_ends_the_one_before() {
    let events = play(&mut decision(Softmax, plain()), Softmax, &[(WAVE, 10), (CLAP, 10), (QUIET, 9)]);
    let two = ["Start wave 1 0.0 0.2", "End wave 1 0.0 1.0", "Start clap 2 1.0 1.2", "End clap 2 1.0 2.0"];
    assert_eq!(events, two);
    // Also with thresholds so low that the first does not fall on its own.
    let low = Settings { enter: 0.4, exit: 0.2, ..plain() };
    let sequence = [([0.7, 0.2, 0.0], 10), ([0.3, 0.6, 0.0], 10), (QUIET, 9)];
    assert_eq!(play(&mut decision(Softmax, low), Softmax, &sequence), two);
}

#[test]
fn a_short_rival_neither_ends_nor_splits_an_action() {
    let events = play(&mut decision(Softmax, plain()), Softmax, &[(WAVE, 10), (CLAP, 2), (WAVE, 8), (QUIET, 9)]);
    assert_eq!(events, ["Start wave 1 0.0 0.2", "End wave 1 0.0 2.0"]);
}

#[test]
fn sigmoid_runs_several_at_once() {
    let both = [0.9, 0.9, 0.0];
    let events = play(&mut decision(Sigmoid, plain()), Sigmoid, &[(WAVE, 5), (both, 10), (CLAP, 5), (QUIET, 9)]);
    let overlapping = ["Start wave 1 0.0 0.2", "Start clap 2 0.5 0.7", "End wave 1 0.0 1.5", "End clap 2 0.5 2.0"];
    assert_eq!(events, overlapping);
}

#[test]
fn softmax_needs_to_lead_nothing() {
    let low = Settings { enter: 0.3, exit: 0.2, ..plain() };
    assert!(play(&mut decision(Softmax, low.clone()), Softmax, &[([0.4, 0.0, 0.0], 20)]).is_empty());
    assert_eq!(play(&mut decision(Softmax, low), Softmax, &[([0.6, 0.0, 0.0], 20)]).len(), 2);
}

#[test]
fn a_cooldown_delays_the_next_start_of_the_same_action_only() {
    let cool = Settings { cooldown_s: 1.0, merge_gap_s: 0.0, ..plain() };
    let events = play(&mut decision(Softmax, cool.clone()), Softmax, &[(WAVE, 5), (QUIET, 2), (WAVE, 20)]);
    let late = ["Start wave 1 0.0 0.2", "End wave 1 0.0 0.5", "Start wave 2 1.5 1.7", "End wave 2 1.5 2.7"];
    assert_eq!(events, late);
    let events = play(&mut decision(Softmax, cool), Softmax, &[(WAVE, 5), (QUIET, 2), (CLAP, 10)]);
    assert_eq!(events[2], "Start clap 2 0.7 0.9");
}

/// What is put back stays in order: no action begins before the one before it was over, or ends before it began.
#[test]
fn a_lag_puts_starts_and_ends_back() {
    let late = Settings { lag_s: 0.4, merge_gap_s: 0.0, ..plain() };
    let mut decision = decision(Softmax, late);
    let mut events = Vec::new();
    let sequence = [(QUIET, 10), (WAVE, 10), (CLAP, 3), (QUIET, 10)];
    let steps = sequence.iter().flat_map(|(scores, times)| std::iter::repeat_n(scores, *times)).enumerate();
    for (step, scores) in steps {
        decision.step(at(step as f64 * STEP_S), &logits(Softmax, *scores), &mut events);
    }
    let spans: Vec<(usize, Duration, Option<Duration>)> =
        events.iter().filter(|e| e.kind == Kind::End).map(|e| (e.label, e.t_start, e.t_end)).collect();
    assert_eq!(
        spans.iter().map(|s| (s.1, s.2)).collect::<Vec<_>>(),
        [(at(0.6), Some(at(1.6))), (at(1.6), Some(at(1.9))),]
    );
    assert!(events.windows(2).all(|pair| pair[0].t <= pair[1].t), "{events:?}");
}

#[test]
fn thresholds_of_single_labels_apply_to_them_alone() {
    let mut settings = plain();
    settings.labels.insert("clap".into(), Thresholds { enter: 0.95, exit: 0.9 });
    let events = play(&mut decision(Sigmoid, settings.clone()), Sigmoid, &[([0.9, 0.9, 0.0], 10)]);
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|e| e.contains("wave")));
    settings.set_threshold(0.3);
    assert_eq!((settings.enter, settings.exit, settings.labels.len()), (0.3, 0.2, 0));
}

#[test]
fn another_hop_gives_the_same_events_within_a_step() {
    let truth = |t: f64| if (2.0..4.5).contains(&t) || (5.5..7.0).contains(&t) { WAVE } else { QUIET };
    let run = |step_s: f64| {
        let mut decision = decision(Softmax, Settings::default());
        let mut events = Vec::new();
        for step in 0..(10.0 / step_s) as u32 {
            let t = f64::from(step) * step_s;
            decision.step(at(t), &logits(Softmax, truth(t)), &mut events);
        }
        events.retain(|e| e.kind != Kind::Update);
        events
    };
    let reference = run(0.01);
    assert_eq!(reference.len(), 4);
    for step_s in [0.033, 0.1, 0.25] {
        let events = run(step_s);
        assert_eq!(events.len(), reference.len(), "every {step_s} s");
        for (a, b) in events.iter().zip(&reference) {
            assert_eq!((a.kind, a.id), (b.kind, b.id));
            let apart = |x: Duration, y: Duration| (x.as_secs_f64() - y.as_secs_f64()).abs();
            // A start is told after two roundings to a step: of the rise and of the minimum duration.
            assert!(apart(a.t_start, b.t_start) <= step_s + 0.011, "{a:?} {b:?}");
            assert!(apart(a.t, b.t) <= 2.0 * step_s + 0.011, "{a:?} {b:?}");
        }
    }
}

#[test]
fn smoothing_takes_its_time_constant() {
    let mut decision = decision(Sigmoid, Settings { smoothing_s: 0.5, ..Settings::default() });
    let mut events = Vec::new();
    decision.step(at(0.0), &logits(Sigmoid, QUIET), &mut events);
    for step in 1..=5 {
        decision.step(at(f64::from(step) * 0.1), &logits(Sigmoid, WAVE), &mut events);
    }
    let (label, score) = decision.ranking()[0];
    assert_eq!(label, 1);
    assert!((score - 0.9 * (1.0 - (-1.0f32).exp())).abs() < 1e-3, "{score}");
}

#[test]
fn what_is_not_allowed_counts_as_nothing() {
    let allow = ["wave".to_string()];
    let mut softmax = Decision::new(&labels(), Softmax, plain(), Some(&allow)).unwrap();
    let mostly_clap = [0.1, 0.9, 0.0];
    let events = play(&mut softmax, Softmax, &[(mostly_clap, 10), (WAVE, 10), (CLAP, 10)]);
    assert_eq!(events, ["Start wave 1 1.0 1.2", "End wave 1 1.0 2.0"]);
    softmax.step(at(0.0), &logits(Softmax, mostly_clap), &mut Vec::new());
    let ranking = softmax.ranking();
    assert_eq!(ranking.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 1]);
    assert!((ranking[0].1 - 0.9).abs() < 1e-3 && (ranking[1].1 - 0.1).abs() < 1e-3, "{ranking:?}");

    let mut sigmoid = Decision::new(&labels(), Sigmoid, plain(), Some(&allow)).unwrap();
    let events = play(&mut sigmoid, Sigmoid, &[([0.9, 0.9, 0.9], 10)]);
    assert_eq!(events, ["Start wave 1 0.0 0.2", "End wave 1 0.0 1.0"]);
}

#[test]
fn labels_without_nothing_are_decided_too() {
    let labels = ["wave", "clap"].map(String::from);
    let mut decision = Decision::new(&labels, Softmax, plain(), None).unwrap();
    let mut events = Vec::new();
    for step in 0..10 {
        decision.step(at(f64::from(step) * STEP_S), &[3.0, 0.0], &mut events);
    }
    assert_eq!(decision.nothing(), None);
    assert_eq!((events[0].kind, events[0].label), (Kind::Start, 0));
}

#[test]
fn updates_come_with_a_change_or_after_a_second() {
    let mut decision = decision(Softmax, plain());
    let mut events = Vec::new();
    for step in 0..40 {
        let score = if step < 25 { 0.8 } else { 0.9 };
        decision.step(at(f64::from(step) * STEP_S), &logits(Softmax, [score, 0.0, 0.0]), &mut events);
    }
    let times: Vec<_> = events.iter().filter(|e| e.kind == Kind::Update).map(|e| e.t).collect();
    assert_eq!(times, [1.2, 2.2, 2.5, 3.5].map(at));
}

#[test]
fn an_end_tells_the_highest_confidence() {
    let mut decision = decision(Softmax, plain());
    let mut events = Vec::new();
    for (step, score) in [0.7, 0.7, 0.7, 0.95, 0.7, 0.0, 0.0, 0.0, 0.0].into_iter().enumerate() {
        decision.step(at(step as f64 * STEP_S), &logits(Softmax, [score, 0.0, 0.0]), &mut events);
    }
    let end = events.last().unwrap();
    assert!(end.kind == Kind::End && (end.confidence - 0.95).abs() < 1e-3, "{end:?}");
}

#[test]
fn logits_that_are_not_finite_are_ignored() {
    let mut decision = decision(Softmax, plain());
    let mut events = Vec::new();
    for step in 0..10 {
        let mut row = logits(Softmax, WAVE);
        if step % 2 == 1 {
            row[2] = [f32::NAN, f32::INFINITY][step / 2 % 2];
        }
        decision.step(at(step as f64 * STEP_S), &row, &mut events);
    }
    decision.step(at(1.0), &[0.0; 3], &mut events);
    assert_eq!(written(&events), ["Start wave 1 0.0 0.2"]);
    assert!(decision.ranking().iter().all(|r| r.1.is_finite()));
    // Nothing but such logits does not keep an action going for ever.
    decision.step(at(11.5), &[f32::NAN; 4], &mut events);
    assert_eq!(written(&events)[1], "End wave 1 0.0 0.8");
}

#[test]
fn a_jump_in_time_begins_another_stream() {
    for jump in [100.0, 0.0] {
        let mut decision = decision(Softmax, plain());
        let mut events = Vec::new();
        for step in 0..20 {
            let t = f64::from(step) * STEP_S;
            let t = if step < 10 { 5.0 + t } else { jump + t };
            decision.step(at(t), &logits(Softmax, WAVE), &mut events);
        }
        let told = written(&events);
        assert_eq!(told[..2], ["Start wave 1 5.0 5.2", "End wave 1 5.0 5.9"]);
        assert_eq!(told[2], format!("Start wave 2 {:.1} {:.1}", jump + 1.0, jump + 1.2));
    }
}

#[test]
fn finish_ends_what_runs_and_what_is_held() {
    let mut softmax = decision(Softmax, plain());
    assert_eq!(play(&mut softmax, Softmax, &[(WAVE, 5)])[1], "End wave 1 0.0 0.5");
    assert!(softmax.active().is_empty() && softmax.ranking().is_empty());
    assert_eq!(play(&mut softmax, Softmax, &[(WAVE, 5), (QUIET, 2)])[1], "End wave 2 0.0 0.5");
    assert!(play(&mut softmax, Softmax, &[(WAVE, 2)]).is_empty());
    let mut events = Vec::new();
    softmax.step(at(1.0), &logits(Softmax, WAVE), &mut events);
    softmax.reset();
    softmax.finish(at(2.0), &mut events);
    assert!(events.is_empty());
}

#[test]
fn wrong_settings_and_labels_are_refused_by_name() {
    let refused = |change: fn(&mut Settings)| {
        let mut settings = plain();
        change(&mut settings);
        let error = Decision::new(&labels(), Softmax, settings, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        error.to_string()
    };
    assert!(refused(|s| s.smoothing_s = f32::NAN).starts_with("decision.smoothing_s = NaN:"));
    assert!(refused(|s| s.min_duration_s = -0.1).starts_with("decision.min_duration_s = -0.1:"));
    assert!(refused(|s| s.merge_gap_s = f32::INFINITY).contains("merge_gap_s"));
    assert!(refused(|s| s.cooldown_s = 1e9).contains("cooldown_s"));
    assert!(refused(|s| s.enter = 1.5).starts_with("decision.enter = 1.5:"));
    assert!(refused(|s| s.exit = 0.7).contains("at most decision.enter = 0.6"));
    assert!(refused(|s| s.exit = 0.0).contains("decision.exit"));
    assert!(
        refused(|s| s.labels.extend([("fly".into(), Thresholds { enter: 0.5, exit: 0.4 })])).contains("labels.fly")
    );
    assert!(
        refused(|s| s.labels.extend([("wave".into(), Thresholds { enter: 0.5, exit: 0.6 })])).contains("wave.exit")
    );

    let allow = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        Decision::new(&labels(), Softmax, plain(), Some(&names)).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(allow(&["wave", "fly"]).unwrap_err(), "the model has no label fly; it has nothing, wave, clap, throw");
    assert!(allow(&["nothing"]).unwrap_err().contains("no action"));
    assert!(allow(&[]).is_err());
    assert!(allow(&["nothing", "wave"]).is_ok());
}

#[test]
fn settings_survive_the_manifest() {
    let mut settings = plain();
    settings.labels.insert("wave".into(), Thresholds { enter: 0.7, exit: 0.5 });
    let text = toml::to_string(&settings).unwrap();
    assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings);
    assert_eq!(toml::from_str::<Settings>("enter = 0.7").unwrap().exit, Settings::default().exit);
    assert!(toml::from_str::<Settings>("entr = 0.7").unwrap_err().to_string().contains("entr"));
}

/// Random logits that linger, with random settings and steps.
fn random_run(seed: u64, activation: Activation) -> Vec<Event> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let enter = 0.2 + 0.7 * rng.f32();
    let settings = Settings {
        smoothing_s: rng.f32() * 0.5 * f32::from(rng.u8(0..2)),
        enter,
        exit: enter * (0.3 + 0.7 * rng.f32()),
        min_duration_s: rng.f32() * 0.5 * f32::from(rng.u8(0..2)),
        merge_gap_s: rng.f32() * f32::from(rng.u8(0..2)),
        cooldown_s: rng.f32() * f32::from(rng.u8(0..2)),
        ..Settings::default()
    };
    let mut decision = decision(activation, settings);
    let (mut events, mut t, mut row) = (Vec::new(), 0.0, [0.0f32; 4]);
    for _ in 0..400 {
        t += rng.f64() * 0.3;
        if rng.u8(0..4) == 0 {
            row = std::array::from_fn(|_| rng.f32() * 8.0 - 4.0);
        }
        decision.step(at(t), &row, &mut events);
        if activation == Softmax {
            assert!(decision.active().len() <= 1, "seed {seed} at {t}");
        }
        let ranking = decision.ranking();
        assert!(ranking.len() == 4 && ranking.is_sorted_by(|a, b| a.1 >= b.1));
        if rng.u8(0..100) == 0 {
            decision.finish(at(t), &mut events);
        }
    }
    decision.finish(at(t), &mut events);
    events
}

#[test]
fn events_of_random_scores_are_well_formed() {
    let mut starts = 0;
    for (seed, activation) in (0..300).flat_map(|seed| [(seed, Softmax), (seed, Sigmoid)]) {
        let events = random_run(seed, activation);
        let what = format!("seed {seed} {activation:?}");
        let mut open: Vec<Event> = Vec::new();
        let (mut last_id, mut last_t, mut last_end) = (0, Duration::ZERO, Duration::ZERO);
        for event in events {
            assert!(event.t_start <= event.t && event.label != 0, "{what}: {event:?}");
            assert!((0.0..=1.0).contains(&event.confidence), "{what}: {event:?}");
            if activation == Softmax {
                assert!(event.t >= last_t, "{what}: {event:?} before {last_t:?}");
                last_t = event.t;
            }
            let running = open.iter().position(|e| e.id == event.id);
            match (event.kind, running) {
                (Kind::Start, None) => {
                    assert_eq!(event.id, last_id + 1, "{what}");
                    assert!(open.iter().all(|e| e.label != event.label), "{what}: {event:?}");
                    assert!(activation == Sigmoid || open.is_empty() && event.t_start >= last_end, "{what}: {event:?}");
                    last_id = event.id;
                    starts += 1;
                    open.push(event);
                }
                (Kind::Update, Some(index)) | (Kind::End, Some(index)) => {
                    let before = &mut open[index];
                    assert_eq!((before.label, before.t_start), (event.label, event.t_start), "{what}");
                    assert!(event.t >= before.t, "{what}: {event:?} after {before:?}");
                    if event.kind == Kind::End {
                        last_end = event.t;
                        open.remove(index);
                    } else {
                        *before = event;
                    }
                }
                _ => panic!("{what}: {event:?} does not fit {open:?}"),
            }
        }
        assert!(open.is_empty(), "{what}: {open:?}");
    }
    assert!(starts > 1000, "{starts} actions are too few to say anything");
}
