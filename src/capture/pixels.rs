//! What cameras deliver, brought to RGB8. Conversions are those of the crates `yuv` and `zune-jpeg` (SIMD); here it is
//! made sure that a buffer holds what its format says. Only JPEG allocates.

use yuv::{YuvBiPlanarImage, YuvConversionMode, YuvPackedImage, YuvPlanarImage, YuvRange, YuvStandardMatrix};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::frame::Frame;

/// How the pixels of a picture lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Packed 4:2:2, `Y0 U Y1 V`.
    Yuyv,
    /// Packed 4:2:2, `U Y0 V Y1`.
    Uyvy,
    /// 4:2:0, a plane of Y, a plane of `U V` pairs.
    Nv12,
    /// 4:2:0, planes of Y, U and V.
    I420,
    /// Brightness only.
    Grey,
    /// A JPEG picture each.
    Mjpg,
}

impl Coding {
    /// What a camera may deliver, in the order of choice: those that cost half a millisecond or less at 1280x720, the one
    /// with the most colour first, then JPEG, which costs ten times as much. Grey is last: it lacks the colours.
    pub const OF_CAMERAS: [Self; 6] = [Self::Yuyv, Self::Nv12, Self::I420, Self::Uyvy, Self::Mjpg, Self::Grey];

    /// Its four-character code in V4L2.
    pub fn fourcc(self) -> [u8; 4] {
        *match self {
            Self::Yuyv => b"YUYV",
            Self::Uyvy => b"UYVY",
            Self::Nv12 => b"NV12",
            Self::I420 => b"YU12",
            Self::Grey => b"GREY",
            Self::Mjpg => b"MJPG",
        }
    }

    /// The format of a four-character code. `JPEG` is what some drivers call `MJPG`.
    pub fn of_fourcc(code: [u8; 4]) -> Option<Self> {
        if code == *b"JPEG" {
            return Some(Self::Mjpg);
        }
        Self::OF_CAMERAS.into_iter().find(|coding| coding.fourcc() == code)
    }
}

impl std::fmt::Display for Coding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.fourcc()))
    }
}

/// A picture's size and form in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layout {
    /// How its pixels lie.
    pub coding: Coding,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bytes from one row to the next, of the first plane. Those of further planes follow from it.
    pub stride: u32,
    /// The standard that its colours follow.
    pub matrix: YuvStandardMatrix,
    /// Whether brightness goes from 16 to 235 or from 0 to 255.
    pub range: YuvRange,
}

impl Layout {
    /// A layout without padding, in the colours of most cameras (BT.601, limited range).
    pub fn new(coding: Coding, width: u32, height: u32) -> Self {
        let mut layout =
            Self { coding, width, height, stride: 0, matrix: YuvStandardMatrix::Bt601, range: YuvRange::Limited };
        layout.stride = layout.row_bytes();
        layout
    }

    /// Bytes of a row of the first plane without padding.
    pub fn row_bytes(&self) -> u32 {
        match self.coding {
            Coding::Yuyv | Coding::Uyvy => self.width.div_ceil(2) * 4,
            Coding::Nv12 | Coding::I420 | Coding::Grey => self.width,
            Coding::Mjpg => 0,
        }
    }

    /// Bytes of a whole picture; 0 for JPEG, whose pictures differ.
    pub fn bytes(&self) -> usize {
        let (stride, height) = (self.stride as usize, self.height as usize);
        match self.coding {
            Coding::Yuyv | Coding::Uyvy | Coding::Grey => stride * height,
            Coding::Nv12 => stride * height + self.chroma_stride() * height.div_ceil(2),
            Coding::I420 => stride * height + 2 * self.chroma_stride() * height.div_ceil(2),
            Coding::Mjpg => 0,
        }
    }

    /// Bytes of a row of colours.
    fn chroma_stride(&self) -> usize {
        match self.coding {
            Coding::I420 => (self.stride as usize).div_ceil(2),
            _ => (self.stride as usize).next_multiple_of(2),
        }
    }

