//! The text console of the machine while pictures are shown instead of it.

use std::fs::{File, OpenOptions, read_to_string};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::SCREEN;
use crate::console::{key, shot};
use crate::program::Program;
use crate::wait;

const SOURCE: &str = "synthetic:1?size=640x480&fps=5";
const PATIENCE: Duration = Duration::from_secs(10);
/// From the beginning of a countdown until the clip of a second is there, on a slow machine.
const UNTIL_ASKED: Duration = Duration::from_secs(8);

/// What a console is set to: text or graphics, and its line settings.
#[derive(Debug, PartialEq, Eq)]
struct State {
    graphics: bool,
    line: [u32; 4],
    special: Vec<u8>,
}

fn terminal() -> Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty1").context("/dev/tty1")
}

#[allow(unsafe_code)]
fn state() -> Result<State> {
    const KDGETMODE: libc::Ioctl = 0x4b3b;
    let terminal = terminal()?;
    let mut mode: libc::c_int = 0;
    let mut line = std::mem::MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: the request writes one int, the call one termios, which is a plain structure of numbers.
    let line = unsafe {
        ensure!(libc::ioctl(terminal.as_raw_fd(), KDGETMODE, &raw mut mode) == 0, "tty1 is no console");
        ensure!(libc::tcgetattr(terminal.as_raw_fd(), line.as_mut_ptr()) == 0, "tty1 is no terminal");
        line.assume_init()
    };
    let flags = [line.c_iflag, line.c_oflag, line.c_cflag, line.c_lflag];
    Ok(State { graphics: mode == 1, line: flags, special: line.c_cc.to_vec() })
}

fn write(text: &str) -> Result<()> {
    terminal()?.write_all(text.as_bytes()).context("writing on tty1")
}

/// Presses keys until console `number` is in front.
fn turn_to(number: u32) -> Result<()> {
    key(&format!("ctrl-alt-f{number}"))?;
    let wanted = format!("tty{number}");
    let front = || read_to_string("/sys/class/tty/tty0/active").ok().filter(|active| active.trim() == wanted);
    wait(PATIENCE, front).with_context(|| format!("{wanted} does not come to the front"))?;
    Ok(())
}

fn start(name: &str) -> Result<Program> {
    let program = Program::start(name, SOURCE, &format!("{SCREEN}640x480"), &[])?;
    program.shows_pictures()?;
    ensure!(state()?.graphics, "{name}: text is drawn over the picture");
    Ok(program)
}

/// Keys, another console and back, and the text returns as it was: after `q`, and after SIGTERM.
pub fn console() -> Result<()> {
    // Keys lead to consoles only that somebody has opened.
    std::fs::write("/dev/tty2", "the other console\n")?;
    write("\x1b[2J\x1b[Hbefore\n")?;
    let before = state()?;
    ensure!(!before.graphics);
    let mut program = start("console")?;
    write("while pictures are shown\n")?;
    key("x")?;
    shot("console-run")?;
    turn_to(2)?;
    std::thread::sleep(Duration::from_secs(1));
    shot("console-other")?;
    turn_to(1)?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(program.is_running()?, "x, or going to another console and back, ended it");
    shot("console-back")?;
    key("q")?;
    program.ends(PATIENCE)?;
    ensure!(state()? == before, "after q: {:?}, not {before:?}", state()?);
    shot("console-after")?;
    start("console-term")?.terminate()?;
    ensure!(state()? == before, "after SIGTERM: {:?}, not {before:?}", state()?);
    Ok(())
}

/// Keys keep and drop clips and end the recording. Pictures go into the clip's file as they are: the machine has no `ffmpeg`,
/// only what takes its place in `/app`.
pub fn record() -> Result<()> {
    // A second of the source.
    const SIZE: u64 = 5 * 640 * 480 * 3;
    let before = state()?;
    let display = format!("{SCREEN}640x480");
    let source = ["--source", SOURCE, "--display", &display];
    let what = ["--label", "wave", "--count", "2", "--seconds", "1", "--out", "/tmp/clips"];
    let mut program = Program::record("record", &[source.as_slice(), &what].concat())?;
    program.shows_pictures()?;
    let saved = |number: u32| Path::new("/tmp/clips/wave").join(format!("clip-000{number}.mp4"));
    // While it counts down there is nothing to keep.
    key("ret")?;
    std::thread::sleep(UNTIL_ASKED);
    shot("record-question")?;
    key("backspace")?;
    std::thread::sleep(Duration::from_secs(1));
    key("ret")?;
    shot("record-again")?;
    std::thread::sleep(UNTIL_ASKED);
    ensure!(!saved(1).exists(), "a clip was kept that had been dropped");
    key("ret")?;
    let kept = wait(PATIENCE, || program.log().contains("(1 of 2)").then_some(()));
    kept.with_context(|| format!("the clip is not kept: {}", program.log()))?;
    std::thread::sleep(UNTIL_ASKED);
    ensure!(program.is_running()?, "it ended before both clips were made");
    shot("record-second")?;
    key("esc")?;
    program.ends(PATIENCE)?;
    ensure!(saved(1).metadata()?.len() == SIZE, "{} bytes, not {SIZE}", saved(1).metadata()?.len());
    ensure!(!saved(2).exists(), "a clip was kept that was asked about when Esc ended it");
    ensure!(state()? == before, "afterwards: {:?}, not {before:?}", state()?);
    Ok(())
}
