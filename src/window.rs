//! The sliding window over prepared planes.
//!
//! Words used throughout: a *frame* is a picture of the source; a *plane* is what the model sees of a sampled frame,
//! `[C, H, W]`; a *window* is the last T planes; a *clip* is a window as a tensor `[1, C, T, H, W]`; the *hop* is the
//! number of planes from one decision to the next; a *stride* is a step inside a network.

use ndarray::{Array5, ArrayView5, Axis};

use crate::model::manifest::Input;

/// A ring of the last T planes. Allocates once, when it is made.
#[derive(Debug, Clone)]
pub struct Window {
    shape: [usize; 3],
    planes: Vec<f32>,
    frames: usize,
    next: usize,
    held: usize,
    /// Planes since the last decision; `None` before the first.
    since: Option<usize>,
    clip: Array5<f32>,
    /// Of each channel that says what changed: the value where nothing did.
    still: Vec<Option<f32>>,
}

impl Window {
    /// An empty window for a model's `input`.
    pub fn new(input: &Input) -> Self {
        let shape = [input.colour.channels(), input.height, input.width];
        let len: usize = shape.iter().product();
        Self {
            shape,
            planes: vec![0.0; len * input.frames],
            frames: input.frames,
            next: 0,
            held: 0,
            since: None,
            clip: Array5::zeros([1, shape[0], input.frames, shape[1], shape[2]]),
            still: (input.mean.iter().zip(&input.std).enumerate())
                .map(|(channel, (mean, std))| input.colour.is_change(channel).then_some(-mean / std))
                .collect(),
        }
    }

    fn plane_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Planes in a full window, T.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Empties the window.
    pub fn reset(&mut self) {
        (self.next, self.held, self.since) = (0, 0, None);
    }

    /// How full it is, 0 to 1.
    pub fn filled(&self) -> f32 {
        self.held as f32 / self.frames as f32
    }

    /// Adds the newest plane; the oldest leaves a full window. Values beyond `C * H * W` are ignored, missing ones stay
    /// as they were.
    pub fn push(&mut self, plane: &[f32]) {
        let len = self.plane_len();
        let slot = &mut self.planes[self.next * len..(self.next + 1) * len];
        slot.iter_mut().zip(plane).for_each(|(slot, x)| *slot = *x);
        self.advance();
    }

    /// The newest plane, `[C, H, W]`.
    pub fn newest(&self) -> &[f32] {
        let len = self.plane_len();
        &self.planes[(self.next + self.frames - 1) % self.frames * len..][..len]
    }

    /// Adds the newest frame once more, for a moment that had no frame: its plane again, still in the channels that say what
    /// changed.
    pub fn repeat(&mut self) {
        let len = self.plane_len();
        let last = (self.next + self.frames - 1) % self.frames * len;
        self.planes.copy_within(last..last + len, self.next * len);
        let slot = &mut self.planes[self.next * len..(self.next + 1) * len];
        for (channel, still) in slot.chunks_exact_mut(len / self.shape[0]).zip(&self.still) {
            still.iter().for_each(|value| channel.fill(*value));
        }
        self.advance();
    }

    fn advance(&mut self) {
        self.next = (self.next + 1) % self.frames;
        self.held = (self.held + 1).min(self.frames);
        self.since = self.since.map(|n| n + 1);
    }

    /// Whether a decision is due: the window is full, and `hop` planes came since the last one if there was one.
    pub fn due(&self, hop: usize) -> bool {
        self.held == self.frames && self.since.is_none_or(|planes| planes >= hop)
    }

    /// Notes a decision: the next is due a hop later.
    pub fn decided(&mut self) {
        self.since = Some(0);
    }

    /// The window as a clip `[1, C, T, H, W]`, oldest plane first; the next decision is due a hop later.
    pub fn clip(&mut self) -> ArrayView5<'_, f32> {
        self.decided();
        let len = self.plane_len();
        let pixels = self.shape[1] * self.shape[2];
        for t in 0..self.frames {
            let plane = &self.planes[(self.next + t) % self.frames * len..][..len];
            for (c, from) in plane.chunks_exact(pixels).enumerate() {
                let mut to = self.clip.index_axis_mut(Axis(0), 0);
                let mut to = to.index_axis_mut(Axis(0), c);
                let mut to = to.index_axis_mut(Axis(0), t);
                to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
        }
        self.clip.view()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest::{Colour, Resize};

    fn window(frames: usize) -> Window {
        window_of(frames, Colour::Rgb)
    }

    fn window_of(frames: usize, colour: Colour) -> Window {
        Window::new(&Input {
            frames,
            height: 2,
            width: 3,
            colour,
            frame_rate: 10.0,
            resize: Resize::Crop,
            mean: vec![0.5; colour.channels()],
            std: vec![0.25; colour.channels()],
        })
    }

    fn plane(n: usize) -> Vec<f32> {
        (0..18).map(|i| (n * 100 + i) as f32).collect()
    }

    #[test]
    fn planes_come_out_in_order_with_channels_first() {
        let mut window = window(4);
        for n in 0..11 {
            window.push(&plane(n));
        }
        let clip = window.clip();
        assert_eq!(clip.dim(), (1, 3, 4, 2, 3));
        for ((_, c, t, y, x), value) in clip.indexed_iter() {
            assert_eq!(*value, ((7 + t) * 100 + c * 6 + y * 3 + x) as f32);
        }
    }

    #[test]
    fn nothing_is_due_before_it_is_full_and_then_every_hop() {
        let mut window = window(4);
        let mut due_at = Vec::new();
        for n in 0..12 {
            window.push(&plane(n));
            if window.due(3) {
                due_at.push(n);
                window.clip();
            }
        }
        assert_eq!(due_at, [3, 6, 9]);
        window.reset();
        assert_eq!(window.filled(), 0.0);
        for n in 0..3 {
            window.push(&plane(n));
            assert!(!window.due(1));
        }
        window.push(&plane(3));
        assert!(window.due(1) && window.filled() == 1.0);
    }

    #[test]
    fn a_hop_may_be_longer_than_the_window() {
        let mut window = window(2);
        let mut due_at = Vec::new();
        for n in 0..10 {
            window.push(&plane(n));
            if window.due(4) {
                due_at.push(n);
                window.clip();
            }
        }
        assert_eq!(due_at, [1, 5, 9]);
    }

    #[test]
    fn a_repeated_frame_is_the_same_picture_and_no_motion() {
        for (colour, want) in [(Colour::Rgb, plane(3)), (Colour::Motion, vec![-2.0; 18])] {
            let mut window = window_of(3, colour);
            window.push(&plane(2));
            window.push(&plane(3));
            window.repeat();
            let clip = window.clip();
            let newest: Vec<f32> = clip.index_axis(Axis(2), 2).iter().copied().collect();
            assert_eq!(newest, want);
            let before: Vec<f32> = clip.index_axis(Axis(2), 1).iter().copied().collect();
            assert_eq!(before, plane(3));
        }
        // Of two streams the picture stays, its motion does not.
        let mut window = window_of(3, Colour::RgbFlow);
        let both: Vec<f32> = (0..30).map(|i| i as f32).collect();
        window.push(&both);
        window.repeat();
        assert_eq!(window.newest(), [&both[..18], &[-2.0; 12]].concat());
    }
}
