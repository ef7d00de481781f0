//! A user's way to actions of their own, from end to end: mannequins, a seed for each person, do what the shipped model does not
//! know; that is recorded, learned and seen again in others.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

/// What is learned: three motions that `models/mannequin` has no label for, and what happens between them.
const ACTIONS: [&str; 4] = ["arm_circles", "nothing", "point", "stretch"];

fn run(program: &str, line: &[&str]) -> String {
    let output = Command::new(program).current_dir(env!("CARGO_MANIFEST_DIR")).args(line).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Clips of each action by each of `people`, in a folder per action.
fn record(out: &Path, people: std::ops::Range<u64>, count: &str) {
    let out = out.to_str().unwrap();
    for (person, action) in people.flat_map(|person| ACTIONS.map(|action| (person, action))) {
        let source = format!("synthetic:{person}?motion={action}&size=320x240&fps=30");
        let what = ["record", "--label", action, "--count", count, "--source", &source, "--out", out];
        let how = ["--display", "none", "--yes", "--no-realtime"];
        run(env!("CARGO_BIN_EXE_kinora"), &[what.as_slice(), &how].concat());
    }
}

#[test]
fn actions_of_ones_own_are_recorded_learned_and_seen_in_others() {
    let shipped =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mannequin/labels.txt")).unwrap();
    for action in ACTIONS.iter().filter(|action| **action != "nothing") {
        assert!(shipped.lines().all(|label| label != *action), "the shipped model knows {action}");
    }
    let dir = tempfile::tempdir().unwrap();
    let [clips, others, model] = ["clips", "others", "mine"].map(|name| dir.path().join(name));
    record(&clips, 1..5, "3");
    let (clips, model) = (clips.to_str().unwrap(), model.to_str().unwrap());
    let tune = ["tune", "--data", clips, "--model", "models/mannequin", "--out", model, "--epochs", "10,15"];
    let said = run(env!("CARGO_BIN_EXE_train-export"), &tune);
    assert!(said.contains("before anything is learned"), "{said}");
    record(&others, 11..16, "2");
    let (mut right, mut all) = (0, vec![]);
    for action in ACTIONS {
        let mut files: Vec<String> = (std::fs::read_dir(others.join(action)).unwrap())
            .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let line = ["classify", "--model", model, "--json"].into_iter().chain(files.iter().map(String::as_str));
        let answers = run(env!("CARGO_BIN_EXE_kinora"), &line.collect::<Vec<_>>());
        for answer in answers.lines() {
            let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
            let named = answer["top"][0]["label"].as_str().unwrap().to_owned();
            right += usize::from(named == action);
            all.push((action, named));
        }
    }
    println!("{right} of {} clips of people that were not there are named rightly", all.len());
    assert_eq!(all.len(), 40);
    // 36 when it was measured; other processors sum in another order.
    assert!(right * 10 >= all.len() * 8, "{right} of {}: {all:?}", all.len());
}
