//! How near a quantised net's answers are to those in floats.

use anyhow::{Context, Result};
use ndarray::Axis;
use tch::Tensor;

use crate::interpreter::{Net, Pass, to_array};

/// Clips in batches.
pub struct Clips {
    /// Each `[N, C, T, H, W]`.
    pub batches: Vec<Tensor>,
    /// The class of every clip; none where clips have no meaning.
    pub labels: Option<Vec<usize>>,
    /// What they are, for the record.
    pub what: String,
}

impl Clips {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.batches.iter().map(|batch| batch.size()[0] as usize).sum()
    }

    /// The first `n` of them, or as many as there are, `[N, C, T, H, W]`.
    ///
    /// # Errors
    /// When there are none.
    pub fn first(&self, n: usize) -> Result<Tensor> {
        let batch = self.batches.first().context("no clips")?.size()[0].max(1) as usize;
        let batches: Vec<&Tensor> = self.batches.iter().take(n.div_ceil(batch)).collect();
        let all = Tensor::f_cat(&batches, 0)?;
        Ok(all.f_narrow(0, 0, (n as i64).min(all.size()[0]))?)
    }
}

/// Probabilities of the classes, one row a clip.
pub struct Answers(Vec<Vec<f64>>);

/// What answers are worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Share of clips whose most likely class is the right one; none where clips have no meaning.
    pub top1: Option<f64>,
    /// Share of clips whose most likely class is that of the net in floats.
    pub agreement: f64,
    /// Mean over the clips of `sum p ln(p / q)`, with p the probabilities in floats.
    pub divergence: f64,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(top1) = self.top1 {
            write!(f, "top-1 {top1:.4}, ")?;
        }
        write!(f, "agreement {:.4}, divergence {:.2e}", self.agreement, self.divergence)
    }
}

/// What `net` answers to `clips`.
///
/// # Errors
/// When it fails.
pub fn answers(net: &Net, clips: &Clips) -> Result<Answers> {
    let mut all = vec![];
    for batch in &clips.batches {
        let logits = to_array(&tch::no_grad(|| net.answer(batch, Pass::Evaluate))?)?;
        all.extend(logits.axis_iter(Axis(0)).map(|row| softmax(row.iter().copied().collect::<Vec<f32>>().as_slice())));
    }
    Ok(Answers(all))
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|x| f64::from(x - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|x| x / sum).collect()
}

fn most_likely(row: &[f64]) -> usize {
    row.iter().enumerate().fold(0, |best, (index, p)| if *p > row[best] { index } else { best })
}

impl Answers {
    /// How good these answers are for `clips`, to which the net in floats gave the answers `float`.
    pub fn verdict(&self, float: &Answers, clips: &Clips) -> Verdict {
        let n = self.0.len().max(1) as f64;
        let share = |right: usize| right as f64 / n;
        let tops: Vec<usize> = self.0.iter().map(|row| most_likely(row)).collect();
        let right = |labels: &Vec<usize>| share(tops.iter().zip(labels).filter(|(top, label)| top == label).count());
        let agree = tops.iter().zip(&float.0).filter(|(top, row)| **top == most_likely(row)).count();
        let terms = self.0.iter().zip(&float.0).flat_map(|(q, p)| q.iter().zip(p));
        let divergence = terms.map(|(q, p)| if *p > 0.0 { p * (p / q.max(1e-30)).ln() } else { 0.0 }).sum::<f64>() / n;
        Verdict { top1: clips.labels.as_ref().map(right), agreement: share(agree), divergence }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_verdict_counts_and_compares() {
        let batch = Tensor::zeros([2, 1, 1, 1, 1], (Kind::Float, Device::Cpu));
        let clips = Clips { batches: vec![batch], labels: Some(vec![1, 0]), what: String::new() };
        let float = Answers(vec![softmax(&[0.0, 1.0]), softmax(&[0.0, 2.0])]);
        let other = Answers(vec![softmax(&[0.0, 1.0]), softmax(&[2.0, 0.0])]);
        let same = float.verdict(&float, &clips);
        assert_eq!((same.top1, same.agreement, same.divergence), (Some(0.5), 1.0, 0.0));
        let verdict = other.verdict(&float, &clips);
        assert_eq!((verdict.top1, verdict.agreement), (Some(1.0), 0.5));
        // (p0 - p1) (ln p0 - ln p1) with logits 0 and 2, half of the clips.
        let (p0, p1) = (softmax(&[0.0, 2.0])[0], softmax(&[0.0, 2.0])[1]);
        assert!((verdict.divergence - (p1 - p0) * 2.0 / 2.0).abs() < 1e-12);
        assert_eq!(clips.first(1).unwrap().size(), [1, 1, 1, 1, 1]);
        assert_eq!((clips.first(9).unwrap().size()[0], clips.len()), (2, 2));
        assert_eq!(softmax(&[1e30, 0.0]), [1.0, 0.0]);
    }
}
