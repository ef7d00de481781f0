//! The state of a training run on disk: one safetensors file with the weights (`weights/`), their running average
//! (`average/`), the optimizer's moments (`first/`, `second/`), and what they belong to as JSON in its header.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kinora::model::graph::{Graph, Weights};
use kinora::model::manifest::{Activation, Input, Mode};
use kinora::{Error, ErrorKind};
use ndarray::ArrayD;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::arch::Architecture;
use crate::interpreter::to_array;

/// The newest state of a run.
pub const LAST: &str = "last.safetensors";
/// The state of the highest validation accuracy.
pub const BEST: &str = "best.safetensors";

/// What a checkpoint belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// The architecture's text form.
    pub architecture: String,
    /// What the model sees.
    pub input: Input,
    /// How it is to run: what it was trained for.
    #[serde(default)]
    pub mode: Mode,
    /// What its logits are made into: whether a clip shows one class or any number.
    #[serde(default = "one_class")]
    pub activation: Activation,
    /// The class names.
    pub labels: Vec<String>,
    /// Which of them is no action, if the data said so.
    #[serde(default)]
    pub nothing: Option<String>,
    /// What it was trained on.
    pub data: String,
    /// What its first weights had been trained on, if they were not fresh.
    #[serde(default)]
    pub before: Option<String>,
    /// The first layer that is trained, if not all are.
    #[serde(default)]
    pub train_from: Option<String>,
    /// The command that trained it.
    pub recipe: String,
    /// Seed of the run.
    pub seed: u64,
    /// Steps taken.
    pub step: u64,
    /// Clips seen.
    pub clips: u64,
    /// Seconds spent.
    pub seconds: f64,
    /// Highest validation accuracy so far; where clips show any number of classes the lowest loss, negative.
    pub best: Option<f64>,
}

/// What all models were trained for at first.
fn one_class() -> Activation {
    Activation::Softmax
}

impl Info {
    /// What the weights have seen.
    pub fn seen(&self) -> String {
        let before = self.before.as_ref().map_or(String::new(), |data| format!("; first weights from: {data}"));
        format!("{} ({} clips seen in {} steps){before}", self.data, self.clips, self.step)
    }

    /// The graph that the weights belong to.
    ///
    /// # Errors
    /// `Usage` or `Model` when the architecture or the input is not understood.
    pub fn graph(&self) -> kinora::Result<Graph> {
        let input = [self.input.colour.channels(), self.input.frames, self.input.height, self.input.width];
        self.architecture.parse::<Architecture>()?.graph(input, self.labels.len())
    }
}

/// The state of a run.
pub struct Checkpoint {
    /// What it belongs to.
    pub info: Info,
    arrays: BTreeMap<String, ArrayD<f32>>,
}

fn refuse(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Model, format_args!("checkpoint {}: {why}", path.display()))
}

impl Checkpoint {
    /// A checkpoint of `weights`, their `average` and the optimizer's `state`.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn new(info: Info, weights: Weights, average: Weights, state: &BTreeMap<String, Tensor>) -> Result<Self> {
        let mut arrays = BTreeMap::new();
        arrays.extend(weights.into_iter().map(|(name, array)| (format!("weights/{name}"), array)));
        arrays.extend(average.into_iter().map(|(name, array)| (format!("average/{name}"), array)));
        for (name, tensor) in state {
            arrays.insert(name.clone(), to_array(tensor)?);
        }
        Ok(Self { info, arrays })
    }

    fn group(&self, prefix: &str) -> Weights {
        let named =
            |(name, array): (&String, &ArrayD<f32>)| Some((name.strip_prefix(prefix)?.to_owned(), array.clone()));
        self.arrays.iter().filter_map(named).collect()
    }

    /// The weights as trained.
    pub fn weights(&self) -> Weights {
        self.group("weights/")
    }

    /// The running average of the weights: those to evaluate and export.
    pub fn average(&self) -> Weights {
        self.group("average/")
    }

    /// The optimizer's state.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let moments = self.arrays.iter().filter(|(name, _)| name.starts_with("first/") || name.starts_with("second/"));
        moments.map(|(name, array)| Ok((name.clone(), to_tensor(array)?))).collect()
    }

    /// Writes the checkpoint; a file that is there is replaced only by a complete one.
    ///
    /// # Errors
    /// `Output`, naming the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes: Vec<(&String, &ArrayD<f32>, Vec<u8>)> = (self.arrays.iter())
            .map(|(name, array)| (name, array, array.iter().flat_map(|x| x.to_le_bytes()).collect()))
            .collect();
        let views: Vec<(&String, TensorView)> = (bytes.iter())
            .map(|(name, array, bytes)| Ok((*name, TensorView::new(Dtype::F32, array.shape().to_vec(), bytes)?)))
            .collect::<Result<_>>()?;
        let info = serde_json::to_string(&self.info)?;
        let file = safetensors::serialize(views, Some(HashMap::from([("kinora".to_owned(), info)])))?;
        let temporary = path.with_extension("safetensors.new");
        let written = fs::File::create(&temporary)
            .and_then(|mut f| f.write_all(&file).and_then(|()| f.sync_all()))
            .and_then(|()| fs::rename(&temporary, path));
        written.map_err(|why| {
            let _ = fs::remove_file(&temporary);
            Error::new(ErrorKind::Output, format_args!("{}: cannot be written: {why}", path.display())).into()
        })
    }

    /// Reads a checkpoint: a file, or a run's folder, of which the best state is read, else the last.
    ///
    /// # Errors
    /// `Model`, naming the file and the reason.
    pub fn load(path: &Path) -> Result<Self> {
        let path = &find(path);
        let bytes = fs::read(path).map_err(|why| refuse(path, why))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|why| refuse(path, why))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|why| refuse(path, why))?;
        let info = metadata.metadata().as_ref().and_then(|map| map.get("kinora"));
        let info = info.ok_or_else(|| refuse(path, "its header does not say which run it belongs to"))?;
        let info: Info = serde_json::from_str(info).map_err(|why| refuse(path, why))?;
        let mut arrays = BTreeMap::new();
        for (name, view) in tensors.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(refuse(path, format_args!("'{name}' is {:?}, not F32", view.dtype())).into());
            }
            let (words, _) = view.data().as_chunks::<4>();
            let values = words.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            arrays.insert(name, ArrayD::from_shape_vec(view.shape(), values).map_err(|why| refuse(path, why))?);
        }
        let checkpoint = Self { info, arrays };
        let graph = checkpoint.info.graph().map_err(|why| refuse(path, why))?;
        for weights in [checkpoint.weights(), checkpoint.average()] {
            graph.check(&weights).map_err(|why| refuse(path, why))?;
        }
        Ok(checkpoint)
    }
}

