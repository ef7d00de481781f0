//! Optical flow: how far each pixel moves from one picture to the next.
//!
//! TV-L1 (Zach, Pock and Bischof, A Duality Based Approach for Realtime TV-L1 Optical Flow, 2007) as Sánchez, Meinhardt-Llopis
//! and Facciolo published it (TV-L1 Optical Flow Estimation, Image Processing On Line, 2013): the flow u that makes the sum of
//! `|gradient of u| + lambda |I1(x + u) - I0(x)|` least, from a coarse picture to the fine one. At each scale the second picture
//! is warped by the flow so far, and its difference taken as linear in what is left; two steps in turn, one for each term, are
//! repeated until the flow hardly changes.

/// Step of the dual variables.
const TAU: f32 = 0.25;
/// Weight of the pictures' difference.
const LAMBDA: f32 = 0.15;
/// How closely the two terms' flows are tied.
const THETA: f32 = 0.3;
/// Most scales, each half of the one before, as long as its diagonal has 16 pixels.
const SCALES: usize = 5;
/// Warps at each scale.
const WARPS: usize = 5;
/// Iterations end when the mean squared change is below the square of this.
const EPSILON: f32 = 0.01;
/// Most iterations after a warp.
const ITERATIONS: usize = 300;
/// Blur of the pictures, and of a picture before it is halved.
const SMOOTH: f32 = 0.8;
const SMOOTH_HALF: f32 = 1.039_230_5;
/// Below it a gradient counts as none.
const LEAST_GRADIENT: f32 = 1e-10;

/// A workspace for pictures of one size.
pub struct Flow {
    /// The finest first.
    levels: Vec<Level>,
    work: Work,
}

/// A scale: the two pictures and the flow between them, row by row.
struct Level {
    width: usize,
    height: usize,
    from: Vec<f32>,
    to: Vec<f32>,
    flow: [Vec<f32>; 2],
}

/// What a scale needs while it is solved, as large as the finest.
struct Work {
    line: Vec<f32>,
    blurred: Vec<f32>,
    /// Derivatives of the second picture along x and y.
    gradient: [Vec<f32>; 2],
    /// The same, warped.
    warped: [Vec<f32>; 2],
    /// Squared length of the warped gradient.
    square: Vec<f32>,
    /// The pictures' difference where the flow is zero.
    rest: Vec<f32>,
    /// Dual variables of each component of the flow, along x and y. Along an axis they are zero at its end.
    dual: [[Vec<f32>; 2]; 2],
    /// Squared change in each column.
    change: Vec<f32>,
}

impl Flow {
    /// A workspace for gray pictures of `width` by `height` pixels, each at least one.
    pub fn new(width: usize, height: usize) -> Self {
        let diagonal = (width as f64).hypot(height as f64);
        let scales = (1.0 + (diagonal / 16.0).log2()).clamp(1.0, SCALES as f64) as usize;
        let halved = |n: &usize| Some((*n).div_ceil(2));
        let sizes = std::iter::successors(Some(width), halved).zip(std::iter::successors(Some(height), halved));
        let level = |(width, height): (usize, usize)| {
            let zeros = || vec![0.0; width * height];
            Level { width, height, from: zeros(), to: zeros(), flow: [zeros(), zeros()] }
        };
        let zeros = || vec![0.0; width * height];
        let pair = || [zeros(), zeros()];
        let work = Work {
            line: vec![],
            blurred: zeros(),
            gradient: pair(),
            warped: pair(),
            square: zeros(),
            rest: zeros(),
            dual: [pair(), pair()],
            change: vec![0.0; width],
        };
        Self { levels: sizes.take(scales).map(level).collect(), work }
    }

