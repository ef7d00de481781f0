//! The virtual camera for what vivid cannot make, JPEGs: v4l2loopback, which shows what a program writes into it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use v4l::FourCC;
use v4l::video::Output;

use crate::modules;
use crate::pump::Pump;
use crate::v4l2;
use crate::wait;

/// What the camera calls itself.
pub const CARD: &str = "JPEG camera";
/// The number of its node that [`play`] wants.
pub const NUMBER: u32 = 9;

fn node(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/video{number}"))
}

/// Loads it as `/dev/videoNUMBER`.
pub fn load(number: u32) -> Result<()> {
    let parameters = format!("video_nr={number} card_label=\"{CARD}\" exclusive_caps=1 max_buffers=4");
    modules::load("v4l2loopback", &parameters)?;
    wait(Duration::from_secs(3), || node(number).exists().then_some(())).context("no loopback node")
}

/// Plays `clip`, JPEGs of 1280x720, over and over, `rate` pictures a second. The camera is one as long as this lasts.
pub fn play(clip: Vec<Vec<u8>>, rate: f64) -> Result<Pump> {
    let device = v4l2::open(&node(NUMBER))?;
    let mut format = Output::format(&device)?;
    (format.width, format.height, format.fourcc) = (1280, 720, FourCC::new(b"MJPG"));
    format.size = 1280 * 720 * 2;
    Output::set_format(&device, &format).context("the format of the loopback")?;
    let mut node = device;
    Ok(Pump::start(clip, rate, move |picture| {
        std::io::Write::write(&mut node, picture).map(drop).context("writing to the loopback")
    }))
}