/// The file that `path` means.
fn find(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let best = path.join(BEST);
    if best.exists() { best } else { path.join(LAST) }
}

/// An array as a tensor on the CPU.
///
/// # Errors
/// When it cannot be made.
pub fn to_tensor(array: &ArrayD<f32>) -> Result<Tensor> {
    let shape: Vec<i64> = array.shape().iter().map(|&n| n as i64).collect();
    let values: Vec<f32> = array.iter().copied().collect();
    Tensor::f_from_slice(&values)?.f_reshape(&shape).context("a tensor from an array")
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::interpreter::Net;
    use kinora::model::manifest::{Colour, Resize};
    use tch::Device;

    pub(crate) fn info(labels: &[&str]) -> Info {
        let input = Input {
            frames: 4,
            height: 16,
            width: 16,
            colour: Colour::Gray,
            frame_rate: 10.0,
            resize: Resize::Crop,
            mean: vec![0.0],
            std: vec![1.0],
        };
        Info {
            architecture: "r2plus1d-edge(width=2,depth=1)".into(),
            input,
            mode: Mode::Window,
            activation: Activation::Softmax,
            labels: labels.iter().map(|&l| l.into()).collect(),
            nothing: None,
            data: "squares".into(),
            before: None,
            train_from: None,
            recipe: "train-export train".into(),
            seed: 1,
            step: 7,
            clips: 28,
            seconds: 1.5,
            best: Some(0.5),
        }
    }

    #[test]
    fn round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let info = info(&["a", "b"]);
        let net = Net::new(info.graph().unwrap(), Device::Cpu, 3).unwrap();
        let (weights, average) = (net.weights().unwrap(), net.weights().unwrap());
        let average: Weights = average.into_iter().map(|(name, w)| (name, w * 2.0)).collect();
        let state = BTreeMap::from([("first/head.bias".to_owned(), Tensor::from_slice(&[1f32, 2.0]))]);
        let path = dir.path().join(LAST);
        Checkpoint::new(info.clone(), weights.clone(), average.clone(), &state).unwrap().save(&path).unwrap();
        let back = Checkpoint::load(dir.path()).unwrap();
        assert_eq!((back.info.clone(), back.weights(), back.average()), (info, weights, average));
        assert_eq!(Vec::<f32>::try_from(&back.state().unwrap()["first/head.bias"]).unwrap(), [1.0, 2.0]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn broken_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let error = |path: &Path| Checkpoint::load(path).err().unwrap().downcast::<Error>().unwrap();
        assert_eq!(error(&path).kind(), ErrorKind::Model);
        fs::write(&path, b"no such thing").unwrap();
        assert!(error(&path).to_string().contains("x.safetensors"));
        let mut other = info(&["a", "b", "c"]);
        let net = Net::new(other.graph().unwrap(), Device::Cpu, 3).unwrap();
        other.labels.pop();
        let (weights, average) = (net.weights().unwrap(), net.weights().unwrap());
        Checkpoint::new(other, weights, average, &BTreeMap::new()).unwrap().save(&path).unwrap();
        assert!(error(&path).to_string().contains("head."), "{}", error(&path));
    }
}
