//! What a bundle sees in labelled videos before it has learned them: whether a linear layer on what its last one reads tells
//! each video's class when it is fitted to all others. That takes seconds, uses every video, and says which classes are taken
//! for one another and which videos look mislabelled.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use crate::data::{Dataset, Part, mix};
use crate::evaluation::Confusion;
use crate::export::Model;
use crate::init;
use crate::interpreter::{Net, Pass};

/// Clips of each video of whose features the mean is taken.
const CLIPS: usize = 4;
/// Penalty on the weights, where features have a variance of one and their products are divided by their number.
const PENALTY: f64 = 0.3;

/// A video, what it is said to show and what it looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The video.
    pub file: PathBuf,
    /// Its class.
    pub label: usize,
    /// How much it looks like each class; the highest is what it looks like.
    pub scores: Vec<f32>,
}

/// Judges the training videos of `data` by what `model`, the bundle at `path`, sees in them.
///
/// # Errors
/// When no video can be read or the net fails.
pub fn judge(model: &Model, path: &Path, data: &dyn Dataset, seed: u64) -> Result<Vec<Judged>> {
    let [_, c, t, h, w] = model.input.clip_shape();
    let mut net = Net::new(model.graph_for(data.labels().len())?, Device::Cpu, seed)?;
    net.set(&init::weights(path, data.labels(), net.graph(), &net.weights()?)?.weights)?;
    let past = crate::stream::past(net.graph(), &net.weights()?, model.mode, model.input.frames)?;
    let (mut features, mut judged) = (Vec::new(), Vec::new());
    for index in 0..data.len(Part::Train).unwrap_or(0) as u64 {
        let Some(label) = data.shown(Part::Train, index).and_then(|shown| shown.first().copied()) else { continue };
        let mut planes = Vec::new();
        // A mirrored clip may show another class.
        for draw in 0..4 * CLIPS as u64 {
            let sample = data.sample(Part::Train, index, mix(&[seed, index, draw]), past)?;
            if sample.labels == [label] {
                planes.push(sample.planes);
            }
            if planes.len() == CLIPS {
                break;
            }
        }
        if planes.is_empty() {
            continue;
        }
        features.push(seen(&net, &planes, [c, past + t, h, w])?);
        let file = data.file(Part::Train, index).unwrap_or_default();
        judged.push(Judged { file, label, scores: vec![] });
    }
    let labels: Vec<usize> = judged.iter().map(|video| video.label).collect();
    let scores = without_itself(&Tensor::f_stack(&features, 0)?, &labels, data.labels().len())?;
    judged.iter_mut().zip(scores).for_each(|(video, scores)| video.scores = scores);
    Ok(judged)
}

/// What the last layer reads of `clips`, planes `[C, T, H, W]` each: the mean over them, over time and over place, `[D]`.
fn seen(net: &Net, clips: &[Vec<f32>], shape: [usize; 4]) -> Result<Tensor> {
    let graph = net.graph();
    let read: Vec<&str> = graph.output().inputs.iter().map(|value| graph.node(*value).name.as_str()).collect();
    let shape: Vec<i64> = [clips.len()].into_iter().chain(shape).map(|n| n as i64).collect();
    let planes: Vec<f32> = clips.iter().flatten().copied().collect();
    let mut found: Vec<Tensor> = vec![];
    let clips = Tensor::f_from_slice(&planes)?.f_reshape(&shape)?;
    let _ = tch::no_grad(|| {
        net.forward_with(&clips, Pass::Evaluate, &mut |node, value| {
            if read.contains(&node.name.as_str()) {
                found.push(match value.dim() {
                    4 => value.f_mean_dim([2, 3].as_slice(), false, Kind::Float)?,
                    3 => value.f_select(1, -1)?,
                    _ => value.shallow_clone(),
                });
            }
            Ok(())
        })
    })?;
    Ok(Tensor::f_cat(&found, 1)?.f_mean_dim([0].as_slice(), false, Kind::Double)?)
}

