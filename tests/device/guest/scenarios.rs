//! What happens in a virtual machine, one function a boot.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use kinora::display::{self, Format};
use serde_json::json;

use crate::console::{result, shot};
use crate::faults::{Fault, Outcome, Rig, judge};
use crate::program::{Ended, Line, Program};
use crate::shared::{CLIP_RATE, LEVELS, SCRIPT, draw_known_status, known_picture};
use crate::{loopback, pump, vivid};

const SCREEN: &str = "kms:/dev/dri/card0?connector=Virtual-1&mode=";
/// Pictures a second of JPEGs. v4l2loopback writes over its four buffers whether they are being read or not, and decoding is slow
/// on an emulated processor.
const JPEG_RATE: f64 = 6.0;
/// From the start of the program to the first action, on a slow machine.
const START: Duration = Duration::from_secs(60);

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

/// A picture of the display while one action was shown all the time: its name and the action's label.
fn shot_of_an_action(program: &mut Program, name: &str, label: Option<&str>) -> Result<()> {
    for _ in 0..6 {
        let mark = program.mark()?;
        let (at, start) = program.expect("an action", mark, Duration::from_secs(15), |line| line.starts(label))?;
        // The picture that brought the action, or a later one, is on its way to the display.
        std::thread::sleep(Duration::from_millis(500));
        shot(name)?;
        program.mark()?;
        if program.lines[at + 1..].iter().all(|line| line.text("type") == "update") {
            result(&json!({"shot": name, "label": start.text("label")}));
            return Ok(());
        }
    }
    bail!("{name}: no action lasted for a picture")
}

/// Checks that actions came as a clip's stretches of brightness follow one another, each as long as its stretch.
fn check_script(lines: &[Line]) -> Result<usize> {
    let wanted: Vec<&str> = SCRIPT.iter().map(|level| LEVELS[*level].0).filter(|label| *label != "nothing").collect();
    let starts: Vec<(&str, f64)> = lines
        .iter()
        .filter(|line| line.starts(None))
        .map(|line| (line.text("label"), line.event["t_start"].as_f64().unwrap_or_default()))
        .collect();
    let first = starts.first().and_then(|(label, _)| wanted.iter().position(|known| known == label));
    let Some(first) = first else { bail!("no action that the clip has: {starts:?}") };
    for (n, (label, _)) in starts.iter().enumerate() {
        ensure!(*label == wanted[(first + n) % wanted.len()], "action {n} of {starts:?}; the clip has {wanted:?}");
    }
    // The first one may have been running; `nothing` comes after the second of the clip.
    let stretch_s = crate::shared::STRETCH as f64 / CLIP_RATE;
    for pair in starts.windows(2).skip(1) {
        let lasted = pair[1].1 - pair[0].1;
        let stretches = if pair[0].0 == wanted[1] { 2.0 } else { 1.0 };
        ensure!((lasted - stretches * stretch_s).abs() < 0.5, "{} lasted {lasted} s: {starts:?}", pair[0].0);
    }
    Ok(starts.len())
}

fn figures(name: &str, began: Instant, ended: &Ended) {
    let seconds = began.elapsed().as_secs_f64();
    let rate = ended.frames as f64 / seconds;
    let summary: Vec<&str> =
        ended.log.lines().filter(|line| line.contains(" frames, ") || line.contains("p99")).collect();
    result(&json!({"run": name, "seconds": seconds, "frames_a_second": rate, "summary": summary}));
}

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
    loopback::load()?;
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

/// Each fault once, with a camera that is named by its path and one that is named by its name.
pub fn faults() -> Result<()> {
    let began = Instant::now();
    let source = format!("v4l:?name={}&size=640x480&fps=15&format=YUYV", vivid::CARD);
    let mut rig = Rig::start("faults", 0, &source, &format!("{SCREEN}640x480"))?;
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
    vivid::unload()?;

    // By its path the camera that is unplugged comes back at that path.
    let source = "v4l:/dev/video0?size=320x180&fps=15&format=YUYV";
    let mut rig = Rig::start("by-path", 0, source, "none")?;
    let outcome = rig.run(Fault::Unplug, Duration::from_secs(1))?;
    outcomes.push(outcome);
    rig.program.terminate()?;
    vivid::unload()?;
    outcomes.iter().try_for_each(judge)
}

/// Pictures that the camera loses or damages are counted, and nothing else happens.
pub fn losses() -> Result<()> {
    vivid::load_webcam(0)?;
    vivid::show("100% White")?;
    let mut lost = Vec::new();
    for (name, dropped, damaged) in [("clean", 0, 0), ("missing", 40, 0), ("damaged", 0, 6)] {
        vivid::set("Percentage of Dropped Buffers", dropped)?;
        let source = "v4l:/dev/video0?size=320x180&fps=10&format=YUYV";
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
    ensure!((0.25..0.55).contains(&share), "40 % of the pictures are missing, {:.0} % are counted", share * 100.0);
    ensure!(damaged.1 >= clean.1 + 4, "6 damaged pictures: {damaged:?} against {clean:?}");
    vivid::unload()
}

/// `count` faults of random kinds in one run.
pub fn campaign(seed: u64, count: usize) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let source = format!("v4l:?name={}&size=320x180&fps=15&format=YUYV", vivid::CARD);
    let began = Instant::now();
    let mut rig = Rig::start("campaign", 0, &source, &format!("{SCREEN}640x480"))?;
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
