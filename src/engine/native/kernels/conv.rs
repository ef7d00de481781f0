//! A convolution prepared for a set of kernels: its weights packed as they read them, its geometry resolved to offsets.

use std::ops::Range;

use super::super::aligned::{Aligned, Plain};
use super::super::frames::{Frames, Layout, Ring, SLACK};
use super::super::pool::Pool;
use super::Kernels;
use super::lanes::Arithmetic;
use super::tile::{Kernel, Steps, Task};
use crate::{Error, ErrorKind, Result};

/// The most runs of elements that an output sums over: 7 x 7 rows of a kernel of 7 x 7 x 7.
const MAX_TAPS: usize = 64;
/// Bytes of weights that a core's second cache keeps beside a frame.
const WEIGHTS_IN_CACHE: usize = 256 << 10;
/// Output rows that a thread takes at a time, at least.
const ROWS: usize = 8;

/// Which inputs an output of a convolution sees, over T, H, W: a cross-correlation, as ONNX has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extents {
    /// Of the kernel.
    pub kernel: [usize; 3],
    /// From one output to the next.
    pub stride: [usize; 3],
    /// From one of the kernel's elements to the next.
    pub dilation: [usize; 3],
    /// Padding before and after.
    pub pad: [(usize, usize); 3],
}

impl Extents {
    /// Frames of the input that lie in the kernel's reach over T.
    pub fn frames(&self) -> usize {
        self.dilation[0] * (self.kernel[0] - 1) + 1
    }
}

/// A convolution's extents and the frames between which it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Which inputs an output sees.
    pub extents: Extents,
    /// A frame that is read; its border is at least the padding.
    pub input: Layout,
    /// A frame that is written.
    pub output: Layout,
}

/// How an instruction set computes an arithmetic.
pub(super) struct Table<A: Arithmetic> {
    /// Output channels in a vector.
    pub lanes: usize,
    /// Groups that are multiplied for a run of so many: no fewer.
    pub groups: fn(usize) -> usize,
    /// The most positions in a tile of one and of two vectors.
    pub positions: [usize; 2],
    /// The kernel for tiles of so many positions and vectors.
    pub kernel: fn(usize, usize) -> Option<Kernel<A>>,
}

/// Arithmetic for which every set of kernels has a table.
pub(super) trait Tabled: Arithmetic {
    fn table(kernels: Kernels) -> Table<Self>;
}

struct Tile<A: Arithmetic> {
    channel: usize,
    valid: usize,
    weights: usize,
    kernel: Kernel<A>,
}

/// A convolution, ready to run.
pub struct Conv<A: Arithmetic> {
    geometry: Geometry,
    /// Which of the kernel's frames, and the first element in it.
    taps: Vec<(usize, usize)>,
    groups: usize,
    tiles: Vec<Tile<A>>,
    weights: Aligned<A::Weight>,
    begin: Aligned<A::Sum>,
    finish: A::Finish,
}

