//! Poses as plain numbers, and tracks of key poses through which a body moves without jerks.

use super::geometry::{Axes, Vec3, v3};

/// Number of values of a pose.
const SIZE: usize = 33;

/// Pelvis: to the right, up and forward from where it is in standing, in leg lengths.
pub(crate) const PELVIS_X: usize = 0;
pub(crate) const PELVIS_Y: usize = 1;
pub(crate) const PELVIS_Z: usize = 2;
/// Pelvis: lean forward, to the right, turn to the right, in radians. The upper body follows.
pub(crate) const PELVIS_PITCH: usize = 3;
pub(crate) const PELVIS_ROLL: usize = 4;
pub(crate) const PELVIS_YAW: usize = 5;
/// Chest against pelvis, as above.
pub(crate) const SPINE_PITCH: usize = 6;
pub(crate) const SPINE_ROLL: usize = 7;
pub(crate) const SPINE_TWIST: usize = 8;
/// Head against chest.
pub(crate) const HEAD_YAW: usize = 9;
pub(crate) const HEAD_PITCH: usize = 10;
/// The whole body about its feet: falling forward and to the right.
pub(crate) const TILT_PITCH: usize = 11;
pub(crate) const TILT_ROLL: usize = 12;
/// Directions of upper arm and forearm in the chest's axes, x outward: six values a side.
const ARM: usize = 13;
/// Ankle against standing, in leg lengths, x outward, y up, z forward, then toes down in radians: four values a side.
const FOOT: usize = 25;

/// One posture. Sides are 0 (the picture's left when the body faces the camera) and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pose([f32; SIZE]);

impl Pose {
    /// Upright, arms hanging.
    pub(crate) fn standing() -> Self {
        Self([0.0; SIZE]).arms(v3(0.12, -1.0, 0.0), v3(0.03, -1.0, 0.15))
    }

    pub(crate) fn get(&self, index: usize) -> f32 {
        self.0[index]
    }

    pub(crate) fn with(mut self, index: usize, value: f32) -> Self {
        self.0[index] = value;
        self
    }

    pub(crate) fn plus(mut self, index: usize, value: f32) -> Self {
        self.0[index] += value;
        self
    }

    pub(crate) fn arm(mut self, side: usize, upper: Vec3, fore: Vec3) -> Self {
        for (at, direction) in [(0, upper.unit()), (3, fore.unit())] {
            let at = ARM + side * 6 + at;
            self.0[at..at + 3].copy_from_slice(&[direction.x, direction.y, direction.z]);
        }
        self
    }

    pub(crate) fn arms(self, upper: Vec3, fore: Vec3) -> Self {
        self.arm(0, upper, fore).arm(1, upper, fore)
    }

    /// The arm of `side` as in `other`.
    pub(crate) fn arm_of(self, side: usize, other: &Pose) -> Self {
        let (upper, fore) = other.arm_directions(side);
        self.arm(side, upper, fore)
    }

    /// Unit directions of upper arm and forearm.
    pub(crate) fn arm_directions(&self, side: usize) -> (Vec3, Vec3) {
        let v = &self.0[ARM + side * 6..][..6];
        (v3(v[0], v[1], v[2]).unit(), v3(v[3], v[4], v[5]).unit())
    }

    pub(crate) fn foot(mut self, side: usize, ankle: Vec3, toes_down: f32) -> Self {
        let at = FOOT + side * 4;
        self.0[at..at + 4].copy_from_slice(&[ankle.x, ankle.y, ankle.z, toes_down]);
        self
    }

    pub(crate) fn feet(self, ankle: Vec3, toes_down: f32) -> Self {
        self.foot(0, ankle, toes_down).foot(1, ankle, toes_down)
    }

    /// Ankle offset and toes-down angle.
    pub(crate) fn foot_place(&self, side: usize) -> (Vec3, f32) {
        let v = &self.0[FOOT + side * 4..][..4];
        (v3(v[0], v[1], v[2]), v[3])
    }
}

/// A flight without ground contact.
#[derive(Debug, Clone, Copy)]
struct Flight {
    start_s: f32,
    duration_s: f32,
}

