//! The text console of this machine, while pictures are shown instead of it: no text drawn over them, keys for us, and
//! Ctrl-Alt-Fn as usual. Where there is no such console (a container, ssh without rights to it, a serial console), or
//! we may not have it, there are no keys, and nothing else is different.
//!
//! What was changed is changed back by [`Console::give_back`], also when it is dropped, and so after a panic, because
//! programs unwind. SIGINT and SIGTERM end the run in order. SIGHUP and SIGQUIT would end the process at once and leave
//! a dead console behind; they count as the wish to quit while the console is ours. After SIGKILL or a second SIGTERM
//! nothing is changed back; `chvt` to another console revives this one, for the kernel then sees that we are gone.
//!
//! Where a login waits on the same console it reads the keys too, and they may reach it instead of us: start on a
//! console of our own then (`openvt`, or `TTYPath=` of a systemd service).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_char, c_int, c_short, c_ulong};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

use crate::display::Wish;

// From the kernel's headers <linux/kd.h> and <linux/vt.h>; libc does not have them.
const KDSETMODE: libc::Ioctl = 0x4b3a;
const KDGETMODE: libc::Ioctl = 0x4b3b;
const KD_GRAPHICS: c_ulong = 1;
const VT_GETMODE: libc::Ioctl = 0x5601;
const VT_SETMODE: libc::Ioctl = 0x5602;
const VT_GETSTATE: libc::Ioctl = 0x5603;
const VT_RELDISP: libc::Ioctl = 0x5605;
const VT_PROCESS: c_char = 1;
const VT_ACKACQ: c_ulong = 2;

/// The major number of the devices `/dev/tty0` to `/dev/tty63`.
const TTY_MAJOR: u32 = 4;

/// `struct vt_mode` of <linux/vt.h>.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct VtMode {
    mode: c_char,
    waitv: c_char,
    release_signal: c_short,
    acquire_signal: c_short,
    unused: c_short,
}

/// `struct vt_stat` of <linux/vt.h>.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct VtState {
    active: u16,
    signal: u16,
    state: u16,
}

/// What the console tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing new.
    Nothing,
    /// A key, or a signal to quit.
    Wants(Wish),
    /// The user turns to another console: let go of the card, then call [`Console::release`].
    Leave,
    /// The user is back: [`Console::is_away`] is over, and the screen has to be set up again.
    Back,
}

/// The console, in our hands.
pub struct Console {
    file: File,
    before: Before,
    away: bool,
    /// Whether we read the keys.
    has_keys: bool,
    leave: Arc<AtomicBool>,
    back: Arc<AtomicBool>,
    quit: Arc<AtomicBool>,
    signals: Vec<SigId>,
    given_back: bool,
}

/// How the console was before.
struct Before {
    drawing: c_ulong,
    switching: VtMode,
    line: libc::termios,
}

impl Console {
    /// Takes the console that the program was started on, else the one that is in front. `None` where there is none, or
    /// where we may not.
    pub fn take() -> Option<Self> {
        let file = find()?;
        match Self::take_over(file) {
            Ok(console) => Some(console),
            Err(e) => {
                log::debug!("kms: no keys on the console: {e}");
                None
            }
        }
    }

    fn take_over(file: File) -> io::Result<Self> {
        let before =
            Before { drawing: drawing(file.as_fd())?, switching: switching(file.as_fd())?, line: line(file.as_fd())? };
        let away = number(&file).is_some_and(|ours| active(file.as_fd()).is_some_and(|active| active != ours));
        let flag = Arc::<AtomicBool>::default;
        let has_keys = !in_background(file.as_fd());
        let mut console = Self {
            file,
            before,
            away,
            has_keys,
            leave: flag(),
            back: flag(),
            quit: flag(),
            signals: Vec::new(),
            given_back: false,
        };
        // From here on an early return gives back what was taken: the value is dropped. The handlers come first,
        // because SIGUSR1 without one ends the process.
        console.on(SIGUSR1, console.leave.clone())?;
        console.on(SIGUSR2, console.back.clone())?;
        for signal in [SIGHUP, SIGQUIT] {
            // Under nohup it stays ignored.
            if !is_ignored(signal) {
                console.on(signal, console.quit.clone())?;
            }
        }
        let terminal = console.file.as_fd();
        set_drawing(terminal, KD_GRAPHICS)?;
        let ours = VtMode {
            mode: VT_PROCESS,
            release_signal: SIGUSR1 as c_short,
            acquire_signal: SIGUSR2 as c_short,
            ..VtMode::default()
        };
        set_switching(terminal, &ours)?;
        if has_keys {
            // Keys one by one and not echoed. Ctrl-C still gives SIGINT; Ctrl-Z would leave a dead console.
            let mut keys = console.before.line;
            keys.c_lflag &= !(libc::ICANON | libc::ECHO);
            keys.c_cc[libc::VMIN] = 0;
            keys.c_cc[libc::VTIME] = 0;
            keys.c_cc[libc::VSUSP] = libc::_POSIX_VDISABLE;
            set_line(terminal, &keys)?;
        }
        Ok(console)
    }

