//! Architectures: functions that build a [`Graph`]. Each is written once; the trainer interprets the graph, the
//! exporter writes it.

mod builder;
mod convlstm;
mod dot;
mod edge;
mod i3d;
#[cfg(test)]
mod peers;
mod r2plus1d;
mod resnet3d;
mod svg;
mod table;
pub mod torchvision;
mod tutorial;

use std::fmt;
use std::str::FromStr;

use kinora::model::graph::Graph;
use kinora::model::manifest::Colour;
use kinora::{Error, ErrorKind, Result};

pub use dot::dot;
pub use svg::svg;
pub use table::table;

/// A family of architectures: what its name in `--arch` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `r2plus1d-edge`: a small (2+1)D residual net for boards.
    R2plus1dEdge,
    /// `r2plus1d-tutorial`: the net of TensorFlow's tutorial on video classification.
    R2plus1dTutorial,
    /// `r2plus1d-18`: R(2+1)D with 18 layers (Tran et al., 2018), as torchvision has it.
    R2plus1d18,
    /// `r2plus1d-34`: the same with 34 layers.
    R2plus1d34,
    /// `r3d-18`: R3D with 18 layers (Tran et al., 2018), as torchvision has it.
    R3d18,
    /// `resnet3d-18` to `-152`: the 3D ResNets of Hara et al., 2018.
    Resnet3d(Layers),
    /// `i3d-rgb`: the inflated Inception-v1 of Carreira and Zisserman, 2017.
    I3dRgb,
    /// `i3d-flow`: the same on optical flow.
    I3dFlow,
    /// `convlstm-edge`: a small recurrent net for boards.
    ConvLstmEdge,
    /// `convlstm-trailer`: a recurrent net that says of each frame which categories a film is of.
    ConvLstmTrailer,
    /// `lstm-trailer`: the same task with convolutions and an LSTM over all of what they see.
    LstmTrailer,
}

/// What the gates of an LSTM let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gates {
    /// `0.2 x + 0.5` from 0 to 1: Keras 2's hard sigmoid.
    Hard,
    /// `x / 6 + 0.5` from 0 to 1: Keras 3's.
    Hard3,
    /// The sigmoid.
    Sigmoid,
}

impl Gates {
    const ALL: [(Self, &'static str); 3] = [(Self::Hard, "hard"), (Self::Hard3, "hard3"), (Self::Sigmoid, "sigmoid")];
}

/// How many layers a 3D ResNet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    L18,
    L34,
    L50,
    L101,
    L152,
}

impl Family {
    const ALL: [Family; 15] = [
        Self::R2plus1dEdge,
        Self::R2plus1dTutorial,
        Self::R2plus1d18,
        Self::R2plus1d34,
        Self::R3d18,
        Self::Resnet3d(Layers::L18),
        Self::Resnet3d(Layers::L34),
        Self::Resnet3d(Layers::L50),
        Self::Resnet3d(Layers::L101),
        Self::Resnet3d(Layers::L152),
        Self::I3dRgb,
        Self::I3dFlow,
        Self::ConvLstmEdge,
        Self::ConvLstmTrailer,
        Self::LstmTrailer,
    ];

    /// Whether its blocks are narrow in the middle.
    fn has_bottlenecks(self) -> bool {
        matches!(self, Self::Resnet3d(Layers::L50 | Layers::L101 | Layers::L152))
    }

