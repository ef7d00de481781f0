//! Cameras as the system lists them: which nodes are cameras, which one is meant, and which one it was.

use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use v4l::Device;
use v4l::v4l_sys::{V4L2_CAP_STREAMING, V4L2_CAP_VIDEO_CAPTURE, V4L2_CAP_VIDEO_CAPTURE_MPLANE, V4L2_CAP_VIDEO_M2M};

use super::{failed, ioctl, offers, words};
use crate::capture::CameraInfo;
use crate::capture::modes;
use crate::capture::pixels::Coding;
use crate::capture::uri::CameraName;
use crate::{Error, ErrorKind, Result};
use ioctl::Capability;

/// A node that only a media controller makes sense of. Of Linux 5.9: the headers of JetPack 5 and Ubuntu 20.04 lack it.
const V4L2_CAP_IO_MC: u32 = 0x2000_0000;

/// A node that pictures can be captured from.
pub(super) struct Node {
    pub(super) path: PathBuf,
    pub(super) device: Device,
    pub(super) capability: Capability,
}

/// What a node is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// A camera of USB that delivers colours.
    UsbColour,
    /// Another one that does.
    Colour,
    /// One of brightness only: an infrared camera, often beside one of colours.
    Grey,
    /// None: a format that we do not know, a part of an image processor, a codec, an output.
    None,
}

impl Node {
    /// Opens `path`.
    fn open(path: &Path) -> io::Result<Self> {
        let device = Device::with_path(path)?;
        close_on_exec(device.handle().fd());
        let capability = ioctl::capability(&device)?;
        Ok(Self { path: path.to_path_buf(), device, capability })
    }

    fn can(&self, wanted: u32) -> bool {
        self.capability.capabilities & wanted == wanted
    }

    /// Whether it gives pictures to us, without taking some: a codec does both.
    fn captures(&self) -> bool {
        self.can(V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING) && !self.can(V4L2_CAP_VIDEO_M2M)
    }

    fn good_for(&self) -> Use {
        // Parts of image processors deliver nothing before others are set up.
        if !self.captures() || self.can(V4L2_CAP_IO_MC) || self.capability.driver == "bcm2835-isp" {
            return Use::None;
        }
        let known: Vec<_> = ioctl::formats(&self.device).into_iter().filter_map(Coding::of_fourcc).collect();
        let colour = known.iter().any(|coding| *coding != Coding::Grey);
        match (colour, known.is_empty()) {
            (true, _) if self.capability.bus.starts_with("usb") => Use::UsbColour,
            (true, _) => Use::Colour,
            (false, false) => Use::Grey,
            (false, true) => Use::None,
        }
    }
}

/// So that no program that we start holds the camera when we have let it go.
#[allow(unsafe_code)]
fn close_on_exec(fd: RawFd) {
    // SAFETY: F_SETFD takes an int and touches no memory; the caller holds `fd` open.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// The number in the name of a node; nodes are looked at in that order.
fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix("video")?.parse().ok()
}

/// All nodes `/dev/videoN`, opened, or why they cannot be.
fn all() -> Vec<(PathBuf, io::Result<Node>)> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<_> = entries.filter(|path| number(path).is_some()).collect();
    paths.sort_by_key(|path| number(path));
    paths.into_iter().map(|path| (path.clone(), Node::open(&path))).collect()
}

/// A camera as the system tells it from others without opening it: what it is called, the device that it is part of,
/// which is the plug that it is in, and which of that device's nodes it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    name: String,
    device: PathBuf,
    index: u32,
}

impl Place {
    /// That of `/dev/videoN`.
    fn of(number: u32) -> Option<Self> {
        let folder = PathBuf::from(format!("/sys/class/video4linux/video{number}"));
        let name = std::fs::read_to_string(folder.join("name")).ok()?.trim().to_string();
        let device = std::fs::canonicalize(folder.join("device")).unwrap_or_default();
        let index = std::fs::read_to_string(folder.join("index")).ok().and_then(|text| text.trim().parse().ok());
        Some(Self { name, device, index: index.unwrap_or_default() })
    }
}

/// The nodes that there are, by number.
fn places() -> Vec<(u32, Place)> {
    let entries = std::fs::read_dir("/sys/class/video4linux").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| number(Path::new(&entry.file_name())));
    let mut places: Vec<_> = numbers.filter_map(|number| Some((number, Place::of(number)?))).collect();
    places.sort_by_key(|(number, _)| *number);
    places
}

/// Which camera it is, to find it again when it comes back under another number, or in another plug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::capture) struct Identity {
    number: u32,
    place: Place,
    /// Others of the same name that were there, too: they are not it.
    twins: Vec<Place>,
}

impl Identity {
    /// That of an open node, if the system tells.
    fn of(path: &Path) -> Option<Self> {
        let number = number(&std::fs::canonicalize(path).ok()?)?;
        let place = Place::of(number)?;
        let twins = places().into_iter().filter(|(other, twin)| *other != number && twin.name == place.name);
        Some(Self { number, twins: twins.map(|(_, twin)| twin).collect(), place })
    }

    /// Its number now: that of the same plug, else that of the same camera in a plug that was empty.
    fn find(&self, there: &[(u32, Place)]) -> Option<u32> {
        let same = there.iter().find(|(_, place)| *place == self.place);
        let moved = || {
            there.iter().find(|(_, place)| {
                (&place.name, place.index) == (&self.place.name, self.place.index) && !self.twins.contains(place)
            })
        };
        same.or_else(moved).map(|(number, _)| *number)
    }
}

