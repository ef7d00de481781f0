//! The status line along the top edge, the notes below it, and the banner of a lost source.

use std::fmt::Write;

use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{Point, Size};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::primitives::Rectangle;

use super::text::Text;
use super::{Change, Ink, Overlay, Status, colors};

/// The fields of the status line, the most important first, each long and short, at the widest they usually get. The
/// line reserves this room, so that it stands still while numbers change.
const WIDEST: [[&str; 2]; 4] = [
    ["000.0 fps", "000 fps"],
    ["latency 000 ms, p99 000 ms", "00 ms, p99 000"],
    ["0000 dropped", "0000 lost"],
    ["00.0 decisions/s", "00.0/s"],
];

/// Room that the fields of the status line take, long and short.
pub(super) type FieldWidths = [[u32; 2]; 4];

pub(super) fn field_widths(text: &mut Text) -> FieldWidths {
    WIDEST.map(|field| field.map(|widest| text.width(widest)))
}

/// Writes a field of the status line; leaves `out` empty where there is nothing to say.
fn write_field(out: &mut String, status: &Status, field: usize, short: bool) {
    out.clear();
    // Writing to a string cannot fail.
    let _ = match (field, short) {
        (0, false) => write!(out, "{:.1} fps", status.frame_rate),
        (0, true) => write!(out, "{:.0} fps", status.frame_rate),
        (1, _) => match (&status.latency, short) {
            (None, _) => Ok(()),
            (Some(l), false) => write!(out, "latency {} ms, p99 {} ms", l.p50.as_millis(), l.p99.as_millis()),
            (Some(l), true) => write!(out, "{} ms, p99 {}", l.p50.as_millis(), l.p99.as_millis()),
        },
        (2, false) => write!(out, "{} dropped", status.dropped),
        (2, true) => write!(out, "{} lost", status.dropped),
        (_, false) => write!(out, "{:.1} decisions/s", status.decisions_per_s),
        (_, true) => write!(out, "{:.1}/s", status.decisions_per_s),
    };
}

impl Overlay {
    /// Draws the status line: measurements at the left, the engine at the right.
    pub(super) fn draw_strip<D>(&mut self, target: &mut D, status: &Status) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb888>,
    {
        let Some(strip) = self.layout.strip() else { return Ok(()) };
        target.fill_solid(&strip, colors::PANEL)?;
        let ink = Ink { text: colors::SOFT, ground: colors::PANEL };
        let unit = self.layout.unit;
        let gap = 2 * unit;
        let y = (strip.size.height - self.base.height()) as i32 / 2;

        let inner = strip.size.width.saturating_sub(2 * unit);
        let engine = self.base.width(status.engine).min(inner / 2);
        let engine_left = strip.size.width - unit - engine;
        self.base.draw_within(target, Point::new(engine_left as i32, y), engine, status.engine, ink)?;

        let room = inner.saturating_sub(engine);
        let short = self.field_widths.iter().map(|[long, _]| long + gap).sum::<u32>() > room;
        let mut x = unit;
        for field in 0..self.field_widths.len() {
            write_field(&mut self.buffer, status, field, short);
            if self.buffer.is_empty() {
                continue;
            }
            let width = self.base.width(&self.buffer).max(self.field_widths[field][usize::from(short)]);
            if x + width + unit <= engine_left {
                self.base.draw(target, Point::new(x as i32, y), &self.buffer, ink)?;
                x += width + gap;
            }
        }
        Ok(())
    }

    /// Draws the notes below the status line: overload and what became of the model at the left, what the source shows at
    /// the right.
    pub(super) fn draw_notes<D>(&mut self, target: &mut D, status: &Status) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb888>,
    {
        let Some(line) = self.layout.notes() else { return Ok(()) };
        let unit = self.layout.unit;
        let area = |left: u32, width: u32| {
            Rectangle::new(Point::new(left as i32, line.top_left.y), Size::new(width, line.size.height))
        };
        let (mut left, mut right) = (unit, line.size.width.saturating_sub(unit));
        if let Some(truth) = status.truth {
            self.buffer.clear();
            self.buffer.push_str("truth: ");
            self.buffer.extend(truth.chars().map(|c| if c == '_' { ' ' } else { c }));
            let width = (self.base.width(&self.buffer) + 2 * unit).min(right.saturating_sub(unit));
            self.draw_note(target, area(right - width, width), colors::SOFT)?;
            right = right.saturating_sub(width + unit);
        }
        let overload = status.overload.map(|what| ("", what, colors::WARNING));
        let model = status.model.map(|change| match change {
            Change::Swapped(name) => ("new model: ", name, colors::FILLING),
            Change::Kept(reason) => ("model kept: ", reason, colors::WARNING),
        });
        for (what, of, color) in [overload, model].into_iter().flatten() {
            self.buffer.clear();
            self.buffer.push_str(what);
            self.buffer.push_str(of);
            let width = (self.base.width(&self.buffer) + 2 * unit).min(right.saturating_sub(left));
            if width > 6 * unit {
                self.draw_note(target, area(left, width), color)?;
                left += width + unit;
            }
        }
        Ok(())
    }

    /// Draws what is in the buffer on a small panel.
    fn draw_note<D>(&mut self, target: &mut D, area: Rectangle, text: Rgb888) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb888>,
    {
        target.fill_solid(&area, colors::PANEL)?;
        let unit = self.layout.unit;
        let at = area.top_left + Point::new(unit as i32, (area.size.height - self.base.height()) as i32 / 2);
        let room = area.size.width.saturating_sub(2 * unit);
        self.base.draw_within(target, at, room, &self.buffer, Ink { text, ground: colors::PANEL })?;
        Ok(())
    }

    /// Draws the banner that says that the source is lost, and why.
    pub(super) fn draw_banner<D>(&mut self, target: &mut D, reason: &str) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb888>,
    {
        let (area, text) = self.layout.banner(self.heading.height());
        target.fill_solid(&area, colors::WARNING)?;
        if !text {
            return Ok(());
        }
        let ink = Ink { text: colors::ON_WARNING, ground: colors::WARNING };
        let margin = 2 * self.layout.unit;
        let room = area.size.width.saturating_sub(2 * margin);
        let at = area.top_left + Point::new(margin as i32, self.layout.unit as i32);
        self.heading.draw_within(target, at, room, "source lost", ink)?;
        let below = at + Point::new(0, self.heading.height() as i32);
        self.base.draw_within(target, below, room, reason, ink)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::Latency;
    use std::time::Duration;

    fn fields(status: &Status, short: bool) -> Vec<String> {
        let field = |field| {
            let mut text = String::from("old");
            write_field(&mut text, status, field, short);
            text
        };
        (0..WIDEST.len()).map(field).collect()
    }

    #[test]
    fn fields_say_what_they_are() {
        let latency = Latency { p50: Duration::from_micros(41_700), p99: Duration::from_millis(68) };
        let status = Status {
            frame_rate: 29.97,
            decisions_per_s: 12.44,
            latency: Some(latency),
            dropped: 7,
            ..Status::default()
        };
        assert_eq!(fields(&status, false), ["30.0 fps", "latency 41 ms, p99 68 ms", "7 dropped", "12.4 decisions/s"]);
        assert_eq!(fields(&status, true), ["30 fps", "41 ms, p99 68", "7 lost", "12.4/s"]);
        assert_eq!(fields(&Status::default(), true)[1], "", "no latency before it has been measured");
    }
}
