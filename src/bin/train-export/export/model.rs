//! What is exported: a trained model, or one of random weights to measure speed with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kinora::ErrorKind;
use kinora::model::graph::{Graph, Weights};
use kinora::model::manifest::{Activation, Colour, Input, Mode};
use kinora::model::{Bundle, Manifest, onnx};
use tch::{Device, Tensor};

use crate::arch::Architecture;
use crate::checkpoint::Checkpoint;
use crate::interpreter::{Net, Pass};
use crate::random;

/// A model that can be exported.
pub struct Model {
    /// The architecture's text form.
    pub architecture: String,
    /// What it sees.
    pub input: Input,
    /// How it is to run.
    pub mode: Mode,
    /// What its logits are made into.
    pub activation: Activation,
    /// The class names.
    pub labels: Vec<String>,
    /// Which of them is no action, if training was told.
    pub nothing: Option<String>,
    /// All parameters.
    pub weights: Weights,
    /// What it was trained on.
    pub data: String,
    /// The command that made it.
    pub recipe: String,
    /// The manifest of the bundle it comes from, if it comes from one.
    pub manifest: Option<Manifest>,
}

impl Model {
    /// The averaged weights of a run's folder or a checkpoint.
    ///
    /// # Errors
    /// `Model`, naming the file and the reason.
    pub fn trained(path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::load(path)?;
        let weights = checkpoint.average();
        let (data, info) = (checkpoint.info.seen(), checkpoint.info);
        Ok(Self {
            architecture: info.architecture,
            input: info.input,
            mode: info.mode,
            activation: info.activation,
            labels: info.labels,
            nothing: info.nothing,
            weights,
            data,
            recipe: info.recipe,
            manifest: None,
        })
    }

    /// The model of a bundle.
    ///
    /// # Errors
    /// `Model`, naming the file and the reason.
    pub fn exported(dir: &Path) -> Result<Self> {
        let bundle = Bundle::load(dir)?;
        let weights = onnx::read_weights(&bundle.onnx())?;
        let manifest = bundle.manifest;
        if manifest.input.colour == Colour::RgbFlow {
            let why = "a model of two streams is made of their bundles: export those, then `join` them again";
            return Err(kinora::Error::new(ErrorKind::Usage, format_args!("{}: {why}", dir.display())).into());
        }
        let model = Self {
            architecture: manifest.architecture.clone(),
            input: manifest.input.clone(),
            mode: manifest.run.mode,
            activation: manifest.output.activation,
            labels: bundle.labels,
            nothing: None,
            weights,
            data: manifest.provenance.data.clone(),
            recipe: manifest.provenance.recipe.clone(),
            manifest: Some(manifest),
        };
        let place = format!("{}: this program's '{}' has other parameters", dir.display(), model.architecture);
        model.graph()?.check(&model.weights).map_err(|error| error.within(place))?;
        Ok(model)
    }

    /// The model of a bundle, a run's folder or a checkpoint.
    fn read(path: &Path) -> Result<Self> {
        if path.join("manifest.toml").exists() { Self::exported(path) } else { Self::trained(path) }
    }

    /// The same with the mean of its weights and of those of the models at `paths`; their windows may have other lengths.
    ///
    /// # Errors
    /// `Model` when there is none at a path, `Usage` when it is another net or says other things.
    pub fn mean_with(mut self, paths: &[PathBuf]) -> Result<Self> {
        let net = |model: &Self| {
            let input = Input { frames: 0, ..model.input.clone() };
            (model.architecture.clone(), input, model.mode, model.activation, model.labels.clone())
        };
        let share = 1.0 / (paths.len() + 1) as f32;
        self.weights.values_mut().for_each(|array| *array *= share);
        let (mut data, mut recipes) = (vec![self.data.clone()], vec![self.recipe.clone()]);
        for path in paths {
            let other = Self::read(path)?;
            if net(&other) != net(&self) {
                let why = "of another architecture, input, mode or labels; the mean is of runs of one net";
                return Err(kinora::Error::new(
                    ErrorKind::Usage,
                    format_args!("--mean-with {}: {why}", path.display()),
                )
                .into());
            }
            for (name, array) in &mut self.weights {
                let of = other.weights.get(name).with_context(|| format!("{}: no '{name}'", path.display()))?;
                array.scaled_add(share, of);
            }
            data.push(other.data);
            recipes.push(other.recipe);
        }
        recipes.push(crate::recipe());
        recipes.dedup();
        self.data = format!("mean of {} models' weights: {}", data.len(), data.join("; and: "));
        self.recipe = recipes.join(" && ");
        if let Some(manifest) = &mut self.manifest {
            (manifest.provenance.data, manifest.provenance.recipe) = (self.data.clone(), self.recipe.clone());
            manifest.measured.clear();
        }
        Ok(self)
    }

