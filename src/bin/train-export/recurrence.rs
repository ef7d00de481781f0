//! What a recurrent net computes frame by frame. A node that depends on what it computed a frame before must wait for that;
//! all others take the frames of a clip at once, as in any net: so they train as fast, and batch norm sees all frames.

use std::collections::BTreeSet;

use kinora::model::graph::{Graph, Value, Weights};
use kinora::{Error, ErrorKind, Result};
use ndarray::{ArrayD, IxDyn};

/// Nodes that depend on themselves a frame before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loop {
    /// In the order in which they run, states among them.
    pub nodes: BTreeSet<usize>,
    /// Each state and what it is in the next frame.
    pub states: Vec<(usize, usize)>,
    /// Those of the nodes that others read.
    pub shown: BTreeSet<usize>,
}

impl Loop {
    /// The node behind which all frames are computed.
    pub fn last(&self) -> Option<usize> {
        self.nodes.last().copied()
    }
}

/// The loops of `graph`; none if it is not recurrent.
///
/// # Errors
/// `Model` when a node outside of a loop is in the way of running it as a whole.
pub fn loops(graph: &Graph) -> Result<Vec<Loop>> {
    let states: Vec<(usize, usize)> =
        graph.states().iter().map(|(state, next)| (state.index(), next.index())).collect();
    let mut edges: Vec<(usize, usize)> = states.iter().map(|(state, next)| (*next, *state)).collect();
    for (value, node) in graph.values() {
        edges.extend(node.inputs.iter().map(|input| (input.index(), value.index())));
    }
    let back: Vec<(usize, usize)> = edges.iter().map(|(from, to)| (*to, *from)).collect();
    let mut loops: Vec<Loop> = Vec::new();
    for &(state, next) in &states {
        if let Some(known) = loops.iter_mut().find(|known| known.nodes.contains(&state)) {
            known.states.push((state, next));
            continue;
        }
        let nodes: BTreeSet<usize> = &reached(state, &edges) & &reached(state, &back);
        let outputs = graph.outputs();
        let named = outputs
            .iter()
            .map(|(_, value)| value.index())
            .filter(|value| !states.iter().any(|(_, next)| next == value));
        let read = edges.iter().filter(|(from, to)| nodes.contains(from) && !nodes.contains(to)).map(|(from, _)| *from);
        let shown: BTreeSet<usize> = read.chain(named.filter(|value| nodes.contains(value))).collect();
        let last = nodes.last().copied().unwrap_or(state);
        if let Some((_, to)) = edges.iter().find(|(from, to)| nodes.contains(from) && !nodes.contains(to) && *to < last)
        {
            let name = &graph.nodes()[*to].name;
            let why = "it reads a recurrent value before all of the recurrence is computed";
            return Err(Error::new(ErrorKind::Model, format_args!("graph node '{name}': {why}")));
        }
        loops.push(Loop { nodes, states: vec![(state, next)], shown });
    }
    Ok(loops)
}

/// What can be reached from `start` along `edges`, itself too.
fn reached(start: usize, edges: &[(usize, usize)]) -> BTreeSet<usize> {
    let (mut seen, mut open) = (BTreeSet::from([start]), vec![start]);
    while let Some(at) = open.pop() {
        open.extend(edges.iter().filter(|(from, to)| *from == at && seen.insert(*to)).map(|(_, to)| *to));
    }
    seen
}

