//! Pictures a second as a fraction, so that the time of picture n is exact however large n is.

use std::time::Duration;

/// Pictures a second, `pictures / seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    pictures: u32,
    seconds: u32,
}

impl Rate {
    /// The usual rate of cameras.
    pub(super) const DEFAULT: Self = Self { pictures: 30, seconds: 1 };

    /// A rate to the thousandth, kept within 0.001 and 1000.
    pub(super) fn new(per_second: f32) -> Self {
        Self { pictures: (per_second.clamp(0.001, 1000.0) * 1000.0).round() as u32, seconds: 1000 }
    }

    /// Reads `30000/1001`; `None` for what is no rate, such as `0/0`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (pictures, seconds) = text.split_once('/')?;
        let rate = Self { pictures: pictures.parse().ok()?, seconds: seconds.parse().ok()? };
        (rate.pictures > 0 && rate.seconds > 0).then_some(rate)
    }

    /// The rate to decode a video at, from the average and the base rate that its file claims: the first one that is
    /// credible, else the average cut to what is.
    pub(super) fn of_claims(average: &str, base: &str) -> Self {
        let credible = |rate: &Self| (1.0..=120.0).contains(&rate.per_second());
        let average = Self::parse(average);
        average
            .into_iter()
            .chain(Self::parse(base))
            .find(credible)
            .unwrap_or_else(|| average.map_or(Self::DEFAULT, |rate| Self::new(rate.per_second().clamp(1.0, 120.0))))
    }

    /// Pictures a second.
    pub(super) fn per_second(self) -> f32 {
        (f64::from(self.pictures) / f64::from(self.seconds)) as f32
    }

    /// The time of picture `number`, rounded down to a nanosecond.
    pub(super) fn time_of(self, number: u64) -> Duration {
        let (pictures, parts) = (u128::from(self.pictures), u128::from(number) * u128::from(self.seconds));
        let nanos = parts % pictures * 1_000_000_000 / pictures;
        Duration::new((parts / pictures) as u64, nanos as u32)
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.pictures, self.seconds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_do_not_drift() {
        let ntsc = Rate::parse("30000/1001").unwrap();
        assert_eq!(ntsc.time_of(1), Duration::from_nanos(33_366_666));
        assert_eq!(ntsc.time_of(30_000 * 3600), Duration::from_secs(1001 * 3600));
        assert_eq!(Rate::new(29.97).time_of(2997), Duration::from_secs(100));
    }

    #[test]
    fn claims_that_nobody_can_believe_are_cut() {
        let rate = |average, base| Rate::of_claims(average, base).per_second();
        assert_eq!(rate("25/1", "50/1"), 25.0);
        assert_eq!(rate("0/0", "10/1"), 10.0);
        assert_eq!(rate("1/10", "30/1"), 30.0);
        assert_eq!(rate("90000/1", "90000/1"), 120.0);
        assert_eq!(rate("1/3600", ""), 1.0);
        assert_eq!(rate("N/A", "1/0"), 30.0);
        assert_eq!(rate("-25/1", "99999999999/1"), 30.0);
    }
}
