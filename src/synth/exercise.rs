//! Motions of the whole body on one spot. Pelvis and feet are in leg lengths.

use super::body::sign;
use super::geometry::{Vec3, v3};
use super::motion::Cast;
use super::pose::*;

/// `pose` with the pelvis lowered by `depth`, the trunk leaning so that the body stays over its feet.
fn crouch(pose: Pose, depth: f32, lean: f32) -> Pose {
    pose.plus(PELVIS_Y, -depth)
        .plus(PELVIS_Z, -0.28 * depth)
        .plus(PELVIS_PITCH, lean * 0.6)
        .plus(SPINE_PITCH, lean * 0.4)
        .plus(HEAD_PITCH, -0.5 * lean)
}

/// One or several jumps.
pub(crate) fn jump(cast: &mut Cast) -> Track {
    let base = cast.base;
    let d = &mut *cast.dice;
    let (count, height, depth) = (d.whole(1, 4), d.between(0.12, 0.45), d.between(0.14, 0.34));
    let (lean, arms_up, pace) = (d.between(0.3, 0.8), d.between(0.0, 1.0), d.between(0.8, 1.25));
    let tuck = if d.chance(0.25) { d.between(0.1, 0.3) } else { 0.03 };
    let arms_back = (v3(0.2, -0.9, -0.7 * arms_up), v3(0.1, -0.9, -0.3 * arms_up));
    let high = 2.0 * arms_up - 0.9;
    let arms_high = (v3(0.3 + 0.2 * arms_up, high, 0.7), v3(0.15, high + 0.4, 0.5));
    let mut track = Track::new(base);
    for i in 0..count {
        let down = crouch(cast.lively(base, 0.5), depth, lean).arms(arms_back.0, arms_back.1);
        track.to(pace * if i == 0 { cast.dice.between(0.35, 0.55) } else { 0.22 }, down);
        let straight = base.arms(arms_high.0, arms_high.1).plus(PELVIS_Y, 0.02).feet(v3(0.0, 0.06, 0.0), 0.9);
        track.to(0.17, straight.plus(SPINE_PITCH, -0.05));
        let flight = track.take_off(height * cast.dice.between(0.8, 1.15));
        let hang = straight.feet(v3(0.0, 0.06 + tuck, -0.3 * tuck), 0.7).plus(PELVIS_PITCH, 0.5 * tuck);
        track.to(0.5 * flight, hang);
        let touch = base.arms(v3(0.5, 0.1, 0.6), v3(0.4, 0.0, 0.8)).feet(v3(0.0, 0.02, 0.0), 0.3);
        track.to(0.5 * flight, touch);
        let absorbed =
            crouch(cast.lively(base, 0.6), 0.7 * depth, 0.8 * lean).arms(v3(0.4, -0.8, 0.3), v3(0.3, -0.6, 0.7));
        track.to(0.18, absorbed);
    }
    track.to(pace * cast.dice.between(0.35, 0.6), base);
    track
}

/// Jumping jacks: legs apart with arms up, and back, with a hop each time.
pub(crate) fn jumping_jack(cast: &mut Cast) -> Track {
    let base = cast.base;
    let d = &mut *cast.dice;
    let (cycles, half_s) = (d.whole(2, 6), d.between(0.36, 0.62));
    let (apart, high, hop) = (d.between(0.18, 0.38), d.between(0.3, 1.0), d.between(0.02, 0.07));
    let ahead = d.between(0.0, 0.25);
    let mut track = Track::new(base);
    for i in 0..cycles * 2 {
        let opening = i % 2 == 0;
        let feet = if opening { apart } else { 0.0 };
        let dip = base.plus(PELVIS_Y, -0.05);
        if i == 0 {
            track.to(0.2, dip);
        }
        let flight = track.take_off(hop * cast.dice.between(0.85, 1.15));
        let level = dip.arms(v3(1.0, 0.0, ahead), v3(1.0, 0.15, ahead)).feet(v3(0.5 * apart, 0.02, 0.0), 0.5);
        let sides = cast.aim((0.55 - 0.3 * high, high, ahead), 0.04);
        let up = dip.arms(sides, cast.aim((0.35 - 0.5 * high, 1.0, ahead), 0.05)).plus(PELVIS_Y, -0.06 * apart / 0.3);
        let end = if opening { up } else { cast.lively(dip, 0.3) };
        track.to(0.5 * flight, level);
        track.to((0.5 * flight).max(0.5 * half_s), cast.lively(end, 0.2).feet(v3(feet, 0.0, 0.0), 0.0));
        track.hold((half_s - flight) * 0.35);
    }
    track.to(0.35, base);
    track
}

