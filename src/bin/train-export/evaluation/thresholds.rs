//! The decision's settings, chosen on live mannequins of seeds of their own, and on mannequins that do what is no class:
//! the engine says what it says once, then every combination of settings decides on that, then, from several of those, single
//! labels get thresholds of their own.

use std::path::PathBuf;
use std::time::Duration;

use kinora::decision::{Decision, Settings, Thresholds};
use kinora::engine::{self, Engine};
use kinora::model::{Bundle, Manifest};
use kinora::pipeline::{Recognizer, Runner};
use kinora::synth::{Motion, World};

use super::events::{Span, score};
use super::live::{Mean, Show, found, mean, reportable, shows, truth, watch};
use super::{in_parallel, rewrite, threads};

/// From here on seeds are for choosing; those before are for reporting.
pub const FIRST_SEED: u64 = 1001;

const SMOOTHING_S: [f32; 4] = [0.0, 0.15, 0.3, 0.5];
const ENTER: [f32; 10] = [0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7];
/// Of single labels: higher than that of all. With more a class is all but lost, which the F1 of all hardly shows.
const ENTER_ALONE: [f32; 5] = [0.5, 0.6, 0.7, 0.75, 0.8];
/// Relative to `enter`.
const EXIT: [f32; 3] = [0.5, 0.7, 0.9];
const MIN_DURATION_S: [f32; 2] = [0.0, 0.25];
const MERGE_GAP_S: [f32; 2] = [0.3, 0.6];
const LAG_S: [f32; 5] = [0.2, 0.4, 0.55, 0.7, 0.85];
/// How much better a threshold of its own for a label must be: less is chance.
const LEAST_GAIN: f64 = 0.003;

/// The F1 to give for a limit that would else be missed by as much as it is. Not all F1 for any: one that is missed by a
/// hundredth of a second on these mannequins may be kept on others.
const EXCESS_COST: f64 = 0.5;

