//! Videos of single actions as a camera would have seen them, one after another. The pictures that each begins and ends with, in
//! which the body still stands, go to and fro before and after it: so there is time in which nobody acts.

use std::collections::VecDeque;
use std::time::Duration;

use kinora::capture::{Captured, Source, SourceInfo};
use kinora::frame::Frame;

use super::events::Span;

/// How long nobody acts yet, or any more, at either end of a video, in seconds.
const STILL_S: f32 = 0.3;
/// How long nobody acts before and after each video, in seconds.
const PAUSE_S: f32 = 2.5;

/// A video and what is done in it.
pub type Video = (Box<dyn Source>, String);

/// Videos one after another.
pub struct Playlist {
    info: SourceInfo,
    videos: VecDeque<Video>,
    frames: Vec<Frame>,
    /// Which of the frames are still to come.
    order: VecDeque<usize>,
    next: u64,
    now: Duration,
    step: Duration,
    acted: Vec<Span>,
}

impl Playlist {
    /// Shows `videos`.
    pub fn new(videos: Vec<Video>) -> Self {
        let info =
            SourceInfo { name: "playlist".into(), width: 0, height: 0, frame_rate: 0.0, live: false, stamped: false };
        let (videos, frames, order) = (videos.into(), Vec::new(), VecDeque::new());
        let (now, step) = (Duration::ZERO, Duration::ZERO);
        Self { info, videos, frames, order, next: 0, now, step, acted: Vec::new() }
    }

    /// What has been done so far, and how long all of it took in seconds.
    pub fn acted(self) -> (Vec<Span>, f64) {
        (self.acted, self.now.as_secs_f64())
    }

    /// Reads `video` and puts it on the list of what is to come.
    fn load(&mut self, (mut video, label): Video) -> kinora::Result<()> {
        let mut frame = Frame::default();
        self.frames.clear();
        while video.next_frame(&mut frame)? == Captured::Frame {
            self.frames.push(frame.clone());
        }
        let rate = video.info().frame_rate;
        let (count, pictures) = (self.frames.len(), |seconds: f32| (seconds * rate).round() as usize);
        if count == 0 {
            return Ok(());
        }
        let still = pictures(STILL_S).clamp(1, count);
        self.order.extend(to_and_fro(still).take(pictures(PAUSE_S)));
        self.order.extend(0..count);
        self.order.extend(to_and_fro(still).skip(1).take(pictures(PAUSE_S)).map(|at| count - 1 - at));
        self.step = Duration::from_secs_f32(1.0 / rate);
        let from = self.now.as_secs_f64() + f64::from(PAUSE_S + STILL_S);
        let lasts = (count as f64 / f64::from(rate) - 2.0 * f64::from(STILL_S)).max(0.0);
        self.acted.push(Span { label, start: from, end: from + lasts });
        Ok(())
    }
}

/// 0, 1, .. `count` - 1, .. 1, 0, 1 and so on.
fn to_and_fro(count: usize) -> impl Iterator<Item = usize> {
    let turn = (2 * count).saturating_sub(2).max(1);
    (0..).map(move |i: usize| (i % turn).min(turn - i % turn))
}

impl Source for Playlist {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next_frame(&mut self, into: &mut Frame) -> kinora::Result<Captured> {
        while self.order.is_empty() {
            let Some(video) = self.videos.pop_front() else { return Ok(Captured::End) };
            self.load(video)?;
        }
        let Some(frame) = self.order.pop_front().and_then(|at| self.frames.get(at)) else { return Ok(Captured::End) };
        into.copy_from(frame);
        (into.timestamp, into.sequence) = (self.now, self.next);
        self.now += self.step;
        self.next += 1;
        Ok(Captured::Frame)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// Pictures whose first value is their number.
    struct Numbers(SourceInfo, u8, u8);

    impl Source for Numbers {
        fn info(&self) -> &SourceInfo {
            &self.0
        }

        fn next_frame(&mut self, into: &mut Frame) -> kinora::Result<Captured> {
            if self.1 == self.2 {
                return Ok(Captured::End);
            }
            into.resize(1, 1);
            into.data_mut()[0] = self.1;
            self.1 += 1;
            Ok(Captured::Frame)
        }
    }

    fn video(from: u8, to: u8) -> Box<dyn Source> {
        let name = String::new();
        let info = SourceInfo { name, width: 1, height: 1, frame_rate: 10.0, live: false, stamped: false };
        Box::new(Numbers(info, from, to))
    }

    #[test]
    fn pauses_come_from_the_ends_of_each_video() {
        let mut list = Playlist::new(vec![(video(0, 20), "wave".into()), (video(100, 100), "clap".into())]);
        let (mut frame, mut seen) = (Frame::default(), Vec::new());
        while list.next_frame(&mut frame).unwrap() == Captured::Frame {
            assert_eq!(frame.timestamp, Duration::from_millis(100 * seen.len() as u64));
            seen.push(frame.data()[0]);
        }
        assert_eq!(seen.len(), 25 + 20 + 25);
        assert_eq!(seen[..8], [0, 1, 2, 1, 0, 1, 2, 1]);
        assert!(seen[..25].iter().all(|n| *n < 3) && seen[25..45].iter().copied().eq(0..20));
        assert_eq!(seen[45..49], [18, 17, 18, 19]);
        assert!(seen[45..].iter().all(|n| *n >= 17));
        let (acted, seconds) = list.acted();
        assert!((seconds - 7.0).abs() < 1e-6 && acted.len() == 1);
        assert!((acted[0].start - 2.8).abs() < 1e-3 && (acted[0].end - 4.2).abs() < 1e-3, "{acted:?}");
        assert_eq!(to_and_fro(1).take(3).collect::<Vec<_>>(), [0, 0, 0]);
    }
}
