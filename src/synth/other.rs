//! Motions that the shipped models do not know: actions of one's own to record, and what a model must not take for one of its.

use std::f32::consts::TAU;

use super::body::sign;
use super::geometry::v3;
use super::motion::Cast;
use super::pose::*;

/// Both arms, stretched, going round in large circles.
pub(crate) fn arm_circles(cast: &mut Cast) -> Track {
    let base = cast.base;
    let d = &mut *cast.dice;
    let (turns, quarter_s, way) = (d.whole(2, 4), d.between(0.14, 0.3), d.sign());
    let (out, size) = (d.between(0.25, 0.6), d.between(0.7, 1.0));
    let mut track = Track::new(base);
    for quarter in 1..=turns * 4 {
        let angle = way * TAU * quarter as f32 / 4.0;
        let mut arm = |bend: f32| cast.aim((out, -size * angle.cos(), size * angle.sin() + bend), 0.04);
        let (upper, fore) = (arm(0.0), arm(0.1));
        let seconds = if quarter == 1 { 0.4 } else { quarter_s * cast.dice.between(0.9, 1.1) };
        track.to(seconds, cast.lively(base, 0.4).arms(upper, fore));
    }
    track.to(cast.dice.between(0.35, 0.6), base);
    track
}

/// Both arms up, a stretch, and down at the sides.
pub(crate) fn stretch(cast: &mut Cast) -> Track {
    let base = cast.base;
    let d = &mut *cast.dice;
    let (high, apart, lean) = (d.between(0.7, 1.0), d.between(0.05, 0.45), d.between(0.0, 0.2));
    let (up_s, hold_s, aside) = (d.between(0.5, 0.9), d.between(0.3, 1.0), d.sign() * d.between(0.0, 0.15));
    let mut track = Track::new(base);
    let (upper, fore) = (cast.aim((0.9, 0.0, 0.4), 0.06), cast.aim((0.9, 0.3, 0.3), 0.06));
    track.to(0.5 * up_s, cast.lively(base, 0.4).arms(upper, fore));
    let (upper, fore) = (cast.aim((apart, high, 0.1), 0.06), cast.aim((apart * 0.5, 1.0, 0.0), 0.06));
    let top = cast.lively(base, 0.5).arms(upper, fore).plus(SPINE_PITCH, -lean).plus(HEAD_PITCH, -lean);
    track.to(0.5 * up_s, top);
    track.to(0.5 * hold_s, top.plus(SPINE_ROLL, aside).plus(PELVIS_Y, 0.01));
    track.to(0.5 * hold_s, top.plus(SPINE_ROLL, -0.5 * aside));
    let (upper, fore) = (cast.aim((0.9, 0.0, 0.2), 0.06), cast.aim((0.9, -0.2, 0.3), 0.06));
    track.to(cast.dice.between(0.3, 0.5), cast.lively(base, 0.4).arms(upper, fore));
    track.to(cast.dice.between(0.3, 0.5), base);
    track
}

/// A hand to the mouth, the head back, and down again.
pub(crate) fn drink(cast: &mut Cast) -> Track {
    let base = cast.base;
    let side = cast.dice.side();
    let d = &mut *cast.dice;
    let (hold_s, back, elbow) = (d.between(0.5, 1.4), d.between(0.12, 0.35), d.between(-0.8, 0.2));
    let mut track = Track::new(base);
    let (upper, fore) = cast.body.reach(v3(0.06, -0.13, 0.16), v3(0.6, -1.0, 0.0));
    track.to(cast.dice.between(0.35, 0.6), cast.lively(base, 0.4).arm(side, upper, fore).plus(HEAD_PITCH, 0.15));
    let (upper, fore) = cast.body.reach(v3(0.015, 0.06, 0.1), v3(1.0, elbow, 0.1));
    let sip = cast.lively(base, 0.3).arm(side, upper, fore);
    track.to(cast.dice.between(0.3, 0.55), sip);
    track.to(0.35, sip.plus(HEAD_PITCH, -back).plus(SPINE_PITCH, -0.2 * back).plus(SPINE_ROLL, 0.03 * sign(side)));
    track.hold(hold_s);
    track.to(0.25, sip);
    track.to(cast.dice.between(0.5, 0.9), base);
    track
}

/// A stretched arm that points somewhere, and stays there.
pub(crate) fn point(cast: &mut Cast) -> Track {
    let base = cast.base;
    let side = cast.dice.side();
    let d = &mut *cast.dice;
    let (out, up, ahead) = (d.between(-0.2, 0.9), d.between(-0.1, 0.6), d.between(0.3, 1.0));
    let (reach_s, hold_s, times) = (d.between(0.35, 0.6), d.between(0.6, 1.4), d.whole(1, 2));
    let mut track = Track::new(base);
    for time in 0..times {
        let (upper, fore) = (cast.aim((out, up, ahead), 0.05), cast.aim((out, up, ahead), 0.04));
        let gaze = sign(side) * 0.4 * out;
        let pose = cast.lively(base, 0.4).arm(side, upper, fore).plus(HEAD_YAW, gaze).plus(SPINE_TWIST, 0.2 * gaze);
        if time > 0 {
            // Pulled back a little and out again, to insist.
            let (upper, fore) = (cast.aim((out, up - 0.4, 0.6), 0.05), cast.aim((0.1, 0.3, 0.9), 0.05));
            track.to(0.25, pose.arm(side, upper, fore));
        }
        track.to(reach_s, pose);
        track.hold(hold_s / times as f32);
    }
    track.to(cast.dice.between(0.4, 0.75), base);
    track
}

/// Forearms crossed high before the chest: stop.
pub(crate) fn cross_arms(cast: &mut Cast) -> Track {
    let base = cast.base;
    let (front, times) = (cast.dice.side(), cast.dice.whole(1, 2));
    let d = &mut *cast.dice;
    let (height, ahead, hold_s) = (d.between(-0.1, 0.02), d.between(0.14, 0.2), d.between(0.4, 1.1));
    let over = d.between(0.05, 0.1);
    let mut track = Track::new(base);
    for time in 0..times {
        let mut pose = cast.lively(base, 0.4);
        for side in 0..2 {
            let depth = if side == front { 0.02 } else { 0.0 };
            let (upper, fore) = cast.body.reach(v3(-over, height, ahead + depth), v3(1.0, -0.7, 0.0));
            pose = pose.arm(side, upper, fore);
        }
        if time > 0 {
            let (upper, fore) = cast.body.reach(v3(0.12, height, ahead), v3(1.0, -0.7, 0.0));
            track.to(0.25, cast.lively(base, 0.4).arms(upper, fore));
        }
        track.to(if time == 0 { cast.dice.between(0.4, 0.7) } else { 0.25 }, pose);
        track.hold(hold_s / times as f32);
    }
    track.to(cast.dice.between(0.4, 0.75), base);
    track
}
