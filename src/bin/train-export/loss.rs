//! The loss that training lowers, and how many answers are right.

use anyhow::Result;
use kinora::model::manifest::Activation;
use tch::{Device, Kind, Reduction, Tensor};

/// What the clips of a batch show, of K classes.
pub enum Truth {
    /// One class each, `[N]`; and at each of its frames, `[N, past + T]`, if that is known, [`UNASKED`] where it does not count.
    One(Tensor, Option<Tensor>),
    /// Any number of classes each, `[N, K]` ones and zeros.
    Any(Tensor),
}

/// Frames of clips, the logits of which are at hand.
#[derive(Debug, Clone, Copy)]
pub struct Frames {
    /// The first of them.
    pub first: i64,
    /// All that the clips have.
    pub all: i64,
    /// As many as a window has: the last of a clip.
    pub window: i64,
}

/// In place of a class: whatever is answered does.
const UNASKED: i64 = -100;

impl Truth {
    /// The truth of clips that show these classes of so many `classes`: exactly one each for softmax, any number for sigmoid.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(labels: &[Vec<usize>], classes: usize, activation: Activation, device: Device) -> Result<Self> {
        let truth = match activation {
            Activation::Softmax => {
                let one: Vec<i64> = labels.iter().flatten().map(|class| *class as i64).collect();
                Self::One(Tensor::f_from_slice(&one)?.f_to_device(device)?, None)
            }
            Activation::Sigmoid => {
                let mut shown = vec![0f32; labels.len() * classes];
                let marks =
                    labels.iter().enumerate().flat_map(|(clip, all)| all.iter().map(move |c| clip * classes + c));
                marks.for_each(|at| shown[at] = 1.0);
                let shape = [labels.len() as i64, classes as i64];
                Self::Any(Tensor::f_from_slice(&shown)?.f_reshape(shape)?.f_to_device(device)?)
            }
        };
        Ok(truth)
    }

    /// The same of clips of `frames` of which it is known what is to be said at each of a window's frames, if `moments` has that.
    ///
    /// # Errors
    /// When the device fails.
    pub fn at(self, moments: &[Vec<Option<usize>>], frames: i64) -> Result<Self> {
        let Self::One(labels, None) = &self else { return Ok(self) };
        if moments.iter().any(Vec::is_empty) {
            return Ok(self);
        }
        let class = |class: &Option<usize>| class.map_or(UNASKED, |class| class as i64);
        let all = moments.iter().flat_map(|window| {
            let before = frames as usize - window.len();
            std::iter::repeat_n(UNASKED, before).chain(window.iter().map(class))
        });
        let moments = Tensor::f_from_slice(&all.collect::<Vec<_>>())?.f_reshape([-1, frames])?;
        Ok(Self::One(labels.shallow_clone(), Some(moments.f_to_device(labels.device())?)))
    }

    /// The same for each of so many frames from `first` on of every clip.
    fn repeated(&self, first: i64, frames: i64) -> Result<Self> {
        Ok(match self {
            Self::One(_, Some(moments)) => Self::One(moments.f_narrow(1, first, frames)?.f_reshape([-1])?, None),
            Self::One(labels, None) => Self::One(labels.f_repeat_interleave_self_int(frames, 0, None)?, None),
            Self::Any(shown) => Self::Any(shown.f_repeat_interleave_self_int(frames, 0, None)?),
        })
    }

    /// How much each frame of each clip counts, `[N, all]` or the same for all clips, `[all]`: in the window only, rising evenly;
    /// of those that are asked.
    fn weights(&self, Frames { all, window, .. }: Frames, device: Device) -> Result<Tensor> {
        let window = window.min(all);
        let weight = |frame: i64| (frame + 1 - (all - window)).max(0) as f64 / (window * (window + 1)) as f64 * 2.0;
        let rising = Tensor::f_from_slice(&(0..all).map(weight).collect::<Vec<f64>>())?;
        let rising = rising.f_to_kind(Kind::Float)?.f_to_device(device)?;
        let Self::One(_, Some(moments)) = self else { return Ok(rising) };
        let asked = moments.f_ne(UNASKED)?.f_mul(&rising)?;
        let sums = asked.f_sum_dim_intlist(1, true, Kind::Float)?;
        Ok(asked.f_div(&sums)?)
    }

    /// The loss of each of `logits` `[N, K]`: cross-entropy, or the mean over the classes of each one's.
    fn losses(&self, logits: &Tensor, smoothing: f64) -> Result<Tensor> {
        Ok(match self {
            Self::One(labels, _) => {
                logits.f_cross_entropy_loss::<Tensor>(labels, None, Reduction::None, UNASKED, smoothing)?
            }
            Self::Any(shown) => {
                let wanted = shown.f_mul_scalar(1.0 - smoothing)?.f_add_scalar(smoothing / 2.0)?;
                let none = None::<Tensor>;
                let each = logits.f_binary_cross_entropy_with_logits(
                    &wanted,
                    none.as_ref(),
                    none.as_ref(),
                    Reduction::None,
                )?;
                each.f_mean_dim(1, false, None)?
            }
        })
    }

    /// How many of the answers `[N, K]` are right; of clips of any number of classes each counts for its share of right ones.
    fn right(&self, answers: &Tensor) -> Result<f64> {
        let right = match self {
            Self::One(labels, _) => answers.f_argmax(1, false)?.f_eq_tensor(labels)?,
            Self::Any(shown) => {
                let decided = answers.f_gt(0.0)?.f_to_kind(Kind::Float)?;
                decided.f_eq_tensor(shown)?.f_mean_dim(1, false, Kind::Double)?
            }
        };
        Ok(f64::try_from(right.f_sum(Kind::Double)?)?)
    }
}

