//! How long a picture takes from the camera to the display, as a whole and by its parts.

use std::time::Instant;

use super::statistics::Percentiles;
use crate::frame::Frame;

/// p50 and p99 in milliseconds, over the last pictures.
pub type Share = [f32; 2];

/// From capture to presented picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// All of it.
    pub total: Share,
    /// The camera's transfer, and conversion to RGB: from its time stamp until the capture thread handed it over. A file's
    /// pictures are captured when they are due.
    pub capture: Share,
    /// Waiting for the main thread.
    pub wait: Share,
    /// Showing it to recognition, drawing the overlay.
    pub compose: Share,
    /// Handing it to the display.
    pub present: Share,
}

/// Measures [`Latency`].
#[derive(Debug, Default)]
pub struct Stopwatch {
    total: Percentiles,
    capture: Percentiles,
    wait: Percentiles,
    compose: Percentiles,
    present: Percentiles,
}

impl Stopwatch {
    /// Counts a picture that is on the display now. It was `taken` from the capture thread and then `composed`.
    pub fn presented(&mut self, frame: &Frame, taken: Instant, composed: Instant) {
        let (now, ms) =
            (Instant::now(), |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f32() * 1e3);
        self.total.add(ms(frame.captured, now));
        self.capture.add(ms(frame.captured, frame.received));
        self.wait.add(ms(frame.received, taken));
        self.compose.add(ms(taken, composed));
        self.present.add(ms(composed, now));
    }

    /// What was measured over the last pictures; `None` before the first.
    pub fn read(&mut self) -> Option<Latency> {
        const SHARES: Share = [0.5, 0.99];
        Some(Latency {
            total: self.total.at(SHARES)?,
            capture: self.capture.at(SHARES)?,
            wait: self.wait.at(SHARES)?,
            compose: self.compose.at(SHARES)?,
            present: self.present.at(SHARES)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_parts_are_those_of_the_way() {
        let mut watch = Stopwatch::default();
        assert_eq!(watch.read(), None);
        let mut frame = Frame::default();
        let at = |ms| frame.captured + Duration::from_millis(ms);
        let (received, taken, composed) = (at(10), at(13), at(14));
        frame.received = received;
        watch.presented(&frame, taken, composed);
        let read = watch.read().unwrap_or_else(|| unreachable!("one was counted"));
        let near = |share: Share, ms: f32| (share[0] - ms).abs() < 0.01 && share[0] == share[1];
        assert!(near(read.capture, 10.0) && near(read.wait, 3.0) && near(read.compose, 1.0), "{read:?}");
        assert_eq!(read.present[0], 0.0, "a picture of the future takes no time");
    }
}
