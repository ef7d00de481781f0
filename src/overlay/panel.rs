//! The panel of the current action: its name, confidence, bar, and what else is likely.

use std::fmt::Write;

use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{Point, Size};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::primitives::Rectangle;

use super::layout::Panel;
use super::{Activity, Ink, Overlay, Score, Status, colors};

/// How many actions at once are listed below the strongest.
const MOST_ACTIONS: usize = 4;
/// How many lines there are below the current action when it is the only one.
const CANDIDATES: usize = 2;

/// What the panel's first line shows.
struct Head<'a> {
    label: &'a str,
    fraction: Option<f32>,
    /// Of stripe and bar.
    accent: Rgb888,
    text: Rgb888,
    /// Whether it is an action; states are shown quieter.
    action: bool,
}

impl<'a> Head<'a> {
    fn of(status: &Status<'a>) -> Self {
        let state = |label, fraction, accent| Head { label, fraction, accent, text: colors::SOFT, action: false };
        let mut head = match status.activity {
            Activity::Filling(progress) => state("filling window", Some(progress), colors::FILLING),
            Activity::Nothing(confidence) => state("nothing", confidence, colors::QUIET),
            Activity::Actions([]) => state("nothing", None, colors::QUIET),
            Activity::Actions([first, ..]) => Head {
                label: first.label,
                fraction: Some(first.confidence),
                accent: colors::ACTION,
                text: colors::TEXT,
                action: true,
            },
        };
        if status.source_lost.is_some() {
            // What was last seen is not happening now.
            (head.accent, head.text) = (colors::QUIET, colors::SOFT);
        }
        head
    }
}

/// Writes `label` as it is shown.
pub(super) fn write_label(out: &mut String, label: &str) {
    out.clear();
    out.extend(label.chars().map(|c| if c == '_' { ' ' } else { c }));
}

/// Writes a share as a percentage.
fn write_percent(out: &mut String, fraction: f32) {
    out.clear();
    // Writing to a string cannot fail.
    let _ = write!(out, "{:.0}%", share(fraction) * 100.0);
}

/// `fraction` within 0 to 1; 0 where it is no number.
fn share(fraction: f32) -> f32 {
    if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) }
}

/// Draws a bar over all of `area` that is filled from the left by `fraction`.
pub(super) fn bar<D>(target: &mut D, area: &Rectangle, fraction: f32, fill: Rgb888) -> Result<(), D::Error>
where
    D: DrawTarget<Color = Rgb888>,
{
    let Size { width, height } = area.size;
    let filled = ((share(fraction) * width as f32).round() as u32).min(width);
    target.fill_solid(&Rectangle::new(area.top_left, Size::new(filled, height)), fill)?;
    let rest = area.top_left + Point::new(filled as i32, 0);
    target.fill_solid(&Rectangle::new(rest, Size::new(width - filled, height)), colors::TRACK)
}

impl Overlay {
    /// Draws the panel, or the bar that stands for it in a picture without room for text.
    pub(super) fn draw_panel<D>(&mut self, target: &mut D, status: &Status) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb888>,
    {
        let head = Head::of(status);
        let also = match status.activity {
            Activity::Actions([_, also @ ..]) => also,
            _ => &[],
        };
        let candidates = match status.activity {
            Activity::Filling(_) => &[],
            _ => status.candidates,
        };
        let candidates = &candidates[..candidates.len().min(CANDIDATES.saturating_sub(also.len()))];
        let wanted = also.len().min(MOST_ACTIONS) + candidates.len();
        let head_width = self.head_width(&head);
        let Some(panel) = self.layout.panel(head_width, wanted as u32) else {
            return bar(target, &self.layout.edge_bar(), head.fraction.unwrap_or(0.0), head.accent);
        };
        target.fill_solid(&panel.area, colors::PANEL)?;
        target.fill_solid(&panel.stripe, head.accent)?;
        self.draw_head(target, &panel, &head)?;

        let rows = panel.rows as usize;
        let shown = if also.len() > rows.min(MOST_ACTIONS) { rows.saturating_sub(1) } else { also.len() };
        let lines =
            also[..shown].iter().map(|score| (score, true)).chain(candidates.iter().map(|score| (score, false)));
        let mut row = panel.row;
        for (score, active) in lines.take(rows) {
            let live = active && status.source_lost.is_none();
            self.draw_row(target, &row, score, live)?;
            row.top_left.y += row.size.height as i32;
        }
        if shown < also.len() && rows > 0 {
            self.buffer.clear();
            let _ = write!(self.buffer, "and {} more", also.len() - shown);
            let ink = Ink { text: colors::SOFT, ground: colors::PANEL };
            self.base.draw_within(target, row.top_left, row.size.width, &self.buffer, ink)?;
        }
        Ok(())
    }

