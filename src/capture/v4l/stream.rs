//! Pictures of a device through buffers that driver and program share (mmap). Waits for a moment at a time and takes
//! the newest picture: what waits behind it would only be older.
//!
//! Our own loop, because the one of crate `v4l` 0.14 queues a buffer that the kernel still owns after a timeout, hides
//! how much of a buffer is used behind its length, and panics when it is dropped after an error.

#![allow(unsafe_code)]

use std::io;
use std::time::Duration;

use v4l::Device;

use super::ioctl::{self, Filled};

/// Buffers to ask for: one being read, two to be filled, and one for the moment between.
const BUFFERS: u32 = 4;

/// What a wait brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    /// A picture, or the error that the device went away with.
    Picture,
    /// The signal has another format now.
    Changed,
    /// Nothing in time.
    Nothing,
}

/// A running stream. Dropping it stops it and gives the buffers back.
pub(super) struct Stream {
    device: Device,
    buffers: Vec<Mapping>,
}

impl Stream {
    /// Starts the stream of `device`, whose format is set.
    pub(super) fn start(device: Device) -> io::Result<Self> {
        let count = ioctl::request_buffers(&device, BUFFERS)?;
        let mut stream = Self { device, buffers: Vec::with_capacity(count as usize) };
        for index in 0..count {
            stream.buffers.push(Mapping::new(&stream.device, index)?);
            ioctl::queue(&stream.device, index)?;
        }
        ioctl::stream(&stream.device, true)?;
        Ok(stream)
    }

    /// Waits for a picture or an event, at most for `time`.
    pub(super) fn wait(&self, time: Duration) -> io::Result<Ready> {
        let mut entry =
            libc::pollfd { fd: self.device.handle().fd(), events: libc::POLLIN | libc::POLLPRI, revents: 0 };
        // SAFETY: one valid entry that lives through the call; the device is held open.
        match unsafe { libc::poll(&mut entry, 1, time.as_millis().max(1) as libc::c_int) } {
            -1 => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => Ok(Ready::Nothing),
                e => Err(e),
            },
            0 => Ok(Ready::Nothing),
            _ if entry.revents & libc::POLLPRI != 0 && ioctl::source_changed(&self.device) => Ok(Ready::Changed),
            _ if entry.revents & (libc::POLLIN | libc::POLLERR | libc::POLLHUP) != 0 => Ok(Ready::Picture),
            _ => Ok(Ready::Nothing),
        }
    }

    /// Hands the newest picture to `look`, its bytes cut to what is used, and gives its buffer back to the driver.
    /// `None` when there is none.
    pub(super) fn newest<T>(&mut self, look: impl FnOnce(&Filled, &[u8]) -> T) -> io::Result<Option<T>> {
        let Some(mut newest) = ioctl::dequeue(&self.device)? else { return Ok(None) };
        while let Ok(Some(newer)) = ioctl::dequeue(&self.device) {
            // A damaged picture is no reason to forget a good one.
            let older = if newer.damaged { newer } else { std::mem::replace(&mut newest, newer) };
            ioctl::queue(&self.device, older.index)?;
        }
        let buffer = self.buffers.get(newest.index as usize).map_or(&[][..], Mapping::bytes);
        let seen = look(&newest, &buffer[..newest.used.min(buffer.len())]);
        ioctl::queue(&self.device, newest.index)?;
        Ok(Some(seen))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // They fail for a device that is gone, and then there is nothing to stop.
        let _ = ioctl::stream(&self.device, false);
        self.buffers.clear();
        let _ = ioctl::request_buffers(&self.device, 0);
    }
}

/// A buffer of the driver in our memory.
struct Mapping {
    start: *const u8,
    length: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only read.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(device: &Device, index: u32) -> io::Result<Self> {
        let (offset, length) = ioctl::place_of_buffer(device, index)?;
        let place = libc::off_t::from(offset);
        let fd = device.handle().fd();
        // SAFETY: a new mapping at a place of the system's choice; it is unmapped in `drop` only.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, fd, place) };
        match start {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            start => Ok(Self { start: start.cast_const().cast(), length }),
        }
    }

    /// Its bytes. To be read between dequeuing and queuing only: otherwise the driver may write to them.
    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for reading as long as `self` lives, `length` bytes.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and nothing borrows it any more.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.length) };
    }
}
