//! Figures of a classification: confusion, top-1, precision, recall, F1, mean loss.

use std::fmt::Write as _;

use serde::Serialize;

/// How often each class was taken for each.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion {
    labels: Vec<String>,
    /// Row by row: true class, then answered class.
    counts: Vec<usize>,
    loss: f64,
}

/// Figures of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Its label.
    pub label: String,
    /// Clips of it.
    pub clips: usize,
    /// Share of the answers naming it that are right. None when it was never named.
    pub precision: Option<f64>,
    /// Share of its clips that were named so. None when there were none.
    pub recall: Option<f64>,
    /// Twice the right answers over its clips and the answers naming it. None without either.
    pub f1: Option<f64>,
}

/// All figures, as `metrics.json` has them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Clips in all.
    pub clips: usize,
    /// Share of right answers.
    pub top1: f64,
    /// Mean of `-ln p` of the right class.
    pub loss: f64,
    /// Mean F1 of the classes that have clips.
    pub macro_f1: f64,
    /// By class.
    pub classes: Vec<ClassFigures>,
}

impl ClassFigures {
    /// Of a class with so many `clips`, that so many answers `named`, so many of them `right`.
    pub fn new(label: &str, clips: usize, named: usize, right: usize) -> Self {
        Self {
            label: label.to_owned(),
            clips,
            precision: ratio(right, named),
            recall: ratio(right, clips),
            f1: ratio(2 * right, clips + named),
        }
    }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Mean F1 of the classes that have clips.
pub fn macro_f1<'a>(classes: impl IntoIterator<Item = &'a ClassFigures>) -> f64 {
    let present: Vec<f64> = classes.into_iter().filter(|c| c.clips > 0).filter_map(|c| c.f1).collect();
    present.iter().sum::<f64>() / present.len().max(1) as f64
}

/// A share for a table, in percent.
pub fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1}", 100.0 * share))
}

/// The width of a table's column of labels.
pub fn widest(labels: &[String]) -> usize {
    labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(5)
}

impl Confusion {
    /// Nothing counted yet.
    pub fn new(labels: &[String]) -> Self {
        Self { labels: labels.to_vec(), counts: vec![0; labels.len() * labels.len()], loss: 0.0 }
    }

    /// Counts a clip of class `truth` that got `probabilities`, one for each label.
    pub fn add(&mut self, truth: usize, probabilities: &[f32]) {
        let answer = best(probabilities);
        self.counts[truth * self.labels.len() + answer] += 1;
        self.loss -= f64::from(probabilities[truth].max(1e-9)).ln();
    }

    /// The labels, in the order of rows and columns.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Clips of class `truth` that were taken for `answer`.
    pub fn count(&self, truth: usize, answer: usize) -> usize {
        self.counts[truth * self.labels.len() + answer]
    }

    /// Clips of class `truth`.
    pub fn row_sum(&self, truth: usize) -> usize {
        (0..self.labels.len()).map(|answer| self.count(truth, answer)).sum()
    }

    fn column_sum(&self, answer: usize) -> usize {
        (0..self.labels.len()).map(|truth| self.count(truth, answer)).sum()
    }

    /// The figures that follow.
    pub fn figures(&self) -> Figures {
        let class =
            |i: usize| ClassFigures::new(&self.labels[i], self.row_sum(i), self.column_sum(i), self.count(i, i));
        let classes: Vec<_> = (0..self.labels.len()).map(class).collect();
        let clips: usize = self.counts.iter().sum();
        let right: usize = (0..self.labels.len()).map(|i| self.count(i, i)).sum();
        Figures {
            clips,
            top1: ratio(right, clips).unwrap_or(0.0),
            loss: self.loss / clips.max(1) as f64,
            macro_f1: macro_f1(&classes),
            classes,
        }
    }

    /// The matrix with a head line and a column of true labels.
    pub fn csv(&self) -> String {
        let quoted = |label: &String| format!("\"{}\"", label.replace('"', "\"\""));
        let mut csv = format!("truth\\answer,{}\n", self.labels.iter().map(quoted).collect::<Vec<_>>().join(","));
        for truth in 0..self.labels.len() {
            csv += &quoted(&self.labels[truth]);
            (0..self.labels.len()).for_each(|answer| csv += &format!(",{}", self.count(truth, answer)));
            csv.push('\n');
        }
        csv
    }

