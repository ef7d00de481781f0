//! A small software rasteriser for solid limbs: tapered capsules with a depth test, shading across their width and
//! soft edges. It allocates only when the picture's size changes.

use std::ops::Range;

/// A limb as it is seen: from one end to the other, in pixels; depth in metres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limb {
    /// Ends: x, y, radius, depth.
    pub(crate) from: [f32; 4],
    pub(crate) to: [f32; 4],
    /// How far the surface bulges towards the camera, in metres.
    pub(crate) bulge: f32,
    /// How flat the ends are: 1 is round, more is flatter.
    pub(crate) cap: f32,
    pub(crate) color: [f32; 3],
    pub(crate) pattern: Pattern,
}

/// What is printed on a limb: `strength` of the brightness, in `count` periods.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pattern {
    Plain,
    /// Round the limb.
    Rings {
        count: f32,
        strength: f32,
    },
    /// Along the limb.
    Stripes {
        count: f32,
        strength: f32,
    },
}

/// Light: its direction (right, down, towards the camera), and the share that comes from everywhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Light {
    pub(crate) direction: [f32; 3],
    pub(crate) ambient: f32,
}

/// Depth of each pixel, kept between pictures.
#[derive(Debug, Default)]
pub(crate) struct Raster {
    width: usize,
    height: usize,
    depth: Vec<f32>,
    /// Rows that have been drawn to since the last clearing.
    dirty: (usize, usize),
}

impl Raster {
    /// Makes ready for a picture of this size.
    pub(crate) fn begin(&mut self, width: usize, height: usize) {
        if (self.width, self.height) != (width, height) {
            (self.width, self.height) = (width, height);
            self.depth.clear();
            self.depth.resize(width * height, f32::MAX);
        } else if self.dirty.0 < self.dirty.1 {
            self.depth[self.dirty.0 * width..self.dirty.1 * width].fill(f32::MAX);
        }
        self.dirty = (height, 0);
    }

    /// Draws `limb` into `pixels`, RGB of the size given to [`Raster::begin`]. Draw far limbs first: soft edges show
    /// what is there already.
    pub(crate) fn draw(&mut self, limb: &Limb, light: &Light, pixels: &mut [u8]) {
        self.cover(limb, 1.0, |span, start, cells, depths| {
            span.row(limb, light, start, depths, &mut pixels[cells.start * 3..cells.end * 3]);
        });
    }

    /// Calls `visit` for each row that `limb`, `margin` pixels wider, can touch: with the middle of the first pixel there, the
    /// pixels' numbers and what is kept of them.
    fn cover(&mut self, limb: &Limb, margin: f32, mut visit: impl FnMut(&Span, (f32, f32), Range<usize>, &mut [f32])) {
        let span = Span::of(limb);
        let reach = limb.from[2].max(limb.to[2]) + margin;
        let row = |y: f32| y.clamp(0.0, self.height as f32) as usize;
        let rows = row(limb.from[1].min(limb.to[1]) - reach)..row(limb.from[1].max(limb.to[1]) + reach + 1.0);
        if rows.is_empty() || !reach.is_finite() {
            return;
        }
        self.dirty = (self.dirty.0.min(rows.start), self.dirty.1.max(rows.end));
        for y in rows {
            let (left, right) = span.columns(limb, y as f32 + 0.5, reach, self.width);
            if left < right {
                let cells = y * self.width + left..y * self.width + right;
                let start = (left as f32 + 0.5, y as f32 + 0.5);
                visit(&span, start, cells.clone(), &mut self.depth[cells]);
            }
        }
    }
}

/// Shadows: the depth of a pixel serves as the share of the light that is left there, until they are laid over the
/// picture.
impl Raster {
    /// Adds the shadow of `limb`, with an edge `soft` pixels wide. Where shadows overlap, the darker one counts.
    pub(crate) fn cast(&mut self, limb: &Limb, soft: f32) {
        let soft = soft.max(1.0);
        self.cover(limb, 0.5 * soft, |span, start, _, left| span.shade(limb, soft, start, left));
    }

