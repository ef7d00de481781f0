//! The mannequin as a data set: endless for training, 300 clips to validate and 1000 to test, of seeds of their own.
//!
//! Which label is right for a window is a matter of what the model is wanted to say live, where it sees the last T frames
//! and decides what is being done now, or was just finished. So a window is labelled by its end:
//!
//! - An action: the end lies between the moment when it can be recognised (0.5 s after its start, or 0.6 of it if it is
//!   short; after 0.4 of a swipe or a throw, which all begin with an arm that rises) and 0.3 s after its end. What was
//!   done before may still be in the window.
//! - `nothing`: at least 60 % of the window, up to its end, is nothing, and an action before it has been over for 0.7 s.
//!   It is the most frequent answer live, so it comes three times as often as an action; of these clips every third shows
//!   what remains of an action: the window ends 0.7 s to 1.4 s after it.
//! - Ends between those two are never used: there either answer would do.
//!
//! A stream is asked at each of a training window's frames, by the same rule: before the action what was done until then, and
//! nothing is asked while either answer would do.
//!
//! To validate and test, a clip's window is fixed: the middle one of the action, as clips of trimmed videos are cut.
//! Pictures are drawn at 320x240 at the times at which a camera of 15, 25, 30 or 60 Hz would have been sampled, and
//! prepared as live pictures are.
//!
//! What comes before a window that has a past is what the scene shows then. Scenes of clips begin shortly before the action,
//! so before their first picture they are taken to have run backwards: nothing stays nothing, and what moves has moved
//! before. Live there are other actions before this one, so half of the training clips with a past are cut out of live scenes.
//!
//! There are two sets: that of the studio, and that of the wild, whose training clips are partly of the studio as well.

use anyhow::ensure;
use fastrand::Rng;
use kinora::model::manifest::Input;
use kinora::synth::{Motion, Scene, Segment, World};

use super::augment::{Look, Strength};
use super::clip::{Makers, pictures};
use super::{Dataset, Part, Sample, mirrored, mix};

/// Size at which pictures are drawn.
const SIZE: (u32, u32) = (320, 240);
/// Clips to validate and to test.
const FIXED: [(Part, usize); 2] = [(Part::Validation, 300), (Part::Test, 1000)];
/// An action can be recognised this long after its start, in seconds and as a share of it, whichever comes first.
const RECOGNISABLE: (f32, f32) = (0.5, 0.6);
/// Share of a swipe or a throw after which it no longer looks like any other arm that rises.
const RISING_ARM: f32 = 0.4;
/// It may still be named this long after its end.
const JUST_DONE_S: f32 = 0.3;
/// From here on after an action's end there is nothing.
const LONG_DONE_S: f32 = 0.7;
/// Training clips of `nothing` to each of an action.
const NOTHINGS: usize = 3;
/// Share of the training clips of `nothing` that show what remains of an action.
const AFTER_ACTION: f32 = 0.35;
/// Those end at most this long after the action; every scene goes on so long.
const AFTER_S: f32 = 1.4;
/// Live scenes are searched from a moment up to this one.
const LIVE_FROM_S: f32 = 60.0;
/// Share of a window that must be nothing.
const MOSTLY: f32 = 0.6;
/// How much faster and slower than the model's rate training clips are sampled.
const RATE_JITTER: (f32, f32) = (0.65, 1.25);
/// Share of the wild's training clips that come from there; the others are of the studio.
const WILD: f32 = 0.65;
/// In the wild an action may be slow: it can be recognised after this share of it at the earliest, but after so many seconds.
const SLOW: (f32, f32) = (0.25, 1.0);

/// The mannequin's clips.
pub struct Synth {
    labels: Vec<String>,
    mirrored: Vec<Option<usize>>,
    makers: Makers,
    world: World,
    seed: u64,
}

impl Synth {
    /// Clips of `world` for `input`; training clips are drawn from `seed`.
    pub fn new(input: &Input, world: World, seed: u64) -> anyhow::Result<Self> {
        ensure!(input.frame_rate > 0.0 && input.frames > 0, "the model's frames and frame rate must be above zero");
        let labels: Vec<String> = Motion::ALL.iter().map(|m| m.label().to_string()).collect();
        Ok(Self { mirrored: mirrored(&labels), labels, makers: Makers::new(input), world, seed })
    }

    /// Time from the first to the last picture of a window.
    fn span_s(&self) -> f32 {
        (pictures(self.makers.input()) - 1) as f32 / self.makers.input().frame_rate
    }

