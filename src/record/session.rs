//! What happens when: countdown, clip, question, next one. Time is the frames' own; nothing here knows of displays,
//! files or threads.

use std::time::Duration;

use super::clip::Clip;
use crate::frame::Frame;

/// How long there is to get ready before each clip.
pub const COUNTDOWN: Duration = Duration::from_secs(3);

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is no picture yet, or none any more.
    Waiting,
    /// A clip begins soon.
    Countdown {
        /// Source time at which the countdown began.
        since: Duration,
        /// How long there still is.
        left: Duration,
    },
    /// A clip is being recorded.
    Recording,
    /// It is for the user to say whether the clip is kept.
    Review,
    /// The clip is kept: it is to be written.
    Saving,
    /// All clips are made.
    Done,
}

/// The course of a recording.
#[derive(Debug)]
pub struct Session {
    state: State,
    clip: Clip,
    count: u32,
    made: u32,
    asks: bool,
}

impl Session {
    /// `count` clips like `clip`, each kept if the user says so, or, if nobody `asks`, in any case.
    pub fn new(clip: Clip, count: u32, asks: bool) -> Self {
        Self { state: State::Waiting, clip, count, made: 0, asks }
    }

    /// What is being done.
    pub fn state(&self) -> State {
        self.state
    }

    /// Clips that were written.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// How many clips there are to be.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The clip that is being recorded or asked about.
    pub fn clip(&self) -> &Clip {
        &self.clip
    }

    /// Whether it goes on with the next frame only.
    pub fn wants_frames(&self) -> bool {
        matches!(self.state, State::Waiting | State::Countdown { .. } | State::Recording)
    }

    /// Sees the next frame of the source.
    pub fn frame(&mut self, frame: &Frame) {
        let since = match self.state {
            State::Waiting => frame.timestamp,
            State::Countdown { since, .. } => since,
            State::Recording => return self.record(frame),
            State::Review | State::Saving | State::Done => return,
        };
        let left = COUNTDOWN.saturating_sub(frame.timestamp.saturating_sub(since));
        if left > Duration::ZERO {
            self.state = State::Countdown { since, left };
        } else {
            self.clip.clear();
            self.record(frame);
        }
    }

    fn record(&mut self, frame: &Frame) {
        self.state = match self.clip.push(frame) {
            false => State::Recording,
            true if self.asks => State::Review,
            true => State::Saving,
        };
    }

    /// The user keeps the clip. Without a question this is no answer.
    pub fn keep(&mut self) {
        if self.state == State::Review {
            self.state = State::Saving;
        }
    }

    /// The user drops the clip: it is recorded anew. Without a question this is no answer.
    pub fn discard(&mut self) {
        if self.state == State::Review {
            self.state = State::Waiting;
        }
    }

    /// The source went away: the countdown begins anew when it is back. `true` when a clip was thrown away.
    pub fn lost(&mut self) -> bool {
        let recording = self.state == State::Recording;
        if self.wants_frames() {
            self.state = State::Waiting;
        }
        recording
    }

    /// The clip that is to be written. It comes back with [`saved`](Self::saved).
    pub fn hand_over(&mut self) -> Clip {
        let another = self.clip.another();
        std::mem::replace(&mut self.clip, another)
    }

    /// `clip` was written: on to the next one.
    pub fn saved(&mut self, clip: Clip) {
        self.clip = clip;
        self.made += 1;
        self.state = if self.made < self.count { State::Waiting } else { State::Done };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session of clips of half a second at 10 Hz, and its source.
    struct Course {
        session: Session,
        next: u64,
    }

    impl Course {
        fn new(count: u32, asks: bool) -> Self {
            Self { session: Session::new(Clip::new(10.0, 5), count, asks), next: 7 }
        }

        /// Shows `count` frames, numbered in their first byte.
        fn frames(&mut self, count: u64) -> State {
            for _ in 0..count {
                let mut frame = Frame::new(2, 2);
                frame.data_mut().fill(self.next as u8);
                frame.timestamp = Duration::from_millis(100 * self.next);
                self.session.frame(&frame);
                self.next += 1;
            }
            self.session.state()
        }

        fn save(&mut self) -> State {
            assert_eq!(self.session.state(), State::Saving);
            let clip = self.session.hand_over();
            assert_eq!(clip.pictures().len(), 5);
            self.session.saved(clip);
            self.session.state()
        }
    }

    #[test]
    fn three_seconds_then_the_clip_then_the_question() {
        let mut course = Course::new(2, true);
        assert_eq!(course.session.state(), State::Waiting);
        let since = Duration::from_millis(700);
        assert_eq!(course.frames(1), State::Countdown { since, left: COUNTDOWN });
        assert_eq!(course.frames(29), State::Countdown { since, left: Duration::from_millis(100) });
        assert_eq!(course.frames(1), State::Recording);
        assert_eq!(course.session.clip().left(), Duration::from_millis(400));
        assert_eq!(course.frames(3), State::Recording);
        assert_eq!(course.frames(1), State::Review);
        let shown: Vec<u8> = course.session.clip().pictures().iter().map(|picture| picture.data()[0]).collect();
        assert_eq!(shown, [37, 38, 39, 40, 41]);
        assert_eq!(course.frames(100), State::Review, "it waits for the answer");
        course.session.keep();
        assert_eq!(course.frames(10), State::Saving, "and for the file");
        assert_eq!((course.save(), course.session.made()), (State::Waiting, 1));
        let since = Duration::from_millis(100 * course.next);
        assert_eq!(course.frames(1), State::Countdown { since, left: COUNTDOWN }, "a pause before the next");
        course.frames(34);
        course.session.keep();
        assert_eq!((course.save(), course.session.made()), (State::Done, 2));
        assert_eq!(course.frames(100), State::Done);
    }

    #[test]
    fn what_is_dropped_is_recorded_anew() {
        let mut course = Course::new(1, true);
        for _ in 0..3 {
            assert_eq!(course.frames(35), State::Review);
            course.session.discard();
            assert_eq!((course.session.state(), course.session.made()), (State::Waiting, 0));
        }
        course.frames(35);
        course.session.keep();
        assert_eq!(course.save(), State::Done);
    }

    #[test]
    fn nobody_is_asked_where_all_are_kept() {
        let mut course = Course::new(2, false);
        assert_eq!(course.frames(35), State::Saving);
        course.save();
        assert_eq!(course.frames(35), State::Saving);
        assert_eq!(course.save(), State::Done);
    }

    #[test]
    fn answers_without_a_question_are_none() {
        let mut course = Course::new(1, true);
        for count in [0, 1, 30] {
            let before = course.frames(count);
            course.session.keep();
            course.session.discard();
            assert_eq!(course.session.state(), before);
        }
    }

    #[test]
    fn a_lost_source_costs_the_clip_and_the_countdown_but_not_the_question() {
        let mut course = Course::new(1, true);
        course.frames(10);
        assert!(!course.session.lost(), "no clip was begun");
        assert_eq!(course.session.state(), State::Waiting);
        assert!(matches!(course.frames(30), State::Countdown { .. }), "all of it again");
        assert_eq!(course.frames(3), State::Recording);
        assert!(course.session.lost());
        assert_eq!(course.frames(35), State::Review);
        assert!(!course.session.lost());
        assert_eq!(course.session.state(), State::Review, "the clip is whole");
        let first = course.session.clip().pictures()[0].data()[0];
        assert_eq!(u64::from(first), course.next - 5, "nothing of the one that was thrown away is in it");
    }
}
