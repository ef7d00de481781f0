//! The way of a frame, on threads.
//!
//! | thread | does | blocks on |
//! |---|---|---|
//! | capture ([`feed`]) | reads the source, paces files, reopens what was lost | the source |
//! | main ([`run`]) | samples and prepares, draws, presents, writes events | the next frame, the display |
//! | recognition ([`recognition`]) | window, engine, decision | the next plane, the engine |
//! | watch ([`watch`]), if wanted | looks for another model on disk and makes it ready | sleeps, the file system, the engine |
//!
//! Latest wins: slots of fixed number go round between two threads ([`slots`]); whoever is slow loses old frames and
//! never adds delay. Without real time (`--no-realtime`) everything blocks instead, recognition runs on the main thread,
//! and the same file gives the same events, byte for byte.

mod classify;
mod feed;
mod intake;
mod latency;
mod recognition;
mod recognizer;
mod run;
mod runner;
mod running;
mod slots;
mod statistics;
mod usage;
mod watch;

pub use classify::{Answer, Classifier};
pub(crate) use feed::Feed;
pub use feed::Opener;
#[cfg(test)]
pub(crate) use feed::Scripted;
pub use intake::{Intake, Plane};
pub use latency::{Latency, Share};
pub use recognizer::{Recognizer, View};
pub use run::{Limits, Pipeline, Summary};
pub use runner::Runner;
pub use running::Prepared;
pub(crate) use slots::Bell;
pub use statistics::{Percentiles, nearest_rank};
pub use usage::{peak_resident_mib, processor_time, resident_mib};
pub use watch::{Prepare, Watch};
