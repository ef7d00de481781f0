//! Recording short clips of the user's own action, to train on: a countdown, the clip, the question whether it is kept.
//!
//! [`session`] says what happens when, [`clip`] picks pictures by time, [`folder`] writes files; this loop feeds them
//! on the main thread. The source has its thread ([`Feed`]); a clip is written on another one while the live picture
//! goes on, so that neither window nor screen stands still. Without real time it is waited for: nothing is left to
//! chance.
//!
//! What is saved is the source's picture, turned, mirrored and cut as it is shown, without the overlay. Memory is that
//! of the pictures of one clip.

mod clip;
mod folder;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use clip::{Clip, pictures, usual_seconds};
pub use folder::{Folder, check_label, check_name, classes, is_clip};
pub use session::{COUNTDOWN, Session, State};

use crate::capture::Source;
use crate::display::{Display, Wish};
use crate::frame::Frame;
use crate::overlay::{Overlay, Stage, Take};
use crate::pipeline::{Bell, Feed, Opener};
use crate::stop::Stop;
use crate::{Error, ErrorKind, Result};

/// How long the last picture of a clip stands before it is shown from its beginning again.
const HOLD: Duration = Duration::from_millis(500);

/// All that a recording needs.
pub struct Recorder {
    /// The source, opened.
    pub source: Box<dyn Source>,
    /// Opens it again after it was lost.
    pub reopen: Opener,
    /// Where the user looks.
    pub display: Box<dyn Display>,
    /// Where clips go.
    pub folder: Folder,
    /// The action, as it is shown.
    pub label: String,
    /// How many clips are wanted.
    pub count: u32,
    /// Pictures of a clip, at the source's rate.
    pub pictures: usize,
    /// Whether the user says of each clip whether it is kept; else all are.
    pub asks: bool,
    /// Whether frames come at their times and late ones are lost; if not, none is lost and the run is deterministic.
    pub realtime: bool,
    /// Asks for an early end, from outside; at the end of the run it is set, so that the source stops too.
    pub stop: Stop,
}

/// What a recording brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Clips that were written.
    pub made: u32,
    /// Whether the source ended before all were.
    pub ended: bool,
}

impl Recorder {
    /// Records until all clips are made, the source ends, the user quits or a stop is asked for. Clips that were kept
    /// are complete afterwards, also after an error.
    ///
    /// # Errors
    /// The first error of source, display or a clip's file.
    pub fn run(self) -> Result<Outcome> {
        let ready = Arc::new(Bell::default());
        let info = self.source.info().clone();
        let overlay = Overlay::new(info.width, info.height)?;
        let clip = Clip::new(info.frame_rate, self.pictures);
        let keys = self.display.has_keys();
        let mut run = Run {
            feed: Feed::start(self.source, self.reopen, self.realtime, ready.clone())?,
            session: Session::new(clip, self.count, self.asks),
            overlay,
            display: self.display,
            folder: self.folder,
            label: self.label,
            realtime: self.realtime,
            keys,
            writing: None,
            live: None,
            canvas: Frame::new(info.width, info.height),
            shown: None,
            review: None,
            losses: 0,
            lost: None,
            thrown: false,
            ended: false,
            ready,
        };
        let result = run.until_the_end(&self.stop);
        let finished = run.finish(result.is_err());
        // A source that waits or opens looks at this one.
        self.stop.request();
        result.and(finished)?;
        Ok(Outcome { made: run.session.made(), ended: run.ended })
    }
}

/// A clip on its way into a file: the thread gives it back.
type Writing = JoinHandle<(Clip, Result<PathBuf>)>;

/// What is on the display: drawn again when it changes.
#[derive(Debug, PartialEq)]
struct Shown {
    state: State,
    /// Which picture of the clip, while that is shown back.
    picture: Option<usize>,
    lost: Option<String>,
}

struct Run {
    feed: Feed,
    session: Session,
    overlay: Overlay,
    display: Box<dyn Display>,
    folder: Folder,
    label: String,
    realtime: bool,
    keys: bool,
    writing: Option<Writing>,
    /// The newest frame of the source.
    live: Option<Frame>,
    /// The picture with the overlay on it; what is saved has none.
    canvas: Frame,
    shown: Option<Shown>,
    /// Since when the clip is shown back.
    review: Option<Instant>,
    /// Losses of the source that were dealt with.
    losses: u64,
    /// Why the source is lost, while it is.
    lost: Option<String>,
    /// Whether the last loss cost a clip.
    thrown: bool,
    ended: bool,
    ready: Arc<Bell>,
}

impl Run {
    fn until_the_end(&mut self, stop: &Stop) -> Result<()> {
        while !stop.requested() && self.session.state() != State::Done {
            // Asked before receiving, so that the last frames before the end are still seen.
            let closed = self.feed.frames.closed();
            self.follow_source();
            let took = self.take_frames();
            self.save(!self.realtime)?;
            self.draw(took)?;
            match self.display.poll()? {
                Wish::Quit => return Ok(()),
                Wish::Keep => self.session.keep(),
                Wish::Drop => self.session.discard(),
                Wish::Continue => {}
            }
            if took {
                continue;
            }
            if closed && self.session.wants_frames() {
                self.ended = true;
                return self.feed.failure().map_or(Ok(()), Err);
            }
            self.ready.wait(self.pause());
        }
        Ok(())
    }

