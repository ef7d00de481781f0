//! What `record` shows: countdown, recording, and the question whether a clip is kept. It is read from some steps away,
//! so each stage also looks different as a whole: a large number, a red frame, the clip itself moving again.

use std::fmt::Write;
use std::time::Duration;

use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::pixelcolor::Rgb888;

use super::layout::Panel;
use super::panel::{bar, write_label};
use super::{Ink, Overlay, colors};

/// What is being done with the clip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stage {
    /// There are no pictures to count down on.
    Waiting,
    /// It begins in `left` of the time `of` that there was to get ready.
    Countdown {
        /// What there still is.
        left: Duration,
        /// What there was.
        of: Duration,
    },
    /// It is being recorded.
    Recording {
        /// What is still to come.
        left: Duration,
        /// The clip's length.
        of: Duration,
    },
    /// It is shown back, how far, 0 to 1, and the user is asked.
    Review(f32),
    /// It is being written.
    Saving,
}

/// All that is shown while clips are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Take<'a> {
    /// What is being done.
    pub stage: Stage,
    /// The action.
    pub label: &'a str,
    /// Number of the clip, from 1.
    pub clip: u32,
    /// How many there are to be.
    pub count: u32,
    /// Whether the user has keys, so that they are named.
    pub keys: bool,
    /// Why there is no picture from the source at present.
    pub source_lost: Option<&'a str>,
}

/// How a stage looks.
struct Look {
    title: &'static str,
    /// Of stripe and bar.
    accent: Rgb888,
    /// How far the bar is filled.
    share: f32,
    /// What is left, at the title's right.
    left: Option<Duration>,
    /// Whether something happens that the user acts on; other stages are shown quieter.
    strong: bool,
}

impl Look {
    fn of(stage: Stage) -> Self {
        let share = |left: Duration, of: Duration| left.as_secs_f32() / of.as_secs_f32();
        let quiet = |title| Self { title, accent: colors::QUIET, share: 0.0, left: None, strong: false };
        match stage {
            Stage::Waiting => quiet("waiting for pictures"),
            Stage::Countdown { left, of } => {
                Self { title: "get ready", accent: colors::FILLING, share: share(left, of), left: None, strong: true }
            }
            Stage::Recording { left, of } => Self {
                title: "recording",
                accent: colors::RECORDING,
                share: share(left, of),
                left: Some(left),
                strong: true,
            },
            Stage::Review(shown) => {
                Self { title: "keep this clip?", accent: colors::ACTION, share: shown, left: None, strong: true }
            }
            Stage::Saving => Self { share: 1.0, ..quiet("saving") },
        }
    }
}

impl Take<'_> {
    /// Writes a line below the bar; nothing where there is no such line.
    fn write_line(&self, out: &mut String, line: usize) {
        out.clear();
        match line {
            0 => {
                write_label(out, self.label);
                // Writing to a string cannot fail.
                let _ = write!(out, ", clip {} of {}", self.clip, self.count);
            }
            1 if self.keys && matches!(self.stage, Stage::Review(_)) => {
                out.push_str("Enter keeps, Backspace drops, Esc ends");
            }
            1 if self.keys => out.push_str("Esc ends"),
            _ => {}
        }
    }
}

impl Overlay {
    /// Draws `take` onto `target`, over the picture that is there.
    ///
    /// # Errors
    /// That of the target.
    pub fn draw_take<D>(&mut self, target: &mut D, take: &Take) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb888> + OriginDimensions,
    {
        if !self.adapt(target.size()) {
            return Ok(());
        }
        let look = Look::of(take.stage);
        if matches!(take.stage, Stage::Recording { .. }) {
            self.layout.edges().iter().try_for_each(|edge| target.fill_solid(edge, look.accent))?;
        }
        self.draw_take_panel(target, take, &look)?;
        if let Stage::Countdown { left, .. } = take.stage {
            self.draw_number(target, left.as_secs_f32().ceil() as u32)?;
        }
        match take.source_lost {
            Some(reason) => self.draw_banner(target, reason),
            None => Ok(()),
        }
    }

