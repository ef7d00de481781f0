//! Recognition beside the main thread: takes all waiting planes into the window, decides on the newest.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::intake::{Intake, Plane};
use super::recognizer::{Recognizer, View};
use super::slots::{Bell, Receiver, Sender, ring};
use crate::decision::Event;
use crate::frame::Frame;
use crate::{Error, ErrorKind, Result};

/// An event with what its line says beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The event.
    pub event: Event,
    /// Number of the newest frame that the decision saw.
    pub frame: u64,
    /// Time from that frame's capture to the event; `None` without real time.
    pub latency: Option<Duration>,
}

/// What recognition tells the main thread.
#[derive(Default)]
struct Shared {
    view: View,
    found: Vec<Found>,
    failed: Option<Error>,
    interrupt: Interrupt,
}

/// A request to end what runs because the source is lost.
#[derive(Default, Clone, Copy, PartialEq)]
enum Interrupt {
    #[default]
    None,
    /// At this source time.
    Wanted(Duration),
    Done,
}

/// Recognition, on the main thread or beside it.
pub enum Recognition {
    /// On the main thread: each plane is decided on before the next frame. Deterministic.
    Inline {
        /// The state.
        recognizer: Box<Recognizer>,
        /// A plane, reused.
        plane: Plane,
        /// Events of one plane, reused.
        events: Vec<Event>,
    },
    /// On a thread of its own.
    Beside(Beside),
}

/// The main thread's end of the recognition thread. Dropping it stops the thread.
pub struct Beside {
    planes: Option<Sender<Plane>>,
    /// Wakes the thread.
    bell: Arc<Bell>,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

impl Recognition {
    /// Recognition on this thread.
    pub fn inline(recognizer: Recognizer, intake: &Intake) -> Self {
        Self::Inline { recognizer: Box::new(recognizer), plane: intake.plane(), events: Vec::with_capacity(16) }
    }

    /// Starts a thread; `ready` is rung when there are events. While the engine runs, more planes can wait than the
    /// window has: whatever is lost, the newest window is whole.
    ///
    /// # Errors
    /// `Internal` when the system starts no thread.
    pub fn beside(recognizer: Recognizer, intake: &Intake, ready: Arc<Bell>) -> Result<Self> {
        let bell = Arc::new(Bell::default());
        let (planes, receiver) = ring((0..recognizer.frames() + 2).map(|_| intake.plane()).collect(), bell.clone());
        let shared = Arc::new(Mutex::new(Shared::default()));
        let worker = Worker { recognizer, planes: receiver, bell: bell.clone(), ready, shared: shared.clone() };
        let thread = std::thread::Builder::new()
            .name("recognition".into())
            .spawn(move || worker.run())
            .map_err(|e| Error::new(ErrorKind::Internal, format_args!("starting the recognition thread: {e}")))?;
        Ok(Self::Beside(Beside { planes: Some(planes), bell, shared, thread: Some(thread) }))
    }

    /// Shows `frame` to recognition; appends what was found, by this frame or earlier ones, to `found`.
    ///
    /// # Errors
    /// Those of preparing a frame and of the engine.
    pub fn offer(&mut self, intake: &mut Intake, frame: &Frame, found: &mut Vec<Found>) -> Result<()> {
        match self {
            Self::Inline { recognizer, plane, events } => {
                if intake.offer(frame, plane)? {
                    recognizer.absorb(plane, events)?;
                    recognizer.decide(events)?;
                    found.extend(events.drain(..).map(|event| Found { event, frame: plane.sequence, latency: None }));
                }
                Ok(())
            }
            Self::Beside(beside) => {
                beside.offer(intake, frame)?;
                beside.collect(found)
            }
        }
    }

    /// Appends what was found lately to `found`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn collect(&mut self, found: &mut Vec<Found>) -> Result<()> {
        match self {
            Self::Inline { .. } => Ok(()),
            Self::Beside(beside) => beside.collect(found),
        }
    }

    /// The state, for the overlay.
    pub fn view(&self) -> View {
        match self {
            Self::Inline { recognizer, .. } => recognizer.view(),
            Self::Beside(beside) => beside.lock().view,
        }
    }

    /// Ends what runs at source time `t`, because the source is lost. `false`: a decision is still being made; ask again.
    /// What comes after `true` belongs to what the source delivers when it is back.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn interrupt(&mut self, t: Duration, found: &mut Vec<Found>) -> Result<bool> {
        match self {
            Self::Inline { recognizer, plane, events } => {
                recognizer.interrupt(t, events);
                found.extend(events.drain(..).map(|event| Found { event, frame: plane.sequence, latency: None }));
                Ok(true)
            }
            Self::Beside(beside) => beside.interrupt(t, found),
        }
    }

    /// Ends what runs and the thread.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn finish(&mut self, found: &mut Vec<Found>) -> Result<()> {
        match self {
            Self::Inline { recognizer, plane, events } => {
                recognizer.finish(events);
                found.extend(events.drain(..).map(|event| Found { event, frame: plane.sequence, latency: None }));
                Ok(())
            }
            Self::Beside(beside) => {
                beside.close();
                beside.collect(found)
            }
        }
    }
}

