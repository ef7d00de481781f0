//! Scaling of RGB8 pictures. The one place that instantiates the SIMD crate's generic code, which is slow to compile.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions};

use crate::{Error, ErrorKind, Result};

/// Width and height in pixels.
pub type Size = (u32, u32);

/// Scales pictures, keeping its tables and buffers between calls.
#[derive(Debug, Default)]
pub struct Resizer(fast_image_resize::Resizer);

impl Resizer {
    /// Scales the part of `source` that begins at (`left`, `top`) and is `width` x `height` pixels large, all in
    /// fractions of pixels, to fill `target`. Bilinear with the kernel widened when shrinking: it averages, it does
    /// not alias. `cut` is `[left, top, width, height]`; none: the whole picture.
    ///
    /// # Errors
    /// `Internal` when a buffer does not have `width * height * 3` bytes or the part is not inside the picture.
    pub fn scale(
        &mut self,
        (source_size, source): (Size, &[u8]),
        cut: Option<[f64; 4]>,
        (target_size, target): (Size, &mut [u8]),
    ) -> Result<()> {
        let internal = |why: &dyn std::fmt::Display| Error::new(ErrorKind::Internal, format_args!("scaling: {why}"));
        let source = TypedImageRef::<U8x3>::from_buffer(source_size.0, source_size.1, source);
        let target = TypedImage::<U8x3>::from_buffer(target_size.0, target_size.1, target);
        let (source, mut target) = (source.map_err(|e| internal(&e))?, target.map_err(|e| internal(&e))?);
        let mut options =
            ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        if let Some([left, top, width, height]) = cut {
            options = options.crop(left, top, width, height);
        }
        self.0.resize_typed(&source, &mut target, &options).map_err(|e| internal(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cut_and_scaled() -> Result<()> {
        // Left half dark, right half light.
        let source: Vec<u8> = (0..8 * 4).flat_map(|i| [if i % 8 < 4 { 10 } else { 200 }; 3]).collect();
        let mut target = vec![0; 5 * 7 * 3];
        let mut resizer = Resizer::default();
        resizer.scale(((8, 4), &source), Some([5.0, 0.0, 3.0, 4.0]), ((5, 7), &mut target))?;
        assert!(target.iter().all(|v| *v == 200));
        resizer.scale(((8, 4), &source), None, ((5, 7), &mut target))?;
        assert_eq!((target[0], target[5 * 3 - 1]), (10, 200));
        Ok(())
    }

    #[test]
    fn wrong_buffers_and_parts_are_refused() {
        let mut resizer = Resizer::default();
        assert!(resizer.scale(((8, 4), &[0; 10]), None, ((2, 2), &mut [0; 12])).is_err());
        assert!(resizer.scale(((2, 2), &[0; 12]), None, ((8, 4), &mut [0; 12])).is_err());
        assert!(resizer.scale(((2, 2), &[0; 12]), Some([1.0, 1.0, 2.0, 2.0]), ((1, 1), &mut [0; 3])).is_err());
    }
}