/// For each row of `features`, `[N, D]`, of these `labels`, the scores that ridge regression fitted to all other rows has for
/// it; all classes weigh the same, however many rows they have. Mean and spread of the features are those of all rows. A fit
/// without a row follows from that with it: with `H` such that `H Y` fits `Y`, the error without row i is the error
/// with it divided by `1 - H[i, i]` (PRESS: Allen, The Relationship Between Variable Selection and Data Agumentation and a
/// Method for Prediction, 1974).
///
/// # Errors
/// When it cannot be computed.
fn without_itself(features: &Tensor, labels: &[usize], classes: usize) -> Result<Vec<Vec<f32>>> {
    let (n, d) = features.size2()?;
    let x = features.f_to_kind(Kind::Double)?;
    let x = x.f_sub(&x.f_mean_dim([0].as_slice(), true, Kind::Double)?)?;
    let spread = x.f_square()?.f_mean_dim([0].as_slice(), true, Kind::Double)?.f_sqrt()?.f_clamp_min(1e-6)?;
    let x = x.f_div(&spread)?;
    // Of a feature that is always one come the means.
    let products = (x.f_matmul(&x.f_transpose(0, 1)?)? / d as f64).f_add_scalar(1.0)?;
    let of = |label: &usize| labels.iter().filter(|other| *other == label).count();
    let shown = (0..classes).filter(|label| of(label) > 0).count();
    let penalty: Vec<f64> =
        labels.iter().map(|label| PENALTY * (of(label) * shown) as f64 / labels.len() as f64).collect();
    let penalty = Tensor::f_from_slice(&penalty)?.f_diag(0)?;
    let fit = products.f_matmul(&Tensor::f_linalg_inv(&products.f_add(&penalty)?)?)?;
    let mut truth = vec![0f64; labels.len() * classes];
    labels.iter().enumerate().for_each(|(row, label)| truth[row * classes + label] = 1.0);
    let truth = Tensor::f_from_slice(&truth)?.f_reshape([n, classes as i64])?;
    let errors = truth.f_sub(&fit.f_matmul(&truth)?)?;
    let left = fit.f_diagonal(0, 0, 1)?.f_neg()?.f_add_scalar(1.0)?.f_clamp_min(1e-9)?.f_unsqueeze(1)?;
    let scores = truth.f_sub(&errors.f_div(&left)?)?.f_to_kind(Kind::Float)?;
    let scores = Vec::<f32>::try_from(&scores.f_reshape([-1])?).context("scores")?;
    Ok(scores.chunks(classes).map(<[f32]>::to_vec).collect())
}

/// Says which classes are taken for one another and which videos look like another class.
pub fn report(judged: &[Judged], labels: &[String]) -> Result<()> {
    let mut confusion = Confusion::new(labels);
    for Judged { label, scores, .. } in judged {
        let sum: f32 = scores.iter().map(|s| s.max(1e-3)).sum();
        confusion.add(*label, &scores.iter().map(|s| s.max(1e-3) / sum).collect::<Vec<_>>());
    }
    crate::say("what the videos look like before anything is learned, each judged by the others:")?;
    crate::say(confusion.table())?;
    for line in confused(&confusion).into_iter().chain(odd(judged, labels)) {
        crate::say(line)?;
    }
    Ok(())
}

/// Of each class what it is taken for most often, if that is often.
fn confused(confusion: &Confusion) -> Vec<String> {
    let labels = confusion.labels();
    let mut said = Vec::new();
    for (truth, label) in labels.iter().enumerate() {
        let others = (0..labels.len()).filter(|answer| *answer != truth);
        let Some(other) = others.max_by_key(|answer| confusion.count(truth, *answer)) else { continue };
        let (times, all) = (confusion.count(truth, other), confusion.row_sum(truth));
        // Of fewer each one that is left out is a large part of its class.
        if all >= 4 && times > 1 && 4 * times >= all {
            said.push(format!("{label}: {times} of {all} videos look like {}", labels[other]));
        }
    }
    said
}