impl Beside {
    fn offer(&mut self, intake: &mut Intake, frame: &Frame) -> Result<()> {
        let Some(planes) = &mut self.planes else { return Ok(()) };
        // More planes may wait than the window has, so what is given up here would be of no use when its turn came.
        let slot = planes.slot().or_else(|| planes.reclaim(|lost, next| next.stand_in_for(lost)));
        let Some(mut plane) = slot else { return Ok(()) };
        let offered = intake.offer(frame, &mut plane);
        if let Ok(true) = offered {
            planes.send(plane);
        } else {
            // A slot that the frame does not need is kept for the next one.
            planes.keep(plane);
        }
        offered.map(|_| ())
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interrupt(&mut self, t: Duration, found: &mut Vec<Found>) -> Result<bool> {
        self.collect(found)?;
        if self.thread.is_none() {
            return Ok(true);
        }
        let mut shared = self.lock();
        match shared.interrupt {
            Interrupt::None => {
                shared.interrupt = Interrupt::Wanted(t);
                self.bell.ring();
                Ok(false)
            }
            Interrupt::Wanted(_) => Ok(false),
            Interrupt::Done => {
                shared.interrupt = Interrupt::None;
                found.append(&mut shared.found);
                Ok(true)
            }
        }
    }

    fn collect(&mut self, found: &mut Vec<Found>) -> Result<()> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.close();
        }
        let mut shared = self.lock();
        found.append(&mut shared.found);
        shared.failed.take().map_or(Ok(()), Err)
    }

    fn close(&mut self) {
        self.planes = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.lock().failed = Some(Error::new(ErrorKind::Internal, "the recognition thread panicked"));
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.close();
    }
}

struct Worker {
    recognizer: Recognizer,
    planes: Receiver<Plane>,
    bell: Arc<Bell>,
    ready: Arc<Bell>,
    shared: Arc<Mutex<Shared>>,
}

impl Worker {
    fn run(mut self) {
        let mut events = Vec::with_capacity(16);
        let mut newest = None;
        loop {
            // Asked before receiving, so that what was sent just before the end is still seen.
            let closed = self.planes.closed();
            self.interrupted(&mut events, &mut newest);
            let mut any = false;
            while let Some(plane) = self.planes.receive() {
                let absorbed = self.recognizer.absorb(&plane, &mut events);
                newest = Some((plane.sequence, plane.captured));
                self.planes.give_back(plane);
                any = true;
                if let Err(error) = absorbed {
                    return self.fail(error, events, newest);
                }
            }
            if !any && closed {
                self.recognizer.finish(&mut events);
                self.publish(&mut events, newest.map(|(frame, _)| (frame, None)));
                return;
            }
            if any {
                if let Err(error) = self.recognizer.decide(&mut events) {
                    return self.fail(error, events, newest);
                }
                self.note_overload();
                self.publish(&mut events, newest.map(|(frame, captured)| (frame, Some(captured))));
            } else {
                self.bell.wait(Duration::from_millis(200));
            }
        }
    }

    /// Ends what runs, as the engine failed.
    fn fail(mut self, error: Error, mut events: Vec<Event>, newest: Option<(u64, Instant)>) {
        self.recognizer.finish(&mut events);
        self.publish(&mut events, newest.map(|(frame, _)| (frame, None)));
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).failed = Some(error);
        self.ready.ring();
    }

    /// Ends what runs if that is wanted. Planes that wait are from before the loss, or begin a window that is a little
    /// shorter then: no decision is made on them.
    fn interrupted(&mut self, events: &mut Vec<Event>, newest: &mut Option<(u64, Instant)>) {
        let wanted = self.shared.lock().unwrap_or_else(PoisonError::into_inner).interrupt;
        let Interrupt::Wanted(t) = wanted else { return };
        while let Some(plane) = self.planes.receive() {
            *newest = Some((plane.sequence, plane.captured));
            self.planes.give_back(plane);
        }
        self.recognizer.interrupt(t, events);
        self.publish(events, newest.map(|(frame, _)| (frame, None)));
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).interrupt = Interrupt::Done;
        self.ready.ring();
    }

    fn note_overload(&mut self) {
        let Some(now) = self.recognizer.adapt() else { return };
        let (least, what) = self.recognizer.wanted();
        if now > least {
            log::warn!("the engine is too slow for {what}: one of {now} for now");
        } else {
            log::info!("the engine keeps up again with {what}");
        }
    }

    /// `newest`: the newest frame seen, and when it was captured if what is told follows from it.
    fn publish(&self, events: &mut Vec<Event>, newest: Option<(u64, Option<Instant>)>) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.view = self.recognizer.view();
        if events.is_empty() {
            return;
        }
        let (frame, latency) = newest.map_or((0, None), |(frame, captured)| (frame, captured.map(|at| at.elapsed())));
        shared.found.extend(events.drain(..).map(|event| Found { event, frame, latency }));
        drop(shared);
        self.ready.ring();
    }
}
