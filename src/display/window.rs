//! The display `window`: a desktop window on Wayland or X11, drawn by the processor. Esc, q or its close button quit, f
//! switches full screen, and others answer where the user is asked ([`Wish`]); it can be resized and keeps the aspect
//! of the picture.
//!
//! [`Display::present`] keeps a copy of the picture and asks the desktop when to draw; a compositor that is slow, or that hides the
//! window, delays that drawing and never the pipeline. The kept picture also fills the window again after it was
//! covered or resized. One window per process, on one thread (the window system's rule). Buffers are kept, apart from
//! small tables while the picture is scaled.
//!
//! When the desktop goes away this is an error of kind `Display`. Xlib would end the process then; it is told not to
//! (libX11 1.7 of 2020 or newer; with an older one the process ends with code 1). The window is not closed any more:
//! there is nobody to close it.

use std::ffi::{CStr, c_int, c_void};
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use softbuffer::{Context, Surface};
use winit::application::ApplicationHandler;
use winit::dpi::PhysicalSize;
use winit::error::EventLoopError;
use winit::event::{ElementState, KeyEvent, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop, OwnedDisplayHandle};
use winit::keyboard::{Key, NamedKey};
use winit::platform::pump_events::{EventLoopExtPumpEvents, PumpStatus};
use winit::platform::x11::EventLoopBuilderExtX11;
use winit::raw_window_handle::{HasDisplayHandle, RawDisplayHandle};
use winit::window::{Fullscreen, Window, WindowId};

use super::scale::{Scaler, letterbox};
use super::{Display, Format, Wish};
use crate::frame::Frame;
use crate::{Error, ErrorKind, Result};

/// A picture that is larger gets a window of this size at most; the user can enlarge it.
const LARGEST: (u32, u32) = (1280, 720);

const INSTEAD: &str = "use --display video:out.mp4, png:DIR or none";

fn error(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Display, what)
}

/// A window on the desktop.
pub struct DesktopWindow {
    /// `None` once the desktop is gone.
    desktop: Option<Desktop>,
}

/// The connection to the desktop and what lives on it.
struct Desktop {
    // The window goes before the connection.
    content: Content,
    events: EventLoop<()>,
}

impl DesktopWindow {
    /// Opens a window for pictures of `format`.
    ///
    /// # Errors
    /// `Display` when there is no desktop, or it refuses.
    pub fn open(format: Format) -> Result<Self> {
        let named = |variable: &&str| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
        if !["WAYLAND_DISPLAY", "WAYLAND_SOCKET", "DISPLAY"].iter().any(named) {
            return Err(error(format_args!("no desktop: neither WAYLAND_DISPLAY nor DISPLAY is set; {INSTEAD}")));
        }
        // Off the main thread winit would panic; the systems we run on do not mind.
        let built = caught(|| EventLoop::builder().with_any_thread(true).build())?;
        let events = built.map_err(|e| match e {
            EventLoopError::RecreationAttempt => error("window: only one window can be opened in a process"),
            e => error(format_args!("window: cannot connect to the desktop: {}; {INSTEAD}", reason(&e))),
        })?;
        survive_lost_x_server(&events.owned_display_handle());
        let content = Content::new((format.width, format.height));
        let mut window = Self { desktop: Some(Desktop { content, events }) };
        window.pump()?;
        Ok(window)
    }

    /// Lets the desktop say what happened, and draws if it is time to.
    fn pump(&mut self) -> Result<()> {
        let desktop = self.desktop.as_mut().ok_or_else(|| error("window: the desktop is gone"))?;
        // No time limit, yet it never waits: `ControlFlow::Poll` sees to that. With a limit, winit starts a thread that
        // fills stderr without end once a Wayland compositor is gone.
        let pumped = caught(|| desktop.events.pump_app_events(None, &mut desktop.content));
        let failed = match pumped {
            _ if X_SERVER_LOST.load(Ordering::Relaxed) => Some(lost()),
            Ok(PumpStatus::Continue) => desktop.content.failed.take(),
            Ok(PumpStatus::Exit(_)) => Some(lost()),
            Err(e) => Some(e),
        };
        let Some(failed) = failed else { return Ok(()) };
        // See the head of this file.
        std::mem::forget(self.desktop.take());
        Err(failed)
    }
}

impl Display for DesktopWindow {
    fn name(&self) -> &str {
        "window"
    }

    fn has_keys(&self) -> bool {
        true
    }

