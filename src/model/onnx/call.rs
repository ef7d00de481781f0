//! One node of a file while it is read: its inputs and attributes, each used once or refused.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;

use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto, attribute_proto::AttributeType};

use crate::{Error, ErrorKind, Result};

/// A node of a file.
pub(super) struct Call<'a> {
    pub(super) node: &'a NodeProto,
    /// Version of the operator set.
    pub(super) opset: i64,
    unread: RefCell<BTreeMap<&'a str, &'a AttributeProto>>,
}

impl<'a> Call<'a> {
    pub(super) fn new(node: &'a NodeProto, opset: i64) -> Result<Self> {
        let mut unread = BTreeMap::new();
        for attribute in &node.attribute {
            if !attribute.ref_attr_name.is_empty() || unread.insert(attribute.name.as_str(), attribute).is_some() {
                let why =
                    format!("node '{}': attribute '{}' is there twice or is a reference", label(node), attribute.name);
                return Err(Error::new(ErrorKind::Model, why));
            }
        }
        Ok(Self { node, opset, unread: RefCell::new(unread) })
    }

    pub(super) fn op(&self) -> &'a str {
        &self.node.op_type
    }

    /// An error that names the node and its operator.
    pub(super) fn refuse(&self, why: impl Display) -> Error {
        Error::new(ErrorKind::Model, format_args!("node '{}' ({}): {why}", label(self.node), self.node.op_type))
    }

    /// The name of an input that may be left out.
    pub(super) fn input(&self, index: usize) -> Option<&'a str> {
        self.node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The name of an input that must be there.
    pub(super) fn needed(&self, index: usize) -> Result<&'a str> {
        self.input(index).ok_or_else(|| self.refuse(format_args!("input {index} is missing")))
    }

    fn attribute(&self, name: &str, kind: AttributeType) -> Result<Option<&'a AttributeProto>> {
        match self.unread.borrow_mut().remove(name) {
            // Old files leave the type out.
            Some(found) if found.r#type != kind as i32 && found.r#type != 0 => {
                Err(self.refuse(format_args!("attribute '{name}' is no {}", kind.as_str_name())))
            }
            found => Ok(found),
        }
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.attribute(name, AttributeType::Int)?.map_or(default, |found| found.i))
    }

    /// An attribute that says yes or no.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.int(name, i64::from(default))? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.refuse(format_args!("{name} {other} is neither 0 nor 1"))),
        }
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.attribute(name, AttributeType::Float)?.map_or(default, |found| found.f))
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<&'a [i64]>> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|found| found.ints.as_slice()))
    }

    pub(super) fn floats(&self, name: &str) -> Result<Option<&'a [f32]>> {
        Ok(self.attribute(name, AttributeType::Floats)?.map(|found| found.floats.as_slice()))
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Option<&'a TensorProto>> {
        Ok(self.attribute(name, AttributeType::Tensor)?.and_then(|found| found.t.as_ref()))
    }

    pub(super) fn text(&self, name: &str, default: &'static str) -> Result<&'a str> {
        let found = self.attribute(name, AttributeType::String)?;
        let text = found.map(|found| std::str::from_utf8(&found.s)).transpose();
        Ok(text.map_err(|_| self.refuse(format_args!("attribute '{name}' is no text")))?.unwrap_or(default))
    }

    /// Attributes that do not change what we compute.
    pub(super) fn ignore(&self, names: &[&str]) {
        self.unread.borrow_mut().retain(|name, _| !names.contains(name));
    }

    /// Refuses attributes that nobody asked for: they may change the result.
    pub(super) fn finish(&self) -> Result<()> {
        match self.unread.borrow().keys().next() {
            Some(name) => {
                Err(self.refuse(format_args!("attribute '{name}' is not supported in operator set {}", self.opset)))
            }
            None => Ok(()),
        }
    }

    /// An axis, counted from the last one if it is negative.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let from_end =
            if axis < 0 { i64::try_from(rank).ok().and_then(|rank| rank.checked_add(axis)) } else { Some(axis) };
        let found = from_end.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank);
        found.ok_or_else(|| self.refuse(format_args!("there is no axis {axis} of {rank}")))
    }

    pub(super) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let mut found = axes.iter().map(|&axis| self.axis(axis, rank)).collect::<Result<Vec<_>>>()?;
        found.sort_unstable();
        if found.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.refuse(format_args!("an axis is there twice in {axes:?}")));
        }
        Ok(found)
    }

    /// Extents, strides and so on: none is negative.
    pub(super) fn sizes(&self, what: &str, sizes: &[i64]) -> Result<Vec<usize>> {
        let found = sizes.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<Vec<_>>>();
        found.ok_or_else(|| self.refuse(format_args!("{what} {sizes:?} is negative somewhere")))
    }
}

/// What a node is called: nodes need not have names.
pub(super) fn label(node: &NodeProto) -> &str {
    let output = || node.output.iter().find(|name| !name.is_empty());
    if node.name.is_empty() { output().unwrap_or(&node.op_type) } else { &node.name }
}