    /// Puts the picture in `data` into `into` as RGB, with this layout's size. The times of `into` stay.
    ///
    /// # Errors
    /// Why `data` is not such a picture; the content of `into` is unspecified then.
    pub fn decode(&self, data: &[u8], into: &mut Frame) -> Result<(), String> {
        into.resize(self.width, self.height);
        if self.coding == Coding::Mjpg {
            return self.decode_jpeg(data, into);
        }
        let bytes = self.bytes();
        let data = data.get(..bytes).ok_or_else(|| format!("{} bytes instead of {bytes}", data.len()))?;
        let (width, height, stride) = (self.width, self.height, self.stride);
        let (y_plane, chroma) = data.split_at(stride as usize * height as usize);
        let (rgb, rgb_stride) = (into.data_mut(), width * 3);
        let (range, matrix, mode) = (self.range, self.matrix, YuvConversionMode::Balanced);
        let converted = match self.coding {
            Coding::Yuyv | Coding::Uyvy => {
                let packed = YuvPackedImage { yuy: data, yuy_stride: stride, width, height };
                let convert = if self.coding == Coding::Yuyv { yuv::yuyv422_to_rgb } else { yuv::uyvy422_to_rgb };
                convert(&packed, rgb, rgb_stride, range, matrix)
            }
            Coding::Nv12 => {
                let uv_stride = self.chroma_stride() as u32;
                let planes = YuvBiPlanarImage { y_plane, y_stride: stride, uv_plane: chroma, uv_stride, width, height };
                yuv::yuv_nv12_to_rgb(&planes, rgb, rgb_stride, range, matrix, mode)
            }
            Coding::I420 => {
                let (u_plane, v_plane) = chroma.split_at(chroma.len() / 2);
                let step = self.chroma_stride() as u32;
                let (y_stride, u_stride, v_stride) = (stride, step, step);
                let planes = YuvPlanarImage { y_plane, y_stride, u_plane, u_stride, v_plane, v_stride, width, height };
                yuv::yuv420_to_rgb(&planes, rgb, rgb_stride, range, matrix)
            }
            Coding::Grey => {
                for (row, rgb) in data.chunks_exact(stride as usize).zip(rgb.chunks_exact_mut(rgb_stride as usize)) {
                    for (grey, pixel) in row.iter().zip(rgb.chunks_exact_mut(3)) {
                        pixel.fill(*grey);
                    }
                }
                Ok(())
            }
            Coding::Mjpg => Ok(()),
        };
        converted.map_err(|e| e.to_string())
    }

    fn decode_jpeg(&self, data: &[u8], into: &mut Frame) -> Result<(), String> {
        let outline = Outline::read(data)?;
        let mut completed = Vec::new();
        let data = if outline.tables {
            &data[..outline.end]
        } else {
            completed.extend_from_slice(&data[..outline.scan]);
            completed.extend_from_slice(&HUFFMAN_TABLES);
            completed.extend_from_slice(&data[outline.scan..outline.end]);
            &completed
        };
        // Strictly, because else what the decoder finds damaged would be filled with grey, which looks like sudden motion.
        // Headers may be sloppy, and are with some cameras.
        match self.scan_jpeg(data, true, into) {
            Err((false, _)) => self.scan_jpeg(data, false, into).map_err(|(_, reason)| reason),
            result => result.map_err(|(_, reason)| reason),
        }
    }

    /// Decodes a whole JPEG; an error comes with whether the headers were right.
    fn scan_jpeg(&self, data: &[u8], strict: bool, into: &mut Frame) -> Result<(), (bool, String)> {
        let options = DecoderOptions::new_fast()
            .set_max_width(self.width as usize)
            .set_max_height(self.height as usize)
            .set_strict_mode(strict);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(data), options);
        decoder.decode_headers().map_err(|e| (false, e.to_string()))?;
        let size = decoder.info().map(|info| (u32::from(info.width), u32::from(info.height)));
        if size != Some((self.width, self.height)) || decoder.output_buffer_size() != Some(into.data().len()) {
            let (width, height) = size.unwrap_or_default();
            let reason =
                format!("a JPEG of {width}x{height} instead of {}x{}, or of another kind", self.width, self.height);
            return Err((true, reason));
        }
        decoder.decode_into(into.data_mut()).map_err(|e| (true, e.to_string()))
    }
}

/// Where the parts of a JPEG are.
struct Outline {
    /// Whether it has Huffman tables. Motion JPEG of many cameras leaves the standard ones out (the AVI format of 1991
    /// allowed that).
    tables: bool,
    /// The start of its scan; tables belong before it.
    scan: usize,
    /// Behind the mark of its end. Cameras put zeros there, or what was in the buffer before.
    end: usize,
}