    fn training(&self, index: u64, seed: u64, past: usize) -> anyhow::Result<Sample> {
        let label = self.training_label(index);
        let scene_seed = scene_seed(Part::Train, mix(&[self.seed, index, seed]));
        let mut rng = Rng::with_seed(mix(&[scene_seed, 1]));
        // The mirrored scene of the other side shows this label.
        let other = self.mirrored[label].filter(|_| rng.bool());
        let world = if self.world == World::Wild && rng.f32() < WILD { World::Wild } else { World::Studio };
        let live = past > 0 && rng.bool();
        let after = !live && Motion::ALL[label] == Motion::Nothing && rng.f32() < AFTER_ACTION;
        let shown = Motion::ALL[if after { rng.usize(..Motion::ALL.len()) } else { other.unwrap_or(label) }];
        let (mut scene, subject) = if live {
            live_scene(&mut rng, (world, scene_seed), shown)
        } else {
            let scene = Scene::clip(world, scene_seed, shown);
            let subject = scene.subject();
            (scene, subject)
        };
        let input = self.makers.input();
        let jitter = RATE_JITTER.0 + rng.f32() * (RATE_JITTER.1 - RATE_JITTER.0);
        let (first, last) = if after && subject.motion != Motion::Nothing {
            (subject.end_s + LONG_DONE_S, subject.end_s + AFTER_S)
        } else {
            // Live, nothing may be shorter than a window.
            ends(world, subject, if live { 0.0 } else { self.span_s() / jitter })
        };
        let end = first + rng.f32() * (last - first);
        let times = times(&mut rng, end, past + pictures(input), input.frame_rate * jitter);
        let look = Look::random(&mut rng, SIZE, input, Strength::DRAWN, other.is_some());
        let sided = |motion: Motion| match other {
            Some(_) => self.mirrored[motion as usize].unwrap_or(motion as usize),
            None => motion as usize,
        };
        let mut moments = Vec::with_capacity(times.len());
        let mut done = None;
        let planes = self.makers.with(|maker| {
            maker.start(past);
            maker.raw.resize(SIZE.0, SIZE.1);
            let mut drawn = f32::NEG_INFINITY;
            for t in times {
                let now = scene.segment_at(t.abs());
                moments.push(named(world, t, now, done).map(sided));
                done = if now.motion == Motion::Nothing { done } else { Some(now) };
                if t != drawn {
                    scene.render(t.abs(), &mut maker.raw);
                    drawn = t;
                }
                look.apply(&mut rng, &maker.raw, &mut maker.seen);
                maker.push_seen()?;
            }
            maker.finish()
        })?;
        // What the clip shows is what its last moment says.
        let mut moments = moments.split_off(moments.len() - input.frames);
        moments[input.frames - 1] = Some(label);
        Ok(Sample { planes, labels: vec![label], moments })
    }

    fn fixed(&self, part: Part, index: u64, past: usize) -> anyhow::Result<Sample> {
        let label = (index % self.labels.len() as u64) as usize;
        let mut scene = Scene::clip(self.world, scene_seed(part, mix(&[index])), Motion::ALL[label]);
        let end = fixed_end(scene.subject(), self.span_s());
        let planes = self.makers.with(|maker| {
            maker.start(past);
            maker.seen.resize(SIZE.0, SIZE.1);
            let count = past + pictures(self.makers.input());
            for i in 0..count {
                let t = end - (count - 1 - i) as f32 / self.makers.input().frame_rate;
                scene.render(t.abs(), &mut maker.seen);
                maker.push_seen()?;
            }
            maker.finish()
        })?;
        Ok(Sample::new(planes, vec![label]))
    }

    /// Every action comes once and `nothing` [`NOTHINGS`] times in each round of training clips, in an order of its own.
    fn training_label(&self, index: u64) -> usize {
        let nothing = Motion::Nothing as usize;
        let mut order: Vec<usize> = (0..self.labels.len()).chain([nothing; NOTHINGS - 1]).collect();
        let count = order.len() as u64;
        Rng::with_seed(mix(&[self.seed, index / count, 2])).shuffle(&mut order);
        order[(index % count) as usize]
    }
}

impl Dataset for Synth {
    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn len(&self, part: Part) -> Option<usize> {
        FIXED.into_iter().find(|(p, _)| *p == part).map(|(_, len)| len)
    }

    fn sample(&self, part: Part, index: u64, seed: u64, past: usize) -> anyhow::Result<Sample> {
        if part == Part::Train { self.training(index, seed, past) } else { self.fixed(part, index, past) }
    }

