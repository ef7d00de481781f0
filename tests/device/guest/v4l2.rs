//! The few V4L2 calls that the scenarios make beside crate `v4l`'s.

use std::ffi::c_void;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use v4l::control::{Control, MenuItem, Type, Value};
use v4l::prelude::Device;
use v4l::v4l_sys::{v4l2_buffer, v4l2_dv_timings, v4l2_requestbuffers};
use v4l::v4l2::vidioc;

use crate::wait;

/// What `v4l` has no constant for.
const VIDIOC_S_DV_TIMINGS: vidioc::_IOC_TYPE = 0xC084_5657;
const FIELD_NONE: u32 = 1;
const MEMORY_MMAP: u32 = 1;

/// The node whose name, as the driver gives it, ends with `name`, such as `vid-cap`. Waits a little for it.
pub fn node(name: &str) -> Result<PathBuf> {
    let find = || {
        let nodes = fs::read_dir("/sys/class/video4linux").ok()?;
        nodes.flatten().find_map(|entry| {
            let given = fs::read_to_string(entry.path().join("name")).ok()?;
            let path = Path::new("/dev").join(entry.file_name());
            (given.trim().ends_with(name) && path.exists()).then_some(path)
        })
    };
    wait(Duration::from_secs(3), find).with_context(|| format!("no video node named *{name}"))
}

/// Opens a node.
pub fn open(path: &Path) -> Result<Device> {
    Device::with_path(path).with_context(|| format!("opening {}", path.display()))
}

/// Sets the control `name`; of a button the value does not matter.
pub fn set(device: &Device, name: &str, value: i64) -> Result<()> {
    let control = device.query_controls()?.into_iter().find(|c| c.name == name);
    let control = control.ok_or_else(|| anyhow!("no control {name:?}"))?;
    let value = match control.typ {
        Type::Boolean => Value::Boolean(value != 0),
        Type::Button => Value::Integer(0),
        _ => Value::Integer(value),
    };
    device.set_control(Control { id: control.id, value }).with_context(|| format!("control {name:?}"))
}

/// What the control `name` is set to.
pub fn value(device: &Device, name: &str) -> Result<i64> {
    let control = device.query_controls()?.into_iter().find(|c| c.name == name);
    let id = control.ok_or_else(|| anyhow!("no control {name:?}"))?.id;
    match device.control(id)?.value {
        Value::Integer(value) => Ok(value),
        Value::Boolean(value) => Ok(value.into()),
        other => bail!("control {name:?}: {other:?}"),
    }
}

/// Sets the menu `name` to `item`.
pub fn choose(device: &Device, name: &str, item: &str) -> Result<()> {
    let control = device.query_controls()?.into_iter().find(|c| c.name == name);
    let items = control.and_then(|c| c.items).ok_or_else(|| anyhow!("no menu {name:?}"))?;
    let named = |known: &MenuItem| matches!(known, MenuItem::Name(known) if known == item);
    match items.iter().find(|(_, known)| named(known)) {
        Some((index, _)) => set(device, name, i64::from(*index)),
        None => bail!("menu {name:?} has no {item:?}: {items:?}"),
    }
}

/// Sets the timings of CEA-861's 640x480 at 60 Hz.
pub fn set_timings(device: &Device) -> Result<()> {
    // SAFETY: a structure of plain integers.
    #[allow(unsafe_code)]
    let mut timings: v4l2_dv_timings = unsafe { std::mem::zeroed() };
    // SAFETY: type 0, as zeroed, is that of this part of the union.
    #[allow(unsafe_code)]
    let bt = unsafe { &mut timings.__bindgen_anon_1.bt };
    (bt.width, bt.height, bt.pixelclock, bt.standards) = (640, 480, 25_175_000, 1);
    (bt.hfrontporch, bt.hsync, bt.hbackporch) = (16, 96, 48);
    (bt.vfrontporch, bt.vsync, bt.vbackporch) = (10, 2, 33);
    ioctl(device, VIDIOC_S_DV_TIMINGS, &mut timings).context("S_DV_TIMINGS")
}

fn ioctl<T>(device: &Device, request: vidioc::_IOC_TYPE, argument: &mut T) -> std::io::Result<()> {
    // SAFETY: every caller hands over the structure that belongs to its request.
    #[allow(unsafe_code)]
    unsafe {
        v4l::v4l2::ioctl(device.handle().fd(), request, std::ptr::from_mut(argument).cast::<c_void>())
    }
}

