//! The display `kms:`: HDMI (or any other output) without a desktop, drawn by the processor into dumb buffers.
//! `kms:/dev/dri/card0?connector=HDMI-A-1&mode=1280x720@60`; what is left out is chosen. Esc or q on the machine's
//! console quit, Ctrl-Alt-Fn goes to another one as usual.
//!
//! Without `mode` the screen's preferred one is set. The processor draws every pixel of it, so on a slow board with a
//! 4K screen a smaller mode is worth asking for.
//!
//! [`Display::present`] keeps a copy of the picture and hands it to the kernel for the next refresh. While the picture
//! before is still on its way it waits for that one, for about one refresh at most; on a display that is slower the
//! newest picture is kept and shown from `poll`. Buffers are kept as long as the mode is.
//!
//! A screen that is unplugged, or was not there at first, is waited for while the run goes on. So is the card when
//! another program took it over after the start; a card that is gone is an error of kind `Display`.

mod card;
mod choice;
mod console;
mod plugs;
mod screen;

use std::io;
use std::time::{Duration, Instant};

use drm::Device as _;
use drm::control::{Device as _, connector, crtc};

pub use card::{devices, is_available};

use super::scale::Scaler;
use super::{Display, Wish};
use crate::frame::Frame;
use crate::{Error, ErrorKind, Result};
use card::{Card, Connector, INSTEAD, error, held};
use choice::Wanted;
use console::{Console, Told};
use plugs::Plugs;
use screen::{Meaning, Screen};

/// How often plugs are looked at.
const LOOK: Duration = Duration::from_secs(1);

const HELD: &str = "another program holds the display; waiting for it to end";

/// A screen without a desktop.
pub struct Kms {
    name: String,
    card: Card,
    wanted: Wanted,
    plugs: Plugs,
    console: Option<Console>,
    /// What the CRTCs that we use showed before.
    before: Vec<Before>,
    /// `None` while no screen is connected or another program has the card.
    screen: Option<Screen>,
    picture: Frame,
    /// Whether the picture is newer than what is shown.
    fresh: bool,
    scaler: Scaler,
    next_look: Instant,
    /// Why nothing is shown, as it was last said to the user.
    waiting: String,
    restored: bool,
}

/// What a CRTC showed before we came, and where.
struct Before {
    crtc: crtc::Info,
    connectors: Vec<connector::Handle>,
}

impl Kms {
    /// Opens the card and lights its screen, if one is connected. `rest` is what follows `kms:`.
    ///
    /// # Errors
    /// `Usage` when `rest` cannot be understood or names a connector or mode that does not exist, `Display` when there
    /// is no card that can be used, or another program holds it.
    pub fn open(rest: &str) -> Result<Self> {
        let wanted = Wanted::read(rest)?;
        let card = Card::choose(&wanted)?;
        let mut kms = Self {
            name: format!("kms:{}", card.path()),
            card,
            wanted,
            plugs: Plugs::listen(),
            console: None,
            before: Vec::new(),
            screen: None,
            picture: Frame::default(),
            fresh: false,
            scaler: Scaler::default(),
            next_look: Instant::now(),
            waiting: String::new(),
            restored: false,
        };
        if !kms.become_master() {
            return Err(held(&kms.card));
        }
        let connectors = kms.card.connectors(true).map_err(|e| kms.failed("cannot list its connectors", &e))?;
        kms.check(&connectors)?;
        kms.console = Console::take();
        if kms.is_away() {
            // Whoever is in front has the card; ours is the next turn.
            let _ = kms.card.release_master_lock();
            return Ok(kms);
        }
        if let Err(e) = kms.light(&connectors) {
            return Err(match Meaning::of(&e) {
                Meaning::Held => held(&kms.card),
                _ => kms.failed("cannot set a mode", &e),
            });
        }
        Ok(kms)
    }

