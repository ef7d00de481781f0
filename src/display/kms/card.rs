//! A graphics card and what is plugged into it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use drm::control::{Device as _, Mode, ModeFlags, ModeTypeFlags, connector, crtc};
use drm::{Device as _, DriverCapability};

use super::choice::{self, Candidate, OfferedMode, State, Wanted};
use crate::display::{Card as Listed, Connector as ListedConnector};
use crate::{Error, ErrorKind, Result};

/// Ends the errors that another display helps against.
pub const INSTEAD: &str = "use --display window, video:out.mp4, png:DIR or none";

/// Where the kernel puts the cards.
const FOLDER: &str = "/dev/dri";

pub fn error(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Display, what)
}

/// An open card that can set modes and has dumb buffers.
#[derive(Debug)]
pub struct Card {
    path: PathBuf,
    file: File,
}

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl drm::Device for Card {}
impl drm::control::Device for Card {}

/// A connector with what can be told of it now.
#[derive(Debug)]
pub struct Connector {
    pub name: String,
    pub info: connector::Info,
    /// The CRTC that feeds it now, if any.
    pub crtc: Option<crtc::Handle>,
}

impl Connector {
    pub fn modes(&self) -> Vec<OfferedMode> {
        self.info.modes().iter().map(offered).collect()
    }

    pub fn state(&self) -> State {
        match self.info.state() {
            connector::State::Connected => State::Connected,
            connector::State::Disconnected => State::Disconnected,
            connector::State::Unknown => State::Unknown,
        }
    }

    fn candidate(&self) -> Candidate<'_> {
        let has_modes = !self.info.modes().is_empty();
        Candidate { name: &self.name, state: self.state(), has_modes, lit: self.crtc.is_some() }
    }
}

fn offered(mode: &Mode) -> OfferedMode {
    OfferedMode {
        size: mode.size(),
        rate: mode.vrefresh(),
        preferred: mode.mode_type().contains(ModeTypeFlags::PREFERRED),
        interlaced: mode.flags().contains(ModeFlags::INTERLACE),
    }
}

/// The connector to show pictures on; `None` while none that is wanted has a screen.
pub fn connector(connectors: &[Connector], wanted: Option<&str>) -> Option<usize> {
    let candidates: Vec<Candidate<'_>> = connectors.iter().map(Connector::candidate).collect();
    choice::connector(&candidates, wanted)
}

