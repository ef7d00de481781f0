//! What is shown where: the URI, and the choice of connector and mode. No device is touched here.

use std::fmt;

use crate::{Error, ErrorKind, Result};

/// What a URI asks for; what is `None` is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub card: Option<String>,
    pub connector: Option<String>,
    pub mode: Option<WantedMode>,
}

/// A mode as a user names it: `1280x720` or `1280x720@60`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedMode {
    pub size: (u16, u16),
    pub rate: Option<u32>,
}

/// A mode as a screen offers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferedMode {
    pub size: (u16, u16),
    pub rate: u32,
    pub preferred: bool,
    pub interlaced: bool,
}

impl fmt::Display for WantedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.size.0, self.size.1)?;
        self.rate.map_or(Ok(()), |rate| write!(f, "@{rate}"))
    }
}

impl fmt::Display for OfferedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}@{}", self.size.0, self.size.1, self.rate)
    }
}

impl Wanted {
    /// Reads what follows `kms:` in a URI: `/dev/dri/card0?connector=HDMI-A-1&mode=1280x720@60`, each part optional.
    ///
    /// # Errors
    /// `Usage` when it cannot be understood.
    pub fn read(rest: &str) -> Result<Self> {
        let usage = |what: fmt::Arguments<'_>| Error::new(ErrorKind::Usage, format_args!("kms:{rest}: {what}"));
        let (card, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !card.is_empty() && !card.starts_with('/') {
            return Err(usage(format_args!("a card is a path, such as /dev/dri/card0")));
        }
        let mut wanted = Self { card: Some(card.to_owned()).filter(|card| !card.is_empty()), ..Self::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let twice = match pair.split_once('=').unwrap_or((pair, "")) {
                ("connector", name) if !name.is_empty() => wanted.connector.replace(name.to_owned()).is_some(),
                ("mode", mode) => {
                    let read = WantedMode::read(mode).ok_or_else(|| {
                        usage(format_args!("a mode is WIDTHxHEIGHT or WIDTHxHEIGHT@RATE, not {mode:?}"))
                    })?;
                    wanted.mode.replace(read).is_some()
                }
                _ => return Err(usage(format_args!("{pair:?}: the options are connector=NAME and mode=WxH@RATE"))),
            };
            if twice {
                return Err(usage(format_args!("{pair:?}: that option is given twice")));
            }
        }
        Ok(wanted)
    }
}

impl WantedMode {
    fn read(text: &str) -> Option<Self> {
        let (size, rate) = text.split_once('@').map_or((text, None), |(size, rate)| (size, Some(rate)));
        let (width, height) = size.split_once('x')?;
        let positive = |text: &str| text.parse::<u16>().ok().filter(|n| *n > 0);
        let rate = match rate {
            Some(rate) => Some(u32::from(positive(rate)?)),
            None => None,
        };
        Some(Self { size: (positive(width)?, positive(height)?), rate })
    }
}

/// The mode to set, as an index into `offered`: the one that is wanted, else the screen's preferred one, else its first
/// (the kernel puts the best one first). Of several that fit, the preferred one, then one that is not interlaced.
pub fn mode(offered: &[OfferedMode], wanted: Option<WantedMode>) -> Option<usize> {
    let fits =
        |mode: &OfferedMode| wanted.is_none_or(|w| w.size == mode.size && w.rate.is_none_or(|rate| rate == mode.rate));
    let found = offered.iter().enumerate().filter(|(_, mode)| fits(mode));
    found.min_by_key(|(_, mode)| (!mode.preferred, mode.interlaced)).map(|(index, _)| index)
}

/// The names of the modes, each once: rates are rounded, so that two modes may have one name.
pub fn names(offered: &[OfferedMode]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in offered.iter().map(OfferedMode::to_string) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What can be known of a connector without looking at its modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    pub name: &'a str,
    pub state: State,
    pub has_modes: bool,
    /// Whether it is lit already, by the text console or by the boot loader.
    pub lit: bool,
}

/// Whether a screen is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Connected,
    Disconnected,
    /// The hardware cannot tell, as with some analogue outputs and panels.
    Unknown,
}

