//! The kernel's word that something was plugged in or out. Some drivers (nvidia-drm, amdgpu) do no more than send it:
//! what the kernel knows of a connector stays as it was until somebody has it probed.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The multicast group of the kernel's own messages; the other one is udev's.
const KERNEL: u32 = 1;

/// Listens for plugs. Without the right to (some containers), nothing is heard.
pub struct Plugs(Option<OwnedFd>);

impl Plugs {
    pub fn listen() -> Self {
        match socket() {
            Ok(socket) => Self(Some(socket)),
            Err(e) => {
                log::debug!("kms: the kernel's messages about plugs cannot be heard: {e}");
                Self(None)
            }
        }
    }

    /// Whether something was plugged in or out since the last call. Never blocks.
    pub fn changed(&self) -> bool {
        let Some(socket) = &self.0 else { return false };
        let mut message = [0; 4096];
        let mut changed = false;
        loop {
            match receive(socket, &mut message) {
                Ok(length) => changed |= is_plug(&message[..length]),
                Err(e) => match e.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // Messages were lost; one of them may have been it.
                    Some(libc::ENOBUFS) => changed = true,
                    _ => return changed,
                },
            }
        }
    }
}

/// Whether a message, lines that end with a zero byte, is about a plug of a graphics card.
fn is_plug(message: &[u8]) -> bool {
    let has = |wanted: &[u8]| message.split(|byte| *byte == 0).any(|line| line == wanted);
    has(b"SUBSYSTEM=drm") && has(b"HOTPLUG=1")
}

#[allow(unsafe_code)]
fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers; the descriptor is new and nobody else's.
    let socket = unsafe {
        let socket = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(socket)
    };
    // SAFETY: `sockaddr_nl` is plain numbers, for which zero is valid, and is passed with its size.
    let bound = unsafe {
        let mut address: libc::sockaddr_nl = std::mem::zeroed();
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = KERNEL;
        let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length)
    };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

#[allow(unsafe_code)]
fn receive(socket: &OwnedFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the call writes at most as many bytes as are there.
    let length = unsafe { libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), 0) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plugs_of_graphics_cards_count() {
        let plug = b"change@/devices/card0\0ACTION=change\0SUBSYSTEM=drm\0HOTPLUG=1\0DEVNAME=dri/card0\0";
        assert!(is_plug(plug));
        assert!(!is_plug(b"change@/devices/card0\0SUBSYSTEM=drm\0LEASE=1\0"));
        assert!(!is_plug(b"add@/devices/usb1\0SUBSYSTEM=usb\0HOTPLUG=1\0"));
        assert!(!is_plug(b"SUBSYSTEM=drm HOTPLUG=1"));
        assert!(!is_plug(b""));
    }

    #[test]
    fn nothing_is_heard_where_nothing_happens_and_nobody_waits() {
        assert!(!Plugs(None).changed());
        let _ = Plugs::listen().changed();
    }
}
