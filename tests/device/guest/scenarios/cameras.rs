//! Cameras that work.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::{SCREEN, START, check_script, figures, shot_of_an_action};
use crate::console::{result, shot};
use crate::faults::plug_screen;
use crate::program::Program;
use crate::shared::CLIP_RATE;
use crate::{loopback, pump, vivid};

/// Pictures a second of JPEGs. v4l2loopback writes over its four buffers whether they are being read or not, and decoding is slow
/// on an emulated processor.
const JPEG_RATE: f64 = 6.0;

/// Clips as YUYV of 640x480 through the HDMI receiver.
pub fn receiver() -> Result<()> {
    vivid::load_receiver()?;
    for clip in ["mannequin", "real"] {
        let player = vivid::play(pump::read(&format!("{clip}.yuyv"))?, CLIP_RATE)?;
        println!("receiver: {}", vivid::describe()?);
        let began = Instant::now();
        let source = format!("v4l:{}?size=640x480&format=YUYV", vivid::camera()?.display());
        let mut program = Program::start(clip, &source, &format!("{SCREEN}640x480"), &[])?;
        program.expect("the first action", 0, START, |line| line.starts(None))?;
        for n in 0..3 {
            shot_of_an_action(&mut program, &format!("{clip}-{n}"), None)?;
        }
        let ended = program.terminate()?;
        player.finish()?;
        let actions = check_script(&ended.lines)?;
        ensure!(actions >= 4, "{clip}: {actions} actions");
        figures(clip, began, &ended);
    }
    vivid::unload()
}

/// A clip as JPEGs of 1280x720, whose player then pauses, and goes away and comes back.
pub fn jpegs() -> Result<()> {
    loopback::load(loopback::NUMBER)?;
    let clip = pump::read("real.jpegs")?;
    let player = loopback::play(clip.clone(), JPEG_RATE)?;
    let began = Instant::now();
    let source = format!("v4l:?name={}&size=1280x720&format=MJPG", loopback::CARD);
    let mut program = Program::start("jpegs", &source, &format!("{SCREEN}1280x800"), &[])?;
    program.expect("the first action", 0, START, |line| line.starts(None))?;
    for n in 0..2 {
        shot_of_an_action(&mut program, &format!("jpegs-{n}"), None)?;
    }

    let mark = program.mark()?;
    player.pause(true);
    let paused = Instant::now();
    let (lost, line) = program.expect("the pause is reported", mark, Duration::from_secs(8), |l| l.source("lost"))?;
    let reported = line.at - paused;
    std::thread::sleep(Duration::from_secs(1));
    player.pause(false);
    let again = Instant::now();
    let (back, line) = program.expect("pictures again", lost, Duration::from_secs(8), |l| l.source("back"))?;
    ensure!(line.at >= again, "the source is back before it has a picture: {}", line.event);
    let returned = line.at.saturating_duration_since(again);
    program.expect("an action after the pause", back, Duration::from_secs(8), |line| line.starts(None))?;
    result(&json!({"fault": "WriterPauses", "reported": reported.as_secs_f64(), "back": returned.as_secs_f64()}));

    let mark = program.mark()?;
    player.finish()?;
    let gone = Instant::now();
    let (lost, line) = program.expect("the end is reported", mark, Duration::from_secs(8), |l| l.source("lost"))?;
    let reported = line.at - gone;
    std::thread::sleep(Duration::from_secs(2));
    let player = loopback::play(clip, JPEG_RATE)?;
    let again = Instant::now();
    let (back, line) = program.expect("another writer is seen", lost, Duration::from_secs(8), |l| l.source("back"))?;
    ensure!(line.at >= again, "the source is back before it has a writer: {}", line.event);
    let returned = line.at.saturating_duration_since(again);
    program.expect("an action after the gap", back, Duration::from_secs(8), |line| line.starts(None))?;
    result(&json!({"fault": "WriterLeaves", "reported": reported.as_secs_f64(), "back": returned.as_secs_f64()}));
    shot_of_an_action(&mut program, "jpegs-again", None)?;
    let ended = program.terminate()?;
    figures("jpegs", began, &ended);
    player.finish()
}

/// What is said without a camera, what is chosen where nothing is named, what `kinora devices` lists, and a screen that comes
/// after the start.
pub fn defaults() -> Result<()> {
    let alone =
        std::process::Command::new("/app/kinora").args(["--model", "/host/model", "--source", "v4l:"]).output()?;
    let said = String::from_utf8_lossy(&alone.stderr);
    ensure!(alone.status.code() == Some(4) && said.contains("camera"), "without a camera: {}: {said}", alone.status);

    vivid::load_webcam(0)?;
    vivid::show("100% White")?;
    loopback::load(loopback::NUMBER)?;
    let listed = std::process::Command::new("/app/kinora").arg("devices").output()?;
    let listed = String::from_utf8(listed.stdout)?;
    println!("{listed}");
    for wanted in
        ["v4l:/dev/video0  vivid", "YUYV 640x480 at", "--control brightness=", "kms:/dev/dri/card0", "Virtual-1"]
    {
        ensure!(listed.contains(wanted), "kinora devices does not list {wanted:?}:\n{listed}");
    }
    let mut program = Program::start_with("defaults", &[])?;
    program.expect("the first action", 0, START, |line| line.starts(Some("white")))?;
    std::thread::sleep(Duration::from_millis(500));
    shot("defaults")?;
    result(&json!({"shot": "defaults", "label": "white"}));
    let ended = program.terminate()?;
    for chosen in ["/dev/video0 (vivid)", "kms:/dev/dri/card0"] {
        ensure!(ended.log.contains(chosen), "not {chosen}: {}", ended.log);
    }

    plug_screen(false)?;
    let mut program = Program::start("late", "v4l:?size=640x480&fps=15", "kms:", &[])?;
    program.expect("the first action", 0, START, |line| line.starts(Some("white")))?;
    plug_screen(true)?;
    std::thread::sleep(Duration::from_secs(3));
    shot("late")?;
    program.terminate()?;
    vivid::unload()
}

/// Colour bars, coded in the ways that cameras code colour: each is one name of a screenshot.
pub fn colours() -> Result<()> {
    vivid::load_webcam(0)?;
    vivid::show("100% Colorbar")?;
    let codings = [
        ("srgb", "sRGB", "Default", "Default"),
        ("srgb-full", "sRGB", "Default", "Full Range"),
        ("hd", "Rec. 709", "Default", "Default"),
        ("hd-full", "Rec. 709", "Default", "Full Range"),
        ("hd-as-601", "Rec. 709", "ITU-R 601", "Default"),
        ("srgb-as-709", "sRGB", "Rec. 709", "Limited Range"),
    ];
    for (name, space, encoding, range) in codings {
        vivid::choose("Colorspace", space)?;
        vivid::choose("Y'CbCr Encoding", encoding)?;
        vivid::choose("Quantization", range)?;
        let source = "v4l:/dev/video0?size=640x480&fps=15&format=YUYV";
        let program = Program::start(name, source, &format!("{SCREEN}640x480"), &[])?;
        program.shows_pictures()?;
        shot(name)?;
        result(&json!({"bars": name}));
        program.terminate()?;
    }
    vivid::unload()
}