/// The connector to show pictures on, as an index: the one that is wanted, else one that is lit, else the first. One
/// that may or may not have a screen is only taken when no other has one for sure.
pub fn connector(candidates: &[Candidate<'_>], wanted: Option<&str>) -> Option<usize> {
    let usable = |c: &Candidate<'_>| c.state != State::Disconnected && c.has_modes;
    let named = |c: &Candidate<'_>| wanted.is_none_or(|name| name == c.name);
    let found = candidates.iter().enumerate().filter(|(_, c)| usable(c) && named(c));
    found.min_by_key(|(_, c)| (c.state != State::Connected, !c.lit)).map(|(index, _)| index)
}

/// Copies `picture`, rows of `width` pixels `0x00RRGGBB`, into a buffer of XRGB8888 whose rows begin `pitch` bytes
/// apart: each row from left to right and nothing read, because the buffer may be write-combined memory. What does not
/// fit is left out.
pub fn copy_rows(picture: &[u32], width: usize, target: &mut [u8], pitch: usize) {
    if width == 0 || pitch == 0 {
        return;
    }
    for (row, pixels) in target.chunks_mut(pitch).zip(picture.chunks_exact(width)) {
        for (bytes, pixel) in row.as_chunks_mut::<4>().0.iter_mut().zip(pixels) {
            *bytes = pixel.to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const fn offered(size: (u16, u16), rate: u32, preferred: bool, interlaced: bool) -> OfferedMode {
        OfferedMode { size, rate, preferred, interlaced }
    }

    const SCREEN: [OfferedMode; 5] = [
        offered((1920, 1080), 60, false, true),
        offered((1920, 1080), 50, false, false),
        offered((1280, 720), 60, true, false),
        offered((1280, 720), 50, false, false),
        offered((640, 480), 60, false, false),
    ];

    #[test]
    fn every_part_of_a_uri_may_be_left_out() {
        let size = (1280, 720);
        for rest in ["", "?", "?&"] {
            assert_eq!(Wanted::read(rest).unwrap(), Wanted::default(), "{rest:?}");
        }
        let all = Wanted {
            card: Some("/dev/dri/card0".into()),
            connector: Some("HDMI-A-1".into()),
            mode: Some(WantedMode { size, rate: Some(60) }),
        };
        assert_eq!(Wanted::read("/dev/dri/card0?mode=1280x720@60&connector=HDMI-A-1").unwrap(), all);
        assert_eq!(Wanted::read("?mode=1280x720").unwrap().mode, Some(WantedMode { size, rate: None }));
        assert_eq!(Wanted::read("/dev/dri/card1").unwrap().card.unwrap(), "/dev/dri/card1");
    }

    #[test]
    fn what_is_no_card_mode_or_option_is_refused() {
        let wrong =
            ["out.mp4", "card0", "?mode", "?mode=", "?mode=720p", "?mode=0x720", "?mode=1280x720@", "?mode=1x1@0"];
        let more = [
            "?mode=1280x720@59.94",
            "?mode=70000x1",
            "?mode=-1x1",
            "?connector=",
            "?connector",
            "?size=1x1",
            "?mode=1x1&mode=1x1",
        ];
        for rest in wrong.into_iter().chain(more) {
            let error = Wanted::read(rest).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{rest:?}: {error}");
            assert!(error.to_string().starts_with(&format!("kms:{rest}: ")), "{error}");
        }
    }

    #[test]
    fn the_preferred_mode_is_taken_unless_another_is_asked_for() {
        let wanted = |text| Some(WantedMode::read(text).unwrap());
        assert_eq!(mode(&SCREEN, None), Some(2));
        assert_eq!(mode(&SCREEN[..2], None), Some(1), "rather not interlaced");
        assert_eq!(mode(&SCREEN[..1], None), Some(0));
        assert_eq!(mode(&SCREEN, wanted("1920x1080")), Some(1));
        assert_eq!(mode(&SCREEN, wanted("1920x1080@60")), Some(0));
        assert_eq!(mode(&SCREEN, wanted("1280x720")), Some(2));
        assert_eq!(mode(&SCREEN, wanted("1280x720@50")), Some(3));
        assert_eq!(mode(&SCREEN, wanted("1280x720@75")), None);
        assert_eq!(mode(&SCREEN, wanted("800x600")), None);
        assert_eq!(mode(&[], None), None);
    }

    #[test]
    fn modes_are_listed_once_each() {
        let twice = [SCREEN[4], SCREEN[4], SCREEN[3]];
        assert_eq!(names(&twice), ["640x480@60", "1280x720@50"]);
        assert_eq!(WantedMode { size: (1, 2), rate: None }.to_string(), "1x2");
    }

    #[test]
    fn a_connector_with_a_screen_goes_before_one_that_cannot_tell() {
        let candidate = |name, state, has_modes, lit| Candidate { name, state, has_modes, lit };
        let all = [
            candidate("DP-1", State::Disconnected, false, false),
            candidate("VGA-1", State::Unknown, true, true),
            candidate("HDMI-A-1", State::Connected, true, false),
            candidate("HDMI-A-2", State::Connected, true, true),
            candidate("eDP-1", State::Connected, false, true),
        ];
        assert_eq!(connector(&all, None), Some(3), "the one that is lit");
        assert_eq!(connector(&all[..3], None), Some(2));
        assert_eq!(connector(&all[..2], None), Some(1));
        assert_eq!(connector(&all[..1], None), None);
        assert_eq!(connector(&all, Some("VGA-1")), Some(1));
        assert_eq!(connector(&all, Some("HDMI-A-1")), Some(2));
        assert_eq!(connector(&all, Some("DP-1")), None, "no screen there");
        assert_eq!(connector(&all, Some("eDP-1")), None, "a screen without a mode");
        assert_eq!(connector(&all, Some("HDMI-A")), None);
    }

    #[test]
    fn rows_go_where_the_pitch_says() {
        let picture = [0x01_02_03, 0x04_05_06, 0x07_08_09, 0x0a_0b_0c];
        let mut target = [0xee; 24];
        copy_rows(&picture, 2, &mut target, 12);
        assert_eq!(target[..8], [3, 2, 1, 0, 6, 5, 4, 0]);
        assert_eq!(target[8..12], [0xee; 4], "the rest of a row is left alone");
        assert_eq!(target[12..20], [9, 8, 7, 0, 12, 11, 10, 0]);
    }

    #[test]
    fn a_buffer_that_is_too_small_or_has_no_pitch_does_no_harm() {
        let picture = [0xff_ff_ff; 4];
        let mut target = [0; 7];
        copy_rows(&picture, 2, &mut target, 4);
        assert_eq!(target, [255, 255, 255, 0, 0, 0, 0], "one pixel a row, the last row incomplete");
        copy_rows(&picture, 2, &mut target, 0);
        copy_rows(&picture, 0, &mut target, 4);
        copy_rows(&picture, 2, &mut [], 8);
    }
}