    fn present(&mut self, frame: &Frame) -> Result<()> {
        if let Some(Desktop { content, .. }) = &mut self.desktop {
            content.picture.copy_from(frame);
            if let Some(shown) = &content.shown {
                shown.window().request_redraw();
            }
        }
        self.pump()
    }

    fn poll(&mut self) -> Result<Wish> {
        self.pump()?;
        Ok(self.desktop.as_mut().map_or(Wish::Quit, |desktop| desktop.content.take_wish()))
    }
}

fn lost() -> Error {
    error(format_args!("window: the connection to the desktop was lost; start again, or {INSTEAD}"))
}

/// Set by Xlib when its connection broke.
static X_SERVER_LOST: AtomicBool = AtomicBool::new(false);

extern "C" fn note_lost_x_server(_display: *mut c_void) -> c_int {
    X_SERVER_LOST.store(true, Ordering::Relaxed);
    0
}

extern "C" fn go_on(_display: *mut c_void, _data: *mut c_void) {}

/// Asks Xlib, if `display` is one of its connections, to note that the server is gone instead of ending the process.
/// That takes two handlers: the first ends the process by default, and what runs after it does so too.
#[allow(unsafe_code)]
fn survive_lost_x_server(display: &OwnedDisplayHandle) {
    type Handler = extern "C" fn(*mut c_void) -> c_int;
    type ExitHandler = extern "C" fn(*mut c_void, *mut c_void);
    let Ok(RawDisplayHandle::Xlib(handle)) = display.display_handle().map(|handle| handle.as_raw()) else { return };
    let Some(display) = handle.display else { return };
    // SAFETY: the names end with a zero byte; the library is loaded already and stays so, because it is not closed.
    let (set_handler, set_exit_handler) = unsafe {
        let library = libc::dlopen(c"libX11.so.6".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if library.is_null() {
            return;
        }
        let found = |name: &CStr| libc::dlsym(library, name.as_ptr());
        (found(c"XSetIOErrorHandler"), found(c"XSetIOErrorExitHandler"))
    };
    if set_handler.is_null() || set_exit_handler.is_null() {
        return;
    }
    // SAFETY: the types are those of Xlib's manual, a data pointer and a function pointer are of one size on every
    // system with X11, `display` is winit's open connection, and the handlers touch no more than a flag.
    unsafe {
        let set: unsafe extern "C" fn(Handler) -> *mut c_void = std::mem::transmute(set_handler);
        set(note_lost_x_server);
        let set: unsafe extern "C" fn(*mut c_void, ExitHandler, *mut c_void) = std::mem::transmute(set_exit_handler);
        set(display.as_ptr(), go_on, std::ptr::null_mut());
    }
}

/// Runs a call into the window libraries. They panic where a part of the desktop is missing (a library, an X
/// extension) or broke down.
fn caught<T>(call: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        error(format_args!("window: the desktop does not work: {text}; {INSTEAD}"))
    })
}

/// The innermost reason of an error, without the place in winit's source.
fn reason(error: &EventLoopError) -> String {
    match error {
        EventLoopError::Os(e) => {
            let text = e.to_string();
            text.split_once(".rs:").map_or(text.clone(), |(_, rest)| {
                rest.split_once(": ").map_or(rest.to_owned(), |(_, reason)| reason.to_owned())
            })
        }
        e => e.to_string(),
    }
}

/// What the window shows and what the user did.
struct Content {
    picture_size: (u32, u32),
    picture: Frame,
    /// The window's size. Kept, because asking for it panics once the desktop is gone.
    size: PhysicalSize<u32>,
    shown: Option<Surface<OwnedDisplayHandle, Rc<Window>>>,
    scaler: Scaler,
    wish: Wish,
    failed: Option<Error>,
}

impl Content {
    fn new(picture_size: (u32, u32)) -> Self {
        Self {
            picture_size,
            picture: Frame::default(),
            size: PhysicalSize::default(),
            shown: None,
            scaler: Scaler::default(),
            wish: Wish::Continue,
            failed: None,
        }
    }

    fn create(&self, desktop: &ActiveEventLoop) -> Result<Surface<OwnedDisplayHandle, Rc<Window>>> {
        let monitor = desktop.primary_monitor().or_else(|| desktop.available_monitors().next());
        let monitor = monitor.map(|m| m.size()).filter(|size| size.width > 0 && size.height > 0);
        let (width, height) = first_size(self.picture_size, monitor.map(|size| (size.width, size.height)));
        let attributes = Window::default_attributes().with_title("kinora");
        let attributes = attributes.with_inner_size(PhysicalSize::new(width, height));
        let refused = |e: &dyn std::fmt::Display| error(format_args!("window: the desktop refuses it: {e}; {INSTEAD}"));
        let window = Rc::new(desktop.create_window(attributes).map_err(|e| refused(&e))?);
        let context = Context::new(desktop.owned_display_handle()).map_err(|e| refused(&e))?;
        Surface::new(&context, window).map_err(|e| refused(&e))
    }

