//! The calls of Video4Linux 2 that we make, each as a safe function. The structures and numbers are those of crate `v4l`,
//! whose own safe types panic on values that they do not know (a colour space, a control's type, a name that is cut in
//! the middle of a character): what a driver says must not be able to end the program.

#![allow(unsafe_code)]

use std::io;

use v4l::Device;
use v4l::v4l_sys::{
    V4L2_BUF_FLAG_ERROR, V4L2_BUF_FLAG_TIMESTAMP_MASK, V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC, V4L2_CTRL_FLAG_NEXT_CTRL,
    V4L2_EVENT_SOURCE_CHANGE, v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE as CAPTURE, v4l2_buffer, v4l2_capability,
    v4l2_control, v4l2_dv_timings, v4l2_event, v4l2_event_subscription, v4l2_field_V4L2_FIELD_ANY as ANY_FIELD,
    v4l2_fmtdesc, v4l2_format, v4l2_fract, v4l2_memory_V4L2_MEMORY_MMAP as MMAP, v4l2_query_ext_ctrl, v4l2_querymenu,
    v4l2_requestbuffers, v4l2_streamparm,
};
use v4l::v4l2::vidioc;

pub(super) use v4l::v4l_sys::v4l2_pix_format as PixFormat;

/// Calls `request` with `argument`, again when a signal came between.
///
/// # Safety
/// `argument` must be of the structure that `request` reads and writes.
unsafe fn call<T>(device: &Device, request: vidioc::_IOC_TYPE, argument: &mut T) -> io::Result<()> {
    loop {
        // SAFETY: the caller's; the device holds its descriptor open.
        match unsafe { v4l::v4l2::ioctl(device.handle().fd(), request, (&raw mut *argument).cast()) } {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A structure of the interface, all zero.
fn zeroed<T: Copy>() -> T {
    // SAFETY: only used for the plain C structures of this file, for which zeros are a valid value.
    unsafe { std::mem::zeroed() }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).trim().to_string()
}

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capability {
    /// Its name.
    pub(super) card: String,
    /// The port that it is at.
    pub(super) bus: String,
    /// The driver.
    pub(super) driver: String,
    /// What this node can do, `V4L2_CAP_…`.
    pub(super) capabilities: u32,
}

/// VIDIOC_QUERYCAP.
pub(super) fn capability(device: &Device) -> io::Result<Capability> {
    let mut caps: v4l2_capability = zeroed();
    // SAFETY: the structure of this call.
    unsafe { call(device, vidioc::VIDIOC_QUERYCAP, &mut caps)? };
    let own = caps.capabilities & v4l::v4l_sys::V4L2_CAP_DEVICE_CAPS != 0;
    let capabilities = if own { caps.device_caps } else { caps.capabilities };
    Ok(Capability { card: text(&caps.card), bus: text(&caps.bus_info), driver: text(&caps.driver), capabilities })
}

/// The four-character codes of the formats that a device captures: VIDIOC_ENUM_FMT.
pub(super) fn formats(device: &Device) -> Vec<[u8; 4]> {
    let mut codes = Vec::new();
    loop {
        let mut format: v4l2_fmtdesc = zeroed();
        (format.index, format.type_) = (codes.len() as u32, CAPTURE);
        // SAFETY: the structure of this call.
        // A driver that never ends its list is nonsense.
        if codes.len() == 256 || unsafe { call(device, vidioc::VIDIOC_ENUM_FMT, &mut format) }.is_err() {
            return codes;
        }
        codes.push(format.pixelformat.to_le_bytes());
    }
}

/// Takes over the timings of the signal at an input, such as HDMI: VIDIOC_QUERY_DV_TIMINGS and VIDIOC_S_DV_TIMINGS. Does
/// nothing for cameras.
pub(super) fn take_signal(device: &Device) -> io::Result<()> {
    const QUERY_DV_TIMINGS: vidioc::_IOC_TYPE = request(2, 99, size_of::<v4l2_dv_timings>());
    const S_DV_TIMINGS: vidioc::_IOC_TYPE = request(3, 87, size_of::<v4l2_dv_timings>());
    let mut timings: v4l2_dv_timings = zeroed();
    // SAFETY: the structure of both calls.
    match unsafe { call(device, QUERY_DV_TIMINGS, &mut timings) } {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTTY | libc::ENODATA | libc::EINVAL)) => Ok(()),
        Err(e) => Err(e),
        Ok(()) => unsafe { call(device, S_DV_TIMINGS, &mut timings) },
    }
}

/// A format that says nothing.
pub(super) fn blank_format() -> PixFormat {
    zeroed()
}

/// How a format codes colours, one of V4L2_YCBCR_ENC; 0 is what belongs to its colour space.
pub(super) fn encoding(format: &PixFormat) -> u32 {
    // SAFETY: both parts of the union are a number of this type, and ours are no formats of hue and saturation.
    unsafe { format.__bindgen_anon_1.ycbcr_enc }
}

