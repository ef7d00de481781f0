//! A graph as a text table.

use kinora::model::graph::{Graph, Op, Parameter};

/// The layers of `graph` as a text table with totals.
pub fn table(graph: &Graph) -> String {
    let widest = graph.nodes().iter().map(|node| node.name.len()).max().unwrap_or(0);
    let row = |name: &str, operation: &str, shape: &str, parameters: &str, macs: &str| {
        format!("{name:<widest$} {operation:<16} {shape:<20} {parameters:>10} {macs:>14}\n")
    };
    let mut text = row("layer", "operation", "shape", "parameters", "MACs");
    for node in graph.nodes() {
        let (parameters, macs) = (values(graph.node_parameters(node)), graph.node_macs(node).to_string());
        text += &row(&node.name, &operation(&node.op), &format!("{:?}", node.shape), &parameters, &macs);
    }
    text + &row("total", "", "", &values(graph.parameters()), &graph.macs().to_string())
}

fn values(parameters: Vec<Parameter>) -> String {
    parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum::<usize>().to_string()
}

fn operation(op: &Op) -> String {
    let by = |k: &[usize; 3]| format!("{}x{}x{}", k[0], k[1], k[2]);
    match op {
        Op::Input => "input".into(),
        Op::Conv(conv) if conv.stride == [1; 3] => format!("conv {}", by(&conv.kernel)),
        Op::Conv(conv) => format!("conv {}/{}", by(&conv.kernel), by(&conv.stride)),
        Op::BatchNorm { .. } => "norm".into(),
        Op::Relu => "relu".into(),
        Op::AvgPool { kernel } => format!("mean {}", by(kernel)),
        Op::Add => "add".into(),
        Op::GlobalAverage => "mean all".into(),
        Op::Dense { .. } => "dense".into(),
    }
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
    }
}
