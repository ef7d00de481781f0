//! A request to stop, shared by all threads. Set by a signal, a window that was closed, or the first thread that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A shared flag; cloning it shares it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Longest time that a thread sleeps or blocks before it looks at the flag again.
    pub const TICK: Duration = Duration::from_millis(50);

    /// A flag that also goes up on SIGINT (Ctrl-C) and SIGTERM; a second signal ends the program at once.
    ///
    /// # Errors
    /// `Internal` when the system refuses the handlers.
    pub fn on_signals() -> crate::Result<Self> {
        let stop = Self::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.0.clone())
                .and_then(|_| signal_hook::flag::register(signal, stop.0.clone()))
                .map_err(|e| crate::Error::new(crate::ErrorKind::Internal, format_args!("signal {signal}: {e}")))?;
        }
        Ok(stop)
    }

    /// Asks all threads to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether a stop was asked for.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Sleeps until `due`; returns early, with `true`, when a stop is asked for.
    pub fn sleep_until(&self, due: Instant) -> bool {
        while !self.requested() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(Self::TICK));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_a_sleep() {
        let stop = Stop::default();
        assert!(!stop.sleep_until(Instant::now() + Duration::from_millis(1)));
        stop.clone().request();
        assert!(stop.sleep_until(Instant::now() + Duration::from_secs(3600)));
    }
}
