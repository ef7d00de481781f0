//! Arm gestures. Directions are those of the acting arm: x outward from its side, y up, z forward.

use super::body::sign;
use super::geometry::v3;
use super::motion::Cast;
use super::pose::*;

/// Directions of upper arm and forearm.
type ArmKey = ((f32, f32, f32), (f32, f32, f32));

/// Inward sweep, from the arm's own side across the chest.
const INWARD: [&[ArmKey]; 4] = [
    &[((0.8, -0.3, 0.5), (0.8, 0.5, 0.4)), ((0.1, -0.2, 1.0), (-0.3, 0.3, 0.8)), ((-0.4, -0.2, 0.9), (-0.9, 0.1, 0.3))],
    &[
        ((0.9, -0.1, 0.3), (0.95, 0.0, 0.3)),
        ((0.4, -0.1, 0.9), (0.1, 0.1, 1.0)),
        ((-0.35, -0.1, 0.9), (-0.9, 0.0, 0.4)),
    ],
    &[((0.4, -0.9, 0.2), (0.8, 0.4, 0.6)), ((0.3, -0.8, 0.4), (0.1, 0.5, 1.0)), ((0.1, -0.7, 0.6), (-0.9, 0.35, 0.5))],
    &[((0.8, 0.1, 0.4), (0.7, 0.7, 0.3)), ((0.3, 0.1, 0.9), (-0.1, 0.6, 0.8)), ((-0.2, -0.1, 0.9), (-0.9, 0.3, 0.3))],
];

/// Outward sweep, from before the chest to the arm's own side.
const OUTWARD: [&[ArmKey]; 4] = [
    &[((-0.3, -0.3, 0.9), (-0.7, 0.2, 0.6)), ((0.3, -0.2, 1.0), (0.1, 0.9, 0.5)), ((0.9, -0.1, 0.4), (0.9, 0.1, 0.4))],
    &[
        ((-0.3, -0.1, 0.9), (-0.9, 0.0, 0.4)),
        ((0.35, -0.1, 0.9), (0.1, 0.1, 1.0)),
        ((0.9, -0.1, 0.3), (0.95, 0.0, 0.2)),
    ],
    &[((0.1, -0.7, 0.6), (-0.8, 0.4, 0.5)), ((0.3, -0.8, 0.4), (0.2, 0.5, 1.0)), ((0.5, -0.8, 0.2), (0.95, 0.4, 0.4))],
    &[((-0.2, 0.0, 0.9), (-0.7, 0.6, 0.4)), ((0.3, 0.1, 0.9), (0.1, 0.8, 0.6)), ((0.8, 0.0, 0.4), (0.9, 0.3, 0.2))],
];

/// Overarm throws, forward and across; then sidearm and underarm.
const THROW: [&[ArmKey]; 6] = [
    &[
        ((0.5, -0.5, -0.1), (0.8, 0.1, 0.2)),
        ((0.6, 0.3, -0.3), (0.2, 0.9, -0.2)),
        ((0.3, 0.7, 0.3), (0.2, 0.9, 0.2)),
        ((0.1, -0.2, 1.0), (0.0, -0.4, 0.9)),
    ],
    &[
        ((0.5, -0.6, 0.3), (0.4, 0.6, 0.6)),
        ((0.8, 0.2, -0.2), (0.3, 0.9, -0.4)),
        ((0.4, 0.6, 0.6), (0.1, 0.8, 0.6)),
        ((0.0, -0.4, 0.9), (-0.2, -0.7, 0.6)),
    ],
    &[
        ((0.4, -0.8, 0.2), (0.8, 0.2, 0.4)),
        ((0.7, -0.4, 0.0), (-0.1, 0.95, 0.1)),
        ((0.25, 0.9, 0.3), (0.1, 0.95, 0.3)),
        ((0.25, 0.5, 0.8), (0.15, 0.5, 0.8)),
    ],
    &[
        ((0.3, -0.9, 0.2), (0.7, 0.1, 0.6)),
        ((0.6, -0.5, 0.1), (0.1, 0.9, 0.3)),
        ((0.3, 0.3, 0.8), (-0.2, 0.8, 0.6)),
        ((-0.2, 0.1, 0.95), (-0.6, 0.0, 0.7)),
    ],
    &[
        ((0.6, -0.6, -0.3), (0.8, 0.1, -0.3)),
        ((0.9, 0.0, -0.4), (0.6, 0.5, -0.6)),
        ((0.7, 0.0, 0.7), (0.6, 0.3, 0.8)),
        ((0.0, -0.3, 0.9), (-0.5, -0.4, 0.8)),
    ],
    &[
        ((0.15, -0.9, 0.2), (0.1, -0.7, 0.6)),
        ((0.15, -0.8, -0.6), (0.1, -0.7, -0.6)),
        ((0.1, -0.9, 0.4), (0.05, -0.7, 0.7)),
        ((0.0, 0.1, 1.0), (0.0, 0.7, 0.8)),
    ],
];

