//! What the videos of a folder show, by the folders that they are in or by a list; and which of them belongs to which part: by
//! a split file, by two lists, by a pattern in the name, or by lot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use kinora::record::is_clip;

use super::{DataArgs, Part, mix};

/// Lines `FILE,LABEL,..`: what videos show that any number of classes each may describe.
const LABELS: &str = "labels.csv";

/// A folder with a folder of videos per class, or with a list of what each video shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// The class names, sorted.
    pub labels: Vec<String>,
    /// `CLASS/FILE` of every video, sorted, with the indices of what it shows, ascending.
    pub files: BTreeMap<String, Vec<usize>>,
    /// Whether a video may show any number of classes; else it shows one.
    pub several: bool,
}

/// The files of each part, in order.
pub type Parts = BTreeMap<Part, Vec<String>>;

impl Listing {
    /// Reads `folder`. Refuses one without classes, and a class without videos.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let list = folder.join(LABELS);
        if list.is_file() {
            return Self::listed(folder, &list);
        }
        let shown = folder.display();
        let entries = |dir: &Path| -> anyhow::Result<BTreeSet<String>> {
            let entries =
                std::fs::read_dir(dir).with_context(|| format!("--data {}: cannot be read", dir.display()))?;
            let names = entries.map(|e| Ok(e?.file_name().into_string().ok())).collect::<std::io::Result<Vec<_>>>();
            let names = names.with_context(|| format!("--data {}: cannot be read", dir.display()))?;
            Ok(names.into_iter().flatten().filter(|n| !n.starts_with('.')).collect())
        };
        let (mut labels, mut files) = (Vec::new(), BTreeMap::new());
        for label in entries(folder)?.into_iter().filter(|name| folder.join(name).is_dir()) {
            ensure!(
                is_plain(&label),
                "--data {shown}: class {label:?} begins or ends with a space or has no plain name; rename it"
            );
            let videos: Vec<_> = entries(&folder.join(&label))?.into_iter().filter(|name| is_clip(name)).collect();
            ensure!(!videos.is_empty(), "--data {shown}: class `{label}` has no video; add some or remove the folder");
            files.extend(videos.into_iter().map(|video| (format!("{label}/{video}"), vec![labels.len()])));
            labels.push(label);
        }
        ensure!(!labels.is_empty(), "--data {shown}: no folder of videos per class in it, and no {LABELS}");
        Ok(Self { labels, files, several: false })
    }

    /// The videos of `folder` that `list` names, each with what it shows, which may be nothing.
    fn listed(folder: &Path, list: &Path) -> anyhow::Result<Self> {
        let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (number, line) in lines(list)? {
            let place = format!("{}: line {number}", list.display());
            ensure!(!line.contains('"'), "{place}: no quotes: a file's name and its labels are divided by commas");
            let mut fields = line.split(',').map(str::trim);
            let file = fields.next().unwrap_or_default().to_string();
            let found = is_clip(&file) && folder.join(&file).is_file();
            ensure!(found, "{place}: `{file}`: no such video in {}", folder.display());
            let labels: BTreeSet<String> = fields.filter(|label| !label.is_empty()).map(str::to_string).collect();
            if let Some(label) = labels.iter().find(|label| !is_plain(label)) {
                bail!("{place}: {label:?} is no plain name");
            }
            ensure!(!shown.contains_key(&file), "{place}: `{file}` has a line already");
            shown.insert(file, labels);
        }
        let labels: BTreeSet<&String> = shown.values().flatten().collect();
        ensure!(!labels.is_empty(), "{}: no video has a label", list.display());
        let labels: Vec<String> = labels.into_iter().cloned().collect();
        let index = |label: &String| labels.binary_search(label).ok();
        let files = shown.iter().map(|(file, all)| (file.clone(), all.iter().filter_map(index).collect())).collect();
        Ok(Self { labels, files, several: true })
    }

    /// Divides the files as `args` ask; `folder` is where a `split.txt` of its own may be.
    pub fn split(&self, folder: &Path, args: &DataArgs) -> anyhow::Result<Parts> {
        if let Some([train, validation, test]) = args.videos {
            let parts = [(Part::Train, train), (Part::Validation, validation), (Part::Test, test)];
            return self.by_lot(&parts, args.lot);
        }
        let own = folder.join("split.txt");
        let by_name = args.train_list.is_some() || !args.test_pattern.is_empty() || !args.validation_pattern.is_empty();
        let mut parts = if let Some(file) = &args.split {
            self.by_split_file(file)?
        } else if let (Some(train), Some(test)) = (&args.train_list, &args.test_list) {
            self.by_lists(train, test)?
        } else if !by_name && own.is_file() {
            self.by_split_file(&own)?
        } else {
            Parts::from([(Part::Train, self.files.keys().cloned().collect())])
        };
        move_matching(&mut parts, Part::Test, "--test-pattern", &args.test_pattern)?;
        move_matching(&mut parts, Part::Validation, "--validation-pattern", &args.validation_pattern)?;
        let both = |file: &&String| matches(file, &args.test_pattern) && matches(file, &args.validation_pattern);
        if let Some(file) = self.files.keys().find(both) {
            bail!("`{file}` matches --test-pattern and --validation-pattern; a file is in one part only");
        }
        self.hold_out(&mut parts, args.validation)?;
        Ok(parts)
    }

    /// The first `count` classes by name alone.
    pub fn first(&self, count: usize) -> Self {
        let mut first = self.clone();
        first.labels.truncate(count);
        first.files.values_mut().for_each(|shown| shown.retain(|class| *class < count));
        // A video that shows none of them may still show that there is none of them, if it may show several.
        first.files.retain(|_, shown| self.several || !shown.is_empty());
        first
    }

    /// So many videos of each class for each part; always the same ones for a `lot`.
    fn by_lot(&self, parts: &[(Part, u32)], lot: u64) -> anyhow::Result<Parts> {
        let (mut drawn, wanted) = (Parts::new(), parts.iter().map(|(_, count)| u64::from(*count)).sum::<u64>());
        for (class, mut files) in self.by_class(self.files.keys().cloned()) {
            let (of, there) = (self.name_of(class), files.len() as u64);
            ensure!(there >= wanted, "--videos: {of} has {there} videos, {wanted} wanted");
            fastrand::Rng::with_seed(mix(&[lot, class as u64])).shuffle(&mut files);
            for &(part, count) in parts {
                drawn.entry(part).or_default().extend(files.drain(..count as usize));
            }
        }
        drawn.values_mut().for_each(|files| files.sort());
        Ok(drawn)
    }

    /// Files by what they show; those that may show several classes are all one.
    fn by_class(&self, files: impl IntoIterator<Item = String>) -> BTreeMap<usize, Vec<String>> {
        let mut classes: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for file in files {
            let class = self.files.get(&file).and_then(|all| all.first()).filter(|_| !self.several);
            classes.entry(class.copied().unwrap_or_default()).or_default().push(file);
        }
        classes
    }

    /// What a class of [`Listing::by_class`] is called.
    fn name_of(&self, class: usize) -> String {
        if self.several { "the data".into() } else { format!("class `{}`", self.labels[class]) }
    }

    /// Lines `CLASS/FILE PART`.
    fn by_split_file(&self, path: &Path) -> anyhow::Result<Parts> {
        let mut entries = Vec::new();
        for (number, line) in lines(path)? {
            let (file, part) = line.rsplit_once(char::is_whitespace).unwrap_or((&line, ""));
            let Some(part) = Part::ALL.into_iter().find(|p| p.name() == part) else {
                bail!("{}: line {number}: `{line}` does not end in train, validation or test", path.display());
            };
            entries.push((file.trim().to_string(), part, format!("{}: line {number}", path.display())));
        }
        self.collect(entries)
    }

    /// Two lists of lines `CLASS/FILE [NUMBER]`.
    fn by_lists(&self, train: &Path, test: &Path) -> anyhow::Result<Parts> {
        let mut entries = Vec::new();
        for (path, part) in [(train, Part::Train), (test, Part::Test)] {
            for (number, line) in lines(path)? {
                let file = match line.rsplit_once(char::is_whitespace) {
                    Some((file, label)) if label.parse::<u32>().is_ok() => file.trim(),
                    _ => &line,
                };
                entries.push((file.to_string(), part, format!("{}: line {number}", path.display())));
            }
        }
        self.collect(entries)
    }

    fn collect(&self, entries: Vec<(String, Part, String)>) -> anyhow::Result<Parts> {
        let (mut parts, mut seen) = (Parts::new(), BTreeMap::new());
        for (file, part, place) in entries {
            let class = file.split('/').next().unwrap_or_default();
            let known = self.several || self.labels.iter().any(|l| l == class);
            ensure!(known, "{place}: `{file}`: no class folder `{class}` in --data");
            ensure!(self.files.contains_key(&file), "{place}: `{file}`: no such video in --data");
            match seen.insert(file.clone(), part) {
                None => parts.entry(part).or_default().push(file),
                Some(before) if before == part => {}
                Some(before) => bail!("{place}: `{file}` is in {} and in {}", before.name(), part.name()),
            }
        }
        parts.values_mut().for_each(|files| files.sort());
        Ok(parts)
    }

    /// Moves `share` of each class's training files, at least one, to validation: always the same ones, so that what is
    /// evaluated later was held out from training. Of files that may show several classes, of all of them.
    fn hold_out(&self, parts: &mut Parts, share: f32) -> anyhow::Result<()> {
        ensure!((0.0..1.0).contains(&share), "--validation {share}: a share is from 0 to below 1");
        let train = parts.remove(&Part::Train).unwrap_or_default();
        for (class, mut files) in self.by_class(train) {
            if share > 0.0 {
                ensure!(files.len() > 1, "--validation: {} has one training file only", self.name_of(class));
                fastrand::Rng::with_seed(mix(&[class as u64])).shuffle(&mut files);
                let held = ((files.len() as f32 * share).round() as usize).clamp(1, files.len() - 1);
                parts.entry(Part::Validation).or_default().extend(files.drain(..held));
            }
            parts.entry(Part::Train).or_default().extend(files);
        }
        parts.values_mut().for_each(|files| files.sort());
        Ok(())
    }
}

