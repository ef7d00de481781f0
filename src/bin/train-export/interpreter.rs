//! Runs a [`Graph`] on tensors, for training and for the reference logits.
//!
//! A value is a tensor `[N, C, T, H * W]` with the channels innermost in memory. In that layout a k x 1 x 1 convolution
//! is a 2-D convolution as it stands, and a 1 x k x k convolution is one of the same memory seen as `[N * T, C, H, W]`:
//! no copies, and the library's 2-D kernels are several times as fast as its 3-D ones.
//!
//! Graphs have a batch axis of 1; the net runs any N. The graph of a recurrent net is that of one frame; the net runs any
//! number of them, frame by frame only where it must: see [`crate::recurrence`]. Operations that no architecture has yet are refused when the net is
//! made. Quantised values are computed in floats: integers as such, and what is computed between dequantised values in f32,
//! so that results are those of integer arithmetic but for ties in rounding.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use kinora::model::graph::{
    Binary, CHANNELS_AND_COLUMNS, CHANNELS_FIRST, CHANNELS_LAST, Conv, Element, Graph, Node, Op, Pad, Pool,
    PoolFunction, Quantization, Role, Slice, Unary, Value, Weights,
};
use ndarray::ArrayD;
use tch::{Device, Kind, Tensor};

use crate::imitation::{self, Imitation};
use crate::quantize::Ranges;
use crate::random;
use crate::recurrence::{self, Loop};

/// Share of a batch in the running statistics of a normalisation.
const MOMENTUM: f64 = 0.1;

/// What activations and convolution weights are rounded to while training. Sums, normalisation statistics, the loss and
/// the stored weights are f32 in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
}

/// How a net is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Normalise by the batch, update the running statistics.
    Train(Precision),
    /// Normalise by the batch, whose statistics become the running ones, all in f32.
    Settle,
    /// Normalise by the running statistics, all in f32.
    Evaluate,
}

/// What a recurrent net remembers from one frame to the next: of each state, by its node, `[N, C, 1, H * W]`. Nothing before
/// the first frame, where all of it is zero.
type States = BTreeMap<usize, Tensor>;

/// Is shown the values of a pass.
pub type Look<'a> = dyn FnMut(&Node, &Tensor) -> Result<()> + 'a;

/// A graph with its parameters as tensors.
pub struct Net {
    graph: Graph,
    tensors: BTreeMap<String, Tensor>,
    /// How many nodes read each value.
    readers: Vec<usize>,
    /// What runs frame by frame, if the net is recurrent.
    loops: Vec<Loop>,
    /// Whether it computes as if in integers, and with which steps.
    imitation: Option<Imitation>,
    /// Nodes before this one are not trained.
    first_trained: usize,
    device: Device,
}

impl Net {
    /// A net with fresh weights, the same for the same `seed` on every device.
    ///
    /// # Errors
    /// When an operation is not trained, naming its node, or a tensor cannot be made.
    pub fn new(graph: Graph, device: Device, seed: u64) -> Result<Self> {
        for node in graph.nodes() {
            let why = || format!("node '{}': operation '{}' is not computed with these settings", node.name, node.op);
            ensure!(trains(&graph, node), why());
        }
        let states = graph.states().len();
        let ends = [graph.inputs().count(), graph.outputs().len()];
        ensure!(ends == [1 + states; 2], "one input and one output wanted, and no others but states");
        let loops = recurrence::loops(&graph)?;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut tensors = BTreeMap::new();
        for parameter in graph.parameters() {
            let shape: Vec<i64> = parameter.shape.iter().map(|&n| n as i64).collect();
            let options = (Kind::Float, Device::Cpu);
            let tensor = match parameter.role {
                Role::Weight if shape.len() == 5 => {
                    let fan_out = (shape[0] * shape[2..].iter().product::<i64>()) as f64;
                    random::normal(&mut random, &shape)? * (2.0 / fan_out).sqrt()
                }
                Role::Weight => random::uniform(&mut random, &shape)? / (shape[1] as f64).sqrt(),
                Role::Scale | Role::RunningVariance | Role::Step | Role::Constant => Tensor::f_ones(&shape, options)?,
                Role::Bias | Role::RunningMean => Tensor::f_zeros(&shape, options)?,
            };
            let trained = parameter.role.is_trained();
            let tensor = tensor.f_to_device(device)?.f_set_requires_grad(trained)?;
            tensors.insert(parameter.name, tensor);
        }
        let mut readers = vec![0; graph.nodes().len()];
        for input in graph.nodes().iter().flat_map(|node| &node.inputs) {
            readers[input.index()] += 1;
        }
        let first = recurrence::first_biases(&graph);
        let mut net = Self { graph, tensors, readers, loops, imitation: None, first_trained: 0, device };
        net.set(&first)?;
        Ok(net)
    }

    /// From now on the net computes as its quantised form does, values rounded to the steps of `ranges` and weights to i8 per
    /// output channel, with gradients as if nothing were rounded. Normalisations keep their statistics.
    pub fn imitate(&mut self, ranges: Ranges) {
        self.imitation = Some(Imitation::new(&self.graph, ranges));
    }