/// Between `a` and `b`, by the share of `b`.
fn mixed(a: ArmKey, b: ArmKey, share: f32) -> ArmKey {
    let between = |a: (f32, f32, f32), b: (f32, f32, f32)| {
        let at = v3(a.0, a.1, a.2).lerp(v3(b.0, b.1, b.2), share);
        (at.x, at.y, at.z)
    };
    (between(a.0, b.0), between(a.1, b.1))
}

/// A swipe towards the picture's left (`to` 0) or right (1) with either hand; facing the camera.
pub(crate) fn swipe(cast: &mut Cast, to: usize) -> Track {
    let side = cast.dice.side();
    let inward = side != to;
    let shapes = if inward { &INWARD } else { &OUTWARD };
    let keys = shapes[if cast.dice.chance(0.4) { 0 } else { cast.dice.whole(1, 3) }];
    let (other, share) = if cast.wild { (cast.dice.pick(shapes), cast.dice.between(0.0, 0.5)) } else { (keys, 0.0) };
    let base = cast.base;
    let pace = cast.dice.between(0.7, 1.45);
    let mut track = Track::new(base);
    let drift = sign(to) * cast.dice.between(0.0, 0.22);
    let mut seconds = [cast.dice.between(0.4, 0.7), cast.dice.between(0.2, 0.42), cast.dice.between(0.2, 0.42)];
    if cast.dice.chance(0.35) {
        seconds[1] += 0.15;
    }
    for (i, key) in keys.iter().zip(other).map(|(a, b)| mixed(*a, *b, share)).enumerate() {
        let (upper, fore) = (cast.aim(key.0, 0.1), cast.aim(key.1, 0.1));
        let turn = drift * (i as f32 - 1.0);
        let pose = cast.lively(base, 0.7).arm(side, upper, fore).plus(SPINE_TWIST, turn).plus(HEAD_YAW, -0.5 * turn);
        track.to(seconds[i] * pace, pose);
        if i == 0 && cast.dice.chance(0.3) {
            track.hold(cast.dice.between(0.05, 0.25));
        }
    }
    track.hold(cast.dice.between(0.0, 0.3));
    if cast.dice.chance(0.6) {
        // The way back is low and close to the body, so that it does not sweep the other way.
        let (upper, fore) =
            (cast.aim((0.2, -0.95, 0.3), 0.06), cast.aim((if inward { -0.2 } else { 0.3 }, -0.5, 0.8), 0.1));
        track.to(cast.dice.between(0.25, 0.4) * pace, base.arm(side, upper, fore));
        track.to(cast.dice.between(0.25, 0.4) * pace, base);
    } else {
        track.to(cast.dice.between(0.45, 0.75) * pace, base);
    }
    track
}