impl<A: Arithmetic> Conv<A> {
    /// Packs `weights`, `[channels, C, kT, kH, kW]`, for `kernels`. `begin` is what the sums begin with, the bias without
    /// the input's zero point; `finish` how they end.
    ///
    /// # Errors
    /// `Engine` when the kernels cannot do it: see the reason.
    #[expect(private_bounds, reason = "there are two kinds of arithmetic, both here")]
    pub fn new(
        kernels: Kernels,
        geometry: Geometry,
        weights: &[A::Weight],
        begin: &[A::Sum],
        finish: A::Finish,
    ) -> Result<Self>
    where
        A: Tabled,
    {
        let refuse = |why: String| Err(Error::new(ErrorKind::Engine, format_args!("kernels {kernels}: {why}")));
        kernels.require()?;
        let Geometry { extents: Extents { kernel, dilation, pad, .. }, input, output } = geometry;
        let per_output = kernel.iter().product::<usize>() * input.channels;
        let fits = weights.len() == per_output * output.channels && begin.len() == output.channels;
        if !fits || per_output * output.volume() == 0 {
            return refuse(format!("{geometry:?} does not fit {} weights, {} biases", weights.len(), begin.len()));
        }
        let border = input.border;
        if border.top < pad[1].0 || border.left < pad[2].0 {
            return refuse(format!("the border {border:?} is too small for {pad:?}"));
        }
        // A row of the kernel is one run of elements if nothing lies between its columns.
        let whole_rows = dilation[2] == 1;
        let (columns, run) = if whole_rows { (1, kernel[2] * input.channels) } else { (kernel[2], input.channels) };
        let mut taps = Vec::new();
        for t in 0..kernel[0] {
            for i in 0..kernel[1] {
                for j in 0..columns {
                    let row = border.top - pad[1].0 + i * dilation[1];
                    let column = border.left - pad[2].0 + j * dilation[2];
                    taps.push((t, row * input.row() + column * input.channels));
                }
            }
        }
        if taps.len() > MAX_TAPS {
            return refuse(format!("a kernel of {kernel:?} with dilation {dilation:?} is too large"));
        }
        let table = A::table(kernels);
        let groups = (table.groups)(run.div_ceil(A::GROUP));
        // Weights behind a run are zeros; what they are multiplied with must only be memory.
        if groups * A::GROUP - run > SLACK {
            return refuse(format!("{} input channels are too many", input.channels));
        }
        let vectors = output.channels.div_ceil(table.lanes);
        let per_vector = taps.len() * groups * table.lanes * A::GROUP;
        let mut packed = Aligned::zeros(per_vector * vectors);
        let mut tiles = Vec::new();
        let mut vector = 0;
        while vector < vectors {
            let side = (vectors - vector).min(2);
            let (channel, start) = (vector * table.lanes, vector * per_vector);
            let most = table.positions[side - 1];
            let positions = output.width.div_ceil(output.width.div_ceil(most));
            let Some(function) = (table.kernel)(positions, side) else {
                return refuse(format!("no tile of {positions} by {side}"));
            };
            let valid = (output.channels - channel).min(side * table.lanes);
            let lanes = side * table.lanes;
            for (n, value) in packed[start..start + side * per_vector].iter_mut().enumerate() {
                let (rest, inner) = (n / A::GROUP, n % A::GROUP);
                let (rest, lane) = (rest / lanes, rest % lanes);
                let (tap, group) = (rest / groups, rest % groups);
                let element = group * A::GROUP + inner;
                if lane >= valid || element >= run {
                    continue;
                }
                let (t, i) = (tap / columns / kernel[1], tap / columns % kernel[1]);
                let (j, c) = (tap % columns + element / input.channels, element % input.channels);
                let at = (channel + lane) * input.channels + c;
                *value = weights[((at * kernel[0] + t) * kernel[1] + i) * kernel[2] + j];
            }
            tiles.push(Tile { channel, valid, weights: start, kernel: function });
            vector += side;
        }
        let mut padded = Aligned::zeros(vectors * table.lanes);
        padded[..begin.len()].copy_from_slice(begin);
        let finish = A::padded(finish, padded.len());
        Ok(Self { geometry, taps, groups, tiles, weights: packed, begin: padded, finish })
    }

    /// The geometry.
    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Bytes of packed weights.
    pub(super) fn weight_bytes(&self) -> usize {
        size_of_val(&self.weights[..])
    }

    /// The last element that `rows` rows of an output frame read, counted from their frame's first.
    fn reach(&self, rows: usize) -> usize {
        let Geometry { extents: Extents { stride, .. }, input, output } = &self.geometry;
        let far = self.taps.iter().map(|(_, offset)| offset).max().copied().unwrap_or(0);
        let last = (rows - 1) * stride[1] * input.row() + (output.width - 1) * stride[2] * input.channels;
        far + last + self.groups * A::GROUP
    }

    /// Computes the frames `wanted` of `output` from `input`, of which there are `count` frames so far; frames before the
    /// first and after the last are padding. A residual of the output's shape is added.
    ///
    /// # Panics
    /// If the values are not laid out as the geometry says: a defect of the plan.
    pub fn run(
        &self,
        pool: &Pool,
        (input, count): (&Frames<A::Element>, usize),
        residual: Option<&Frames<A::Element>>,
        output: &mut Frames<A::Element>,
        wanted: Range<usize>,
    ) {
        let height = self.geometry.output.height;
        self.check_input(input, self.geometry.input, height);
        self.check_output(residual, output);
        let bound = Bound {
            conv: self,
            input: View::of(input),
            count,
            residual: residual.map(View::of),
            output: View::of_mut(output),
        };
        let blocks = if pool.threads() == 1 { 1 } else { height.div_ceil(ROWS) };
        let rows = height.div_ceil(blocks);
        // What is used most often stays in the cache: all weights if they fit while a frame is computed, else those of a tile
        // of channels while it is computed for all frames.
        let (tiles, places) = (self.tiles.len(), wanted.len() * blocks);
        let by_place = self.weight_bytes() <= WEIGHTS_IN_CACHE;
        pool.run(tiles * places, &|item| {
            let (tile, place) = if by_place { (item % tiles, item / tiles) } else { (item / places, item % places) };
            let (t, block) = (wanted.start + place / blocks, place % blocks);
            // SAFETY: the frames are laid out as they should be; rows and channels of the output belong to this item alone.
            unsafe { bound.tile(&self.tiles[tile], t, (block * rows).min(height)..((block + 1) * rows).min(height)) };
        });
    }

