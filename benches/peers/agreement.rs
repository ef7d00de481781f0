//! The shipped model's answers in int8 beside ONNX Runtime's from the same file, on clips of the mannequin. Both round
//! alike but for a step now and then, so they must name the same action wherever that cannot decide it.

use std::path::Path;

use anyhow::{Context, Result};
use kinora::engine::{self, Choice, Options, Precision};
use kinora::frame::Frame;
use kinora::model::Bundle;
use kinora::model::manifest::{Colour, Input, Mode};
use kinora::preprocess::Preprocessor;
use kinora::synth::{Motion, Scene, World};
use kinora::window::Window;
use ndarray::Array5;
use serde::Serialize;

use crate::compare::Bench;
use crate::peer::{Engine, Peer};
use crate::turns::Contestant;

const CLIPS: usize = 200;

/// How two agree on [`CLIPS`] clips.
#[derive(Debug, Serialize)]
pub struct Agreement {
    peer: String,
    clips: usize,
    /// Clips of which both name the same class first.
    same: usize,
    /// Of all clips and classes.
    largest_difference: f32,
    /// Clips of which the peer's first logit is ahead of its second by more than that.
    clear: usize,
    clear_and_same: usize,
}

/// Runs both on all clips.
pub fn measure(bench: &Bench) -> Result<Agreement> {
    let bundle = Bundle::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mannequin"))?;
    let file = bundle.onnx_int8().context("models/mannequin has no int8 model")?;
    let precision = Precision::Int8;
    let options =
        Options { engine: Choice::Native, precision: Some(precision), mode: Some(Mode::Window), ..Options::default() };
    let mut session = engine::open(&bundle, &options)?.session()?;
    let mut peer = Peer::start(&bench.python, Engine::OnnxRuntime, &file, precision, 1)?;
    eprintln!("{}: {CLIPS} clips of the mannequin, kinora and {}", bundle.manifest.name, peer.name);
    let mut logits = vec![0.0; bundle.labels.len()];
    let (mut largest_difference, mut same, mut margins) = (0.0_f32, 0, Vec::new());
    for number in 0..CLIPS {
        let clip = clip(&bundle.manifest.input, number)?;
        session.infer(clip.view(), &mut logits)?;
        peer.set_clip(&clip)?;
        peer.decide()?;
        let theirs = peer.logits();
        let difference = logits.iter().zip(theirs).fold(0.0_f32, |max, (a, b)| max.max((a - b).abs()));
        largest_difference = largest_difference.max(difference);
        let (first, margin) = first(theirs);
        let agreed = first == self::first(&logits).0;
        same += usize::from(agreed);
        margins.push((margin, agreed));
    }
    let clear: Vec<bool> =
        margins.into_iter().filter(|(margin, _)| *margin > largest_difference).map(|(_, agreed)| agreed).collect();
    let agreement = Agreement {
        peer: peer.name.clone(),
        clips: CLIPS,
        same,
        largest_difference,
        clear: clear.len(),
        clear_and_same: clear.iter().filter(|agreed| **agreed).count(),
    };
    let Agreement { peer, clear, clear_and_same, .. } = &agreement;
    println!(
        "\n{peer} and kinora in int8 on {CLIPS} clips of the mannequin: logits differ by {largest_difference:.3} at most; \
         of {clear} clips that ONNX Runtime decides by more than that, {clear_and_same} have the same answer; of all, {same}."
    );
    Ok(agreement)
}

/// The largest logit's class, and how far it is ahead of the next.
fn first(logits: &[f32]) -> (usize, f32) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    match order[..] {
        [first, second, ..] => (first, logits[first] - logits[second]),
        _ => (0, f32::INFINITY),
    }
}

/// Clip `number` for a model that sees `input`: the motions in turn, each in a scene of its own, the window's middle that of
/// the motion.
fn clip(input: &Input, number: usize) -> Result<Array5<f32>> {
    let mut scene = Scene::clip(World::Studio, number as u64, Motion::ALL[number % Motion::ALL.len()]);
    let subject = scene.subject();
    let pictures = input.frames + usize::from(input.colour == Colour::Motion);
    let span_s = (pictures - 1) as f32 / input.frame_rate;
    let begin_s = (subject.start_s + subject.end_s - span_s) / 2.0;
    let (mut preprocessor, mut window) = (Preprocessor::new(input), Window::new(input));
    let (mut frame, mut plane) = (Frame::new(320, 240), vec![0.0; preprocessor.plane_len()]);
    for n in 0..pictures {
        scene.render((begin_s + n as f32 / input.frame_rate).max(0.0), &mut frame);
        if preprocessor.prepare(&frame, &mut plane)? {
            window.push(&plane);
        }
    }
    Ok(window.clip().to_owned())
}
