//! Faults of the webcam and the display, and what a run of `kinora` must do about each.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::program::{Line, Program};
use crate::wait;
use crate::{loopback, vivid};

/// How soon a loss must be reported, and how soon after its end it must be over.
const LIMIT: Duration = Duration::from_secs(3);
/// Waits are longer, so that a figure over the limit is seen as that.
const PATIENCE: Duration = Duration::from_secs(12);
const CONNECTOR: &str = "/sys/class/drm/card0-Virtual-1/status";
const DROPPED: &str = "Percentage of Dropped Buffers";

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The camera is unplugged, and plugged in again.
    Unplug,
    /// The same twice in a row.
    Bounce,
    /// It comes back under another number.
    Renumber,
    /// It comes back under another number, as something else has its own. Once only.
    Displaced,
    /// The driver says that it is gone, while its node stays.
    Disconnect,
    /// The stream breaks for good.
    Broken,
    /// No more pictures come, for longer than the program is patient.
    Stall,
    /// Another program has it when it comes back.
    Busy,
    /// The first attempt to start it again fails.
    NoStart,
    /// The first attempt to get buffers again fails.
    NoBuffers,
    /// No pictures come, for less than the program is patient.
    Pause,
    /// One picture is damaged.
    Damaged,
    /// Two pictures of five are missing.
    Missing,
    /// The display is unplugged, and plugged in again.
    Screen,
}

impl Fault {
    /// All that can happen again and again.
    pub const ALL: [Fault; 13] = [
        Fault::Unplug,
        Fault::Bounce,
        Fault::Renumber,
        Fault::Disconnect,
        Fault::Broken,
        Fault::Stall,
        Fault::Busy,
        Fault::NoStart,
        Fault::NoBuffers,
        Fault::Pause,
        Fault::Damaged,
        Fault::Missing,
        Fault::Screen,
    ];

    /// Whether the source is lost by it.
    fn loses(self) -> bool {
        !matches!(self, Self::Pause | Self::Damaged | Self::Missing | Self::Screen)
    }

    /// A length for it, from the `share` of what it may have.
    pub fn length(self, share: f64) -> Duration {
        let (shortest, longest) = match self {
            Self::Unplug | Self::Busy | Self::Screen => (0.2, 4.0),
            Self::Stall => (3.2, 5.0),
            Self::Pause => (0.5, 1.3),
            Self::Missing => (1.0, 3.0),
            Self::Renumber | Self::Displaced | Self::Bounce => (0.1, 1.5),
            _ => (0.0, 0.0),
        };
        Duration::from_secs_f64(shortest + share * (longest - shortest))
    }
}

/// The webcam and the run of `kinora` that looks at it.
pub struct Rig {
    /// The run.
    pub program: Program,
    /// The number of the camera's node.
    number: u32,
    /// The label of what the camera shows.
    pub label: &'static str,
}

/// How a run got over a fault, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// What happened.
    pub fault: Fault,
    /// From the fault to its line in the event file.
    pub reported: Option<f64>,
    /// From the fault's end to the line that says so.
    pub back: Option<f64>,
    /// From the fault's end to the first action after it.
    pub recognized: f64,
}

impl Outcome {
    /// For the host.
    pub fn to_json(self) -> Value {
        json!({
            "fault": format!("{:?}", self.fault), "reported": self.reported, "back": self.back,
            "recognized": self.recognized,
        })
    }
}

fn pattern(label: &str) -> &'static str {
    if label == "white" { "100% White" } else { "100% Black" }
}

impl Rig {
    /// Loads the camera as `/dev/videoNUMBER` and starts `kinora` on `source` and `display` with `flags`.
    pub fn start(name: &str, number: u32, source: &str, display: &str, flags: &[&str]) -> Result<Self> {
        vivid::load_webcam(number)?;
        vivid::show(pattern("white"))?;
        let mut program = Program::start(name, source, display, flags)?;
        program.expect("the first action", 0, Duration::from_secs(30), |line| line.starts(Some("white")))?;
        Ok(Self { program, number, label: "white" })
    }

    /// Makes the camera show the other of its two pictures from now on, or when it is there again.
    fn change_picture(&mut self) {
        self.label = if self.label == "white" { "black" } else { "white" };
    }

    /// Plugs the camera in again, with a picture that it did not show before.
    fn plug(&mut self) -> Result<()> {
        self.change_picture();
        vivid::plug()?;
        vivid::show(pattern(self.label))
    }

