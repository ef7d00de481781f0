//! The clips that virtual cameras play, each picture also as a display must show it. A clip goes through stretches of known
//! brightness (`shared::SCRIPT`), so that it is known what the test model says of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kinora::frame::Frame;
use kinora::synth::{Motion, Scene, World};

use crate::shared::{CLIP_RATE, LEVELS, SCRIPT, STRETCH};

const COUNT: usize = SCRIPT.len() * STRETCH;

/// The real clip, if there is the shared test data.
pub fn real() -> Option<PathBuf> {
    let data = std::env::var_os("KINORA_TEST_DATA")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data").into(), PathBuf::from);
    let clip = data.join("clips/mmaction2__demo.mp4");
    clip.is_file().then_some(clip)
}

/// Pictures of the mannequin, RGB.
pub fn mannequin(width: u32, height: u32) -> Vec<Vec<u8>> {
    let mut scene = Scene::clip(World::Studio, 3, Motion::JumpingJack);
    let render = |n| {
        let mut frame = Frame::new(width, height);
        scene.render((n as f64 / CLIP_RATE) as f32, &mut frame);
        frame.data().to_vec()
    };
    (0..COUNT).map(render).collect()
}

/// Pictures of the video at `path`, RGB; it is begun again when it is over.
pub fn decoded(path: &Path, width: u32, height: u32) -> Vec<Vec<u8>> {
    let filter = format!("fps={CLIP_RATE},scale={width}:{height}");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-stream_loop", "-1", "-i"])
        .arg(path)
        .args(["-vf", &filter, "-frames:v", &COUNT.to_string(), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .unwrap();
    let pictures: Vec<_> = output.stdout.chunks_exact((width * height * 3) as usize).map(<[u8]>::to_vec).collect();
    assert_eq!(pictures.len(), COUNT, "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    pictures
}

/// Brings each picture to the brightness of its stretch, at a quarter of its contrast.
pub fn scripted(pictures: &mut [Vec<u8>]) {
    for (n, picture) in pictures.iter_mut().enumerate() {
        let wanted = LEVELS[SCRIPT[n / STRETCH]].1 * 255.0;
        let mean = picture.iter().map(|&v| f64::from(v)).sum::<f64>() as f32 / picture.len() as f32;
        for value in picture.iter_mut() {
            *value = (wanted + (f32::from(*value) - mean) / 4.0).round().clamp(0.0, 255.0) as u8;
        }
    }
}

/// An RGB picture as YUYV, BT.601 in the limited range.
pub fn to_yuyv(rgb: &[u8]) -> Vec<u8> {
    let yuv = |p: &[u8]| -> [f32; 3] {
        let [r, g, b] = [p[0], p[1], p[2]].map(|v| f32::from(v) / 255.0);
        let y = 0.299 * r + 0.587 * g + 0.114 * b;
        [16.0 + 219.0 * y, 128.0 + 224.0 * (b - y) / 1.772, 128.0 + 224.0 * (r - y) / 1.402]
    };
    let pack = |pair: &[u8]| {
        let (a, b) = (yuv(&pair[..3]), yuv(&pair[3..]));
        [a[0], (a[1] + b[1]) / 2.0, b[0], (a[2] + b[2]) / 2.0].map(|v| v.round() as u8)
    };
    rgb.chunks_exact(6).flat_map(pack).collect()
}

/// A YUYV picture as RGB, each pair of pixels with one colour.
pub fn from_yuyv(yuyv: &[u8]) -> Vec<u8> {
    let unpack = |quad: &[u8]| {
        let [y0, u, y1, v] = [quad[0], quad[1], quad[2], quad[3]].map(f32::from);
        let (u, v) = ((u - 128.0) / 224.0, (v - 128.0) / 224.0);
        let pixel = |y: f32| {
            let y = (y - 16.0) / 219.0;
            [y + 1.402 * v, y - 0.344_136 * u - 0.714_136 * v, y + 1.772 * u]
                .map(|v| (v * 255.0).round().clamp(0.0, 255.0) as u8)
        };
        let [a, b] = [pixel(y0), pixel(y1)];
        [a[0], a[1], a[2], b[0], b[1], b[2]]
    };
    yuyv.chunks_exact(4).flat_map(unpack).collect()
}

/// RGB pictures as JPEGs with chroma of half the width, as webcams make them.
pub fn to_jpegs(pictures: &[Vec<u8>], width: u32, height: u32) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    fs::write(&raw, pictures.concat()).unwrap();
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &format!("{width}x{height}"), "-i"])
        .arg(&raw)
        .args(["-pix_fmt", "yuvj422p", "-q:v", "3"])
        .arg(folder.path().join("%04d.jpg"))
        .status();
    assert!(made.unwrap().success(), "ffmpeg made no JPEGs");
    (1..=pictures.len()).map(|n| fs::read(folder.path().join(format!("{n:04}.jpg"))).unwrap()).collect()
}

/// A JPEG as RGB.
pub fn from_jpeg(bytes: &[u8]) -> Vec<u8> {
    image::load_from_memory_with_format(bytes, image::ImageFormat::Jpeg).unwrap().into_rgb8().into_raw()
}

/// Writes pictures for the guest, each with its length before it.
pub fn write(path: &Path, pictures: &[Vec<u8>]) {
    let mut bytes = Vec::with_capacity(pictures.iter().map(|picture| picture.len() + 4).sum());
    for picture in pictures {
        bytes.extend((picture.len() as u32).to_le_bytes());
        bytes.extend_from_slice(picture);
    }
    fs::write(path, bytes).unwrap();
}