    /// Panics if `input` is not laid out as said, or `rows` rows of the output would be computed from more than it.
    pub(super) fn check_input(&self, input: &Frames<A::Element>, layout: Layout, rows: usize) {
        assert!(input.layout == layout, "an input's layout is that of the plan");
        assert!(input.last() + self.reach(rows) <= input.data().len(), "a kernel stays inside of its input");
    }

    /// Panics if what is written, and what is added to it, are not laid out as the geometry says.
    pub(super) fn check_output(&self, residual: Option<&Frames<A::Element>>, output: &Frames<A::Element>) {
        let to = self.geometry.output;
        assert!(output.layout == to, "an output's layout is that of the plan");
        let same = |a: Layout| (a.height, a.width, a.channels) == (to.height, to.width, to.channels);
        assert!(residual.is_none_or(|other| same(other.layout)), "a residual has the output's shape");
    }
}

/// The frames of a value as kernels see them, which know no owners.
#[derive(Clone, Copy)]
pub(super) struct View<T> {
    data: *mut T,
    ring: Ring,
    origin: usize,
    steps: Steps,
}
// SAFETY: whoever reads or writes there says that it is its own: see `Bound`.
unsafe impl<T> Sync for View<T> {}

impl<T: Plain> View<T> {
    /// Frames to read.
    pub fn of(frames: &Frames<T>) -> Self {
        Self::new(frames.data().as_ptr().cast_mut(), frames)
    }

    /// Frames to read and write.
    pub fn of_mut(frames: &mut Frames<T>) -> Self {
        Self::new(frames.data_mut().as_mut_ptr(), frames)
    }

    fn new(data: *mut T, frames: &Frames<T>) -> Self {
        let layout = frames.layout;
        let steps = Steps { row: layout.row(), column: layout.channels };
        Self { data, ring: frames.ring(), origin: layout.origin(), steps }
    }

    /// The same memory, taken for frames of which it holds the rows from number `row` on.
    pub fn with_first_row(self, row: usize) -> Self {
        Self { data: self.data.wrapping_sub(row * self.steps.row), ..self }
    }

    /// The first element of channel `channel` in frame `t`, which there is.
    fn place(&self, t: usize, channel: usize) -> *mut T {
        self.data.wrapping_add(self.ring.at(t as isize, t + 1) + self.origin + channel)
    }
}

/// A convolution and the frames that it reads and writes.
pub(super) struct Bound<'a, A: Arithmetic> {
    pub conv: &'a Conv<A>,
    pub input: View<A::Element>,
    /// Frames that there are of the input; all others are padding.
    pub count: usize,
    pub residual: Option<View<A::Element>>,
    pub output: View<A::Element>,
}

impl<A: Arithmetic> Bound<'_, A> {
    /// Computes `rows` of frame `t`, all channels.
    ///
    /// # Safety
    /// As for [`Self::tile`].
    pub unsafe fn frame(&self, t: usize, rows: &Range<usize>) {
        for tile in &self.conv.tiles {
            // SAFETY: the caller's.
            unsafe { self.tile(tile, t, rows.clone()) };
        }
    }

    /// Computes `rows` of frame `t`, the channels of `tile`.
    ///
    /// # Safety
    /// The views are laid out as the convolution's geometry says, so far as `rows` reaches; nothing else reads or writes these
    /// rows and channels of the output meanwhile, or writes what they are computed from.
    unsafe fn tile(&self, tile: &Tile<A>, t: usize, rows: Range<usize>) {
        let conv = self.conv;
        let Extents { stride, dilation, pad, .. } = conv.geometry.extents;
        let first = (t * stride[0]) as isize - pad[0].0 as isize;
        let mut taps = [self.input.data.cast_const(); MAX_TAPS];
        for (tap, (n, offset)) in taps.iter_mut().zip(&conv.taps) {
            *tap = tap.wrapping_add(self.input.ring.at(first + (n * dilation[0]) as isize, self.count) + offset);
        }
        let (residual, other) = match &self.residual {
            Some(other) => (other.place(t, tile.channel).cast_const(), other.steps),
            None => (std::ptr::null(), Steps::default()),
        };
        let Steps { row, column } = self.input.steps;
        let task = Task {
            taps: &taps[..conv.taps.len()],
            groups: conv.groups,
            weights: conv.weights[tile.weights..].as_ptr(),
            begin: conv.begin[tile.channel..].as_ptr(),
            finish: &conv.finish,
            channel: tile.channel,
            valid: tile.valid,
            rows,
            width: conv.geometry.output.width,
            input: Steps { row: stride[1] * row, column: stride[2] * column },
            to: self.output.place(t, tile.channel),
            output: self.output.steps,
            residual,
            other,
        };
        // SAFETY: the kernel is one of a set that this processor runs (`Conv::new`). It reads what `reach` covers of the input,
        // weights packed for it and a residual of the output's shape; the rest is the caller's.
        unsafe { (tile.kernel)(&task) };
    }
}