/// A throw: wind-up, release forward, follow-through.
pub(crate) fn throw(cast: &mut Cast) -> Track {
    let side = cast.dice.side();
    let style = cast.dice.pick(&[0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5]);
    // An arm swings over the shoulder or beside it, and everywhere between, but not halfway to below.
    let free = cast.wild && style < 5;
    let (other, share) = if free { (cast.dice.whole(0, 4), cast.dice.between(0.0, 1.0)) } else { (style, 0.0) };
    let (sudden, across) = (free && cast.dice.chance(0.25), free && cast.dice.chance(0.3));
    let base = cast.base;
    let pace = cast.dice.between(0.75, 1.4);
    let (twist, lean) = (sign(side) * cast.dice.between(0.05, 0.5), cast.dice.between(0.0, 0.25));
    let seconds = [0.38, 0.34, 0.2, 0.22].map(|s| s * pace * cast.dice.between(0.8, 1.3));
    let step = if cast.dice.chance(0.35) { cast.dice.between(0.1, 0.35) } else { 0.0 };
    let turns = [0.5, 1.0, 0.1, -0.7];
    let mut track = Track::new(base);
    for (i, mut key) in THROW[style].iter().zip(THROW[other]).map(|(a, b)| mixed(*a, *b, share)).enumerate() {
        // The arm comes up behind at once, or ends across the body.
        if i == 0 && sudden {
            continue;
        }
        if i == 3 && across {
            key = mixed(key, ((-0.4, -0.5, 0.8), (-0.8, -0.5, 0.4)), 0.7);
        }
        let (upper, fore) = (cast.aim(key.0, 0.1), cast.aim(key.1, 0.1));
        let ahead = [0.0, 0.3, 1.0, 1.0][i] * step;
        let raised = if i == 1 { 0.4 * step } else { 0.0 };
        let mut pose = cast.lively(base, 0.8).arm(side, upper, fore);
        pose = pose
            .plus(SPINE_TWIST, twist * turns[i])
            .plus(SPINE_PITCH, lean * [-0.4, -0.7, 0.2, 1.0][i])
            .plus(PELVIS_Z, 0.5 * ahead)
            .plus(PELVIS_Y, -0.05 * ahead)
            .foot(1 - side, v3(0.0, raised, ahead), 0.0);
        if style < 5 && cast.dice.chance(0.4) {
            let other = cast.aim((0.3, -0.6, 0.8 - 0.4 * i as f32), 0.1);
            pose = pose.arm(1 - side, other, cast.aim((0.1, -0.1 - 0.3 * i as f32, 0.9), 0.1));
        }
        track.to(seconds[i], pose);
        if i == 1 {
            track.hold(cast.dice.between(-0.2, 0.2));
        }
    }
    track.hold(cast.dice.between(-0.1, 0.35));
    if cast.dice.chance(0.35) {
        let (upper, fore) = (cast.aim((0.5, -0.7, 0.4), 0.1), cast.aim((0.6, -0.5, 0.5), 0.1));
        track.to(cast.dice.between(0.25, 0.4) * pace, base.arm(side, upper, fore));
        track.to(cast.dice.between(0.3, 0.4) * pace, base);
    } else {
        track.to(cast.dice.between(0.45, 0.8) * pace, base);
    }
    track
}

/// A raised hand, or both, going from side to side.
pub(crate) fn wave(cast: &mut Cast) -> Track {
    let side = cast.dice.side();
    let both = cast.dice.chance(0.08);
    let whole_arm = cast.dice.chance(0.3);
    let base = cast.base;
    let d = &mut *cast.dice;
    let before_face = !whole_arm && d.chance(0.4);
    let upper = if whole_arm {
        (d.between(0.25, 0.7), d.between(0.5, 1.0), d.between(0.0, 0.4))
    } else if before_face {
        (d.between(0.0, 0.35), d.between(-0.6, 0.1), d.between(0.5, 0.9))
    } else {
        (d.between(0.35, 1.0), d.between(-0.7, 0.3), d.between(0.1, 0.5))
    };
    let swing = d.between(0.3, 0.9);
    let middle = if before_face { d.between(-0.3, 0.05) } else { d.between(-0.05, 0.3) };
    let half_s = if d.chance(0.3) { d.between(0.4, 0.7) } else { d.between(0.17, 0.42) };
    let follow = if whole_arm { d.between(0.15, 0.45) } else { d.between(0.0, 0.12) };
    let (depth, swings) = (d.between(0.05, 0.45), d.whole(2, if half_s > 0.4 { 4 } else { 6 }));
    // In the wild it may be wide, begins to either side, and may be over after one to and fro.
    let (mut wide, mut first, mut halves) = (1.0, 1.0, swings * 2);
    if cast.wild {
        wide = if d.chance(0.3) { d.between(1.0, 1.7) } else { 1.0 };
        first = d.sign();
        halves = if d.chance(0.3) { 3 } else { halves };
    }
    let mut track = Track::new(base);
    if whole_arm || cast.dice.chance(0.5) {
        // The hand rises at the body's side rather than through it.
        let (arm, fore) = (cast.aim((0.5, -0.7, 0.3), 0.1), cast.aim((0.8, 0.1, 0.4), 0.1));
        let pose = cast.lively(base, 0.4).arm(side, arm, fore);
        let seconds = cast.dice.between(0.3, 0.45);
        track.to(seconds, if both { pose.arm(1 - side, arm, fore) } else { pose });
    }
    for i in 0..halves {
        let way = if i % 2 == 0 { first } else { -first };
        let size = cast.dice.between(0.8, 1.15);
        let arm = cast.aim((upper.0 + way * follow, upper.1, upper.2), 0.03);
        let fore = cast.aim((middle + way * swing * wide * size, 0.9, depth), 0.05);
        let mut pose = cast.lively(base, 0.4).arm(side, arm, fore).plus(SPINE_ROLL, -0.05 * sign(side));
        if both {
            pose = pose.arm(1 - side, arm, fore);
        }
        let seconds = if i == 0 { cast.dice.between(0.4, 0.75) } else { half_s * cast.dice.between(0.9, 1.1) };
        track.to(seconds, pose);
    }
    track.to(cast.dice.between(0.4, 0.8), base);
    track
}

