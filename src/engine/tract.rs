//! The engine `tract`: any ONNX model on windows, recurrent ones as streams, too, on one thread of the CPU; int8 as QLinearConv, slower than f32. `infer` allocates;
//! what it allocates does not grow.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

use ndarray::{Array5, ArrayView5, Axis};
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{
    DatumExt, Fact, InferenceModelExt, IntoRunnable, IntoTensor, TValue, TVec, Tensor, TractError, TractResult,
    TypedModel, TypedRunnableModel, TypedSimpleState, tvec,
};

use super::{Engine, Options, Precision, Session};
use crate::model::manifest::Mode;
use crate::model::onnx::check::State;
use crate::model::{Bundle, onnx};
use crate::{Error, ErrorKind, Result};

/// The most values of one tensor inside a model: a gigabyte of them.
const MAX_VALUES: usize = 1 << 28;
/// tract can quote whole nodes in its reasons.
const MAX_REASON: usize = 400;

/// It rescales in fixed point where the definition has floats: a value may be one step away, and later ones more.
const INT8_TOLERANCE: f32 = 0.05;

/// A model compiled by tract.
pub struct Tract {
    plan: Arc<TypedRunnableModel>,
    clip: [usize; 5],
    classes: usize,
    precision: Precision,
    mode: Mode,
    /// Of a recurrent model, which sees one frame at a time in either mode.
    states: Vec<State>,
}

impl Tract {
    /// Compiles `bundle`'s model for clips of the manifest's shape, or one frame of them if it is recurrent.
    ///
    /// # Errors
    /// `Model` when the file is broken or contradicts the manifest, `Engine` when tract cannot compile it or the options ask
    /// for what it cannot do: streams of what is not recurrent, more than one thread.
    pub fn open(bundle: &Bundle, options: &Options) -> Result<Self> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::Engine, format_args!("engine tract {why}")));
        match *options {
            Options { threads, .. } if threads != 1 => {
                return refuse(&format!("runs on one thread, not {threads}: leave --threads out"));
            }
            Options { mode: Some(Mode::Stream), .. } if !bundle.manifest.output.per_frame => {
                return refuse("runs windows only of a model without states: leave --mode stream out");
            }
            Options { kernels: Some(_), .. } => return refuse("has kernels of its own: leave --kernels out"),
            _ => {}
        }
        let precision = options.precision.unwrap_or(Precision::F32);
        let path = match precision {
            Precision::F32 => bundle.onnx(),
            Precision::Int8 => bundle.onnx_int8().ok_or_else(|| bundle.lacks_int8())?,
        };
        let (mut clip, classes) = (bundle.manifest.input.clip_shape(), bundle.labels.len());
        let mut proto = onnx::read(&path)?;
        let states = bundle.signature(&path, &proto)?;
        let mode = match states.is_empty() {
            true => Mode::Window,
            false => options.mode.unwrap_or(bundle.manifest.run.mode),
        };
        if !states.is_empty() {
            clip[2] = 1;
        }
        if precision == Precision::Int8 {
            onnx::qlinear::convolutions(&mut proto).map_err(|error| error.within(path.display()))?;
        }
        let plan = guarded(|| compile(&proto, clip, classes, &states)).map_err(|why| {
            let why = format!("{}: tract cannot compile the model: {why}", path.display());
            Error::new(ErrorKind::Engine, why)
        })?;
        Ok(Self { plan, clip, classes, precision, mode, states })
    }
}

impl Engine for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn tolerance(&self) -> f32 {
        match self.precision {
            Precision::F32 => super::TOLERANCE,
            Precision::Int8 => INT8_TOLERANCE,
        }
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        let state = guarded(|| self.plan.spawn()).map_err(|why| failed(&format_args!("no session: {why}")))?;
        let zeros = |state: &State| Tensor::zero::<f32>(&state.shape);
        let memory = self.states.iter().map(zeros).collect::<TractResult<Vec<_>>>().map_err(|why| failed(&why))?;
        let (clip, classes, mode, states) = (self.clip, self.classes, self.mode, self.states.clone());
        Ok(Box::new(Stream { state, clip, classes, mode, states, memory }))
    }
}

struct Stream {
    state: TypedSimpleState,
    /// What the model sees at a time.
    clip: [usize; 5],
    classes: usize,
    mode: Mode,
    states: Vec<State>,
    /// The value of each state.
    memory: Vec<Tensor>,
}

fn failed(why: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Engine, format_args!("engine tract: {why}"))
}

