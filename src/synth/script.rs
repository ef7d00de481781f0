//! What happens when: acts after one another, performed by one body before one camera.

use super::body::{Body, Root};
use super::camera::{Camera, Framing};
use super::dice::Dice;
use super::exercise;
use super::gait::Gait;
use super::geometry::{Axes, v3};
use super::motion::{Cast, Performance, perform};
use super::pose::{Pose, Track};
use super::{Motion, Segment, World, everyday, idle};

/// One motion in a script.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    pub(crate) segment: Segment,
    performance: Performance,
    from: Root,
    /// Where the body faces at the end.
    end_yaw: f32,
}

impl Act {
    /// Pose, place and height above the ground at scene time `t_s`.
    pub(crate) fn at(&self, t_s: f32) -> (Pose, Root, f32) {
        let t = t_s - self.segment.start_s;
        match &self.performance.gait {
            Some(gait) => {
                (gait.pose_at(t, self.performance.track.last()), gait.root_at(t, self.from, self.end_yaw), 0.0)
            }
            None => (self.performance.track.pose_at(t), self.from, self.performance.track.lift_at(t)),
        }
    }
}

/// Who performs, where, and before which camera.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) body: Body,
    pub(crate) camera: Camera,
    pub(crate) framing: Framing,
    pub(crate) facing: f32,
    pub(crate) chair: bool,
}

impl Stage {
    fn new(dice: &mut Dice, world: World, (framing, facing): (Framing, f32), chair: bool) -> Self {
        let body = Body::random(dice, world);
        let camera = Camera::random(dice, world, framing, body.height);
        Self { world, body, camera, framing, facing, chair }
    }

    fn wild(&self) -> bool {
        self.world == World::Wild
    }

    fn cast<'a>(&'a self, dice: &'a mut Dice, base: Pose) -> Cast<'a> {
        Cast { dice, body: &self.body, base, wild: self.wild() }
    }
}

/// Where somebody is who is not there, in metres to the right.
const AWAY: f32 = 60.0;

/// Motions of the arms alone, which do in any framing.
const GESTURES: [Motion; 5] = [Motion::Wave, Motion::Clap, Motion::SwipeLeft, Motion::SwipeRight, Motion::Throw];

/// A body's script from scene time `start_s` on.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) acts: Vec<Act>,
    base: Pose,
    root: Root,
    start_s: f32,
}

impl Script {
    fn new(stage: &Stage, dice: &mut Dice, start_s: f32) -> Self {
        let upper = v3(dice.between(0.06, 0.35), -1.0, dice.between(-0.1, 0.25));
        let fore = v3(dice.between(-0.12, 0.1), -1.0, dice.between(0.05, 0.4));
        let mut base = Pose::standing().arms(upper, fore);
        if stage.wild() && dice.chance(0.4) {
            base = idle::posture(&mut stage.cast(dice, base));
        }
        Self { acts: Vec::new(), base, root: Root { x: 0.0, z: 0.0, yaw: stage.facing }, start_s }
    }

    /// Whether there is nobody to be seen.
    pub(crate) fn is_away(&self) -> bool {
        self.root.x > 0.5 * AWAY
    }

    pub(crate) fn start_s(&self) -> f32 {
        self.start_s
    }

    pub(crate) fn end_s(&self) -> f32 {
        self.acts.last().map_or(self.start_s, |act| act.segment.end_s)
    }

    fn push(&mut self, motion: Motion, performance: Performance) {
        let start_s = self.end_s();
        let duration = performance.gait.as_ref().map_or(performance.track.duration(), |gait| gait.duration_s);
        let segment = Segment { motion, start_s, end_s: start_s + duration };
        let act = Act { segment, performance, from: self.root, end_yaw: self.root.yaw };
        let (pose, root, _) = act.at(segment.end_s);
        self.base = if act.performance.gait.is_some() { act.performance.track.last() } else { pose };
        self.root = root;
        self.acts.push(act);
    }

    /// Begins on the chair.
    fn sit(&mut self, stage: &Stage, dice: &mut Dice) {
        self.base = exercise::seated(self.base, &mut stage.cast(dice, self.base));
    }

    /// Nothing for about `seconds`; lying still if `lying`.
    fn pause(&mut self, stage: &Stage, dice: &mut Dice, seconds: f32, lying: bool) {
        let mut track = Track::new(self.base);
        if lying || dice.chance(0.15) {
            track.hold(seconds.max(0.1));
        } else {
            let desk = stage.framing == Framing::Desk;
            let cast = &mut stage.cast(dice, self.base);
            while stage.wild() && track.duration() < 0.6 * seconds && cast.dice.chance(0.6) {
                track = track.then(&everyday::something(cast, desk));
            }
            let left = seconds - track.duration();
            track = track.then(&idle::nothing(cast, left));
        }
        self.push(Motion::Nothing, Performance { track, gait: None });
    }