    /// Makes `fault` happen. When it began and when it was over.
    fn inject(&mut self, fault: Fault, length: Duration) -> Result<(Instant, Instant)> {
        let begin = Instant::now();
        match fault {
            Fault::Unplug => {
                vivid::unplug()?;
                std::thread::sleep(length);
                self.plug()?;
            }
            Fault::Bounce => {
                vivid::unplug()?;
                self.plug()?;
                std::thread::sleep(length);
                vivid::unplug()?;
                self.plug()?;
            }
            Fault::Renumber => {
                vivid::unplug()?;
                std::thread::sleep(length);
                vivid::unload()?;
                self.number = 5 - self.number.min(5);
                self.change_picture();
                vivid::load_webcam(self.number)?;
                vivid::show(pattern(self.label))?;
            }
            Fault::Displaced => {
                vivid::unplug()?;
                std::thread::sleep(length);
                loopback::load(self.number)?;
                self.plug()?;
            }
            Fault::Disconnect => vivid::set("Disconnect", 1)?,
            Fault::Broken => vivid::set("Inject Fatal Streaming Error", 1)?,
            Fault::NoStart => {
                vivid::set("Inject VIDIOC_STREAMON Error", 1)?;
                vivid::set("Inject Fatal Streaming Error", 1)?;
            }
            Fault::NoBuffers => {
                vivid::set("Inject VIDIOC_REQBUFS Error", 1)?;
                vivid::set("Inject Fatal Streaming Error", 1)?;
            }
            Fault::Stall | Fault::Pause | Fault::Missing => {
                vivid::set(DROPPED, if fault == Fault::Missing { 40 } else { 100 })?;
                std::thread::sleep(length);
                vivid::set(DROPPED, 0)?;
            }
            Fault::Busy => {
                let other = self.steal()?;
                std::thread::sleep(length);
                drop(other);
            }
            Fault::Damaged => vivid::set("Inject V4L2_BUF_FLAG_ERROR", 1)?,
            Fault::Screen => {
                plug_screen(false)?;
                std::thread::sleep(length);
                plug_screen(true)?;
            }
        }
        let lasting = matches!(fault.length(1.0), length if !length.is_zero());
        Ok((begin, if lasting { Instant::now() } else { begin }))
    }

    /// Unplugs the camera and takes it before the program has it again.
    fn steal(&mut self) -> Result<crate::v4l2::Stream> {
        for _ in 0..5 {
            vivid::unplug()?;
            self.plug()?;
            if let Ok(stream) = vivid::take() {
                return Ok(stream);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        bail!("kinora always was faster")
    }

    /// Makes `fault` happen for `length` and checks what the program does.
    pub fn run(&mut self, fault: Fault, length: Duration) -> Result<Outcome> {
        let mark = self.program.mark()?;
        let (begin, end) = self.inject(fault, length).with_context(|| format!("{fault:?}"))?;
        let after = |at: Instant| at.saturating_duration_since(end).as_secs_f64();
        if !fault.loses() {
            std::thread::sleep(Duration::from_millis(700));
            self.change_picture();
            let (changed, label) = (Instant::now(), self.label);
            vivid::show(pattern(label))?;
            let what = format!("{fault:?}: an action after it");
            let (_, start) = self.program.expect(&what, mark, PATIENCE, |line| line.starts(Some(label)))?;
            let told = self.program.lines[mark..].iter().find(|line| line.text("type") == "source");
            ensure!(told.is_none(), "{fault:?} is no loss: {told:?}");
            let recognized = start.at.saturating_duration_since(changed).as_secs_f64();
            return Ok(Outcome { fault, reported: None, back: None, recognized });
        }
        let what = format!("{fault:?}: the loss is reported");
        let (first, lost) = self.program.expect(&what, mark, PATIENCE, |line| line.source("lost"))?;
        let what = format!("{fault:?}: the source is back");
        let (back, returned) =
            self.program.expect(&what, first, PATIENCE, |line| line.source("back") && line.at >= end)?;
        // An action that was there before goes on if the loss was short: then it is its next line, of a picture after it.
        let (what, label) = (format!("{fault:?}: an action after it"), self.label);
        let seen = |line: &Line| line.text("label") == label && line.text("type") != "end" && line.time() > lost.time();
        let (_, start) = self.program.expect(&what, back, PATIENCE, seen)?;
        Ok(Outcome {
            fault,
            reported: Some(lost.at.saturating_duration_since(begin).as_secs_f64()),
            back: Some(after(returned.at)),
            recognized: after(start.at),
        })
    }
}

/// Checks that an outcome keeps the limits.
pub fn judge(outcome: &Outcome) -> Result<()> {
    let slow = |time: Option<f64>| time.is_some_and(|time| time > LIMIT.as_secs_f64());
    ensure!(!slow(outcome.reported) && !slow(outcome.back), "{outcome:?}: over the limit of {LIMIT:?}");
    Ok(())
}

/// Plugs the display in, or unplugs it.
pub fn plug_screen(plug: bool) -> Result<()> {
    fs::write(CONNECTOR, if plug { "detect" } else { "off" }).context("the display's plug")
}

/// Waits until the display has its connector.
pub fn display_ready() -> Result<()> {
    let ready = || fs::read_to_string(CONNECTOR).ok().filter(|status| status.trim() == "connected");
    wait(Duration::from_secs(5), ready).map(drop).with_context(|| format!("no display at {CONNECTOR}"))
}
