//! A model bundle: a folder with `manifest.toml`, `labels.txt`, `model.onnx`, `golden.safetensors` and perhaps
//! `model.int8.onnx`; of a recurrent model the files are `model.step.onnx` and `model.step.int8.onnx`. Blocks on the file
//! system.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tract_onnx::pb::ModelProto;

use super::graph::{Graph, Weights};
use super::onnx::check::{State, check_signature};
use super::{Golden, Manifest, onnx, read_file, replace_file};
use crate::{Error, ErrorKind, Result};

const MANIFEST: &str = "manifest.toml";
const LABELS: &str = "labels.txt";
/// In f32 and, only in bundles that have been quantised, in integers.
const MODEL: [&str; 2] = ["model.onnx", "model.int8.onnx"];
/// Those of a recurrent model: of one frame.
const STEP: [&str; 2] = ["model.step.onnx", "model.step.int8.onnx"];
const GOLDEN: &str = "golden.safetensors";
/// All files that a bundle may have.
pub(super) const FILES: [&str; 7] = [MANIFEST, LABELS, GOLDEN, MODEL[0], MODEL[1], STEP[0], STEP[1]];

/// A bundle that was read and found consistent.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// The folder.
    pub dir: PathBuf,
    /// Its `manifest.toml`.
    pub manifest: Manifest,
    /// The class names, in the order of the logits.
    pub labels: Vec<String>,
}

fn refuse(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Model, format_args!("{}: {why}", path.display()))
}

impl Bundle {
    /// Reads the bundle in `dir` and checks it: fields, labels, hashes of the files, and that the model and the golden
    /// clip have the shapes that the manifest names.
    ///
    /// # Errors
    /// `Model`, with file, field and reason.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        if !path.is_file() {
            return Err(refuse(dir, format_args!("no model bundle: there is no {MANIFEST} in it")));
        }
        let manifest = Manifest::parse(&text(&path)?).map_err(|error| error.within(path.display()))?;
        check_files(dir, &manifest)?;
        let labels_path = dir.join(LABELS);
        let labels = parse_labels(&text(&labels_path)?).map_err(|error| error.within(labels_path.display()))?;
        manifest.check_labels(&labels).map_err(|error| error.within(path.display()))?;
        let bundle = Self { dir: dir.to_owned(), manifest, labels };
        bundle.signature(&bundle.onnx(), &onnx::read(&bundle.onnx())?)?;
        let golden = bundle.golden()?;
        if let Some(path) = bundle.onnx_int8() {
            bundle.signature(&path, &onnx::read(&path)?)?;
            let listed = bundle.manifest.sha256.contains_key(models(&bundle.manifest)[1]);
            if !listed || golden.logits_int8.is_none() {
                let lacks =
                    if listed { "golden.safetensors has no 'logits_int8'" } else { "manifest.toml does not list it" };
                return Err(refuse(&path, format_args!("{lacks}: export the bundle again")));
            }
        }
        Ok(bundle)
    }

    /// The f32 model.
    pub fn onnx(&self) -> PathBuf {
        self.dir.join(models(&self.manifest)[0])
    }

    /// The quantised model, if the bundle has one.
    pub fn onnx_int8(&self) -> Option<PathBuf> {
        Some(self.dir.join(models(&self.manifest)[1])).filter(|path| path.is_file())
    }

    /// Checks that the model in the file at `path` has the inputs and outputs that the manifest names; what it remembers.
    pub(crate) fn signature(&self, path: &Path, model: &ModelProto) -> Result<Vec<State>> {
        let output = (self.labels.len(), self.manifest.output.per_frame);
        check_signature(model, self.manifest.input.clip_shape(), output).map_err(|error| error.within(path.display()))
    }

    /// What to say when there is none.
    pub(crate) fn lacks_int8(&self) -> Error {
        let dir = self.dir.display();
        Error::new(ErrorKind::Engine, format_args!("{dir}: the bundle has no int8 model: export it with --int8"))
    }

    /// The golden clip and its logits.
    ///
    /// # Errors
    /// `Model`, naming the file and the tensor.
    pub fn golden(&self) -> Result<Golden> {
        let path = self.dir.join(GOLDEN);
        let golden = Golden::read(&path)?;
        golden.check(&self.manifest).map_err(|error| error.within(path.display()))?;
        Ok(golden)
    }
}

/// What a bundle is made of.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// `sha256` is filled in.
    pub manifest: Manifest,
    /// The class names.
    pub labels: &'a [String],
    /// The f32 model.
    pub model: (&'a Graph, &'a Weights),
    /// The quantised model, if there is one.
    pub int8: Option<(&'a Graph, &'a Weights)>,
    /// A clip and the logits of the models.
    pub golden: &'a Golden,
}