/// The bias with which an LSTM begins to be trained: one for the second of its four gates, which forgets, else it forgets
/// half of all in a frame (Jozefowicz et al., An Empirical Exploration of Recurrent Network Architectures, 2015).
pub fn first_biases(graph: &Graph) -> Weights {
    let cells = graph.states().into_iter().filter_map(|(state, _): (Value, Value)| {
        let name = format!("{}.input.bias", graph.node(state).name.strip_suffix(".c")?);
        graph.parameters().into_iter().find(|parameter| parameter.name == name)
    });
    cells
        .map(|bias| {
            let gate = bias.shape[0] / 4;
            let begin = |at: IxDyn| if (gate..2 * gate).contains(&at[0]) { 1.0 } else { 0.0 };
            (bias.name, ArrayD::from_shape_fn(IxDyn(&bias.shape), begin))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use kinora::model::graph::{Binary, Element, NEXT, OUTPUT, Op, Unary};

    const SHAPE: [usize; 5] = [1, 2, 1, 3, 3];

    /// A sum over time of `x`; its next value and the output of that.
    fn sum(graph: &mut Graph, name: &str, x: Value) -> (Value, (String, Value)) {
        let state = graph.input(name, Element::F32, &SHAPE).unwrap();
        let next = graph.push(format!("{name}.sum"), Op::Binary(Binary::Add), &[x, state]).unwrap();
        (next, (format!("{name}{NEXT}"), next))
    }

    #[test]
    fn only_what_depends_on_itself_runs_frame_by_frame() {
        let (mut graph, clip) = Graph::new([2, 1, 3, 3]);
        let before = graph.push("before", Op::Unary(Unary::Tanh), &[clip]).unwrap();
        let (first, next) = sum(&mut graph, "a", before);
        let between = graph.push("between", Op::Unary(Unary::Tanh), &[first]).unwrap();
        let (second, other) = sum(&mut graph, "b", between);
        let after = graph.push("after", Op::Unary(Unary::Tanh), &[second]).unwrap();
        graph.set_outputs(vec![(OUTPUT.into(), after), next, other]).unwrap();
        let names = |indices: &BTreeSet<usize>| {
            indices.iter().map(|index| graph.nodes()[*index].name.clone()).collect::<Vec<_>>()
        };
        let loops = loops(&graph).unwrap();
        assert_eq!(loops.iter().map(|one| names(&one.nodes)).collect::<Vec<_>>(), [["a", "a.sum"], ["b", "b.sum"]]);
        assert_eq!(loops.iter().map(|one| names(&one.shown)).collect::<Vec<_>>(), [["a.sum"], ["b.sum"]]);
        assert_eq!(loops[1].states, [(5, 6)]);
    }

    /// Two states that depend on one another are one loop, and nobody may read it in its middle.
    #[test]
    fn what_reads_an_unfinished_loop_is_refused() {
        let (mut graph, clip) = Graph::new([2, 1, 3, 3]);
        let other = graph.input("other", Element::F32, &SHAPE).unwrap();
        let x = graph.push("x", Op::Binary(Binary::Add), &[clip, other]).unwrap();
        let (first, next) = sum(&mut graph, "a", x);
        let early = graph.push("early", Op::Unary(Unary::Tanh), &[first]).unwrap();
        let back = graph.push("back", Op::Unary(Unary::Sigmoid), &[first]).unwrap();
        graph.set_outputs(vec![(OUTPUT.into(), early), next, ("other.next".into(), back)]).unwrap();
        let error = loops(&graph).unwrap_err().to_string();
        assert!(error.contains("'early'") && error.contains("before all of the recurrence"), "{error}");
        graph.set_outputs(vec![(OUTPUT.into(), early)]).unwrap();
        assert_eq!(loops(&graph).unwrap(), []);
    }

    #[test]
    fn an_lstm_begins_to_forget_little() {
        let graph = "convlstm-edge(width=1)".parse::<crate::arch::Architecture>().unwrap();
        let biases = first_biases(&graph.graph([1, 1, 16, 16], 2).unwrap());
        assert_eq!(biases.keys().collect::<Vec<_>>(), ["lstm.input.bias"]);
        let values: Vec<f32> = biases["lstm.input.bias"].iter().copied().collect();
        assert_eq!(values, [[0.0; 4], [1.0; 4], [0.0; 4], [0.0; 4]].concat());
    }
}