    /// Room that the first line takes at least.
    fn head_width(&mut self, head: &Head) -> u32 {
        write_label(&mut self.buffer, head.label);
        let label = if head.action { self.heading.width(&self.buffer) } else { self.state.width(&self.buffer) };
        label + if head.fraction.is_some() { self.percent_widths.heading + self.layout.unit } else { 0 }
    }

    fn draw_head<D>(&mut self, target: &mut D, panel: &Panel, head: &Head) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb888>,
    {
        let line = panel.title;
        let base_line = line.top_left.y + self.title.ascent() as i32;
        let ink = Ink { text: head.text, ground: colors::PANEL };
        let mut room = line.size.width;
        if let Some(fraction) = head.fraction {
            write_percent(&mut self.buffer, fraction);
            let number = if head.action { &mut self.heading } else { &mut self.state };
            let x = line.top_left.x + room.saturating_sub(number.width(&self.buffer)) as i32;
            number.draw(target, Point::new(x, base_line - number.ascent() as i32), &self.buffer, ink)?;
            room = room.saturating_sub(self.percent_widths.heading + self.layout.unit);
        }
        write_label(&mut self.buffer, head.label);
        let text = if !head.action {
            &mut self.state
        } else if self.title.width(&self.buffer) <= room {
            &mut self.title
        } else {
            &mut self.heading
        };
        let at = Point::new(line.top_left.x, base_line - text.ascent() as i32);
        text.draw_within(target, at, room, &self.buffer, ink)?;
        bar(target, &panel.bar, head.fraction.unwrap_or(0.0), head.accent)
    }

    /// One line: label, thin bar, number.
    fn draw_row<D>(&mut self, target: &mut D, row: &Rectangle, score: &Score, active: bool) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb888>,
    {
        let (text, fill) = if active { (colors::TEXT, colors::ACTION) } else { (colors::SOFT, colors::QUIET) };
        let ink = Ink { text, ground: colors::PANEL };
        let unit = self.layout.unit;
        let number_left = row.size.width.saturating_sub(self.percent_widths.base + unit / 2);
        let bar_left = number_left.saturating_sub(row.size.width / 4);
        let at = |x: u32| row.top_left + Point::new(x as i32, 0);

        write_label(&mut self.buffer, score.label);
        self.base.draw_within(target, row.top_left, bar_left.saturating_sub(unit), &self.buffer, ink)?;
        let thickness = (row.size.height / 5).max(2);
        let middle = (self.base.ascent() * 2 / 3) as i32;
        let area = Rectangle::new(
            at(bar_left) + Point::new(0, middle - thickness as i32 / 2),
            Size::new(number_left - bar_left, thickness),
        );
        bar(target, &area, score.confidence, fill)?;
        write_percent(&mut self.buffer, score.confidence);
        let x = row.size.width.saturating_sub(self.base.width(&self.buffer));
        self.base.draw(target, at(x), &self.buffer, ink)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use embedded_graphics::mock_display::MockDisplay;
    use embedded_graphics::pixelcolor::BinaryColor;

    /// A bar as a pattern: `#` filled, `.` not, on a display that refuses to be drawn to twice or outside.
    fn drawn(fraction: f32) -> MockDisplay<BinaryColor> {
        let mut display = MockDisplay::new();
        bar(&mut display, &Rectangle::new(Point::new(2, 1), Size::new(10, 2)), fraction, colors::ACTION).unwrap();
        display.map(|color| BinaryColor::from(color == colors::ACTION))
    }

    #[test]
    fn a_bar_is_filled_by_its_share() {
        drawn(0.0).assert_pattern(&["            ", "  ..........", "  .........."]);
        drawn(0.3).assert_pattern(&["            ", "  ###.......", "  ###......."]);
        drawn(0.66).assert_pattern(&["            ", "  #######...", "  #######..."]);
        drawn(1.0).assert_pattern(&["            ", "  ##########", "  ##########"]);
    }

    #[test]
    fn a_bar_of_nonsense_stays_in_its_place() {
        for (fraction, same_as) in [(f32::NAN, 0.0), (-4.0, 0.0), (7.0, 1.0), (f32::INFINITY, 1.0)] {
            drawn(fraction).assert_eq(&drawn(same_as));
        }
    }

    #[test]
    fn labels_and_shares_as_text() {
        let mut text = String::new();
        write_label(&mut text, "sit_down");
        assert_eq!(text, "sit down");
        for (share, shown) in [(0.874, "87%"), (0.0, "0%"), (1.0, "100%"), (f32::NAN, "0%"), (3.0, "100%")] {
            write_percent(&mut text, share);
            assert_eq!(text, shown);
        }
    }
}
