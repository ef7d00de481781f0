//! The capture thread: reads the source into free slots, paces what has no clock of its own, reopens what was lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::slots::{Bell, Receiver, Sender, ring};
#[cfg(test)]
use crate::capture::SourceInfo;
use crate::capture::{Captured, Source};
use crate::frame::Frame;
use crate::stop::Stop;
use crate::{Error, ErrorKind, Result};

/// Opens the source, at the start and again after it was lost.
pub type Opener = Box<dyn FnMut() -> Result<Box<dyn Source>> + Send>;

/// Frames between the source and the main thread: one being filled, one being shown, two waiting.
const SLOTS: usize = 4;
/// Waits between attempts to reopen a lost source, the last one over and over.
const BACK_OFF: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];
/// A source this late is not caught up with by showing frames faster, but shown later from then on.
const LATE: Duration = Duration::from_millis(200);

/// Whether the source is there.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Loss {
    /// How often it was lost.
    pub count: u64,
    /// Why it is lost at present, or was last.
    pub reason: String,
    /// Whether it is lost at present.
    pub present: bool,
}

/// What the capture thread tells besides frames.
#[derive(Debug, Default)]
struct State {
    loss: Loss,
    failed: Option<Error>,
}

/// The receiving end of the capture thread. Dropping it stops the thread.
pub struct Feed {
    /// Frames, oldest first.
    pub frames: Receiver<Frame>,
    state: Arc<Mutex<State>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Starts the thread on `source`. `ready` is rung for each frame, each change of state and at the end.
    ///
    /// # Errors
    /// `Internal` when the system starts no thread.
    pub fn start(source: Box<dyn Source>, reopen: Opener, realtime: bool, ready: Arc<Bell>) -> Result<Self> {
        let (sender, frames) = ring((0..SLOTS).map(|_| Frame::default()).collect(), ready.clone());
        let state = Arc::new(Mutex::new(State::default()));
        let stop = Stop::default();
        let (attempts, told) = (0, String::new());
        let worker =
            Worker { sender, reopen, realtime, ready, state: state.clone(), attempts, told, stop: stop.clone() };
        let thread = std::thread::Builder::new()
            .name("capture".into())
            .spawn(move || worker.run(source))
            .map_err(|e| Error::new(ErrorKind::Internal, format_args!("starting the capture thread: {e}")))?;
        Ok(Self { frames, state, stop, thread: Some(thread) })
    }

    /// Whether the source is lost; a loss that is over already still counts.
    pub fn loss(&self) -> Loss {
        self.lock().loss.clone()
    }

    /// The error that ended the source, once. To be asked when the frames are [closed](Receiver::closed).
    pub fn failure(&mut self) -> Option<Error> {
        let panicked = self.thread.take().is_some_and(|thread| thread.join().is_err());
        let failed = self.lock().failed.take();
        failed.or_else(|| panicked.then(|| Error::new(ErrorKind::Internal, "the capture thread panicked")))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the capture thread panicked");
        }
    }
}

struct Worker {
    sender: Sender<Frame>,
    reopen: Opener,
    realtime: bool,
    ready: Arc<Bell>,
    state: Arc<Mutex<State>>,
    /// How often it was tried to open a lost source since its last frame.
    attempts: usize,
    /// Why it was lost or could not be opened, as it was last said.
    told: String,
    stop: Stop,
}

impl Worker {
    fn run(mut self, source: Box<dyn Source>) {
        let mut source = source;
        // Sequence and time go on over a reopened source, so that "never goes back" holds for the stream as a whole.
        let mut splice = Splice::default();
        loop {
            match self.read(source, &mut splice) {
                Ok(()) => return,
                Err(error) if error.kind().can_retry() => {
                    let reason = error.to_string();
                    // One that opens again and again without a frame is told once.
                    if self.attempts == 0 || self.told != reason {
                        log::warn!("{reason}; reopening");
                    }
                    self.told.clone_from(&reason);
                    self.tell(|state| {
                        state.loss.count += u64::from(!state.loss.present);
                        (state.loss.reason, state.loss.present) = (reason, true);
                    });
                }
                Err(error) => return self.tell(|state| state.failed = Some(error)),
            }
            source = match self.open_again() {
                Some(source) => source,
                None => return,
            };
            splice.resumed = true;
        }
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.ready.ring();
    }

