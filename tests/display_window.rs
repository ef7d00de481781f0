//! The display `window` on real window systems without a screen: Xvfb (X11) and Weston's headless backend (Wayland).
//!
//! A process can open one window, so each case runs this test program again as a child: `driver` with the variable
//! `KINORA_WINDOW_DRIVER` set shows a known picture until the user quits.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kinora::Error;
use kinora::display::{self, Format, Wish};
use kinora::frame::Frame;

const DRIVER: &str = "KINORA_WINDOW_DRIVER";
const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;
/// Upper left, upper right, lower left, lower right.
const COLOURS: [[u8; 3]; 4] = [[220, 30, 40], [20, 200, 60], [40, 60, 230], [240, 230, 20]];
const BLACK: [u8; 3] = [0, 0, 0];
/// Longest wait for anything; only failures take that long.
const PATIENCE: Duration = Duration::from_secs(10);

fn picture() -> Frame {
    let mut frame = Frame::new(WIDTH, HEIGHT);
    for (n, pixel) in frame.data_mut().chunks_exact_mut(3).enumerate() {
        let (x, y) = (n as u32 % WIDTH, n as u32 / WIDTH);
        pixel.copy_from_slice(&COLOURS[usize::from(y >= HEIGHT / 2) * 2 + usize::from(x >= WIDTH / 2)]);
    }
    frame
}

/// Shows the picture until the user quits, or for as many frames as the variable says.
fn drive(frames: Option<u64>) -> Result<u64, Error> {
    let format = Format { width: WIDTH, height: HEIGHT, frame_rate: 50.0 };
    let mut display = display::open("window", format)?;
    let mut frame = picture();
    let started = Instant::now();
    for n in 0.. {
        frame.timestamp = Duration::from_millis(20 * n);
        display.present(&frame)?;
        if display.poll()? == Wish::Quit || frames == Some(n) {
            display.finish()?;
            return Ok(n);
        }
        assert!(started.elapsed() < PATIENCE * 3, "nobody quit");
        std::thread::sleep(Duration::from_millis(20));
    }
    unreachable!()
}

/// Not a test of its own: the child process of the others.
#[test]
fn driver() {
    let Ok(frames) = std::env::var(DRIVER) else { return };
    let code = match drive(frames.parse().ok()) {
        Ok(shown) => {
            eprintln!("quit after {shown}");
            0
        }
        Err(e) => {
            eprintln!("error: {e}");
            e.kind().exit_code()
        }
    };
    std::process::exit(code.into());
}

/// A child that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Waits for its end; exit code and what it wrote to stderr.
    fn end(mut self) -> (Option<i32>, String) {
        let status = until("the driver ends", || self.0.try_wait().unwrap());
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (status.code(), text)
    }
}

fn start_driver(mode: &str, environment: &[(&str, &str)]) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["driver", "--exact", "--nocapture"]);
    for variable in ["DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"] {
        command.env_remove(variable);
    }
    command.env(DRIVER, mode).envs(environment.iter().copied());
    Process(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
}

fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Whether all `tools` are there. A missing one fails where everything must be tested, and is named elsewhere.
fn have(test: &str, tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |tool: &str| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    let missing: Vec<_> = tools.iter().filter(|tool| !found(tool)).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var("KINORA_REQUIRE_DATA").as_deref() != Ok("1"), "{test}: missing programs {missing:?}");
    eprintln!("left out: {test}: no {missing:?}");
    false
}

/// An X server without a screen.
struct XServer {
    process: Process,
    display: String,
    folder: tempfile::TempDir,
}

