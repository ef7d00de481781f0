//! Tests of the mannequin as a whole. With the environment variable `KINORA_LOOK` set to a folder, `sheets` writes
//! contact sheets of all motions there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::frame::Frame;

#[test]
fn sheets() {
    let Some(folder) = std::env::var_os("KINORA_LOOK") else { return };
    let folder = std::path::PathBuf::from(folder);
    let seeds = std::env::var("KINORA_LOOK_SEEDS").map_or(4, |n| n.parse().unwrap());
    const COLUMNS: u32 = 12;
    for motion in Motion::ALL {
        let mut frame = Frame::new(160, 120);
        let mut sheet = image::RgbImage::new(frame.width() * COLUMNS, frame.height() * seeds);
        for seed in 0..seeds {
            let mut scene = Scene::clip(u64::from(seed), motion);
            let subject = scene.subject();
            let (start, end) = (subject.start_s - 0.2, subject.end_s + 0.2);
            for column in 0..COLUMNS {
                scene.render(start + (end - start) * column as f32 / (COLUMNS - 1) as f32, &mut frame);
                let picture = image::RgbImage::from_raw(160, 120, frame.data().to_vec()).unwrap();
                image::imageops::replace(&mut sheet, &picture, i64::from(column * 160), i64::from(seed * 120));
            }
        }
        sheet.save(folder.join(format!("{}.png", motion.label()))).unwrap();
    }
}
