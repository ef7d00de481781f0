//! The decision's settings, chosen on live mannequins of seeds of their own: the engine says what it says once, then
//! every combination of settings decides on that.

use std::path::PathBuf;
use std::time::Duration;

use kinora::decision::{Decision, Settings};
use kinora::engine::{self, Engine};
use kinora::model::{Bundle, Manifest};
use kinora::pipeline::{Recognizer, Runner};

use super::events::{Span, score};
use super::live::{Mean, found, mean, reportable, truth, watch};
use super::{in_parallel, rewrite, threads};

/// From here on seeds are for choosing; those before are for reporting.
pub const FIRST_SEED: u64 = 1001;

const SMOOTHING_S: [f32; 4] = [0.0, 0.15, 0.3, 0.5];
const ENTER: [f32; 10] = [0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7];
/// Relative to `enter`.
const EXIT: [f32; 3] = [0.5, 0.7, 0.9];
const MIN_DURATION_S: [f32; 3] = [0.0, 0.25, 0.5];
const MERGE_GAP_S: [f32; 2] = [0.3, 0.6];
const LAG_S: [f32; 6] = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7];

/// Of which bundle, and by how much.
#[derive(Debug, clap::Args)]
pub struct ThresholdArgs {
    /// The bundle
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Mannequins to watch
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// How long to watch each
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    pub duration: u64,
    /// Half of the actions are to be reported within this time, if that can be had
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub delay: f64,
    /// At most so many actions are to be reported in ten minutes of nothing, if that can be had
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    pub false_alarms: f64,
    /// Write the settings into the bundle's manifest
    #[arg(long)]
    pub write: bool,
    /// Threads; 0: one a processor
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

/// What the engine said of one mannequin, and what that did.
struct Watched {
    seed: u64,
    said: Vec<(Duration, Vec<f32>)>,
    truth: Vec<Span>,
}

/// Finds the best settings and prints them, with how good they are.
pub fn command(args: &ThresholdArgs) -> anyhow::Result<()> {
    let bundle = Bundle::load(&args.model)?;
    let engine = engine::open(&bundle, &engine::Options::default())?;
    let motions = reportable(&bundle, &[])?;
    let watch = |_: &mut (), index: usize| {
        let seed = FIRST_SEED + index as u64;
        let truth = truth(seed, Duration::from_secs(args.duration), &motions);
        Ok(Watched { seed, said: said(args, &bundle, &*engine, seed)?, truth })
    };
    let all = in_parallel(threads(args.threads), args.seeds as usize, || Ok(()), watch)?;
    let (before, candidates) = (&bundle.manifest.decision, candidates(&bundle.manifest.decision));
    let judge = |_: &mut (), index: usize| judge(&bundle, &candidates[index], &all, args.duration as f64);
    let means = in_parallel(threads(args.threads), candidates.len(), || Ok(()), judge)?;
    let Some(best) = best(&means, (args.delay, args.false_alarms)) else { anyhow::bail!("no settings to choose from") };
    let (settings, mean) = (&candidates[best], &means[best]);
    println!("before: {}", row(before, &means[0]));
    println!("best:   {}", row(settings, mean));
    if args.write {
        rewrite(&bundle, &Manifest { decision: settings.clone(), ..bundle.manifest.clone() })?;
    }
    Ok(())
}

/// Time and logits of every decision on the mannequin of `seed`.
fn said(
    args: &ThresholdArgs,
    bundle: &Bundle,
    engine: &dyn Engine,
    seed: u64,
) -> anyhow::Result<Vec<(Duration, Vec<f32>)>> {
    let (manifest, duration) = (&bundle.manifest, Duration::from_secs(args.duration));
    let decision = Decision::new(&bundle.labels, manifest.output.activation, manifest.decision.clone(), None)?;
    let mut recognizer = Recognizer::new(manifest, Runner::new(engine, manifest)?, decision, manifest.run.hop);
    let mut said = Vec::new();
    watch(&mut recognizer, bundle, seed, duration, &mut Vec::new(), |t, logits| said.push((t, logits.to_vec())))?;
    log::info!("mannequin {seed}: {} decisions", said.len());
    Ok(said)
}

/// The settings that there are, then every combination; thresholds of single labels are dropped.
fn candidates(before: &Settings) -> Vec<Settings> {
    let mut all = vec![before.clone()];
    for smoothing_s in SMOOTHING_S {
        for enter in ENTER {
            for exit in EXIT.map(|share| share * enter) {
                for min_duration_s in MIN_DURATION_S {
                    for merge_gap_s in MERGE_GAP_S {
                        for lag_s in LAG_S {
                            let labels = Default::default();
                            let times = Settings { smoothing_s, min_duration_s, merge_gap_s, lag_s, ..before.clone() };
                            all.push(Settings { enter, exit, labels, ..times });
                        }
                    }
                }
            }
        }
    }
    all
}

fn judge(bundle: &Bundle, settings: &Settings, all: &[Watched], duration_s: f64) -> anyhow::Result<Mean> {
    let mut scores = Vec::with_capacity(all.len());
    for Watched { seed, said, truth } in all {
        let mut events = Vec::new();
        let mut decision = Decision::new(&bundle.labels, bundle.manifest.output.activation, settings.clone(), None)?;
        said.iter().for_each(|(t, logits)| decision.step(*t, logits, &mut events));
        decision.finish(said.last().map_or(Duration::ZERO, |(t, _)| *t), &mut events);
        scores.push((*seed, score(truth, &found(&events, &bundle.labels), duration_s)));
    }
    Ok(mean(&scores))
}

/// The highest F1 among those whose median delay and false alarms are at most what is wanted; if none has both, among those
/// that have one, or else among all.
fn best(means: &[Mean], (delay, alarms): (f64, f64)) -> Option<usize> {
    let missed = |mean: &Mean| {
        let fast = mean.delay_p50_s.is_some_and(|s| s <= delay);
        let quiet = mean.false_alarms_per_10_min.is_none_or(|n| n <= alarms);
        usize::from(!fast) + usize::from(!quiet)
    };
    let least = means.iter().map(missed).min()?;
    let allowed = means.iter().enumerate().filter(|(_, mean)| missed(mean) == least);
    allowed.max_by(|a, b| a.1.f1.total_cmp(&b.1.f1)).map(|(index, _)| index)
}

fn row(settings: &Settings, mean: &Mean) -> String {
    let Settings { smoothing_s, enter, exit, min_duration_s, merge_gap_s, lag_s, .. } = settings;
    let delay = mean.delay_p50_s.map_or("-".into(), |s| format!("{s:.2} s"));
    let alarms = mean.false_alarms_per_10_min.map_or("-".into(), |n| format!("{n:.1}"));
    format!(
        "F1 {:.3}, median delay {delay}, {alarms} false alarms in 10 minutes of nothing with smoothing_s {smoothing_s}, enter {enter}, exit {exit:.3}, min_duration_s \
         {min_duration_s}, merge_gap_s {merge_gap_s}, lag_s {lag_s}",
        mean.f1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_fast_and_quiet_enough_if_any_is() {
        let mean = |f1, delay, alarms| Mean {
            f1,
            delay_p50_s: delay,
            false_alarms_per_10_min: Some(alarms),
            ..Mean::default()
        };
        let means = [
            mean(0.5, Some(0.9), 0.0),
            mean(0.8, Some(1.2), 1.0),
            mean(0.6, Some(1.0), 2.0),
            mean(0.9, Some(0.6), 3.0),
            mean(0.0, None, 0.0),
        ];
        assert_eq!(best(&means, (1.0, 2.0)), Some(2));
        assert_eq!(best(&means, (1.0, 1.5)), Some(0));
        assert_eq!(best(&means, (0.5, 2.0)), Some(1));
        assert_eq!(best(&means, (1.0, -1.0)), Some(3));
        assert_eq!(best(&means, (0.5, -1.0)), Some(3));
        assert_eq!(best(&[], (1.0, 2.0)), None);
    }

    #[test]
    fn every_candidate_is_allowed() {
        let before = Settings { cooldown_s: 0.7, ..Settings::default() };
        let all = candidates(&before);
        assert_eq!(all[0], before);
        for settings in &all {
            assert!(settings.check(&[]).is_ok(), "{settings:?}");
            assert_eq!(settings.cooldown_s, 0.7);
        }
    }
}
