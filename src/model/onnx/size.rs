//! What decoding a file costs, before it is decoded. A message of two bytes becomes a structure of hundreds, so that a file of
//! empty messages would take a hundred times its size in memory.

use crate::{Error, ErrorKind, Result};

/// The most that a file may cost: a message 16, a plain field 1. A large model costs a tenth of it.
const MAX_COST: usize = 1 << 22;
const MESSAGE: usize = 16;
/// Attributes contain graphs, which contain attributes.
const MAX_DEPTH: usize = 32;

/// Kinds of messages by what they contain.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    /// Everything else counts as if it were full of the shortest fields.
    Other,
}

/// The kind of the message in field `number`; none if that is a number, a text or bytes.
fn inner(kind: Kind, number: u64) -> Option<Kind> {
    Some(match (kind, number) {
        (Kind::Model, 7) => Kind::Graph,
        (Kind::Model, 8 | 14 | 20 | 25 | 26) => Kind::Other,
        (Kind::Graph, 1) => Kind::Node,
        (Kind::Graph, 5) => Kind::Tensor,
        (Kind::Graph, 11..=16) => Kind::Other,
        (Kind::Node, 5) => Kind::Attribute,
        (Kind::Node, 9 | 10) => Kind::Other,
        (Kind::Attribute, 5 | 10) => Kind::Tensor,
        (Kind::Attribute, 6 | 11) => Kind::Graph,
        (Kind::Attribute, 14 | 15 | 22 | 23) => Kind::Other,
        (Kind::Tensor, 3 | 13 | 16) => Kind::Other,
        _ => return None,
    })
}

/// Refuses a file that would take far more memory than its size. What is broken is left to the decoder.
///
/// # Errors
/// `Model`.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let mut left = MAX_COST;
    match walk(bytes, Kind::Model, 0, &mut left) {
        Some(()) => Ok(()),
        None => Err(Error::new(ErrorKind::Model, "not a model that we run: it has too many parts")),
    }
}

/// None when the cost is too high.
fn walk(mut bytes: &[u8], kind: Kind, depth: usize, left: &mut usize) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    if matches!(kind, Kind::Other) {
        *left = left.checked_sub(bytes.len() / 2)?;
        return Some(());
    }
    while let Some((key, rest)) = varint(bytes) {
        let (length, rest) = match key & 7 {
            0 => match varint(rest) {
                Some((_, after)) => (rest.len() - after.len(), rest),
                None => return Some(()),
            },
            1 => (8, rest),
            5 => (4, rest),
            2 => match varint(rest) {
                Some((length, rest)) => (usize::try_from(length).unwrap_or(usize::MAX), rest),
                None => return Some(()),
            },
            _ => return Some(()),
        };
        let Some((content, after)) = rest.split_at_checked(length) else { return Some(()) };
        bytes = after;
        match inner(kind, key >> 3).filter(|_| key & 7 == 2) {
            Some(kind) => {
                *left = left.checked_sub(MESSAGE)?;
                walk(content, kind, depth + 1, left)?;
            }
            None => *left = left.checked_sub(1)?,
        }
    }
    Some(())
}

/// A number of the format, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 127) << (7 * index).min(63);
        if byte & 128 == 0 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use prost::Message;
    use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto};

    fn model(nodes: usize, attributes: usize) -> Vec<u8> {
        let node = NodeProto { attribute: vec![AttributeProto::default(); attributes], ..Default::default() };
        let graph = GraphProto { node: vec![node; nodes], ..Default::default() };
        ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn many_small_parts_are_refused() {
        check(&model(1000, 10)).unwrap();
        check(&[]).unwrap();
        check(&[0xff; 40]).unwrap();
        assert!(check(&model(300_000, 0)).is_err());
        assert!(check(&model(1, 300_000)).is_err());
        let mut graph = GraphProto::default();
        for _ in 0..40 {
            let attribute = AttributeProto { g: Some(graph), ..Default::default() };
            let node = NodeProto { attribute: vec![attribute], ..Default::default() };
            graph = GraphProto { node: vec![node], ..Default::default() };
        }
        assert!(check(&ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec()).is_err());
    }
}
