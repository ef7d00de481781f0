//! Pictures of figures: the confusion matrix and the learning curve, drawn with the overlay's text into PNG files.

mod canvas;

use std::path::Path;

use anyhow::{Context, ensure};
use embedded_graphics::geometry::{Point, Size};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::primitives::Rectangle;
use kinora::overlay::{Text, Weight};

use self::canvas::{CURVES, Canvas, GRID, INK, PAPER, SOFT};
use crate::evaluation::Confusion;

const RIGHT: Rgb888 = Rgb888::new(14, 116, 98);
const WRONG: Rgb888 = Rgb888::new(190, 60, 30);

/// `b` over white, with `share` of it.
fn shade(b: Rgb888, share: f64) -> Rgb888 {
    let mix = |c: u8| (255.0 - (255.0 - f64::from(c)) * share.clamp(0.0, 1.0)).round() as u8;
    Rgb888::new(mix(b.r()), mix(b.g()), mix(b.b()))
}

/// Draws the confusion matrix: a row per true class, shaded by its share of the row, green where right and red where not.
pub fn confusion(confusion: &Confusion, title: &str, path: &Path) -> anyhow::Result<()> {
    let labels = confusion.labels();
    let mut text = Text::new(Weight::Regular, 15.0)?;
    let widest = labels.iter().map(|l| text.width(l)).max().unwrap_or(0) as i32;
    let (cell, margin) = (44, 16);
    let (left, top) = (margin + widest + 34, margin + 26 + widest + 12);
    let side = cell * labels.len() as i32;
    let width = (left + side + 70).max(text.width(title) as i32 + 2 * margin);
    let mut canvas = Canvas::new(width as u32, (top + side + margin + 22) as u32, 15.0)?;
    canvas.write(Point::new(margin, margin), title, INK, PAPER);
    canvas.write(Point::new(left, top + side + 8), "columns: answer, rows: truth, right edge: recall", SOFT, PAPER);
    let half_line = canvas.text.height() as i32 / 2;
    for (truth, label) in labels.iter().enumerate() {
        let y = top + cell * truth as i32;
        let center = y + cell / 2 - half_line;
        canvas.write_before(Point::new(left - 8, center), label, INK);
        canvas.write_upwards(Point::new(left + cell * truth as i32 + cell / 2, top - 8), label, INK);
        let clips = confusion.row_sum(truth);
        for answer in 0..labels.len() {
            let count = confusion.count(truth, answer);
            let share = count as f64 / clips.max(1) as f64;
            let color = if truth == answer { RIGHT } else { WRONG };
            // A single mistake can be seen too.
            let ground = if count == 0 { PAPER } else { shade(color, 0.12 + 0.88 * share) };
            let x = left + cell * answer as i32;
            canvas.fill(Rectangle::new(Point::new(x, y), Size::new(cell as u32, cell as u32)), GRID);
            canvas.fill(Rectangle::new(Point::new(x + 1, y + 1), Size::new(cell as u32 - 1, cell as u32 - 1)), ground);
            if count > 0 {
                let number = count.to_string();
                let at = Point::new(x + (cell - canvas.text.width(&number) as i32) / 2, center);
                canvas.write(at, &number, if share > 0.45 { PAPER } else { INK }, ground);
            }
        }
        if clips > 0 {
            let recall = format!("{:.0} %", 100.0 * confusion.count(truth, truth) as f64 / clips as f64);
            canvas.write(Point::new(left + side + 10, center), &recall, SOFT, PAPER);
        }
    }
    canvas.save(path)
}

/// One curve: its name and points of step and value.
type Curve = (String, Vec<(f64, f64)>);

/// Draws the columns of a `history.csv` over its first column: those with `loss` in their names above, those with
/// `acc` or `top` below. Empty cells are passed over.
pub fn learning_curve(history: &Path, path: &Path) -> anyhow::Result<()> {
    let shown = history.display();
    let csv = std::fs::read_to_string(history).with_context(|| format!("{shown}: cannot be read"))?;
    let curves = curves(&csv).with_context(|| format!("{shown}: no history"))?;
    let (loss, other): (Vec<_>, Vec<_>) = curves.into_iter().partition(|(name, _)| name.contains("loss"));
    let accuracy: Vec<_> = other.into_iter().filter(|(name, _)| name.contains("acc") || name.contains("top")).collect();
    ensure!(loss.iter().chain(&accuracy).any(|(_, points)| !points.is_empty()), "{shown}: no loss or accuracy in it");
    let mut canvas = Canvas::new(900, 720, 14.0)?;
    let highest = loss.iter().flat_map(|(_, points)| points).map(|(_, y)| *y).fold(0.0, f64::max);
    chart(&mut canvas, Rectangle::new(Point::new(70, 40), Size::new(790, 270)), &loss, nice_above(highest));
    chart(&mut canvas, Rectangle::new(Point::new(70, 390), Size::new(790, 270)), &accuracy, 1.0);
    canvas.save(path)
}