impl Stream {
    /// Runs the model on what it sees at a time.
    fn run(&mut self, clip: Tensor, logits: &mut [f32]) -> Result<()> {
        let mut inputs: TVec<TValue> = tvec!(clip.into());
        inputs.extend(self.memory.iter().cloned().map(TValue::from));
        let outputs = guarded(|| self.state.run(inputs)).map_err(|why| failed(&why))?;
        let output = outputs.first().ok_or_else(|| failed(&"the model has no output"))?;
        let values = output.to_plain_array_view::<f32>().map_err(|why| failed(&why))?;
        if values.len() != logits.len() {
            return Err(failed(&format_args!("{} logits computed, {} wanted", values.len(), logits.len())));
        }
        if !values.iter().all(|x| x.is_finite()) {
            return Err(failed(&"a logit is not finite: the model's weights or its input are out of range"));
        }
        logits.iter_mut().zip(&values).for_each(|(to, from)| *to = *from);
        let next = self.states.iter().map(|state| outputs.get(state.output).map(|next| next.clone().into_tensor()));
        self.memory = next.collect::<Option<_>>().ok_or_else(|| failed(&"the model lacks an output"))?;
        Ok(())
    }
}

impl Session for Stream {
    fn infer(&mut self, clip: ArrayView5<'_, f32>, logits: &mut [f32]) -> Result<()> {
        let given: [usize; 5] = clip.dim().into();
        let recurrent = !self.states.is_empty();
        let fits = (0..5).all(|axis| given[axis] == self.clip[axis] || recurrent && axis == 2);
        if self.mode != Mode::Window || !fits || given[2] == 0 || logits.len() != self.classes {
            let (wanted, classes) = (self.clip, self.classes);
            let why = format!("a window {given:?} and {} logits given, {wanted:?} and {classes} wanted", logits.len());
            return Err(failed(&why));
        }
        if !recurrent {
            return self.run(clip.to_owned().into(), logits);
        }
        self.reset();
        clip.axis_chunks_iter(Axis(2), 1).try_for_each(|frame| self.run(frame.to_owned().into(), logits))
    }

    fn push(&mut self, plane: &[f32], logits: &mut [f32]) -> Result<bool> {
        if self.mode != Mode::Stream {
            return Err(failed(&"this session runs windows, not streams"));
        }
        if logits.len() != self.classes {
            return Err(failed(&format_args!("{} logits given, {} wanted", logits.len(), self.classes)));
        }
        let frame = Array5::from_shape_vec(self.clip, plane.to_vec()).map_err(|why| failed(&why))?;
        self.run(frame.into(), logits).map(|()| true)
    }

    fn reset(&mut self) {
        let zeros = |state: &State| Tensor::zero::<f32>(&state.shape).ok();
        self.memory = self.states.iter().filter_map(zeros).collect();
    }
}

fn compile(
    proto: &ModelProto,
    clip: [usize; 5],
    classes: usize,
    states: &[State],
) -> TractResult<Arc<TypedRunnableModel>> {
    let parsed = tract_onnx::onnx().parse(proto, None)?;
    let mut model = parsed.model.with_input_fact(0, f32::fact(clip).into())?;
    for (number, state) in states.iter().enumerate() {
        model = model.with_input_fact(1 + number, f32::fact(&state.shape).into())?;
    }
    let model = model.into_typed()?;
    refuse_large(&model)?;
    // What a file says of its output need not be what its nodes make.
    let wanted =
        [(0, vec![1, classes])].into_iter().chain(states.iter().map(|state| (state.output, state.shape.clone())));
    for (number, shape) in wanted {
        let (output, wanted) = (model.output_fact(number)?, f32::fact(&shape));
        if !output.compatible_with(&wanted) {
            return Err(TractError::msg(format!("output {number} is {output:?}, not {wanted:?}")));
        }
    }
    model.into_optimized()?.into_runnable()
}

/// A model may ask for any amount of memory between its input and its output, and running out of it ends the process.
fn refuse_large(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes() {
        for output in &node.outputs {
            let values =
                output.fact.shape.as_concrete().map(|shape| {
                    shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d)).unwrap_or(usize::MAX)
                });
            if values.is_none_or(|values| values > MAX_VALUES) {
                let (name, fact) = (&node.name, &output.fact);
                return Err(TractError::msg(format!("node '{name}': {fact:?} is too large")));
            }
        }
    }
    Ok(())
}

thread_local! {
    /// Whether a panic on this thread will become an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics that become errors off the terminal; all others go the way they went before.
fn hide_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                before(panic);
            }
        }));
    });
}

/// What `work` returns; tract's error or panic as one short line. tract panics on some models that it cannot run, such
/// as one whose kernel has fewer axes than its input.
fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> std::result::Result<T, String> {
    hide_guarded_panics();
    GUARDED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    let reason = match outcome {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(why)) => format!("{why:#}"),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            format!("a defect in it: {}", text.unwrap_or("no reason given"))
        }
    };
    let mut line: String = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(MAX_REASON) {
        line.truncate(end);
        line.push_str("...");
    }
    Err(line)
}
