//! Cameras and displays that fail.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::json;

use super::{SCREEN, START, figures};
use crate::console::{result, shot};
use crate::faults::{Fault, Outcome, Rig, judge};
use crate::program::{Line, Program};
use crate::vivid;

/// Each fault once.
pub fn faults() -> Result<()> {
    let began = Instant::now();
    let source = format!("v4l:?name={}&size=640x480&fps=15&format=YUYV", vivid::CARD);
    let mut rig = Rig::start("faults", 0, &source, &format!("{SCREEN}640x480"), &[])?;
    let mut outcomes = Vec::new();
    for fault in Fault::ALL {
        let outcome = rig.run(fault, fault.length(0.3))?;
        result(&outcome.to_json());
        outcomes.push(outcome);
    }
    // The last one was the display's: it shows the camera again, and what is recognised.
    let label = rig.label;
    std::thread::sleep(Duration::from_millis(500));
    shot("after-faults")?;
    result(&json!({"shot": "after-faults", "label": label}));
    let ended = rig.program.terminate()?;
    figures("faults", began, &ended);
    // The virtual display goes on without its plug, so the picture alone does not tell that the program saw it come back.
    let lit = ended.log.matches("Virtual-1 at 640x480").count();
    ensure!(lit >= 2, "the screen was lit {lit} times, not again after it was plugged in: {}", ended.log);
    vivid::unload()?;

    outcomes.extend(by_path()?);
    outcomes.iter().try_for_each(judge)
}

/// The signal of an HDMI receiver goes and comes back, and then has another size.
pub fn signal() -> Result<()> {
    vivid::load_input()?;
    vivid::signal(Some("640x480p59"))?;
    vivid::show("100% White")?;
    let began = Instant::now();
    let mut program = Program::start("signal", "v4l:?fps=60&format=YUYV", &format!("{SCREEN}640x480"), &[])?;
    program.expect("the first action", 0, START, |line| line.starts(Some("white")))?;
    let patience = Duration::from_secs(8);
    for (fault, gap, timings) in [("SignalGone", 1500, "640x480p59"), ("SignalChanged", 0, "720x480p59")] {
        let mark = program.mark()?;
        let changed = Instant::now();
        if gap > 0 {
            vivid::signal(None)?;
            std::thread::sleep(Duration::from_millis(gap));
        }
        vivid::signal(Some(timings))?;
        let there = Instant::now();
        let (lost, line) = program.expect(fault, mark, patience, |line| line.source("lost"))?;
        let reported = (line.at - changed).as_secs_f64();
        let (back, line) = program.expect("the signal is seen", lost, patience, |line| line.source("back"))?;
        let returned = line.at.saturating_duration_since(there).as_secs_f64();
        program.expect("an action after it", back, patience, |line| line.starts(Some("white")))?;
        result(&json!({"fault": fault, "reported": reported, "back": returned}));
    }
    let ended = program.terminate()?;
    figures("signal", began, &ended);
    for words in ["no signal at its input", "YUYV 640x480", "YUYV 720x480"] {
        ensure!(ended.log.contains(words), "{words:?} is not in {}", ended.log);
    }
    vivid::unload()
}

/// A camera that is named by its path, and whose settings are asked for: it comes back at the same path, then at another one
/// as something else took its number, and each time with these settings.
fn by_path() -> Result<Vec<Outcome>> {
    const SETTING: i64 = 140;
    let source = "v4l:/dev/video0?size=320x180&fps=15&format=YUYV";
    let flags = ["--control".to_owned(), format!("brightness={SETTING}")];
    let mut rig = Rig::start("by-path", 0, source, "none", &flags.each_ref().map(String::as_str))?;
    let mut outcomes = Vec::new();
    for fault in [Fault::Unplug, Fault::Displaced] {
        let outcome = rig.run(fault, Duration::from_secs(1))?;
        result(&outcome.to_json());
        outcomes.push(outcome);
        let set = vivid::value("Brightness")?;
        ensure!(set == SETTING, "after {fault:?} the brightness is {set}");
    }
    let camera = vivid::camera()?;
    ensure!(camera != Path::new("/dev/video0"), "nothing took the camera's number");
    // It also ends cleanly while it waits for the camera.
    let mark = rig.program.mark()?;
    vivid::unplug()?;
    rig.program.expect("the loss is reported", mark, Duration::from_secs(3), |line| line.source("lost"))?;
    rig.program.terminate()?;
    vivid::unload()?;
    Ok(outcomes)
}