/// Key poses over time, from 0 s.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    keys: Vec<(f32, Pose)>,
    flights: Vec<Flight>,
}

/// Acceleration of a falling body, in m/s2.
const GRAVITY: f32 = 9.81;

impl Track {
    pub(crate) fn new(first: Pose) -> Self {
        Self { keys: vec![(0.0, first)], flights: Vec::new() }
    }

    pub(crate) fn duration(&self) -> f32 {
        self.keys.last().map_or(0.0, |key| key.0)
    }

    /// The last pose.
    pub(crate) fn last(&self) -> Pose {
        self.keys.last().map_or_else(Pose::standing, |key| key.1)
    }

    /// Reaches `pose` within `seconds` after the last key. Bones that turn far go round at the front and outside of the
    /// body: a straight line between nearly opposite directions would flip them.
    pub(crate) fn to(&mut self, seconds: f32, pose: Pose) {
        let (start_s, seconds, last) = (self.duration(), seconds.max(0.02), self.last());
        let mut middle = last;
        middle.0.iter_mut().zip(pose.0).for_each(|(value, end)| *value = 0.5 * (*value + end));
        let mut flips = false;
        for side in 0..2 {
            let (from, to) = (last.arm_directions(side), pose.arm_directions(side));
            let mut between = |a: Vec3, b: Vec3| {
                let far = a.dot(b) < -0.2;
                flips |= far;
                if far { ((a + b) * 0.5 + v3(0.35, 0.0, 0.6)).unit() } else { (a + b).unit() }
            };
            middle = middle.arm(side, between(from.0, to.0), between(from.1, to.1));
        }
        if flips {
            self.keys.push((start_s + 0.5 * seconds, middle));
        }
        self.keys.push((start_s + seconds, pose));
    }

    /// Stays where it is.
    pub(crate) fn hold(&mut self, seconds: f32) {
        if seconds > 0.02 {
            self.to(seconds, self.last());
        }
    }

    /// The same, taking `factor()` times as long from each key to the next; a flight takes its own time, so a track with one stays
    /// as it is.
    pub(crate) fn paced(mut self, mut factor: impl FnMut() -> f32) -> Self {
        if self.flights.is_empty() {
            let (mut before_s, mut end_s) = (0.0, 0.0);
            for key in &mut self.keys {
                end_s += (key.0 - before_s) * factor();
                before_s = std::mem::replace(&mut key.0, end_s);
            }
        }
        self
    }

    /// The same with all that its arms do between first and last pose `turned` about the shoulder, as seen from either side of
    /// the body, and its spread about the mean direction `size` times as large. Arms that stay as they were at first still do.
    pub(crate) fn gestured(mut self, turned: &Axes, size: f32) -> Self {
        let first = self.keys[0].1;
        let inner = self.keys.len().saturating_sub(1).max(1);
        for side in 0..2 {
            let still = first.arm_directions(side);
            let moved: Vec<usize> = (1..inner).filter(|i| self.keys[*i].1.arm_directions(side) != still).collect();
            let sum = |sum: (Vec3, Vec3), i: &usize| {
                let (upper, fore) = self.keys[*i].1.arm_directions(side);
                (sum.0 + upper, sum.1 + fore)
            };
            let mean = moved.iter().fold((v3(0.0, 0.0, 0.0), v3(0.0, 0.0, 0.0)), sum);
            let share = 1.0 / moved.len().max(1) as f32;
            for i in moved {
                let pose = &mut self.keys[i].1;
                let (upper, fore) = pose.arm_directions(side);
                let place = |mean: Vec3, at: Vec3| turned.apply((mean * share).lerp(at, size));
                *pose = pose.arm(side, place(mean.0, upper), place(mean.1, fore));
            }
        }
        self
    }

    /// The same with a stop of `seconds` at the key after `share` of it; none in a track with a flight.
    pub(crate) fn hesitating(mut self, share: f32, seconds: f32) -> Self {
        let at = self.keys.partition_point(|key| key.0 < share * self.duration());
        if self.flights.is_empty() && at + 1 < self.keys.len() {
            self.keys[at + 1..].iter_mut().for_each(|key| key.0 += seconds);
            let (t_s, pose) = self.keys[at];
            self.keys.insert(at + 1, (t_s + seconds, pose));
        }
        self
    }

