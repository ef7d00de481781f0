//! The display alone.

use std::time::Duration;

use anyhow::Result;
use kinora::display::{self, Format};

use super::SCREEN;
use crate::console::shot;
use crate::shared::{draw_known_status, known_picture};

/// The library's display shows known pictures: one of the screen's size, and others that it must scale.
pub fn picture() -> Result<()> {
    let cases = [("same", 640, 480, "640x480"), ("wide", 640, 480, "1280x800"), ("flat", 1280, 720, "640x480")];
    for (name, width, height, mode) in cases {
        let mut display = display::open(&format!("{SCREEN}{mode}"), Format { width, height, frame_rate: 25.0 })?;
        let mut frame = known_picture(width, height);
        draw_known_status(&mut frame)?;
        // A display with two buffers shows what it is given from the first picture on, and still after more.
        for n in 0..3 {
            frame.timestamp = Duration::from_millis(40 * n);
            display.present(&frame)?;
            display.poll()?;
        }
        shot(name)?;
        display.finish()?;
    }
    Ok(())
}