impl XServer {
    fn start() -> Self {
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut number = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut number).unwrap();
        assert!(!number.trim().is_empty(), "Xvfb did not start");
        Self { process: Process(child), display: format!(":{}", number.trim()), folder: tempfile::tempdir().unwrap() }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).env("DISPLAY", &self.display).env_remove("WAYLAND_DISPLAY");
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn tool(&self, arguments: &[&str]) -> Option<String> {
        let output = self.run("xdotool", arguments);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A driver, and the id of its window once that is on the screen.
    fn driver(&self) -> (Process, String) {
        let driver = start_driver("until the user quits", &[("DISPLAY", &self.display)]);
        (driver, self.window())
    }

    /// The id of the window named kinora once it is on the screen.
    fn window(&self) -> String {
        let search = ["search", "--onlyvisible", "--name", "^kinora$"];
        until("a window named kinora", || self.tool(&search).filter(|id| !id.is_empty()))
    }

    fn size(&self, id: &str) -> Option<(u32, u32)> {
        let text = self.tool(&["getwindowgeometry", "--shell", id])?;
        let value = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
        Some((value("WIDTH")?, value("HEIGHT")?))
    }

    /// What is on the window now.
    fn screenshot(&self, id: &str) -> Option<image::RgbImage> {
        let path = self.folder.path().join("shot.png").display().to_string();
        let output = self.run("import", &["-window", id, "-depth", "8", &path]);
        output.status.success().then(|| image::open(&path).ok().map(image::DynamicImage::into_rgb8))?
    }

    /// Waits until the window shows `colours` at the relative places of its size.
    fn shows(&self, what: &str, id: &str, colours: &[(f32, f32, [u8; 3])]) {
        let mut seen = String::new();
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(shot) = self.screenshot(id) {
                let at = |x: f32, y: f32| {
                    let (width, height) = (shot.width() as f32, shot.height() as f32);
                    shot.get_pixel((x * width) as u32, (y * height) as u32).0
                };
                if colours.iter().all(|(x, y, colour)| at(*x, *y) == *colour) {
                    return;
                }
                let there: Vec<_> = colours.iter().map(|(x, y, _)| at(*x, *y)).collect();
                seen = format!("{:?}: {there:?}", shot.dimensions());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what}: {colours:?} instead of {seen}");
    }

    /// Types a key as a keyboard does; gives the window the focus first, as a window manager would.
    fn key(&self, id: &str, key: &str) {
        self.tool(&["windowfocus", "--sync", id]).expect("focus");
        self.tool(&["key", key]).expect("key");
    }
}

fn corners(inset: (f32, f32)) -> Vec<(f32, f32, [u8; 3])> {
    let (x, y) = inset;
    vec![(x, y, COLOURS[0]), (1.0 - x, y, COLOURS[1]), (x, 1.0 - y, COLOURS[2]), (1.0 - x, 1.0 - y, COLOURS[3])]
}

const X_TOOLS: [&str; 3] = ["Xvfb", "xdotool", "import"];

#[test]
fn x11_shows_resizes_and_quits() {
    if !have("x11_shows_resizes_and_quits", &X_TOOLS) {
        return;
    }
    let server = XServer::start();
    let (driver, id) = server.driver();
    assert_eq!(server.size(&id), Some((WIDTH, HEIGHT)));
    server.shows("the picture", &id, &corners((0.01, 0.01)));

    server.tool(&["windowsize", "--sync", &id, "700", "300"]).expect("resize");
    // 400 x 300 in the middle: borders of 150 of 700 pixels.
    let mut wide = corners((0.23, 0.02));
    wide.extend([(0.1, 0.5, BLACK), (0.2, 0.1, BLACK), (0.9, 0.9, BLACK)]);
    server.shows("borders left and right", &id, &wide);

    server.tool(&["windowsize", "--sync", &id, "200", "401"]).expect("resize");
    // 200 x 150: borders of 125 of 401 pixels.
    let mut tall = corners((0.02, 0.33));
    tall.extend([(0.5, 0.1, BLACK), (0.1, 0.29, BLACK), (0.9, 0.95, BLACK)]);
    server.shows("borders above and below", &id, &tall);

    server.key(&id, "q");
    let (code, text) = driver.end();
    assert_eq!((code, text.contains("quit after")), (Some(0), true), "{text}");
}

#[test]
fn x11_full_screen_and_escape() {
    if !have("x11_full_screen_and_escape", &X_TOOLS) {
        return;
    }
    let server = XServer::start();
    let (driver, id) = server.driver();
    server.shows("the picture", &id, &corners((0.01, 0.01)));
    // Full screen is a request to the window manager; without one the request is refused and the window goes on.
    for _ in 0..2 {
        server.key(&id, "f");
        server.shows("the picture after f", &id, &corners((0.01, 0.01)));
    }
    server.key(&id, "Escape");
    let (code, text) = driver.end();
    assert_eq!((code, text.contains("quit after")), (Some(0), true), "{text}");
}