    fn shown(&self, part: Part, index: u64) -> Option<Vec<usize>> {
        let label = if part == Part::Train { self.training_label(index) } else { index as usize % self.labels.len() };
        Some(vec![label])
    }

    fn describe(&self) -> String {
        let place = if self.world == World::Wild { " in the wild" } else { "" };
        format!(
            "the mannequin{place}, {} motions, drawn at {}x{}, seed {}",
            self.labels.len(),
            SIZE.0,
            SIZE.1,
            self.seed
        )
    }
}

/// A seed of `part` alone: its two highest bits name the part.
fn scene_seed(part: Part, seed: u64) -> u64 {
    (seed >> 2) | (part as u64) << 62
}

/// A live scene, and when `motion` is done in it; nothing, when it is for long enough to be called so.
fn live_scene(rng: &mut Rng, (world, seed): (World, u64), motion: Motion) -> (Scene, Segment) {
    let mut scene = Scene::live(world, seed);
    let mut t = rng.f32() * LIVE_FROM_S;
    loop {
        let segment = scene.segment_at(t);
        let long_enough = motion != Motion::Nothing || segment.end_s - segment.start_s > LONG_DONE_S;
        if segment.motion == motion && long_enough {
            return (scene, segment);
        }
        // Past the end even where the segment is shorter than a step of the clock's precision.
        t = segment.end_s.max(t + 1e-3);
    }
}

/// First and last scene time at which a training window of `span_s` may end.
fn ends(world: World, subject: Segment, span_s: f32) -> (f32, f32) {
    let Segment { motion, start_s, end_s } = subject;
    if motion == Motion::Nothing {
        let first = start_s + LONG_DONE_S.max(MOSTLY * span_s);
        return (first.min(end_s), end_s);
    }
    (start_s + known_after(world, subject), end_s + JUST_DONE_S)
}

/// How long after its start an action can be recognised.
fn known_after(world: World, Segment { motion, start_s, end_s }: Segment) -> f32 {
    let (seconds, share) = RECOGNISABLE;
    let lasts = end_s - start_s;
    let known = match motion {
        Motion::SwipeLeft | Motion::SwipeRight | Motion::Throw => seconds.max(RISING_ARM * lasts),
        _ => seconds.min(share * lasts),
    };
    if world == World::Wild { known.max((SLOW.0 * lasts).min(SLOW.1)) } else { known }
}

/// What is to be said at scene time `t_s`, at which it is `now`, after an action that is `done`; none where either answer
/// would do, and while an action runs backwards.
fn named(world: World, t_s: f32, now: Segment, done: Option<Segment>) -> Option<Motion> {
    if now.motion != Motion::Nothing {
        return (t_s >= now.start_s + known_after(world, now)).then_some(now.motion);
    }
    match t_s.abs() - now.start_s {
        after if after >= LONG_DONE_S || now.start_s <= 0.0 => Some(Motion::Nothing),
        after if after <= JUST_DONE_S => done.map(|done| done.motion),
        _ => None,
    }
}

/// Scene time at which the window of a fixed clip ends: the window's middle is the action's.
fn fixed_end(subject: Segment, span_s: f32) -> f32 {
    (subject.start_s + subject.end_s + span_s) / 2.0
}