/// Of which bundle, and by how much.
#[derive(Debug, Clone, clap::Args)]
pub struct ThresholdArgs {
    /// The bundle
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Where mannequins are watched, `studio` or `wild`; else in both, and the limits are those of the studio
    #[arg(long, value_name = "studio|wild")]
    pub world: Option<World>,
    /// Mannequins to watch live in each world, and doing each motion that is no class
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// How long to watch each; of motions that are no class 20 at most
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    pub duration: u64,
    /// Half of the actions are to be reported within this time, if that can be had
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub delay: f64,
    /// At most so many actions are to be reported in ten minutes of nothing, if that can be had
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    pub false_alarms: f64,
    /// How much F1 to give for one action less that is reported in a minute of motions that are no class
    #[arg(long, value_name = "F1", default_value_t = 0.005)]
    pub unknown_cost: f64,
    /// Write the settings into the bundle's manifest
    #[arg(long)]
    pub write: bool,
    /// Threads; 0: one a processor
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

/// What the engine said of one mannequin, and what that did.
struct Watched {
    show: Show,
    said: Vec<(Duration, Vec<f32>)>,
    truth: Vec<Span>,
}

/// Settings and how good they are.
type Judged = (Settings, Mean);

/// Finds the best settings and prints them, with how good they are.
pub fn command(args: &ThresholdArgs) -> anyhow::Result<()> {
    let bundle = Bundle::load(&args.model)?;
    let engine = engine::open(&bundle, &engine::Options::default())?;
    let motions = reportable(&bundle, &[])?;
    let seeds = FIRST_SEED..FIRST_SEED + args.seeds;
    let in_world = |world| shows(&bundle.labels, world, seeds.clone(), args.duration);
    let worlds = args.world.map_or(vec![World::Studio, World::Wild], |world| vec![world]);
    let shows: Vec<Show> = worlds.iter().copied().flat_map(in_world).collect();
    let watch = |_: &mut (), index: usize| {
        let show = shows[index];
        Ok(Watched { show, said: said(&bundle, &*engine, show)?, truth: truth(show, &motions) })
    };
    let all = in_parallel(threads(args.threads), shows.len(), || Ok(()), watch)?;
    let judge = |candidates: Vec<Settings>| -> anyhow::Result<Vec<Judged>> {
        let judge = |_: &mut (), index: usize| judge(&bundle, &candidates[index], &all, worlds[0]);
        let means = in_parallel(threads(args.threads), candidates.len(), || Ok(()), judge)?;
        Ok(candidates.into_iter().zip(means).collect())
    };
    let judged = judge(candidates(&bundle.manifest.decision))?;
    if let Some((settings, mean)) = judged.first() {
        crate::say(format_args!("before: {}", row(settings, mean)))?;
    }
    let mut finished = Vec::new();
    for mut chosen in starts(&judged, args) {
        while let Some(better) = better(&chosen.1, judge(raised(&chosen.0, &bundle.labels))?, args) {
            chosen = better;
        }
        log::info!("{}", row(&chosen.0, &chosen.1));
        finished.push(chosen);
    }
    let Some((decision, mean)) = best(finished, args) else { anyhow::bail!("no settings to choose from") };
    crate::say(format_args!("best:   {}", row(&decision, &mean)))?;
    if args.write {
        rewrite(&bundle, &Manifest { decision, ..bundle.manifest.clone() })?;
    }
    Ok(())
}

/// Time and logits of every decision on `show`.
fn said(bundle: &Bundle, engine: &dyn Engine, show: Show) -> anyhow::Result<Vec<(Duration, Vec<f32>)>> {
    let manifest = &bundle.manifest;
    let decision = Decision::new(&bundle.labels, manifest.output.activation, manifest.decision.clone(), None)?;
    let mut recognizer = Recognizer::new(manifest, Runner::new(engine, manifest)?, decision, manifest.run.hop);
    let mut said = Vec::new();
    let duration = Duration::from_secs(show.seconds);
    let keep = |t, logits: &[f32]| said.push((t, logits.to_vec()));
    watch(&mut recognizer, bundle, (&mut show.source(), duration), &mut Vec::new(), keep)?;
    let does = show.unknown.map_or("live", Motion::label);
    log::info!("mannequin {}, {does}: {} decisions", show.seed, said.len());
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

/// `settings` with a higher threshold for a single label, every label and every threshold. It ends as before: an action
/// that was sure once may be less so in its middle.
fn raised(settings: &Settings, labels: &[String]) -> Vec<Settings> {
    let mut all = Vec::new();
    for label in labels.iter().filter(|label| **label != settings.nothing) {
        let now = settings.thresholds(label);
        for enter in ENTER_ALONE.into_iter().filter(|enter| *enter > now.enter) {
            let mut settings = settings.clone();
            settings.labels.insert(label.clone(), Thresholds { enter, ..now });
            all.push(settings);
        }
    }
    all
}

/// How good `settings` are on `all`, with the delay and the false alarms of the `limited` world: actions of the wild may take twice
/// as long, and much that is nothing there looks like actions.
fn judge(bundle: &Bundle, settings: &Settings, all: &[Watched], limited: World) -> anyhow::Result<Mean> {
    let mut scores = Vec::with_capacity(all.len());
    for Watched { show, said, truth } in all {
        let mut events = Vec::new();
        let mut decision = Decision::new(&bundle.labels, bundle.manifest.output.activation, settings.clone(), None)?;
        said.iter().for_each(|(t, logits)| decision.step(*t, logits, &mut events));
        decision.finish(said.last().map_or(Duration::ZERO, |(t, _)| *t), &mut events);
        scores.push((*show, score(truth, &found(&events, &bundle.labels), show.seconds as f64)));
    }
    let there: Vec<_> = scores.iter().filter(|(show, _)| show.world == limited).cloned().collect();
    let Mean { delay_p50_s, false_alarms_per_10_min, .. } = mean(&there);
    Ok(Mean { delay_p50_s, false_alarms_per_10_min, ..mean(&scores) })
}

/// Where to begin to raise single labels: of each `enter` the best settings, and the best if false alarms do not count, because
/// those may come from few labels.
fn starts(judged: &[Judged], args: &ThresholdArgs) -> Vec<Judged> {
    let deaf = ThresholdArgs { false_alarms: f64::INFINITY, ..args.clone() };
    let mut starts: Vec<Judged> = Vec::new();
    for enter in ENTER {
        let of: Vec<Judged> = judged.iter().filter(|(settings, _)| settings.enter == enter).cloned().collect();
        for args in [args, &deaf] {
            let best = best(of.clone(), args).filter(|best| starts.iter().all(|start| start.0 != best.0));
            starts.extend(best);
        }
    }
    starts
}

/// The one of the highest value.
fn best(judged: Vec<Judged>, args: &ThresholdArgs) -> Option<Judged> {
    judged.into_iter().max_by(|(_, a), (_, b)| value(a, args).total_cmp(&value(b, args)))
}

/// The best among those that miss the limits by less than `now`, or by no more and report less of what is no class, if it is worth
/// it.
fn better(now: &Mean, judged: Vec<Judged>, args: &ThresholdArgs) -> Option<Judged> {
    let over = excess(now, args);
    let allowed = |mean: &Mean| match excess(mean, args) {
        excess if excess < over => true,
        excess => excess == over && mean.unknown_per_min < now.unknown_per_min,
    };
    let best = best(judged.into_iter().filter(|(_, mean)| allowed(mean)).collect(), args)?;
    (value(&best.1, args) > value(now, args) + LEAST_GAIN).then_some(best)
}

/// How often the limits would have to be doubled to be kept, both together. Of false alarms there is one more, so that a limit
/// of none can be missed by more or less.
fn excess(mean: &Mean, args: &ThresholdArgs) -> f64 {
    let over = |is: f64, limit: f64| (is / limit).log2().max(0.0);
    let delay = over(mean.delay_p50_s.unwrap_or(f64::INFINITY), args.delay);
    delay + over(mean.false_alarms_per_10_min.unwrap_or(0.0) + 1.0, args.false_alarms + 1.0)
}

/// F1, less what reports of what is no class and limits that are missed cost.
fn value(mean: &Mean, args: &ThresholdArgs) -> f64 {
    mean.f1 - args.unknown_cost * mean.unknown_per_min.unwrap_or(0.0) - EXCESS_COST * excess(mean, args)
}

fn row(settings: &Settings, mean: &Mean) -> String {
    let Settings { smoothing_s, enter, exit, min_duration_s, merge_gap_s, lag_s, labels, .. } = settings;
    let delay = mean.delay_p50_s.map_or("-".into(), |s| format!("{s:.2} s"));
    let [alarms, unknown] =
        [mean.false_alarms_per_10_min, mean.unknown_per_min].map(|n| n.map_or("-".into(), |n| format!("{n:.1}")));
    let alone: String = labels.iter().map(|(label, t)| format!(", {label} from {}", t.enter)).collect();
    format!(
        "F1 {:.3}, median delay {delay}, {alarms} false alarms in 10 minutes of nothing and {unknown} in a minute of \
         motions that are no class with smoothing_s {smoothing_s}, enter {enter}, exit {exit:.3}, \
         min_duration_s {min_duration_s}, merge_gap_s {merge_gap_s}, lag_s {lag_s}{alone}",
        mean.f1
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn args(delay: f64, false_alarms: f64) -> ThresholdArgs {
        let model = PathBuf::new();
        ThresholdArgs {
            model,
            world: None,
            seeds: 1,
            duration: 1,
            delay,
            false_alarms,
            unknown_cost: 0.01,
            write: false,
            threads: 1,
        }
    }

    /// Settings whose `enter` is their number in hundredths, and of each F1, delay, alarms and alarms of the unknown.
    fn judged(means: &[(f64, Option<f64>, f64, f64)]) -> Vec<Judged> {
        let judged = |(index, &(f1, delay_p50_s, alarms, unknown))| {
            let enter = index as f32 / 100.0;
            let (false_alarms_per_10_min, unknown_per_min) = (Some(alarms), Some(unknown));
            let mean = Mean { f1, delay_p50_s, false_alarms_per_10_min, unknown_per_min, ..Mean::default() };
            (Settings { enter, ..Settings::default() }, mean)
        };
        means.iter().enumerate().map(judged).collect()
    }

    fn number(chosen: Option<Judged>) -> Option<usize> {
        chosen.map(|(settings, _)| (settings.enter * 100.0).round() as usize)
    }

    #[test]
    fn the_best_is_fast_and_quiet_enough_if_any_is() {
        let all = judged(&[
            (0.5, Some(0.9), 0.0, 0.0),
            (0.8, Some(1.6), 1.0, 0.0),
            (0.6, Some(1.0), 2.0, 0.0),
            (0.9, Some(0.6), 8.0, 0.0),
            (0.0, None, 0.0, 0.0),
        ]);
        let best = |delay, alarms| number(best(all.clone(), &args(delay, alarms)));
        assert_eq!(best(1.0, 2.0), Some(2));
        assert_eq!(best(1.0, 1.5), Some(0));
        // Not the highest F1 if that is far over a limit.
        assert_eq!(best(0.5, 2.0), Some(2));
        assert_eq!(best(1.0, 0.0), Some(0));
        assert_eq!(best(2.0, 1.0), Some(1));
        assert_eq!(number(super::best(Vec::new(), &args(1.0, 2.0))), None);
        // A limit that is missed by next to nothing costs next to nothing.
        let near = judged(&[(0.8, Some(1.0), 2.0, 0.0), (0.9, Some(1.01), 2.0, 0.0), (0.9, Some(1.0), 2.0, 9.0)]);
        assert_eq!(number(super::best(near, &args(1.0, 2.0))), Some(1));
    }

    #[test]
    fn a_threshold_of_its_own_must_be_worth_it() {
        let now = judged(&[(0.9, Some(0.5), 1.0, 4.0)]).remove(0).1;
        let better = |candidates: &[_]| number(better(&now, judged(candidates), &args(1.0, 2.0)));
        let worth = (0.88, Some(0.5), 1.0, 1.0);
        assert_eq!(better(&[worth]), Some(0));
        let only_right_more_often = (0.95, Some(0.5), 1.0, 4.0);
        let too_little = (0.89, Some(0.5), 1.0, 2.8);
        let too_slow = (0.9, Some(1.1), 1.0, 0.0);
        let too_loud = (0.9, Some(0.5), 2.1, 0.0);
        assert_eq!(better(&[only_right_more_often, too_little, too_slow, too_loud]), None);
        assert_eq!(better(&[too_slow, worth, too_little]), Some(1));
        assert_eq!(better(&[]), None);
        let loud = judged(&[(0.9, Some(0.5), 5.0, 4.0)]).remove(0).1;
        let quieter = |candidates: &[_]| number(super::better(&loud, judged(candidates), &args(1.0, 2.0)));
        assert_eq!(quieter(&[(0.95, Some(0.5), 5.0, 4.0), (0.88, Some(0.5), 2.0, 4.0)]), Some(1));
        let cheap = ThresholdArgs { unknown_cost: 0.005, ..args(1.0, 2.0) };
        assert_eq!(number(super::better(&now, judged(&[worth]), &cheap)), None);
    }

    /// The best of each `enter`, and the best if false alarms did not count.
    #[test]
    fn single_labels_rise_from_several_places() {
        let mut all = judged(&[(0.8, Some(0.5), 0.0, 0.0), (0.9, Some(0.5), 7.0, 0.0), (0.7, Some(0.5), 0.0, 0.0)]);
        all.iter_mut().for_each(|(settings, _)| settings.enter = ENTER[2]);
        all.extend(
            judged(&[(0.99, Some(0.5), 0.0, 0.0)]).into_iter().map(|(s, m)| (Settings { enter: ENTER[4], ..s }, m)),
        );
        let found: Vec<f64> = starts(&all, &args(1.0, 1.0)).iter().map(|(_, mean)| mean.f1).collect();
        assert_eq!(found, [0.8, 0.99]);
    }

    #[test]
    fn single_labels_rise_and_end_as_before() {
        let labels = ["nothing", "wave", "clap"].map(String::from);
        let mut settings = Settings { enter: 0.7, exit: 0.3, ..Settings::default() };
        settings.labels.insert("clap".into(), Thresholds { enter: 0.75, exit: 0.2 });
        let all = raised(&settings, &labels);
        let of = |settings: &Settings| labels.clone().map(|label| settings.thresholds(&label));
        let enters: Vec<_> = all.iter().map(|s| of(s).map(|t| t.enter)).collect();
        assert_eq!(enters, [[0.7, 0.75, 0.75], [0.7, 0.8, 0.75], [0.7, 0.7, 0.8]]);
        assert!(all.iter().all(|s| s.check(&labels).is_ok() && of(s).map(|t| t.exit) == [0.3, 0.3, 0.2]));
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