    /// Writes the flow in pixels, `[2, H, W]`, first to the right, then down: what is at `x` in `from` is at `x + flow` in `to`.
    /// The pictures' elements have any scale, but both the same. Slices of another size than the workspace's leave it as it is.
    pub fn compute(&mut self, from: &[f32], to: &[f32], flow: &mut [f32]) {
        let Self { levels, work } = self;
        let Some(finest) = levels.first_mut() else { return };
        let pixels = finest.from.len();
        if from.len() != pixels || to.len() != pixels || flow.len() != 2 * pixels {
            return;
        }
        let both = || from.iter().chain(to);
        let (least, most) = both().fold((f32::MAX, f32::MIN), |(least, most), x| (least.min(*x), most.max(*x)));
        let scale = if most > least { 255.0 / (most - least) } else { 0.0 };
        for (picture, given) in [(&mut finest.from, from), (&mut finest.to, to)] {
            picture.iter_mut().zip(given).for_each(|(picture, x)| *picture = (x - least) * scale);
            blur(picture, finest.width, SMOOTH, work);
        }
        for n in 1..levels.len() {
            let (finer, coarser) = levels.split_at_mut(n);
            if let (Some(finer), Some(coarser)) = (finer.last(), coarser.first_mut()) {
                work.halve(finer, coarser);
            }
        }
        if let Some(coarsest) = levels.last_mut() {
            coarsest.flow.iter_mut().for_each(|flow| flow.fill(0.0));
        }
        for n in (0..levels.len()).rev() {
            let (finer, coarser) = levels.split_at_mut(n);
            let Some(level) = coarser.first_mut() else { return };
            work.solve(level);
            if let Some(finer) = finer.last_mut() {
                for axis in 0..2 {
                    resample(&level.flow[axis], level.size(), &mut finer.flow[axis], (finer.width, finer.height));
                    finer.flow[axis].iter_mut().for_each(|u| *u *= 2.0);
                }
            }
        }
        for (to, flow) in flow.chunks_exact_mut(pixels).zip(&levels[0].flow) {
            to.copy_from_slice(flow);
        }
    }
}

impl Level {
    fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }
}

impl Work {
    /// The pictures of `finer` at half the size.
    fn halve(&mut self, finer: &Level, coarser: &mut Level) {
        let size = (coarser.width, coarser.height);
        let mut copy = std::mem::take(&mut self.rest);
        for (from, to) in [(&finer.from, &mut coarser.from), (&finer.to, &mut coarser.to)] {
            let picture = &mut copy[..from.len()];
            picture.copy_from_slice(from);
            blur(picture, finer.width, SMOOTH_HALF, self);
            resample(picture, finer.size(), to, size);
        }
        self.rest = copy;
    }

    /// The flow of a scale, from the one that it has.
    fn solve(&mut self, level: &mut Level) {
        let (width, pixels) = (level.width, level.from.len());
        derive(&level.to, width, &mut self.gradient);
        self.dual.iter_mut().flatten().for_each(|dual| dual[..pixels].fill(0.0));
        for _ in 0..WARPS {
            self.warp(level);
            for _ in 0..ITERATIONS {
                self.change[..width].fill(0.0);
                for y in 0..level.height {
                    self.advance(level, y);
                }
                for y in 0..level.height {
                    self.regularise(level, y);
                }
                if self.change[..width].iter().sum::<f32>() <= EPSILON * EPSILON * pixels as f32 {
                    break;
                }
            }
        }
    }

    /// What the second picture is at the end of the flow, taken as linear around there.
    fn warp(&mut self, level: &Level) {
        let [u, v] = &level.flow;
        for y in 0..level.height {
            for x in 0..level.width {
                let at = y * level.width + x;
                let place = (x as f32 + u[at], y as f32 + v[at]);
                // Nothing is known of what is outside.
                let taps = Taps::inside(place, level.size());
                let value = |picture: &[f32]| taps.as_ref().map_or(0.0, |taps| taps.of(picture, level.width));
                let (gx, gy) = (value(&self.gradient[0]), value(&self.gradient[1]));
                (self.warped[0][at], self.warped[1][at]) = (gx, gy);
                self.square[at] = gx * gx + gy * gy;
                self.rest[at] = value(&level.to) - gx * u[at] - gy * v[at] - level.from[at];
            }
        }
    }