    /// Residual blocks of each of the stages of a published residual net.
    fn blocks(self) -> [usize; 4] {
        match self {
            Self::R2plus1d34 | Self::Resnet3d(Layers::L34 | Layers::L50) => [3, 4, 6, 3],
            Self::Resnet3d(Layers::L101) => [3, 4, 23, 3],
            Self::Resnet3d(Layers::L152) => [3, 8, 36, 3],
            _ => [2; 4],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::R2plus1dEdge => "r2plus1d-edge",
            Self::R2plus1dTutorial => "r2plus1d-tutorial",
            Self::R2plus1d18 => "r2plus1d-18",
            Self::R2plus1d34 => "r2plus1d-34",
            Self::R3d18 => "r3d-18",
            Self::Resnet3d(Layers::L18) => "resnet3d-18",
            Self::Resnet3d(Layers::L34) => "resnet3d-34",
            Self::Resnet3d(Layers::L50) => "resnet3d-50",
            Self::Resnet3d(Layers::L101) => "resnet3d-101",
            Self::Resnet3d(Layers::L152) => "resnet3d-152",
            Self::I3dRgb => "i3d-rgb",
            Self::I3dFlow => "i3d-flow",
            Self::ConvLstmEdge => "convlstm-edge",
            Self::ConvLstmTrailer => "convlstm-trailer",
            Self::LstmTrailer => "lstm-trailer",
        }
    }

    /// The names of its options. Those before the bar are always written out.
    fn options(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::R2plus1dEdge => (&["width", "depth"], &["causal"]),
            Self::R2plus1d18 | Self::R2plus1d34 | Self::R3d18 => (&[], &["width", "causal", "temporal_stride"]),
            Self::Resnet3d(_) => (&[], &["width", "causal", "temporal_stride", "projection"]),
            Self::R2plus1dTutorial => (&[], &["width", "causal"]),
            Self::I3dRgb | Self::I3dFlow => (&[], &["width"]),
            Self::ConvLstmEdge => (&["width"], &[]),
            Self::ConvLstmTrailer | Self::LstmTrailer => (&[], &["width", "gates", "norm"]),
        }
    }

    /// The family with the options it was published with.
    fn published(self) -> Architecture {
        let plain = Architecture {
            family: self,
            width: 64,
            depth: 1,
            causal: false,
            temporal_stride: true,
            projection: self.has_bottlenecks(),
            gates: Gates::Hard,
            norm_columns: false,
        };
        match self {
            Self::R2plus1dEdge | Self::ConvLstmEdge => {
                Architecture { width: 16, causal: true, temporal_stride: false, ..plain }
            }
            Self::ConvLstmTrailer | Self::LstmTrailer => {
                Architecture { width: 20, causal: true, temporal_stride: false, ..plain }
            }
            Self::R2plus1dTutorial => Architecture { width: 16, temporal_stride: false, ..plain },
            _ => plain,
        }
    }
}

/// An architecture and its options. Its text form, `r2plus1d-edge(width=16,depth=1)`, is what manifests and
/// checkpoints carry and what `--arch` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// Which family.
    pub family: Family,
    /// Channels of the first stage; each further stage has twice as many.
    pub width: usize,
    /// Residual blocks per stage.
    pub depth: usize,
    /// Whether temporal kernels see only the past, so that the net can be streamed.
    pub causal: bool,
    /// Whether stages 2 to 4 each halve the frame rate, and the pools of a stem.
    pub temporal_stride: bool,
    /// Whether shortcuts that change the shape are projected, else they have no parameters.
    pub projection: bool,
    /// What the gates of its LSTMs let through.
    pub gates: Gates,
    /// Whether batch norms go over columns, not channels.
    pub norm_columns: bool,
}

impl Default for Architecture {
    fn default() -> Self {
        Family::R2plus1dEdge.published()
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (published, (always, if_changed)) = (self.family.published(), self.family.options());
        let changed = if_changed.iter().filter(|key| self.get(key) != published.get(key));
        let options: Vec<String> = always.iter().chain(changed).map(|key| format!("{key}={}", self.get(key))).collect();
        f.write_str(self.family.name())?;
        if options.is_empty() { Ok(()) } else { write!(f, "({})", options.join(",")) }
    }
}

fn refuse(text: &str, why: impl fmt::Display) -> Error {
    let known: Vec<&str> = Family::ALL.into_iter().map(Family::name).collect();
    let message =
        format!("architecture '{text}': {why}; known are {}, as in '{}'", known.join(", "), Architecture::default());
    Error::new(ErrorKind::Usage, message)
}