    /// From now on only what comes from the layer `first` on is trained: a node, or those whose names begin so, such as
    /// `stage4`. What is before keeps its weights and its statistics.
    ///
    /// # Errors
    /// `Usage` when there is no such layer, or nothing to train from it on.
    pub fn train_from(&mut self, first: &str) -> Result<()> {
        let named =
            |node: &Node| node.name.strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let place = self.graph.nodes().iter().position(named).ok_or_else(|| {
            let message = format!("--train-from {first}: this net has no such layer; `train-export show` prints them");
            kinora::Error::new(kinora::ErrorKind::Usage, message)
        })?;
        for node in &self.graph.nodes()[..place] {
            for parameter in self.graph.node_parameters(node) {
                let tensor = self.tensors.get_mut(&parameter.name).context("a parameter that the net does not have")?;
                *tensor = tensor.f_detach()?;
            }
        }
        if self.trained().next().is_none() {
            let message = format!("--train-from {first}: nothing is trained from there on; name a layer with weights");
            return Err(kinora::Error::new(kinora::ErrorKind::Usage, message).into());
        }
        self.first_trained = place;
        Ok(())
    }

    /// How `pass` runs the node of this `index`.
    fn pass(&self, index: usize, pass: Pass) -> Pass {
        if index < self.first_trained { Pass::Evaluate } else { pass }
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Where the tensors are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// All parameters by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Names of the parameters that gradients train.
    pub fn trained(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.tensors.iter().filter(|(_, tensor)| tensor.requires_grad())
    }

    /// Overwrites the parameters that `weights` names.
    ///
    /// # Errors
    /// When a name is unknown or a shape differs.
    pub fn set(&mut self, weights: &Weights) -> Result<()> {
        for (name, array) in weights {
            let tensor = self.tensors.get_mut(name).with_context(|| format!("the net has no parameter '{name}'"))?;
            let shape: Vec<i64> = array.shape().iter().map(|&n| n as i64).collect();
            ensure!(tensor.size() == shape, "parameter '{name}': shape {:?} wanted, {shape:?} given", tensor.size());
            let values: Vec<f32> = array.iter().copied().collect();
            let values = Tensor::f_from_slice(&values)?.f_reshape(&shape)?;
            tch::no_grad(|| tensor.f_copy_(&values))?;
        }
        Ok(())
    }

    /// A copy of all parameters.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn weights(&self) -> Result<Weights> {
        self.tensors.iter().map(|(name, tensor)| Ok((name.clone(), to_array(tensor)?))).collect()
    }

    /// Whether the net is recurrent: then it has logits for every frame.
    pub fn recurrent(&self) -> bool {
        !self.loops.is_empty()
    }

    /// The nodes that run frame by frame, by name.
    pub fn repeated(&self) -> impl Iterator<Item = &str> {
        let nodes = self.loops.iter().flat_map(|repeated| &repeated.nodes);
        nodes.map(|node| self.graph.nodes()[*node].name.as_str())
    }

    /// The logits, f32, of `clips` `[N, C, T, H, W]`: `[N, K]`, of a recurrent net `[N, T, K]`. Of clips that are longer than
    /// the graph's the mean before the head is over the last positions only, as many as the graph's clips have: what a causal
    /// net's stream computes once it has seen all of the clip.
    ///
    /// # Errors
    /// When the shape is wrong or the device fails, naming the node.
    pub fn forward(&self, clips: &Tensor, pass: Pass) -> Result<Tensor> {
        self.forward_with(clips, pass, &mut |_, _| Ok(()))
    }

    /// As [`Net::forward`], but a recurrent net is shown at most `most` frames at a time: it takes no more memory than they do,
    /// however long the clips are. `each` is given the logits of a part and the clips' frame that they begin with. What the net
    /// remembers goes on from part to part, gradients do not (truncated back-propagation through time: Williams and Peng, An
    /// Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories, 1990), and normalisations
    /// that train take each part's statistics.
    ///
    /// # Errors
    /// As [`Net::forward`]; those of `each`.
    pub fn in_parts(
        &self,
        clips: &Tensor,
        most: usize,
        pass: Pass,
        each: &mut dyn FnMut(i64, Tensor) -> Result<()>,
    ) -> Result<()> {
        let frames = clips.size().get(2).map_or(0, |n| *n as usize);
        let most = if self.recurrent() { most } else { frames };
        let mut states = States::new();
        for first in (0..frames).step_by(most.max(1)) {
            let (part, first) = (clips.f_narrow(2, first as i64, most.min(frames - first) as i64)?, first as i64);
            each(first, self.go_on(&part, &mut states, pass, &mut |_, _| Ok(()))?)?;
            states.values_mut().try_for_each(|state| state.f_detach().map(|alone| *state = alone))?;
        }
        Ok(())
    }

    /// The logits `[N, K]` that answer `clips`: of a recurrent net those of the last frame.
    ///
    /// # Errors
    /// As [`Net::forward`].
    pub fn answer(&self, clips: &Tensor, pass: Pass) -> Result<Tensor> {
        let logits = self.forward(clips, pass)?;
        if self.recurrent() { Ok(logits.f_select(1, -1)?) } else { Ok(logits) }
    }