    /// Row `y`: the flow that makes the pictures alike is sought near the one so far, then tied to its neighbours.
    fn advance(&mut self, level: &mut Level, y: usize) {
        let width = level.width;
        let (row, above) =
            (y * width..(y + 1) * width, y.saturating_sub(1) * width..y.saturating_sub(1) * width + width);
        let (gx, gy) = (&self.warped[0][row.clone()], &self.warped[1][row.clone()]);
        let (square, rest) = (&self.square[row.clone()], &self.rest[row.clone()]);
        let [u, v] = &mut level.flow;
        let (u, v) = (&mut u[row.clone()], &mut v[row.clone()]);
        let dual = |component: usize| {
            let [x, y] = &self.dual[component];
            (&x[row.clone()], &y[row.clone()], &y[above.clone()])
        };
        let ((ux, uy, ua), (vx, vy, va)) = (dual(0), dual(1));
        // Nothing is above the first row.
        let has_above = if y > 0 { 1.0 } else { 0.0 };
        let change = &mut self.change[..width];
        let mut left = (0.0, 0.0);
        for x in 0..width {
            let (u0, v0) = (u[x], v[x]);
            let rho = rest[x] + gx[x] * u0 + gy[x] * v0;
            let limit = LAMBDA * THETA * square[x];
            let step = if rho < -limit {
                LAMBDA * THETA
            } else if rho > limit {
                -LAMBDA * THETA
            } else if square[x] < LEAST_GRADIENT {
                0.0
            } else {
                -rho / square[x]
            };
            let divergence = |x0: f32, left: f32, y0: f32, above: f32| x0 - left + y0 - has_above * above;
            let u1 = u0 + step * gx[x] + THETA * divergence(ux[x], left.0, uy[x], ua[x]);
            let v1 = v0 + step * gy[x] + THETA * divergence(vx[x], left.1, vy[x], va[x]);
            left = (ux[x], vx[x]);
            (u[x], v[x]) = (u1, v1);
            change[x] += (u1 - u0) * (u1 - u0) + (v1 - v0) * (v1 - v0);
        }
    }

    /// Row `y`: the dual variables follow the flow's gradient.
    fn regularise(&mut self, level: &Level, y: usize) {
        let (width, last) = (level.width, y + 1 == level.height);
        let row = y * width..(y + 1) * width;
        let below = if last { row.clone() } else { row.end..row.end + width };
        for (flow, [dual_x, dual_y]) in level.flow.iter().zip(&mut self.dual) {
            let (flow, below) = (&flow[row.clone()], &flow[below.clone()]);
            let (dual_x, dual_y) = (&mut dual_x[row.clone()], &mut dual_y[row.clone()]);
            for x in 0..width {
                let dx = if x + 1 < width { flow[x + 1] - flow[x] } else { 0.0 };
                let dy = below[x] - flow[x];
                let norm = 1.0 + TAU / THETA * (dx * dx + dy * dy).sqrt();
                dual_x[x] = (dual_x[x] + TAU / THETA * dx) / norm;
                dual_y[x] = (dual_y[x] + TAU / THETA * dy) / norm;
            }
        }
    }
}

/// Central differences along x and y; at the ends half of the difference to the neighbour.
fn derive(picture: &[f32], width: usize, [gx, gy]: &mut [Vec<f32>; 2]) {
    let height = picture.len() / width;
    for y in 0..height {
        let (above, below) = (y.saturating_sub(1) * width, (y + 1).min(height - 1) * width);
        for x in 0..width {
            let (at, left, right) = (y * width + x, x.saturating_sub(1), (x + 1).min(width - 1));
            gx[at] = 0.5 * (picture[y * width + right] - picture[y * width + left]);
            gy[at] = 0.5 * (picture[below + x] - picture[above + x]);
        }
    }
}