impl Outline {
    /// Reads the marks of `data`. Without one of the end the picture was cut off in transfer.
    fn read(data: &[u8]) -> Result<Self, String> {
        if !data.starts_with(&[0xff, 0xd8]) {
            return Err("not a JPEG".to_string());
        }
        let (mut at, mut tables) = (2, false);
        let broken = || format!("a JPEG that breaks off after {} bytes", data.len());
        let scan = loop {
            let segment = data.get(at..at + 4).ok_or_else(broken)?;
            match (segment[0], segment[1]) {
                (0xff, 0xda) => break at,
                (0xff, 0xff) => at += 1,
                (0xff, kind) => {
                    tables |= kind == 0xc4;
                    at += 2 + usize::from(segment[2]) * 256 + usize::from(segment[3]);
                }
                // Bytes between segments: the decoder says what it makes of them.
                _ => at += 1,
            }
        };
        // Within a scan 0xff is followed by a zero, so this is a mark.
        let end = data[scan..].windows(2).position(|pair| pair == [0xff, 0xd9]).ok_or_else(broken)?;
        Ok(Self { tables, scan, end: scan + end + 2 })
    }
}

/// The segment of the standard Huffman tables of ITU-T T.81, annex K.3.
static HUFFMAN_TABLES: [u8; 420] = huffman_tables();

