//! The virtual camera: vivid, of Linux itself. As a webcam it shows patterns; as an HDMI receiver it shows what is written to
//! its output node.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use v4l::video::{Capture, Output};

use crate::modules;
use crate::pump::Pump;
use crate::v4l2::{self, Stream, Way};
use crate::wait;

/// What vivid calls itself.
pub const CARD: &str = "vivid";
const DRIVER: &str = "/sys/bus/platform/drivers/vivid";
const DEVICE: &str = "vivid.0";

/// Loads vivid as a webcam, as `/dev/videoNUMBER`.
pub fn load_webcam(number: u32) -> Result<()> {
    let parameters = format!("n_devs=1 node_types=0x1 num_inputs=1 input_types=0 vid_cap_nr={number}");
    modules::load("vivid", &parameters)
}

/// Loads vivid as an HDMI receiver of 640x480 whose input comes from its own HDMI output.
pub fn load_receiver() -> Result<()> {
    let types = "node_types=0x101 num_inputs=1 input_types=3 num_outputs=1 output_types=1";
    modules::load("vivid", &format!("n_devs=1 {types}"))?;
    let (camera, output) = (v4l2::open(&camera()?)?, v4l2::open(&output()?)?);
    v4l2::set_timings(&camera)?;
    v4l2::set_timings(&output)?;
    v4l2::set(&camera, "Loop Video", 1)?;
    v4l2::choose(&camera, "OSD Text Mode", "None")
}

/// Loads vivid as an HDMI receiver whose signal is of the size that [`signal`] says.
pub fn load_input() -> Result<()> {
    // It neither crops nor scales, so its pictures have the size of the signal.
    modules::load("vivid", "n_devs=1 node_types=0x1 num_inputs=1 input_types=3 ccs_cap_mode=0")
}

/// Gives the receiver a signal, named as vivid does (`640x480p59`), or none.
pub fn signal(timings: Option<&str>) -> Result<()> {
    const MODE: &str = "DV Timings Signal Mode";
    let Some(timings) = timings else { return choose(MODE, "No Signal") };
    choose(MODE, "Selected DV Timings")?;
    choose("DV Timings", timings)?;
    // The driver tells of a new signal when the mode is set.
    choose(MODE, "Selected DV Timings")
}

/// Unloads it, once nobody uses it any more.
pub fn unload() -> Result<()> {
    wait(Duration::from_secs(5), || modules::unload("vivid").ok()).context("vivid is still in use")
}

/// The node that pictures come from.
pub fn camera() -> Result<PathBuf> {
    v4l2::node("vid-cap")
}

fn output() -> Result<PathBuf> {
    v4l2::node("vid-out")
}

/// Pulls the plug.
pub fn unplug() -> Result<()> {
    fs::write(format!("{DRIVER}/unbind"), DEVICE).context("unbinding vivid")
}

/// Puts the plug in again. Controls are then as after loading.
pub fn plug() -> Result<()> {
    fs::write(format!("{DRIVER}/bind"), DEVICE).context("binding vivid")?;
    camera().map(drop)
}

/// Has the webcam show one of its patterns, without text over it.
pub fn show(pattern: &str) -> Result<()> {
    let camera = v4l2::open(&camera()?)?;
    v4l2::choose(&camera, "OSD Text Mode", "None")?;
    v4l2::choose(&camera, "Test Pattern", pattern)
}

/// Sets a control, or pushes one that is a button.
pub fn set(control: &str, value: i64) -> Result<()> {
    v4l2::set(&v4l2::open(&camera()?)?, control, value)
}

/// Sets a menu.
pub fn choose(menu: &str, item: &str) -> Result<()> {
    v4l2::choose(&v4l2::open(&camera()?)?, menu, item)
}

/// What a control is set to.
pub fn value(control: &str) -> Result<i64> {
    v4l2::value(&v4l2::open(&camera()?)?, control)
}

/// Takes the camera as another program would: streams from it until the stream is dropped.
pub fn take() -> Result<Stream> {
    let mut stream = Stream::new(v4l2::open(&camera()?)?, Way::Capture)?;
    stream.start()?;
    Ok(stream)
}

/// Plays `clip` (YUYV of 640x480) over and over into the receiver, `rate` pictures a second.
pub fn play(clip: Vec<Vec<u8>>, rate: f64) -> Result<Pump> {
    let device = v4l2::open(&output()?)?;
    let mut format = Output::format(&device)?;
    (format.width, format.height, format.fourcc) = (640, 480, v4l::FourCC::new(b"YUYV"));
    // What a clip is coded as; the receiver passes it on.
    format.colorspace = v4l::format::Colorspace::SMPTE170M;
    format.quantization = v4l::format::Quantization::LimitedRange;
    Output::set_format(&device, &format)?;
    let mut stream = Stream::new(device, Way::Output)?;
    Ok(Pump::start(clip, rate, move |picture| stream.write(picture)))
}

/// What the camera says of its pictures, for the record.
pub fn describe() -> Result<String> {
    let device = v4l2::open(&camera()?)?;
    let format = Capture::format(&device)?;
    let size = format!("{} {}x{}", format.fourcc, format.width, format.height);
    Ok(format!("{size}, {}, {}", format.colorspace, format.quantization))
}
