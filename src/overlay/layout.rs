//! Where things stand in a picture of any size: text sizes and rectangles. Pure arithmetic.
//!
//! Everything scales with the picture's height (its width where the picture is tall). Nothing lies outside the picture,
//! and what has no room is left out, the least important first: notes, status line, candidates, at last all text.

use embedded_graphics::geometry::{Point, Size};
use embedded_graphics::primitives::Rectangle;

use super::text::Text;

/// Below this size text cannot be read and is not drawn.
const SMALLEST_PX: f32 = 7.0;
/// Share of the picture's height that the panel of the current action may take.
const PANEL_SHARE: f32 = 0.4;

/// Text sizes in pixels an em.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sizes {
    /// The current action.
    pub title: f32,
    /// A current action with a long name.
    pub heading: f32,
    /// Everything else.
    pub base: f32,
    /// The number of a countdown.
    pub number: f32,
}

impl Sizes {
    pub fn of(picture: Size) -> Self {
        let reach = (picture.height as f32).min(picture.width as f32 * 0.9);
        let base = (5.0 + 0.022 * reach).min(0.16 * reach);
        let title = (2.1 * base).min(0.22 * reach);
        Self {
            title: Text::crisp_px(title),
            heading: Text::crisp_px((0.7 * title).max(base)),
            base: Text::crisp_px(base),
            number: Text::crisp_px(0.25 * reach),
        }
    }
}

/// The rectangles of one picture size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Layout {
    pub picture: Size,
    /// The common distance between things.
    pub unit: u32,
    sizes: Sizes,
    title_height: u32,
    base_height: u32,
}

/// The panel of the current action.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Panel {
    pub area: Rectangle,
    /// The stripe at its left that has the colour of the state.
    pub stripe: Rectangle,
    /// The line of the current action.
    pub title: Rectangle,
    pub bar: Rectangle,
    /// The first line below the bar; the others follow in steps of its height.
    pub row: Rectangle,
    /// How many lines below the bar there are.
    pub rows: u32,
}

impl Layout {
    /// For text lines of these heights in pixels.
    pub fn new(picture: Size, sizes: Sizes, title_height: u32, base_height: u32) -> Self {
        let unit = ((sizes.base * 0.6).round() as u32).max(1);
        Self { picture, unit, sizes, title_height, base_height }
    }

    /// The status line along the top edge, or `None` where the picture is too small for it.
    pub fn strip(&self) -> Option<Rectangle> {
        let height = self.base_height + 2 * (self.unit / 3).max(1);
        let room =
            self.sizes.base >= SMALLEST_PX && self.picture.height >= 8 * height && self.picture.width >= 8 * height;
        room.then(|| Rectangle::new(Point::zero(), Size::new(self.picture.width, height)))
    }

    /// The line below the status line, for notes at its left and right end.
    pub fn notes(&self) -> Option<Rectangle> {
        let strip = self.strip()?;
        Some(Rectangle::new(Point::new(0, strip.size.height as i32 + self.unit as i32 / 2), strip.size))
    }

    /// The panel of the current action, wide enough for a title of `title_width` pixels where the picture is, with up to
    /// `rows` lines below the bar; `None` where there is no room for text.
    pub fn panel(&self, title_width: u32, rows: u32) -> Option<Panel> {
        let Size { width, height } = self.picture;
        let margin = if self.strip().is_some() { self.unit } else { 0 };
        let stripe = (self.unit / 2).max(1);
        let bar = (self.sizes.title * 0.2).round().max(2.0) as u32;
        let fixed = self.unit / 2 + self.title_height + self.unit / 2 + bar + self.unit;
        let frame = stripe + 2 * self.unit;
        let usual = (self.sizes.title * 10.5) as u32;
        let panel_width = usual.max(title_width + frame).min(2 * usual).min(width.saturating_sub(2 * margin));
        let inner = panel_width.saturating_sub(frame);
        if self.sizes.title < SMALLEST_PX || fixed * 10 > height * 6 || inner < 3 * self.title_height {
            return None;
        }
        let room = (height as f32 * PANEL_SHARE) as u32;
        let rows =
            if self.sizes.base < SMALLEST_PX { 0 } else { rows.min(room.saturating_sub(fixed) / self.base_height) };
        let panel_height = fixed + rows * self.base_height;

        let left = margin as i32;
        let top = (height - margin.min(height) - panel_height) as i32;
        let x = left + (stripe + self.unit) as i32;
        let title_top = top + self.unit as i32 / 2;
        let bar_top = title_top + (self.title_height + self.unit / 2) as i32;
        let row_top = bar_top + (bar + self.unit / 2) as i32;
        Some(Panel {
            area: Rectangle::new(Point::new(left, top), Size::new(panel_width, panel_height)),
            stripe: Rectangle::new(Point::new(left, top), Size::new(stripe, panel_height)),
            title: Rectangle::new(Point::new(x, title_top), Size::new(inner, self.title_height)),
            bar: Rectangle::new(Point::new(x, bar_top), Size::new(inner, bar)),
            row: Rectangle::new(Point::new(x, row_top), Size::new(inner, self.base_height)),
            rows,
        })
    }

