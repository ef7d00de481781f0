//! Pictures of the display, and what they must show.

use std::path::Path;

use image::RgbImage;
use kinora::frame::Frame;
use kinora::overlay::{Activity, Overlay, Score, Status};

/// Reads what QEMU's `screendump` writes: a binary PPM of 8 bits.
pub fn read_ppm(path: &Path) -> RgbImage {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("no picture {}: {e}", path.display()));
    let mut rest = bytes.as_slice();
    let mut word = || {
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap();
        let word = std::str::from_utf8(&rest[..end]).unwrap().to_owned();
        rest = &rest[end + 1..];
        word
    };
    assert_eq!(word(), "P6");
    let (width, height): (u32, u32) = (word().parse().unwrap(), word().parse().unwrap());
    assert_eq!(word(), "255");
    RgbImage::from_raw(width, height, rest.to_vec()).unwrap()
}

/// The middle of the screen, where a picture of `size` is that need not be scaled; the rest must be black.
pub fn middle(screen: &RgbImage, (width, height): (u32, u32)) -> RgbImage {
    let (left, top) = ((screen.width() - width) / 2, (screen.height() - height) / 2);
    let inside = |x: u32, y: u32| (left..left + width).contains(&x) && (top..top + height).contains(&y);
    let lit = screen.enumerate_pixels().find(|(x, y, pixel)| !inside(*x, *y) && pixel.0 != [0; 3]);
    assert!(lit.is_none(), "the border is not black: {lit:?}");
    image::imageops::crop_imm(screen, left, top, width, height).to_image()
}

/// `frame` as a screen of `size` shows it: scaled to fit, centred, black around it.
pub fn on_screen(frame: &Frame, (width, height): (u32, u32)) -> RgbImage {
    let scale = (f64::from(width) / f64::from(frame.width())).min(f64::from(height) / f64::from(frame.height()));
    let scaled = |length: u32| (f64::from(length) * scale).round() as u32;
    let (w, h) = (scaled(frame.width()), scaled(frame.height()));
    let mut pixels = vec![0; w as usize * h as usize * 3];
    if (w, h) == (frame.width(), frame.height()) {
        pixels.copy_from_slice(frame.data());
    } else {
        let source = ((frame.width(), frame.height()), frame.data());
        kinora::resize::Resizer::default().scale(source, None, ((w, h), &mut pixels)).unwrap();
    }
    let mut screen = RgbImage::new(width, height);
    let picture = RgbImage::from_raw(w, h, pixels).unwrap();
    image::imageops::replace(&mut screen, &picture, i64::from((width - w) / 2), i64::from((height - h) / 2));
    screen
}

/// The overlay that shows `label`, on pictures of `grey`; everything in it but label and panel is left to chance.
fn overlay(label: &str, grey: u8, (width, height): (u32, u32)) -> Frame {
    let mut frame = Frame::new(width, height);
    frame.data_mut().fill(grey);
    let actions = [Score { label, confidence: 1.0 }];
    let candidates = [Score { label: "first", confidence: 0.0 }, Score { label: "second", confidence: 0.0 }];
    let status = Status { activity: Activity::Actions(&actions), candidates: &candidates, ..Status::default() };
    let Ok(()) = Overlay::new(width, height).unwrap().draw(&mut frame, &status);
    frame
}

/// Which pixels lie outside of the overlay: those that show what was there before.
pub fn outside(size: (u32, u32)) -> Vec<bool> {
    let (dark, light) = (overlay("white", 1, size), overlay("white", 254, size));
    let pixels = dark.data().chunks_exact(3).zip(light.data().chunks_exact(3));
    let outside: Vec<bool> = pixels.map(|(dark, light)| dark == [1; 3] && light == [254; 3]).collect();
    let count = outside.iter().filter(|outside| **outside).count();
    assert!(count * 10 > outside.len() * 7, "most of the picture can be checked");
    outside
}

/// Which of `labels` the screen names: the one whose text stands exactly where the overlay draws it.
pub fn label<'a>(screen: &RgbImage, labels: &[&'a str]) -> Option<&'a str> {
    let size = screen.dimensions();
    let blank = overlay("", 0, size);
    // The place of a label is where any label differs from none.
    let drawn: Vec<Frame> = labels.iter().map(|label| overlay(label, 0, size)).collect();
    let pixel = |frame: &Frame, n: usize| -> [u8; 3] { frame.data()[n * 3..n * 3 + 3].try_into().unwrap() };
    let place: Vec<usize> = (0..(size.0 * size.1) as usize)
        .filter(|&n| drawn.iter().any(|frame| pixel(frame, n) != pixel(&blank, n)))
        .collect();
    let shown = |n: usize| -> [u8; 3] { screen.as_raw()[n * 3..n * 3 + 3].try_into().unwrap() };
    let right = |frame: &Frame| place.iter().filter(|&&n| shown(n) == pixel(frame, n)).count();
    let best = (0..labels.len()).max_by_key(|&n| right(&drawn[n]))?;
    println!("label {}: {} of {} pixels", labels[best], right(&drawn[best]), place.len());
    (right(&drawn[best]) == place.len()).then_some(labels[best])
}

/// How far a screen is from a picture, over the pixels that count: the share of those that differ by more than
/// `tolerance` in a channel, and the largest difference.
pub fn difference(screen: &RgbImage, picture: &[u8], counts: &[bool], tolerance: u8) -> (f64, u8) {
    let (mut far, mut all, mut largest) = (0_u64, 0_u64, 0);
    let pixels = screen.as_raw().chunks_exact(3).zip(picture.chunks_exact(3)).zip(counts);
    for ((shown, wanted), _) in pixels.filter(|(_, counts)| **counts) {
        let off = shown.iter().zip(wanted).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
        all += 1;
        far += u64::from(off > tolerance);
        largest = largest.max(off);
    }
    (far as f64 / all as f64, largest)
}

/// The picture of `clip` that the screen shows outside of the overlay: its number, and the difference to it.
pub fn nearest(screen: &RgbImage, clip: &[Vec<u8>], tolerance: u8) -> (usize, f64, u8) {
    let counts = outside(screen.dimensions());
    let differences = clip.iter().enumerate().map(|(n, picture)| {
        let (share, largest) = difference(screen, picture, &counts, tolerance);
        (n, share, largest)
    });
    differences.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}