    fn draw(&mut self) -> Result<()> {
        let Some(surface) = &mut self.shown else { return Ok(()) };
        let size = (self.size.width, self.size.height);
        let (Some(width), Some(height)) = (NonZeroU32::new(size.0), NonZeroU32::new(size.1)) else { return Ok(()) };
        let refused = |e| error(format_args!("window: cannot draw: {e}"));
        surface.resize(width, height).map_err(refused)?;
        let window = surface.window().clone();
        let mut buffer = surface.buffer_mut().map_err(refused)?;
        self.scaler.draw_xrgb(&self.picture, &mut buffer, size)?;
        window.pre_present_notify();
        buffer.present().map_err(refused)
    }

    /// What the user did since the last call.
    fn take_wish(&mut self) -> Wish {
        match self.wish {
            Wish::Quit => Wish::Quit,
            _ => std::mem::replace(&mut self.wish, Wish::Continue),
        }
    }

    fn answer(&mut self, wish: Wish) {
        if self.wish != Wish::Quit {
            self.wish = wish;
        }
    }

    fn key(&mut self, key: &Key) {
        use NamedKey::{Backspace, Delete, Enter, Escape, Space};
        match key.as_ref() {
            Key::Named(Escape) | Key::Character("q" | "Q") => self.wish = Wish::Quit,
            Key::Named(Enter | Space) | Key::Character("k" | "K" | " ") => self.answer(Wish::Keep),
            Key::Named(Backspace | Delete) | Key::Character("d" | "D") => self.answer(Wish::Drop),
            Key::Character("f" | "F") => {
                let Some(shown) = &self.shown else { return };
                let full = shown.window().fullscreen().is_none().then_some(Fullscreen::Borderless(None));
                shown.window().set_fullscreen(full);
            }
            _ => {}
        }
    }
}

impl ApplicationHandler for Content {
    fn resumed(&mut self, desktop: &ActiveEventLoop) {
        desktop.set_control_flow(ControlFlow::Poll);
        match self.create(desktop) {
            Ok(surface) => {
                self.size = surface.window().inner_size();
                self.shown = Some(surface);
            }
            Err(e) => self.failed = Some(e),
        }
    }

    fn window_event(&mut self, _: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        if X_SERVER_LOST.load(Ordering::Relaxed) {
            return;
        }
        match event {
            WindowEvent::CloseRequested | WindowEvent::Destroyed => self.wish = Wish::Quit,
            WindowEvent::RedrawRequested => {
                if let Err(e) = self.draw() {
                    self.failed = Some(e);
                }
            }
            WindowEvent::Resized(size) => {
                self.size = size;
                if let Some(shown) = &self.shown {
                    shown.window().request_redraw();
                }
            }
            WindowEvent::KeyboardInput {
                event: KeyEvent { state: ElementState::Pressed, repeat: false, logical_key, .. },
                ..
            } => self.key(&logical_key),
            _ => {}
        }
    }
}

/// The first size of a window: the picture's, unless that is larger than the monitor or than [`LARGEST`].
fn first_size(picture: (u32, u32), monitor: Option<(u32, u32)>) -> (u32, u32) {
    let monitor = monitor.unwrap_or(LARGEST);
    let limit = (LARGEST.0.min(monitor.0), LARGEST.1.min(monitor.1));
    if picture.0 <= limit.0 && picture.1 <= limit.1 {
        return (picture.0.max(1), picture.1.max(1));
    }
    let area = letterbox(picture, limit);
    (area.width, area.height)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_window_is_as_large_as_the_picture_where_that_fits() {
        assert_eq!(first_size((640, 480), Some((1920, 1080))), (640, 480));
        assert_eq!(first_size((1920, 1080), Some((1920, 1080))), (1280, 720));
        assert_eq!(first_size((1920, 1080), None), (1280, 720));
        assert_eq!(first_size((640, 480), Some((320, 200))), (267, 200));
        assert_eq!(first_size((0, 0), None), (1, 1));
    }

    #[test]
    fn a_panic_below_becomes_a_display_error() {
        let missing = std::hint::black_box(true);
        let e = caught(|| assert!(!missing, "X server missing {}", "XInput")).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Display);
        assert!(e.to_string().contains("X server missing XInput"), "{e}");
    }
}
