//! Bundles that come, break, go and come back.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::testing::small_bundle;
use std::fs;
use std::path::Path;

/// What is handed over of a bundle: its name and first label. Some labels do not fit.
fn names(bundle: &Bundle) -> Result<(String, String)> {
    match bundle.labels[0].as_str() {
        "odd" => Err(Error::new(ErrorKind::Usage, "--labels: odd")),
        first => Ok((bundle.manifest.name.clone(), first.to_owned())),
    }
}

type Names = (String, String);
type Test = Looker<fn(&Bundle) -> Result<Names>>;

fn looker(dir: &Path) -> Test {
    let bundle = small_bundle(dir, "first", &["a", "b"]);
    Looker::new(bundle, Files::of(dir).look(), names)
}

/// What a look sees at once, and what it sees when it is settled.
fn looks(looker: &mut Test) -> [Option<News<Names>>; 2] {
    let now = Instant::now();
    [looker.look(now), looker.look(now + SETTLED)]
}

fn ready(name: &str, label: &str) -> [Option<News<Names>>; 2] {
    [Some(News::Ready((name.into(), label.into()))), None]
}

/// The reason for which the bundle is told to be wrong, in full and in short.
fn wrong(looker: &mut Test) -> (String, String) {
    match looks(looker) {
        [None, Some(News::Wrong { reason, short })] => (reason, short),
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_bundle_is_handed_over_at_once_and_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("bundle");
    let mut looker = looker(&dir);
    assert_eq!(looks(&mut looker), [None, None]);
    small_bundle(&dir, "second", &["c", "d"]);
    assert_eq!(looks(&mut looker), ready("second", "c"));
    assert_eq!(looks(&mut looker), [None, None]);
    small_bundle(&dir, "second", &["c", "d"]);
    assert_eq!(looks(&mut looker), [None, None], "the same, written anew");
}

#[test]
fn what_was_changed_before_the_first_look_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mut looker = looker(folder.path());
    let now = Instant::now();
    small_bundle(folder.path(), "second", &["c", "d"]);
    assert!(matches!(looker.look(now), Some(News::Ready(_))));
}

#[test]
fn a_half_written_bundle_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, other) = (folder.path().join("bundle"), folder.path().join("other"));
    let mut looker = looker(&dir);
    small_bundle(&other, "second", &["c", "d", "e"]);
    let now = Instant::now();
    // The manifest first, as a copy in any order may have it.
    for (step, name) in ["manifest.toml", "labels.txt", "golden.safetensors"].into_iter().enumerate() {
        fs::copy(other.join(name), dir.join(name)).unwrap();
        assert_eq!(looker.look(now + step as u32 * SETTLED / 2), None, "{name}");
    }
    let model = fs::read(other.join("model.onnx")).unwrap();
    fs::write(dir.join("model.onnx"), &model[..model.len() / 2]).unwrap();
    assert_eq!(looker.look(now + 3 * SETTLED / 2), None);
    fs::write(dir.join("model.onnx"), &model).unwrap();
    assert_eq!(looker.look(now + 2 * SETTLED), None, "it may not be all");
    assert_eq!(looker.look(now + 2 * SETTLED + LOOK), Some(News::Ready(("second".into(), "c".into()))));
}

#[test]
fn what_is_still_being_copied_is_read_once_and_then_when_it_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, other) = (folder.path().join("bundle"), folder.path().join("other"));
    let bundle = small_bundle(&dir, "first", &["a", "b"]);
    small_bundle(&other, "second", &["odd", "d"]);
    let tries = std::cell::Cell::new(0);
    let prepare = |bundle: &Bundle| {
        tries.set(tries.get() + 1);
        names(bundle)
    };
    let mut looker = Looker::new(bundle, Files::of(&dir).look(), prepare);
    let now = Instant::now();
    for step in 0..10 {
        // Whole at each look, and another one: so each try is seen.
        small_bundle(&dir, &format!("part {step}"), &["odd", "d"]);
        assert_eq!(looker.look(now + step * LOOK), None);
    }
    assert_eq!(tries.get(), 1);
    for step in 10..14 {
        assert_eq!(looker.look(now + step * LOOK), None);
        assert_eq!(tries.get(), 2);
    }
    assert!(matches!(looker.look(now + 14 * LOOK), Some(News::Wrong { .. })));
    assert_eq!((looker.look(now + 99 * LOOK), tries.get()), (None, 3));
}