/// Puts the tables of annex K.3 behind each other: brightness and colour, constant parts (DC) and others (AC).
const fn huffman_tables() -> [u8; 420] {
    const DC: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
    let parts: [(u8, &[u8; 16], &[u8]); 4] = [
        (0x00, &[0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &DC),
        (0x10, &[0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d], &BRIGHTNESS_AC),
        (0x01, &[0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &DC),
        (0x11, &[0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], &COLOUR_AC),
    ];
    let mut segment = [0; 420];
    (segment[0], segment[1], segment[2], segment[3]) = (0xff, 0xc4, 0x01, 0xa2);
    let (mut at, mut part) = (4, 0);
    while part < parts.len() {
        let (class, lengths, values) = parts[part];
        segment[at] = class;
        at += 1;
        let mut n = 0;
        while n < 16 + values.len() {
            segment[at] = if n < 16 { lengths[n] } else { values[n - 16] };
            at += 1;
            n += 1;
        }
        part += 1;
    }
    segment
}

#[rustfmt::skip]
const BRIGHTNESS_AC: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
    0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72,
    0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37,
    0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
    0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
    0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[rustfmt::skip]
const COLOUR_AC: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
    0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1,
    0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
    0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
    0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
    0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
    0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SIZES: [(u32, u32); 7] = [(2, 2), (1, 1), (3, 5), (17, 9), (64, 48), (66, 3), (130, 31)];

    /// BT.601, limited range, in floats: ITU-R BT.601-7, 2.5.
    fn plain(y: u8, u: u8, v: u8) -> [f32; 3] {
        let y = (f32::from(y) - 16.0) * 255.0 / 219.0;
        let (u, v) = ((f32::from(u) - 128.0) * 255.0 / 224.0, (f32::from(v) - 128.0) * 255.0 / 224.0);
        [y + 1.402 * v, y - 0.344_136 * u - 0.714_136 * v, y + 1.772 * u]
    }

    /// Y, U and V of the pixel at `x`, `y`.
    fn sample(layout: &Layout, data: &[u8], (x, y): (usize, usize)) -> [u8; 3] {
        let (stride, height) = (layout.stride as usize, layout.height as usize);
        let chroma = layout.chroma_stride();
        match layout.coding {
            Coding::Yuyv => {
                let pair = y * stride + x / 2 * 4;
                [data[y * stride + x * 2], data[pair + 1], data[pair + 3]]
            }
            Coding::Uyvy => {
                let pair = y * stride + x / 2 * 4;
                [data[y * stride + x * 2 + 1], data[pair], data[pair + 2]]
            }
            Coding::Nv12 => {
                let pair = stride * height + y / 2 * chroma + x / 2 * 2;
                [data[y * stride + x], data[pair], data[pair + 1]]
            }
            Coding::I420 => {
                let (u, plane) = (stride * height + y / 2 * chroma + x / 2, chroma * height.div_ceil(2));
                [data[y * stride + x], data[u], data[u + plane]]
            }
            Coding::Grey | Coding::Mjpg => unreachable!(),
        }
    }

    #[test]
    fn colours_are_those_of_the_standard_in_odd_sizes_and_with_padding() {
        let mut random = fastrand::Rng::with_seed(5);
        for coding in [Coding::Yuyv, Coding::Uyvy, Coding::Nv12, Coding::I420] {
            for (width, height) in SIZES {
                for padding in [0, 6] {
                    let mut layout = Layout::new(coding, width, height);
                    layout.stride += padding;
                    // What is blacker than black the crate cuts off before it adds the colours.
                    let data: Vec<u8> = (0..layout.bytes()).map(|_| random.u8(16..=235)).collect();
                    let mut frame = Frame::default();
                    layout.decode(&data, &mut frame).unwrap();
                    for y in 0..height {
                        for x in 0..width {
                            let [luma, u, v] = sample(&layout, &data, (x as usize, y as usize));
                            let want = plain(luma, u, v).map(|value| value.clamp(0.0, 255.0));
                            let got = frame.pixel(x, y).unwrap();
                            let near = got.iter().zip(want).all(|(got, want)| (f32::from(*got) - want).abs() <= 3.0);
                            assert!(near, "{coding} {width}x{height}+{padding} at {x},{y}: {got:?}, not {want:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn grey_is_copied_and_a_short_buffer_refused() {
        let layout = Layout { stride: 5, ..Layout::new(Coding::Grey, 3, 2) };
        let mut frame = Frame::default();
        layout.decode(&[1, 2, 3, 0, 0, 4, 5, 6, 0, 0, 9], &mut frame).unwrap();
        assert_eq!(frame.data(), [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6]);
        for coding in [Coding::Grey, Coding::Yuyv, Coding::Uyvy, Coding::Nv12, Coding::I420] {
            let layout = Layout::new(coding, 8, 6);
            let reason = layout.decode(&vec![0; layout.bytes() - 1], &mut frame).unwrap_err();
            assert!(reason.contains("bytes instead of"), "{reason}");
        }
    }

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let pixels: Vec<u8> = (0..width * height).flat_map(|n| [(n % width * 3) as u8, 90, 200]).collect();
        let mut file = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 95);
        image::ImageEncoder::write_image(encoder, &pixels, width, height, image::ExtendedColorType::Rgb8).unwrap();
        file
    }

    /// `file` without its segments of Huffman tables.
    fn without_tables(file: &[u8]) -> Vec<u8> {
        let (mut kept, mut at) = (file[..2].to_vec(), 2);
        while file[at + 1] != 0xda {
            let end = at + 2 + usize::from(file[at + 2]) * 256 + usize::from(file[at + 3]);
            if file[at + 1] != 0xc4 {
                kept.extend_from_slice(&file[at..end]);
            }
            at = end;
        }
        kept.extend_from_slice(&file[at..]);
        kept
    }

    #[test]
    fn a_jpeg_may_be_padded_and_lack_the_standard_tables() {
        let (layout, file) = (Layout::new(Coding::Mjpg, 40, 24), jpeg(40, 24));
        let mut frame = Frame::default();
        layout.decode(&file, &mut frame).unwrap();
        let whole = frame.clone();
        assert!(whole.pixel(20, 5).unwrap()[0].abs_diff(60) < 12, "{:?}", whole.pixel(20, 5));
        let rest = jpeg(64, 48);
        for behind in [&[0; 1000][..], &[7; 3], &rest[rest.len() / 2..]] {
            let padded = [file.as_slice(), behind].concat();
            layout.decode(&padded, &mut frame).unwrap();
            assert_eq!(frame.data(), whole.data());
        }
        let bare = without_tables(&file);
        assert!(bare.len() < file.len());
        layout.decode(&bare, &mut frame).unwrap();
        assert_eq!(frame.data(), whole.data());
    }

    #[test]
    fn what_is_no_whole_jpeg_of_the_size_is_refused() {
        let (layout, file) = (Layout::new(Coding::Mjpg, 40, 24), jpeg(40, 24));
        let mut frame = Frame::default();
        let refused = |data: &[u8], frame: &mut Frame| layout.decode(data, frame).unwrap_err();
        assert!(refused(&file[..file.len() / 2], &mut frame).contains("breaks off"));
        assert!(refused(&[], &mut frame).contains("not a JPEG"));
        assert!(refused(&[0; 5000], &mut frame).contains("not a JPEG"));
        assert!(refused(&jpeg(24, 40), &mut frame).len() > 5);
        assert!(refused(&jpeg(32, 16), &mut frame).contains("a JPEG of 32x16 instead of 40x24"));
    }

    #[test]
    fn damaged_jpegs_never_panic() {
        let (layout, file) = (Layout::new(Coding::Mjpg, 40, 24), jpeg(40, 24));
        let mut frame = Frame::default();
        for seed in 0..2000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut data = file.clone();
            for _ in 0..random.usize(1..8) {
                let at = random.usize(..data.len());
                data[at] = random.u8(..);
            }
            // Either way is right, as long as it comes back.
            let _ = layout.decode(&data, &mut frame);
        }
    }
}
