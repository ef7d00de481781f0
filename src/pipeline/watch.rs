//! Watches the bundle that runs: a thread that sleeps, looks at the files a few times a second, and makes a bundle that
//! was changed ready to run. All that takes time happens here, so that the main thread only has to put it in place.
//!
//! The manifest has the hashes of all other files, so a bundle that is half written, or whose folder is being replaced,
//! is one that cannot be loaded: it is tried again when it has changed and stands still. Only what stays wrong is told.
//!
//! The thread has no lower priority than others: an engine's threads are started on it, would inherit that and could not
//! get rid of it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::running::Prepared;
use super::slots::Bell;
use crate::model::{Bundle, Files, Stamps};
use crate::stop::Stop;
use crate::{Error, ErrorKind, Result};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// What is wrong for so long after the last change is tried once more, and then told.
const SETTLED: Duration = Duration::from_secs(1);

/// Makes a bundle ready to run.
pub type Prepare = Box<dyn FnMut(&Bundle) -> Result<Prepared> + Send>;

/// What is watched, and how it is made ready to run.
pub struct Watch {
    /// The bundle that runs.
    pub bundle: Bundle,
    /// What its files looked like before they were read.
    pub seen: Stamps,
    /// Makes another bundle ready to run. Called on the watching thread; it may take its time.
    pub prepare: Prepare,
}

/// What became of a bundle that was changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News<T> {
    /// It is ready to run.
    Ready(T),
    /// It cannot run.
    Wrong {
        /// Why, in full.
        reason: String,
        /// The same without the path of the bundle's folder.
        short: String,
    },
}

/// The receiving end of the watching thread. Dropping it stops the thread, but does not wait for it: to open an engine may
/// take many seconds, and nobody wants what comes of it. The thread writes nothing, and the end of the program ends it.
pub(super) struct Watcher<T> {
    /// `None` once the thread is gone and that was told.
    news: Option<Receiver<News<T>>>,
    stop: Stop,
    bell: Arc<Bell>,
}

impl<T: Send + 'static> Watcher<T> {
    /// Starts the thread. `prepare` makes what is handed over of a bundle.
    ///
    /// # Errors
    /// `Internal` when the system starts no thread.
    pub fn start(
        bundle: Bundle,
        seen: Stamps,
        prepare: impl FnMut(&Bundle) -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        // One that waits is enough: whoever does not take it gets no newer one either.
        let (sender, news) = sync_channel(1);
        let (stop, bell) = (Stop::default(), Arc::new(Bell::default()));
        let worker =
            Worker { looker: Looker::new(bundle, seen, prepare), sender, stop: stop.clone(), bell: bell.clone() };
        std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || worker.run())
            .map_err(|e| Error::new(ErrorKind::Internal, format_args!("starting the watching thread: {e}")))?;
        Ok(Self { news: Some(news), stop, bell })
    }

    /// What became of the bundle since it was last asked. Does not block.
    pub fn news(&mut self) -> Option<News<T>> {
        match self.news.as_ref()?.try_recv() {
            Ok(news) => Some(news),
            Err(TryRecvError::Empty) => None,
            // As long as nobody stops it, it only ends by a panic.
            Err(TryRecvError::Disconnected) => {
                self.news = None;
                let short = "the thread that watches it panicked";
                let reason = format!("--watch: {short}, so no change is taken any more; start kinora again");
                Some(News::Wrong { reason, short: short.into() })
            }
        }
    }
}

impl<T> Drop for Watcher<T> {
    fn drop(&mut self) {
        self.stop.request();
        self.bell.ring();
        // A thread that waits for its news to be taken is told that nobody will, as the receiver goes, too.
    }
}

struct Worker<T, F> {
    looker: Looker<F>,
    sender: SyncSender<News<T>>,
    stop: Stop,
    bell: Arc<Bell>,
}

impl<T, F: FnMut(&Bundle) -> Result<T>> Worker<T, F> {
    fn run(mut self) {
        loop {
            self.bell.wait(LOOK);
            if self.stop.requested() {
                return;
            }
            if let Some(news) = self.looker.look(Instant::now())
                && self.sender.send(news).is_err()
            {
                return;
            }
        }
    }
}

/// What is known of the bundle on disk.
struct Looker<F> {
    files: Files,
    /// What the files looked like when they were last read.
    seen: Stamps,
    /// The bundle that runs, or that was handed over last.
    bundle: Bundle,
    prepare: F,
    /// When the files changed to what cannot run; `None` when that was told, or when all is well.
    wrong: Option<Instant>,
    /// Whether they have changed since they were last tried.
    untried: bool,
    /// Why they cannot run, as it was last told.
    told: Option<String>,
}

impl<F> Looker<F> {
    fn new(bundle: Bundle, seen: Stamps, prepare: F) -> Self {
        Self { files: Files::of(&bundle.dir), seen, bundle, prepare, wrong: None, untried: false, told: None }
    }

    /// Looks once, at time `now`.
    fn look<T>(&mut self, now: Instant) -> Option<News<T>>
    where
        F: FnMut(&Bundle) -> Result<T>,
    {
        let stamps = self.files.look();
        let changed = stamps != self.seen;
        // What is put there at once is taken at once. What was no bundle is still being copied: all of it would be read at
        // each look, so it is tried again when nothing has changed from one look to the next.
        let waits = changed && self.wrong.is_some();
        if changed {
            (self.seen, self.wrong, self.untried) = (stamps, Some(now), true);
        }
        let settled = now.saturating_duration_since(self.wrong?) >= SETTLED;
        if waits || !self.untried && !settled {
            return None;
        }
        self.untried = false;
        let error = match self.read() {
            Ok(ready) => {
                self.wrong = None;
                if self.told.take().is_some() && ready.is_none() {
                    log::info!("{}: is again the bundle that runs", self.bundle.dir.display());
                }
                return ready.map(News::Ready);
            }
            Err(error) => error.to_string(),
        };
        log::debug!("{error}");
        if !settled || self.files.look() != self.seen {
            return None;
        }
        self.wrong = None;
        if self.told.as_ref() == Some(&error) {
            return None;
        }
        self.told = Some(error.clone());
        let folder = self.bundle.dir.join("");
        Some(News::Wrong { short: error.replace(&folder.display().to_string(), ""), reason: error })
    }

    /// Makes what is there ready to run; `None` when it is what runs.
    fn read<T>(&mut self) -> Result<Option<T>>
    where
        F: FnMut(&Bundle) -> Result<T>,
    {
        let bundle = Bundle::load(&self.bundle.dir)?;
        if bundle == self.bundle {
            return Ok(None);
        }
        let ready = (self.prepare)(&bundle)?;
        // The engine reads files after they were checked: they may have been replaced between.
        if self.files.look() != self.seen {
            let dir = bundle.dir.display();
            return Err(Error::new(ErrorKind::Model, format_args!("{dir}: changes while it is read")));
        }
        self.bundle = bundle;
        Ok(Some(ready))
    }
}

#[cfg(test)]
mod tests;
