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

/// Copies the first clips of each of the five gestures to `to`, a folder each, under these `names`.
fn copy_gestures(gestures: &Path, to: &Path, names: &[&str]) {
    for class in ["clap", "swipe_left", "swipe_right", "throw", "wave"] {
        std::fs::create_dir_all(to.join(class)).unwrap();
        let mut clips: Vec<PathBuf> =
            std::fs::read_dir(gestures.join(class)).unwrap().map(|entry| entry.unwrap().path()).collect();
        clips.sort();
        for (clip, name) in clips.iter().zip(names) {
            std::fs::copy(clip, to.join(class).join(format!("{name}.mp4"))).unwrap();
        }
    }
}

/// Every architecture, as narrow as it goes, learns by heart two clips of each of five gestures, trailers' nets what any number of
/// labels say of them, i3d-flow only one each of two, because optical flow takes its time; the clips are not augmented, which
/// keeps such small nets from learning anything in a few seconds; what is exported of it, in floats and
/// in integers, gives the trainer's logits (opening a bundle verifies that; of such nets, which make much of little, tract's
/// integers, which are rounded elsewhere, are not near enough).
#[test]
fn every_architecture_learns_real_clips() {
    let Some(gestures) = shared::folder("every_architecture_learns_real_clips", "gestures") else { return };
    let dir = tempfile::tempdir().unwrap();
    let [classes, films, pair] = ["classes", "films", "pair"].map(|name| dir.path().join(name));
    copy_gestures(&gestures, &classes, &["train1", "train2", "validate"]);
    copy_gestures(&gestures, &pair, &["train", "validate"]);
    for class in ["swipe_left", "swipe_right", "throw"] {
        std::fs::remove_dir_all(pair.join(class)).unwrap();
    }
    std::fs::create_dir(&films).unwrap();
    let mut labels = String::new();
    for (class, shown) in [
        ("clap", "both hands"),
        ("swipe_left", "sideways,one hand"),
        ("swipe_right", "sideways,one hand"),
        ("throw", "one hand"),
        ("wave", "sideways"),
    ] {
        for name in ["train1.mp4", "train2.mp4", "validate.mp4"] {
            let film = format!("{class}_{name}");
            std::fs::copy(classes.join(class).join(name), films.join(&film)).unwrap();
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
        ("i3d-flow(width=4)", 10, 224),
        ("convlstm-edge(width=4)", 8, 32),
        ("convlstm-trailer(width=4)", 8, 48),
        ("lstm-trailer(width=4)", 8, 48),
    ];
    for (arch, frames, size) in nets {
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (trailer, flow) = (arch.contains("trailer"), arch.contains("flow"));
        let (data, classes) = match arch {
            _ if trailer => ("films", 3),
            _ if flow => ("pair", 2),
            _ => ("classes", 5),
        };
        let [data, out, bundle] = [data, "run", "bundle"].map(path);
        let parts = if trailer { "--tbptt 3" } else { "" };
        let (colour, batch, steps) = if flow { ("flow", 4, 12) } else { ("motion", 10, 32) };
        train_export(&format!(
            "train --data {data} --validation-pattern validate {parts} --arch {arch} --colour {colour} --frames {frames} --size {size} --out {out} \
             --sample step --frame-step 7 --steps {steps} --batch {batch} --lr 1e-2 --label-smoothing 0 --average 0 --validate-every {} --precision f32 --workers 1",
            steps / 4
        ));
        let history = std::fs::read_to_string(dir.path().join("run/history.csv")).unwrap();
        let losses: Vec<f64> =
            history.lines().skip(1).map(|row| row.split(',').nth(3).unwrap().parse().unwrap()).collect();
        println!("{arch}: loss {losses:.3?}");
        assert!(losses.len() == 4 && losses[3] < 0.9 * losses[0], "{arch}: loss {losses:?}");
        train_export(&format!(
            "export --checkpoint {out} --out {bundle} --int8 --data {data} --validation-pattern validate \
             --calibration-clips {classes} --validation-clips {classes}"
        ));
        let bundle = Bundle::load(Path::new(&bundle)).unwrap();
        let activation = if trailer { Activation::Sigmoid } else { Activation::Softmax };
        assert_eq!((bundle.manifest.output.activation, bundle.labels.len()), (activation, classes));
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

/// From the shipped model and four videos of each of five gestures comes a bundle that knows these, streams them in integers
/// and keeps the settings that the first one was tuned to.
#[test]
fn own_actions_are_learned_from_a_bundle() {
    let Some(gestures) = shared::folder("own_actions_are_learned_from_a_bundle", "gestures") else { return };
    let dir = tempfile::tempdir().unwrap();
    let [clips, out] = ["clips", "mine"].map(|name| dir.path().join(name));
    copy_gestures(&gestures, &clips, &["a1", "a2", "a3", "b1"]);
    let line = format!(
        "tune --model {}/models/mannequin --data {} --test-pattern b1 --epochs 3,2 --out {}",
        env!("CARGO_MANIFEST_DIR"),
        clips.display(),
        out.display()
    );
    train_export(&format!("{line} --dry-run"));
    assert!(!out.exists());
    train_export(&line);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "what was kept while it was made is gone");
    let (bundle, begun) = (Bundle::load(&out).unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mannequin"));
    let begun = Bundle::load(&begun).unwrap().manifest;
    // The last is learned from how the videos begin and end.
    assert_eq!(bundle.labels, ["clap", "swipe_left", "swipe_right", "throw", "wave", "nothing"]);
    let engine = engine::open(&bundle, &engine::Options::default()).unwrap();
    assert_eq!((engine.precision(), engine.mode()), (Precision::Int8, begun.run.mode));
    assert_eq!((bundle.manifest.decision.enter, bundle.manifest.run.hop), (begun.decision.enter, begun.run.hop));
    assert!(bundle.manifest.provenance.data.contains("first weights from: the mannequin, 17 motions"));
}

/// Of people who are watched live the shipped model reports what they do, and little else.
#[test]
fn videos_of_people_are_watched_one_after_another() {
    let Some(gestures) = shared::folder("videos_of_people_are_watched_one_after_another", "gestures") else { return };
    let dir = tempfile::tempdir().unwrap();
    let [clips, out] = ["clips", "out"].map(|name| dir.path().join(name));
    copy_gestures(&gestures, &clips, &["a", "b"]);
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mannequin");
    let line = format!("evaluate --live --model {} --data {} --part all", model.display(), clips.display());
    train_export(&format!("{line} --out {}", out.display()));
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("live.json")).unwrap()).unwrap();
    assert!(json["on"].as_str().unwrap().starts_with("10 videos of `clips`, 5 classes"), "{json:#}");
    assert!(json["mean"]["recall"].as_f64().unwrap() >= 0.5, "{json:#}");
    for (flag, remedy) in [("--seeds 3", "--clips"), ("--sample spread", "window"), ("--threshold 2", "--threshold")] {
        let words = format!("train-export {line} {flag}");
        let error = run(Cli::try_parse_from(words.split_whitespace()).unwrap().command).unwrap_err();
        let kind = error.downcast_ref::<kinora::Error>().map(kinora::Error::kind);
        assert!(kind == Some(kinora::ErrorKind::Usage) && format!("{error:#}").contains(remedy), "{flag}: {error:#}");
    }
}

#[test]
fn what_cannot_be_tuned_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mannequin");
    let [clips, out] = ["clips", "mine"].map(|name| dir.path().join(name));
    let refused = |flags: &str| {
        let line = format!("train-export tune --model {} --out {} {flags}", model.display(), out.display());
        let error = run(Cli::try_parse_from(line.split_whitespace()).unwrap().command).unwrap_err();
        let kind = error.downcast_ref::<kinora::Error>().unwrap().kind();
        (kind, format!("{error:#}"))
    };
    let (kind, why) = refused("--data synth");
    assert!(kind == kinora::ErrorKind::Usage && why.contains("a folder of videos per class wanted"), "{why}");
    for file in ["hop/1.mp4", "hop/2.mp4", "spin/1.mp4"] {
        std::fs::create_dir_all(clips.join(file).parent().unwrap()).unwrap();
        std::fs::write(clips.join(file), "no video").unwrap();
    }
    let data = format!("--data {}", clips.display());
    let (kind, why) = refused(&data);
    assert!(kind == kinora::ErrorKind::Usage && why.contains("too few of spin"), "{why}");
    std::fs::write(clips.join("spin/2.mp4"), "no video").unwrap();
    let (kind, why) = refused(&data);
    assert!(
        kind == kinora::ErrorKind::Usage && why.contains("record them again") && why.contains("spin/2.mp4"),
        "{why}"
    );
    let (kind, why) = refused(&format!("{data} --epochs 0,0"));
    assert!(kind == kinora::ErrorKind::Usage && why.contains("nothing would be learned"), "{why}");
    // What would be refused in the end is refused at once.
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("letter.txt"), "").unwrap();
    let (kind, why) = refused(&data);
    assert!(kind == kinora::ErrorKind::Output && why.contains("'letter.txt' is no part of a bundle"), "{why}");
}
