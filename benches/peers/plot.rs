//! The picture: what a decision takes over the length of the window.

use std::path::Path;

use anyhow::Result;
use embedded_graphics::geometry::{Point, Size};
use embedded_graphics::primitives::Rectangle;

use crate::canvas::{CURVES, Canvas, GRID, INK, PAPER, SOFT};
use crate::compare::{Length, digits};

/// Draws `lengths` into a PNG file. Both axes are logarithmic: a time that grows with the window is a straight line upwards.
pub fn cost(lengths: &[Length], path: &Path) -> Result<()> {
    let mut canvas = Canvas::new(740, 430, 15.0)?;
    let (left, top, octave, decade) = (80, 60, 180.0, 100.0);
    let values = || lengths.iter().flat_map(|length| [length.window.p50, length.stream.p50]);
    let lowest = values().fold(f32::INFINITY, f32::min).log10().floor();
    let highest = values().fold(0.0, f32::max).log10().ceil();
    let first = lengths.first().map_or(1.0, |length| length.frames as f32).log2();
    let at = |frames: usize, ms: f32| {
        let (x, y) = (((frames as f32).log2() - first) * octave, (highest - ms.log10()) * decade);
        Point::new(left + x.round() as i32, top + y.round() as i32)
    };
    let half_line = Point::new(0, canvas.text.height() as i32 / 2);
    let (shortest, longest) =
        (lengths.first().map_or(1, |length| length.frames), lengths.last().map_or(2, |length| length.frames));
    for power in lowest as i32..=highest as i32 {
        let ms = 10_f32.powi(power);
        canvas.line(at(shortest, ms), at(longest, ms), GRID, 1);
        canvas.write_before(at(shortest, ms) - half_line - Point::new(12, 0), &format!("{ms}"), SOFT);
    }
    canvas.write(Point::new(16, 14), "milliseconds per decision, r2plus1d-edge in int8, one thread", INK, PAPER);
    let floor = 10_f32.powf(lowest);
    for length in lengths {
        canvas.line(at(length.frames, floor), at(length.frames, 10_f32.powf(highest)), GRID, 1);
        let text = length.frames.to_string();
        let centred = Point::new(canvas.text.width(&text) as i32 / 2, -8);
        canvas.write(at(length.frames, floor) - centred, &text, SOFT, PAPER);
    }
    canvas.write(at(shortest, floor) + Point::new(0, 30), "frames in the window", SOFT, PAPER);
    type Of = fn(&Length) -> f32;
    let curves: [(&str, Of); 2] = [("a window", |length| length.window.p50), ("streamed", |length| length.stream.p50)];
    for ((name, of), color) in curves.into_iter().zip(CURVES) {
        let points: Vec<(Point, f32)> =
            lengths.iter().map(|length| (at(length.frames, of(length)), of(length))).collect();
        for pair in points.windows(2) {
            canvas.line(pair[0].0, pair[1].0, color, 2);
        }
        for (point, ms) in &points {
            canvas.fill(Rectangle::new(*point - Point::new(3, 3), Size::new(7, 7)), color);
            canvas.write(*point + Point::new(8, 4), &digits(*ms), color, PAPER);
        }
        if let Some((point, _)) = points.last() {
            canvas.write(*point + Point::new(8, -20), name, color, PAPER);
        }
    }
    canvas.save(path)
}