/// The columns of a CSV file with a head line over its first column.
fn curves(csv: &str) -> anyhow::Result<Vec<Curve>> {
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().context("it is empty")?.split(',').map(str::trim).collect();
    let mut curves: Vec<Curve> = head.iter().skip(1).map(|name| (name.to_string(), Vec::new())).collect();
    for line in lines {
        let mut cells = line.split(',').map(|cell| cell.trim().parse::<f64>().ok().filter(|v| v.is_finite()));
        let Some(Some(step)) = cells.next() else { continue };
        for ((_, points), value) in curves.iter_mut().zip(cells) {
            points.extend(value.map(|value| (step, value)));
        }
    }
    Ok(curves)
}

/// The next of 1, 2, 5, 10, 20 ... at or above `value`.
fn nice_above(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-3).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|n| *n >= value).unwrap_or(10.0 * power)
}

fn chart(canvas: &mut Canvas, area: Rectangle, curves: &[Curve], top: f64) {
    let (width, height) = (f64::from(area.size.width), f64::from(area.size.height));
    let last = curves.iter().flat_map(|(_, points)| points).map(|(x, _)| *x).fold(1.0, f64::max);
    let at = |x: f64, y: f64| {
        let (x, y) = (x / last * width, height - (y / top).clamp(0.0, 1.0) * height);
        area.top_left + Point::new(x.round() as i32, y.round() as i32)
    };
    let half_line = Point::new(0, canvas.text.height() as i32 / 2);
    for fifth in 0..=5 {
        let share = f64::from(fifth) / 5.0;
        canvas.line(at(0.0, share * top), at(last, share * top), GRID, 1);
        let label = format!("{:.2}", share * top);
        canvas.write_before(at(0.0, share * top) - half_line - Point::new(8, 0), &label, SOFT);
        let label = format!("{:.0}", share * last);
        let centred = Point::new(canvas.text.width(&label) as i32 / 2, -6);
        canvas.write(at(share * last, 0.0) - centred, &label, SOFT, PAPER);
    }
    let mut legend = area.top_left - Point::new(0, 26);
    for ((name, points), color) in curves.iter().zip(CURVES.iter().cycle()) {
        for pair in points.windows(2) {
            canvas.line(at(pair[0].0, pair[0].1), at(pair[1].0, pair[1].1), *color, 2);
        }
        if let [(x, y)] = points[..] {
            canvas.fill(Rectangle::new(at(x, y) - Point::new(2, 2), Size::new(5, 5)), *color);
        }
        let latest = points.last().map_or(String::new(), |(_, y)| format!(" {y:.3}"));
        let name = format!("{}{latest}", name.replace('_', " "));
        canvas.fill(Rectangle::new(legend + Point::new(0, 7), Size::new(18, 3)), *color);
        canvas.write(legend + Point::new(24, 0), &name, INK, PAPER);
        legend += Point::new(24 + canvas.text.width(&name) as i32 + 24, 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn count(path: &Path, color: Rgb888) -> usize {
        let picture = image::open(path).unwrap().to_rgb8();
        picture.pixels().filter(|p| p.0 == [color.r(), color.g(), color.b()]).count()
    }

    #[test]
    fn a_matrix_has_shaded_cells_and_names() {
        let labels = ["clap", "swipe_left", "jumping_jack"].map(String::from);
        let mut matrix = Confusion::new(&labels);
        for (truth, answer) in [(0, 0), (0, 0), (1, 2), (1, 1), (2, 2)] {
            let mut probabilities = [0.0; 3];
            probabilities[answer] = 1.0;
            matrix.add(truth, &probabilities);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("confusion.png");
        confusion(&matrix, "5 clips, top-1 0.800", &path).unwrap();
        // A cell of 43 x 43 pixels with a number in it; rows 0 and 2 are right in full.
        assert!((2 * 1500..2 * 43 * 43).contains(&count(&path, RIGHT)));
        assert!(count(&path, shade(WRONG, 0.56)) > 1500);
        assert!(count(&path, INK) > 100, "the names");
        assert!(confusion(&matrix, "", &dir.path().join("gone/x.png")).is_err());
    }

    #[test]
    fn curves_of_a_history() {
        let dir = tempfile::tempdir().unwrap();
        let (history, path) = (dir.path().join("history.csv"), dir.path().join("curve.png"));
        let mut csv = "step,train_loss,validation_loss,train_accuracy,validation_accuracy,seconds\n".to_string();
        for step in 1..=40 {
            let loss = 3.0 / f64::from(step).sqrt();
            let validation = if step % 10 == 0 { format!("{:.3}", loss + 0.2) } else { String::new() };
            csv += &format!("{step},{loss:.3},{validation},{:.3},,9\n", 1.0 - loss / 4.0);
        }
        std::fs::write(&history, csv).unwrap();
        learning_curve(&history, &path).unwrap();
        assert!(CURVES[..2].iter().all(|color| count(&path, *color) > 500));
        std::fs::write(&history, "step,seconds\n1,2\n").unwrap();
        assert!(learning_curve(&history, &path).unwrap_err().to_string().contains("no loss or accuracy"));
        assert_eq!([0.7, 2.0, 2.9, 0.03].map(nice_above), [1.0, 2.0, 5.0, 0.05]);
    }
}
