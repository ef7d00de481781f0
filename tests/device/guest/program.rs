//! `kinora` as its users run it: a child process whose event file is followed line by line.

use std::fs::{self, File};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::wait;

/// How often the event file is looked at: the precision of arrival times.
const LOOK: Duration = Duration::from_millis(5);

/// A line of the event file and when it was there.
#[derive(Debug, Clone)]
pub struct Line {
    /// When it arrived.
    pub at: Instant,
    /// What it says.
    pub event: Value,
}

impl Line {
    /// The text of field `name`, empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.event[name].as_str().unwrap_or_default()
    }

    /// Its source time.
    pub fn time(&self) -> f64 {
        self.event["t"].as_f64().unwrap_or(-1.0)
    }

    /// Whether it says that the source is in `state`.
    pub fn source(&self, state: &str) -> bool {
        self.text("type") == "source" && self.text("state") == state
    }

    /// Whether an action starts; with `label`, that one.
    pub fn starts(&self, label: Option<&str>) -> bool {
        self.text("type") == "start" && label.is_none_or(|label| self.text("label") == label)
    }
}

/// A run of `kinora`.
pub struct Program {
    name: String,
    child: Child,
    arrivals: mpsc::Receiver<(Instant, String)>,
    over: Arc<AtomicBool>,
    /// All lines so far.
    pub lines: Vec<Line>,
}

/// What a run said when it ended.
pub struct Ended {
    /// All lines of the event file.
    pub lines: Vec<Line>,
    /// Frames that arrived, and that were lost, as the program counts them.
    pub frames: u64,
    /// Frames that were lost.
    pub lost: u64,
    /// What it wrote to standard error.
    pub log: String,
}

fn event_file(name: &str) -> String {
    format!("/tmp/{name}.jsonl")
}

fn log_file(name: &str) -> String {
    format!("/tmp/{name}.log")
}

impl Program {
    /// Starts `kinora run` on `source` and `display` with more `flags`; `name` is that of its files.
    pub fn start(name: &str, source: &str, display: &str, flags: &[&str]) -> Result<Self> {
        Self::start_with(name, &[&["--source", source, "--display", display], flags].concat())
    }

    /// As [`Self::start`], with nothing named but what is in `flags`.
    pub fn start_with(name: &str, flags: &[&str]) -> Result<Self> {
        Self::spawn(name, &[&["run", "--model", "/host/model", "--events", &event_file(name)], flags].concat())
    }

    /// Starts `kinora record` with `flags`; it has no events.
    pub fn record(name: &str, flags: &[&str]) -> Result<Self> {
        Self::spawn(name, &[&["record", "--model", "/host/model"], flags].concat())
    }

