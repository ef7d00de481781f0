//! From pictures to planes: which frames the model sees (by time), and what it sees of them.
//!
//! Each sampled frame is prepared once, when it arrives, not once per window. Runs on the caller's thread; allocates
//! only when the picture's size changes.

mod flow;
mod plane;
mod sampler;

pub use flow::Flow;
pub use plane::Preprocessor;
pub use sampler::{Sample, Sampler};