    /// As [`Net::forward`], and every value is shown to `look` with its node as soon as it is computed, before anything
    /// reads it. Values over time and place are `[N, C, T, H * W]` with the channels innermost in memory; of what runs frame
    /// by frame each frame is shown on its own.
    ///
    /// # Errors
    /// As [`Net::forward`]; those of `look`.
    pub fn forward_with(&self, clips: &Tensor, pass: Pass, look: &mut Look<'_>) -> Result<Tensor> {
        self.go_on(clips, &mut States::new(), pass, look)
    }

    /// As [`Net::forward_with`], for clips before which the net had come to `states`; those that it comes to take their place.
    fn go_on(&self, clips: &Tensor, states: &mut States, pass: Pass, look: &mut Look<'_>) -> Result<Tensor> {
        let (size, wanted) = (clips.size(), self.graph.input_shape());
        let fits = matches!((&size[..], wanted), ([_, c, t, h, w], [_, channels, frames, height, width])
            if [*c, *h, *w] == [channels, height, width].map(|n| *n as i64) && *t >= *frames as i64);
        ensure!(fits, "clips of shape {size:?} given, {wanted:?} with any N and more frames, if any, wanted");
        let kind = match pass {
            Pass::Train(Precision::Bf16) => Kind::BFloat16,
            Pass::Train(Precision::F32) | Pass::Settle | Pass::Evaluate => Kind::Float,
        };
        let x = clips.f_to_device(self.device)?.f_to_kind(kind)?.f_flatten(3, 4)?;
        let x = x.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?;
        let x = self.rounded(&self.graph.nodes()[0], x)?;
        look(&self.graph.nodes()[0], &x)?;
        let mut values: Vec<Option<Tensor>> = vec![Some(x)];
        values.resize_with(self.graph.nodes().len(), || None);
        let mut left = self.readers.clone();
        for (index, node) in self.graph.nodes().iter().enumerate().skip(1) {
            if let Some(repeated) = self.loops.iter().find(|repeated| repeated.nodes.contains(&index)) {
                if repeated.last() == Some(index) {
                    self.repeat(repeated, &mut values, states, pass, look)?;
                }
                continue;
            }
            let x = node.inputs.first().map(|input| (left[input.index()], &self.graph.node(*input).op));
            // Nobody else reads it, its maker's gradient does not need it, and it is no view: a gradient through an
            // overwritten view would be copied to another memory layout, at several times the cost.
            let overwrite = matches!(x, Some((1, Op::BatchNorm { .. } | Op::Binary(_)))) && self.device == Device::Cpu;
            let value = |value: Value| values[value.index()].as_ref().map(Tensor::shallow_clone);
            let result = self.run(node, &value, overwrite, self.pass(index, pass)).and_then(|x| self.rounded(node, x));
            let result = result.with_context(|| format!("node '{}'", node.name))?;
            look(node, &result)?;
            values[index] = Some(result);
            for input in &node.inputs {
                left[input.index()] -= 1;
                if left[input.index()] == 0 {
                    values[input.index()] = None;
                }
            }
        }
        let (_, output) = self.graph.outputs().swap_remove(0);
        let logits = values.swap_remove(output.index()).context("the logits were freed too early")?;
        Ok(logits.f_to_kind(Kind::Float)?)
    }

    /// Runs a loop over all frames of the values that it reads, on from `before`, and puts those that others read into `values`.
    fn repeat(
        &self,
        repeated: &Loop,
        values: &mut [Option<Tensor>],
        before: &mut States,
        pass: Pass,
        look: &mut Look<'_>,
    ) -> Result<()> {
        let Loop { nodes, states, shown, .. } = repeated;
        // Split once: the gradient of a split is one joined tensor, that of a frame taken by itself one of all frames, zero but
        // for that frame.
        let read = nodes.iter().flat_map(|node| &self.graph.nodes()[*node].inputs).map(|x| x.index());
        let mut given: BTreeMap<usize, Vec<Tensor>> = BTreeMap::new();
        for index in read.filter(|index| !nodes.contains(index)) {
            let value = values[index].as_ref().context("a value that it reads is not there")?;
            given.insert(index, value.f_split(1, 2)?);
        }
        let first = given.values().find_map(|frames| frames.first()).context("a recurrence that reads nothing")?;
        let (clips, kind) = (first.size()[0], first.kind());
        let frames = given.values().map(Vec::len).min().unwrap_or(0);
        for (state, _) in states {
            if before.contains_key(state) {
                continue;
            }
            let [_, channels, _, height, width] = self.graph.nodes()[*state].shape[..] else {
                anyhow::bail!("node '{}': a state [1, C, 1, H, W] wanted", self.graph.nodes()[*state].name)
            };
            let zeros = Tensor::f_zeros([clips, 1, (height * width) as i64, channels as i64], (kind, self.device))?;
            before.insert(*state, zeros.f_permute([0, 3, 1, 2])?);
        }
        let mut made: BTreeMap<usize, Vec<Tensor>> = shown.iter().map(|node| (*node, vec![])).collect();
        for t in 0..frames {
            let mut now: BTreeMap<usize, Tensor> = BTreeMap::new();
            for &index in nodes {
                let node = &self.graph.nodes()[index];
                let value = |value: Value| {
                    let frame = given.get(&value.index()).and_then(|frames| frames.get(t));
                    now.get(&value.index()).or(frame).map(Tensor::shallow_clone)
                };
                let result = match before.get(&index) {
                    Some(state) => Ok(state.shallow_clone()),
                    None => self.run(node, &value, false, self.pass(index, pass)),
                };
                let result =
                    result.and_then(|x| self.rounded(node, x)).with_context(|| format!("node '{}'", node.name))?;
                look(node, &result)?;
                now.insert(index, result);
            }
            for (state, next) in states {
                before.insert(*state, now[next].shallow_clone());
            }
            made.iter_mut().for_each(|(node, frames)| frames.push(now[node].shallow_clone()));
        }
        for (node, frames) in made {
            // Along T with the channels innermost.
            let innermost: Vec<Tensor> = frames.iter().map(|x| x.f_permute([0, 2, 3, 1])).collect::<Result<_, _>>()?;
            values[node] = Some(Tensor::f_cat(&innermost, 1)?.f_permute([0, 3, 1, 2])?);
        }
        Ok(())
    }

