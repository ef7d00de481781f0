//! placeholder
/// Frames, rate and hop of a sliding window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowSpec {
    /// Planes in a window, T.
    pub frames: usize,
    /// Planes a second.
    pub frame_rate: f32,
    /// Planes from one decision to the next.
    pub hop: usize,
}