/// One or several squats, with the arms ahead, before the chest or hanging.
pub(crate) fn squat(cast: &mut Cast) -> Track {
    let base = cast.base;
    let d = &mut *cast.dice;
    let (count, depth, lean) = (d.whole(1, 3), d.between(0.28, 0.58), d.between(0.5, 1.0));
    let (down_s, up_s, wait_s) = (d.between(0.5, 1.1), d.between(0.45, 1.0), d.between(0.0, 0.4));
    let arms = match d.whole(0, 2) {
        0 => Some((v3(0.1, -0.1 - 0.4 * lean, 1.0), v3(0.0, -0.3 * lean, 1.0))),
        1 => Some(cast.body.reach(v3(0.03, -0.1, 0.13), v3(0.6, -1.0, 0.0))),
        _ => None,
    };
    let apart = cast.dice.between(0.0, 0.12);
    let mut track = Track::new(base);
    for _ in 0..count {
        let mut low = crouch(base, depth * cast.dice.between(0.85, 1.1), lean).feet(v3(apart, 0.0, 0.0), 0.0);
        low = match arms {
            Some((upper, fore)) => low.arms(upper, fore),
            None => low.arms(v3(0.2, -0.8, 0.6), v3(0.0, -0.8, 0.6)),
        };
        track.to(down_s, cast.lively(low, 0.6));
        track.hold(wait_s);
        let high = cast.lively(base, 0.5).feet(v3(apart, 0.0, 0.0), 0.0);
        track.to(
            up_s,
            match arms {
                Some((upper, fore)) if apart > 0.05 => high.arms(upper, fore),
                _ => high,
            },
        );
        track.hold(0.3 * wait_s);
    }
    track.to(0.3, base);
    track
}

/// Kicks to the front or to the side.
pub(crate) fn kick(cast: &mut Cast) -> Track {
    let base = cast.base;
    let d = &mut *cast.dice;
    let (count, first, alternate) = (d.whole(1, 4), d.side(), d.chance(0.4));
    let (height, pace, aside) = (d.between(0.3, 0.95), d.between(0.75, 1.3), d.chance(0.3));
    let (snap, spread) = (d.chance(0.6), d.between(0.1, 0.8));
    let guard = d.chance(0.4).then(|| cast.body.reach(v3(0.05, -0.05, 0.15), v3(0.5, -1.0, 0.0)));
    let mut track = Track::new(base);
    for i in 0..count {
        let leg = if alternate { (first + i) % 2 } else { first };
        let weight = -sign(leg) * 0.07;
        let mut stand = cast.lively(base, 0.5).plus(PELVIS_X, weight).plus(PELVIS_Y, -0.02);
        stand = match guard {
            Some((upper, fore)) => stand.arms(upper, fore),
            None => stand.arms(v3(0.3 + spread, -1.0, 0.2), v3(0.2 + spread, -0.6, 0.5)),
        };
        let reach = (1.0 - (1.0 - height) * (1.0 - height)).max(0.1).sqrt() * 0.93;
        let (chamber, extended) = if aside {
            (v3(0.2, 0.4 * height + 0.1, 0.1), v3(reach, height, 0.1))
        } else {
            (v3(0.0, 0.45 * height + 0.1, if snap { 0.25 } else { -0.35 }), v3(-0.03, height, reach))
        };
        track.to(pace * cast.dice.between(0.28, 0.42), stand.foot(leg, chamber, 0.5).plus(PELVIS_PITCH, 0.05));
        let lean = 0.35 * height;
        let mut hit = stand.foot(leg, extended, if aside { -0.2 } else { 0.1 });
        hit = if aside {
            hit.plus(PELVIS_ROLL, -sign(leg) * lean).plus(SPINE_ROLL, -sign(leg) * 0.5 * lean)
        } else {
            hit.plus(PELVIS_PITCH, -0.7 * lean).plus(SPINE_PITCH, 0.3 * lean).plus(PELVIS_Z, 0.05)
        };
        let swing = hit.plus(SPINE_TWIST, sign(leg) * 0.3).plus(PELVIS_YAW, -sign(leg) * 0.2);
        track.to(pace * cast.dice.between(0.17, 0.28), swing);
        track.to(pace * cast.dice.between(0.22, 0.35), stand.foot(leg, chamber * 0.8, 0.4));
        track.to(pace * cast.dice.between(0.22, 0.35), cast.lively(base, 0.5));
        track.hold(cast.dice.between(-0.1, 0.3));
    }
    track.to(0.3, base);
    track
}