/// Sets a format; the driver answers with what it made of it: VIDIOC_S_FMT.
pub(super) fn set_format(device: &Device, fourcc: [u8; 4], (width, height): (u32, u32)) -> io::Result<PixFormat> {
    let pixelformat = u32::from_le_bytes(fourcc);
    let mut format: v4l2_format = zeroed();
    format.type_ = CAPTURE;
    format.fmt.pix = PixFormat { width, height, pixelformat, field: ANY_FIELD, ..blank_format() };
    // SAFETY: the structure of this call; for this type the driver fills `pix`.
    unsafe {
        call(device, vidioc::VIDIOC_S_FMT, &mut format)?;
        Ok(format.fmt.pix)
    }
}

/// The time from one picture to the next, in seconds as a fraction, if the driver tells: VIDIOC_G_PARM.
pub(super) fn interval(device: &Device) -> Option<(u32, u32)> {
    let mut parameters: v4l2_streamparm = zeroed();
    parameters.type_ = CAPTURE;
    // SAFETY: the structure of this call; for this type the driver fills `capture`.
    let interval = unsafe {
        call(device, vidioc::VIDIOC_G_PARM, &mut parameters).ok()?;
        parameters.parm.capture.timeperframe
    };
    (interval.numerator > 0 && interval.denominator > 0).then_some((interval.numerator, interval.denominator))
}

/// Asks for a time from one picture to the next: VIDIOC_S_PARM.
pub(super) fn set_interval(device: &Device, (numerator, denominator): (u32, u32)) -> io::Result<()> {
    let mut parameters: v4l2_streamparm = zeroed();
    parameters.type_ = CAPTURE;
    parameters.parm.capture =
        v4l::v4l_sys::v4l2_captureparm { timeperframe: v4l2_fract { numerator, denominator }, ..zeroed() };
    // SAFETY: the structure of this call.
    unsafe { call(device, vidioc::VIDIOC_S_PARM, &mut parameters) }
}

/// A setting of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ControlInfo {
    /// `V4L2_CID_…`.
    pub(super) id: u32,
    /// As the driver names it.
    pub(super) name: String,
    /// `V4L2_CTRL_TYPE_…`.
    pub(super) kind: u32,
    /// Least value.
    pub(super) minimum: i64,
    /// Greatest value.
    pub(super) maximum: i64,
    /// Value at the start.
    pub(super) default: i64,
    /// `V4L2_CTRL_FLAG_…`.
    pub(super) flags: u32,
}

/// The control after the one numbered `after`, in order of numbers: VIDIOC_QUERY_EXT_CTRL.
pub(super) fn next_control(device: &Device, after: u32) -> Option<ControlInfo> {
    let mut query: v4l2_query_ext_ctrl = zeroed();
    query.id = after | V4L2_CTRL_FLAG_NEXT_CTRL;
    // SAFETY: the structure of this call.
    unsafe { call(device, vidioc::VIDIOC_QUERY_EXT_CTRL, &mut query).ok()? };
    let name = query.name.map(|c| c.to_ne_bytes()[0]);
    Some(ControlInfo {
        id: query.id,
        name: text(&name),
        kind: query.type_,
        minimum: query.minimum,
        maximum: query.maximum,
        default: query.default_value,
        flags: query.flags,
    })
}

/// The name of an item of a menu control: VIDIOC_QUERYMENU. Drivers leave numbers out.
pub(super) fn menu_item(device: &Device, id: u32, index: u32) -> Option<String> {
    let mut item: v4l2_querymenu = zeroed();
    (item.id, item.index) = (id, index);
    // SAFETY: the structure of this call; any bytes are a valid name.
    let name = unsafe {
        call(device, vidioc::VIDIOC_QUERYMENU, &mut item).ok()?;
        item.__bindgen_anon_1.name
    };
    Some(text(&name))
}

/// The value of a control: VIDIOC_G_CTRL.
pub(super) fn control(device: &Device, id: u32) -> io::Result<i32> {
    let mut control = v4l2_control { id, value: 0 };
    // SAFETY: the structure of this call.
    unsafe { call(device, vidioc::VIDIOC_G_CTRL, &mut control)? };
    Ok(control.value)
}

/// Sets a control: VIDIOC_S_CTRL.
pub(super) fn set_control(device: &Device, id: u32, value: i32) -> io::Result<()> {
    let mut control = v4l2_control { id, value };
    // SAFETY: the structure of this call.
    unsafe { call(device, vidioc::VIDIOC_S_CTRL, &mut control) }
}