/// Videos of a class that most others of it agree on, but that look like another.
fn odd(judged: &[Judged], labels: &[String]) -> Vec<String> {
    let looks = |video: &Judged| {
        let best = (0..video.scores.len()).max_by(|a, b| video.scores[*a].total_cmp(&video.scores[*b]));
        best.unwrap_or(video.label)
    };
    let right = |label: usize| {
        let of = || judged.iter().filter(|video| video.label == label);
        of().filter(|video| looks(video) == label).count() as f64 / of().count().max(1) as f64
    };
    let sure = |video: &&Judged| {
        let best = looks(video);
        best != video.label && video.scores[best] > 0.6 && video.scores[video.label] < 0.2 && right(video.label) > 0.6
    };
    let line = |video: &Judged| {
        let (label, other) = (&labels[video.label], &labels[looks(video)]);
        format!("{}: is this {label}? it looks like {other}", video.file.display())
    };
    judged.iter().filter(sure).map(line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// Features of three classes, apart by `apart`; rows in turns.
    fn features(apart: f64, rows: usize, seed: u64) -> (Vec<Vec<f64>>, Vec<usize>) {
        let mut random = fastrand::Rng::with_seed(seed);
        let labels: Vec<usize> = (0..rows).map(|row| row % 3).collect();
        let row = |label: &usize| (0..5).map(|d| random.f64() - 0.5 + if d == *label { apart } else { 0.0 }).collect();
        (labels.iter().map(row).collect(), labels)
    }

    fn tensor(rows: &[Vec<f64>]) -> Tensor {
        Tensor::from_slice(&rows.concat()).reshape([rows.len() as i64, -1])
    }

    fn best(scores: &[f32]) -> usize {
        (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap()
    }

    #[test]
    fn a_video_is_judged_by_the_others() {
        let (rows, mut labels) = features(2.0, 24, 1);
        let scores = without_itself(&tensor(&rows), &labels, 3).unwrap();
        assert!(scores.iter().zip(&labels).all(|(scores, label)| best(scores) == *label), "{scores:?}");
        // One that is mislabelled looks like what it is, not like its label.
        labels[4] = 2;
        let scores = without_itself(&tensor(&rows), &labels, 3).unwrap();
        assert_eq!(best(&scores[4]), 1);
    }

    /// What follows from the one fit is what fits to all other rows say.
    #[test]
    fn its_own_label_does_not_count() {
        for (apart, rows) in [(0.0, 11), (1.0, 24), (3.0, 7)] {
            let (features, labels) = features(apart, rows, 100);
            let scores = without_itself(&tensor(&features), &labels, 3).unwrap();
            let n = rows as f64;
            let mean = |d: usize| features.iter().map(|row| row[d]).sum::<f64>() / n;
            let spread = |d: usize| (features.iter().map(|row| (row[d] - mean(d)).powi(2)).sum::<f64>() / n).sqrt();
            let x = |row: usize, d: usize| (features[row][d] - mean(d)) / spread(d);
            let product = |a: usize, b: usize| 1.0 + (0..5).map(|d| x(a, d) * x(b, d)).sum::<f64>() / 5.0;
            for (left, scores) in scores.iter().enumerate() {
                let others: Vec<usize> = (0..rows).filter(|row| *row != left).collect();
                let size = |row: usize| labels.iter().filter(|label| **label == labels[row]).count() as f64;
                let system: Vec<f64> = (others.iter())
                    .flat_map(|&a| others.iter().map(move |&b| (a, b)))
                    .map(|(a, b)| product(a, b) + if a == b { PENALTY * 3.0 * size(a) / n } else { 0.0 })
                    .collect();
                let truth: Vec<f64> = others
                    .iter()
                    .flat_map(|row| (0..3).map(|class| f64::from(u8::from(labels[*row] == class))))
                    .collect();
                let m = others.len() as i64;
                let inverse = Tensor::linalg_inv(&Tensor::from_slice(&system).reshape([m, m]));
                let weights = inverse.matmul(&Tensor::from_slice(&truth).reshape([m, 3]));
                let row: Vec<f64> = others.iter().map(|other| product(left, *other)).collect();
                let wanted = Tensor::from_slice(&row).reshape([1, m]).matmul(&weights);
                let wanted = Vec::<f64>::try_from(&wanted.reshape([-1])).unwrap();
                let near = wanted.iter().zip(scores).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-5);
                assert!(near, "row {left} of {rows}: {wanted:?}, {scores:?}");
            }
        }
    }

    #[test]
    fn odd_videos_are_named() {
        let labels = ["hop", "spin"].map(String::from);
        let video =
            |label, scores: [f32; 2]| Judged { file: format!("{label}.mp4").into(), label, scores: scores.to_vec() };
        let sure = [video(0, [0.9, 0.1]), video(0, [0.8, 0.2]), video(0, [0.1, 0.9]), video(1, [0.1, 0.9])];
        assert_eq!(odd(&sure, &labels), ["0.mp4: is this hop? it looks like spin"]);
        // Where a class is not told apart at all its videos are not to blame.
        assert!(odd(&[video(0, [0.1, 0.9]), video(1, [0.1, 0.9])], &labels).is_empty());
        let mut confusion = Confusion::new(&labels);
        (0..4).for_each(|n| confusion.add(0, if n < 2 { &[0.1, 0.9] } else { &[0.9, 0.1] }));
        assert_eq!(confused(&confusion), ["hop: 2 of 4 videos look like spin"]);
    }
}