/// Moves the files that match `pattern` from training to `to`.
fn move_matching(parts: &mut Parts, to: Part, flag: &str, pattern: &[String]) -> anyhow::Result<()> {
    if pattern.is_empty() {
        return Ok(());
    }
    let everything: Vec<String> = parts.values().flatten().cloned().collect();
    if let Some(unused) = pattern.iter().find(|p| !everything.iter().any(|f| matches(f, std::slice::from_ref(p)))) {
        bail!("{flag}: no file has `{unused}` between underscores, dashes, dots or blanks in its name");
    }
    let train = parts.remove(&Part::Train).unwrap_or_default();
    let (moved, left): (Vec<_>, Vec<_>) = train.into_iter().partition(|file| matches(file, pattern));
    parts.insert(Part::Train, left);
    let to = parts.entry(to).or_default();
    to.extend(moved);
    to.sort();
    Ok(())
}

/// Whether one of `pattern` is in the file's name, between underscores, dashes, dots or blanks.
fn matches(file: &str, pattern: &[String]) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    let is_gap = |c: char| ['_', '-', '.', ' '].contains(&c);
    let begins = name.char_indices().map(|(at, _)| at).filter(|at| name[..*at].chars().next_back().is_none_or(is_gap));
    let mut rests = begins.map(|at| &name[at..]);
    rests.any(|rest| {
        let is_there =
            |p: &String| rest.strip_prefix(p.as_str()).is_some_and(|end| end.chars().next().is_none_or(is_gap));
        pattern.iter().any(is_there)
    })
}