    /// What `node` computes of the values that it reads, the first of which it may `overwrite`.
    fn run(&self, node: &Node, value: &dyn Fn(Value) -> Option<Tensor>, overwrite: bool, pass: Pass) -> Result<Tensor> {
        let value = |n: usize| node.inputs.get(n).and_then(|x| value(*x)).context("a value that it reads is not there");
        let mut x = value(0)?;
        let before = &self.graph.node(node.inputs[0]).shape[1..];
        Ok(match &node.op {
            Op::Conv(conv) => self.conv(node, conv, &x, before)?,
            Op::BatchNorm { eps } => match &self.imitation {
                Some(imitation) if imitation.is_folded(node) => x,
                Some(_) => self.batch_norm(node, *eps, &x, Pass::Evaluate)?,
                None => self.batch_norm(node, *eps, &x, pass)?,
            },
            Op::Unary(Unary::Relu) if overwrite => x.f_relu_()?,
            Op::Unary(function) => unary(*function, &x)?,
            Op::Pool(pool) => windows(&x, before, pool)?,
            Op::Concat { .. } => {
                let all: Vec<Tensor> = (0..node.inputs.len()).map(value).collect::<Result<_>>()?;
                // Vectors of every frame of a recurrent net are `[N, T, C]`.
                Tensor::f_cat(&all, if node.shape.len() == 2 { -1 } else { 1 })?
            }
            // Of channels only; the constant is that of the innermost axis.
            Op::Pad(pad) => {
                let innermost = x.f_permute([0, 2, 3, 1])?;
                let (ends, value) = ([pad.pad[1].0 as i64, pad.pad[1].1 as i64], f64::from(pad.value));
                innermost.f_pad(ends, "constant", value)?.f_permute([0, 3, 1, 2])?
            }
            Op::Binary(Binary::Add) if overwrite => x.f_add_(&value(1)?)?,
            Op::Binary(Binary::Add) => x.f_add(&value(1)?)?,
            Op::Binary(Binary::Sub) => x.f_sub(&value(1)?)?,
            Op::Binary(Binary::Mul) => x.f_mul(&value(1)?)?,
            Op::Slice(slice) => x.f_narrow(1, slice.start as i64, slice.length as i64)?,
            Op::Transpose(order) if order[..] == CHANNELS_AND_COLUMNS => {
                let (n, c, t, _) = x.size4()?;
                let (h, w) = (before[2] as i64, before[3] as i64);
                let swapped = x.f_reshape([n, c, t, h, w])?.f_permute(CHANNELS_AND_COLUMNS.map(|axis| axis as i64))?;
                swapped.f_reshape([n, w, t, h * c])?
            }
            // The channels are last in memory anyway.
            Op::Transpose(_) => x,
            Op::LayerNorm { eps, .. } => {
                let (weight, bias) = (self.tensor(node, "weight")?, self.tensor(node, "bias")?);
                let innermost = x.f_permute([0, 2, 3, 1])?.f_to_kind(Kind::Float)?;
                let y = innermost.f_layer_norm(weight.size(), Some(weight), Some(bias), f64::from(*eps), true)?;
                y.f_to_kind(x.kind())?.f_permute([0, 3, 1, 2])?
            }
            // Of each frame on its own, `[N, T, C]`.
            Op::Mean { .. } if self.recurrent() => {
                x.f_mean_dim([3].as_slice(), false, Kind::Float)?.f_transpose(1, 2)?
            }
            Op::Mean { .. } => {
                let last = before[1] as i64;
                x.f_narrow(2, x.size()[2] - last, last)?.f_mean_dim([2, 3].as_slice(), false, Kind::Float)?
            }
            Op::Dense(dense) => {
                let bias = if dense.bias { Some(self.tensor(node, "bias")?) } else { None };
                let weight = self.tensor(node, "weight")?;
                match &self.imitation {
                    Some(_) => x.f_linear(&imitation::round_weights(weight)?, bias)?,
                    None => x.f_linear(weight, bias)?,
                }
            }
            Op::Quantize(q) => quantize(&x, q)?,
            Op::Dequantize(q) => x.f_sub_scalar(i64::from(q.zero_point[0]))?.f_mul_scalar(f64::from(q.scale[0]))?,
            other => anyhow::bail!("operation '{other}' is not computed"),
        })
    }

