//! Programs that decode for us (`ffmpeg`, `ffprobe`, `gst-launch-1.0`) as child processes: their output as bytes, their
//! complaints as our errors. One helper thread per child reads its complaints. A child never outlives its [`Process`]; if we are
//! killed, it ends on its next write to the closed pipe.

use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::stop::Stop;
use crate::{Error, ErrorKind, Result};

/// Why a child was waited for, and how that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// There are bytes to read.
    Ready,
    /// The child closed its output.
    End,
    /// A stop was asked for.
    Stopped,
    /// Nothing came in time.
    TimedOut,
}

/// A running child and the reading end of its output. Dropping it kills and reaps the child.
pub(super) struct Process {
    program: &'static str,
    child: Child,
    output: ChildStdout,
    listener: Option<JoinHandle<Complaints>>,
}

impl Process {
    /// Starts `program`, which comes with `package`.
    ///
    /// # Errors
    /// `Source` when it is not installed or cannot be started.
    pub(super) fn start(program: &'static str, package: &str, args: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("AV_LOG_FORCE_NOCOLOR", "1");
        // Ctrl-C is for us: we stop the child when what it has delivered is dealt with.
        command.process_group(0);
        let mut child = command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(ErrorKind::Source, format_args!("`{program}` is not there: install {package}"))
            }
            _ => Error::new(ErrorKind::Source, format_args!("cannot start `{program}`: {e}")),
        })?;
        let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::new(ErrorKind::Internal, format_args!("`{program}` has no pipes")));
        };
        enlarge_pipe(output.as_raw_fd());
        let mut process = Self { program, child, output, listener: None };
        let listener = std::thread::Builder::new()
            .name("child-errors".to_string())
            .spawn(move || Complaints::listen(errors))
            .map_err(|e| Error::new(ErrorKind::Internal, format_args!("cannot start a thread: {e}")))?;
        process.listener = Some(listener);
        Ok(process)
    }

    /// Waits for output, at most for `patience`.
    ///
    /// # Errors
    /// `Internal` when the system refuses to wait.
    pub(super) fn wait(&self, patience: Duration, stop: &Stop) -> Result<Wait> {
        let deadline = Instant::now() + patience;
        while !stop.requested() {
            let left = deadline.saturating_duration_since(Instant::now());
            match poll_readable(self.output.as_raw_fd(), left.min(Stop::TICK)) {
                Ok(Some(wait)) => return Ok(wait),
                Ok(None) if left.is_zero() => return Ok(Wait::TimedOut),
                Ok(None) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(Error::new(ErrorKind::Internal, format_args!("waiting for {}: {e}", self.program)));
                }
            }
        }
        Ok(Wait::Stopped)
    }

    /// Fills `buffer` from the output, waiting at most `patience` for each part of it. `Ready`: it is full; otherwise
    /// why it is not, and how many bytes there are.
    ///
    /// # Errors
    /// `Internal` when the system refuses to wait, `Source` when the pipe cannot be read.
    pub(super) fn fill(&mut self, buffer: &mut [u8], patience: Duration, stop: &Stop) -> Result<(Wait, usize)> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.wait(patience, stop)? {
                Wait::Ready => {}
                other => return Ok((other, filled)),
            }
            match self.output.read(&mut buffer[filled..]) {
                Ok(0) => return Ok((Wait::End, filled)),
                Ok(count) => filled += count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(Error::new(ErrorKind::Source, format_args!("reading from {}: {e}", self.program)));
                }
            }
        }
        Ok((Wait::Ready, filled))
    }

    /// Ends the child, after `grace` by force, and hands over what it complained about.
    pub(super) fn conclude(&mut self, grace: Duration) -> Complaints {
        let deadline = Instant::now() + grace;
        let mut state = self.child.try_wait();
        while matches!(state, Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
            state = self.child.try_wait();
        }
        if matches!(state, Ok(None)) {
            kill_group(self.child.id());
            // Fails only for a child that is gone already.
            let _ = self.child.wait();
        }
        let mut complaints = self.listener.take().and_then(|listener| listener.join().ok()).unwrap_or_default();
        let status = state.ok().flatten();
        complaints.content = status.is_some_and(|status| status.success());
        complaints.signal = status.and_then(|status| status.signal());
        complaints
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.conclude(Duration::ZERO);
    }
}

/// What a child complained about: the first line, which is the cause (consequences follow), or the first one that calls
/// itself an error, and how many there were.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Complaints {
    first: String,
    lines: usize,
    /// Whether it ended by itself and without an error.
    pub(super) content: bool,
    /// The signal that ended it, if it was not ours: it crashed, or the memory was short.
    pub(super) signal: Option<i32>,
}

impl Complaints {
    /// Longest part of a line that is kept, in bytes.
    const LINE: usize = 300;