    /// Notices a source that went away or came back.
    fn follow_source(&mut self) {
        let loss = self.feed.loss();
        if loss.count > self.losses {
            self.losses = loss.count;
            self.thrown = self.session.lost();
            if self.thrown {
                log::warn!("the clip that was being recorded is thrown away");
            }
        }
        let reason = loss.reason;
        let thrown = self.thrown;
        self.lost = loss.present.then(|| if thrown { format!("the clip was thrown away: {reason}") } else { reason });
    }

    /// Shows the session what has arrived. `false`: nothing has, or nothing is wanted.
    fn take_frames(&mut self) -> bool {
        // Without real time the source waits as long as the user thinks.
        if !self.realtime && !self.session.wants_frames() {
            return false;
        }
        let mut took = false;
        while let Some(frame) = self.feed.frames.receive() {
            took = true;
            // What still waits while the source is lost was taken before that.
            if self.lost.is_none() {
                self.session.frame(&frame);
            }
            if let Some(before) = self.live.replace(frame) {
                self.feed.frames.give_back(before);
            }
            if !self.realtime {
                break;
            }
        }
        took
    }

    /// Writes a clip that is kept. Goes on meanwhile, unless it is to `wait`.
    fn save(&mut self, wait: bool) -> Result<()> {
        if self.session.state() != State::Saving {
            return Ok(());
        }
        let writing = match self.writing.take() {
            Some(writing) => writing,
            None => write(self.session.hand_over(), self.folder.clone(), self.ready.clone())?,
        };
        if !wait && !writing.is_finished() {
            self.writing = Some(writing);
            return Ok(());
        }
        let panicked = |_| Error::new(ErrorKind::Internal, "the thread that writes a clip panicked");
        let (clip, written) = writing.join().map_err(panicked)?;
        let path = written?;
        self.session.saved(clip);
        log::info!("{} ({} of {})", path.display(), self.session.made(), self.session.count());
        Ok(())
    }

    /// Draws and presents the live picture, or the clip that is shown back, if there is anything new to see.
    fn draw(&mut self, took: bool) -> Result<()> {
        if !self.display.shows() || self.live.is_none() && self.lost.is_none() {
            return Ok(());
        }
        let now = Shown { state: self.session.state(), picture: self.playback(), lost: self.lost.clone() };
        let moved = took && now.picture.is_none();
        if !moved && self.shown.as_ref() == Some(&now) {
            return Ok(());
        }
        let clip = self.session.clip();
        let stage = match (now.state, now.picture) {
            (State::Review, Some(picture)) => Stage::Review((picture + 1) as f32 / clip.pictures().len() as f32),
            (State::Countdown { left, .. }, _) => Stage::Countdown { left, of: COUNTDOWN },
            (State::Recording, _) => Stage::Recording { left: clip.left(), of: clip.length() },
            (State::Saving | State::Done, _) => Stage::Saving,
            (State::Waiting | State::Review, _) => Stage::Waiting,
        };
        let picture = now.picture.and_then(|picture| clip.pictures().get(picture)).or(self.live.as_ref());
        // A camera that never delivered has no picture to write on.
        if let Some(picture) = picture {
            self.canvas.copy_from(picture);
        }
        // A clip that is shown back is from before what was shown last: displays are not to go back in time.
        if let Some(live) = &self.live {
            self.canvas.timestamp = live.timestamp;
        }
        let take = Take {
            stage,
            label: &self.label,
            clip: (self.session.made() + 1).min(self.session.count()),
            count: self.session.count(),
            keys: self.keys,
            source_lost: self.lost.as_deref(),
        };
        let Ok(()) = self.overlay.draw_take(&mut self.canvas, &take);
        self.shown = Some(now);
        self.display.present(&self.canvas)
    }

    /// Which picture of the clip is to be seen, while that is shown back: by the clock, over and over.
    fn playback(&mut self) -> Option<usize> {
        if self.session.state() != State::Review {
            self.review = None;
            return None;
        }
        let since = self.review.get_or_insert_with(Instant::now).elapsed();
        let clip = self.session.clip();
        let round = clip.length() + HOLD;
        let at = Duration::from_nanos((since.as_nanos() % round.as_nanos().max(1)) as u64);
        let picture = (at.as_secs_f64() * f64::from(clip.rate())) as usize;
        Some(picture.min(clip.pictures().len().saturating_sub(1)))
    }

    /// How long may be waited when nothing has arrived.
    fn pause(&self) -> Duration {
        let picture = Duration::from_secs_f32(1.0 / self.session.clip().rate());
        if self.review.is_some() { picture.min(Stop::TICK) } else { Stop::TICK }
    }

    /// Completes what was kept; the first error counts, but everything is tried.
    fn finish(&mut self, failed: bool) -> Result<()> {
        // A clip whose file failed is not tried again.
        let saved = if self.writing.is_some() || !failed { self.save(true) } else { Ok(()) };
        let shown = self.display.finish();
        saved.and(shown)
    }
}

/// Starts to write `clip` on a thread of its own, which rings `ready` at its end.
fn write(clip: Clip, folder: Folder, ready: Arc<Bell>) -> Result<Writing> {
    let work = move || {
        let written = folder.save(&clip);
        ready.ring();
        (clip, written)
    };
    std::thread::Builder::new()
        .name("clip".into())
        .spawn(work)
        .map_err(|e| Error::new(ErrorKind::Internal, format_args!("starting the thread that writes a clip: {e}")))
}

#[cfg(test)]
mod tests;
