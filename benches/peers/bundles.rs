//! The bundles that are measured: random weights, for clips of 112x112 in colour and 400 classes, as the published nets
//! have them. Speed does not depend on what the weights are.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use kinora::model::Bundle;

/// The nets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Model {
    /// r2plus1d-edge: 16, 32, 64, 128 channels
    Edge,
    /// r2plus1d-18
    R18,
    /// r3d-18
    R3d18,
}

/// A net in the form in which it is measured.
pub struct Spec {
    pub model: Model,
    /// Folder of the bundle.
    pub name: &'static str,
    /// As `train-export` takes it.
    pub architecture: &'static str,
    /// Length of a clip, T.
    pub frames: usize,
}

const fn spec(model: Model, name: &'static str, architecture: &'static str, frames: usize) -> Spec {
    Spec { model, name, architecture, frames }
}

const EDGE: &str = "r2plus1d-edge";

/// As they were published.
pub const WINDOWS: [Spec; 3] = [
    spec(Model::Edge, "edge", EDGE, 16),
    spec(Model::R18, "r18", "r2plus1d-18", 16),
    spec(Model::R3d18, "r3d18", "r3d-18", 16),
];

/// Causal and without temporal stride, so that there is a decision at every frame.
pub const STREAMS: [Spec; 2] = [
    spec(Model::Edge, "edge", EDGE, 16),
    spec(Model::R18, "r18-stream", "r2plus1d-18(causal=true,temporal_stride=false)", 16),
];

/// One net for clips of several lengths.
pub const LENGTHS: [Spec; 4] = [
    spec(Model::Edge, "edge-t8", EDGE, 8),
    spec(Model::Edge, "edge", EDGE, 16),
    spec(Model::Edge, "edge-t32", EDGE, 32),
    spec(Model::Edge, "edge-t64", EDGE, 64),
];

impl Spec {
    /// The bundle, out of its folder in `bundles`, where `make train` puts it if it is not there.
    pub fn bundle(&self, bundles: &Path) -> Result<Bundle> {
        let dir = bundles.join(self.name);
        if !dir.exists() {
            eprintln!("{}: exporting {} with random weights", dir.display(), self.architecture);
            let (architecture, frames, dir) = (self.architecture, self.frames, std::path::absolute(&dir)?);
            let arguments = format!(
                "export --untrained 1 --int8 --arch '{architecture}' --classes 400 --colour rgb --frames {frames} \
                 --size 112 --out '{}'",
                dir.display()
            );
            let status = Command::new("make")
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .args(["-s", "train", &format!("ARGS={arguments}")])
                // It prints what it has measured; standard output is for the tables.
                .stdout(std::io::stderr())
                .status()
                .context("make cannot be started")?;
            ensure!(status.success(), "{}: `make train` failed", dir.display());
        }
        Ok(Bundle::load(&dir)?)
    }
}