    /// `next` after this one, which ends where that begins.
    pub(crate) fn then(mut self, next: &Track) -> Self {
        let end_s = self.duration();
        self.keys.extend(next.keys[1..].iter().map(|(t_s, pose)| (end_s + t_s, *pose)));
        self.flights.extend(next.flights.iter().map(|flight| Flight { start_s: end_s + flight.start_s, ..*flight }));
        self
    }

    /// Its first `seconds`, and back to where it began: something that was about to be done.
    pub(crate) fn broken_off(&self, seconds: f32, back_s: f32) -> Self {
        let begun = self.keys.iter().copied().take_while(|key| key.0 < seconds - 0.02);
        let mut track = Self { keys: begun.collect(), flights: Vec::new() };
        let (last_s, first) = (track.duration(), self.keys[0].1);
        track.to(seconds - last_s, self.pose_at(seconds));
        track.to(back_s, first);
        track
    }

    /// A flight of `height_m` from the last key on; returns how long it takes.
    pub(crate) fn take_off(&mut self, height_m: f32) -> f32 {
        let duration_s = 2.0 * (2.0 * height_m / GRAVITY).sqrt();
        self.flights.push(Flight { start_s: self.duration(), duration_s });
        duration_s
    }

    /// How far gravity-bound flight has carried the body from the ground at `t_s`, in metres.
    pub(crate) fn lift_at(&self, t_s: f32) -> f32 {
        let height = |f: &Flight| {
            let u = t_s - f.start_s;
            0.5 * GRAVITY * u * (f.duration_s - u)
        };
        self.flights.iter().map(height).fold(0.0, f32::max)
    }

    /// The pose at `t_s`: a monotone cubic through the keys, at rest wherever a value turns round.
    pub(crate) fn pose_at(&self, t_s: f32) -> Pose {
        let next = self.keys.partition_point(|key| key.0 <= t_s);
        if next == 0 || next >= self.keys.len() {
            return if next == 0 { self.keys[0].1 } else { self.last() };
        }
        let (t1, ref p1) = self.keys[next - 1];
        let (t2, ref p2) = self.keys[next];
        let (t0, ref p0) = if next >= 2 { self.keys[next - 2] } else { (t1 - 1.0, *p1) };
        let (t3, ref p3) = if next + 1 < self.keys.len() { self.keys[next + 1] } else { (t2 + 1.0, *p2) };
        let h = t2 - t1;
        let u = (t_s - t1) / h;
        let mut pose = *p1;
        for i in 0..SIZE {
            let slope = (p2.0[i] - p1.0[i]) / h;
            let m1 = tangent((p1.0[i] - p0.0[i]) / (t1 - t0), slope);
            let m2 = tangent(slope, (p3.0[i] - p2.0[i]) / (t3 - t2));
            let rest = u * u * (3.0 - 2.0 * u);
            pose.0[i] =
                p1.0[i] + (p2.0[i] - p1.0[i]) * rest + h * (m1 * u * (1.0 - u) * (1.0 - u) - m2 * u * u * (1.0 - u));
        }
        pose
    }
}