/// Which way a stream goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    /// From a camera.
    Capture = 1,
    /// To an output.
    Output = 2,
}

/// A stream of mapped buffers. Not crate `v4l`'s: its output stream has one buffer under way where vivid wants two.
pub struct Stream {
    device: Device,
    way: Way,
    buffers: Vec<(*mut u8, usize)>,
    queued: usize,
}

impl Stream {
    /// Takes the stream of `device`; from then on nobody else can have it.
    pub fn new(device: Device, way: Way) -> Result<Self> {
        let mut request = v4l2_requestbuffers { count: 4, ..zeroed_request() };
        (request.type_, request.memory) = (way as u32, MEMORY_MMAP);
        ioctl(&device, vidioc::VIDIOC_REQBUFS, &mut request).context("REQBUFS")?;
        let mut stream = Self { device, way, buffers: Vec::new(), queued: 0 };
        for index in 0..request.count {
            let mut buffer = stream.buffer(index as usize);
            ioctl(&stream.device, vidioc::VIDIOC_QUERYBUF, &mut buffer).context("QUERYBUF")?;
            stream.map(&buffer)?;
        }
        Ok(stream)
    }

    fn map(&mut self, buffer: &v4l2_buffer) -> Result<()> {
        let length = buffer.length as usize;
        let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, self.device.handle().fd());
        // SAFETY: a new mapping of the length that the driver gave; the offset is the part of the union for MMAP.
        #[allow(unsafe_code)]
        let memory = unsafe {
            let offset = libc::off_t::from(buffer.m.offset);
            libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, fd, offset)
        };
        if memory == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("mapping a buffer");
        }
        self.buffers.push((memory.cast(), length));
        Ok(())
    }

    fn buffer(&self, index: usize) -> v4l2_buffer {
        // SAFETY: a structure of plain integers.
        #[allow(unsafe_code)]
        let mut buffer: v4l2_buffer = unsafe { std::mem::zeroed() };
        (buffer.type_, buffer.memory, buffer.index) = (self.way as u32, MEMORY_MMAP, index as u32);
        buffer
    }

    /// Starts it; an output starts by itself when its buffers are full.
    pub fn start(&mut self) -> Result<()> {
        let mut way = self.way as i32;
        ioctl(&self.device, vidioc::VIDIOC_STREAMON, &mut way).context("STREAMON")
    }

    /// Hands `picture` to an output; waits for a free buffer.
    pub fn write(&mut self, picture: &[u8]) -> Result<()> {
        let mut buffer = self.buffer(self.queued);
        if self.queued >= self.buffers.len() {
            let taken = wait(Duration::from_secs(2), || {
                let mut buffer = self.buffer(0);
                match ioctl(&self.device, vidioc::VIDIOC_DQBUF, &mut buffer) {
                    Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => None,
                    done => Some(done.map(|()| buffer)),
                }
            });
            buffer = taken.context("the output takes no picture")?.context("DQBUF")?;
        }
        let (memory, length) = self.buffers[buffer.index as usize];
        let length = length.min(picture.len());
        // SAFETY: the mapping has that length, and the driver does not use a buffer that is not queued.
        #[allow(unsafe_code)]
        unsafe {
            std::ptr::copy_nonoverlapping(picture.as_ptr(), memory, length);
        }
        (buffer.bytesused, buffer.field) = (length as u32, FIELD_NONE);
        ioctl(&self.device, vidioc::VIDIOC_QBUF, &mut buffer).context("QBUF")?;
        self.queued += 1;
        if self.queued == self.buffers.len() { self.start() } else { Ok(()) }
    }
}

fn zeroed_request() -> v4l2_requestbuffers {
    // SAFETY: a structure of plain integers.
    #[allow(unsafe_code)]
    unsafe {
        std::mem::zeroed()
    }
}

// SAFETY: the mappings belong to this stream alone and are valid on every thread.
#[allow(unsafe_code)]
unsafe impl Send for Stream {}

impl Drop for Stream {
    fn drop(&mut self) {
        for (memory, length) in &self.buffers {
            // SAFETY: mapped in `map` with this length, and not used after this.
            #[allow(unsafe_code)]
            unsafe {
                libc::munmap(memory.cast(), *length);
            }
        }
    }
}