    fn on(&mut self, signal: c_int, flag: Arc<AtomicBool>) -> io::Result<()> {
        self.signals.push(signal_hook::flag::register(signal, flag)?);
        Ok(())
    }

    /// Whether another console is in front, so that the card is not ours to draw with.
    pub fn is_away(&self) -> bool {
        self.away
    }

    /// Whether we read the keys.
    pub fn has_keys(&self) -> bool {
        self.has_keys
    }

    /// What happened since the last call.
    pub fn poll(&mut self) -> Told {
        if self.quit.load(Ordering::Relaxed) {
            return Told::Wants(Wish::Quit);
        }
        // Both may be up; going and coming alternate.
        if self.away && self.back.swap(false, Ordering::Relaxed) {
            if let Err(e) = answer(self.file.as_fd(), VT_ACKACQ) {
                log::debug!("kms: the console's return cannot be confirmed: {e}");
            }
            self.away = false;
            return Told::Back;
        }
        if !self.away && self.leave.swap(false, Ordering::Relaxed) {
            return Told::Leave;
        }
        let mut keys = [0; 64];
        match self.has_keys.then(|| self.file.read(&mut keys)) {
            Some(Ok(count)) => Told::Wants(wish(&keys[..count])),
            _ => Told::Nothing,
        }
    }

    /// Lets the user go to the other console. `false`: nobody goes any more. That happens when the kernel asked twice for
    /// one change, because the user was quicker than our answer.
    pub fn release(&mut self) -> bool {
        let answered = answer(self.file.as_fd(), 1);
        if let Err(e) = &answered {
            log::debug!("kms: the console is not left: {e}");
        }
        self.away = answered.is_ok();
        self.away
    }

