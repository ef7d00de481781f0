//! The program as its users run it: `synthetic:` and small files in; pictures, videos, events and exit codes out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/data.rs"]
mod data;
mod failures;
mod record;
mod run;
mod watch;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder for one test with a tiny bundle in `model`.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        common::tiny(&folder.path().join("model"));
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path as an argument.
    fn arg(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// `kinora` in this folder, without the settings of whoever runs the tests.
    fn kinora(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KINORA_")) {
            command.env_remove(name);
        }
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        command.current_dir(self.folder.path()).args(args);
        command
    }

    /// Runs with the tiny model and checks that all went well.
    fn run(&self, args: &[&str]) -> Output {
        let output = self.kinora(args).env("KINORA_MODEL", self.path("model")).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        output
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

/// Makes a test video of `seconds` at 25 pictures a second.
fn video(path: &Path, seconds: u32) {
    let pattern = format!("testsrc2=size=160x120:rate=25:duration={seconds}");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", &pattern, "-pix_fmt", "yuv420p"])
        .arg(path)
        .status();
    assert!(made.unwrap().success(), "ffmpeg made no {}", path.display());
}

/// What ffprobe says of the video stream: counted frames, width, height.
fn probe(path: &Path) -> (u64, u64, u64) {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0"])
        .args(["-show_entries", "stream=nb_read_frames,width,height", "-of", "json"])
        .arg(path)
        .output()
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let stream = &answer["streams"][0];
    let frames = stream["nb_read_frames"].as_str().unwrap_or_else(|| panic!("{answer}")).parse().unwrap();
    (frames, stream["width"].as_u64().unwrap(), stream["height"].as_u64().unwrap())
}