#[test]
fn what_stays_wrong_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("bundle");
    let mut looker = looker(&dir);
    let model = fs::read(dir.join("model.onnx")).unwrap();
    fs::write(dir.join("model.onnx"), &model[..9]).unwrap();
    let (reason, short) = wrong(&mut looker);
    assert!(reason.contains(dir.join("model.onnx").to_str().unwrap()), "{reason}");
    assert!(short.starts_with("model.onnx: its SHA-256"), "{short}");
    assert_eq!(looks(&mut looker), [None, None]);
    fs::write(dir.join("model.onnx"), &model[..8]).unwrap();
    assert_eq!(looks(&mut looker), [None, None], "for the same reason");
    fs::write(dir.join("labels.txt"), "odd\n").unwrap();
    assert!(wrong(&mut looker).1.starts_with("labels.txt"));
    // What runs is back; a fault after that is another one.
    fs::write(dir.join("labels.txt"), "a\nb\n").unwrap();
    fs::write(dir.join("model.onnx"), &model).unwrap();
    assert_eq!(looks(&mut looker), [None, None]);
    fs::write(dir.join("labels.txt"), "odd\n").unwrap();
    assert!(wrong(&mut looker).1.starts_with("labels.txt"));
}

#[test]
fn a_folder_may_go_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, away) = (folder.path().join("bundle"), folder.path().join("away"));
    let mut looker = looker(&dir);
    fs::rename(&dir, &away).unwrap();
    assert!(wrong(&mut looker).0.contains("there is no manifest.toml"));
    fs::rename(&away, &dir).unwrap();
    assert_eq!(looks(&mut looker), [None, None]);
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(looker.look(Instant::now()), None);
    small_bundle(&dir, "third", &["e", "f"]);
    assert_eq!(looker.look(Instant::now()), None);
    assert_eq!(looks(&mut looker), ready("third", "e"));
}

#[test]
fn a_bundle_that_does_not_fit_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut looker = looker(folder.path());
    small_bundle(folder.path(), "second", &["odd", "d"]);
    assert_eq!(wrong(&mut looker).0, "--labels: odd");
}

#[test]
fn files_that_change_while_they_are_read_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("bundle");
    let bundle = small_bundle(&dir, "first", &["a", "b"]);
    let mut third = Some(dir.clone());
    let prepare = |bundle: &Bundle| {
        if let Some(dir) = third.take() {
            small_bundle(&dir, "third", &["e", "f"]);
        }
        names(bundle)
    };
    let mut looker = Looker::new(bundle, Files::of(&dir).look(), prepare);
    small_bundle(&dir, "second", &["c", "d"]);
    let now = Instant::now();
    assert_eq!([looker.look(now), looker.look(now)], [None, None]);
    assert_eq!(looker.look(now), Some(News::Ready(("third".into(), "e".into()))));
}

/// What is told next.
fn news(watcher: &mut Watcher<Names>) -> News<Names> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < deadline, "nothing is told");
        match watcher.news() {
            Some(news) => return news,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

#[test]
fn a_thread_that_panics_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = small_bundle(folder.path(), "first", &["a", "b"]);
    let seen = Files::of(folder.path()).look();
    let prepare = |_: &Bundle| -> Result<Names> { panic!("as a test wants it") };
    let mut watcher = Watcher::start(bundle, seen, prepare).unwrap();
    small_bundle(folder.path(), "second", &["c", "d"]);
    let News::Wrong { reason, short } = news(&mut watcher) else { panic!("nothing is ready") };
    assert!(reason.contains(&short) && short.contains("panicked") && reason.contains("start kinora again"), "{reason}");
    assert_eq!(watcher.news(), None);
}

#[test]
fn nobody_waits_for_a_bundle_that_is_being_opened() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = small_bundle(folder.path(), "first", &["a", "b"]);
    let seen = Files::of(folder.path()).look();
    let ((begun, begins), (opened, opens)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let (ended, ends) = std::sync::mpsc::channel::<()>();
    let prepare = move |bundle: &Bundle| {
        // Goes when the thread does.
        let _ended = &ended;
        begun.send(()).unwrap();
        let _ = opens.recv();
        names(bundle)
    };
    let watcher = Watcher::start(bundle, seen, prepare).unwrap();
    small_bundle(folder.path(), "second", &["c", "d"]);
    begins.recv_timeout(Duration::from_secs(60)).unwrap();
    drop(watcher);
    // Only now is it there; the thread drops it and ends.
    drop(opened);
    assert_eq!(ends.recv_timeout(Duration::from_secs(60)), Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn the_thread_tells_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = small_bundle(folder.path(), "first", &["a", "b"]);
    let seen = Files::of(folder.path()).look();
    let mut watcher = Watcher::start(bundle, seen, names).unwrap();
    assert_eq!(watcher.news(), None);
    small_bundle(folder.path(), "second", &["c", "d"]);
    assert_eq!(news(&mut watcher), News::Ready(("second".into(), "c".into())));
    // It ends although nobody takes what it has to tell.
    small_bundle(folder.path(), "third", &["e", "f"]);
    std::thread::sleep(2 * LOOK);
    small_bundle(folder.path(), "fourth", &["g", "h"]);
    std::thread::sleep(2 * LOOK);
    drop(watcher);
}
