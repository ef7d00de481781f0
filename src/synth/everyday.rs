//! What people do in rooms and at desks while nothing is happening that has a name here.

use super::Motion;
use super::body::sign;
use super::geometry::{Vec3, v3};
use super::motion::{Cast, perform};
use super::other;
use super::pose::*;

/// What may be begun and given up.
const BEGUN: [Motion; 6] =
    [Motion::Wave, Motion::Clap, Motion::SwipeLeft, Motion::SwipeRight, Motion::Throw, Motion::Punch];

/// Something done at a desk (if `desk`) or in a room, from the base pose back to it.
pub(crate) fn something(cast: &mut Cast, desk: bool) -> Track {
    match cast.dice.whole(0, if desk { 13 } else { 9 }) {
        0 | 1 => turn(cast),
        2 | 3 => lean(cast),
        4 => other::drink(cast),
        5 | 6 => reach(cast),
        7 => nod(cast),
        8 => explain(cast),
        9 => give_up(cast),
        10 => mouse(cast),
        _ => typing(cast),
    }
}

/// Both hands low before the body, fingers at work.
fn typing(cast: &mut Cast) -> Track {
    let (apart, ahead, low) =
        (cast.dice.between(0.03, 0.09), cast.dice.between(0.16, 0.24), cast.dice.between(-0.18, -0.13));
    let base = cast.lively(cast.base, 0.5).plus(HEAD_PITCH, cast.dice.between(0.0, 0.3));
    let mut track = Track::new(cast.base);
    let end = cast.dice.between(1.5, 4.0);
    track.to(0.5, hands(cast, base, v3(apart, low, ahead), 0.0));
    while track.duration() < end {
        if cast.dice.chance(0.15) {
            track.hold(cast.dice.between(0.3, 0.9));
        }
        let pose = hands(cast, base, v3(apart, low, ahead), 0.012);
        track.to(cast.dice.between(0.1, 0.22), pose);
    }
    track.to(0.5, cast.base);
    track
}

/// `base` with each wrist about `spread` from `target`.
fn hands(cast: &mut Cast, base: Pose, target: Vec3, spread: f32) -> Pose {
    let mut pose = base;
    for side in 0..2 {
        let off = cast.scatter(spread);
        let (upper, fore) = cast.body.reach(target + off, v3(0.7, -1.0, -0.2));
        pose = pose.arm(side, upper, fore);
    }
    pose
}

/// One hand slides about on the desk.
fn mouse(cast: &mut Cast) -> Track {
    let side = cast.dice.side();
    let base = cast.lively(cast.base, 0.4);
    let mut track = Track::new(cast.base);
    for _ in 0..cast.dice.whole(3, 8) {
        let at = v3(cast.dice.between(0.1, 0.18), -0.15, cast.dice.between(0.16, 0.24));
        let (upper, fore) = cast.body.reach(at, v3(1.0, -0.6, -0.3));
        track.to(cast.dice.between(0.25, 0.5), base.arm(side, upper, fore));
        track.hold(cast.dice.between(0.0, 0.4));
    }
    track.to(0.5, cast.base);
    track
}

/// Turns to somebody or something aside, and back.
fn turn(cast: &mut Cast) -> Track {
    let (way, amount) = (cast.dice.sign(), cast.dice.between(0.4, 1.0));
    let pose = cast
        .lively(cast.base, 0.8)
        .plus(PELVIS_YAW, 0.5 * way * amount)
        .plus(SPINE_TWIST, 0.6 * way * amount)
        .plus(HEAD_YAW, 0.7 * way * amount);
    there_and_back(cast, pose, (0.5, 1.1))
}

/// Leans forward, back or aside.
fn lean(cast: &mut Cast) -> Track {
    let (ahead, aside) = (cast.dice.between(-0.2, 0.35), cast.dice.between(-0.2, 0.2));
    let pose = cast
        .lively(cast.base, 0.8)
        .plus(PELVIS_PITCH, 0.4 * ahead)
        .plus(SPINE_PITCH, ahead)
        .plus(SPINE_ROLL, aside)
        .plus(HEAD_PITCH, -0.5 * ahead);
    there_and_back(cast, pose, (0.5, 1.2))
}

/// A hand goes for something in any direction and brings it, or puts it there.
fn reach(cast: &mut Cast) -> Track {
    let side = cast.dice.side();
    let to = (cast.dice.between(-0.3, 1.0), cast.dice.between(-0.9, 0.7), cast.dice.between(0.2, 1.0));
    let bend = cast.dice.between(0.0, 0.3);
    let (upper, fore) = (cast.aim(to, 0.1), cast.aim(to, 0.15));
    let pose = cast
        .lively(cast.base, 0.8)
        .arm(side, upper, fore)
        .plus(SPINE_PITCH, bend)
        .plus(SPINE_ROLL, sign(side) * 0.2 * to.0)
        .plus(HEAD_YAW, sign(side) * 0.4 * to.0);
    there_and_back(cast, pose, (0.5, 1.0))
}

/// Nods, or shakes the head.
fn nod(cast: &mut Cast) -> Track {
    let (axis, amount) = if cast.dice.chance(0.5) { (HEAD_PITCH, 0.22) } else { (HEAD_YAW, 0.3) };
    let mut track = Track::new(cast.base);
    for i in 0..cast.dice.whole(2, 6) {
        let way = if i % 2 == 0 { amount } else { -amount };
        track.to(cast.dice.between(0.15, 0.3), cast.lively(cast.base, 0.2).plus(axis, way));
    }
    track.to(0.3, cast.base);
    track
}

/// Speaks with the hands, up to the height of the chest.
fn explain(cast: &mut Cast) -> Track {
    let (side, both) = (cast.dice.side(), cast.dice.chance(0.6));
    let mut track = Track::new(cast.base);
    for _ in 0..cast.dice.whole(3, 8) {
        let mut pose = cast.lively(cast.base, 0.7);
        for side in [side, 1 - side].into_iter().take(if both { 2 } else { 1 }) {
            let upper = cast.aim((0.3, -0.9, 0.35), 0.12);
            pose = pose.arm(side, upper, cast.aim((0.05, 0.1, 0.9), 0.35));
        }
        track.to(cast.dice.between(0.22, 0.5), pose);
        track.hold(cast.dice.between(-0.2, 0.3));
    }
    track.to(0.5, cast.base);
    track
}

/// Begins something, and gives it up before it can be told what.
fn give_up(cast: &mut Cast) -> Track {
    let motion = cast.dice.pick(&BEGUN);
    let whole = perform(motion, cast).track;
    let seconds = cast.dice.between(0.2, 0.4).min(0.25 * whole.duration());
    whole.broken_off(seconds, cast.dice.between(0.35, 0.7))
}

fn there_and_back(cast: &mut Cast, pose: Pose, (quick, slow): (f32, f32)) -> Track {
    let mut track = Track::new(cast.base);
    track.to(cast.dice.between(quick, slow), pose);
    track.hold(cast.dice.between(0.0, 1.5));
    track.to(cast.dice.between(quick, slow), cast.base);
    track
}
