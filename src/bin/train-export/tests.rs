//! The program as a whole, by its command line.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../tests/common/data.rs"]
mod shared;

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use kinora::engine::{self, Choice, Precision};
use kinora::model::bundle::Bundle;
use kinora::model::manifest::Activation;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_excludes_one_another_is_refused() {
    for line in [
        "show --dot --svg",
        "train --out x --inflate y --resume",
        "train --out x --inflate y --init z",
        "show --causal --non-causal",
    ] {
        let words = std::iter::once("train-export").chain(line.split_whitespace());
        let error = Cli::try_parse_from(words).err().unwrap().to_string();
        assert!(error.contains("cannot be used with"), "{line}: {error}");
    }
}

fn train_export(line: &str) {
    let words = std::iter::once("train-export").chain(line.split_whitespace());
    run(Cli::try_parse_from(words).unwrap_or_else(|why| panic!("{why}")).command).expect(line);
}

/// Every architecture (but i3d-flow, which is i3d-rgb with other pictures, and takes minutes to make them), as narrow as it
/// goes, learns by heart two clips of each of five gestures, trailers' nets what any number of labels say of them; what is
/// exported of it, in floats and in integers, gives the trainer's logits (opening a bundle verifies that; of such nets, which
/// make much of little, tract's integers, which are rounded elsewhere, are not near enough).
#[test]
fn every_architecture_learns_real_clips() {
    let Some(gestures) = shared::folder("every_architecture_learns_real_clips", "gestures") else { return };
    let dir = tempfile::tempdir().unwrap();
    let [classes, films] = ["classes", "films"].map(|name| dir.path().join(name));
    std::fs::create_dir(&films).unwrap();
    let mut labels = String::new();
    for (class, shown) in [
        ("clap", "both hands"),
        ("swipe_left", "sideways,one hand"),
        ("swipe_right", "sideways,one hand"),
        ("throw", "one hand"),
        ("wave", "sideways"),
    ] {
        std::fs::create_dir_all(classes.join(class)).unwrap();
        let mut clips: Vec<PathBuf> =
            std::fs::read_dir(gestures.join(class)).unwrap().map(|entry| entry.unwrap().path()).collect();
        clips.sort();
        for (clip, name) in clips.iter().zip(["train1.mp4", "train2.mp4", "validate.mp4"]) {
            std::fs::copy(clip, classes.join(class).join(name)).unwrap();
            let film = format!("{class}_{name}");
            std::fs::copy(clip, films.join(&film)).unwrap();
            labels += &format!("{film},{shown}\n");
        }
    }
    std::fs::write(films.join("labels.csv"), labels).unwrap();
    // Frames, and pixels of a side, that each architecture needs at least.
    let nets = [
        ("r2plus1d-edge(width=4)", 8, 32),
        ("r2plus1d-tutorial(width=4)", 8, 32),
        ("r2plus1d-18(width=4)", 8, 32),
        ("r2plus1d-34(width=4,causal=true)", 8, 32),
        ("r3d-18(width=4)", 8, 32),
        ("resnet3d-18(width=4)", 8, 48),
        ("resnet3d-34(width=4)", 8, 48),
        ("resnet3d-50(width=4)", 8, 48),
        ("resnet3d-101(width=2)", 8, 48),
        ("resnet3d-152(width=2)", 8, 48),
        ("i3d-rgb(width=4)", 10, 224),
        ("convlstm-edge(width=4)", 8, 32),
        ("convlstm-trailer(width=4)", 8, 48),
        ("lstm-trailer(width=4)", 8, 48),
    ];
    for (arch, frames, size) in nets {
        let path = |name: &str| dir.path().join(name).display().to_string();
        let trailer = arch.contains("trailer");
        let [data, out, bundle] = [if trailer { "films" } else { "classes" }, "run", "bundle"].map(path);
        let parts = if trailer { "--tbptt 3" } else { "" };
        train_export(&format!(
            "train --data {data} --validation-pattern validate {parts} --arch {arch} --colour motion --frames {frames} --size {size} --out {out} \
             --steps 24 --batch 10 --lr 1e-2 --label-smoothing 0 --average 0 --validate-every 6 --precision f32 --workers 1"
        ));
        let history = std::fs::read_to_string(dir.path().join("run/history.csv")).unwrap();
        let losses: Vec<f64> =
            history.lines().skip(1).map(|row| row.split(',').nth(3).unwrap().parse().unwrap()).collect();
        println!("{arch}: loss {losses:.3?}");
        assert!(losses.len() == 4 && losses[3] < 0.95 * losses[0], "{arch}: loss {losses:?}");
        train_export(&format!(
            "export --checkpoint {out} --out {bundle} --int8 --data {data} --validation-pattern validate \
             --calibration-clips 5 --validation-clips 5"
        ));
        let bundle = Bundle::load(Path::new(&bundle)).unwrap();
        let activation = if trailer { Activation::Sigmoid } else { Activation::Softmax };
        assert_eq!((bundle.manifest.output.activation, bundle.labels.len()), (activation, if trailer { 3 } else { 5 }));
        for (engine, precision) in
            [(Choice::Native, Precision::F32), (Choice::Native, Precision::Int8), (Choice::Tract, Precision::F32)]
        {
            let options = engine::Options { engine, precision: Some(precision), ..Default::default() };
            engine::open(&bundle, &options).unwrap_or_else(|why| panic!("{arch}: {why}"));
        }
        if trailer {
            train_export(&format!(
                "evaluate --model {} --data {data} --validation-pattern validate --part all --record --out {out}",
                bundle.dir.display()
            ));
            let measured = Bundle::load(&bundle.dir).unwrap().manifest.measured;
            let film = measured.iter().find(|m| m.figure == "mAP").unwrap();
            assert!(film.on.starts_with("15 clips of `films`, any of 3 classes") && film.value > 0.0, "{film:?}");
            assert!(
                std::fs::read_to_string(Path::new(&out).join("metrics.json")).unwrap().contains("average_precision")
            );
        }
    }
}
