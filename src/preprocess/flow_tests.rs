#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../tests/common/data.rs"]
mod data;

use std::path::Path;

use super::*;

/// A soft pattern without a period, at a place.
fn pattern(x: f32, y: f32) -> f32 {
    100.0 + 40.0 * (x / 5.0).sin() + 30.0 * (y / 7.0).cos() + 20.0 * ((x + 1.7 * y) / 11.0).sin()
}

fn picture((width, height): (usize, usize), (dx, dy): (f32, f32)) -> Vec<f32> {
    (0..width * height).map(|n| pattern((n % width) as f32 - dx, (n / width) as f32 - dy)).collect()
}

#[test]
fn a_shifted_picture_has_that_flow() {
    for (size, shift) in [((64, 48), (1.5, -0.75)), ((49, 61), (-3.0, 2.0)), ((33, 20), (0.0, 0.5))] {
        let mut flow = vec![f32::NAN; 2 * size.0 * size.1];
        let mut work = Flow::new(size.0, size.1);
        // What was computed before is forgotten.
        for shift in [(2.0, 2.0), shift] {
            work.compute(&picture(size, (0.0, 0.0)), &picture(size, shift), &mut flow);
        }
        let (right, down) = flow.split_at(size.0 * size.1);
        let inner = |n: &usize| {
            let (x, y) = (n % size.0, n / size.0);
            (8..size.0 - 8).contains(&x) && (8..size.1 - 8).contains(&y)
        };
        let places: Vec<usize> = (0..right.len()).filter(inner).collect();
        let off =
            places.iter().map(|n| (right[*n] - shift.0).hypot(down[*n] - shift.1)).sum::<f32>() / places.len() as f32;
        assert!(off < 0.15, "{size:?} {shift:?}: {off} pixels off in the mean");
    }
}

#[test]
fn sizes_and_pictures_of_any_kind_are_fine() {
    for size in [(1, 1), (1, 9), (5, 2), (17, 16)] {
        let mut flow = vec![f32::NAN; 2 * size.0 * size.1];
        Flow::new(size.0, size.1).compute(&picture(size, (0.0, 0.0)), &picture(size, (1.0, 0.0)), &mut flow);
        assert!(flow.iter().all(|u| u.is_finite()), "{size:?}: {flow:?}");
        let same = vec![7.0; size.0 * size.1];
        Flow::new(size.0, size.1).compute(&same, &same, &mut flow);
        assert!(flow.iter().all(|u| *u == 0.0), "{size:?}: {flow:?}");
    }
}

/// A flow in Middlebury's format, `[2, H, W]`. What is not known of it is above 1e9.
fn flo(path: &Path) -> (usize, usize, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let word = |n: usize| <[u8; 4]>::try_from(&bytes[4 * n..][..4]).unwrap();
    assert_eq!(f32::from_le_bytes(word(0)), 202_021.25);
    let [width, height] = [1, 2].map(|n| u32::from_le_bytes(word(n)) as usize);
    let at = |n: usize| f32::from_le_bytes(word(3 + n));
    let flow = (0..2).flat_map(|axis| (0..width * height).map(move |n| 2 * n + axis)).map(at).collect();
    (width, height, flow)
}

/// The gray values of a picture: a PNG, or a binary PPM.
fn gray(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let rgb = match bytes.strip_prefix(b"P6") {
        // Behind the header's four numbers and one white space: the pixels, to the end.
        Some(rest) => {
            let text = String::from_utf8_lossy(&rest[..40.min(rest.len())]).into_owned();
            let size: Vec<usize> = text.split_whitespace().take(2).map(|n| n.parse().unwrap()).collect();
            bytes[bytes.len() - 3 * size[0] * size[1]..].to_vec()
        }
        None => image::load_from_memory(&bytes).unwrap().to_rgb8().into_raw(),
    };
    let luma = |p: &[u8]| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]);
    rgb.chunks_exact(3).map(luma).collect()
}

/// Mean distance between two flows where the second is known.
fn end_point_error(a: &[f32], b: &[f32]) -> f32 {
    let ((au, av), (bu, bv)) = (a.split_at(a.len() / 2), b.split_at(b.len() / 2));
    let known: Vec<usize> = (0..bu.len()).filter(|n| bu[*n].abs() < 1e9 && bv[*n].abs() < 1e9).collect();
    known.iter().map(|n| (au[*n] - bu[*n]).hypot(av[*n] - bv[*n])).sum::<f32>() / known.len() as f32
}

/// Beside the published program on the published pictures: its flow and its error against the truth, 0.215 and 1.690.
#[test]
fn it_is_the_published_flow() {
    let Some(data) = data::folder("it_is_the_published_flow", "flow") else { return };
    for ([from, to, truth, reference], wanted) in [
        (
            [
                "rubberwhale/RubberWhale1.png",
                "rubberwhale/RubberWhale2.png",
                "rubberwhale/flow_gt.flo",
                "rubberwhale.flo",
            ],
            0.215,
        ),
        (["flyingchairs/0img0.ppm", "flyingchairs/0img1.ppm", "flyingchairs/0flow.flo", "flyingchairs0.flo"], 1.690),
    ] {
        let (width, height, truth) = flo(&data.join(truth));
        let reference = flo(&data.join("tvl1_reference").join(reference)).2;
        let mut flow = vec![0.0; 2 * width * height];
        Flow::new(width, height).compute(&gray(&data.join(from)), &gray(&data.join(to)), &mut flow);
        let (apart, error) = (end_point_error(&flow, &reference), end_point_error(&flow, &truth));
        println!("{from}: {apart:.4} pixels from the published program's, {error:.4} from the truth");
        assert!(apart < 0.02 && error < 1.01 * wanted, "{from}: {apart} and {error}");
    }
}