/// `kinora record` with its keys: what is dropped is recorded anew, what is kept is a file.
#[test]
fn x11_records_with_keys() {
    if !have("x11_records_with_keys", &[&X_TOOLS[..], &["ffmpeg"]].concat()) {
        return;
    }
    let server = XServer::start();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
    command.args(["record", "--label", "wave", "--count", "1", "--seconds", "2", "--display", "window"]);
    command.args(["--source", "synthetic:1?size=320x240&fps=20"]).current_dir(folder.path());
    command.env("DISPLAY", &server.display).env_remove("WAYLAND_DISPLAY");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut kinora = Process(command.spawn().unwrap());
    let id = server.window();

    // Colours of the stages: blue while it counts down, red while it records, green while it asks.
    let shows = |colour: [u8; 3]| server.screenshot(&id)?.pixels().any(|pixel| pixel.0 == colour).then_some(());
    let asks = || shows([38, 200, 165]);
    until("the countdown", || shows([86, 180, 233]));
    server.key(&id, "Return");
    until("recording", || shows([229, 57, 53]));
    until("the question", asks);
    assert!(!folder.path().join("recordings/wave").exists(), "nothing was kept yet");
    server.key(&id, "BackSpace");
    until("the countdown for the same clip", || shows([86, 180, 233]));
    until("the question again", asks);
    assert!(!folder.path().join("recordings/wave").exists(), "what is dropped is no file");
    server.key(&id, "space");
    let mut said = String::new();
    kinora.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    let (code, text) = kinora.end();
    assert_eq!(code, Some(0), "{text}");
    assert!(said.starts_with("wave: 1 clip\n"), "{said}");
    assert!(folder.path().join("recordings/wave/clip-0001.mp4").exists());
}

#[test]
fn a_lost_x_server_is_a_display_error() {
    if !have("a_lost_x_server_is_a_display_error", &X_TOOLS) {
        return;
    }
    let mut server = XServer::start();
    let (driver, id) = server.driver();
    server.shows("the picture", &id, &corners((0.01, 0.01)));
    // Asked to end, not killed: it removes its socket and lock file.
    Command::new("kill").arg(server.process.0.id().to_string()).status().unwrap();
    until("Xvfb ends", || server.process.0.try_wait().unwrap());
    let (code, text) = driver.end();
    assert_eq!((code, text.contains("connection to the desktop was lost")), (Some(5), true), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}

/// A Wayland compositor without a screen, its folder and the name of its socket.
fn weston() -> (Process, tempfile::TempDir) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = Command::new("weston");
    command.args(["--backend=headless-backend.so", "--socket=kinora", "--width=800", "--height=600", "--no-config"]);
    command.env("XDG_RUNTIME_DIR", folder.path()).env_remove("WAYLAND_DISPLAY").env_remove("DISPLAY");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process(command.spawn().unwrap());
    until("Weston's socket", || folder.path().join("kinora").exists().then_some(()));
    (process, folder)
}

#[test]
fn wayland_shows_pictures_and_survives_its_compositor() {
    if !have("wayland_shows_pictures_and_survives_its_compositor", &["weston"]) {
        return;
    }
    let (mut compositor, folder) = weston();
    let environment = [("WAYLAND_DISPLAY", "kinora"), ("XDG_RUNTIME_DIR", folder.path().to_str().unwrap())];
    let (code, text) = start_driver("30", &environment).end();
    assert_eq!((code, text.contains("quit after 30")), (Some(0), true), "{text}");

    let driver = start_driver("until the user quits", &environment);
    std::thread::sleep(Duration::from_millis(500));
    compositor.0.kill().unwrap();
    let (code, text) = driver.end();
    assert_eq!((code, text.contains("connection to the desktop was lost")), (Some(5), true), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn without_a_desktop_the_error_says_what_to_do() {
    let (code, text) = start_driver("1", &[]).end();
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("error: no desktop: neither WAYLAND_DISPLAY nor DISPLAY is set"), "{text}");
    let (code, text) = start_driver("1", &[("DISPLAY", ":987654")]).end();
    assert_eq!((code, text.contains("X server")), (Some(5), true), "{text}");
    let (code, text) = start_driver("1", &[("WAYLAND_DISPLAY", "missing"), ("XDG_RUNTIME_DIR", "/nowhere")]).end();
    assert_eq!((code, text.contains("wayland compositor")), (Some(5), true), "{text}");
}