/// Opens the camera that `name` says, or the one that it was `before` and no other.
pub(super) fn find(name: &CameraName, before: Option<&Identity>) -> Result<(Node, Option<Identity>)> {
    if let Some(before) = before {
        let gone = || Error::new(ErrorKind::SourceLost, format_args!("{name}: the camera is gone (unplugged?)"));
        let number = before.find(&places()).ok_or_else(gone)?;
        let path = PathBuf::from(format!("/dev/video{number}"));
        let node = Node::open(&path).map_err(|e| failed(&path.display().to_string(), &e))?;
        if number != before.number {
            log::info!("{}: is /dev/video{} now", path.display(), before.number);
        }
        return Ok((node, Some(Identity { number, ..before.clone() })));
    }
    let node = match name {
        CameraName::Path(path) => open_path(name, path)?,
        CameraName::First => best(|_| true).ok_or_else(|| not_there(name))?,
        CameraName::Card(part) => {
            let part = part.to_lowercase();
            let wanted = |node: &Node| node.capability.card.to_lowercase().contains(&part);
            best(wanted).ok_or_else(|| not_there(name))?
        }
    };
    let identity = Identity::of(&node.path);
    Ok((node, identity))
}

/// The node of the best use among those that are `wanted`, the first of several.
fn best(wanted: impl Fn(&Node) -> bool) -> Option<Node> {
    let nodes = all().into_iter().filter_map(|(_, node)| node.ok()).filter(|node| wanted(node));
    nodes
        .map(|node| (node.good_for(), node))
        .filter(|(good, _)| *good != Use::None)
        .min_by_key(|(good, _)| *good)
        .map(|(_, node)| node)
}

fn open_path(name: &CameraName, path: &Path) -> Result<Node> {
    let node = Node::open(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => not_there(name),
        _ => failed(&path.display().to_string(), &e),
    })?;
    if node.captures() {
        return Ok(node);
    }
    let path = path.display();
    let why = if node.can(V4L2_CAP_VIDEO_CAPTURE_MPLANE) {
        format!("{path}: delivers pictures in several planes, which v4l: cannot read: use gst:v4l2src device={path}")
    } else {
        format!("{path}: is no camera: it does not capture pictures")
    };
    Err(Error::new(ErrorKind::Source, why))
}

fn not_there(name: &CameraName) -> Error {
    let listed = all().into_iter().filter_map(|(path, node)| match node {
        Ok(node) if node.captures() => Some(format!("{} ({})", path.display(), node.capability.card)),
        Ok(_) => None,
        Err(e) => Some(format!("{} (cannot be opened: {})", path.display(), words(&e))),
    });
    let listed: Vec<_> = listed.collect();
    let there = if listed.is_empty() { "there is none".into() } else { format!("there are {}", listed.join(", ")) };
    Error::new(ErrorKind::Source, format_args!("{name}: no such camera; {there}"))
}

/// Whether there is a camera to take where none is named; nodes that cannot be opened are told.
pub(in crate::capture) fn any_camera() -> bool {
    let nodes = all();
    for (path, node) in &nodes {
        if let Err(e) = node {
            log::warn!("{}: {}", path.display(), words(e));
        }
    }
    nodes.iter().any(|(_, node)| node.as_ref().is_ok_and(|node| node.good_for() != Use::None))
}

/// The cameras of this machine, and nodes that cannot be opened.
pub(in crate::capture) fn cameras() -> Vec<CameraInfo> {
    let describe = |(path, node): (PathBuf, io::Result<Node>)| match node {
        Err(e) => Some(CameraInfo { path, problem: Some(words(&e)), ..CameraInfo::default() }),
        Ok(node) if !node.captures() => None,
        Ok(Node { device, capability: Capability { card, bus, driver, .. }, .. }) => {
            let modes = offers::offered(&device, modes::SIZE).iter().map(offers::describe).collect();
            let controls = super::controls::list(&device);
            Some(CameraInfo { path, name: card, bus, driver, modes, controls, problem: None })
        }
    };
    all().into_iter().filter_map(describe).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nodes_are_told_from_other_files_and_ordered_by_number() {
        assert_eq!(number(Path::new("/dev/video10")), Some(10));
        for other in ["/dev/video", "/dev/videox", "/dev/v4l-subdev0", "/dev/vbi0", "/dev/video-1"] {
            assert_eq!(number(Path::new(other)), None, "{other}");
        }
    }

    fn place(name: &str, device: &str, index: u32) -> Place {
        Place { name: name.into(), device: device.into(), index }
    }

    #[test]
    fn a_camera_is_found_again_and_no_other_is_taken_for_it() {
        let (left, right) = (place("C920", "usb1/1-1", 0), place("C920", "usb1/1-2", 0));
        let (meta, laptop) = (place("C920", "usb1/1-1", 1), place("Integrated", "usb1/1-7", 0));
        let identity = |twins: &[&Place]| Identity {
            number: 2,
            place: left.clone(),
            twins: twins.iter().map(|twin| (*twin).clone()).collect(),
        };
        let alone = identity(&[&meta]);
        assert_eq!(alone.find(&[(0, laptop.clone()), (2, left.clone()), (3, meta.clone())]), Some(2));
        assert_eq!(alone.find(&[(4, left.clone()), (5, meta.clone())]), Some(4), "another number");
        assert_eq!(alone.find(&[(0, laptop.clone()), (2, right.clone())]), Some(2), "another plug");
        assert_eq!(alone.find(&[(2, laptop.clone())]), None, "another camera");
        assert_eq!(alone.find(&[(2, meta.clone())]), None, "another node of it");
        let two = identity(&[&right]);
        assert_eq!(two.find(&[(0, right.clone())]), None, "its twin");
        assert_eq!(two.find(&[(0, right), (1, left.clone())]), Some(1));
        assert_eq!(two.find(&[]), None);
    }
}
