//! Settings of a camera: what there is, and what has to be set in which order to get what the user asks for.
//!
//! `exposure`, `focus` and `white_balance` each stand for two controls of the driver, one that says whether the camera
//! chooses by itself and one for the value; `power_line` is a menu. Any other control goes by the name that
//! `kinora devices` lists.

use v4l::Device;
use v4l::v4l_sys::{
    V4L2_CID_AUTO_WHITE_BALANCE, V4L2_CID_EXPOSURE, V4L2_CID_EXPOSURE_ABSOLUTE, V4L2_CID_EXPOSURE_AUTO,
    V4L2_CID_FOCUS_ABSOLUTE, V4L2_CID_FOCUS_AUTO, V4L2_CID_POWER_LINE_FREQUENCY, V4L2_CID_WHITE_BALANCE_TEMPERATURE,
    V4L2_CTRL_FLAG_DISABLED, V4L2_CTRL_FLAG_READ_ONLY, v4l2_ctrl_type_V4L2_CTRL_TYPE_BOOLEAN as BOOLEAN,
    v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER as INTEGER, v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER_MENU as INTEGER_MENU,
    v4l2_ctrl_type_V4L2_CTRL_TYPE_MENU as MENU,
};

use super::ioctl::{self, ControlInfo};
use crate::capture::{Control, ControlState};
use crate::{Error, ErrorKind, Result};

/// A control with the items of its menu.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    info: ControlInfo,
    /// The name as it is written on the command line.
    name: String,
    items: Vec<(i64, String)>,
}