/// Whether a label can be shown, and written into a line.
fn is_plain(label: &str) -> bool {
    label.trim() == label && !label.contains(char::is_control)
}

/// The lines of a text file that say something, with their numbers.
fn lines(path: &Path) -> anyhow::Result<Vec<(usize, String)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim().to_string()));
    let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
    ensure!(!lines.is_empty(), "{}: is empty", path.display());
    Ok(lines)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::data::tests::data_args;

    /// Two classes, four people, two trials.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (action, class) in ["clap", "wave"].iter().enumerate() {
            std::fs::create_dir(dir.path().join(class)).unwrap();
            for (person, trial) in (1..=4).flat_map(|p| [(p, 1), (p, 2)]) {
                std::fs::write(dir.path().join(format!("{class}/a{action}_s{person}_t{trial}_color.mp4")), "").unwrap();
            }
            std::fs::write(dir.path().join(format!("{class}/notes.txt")), "").unwrap();
            std::fs::write(dir.path().join(format!("{class}/._a0_s1_t1_color.mp4")), "").unwrap();
        }
        dir
    }

    fn split(dir: &Path, line: &str) -> anyhow::Result<[usize; 3]> {
        let parts = Listing::read(dir)?.split(dir, &data_args(line.split_whitespace()))?;
        Ok(Part::ALL.map(|p| parts.get(&p).map_or(0, Vec::len)))
    }

    fn error(dir: &Path, line: &str) -> String {
        format!("{:#}", split(dir, line).unwrap_err())
    }

    #[test]
    fn a_listing_is_sorted_and_has_only_videos() {
        let dir = folder();
        let listing = Listing::read(dir.path()).unwrap();
        assert_eq!(listing.labels, ["clap", "wave"]);
        assert_eq!(listing.files.len(), 16);
        assert_eq!(listing.files.get("wave/a1_s3_t2_color.mp4"), Some(&vec![1]));
    }

    #[test]
    fn an_empty_class_and_an_empty_folder_are_refused() {
        let dir = folder();
        std::fs::create_dir(dir.path().join("jump")).unwrap();
        assert!(Listing::read(dir.path()).unwrap_err().to_string().contains("class `jump` has no video"));
        let empty = tempfile::tempdir().unwrap();
        assert!(Listing::read(empty.path()).unwrap_err().to_string().contains("no folder of videos"));
        assert!(Listing::read(&empty.path().join("gone")).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn a_list_says_what_each_video_shows() {
        let dir = folder();
        let list = dir.path().join("labels.csv");
        let good = "# film, categories\nwave/a1_s1_t1_color.mp4,drama, action,drama\nclap/a0_s2_t1_color.mp4\n\
                    clap/a0_s1_t1_color.mp4,comedy\nclap/a0_s3_t1_color.mp4,action,comedy,\n";
        std::fs::write(&list, good).unwrap();
        let listing = Listing::read(dir.path()).unwrap();
        assert_eq!(
            (&listing.labels[..], listing.several),
            (&["action", "comedy", "drama"].map(String::from)[..], true)
        );
        let shown: Vec<&[usize]> = listing.files.values().map(Vec::as_slice).collect();
        assert_eq!(shown, [&[1][..], &[], &[0, 1], &[0, 2]]);
        assert_eq!(split(dir.path(), "--test-pattern s2 --validation 0.3").unwrap(), [2, 1, 1]);
        std::fs::write(dir.path().join("split.txt"), "clap/a0_s1_t1_color.mp4 test\n").unwrap();
        assert_eq!(split(dir.path(), "").unwrap(), [0, 0, 1]);
        for (line, want) in [
            ("clap/gone.mp4,drama", "line 6: `clap/gone.mp4`: no such video"),
            ("clap/notes.txt,drama", "no such video"),
            ("clap/a0_s1_t1_color.mp4,drama", "has a line already"),
            ("\"clap/a0_s4_t1_color.mp4\",drama", "no quotes"),
        ] {
            std::fs::write(&list, format!("{good}{line}\n")).unwrap();
            let error = format!("{:#}", Listing::read(dir.path()).unwrap_err());
            assert!(error.contains(want), "{error}");
        }
        std::fs::write(&list, "clap/a0_s1_t1_color.mp4\n").unwrap();
        assert!(Listing::read(dir.path()).unwrap_err().to_string().contains("no video has a label"));
    }

    #[test]
    fn patterns_divide_by_words_of_the_name() {
        let dir = folder();
        assert_eq!(split(dir.path(), "").unwrap(), [16, 0, 0]);
        assert_eq!(split(dir.path(), "--test-pattern s2,s4").unwrap(), [8, 0, 8]);
        assert_eq!(split(dir.path(), "--test-pattern s2,s4 --validation-pattern s3").unwrap(), [4, 4, 8]);
        assert!(error(dir.path(), "--test-pattern s").contains("no file has `s`"));
        assert!(error(dir.path(), "--test-pattern s1,s9").contains("no file has `s9`"));
        assert!(error(dir.path(), "--test-pattern s1 --validation-pattern t1").contains("in one part only"));
        // A name may have gaps itself.
        let has = |pattern: &str| matches("wave/clip-0001-anna-b.mp4", &[pattern.to_owned()]);
        assert!(["anna-b", "anna", "b", "clip-0001-anna-b", "mp4"].into_iter().all(has));
        assert!(!["anna-", "nna-b", "ann", "anna-bo", "wave", ""].into_iter().any(has));
    }

    #[test]
    fn a_split_file_is_obeyed_and_checked() {
        let dir = folder();
        let file = dir.path().join("split.txt");
        let good = "# mine\nclap/a0_s1_t1_color.mp4 train\nwave/a1_s1_t1_color.mp4\ttest\nwave/a1_s2_t1_color.mp4 validation\n";
        std::fs::write(&file, good).unwrap();
        assert_eq!(split(dir.path(), "").unwrap(), [1, 1, 1]);
        assert_eq!(split(dir.path(), &format!("--split {}", file.display())).unwrap(), [1, 1, 1]);
        for (line, want) in [
            ("clap/a0_s1_t1_color.mp4 dev", "line 5: `clap/a0_s1_t1_color.mp4 dev` does not end in train"),
            ("clap/a0_s1_t1_color.mp4 test", "is in train and in test"),
            ("run/a.mp4 test", "no class folder `run`"),
            ("clap/gone.mp4 test", "no such video"),
        ] {
            std::fs::write(&file, format!("{good}{line}\n")).unwrap();
            let error = error(dir.path(), "");
            assert!(error.contains(want), "{error}");
        }
        std::fs::write(&file, "\n").unwrap();
        assert!(error(dir.path(), "").contains("is empty"));
    }

    #[test]
    fn so_many_videos_of_the_first_classes_are_drawn_by_lot() {
        let dir = folder();
        assert_eq!(split(dir.path(), "--videos 5,1,2").unwrap(), [10, 2, 4]);
        assert!(error(dir.path(), "--videos 4294967295,4294967295,1").contains("8589934591 wanted"));
        assert!(error(dir.path(), "--videos 5,2,2").contains("class `clap` has 8 videos, 9 wanted"));
        let listing = Listing::read(dir.path()).unwrap();
        let of = |lot| listing.split(dir.path(), &data_args(["--videos", "3,1,1", "--lot", lot])).unwrap();
        assert_eq!(of("1"), of("1"));
        assert_ne!(of("1"), of("2"));
        let first = listing.first(1);
        assert_eq!((&first.labels[..], first.files.len()), (&["clap".to_string()][..], 8));
    }

    #[test]
    fn two_lists_as_ucf101_has_them() {
        let dir = folder();
        let (train, test) = (dir.path().join("trainlist01.txt"), dir.path().join("testlist01.txt"));
        std::fs::write(&train, "clap/a0_s1_t1_color.mp4 1\r\nwave/a1_s1_t1_color.mp4 2\r\n").unwrap();
        std::fs::write(&test, "clap/a0_s2_t1_color.mp4\n").unwrap();
        let flags = format!("--train-list {} --test-list {}", train.display(), test.display());
        assert_eq!(split(dir.path(), &flags).unwrap(), [2, 0, 1]);
        std::fs::write(&test, "clap/a0_s1_t1_color.mp4\n").unwrap();
        assert!(error(dir.path(), &flags).contains("is in train and in test"));
    }

    #[test]
    fn a_share_is_held_out_of_every_class() {
        let dir = folder();
        assert_eq!(split(dir.path(), "--test-pattern s2,s4 --validation 0.25").unwrap(), [6, 2, 8]);
        assert_eq!(split(dir.path(), "--validation 0.01").unwrap(), [14, 2, 0]);
        assert!(error(dir.path(), "--validation 1").contains("from 0 to below 1"));
        let listing = Listing::read(dir.path()).unwrap();
        let of = || listing.split(dir.path(), &data_args(["--validation", "0.5"])).unwrap();
        assert_eq!(of(), of());
    }
}