    /// Changes back what was changed. Further calls do nothing.
    pub fn give_back(&mut self) {
        if std::mem::replace(&mut self.given_back, true) {
            return;
        }
        let terminal = self.file.as_fd();
        // Each is tried, whatever became of the others. Keys that nobody read are dropped with the line settings.
        let line = if self.has_keys { set_line(terminal, &self.before.line) } else { Ok(()) };
        // Text first: while the console is ours alone, nobody can switch between the two.
        let drawing = set_drawing(terminal, self.before.drawing);
        let switching = set_switching(terminal, &self.before.switching);
        if let Err(e) = line.and(drawing).and(switching) {
            log::debug!("kms: the console cannot be given back as it was: {e}");
        }
        for signal in self.signals.drain(..) {
            signal_hook::low_level::unregister(signal);
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The console that the program was started on, else the one in front.
fn find() -> Option<File> {
    let open = |path: &str| {
        let how = libc::O_NONBLOCK | libc::O_NOCTTY;
        OpenOptions::new().read(true).write(true).custom_flags(how).open(path).ok()
    };
    // Opened anew, because flags of stdin are shared with whoever started us.
    let stdin = || drawing(io::stdin().as_fd()).ok().and_then(|_| open("/proc/self/fd/0"));
    stdin().or_else(|| open("/dev/tty0")).filter(|file| drawing(file.as_fd()).is_ok())
}

/// The number of a console, if its device tells (`/dev/console` does not).
fn number(file: &File) -> Option<u16> {
    let device = file.metadata().ok()?.rdev();
    if libc::major(device) != TTY_MAJOR {
        return None;
    }
    u16::try_from(libc::minor(device)).ok().filter(|number| (1..64).contains(number))
}

/// Whether we run in the background of the shell on this console: reading keys would stop the program.
#[allow(unsafe_code)]
fn in_background(terminal: BorrowedFd<'_>) -> bool {
    // SAFETY: two calls without pointers, with an open descriptor.
    let (foreground, ours) = unsafe { (libc::tcgetpgrp(terminal.as_raw_fd()), libc::getpgrp()) };
    foreground >= 0 && foreground != ours
}

/// The number of the console in front.
#[allow(unsafe_code)]
fn active(terminal: BorrowedFd<'_>) -> Option<u16> {
    let mut state = VtState::default();
    // SAFETY: the request writes one `struct vt_stat`.
    checked(unsafe { libc::ioctl(terminal.as_raw_fd(), VT_GETSTATE, &raw mut state) }).ok().map(|()| state.active)
}

/// Whether text or graphics are drawn; an error on what is no console of this machine.
#[allow(unsafe_code)]
fn drawing(terminal: BorrowedFd<'_>) -> io::Result<c_ulong> {
    let mut mode: c_int = 0;
    // SAFETY: the request writes one int.
    checked(unsafe { libc::ioctl(terminal.as_raw_fd(), KDGETMODE, &raw mut mode) })?;
    Ok(mode as c_ulong)
}

#[allow(unsafe_code)]
fn set_drawing(terminal: BorrowedFd<'_>, mode: c_ulong) -> io::Result<()> {
    // SAFETY: the request takes a number.
    checked(unsafe { libc::ioctl(terminal.as_raw_fd(), KDSETMODE, mode) })
}

#[allow(unsafe_code)]
fn switching(terminal: BorrowedFd<'_>) -> io::Result<VtMode> {
    let mut mode = VtMode::default();
    // SAFETY: the request writes one `struct vt_mode`.
    checked(unsafe { libc::ioctl(terminal.as_raw_fd(), VT_GETMODE, &raw mut mode) })?;
    Ok(mode)
}

#[allow(unsafe_code)]
fn set_switching(terminal: BorrowedFd<'_>, mode: &VtMode) -> io::Result<()> {
    // SAFETY: the request reads one `struct vt_mode`.
    checked(unsafe { libc::ioctl(terminal.as_raw_fd(), VT_SETMODE, std::ptr::from_ref(mode)) })
}

/// Answers the kernel's signals: 1 lets the console go, [`VT_ACKACQ`] confirms that it came.
#[allow(unsafe_code)]
fn answer(terminal: BorrowedFd<'_>, answer: c_ulong) -> io::Result<()> {
    // SAFETY: the request takes a number.
    checked(unsafe { libc::ioctl(terminal.as_raw_fd(), VT_RELDISP, answer) })
}

#[allow(unsafe_code)]
fn line(terminal: BorrowedFd<'_>) -> io::Result<libc::termios> {
    let mut line = std::mem::MaybeUninit::uninit();
    // SAFETY: the call writes one termios, whole if it succeeds.
    unsafe {
        checked(libc::tcgetattr(terminal.as_raw_fd(), line.as_mut_ptr()))?;
        Ok(line.assume_init())
    }
}

/// Changes the line settings and drops keys that were not read yet.
#[allow(unsafe_code)]
fn set_line(terminal: BorrowedFd<'_>, line: &libc::termios) -> io::Result<()> {
    // SAFETY: the call reads one termios.
    checked(unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSAFLUSH, std::ptr::from_ref(line)) })
}

#[allow(unsafe_code)]
fn is_ignored(signal: c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: the call changes nothing and writes one sigaction, whole if it succeeds.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

fn checked(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What `keys`, as a console in its usual keyboard mode delivers them, ask for. Other keys' sequences begin with the
/// code of Esc too.
fn wish(keys: &[u8]) -> Wish {
    let (mut rest, mut wish) = (keys, Wish::Continue);
    while let Some((key, after)) = rest.split_first() {
        rest = match (key, after) {
            (b'q' | b'Q', _) | (0x1b, [] | [0x1b, ..]) => return Wish::Quit,
            (b'\n' | b'\r' | b' ' | b'k' | b'K', _) => {
                wish = Wish::Keep;
                after
            }
            // Backspace is one of two codes, Delete a sequence.
            (0x7f | 0x08 | b'd' | b'D', end) | (0x1b, [b'[', b'3', b'~', end @ ..]) => {
                wish = Wish::Drop;
                end
            }
            // F1 to F5 of the Linux console.
            (0x1b, [b'[', b'[', _, end @ ..]) | (0x1b, [b'O', _, end @ ..]) => end,
            (0x1b, [b'[', sequence @ ..]) => {
                let end = sequence.iter().position(|byte| (0x40..=0x7e).contains(byte));
                &sequence[end.map_or(sequence.len(), |end| end + 1)..]
            }
            // With Alt.
            (0x1b, [_, end @ ..]) => end,
            _ => after,
        };
    }
    wish
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_and_esc_quit_and_other_keys_do_not() {
        let quit =
            ["q", "Q", "\x1b", "xyq", "x\x1b", "\x1b[Aq", "\x1b\x1b", "\x1b[[Bq", "\x1bOPq", "\x1b[3~\x1b", "kq", "qk"];
        for keys in quit {
            assert_eq!(wish(keys.as_bytes()), Wish::Quit, "{keys:?}");
        }
        for keys in ["", "x", "\x1b[A", "\x1b[[A", "\x1b[24~", "\x1bOQ", "\x1bq", "\x1b[", "\x1b[1;5", "f\t", "\x1bk"] {
            assert_eq!(wish(keys.as_bytes()), Wish::Continue, "{keys:?}");
        }
    }

    #[test]
    fn answers_are_read_and_the_last_one_counts() {
        for keys in ["\n", "\r", " ", "k", "K", "xk", "d\n", "\x1b[3~ "] {
            assert_eq!(wish(keys.as_bytes()), Wish::Keep, "{keys:?}");
        }
        for keys in ["\x7f", "\x08", "d", "D", "\x1b[3~", "kd", "\x1b[A\x1b[3~x"] {
            assert_eq!(wish(keys.as_bytes()), Wish::Drop, "{keys:?}");
        }
    }

    #[test]
    fn what_is_no_console_is_left_alone() {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null").ok();
        assert!(null.is_some_and(|file| number(&file).is_none() && Console::take_over(file).is_err()));
    }
}