/// Loss of `logits` `[N, K]` and number of right answers. Of logits for the frames `[N, T, K]` of longer clips the loss is
/// their part of the clips': it counts in the window only, and rises evenly from the window's first frame, which can hardly
/// know, to its last (Ng et al., Beyond Short Snippets, 2015), whose answer is the clip's. Where it is known what is to be said at
/// each frame, that is asked, and frames of which it is not do not count.
///
/// # Errors
/// When the device fails.
pub fn score(logits: &Tensor, truth: &Truth, frames: Frames, smoothing: f64) -> Result<(Tensor, f64)> {
    if logits.dim() == 2 {
        return Ok((truth.losses(logits, smoothing)?.f_mean(Kind::Float)?, truth.right(logits)?));
    }
    let (clips, here, classes) = logits.size3()?;
    let weights = truth.weights(frames, logits.device())?.f_narrow(-1, frames.first, here)?;
    let losses = truth.repeated(frames.first, here)?.losses(&logits.f_reshape([-1, classes])?, smoothing)?;
    let loss = losses.f_reshape([clips, here])?.f_mul(&weights)?.f_sum(Kind::Float)?.f_div_scalar(clips)?;
    let ends = frames.first + here == frames.all;
    Ok((loss, if ends { truth.right(&logits.f_select(1, -1)?)? } else { 0.0 }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn close(loss: &Tensor, wanted: f64) -> bool {
        (f64::try_from(loss).unwrap() - wanted).abs() < 1e-5
    }

    /// Of logits for every frame those of the window count, rising evenly, and the last one's answer; in parts the same.
    #[test]
    fn later_frames_count_more() {
        let right = [4.0f32, 0.0];
        let frames = [[0.0, 9.0], [0.0, 9.0], right, right];
        let logits = Tensor::from_slice(&frames.concat()).reshape([1, 4, 2]);
        let truth = Truth::new(&[vec![0]], 2, Activation::Softmax, Device::Cpu).unwrap();
        let entropy = |frame: [f32; 2]| f64::from((1.0 + (frame[1] - frame[0]).exp()).ln());
        for (window, weights) in [(2, vec![0.0, 0.0, 1.0 / 3.0, 2.0 / 3.0]), (9, vec![0.1, 0.2, 0.3, 0.4])] {
            let wanted: f64 = frames.iter().zip(weights).map(|(frame, weight)| weight * entropy(*frame)).sum();
            let (loss, hits) = score(&logits, &truth, Frames { first: 0, all: 4, window }, 0.0).unwrap();
            assert!(close(&loss, wanted), "a window of {window}");
            assert_eq!(hits, 1.0);
            let part = |first, length| {
                score(&logits.narrow(1, first, length), &truth, Frames { first, all: 4, window }, 0.0).unwrap()
            };
            let [(early, none), (late, hits)] = [part(0, 3), part(3, 1)];
            assert!(close(&(early + late), wanted), "a window of {window} in parts");
            assert_eq!([none, hits], [0.0, 1.0]);
        }
    }

    /// Where it is known what is to be said at each frame, that counts, and nothing where either answer does; the past never.
    #[test]
    fn frames_are_asked_what_is_done_at_them() {
        let frames = [[3.0f32, 1.0], [9.0, 0.0], [0.0, 9.0], [0.5, 1.5], [4.0, 0.0]];
        let logits = Tensor::from_slice(&[frames, frames].concat().concat()).reshape([2, 5, 2]);
        let moments = [vec![None, Some(1), None, Some(0)], vec![None, None, None, Some(1)]];
        let truth =
            Truth::new(&[vec![0], vec![1]], 2, Activation::Softmax, Device::Cpu).unwrap().at(&moments, 5).unwrap();
        let entropy = |frame: [f32; 2], class: usize| f64::from((1.0 + (frame[1 - class] - frame[class]).exp()).ln());
        let first = (0.2 * entropy(frames[2], 1) + 0.4 * entropy(frames[4], 0)) / 0.6;
        let wanted = (first + entropy(frames[4], 1)) / 2.0;
        let (loss, hits) = score(&logits, &truth, Frames { first: 0, all: 5, window: 4 }, 0.0).unwrap();
        assert!(close(&loss, wanted), "{loss:?}, not {wanted}");
        assert_eq!(hits, 1.0);
        let part = |first, length| {
            score(&logits.narrow(1, first, length), &truth, Frames { first, all: 5, window: 4 }, 0.0).unwrap().0
        };
        assert!(close(&(part(0, 3) + part(3, 2)), wanted));
    }

    /// Each class on its own: `-ln p` where it is shown, `-ln (1 - p)` where it is not.
    #[test]
    fn any_number_of_classes_may_be_shown() {
        let logits = Tensor::from_slice2(&[[2.0f32, -1.0, 0.5], [-3.0, -3.0, 1.0]]);
        let truth = Truth::new(&[vec![0, 2], vec![]], 3, Activation::Sigmoid, Device::Cpu).unwrap();
        let frames = Frames { first: 0, all: 1, window: 1 };
        let term = |x: f64, shown: f64| -(shown * (-(1.0 + (-x).exp()).ln()) + (1.0 - shown) * -(1.0 + x.exp()).ln());
        for smoothing in [0.0, 0.2] {
            let (yes, no) = (1.0 - smoothing / 2.0, smoothing / 2.0);
            let first = term(2.0, yes) + term(-1.0, no) + term(0.5, yes);
            let second = 2.0 * term(-3.0, no) + term(1.0, no);
            let (loss, right) = score(&logits, &truth, frames, smoothing).unwrap();
            assert!(close(&loss, (first + second) / 6.0), "smoothing {smoothing}");
            assert!((right - (1.0 + 2.0 / 3.0)).abs() < 1e-6, "{right}");
        }
    }
}
