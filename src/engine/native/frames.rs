//! Where values lie: frames of channels-last pixels with a border, in a ring.

use super::aligned::{Aligned, Plain};

/// Pixels around a frame: the padding that convolutions on it want, so that they need no special case at its edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Border {
    pub top: usize,
    pub bottom: usize,
    pub left: usize,
    pub right: usize,
}

impl Border {
    /// The least border that holds both.
    pub fn union(self, other: Self) -> Self {
        Self {
            top: self.top.max(other.top),
            bottom: self.bottom.max(other.bottom),
            left: self.left.max(other.left),
            right: self.right.max(other.right),
        }
    }
}

/// The most elements of a value, with its border, in all frames of its ring; and of all values in memory together.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// How one frame lies in memory: `[top + H + bottom, left + W + right, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Layout {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub border: Border,
}

impl Layout {
    /// Elements from one row to the next.
    pub fn row(&self) -> usize {
        (self.border.left + self.width + self.border.right) * self.channels
    }

    /// Elements of a frame.
    pub fn len(&self) -> usize {
        (self.border.top + self.height + self.border.bottom) * self.row()
    }

    /// Whether `slots` frames are small enough to be kept in memory: a model may ask for any padding.
    pub fn fits(&self, slots: usize) -> bool {
        let Border { top, bottom, left, right } = self.border;
        let sides = [[top, self.height, bottom], [left, self.width, right]];
        let mut size = self.channels.checked_mul(slots + 1);
        for side in sides {
            let side = side.into_iter().try_fold(0_usize, usize::checked_add);
            size = size.zip(side).and_then(|(size, side)| size.checked_mul(side));
        }
        size.is_some_and(|size| size <= MAX_ELEMENTS)
    }

    /// The first element inside of the border.
    pub fn origin(&self) -> usize {
        self.border.top * self.row() + self.border.left * self.channels
    }

    /// Elements inside of the border.
    pub fn volume(&self) -> usize {
        self.height * self.width * self.channels
    }
}

/// No frames, as a place holder.
impl<T: Plain> Default for Frames<T> {
    fn default() -> Self {
        Self { layout: Layout::default(), slots: 1, stride: 0, data: Aligned::zeros(0) }
    }
}

/// Where the frames of a ring lie.
#[derive(Debug, Clone, Copy)]
pub struct Ring {
    slots: usize,
    stride: usize,
}

impl Ring {
    /// Index of frame `t`'s first element; the frame of padding if `t` lies outside of `0..count`, `count` being the
    /// frames there have been.
    pub fn at(self, t: isize, count: usize) -> usize {
        match usize::try_from(t) {
            Ok(t) if t < count => t % self.slots * self.stride,
            _ => self.slots * self.stride,
        }
    }
}

/// Elements behind the last frame that a kernel may read: it takes channels in groups, and those in tiles.
pub const SLACK: usize = 1024;

/// The frames of a value: a ring of `slots`, and one frame that is all padding. Borders are written once, here.
#[derive(Clone)]
pub struct Frames<T> {
    pub layout: Layout,
    slots: usize,
    stride: usize,
    data: Aligned<T>,
}

impl<T: Plain> Frames<T> {
    /// A ring of `slots` frames, all `padding`.
    pub fn new(layout: Layout, slots: usize, padding: T) -> Self {
        let line = 64 / size_of::<T>();
        let stride = layout.len().next_multiple_of(line);
        let mut data = Aligned::zeros(stride * (slots + 1) + SLACK);
        data.fill(padding);
        Self { layout, slots, stride, data }
    }

    /// Frames in the ring.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Where frames lie.
    pub fn ring(&self) -> Ring {
        Ring { slots: self.slots, stride: self.stride }
    }

    /// Index of the first element of frame `t` inside of its border.
    pub fn frame(&self, t: usize) -> usize {
        t % self.slots * self.stride + self.layout.origin()
    }

    /// Index of the first element of the frame before `t` inside of its border; that of padding before the first.
    pub fn frame_before(&self, t: usize) -> usize {
        t.checked_sub(1).map_or(self.last() + self.layout.origin(), |before| self.frame(before))
    }

    /// Where the last frame, that of padding, begins.
    pub fn last(&self) -> usize {
        self.slots * self.stride
    }

    /// All elements.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// All elements, to write.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The rows of frame `t` without the border, each `W * C` long.
    pub fn rows(&self, t: usize) -> impl Iterator<Item = &[T]> {
        let (layout, start) = (self.layout, self.frame(t));
        (0..layout.height).map(move |y| &self.data[start + y * layout.row()..][..layout.width * layout.channels])
    }

    /// The same, to write.
    pub fn rows_mut(&mut self, t: usize) -> impl Iterator<Item = &mut [T]> {
        let (layout, start) = (self.layout, self.frame(t));
        let rows = self.data[start..].chunks_mut(layout.row().max(1)).take(layout.height);
        rows.map(move |row| &mut row[..layout.width * layout.channels])
    }
}
