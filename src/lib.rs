//! kinora: embedded, real-time human-action recognition.
//!
//! A frame's way through the program, and the type it has at each step:
//!
//! | step | module | in | out |
//! |---|---|---|---|
//! | capture | [`capture`] | device, file, mannequin | [`frame::Frame`] (RGB8, owned, recycled) |
//! | sample and prepare | [`preprocess`] | `Frame` | plane `[C, H, W]` f32, once per sampled frame |
//! | window | [`window`] | planes | clip `[1, C, T, H, W]` f32 |
//! | infer | [`engine`] | clip | logits `[K]` |
//! | decide | [`decision`] | logits, source time | [`decision::Event`]s and what to show |
//! | show | [`overlay`], [`display`], [`events`] | frame and status | picture, JSON lines |
//!
//! [`pipeline`] joins them on threads and knows only their traits; [`record`] keeps frames as clips to train on. A
//! module uses only modules named above it in `docs/DESIGN.md`, section 1.

pub mod capture;
pub mod decision;
pub mod display;
pub mod engine;
pub mod error;
pub mod events;
pub mod frame;
pub mod model;
pub mod overlay;
pub mod pipeline;
pub mod preprocess;
pub mod record;
pub mod resize;
pub mod stop;
pub mod synth;
pub mod window;

pub use error::{Error, ErrorKind, Result};