/// Blurs `picture` in place with a Gaussian of `sigma`, mirrored at the borders.
fn blur(picture: &mut [f32], width: usize, sigma: f32, work: &mut Work) {
    let (height, size) = (picture.len() / width, (5.0 * sigma) as usize + 1);
    let mut kernel: Vec<f32> = (0..size).map(|n| (-((n * n) as f32) / (2.0 * sigma * sigma)).exp()).collect();
    let sum = 2.0 * kernel.iter().sum::<f32>() - kernel[0];
    kernel.iter_mut().for_each(|k| *k /= sum);
    // Before the first element is the second, behind the last one the last again: as published.
    let mirrored = |at: isize, n: usize| {
        let at = if at < 0 { -at } else { at };
        let at = if at >= n as isize { 2 * n as isize - 1 - at } else { at };
        at.clamp(0, n as isize - 1) as usize
    };
    let line = &mut work.line;
    for row in picture.chunks_exact_mut(width) {
        line.clear();
        line.extend((0..width + 2 * size).map(|n| row[mirrored(n as isize - size as isize, width)]));
        for (x, to) in row.iter_mut().enumerate() {
            let at = x + size;
            *to = (1..size).fold(kernel[0] * line[at], |sum, n| sum + kernel[n] * (line[at - n] + line[at + n]));
        }
    }
    let blurred = &mut work.blurred[..picture.len()];
    for (y, to) in blurred.chunks_exact_mut(width).enumerate() {
        let row = |offset: isize| &picture[mirrored(y as isize + offset, height) * width..][..width];
        to.iter_mut().zip(row(0)).for_each(|(to, x)| *to = kernel[0] * x);
        for (n, k) in kernel.iter().enumerate().skip(1) {
            let (above, below) = (row(-(n as isize)), row(n as isize));
            to.iter_mut().zip(above.iter().zip(below)).for_each(|(to, (a, b))| *to += k * (a + b));
        }
    }
    picture.copy_from_slice(blurred);
}

/// Brings `from` to another size, by bicubic interpolation.
fn resample(from: &[f32], (width, height): (usize, usize), to: &mut [f32], (to_width, to_height): (usize, usize)) {
    // Half or twice the size, up to an odd row or column.
    let factor = |from: usize, to: usize| if to < from { 2.0 } else { from as f32 / to as f32 };
    let (fx, fy) = (factor(width, to_width), factor(height, to_height));
    for (y, row) in to.chunks_exact_mut(to_width).enumerate() {
        for (x, to) in row.iter_mut().enumerate() {
            *to = Taps::clamped((x as f32 * fx, y as f32 * fy), (width, height)).of(from, width);
        }
    }
}

/// Sixteen pixels around a place, and where between them it is.
struct Taps {
    columns: [usize; 4],
    rows: [usize; 4],
    between: (f32, f32),
}

impl Taps {
    /// Those outside of the picture are the nearest of it.
    fn clamped((x, y): (f32, f32), (width, height): (usize, usize)) -> Self {
        let around = |at: f32, n: usize| {
            let first = at as usize;
            [first.saturating_sub(1), first, first + 1, first + 2].map(|at| at.min(n - 1))
        };
        let (columns, rows) = (around(x, width), around(y, height));
        Self { columns, rows, between: (x - columns[1] as f32, y - rows[1] as f32) }
    }

    /// `None` if one is outside.
    fn inside((x, y): (f32, f32), (width, height): (usize, usize)) -> Option<Self> {
        let fits = |at: f32, n: usize| at >= 1.0 && at < n as f32 && at as usize + 2 < n;
        (fits(x, width) && fits(y, height)).then(|| Self::clamped((x, y), (width, height)))
    }

    fn of(&self, picture: &[f32], width: usize) -> f32 {
        let row = |y: usize| cubic(self.columns.map(|x| picture[y * width + x]), self.between.0);
        cubic(self.rows.map(row), self.between.1)
    }
}

/// Catmull and Rom's cubic through four values, at `x` from the second to the third.
fn cubic([a, b, c, d]: [f32; 4], x: f32) -> f32 {
    b + 0.5 * x * (c - a + x * (2.0 * a - 5.0 * b + 4.0 * c - d + x * (3.0 * (b - c) + d - a)))
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