    fn listen(mut errors: ChildStderr) -> Self {
        let (mut complaints, mut line, mut buffer) = (Self::default(), Vec::new(), [0; 4096]);
        loop {
            match errors.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    for &byte in &buffer[..count] {
                        if byte == b'\n' || byte == b'\r' {
                            complaints.add(&String::from_utf8_lossy(&line));
                            line.clear();
                        } else if line.len() < Self::LINE {
                            line.push(byte);
                        }
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        complaints.add(&String::from_utf8_lossy(&line));
        complaints
    }

    fn add(&mut self, line: &str) {
        let mut line = line.trim();
        // `[h264 @ 0x55a8cb83f900] text`: the address differs from run to run.
        while let Some((_, rest)) = line.strip_prefix('[').and_then(|tail| tail.split_once("] ")) {
            line = rest.trim_start();
        }
        if line.is_empty() {
            return;
        }
        let severe = |line: &str| line.starts_with("ERROR");
        if self.lines == 0 || (severe(line) && !severe(&self.first)) {
            self.first = line.to_string();
        }
        self.lines += 1;
    }

    /// Whether there were none.
    pub(super) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// How many lines there were.
    pub(super) fn count(&self) -> usize {
        self.lines
    }

    /// The cause, without `url` (which may hold a password) unless that is empty, or `otherwise` if there were none.
    pub(super) fn reason(&self, url: &str, otherwise: &str) -> String {
        let first = match url {
            "" => self.first.clone(),
            url => self.first.replace(&format!("{url}: "), "").replace(url, "it"),
        };
        match first {
            first if first.is_empty() => otherwise.to_string(),
            first => first,
        }
    }
}

/// Ends a child that was not waited for yet, and what it has started (`ffmpeg` may be a wrapper script).
#[allow(unsafe_code)]
fn kill_group(child: u32) {
    if let Ok(group) = libc::pid_t::try_from(child) {
        // SAFETY: touches no memory; the child leads its own group, and its number is not given away before it is reaped.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}

/// Fewer, larger reads: a picture is many times the 64 KiB of a fresh pipe. Where it is refused, it is only slower.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn enlarge_pipe(fd: RawFd) {
    const BYTES: libc::c_int = 1 << 20;
    // SAFETY: F_SETPIPE_SZ takes an int and touches no memory of ours; the caller holds `fd` open.
    unsafe { libc::fcntl(fd, libc::F_SETPIPE_SZ, BYTES) };
}

#[cfg(not(target_os = "linux"))]
fn enlarge_pipe(_: RawFd) {}

/// `Ready` or `End`, or `None` when neither came within `time`.
#[allow(unsafe_code)]
fn poll_readable(fd: RawFd, time: Duration) -> std::io::Result<Option<Wait>> {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let millis = time.as_micros().div_ceil(1000) as libc::c_int;
    // SAFETY: `entry` is one valid pollfd that lives through the call; the caller holds `fd` open.
    match unsafe { libc::poll(&mut entry, 1, millis) } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => Ok(None),
        _ if entry.revents & libc::POLLIN != 0 => Ok(Some(Wait::Ready)),
        _ => Ok(Some(Wait::End)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell(script: &str) -> Process {
        Process::start("sh", "dash", &["-c", script]).unwrap()
    }

    fn is_there(process: &Process) -> bool {
        std::path::Path::new(&format!("/proc/{}", process.child.id())).exists()
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let error = Process::start("ffmpeg-that-is-not-there", "ffmpeg", &[]).err().unwrap();
        assert_eq!(error.to_string(), "`ffmpeg-that-is-not-there` is not there: install ffmpeg");
    }

    #[test]
    fn output_is_read_to_its_end() {
        let mut process = shell("printf abc; sleep 0.05; printf de");
        let (mut buffer, stop) = ([0; 4], Stop::default());
        let patience = Duration::from_secs(10);
        assert_eq!(process.fill(&mut buffer, patience, &stop).unwrap(), (Wait::Ready, 4));
        assert_eq!(&buffer, b"abcd");
        assert_eq!(process.fill(&mut buffer, patience, &stop).unwrap(), (Wait::End, 1));
        assert!(process.conclude(patience).is_empty());
    }

    #[test]
    fn a_childs_own_death_is_told_from_our_killing_it() {
        assert_eq!(shell("kill -9 $$").conclude(Duration::from_secs(10)).signal, Some(9));
        assert_eq!(shell("sleep 60").conclude(Duration::ZERO).signal, None);
        assert_eq!(shell("exit 3").conclude(Duration::from_secs(10)).signal, None);
    }

    #[test]
    fn waiting_ends_with_patience_or_a_stop() {
        let process = shell("sleep 60");
        let stop = Stop::default();
        assert_eq!(process.wait(Duration::from_millis(20), &stop).unwrap(), Wait::TimedOut);
        let other = stop.clone();
        let begun = Instant::now();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.request();
        });
        assert_eq!(process.wait(Duration::from_secs(60), &stop).unwrap(), Wait::Stopped);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_dropped_child_is_gone_and_reaped() {
        let process = shell("sleep 60");
        assert!(is_there(&process));
        let entry = format!("/proc/{}", process.child.id());
        drop(process);
        // A zombie would still have its entry.
        assert!(!std::path::Path::new(&entry).exists());
    }

    #[test]
    fn the_first_complaint_is_the_reason() {
        let script = "echo >&2; echo '[mov,mp4 @ 0x55] [x @ 0x1] file:a b.mp4: no header' >&2; \
                      echo 'Invalid data' >&2; printf 'not a whole line' >&2";
        let complaints = shell(script).conclude(Duration::from_secs(10));
        assert_eq!(complaints.reason("file:a b.mp4", "none"), "no header");
        assert_eq!(complaints.count(), 3);
        assert_eq!(Complaints::default().reason("x", "none"), "none");
    }

    #[test]
    fn endless_complaints_take_bounded_memory_and_do_not_block_the_child() {
        let script = "head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; printf done";
        let mut process = shell(script);
        let mut buffer = [0; 5];
        let (wait, count) = process.fill(&mut buffer, Duration::from_secs(20), &Stop::default()).unwrap();
        assert_eq!((wait, &buffer[..count]), (Wait::End, &b"done"[..]));
        assert_eq!(process.conclude(Duration::from_secs(10)).first.len(), Complaints::LINE);
    }
}
