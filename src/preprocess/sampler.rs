//! Picks frames by time, so that a window covers the same stretch of time whatever rate the camera delivers.

use std::time::Duration;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// The model does not see it.
    Skip,
    /// The model sees it. Before it, the last sampled frame counts `repeats` times more, for moments without a frame.
    Take {
        /// Moments that passed without a frame.
        repeats: usize,
    },
    /// The model sees it as the first frame of a new window: the gap before it was too long, or time went back.
    Restart,
}

/// Samples a stream of timestamps at a fixed rate.
///
/// The wanted moments are `origin + k / rate`. A frame is taken for the nearest such moment: as soon as the moment is
/// less than half a source interval ahead. The interval is the shortest seen lately, so lost frames do not widen it.
#[derive(Debug, Clone)]
pub struct Sampler {
    period_s: f64,
    longest_gap_s: f64,
    origin_s: f64,
    next: u64,
    last_s: Option<f64>,
    last_taken_s: f64,
    interval_s: f64,
}

impl Sampler {
    /// A sampler of `frame_rate` frames a second; a gap of more than half of `frames` restarts the window.
    pub fn new(frame_rate: f32, frames: usize) -> Self {
        let period_s = 1.0 / f64::from(frame_rate);
        Self {
            period_s,
            longest_gap_s: (frames as f64 / 2.0).max(1.0) * period_s,
            origin_s: 0.0,
            next: 0,
            last_s: None,
            last_taken_s: 0.0,
            interval_s: period_s,
        }
    }

    /// Forgets the stream: the next frame is the first of a new one.
    pub fn reset(&mut self) {
        self.last_s = None;
    }

    /// Decides about the frame taken at `timestamp`. The first frame of a stream restarts the window.
    pub fn offer(&mut self, timestamp: Duration) -> Sample {
        let now_s = timestamp.as_secs_f64();
        let Some(last_s) = self.last_s.replace(now_s) else {
            self.interval_s = self.period_s;
            return self.restart(now_s);
        };
        if now_s < last_s || now_s - self.last_taken_s > self.longest_gap_s + self.period_s {
            return self.restart(now_s);
        }
        // Rises slowly, so that one burst does not narrow the reach for good.
        self.interval_s = (now_s - last_s).min(self.interval_s * 1.05).min(self.period_s);
        let reach_s = now_s + self.interval_s / 2.0 - self.origin_s;
        let due = (reach_s / self.period_s).floor() as u64;
        if due < self.next {
            return Sample::Skip;
        }
        let repeats = (due - self.next) as usize;
        self.next = due + 1;
        self.last_taken_s = now_s;
        Sample::Take { repeats }
    }

    fn restart(&mut self, now_s: f64) -> Sample {
        self.origin_s = now_s;
        self.next = 1;
        self.last_taken_s = now_s;
        Sample::Restart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times of the samples of a window of `count` planes, repeats included.
    fn window(times: impl Iterator<Item = f64>, rate: f32, count: usize) -> Vec<f64> {
        let mut sampler = Sampler::new(rate, 16);
        let mut taken: Vec<f64> = Vec::new();
        for t in times {
            match sampler.offer(Duration::from_secs_f64(t)) {
                Sample::Skip => {}
                Sample::Take { repeats } => {
                    let last = taken[taken.len() - 1];
                    taken.extend(std::iter::repeat_n(last, repeats));
                    taken.push(t);
                }
                Sample::Restart => taken = vec![t],
            }
        }
        taken.truncate(count);
        assert_eq!(taken.len(), count, "rate {rate}");
        taken
    }

    fn assert_on_grid(taken: &[f64], rate: f32, off_s: f64) {
        for (k, t) in taken.iter().enumerate() {
            let due = k as f64 / f64::from(rate);
            assert!((t - due).abs() <= off_s + 1e-9, "sample {k} at {t}, wanted {due} within {off_s}");
        }
    }

    #[test]
    fn any_source_rate_gives_the_same_times() {
        for rate in [10.0_f32, 12.0] {
            for source in [15.0, 24.0, 25.0, 29.97, 30.0, 60.0] {
                let taken = window((0..200).map(|n| f64::from(n) / source), rate, 16);
                assert_on_grid(&taken, rate, 0.5 / source);
            }
        }
    }

    #[test]
    fn a_source_that_loses_half_its_frames_gives_the_same_window() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let kept: Vec<f64> = (0..200).filter(|n| *n == 0 || rng.bool()).map(|n| f64::from(n) / 30.0).collect();
            let taken = window(kept.iter().copied(), 10.0, 16);
            let longest = kept.windows(2).take(100).map(|w| w[1] - w[0]).fold(0.0, f64::max);
            for (k, t) in taken.iter().enumerate() {
                let due = k as f64 / 10.0;
                assert!((t - due).abs() <= longest, "seed {seed}, sample {k} at {t}");
            }
        }
    }

    #[test]
    fn jittered_timestamps_stay_on_the_grid() {
        let mut rng = fastrand::Rng::with_seed(7);
        let times = (0..200).map(|n| (f64::from(n) + 0.3 * rng.f64()) / 30.0);
        assert_on_grid(&window(times, 12.0, 16), 12.0, 1.0 / 30.0);
    }

    #[test]
    fn a_slow_source_repeats() {
        let taken = window((0..40).map(|n| f64::from(n) / 5.0), 10.0, 8);
        assert_eq!(taken, [0.0, 0.0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6]);
    }

    #[test]
    fn a_short_gap_repeats_and_a_long_one_restarts() {
        let mut sampler = Sampler::new(10.0, 16);
        let mut offer = |t: f64| sampler.offer(Duration::from_secs_f64(t));
        assert_eq!(offer(5.0), Sample::Restart);
        assert_eq!(offer(5.1), Sample::Take { repeats: 0 });
        assert_eq!(offer(5.5), Sample::Take { repeats: 3 });
        assert_eq!(offer(6.5), Sample::Restart);
        assert_eq!(offer(6.6), Sample::Take { repeats: 0 });
        assert_eq!(offer(1.0), Sample::Restart);
        sampler.reset();
        assert_eq!(sampler.offer(Duration::from_secs_f64(1.1)), Sample::Restart);
    }
}