    fn tensor(&self, node: &Node, suffix: &str) -> Result<&Tensor> {
        let name = format!("{}.{suffix}", node.name);
        self.parameter(&name).with_context(|| format!("no parameter '{name}'"))
    }

    fn parameter(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The value `x` of `node`, rounded if the net imitates integers there.
    fn rounded(&self, node: &Node, x: Tensor) -> Result<Tensor> {
        match &self.imitation {
            Some(imitation) => imitation.round(node, x),
            None => Ok(x),
        }
    }

    fn conv(&self, node: &Node, conv: &Conv, x: &Tensor, before: &[usize]) -> Result<Tensor> {
        let (weight, bias) = match self.imitation.as_ref() {
            Some(imitation) => imitation.folded(node, &|name| self.parameter(name))?,
            None => {
                let bias = if conv.bias { Some(self.tensor(node, "bias")?.shallow_clone()) } else { None };
                (self.tensor(node, "weight")?.shallow_clone(), bias)
            }
        };
        let weight = weight.f_to_kind(x.kind())?;
        let bias = bias.map(|bias| bias.f_to_kind(x.kind())).transpose()?;
        let stride: Vec<i64> = conv.stride.iter().map(|&n| n as i64).collect();
        if conv.kernel[1..] == [1, 1] && stride[1..] == [1, 1] && conv.pad[1..] == [(0, 0); 2] {
            let (x, pad) = padded(x, &conv.pad[..1])?;
            return Ok(x.f_conv2d(&weight.f_squeeze_dim(4)?, bias, [stride[0], 1], [pad[0], 0], 1, 1)?);
        }
        if conv.kernel[0] == 1 && stride[0] == 1 && conv.pad[0] == (0, 0) {
            let (pictures, pad) = padded(&frames(x, before)?, &conv.pad[1..])?;
            let y = pictures.f_conv2d(&weight.f_squeeze_dim(2)?, bias, &stride[1..], pad, 1, 1)?;
            return clips(&y, x.size()[2]);
        }
        let (n, c, t, _) = x.size4()?;
        let (x, pad) = padded(&x.f_reshape([n, c, t, before[2] as i64, before[3] as i64])?, &conv.pad)?;
        Ok(x.f_conv3d(&weight, bias, &stride, pad, 1, 1)?.f_flatten(3, 4)?)
    }

    fn batch_norm(&self, node: &Node, eps: f32, x: &Tensor, pass: Pass) -> Result<Tensor> {
        Ok(x.f_batch_norm(
            Some(self.tensor(node, "weight")?),
            Some(self.tensor(node, "bias")?),
            Some(self.tensor(node, "running_mean")?),
            Some(self.tensor(node, "running_var")?),
            pass != Pass::Evaluate,
            if pass == Pass::Settle { 1.0 } else { MOMENTUM },
            f64::from(eps),
            true,
        )?)
    }
}

/// Whether the net computes `node` in its layout; see the head of this file.
fn trains(graph: &Graph, node: &Node) -> bool {
    let plain = |pad: &[(usize, usize)], dilation: &[usize]| {
        pad.iter().all(|pad| *pad == (0, 0)) && dilation.iter().all(|n| *n == 1)
    };
    let norm = |node: &Node| matches!(node.op, Op::LayerNorm { .. });
    let read = || node.inputs.iter().map(|x| graph.node(*x));
    let readers = || graph.nodes().iter().filter(|other| other.inputs.iter().any(|x| graph.node(*x) == node));
    match &node.op {
        Op::Input => node.element == Element::F32 && matches!(node.shape[..], [1, _, _, _, _]),
        Op::Conv(conv) => conv.kernel.len() == 3 && conv.groups == 1 && plain(&[], &conv.dilation),
        Op::BatchNorm { .. } | Op::Unary(_) => true,
        Op::Binary(_) => read().all(|x| x.shape == node.shape),
        Op::Slice(Slice { axis, step, .. }) => *axis == 1 && *step == 1,
        Op::Pool(pool) => {
            let max = pool.function == PoolFunction::Max;
            let pad: &[(usize, usize)] = if max { &[] } else { &pool.pad };
            pool.kernel.len() == 3 && plain(pad, &pool.dilation) && !pool.ceil
        }
        Op::Concat { axis } => *axis == 1,
        Op::Transpose(order) if order[..] == CHANNELS_AND_COLUMNS => true,
        // Over the channels, which are brought last for that and back.
        Op::Transpose(order) if order[..] == CHANNELS_LAST => readers().all(norm),
        Op::Transpose(order) if order[..] == CHANNELS_FIRST => read().all(norm),
        Op::LayerNorm { axis, .. } => {
            let orders =
                |wanted: [usize; 5]| move |node: &Node| matches!(&node.op, Op::Transpose(o) if o[..] == wanted);
            *axis == 4 && read().all(orders(CHANNELS_LAST)) && readers().all(orders(CHANNELS_FIRST))
        }
        Op::Pad(Pad { pad, .. }) => pad.iter().enumerate().all(|(axis, pad)| axis == 1 || *pad == (0, 0)),
        Op::Mean { axes, keep } => axes == &[2, 3, 4] && !keep,
        Op::Dense(_) => true,
        Op::Quantize(q) | Op::Dequantize(q) => q.scale.len() == 1,
        _ => false,
    }
}

fn unary(function: Unary, x: &Tensor) -> Result<Tensor> {
    Ok(match function {
        Unary::Relu => x.f_relu()?,
        Unary::Clip { min, max } => x.f_clamp(f64::from(min), f64::from(max))?,
        Unary::Sigmoid => x.f_sigmoid()?,
        Unary::HardSigmoid { alpha, beta } => {
            x.f_mul_scalar(f64::from(alpha))?.f_add_scalar(f64::from(beta))?.f_clamp(0.0, 1.0)?
        }
        Unary::Tanh => x.f_tanh()?,
    })
}

/// The integers of `x` as floats, rounded half to even.
fn quantize(x: &Tensor, q: &Quantization) -> Result<Tensor> {
    let (least, most) = q.element.range();
    let (least, most) = (i64::from(least), i64::from(most));
    let mut rounded = x.f_div_scalar(f64::from(q.scale[0]))?.f_round_()?;
    Ok(rounded.f_add_scalar_(i64::from(q.zero_point[0]))?.f_clamp_(least, most)?)
}

/// `[N, C, T, H * W]` as pictures `[N * T, C, H, W]`; the same memory where the channels are innermost.
fn frames(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let (n, c, t, _) = x.size4()?;
    let (h, w) = (shape[2] as i64, shape[3] as i64);
    Ok(x.f_permute([0, 2, 1, 3])?.f_reshape([n * t, c, h, w])?)
}

/// Pictures `[N * T, C, H, W]` as `[N, C, T, H * W]`: the way back from [`frames`].
fn clips(x: &Tensor, frames: i64) -> Result<Tensor> {
    let (_, c, h, w) = x.size4()?;
    Ok(x.f_reshape([-1, frames, c, h * w])?.f_permute([0, 2, 1, 3])?)
}

/// `x`, whose axes from the third on are to be padded by `pad`, with the zeros that a convolution cannot add itself
/// because they differ between the two ends of an axis; and the padding that is left for it to do.
fn padded(x: &Tensor, pad: &[(usize, usize)]) -> Result<(Tensor, Vec<i64>)> {
    if pad.iter().all(|(before, after)| before == after) {
        return Ok((x.shallow_clone(), pad.iter().map(|&(before, _)| before as i64).collect()));
    }
    // Padded with the channels last, so that the result's memory has them innermost too.
    let mut ends = vec![0; 2 * (x.dim() - 2 - pad.len())];
    ends.extend(pad.iter().rev().flat_map(|&(before, after)| [before as i64, after as i64]));
    ends.splice(0..0, [0, 0]);
    let innermost = x.f_movedim_int(1, -1)?.f_constant_pad_nd(ends)?;
    Ok((innermost.f_movedim_int(-1, 1)?, vec![0; pad.len()]))
}

/// The maxima or means of windows over `x`.
fn windows(x: &Tensor, before: &[usize], pool: &Pool) -> Result<Tensor> {
    let max = pool.function == PoolFunction::Max;
    if !max && pool.stride == pool.kernel {
        return average_pool(x, before, &pool.kernel);
    }
    let list = |all: &[usize]| all.iter().map(|&n| n as i64).collect::<Vec<_>>();
    let (kernel, stride) = (list(&pool.kernel), list(&pool.stride));
    let (n, c, t, _) = x.size4()?;
    let x = x.f_reshape([n, c, t, before[2] as i64, before[3] as i64])?;
    let y = if max {
        let innermost = x.f_movedim_int(1, -1)?;
        let ends: Vec<i64> = pool.pad.iter().rev().flat_map(|&(before, after)| [before as i64, after as i64]).collect();
        let padded = innermost.f_pad([vec![0, 0], ends].concat(), "constant", f64::NEG_INFINITY)?;
        padded.f_movedim_int(-1, 1)?.f_max_pool3d(kernel, stride, [0; 3], [1; 3], false)?
    } else {
        x.f_avg_pool3d(kernel, stride, [0; 3], false, true, None)?
    };
    Ok(y.f_flatten(3, 4)?)
}

fn average_pool(x: &Tensor, before: &[usize], kernel: &[usize]) -> Result<Tensor> {
    let [kt, kh, kw] = [kernel[0], kernel[1], kernel[2]].map(|n| n as i64);
    let pooled = frames(x, before)?.f_avg_pool2d([kh, kw], [kh, kw], 0, false, true, None)?;
    let y = clips(&pooled, x.size()[2])?;
    if kt == 1 {
        return Ok(y);
    }
    let (n, c, t, hw) = y.size4()?;
    let steps = t / kt;
    Ok(y.f_narrow(2, 0, steps * kt)?.f_reshape([n, c, steps, kt, hw])?.f_mean_dim(3, false, None)?)
}

/// A tensor as an array, in row-major order.
///
/// # Errors
/// When the tensor cannot be read.
pub fn to_array(tensor: &Tensor) -> Result<ArrayD<f32>> {
    let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_view(-1)?;
    Ok(ArrayD::from_shape_vec(shape, Vec::<f32>::try_from(&flat)?)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::arch::Architecture;
    const INPUT: [usize; 4] = [3, 6, 16, 16];

    fn small() -> Net {
        let architecture = Architecture { width: 4, ..Architecture::default() };
        Net::new(architecture.graph(INPUT, 5).unwrap(), Device::Cpu, 7).unwrap()
    }

    fn noise(seed: i64, n: i64) -> Tensor {
        tch::manual_seed(seed);
        Tensor::randn([n, 3, 6, 16, 16], (Kind::Float, Device::Cpu))
    }

    /// The part of the small net before the average, as `[N, C, T, H * W]`.
    fn features(net: &Net, clips: &Tensor) -> Tensor {
        let graph = net.graph();
        let (mut front, clip) = Graph::new(INPUT);
        let mut made = vec![clip];
        for node in &graph.nodes()[1..graph.nodes().len() - 2] {
            let inputs: Vec<Value> = node.inputs.iter().map(|v| made[v.index()]).collect();
            made.push(front.push(node.name.clone(), node.op.clone(), &inputs).unwrap());
        }
        let mut weights = net.weights().unwrap();
        weights.retain(|name, _| !name.starts_with("head."));
        let mut net = Net::new(front, Device::Cpu, 0).unwrap();
        net.set(&weights).unwrap();
        tch::no_grad(|| net.forward(clips, Pass::Evaluate).unwrap())
    }

    /// Every operation against sums written out, on shapes where no two axes agree and windows leave a rest.
    #[test]
    fn operations_equal_their_definition() {
        let (mut graph, clip) = Graph::new([2, 5, 4, 7]);
        let conv = |kernel: [usize; 3], stride: [usize; 3], pad: [(usize, usize); 3], bias| Conv {
            stride: stride.into(),
            pad: pad.into(),
            bias,
            ..Conv::new(3, kernel)
        };
        let odd = conv([3, 3, 2], [2, 1, 2], [(2, 0), (1, 1), (0, 1)], true);
        let spatial = conv([1, 3, 2], [1, 1, 2], [(0, 0), (1, 1), (0, 1)], true);
        let temporal = conv([3, 1, 1], [2, 1, 1], [(2, 0), (0, 0), (0, 0)], false);
        for (name, conv) in [("odd", odd), ("spatial", spatial), ("temporal", temporal)] {
            let (mut graph, clip) = Graph::new([2, 5, 4, 7]);
            graph.push(name, Op::Conv(conv.clone()), &[clip]).unwrap();
            compare(graph, |graph, weights, x| naive_conv(&conv, &graph.output().shape[1..], weights, name, x));
        }
        graph.push("pool", Op::Pool(Pool::average([2, 2, 3])), &[clip]).unwrap();
        compare(graph, |graph, _, x| {
            ArrayD::from_shape_fn(&graph.output().shape[1..], |i| {
                let window = (0..12).map(|k| x[[i[0], i[1] * 2 + k / 6, i[2] * 2 + k / 3 % 2, i[3] * 3 + k % 3]]);
                window.sum::<f32>() / 12.0
            })
        });
        let overlapping = Pool { stride: vec![1, 2, 1], ..Pool::average([2, 2, 3]) };
        let pad = vec![(1, 0), (0, 1), (1, 1)];
        let max = Pool { pad, stride: vec![2, 1, 2], ..Pool::max([3, 2, 3]) };
        let border = Pad { pad: vec![(0, 0), (1, 2), (0, 0), (0, 0), (0, 0)], value: 0.5 };
        for op in [Op::Pool(overlapping), Op::Pool(max), Op::Pad(border)] {
            let (mut graph, clip) = Graph::new([2, 5, 4, 7]);
            graph.push("op", op, &[clip]).unwrap();
            compare(graph, defined);
        }
        let (mut graph, clip) = Graph::new([2, 5, 4, 7]);
        let part = graph.push("part", Op::Slice(Slice { axis: 1, start: 1, length: 1, step: 1 }), &[clip]).unwrap();
        let sum = graph.push("sum", Op::Binary(Binary::Mul), &[part, part]).unwrap();
        let all = graph.push("all", Op::Concat { axis: 1 }, &[clip, sum, part]).unwrap();
        graph.push("function", Op::Unary(Unary::HardSigmoid { alpha: 0.3, beta: 0.4 }), &[all]).unwrap();
        compare(graph, defined);
    }

    /// What the plain reference computes.
    fn defined(graph: &Graph, weights: &Weights, x: &ArrayD<f32>) -> ArrayD<f32> {
        let clip = x.clone().insert_axis(ndarray::Axis(0));
        kinora::model::reference::run(graph, weights, &[clip.into()]).unwrap()[0].to_f32()
    }

    fn compare(graph: Graph, naive: impl Fn(&Graph, &Weights, &ArrayD<f32>) -> ArrayD<f32>) {
        let net = Net::new(graph, Device::Cpu, 5).unwrap();
        let shape: Vec<i64> = net.graph().input_shape()[1..].iter().map(|&n| n as i64).collect();
        let clip = Tensor::randn(&shape, (Kind::Float, Device::Cpu));
        let got = tch::no_grad(|| net.forward(&clip.unsqueeze(0), Pass::Evaluate).unwrap());
        let got = to_array(&got).unwrap();
        let wanted = naive(net.graph(), &net.weights().unwrap(), &to_array(&clip).unwrap());
        assert_eq!(got.len(), wanted.len());
        let worst = got.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{:?}: {worst}", net.graph().output());
    }

    fn naive_conv(conv: &Conv, shape: &[usize], weights: &Weights, name: &str, x: &ArrayD<f32>) -> ArrayD<f32> {
        let weight = &weights[&format!("{name}.weight")];
        let bias = weights.get(&format!("{name}.bias"));
        ArrayD::from_shape_fn(shape, |out| {
            let mut sum = bias.map_or(0.0, |bias| bias[[out[0]]]);
            for (at, w) in weight.indexed_iter().filter(|(at, _)| at[0] == out[0]) {
                let place =
                    |axis: usize| (out[axis + 1] * conv.stride[axis] + at[axis + 2]).checked_sub(conv.pad[axis].0);
                if let (Some(t), Some(h), Some(w_)) = (place(0), place(1), place(2)) {
                    sum += w * x.get([at[1], t, h, w_].as_slice()).copied().unwrap_or(0.0);
                }
            }
            sum
        })
    }

    #[test]
    fn what_is_not_trained_is_refused_by_name() {
        let (mut graph, clip) = Graph::new(INPUT);
        graph.push("half", Op::Softmax { axis: 1 }, &[clip]).unwrap();
        let error = Net::new(graph, Device::Cpu, 1).err().unwrap().to_string();
        assert!(error.contains("'half'") && error.contains("'softmax'"), "{error}");
    }

    #[test]
    fn the_past_does_not_see_the_future() {
        let net = small();
        let clip = noise(1, 1);
        let changed = clip.copy();
        let _ = changed.narrow(2, 4, 1).fill_(3.0);
        let (a, b) = (features(&net, &clip), features(&net, &changed));
        let difference = (a - b).abs().amax([0, 1, 3].as_slice(), false);
        let difference = Vec::<f32>::try_from(difference).unwrap();
        assert_eq!(difference[..4], [0.0; 4]);
        assert!(difference[4] > 1e-3 && difference[5] > 1e-3, "{difference:?}");
    }

    #[test]
    fn gradients_reach_every_trained_parameter() {
        for precision in [Precision::F32, Precision::Bf16] {
            let net = small();
            let logits = net.forward(&noise(2, 3), Pass::Train(precision)).unwrap();
            assert_eq!((logits.size(), logits.kind()), (vec![3, 5], Kind::Float));
            logits.square().sum(Kind::Float).backward();
            for (name, tensor) in net.trained() {
                let gradient = tensor.grad();
                assert!(gradient.defined() && gradient.kind() == Kind::Float, "{name}");
                assert!(f64::try_from(gradient.abs().max()).unwrap() > 0.0, "{name} in {precision:?}");
            }
            assert_eq!(net.trained().count(), net.tensors().len() - 18, "all but nine pairs of running statistics");
        }
    }

    #[test]
    fn bf16_is_near_f32() {
        let net = small();
        let (x, other) = (noise(3, 4), small());
        let a = net.forward(&x, Pass::Train(Precision::F32)).unwrap();
        let b = other.forward(&x, Pass::Train(Precision::Bf16)).unwrap();
        let relative = f64::try_from((&a - b).norm() / a.norm()).unwrap();
        assert!(relative > 0.0 && relative < 0.05, "{relative}");
    }

    #[test]
    fn training_moves_the_statistics_and_evaluation_does_not() {
        let net = small();
        let x = noise(4, 2) + 1.0;
        let before = net.weights().unwrap();
        let _ = net.forward(&x, Pass::Evaluate).unwrap();
        assert_eq!(net.weights().unwrap(), before);
        let _ = net.forward(&x, Pass::Train(Precision::F32)).unwrap();
        let after = net.weights().unwrap();
        assert_ne!(after["stem.norm.running_mean"], before["stem.norm.running_mean"]);
        assert_eq!(after["stem.norm.weight"], before["stem.norm.weight"]);
    }

    #[test]
    fn a_clip_does_not_depend_on_its_batch() {
        let net = small();
        let x = noise(5, 3);
        let all = net.forward(&x, Pass::Evaluate).unwrap();
        let one = net.forward(&x.narrow(0, 1, 1), Pass::Evaluate).unwrap();
        assert!(f64::try_from((all.narrow(0, 1, 1) - one).abs().max()).unwrap() < 1e-5);
        assert!(net.forward(&x.narrow(2, 0, 5), Pass::Evaluate).is_err(), "another number of frames is refused");
    }

    #[test]
    fn the_seed_decides_the_weights() {
        let graph = || Architecture { width: 2, ..Architecture::default() }.graph(INPUT, 3).unwrap();
        let of = |seed| Net::new(graph(), Device::Cpu, seed).unwrap().weights().unwrap();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let mut net = small();
        let wrong = Weights::from([("head.bias".to_owned(), ArrayD::zeros(vec![9]))]);
        assert!(net.set(&wrong).unwrap_err().to_string().contains("head.bias"));
    }
}
