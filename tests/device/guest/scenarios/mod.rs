//! What happens in a virtual machine, one function a boot.

mod cameras;
mod consoles;
mod screens;
mod trouble;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::json;

pub use cameras::{colours, defaults, jpegs, receiver};
pub use consoles::{console, record};
pub use screens::picture;
pub use trouble::{campaign, faults, losses, signal};

use crate::console::{result, shot};
use crate::program::{Ended, Line, Program};
use crate::shared::{CLIP_RATE, LEVELS, SCRIPT, STRETCH};

const SCREEN: &str = "kms:/dev/dri/card0?connector=Virtual-1&mode=";
/// From the start of the program to the first action, on a slow machine.
const START: Duration = Duration::from_secs(60);

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
    let stretch_s = STRETCH as f64 / CLIP_RATE;
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
