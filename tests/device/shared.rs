//! What the host and the guest of the device tests must agree on.

use kinora::Result;
use kinora::frame::Frame;
use kinora::overlay::{Activity, Latency, Overlay, Score, Status};
use std::time::Duration;

/// The labels of the test model, and the brightness from 0 to 1 that each stands for. The model names the nearest, so what
/// it says follows from the picture alone.
pub const LEVELS: [(&str, f32); 5] = [("black", 0.1), ("dark", 0.3), ("nothing", 0.5), ("light", 0.7), ("white", 0.9)];
/// The brightness of a test clip's stretches, as indices of [`LEVELS`].
pub const SCRIPT: [usize; 5] = [4, 1, 2, 3, 0];
/// Pictures in each of these stretches.
pub const STRETCH: usize = 24;
/// Pictures a second of a test clip.
pub const CLIP_RATE: f64 = 15.0;

/// A picture in which every pixel differs from its neighbours.
pub fn known_picture(width: u32, height: u32) -> Frame {
    let mut frame = Frame::new(width, height);
    for (n, pixel) in frame.data_mut().chunks_exact_mut(3).enumerate() {
        let (x, y) = (n as u32 % width, n as u32 / width);
        pixel.copy_from_slice(&[(x * 7 + y) as u8, (y * 5 + x / 3) as u8, (x ^ (y * 3)) as u8]);
    }
    frame
}

/// Draws an overlay with all its parts but the banner.
pub fn draw_known_status(frame: &mut Frame) -> Result<()> {
    let score = |label, confidence| Score { label, confidence };
    let status = Status {
        activity: Activity::Actions(&[score("jumping_jack", 0.87)]),
        candidates: &[score("wave", 0.08), score("clap", 0.03)],
        frame_rate: 25.0,
        decisions_per_s: 4.2,
        latency: Some(Latency { p50: Duration::from_millis(41), p99: Duration::from_millis(68) }),
        dropped: 7,
        engine: "tract f32",
        truth: Some("jumping_jack"),
        source_lost: None,
        overload: Some("overload: hop 8"),
        model: None,
    };
    let Ok(()) = Overlay::new(frame.width(), frame.height())?.draw(frame, &status);
    Ok(())
}