/// Slope at a key between slopes `a` and `b`: none where they differ in sign, so that nothing overshoots.
fn tangent(a: f32, b: f32) -> f32 {
    if a * b <= 0.0 { 0.0 } else { 2.0 * a * b / (a + b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_meets_its_keys_and_never_overshoots() {
        let key = |v: f32| Pose::standing().with(PELVIS_Y, v);
        let mut track = Track::new(key(0.0));
        track.to(0.5, key(1.0));
        track.to(0.5, key(1.2));
        track.to(0.3, key(-1.0));
        assert!((track.pose_at(0.5).get(PELVIS_Y) - 1.0).abs() < 1e-5);
        assert!((track.pose_at(9.0).get(PELVIS_Y) + 1.0).abs() < 1e-5);
        let values: Vec<f32> = (0..130).map(|i| track.pose_at(i as f32 * 0.01).get(PELVIS_Y)).collect();
        assert!(values.iter().all(|v| (-1.0..=1.2001).contains(v)));
        assert!(values.windows(2).all(|v| (v[1] - v[0]).abs() < 0.15), "a jump between frames");
    }

    #[test]
    fn tracks_can_be_slowed_stopped_joined_and_broken_off() {
        let key = |v: f32| Pose::standing().with(PELVIS_Y, v);
        let mut track = Track::new(key(0.0));
        track.to(0.5, key(1.0));
        track.to(0.5, key(0.0));
        let at = |track: &Track, t_s: f32| track.pose_at(t_s).get(PELVIS_Y);
        let slow = track.clone().paced(|| 2.0);
        assert!(slow.duration() == 2.0 && at(&slow, 1.0) == at(&track, 0.5));
        let mut factors = [1.0, 0.5, 2.0].into_iter();
        let uneven = track.clone().paced(|| factors.next().unwrap_or(0.0));
        assert!(uneven.duration() == 1.25 && at(&uneven, 0.25) == 1.0);
        let waits = track.clone().hesitating(0.3, 0.4);
        assert!((waits.duration() - 1.4).abs() < 1e-6 && (at(&waits, 0.7) - 1.0).abs() < 1e-5);
        let twice = track.clone().then(&track);
        assert!(twice.duration() == 2.0 && (at(&twice, 1.5) - 1.0).abs() < 1e-5);
        let broken = track.broken_off(0.25, 0.4);
        assert!((broken.duration() - 0.65).abs() < 1e-6 && at(&broken, 0.65) == 0.0);
        let highest = (0..65).map(|i| at(&broken, i as f32 * 0.01)).fold(0.0, f32::max);
        assert!((highest - at(&track, 0.25)).abs() < 1e-4 && highest < 0.7, "{highest}");

        let mut jump = track.clone();
        jump.take_off(0.3);
        jump.to(1.0, key(0.0));
        let (slow, waits) = (jump.clone().paced(|| 2.0), jump.clone().hesitating(0.1, 1.0));
        assert!(slow.duration() == jump.duration() && waits.duration() == jump.duration());
        assert!(track.then(&jump).lift_at(2.2) > 0.1);
    }

    #[test]
    fn gestures_are_turned_and_made_smaller() {
        let base = Pose::standing();
        let (left, right) = (v3(-0.6, 0.0, 0.8), v3(0.6, 0.0, 0.8));
        let mut track = Track::new(base);
        for fore in [left, right, left, right] {
            track.to(0.3, base.arm(1, v3(0.0, 0.0, 1.0), fore));
        }
        track.to(0.5, base);
        let fore = |track: &Track, t_s: f32| track.pose_at(t_s).arm_directions(1).1;
        let near = |a: Vec3, b: Vec3| (a - b).length() < 1e-5;
        let same = track.clone().gestured(&Axes::WORLD, 1.0);
        assert!(near(fore(&same, 0.3), left) && near(fore(&same, 0.6), right));
        let small = track.clone().gestured(&Axes::WORLD, 0.5);
        assert!(near(fore(&small, 0.3), v3(-0.3, 0.0, 0.8).unit()));
        // Turned outward by a quarter, what lay ahead lies outside.
        let turned = track.clone().gestured(&Axes::WORLD.yaw(std::f32::consts::FRAC_PI_2), 1.0);
        assert!(near(turned.pose_at(0.3).arm_directions(1).0, v3(1.0, 0.0, 0.0)));
        for changed in [&small, &turned] {
            assert!(changed.pose_at(0.0) == base && changed.last() == base);
            let other = changed.pose_at(0.6).arm_directions(0);
            assert_eq!(other, base.arm_directions(0), "the other arm hangs");
        }
    }

    #[test]
    fn flight_is_ballistic() {
        let mut track = Track::new(Pose::standing());
        let duration = track.take_off(0.3);
        assert!((track.lift_at(duration / 2.0) - 0.3).abs() < 1e-4);
        assert!(track.lift_at(duration).abs() < 1e-4 && track.lift_at(2.0 * duration) == 0.0);
    }
}
