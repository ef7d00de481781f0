//! `golden.safetensors`: a clip and the logits that every engine must compute from it. Blocks on the file system.

use std::path::Path;

use ndarray::{Array5, ArrayView1};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{Manifest, read_file, replace_file};
use crate::{Error, ErrorKind, Result};

/// A clip and its logits, as the trainer computed them.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// A prepared clip, `[1, C, T, H, W]`.
    pub clip: Array5<f32>,
    /// Its logits, `[K]`.
    pub logits_f32: Vec<f32>,
    /// Those of the quantised model, the same on every engine; there if the bundle has such a model.
    pub logits_int8: Option<Vec<f32>>,
}

/// Name of the tensor of the quantised model's logits.
const INT8: &str = "logits_int8";

fn refuse(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Model, format_args!("{why}: export the bundle again"))
}

impl Golden {
    /// Reads `clip`, `logits_f32` and, if it is there, `logits_int8` from a safetensors file.
    ///
    /// # Errors
    /// `Model`, naming the file and the tensor.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&read_file(path)?).map_err(|error| error.within(path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let tensors =
            SafeTensors::deserialize(bytes).map_err(|why| refuse(format_args!("not a safetensors file: {why}")))?;
        if let Some(other) = tensors.names().into_iter().find(|name| !["clip", "logits_f32", INT8].contains(name)) {
            return Err(refuse(format_args!("tensor '{other}' is unknown")));
        }
        let (shape, values) = floats(&tensors, "clip")?;
        let shape: [usize; 5] = shape
            .try_into()
            .map_err(|shape| refuse(format_args!("tensor 'clip': {shape:?} is not [1, C, T, H, W]")))?;
        let clip = Array5::from_shape_vec(shape, values).map_err(|why| refuse(format_args!("tensor 'clip': {why}")))?;
        let logits = |name: &str| match floats(&tensors, name)? {
            (shape, values) if shape.len() == 1 => Ok(values),
            (shape, _) => Err(refuse(format_args!("tensor '{name}': {shape:?} is not [K]"))),
        };
        let int8 = tensors.names().contains(&INT8).then(|| logits(INT8)).transpose()?;
        Ok(Self { clip, logits_f32: logits("logits_f32")?, logits_int8: int8 })
    }

    /// Writes the file; one that is there is replaced only once the new one is complete.
    ///
    /// # Errors
    /// `Output`, naming the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |why: safetensors::SafeTensorError| {
            Error::new(ErrorKind::Output, format_args!("{}: {why}", path.display()))
        };
        let bytes = |values: &mut dyn Iterator<Item = &f32>| values.flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let clip = bytes(&mut self.clip.iter());
        let mut tensors =
            vec![("clip", TensorView::new(Dtype::F32, self.clip.shape().to_vec(), &clip).map_err(failed)?)];
        let named = [("logits_f32", Some(&self.logits_f32)), (INT8, self.logits_int8.as_ref())];
        let logits: Vec<_> = named
            .into_iter()
            .filter_map(|(name, logits)| logits.map(|logits| (name, logits.len(), bytes(&mut logits.iter()))))
            .collect();
        for (name, len, bytes) in &logits {
            tensors.push((name, TensorView::new(Dtype::F32, vec![*len], bytes).map_err(failed)?));
        }
        let bytes = safetensors::serialize(tensors, None).map_err(failed)?;
        replace_file(path, &bytes)
    }

    /// Checks shapes against `manifest`, and that all values are finite.
    ///
    /// # Errors
    /// `Model`, naming the tensor and both shapes.
    pub fn check(&self, manifest: &Manifest) -> Result<()> {
        let (clip, classes) = (manifest.input.clip_shape(), manifest.output.classes);
        // A recurrent model takes clips of any length.
        let short = |axis: usize, n: usize| manifest.output.per_frame && axis == 2 && (1..=clip[2]).contains(&n);
        let given = self.clip.shape();
        if given.iter().enumerate().any(|(axis, &n)| n != clip[axis] && !short(axis, n)) {
            return Err(refuse(format_args!("tensor 'clip' is {given:?}, but manifest.toml says {clip:?}")));
        }
        for (name, logits) in [("logits_f32", Some(&self.logits_f32)), (INT8, self.logits_int8.as_ref())] {
            let Some(logits) = logits else { continue };
            if logits.len() != classes {
                let given = logits.len();
                return Err(refuse(format_args!("tensor '{name}' has {given} values for {classes} classes")));
            }
            if !self.clip.iter().chain(ArrayView1::from(logits)).all(|x| x.is_finite()) {
                return Err(refuse("a value is not finite"));
            }
        }
        Ok(())
    }
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
    let tensor = tensors.tensor(name).map_err(|_| refuse(format_args!("tensor '{name}' is missing")))?;
    if tensor.dtype() != Dtype::F32 {
        return Err(refuse(format_args!("tensor '{name}' has type {:?}, not F32", tensor.dtype())));
    }
    let (values, _) = tensor.data().as_chunks::<4>();
    Ok((tensor.shape().to_vec(), values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(tensors: Vec<(&str, Dtype, Vec<usize>, usize)>) -> Result<Golden> {
        let data = [0u8; 64];
        let view = |(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape, &data[..bytes]).unwrap());
        let bytes = safetensors::serialize(tensors.into_iter().map(view), None).unwrap();
        Golden::parse(&bytes)
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("golden.safetensors");
        let mut clip = Array5::from_shape_simple_fn((1, 2, 3, 4, 5), fastrand::f32);
        clip.swap_axes(3, 4);
        let mut golden = Golden { clip, logits_f32: vec![0.25, -1.0], logits_int8: None };
        for logits_int8 in [None, Some(vec![0.5, -1.5])] {
            golden.logits_int8 = logits_int8;
            golden.write(&path).unwrap();
            assert_eq!(Golden::read(&path).unwrap(), golden);
        }
        let nowhere = golden.write(&folder.path().join("no/golden.safetensors"));
        assert!(nowhere.is_err_and(|e| e.kind() == ErrorKind::Output));
    }

    #[test]
    fn other_tensors_are_refused() {
        let clip = || ("clip", Dtype::F32, vec![1, 1, 1, 2, 2], 16);
        let logits = || ("logits_f32", Dtype::F32, vec![2], 8);
        file(vec![clip(), logits()]).unwrap();
        let cases = [
            (vec![clip()], "'logits_f32' is missing"),
            (vec![logits()], "'clip' is missing"),
            (vec![clip(), logits(), ("more", Dtype::F32, vec![1], 4)], "'more' is unknown"),
            (vec![("clip", Dtype::F16, vec![1, 1, 1, 2, 2], 8), logits()], "not F32"),
            (vec![("clip", Dtype::F32, vec![1, 1, 4], 16), logits()], "[1, 1, 4] is not [1, C, T, H, W]"),
            (vec![clip(), ("logits_f32", Dtype::F32, vec![1, 2], 8)], "[1, 2] is not [K]"),
        ];
        for (tensors, reason) in cases {
            let error = file(tensors).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
