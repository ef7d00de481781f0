//! Figures where clips may show any number of classes: average precision of each, and what is right of the answers that are
//! likelier than not.

use serde::Serialize;

use super::metrics::{self, macro_f1, percent, widest};

/// Clips and what was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiLabel {
    labels: Vec<String>,
    /// Of each clip and class: whether it is shown, and its probability.
    clips: Vec<Vec<(bool, f32)>>,
}

/// Figures of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Its clips are those that show it; the answers naming it those by which it is likelier than not.
    #[serde(flatten)]
    pub answers: metrics::ClassFigures,
    /// Mean over those clips of the precision among all that are as likely to show it or likelier (as VOC, Charades and
    /// scikit-learn have it). None when there are none.
    pub average_precision: Option<f64>,
}

/// All figures, as `metrics.json` has them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Clips in all.
    pub clips: usize,
    /// Mean average precision of the classes that are shown.
    pub map: f64,
    /// Mean of `-ln p` of what is right, over clips and classes.
    pub loss: f64,
    /// Mean F1 of the classes that are shown.
    pub macro_f1: f64,
    /// By class.
    pub classes: Vec<ClassFigures>,
}

impl MultiLabel {
    /// Nothing counted yet.
    pub fn new(labels: &[String]) -> Self {
        Self { labels: labels.to_vec(), clips: vec![] }
    }

    /// Counts a clip that shows these classes and got `probabilities`, one for each label.
    pub fn add(&mut self, shown: &[usize], probabilities: &[f32]) {
        self.clips.push(probabilities.iter().enumerate().map(|(class, p)| (shown.contains(&class), *p)).collect());
    }

    /// The labels, in the order of the figures.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The figures that follow.
    pub fn figures(&self) -> Figures {
        let classes: Vec<ClassFigures> = (0..self.labels.len()).map(|class| self.class(class)).collect();
        let shown: Vec<f64> = classes.iter().filter_map(|class| class.average_precision).collect();
        let map = shown.iter().sum::<f64>() / shown.len().max(1) as f64;
        let macro_f1 = macro_f1(classes.iter().map(|class| &class.answers));
        let terms =
            self.clips.iter().flatten().map(|&(shown, p)| -f64::from(if shown { p } else { 1.0 - p }.max(1e-9)).ln());
        let loss = terms.sum::<f64>() / (self.clips.len() * self.labels.len()).max(1) as f64;
        Figures { clips: self.clips.len(), map, loss, macro_f1, classes }
    }

    fn class(&self, class: usize) -> ClassFigures {
        let mut answers: Vec<(bool, f32)> = self.clips.iter().map(|clip| clip[class]).collect();
        answers.sort_by(|a, b| b.1.total_cmp(&a.1));
        let count = |of: &[(bool, f32)]| of.iter().filter(|(shown, _)| *shown).count();
        let (clips, said) = (count(&answers), answers.iter().take_while(|(_, p)| *p > 0.5).count());
        let right = count(&answers[..said]);
        let (mut seen, mut sum) = (0, 0.0);
        // Those that are equally likely are in no order.
        for tie in answers.chunk_by(|a, b| a.1 == b.1) {
            seen += tie.len();
            sum += count(tie) as f64 * count(&answers[..seen]) as f64 / seen as f64;
        }
        ClassFigures {
            answers: metrics::ClassFigures::new(&self.labels[class], clips, said, right),
            average_precision: (clips > 0).then(|| sum / clips as f64),
        }
    }

    /// The figures of each class for the terminal.
    pub fn table(&self) -> String {
        let wide = widest(&self.labels);
        let mut text =
            format!("{:wide$} {:>6} {:>6} {:>9} {:>6} {:>6}", "class", "clips", "AP", "precision", "recall", "F1");
        for ClassFigures { answers, average_precision } in self.figures().classes {
            let metrics::ClassFigures { label, clips, precision, recall, f1 } = answers;
            let [ap, precision, recall, f1] = [average_precision, precision, recall, f1].map(percent);
            text += &format!("\n{label:wide$} {clips:>6} {ap:>6} {precision:>9} {recall:>6} {f1:>6}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Of a, by probability: shown, not, shown, shown; of b two ties, one of which is shown; c is never shown.
    #[test]
    fn figures_are_those_worked_out_by_hand() {
        let mut clips = MultiLabel::new(&["a", "b", "c"].map(String::from));
        clips.add(&[0], &[0.9, 0.3, 0.1]);
        clips.add(&[], &[0.8, 0.1, 0.6]);
        clips.add(&[0, 1], &[0.7, 0.3, 0.1]);
        clips.add(&[0], &[0.2, 0.2, 0.1]);
        let figures = clips.figures();
        let [a, b, c] = &figures.classes[..] else { panic!() };
        let close = |x: Option<f64>, wanted: f64| (x.unwrap() - wanted).abs() < 1e-12;
        let answers = |class: &ClassFigures| class.answers.clone();
        let ([ap_a, ap_b, ap_c], [a, b, c]) = ([a, b, c].map(|x| x.average_precision), [a, b, c].map(answers));
        assert!(a.clips == 3 && close(ap_a, (1.0 + 2.0 / 3.0 + 3.0 / 4.0) / 3.0), "{a:?}");
        assert!(close(a.precision, 2.0 / 3.0) && close(a.recall, 2.0 / 3.0) && close(a.f1, 4.0 / 6.0), "{a:?}");
        assert!(b.clips == 1 && close(ap_b, 0.5) && b.precision.is_none(), "{b:?}");
        assert_eq!((c.clips, ap_c, c.precision, c.recall), (0, None, Some(0.0), None));
        let map = ((1.0 + 2.0 / 3.0 + 3.0 / 4.0) / 3.0 + 0.5) / 2.0;
        assert!(
            figures.clips == 4 && (figures.map - map).abs() < 1e-12 && (figures.macro_f1 - 1.0 / 3.0).abs() < 1e-12
        );
        let right = [0.9, 0.7, 0.9, 0.2, 0.9, 0.4, 0.7, 0.3, 0.9, 0.2, 0.8, 0.9];
        let loss = -right.iter().map(|p: &f64| p.ln()).sum::<f64>() / 12.0;
        assert!((figures.loss - loss).abs() < 1e-6);
        assert!(
            clips.table().lines().nth(1).unwrap().ends_with("3   80.6      66.7   66.7   66.7"),
            "{}",
            clips.table()
        );
    }
}
