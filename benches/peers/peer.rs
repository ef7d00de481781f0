//! OpenVINO and ONNX Runtime, each in a Python of its own (`peers.py`).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use kinora::engine::Precision;
use ndarray::Array5;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::turns::Contestant;

/// Who is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Engine {
    OpenVino,
    /// Without the matrix unit (AMX), which only processors of servers have.
    OpenVinoNoAmx,
    OnnxRuntime,
}

impl Engine {
    pub const ALL: [Self; 3] = [Self::OpenVino, Self::OpenVinoNoAmx, Self::OnnxRuntime];

    pub fn name(self) -> &'static str {
        match self {
            Self::OpenVino => "OpenVINO",
            Self::OpenVinoNoAmx => "OpenVINO without AMX",
            Self::OnnxRuntime => "ONNX Runtime",
        }
    }

    /// Whether there is anything to compare with: the matrix unit matters to integers, where there is one.
    pub fn is_apart(self, precision: Precision) -> bool {
        let amx = || std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|info| info.contains("amx_int8"));
        self != Self::OpenVinoNoAmx || precision == Precision::Int8 && amx()
    }
}

/// A running peer with a model and a clip.
pub struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    clip: NamedTempFile,
    logits: Vec<f32>,
    /// Its name and version.
    pub name: String,
}

impl Peer {
    /// Starts `engine` on `threads` threads with the model in `file`.
    pub fn start(python: &Path, engine: Engine, file: &Path, precision: Precision, threads: usize) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/peers.py"));
        if engine == Engine::OpenVinoNoAmx {
            command.env("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().with_context(|| {
            format!("Python ({}) cannot be started: `make peers` without PEERS_PYTHON has its own", python.display())
        })?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else { bail!("no pipes to Python") };
        let (from, clip) = (BufReader::new(from), NamedTempFile::new()?);
        let mut peer = Self { child, to, from, clip, logits: Vec::new(), name: engine.name().to_owned() };
        let package = if engine == Engine::OnnxRuntime { "onnxruntime" } else { "openvino" };
        let f32 = precision == Precision::F32;
        let said = peer.ask(&json!({ "load": file, "engine": package, "threads": threads, "f32": f32 }))?;
        peer.name = format!("{}, version {}", engine.name(), said["version"].as_str().unwrap_or("unknown"));
        Ok(peer)
    }

    /// Makes it run `clip`, `[1, C, T, H, W]`, from now on.
    pub fn set_clip(&mut self, clip: &Array5<f32>) -> Result<()> {
        let bytes: Vec<u8> = clip.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(self.clip.path(), bytes)?;
        let request = json!({ "clip": self.clip.path(), "shape": clip.shape() });
        self.ask(&request).map(|_| ())
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        // If it has ended, what it said last tells why.
        let _ = writeln!(self.to, "{request}");
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line)
            .with_context(|| format!("{}: Python said '{}' to {request}", self.name, line.trim()))?;
        if let Some(why) = answer["error"].as_str() {
            bail!("{}: {why} (the packages it wants are in benches/peers/requirements.txt)", self.name);
        }
        Ok(answer)
    }
}

impl Contestant for Peer {
    fn decide(&mut self) -> Result<f64> {
        let mut answer = self.ask(&json!({ "run": true }))?;
        self.logits = serde_json::from_value(answer["logits"].take())?;
        answer["seconds"].as_f64().context("no time in the answer")
    }

    fn logits(&self) -> &[f32] {
        &self.logits
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
