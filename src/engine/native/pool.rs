//! The threads of an engine. They share out the items of one job at a time; the caller works, too.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How often an idle thread looks for the next job before it sleeps: some ten microseconds, the time between two layers.
const LOOKS: usize = 2000;

type Work = dyn Fn(usize) + Sync;

/// A job that is open to be joined.
#[derive(Clone, Copy)]
struct Job {
    work: *const Work,
    items: usize,
}
// SAFETY: the work is `Sync`, and `Pool::run` does not return while a thread holds it.
unsafe impl Send for Job {}

#[derive(Default)]
struct State {
    job: Option<Job>,
    stop: bool,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    wake: Condvar,
    /// Counts jobs, so that a thread can see without the lock that there is a new one.
    jobs: AtomicUsize,
    /// The next item of the job.
    next: AtomicUsize,
    /// Threads that work on the job.
    active: AtomicUsize,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, work: &(dyn Fn(usize) + Sync), items: usize) {
        loop {
            let item = self.next.fetch_add(1, Ordering::Relaxed);
            if item >= items {
                return;
            }
            work(item);
        }
    }

    fn serve(&self) {
        let mut seen = 0;
        loop {
            for _ in 0..LOOKS {
                if self.jobs.load(Ordering::Acquire) != seen {
                    break;
                }
                std::hint::spin_loop();
            }
            let mut state = self.state();
            while self.jobs.load(Ordering::Acquire) == seen && !state.stop {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stop {
                return;
            }
            seen = self.jobs.load(Ordering::Acquire);
            let Some(job) = state.job else { continue };
            self.active.fetch_add(1, Ordering::AcqRel);
            drop(state);
            /// Leaves the job even if the work panics.
            struct Leave<'a>(&'a AtomicUsize);
            impl Drop for Leave<'_> {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, Ordering::AcqRel);
                }
            }
            let _leave = Leave(&self.active);
            // SAFETY: joined under the lock while the job was open, so `run` waits for this thread.
            self.take(unsafe { &*job.work }, job.items);
        }
    }
}

/// Threads that wait for work.
pub struct Pool {
    inner: Arc<Inner>,
    workers: Vec<JoinHandle<()>>,
    /// One job at a time.
    turn: Mutex<()>,
}

impl Pool {
    /// `threads` threads, the caller's being one.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let inner = Arc::new(Inner::default());
        let mut pool = Self { inner: inner.clone(), workers: Vec::new(), turn: Mutex::new(()) };
        for n in 1..threads {
            let inner = inner.clone();
            let worker = std::thread::Builder::new().name(format!("engine-{n}")).spawn(move || inner.serve())?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// How many there are.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with each of `0..items`, on all threads and in any order, and returns when all are done.
    pub fn run(&self, items: usize, work: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || items <= 1 {
            (0..items).for_each(work);
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: only the lifetime changes; no thread holds it when this function returns.
        let shared: *const Work = unsafe { std::mem::transmute(std::ptr::from_ref(work)) };
        {
            let mut state = self.inner.state();
            self.inner.next.store(0, Ordering::Relaxed);
            state.job = Some(Job { work: shared, items });
            self.inner.jobs.fetch_add(1, Ordering::AcqRel);
        }
        self.inner.wake.notify_all();
        /// Closes the job and waits for those who joined it, also if the caller's share panics.
        struct Close<'a>(&'a Inner);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                self.0.state().job = None;
                while self.0.active.load(Ordering::Acquire) != 0 {
                    std::hint::spin_loop();
                }
            }
        }
        let _close = Close(&self.inner);
        self.inner.take(work, items);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.inner.state().stop = true;
        self.inner.wake.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_item_is_done_once() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads).unwrap();
            assert_eq!(pool.threads(), threads);
            for items in [0, 1, 2, 5, 100, 1000] {
                let counts: Vec<_> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                pool.run(items, &|item| {
                    counts[item].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} threads, {items}");
            }
        }
    }

    #[test]
    fn jobs_from_several_threads_take_turns() {
        let pool = Pool::new(3).unwrap();
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..200).for_each(|_| {
                        pool.run(10, &|item| {
                            sum.fetch_add(item, Ordering::Relaxed);
                        });
                    });
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 4 * 200 * 45);
    }
}
