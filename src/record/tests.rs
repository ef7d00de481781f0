//! The loop, with a scripted source and a display whose user answers.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::capture::Captured;
use crate::display::Format;
use crate::pipeline::Scripted;

/// A user who sees the question and gives the next of `answers`.
struct User {
    answers: Vec<Wish>,
    asked: bool,
    /// Time of the newest picture.
    last: Duration,
    /// Questions that were seen.
    questions: Arc<std::sync::atomic::AtomicUsize>,
}

impl Display for User {
    fn name(&self) -> &str {
        "user"
    }

    fn has_keys(&self) -> bool {
        true
    }

    fn present(&mut self, frame: &Frame) -> Result<()> {
        assert!(frame.timestamp >= self.last, "{:?} after {:?}", frame.timestamp, self.last);
        self.last = frame.timestamp;
        // Such a small picture has only the bar at its lower edge: green while the clip is shown back.
        self.asked = frame.pixel(0, frame.height() - 1) == Some([38, 200, 165]);
        Ok(())
    }

    fn poll(&mut self) -> Result<Wish> {
        if !std::mem::take(&mut self.asked) {
            return Ok(Wish::Continue);
        }
        self.questions.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(if self.answers.is_empty() { Wish::Quit } else { self.answers.remove(0) })
    }
}

fn end() -> Result<Captured> {
    Ok(Captured::End)
}

fn lost() -> Result<Captured> {
    Err(Error::new(ErrorKind::SourceLost, "unplugged"))
}

/// Records clips of ten pictures at 20 Hz from `source`, which comes back as `again`; the outcome, how often the user
/// was asked, and the files.
fn record(
    (source, again): (Box<dyn Source>, u64),
    count: u32,
    answers: &[Wish],
    realtime: bool,
) -> (Result<Outcome>, usize, Vec<String>) {
    let root = tempfile::tempdir().unwrap();
    let format = Format { width: 16, height: 12, frame_rate: 20.0 };
    let questions = Arc::default();
    let user =
        User { answers: answers.to_vec(), asked: false, last: Duration::ZERO, questions: Arc::clone(&questions) };
    let recorder = Recorder {
        source,
        reopen: Box::new(move || Ok(Scripted::boxed(again, end))),
        display: Box::new(user),
        folder: Folder::open(root.path(), "wave", format).unwrap(),
        label: "wave".into(),
        count,
        pictures: 10,
        asks: true,
        realtime,
        stop: Stop::default(),
    };
    let outcome = recorder.run();
    let files = std::fs::read_dir(root.path().join("wave"));
    let mut files: Vec<_> =
        files.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    (outcome, questions.load(std::sync::atomic::Ordering::SeqCst), files)
}

#[test]
fn what_is_dropped_is_recorded_anew_and_what_is_kept_is_a_file() {
    for realtime in [false, true] {
        let answers = [Wish::Drop, Wish::Keep];
        let (outcome, questions, files) = record((Scripted::boxed(400, end), 0), 1, &answers, realtime);
        assert_eq!(outcome, Ok(Outcome { made: 1, ended: false }));
        assert_eq!((questions, files), (2, vec!["clip-0001.mp4".to_owned()]));
    }
}

#[test]
fn who_quits_at_the_question_keeps_what_was_kept_before() {
    let (outcome, questions, files) = record((Scripted::boxed(400, end), 0), 5, &[Wish::Keep], false);
    assert_eq!(outcome, Ok(Outcome { made: 1, ended: false }));
    assert_eq!((questions, files), (2, vec!["clip-0001.mp4".to_owned()]));
}

#[test]
fn the_end_of_the_source_comes_after_the_last_question() {
    let (outcome, questions, files) = record((Scripted::boxed(70, end), 0), 5, &[Wish::Keep], false);
    assert_eq!(outcome, Ok(Outcome { made: 1, ended: true }));
    assert_eq!((questions, files.len()), (1, 1));
}

#[test]
fn a_source_that_is_lost_costs_the_clip_that_was_being_recorded() {
    for realtime in [false, true] {
        // Lost in the fifth picture. What comes back has room for one clip, but only if nothing before it counted.
        let (outcome, questions, files) = record((Scripted::boxed(65, lost), 100), 2, &[Wish::Keep], realtime);
        assert_eq!(outcome, Ok(Outcome { made: 1, ended: true }));
        assert_eq!((questions, files.len()), (1, 1));
    }
}

#[test]
fn a_broken_source_is_an_error_and_clips_stay() {
    let broken = || Err(Error::new(ErrorKind::Source, "broken"));
    let (outcome, _, files) = record((Scripted::boxed(80, broken), 0), 2, &[Wish::Keep], false);
    assert_eq!(outcome.map_err(|e| e.kind()), Err(ErrorKind::Source));
    assert_eq!(files, ["clip-0001.mp4"]);
}