    /// The matrix and the figures of each class for the terminal. Columns are numbered as rows are.
    pub fn table(&self) -> String {
        let figures = self.figures();
        let wide = widest(&self.labels);
        let cell = self.counts.iter().max().map_or(1, |n| n.to_string().len()).max(self.labels.len().to_string().len());
        let mut text =
            format!("{:>3} {:wide$} {:>6} {:>9} {:>6} {:>6} |", "", "truth", "clips", "precision", "recall", "F1");
        (0..self.labels.len()).for_each(|i| write!(text, " {i:>cell$}").unwrap_or_default());
        for (i, class) in figures.classes.iter().enumerate() {
            let ClassFigures { label, clips, precision, recall, f1 } = class;
            let (precision, recall, f1) = (percent(*precision), percent(*recall), percent(*f1));
            text += &format!("\n{i:>3} {label:wide$} {clips:>6} {precision:>9} {recall:>6} {f1:>6} |");
            for answer in 0..self.labels.len() {
                let count = self.count(i, answer);
                text += &if count == 0 { format!(" {:>cell$}", ".") } else { format!(" {count:>cell$}") };
            }
        }
        text
    }
}

/// Index of the largest value, the first of equals.
pub fn best(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// The probabilities of the classes `kept` alone; those of a `softmax` made to add up to one again.
pub fn shares(probabilities: &[f32], kept: &[usize], softmax: bool) -> Vec<f32> {
    let mut kept: Vec<f32> = kept.iter().map(|class| probabilities[*class]).collect();
    if softmax {
        let sum: f32 = kept.iter().sum();
        kept.iter_mut().for_each(|p| *p /= sum.max(f32::MIN_POSITIVE));
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// a: 3 right, 1 taken for b; b: 1 right, 1 taken for a; c: one, taken for a; d: none.
    fn confusion() -> Confusion {
        let mut confusion = Confusion::new(&["a", "b", "c", "d"].map(String::from));
        for (truth, answer) in [(0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (2, 0)] {
            let mut probabilities = [0.1; 4];
            probabilities[answer] = 0.7;
            confusion.add(truth, &probabilities);
        }
        confusion
    }

    #[test]
    fn figures_are_those_worked_out_by_hand() {
        let figures = confusion().figures();
        assert_eq!((figures.clips, figures.top1), (7, 4.0 / 7.0));
        let [a, b, c, d] = &figures.classes[..] else { panic!() };
        assert_eq!((a.clips, a.precision, a.recall, a.f1), (4, Some(3.0 / 5.0), Some(3.0 / 4.0), Some(6.0 / 9.0)));
        assert_eq!((b.precision, b.recall, b.f1), (Some(0.5), Some(0.5), Some(0.5)));
        assert_eq!((c.precision, c.recall, c.f1), (None, Some(0.0), Some(0.0)));
        assert_eq!((d.clips, d.precision, d.recall, d.f1), (0, None, None, None));
        assert!((figures.macro_f1 - (6.0 / 9.0 + 0.5) / 3.0).abs() < 1e-12);
        let loss = -(4.0 * 0.7f64.ln() + 3.0 * 0.1f64.ln()) / 7.0;
        assert!((figures.loss - loss).abs() < 1e-6);
    }

    #[test]
    fn the_matrix_as_csv_and_as_text() {
        let confusion = confusion();
        assert_eq!(confusion.csv().lines().nth(1), Some("\"a\",3,1,0,0"));
        assert_eq!(confusion.csv().lines().next(), Some("truth\\answer,\"a\",\"b\",\"c\",\"d\""));
        let table = confusion.table();
        assert_eq!(table.lines().count(), 5);
        assert!(table.lines().nth(1).unwrap().ends_with("60.0   75.0   66.7 | 3 1 . ."), "{table}");
    }

    #[test]
    fn labels_are_picked() {
        let close = |a: Vec<f32>, b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(shares(&[0.3, 0.2, 0.5], &[0, 1, 2], true), &[0.3, 0.2, 0.5]));
        assert!(close(shares(&[0.3, 0.2, 0.5], &[1, 0], true), &[0.4, 0.6]));
        assert!(close(shares(&[0.3, 0.2, 0.5], &[1, 0], false), &[0.2, 0.3]));
        assert_eq!(best(&[0.2, 0.5, 0.5]), 1);
    }
}
