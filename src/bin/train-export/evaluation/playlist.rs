//! Videos of single actions as a camera would have seen them, one after another. The pictures that each begins and ends with, in
//! which the body still stands, go to and fro before and after it: so there is time in which nobody acts.

use std::collections::VecDeque;
use std::time::Duration;

use kinora::capture::{Captured, Source, SourceInfo};
use kinora::frame::Frame;

use super::events::Span;

/// How long nobody acts yet, or any more, at either end of a video: so many seconds, but at most this share of it.
const STILL: (f64, f64) = (0.3, 0.2);
/// How long nobody acts before and after each video, in seconds.
const PAUSE_S: f32 = 2.5;

/// How a video is opened, and what is done in it.
pub type Video<'a> = (Box<dyn FnOnce() -> kinora::Result<Box<dyn Source>> + Send + 'a>, String);

/// Videos one after another. Each is opened when it is its turn; of its pictures only those of either end are kept.
pub struct Playlist<'a> {
    info: SourceInfo,
    videos: VecDeque<Video<'a>>,
    now: Option<Showing>,
    /// When the next picture is due, and its number.
    due_s: f64,
    next: u64,
    acted: Vec<Span>,
}

/// A video that is being shown.
struct Showing {
    source: Box<dyn Source>,
    label: String,
    rate: f64,
    /// Pictures at the beginning, and those seen last.
    first: Vec<Frame>,
    last: VecDeque<Frame>,
    /// Pictures that were shown before the video, of it, and after it.
    shown: [usize; 3],
    ended: bool,
}

impl Showing {
    fn open((open, label): Video) -> kinora::Result<Self> {
        let mut source = open()?;
        let rate = f64::from(source.info().frame_rate);
        let (mut frame, mut first) = (Frame::default(), Vec::new());
        while first.len() < Self::still(rate) && source.next_frame(&mut frame)? == Captured::Frame {
            first.push(frame.clone());
        }
        let ended = first.is_empty();
        Ok(Self { source, label, rate, first, last: VecDeque::new(), shown: [0; 3], ended })
    }

    fn still(rate: f64) -> usize {
        ((STILL.0 * rate).round() as usize).max(1)
    }

    /// Puts the next picture into `into`; none when the pause after the video is over.
    fn next(&mut self, into: &mut Frame) -> kinora::Result<bool> {
        let pause = (f64::from(PAUSE_S) * self.rate).round() as usize;
        let [before, played, after] = &mut self.shown;
        if !self.ended && *before < pause {
            into.copy_from(&self.first[to_and_fro(*before, self.first.len())]);
            *before += 1;
            return Ok(true);
        }
        if !self.ended {
            let more = match self.first.get(*played) {
                Some(frame) => {
                    into.copy_from(frame);
                    true
                }
                None => self.source.next_frame(into)? == Captured::Frame,
            };
            if more {
                *played += 1;
                if self.last.len() == Self::still(self.rate) {
                    self.last.pop_front();
                }
                self.last.push_back(into.clone());
                return Ok(true);
            }
            self.ended = true;
        }
        if *after >= pause || self.last.is_empty() {
            return Ok(false);
        }
        *after += 1;
        into.copy_from(&self.last[self.last.len() - 1 - to_and_fro(*after, self.last.len())]);
        Ok(true)
    }

    /// What was done, if all of it was shown until `end_s`.
    fn acted(self, end_s: f64) -> Span {
        let [_, played, after] = self.shown.map(|pictures| pictures as f64 / self.rate);
        let still = STILL.0.min(STILL.1 * played);
        Span { label: self.label, start: end_s - after - played + still, end: end_s - after - still }
    }
}

impl<'a> Playlist<'a> {
    /// Shows `videos`.
    pub fn new(videos: Vec<Video<'a>>) -> Self {
        let info =
            SourceInfo { name: "playlist".into(), width: 0, height: 0, frame_rate: 0.0, live: false, stamped: false };
        Self { info, videos: videos.into(), now: None, due_s: 0.0, next: 0, acted: Vec::new() }
    }

    /// What was done in all videos, and how long they took in seconds.
    pub fn acted(self) -> (Vec<Span>, f64) {
        (self.acted, self.due_s)
    }
}

/// 0, 1, .. `count` - 1, .. 1, 0, 1 and so on.
fn to_and_fro(step: usize, count: usize) -> usize {
    let turn = (2 * count).saturating_sub(2).max(1);
    (step % turn).min(turn - step % turn)
}

impl Source for Playlist<'_> {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next_frame(&mut self, into: &mut Frame) -> kinora::Result<Captured> {
        loop {
            let mut showing = match self.now.take() {
                Some(showing) => showing,
                None => match self.videos.pop_front() {
                    Some(video) => Showing::open(video)?,
                    None => return Ok(Captured::End),
                },
            };
            if !showing.next(into)? {
                self.acted.extend((!showing.last.is_empty()).then(|| showing.acted(self.due_s)));
                continue;
            }
            (into.timestamp, into.sequence) = (Duration::from_secs_f64(self.due_s), self.next);
            self.due_s += 1.0 / showing.rate;
            self.next += 1;
            self.now = Some(showing);
            return Ok(Captured::Frame);
        }
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

    fn video(from: u8, to: u8) -> Video<'static> {
        let name = String::new();
        let info = SourceInfo { name, width: 1, height: 1, frame_rate: 15.0, live: false, stamped: false };
        (Box::new(move || Ok(Box::new(Numbers(info, from, to)) as _)), format!("{to}"))
    }

    #[test]
    fn pauses_come_from_the_ends_of_each_video() {
        let mut list = Playlist::new(vec![video(0, 30), video(100, 100), video(50, 52)]);
        let (mut frame, mut seen) = (Frame::default(), Vec::new());
        while list.next_frame(&mut frame).unwrap() == Captured::Frame {
            assert!((frame.timestamp.as_secs_f64() - seen.len() as f64 / 15.0).abs() < 1e-6);
            seen.push(frame.data()[0]);
        }
        let pause = 38;
        assert_eq!(seen.len(), pause + 30 + pause + pause + 2 + pause);
        assert_eq!(seen[..9], [0, 1, 2, 3, 4, 3, 2, 1, 0]);
        assert!(seen[..pause].iter().all(|n| *n < 5) && seen[pause..pause + 30].iter().copied().eq(0..30));
        assert_eq!(seen[pause + 30..][..6], [28, 27, 26, 25, 26, 27]);
        let (short, rest) = seen[2 * pause + 30..].split_at(pause);
        assert!(short.iter().all(|n| [50, 51].contains(n)) && rest[..4] == [50, 51, 50, 51]);
        let (acted, seconds) = list.acted();
        let at = |pictures: f64| pictures / 15.0;
        assert!((seconds - at(184.0)).abs() < 1e-6 && acted.len() == 2 && acted[0].label == "30");
        assert!((acted[0].start - at(38.0) - 0.3).abs() < 1e-6 && (acted[0].end - at(68.0) + 0.3).abs() < 1e-6);
        assert!(acted[1].start > at(144.0) && acted[1].end < at(146.0) && acted[1].start < acted[1].end);
        assert_eq!([0, 1, 2].map(|step| to_and_fro(step, 1)), [0; 3]);
    }
}
