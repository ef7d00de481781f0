//! What people do when they do nothing in particular.

use super::body::sign;
use super::geometry::v3;
use super::motion::Cast;
use super::pose::*;

/// About `seconds` of nothing, from the base pose back to it.
pub(crate) fn nothing(cast: &mut Cast, seconds: f32) -> Track {
    let mut track = Track::new(cast.base);
    while track.duration() < seconds - 0.6 {
        let left = seconds - track.duration();
        match cast.dice.whole(0, 13) {
            0..=3 => track.hold(left.min(cast.dice.between(0.5, 2.0))),
            4 | 5 => shift_weight(cast, &mut track, left),
            6 | 7 => look_about(cast, &mut track, left),
            8 => talk(cast, &mut track, left),
            _ if left > 1.6 => busy_hands(cast, &mut track, left),
            _ => look_about(cast, &mut track, left),
        }
    }
    let rest = seconds - track.duration();
    track.to(rest.max(0.1), cast.base);
    track
}

fn shift_weight(cast: &mut Cast, track: &mut Track, left: f32) {
    let way = cast.dice.sign() * cast.dice.between(0.03, 0.09);
    let pose =
        cast.lively(cast.base, 1.2).plus(PELVIS_X, way).plus(PELVIS_ROLL, -0.6 * way).plus(SPINE_ROLL, 0.8 * way);
    track.to((0.5 * left).min(cast.dice.between(0.5, 1.0)), pose.plus(PELVIS_Y, -0.01));
    if cast.dice.chance(0.5) {
        track.hold((0.3 * left).min(0.8));
    }
}

fn look_about(cast: &mut Cast, track: &mut Track, left: f32) {
    let yaw = cast.dice.sign() * cast.dice.between(0.2, 0.9);
    let pose = cast.lively(cast.base, 0.8).plus(HEAD_YAW, yaw).plus(SPINE_TWIST, 0.2 * yaw);
    track.to((0.4 * left).min(cast.dice.between(0.35, 0.8)), pose.plus(HEAD_PITCH, cast.dice.between(-0.2, 0.3)));
    track.hold((0.3 * left).min(cast.dice.between(0.0, 0.7)));
    track.to((0.3 * left).clamp(0.2, 0.6), cast.base);
}

/// Small low movements of the hands, as in talking.
fn talk(cast: &mut Cast, track: &mut Track, left: f32) {
    let (side, both) = (cast.dice.side(), cast.dice.chance(0.5));
    let end = track.duration() + left.min(3.0) - 0.5;
    while track.duration() < end {
        let (upper, fore) = (cast.aim((0.25, -1.0, 0.15), 0.08), cast.aim((0.05, -0.3, 0.8), 0.22));
        let mut pose = cast.lively(cast.base, 0.6).arm(side, upper, fore);
        if both {
            pose = pose.arm(1 - side, upper, cast.aim((0.05, -0.3, 0.8), 0.22));
        }
        track.to(cast.dice.between(0.3, 0.6), pose);
    }
    track.to(0.5, cast.base);
}

/// Hands go somewhere on the body, stay a while and come back.
fn busy_hands(cast: &mut Cast, track: &mut Track, left: f32) {
    let side = cast.dice.side();
    let pose = hands_on_body(cast, side);
    track.to(cast.dice.between(0.5, 0.8), pose);
    let until = track.duration() + (left - 1.4).clamp(0.0, 2.0);
    let rubbing = cast.dice.chance(0.5);
    while track.duration() < until {
        if rubbing {
            let (upper, fore) = pose.arm_directions(side);
            let jitter = cast.scatter(0.07);
            track.to(0.2, pose.arm(side, upper, fore + jitter));
        } else {
            track.hold(0.4);
        }
    }
    track.to(cast.dice.between(0.45, 0.7), cast.base);
}

/// A hand, that of `side`, or both somewhere on the body.
fn hands_on_body(cast: &mut Cast, side: usize) -> Pose {
    let base = cast.lively(cast.base, 0.6);
    let pole = v3(1.0, -0.6, 0.2);
    let body = cast.body;
    let one = |target, pole| body.reach(target, pole);
    match cast.dice.whole(0, 7) {
        // Scratches the head, or holds a phone to the ear.
        0 | 1 => {
            let (upper, fore) = one(v3(0.045, cast.dice.between(0.09, 0.17), 0.06), pole);
            base.arm(side, upper, fore).plus(HEAD_PITCH, 0.15).plus(SPINE_ROLL, 0.04 * sign(side))
        }
        // Hands on the hips.
        2 => {
            let (upper, fore) = one(v3(0.095, -0.25, 0.02), v3(1.0, 0.0, -0.6));
            base.arms(upper, fore)
        }
        // Folds the arms.
        3 | 4 => {
            let (upper, fore) = one(v3(-0.075, -0.13, 0.1), v3(0.8, -1.0, 0.2));
            let (upper2, fore2) = one(v3(-0.065, -0.16, 0.12), v3(0.8, -1.0, 0.2));
            base.arm(side, upper, fore).arm(1 - side, upper2, fore2)
        }
        // Hands in the pockets.
        5 => {
            let (upper, fore) = one(v3(0.1, -0.29, 0.04), v3(0.7, 0.0, -1.0));
            base.arms(upper, fore)
        }
        // Sees to collar or sleeve.
        6 => {
            let (upper, fore) = one(v3(0.02, cast.dice.between(-0.15, -0.02), 0.1), pole);
            base.arm(side, upper, fore).plus(HEAD_PITCH, 0.3)
        }
        // Looks at a watch or phone.
        _ => {
            let (upper, fore) = one(v3(0.03, -0.13, 0.17), v3(0.5, -1.0, 0.0));
            base.arm(side, upper, fore).plus(HEAD_PITCH, 0.4)
        }
    }
}

/// A pose to begin and end in that is not the usual one: hands on the body, weight on one leg, turned or bent a little.
pub(crate) fn posture(cast: &mut Cast) -> Pose {
    let side = cast.dice.side();
    let pose = if cast.dice.chance(0.4) { hands_on_body(cast, side) } else { cast.lively(cast.base, 1.0) };
    let way = cast.dice.between(-0.08, 0.08);
    pose.plus(PELVIS_X, way)
        .plus(PELVIS_ROLL, -0.6 * way)
        .plus(SPINE_ROLL, 0.8 * way + cast.dice.between(-0.05, 0.05))
        .plus(SPINE_TWIST, cast.dice.between(-0.2, 0.2))
        .plus(SPINE_PITCH, cast.dice.between(-0.05, 0.15))
}
