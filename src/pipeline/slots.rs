//! A fixed number of slots that go round between two threads: filled by the sender, emptied by the receiver, back again.
//! Nothing is allocated after the start. Free slots come back without a lock. Filled ones lie behind one that is held for
//! a push or a pop only, because a sender that is ahead takes the oldest of them back: the latest wins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

fn lock<T>(filled: &Mutex<HeapRb<T>>) -> MutexGuard<'_, HeapRb<T>> {
    filled.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes one waiting thread. A ring before the wait is kept.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    condition: Condvar,
}

impl Bell {
    /// Wakes the waiting thread, or the next to wait.
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.condition.notify_one();
    }

    /// Waits for a ring, at most for `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.condition.wait_timeout_while(rung, timeout, |rung| !*rung);
        *wait.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// The side that fills slots.
pub struct Sender<T> {
    free: HeapCons<T>,
    filled: Arc<Mutex<HeapRb<T>>>,
    freed: Arc<Bell>,
    ready: Arc<Bell>,
    closed: Arc<AtomicBool>,
    kept: Option<T>,
}

/// The side that empties slots.
pub struct Receiver<T> {
    free: HeapProd<T>,
    filled: Arc<Mutex<HeapRb<T>>>,
    freed: Arc<Bell>,
    closed: Arc<AtomicBool>,
}

/// Two ends with `slots` going round between them; `ready` is rung for each slot sent and at the end.
pub fn ring<T>(slots: Vec<T>, ready: Arc<Bell>) -> (Sender<T>, Receiver<T>) {
    let count = slots.len().max(1);
    let (mut free_in, free) = HeapRb::new(count).split();
    let filled = Arc::new(Mutex::new(HeapRb::new(count)));
    free_in.push_iter(slots.into_iter());
    let freed = Arc::new(Bell::default());
    let closed = Arc::new(AtomicBool::new(false));
    let sender =
        Sender { free, filled: filled.clone(), freed: freed.clone(), ready, closed: closed.clone(), kept: None };
    (sender, Receiver { free: free_in, filled, freed, closed })
}

impl<T> Sender<T> {
    /// A free slot, or `None` when the receiver is behind.
    pub fn slot(&mut self) -> Option<T> {
        self.kept.take().or_else(|| self.free.try_pop())
    }

    /// Takes back a slot that was not filled after all; it is the next free one.
    pub fn keep(&mut self, slot: T) {
        self.kept = Some(slot);
    }

    /// Waits for a slot to become free, at most for `timeout`.
    pub fn wait_free(&self, timeout: Duration) {
        self.freed.wait(timeout);
    }

    /// Hands a filled slot over. There is room for as many as there are slots.
    pub fn send(&mut self, slot: T) {
        if lock(&self.filled).try_push(slot).is_err() {
            log::error!("more slots were sent than there are");
        }
        self.ready.ring();
    }

    /// Takes back the oldest slot that the receiver has not taken, if the one after it has not been taken either;
    /// `pass_on` tells that one what it is the first to follow.
    pub fn reclaim(&mut self, pass_on: impl FnOnce(&T, &mut T)) -> Option<T> {
        let mut filled = lock(&self.filled);
        if filled.occupied_len() < 2 {
            return None;
        }
        let oldest = filled.try_pop()?;
        if let Some(next) = filled.first_mut() {
            pass_on(&oldest, next);
        }
        Some(oldest)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        self.ready.ring();
    }
}

impl<T> Receiver<T> {
    /// The oldest filled slot.
    pub fn receive(&mut self) -> Option<T> {
        lock(&self.filled).try_pop()
    }

    /// Gives an emptied slot back to the sender.
    pub fn give_back(&mut self, slot: T) {
        if self.free.try_push(slot).is_err() {
            log::error!("more slots were given back than there are");
        }
        self.freed.ring();
    }

    /// Whether the sender is gone; slots that it sent before can still be there.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_go_round_in_order_and_are_the_same_buffers() {
        let ready = Arc::new(Bell::default());
        let (mut sender, mut receiver) = ring(vec![vec![0; 64]; 3], ready.clone());
        let producer = std::thread::spawn(move || {
            for n in 0..1000_u32 {
                let mut slot = loop {
                    match sender.slot() {
                        Some(slot) => break slot,
                        None => sender.wait_free(Duration::from_millis(50)),
                    }
                };
                slot.clear();
                slot.push(n);
                sender.send(slot);
            }
        });
        let mut buffers = std::collections::BTreeSet::new();
        let mut next = 0;
        loop {
            let closed = receiver.closed();
            match receiver.receive() {
                Some(slot) => {
                    assert_eq!(slot, [next]);
                    buffers.insert(slot.as_ptr());
                    next += 1;
                    receiver.give_back(slot);
                }
                None if closed => break,
                None => ready.wait(Duration::from_millis(50)),
            }
        }
        assert_eq!(next, 1000);
        assert!(buffers.len() <= 3, "slots are recycled");
        assert!(producer.join().is_ok());
    }

    #[test]
    fn a_sender_that_is_ahead_gives_up_the_oldest() {
        let (mut sender, mut receiver) = ring(vec![(0, 0); 3], Arc::default());
        for n in 1..=3 {
            assert!(sender.slot().is_some());
            sender.send((n, 0));
        }
        assert_eq!(sender.slot(), None);
        assert_eq!(sender.reclaim(|oldest, next| next.1 = oldest.0), Some((1, 0)));
        sender.send((4, 0));
        assert_eq!([receiver.receive(), receiver.receive()], [Some((2, 1)), Some((3, 0))]);
        assert_eq!(sender.reclaim(|_, _| ()), None, "the newest is not given up");
        assert_eq!(receiver.receive(), Some((4, 0)));
    }
}