/// The name of a control as `v4l2-ctl` writes it: small letters and digits, joined by underscores.
fn plain_name(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

fn offers(device: &Device) -> Vec<Offer> {
    let mut offers = Vec::new();
    let mut after = 0;
    while let Some(info) = ioctl::next_control(device, after) {
        if info.id <= after {
            break;
        }
        after = info.id;
        let usable = info.flags & (V4L2_CTRL_FLAG_DISABLED | V4L2_CTRL_FLAG_READ_ONLY) == 0;
        if !usable || ![INTEGER, BOOLEAN, MENU, INTEGER_MENU].contains(&info.kind) {
            continue;
        }
        // A driver's menu of a thousand items is nonsense.
        let numbers = info.minimum.max(0)..=info.maximum.min(1000);
        let item = |index: i64| Some((index, ioctl::menu_item(device, info.id, u32::try_from(index).ok()?)?));
        let items = if info.kind == MENU { numbers.filter_map(item).collect() } else { Vec::new() };
        offers.push(Offer { name: plain_name(&info.name), items, info });
    }
    offers
}

/// The controls of `device` with their values.
pub(super) fn list(device: &Device) -> Vec<ControlState> {
    let state = |offer: Offer| ControlState {
        value: ioctl::control(device, offer.info.id).ok().map(i64::from),
        minimum: offer.info.minimum,
        maximum: offer.info.maximum,
        default: offer.info.default,
        items: offer.items,
        name: offer.name,
    };
    offers(device).into_iter().map(state).collect()
}

/// Sets what is asked for.
///
/// # Errors
/// `Usage` with what cannot be set and what could be, `SourceLost` when the camera does not answer.
pub(super) fn set(device: &Device, wanted: &[Control]) -> Result<()> {
    let offers = if wanted.is_empty() { Vec::new() } else { offers(device) };
    for control in wanted {
        for (id, value) in plan(control, &offers).map_err(|reason| Error::new(ErrorKind::Usage, reason))? {
            ioctl::set_control(device, id, value).map_err(|e| match e.raw_os_error() {
                Some(libc::EINVAL | libc::ERANGE | libc::EACCES | libc::EBUSY) => {
                    Error::new(ErrorKind::Usage, format_args!("control {control}: the camera refuses it: {e}"))
                }
                _ => super::failed(&format!("control {control}"), &e),
            })?;
        }
    }
    Ok(())
}

/// The driver's controls to set for one that is asked for, in order: first who chooses, then the value.
fn plan(control: &Control, offers: &[Offer]) -> Result<Vec<(u32, i32)>, String> {
    let find = |id: u32| offers.iter().find(|offer| offer.info.id == id);
    let missing = || {
        let names: Vec<_> = offers.iter().map(|offer| offer.name.as_str()).collect();
        format!("control {control}: this camera does not have it; it has {}", names.join(", "))
    };
    let pair = |chooser: u32, by_itself: &[i64], by_hand: &[i64], value: u32| {
        let chooser = find(chooser);
        let switch = |choices: &[i64]| {
            let offer = chooser?;
            let known = |choice: &i64| offer.items.is_empty() || offer.items.iter().any(|(item, _)| item == choice);
            let choice = choices.iter().copied().find(known)?;
            Some((offer.info.id, choice as i32))
        };
        if control.value == "auto" {
            return Ok(vec![switch(by_itself).ok_or_else(missing)?]);
        }
        let offer = find(value).ok_or_else(missing)?;
        let set = (offer.info.id, offer.value(control)?);
        Ok(switch(by_hand).into_iter().chain([set]).collect())
    };
    match control.name.as_str() {
        // 3 is "aperture priority": what webcams that choose the time call it. 1 is by hand, 2 time by hand.
        "exposure" if find(V4L2_CID_EXPOSURE_ABSOLUTE).is_some() || control.value == "auto" => {
            pair(V4L2_CID_EXPOSURE_AUTO, &[3, 0], &[1, 2], V4L2_CID_EXPOSURE_ABSOLUTE)
        }
        "exposure" => pair(V4L2_CID_EXPOSURE_AUTO, &[3, 0], &[1, 2], V4L2_CID_EXPOSURE),
        "focus" => pair(V4L2_CID_FOCUS_AUTO, &[1], &[0], V4L2_CID_FOCUS_ABSOLUTE),
        "white_balance" => pair(V4L2_CID_AUTO_WHITE_BALANCE, &[1], &[0], V4L2_CID_WHITE_BALANCE_TEMPERATURE),
        "power_line" => {
            let offer = find(V4L2_CID_POWER_LINE_FREQUENCY).ok_or_else(missing)?;
            let values = [("off", 0), ("50", 1), ("60", 2), ("auto", 3)];
            let value = values.iter().find(|(name, _)| *name == control.value).map(|(_, value)| *value);
            match value.filter(|value| offer.items.iter().any(|(item, _)| item == value)) {
                Some(value) => Ok(vec![(offer.info.id, value as i32)]),
                None => Err(format!("control {control}: off, 50, 60 or auto is wanted, if the camera has it")),
            }
        }
        name => {
            let offer = offers.iter().find(|offer| offer.name == plain_name(name)).ok_or_else(missing)?;
            Ok(vec![(offer.info.id, offer.value(control)?)])
        }
    }
}

impl Offer {
    /// The number that a value stands for.
    fn value(&self, control: &Control) -> Result<i32, String> {
        let text = control.value.as_str();
        let named = self.items.iter().find(|(_, name)| plain_name(name) == plain_name(text));
        let number = match text {
            "on" | "true" if self.info.kind == BOOLEAN => Some(1),
            "off" | "false" if self.info.kind == BOOLEAN => Some(0),
            _ => text.parse().ok().or(named.map(|(item, _)| *item)),
        };
        let allowed = |number: &i64| match self.items.as_slice() {
            [] => (self.info.minimum..=self.info.maximum).contains(number),
            items => items.iter().any(|(item, _)| item == number),
        };
        let value = number.filter(allowed).and_then(|number| i32::try_from(number).ok());
        value.ok_or_else(|| {
            let choices = match self.items.as_slice() {
                [] => format!("a number from {} to {}", self.info.minimum, self.info.maximum),
                items => {
                    let items: Vec<_> = items.iter().map(|(item, name)| format!("{item} ({name})")).collect();
                    format!("one of {}", items.join(", "))
                }
            };
            format!("control {control}: {choices} is wanted")
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn offer(id: u32, name: &str, kind: u32, range: (i64, i64), items: &[(i64, &str)]) -> Offer {
        let (minimum, maximum) = range;
        let info = ControlInfo { id, name: name.into(), kind, minimum, maximum, default: minimum, flags: 0 };
        let items = items.iter().map(|(item, name)| (*item, (*name).to_string())).collect();
        Offer { name: plain_name(name), info, items }
    }

    /// The controls of a usual webcam.
    fn webcam() -> Vec<Offer> {
        vec![
            offer(9_963_776, "Brightness", INTEGER, (-64, 64), &[]),
            offer(V4L2_CID_AUTO_WHITE_BALANCE, "White Balance, Automatic", BOOLEAN, (0, 1), &[]),
            offer(
                V4L2_CID_POWER_LINE_FREQUENCY,
                "Power Line Frequency",
                MENU,
                (0, 2),
                &[(0, "Disabled"), (1, "50 Hz"), (2, "60 Hz")],
            ),
            offer(V4L2_CID_WHITE_BALANCE_TEMPERATURE, "White Balance Temperature", INTEGER, (2800, 6500), &[]),
            offer(
                V4L2_CID_EXPOSURE_AUTO,
                "Auto Exposure",
                MENU,
                (0, 3),
                &[(1, "Manual Mode"), (3, "Aperture Priority Mode")],
            ),
            offer(V4L2_CID_EXPOSURE_ABSOLUTE, "Exposure Time, Absolute", INTEGER, (3, 2047), &[]),
        ]
    }

    fn planned(text: &str) -> Result<Vec<(u32, i32)>, String> {
        plan(&text.parse().unwrap(), &webcam())
    }

    #[test]
    fn who_chooses_is_set_before_the_value() {
        assert_eq!(planned("exposure=auto").unwrap(), [(V4L2_CID_EXPOSURE_AUTO, 3)]);
        assert_eq!(planned("exposure=150").unwrap(), [(V4L2_CID_EXPOSURE_AUTO, 1), (V4L2_CID_EXPOSURE_ABSOLUTE, 150)]);
        assert_eq!(
            planned("white_balance=4000").unwrap(),
            [(V4L2_CID_AUTO_WHITE_BALANCE, 0), (V4L2_CID_WHITE_BALANCE_TEMPERATURE, 4000)]
        );
        assert_eq!(planned("power_line=50").unwrap(), [(V4L2_CID_POWER_LINE_FREQUENCY, 1)]);
    }

    #[test]
    fn any_control_goes_by_its_name() {
        assert_eq!(planned("brightness=-10").unwrap(), [(9_963_776, -10)]);
        assert_eq!(planned("white_balance_automatic=off").unwrap(), [(V4L2_CID_AUTO_WHITE_BALANCE, 0)]);
        assert_eq!(planned("auto_exposure=manual_mode").unwrap(), [(V4L2_CID_EXPOSURE_AUTO, 1)]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        for (text, fragment) in [
            ("focus=auto", "does not have it; it has brightness, white_balance_automatic"),
            ("focus=3", "does not have it"),
            ("zoom=3", "does not have it"),
            ("exposure=0", "a number from 3 to 2047 is wanted"),
            ("exposure=bright", "a number from 3 to 2047"),
            ("auto_exposure=2", "one of 1 (Manual Mode), 3 (Aperture Priority Mode)"),
            ("power_line=auto", "off, 50, 60 or auto"),
            ("brightness=99999999999", "from -64 to 64"),
        ] {
            let reason = planned(text).unwrap_err();
            assert!(reason.starts_with(&format!("control {text}: ")) && reason.contains(fragment), "{reason}");
        }
    }

    #[test]
    fn a_camera_without_the_choice_only_takes_the_value() {
        let offers = [offer(V4L2_CID_EXPOSURE, "Exposure", INTEGER, (0, 255), &[])];
        let plan = |text: &str| plan(&text.parse().unwrap(), &offers);
        assert_eq!(plan("exposure=7").unwrap(), [(V4L2_CID_EXPOSURE, 7)]);
        assert!(plan("exposure=auto").is_err());
    }
}