/// Bends at the hips, one or several: picking something up, touching the toes.
pub(crate) fn bend(cast: &mut Cast) -> Track {
    let base = cast.base;
    let d = &mut *cast.dice;
    let count = if d.chance(0.7) { 1 } else { 2 };
    let (pitch, curl, knees) = (d.between(0.7, 1.3), d.between(0.25, 0.7), d.between(0.02, 0.2));
    let (down_s, up_s, wait_s) = (d.between(0.6, 1.2), d.between(0.6, 1.1), d.between(0.0, 0.8));
    let (one, both) = (d.side(), d.chance(0.6));
    let total = pitch + curl;
    // Straight down in the world, seen from the leaning chest.
    let down: Vec3 = v3(0.05, -total.cos(), total.sin());
    let mut track = Track::new(base);
    for _ in 0..count {
        let size = cast.dice.between(0.85, 1.1);
        let mut low = base
            .plus(PELVIS_PITCH, pitch * size)
            .plus(SPINE_PITCH, curl * size)
            .plus(PELVIS_Z, -0.12)
            .plus(PELVIS_Y, -knees)
            .plus(HEAD_PITCH, cast.dice.between(-0.4, 0.1));
        let upper = (down + v3(0.0, 0.0, cast.dice.between(-0.1, 0.2))).unit();
        low = if both { low.arms(upper, down) } else { low.arm(one, upper, down) };
        track.to(down_s, cast.lively(low, 0.6));
        if wait_s > 0.1 {
            track.to(wait_s, cast.lively(low, 0.8));
        }
        track.to(up_s, cast.lively(base, 0.5));
        track.hold(cast.dice.between(-0.2, 0.4));
    }
    track.to(0.3, base);
    track
}

/// Height of a seat above the floor, and how far behind the ankles its middle is, in leg lengths.
pub(crate) const SEAT_DROP: f32 = 0.46;
pub(crate) const SEAT_BEHIND: f32 = 0.42;

/// The pose of sitting on the chair behind `standing`.
pub(crate) fn seated(standing: Pose, cast: &mut Cast) -> Pose {
    let lean = cast.dice.between(-0.15, 0.2);
    let (upper, fore) = cast.body.reach(v3(cast.dice.between(0.06, 0.12), -0.25, 0.15), v3(0.8, -0.3, -0.6));
    standing
        .plus(PELVIS_Y, -SEAT_DROP)
        .plus(PELVIS_Z, -SEAT_BEHIND)
        .with(PELVIS_X, 0.0)
        .plus(PELVIS_PITCH, lean)
        .arms(upper, fore)
}

/// The trunk ahead over the feet: where weight goes from feet to seat or back.
fn over_feet(standing: Pose, seated: &Pose, share: f32) -> Pose {
    let pose = standing
        .plus(PELVIS_Y, -SEAT_DROP * share)
        .plus(PELVIS_Z, -SEAT_BEHIND * share)
        .plus(PELVIS_PITCH, 0.55)
        .plus(SPINE_PITCH, 0.2)
        .plus(HEAD_PITCH, -0.3);
    pose.arm_of(0, seated).arm_of(1, seated)
}