    fn act(&mut self, stage: &Stage, dice: &mut Dice, motion: Motion) {
        let travels = matches!(motion, Motion::Walk | Motion::Run) && !stage.chair && stage.framing == Framing::Far;
        let performance = if travels && dice.chance(0.85) {
            let gait = self.way(stage, dice, motion == Motion::Run);
            Performance { track: Track::new(self.base), gait: Some(gait) }
        } else {
            let cast = &mut stage.cast(dice, self.base);
            let performance = perform(motion, cast);
            if stage.wild() { varied(motion, performance, cast) } else { performance }
        };
        self.push(motion, performance);
    }

    /// From where it `enter`s to where it `leave`s after a wait of `waits` seconds; what is called `motion` is the way.
    fn cross(
        &mut self,
        stage: &Stage,
        dice: &mut Dice,
        motion: Motion,
        (enter, leave): ((f32, f32), (f32, f32)),
        (waits, run): (f32, bool),
    ) {
        let yaw = 1.5 * (leave.0 - enter.0).signum();
        self.root = Root { x: enter.0, z: enter.1, yaw };
        self.pause(stage, dice, waits, true);
        let to = Root { x: leave.0, z: leave.1, yaw: 0.0 };
        let gait = Gait::along(dice, run, &stage.body, (self.root, &[to]), true);
        self.push(motion, Performance { track: Track::new(self.base), gait: Some(gait) });
    }

    /// A way through the visible part of the floor that takes at least about two seconds.
    fn way(&self, stage: &Stage, dice: &mut Dice, run: bool) -> Gait {
        let (seconds, pace) = (dice.between(1.2, 3.2), if run { 2.6 } else { 1.0 });
        let (mut at, mut length, mut targets) = (self.root, 0.0, Vec::new());
        for _ in 0..6 {
            let (x, z) = stage.camera.floor_at(dice.between(-0.34, 0.34), dice.between(0.85, 1.3));
            let step = (x - at.x).hypot(z - at.z);
            if step < 0.7 {
                continue;
            }
            at = Root { x, z, yaw: 0.0 };
            length += step;
            targets.push(at);
            if length > seconds * pace {
                break;
            }
        }
        Gait::along(dice, run, &stage.body, (self.root, &targets), false)
    }
}

/// `performance` of `motion` at another pace, in another direction, larger or smaller, with a stop in it, or twice: as people do it
/// who were not asked to.
fn varied(motion: Motion, performance: Performance, cast: &mut Cast) -> Performance {
    let Performance { mut track, gait } = performance;
    if gait.is_some() {
        return Performance { track, gait };
    }
    // Two swipes are two actions, which would have to be reported as two.
    let again = matches!(motion, Motion::Wave | Motion::Clap | Motion::Punch | Motion::Kick | Motion::Bend);
    if again && cast.dice.chance(0.2) {
        track = track.then(&perform(motion, cast).track);
    }
    // Hands that clap or strike meet something, so that they cannot go elsewhere.
    if matches!(motion, Motion::Wave | Motion::SwipeLeft | Motion::SwipeRight | Motion::Throw) {
        let d = &mut *cast.dice;
        let turned = Axes::WORLD.yaw(d.between(-0.3, 0.3)).pitch(d.between(-0.3, 0.3));
        track = track.gestured(&turned, d.between(0.75, 1.35));
    }
    // Not while only an arm has risen, of which nobody could say what for.
    if motion != Motion::Fall && cast.dice.chance(0.15) {
        track = track.hesitating(cast.dice.between(0.45, 0.8), cast.dice.between(0.1, 0.4));
    }
    // What falls falls at its own pace.
    let spread = if motion == Motion::Fall { 0.2 } else { 0.6 };
    let factor = cast.dice.between(-spread, spread);
    Performance { track: track.paced(|| (factor + cast.dice.between(-0.5, 0.5) * spread).exp()), gait: None }
}

