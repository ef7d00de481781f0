//! The model bundle on disk (`models/<name>/`) and the graph an architecture is written as.

pub mod bundle;
pub mod graph;
pub mod manifest;
pub mod onnx;

pub use bundle::Bundle;
pub use manifest::Manifest;
