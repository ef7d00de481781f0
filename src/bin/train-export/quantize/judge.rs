//! How near a quantised net's answers are to those in floats.

use anyhow::{Context, Result};
use kinora::model::manifest::Activation;
use ndarray::Axis;
use tch::Tensor;

use crate::interpreter::{Net, Pass, to_array};

/// Clips in batches.
pub struct Clips {
    /// Each `[N, C, T, H, W]`.
    pub batches: Vec<Tensor>,
    /// What every clip shows, ascending; none where clips have no meaning.
    pub labels: Option<Vec<Vec<usize>>>,
    /// Whether that is one class or any number.
    pub activation: Activation,
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
pub struct Answers {
    rows: Vec<Vec<f64>>,
    activation: Activation,
}

/// What answers are worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Share of clips whose answer is right, the most likely class or all that are likelier than not; none where clips have no
    /// meaning.
    pub right: Option<f64>,
    /// Share of clips whose answer is that of the net in floats.
    pub agreement: f64,
    /// Mean over the clips of `sum p ln(p / q)`, with p the probabilities in floats; of classes that do not exclude one another
    /// with the same of what is left of each.
    pub divergence: f64,
    activation: Activation,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.right, self.activation) {
            (Some(right), Activation::Softmax) => write!(f, "top-1 {right:.4}, ")?,
            (Some(right), Activation::Sigmoid) => write!(f, "all labels right {right:.4}, ")?,
            (None, _) => {}
        }
        write!(f, "agreement {:.4}, divergence {:.2e}", self.agreement, self.divergence)
    }
}

/// What `net` answers to `clips`.
///
/// # Errors
/// When it fails.
pub fn answers(net: &Net, clips: &Clips) -> Result<Answers> {
    let (mut rows, activation) = (vec![], clips.activation);
    for batch in &clips.batches {
        let logits = to_array(&tch::no_grad(|| net.answer(batch, Pass::Evaluate))?)?;
        rows.extend(logits.axis_iter(Axis(0)).map(|row| probabilities(activation, row.iter().copied())));
    }
    Ok(Answers { rows, activation })
}

fn probabilities(activation: Activation, logits: impl Iterator<Item = f32>) -> Vec<f64> {
    let logits: Vec<f64> = logits.map(f64::from).collect();
    if activation == Activation::Sigmoid {
        return logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
    }
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|x| x / sum).collect()
}

/// The classes that these probabilities speak for.
fn decided(activation: Activation, row: &[f64]) -> Vec<usize> {
    match activation {
        Activation::Softmax => {
            vec![row.iter().enumerate().fold(0, |best, (index, p)| if *p > row[best] { index } else { best })]
        }
        Activation::Sigmoid => (0..row.len()).filter(|class| row[*class] > 0.5).collect(),
    }
}

/// `p ln(p / q)`.
fn term(p: f64, q: f64) -> f64 {
    if p > 0.0 { p * (p / q.max(1e-30)).ln() } else { 0.0 }
}

impl Answers {
    /// How good these answers are for `clips`, to which the net in floats gave the answers `float`.
    pub fn verdict(&self, float: &Answers, clips: &Clips) -> Verdict {
        let (n, activation) = (self.rows.len().max(1) as f64, self.activation);
        let answers = |of: &Answers| of.rows.iter().map(|row| decided(activation, row)).collect::<Vec<_>>();
        let mine = answers(self);
        let same = |others: &Vec<Vec<usize>>| mine.iter().zip(others).filter(|(a, b)| a == b).count() as f64 / n;
        let pairs = self.rows.iter().zip(&float.rows).flat_map(|(q, p)| q.iter().zip(p));
        let divergence: f64 = match activation {
            Activation::Softmax => pairs.map(|(q, p)| term(*p, *q)).sum(),
            Activation::Sigmoid => pairs.map(|(q, p)| term(*p, *q) + term(1.0 - p, 1.0 - q)).sum(),
        };
        let (right, agreement) = (clips.labels.as_ref().map(same), same(&answers(float)));
        Verdict { right, agreement, divergence: divergence / n, activation }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use tch::{Device, Kind};

    fn row(activation: Activation, logits: &[f32]) -> Vec<f64> {
        probabilities(activation, logits.iter().copied())
    }

    fn answers_of(activation: Activation, logits: &[&[f32]]) -> Answers {
        Answers { rows: logits.iter().map(|logits| row(activation, logits)).collect(), activation }
    }

    #[test]
    fn a_verdict_counts_and_compares() {
        let activation = Activation::Softmax;
        let batch = Tensor::zeros([2, 1, 1, 1, 1], (Kind::Float, Device::Cpu));
        let labels = Some(vec![vec![1], vec![0]]);
        let clips = Clips { batches: vec![batch], labels, activation, what: String::new() };
        let float = answers_of(activation, &[&[0.0, 1.0], &[0.0, 2.0]]);
        let other = answers_of(activation, &[&[0.0, 1.0], &[2.0, 0.0]]);
        let same = float.verdict(&float, &clips);
        assert_eq!((same.right, same.agreement, same.divergence), (Some(0.5), 1.0, 0.0));
        let verdict = other.verdict(&float, &clips);
        assert_eq!((verdict.right, verdict.agreement), (Some(1.0), 0.5));
        // (p0 - p1) (ln p0 - ln p1) with logits 0 and 2, half of the clips.
        let p = row(activation, &[0.0, 2.0]);
        assert!((verdict.divergence - (p[1] - p[0]) * 2.0 / 2.0).abs() < 1e-12);
        assert_eq!(clips.first(1).unwrap().size(), [1, 1, 1, 1, 1]);
        assert_eq!((clips.first(9).unwrap().size()[0], clips.len()), (2, 2));
        assert_eq!(row(activation, &[1e30, 0.0]), [1.0, 0.0]);
    }

    /// An answer of any number of classes is right if all of them are.
    #[test]
    fn any_number_of_classes_is_one_answer() {
        let activation = Activation::Sigmoid;
        let labels = Some(vec![vec![0, 1], vec![]]);
        let clips = Clips { batches: vec![], labels, activation, what: String::new() };
        let float = answers_of(activation, &[&[1.0, 2.0], &[-1.0, -1.0]]);
        let other = answers_of(activation, &[&[1.0, -2.0], &[-1.0, -1.0]]);
        assert_eq!(float.verdict(&float, &clips).right, Some(1.0));
        let verdict = other.verdict(&float, &clips);
        assert_eq!((verdict.right, verdict.agreement), (Some(0.5), 0.5));
        // With p and 1 - p changing places: (2p - 1) ln(p / (1 - p)), half of the clips.
        let p = row(activation, &[2.0])[0];
        assert!((verdict.divergence - (2.0 * p - 1.0) * 2.0 / 2.0).abs() < 1e-6, "{verdict}");
        assert!(verdict.to_string().starts_with("all labels right 0.5000, "));
    }
}