    /// Refuses names of connectors and modes that do not exist.
    fn check(&self, connectors: &[Connector]) -> Result<()> {
        let usage = |what: std::fmt::Arguments<'_>| Error::new(ErrorKind::Usage, format_args!("{}: {what}", self.name));
        if let Some(name) = &self.wanted.connector
            && connectors.iter().all(|c| c.name != *name)
        {
            let names: Vec<_> = connectors.iter().map(|c| c.name.as_str()).collect();
            return Err(usage(format_args!("there is no connector {name}; it has {}", names.join(", "))));
        }
        let Some(index) = card::connector(connectors, self.wanted.connector.as_deref()) else { return Ok(()) };
        let modes = connectors[index].modes();
        match (self.wanted.mode, choice::mode(&modes, self.wanted.mode)) {
            (Some(mode), None) => {
                let (name, modes) = (&connectors[index].name, choice::names(&modes).join(", "));
                Err(usage(format_args!("the screen at {name} has no mode {mode}; it has {modes}")))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, what: &str, e: &io::Error) -> Error {
        error(format_args!("{}: {what}: {e}; {INSTEAD}", self.name))
    }

    /// Whether we may set modes. Whoever opens a card that has no master is that already; to become it later takes root
    /// or having been it before.
    fn become_master(&self) -> bool {
        self.card.is_master() || self.card.acquire_master_lock().is_ok()
    }

    fn is_away(&self) -> bool {
        self.console.as_ref().is_some_and(Console::is_away)
    }

    /// Sets the mode of the connector that is to be used, if one has a screen, and shows the newest picture there.
    fn light(&mut self, connectors: &[Connector]) -> io::Result<()> {
        let Some(index) = card::connector(connectors, self.wanted.connector.as_deref()) else {
            self.wait_for(match &self.wanted.connector {
                Some(name) => format!("no screen is connected to {name}; waiting for one"),
                None => "no screen is connected; waiting for one".into(),
            });
            return Ok(());
        };
        let connector = &connectors[index];
        let modes = connector.modes();
        let mut mode = choice::mode(&modes, self.wanted.mode);
        if let (None, Some(wanted)) = (mode, self.wanted.mode) {
            // The one at the start had it, or there was none.
            log::warn!("kms: the screen at {} has no mode {wanted}; its preferred one is set", connector.name);
            mode = choice::mode(&modes, None);
        }
        let Some(mode) = mode.and_then(|mode| connector.info.modes().get(mode)) else { return Ok(()) };
        let crtc = self.card.crtc_for(connector, connectors)?;
        self.remember(crtc, connectors);
        let screen = Screen::light(&self.card, connector, crtc, *mode, &self.picture, &mut self.scaler)?;
        log::info!("{}: {}", self.name, screen.name);
        self.screen = Some(screen);
        self.fresh = false;
        self.waiting.clear();
        Ok(())
    }

    fn remember(&mut self, crtc: crtc::Handle, connectors: &[Connector]) {
        if self.before.iter().any(|before| before.crtc.handle() == crtc) {
            return;
        }
        if let Ok(info) = self.card.get_crtc(crtc) {
            let fed = connectors.iter().filter(|c| c.crtc == Some(crtc)).map(|c| c.info.handle());
            self.before.push(Before { crtc: info, connectors: fed.collect() });
        }
    }

    /// Says why nothing is shown, once for each reason.
    fn wait_for(&mut self, why: String) {
        if self.waiting != why {
            log::warn!("kms: {why}");
            self.waiting = why;
        }
    }

    /// Looks at the plugs if it is time to, and shows the newest picture if it is not shown yet.
    fn tend(&mut self, wait: bool) -> Result<()> {
        if self.is_away() || self.restored {
            return Ok(());
        }
        let mut done = Ok(());
        let changed = self.plugs.changed();
        if changed || Instant::now() >= self.next_look {
            done = self.look(changed);
            self.next_look = Instant::now() + LOOK;
        }
        if done.is_ok() {
            done = self.show(wait);
        }
        done.or_else(|e| self.survive(&e))
    }

    fn show(&mut self, wait: bool) -> io::Result<()> {
        let Some(screen) = &mut self.screen else { return Ok(()) };
        if self.fresh && screen.show(&self.card, &self.picture, &mut self.scaler, wait)? {
            self.fresh = false;
        }
        Ok(())
    }

    /// Notices a screen that went or came. `changed`: the kernel says that something did.
    fn look(&mut self, changed: bool) -> io::Result<()> {
        if let Some(screen) = &mut self.screen {
            // Without a reason, only what the kernel knows already: probing may take tens of milliseconds, and a
            // picture is being shown. That is enough for drivers that look after their connectors themselves.
            match self.card.get_connector(screen.connector, changed) {
                Ok(info) if info.state() != connector::State::Disconnected => {
                    if !changed {
                        return Ok(());
                    }
                    if info.modes().contains(&screen.mode) {
                        // It may have been away for a moment and be dark. Where nothing has changed, nothing flickers.
                        return screen.set_again(&self.card);
                    }
                }
                Err(e) if e.raw_os_error() != Some(libc::ENOENT) => return Err(e),
                _ => {}
            }
            self.darken();
        }
        if !self.become_master() {
            self.wait_for(HELD.into());
            return Ok(());
        }
        // Nothing is shown, so nothing flickers. Without probing a new screen would have no modes, and some drivers
        // would not notice it at all. A plug with nothing in it is quickly probed.
        let connectors = self.card.connectors(true)?;
        self.light(&connectors)
    }

    /// Frees what belongs to a screen.
    fn darken(&mut self) {
        if let Some(screen) = self.screen.take() {
            screen.remove(&self.card);
            self.fresh = true;
        }
    }

    /// Goes on after an error, unless the card is gone.
    fn survive(&mut self, e: &io::Error) -> Result<()> {
        if Meaning::of(e) == Meaning::Gone {
            return Err(self.failed("the card is gone", e));
        }
        self.darken();
        self.wait_for(match Meaning::of(e) {
            Meaning::Held => HELD.into(),
            _ => format!("the screen cannot be drawn to: {e}; trying again"),
        });
        Ok(())
    }

    /// Gives the card to whoever is on the console that the user turns to.
    fn leave(&mut self) {
        if let Some(screen) = &mut self.screen {
            // A flip that is under way would outlast us; its buffers stay, so that the screen is not dark in between.
            let _ = screen.settle(&self.card, true);
        }
        if let Err(e) = self.card.release_master_lock() {
            log::debug!("{}: still master: {e}", self.name);
        }
        if self.console.as_mut().is_some_and(Console::release) {
            log::info!("{}: another console is in front; nothing is shown meanwhile", self.name);
        } else {
            self.come_back();
        }
    }

    /// Takes up again what [`Kms::leave`] left.
    fn come_back(&mut self) {
        self.darken();
        self.next_look = Instant::now();
    }

    /// Shows again what was there before, as far as it still is, and gives the console back.
    fn restore(&mut self) {
        if std::mem::replace(&mut self.restored, true) {
            return;
        }
        if !self.is_away() {
            for Before { crtc, connectors } in self.before.drain(..) {
                let shown = crtc.framebuffer().filter(|_| crtc.mode().is_some() && !connectors.is_empty());
                let (mode, connectors) = if shown.is_some() { (crtc.mode(), connectors) } else { (None, Vec::new()) };
                if let Err(e) = self.card.set_crtc(crtc.handle(), shown, crtc.position(), &connectors, mode) {
                    log::debug!("{}: what was shown before cannot be shown again: {e}", self.name);
                }
            }
        }
        // Only now: the kernel would switch off what still shows our buffers.
        self.darken();
        // Our mastership goes before the text returns, which older kernels only draw when nobody has it.
        let _ = self.card.release_master_lock();
        self.console = None;
    }
}

impl Display for Kms {
    fn name(&self) -> &str {
        &self.name
    }

    fn has_keys(&self) -> bool {
        self.console.as_ref().is_some_and(Console::has_keys)
    }

    fn present(&mut self, frame: &Frame) -> Result<()> {
        self.picture.copy_from(frame);
        self.fresh = true;
        self.tend(true)
    }

    fn poll(&mut self) -> Result<Wish> {
        let mut wish = Wish::Continue;
        match self.console.as_mut().map_or(Told::Nothing, Console::poll) {
            Told::Wants(Wish::Quit) => return Ok(Wish::Quit),
            Told::Wants(other) => wish = other,
            Told::Leave => self.leave(),
            Told::Back => self.come_back(),
            Told::Nothing => {}
        }
        self.tend(false)?;
        Ok(wish)
    }

    fn finish(&mut self) -> Result<()> {
        self.restore();
        Ok(())
    }
}

impl Drop for Kms {
    fn drop(&mut self) {
        self.restore();
    }
}