/// Writes a bundle to `dir` and loads it back. It is put together in a folder beside
/// `dir`, so that a bundle that is there is replaced only by a complete one.
///
/// # Errors
/// `Model` when the parts contradict one another, `Output` when they cannot be written or when `dir` holds something
/// that is no part of a bundle.
pub fn write(dir: &Path, parts: Parts<'_>) -> Result<Bundle> {
    let failed = |why: std::io::Error| Error::new(ErrorKind::Output, format_args!("{}: {why}", dir.display()));
    let target = if dir.exists() { dir.canonicalize().map_err(failed)? } else { dir.to_owned() };
    refuse_foreign(&target)?;
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(failed(std::io::ErrorKind::InvalidInput.into()));
    };
    let beside = |suffix: &str| target.with_file_name(format!(".{}.{suffix}", name.display()));
    let (temporary, old) = (beside("new"), beside("old"));
    if !parent.as_os_str().is_empty() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    // What an interrupted run left behind: the old bundle may be the only one.
    let _ = fs::remove_dir_all(&temporary);
    if old.exists() && !target.exists() {
        fs::rename(&old, &target).map_err(failed)?;
    }
    let _ = fs::remove_dir_all(&old);
    let written = fs::create_dir(&temporary)
        .map_err(failed)
        .and_then(|()| fill(&temporary, parts))
        .and_then(|bundle| swap(&temporary, &target, &old).map(|()| bundle).map_err(failed));
    written.map(|bundle| Bundle { dir: dir.to_owned(), ..bundle }).map_err(|error| {
        let _ = fs::remove_dir_all(&temporary);
        let place = |path: &Path| path.display().to_string();
        Error::new(error.kind(), error.to_string().replace(&place(&temporary), &place(dir)))
    })
}

/// Only folders that hold nothing but a bundle are replaced.
///
/// # Errors
/// `Output`, naming what else is in `dir`.
pub fn refuse_foreign(dir: &Path) -> Result<()> {
    let failed = |why: &dyn std::fmt::Display| Error::new(ErrorKind::Output, format_args!("{}: {why}", dir.display()));
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(|why| failed(&why))? {
        let name = entry.map_err(|why| failed(&why))?.file_name();
        if !FILES.iter().any(|known| name == *known) {
            let name = name.display();
            return Err(failed(&format_args!("'{name}' is no part of a bundle: move it away or name another folder")));
        }
    }
    Ok(())
}

fn fill(dir: &Path, parts: Parts<'_>) -> Result<Bundle> {
    let Parts { mut manifest, labels, model: (graph, weights), int8, golden } = parts;
    let text = labels.iter().map(|label| format!("{label}\n")).collect::<String>();
    replace_file(&dir.join(LABELS), text.as_bytes())?;
    let [model, model_int8] = models(&manifest);
    onnx::write(graph, weights, &dir.join(model))?;
    if let Some((graph, weights)) = int8 {
        onnx::write(graph, weights, &dir.join(model_int8))?;
    }
    golden.write(&dir.join(GOLDEN))?;
    manifest.sha256 = BTreeMap::new();
    for file in [LABELS, model, GOLDEN].into_iter().chain(int8.map(|_| model_int8)) {
        manifest.sha256.insert(file.into(), sha256(&read_file(&dir.join(file))?));
    }
    replace_file(&dir.join(MANIFEST), manifest.to_toml()?.as_bytes())?;
    let bundle = Bundle::load(dir)?;
    match bundle.labels == labels {
        true => Ok(bundle),
        false => Err(refuse(&dir.join(LABELS), "a label has a line break")),
    }
}

fn swap(new: &Path, target: &Path, old: &Path) -> std::io::Result<()> {
    if !target.exists() {
        return fs::rename(new, target);
    }
    fs::rename(target, old)?;
    if let Err(why) = fs::rename(new, target) {
        fs::rename(old, target)?;
        return Err(why);
    }
    fs::remove_dir_all(old)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names of the models' files.
fn models(manifest: &Manifest) -> [&'static str; 2] {
    if manifest.output.per_frame { STEP } else { MODEL }
}

fn check_files(dir: &Path, manifest: &Manifest) -> Result<()> {
    let (path, hashes) = (dir.join(MANIFEST), &manifest.sha256);
    let field = |name: &str, why: &str| refuse(&path, format_args!("field 'sha256', '{name}': {why}"));
    let model = models(manifest)[0];
    if let Some(missing) = [LABELS, model, GOLDEN].into_iter().find(|name| !hashes.contains_key(*name)) {
        return Err(field(missing, "the file is not listed: export the bundle again"));
    }
    for (name, hash) in hashes {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) || name == MANIFEST {
            return Err(field(name, "not the plain name of another file in the bundle"));
        }
        if hash.len() != 64 || !hash.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(field(name, "not 64 lower-case hexadecimal digits"));
        }
        if sha256(&read_file(&dir.join(name))?) != *hash {
            let why = "its SHA-256 is not the one in manifest.toml: it was changed or cut off, copy the bundle again";
            return Err(refuse(&dir.join(name), why));
        }
    }
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    String::from_utf8(read_file(path)?).map_err(|why| {
        let line = why.as_bytes()[..why.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
        refuse(path, format_args!("line {line}: not UTF-8"))
    })
}

fn parse_labels(text: &str) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    for (index, label) in text.lines().enumerate() {
        let refuse = |why| Error::new(ErrorKind::Model, format_args!("line {}: {why}", index + 1));
        if label.trim().is_empty() {
            return Err(refuse("the line is blank: one label a line".to_owned()));
        }
        if label.trim() != label || label.contains(|c: char| c.is_control() || c == '\u{feff}') {
            return Err(refuse(format!("'{}' has blanks around it or control characters", label.escape_debug())));
        }
        if !seen.insert(label) {
            return Err(refuse(format!("'{label}' is there twice")));
        }
    }
    match seen.is_empty() {
        true => Err(Error::new(ErrorKind::Model, "there are no labels")),
        false => Ok(text.lines().map(str::to_owned).collect()),
    }
}