    /// The same with a window of so many frames.
    ///
    /// # Errors
    /// `Usage` when its answer is no mean over a window's frames.
    pub fn of_window(mut self, frames: usize) -> Result<Self> {
        if !self.graph()?.states().is_empty() {
            let why = "a recurrent net remembers as long as it will; its window is that of training";
            return Err(kinora::Error::new(ErrorKind::Usage, format_args!("--window {frames}: {why}")).into());
        }
        if frames == self.input.frames {
            return Ok(self);
        }
        self.input.frames = frames;
        self.graph()?.check(&self.weights).map_err(|error| error.within(format!("--window {frames}")))?;
        if let Some(manifest) = &mut self.manifest {
            manifest.input.frames = frames;
            manifest.measured.clear();
        }
        Ok(self)
    }

    /// Random weights that `seed` decides, for `classes` classes without a meaning: convolutions as before training, and
    /// normalisations by the statistics of clips of noise, so that activations keep the scale of trained ones.
    ///
    /// # Errors
    /// `Model` when `input` is too small for the architecture; when the net fails.
    pub fn untrained(architecture: Architecture, input: Input, classes: usize, seed: u64) -> Result<Self> {
        let shape = [input.colour.channels(), input.frames, input.height, input.width];
        let net = Net::new(architecture.graph(shape, classes)?, Device::Cpu, seed)?;
        let clips: Vec<Tensor> = (0..4).map(|n| noise(&input, seed, n)).collect::<Result<_>>()?;
        let _ = tch::no_grad(|| net.forward(&Tensor::f_cat(&clips, 0)?, Pass::Settle))?;
        Ok(Self {
            architecture: architecture.to_string(),
            input,
            mode: Mode::Window,
            activation: Activation::Softmax,
            labels: (0..classes).map(|n| format!("class_{n}")).collect(),
            nothing: None,
            weights: net.weights()?,
            data: format!("none: UNTRAINED, random weights of seed {seed} to measure speed with, not for use"),
            recipe: crate::recipe(),
            manifest: None,
        })
    }

    /// The graph that the weights belong to.
    ///
    /// # Errors
    /// `Usage` or `Model` when the architecture or the input is not understood.
    pub fn graph(&self) -> Result<Graph> {
        self.graph_for(self.labels.len())
    }

    /// The same for so many other classes.
    ///
    /// # Errors
    /// As [`Model::graph`].
    pub fn graph_for(&self, classes: usize) -> Result<Graph> {
        let [_, c, t, h, w] = self.input.clip_shape();
        Ok(self.architecture.parse::<Architecture>()?.graph([c, t, h, w], classes)?)
    }
}

/// A clip of noise, `[1, C, T, H, W]`, the same for the same `seed`; coarser and stronger with `number`.
pub fn noise(input: &Input, seed: u64, number: u32) -> Result<Tensor> {
    let [_, c, t, h, w] = input.clip_shape().map(|n| n as i64);
    let mut random = fastrand::Rng::with_seed(crate::data::mix(&[seed, number.into()]));
    let cell = 1 << number;
    let coarse = [1, c, t, (h / cell).max(1), (w / cell).max(1)];
    let noise = random::normal(&mut random, &coarse)? * (0.5 * f64::from(number + 1));
    Ok(noise.f_upsample_nearest3d([t, h, w], None, None, None)?)
}
