//! How good reported actions are against what was done: a pure function of two lists of spans.

use std::collections::BTreeMap;

use serde::Serialize;

/// Overlap, as intersection over union in time, from which a reported action counts as the one that was done.
pub const OVERLAP: f64 = 0.5;

/// A stretch of time during which something is done. Seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What is done.
    pub label: String,
    /// When it begins.
    pub start: f64,
    /// When it is over.
    pub end: f64,
}

/// An action that was reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// From when to when it is said to have lasted.
    pub span: Span,
    /// When its start was reported.
    pub reported_at: f64,
}

/// Counts of one label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Actions done.
    pub done: usize,
    /// Actions reported.
    pub reported: usize,
    /// Reported actions that are ones that were done.
    pub matched: usize,
}

impl Counts {
    /// Share of reported actions that were done; 1 when none was reported.
    pub fn precision(self) -> f64 {
        share(self.matched, self.reported)
    }

    /// Share of actions done that were reported; 1 when none was done.
    pub fn recall(self) -> f64 {
        share(self.matched, self.done)
    }

    /// Twice the matches over all done and all reported; 1 when there are none of either.
    pub fn f1(self) -> f64 {
        share(2 * self.matched, self.done + self.reported)
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// The quality of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventScore {
    /// By label, of those done or reported.
    pub labels: BTreeMap<String, Counts>,
    /// Over all labels.
    pub all: Counts,
    /// Of [`EventScore::all`].
    pub f1: f64,
    /// Of [`EventScore::all`].
    pub precision: f64,
    /// Of [`EventScore::all`].
    pub recall: f64,
    /// For each match the time from the action's start to its report, in seconds, shortest first.
    pub delays_s: Vec<f64>,
    /// Half of the delays are no longer than this. None without matches.
    pub delay_p50_s: Option<f64>,
    /// Nine of ten delays are no longer than this. None without matches.
    pub delay_p90_s: Option<f64>,
    /// Changes of what is reported, nothing included, in a minute.
    pub flips_per_minute: f64,
    /// Changes of what is done in a minute: what a perfect run would have.
    pub true_flips_per_minute: f64,
    /// Reported actions that lie for more than half in time with nothing done, and are no match.
    pub false_alarms: usize,
    /// Time with nothing done, in seconds.
    pub nothing_s: f64,
    /// False alarms in ten minutes of nothing. None when there was no such time.
    pub false_alarms_per_10_min: Option<f64>,
}

/// Compares what was `found` with the `truth` of a run of `duration` seconds. Spans of the truth are actions, without
/// stretches of nothing, and do not overlap. Within a label, pairs that overlap by at least [`OVERLAP`] are matched, the
/// best first, each span once.
pub fn score(truth: &[Span], found: &[Found], duration: f64) -> EventScore {
    let matches = matches(truth, found);
    let mut labels: BTreeMap<String, Counts> = BTreeMap::new();
    truth.iter().for_each(|t| labels.entry(t.label.clone()).or_default().done += 1);
    found.iter().for_each(|f| labels.entry(f.span.label.clone()).or_default().reported += 1);
    for (t, _) in &matches {
        labels.entry(truth[*t].label.clone()).or_default().matched += 1;
    }
    let all = Counts { done: truth.len(), reported: found.len(), matched: matches.len() };
    let mut delays_s: Vec<f64> = matches.iter().map(|(t, f)| found[*f].reported_at - truth[*t].start).collect();
    delays_s.sort_by(f64::total_cmp);
    let nothing_s = (duration - truth.iter().map(|t| t.end.min(duration) - t.start).sum::<f64>()).max(0.0);
    let is_alarm = |f: &&Found| {
        let busy: f64 = truth.iter().map(|t| intersection(t, &f.span)).sum();
        busy < 0.5 * (f.span.end - f.span.start)
    };
    let unmatched = found.iter().enumerate().filter(|(i, _)| matches.iter().all(|(_, f)| f != i)).map(|(_, f)| f);
    let false_alarms = unmatched.filter(is_alarm).count();
    let minutes = duration / 60.0;
    EventScore {
        labels,
        all,
        f1: all.f1(),
        precision: all.precision(),
        recall: all.recall(),
        delay_p50_s: percentile(&delays_s, 0.5),
        delay_p90_s: percentile(&delays_s, 0.9),
        delays_s,
        flips_per_minute: changes(found.iter().map(|f| &f.span), duration) as f64 / minutes,
        true_flips_per_minute: changes(truth.iter(), duration) as f64 / minutes,
        false_alarms,
        nothing_s,
        false_alarms_per_10_min: (nothing_s > 0.0).then(|| false_alarms as f64 * 600.0 / nothing_s),
    }
}

/// Pairs of indices into `truth` and `found`.
fn matches(truth: &[Span], found: &[Found]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (t, done) in truth.iter().enumerate() {
        for (f, reported) in found.iter().enumerate().filter(|(_, f)| f.span.label == done.label) {
            let overlap = overlap(done, &reported.span);
            if overlap >= OVERLAP {
                pairs.push((overlap, t, f));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut matches: Vec<(usize, usize)> = Vec::new();
    for (_, t, f) in pairs {
        if matches.iter().all(|(mt, mf)| *mt != t && *mf != f) {
            matches.push((t, f));
        }
    }
    matches
}

fn intersection(a: &Span, b: &Span) -> f64 {
    (a.end.min(b.end) - a.start.max(b.start)).max(0.0)
}

/// Intersection over union.
fn overlap(a: &Span, b: &Span) -> f64 {
    let both = intersection(a, b);
    let either = (a.end - a.start) + (b.end - b.start) - both;
    if either > 0.0 { both / either } else { 0.0 }
}

/// The smallest value that at least `share` of the sorted `values` do not exceed.
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

/// How often what is going on changes within `duration`: starts and ends, one that follows at once on another being one
/// change.
fn changes<'a>(spans: impl Iterator<Item = &'a Span>, duration: f64) -> usize {
    let mut spans: Vec<&Span> = spans.collect();
    spans.sort_by(|a, b| a.start.total_cmp(&b.start));
    let starts = spans.iter().filter(|s| s.start > 0.0 && s.start < duration).count();
    let ends = spans.iter().filter(|s| s.end < duration).count();
    let joined = spans.windows(2).filter(|s| (s[1].start - s[0].end).abs() < 1e-6).count();
    (starts + ends).saturating_sub(joined)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn span(label: &str, start: f64, end: f64) -> Span {
        Span { label: label.into(), start, end }
    }

    fn found(label: &str, start: f64, end: f64, reported_at: f64) -> Found {
        Found { span: span(label, start, end), reported_at }
    }

    /// Two actions in 20 seconds, 14 of them nothing.
    fn truth() -> Vec<Span> {
        vec![span("wave", 2.0, 6.0), span("clap", 10.0, 12.0)]
    }

    #[test]
    fn perfect() {
        let found = [found("wave", 2.0, 6.0, 2.5), found("clap", 10.0, 12.0, 10.9)];
        let score = score(&truth(), &found, 20.0);
        assert_eq!((score.f1, score.precision, score.recall), (1.0, 1.0, 1.0));
        assert_eq!(score.delay_p50_s, Some(0.5));
        assert!((score.delay_p90_s.unwrap() - 0.9).abs() < 1e-9);
        assert_eq!((score.flips_per_minute, score.true_flips_per_minute), (12.0, 12.0));
        assert_eq!((score.nothing_s, score.false_alarms_per_10_min), (14.0, Some(0.0)));
        assert_eq!(score.labels["wave"], Counts { done: 1, reported: 1, matched: 1 });
    }

    #[test]
    fn shifted_counts_until_the_overlap_is_a_half() {
        let late = |by: f64| score(&[span("wave", 2.0, 6.0)], &[found("wave", 2.0 + by, 6.0 + by, 3.0 + by)], 20.0);
        assert_eq!(late(1.3).f1, 1.0);
        assert_eq!(late(1.4).f1, 0.0);
        assert_eq!(late(1.4).false_alarms, 0);
        assert_eq!(late(3.0).false_alarms, 1);
        assert_eq!(late(1.0).delay_p50_s, Some(2.0));
    }

    #[test]
    fn split_in_two_is_one_match_at_most() {
        let found = [found("wave", 2.0, 4.4, 2.4), found("wave", 4.6, 6.0, 4.9)];
        let score = score(&[span("wave", 2.0, 6.0)], &found, 20.0);
        assert_eq!(score.all, Counts { done: 1, reported: 2, matched: 1 });
        assert!((score.f1 - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!((score.precision, score.recall, score.false_alarms), (0.5, 1.0, 0));
        assert_eq!(score.flips_per_minute, 12.0);
    }

    #[test]
    fn a_wrong_label_is_a_miss_and_no_false_alarm() {
        let score = score(&[span("wave", 2.0, 6.0)], &[found("clap", 2.0, 6.0, 2.5)], 20.0);
        assert_eq!((score.f1, score.precision, score.recall, score.false_alarms), (0.0, 0.0, 0.0, 0));
        assert_eq!(score.labels["clap"], Counts { done: 0, reported: 1, matched: 0 });
        assert_eq!((score.delay_p50_s, score.delay_p90_s), (None, None));
    }

    #[test]
    fn a_report_in_nothing_is_a_false_alarm() {
        let found = [found("wave", 2.0, 6.0, 2.5), found("clap", 7.0, 8.0, 7.2), found("clap", 10.0, 12.0, 10.4)];
        let score = score(&truth(), &found, 20.0);
        assert_eq!(score.false_alarms, 1);
        assert!((score.false_alarms_per_10_min.unwrap() - 600.0 / 14.0).abs() < 1e-9);
        assert!((score.f1 - 0.8).abs() < 1e-9);
    }

    #[test]
    fn one_action_right_after_another_is_one_change() {
        let spans = [span("a", 0.0, 2.0), span("b", 2.0, 4.0), span("c", 5.0, 10.0)];
        assert_eq!(changes(spans.iter(), 10.0), 3);
        assert_eq!(changes([].iter(), 10.0), 0);
    }

    #[test]
    fn nothing_done_and_nothing_reported_is_right() {
        let score = score(&[], &[], 600.0);
        assert_eq!((score.f1, score.false_alarms_per_10_min), (1.0, Some(0.0)));
        assert_eq!(percentile(&[1.0, 2.0, 3.0, 4.0], 0.5), Some(2.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
