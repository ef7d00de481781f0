//! Percentiles over the last measurements, without allocation.

/// The last [`Percentiles::KEPT`] values.
#[derive(Debug, Clone)]
pub struct Percentiles {
    values: [f32; Self::KEPT],
    count: usize,
    sorted: [f32; Self::KEPT],
}

impl Default for Percentiles {
    fn default() -> Self {
        Self { values: [0.0; Self::KEPT], count: 0, sorted: [0.0; Self::KEPT] }
    }
}

impl Percentiles {
    /// How many values are kept.
    pub const KEPT: usize = 512;

    /// Adds a value; the oldest leaves.
    pub fn add(&mut self, value: f32) {
        self.values[self.count % Self::KEPT] = value;
        self.count += 1;
    }

    /// The values at each share `p` (0 to 1) of the sorted measurements, nearest rank; `None` without measurements.
    pub fn at<const N: usize>(&mut self, p: [f32; N]) -> Option<[f32; N]> {
        let kept = self.count.min(Self::KEPT);
        if kept == 0 {
            return None;
        }
        let sorted = &mut self.sorted[..kept];
        sorted.copy_from_slice(&self.values[..kept]);
        sorted.sort_unstable_by(f32::total_cmp);
        Some(p.map(|p| nearest_rank(sorted, p).unwrap_or(f32::NAN)))
    }
}

/// The value at share `p` (0 to 1) of `sorted` measurements: of the nearest rank. `None` without measurements.
pub fn nearest_rank(sorted: &[f32], p: f32) -> Option<f32> {
    let rank = ((p * sorted.len() as f32).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank() {
        let mut p = Percentiles::default();
        assert_eq!(p.at([0.5]), None);
        (1..=100).rev().for_each(|n| p.add(n as f32));
        assert_eq!(p.at([0.0, 0.5, 0.9, 0.99, 1.0]), Some([1.0, 50.0, 90.0, 99.0, 100.0]));
    }

    #[test]
    fn old_values_leave() {
        let mut p = Percentiles::default();
        (0..Percentiles::KEPT).for_each(|_| p.add(1000.0));
        (0..Percentiles::KEPT).for_each(|_| p.add(1.0));
        assert_eq!(p.at([1.0]), Some([1.0]));
    }
}