/// Which way a body faces for a motion, and how much of it is to be seen.
fn view(dice: &mut Dice, motion: Motion) -> (Framing, f32) {
    let gesture = GESTURES.contains(&motion);
    let widest = match motion {
        _ if gesture => 0.42,
        Motion::Fall | Motion::Squat | Motion::SitDown | Motion::StandUp | Motion::Bend if dice.chance(0.4) => 1.4,
        Motion::Kick | Motion::Punch | Motion::Walk | Motion::Run | Motion::Nothing if dice.chance(0.3) => 1.4,
        _ => 0.6,
    };
    // Shares of views of the upper body and of views with room to go about; the rest shows the whole body.
    let (upper, far) = match motion {
        Motion::Fall => (0.0, 0.8),
        Motion::Walk | Motion::Run => (0.0, 0.85),
        Motion::SitDown | Motion::StandUp => (0.0, 0.0),
        Motion::Punch | Motion::Nothing => (0.3, 0.2),
        _ if gesture => (0.3, 0.2),
        _ => (0.0, 0.3),
    };
    let lot = dice.between(0.0, 1.0);
    let framing = if lot < upper {
        Framing::Upper
    } else if lot < upper + far {
        Framing::Far
    } else {
        Framing::Whole
    };
    (framing, dice.between(-widest, widest))
}

/// The stage and script of a clip about `motion`; the last value is the number of the act that it is about.
pub(crate) fn clip(dice: &mut Dice, world: World, motion: Motion) -> (Stage, Script, usize) {
    let (mut framing, facing) = view(dice, motion);
    let on_chair = matches!(motion, Motion::SitDown | Motion::StandUp);
    let may_sit = GESTURES.contains(&motion) || motion == Motion::Nothing;
    if world == World::Wild && may_sit && dice.chance(0.25) {
        framing = Framing::Desk;
    }
    let sits = motion == Motion::StandUp || framing == Framing::Desk || may_sit && dice.chance(0.07);
    let decor = !matches!(motion, Motion::Walk | Motion::Run | Motion::Fall) && dice.chance(0.08);
    let stage = Stage::new(dice, world, (framing, facing), on_chair || sits || decor);
    let mut script = Script::new(&stage, dice, 0.0);
    if matches!(motion, Motion::Walk | Motion::Run) && framing == Framing::Far && dice.chance(0.4) {
        pass_through(dice, &stage, &mut script, motion == Motion::Run);
        return (stage, script, 1);
    }
    if sits {
        script.sit(&stage, dice);
    }
    let lead = dice.between(1.6, 3.0);
    if motion == Motion::Nothing {
        // Nobody there is nothing, too.
        if dice.chance(0.06) {
            script.root.x = AWAY;
        }
        script.pause(&stage, dice, lead, false);
        let seconds = dice.between(2.0, 5.0);
        script.pause(&stage, dice, seconds, false);
        let after = dice.between(1.6, 2.5);
        script.pause(&stage, dice, after, false);
        return (stage, script, 1);
    }
    script.pause(&stage, dice, lead, false);
    if !sits && dice.chance(0.12) {
        let other = dice.pick(&GESTURES);
        script.act(&stage, dice, other);
        if dice.chance(0.5) {
            let between = dice.between(0.4, 1.2);
            script.pause(&stage, dice, between, false);
        }
    }
    let subject = script.acts.len();
    script.act(&stage, dice, motion);
    let after = dice.between(1.6, 2.5);
    script.pause(&stage, dice, after, motion == Motion::Fall);
    (stage, script, subject)
}

/// From outside of the picture through it and out again.
fn pass_through(dice: &mut Dice, stage: &Stage, script: &mut Script, run: bool) {
    let way = dice.sign();
    let [enter, leave] = [-way, way].map(|side| stage.camera.floor_at(0.62 * side, dice.between(0.85, 1.2)));
    let waits = dice.between(0.8, 1.8);
    let motion = if run { Motion::Run } else { Motion::Walk };
    script.cross(stage, dice, motion, (enter, leave), (waits, run));
    let after = dice.between(1.6, 2.5);
    script.pause(stage, dice, after, true);
}

/// Somebody who is there from `start_s` to `end_s` as well, and does nothing that has a name: stands or walks by behind the one
/// who acts.
pub(crate) fn bystander(dice: &mut Dice, stage: &Stage, (start_s, end_s): (f32, f32)) -> (Body, Script) {
    let facing = dice.between(-1.4, 1.4);
    let body = Body::random(dice, stage.world);
    let stage = Stage { body, facing, chair: false, framing: Framing::Whole, ..stage.clone() };
    let mut script = Script::new(&stage, dice, start_s);
    if dice.chance(0.5) {
        let (x, z) = stage.camera.floor_at(dice.sign() * dice.between(0.15, 0.6), dice.between(0.3, 0.9));
        script.root = Root { x, z, yaw: facing };
        while script.end_s() < end_s {
            let seconds = dice.between(2.0, 6.0);
            script.pause(&stage, dice, seconds, false);
        }
        return (stage.body, script);
    }
    let mut way = dice.sign();
    while script.end_s() < end_s {
        let share = dice.between(0.2, 0.55);
        // Wide pictures show 0.89 heights to either side of their middle.
        let out = 1.1 + stage.camera.largest_shift();
        let [enter, leave] = [-way, way].map(|side| stage.camera.floor_at(out * side, share));
        let (waits, run) = (dice.between(0.2, 6.0), dice.chance(0.15));
        script.cross(&stage, dice, Motion::Nothing, (enter, leave), (waits, run));
        way = dice.sign();
    }
    (stage.body, script)
}