/// Pictures that the camera loses or damages are counted, and nothing else happens.
pub fn losses() -> Result<()> {
    vivid::load_webcam(0)?;
    vivid::show("100% White")?;
    let mut lost = Vec::new();
    for (name, dropped, damaged) in [("clean", 0, 0), ("missing", 40, 0), ("damaged", 0, 6)] {
        vivid::set("Percentage of Dropped Buffers", dropped)?;
        let source = "v4l:/dev/video0?size=320x180&fps=20&format=YUYV";
        let mut program = Program::start(name, source, "none", &[])?;
        program.expect("the first action", 0, START, |line| line.starts(Some("white")))?;
        for n in 0..12 {
            if n < damaged {
                vivid::set("Inject V4L2_BUF_FLAG_ERROR", 1)?;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        ensure!(Path::new("/dev/video0").exists(), "the camera is gone");
        let ended = program.terminate()?;
        ensure!(ended.lines.iter().all(|line| line.text("type") != "source"), "{name}: a loss: {:?}", ended.lines);
        result(&json!({"run": name, "frames": ended.frames, "lost": ended.lost}));
        lost.push((ended.frames, ended.lost));
    }
    let [clean, missing, damaged] = lost[..] else { bail!("three runs") };
    let share = missing.1 as f64 / (missing.0 + missing.1) as f64;
    ensure!((0.2..0.6).contains(&share), "40 % of the pictures are missing, {:.0} % are counted", share * 100.0);
    ensure!(damaged.1 >= clean.1 + 4, "6 damaged pictures: {damaged:?} against {clean:?}");
    wrapped_numbers()?;
    vivid::unload()
}

/// The driver's numbers of 32 bits begin again, 128 pictures after the start; ours go on.
fn wrapped_numbers() -> Result<()> {
    vivid::set("Wrap Sequence Number", 1)?;
    let mut program = Program::start("wrap", "v4l:?size=320x180&fps=25&format=YUYV", "none", &[])?;
    let (_, first) = program.expect("the first action", 0, START, |line| line.starts(Some("white")))?;
    let past = |line: &Line| line.event["frame"].as_u64() > first.event["frame"].as_u64().map(|number| number + 160);
    program.expect("160 pictures", 0, Duration::from_secs(20), past)?;
    let ended = program.terminate()?;
    result(&json!({"run": "wrap", "frames": ended.frames, "lost": ended.lost}));
    ensure!(ended.frames + ended.lost < 1000, "{} frames, {} lost: the numbers jumped", ended.frames, ended.lost);
    Ok(())
}

/// `count` faults of random kinds in one run.
pub fn campaign(seed: u64, count: usize) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let source = format!("v4l:?name={}&size=320x180&fps=15&format=YUYV", vivid::CARD);
    let began = Instant::now();
    let mut rig = Rig::start("campaign", 0, &source, &format!("{SCREEN}640x480"), &[])?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for n in 0..count {
        let fault = Fault::ALL[random.usize(..Fault::ALL.len())];
        let length = fault.length(random.f64());
        let outcome = rig.run(fault, length)?;
        println!("{n}: {outcome:?}, {:.1} s", length.as_secs_f64());
        result(&outcome.to_json());
        outcomes.push(outcome);
        std::thread::sleep(Duration::from_millis(random.u64(0..1000)));
    }
    let ended = rig.program.terminate()?;
    figures("campaign", began, &ended);
    outcomes.iter().try_for_each(judge)
}
