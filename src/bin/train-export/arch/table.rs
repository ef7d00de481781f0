//! A graph as a text table.

use kinora::model::graph::{Graph, Parameter};

/// The layers of `graph` as a text table with totals. Parameters are what gradients train, as the papers count them: running
/// statistics are none.
pub fn table(graph: &Graph) -> String {
    let widest = graph.nodes().iter().map(|node| node.name.len()).max().unwrap_or(0);
    let row = |name: &str, operation: &str, shape: &str, parameters: &str, macs: &str| {
        format!("{name:<widest$} {operation:<12} {shape:<22} {parameters:>10} {macs:>14}\n")
    };
    let mut text = row("layer", "operation", "shape", "parameters", "MACs");
    for node in graph.nodes() {
        let (parameters, macs) = (values(graph.node_parameters(node)), graph.node_macs(node).to_string());
        text += &row(&node.name, &node.op.to_string(), &format!("{:?}", node.shape), &parameters, &macs);
    }
    text + &row("total", "", "", &values(graph.parameters()), &graph.macs().to_string())
}

fn values(parameters: Vec<Parameter>) -> String {
    let trained = parameters.iter().filter(|p| p.role.is_trained());
    trained.map(|p| p.shape.iter().product::<usize>()).sum::<usize>().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::arch::Architecture;

    #[test]
    fn the_table_ends_in_totals() {
        for text in ["r2plus1d-edge", "r2plus1d-18", "r3d-18(causal=true)"] {
            let graph = text.parse::<Architecture>().unwrap().graph([3, 16, 96, 96], 5).unwrap();
            let table = table(&graph);
            assert_eq!(table.lines().count(), graph.nodes().len() + 2);
            assert!(table.lines().next().unwrap().ends_with("parameters           MACs"));
            assert!(table.lines().last().unwrap().contains(&graph.macs().to_string()));
        }
        let graph = "r2plus1d-18".parse::<Architecture>().unwrap().graph([3, 16, 112, 112], 400).unwrap();
        assert!(table(&graph).lines().last().unwrap().contains(" 31505325 "), "{}", table(&graph));
    }
}