impl Card {
    /// Opens the card at `path`. Where nobody else is its master, the kernel makes us that.
    ///
    /// # Errors
    /// `Display` when it cannot be opened, is no card, or lacks what is needed.
    pub fn open(path: &Path) -> Result<Self> {
        let card = path.display();
        // Without blocking, so that reading events never waits.
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = file.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => error(format_args!("kms: there is no card {card}; {}", others())),
            io::ErrorKind::PermissionDenied => error(format_args!(
                "kms: no permission to open {card}; join its group, `video` as a rule (usermod -aG video USER), and log in \
                 again"
            )),
            _ => error(format_args!("kms: cannot open {card}: {e}; {INSTEAD}")),
        })?;
        let opened = Self { path: path.to_owned(), file };
        let driver = opened.driver();
        let driver = driver.map_err(|e| error(format_args!("kms: {card} is no graphics card ({e}); {}", others())))?;
        let resources = opened.resource_handles();
        if !resources.as_ref().is_ok_and(|found| !found.crtcs().is_empty() && !found.connectors().is_empty()) {
            return Err(error(format_args!(
                "kms: {card} (driver {driver}) has no outputs to set modes on; name another card, or load its driver \
                 with mode setting (nvidia-drm: modeset=1)"
            )));
        }
        if opened.get_driver_capability(DriverCapability::DumbBuffer).unwrap_or(0) == 0 {
            return Err(error(format_args!("kms: {card} (driver {driver}) has no dumb buffers; {INSTEAD}")));
        }
        Ok(opened)
    }

    /// Opens the card that `wanted` names, else the first one with a screen that nobody else holds, else the first with
    /// a screen, else the first.
    ///
    /// # Errors
    /// `Display` when there is none or none can be used.
    pub fn choose(wanted: &Wanted) -> Result<Self> {
        if let Some(path) = &wanted.card {
            return Self::open(Path::new(path));
        }
        let mut first_error = None;
        let mut best: Option<(u8, Self)> = None;
        for path in paths() {
            let opened = match Self::open(&path) {
                Ok(opened) => opened,
                Err(e) => {
                    first_error.get_or_insert(e);
                    continue;
                }
            };
            let connectors = opened.connectors(true).unwrap_or_default();
            let name = wanted.connector.as_deref();
            let rank = match connector(&connectors, name) {
                Some(_) if opened.is_master() => 0,
                Some(_) => 1,
                None if name.is_none_or(|name| connectors.iter().any(|c| c.name == name)) => 2,
                None => 3,
            };
            if best.as_ref().is_none_or(|(so_far, _)| rank < *so_far) {
                best = Some((rank, opened));
            }
        }
        let missing = || {
            error(format_args!(
                "kms: there is no card in {FOLDER}: the kernel has no driver for the graphics hardware; {INSTEAD}"
            ))
        };
        best.map(|(_, card)| card).ok_or_else(|| first_error.unwrap_or_else(missing))
    }

    pub fn path(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    fn driver(&self) -> io::Result<String> {
        Ok(self.get_driver()?.name().to_string_lossy().into_owned())
    }

    /// Whether we may set modes. The kernel lets only its master mark a client as authenticated, even itself, so this
    /// asks without changing anything; asking to become master would need root on kernels before 5.8.
    #[allow(deprecated)]
    pub fn is_master(&self) -> bool {
        self.generate_auth_token().and_then(|token| self.authenticate_auth_token(token)).is_ok()
    }

    /// Its connectors. With `probe`, and as master, the kernel looks at each plug and reads the screen's modes, which
    /// may take tens of milliseconds and make a picture flicker; else it says what it knows.
    ///
    /// # Errors
    /// As the system says; a connector that went away meanwhile is left out.
    pub fn connectors(&self, probe: bool) -> io::Result<Vec<Connector>> {
        let mut found = Vec::new();
        for handle in self.resource_handles()?.connectors() {
            match self.get_connector(*handle, probe) {
                Ok(info) => {
                    let encoder = info.current_encoder().and_then(|encoder| self.get_encoder(encoder).ok());
                    found.push(Connector { name: info.to_string(), info, crtc: encoder.and_then(|e| e.crtc()) });
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    /// The CRTC to feed `connector` from: the one that does so already, else one that feeds nothing, else the first
    /// that can.
    ///
    /// # Errors
    /// As the system says; `NotFound` when none can.
    pub fn crtc_for(&self, connector: &Connector, all: &[Connector]) -> io::Result<crtc::Handle> {
        let resources = self.resource_handles()?;
        let mut possible = Vec::new();
        for encoder in connector.info.encoders() {
            possible.extend(resources.filter_crtcs(self.get_encoder(*encoder)?.possible_crtcs()));
        }
        let busy = |crtc: &crtc::Handle| all.iter().any(|c| c.name != connector.name && c.crtc == Some(*crtc));
        let best = possible.into_iter().min_by_key(|crtc| (connector.crtc != Some(*crtc), busy(crtc)));
        best.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no CRTC can feed it"))
    }
}

/// The cards of this machine, in the order of their numbers.
fn paths() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("card")?.parse::<u32>().ok();
    let mut cards: Vec<_> = entries.map(|e| e.path()).filter_map(|path| Some((number(&path)?, path))).collect();
    cards.sort();
    cards.into_iter().map(|(_, path)| path).collect()
}

/// What to do when a card that was named is none.
fn others() -> String {
    let cards: Vec<_> = paths().iter().map(|path| path.display().to_string()).collect();
    match cards.is_empty() {
        true => format!("this machine has none; {INSTEAD}"),
        false => format!("this machine has {}", cards.join(", ")),
    }
}

/// All cards, for a list of what there is. A card that cannot be used is listed with the reason.
pub fn devices() -> Vec<Listed> {
    let list = |path: PathBuf| {
        let listed = Listed { path: path.clone(), driver: String::new(), connectors: Vec::new(), problem: None };
        let card = match Card::open(&path) {
            Ok(card) => card,
            Err(e) => return Listed { problem: Some(e.to_string()), ..listed },
        };
        // Probing, which the kernel only does where nobody else shows pictures.
        let connectors = card.connectors(true);
        let driver = card.driver().unwrap_or_default();
        let problem = match &connectors {
            Ok(_) if card.is_master() => None,
            Ok(_) => Some(held(&card).to_string()),
            Err(e) => Some(format!("kms: {}: {e}", card.path())),
        };
        let connectors = connectors.unwrap_or_default().iter().map(listed_connector).collect();
        Listed { driver, connectors, problem, ..listed }
    };
    paths().into_iter().map(list).collect()
}

fn listed_connector(connector: &Connector) -> ListedConnector {
    let modes = connector.modes();
    ListedConnector {
        name: connector.name.clone(),
        connected: connector.state() == State::Connected,
        preferred: choice::mode(&modes, None).map(|index| modes[index].to_string()),
        modes: choice::names(&modes),
    }
}

/// Whether pictures can be shown here and now: a card with a screen that nobody else holds. It disturbs nobody, because
/// the kernel makes no second master.
pub fn is_available() -> bool {
    let free = |path: PathBuf| {
        let card = Card::open(&path).ok()?;
        let connectors = card.connectors(true).ok()?;
        connector(&connectors, None).filter(|_| card.is_master())
    };
    paths().into_iter().any(|path| free(path).is_some())
}

/// The error for a card whose master is somebody else.
pub fn held(card: &Card) -> Error {
    error(format_args!(
        "kms: {} is held by a desktop or another program; use --display window on the desktop, or stop what holds it",
        card.path()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_card_is_a_display_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for path in [Path::new("/dev/null"), &folder.path().join("none"), &file, folder.path()] {
            let error = Card::open(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Display, "{error}");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }
}
