//! A graph as a diagram in Graphviz' language: `dot -Tsvg` draws it.

use kinora::model::graph::{Graph, Node};

/// The layers of `graph` and what they read. Dashed: what a state becomes in the next frame.
pub fn dot(graph: &Graph, title: &str) -> String {
    let mut text = format!("digraph {title:?} {{\n  label={title:?};\n  node [shape=box, fontname=\"sans-serif\"];\n");
    for (value, node) in graph.values() {
        text += &format!("  n{} [label=\"{}\"];\n", value.index(), label(node).join("\\n"));
        for input in &node.inputs {
            text += &format!("  n{} -> n{};\n", input.index(), value.index());
        }
    }
    for (state, next) in graph.states() {
        text += &format!("  n{} -> n{} [style=dashed, constraint=false];\n", next.index(), state.index());
    }
    text + "}\n"
}

/// What a node's box says: its name, its operation, the shape of its result.
pub fn label(node: &Node) -> [String; 3] {
    let shape = node.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    [node.name.clone(), node.op.to_string(), shape]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::arch::Architecture;

    #[test]
    fn every_layer_and_edge_is_there() {
        for text in ["r2plus1d-edge", "i3d-rgb", "convlstm-edge"] {
            let graph = text.parse::<Architecture>().unwrap().graph([3, 16, 224, 224], 5).unwrap();
            let diagram = dot(&graph, text);
            let edges: usize = graph.nodes().iter().map(|node| node.inputs.len()).sum();
            assert_eq!(diagram.matches(" -> ").count(), edges + graph.states().len(), "{text}");
            assert_eq!(diagram.matches("[label=").count(), graph.nodes().len(), "{text}");
            assert!(diagram.contains("average\\nmean all\\n1x") && diagram.ends_with("}\n"));
        }
    }
}
