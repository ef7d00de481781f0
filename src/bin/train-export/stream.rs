//! What a stream is to the trainer: frames before the window that its net still sees.

use kinora::engine::{Kernels, Native};
use kinora::model::graph::{Conv, Graph, Op, Pool, Weights};
use kinora::model::manifest::Mode;

/// How many frames before a window of so many `frames` the answer of the net of `graph` depends on when it is run in `mode`:
/// none in a window; in a stream those that the first of its layers' last positions look back on. A recurrent net remembers
/// for ever; as many frames as a window has are shown to it.
///
/// # Errors
/// `Engine`, naming the layer, when the net cannot be streamed.
pub fn past(graph: &Graph, weights: &Weights, mode: Mode, frames: usize) -> kinora::Result<usize> {
    if mode == Mode::Window {
        return Ok(0);
    }
    if !graph.states().is_empty() {
        return Ok(frames);
    }
    Native::new(graph, weights, mode, Kernels::best(), 1)?;
    // Of each value: how many frames before a position's own it depends on, and frames from one position to the next.
    let mut seen: Vec<(usize, usize)> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let (past, step) = (node.inputs.iter().map(|input| seen[input.index()]))
            .reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
            .unwrap_or((0, 1));
        seen.push(match &node.op {
            Op::Conv(Conv { kernel, dilation, stride, .. }) | Op::Pool(Pool { kernel, dilation, stride, .. }) => {
                (past + (kernel[0] - 1) * dilation[0] * step, step * stride[0])
            }
            _ => (past, step),
        });
    }
    Ok(seen.last().map_or(0, |(past, _)| *past))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::arch::Architecture;
    use crate::interpreter::{Net, Pass};
    use kinora::engine::Engine;
    use tch::{Device, Kind, Tensor};

    const FRAMES: usize = 4;

    fn net(architecture: &str) -> Net {
        let graph = architecture.parse::<Architecture>().unwrap().graph([1, FRAMES, 16, 16], 3).unwrap();
        Net::new(graph, Device::Cpu, 5).unwrap()
    }

    fn past_of(net: &Net, mode: Mode) -> kinora::Result<usize> {
        past(net.graph(), &net.weights().unwrap(), mode, FRAMES)
    }

    fn logits(net: &Net, clip: &Tensor) -> Vec<f32> {
        Vec::try_from(tch::no_grad(|| net.forward(clip, Pass::Evaluate)).unwrap().view(-1)).unwrap()
    }

    const STREAMED: [&str; 3] = [
        "r2plus1d-edge(width=4)",
        "r2plus1d-18(width=4,causal=true,temporal_stride=false)",
        "r3d-18(width=4,causal=true)",
    ];

    /// A frame that is as far back as the past reaches changes the answer; one before it does not.
    #[test]
    fn the_past_is_what_the_answer_depends_on() {
        let net = net(STREAMED[0]);
        let past = past_of(&net, Mode::Stream).unwrap();
        assert_eq!((past, past_of(&net, Mode::Window).unwrap()), (18, 0));
        tch::manual_seed(1);
        let clip = Tensor::randn([1, 1, (past + 1 + FRAMES) as i64, 16, 16], (Kind::Float, Device::Cpu));
        let changed = |frame: i64| {
            let changed = clip.copy();
            let _ = changed.narrow(2, frame, 1).fill_(9.0);
            logits(&net, &changed) != logits(&net, &clip)
        };
        assert_eq!([changed(0), changed(1)], [false, true]);
    }

    #[test]
    fn long_clips_give_what_the_stream_does() {
        for architecture in STREAMED {
            let net = net(architecture);
            let engine = Native::new(net.graph(), &net.weights().unwrap(), Mode::Stream, Kernels::best(), 1).unwrap();
            let mut session = engine.session().unwrap();
            tch::manual_seed(2);
            let clip = Tensor::randn([1, 1, 24, 16, 16], (Kind::Float, Device::Cpu));
            let mut streamed = vec![0.0; 3];
            for t in 0..24 {
                let plane = Vec::<f32>::try_from(clip.narrow(2, t, 1).reshape([-1])).unwrap();
                let emitted = session.push(&plane, &mut streamed).unwrap();
                if emitted && t + 1 >= FRAMES as i64 {
                    let wanted = logits(&net, &clip.narrow(2, 0, t + 1));
                    let largest = wanted.iter().fold(0f32, |max, x| max.max(x.abs()));
                    let apart = wanted.iter().zip(&streamed).fold(0f32, |max, (a, b)| max.max((a - b).abs()));
                    assert!(apart <= 1e-5 * largest, "{architecture}, frame {t}: {apart} of {largest}");
                }
            }
        }
    }

    #[test]
    fn a_net_that_sees_the_future_is_refused_by_layer() {
        let net = net("r2plus1d-edge(width=4,causal=false)");
        assert_eq!(past_of(&net, Mode::Window).unwrap(), 0);
        let error = past_of(&net, Mode::Stream).unwrap_err().to_string();
        assert!(error.contains("'stem.temporal'") && error.contains("causal=true"), "{error}");
    }
}