    /// Lays the shadows over the rows of `pixels` above row `end`: where they are full, `strength` of the light is gone.
    /// There are none afterwards.
    pub(crate) fn darken(&mut self, strength: f32, end: f32, pixels: &mut [u8]) {
        for y in self.dirty.0..self.dirty.1 {
            let cells = y * self.width..(y + 1) * self.width;
            let row = pixels[cells.start * 3..cells.end * 3].chunks_exact_mut(3);
            for (left, pixel) in self.depth[cells].iter_mut().zip(row) {
                if *left < 1.0 && (y as f32) < end {
                    let keep = (256.0 * (1.0 - strength * (1.0 - *left))) as u32;
                    pixel.iter_mut().for_each(|p| *p = ((u32::from(*p) * keep) >> 8) as u8);
                }
                *left = f32::MAX;
            }
        }
        self.dirty = (self.height, 0);
    }
}

/// A limb's axis in the picture, prepared.
struct Span {
    dx: f32,
    dy: f32,
    length: f32,
    inverse: f32,
}

impl Span {
    fn of(limb: &Limb) -> Self {
        let (dx, dy) = (limb.to[0] - limb.from[0], limb.to[1] - limb.from[1]);
        let length = dx.hypot(dy).max(1e-3);
        let (dx, dy) = if length > 1e-3 { (dx / length, dy / length) } else { (0.0, 1.0) };
        Self { dx, dy, length, inverse: 1.0 / length }
    }

    /// Columns of row `y` that the limb can touch: its bounding box, cut to the strip along its axis.
    fn columns(&self, limb: &Limb, y: f32, reach: f32, width: usize) -> (usize, usize) {
        let mut left = limb.from[0].min(limb.to[0]) - reach;
        let mut right = limb.from[0].max(limb.to[0]) + reach;
        if self.dy.abs() > 0.1 {
            let middle = limb.from[0] + (y - limb.from[1]) * self.dx / self.dy;
            let half = reach / self.dy.abs();
            left = left.max(middle - half);
            right = right.min(middle + half);
        }
        let cut = |x: f32| x.clamp(0.0, width as f32) as usize;
        (cut(left), cut(right + 1.0))
    }

    /// Takes light from a row of pixels that begins at `start`.
    fn shade(&self, limb: &Limb, soft: f32, start: (f32, f32), row: &mut [f32]) {
        let py = start.1 - limb.from[1];
        let r_slope = limb.to[2] - limb.from[2];
        for (i, left) in row.iter_mut().enumerate() {
            let px = start.0 + i as f32 - limb.from[0];
            let along = px * self.dx + py * self.dy;
            let aside = px * -self.dy + py * self.dx;
            let t = (along * self.inverse).clamp(0.0, 1.0);
            let beyond = (along - t * self.length) * limb.cap;
            let radius = limb.from[2] + r_slope * t;
            let square = aside * aside + beyond * beyond;
            // Half of the edge lies inside.
            let (inner, outer) = ((radius - 0.5 * soft).max(0.0), radius + 0.5 * soft);
            if square < outer * outer && *left > 0.0 {
                let within = square <= inner * inner && radius > 0.5 * soft;
                *left = left.min(if within { 0.0 } else { ((square.sqrt() - radius) / soft + 0.5).max(0.0) });
            }
        }
    }

