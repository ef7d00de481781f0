//! `kinora classify`: one answer for each video.

use std::fmt::Write;

use anyhow::Result;
use kinora::capture::{self, Options};
use kinora::engine;
use kinora::pipeline::{Answer, Classifier, Runner};
use kinora::stop::Stop;
use kinora::{Error, ErrorKind};
use serde::Serialize;

use super::args::ClassifyArgs;
use super::{label_indices, load_bundle, print};

#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    clips: usize,
    top: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    label: &'a str,
    probability: f32,
    logit: f32,
}

/// Runs `kinora classify`. A file that cannot be read does not keep the others from being answered.
pub fn command(args: &ClassifyArgs) -> Result<()> {
    let stop = Stop::on_signals()?;
    let bundle = load_bundle(args.model.model.as_deref())?;
    let manifest = &bundle.manifest;
    let wanted = args.labels.as_ref().map(|names| label_indices(&bundle.labels, names)).transpose()?;
    let options = args.model.engine();
    let engine = engine::open(&bundle, &options)?;
    let hop = args.model.hop.map_or(manifest.run.hop, usize::from);
    let mut classifier = Classifier::new(manifest, Runner::new(&*engine, manifest)?, hop);
    let mut failed: Option<Error> = None;
    for file in &args.files {
        let options = Options { realtime: false, ..Options::default() };
        if capture::is_endless(file) {
            let message = format!("{file}: never ends, so it has no one answer; watch it with `kinora run --source`");
            return Err(Error::new(ErrorKind::Usage, message).into());
        }
        let answer = capture::open(file, &options, &stop).and_then(|mut source| classifier.classify(source.as_mut()));
        if stop.requested() {
            return Ok(());
        }
        match answer {
            Ok(answer) => {
                let top = answer.top(args.top.max(1), wanted.as_deref(), manifest.output.activation);
                print(&render(args.json, file, &bundle.labels, &answer, &top)?)?;
            }
            Err(error) if args.files.len() > 1 && error.kind() == ErrorKind::Source => {
                log::error!("{error}");
                failed.get_or_insert(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    failed.map_or(Ok(()), |first| Err(first.within("not all files could be answered; the first").into()))
}

fn render(json: bool, file: &str, labels: &[String], answer: &Answer, top: &[(usize, f32)]) -> Result<String> {
    let entry = |&(label, probability): &(usize, f32)| Entry {
        label: &labels[label],
        probability,
        logit: answer.logits[label],
    };
    let line = Line { file, clips: answer.clips, top: top.iter().map(entry).collect() };
    if json {
        return Ok(serde_json::to_string(&line)? + "\n");
    }
    let mut text = format!("{file}: {} clips\n", line.clips);
    for entry in &line.top {
        writeln!(text, "  {:6.1} %  {}", entry.probability * 100.0, entry.label)?;
    }
    Ok(text)
}