    /// Reads until the end of the source or a stop.
    fn read(&mut self, mut source: Box<dyn Source>, splice: &mut Splice) -> Result<()> {
        let pace = self.realtime && !source.info().live;
        let mut epoch: Option<Instant> = None;
        let mut frame = Frame::default();
        while !self.stop.requested() {
            if source.next_frame(&mut frame)? == Captured::End {
                return Ok(());
            }
            if pace {
                let now = Instant::now();
                let start = *epoch.get_or_insert(now.checked_sub(frame.timestamp).unwrap_or(now));
                let due = start + frame.timestamp;
                if now.saturating_duration_since(due) > LATE {
                    epoch = now.checked_sub(frame.timestamp);
                } else if self.stop.sleep_until(due) {
                    return Ok(());
                }
            }
            frame.received = Instant::now();
            if !source.info().live {
                frame.captured = frame.received;
            }
            splice.apply(&mut frame);
            if let Some(slot) = self.free_slot() {
                self.sender.send(std::mem::replace(&mut frame, slot));
            }
            // A source is back when it delivers, not when it can be opened.
            if std::mem::take(&mut self.attempts) > 0 {
                log::info!("{}: back", source.info().name);
                self.tell(|state| state.loss.present = false);
            }
        }
        Ok(())
    }

    /// With real time the oldest frame that waits is lost when there is no other slot.
    fn free_slot(&mut self) -> Option<Frame> {
        loop {
            let slot = self.sender.slot();
            if slot.is_some() || self.stop.requested() {
                return slot;
            }
            if self.realtime {
                return self.sender.reclaim(|_, _| ());
            }
            self.sender.wait_free(Stop::TICK);
        }
    }

    fn open_again(&mut self) -> Option<Box<dyn Source>> {
        loop {
            let pause = BACK_OFF[self.attempts.min(BACK_OFF.len() - 1)];
            self.attempts += 1;
            if self.stop.sleep_until(Instant::now() + pause) {
                return None;
            }
            match (self.reopen)() {
                Ok(source) => return Some(source),
                Err(error) => {
                    let reason = error.to_string();
                    if std::mem::replace(&mut self.told, reason.clone()) != reason {
                        log::warn!("{reason}; trying again");
                    }
                    self.tell(|state| state.loss.reason = reason);
                }
            }
        }
    }
}

/// Joins the streams of a source that was reopened: time and numbers go on.
#[derive(Debug, Default)]
struct Splice {
    time: Duration,
    sequence: u64,
    last_time: Duration,
    last_sequence: Option<u64>,
    /// When the newest frame was captured.
    last_captured: Option<Instant>,
    /// The next frame is the first of a reopened source.
    resumed: bool,
}

impl Splice {
    fn apply(&mut self, frame: &mut Frame) {
        if std::mem::take(&mut self.resumed) {
            // From frame to frame: a source that has stalled was silent for long before it was given up.
            let gap = self.last_captured.map_or(Duration::ZERO, |last| frame.captured.saturating_duration_since(last));
            // Camera clocks go on by themselves; file-like sources begin at zero again.
            let wanted = self.last_time + gap;
            self.time = if frame.timestamp >= wanted { Duration::ZERO } else { wanted - frame.timestamp };
            self.sequence = self.last_sequence.map_or(0, |n| n + 1).saturating_sub(frame.sequence);
        }
        frame.timestamp += self.time;
        frame.sequence += self.sequence;
        (self.last_time, self.last_sequence) = (frame.timestamp, Some(frame.sequence));
        self.last_captured = Some(frame.captured);
    }
}

/// What a test or a bench needs of a source without a device: `count` pictures, then what `end` says.
#[cfg(test)]
pub(crate) struct Scripted {
    pub info: SourceInfo,
    pub next: u64,
    pub count: u64,
    pub end: fn() -> Result<Captured>,
}

#[cfg(test)]
impl Scripted {
    pub fn boxed(count: u64, end: fn() -> Result<Captured>) -> Box<dyn Source> {
        let info = SourceInfo {
            name: "scripted".into(),
            width: 16,
            height: 12,
            frame_rate: 20.0,
            live: false,
            stamped: false,
        };
        Box::new(Self { info, next: 0, count, end })
    }
}