/// The times of `count` pictures up to `end`, `rate` a second, as a camera drawn by lot would have taken them: at
/// multiples of its own interval. Sometimes one is late, and the one before it is seen twice.
fn times(rng: &mut Rng, end: f32, count: usize, rate: f32) -> Vec<f32> {
    let camera = [15.0, 25.0, 30.0, 30.0, 60.0][rng.usize(..5)];
    let phase = rng.f32();
    let taken = |t: f32| (((t * camera - phase).round() + phase) / camera).min(end);
    let mut times: Vec<f32> = (0..count).map(|i| taken(end - (count - 1 - i) as f32 / rate)).collect();
    if count > 2 && rng.f32() < 0.15 {
        let late = rng.usize(1..count);
        times[late] = times[late - 1];
    }
    times
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::data::clip::tests::input;
    use kinora::model::manifest::Colour;

    fn segment(motion: Motion, start_s: f32, end_s: f32) -> Segment {
        Segment { motion, start_s, end_s }
    }

    #[test]
    fn windows_end_where_the_label_is_right_live() {
        assert_eq!(ends(World::Studio, segment(Motion::Walk, 2.0, 5.0), 1.6), (2.5, 5.3));
        assert_eq!(ends(World::Studio, segment(Motion::Punch, 2.0, 2.5), 1.6), (2.3, 2.8));
        assert_eq!(ends(World::Wild, segment(Motion::Punch, 2.0, 2.5), 1.6), (2.3, 2.8));
        assert_eq!(ends(World::Wild, segment(Motion::Wave, 2.0, 5.2), 1.6), (2.8, 5.5));
        assert_eq!(ends(World::Wild, segment(Motion::Wave, 2.0, 9.0), 1.6), (3.0, 9.3));
        assert_eq!(ends(World::Studio, segment(Motion::Nothing, 2.0, 6.0), 1.0), (2.7, 6.0));
        assert_eq!(ends(World::Studio, segment(Motion::Nothing, 2.0, 6.0), 2.0), (3.2, 6.0));
        assert_eq!(ends(World::Studio, segment(Motion::Nothing, 2.0, 2.5), 2.0), (2.5, 2.5));
        assert_eq!(fixed_end(segment(Motion::Walk, 2.0, 5.0), 1.0), 4.0);
        assert_eq!(fixed_end(segment(Motion::Punch, 2.0, 3.0), 2.0), 3.5);
        assert_eq!(fixed_end(segment(Motion::Nothing, 2.0, 3.0), 2.0), 3.5);
    }

    /// Worlds, seeds and motions.
    fn some() -> impl Iterator<Item = (World, u64, Motion)> {
        let seeds = (0..4).flat_map(|n| Motion::ALL.map(|motion| (n, motion)));
        seeds.flat_map(|(n, motion)| [World::Studio, World::Wild].map(|world| (world, n, motion)))
    }

    /// Of every kind of window: what is done at its end, or was done just before, is what the label says.
    #[test]
    fn labels_are_those_of_the_scripts() {
        let span_s = 1.6;
        for (world, n, motion) in some() {
            let scene = Scene::clip(world, n, motion);
            let subject = scene.subject();
            assert_eq!(subject.motion, motion);
            assert!(subject.end_s > subject.start_s);
            let (first, last) = ends(world, subject, span_s);
            for end in [first, (first + last) / 2.0, last] {
                let mut scene = Scene::clip(world, n, motion);
                if motion == Motion::Nothing {
                    let now = scene.segment_at(end - 1e-3);
                    assert_eq!(now.motion, motion);
                    assert!(
                        end - now.start_s >= LONG_DONE_S - 1e-3,
                        "{motion:?} seed {n}: {now:?}, window ends at {end}"
                    );
                } else {
                    assert!(end > subject.start_s && end <= subject.end_s + JUST_DONE_S + 1e-4);
                    assert_eq!(scene.segment_at(end.min(subject.end_s - 1e-3)).motion, motion);
                }
            }
        }
    }

    #[test]
    fn moments_are_asked_by_the_rule_of_ends() {
        let [rest, wave, then] =
            [segment(Motion::Nothing, 0.0, 2.0), segment(Motion::Wave, 2.0, 5.0), segment(Motion::Nothing, 5.0, 8.0)];
        let said = |t_s, now, done| named(World::Studio, t_s, now, done);
        // What ran backwards before the beginning was nothing as well, or is not known.
        assert_eq!([-0.3, 0.1, 1.9].map(|t| said(t, rest, None)), [Some(Motion::Nothing); 3]);
        assert_eq!(said(-2.6, wave, None), None);
        assert_eq!([2.1, 2.6, 4.9].map(|t| said(t, wave, None)), [None, Some(Motion::Wave), Some(Motion::Wave)]);
        let after = [5.2, 5.5, 5.8].map(|t| said(t, then, Some(wave)));
        assert_eq!(after, [Some(Motion::Wave), None, Some(Motion::Nothing)]);
        assert_eq!(said(5.2, then, None), None);
    }

    /// Live clips are asked for more than their label, what is done at their end among it; those of the other side, too.
    #[test]
    fn clips_say_what_is_done_at_each_frame() {
        let frames = 16;
        let data = Synth::new(&Input { frames, ..input(Colour::Motion) }, World::Wild, 3).unwrap();
        let (mut transitions, mut unasked) = (0, 0);
        for index in 0..40 {
            let Sample { labels, moments, .. } = data.sample(Part::Train, index, 7, 6).unwrap();
            assert_eq!((moments.len(), moments.last().copied()), (frames, Some(Some(labels[0]))), "clip {index}");
            transitions += usize::from(moments.iter().flatten().any(|moment| *moment != labels[0]));
            unasked += moments.iter().filter(|moment| moment.is_none()).count();
        }
        assert!(transitions > 5 && (40..320).contains(&unasked), "{transitions} transitions, {unasked} unasked");
    }

    /// What remains of an action is nothing, as long as such windows may end after it.
    #[test]
    fn after_an_action_there_is_nothing() {
        for (world, n, motion) in some() {
            let mut scene = Scene::clip(world, n, motion);
            let end_s = scene.subject().end_s;
            for after in [LONG_DONE_S, AFTER_S] {
                assert_eq!(scene.segment_at(end_s + after).motion, Motion::Nothing, "{motion:?} seed {n}");
            }
        }
    }

    #[test]
    fn times_rise_to_the_end_near_their_moments() {
        for seed in 0..200 {
            let times = times(&mut Rng::with_seed(seed), 4.0, 17, 10.0);
            assert_eq!(times.len(), 17);
            assert!(times.windows(2).all(|t| t[0] <= t[1]) && times[16] <= 4.0);
            let off =
                times.iter().enumerate().filter(|(i, t)| (**t - (2.4 + *i as f32 / 10.0)).abs() > 0.5 / 15.0 + 1e-4);
            assert!(off.count() <= 1, "{times:?}");
        }
    }

    #[test]
    fn labels_are_even_and_parts_apart() {
        let data = Synth::new(&input(Colour::Motion), World::Studio, 3).unwrap();
        let count = data.labels().len();
        assert_eq!(count, 17);
        for part in Part::ALL {
            let mut seen = vec![0; count];
            let round = if part == Part::Train { count + NOTHINGS - 1 } else { count };
            (0..5 * round as u64).for_each(|i| seen[data.shown(part, i).unwrap()[0]] += 1);
            let nothing = seen.swap_remove(0);
            assert_eq!(nothing, if part == Part::Train { 5 * NOTHINGS } else { 5 });
            assert_eq!(seen, vec![5; count - 1], "{part:?}");
        }
        assert_eq!(Part::ALL.map(|p| data.len(p)), [None, Some(300), Some(1000)]);
        let tops = Part::ALL.map(|p| scene_seed(p, u64::MAX) >> 62);
        assert_eq!(tops, [0, 1, 2]);
    }

    #[test]
    fn clips_are_seeded_and_move() {
        let data = Synth::new(&input(Colour::Motion), World::Studio, 3).unwrap();
        let one = data.sample(Part::Train, 5, 1, 0).unwrap();
        assert!(one == data.sample(Part::Train, 5, 1, 0).unwrap());
        assert_eq!(Some(&one.labels), data.shown(Part::Train, 5).as_ref());
        assert_eq!(one.planes.len(), 3 * 4 * 24 * 24);
        assert!(one != data.sample(Part::Train, 5, 2, 0).unwrap());
        let test = data.sample(Part::Test, 1, 1, 0).unwrap();
        assert!(
            test == Synth::new(&input(Colour::Motion), World::Studio, 4).unwrap().sample(Part::Test, 1, 9, 0).unwrap()
        );
        assert!(test != data.sample(Part::Validation, 1, 1, 0).unwrap());
        assert!(test.planes.iter().any(|v| v.abs() > 0.02), "a walking mannequin moves");
    }

    /// With a past it is the same window, and something moved before it.
    #[test]
    fn the_past_comes_before_the_window() {
        let (past, area) = (6, 24 * 24);
        let data = Synth::new(&input(Colour::Motion), World::Studio, 3).unwrap();
        let (window, longer) =
            (data.sample(Part::Test, 1, 1, 0).unwrap(), data.sample(Part::Test, 1, 1, past).unwrap());
        let frames = window.planes.len() / area / 3;
        for (window, longer) in window.planes.chunks(frames * area).zip(longer.planes.chunks((past + frames) * area)) {
            assert!(longer[past * area..] == *window && longer[..past * area].iter().any(|v| *v != 0.0));
        }
        for seed in 0..8 {
            let clip = data.sample(Part::Train, 5, seed, past).unwrap();
            assert_eq!(
                (clip.planes.len(), clip.labels),
                (3 * (past + frames) * area, data.shown(Part::Train, 5).unwrap())
            );
            assert!(clip.planes == data.sample(Part::Train, 5, seed, past).unwrap().planes);
        }
    }

    #[test]
    fn every_motion_is_found_in_live_scenes() {
        for (world, seed, motion) in some() {
            let (mut scene, segment) = live_scene(&mut Rng::with_seed(seed), (world, seed), motion);
            assert_eq!((segment.motion, scene.segment_at(segment.start_s + 1e-3)), (motion, segment));
            let (first, last) = ends(world, segment, 0.0);
            assert!(segment.start_s < first && first <= last, "{motion:?}: {segment:?}, {first} to {last}");
        }
    }
}