    fn spawn(name: &str, arguments: &[&str]) -> Result<Self> {
        let _ = fs::remove_file(event_file(name));
        let child = Command::new("/app/kinora")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log_file(name))?)
            .spawn()
            .context("starting kinora")?;
        let over = Arc::new(AtomicBool::new(false));
        let arrivals = follow(event_file(name), over.clone());
        Ok(Self { name: name.into(), child, arrivals, over, lines: Vec::new() })
    }

    /// Takes in what has arrived.
    fn look(&mut self) -> Result<()> {
        for (at, line) in self.arrivals.try_iter() {
            let event = serde_json::from_str(&line).with_context(|| format!("event line {line:?}"))?;
            self.lines.push(Line { at, event });
        }
        Ok(())
    }

    /// How many lines there are by now; for [`Self::wait_for`].
    pub fn mark(&mut self) -> Result<usize> {
        self.look()?;
        Ok(self.lines.len())
    }

    /// Waits for a line that satisfies `wanted`, among those from number `from` on. `None`: none came in time.
    pub fn wait_for(
        &mut self,
        from: usize,
        patience: Duration,
        wanted: impl Fn(&Line) -> bool,
    ) -> Result<Option<(usize, Line)>> {
        let begin = Instant::now();
        let mut next = from;
        loop {
            self.look()?;
            while let Some(line) = self.lines.get(next) {
                if wanted(line) {
                    return Ok(Some((next, line.clone())));
                }
                next += 1;
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{}: kinora ended with {status}: {}", self.name, self.log());
            }
            if begin.elapsed() > patience {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// As [`Self::wait_for`], but it must come; `what` names it.
    pub fn expect(
        &mut self,
        what: &str,
        from: usize,
        patience: Duration,
        wanted: impl Fn(&Line) -> bool,
    ) -> Result<(usize, Line)> {
        match self.wait_for(from, patience, wanted)? {
            Some(found) => Ok(found),
            None => {
                let last: Vec<_> = self.lines.iter().rev().take(8).rev().map(|line| line.event.to_string()).collect();
                let (last, log) = (last.join("\n"), self.log());
                Err(anyhow!("{}: {what}: not within {patience:?}; last lines:\n{last}\nlog:\n{log}", self.name))
            }
        }
    }

    /// Waits until it has opened source and display, and a little for pictures.
    pub fn shows_pictures(&self) -> Result<()> {
        let opened = wait(Duration::from_secs(30), || self.log().contains(" -> ").then_some(()));
        opened.with_context(|| format!("{}: does not begin: {}", self.name, self.log()))?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits until it ends by itself, which must be in order.
    pub fn ends(mut self, patience: Duration) -> Result<()> {
        let status = wait(patience, || self.child.try_wait().transpose());
        let status = status.with_context(|| format!("{}: does not end: {}", self.name, self.log()))??;
        ensure!(status.success(), "{}: kinora ended with {status}: {}", self.name, self.log());
        Ok(())
    }

    /// The last lines of what it said.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(log_file(&self.name)).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Ends it as `systemctl stop` does and checks what it leaves behind: exit code 0, an event file of complete lines in
    /// which time and frame numbers never go back and every action that starts ends.
    pub fn terminate(mut self) -> Result<Ended> {
        self.look()?;
        let pid = i32::try_from(self.child.id())?;
        // SAFETY: a signal to our own child, which has not been waited for.
        #[allow(unsafe_code)]
        unsafe {
            libc::kill(pid, libc::SIGTERM);
        }
        let status = wait(Duration::from_secs(5), || self.child.try_wait().transpose());
        let status = status.with_context(|| format!("{}: SIGTERM does not end it", self.name))??;
        self.over.store(true, Ordering::SeqCst);
        for (at, line) in self.arrivals.iter() {
            let event = serde_json::from_str(&line).with_context(|| format!("event line {line:?}"))?;
            self.lines.push(Line { at, event });
        }
        let log = fs::read_to_string(log_file(&self.name))?;
        ensure!(status.success(), "{}: kinora ended with {status}: {log}", self.name);
        ensure!(!log.contains("panicked"), "{}: {log}", self.name);
        let last = fs::read(event_file(&self.name))?.last().copied();
        ensure!(matches!(last, None | Some(b'\n')), "{}: half a line at the end", self.name);
        check(&self.lines).with_context(|| self.name.clone())?;
        let (frames, lost) = summary(&log).with_context(|| format!("{}: no summary in {log}", self.name))?;
        Ok(Ended { lines: std::mem::take(&mut self.lines), frames, lost, log })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.child.kill();
        let _ = self.child.wait();
        // For whoever wants to look at them.
        for file in [event_file(&self.name), log_file(&self.name)] {
            let _ = fs::copy(&file, file.replace("/tmp/", "/host/out/"));
        }
    }
}

/// Sends each line of `file` with its time of arrival, until `over` and the end of the file.
fn follow(file: String, over: Arc<AtomicBool>) -> mpsc::Receiver<(Instant, String)> {
    let (sender, arrivals) = mpsc::channel();
    std::thread::spawn(move || {
        let Some(mut file) = wait(Duration::from_secs(60), || File::open(&file).ok()) else { return };
        let mut text = Vec::new();
        loop {
            // Asked before reading: what is written until the end is read.
            let last = over.load(Ordering::SeqCst);
            let _ = file.read_to_end(&mut text);
            let at = Instant::now();
            while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8_lossy(&text[..end]).into_owned();
                text.drain(..=end);
                if sender.send((at, line)).is_err() {
                    return;
                }
            }
            if last {
                return;
            }
            std::thread::sleep(LOOK);
        }
    });
    arrivals
}

/// What must hold of any event file.
fn check(lines: &[Line]) -> Result<()> {
    let (mut time, mut frame) = (0.0, 0);
    let mut running = Vec::new();
    let mut lost = false;
    for (n, line) in lines.iter().enumerate() {
        let place = || format!("line {} of the event file: {}", n + 1, line.event);
        let t = line.event["t"].as_f64().with_context(place)?;
        ensure!(t >= time, "time goes back from {time}: {}", place());
        time = t;
        let id = line.event["id"].as_u64();
        match line.text("type") {
            "source" => {
                ensure!(line.source("lost") != lost, "lost and back do not take turns: {}", place());
                lost = !lost;
                continue;
            }
            "start" => running.push(id),
            "update" => ensure!(running.contains(&id), "not running: {}", place()),
            "end" => {
                let known = running.iter().position(|running| *running == id);
                running.swap_remove(known.with_context(|| format!("not running: {}", place()))?);
            }
            _ => bail!("of no known type: {}", place()),
        }
        let number = line.event["frame"].as_u64().with_context(place)?;
        ensure!(number >= frame, "frame numbers go back from {frame}: {}", place());
        frame = number;
    }
    ensure!(running.is_empty(), "actions {running:?} start and never end");
    Ok(())
}

/// Frames that arrived and frames that were lost, of the line `kinora: 120 frames, 3 lost, ...`.
fn summary(log: &str) -> Option<(u64, u64)> {
    let line = log.lines().rev().find(|line| line.contains(" frames, ") && line.contains(" lost"))?;
    let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}
