//! Flags that say how to train.

use kinora::{Error, ErrorKind, Result};

use crate::interpreter::Precision;
use crate::optimizer::Schedule;

/// How to train.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Steps of one batch each
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=i32::MAX as u64))]
    pub steps: u64,
    /// Passes over the data instead of --steps, for data that ends
    #[arg(long, conflicts_with = "steps", value_parser = clap::value_parser!(u64).range(1..))]
    pub epochs: Option<u64>,
    /// Clips in a batch
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// Highest learning rate
    #[arg(long, default_value_t = 2e-3)]
    pub lr: f64,
    /// How the learning rate goes
    #[arg(long, value_enum, default_value_t)]
    pub schedule: Schedule,
    /// Decay of the weights, apart from the gradient
    #[arg(long, default_value_t = 1e-3)]
    pub weight_decay: f64,
    /// The gradient's norm is cut to this
    #[arg(long, default_value_t = 5.0)]
    pub max_norm: f64,
    /// Share of the probability that is spread over all classes
    #[arg(long, default_value_t = 0.1)]
    pub label_smoothing: f64,
    /// Decay per step of the running average of the weights, which is what is evaluated and exported; 0 turns it off
    #[arg(long, default_value_t = 0.995)]
    pub average: f64,
    /// What activations are rounded to in training; f32 unless the processor or the device computes in bf16
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Frames that gradients of a recurrent net reach back at most, and that memory is taken for at a time, for clips that
    /// are too long for all of them; what the net remembers goes on (truncated back-propagation through time)
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u16).range(1..))]
    pub tbptt: Option<u16>,
    /// Train only what comes from this layer on, such as `stage4` or `head` (`show` prints their names): what is before keeps
    /// its weights and statistics, which is faster, and better where there are few clips
    #[arg(long, value_name = "LAYER")]
    pub train_from: Option<String>,
    /// Steps between two validations and checkpoints
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub validate_every: u64,
    /// Validate on so many clips at most
    #[arg(long, default_value_t = 512)]
    pub validation_clips: usize,
    /// Threads that make clips; 0: half of the processors
    #[arg(long, default_value_t = 0)]
    pub workers: usize,
    /// Decides the first weights, the order of the clips and their augmentation
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Settings {
    /// Refuses numbers out of range.
    ///
    /// # Errors
    /// `Usage`, naming the flag.
    pub fn check(&self) -> Result<()> {
        let ranges = [
            ("--lr", self.lr, 1e-9..10.0),
            ("--weight-decay", self.weight_decay, 0.0..10.0),
            ("--max-norm", self.max_norm, 1e-9..1e9),
            ("--label-smoothing", self.label_smoothing, 0.0..1.0),
            ("--average", self.average, 0.0..1.0),
        ];
        for (flag, value, range) in ranges {
            if !range.contains(&value) {
                let message = format!("{flag} {value}: at least {} and less than {}", range.start, range.end);
                return Err(Error::new(ErrorKind::Usage, message));
            }
        }
        Ok(())
    }

    /// Steps to take, given the number of training clips.
    ///
    /// # Errors
    /// `Usage` when there are none, or when passes are asked for over data without end.
    pub fn all_steps(&self, clips: Option<usize>) -> Result<u64> {
        if clips == Some(0) {
            return Err(Error::new(ErrorKind::Usage, "there are no training clips"));
        }
        match (self.epochs, clips) {
            (None, _) => Ok(self.steps),
            (Some(epochs), Some(clips)) => Ok((epochs * clips as u64).div_ceil(self.batch.into())),
            (Some(_), None) => Err(Error::new(ErrorKind::Usage, "--epochs: this data has no end; use --steps")),
        }
    }
}
