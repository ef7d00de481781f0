//! Boots a virtual machine that runs one scenario, listens to it, and keeps what it says and shows.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Names of files beside the machine.
const MONITOR: &str = "monitor";
const LOG: &str = "qemu.log";

/// What `tests/device/prepare` makes.
fn prepared() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("device-vm");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/device/prepare");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let done = Command::new(program).env("CARGO_TARGET_DIR", target).status().unwrap();
    assert!(done.success(), "{program} failed");
    folder
}

/// One machine at a time: each takes two processors, and figures of one would suffer from the other.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes `to` the archive of all files in `root`, as the kernel unpacks it at boot.
fn archive(root: &Path, to: &Path) {
    let made = Command::new("sh")
        .args(["-euc", r#"cd "$1"; find . | cpio -o -H newc --quiet >"$2""#, "sh"])
        .args([root, to])
        .status();
    assert!(made.unwrap().success(), "cpio failed");
}

/// The programs and the libraries they need, for the machine's ram disk.
fn payload(root: &Path) {
    let put = |from: &Path, to: &str| {
        let to = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    let ours = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/device/guest").join(name);
    put(&ours("init"), "init");
    put(&ours("ffmpeg"), "app/ffmpeg");
    for program in [env!("CARGO_BIN_EXE_kinora"), env!("CARGO_BIN_EXE_device-guest")] {
        let name = Path::new(program).file_name().unwrap().to_str().unwrap();
        put(Path::new(program), &format!("app/{name}"));
        // Debugging information would only take the machine's memory.
        assert!(Command::new("strip").arg(root.join("app").join(name)).status().unwrap().success(), "strip failed");
        let listed = Command::new("ldd").arg(program).output().unwrap();
        for library in String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            put(Path::new(library), library);
        }
    }
}

/// What became of a machine.
pub struct Outcome {
    /// The folder that was `/host` in the machine.
    pub shared: TempDir,
    /// What the scenario handed over.
    pub results: Vec<Value>,
    console: String,
}

impl Outcome {
    /// The picture that the scenario took under `name`.
    pub fn shot(&self, name: &str) -> image::RgbImage {
        let path = self.shared.path().join("out").join(format!("{name}.ppm"));
        super::screen::read_ppm(&path)
    }

    /// Results that have the field `field`.
    pub fn with(&self, field: &str) -> Vec<&Value> {
        self.results.iter().filter(|result| !result[field].is_null()).collect()
    }
}

/// A running machine; it does not outlive the test.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks QEMU's monitor to do `command` and waits until it has.
fn monitor(socket: &Path, command: &str) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let until_prompt = |stream: &mut UnixStream| {
        let mut said = Vec::new();
        let mut part = [0; 4096];
        while !said.ends_with(b"(qemu) ") {
            let length = stream.read(&mut part).expect("the monitor answers");
            assert!(length > 0, "the monitor is gone");
            said.extend_from_slice(&part[..length]);
        }
    };
    until_prompt(&mut stream);
    stream.write_all(format!("{command}\n").as_bytes()).unwrap();
    until_prompt(&mut stream);
}

/// Makes the first ram disk: the system, and after it the payload. The kernel takes several archives in a row, each on a
/// boundary of four bytes.
fn ram_disk(system: &Path, scratch: &Path) -> PathBuf {
    let (root, added, disk) = (scratch.join("root"), scratch.join("payload"), scratch.join("disk"));
    payload(&root);
    archive(&root, &added);
    let mut bytes = fs::read(system.join("base.cpio.gz")).unwrap();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(fs::read(&added).unwrap());
    fs::write(&disk, bytes).unwrap();
    fs::remove_dir_all(root).unwrap();
    disk
}

impl Machine {
    /// Starts QEMU; `scratch` keeps its monitor and its log.
    fn start(system: &Path, scratch: &Path, shared: &Path, scenario: &str, parameters: &str) -> Self {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let disk = ram_disk(system, scratch);
        let quiet = "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off nokaslr rdinit=/init";
        // A processor without AVX: emulated, AVX takes several times as long as SSE for the same pictures.
        let child = Command::new("qemu-system-x86_64")
            .args(["-machine", "q35", "-cpu", "Nehalem", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1280"])
            .args(["-nodefaults", "-no-reboot", "-display", "none", "-vga", "none", "-device", "virtio-gpu-pci"])
            .args(["-serial", "stdio", "-monitor"])
            .arg(format!("unix:{},server=on,wait=off", text(&scratch.join(MONITOR))))
            .args(["-virtfs", &format!("local,path={},mount_tag=host,security_model=none", text(shared))])
            .args(["-kernel", &text(&system.join("vmlinuz")), "-initrd", &text(&disk)])
            .args(["-append", &format!("{quiet} kinora.scenario={scenario} {parameters}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(scratch.join(LOG)).unwrap())
            .spawn();
        Self(child.expect("starting qemu-system-x86_64: see .ci/setup device"))
    }

    /// The lines of its console, until it is switched off.
    fn console(&mut self) -> mpsc::Receiver<String> {
        let console = BufReader::new(self.0.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in console.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        lines
    }
}

/// Boots a machine with `shared` as its `/host`, has it run `scenario` with `parameters`, and fails unless all went well
/// within `patience`.
pub fn boot(scenario: &str, parameters: &str, shared: TempDir, patience: Duration) -> Outcome {
    let _turn = turn();
    let scratch = tempfile::tempdir().unwrap();
    let out = shared.path().join("out");
    fs::create_dir_all(&out).unwrap();
    let mut machine = Machine::start(&prepared(), scratch.path(), shared.path(), scenario, parameters);
    let begin = Instant::now();
    let mut answers = machine.0.stdin.take().unwrap();
    let lines = machine.console();

    let mut outcome = Outcome { shared, results: Vec::new(), console: String::new() };
    let mut code = None;
    while let Some(left) = patience.checked_sub(begin.elapsed()) {
        let Ok(line) = lines.recv_timeout(left) else { break };
        writeln!(outcome.console, "[{:6.1}] {line}", begin.elapsed().as_secs_f64()).unwrap();
        if let Some(name) = line.strip_prefix("@@SHOT ") {
            let picture = out.join(format!("{name}.ppm"));
            monitor(&scratch.path().join(MONITOR), &format!("screendump {}", picture.display()));
            answers.write_all(b"\n").unwrap();
        } else if let Some(keys) = line.strip_prefix("@@KEY ") {
            monitor(&scratch.path().join(MONITOR), &format!("sendkey {keys}"));
            answers.write_all(b"\n").unwrap();
        } else if let Some(result) = line.strip_prefix("@@RESULT ") {
            let result = serde_json::from_str(result).unwrap_or_else(|e| panic!("{line}: {e}\n{}", outcome.console));
            println!("{scenario}: {result}");
            outcome.results.push(result);
        } else if let Some(number) = line.strip_prefix("@@EXIT ") {
            code = Some(number.to_owned());
        }
    }
    drop(machine);
    let took = begin.elapsed().as_secs_f64();
    println!("{scenario}: {took:.1} s in the virtual machine");
    keep(scenario, &out, &outcome.console);
    if code.as_deref() != Some("0") {
        let qemu = fs::read_to_string(scratch.path().join(LOG)).unwrap();
        let end = code.map_or(format!("no end within {took:.0} s"), |code| format!("exit code {code}"));
        panic!("scenario {scenario}: {end}; the console:\n{}\n{qemu}", outcome.console);
    }
    outcome
}

/// Copies what a scenario left to the folder that the user named, if any.
fn keep(scenario: &str, out: &Path, console: &str) {
    let Ok(kept) = std::env::var("KINORA_DEVICE_KEEP") else { return };
    let kept = Path::new(&kept).join(scenario);
    let _ = fs::remove_dir_all(&kept);
    fs::create_dir_all(&kept).unwrap();
    for file in fs::read_dir(out).unwrap().flatten() {
        fs::copy(file.path(), kept.join(file.file_name())).unwrap();
    }
    fs::write(kept.join("console.log"), console).unwrap();
}