    fn draw_take_panel<D>(&mut self, target: &mut D, take: &Take, look: &Look) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb888>,
    {
        let mut rows = 0;
        let time = look.left.map_or(0, |_| self.heading.width("00.0 s") + self.layout.unit);
        let mut width = self.heading.width(look.title) + time;
        for line in 0..2 {
            take.write_line(&mut self.buffer, line);
            rows += u32::from(!self.buffer.is_empty());
            width = width.max(self.base.width(&self.buffer));
        }
        let Some(panel) = self.layout.panel(width, rows) else {
            return bar(target, &self.layout.edge_bar(), look.share, look.accent);
        };
        target.fill_solid(&panel.area, colors::PANEL)?;
        target.fill_solid(&panel.stripe, look.accent)?;
        self.draw_take_title(target, &panel, look)?;
        bar(target, &panel.bar, look.share, look.accent)?;
        let ink = Ink { text: colors::SOFT, ground: colors::PANEL };
        for line in 0..panel.rows {
            take.write_line(&mut self.buffer, line as usize);
            let at = panel.row.top_left + Point::new(0, (line * panel.row.size.height) as i32);
            self.base.draw_within(target, at, panel.row.size.width, &self.buffer, ink)?;
        }
        Ok(())
    }

    fn draw_take_title<D>(&mut self, target: &mut D, panel: &Panel, look: &Look) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb888>,
    {
        let (at, mut room) = (panel.title.top_left, panel.title.size.width);
        let base_line = at.y + self.title.ascent() as i32;
        let ink = Ink { text: if look.strong { colors::TEXT } else { colors::SOFT }, ground: colors::PANEL };
        if let Some(left) = look.left {
            self.buffer.clear();
            let _ = write!(self.buffer, "{:.1} s", left.as_secs_f32());
            let width = self.heading.width(&self.buffer);
            let x = at.x + room.saturating_sub(width) as i32;
            self.heading.draw(target, Point::new(x, base_line - self.heading.ascent() as i32), &self.buffer, ink)?;
            room = room.saturating_sub(width + self.layout.unit);
        }
        let text = if !look.strong {
            &mut self.state
        } else if self.title.width(look.title) <= room {
            &mut self.title
        } else {
            &mut self.heading
        };
        let at = Point::new(at.x, base_line - text.ascent() as i32);
        text.draw_within(target, at, room, look.title, ink)?;
        Ok(())
    }