impl FromStr for Architecture {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, options) = match text.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')').ok_or_else(|| refuse(text, "a ')' is missing"))?),
            None => (text, ""),
        };
        let family = Family::ALL.into_iter().find(|family| family.name() == name.trim());
        let mut architecture = family.ok_or_else(|| refuse(text, "there is no such architecture"))?.published();
        for option in options.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            let (key, value) =
                option.split_once('=').ok_or_else(|| refuse(text, format_args!("option '{option}' has no value")))?;
            architecture.set(key.trim(), value.trim()).map_err(|why| refuse(text, why))?;
        }
        architecture.check()?;
        Ok(architecture)
    }
}

impl Architecture {
    /// An option's value as text.
    fn get(&self, key: &str) -> String {
        match key {
            "width" => self.width.to_string(),
            "depth" => self.depth.to_string(),
            "causal" => self.causal.to_string(),
            "projection" => self.projection.to_string(),
            "gates" => Gates::ALL.iter().find(|(gates, _)| *gates == self.gates).map_or("", |(_, name)| name).into(),
            "norm" => if self.norm_columns { "columns" } else { "channels" }.into(),
            _ => self.temporal_stride.to_string(),
        }
    }

    /// Changes an option, or says why not.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let bad = |wanted: &str| format!("option {key}={value}: {wanted} wanted");
        let number = || value.parse().map_err(|_| bad("a number"));
        let choice = || value.parse().map_err(|_| bad("true or false"));
        let (always, if_changed) = self.family.options();
        if !always.iter().chain(if_changed).any(|known| *known == key) {
            let all = [always, if_changed].concat().join(", ");
            return Err(format!("{} has no option '{key}', only {all}", self.family.name()));
        }
        match key {
            "width" => self.width = number()?,
            "depth" => self.depth = number()?,
            "causal" => self.causal = choice()?,
            "projection" => self.projection = choice()?,
            "gates" => {
                let known = Gates::ALL.iter().find(|(_, name)| *name == value);
                self.gates = known.ok_or_else(|| bad("hard, hard3 or sigmoid"))?.0;
            }
            "norm" => {
                self.norm_columns = match value {
                    "columns" => true,
                    "channels" => false,
                    _ => return Err(bad("channels or columns")),
                }
            }
            _ => self.temporal_stride = choice()?,
        }
        Ok(())
    }

    /// This architecture with an option changed.
    ///
    /// # Errors
    /// `Usage` when it has no such option or the value is out of range.
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Result<Self> {
        self.set(key, &value.to_string()).map_err(|why| refuse(&self.to_string(), why))?;
        self.check().map(|()| self)
    }

    /// What the frames show that it was made for; of the nets for boards what does best with few clips.
    pub fn colour(&self) -> Colour {
        match self.family {
            Family::I3dFlow => Colour::Flow,
            Family::I3dRgb => Colour::Rgb,
            _ => Colour::Motion,
        }
    }

    /// Height and width of the pictures it was made for.
    pub fn picture_size(&self) -> usize {
        match self.family {
            Family::R2plus1dEdge | Family::ConvLstmEdge => 96,
            Family::I3dRgb | Family::I3dFlow | Family::R2plus1dTutorial => 224,
            Family::ConvLstmTrailer | Family::LstmTrailer => 400,
            _ => 112,
        }
    }

    /// Refuses options out of range.
    ///
    /// # Errors
    /// `Usage`, naming the option.
    fn check(&self) -> Result<()> {
        let text = self.to_string();
        match (self.width, self.depth) {
            (1..=256, 1..=16) => Ok(()),
            (1..=256, _) => Err(refuse(&text, "depth must be 1 to 16")),
            _ => Err(refuse(&text, "width must be 1 to 256")),
        }
    }

    /// The graph of this architecture for clips of shape `input`, `[C, T, H, W]`; of a recurrent one the graph of a frame.
    ///
    /// # Errors
    /// `Usage` when an option is out of range, `Model` when `input` is too small for it.
    pub fn graph(&self, input: [usize; 4], classes: usize) -> Result<Graph> {
        self.check()?;
        match self.family {
            Family::R2plus1dEdge => edge::graph(self, input, classes),
            Family::R2plus1d18 | Family::R2plus1d34 | Family::R3d18 => r2plus1d::graph(self, input, classes),
            Family::Resnet3d(_) => resnet3d::graph(self, input, classes),
            Family::R2plus1dTutorial => tutorial::graph(self, input, classes),
            Family::I3dRgb | Family::I3dFlow => i3d::graph(self, input, classes),
            Family::ConvLstmEdge => convlstm::edge(self, input, classes),
            Family::ConvLstmTrailer => convlstm::trailer(self, input, classes),
            Family::LstmTrailer => convlstm::flat(self, input, classes),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use kinora::model::graph::Role;

    /// The net of 400 classes for 16 frames of 112x112.
    pub fn published(text: &str) -> Graph {
        text.parse::<Architecture>().unwrap().graph([3, 16, 112, 112], 400).unwrap()
    }

    /// Shape of a layer's result.
    pub fn shape<'a>(graph: &'a Graph, name: &str) -> &'a [usize] {
        &graph.nodes().iter().find(|node| node.name == name).expect(name).shape
    }

    /// How many numbers are trained: running statistics are not.
    pub fn trained(graph: &Graph) -> usize {
        let running = |role| matches!(role, Role::RunningMean | Role::RunningVariance);
        let trained = graph.parameters().into_iter().filter(|p| !running(p.role));
        trained.map(|p| p.shape.iter().product::<usize>()).sum()
    }

    #[test]
    fn text_form_round_trips() {
        let texts = [
            "r2plus1d-edge(width=16,depth=1)",
            "r2plus1d-edge(width=24,depth=3,causal=false)",
            "r2plus1d-18",
            "r2plus1d-18(causal=true)",
            "r3d-18",
            "r3d-18(width=8,causal=true,temporal_stride=false)",
            "r2plus1d-34",
            "resnet3d-50(projection=false)",
            "resnet3d-18(width=16,projection=true)",
            "i3d-rgb",
            "i3d-flow(width=8)",
            "r2plus1d-tutorial(causal=true)",
            "convlstm-edge(width=8)",
            "convlstm-trailer(gates=hard3,norm=columns)",
            "lstm-trailer(width=8,gates=sigmoid)",
        ];
        for text in texts {
            assert_eq!(text.parse::<Architecture>().unwrap().to_string(), text);
        }
        assert_eq!("r2plus1d-edge".parse::<Architecture>().unwrap(), Architecture::default());
        assert_eq!(" r3d-18 ( causal = false )".parse::<Architecture>().unwrap().to_string(), "r3d-18");
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        let cases = [
            ("resnet", "no such architecture"),
            ("r2plus1d-edge(", "')' is missing"),
            ("r2plus1d-edge(width)", "option 'width' has no value"),
            ("r2plus1d-edge(width=x)", "width=x: a number wanted"),
            ("r2plus1d-edge(size=3)", "no option 'size', only width, depth, causal"),
            ("r2plus1d-edge(depth=0)", "depth must be 1 to 16"),
            ("r3d-18(depth=2)", "r3d-18 has no option 'depth', only width, causal, temporal_stride"),
            ("r3d-18(causal=yes)", "causal=yes: true or false wanted"),
            ("convlstm-trailer(gates=soft)", "gates=soft: hard, hard3 or sigmoid wanted"),
            ("convlstm-trailer(norm=rows)", "norm=rows: channels or columns wanted"),
            ("r3d-18(width=257)", "width must be 1 to 256"),
        ];
        for (text, why) in cases {
            let error = text.parse::<Architecture>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            let error = error.to_string();
            assert!(error.contains(why) && error.contains("r2plus1d-18, r2plus1d-34"), "{text}: {error}");
        }
        assert!(Architecture::default().with("width", 0).is_err());
        assert_eq!(Architecture::default().with("depth", 2).unwrap().depth, 2);
    }
}