/// Asks to be told when the signal of an input changes its format. Cameras do not know this event.
pub(super) fn subscribe_source_changes(device: &Device) -> bool {
    // The numbers are those of linux/videodev2.h; the crate does not have these two calls.
    const VIDIOC_SUBSCRIBE_EVENT: vidioc::_IOC_TYPE = request(1, 90, size_of::<v4l2_event_subscription>());
    let mut subscription: v4l2_event_subscription = zeroed();
    subscription.type_ = V4L2_EVENT_SOURCE_CHANGE;
    // SAFETY: the structure of this call.
    unsafe { call(device, VIDIOC_SUBSCRIBE_EVENT, &mut subscription).is_ok() }
}

/// Whether the signal's format has changed since the last call: VIDIOC_DQEVENT.
pub(super) fn source_changed(device: &Device) -> bool {
    const VIDIOC_DQEVENT: vidioc::_IOC_TYPE = request(2, 89, size_of::<v4l2_event>());
    let mut event: v4l2_event = zeroed();
    // SAFETY: the structure of this call.
    unsafe { call(device, VIDIOC_DQEVENT, &mut event).is_ok() && event.type_ == V4L2_EVENT_SOURCE_CHANGE }
}

/// `_IOC(direction, 'V', number, size)` of asm-generic/ioctl.h.
const fn request(direction: vidioc::_IOC_TYPE, number: vidioc::_IOC_TYPE, size: usize) -> vidioc::_IOC_TYPE {
    direction << 30 | (size as vidioc::_IOC_TYPE) << 16 | (b'V' as vidioc::_IOC_TYPE) << 8 | number
}

/// A buffer that the driver has filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    /// Its number.
    pub(super) index: u32,
    /// Bytes that were written.
    pub(super) used: usize,
    /// Number of the picture, counting those that were lost; it wraps around.
    pub(super) sequence: u32,
    /// When it was taken on CLOCK_MONOTONIC, if the driver uses that clock.
    pub(super) taken: Option<std::time::Duration>,
    /// When we had it.
    pub(super) arrived: std::time::Instant,
    /// Whether the driver says that its content is damaged.
    pub(super) damaged: bool,
}

fn buffer(index: u32) -> v4l2_buffer {
    v4l2_buffer { index, type_: CAPTURE, memory: MMAP, ..zeroed() }
}

/// Asks for `count` buffers, 0 to give them back; how many there are: VIDIOC_REQBUFS.
pub(super) fn request_buffers(device: &Device, count: u32) -> io::Result<u32> {
    let mut request = v4l2_requestbuffers { count, type_: CAPTURE, memory: MMAP, ..zeroed() };
    // SAFETY: the structure of this call.
    unsafe { call(device, vidioc::VIDIOC_REQBUFS, &mut request)? };
    Ok(request.count)
}

/// Offset and length for mapping a buffer: VIDIOC_QUERYBUF.
pub(super) fn place_of_buffer(device: &Device, index: u32) -> io::Result<(u32, usize)> {
    let mut buffer = buffer(index);
    // SAFETY: the structure of this call; for mapped buffers the driver fills `offset`.
    unsafe {
        call(device, vidioc::VIDIOC_QUERYBUF, &mut buffer)?;
        Ok((buffer.m.offset, buffer.length as usize))
    }
}

/// Gives a buffer to the driver to fill: VIDIOC_QBUF.
pub(super) fn queue(device: &Device, index: u32) -> io::Result<()> {
    // SAFETY: the structure of this call.
    unsafe { call(device, vidioc::VIDIOC_QBUF, &mut buffer(index)) }
}

/// Takes the oldest filled buffer, `None` if there is none: VIDIOC_DQBUF.
pub(super) fn dequeue(device: &Device) -> io::Result<Option<Filled>> {
    let mut buffer = buffer(0);
    // SAFETY: the structure of this call.
    match unsafe { call(device, vidioc::VIDIOC_DQBUF, &mut buffer) } {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        result => result?,
    }
    let monotonic = buffer.flags & V4L2_BUF_FLAG_TIMESTAMP_MASK == V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    let seconds = u64::try_from(buffer.timestamp.tv_sec).unwrap_or_default();
    let micros = u32::try_from(buffer.timestamp.tv_usec).unwrap_or_default().min(999_999);
    Ok(Some(Filled {
        index: buffer.index,
        used: buffer.bytesused as usize,
        sequence: buffer.sequence,
        taken: monotonic.then(|| std::time::Duration::new(seconds, micros * 1000)),
        arrived: std::time::Instant::now(),
        damaged: buffer.flags & V4L2_BUF_FLAG_ERROR != 0,
    }))
}

/// Starts or stops the driver's filling of buffers: VIDIOC_STREAMON and VIDIOC_STREAMOFF.
pub(super) fn stream(device: &Device, on: bool) -> io::Result<()> {
    let request = if on { vidioc::VIDIOC_STREAMON } else { vidioc::VIDIOC_STREAMOFF };
    let mut kind = CAPTURE as libc::c_int;
    // SAFETY: both calls read an int.
    unsafe { call(device, request, &mut kind) }
}