    /// A number of a countdown, in the corner that the panel leaves free.
    fn draw_number<D>(&mut self, target: &mut D, number: u32) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb888>,
    {
        self.buffer.clear();
        let _ = write!(self.buffer, "{number}");
        let width = self.number.width(&self.buffer);
        // As wide as it is high, so that it stands still whatever the number.
        let side = self.number.height().max(width + 2 * self.number.overhang());
        let Some(area) = self.layout.corner(Size::new(side, side)) else { return Ok(()) };
        target.fill_solid(&area, colors::PANEL)?;
        let at = area.top_left + Point::new((side - width) as i32 / 2, (side - self.number.height()) as i32 / 2);
        let ink = Ink { text: colors::TEXT, ground: colors::PANEL };
        self.number.draw(target, at, &self.buffer, ink)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use embedded_graphics::pixelcolor::RgbColor;

    use super::*;
    use crate::frame::Frame;
    use crate::overlay::tests::{Strict, USUAL, count};

    const SECOND: Duration = Duration::from_secs(1);

    fn all() -> Vec<(&'static str, Take<'static>)> {
        let stages = [
            ("waiting", Stage::Waiting),
            ("countdown", Stage::Countdown { left: 2 * SECOND, of: 3 * SECOND }),
            ("recording", Stage::Recording { left: SECOND, of: 2 * SECOND }),
            ("review", Stage::Review(0.3)),
            ("saving", Stage::Saving),
        ];
        let take = |stage| Take { stage, label: "sit_down", clip: 3, count: 10, keys: true, source_lost: None };
        let mut all: Vec<_> = stages.map(|(name, stage)| (name, take(stage))).to_vec();
        let reason = "v4l:/dev/video0: no frame for 2 s; the clip was thrown away";
        all.push(("take_lost", Take { source_lost: Some(reason), ..take(Stage::Waiting) }));
        all.push(("no_keys", Take { keys: false, label: "playing_musical_instruments_in_an_orchestra", ..all[2].1 }));
        all
    }

    fn drawn(size: (u32, u32), take: &Take) -> Frame {
        let mut frame = Frame::new(size.0, size.1);
        let Ok(()) = frame.clear(Rgb888::BLUE);
        Overlay::new(size.0, size.1).unwrap().draw_take(&mut frame, take).unwrap();
        frame
    }

    #[test]
    fn every_stage_stays_inside_every_picture() {
        let sizes = (1..40).flat_map(|side| [(side, side), (side, 97), (150, side)]);
        for (width, height) in sizes.chain([(64, 48), (1000, 60), (60, 1000)]).chain(USUAL) {
            let mut overlay = Overlay::new(width, height).unwrap();
            for (name, take) in all() {
                let result = overlay.draw_take(&mut Strict(Size::new(width, height)), &take);
                assert_eq!(result, Ok(()), "{name} on {width}x{height}");
            }
        }
    }

    #[test]
    fn recording_has_a_frame_of_its_own_colour() {
        for size in USUAL.into_iter().chain([(64, 48), (1, 1)]) {
            for (name, take) in all() {
                let frame = drawn(size, &take);
                let recording = matches!(take.stage, Stage::Recording { .. });
                assert_eq!(count(&frame, colors::RECORDING) > 0, recording, "{name} at {size:?}");
                let top = frame.pixel(size.0 / 2, 0).unwrap();
                let red = [colors::RECORDING.r(), colors::RECORDING.g(), colors::RECORDING.b()];
                assert!(size.1 < 48 || (top == red) == recording, "{name} at {size:?}");
            }
        }
    }

    #[test]
    fn stages_differ_and_leave_the_picture_visible() {
        for size in USUAL {
            let frames: Vec<_> = all().iter().map(|(name, take)| (*name, drawn(size, take))).collect();
            for (n, (name, frame)) in frames.iter().enumerate() {
                let visible = count(frame, Rgb888::BLUE) as f32 / (size.0 * size.1) as f32;
                assert!(visible > 0.5, "{name} at {size:?} leaves {visible}");
                assert!(frames[..n].iter().all(|(_, other)| other.data() != frame.data()), "{name} at {size:?}");
            }
        }
    }

    #[test]
    fn the_number_counts_down() {
        let at = |millis| {
            let stage = Stage::Countdown { left: Duration::from_millis(millis), of: 3 * SECOND };
            let mut overlay = Overlay::new(640, 480).unwrap();
            let mut frame = Frame::new(640, 480);
            overlay.draw_take(&mut frame, &Take { stage, ..all()[1].1 }).unwrap();
            overlay.buffer
        };
        assert_eq!([3000, 2001, 2000, 1001, 1000, 1].map(at), ["3", "3", "2", "2", "1", "1"]);
    }

    /// Writes all stages as [`pictures_to_look_at`](crate::overlay::tests) does.
    #[test]
    fn takes_to_look_at() {
        let Some(folder) = std::env::var_os("KINORA_LOOK") else { return };
        let folder = Path::new(&folder);
        let background = image::open(folder.join("bg.png")).unwrap();
        for (width, height) in [(64, 48), (160, 120), (320, 240), (640, 480), (1280, 720), (480, 854)] {
            let filled = background.resize_to_fill(width, height, image::imageops::FilterType::Triangle).to_rgb8();
            for (name, take) in all() {
                let mut frame = Frame::new(width, height);
                frame.data_mut().copy_from_slice(&filled);
                Overlay::new(width, height).unwrap().draw_take(&mut frame, &take).unwrap();
                let path = folder.join(format!("{width}x{height}_{name}.png"));
                image::save_buffer(path, frame.data(), width, height, image::ColorType::Rgb8).unwrap();
            }
        }
    }
}
