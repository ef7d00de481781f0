//! A lit connector: two buffers, of which one is shown while the other is written, exchanged by page flips.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use drm::buffer::{Buffer as _, DrmFourcc};
use drm::control::dumbbuffer::{DumbBuffer, DumbMapping};
use drm::control::{Device as _, Event, Mode, PageFlipFlags, connector, crtc, framebuffer};

use super::card::{Card, Connector};
use super::choice::copy_rows;
use crate::display::scale::Scaler;
use crate::frame::Frame;

/// A flip that has not come about after this time never will.
const STUCK: Duration = Duration::from_secs(1);

/// How pictures come onto the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Page flips; the kernel says when each is done.
    Flip,
    /// The mode is set again with the other buffer, for drivers without page flips.
    Set,
}

pub struct Screen {
    pub connector: connector::Handle,
    /// The connector's name, and the mode in words.
    pub name: String,
    pub size: (u32, u32),
    pub mode: Mode,
    crtc: crtc::Handle,
    refresh: Duration,
    buffers: [Buffer; 2],
    shown: usize,
    way: Way,
    /// Since when a flip has been under way.
    pending: Option<Instant>,
    /// Whether a flip was ever reported as done.
    flipped: bool,
    /// The picture as it goes into a buffer. It is composed in ordinary memory: scaling writes in no particular order,
    /// and a buffer may be memory that is slow for anything but writing it from front to back.
    composed: Vec<u32>,
}

impl Screen {
    /// Sets `mode` on `connector`, showing `picture`.
    ///
    /// # Errors
    /// As the system says.
    pub fn light(
        card: &Card,
        connector: &Connector,
        crtc: crtc::Handle,
        mode: Mode,
        picture: &Frame,
        scaler: &mut Scaler,
    ) -> io::Result<Self> {
        let size = (u32::from(mode.size().0), u32::from(mode.size().1));
        let first = Buffer::new(card, size)?;
        let second = match Buffer::new(card, size) {
            Ok(second) => second,
            Err(e) => {
                first.remove(card);
                return Err(e);
            }
        };
        let rate = if mode.vrefresh() == 0 { 60 } else { mode.vrefresh() };
        let mut screen = Self {
            connector: connector.info.handle(),
            name: format!("{} at {}x{}@{rate}", connector.name, size.0, size.1),
            size,
            crtc,
            mode,
            refresh: Duration::from_secs(1) / rate,
            buffers: [first, second],
            shown: 0,
            way: Way::Flip,
            pending: None,
            flipped: false,
            composed: vec![0; size.0 as usize * size.1 as usize],
        };
        let lit = screen.compose(picture, scaler, 0).and_then(|()| screen.set(card, 0));
        if let Err(e) = lit {
            screen.remove(card);
            return Err(e);
        }
        Ok(screen)
    }

    /// Frees the buffers. The kernel switches the CRTC off if it still shows one of them.
    pub fn remove(self, card: &Card) {
        for buffer in self.buffers {
            buffer.remove(card);
        }
    }

    /// Shows `picture` and returns `true`; `false` when the one before is still on its way. With `wait`, waits for that
    /// one, for about one refresh at most.
    ///
    /// # Errors
    /// As the system says.
    pub fn show(&mut self, card: &Card, picture: &Frame, scaler: &mut Scaler, wait: bool) -> io::Result<bool> {
        if !self.settle(card, wait)? {
            return Ok(false);
        }
        let hidden = 1 - self.shown;
        self.compose(picture, scaler, hidden)?;
        if self.way == Way::Flip {
            match card.page_flip(self.crtc, self.buffers[hidden].id, PageFlipFlags::EVENT, None) {
                Ok(()) => {
                    self.pending = Some(Instant::now());
                    self.shown = hidden;
                    return Ok(true);
                }
                Err(e) => match e.raw_os_error() {
                    // One that we know nothing of is under way, or the kernel switched the CRTC off: once it has lasted
                    // long enough, the mode is set anew.
                    Some(libc::EBUSY) => {
                        self.pending = Some(Instant::now());
                        return Ok(false);
                    }
                    Some(libc::EINTR | libc::EAGAIN) => return Ok(false),
                    Some(libc::EACCES | libc::EPERM | libc::ENODEV | libc::ENOENT) => return Err(e),
                    _ => {
                        log::info!("kms: no page flips ({e}); setting the mode for each picture instead");
                        self.way = Way::Set;
                    }
                },
            }
        }
        self.set(card, hidden)?;
        Ok(true)
    }