    /// A panel of `size` in the bottom right corner; `None` where it would not be small in the picture.
    pub fn corner(&self, size: Size) -> Option<Rectangle> {
        let Size { width, height } = self.picture;
        let margin = if self.strip().is_some() { self.unit } else { 0 };
        if size.width * 3 > width || (size.height + margin) * 2 > height {
            return None;
        }
        let at = Point::new((width - margin - size.width) as i32, (height - margin - size.height) as i32);
        Some(Rectangle::new(at, size))
    }

    /// The picture's edges, as a frame around it: top, bottom, left, right.
    pub fn edges(&self) -> [Rectangle; 4] {
        let Size { width, height } = self.picture;
        let thick = self.unit.min(width.div_ceil(4)).min(height.div_ceil(4));
        let sides = height.saturating_sub(2 * thick);
        let part = |x, y, width, height| Rectangle::new(Point::new(x as i32, y as i32), Size::new(width, height));
        [
            part(0, 0, width, thick),
            part(0, height - thick, width, thick),
            part(0, thick, thick, sides),
            part(width - thick, thick, thick, sides),
        ]
    }

    /// The bar along the bottom edge that stands for the panel where there is no room for text.
    pub fn edge_bar(&self) -> Rectangle {
        let height = (self.picture.height / 12).max(1).min(self.picture.height);
        Rectangle::new(Point::new(0, (self.picture.height - height) as i32), Size::new(self.picture.width, height))
    }

    /// The banner across the picture, and whether it has room for a heading and a line of text.
    pub fn banner(&self, heading_height: u32) -> (Rectangle, bool) {
        let Size { width, height } = self.picture;
        let wanted = heading_height + self.base_height + 2 * self.unit;
        let Some(strip) = self.strip() else {
            return (Rectangle::new(Point::zero(), Size::new(width, (height / 8).max(1).min(height))), false);
        };
        let top = (height as f32 * 0.36) as u32 - wanted.min(height / 4) / 2;
        (Rectangle::new(Point::new(0, top.max(strip.size.height) as i32), Size::new(width, wanted)), true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn layout(width: u32, height: u32) -> Layout {
        let picture = Size::new(width, height);
        let sizes = Sizes::of(picture);
        let line = |size: f32| (size * 1.17).ceil().max(1.0) as u32;
        Layout::new(picture, sizes, line(sizes.title), line(sizes.base))
    }

    fn assert_within(outer: &Rectangle, inner: &Rectangle, what: &str) {
        assert_eq!(outer.intersection(inner), *inner, "{what}: {inner:?} in {outer:?}");
    }

    #[test]
    fn nothing_lies_outside_the_picture() {
        let sides: Vec<u32> = (1..70).chain([96, 120, 160, 240, 320, 480, 854, 1080, 1920, 4000]).collect();
        for &width in &sides {
            for &height in &sides {
                let layout = layout(width, height);
                let picture = Rectangle::new(Point::zero(), layout.picture);
                assert_within(&picture, &layout.edge_bar(), "edge bar");
                assert!(layout.edge_bar().size.height > 0);
                for part in layout.edges().iter().filter(|part| !part.is_zero_sized()) {
                    assert_within(&picture, part, "edge");
                }
                for side in [1, 20, 100] {
                    let corner = layout.corner(Size::new(side, side));
                    corner.inspect(|corner| assert_within(&picture, corner, "corner"));
                }
                assert_within(&picture, &layout.banner(2 * layout.base_height).0, "banner");
                for part in [layout.strip(), layout.notes()].into_iter().flatten() {
                    assert_within(&picture, &part, "strip and notes");
                }
                for (title_width, rows) in [(0, 0), (0, 2), (90, 5), (9999, 99)] {
                    let Some(panel) = layout.panel(title_width, rows) else { continue };
                    assert_within(&picture, &panel.area, "panel");
                    for part in [&panel.stripe, &panel.title, &panel.bar] {
                        assert_within(&panel.area, part, "part of the panel");
                    }
                    let below = panel.row.size.height * panel.rows;
                    let rows = Rectangle::new(panel.row.top_left, Size::new(panel.row.size.width, below));
                    assert!(panel.rows == 0 || panel.area.intersection(&rows) == rows, "rows of {panel:?}");
                }
            }
        }
    }

    #[test]
    fn usual_pictures_have_room_for_everything() {
        for (width, height) in [(320, 240), (640, 480), (1280, 720), (1920, 1080), (480, 854)] {
            let layout = layout(width, height);
            let panel = layout.panel(0, 2).unwrap();
            assert_eq!(panel.rows, 2);
            assert!(layout.strip().is_some() && layout.banner(20).1);
            let hidden = panel.area.size.width * panel.area.size.height;
            assert!(hidden * 4 < width * height, "the panel hides {hidden} of {width}x{height}");
        }
    }

    #[test]
    fn text_grows_with_the_picture() {
        let sizes = [240, 480, 720, 1080].map(|height| Sizes::of(Size::new(height * 4 / 3, height)));
        assert!(sizes.windows(2).all(|s| s[0].base < s[1].base && s[0].title < s[1].title));
        assert!(sizes[0].base >= 9.0 && sizes[0].title >= 18.0, "readable at 320x240: {:?}", sizes[0]);
    }

    #[test]
    fn a_long_title_widens_the_panel_only_so_far() {
        let layout = layout(1280, 720);
        let width = |title| layout.panel(title, 2).unwrap().title.size.width;
        assert_eq!(width(0), width(100));
        assert_eq!(width(width(0) + 50), width(0) + 50);
        assert!(width(5000) < 1280 * 3 / 4);
    }
}