/// The stage and script of a stretch of a live scene that begins at `start_s`: 20 to 60 seconds with one body.
pub(crate) fn take(dice: &mut Dice, world: World, start_s: f32) -> (Stage, Script) {
    let mut framing =
        dice.pick(&[Framing::Upper, Framing::Upper, Framing::Whole, Framing::Whole, Framing::Far, Framing::Far]);
    if world == World::Wild && framing == Framing::Upper && dice.chance(0.5) {
        framing = Framing::Desk;
    }
    let desk = framing == Framing::Desk;
    let chair = desk || framing == Framing::Whole && dice.chance(0.6);
    let facing = dice.between(-0.42, 0.42);
    let stage = Stage::new(dice, world, (framing, facing), chair);
    let mut script = Script::new(&stage, dice, start_s);
    if desk {
        script.sit(&stage, dice);
    }
    let end_s = start_s + dice.between(20.0, 48.0);
    while script.end_s() < end_s {
        let seconds = dice.between(1.0, 4.0);
        script.pause(&stage, dice, seconds, false);
        let several = if dice.chance(0.2) { 2 } else { 1 };
        for _ in 0..several {
            let motion = choose(dice, &stage);
            if motion == Motion::SitDown {
                sitting(dice, &stage, &mut script);
                break;
            }
            script.act(&stage, dice, motion);
        }
    }
    let fell =
        stage.framing == Framing::Far && dice.chance(0.85) || stage.framing == Framing::Whole && dice.chance(0.25);
    let seconds = dice.between(1.0, 2.5);
    script.pause(&stage, dice, seconds, false);
    if fell {
        script.act(&stage, dice, Motion::Fall);
        let lying = dice.between(1.5, 3.0);
        script.pause(&stage, dice, lying, true);
    }
    (stage, script)
}

/// The stage and script of a body that does `motion` again and again for `seconds`. What it does is drawn apart, so that body,
/// camera and place are the same for all motions.
pub(crate) fn drill(dice: &mut Dice, world: World, motion: Motion, seconds: f32) -> (Stage, Script) {
    let framing = dice.pick(&[Framing::Upper, Framing::Whole, Framing::Whole]);
    let facing = dice.between(-0.3, 0.3);
    let chair = matches!(motion, Motion::SitDown | Motion::StandUp);
    let stage = Stage::new(dice, world, (framing, facing), chair);
    let dice = &mut Dice::new(dice.seed(), motion as u64);
    let mut script = Script::new(&stage, dice, 0.0);
    while script.end_s() < seconds {
        let pause = dice.between(0.3, 1.0);
        script.pause(&stage, dice, pause, false);
        match motion {
            Motion::SitDown | Motion::StandUp => {
                script.act(&stage, dice, Motion::SitDown);
                let seconds = dice.between(0.3, 1.0);
                script.pause(&stage, dice, seconds, false);
                script.act(&stage, dice, Motion::StandUp);
            }
            _ => script.act(&stage, dice, motion),
        }
    }
    (stage, script)
}

/// A motion that can be seen on this stage. Sitting down and going about are the more frequent where only few stages
/// have the room or the chair for it.
fn choose(dice: &mut Dice, stage: &Stage) -> Motion {
    use Motion::*;
    let mut motions = GESTURES.to_vec();
    motions.push(Punch);
    if !stage.framing.cuts_legs() {
        motions.extend([Kick, Bend, Squat, Jump, JumpingJack]);
        motions.extend_from_slice(match (stage.framing, stage.chair) {
            (_, true) => &[SitDown, SitDown, SitDown],
            (Framing::Far, _) => &[Walk, Walk, Walk, Run, Run, Run],
            _ => &[Walk, Run],
        });
    }
    dice.pick(&motions)
}

/// Sits down, stays, perhaps makes a gesture, and stands up.
fn sitting(dice: &mut Dice, stage: &Stage, script: &mut Script) {
    script.act(stage, dice, Motion::SitDown);
    let seconds = dice.between(1.2, 4.0);
    script.pause(stage, dice, seconds, false);
    if dice.chance(0.2) {
        let gesture = dice.pick(&GESTURES);
        script.act(stage, dice, gesture);
        let seconds = dice.between(1.0, 2.5);
        script.pause(stage, dice, seconds, false);
    }
    script.act(stage, dice, Motion::StandUp);
}