    /// Notes flips that are done. `true` when none is under way any more.
    ///
    /// # Errors
    /// As the system says.
    pub fn settle(&mut self, card: &Card, wait: bool) -> io::Result<bool> {
        self.note_events(card)?;
        let Some(since) = self.pending else { return Ok(true) };
        if wait {
            wait_for_event(card, self.refresh + Duration::from_millis(2));
            self.note_events(card)?;
        }
        if self.pending.is_some() && since.elapsed() > STUCK {
            if !self.flipped {
                log::info!("kms: page flips are never reported as done; setting the mode for each picture instead");
                self.way = Way::Set;
            }
            self.set(card, self.shown)?;
        }
        Ok(self.pending.is_none())
    }

    /// Sets the mode again, with the picture that is shown.
    ///
    /// # Errors
    /// As the system says.
    pub fn set_again(&mut self, card: &Card) -> io::Result<()> {
        self.set(card, self.shown)
    }

    fn note_events(&mut self, card: &Card) -> io::Result<()> {
        let events = match card.receive_events() {
            Ok(events) => events,
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => return Ok(()),
            Err(e) => return Err(e),
        };
        for event in events {
            if let Event::PageFlip(flip) = event
                && flip.crtc == self.crtc
            {
                self.pending = None;
                self.flipped = true;
            }
        }
        Ok(())
    }

    fn compose(&mut self, picture: &Frame, scaler: &mut Scaler, buffer: usize) -> io::Result<()> {
        scaler.draw_xrgb(picture, &mut self.composed, self.size).map_err(io::Error::other)?;
        let Buffer { memory, dumb, .. } = &mut self.buffers[buffer];
        copy_rows(&self.composed, self.size.0 as usize, memory, dumb.pitch() as usize);
        Ok(())
    }

    fn set(&mut self, card: &Card, buffer: usize) -> io::Result<()> {
        let id = self.buffers[buffer].id;
        card.set_crtc(self.crtc, Some(id), (0, 0), &[self.connector], Some(self.mode))?;
        if self.way == Way::Set {
            // Drivers that keep a copy of their own want to be told; the others refuse, and need not be.
            let _ = card.dirty_framebuffer(id, &[]);
        }
        (self.shown, self.pending) = (buffer, None);
        // The kernel has finished a flip that was under way; its event must not count for the next one.
        self.note_events(card)
    }
}

/// A buffer of the card that can be shown, mapped for as long as it is there.
struct Buffer {
    dumb: DumbBuffer,
    id: framebuffer::Handle,
    memory: DumbMapping<'static>,
}

impl Buffer {
    fn new(card: &Card, size: (u32, u32)) -> io::Result<Self> {
        let dumb = card.create_dumb_buffer(size, DrmFourcc::Xrgb8888, 32)?;
        // A mapping borrows the description of its buffer, some 30 bytes. They are given up with each mode that is set,
        // so that the mapping can be kept: mapping anew for each picture would fault in every page of it again.
        let made = match card.map_dumb_buffer(Box::leak(Box::new(dumb))) {
            Ok(memory) => card.add_framebuffer(&dumb, 24, 32).map(|id| Self { dumb, id, memory }),
            Err(e) => Err(e),
        };
        if made.is_err() {
            let _ = card.destroy_dumb_buffer(dumb);
        }
        made
    }

    fn remove(self, card: &Card) {
        drop(self.memory);
        let _ = card.destroy_framebuffer(self.id);
        let _ = card.destroy_dumb_buffer(self.dumb);
    }
}

/// Waits until the card has an event to read, a signal comes, or `limit` is over.
#[allow(unsafe_code)]
fn wait_for_event(card: &Card, limit: Duration) {
    let mut wanted = libc::pollfd { fd: card.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let limit = limit.as_millis().min(50) as libc::c_int;
    // SAFETY: one valid pollfd, whose descriptor is open as long as `card` is borrowed.
    unsafe { libc::poll(&raw mut wanted, 1, limit) };
}

/// What an error of the system means for a display that was running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Somebody else is the card's master now.
    Held,
    /// The card is gone.
    Gone,
    /// This screen cannot be shown on as it is; trying again may help.
    Other,
}

impl Meaning {
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => Self::Held,
            Some(libc::ENODEV | libc::ENXIO | libc::EBADF) => Self::Gone,
            _ => Self::Other,
        }
    }
}
