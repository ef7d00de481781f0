//! Architectures: functions that build a [`Graph`]. Each is written once; the trainer interprets the graph, the
//! exporter writes it.

use std::fmt;
use std::str::FromStr;

use kinora::model::graph::{Binary, Conv, Graph, Op, Pool, Unary, Value};
use kinora::{Error, ErrorKind, Result};

/// Name of the one architecture there is.
pub const R2PLUS1D_EDGE: &str = "r2plus1d-edge";

/// Added to the variance by every batch norm.
const EPS: f32 = 1e-5;

/// An architecture and its options. Its text form, `r2plus1d-edge(width=16,depth=1)`, is what manifests and
/// checkpoints carry and what `--arch` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// Channels of the stem and the first stage; each further stage has twice as many.
    pub width: usize,
    /// Residual blocks per stage.
    pub depth: usize,
    /// Whether temporal kernels see only the past, so that the net can be streamed.
    pub causal: bool,
}

impl Default for Architecture {
    fn default() -> Self {
        Self { width: 16, depth: 1, causal: true }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{R2PLUS1D_EDGE}(width={},depth={}", self.width, self.depth)?;
        if !self.causal {
            f.write_str(",causal=false")?;
        }
        f.write_str(")")
    }
}

fn refuse(text: &str, why: impl fmt::Display) -> Error {
    let known = format_args!("known is {R2PLUS1D_EDGE}, as in '{}'", Architecture::default()).to_string();
    Error::new(ErrorKind::Usage, format_args!("architecture '{text}': {why}; {known}"))
}

impl FromStr for Architecture {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, options) = match text.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')').ok_or_else(|| refuse(text, "a ')' is missing"))?),
            None => (text, ""),
        };
        if name.trim() != R2PLUS1D_EDGE {
            return Err(refuse(text, "there is no such architecture"));
        }
        let mut architecture = Self::default();
        for option in options.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            let bad = || refuse(text, format_args!("option '{option}' is not understood"));
            let (key, value) = option.split_once('=').ok_or_else(bad)?;
            match key.trim() {
                "width" => architecture.width = value.trim().parse().map_err(|_| bad())?,
                "depth" => architecture.depth = value.trim().parse().map_err(|_| bad())?,
                "causal" => architecture.causal = value.trim().parse().map_err(|_| bad())?,
                _ => return Err(bad()),
            }
        }
        architecture.check()?;
        Ok(architecture)
    }
}

impl Architecture {
    /// Refuses options out of range.
    ///
    /// # Errors
    /// `Usage`, naming the option.
    pub fn check(&self) -> Result<()> {
        let text = self.to_string();
        match (self.width, self.depth) {
            (1..=256, 1..=16) => Ok(()),
            (1..=256, _) => Err(refuse(&text, "depth must be 1 to 16")),
            _ => Err(refuse(&text, "width must be 1 to 256")),
        }
    }

    /// The graph of this architecture for clips of shape `input`, `[C, T, H, W]`.
    ///
    /// # Errors
    /// `Usage` when an option is out of range, `Model` when `input` is too small for it.
    pub fn graph(&self, input: [usize; 4], classes: usize) -> Result<Graph> {
        self.check()?;
        r2plus1d_edge(self, input, classes)
    }
}

/// A small (2+1)D residual net: a 3x7x7 stem and four stages of doubling channels, half the resolution before each,
/// every convolution a spatial 1 x k x k followed by a temporal 3 x 1 x 1.
fn r2plus1d_edge(options: &Architecture, input: [usize; 4], classes: usize) -> Result<Graph> {
    let (graph, clip) = Graph::new(input);
    let mut net = Builder { graph, causal: options.causal };
    let mut x = net.conv("stem", clip, options.width, 7)?;
    x = net.graph.push("stem.norm", Op::BatchNorm { eps: EPS }, &[x])?;
    x = net.graph.push("stem.relu", Op::Unary(Unary::Relu), &[x])?;
    for stage in 1..=4 {
        let channels = options.width << (stage - 1);
        x = net.graph.push(format!("stage{stage}.pool"), Op::Pool(Pool::average([1, 2, 2])), &[x])?;
        for block in 1..=options.depth {
            x = net.block(&format!("stage{stage}.block{block}"), x, channels)?;
        }
    }
    x = net.graph.push("average", Op::Mean { axes: vec![2, 3, 4], keep: false }, &[x])?;
    net.graph.push("head", Op::dense(classes), &[x])?;
    Ok(net.graph)
}

struct Builder {
    graph: Graph,
    causal: bool,
}

impl Builder {
    /// A spatial convolution, then a temporal one; no bias, because a normalisation follows.
    fn conv(&mut self, name: &str, x: Value, channels: usize, size: usize) -> Result<Value> {
        let side = (size / 2, size / 2);
        let spatial = Conv { pad: vec![(0, 0), side, side], ..Conv::new(channels, [1, size, size]) };
        let time = if self.causal { (2, 0) } else { (1, 1) };
        let temporal = Conv { pad: vec![time, (0, 0), (0, 0)], ..Conv::new(channels, [3, 1, 1]) };
        let x = self.graph.push(format!("{name}.spatial"), Op::Conv(spatial), &[x])?;
        self.graph.push(format!("{name}.temporal"), Op::Conv(temporal), &[x])
    }

