//! How a run is told: a bar on a terminal, log lines elsewhere, and `history.csv`.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use kinora::{Error, ErrorKind};

/// Longest time without a word where there is no terminal.
const SILENCE: Duration = Duration::from_secs(30);
/// Steps between two lines where there is no terminal.
const STEPS: u64 = 50;

/// Means over some steps.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    loss: f64,
    right: f64,
    clips: i64,
    steps: u64,
}

impl Tally {
    /// Counts a step.
    pub fn add(&mut self, loss: f64, right: f64, clips: i64) {
        self.loss += loss * clips as f64;
        self.right += right;
        self.clips += clips;
        self.steps += 1;
    }

    /// Mean loss of a clip.
    pub fn loss(&self) -> f64 {
        self.loss / self.clips.max(1) as f64
    }

    /// Share of right answers.
    pub fn accuracy(&self) -> f64 {
        self.right / self.clips.max(1) as f64
    }

    /// Clips counted.
    pub fn clips(&self) -> i64 {
        self.clips
    }
}

/// Tells how far a run is.
pub struct Progress {
    bar: Option<ProgressBar>,
    tally: Tally,
    since: Instant,
    start: Instant,
    first: u64,
    steps: u64,
}

impl Progress {
    /// A run that goes from step `first` to `steps`.
    ///
    /// # Errors
    /// When the bar's template is broken.
    pub fn new(first: u64, steps: u64) -> Result<Self> {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(steps);
            bar.set_style(ProgressStyle::with_template("{pos}/{len} {wide_bar} {msg} {elapsed} (left {eta})")?);
            bar.set_position(first);
            bar.reset_eta();
            Some(bar)
        } else {
            None
        };
        let now = Instant::now();
        Ok(Self { bar, tally: Tally::default(), since: now, start: now, first, steps })
    }

    /// `step` steps are done; the last had this loss and so many right answers among `clips`.
    pub fn step(&mut self, step: u64, loss: f64, right: f64, clips: i64, rate: f64) {
        self.tally.add(loss, right, clips);
        let elapsed = self.since.elapsed();
        let due = self.tally.steps >= STEPS || elapsed >= SILENCE || step == self.first + 1;
        let speed = self.tally.clips as f64 / elapsed.as_secs_f64().max(1e-9);
        let (mean, accuracy) = (self.tally.loss(), self.tally.accuracy());
        match &self.bar {
            Some(bar) => {
                bar.set_position(step);
                bar.set_message(format!("loss {mean:.3} accuracy {accuracy:.3} {speed:.1} clips/s"));
            }
            None if due || step == self.steps => {
                let left = self.start.elapsed().as_secs_f64() / (step - self.first) as f64 * (self.steps - step) as f64;
                let left = Duration::from_secs(left as u64);
                log::info!(
                    "step {step}/{} loss {mean:.4} accuracy {accuracy:.3} rate {rate:.2e} {speed:.1} clips/s {} left",
                    self.steps,
                    minutes(left)
                );
            }
            None => {}
        }
        if due {
            self.restart();
        }
    }

    /// Leaves out of the speed the time since the last step.
    pub fn restart(&mut self) {
        (self.tally, self.since) = (Tally::default(), Instant::now());
    }

    /// Says `line` once, above the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => log::info!("{line}"),
        }
    }

    /// Ends the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// `1:02:03` or `2:03`.
fn minutes(time: Duration) -> String {
    let (h, m, s) = (time.as_secs() / 3600, time.as_secs() / 60 % 60, time.as_secs() % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

/// A row of `history.csv`: what happened since the row before.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Steps done.
    pub step: u64,
    /// Passes over the data; none where it has no end.
    pub epoch: Option<f64>,
    /// Learning rate of the last step.
    pub rate: f64,
    /// Mean training loss.
    pub loss: f64,
    /// Share of right answers in training.
    pub accuracy: f64,
    /// Loss and share of right answers in validation.
    pub validation: Option<(f64, f64)>,
    /// Speed of training.
    pub clips_per_second: f64,
    /// Seconds since the run began.
    pub seconds: f64,
}

/// `history.csv` of a run.
pub struct History(PathBuf);

impl History {
    const HEAD: &str = "step,epoch,lr,loss,train_acc,val_loss,val_acc,clips_s,seconds";

    /// The history in the folder `dir`, without the rows after `step` that a run before may have left.
    ///
    /// # Errors
    /// `Output`, naming the file.
    pub fn open(dir: &Path, step: u64) -> Result<Self> {
        let history = Self(dir.join("history.csv"));
        let old = if step > 0 { fs::read_to_string(&history.0).unwrap_or_default() } else { String::new() };
        let kept = old.lines().skip(1).filter(|line| {
            line.split(',').next().and_then(|field| field.parse::<u64>().ok()).is_some_and(|number| number <= step)
        });
        let text: String = std::iter::once(Self::HEAD).chain(kept).map(|line| format!("{line}\n")).collect();
        fs::write(&history.0, text).map_err(|why| history.failed(why))?;
        Ok(history)
    }

    fn failed(&self, why: std::io::Error) -> Error {
        Error::new(ErrorKind::Output, format_args!("{}: cannot be written: {why}", self.0.display()))
    }

    /// Appends a row.
    ///
    /// # Errors
    /// `Output`, naming the file.
    pub fn add(&self, row: &Row) -> Result<()> {
        let epoch = row.epoch.map_or(String::new(), |epoch| format!("{epoch:.2}"));
        let (val_loss, val_acc) =
            row.validation.map_or_else(Default::default, |(loss, acc)| (format!("{loss:.5}"), format!("{acc:.5}")));
        let line = format!(
            "{},{epoch},{:.4e},{:.5},{:.5},{val_loss},{val_acc},{:.2},{:.1}\n",
            row.step, row.rate, row.loss, row.accuracy, row.clips_per_second, row.seconds
        );
        let mut file = fs::OpenOptions::new().append(true).open(&self.0).map_err(|why| self.failed(why))?;
        Ok(file.write_all(line.as_bytes()).map_err(|why| self.failed(why))?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn history_goes_on_after_the_resumed_step() {
        let dir = tempfile::tempdir().unwrap();
        let row = |step, validation| Row {
            step,
            epoch: None,
            rate: 1e-3,
            loss: 1.5,
            accuracy: 0.25,
            validation,
            clips_per_second: 20.0,
            seconds: 3.0,
        };
        let history = History::open(dir.path(), 0).unwrap();
        history.add(&row(10, Some((1.25, 0.5)))).unwrap();
        history.add(&row(20, None)).unwrap();
        History::open(dir.path(), 10).unwrap().add(&row(30, None)).unwrap();
        let text = fs::read_to_string(dir.path().join("history.csv")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], History::HEAD);
        assert_eq!(lines[1], "10,,1.0000e-3,1.50000,0.25000,1.25000,0.50000,20.00,3.0");
        assert!(lines[2].starts_with("30,,") && lines.len() == 3);
        History::open(dir.path(), 0).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("history.csv")).unwrap().lines().count(), 1);
    }

    #[test]
    fn time_is_told_in_hours_and_minutes() {
        assert_eq!(minutes(Duration::from_secs(59)), "0:59");
        assert_eq!(minutes(Duration::from_secs(3723)), "1:02:03");
    }

    #[test]
    fn tally_weighs_by_clips() {
        let mut tally = Tally::default();
        tally.add(1.0, 3.0, 3);
        tally.add(3.0, 0.0, 1);
        assert_eq!((tally.loss(), tally.accuracy(), tally.clips()), (1.5, 0.75, 4));
    }
}