    fn row(&self, limb: &Limb, light: &Light, start: (f32, f32), depths: &mut [f32], row: &mut [u8]) {
        let (py, z_slope) = (start.1 - limb.from[1], limb.to[3] - limb.from[3]);
        let r_slope = limb.to[2] - limb.from[2];
        let [lx, ly, lz] = light.direction;
        let diffuse = 1.0 - light.ambient;
        for (i, (depth, pixel)) in depths.iter_mut().zip(row.chunks_exact_mut(3)).enumerate() {
            let px = start.0 + i as f32 - limb.from[0];
            let along = px * self.dx + py * self.dy;
            let aside = px * -self.dy + py * self.dx;
            let t = (along * self.inverse).clamp(0.0, 1.0);
            let beyond = (along - t * self.length) * limb.cap;
            let radius = limb.from[2] + r_slope * t;
            let square = aside * aside + beyond * beyond;
            let outer = radius + 0.5;
            if square >= outer * outer {
                continue;
            }
            let inner = (radius - 0.5).max(0.0);
            let cover = if square <= inner * inner { 1.0 } else { (outer - square.sqrt()).min(1.0) };
            let inverse = 1.0 / radius.max(0.3);
            let facing = (1.0 - square * inverse * inverse).max(0.0).sqrt();
            let z = limb.from[3] + z_slope * t - limb.bulge * facing;
            if z >= *depth {
                continue;
            }
            if cover > 0.5 {
                *depth = z;
            }
            let (nx, ny) = (aside * -self.dy + beyond * self.dx, aside * self.dx + beyond * self.dy);
            let lit = ((nx * lx + ny * ly) * inverse + facing * lz).max(0.0);
            let shade = (light.ambient + diffuse * lit) * limb.pattern.at(t, aside * inverse);
            if cover >= 1.0 {
                pixel.iter_mut().zip(limb.color).for_each(|(value, color)| *value = (color * shade) as u8);
                continue;
            }
            for (value, color) in pixel.iter_mut().zip(limb.color) {
                let old = f32::from(*value);
                *value = (old + ((color * shade).min(255.0) - old) * cover) as u8;
            }
        }
    }
}

impl Pattern {
    fn at(self, along: f32, aside: f32) -> f32 {
        let (turns, strength) = match self {
            Self::Plain => return 1.0,
            Self::Rings { count, strength } => (along * count, strength),
            Self::Stripes { count, strength } => ((aside + 1.0) * 0.5 * count, strength),
        };
        // A triangle wave cut to a soft-edged square one.
        let wave = 4.0 * (turns - turns.floor() - 0.5).abs() - 1.0;
        1.0 + strength * (wave * 2.5).clamp(-1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIGHT: Light = Light { direction: [0.0, 0.0, 1.0], ambient: 0.5 };

    fn limb(depth: f32, color: [f32; 3]) -> Limb {
        let (from, to) = ([10.0, 10.0, 4.0, depth], [30.0, 20.0, 4.0, depth]);
        Limb { from, to, bulge: 0.05, cap: 1.0, color, pattern: Pattern::Plain }
    }

    #[test]
    fn the_nearer_limb_hides_the_other_in_either_order() {
        for order in [[0, 1], [1, 0]] {
            let limbs = [limb(2.0, [250.0, 0.0, 0.0]), limb(1.0, [0.0, 250.0, 0.0])];
            let (mut raster, mut pixels) = (Raster::default(), vec![0; 40 * 30 * 3]);
            raster.begin(40, 30);
            order.iter().for_each(|&i| raster.draw(&limbs[i], &LIGHT, &mut pixels));
            let middle = (15 * 40 + 20) * 3;
            assert!(pixels[middle] < 5 && pixels[middle + 1] > 230, "{:?}", &pixels[middle..middle + 3]);
        }
    }

    #[test]
    fn a_subpixel_move_changes_the_picture_by_a_subpixel_amount() {
        let area = |shift: f32| {
            let mut l = limb(1.0, [200.0; 3]);
            l.from[0] += shift;
            l.to[0] += shift;
            let (mut raster, mut pixels) = (Raster::default(), vec![0; 40 * 30 * 3]);
            raster.begin(40, 30);
            raster.draw(&l, &Light { direction: [0.0; 3], ambient: 1.0 }, &mut pixels);
            pixels
        };
        let difference = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b) as u64).sum::<u64>();
        let (still, quarter, whole) = (area(0.0), area(0.25), area(1.0));
        let share = difference(&still, &quarter) as f32 / difference(&still, &whole) as f32;
        assert!((0.15..0.35).contains(&share), "{share}");
    }

    #[test]
    fn limbs_outside_or_huge_do_no_harm() {
        let (mut raster, mut pixels) = (Raster::default(), vec![0; 3]);
        raster.begin(1, 1);
        for (x, r) in [(-1e6, 3.0), (1e6, 1e7), (0.0, 0.0), (f32::NAN, 1.0)] {
            let mut l = limb(1.0, [9.0; 3]);
            (l.from[0], l.from[2]) = (x, r);
            raster.draw(&l, &LIGHT, &mut pixels);
        }
    }
}