    fn block(&mut self, name: &str, input: Value, channels: usize) -> Result<Value> {
        let mut x = self.conv(&format!("{name}.conv1"), input, channels, 3)?;
        x = self.graph.push(format!("{name}.norm1"), Op::BatchNorm { eps: EPS }, &[x])?;
        x = self.graph.push(format!("{name}.relu1"), Op::Unary(Unary::Relu), &[x])?;
        x = self.conv(&format!("{name}.conv2"), x, channels, 3)?;
        x = self.graph.push(format!("{name}.norm2"), Op::BatchNorm { eps: EPS }, &[x])?;
        let shortcut = if self.graph.node(input).shape[1] == channels {
            input
        } else {
            let conv = Conv { bias: true, ..Conv::new(channels, [1; 3]) };
            self.graph.push(format!("{name}.shortcut"), Op::Conv(conv), &[input])?
        };
        x = self.graph.push(format!("{name}.add"), Op::Binary(Binary::Add), &[x, shortcut])?;
        self.graph.push(format!("{name}.relu2"), Op::Unary(Unary::Relu), &[x])
    }
}

/// The layers of `graph` as a text table with totals.
pub fn table(graph: &Graph) -> String {
    let mut text = format!("{:<28} {:<12} {:<20} {:>10} {:>14}\n", "layer", "operation", "shape", "parameters", "MACs");
    for node in graph.nodes() {
        let parameters: usize = graph.node_parameters(node).iter().map(|p| p.shape.iter().product::<usize>()).sum();
        let shape = format!("{:?}", node.shape);
        let row = (node.op.to_string(), shape, parameters, graph.node_macs(node));
        text += &format!("{:<28} {:<12} {:<20} {:>10} {:>14}\n", node.name, row.0, row.1, row.2, row.3);
    }
    let parameters: usize = graph.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum();
    text + &format!("{:<28} {:<12} {:<20} {parameters:>10} {:>14}\n", "total", "", "", graph.macs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn count(graph: &Graph) -> usize {
        graph.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum()
    }

    #[test]
    fn sizes_are_the_published_ones() {
        let graph = Architecture::default().graph([3, 16, 112, 112], 17).unwrap();
        assert_eq!(graph.output().shape, [1, 17]);
        assert!((0.40e6..0.48e6).contains(&(count(&graph) as f64)), "{} parameters", count(&graph));
        assert!((1.6e9..1.8e9).contains(&(graph.macs() as f64)), "{} MACs", graph.macs());
        let last = graph.nodes().iter().find(|node| node.name == "stage4.block1.relu2").unwrap();
        assert_eq!(last.shape, [1, 128, 16, 7, 7]);
    }

    #[test]
    fn options_change_the_net() {
        let base = Architecture::default();
        let deep = Architecture { depth: 2, ..base }.graph([3, 8, 32, 32], 5).unwrap();
        let wide = Architecture { width: 32, ..base }.graph([3, 8, 32, 32], 5).unwrap();
        let plain = base.graph([3, 8, 32, 32], 5).unwrap();
        assert!(count(&deep) > count(&plain) && count(&wide) > 3 * count(&plain));
        assert!(deep.nodes().iter().any(|node| node.name == "stage4.block2.conv2.temporal"));
        let centred = Architecture { causal: false, ..base }.graph([3, 8, 32, 32], 5).unwrap();
        let Op::Conv(conv) = &centred.nodes()[2].op else { panic!("a temporal convolution") };
        assert_eq!(conv.pad[0], (1, 1));
    }

    #[test]
    fn text_form_round_trips() {
        for (width, depth, causal) in [(16, 1, true), (24, 3, false)] {
            let architecture = Architecture { width, depth, causal };
            assert_eq!(architecture.to_string().parse::<Architecture>().unwrap(), architecture);
        }
        assert_eq!("r2plus1d-edge".parse::<Architecture>().unwrap(), Architecture::default());
        assert_eq!(Architecture::default().to_string(), "r2plus1d-edge(width=16,depth=1)");
        for bad in
            ["resnet", "r2plus1d-edge(", "r2plus1d-edge(width=x)", "r2plus1d-edge(size=3)", "r2plus1d-edge(depth=0)"]
        {
            let error = bad.parse::<Architecture>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains("r2plus1d-edge("), "{error}");
        }
    }

    #[test]
    fn too_small_an_input_is_refused() {
        assert!(Architecture::default().graph([3, 16, 8, 8], 5).is_err());
    }

    #[test]
    fn the_table_ends_in_totals() {
        let graph = Architecture::default().graph([3, 16, 96, 96], 5).unwrap();
        let table = table(&graph);
        assert_eq!(table.lines().count(), graph.nodes().len() + 2);
        assert!(table.lines().last().unwrap().contains(&graph.macs().to_string()));
    }
}