#[cfg(test)]
impl Source for Scripted {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next_frame(&mut self, into: &mut Frame) -> Result<Captured> {
        if self.next == self.count {
            return (self.end)();
        }
        into.resize(self.info.width, self.info.height);
        into.data_mut().fill(self.next as u8);
        into.timestamp = Duration::from_secs_f64(self.next as f64 / f64::from(self.info.frame_rate));
        into.sequence = self.next;
        self.next += 1;
        Ok(Captured::Frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> Result<Captured> {
        Err(Error::new(ErrorKind::SourceLost, "unplugged"))
    }

    fn end() -> Result<Captured> {
        Ok(Captured::End)
    }

    /// All frames until the end: number, time, first byte.
    fn drain(mut feed: Feed, ready: &Bell) -> (Vec<(u64, Duration, u8)>, Option<Error>, bool) {
        let mut frames = Vec::new();
        let mut was_lost = false;
        loop {
            let closed = feed.frames.closed();
            was_lost |= feed.loss().count > 0;
            match feed.frames.receive() {
                Some(frame) => {
                    frames.push((frame.sequence, frame.timestamp, frame.data()[0]));
                    feed.frames.give_back(frame);
                }
                None if closed => return (frames, feed.failure(), was_lost),
                None => ready.wait(Stop::TICK),
            }
        }
    }

    #[test]
    fn without_real_time_no_frame_is_lost() -> Result<()> {
        let ready = Arc::new(Bell::default());
        let feed = Feed::start(Scripted::boxed(200, end), Box::new(|| unreachable!()), false, ready.clone())?;
        let (frames, failure, _) = drain(feed, &ready);
        assert_eq!(frames.iter().map(|f| f.0).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
        assert_eq!(failure, None);
        Ok(())
    }

    #[test]
    fn with_real_time_frames_come_at_their_times() -> Result<()> {
        let ready = Arc::new(Bell::default());
        let begin = Instant::now();
        let feed = Feed::start(Scripted::boxed(7, end), Box::new(|| unreachable!()), true, ready.clone())?;
        let (frames, ..) = drain(feed, &ready);
        assert_eq!(frames.len(), 7);
        assert!(begin.elapsed() >= Duration::from_millis(300), "six intervals of 50 ms");
        Ok(())
    }

    #[test]
    fn a_lost_source_comes_back_and_time_goes_on() -> Result<()> {
        let ready = Arc::new(Bell::default());
        let mut attempts = 0;
        let reopen: Opener = Box::new(move || {
            attempts += 1;
            if attempts == 1 {
                Err(Error::new(ErrorKind::Source, "not there yet"))
            } else {
                Ok(Scripted::boxed(3, end))
            }
        });
        let feed = Feed::start(Scripted::boxed(3, lost), reopen, false, ready.clone())?;
        let (frames, failure, was_lost) = drain(feed, &ready);
        assert_eq!(frames.iter().map(|f| f.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert!(frames.windows(2).all(|w| w[0].1 < w[1].1), "{frames:?}");
        assert!(frames[3].1 - frames[2].1 > Duration::from_millis(700), "both waits are part of the gap");
        assert!(was_lost && failure.is_none());
        Ok(())
    }

    #[test]
    fn a_stall_before_the_loss_is_part_of_the_gap() {
        let (begin, mut splice) = (Instant::now(), Splice::default());
        let mut at = |sequence, timestamp, captured| {
            let mut frame = Frame::default();
            (frame.sequence, frame.timestamp) = (sequence, Duration::from_secs(timestamp));
            frame.captured = begin + Duration::from_secs(captured);
            splice.apply(&mut frame);
            splice.resumed = true;
            (frame.sequence, frame.timestamp.as_secs())
        };
        assert_eq!([at(0, 0, 0), at(0, 0, 6), at(0, 9, 9)], [(0, 0), (1, 6), (2, 9)]);
    }

    #[test]
    fn a_broken_source_ends_with_its_error() -> Result<()> {
        let ready = Arc::new(Bell::default());
        let broken = || Err(Error::new(ErrorKind::Source, "broken"));
        let feed = Feed::start(Scripted::boxed(1, broken), Box::new(|| unreachable!()), false, ready.clone())?;
        let (frames, failure, _) = drain(feed, &ready);
        assert_eq!(frames.len(), 1);
        assert_eq!(failure.map(|e| e.kind()), Some(ErrorKind::Source));
        Ok(())
    }
}