/// Claps before the chest.
pub(crate) fn clap(cast: &mut Cast) -> Track {
    let base = cast.base;
    let d = &mut *cast.dice;
    let claps = if d.chance(0.25) { 1 } else { d.whole(2, 7) };
    let (height, ahead) = (d.between(-0.16, 0.06), d.between(0.13, 0.24));
    let (width, half_s) = (d.between(0.035, 0.22), d.between(0.12, 0.3));
    let half_s = half_s * (0.75 + 1.5 * width);
    let pole = v3(d.between(0.3, 1.0), -1.0, d.between(-0.4, 0.1));
    let one_hand = if d.chance(0.2) { d.between(0.0, 0.7) } else { 1.0 };
    let (still, wide_start) = (d.side(), d.chance(0.3));
    let mut track = Track::new(base);
    for i in 0..claps * 2 {
        let size = if i == 0 && wide_start { 0.3 } else { width * cast.dice.between(0.75, 1.2) };
        let mut pose = cast.lively(base, 0.4);
        for side in 0..2 {
            let gap = if i % 2 == 1 {
                0.012
            } else if side == still {
                size * one_hand
            } else {
                size
            };
            let drop = if side == still { 0.01 } else { 0.0 };
            let (upper, fore) = cast.body.reach(v3(gap, height - drop, ahead - 0.2 * gap), pole);
            // Hands lie flat against each other only if the forearms end parallel to the middle.
            pose = pose.arm(side, upper, fore + v3(0.05, 0.1, 0.1));
        }
        let seconds = if i == 0 { cast.dice.between(0.4, 0.75) } else { half_s * cast.dice.between(0.85, 1.15) };
        track.to(seconds, pose);
    }
    track.hold(cast.dice.between(-0.2, 0.3));
    track.to(cast.dice.between(0.4, 0.75), base);
    track
}

/// Jabs and crosses from a guard, or single blows.
pub(crate) fn punch(cast: &mut Cast) -> Track {
    let base = cast.base;
    let guarded = cast.dice.chance(0.75);
    let d = &mut *cast.dice;
    let guard = v3(d.between(0.0, 0.08), d.between(-0.1, 0.03), d.between(0.12, 0.19));
    let blows = d.whole(1, 6);
    let (aside, rise) = (d.between(-0.12, 0.12), d.between(-0.1, 0.08));
    let (power, crouch) = (d.between(0.15, 0.5), d.between(0.0, 0.06));
    let (out_s, wait_s) = (d.between(0.13, 0.26), d.between(0.02, 0.3));
    let (split, first, alternate) = (d.between(0.0, 0.25), d.side(), d.chance(0.7));
    let to_side = d.chance(0.15);
    let pole = v3(0.5, -1.0, 0.0);
    let mut rest = base;
    if guarded {
        let (upper, fore) = cast.body.reach(guard, pole);
        rest = base.arms(upper, fore).plus(PELVIS_Y, -crouch).plus(SPINE_PITCH, 0.1);
        rest = rest.foot(first, v3(0.03, 0.0, split * 0.6), 0.0).foot(1 - first, v3(0.03, 0.0, -split * 0.4), 0.0);
    }
    let mut track = Track::new(base);
    track.to(cast.dice.between(0.3, 0.6), cast.lively(rest, 0.5));
    for blow in 0..blows {
        let side = if alternate { (first + blow) % 2 } else { first };
        let cross = if alternate && blow % 2 == 1 { 1.3 } else { 1.0 };
        let target = if to_side { (0.8, rise, 0.5) } else { (-0.25 + aside, rise, 1.0) };
        let (upper, fore) = (cast.aim(target, 0.06), cast.aim((target.0, target.1 + 0.05, target.2), 0.06));
        let mut cock = rest;
        if !guarded {
            let (up, fo) = cast.body.reach(v3(0.12, -0.12, 0.08), v3(0.2, -0.4, -1.0));
            cock = rest.arm(side, up, fo);
        }
        let twist = -sign(side) * power * cross;
        track.to(cast.dice.between(0.1, 0.2), cast.lively(cock.plus(SPINE_TWIST, -0.3 * twist), 0.3));
        let hit = cock.arm(side, upper, fore).plus(SPINE_TWIST, twist).plus(PELVIS_YAW, 0.4 * twist);
        track.to(out_s, cast.lively(hit.plus(PELVIS_Z, 0.1 * power).plus(HEAD_YAW, -twist), 0.4));
        track.to(out_s * cast.dice.between(1.0, 1.7), cast.lively(cock, 0.4));
        track.hold(wait_s * cast.dice.between(0.2, 1.5));
    }
    track.to(cast.dice.between(0.35, 0.65), base);
    track
}