/// From standing onto the chair.
pub(crate) fn sit_down(cast: &mut Cast) -> Track {
    let base = cast.base;
    let sitting = seated(base, cast);
    let pace = cast.dice.between(0.75, 1.4);
    let mut track = Track::new(base);
    track.to(0.5 * pace, over_feet(cast.lively(base, 0.5), &sitting, 0.35));
    track.to(0.45 * pace, over_feet(base, &sitting, 0.9));
    track.to(0.15 * pace, over_feet(base, &sitting, 1.0));
    track.to(0.4 * pace, sitting);
    track
}

/// From sitting (the base pose) up: the reverse of sitting down.
pub(crate) fn stand_up(cast: &mut Cast) -> Track {
    let sitting = cast.base;
    let standing = Pose::standing();
    let pace = cast.dice.between(0.75, 1.4);
    let mut track = Track::new(sitting);
    track.to(0.4 * pace, over_feet(standing, &sitting, 1.0));
    track.to(0.5 * pace, over_feet(cast.lively(standing, 0.4), &sitting, 0.45));
    track.to(0.5 * pace, standing);
    track
}

/// A fall forward, backward or to a side; the body stays on the floor.
pub(crate) fn fall(cast: &mut Cast) -> Track {
    let base = cast.base;
    let d = &mut *cast.dice;
    let (way, pace) = (d.whole(0, 3), d.between(0.8, 1.35));
    let buckle = d.between(0.05, 0.45);
    let slant = d.between(-0.3, 0.3);
    let (pitch, roll) = match way {
        0 => (1.5, slant * 0.5),
        1 => (-1.5, slant * 0.5),
        2 => (slant, 1.5),
        _ => (slant, -1.5),
    };
    let flail = cast.aim((0.8, 0.1, 0.5 * pitch.signum()), 0.25);
    let lean = |pose: Pose, share: f32| pose.plus(TILT_PITCH, pitch * share).plus(TILT_ROLL, roll * share);
    let bent = |pose: Pose, depth: f32| crouch(pose, depth, if pitch > 0.5 { 0.3 } else { 0.8 } * depth);
    let mut track = Track::new(base);
    let sway = cast.dice.between(-0.08, 0.1);
    track.to(pace * cast.dice.between(0.2, 0.5), bent(lean(cast.lively(base, 1.5), sway), 0.1));
    let (up, fore) = (flail, cast.aim((0.6, 0.3, 0.6), 0.3));
    track.to(0.32 * pace, bent(lean(cast.lively(base, 1.0).arms(up, fore), 0.3), buckle));
    // Hands break a fall to the side ahead of the body, other falls at its sides.
    let brace = if roll.abs() > 1.0 { (0.15, -0.1, 0.9) } else { (0.9, 0.1, 0.25 * pitch.signum()) };
    let (up, fore) = (cast.aim(brace, 0.12), cast.aim((brace.0, brace.1 + 0.3, brace.2), 0.15));
    track.to(0.3 * pace, bent(lean(cast.lively(base, 1.0).arms(up, fore), 0.85), 0.9 * buckle));
    let mut lying = lean(base, 1.0);
    for side in 0..2 {
        let level = cast.dice.between(-0.6, 0.5);
        // Nothing of a lying body may press far into the floor: it would carry the body.
        let below = roll * sign(side) > 0.5;
        let arm = if roll.abs() < 1.0 { (0.8, level, 0.0) } else { (0.02, if below { 0.5 } else { -0.3 }, 0.7) };
        let knee = if pitch > 1.0 { 0.0 } else { cast.dice.between(0.0, 0.35) };
        let (upper, fore) = (cast.aim(arm, 0.06), cast.aim((0.7 * arm.0, 0.3 + level, 0.5 * arm.2), 0.08));
        lying = lying.arm(side, upper, fore).foot(side, v3(0.0, knee, 0.0), if pitch > 1.0 { 1.3 } else { 0.6 });
    }
    track.to(0.18 * pace, lean(bent(lying, 0.05), 0.0).plus(HEAD_PITCH, 0.2));
    track.to(0.35, cast.lively(lying, 0.6));
    track
}
