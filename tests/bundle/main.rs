//! Bundles on disk: what is written runs in tract as the graph says, and what is broken is refused with one clear line.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../src/cli/inspect.rs"]
mod inspect;
mod reference;

use std::fs;
use std::path::Path;

use kinora::engine::{self, Choice, Options, Precision};
use kinora::model::bundle;
use kinora::model::graph::{Graph, Weights};
use kinora::model::manifest::{Activation, Colour, Input, Mode, Output, Provenance, Resize, Run};
use kinora::model::{Bundle, Golden, Manifest, onnx};
use kinora::{Error, ErrorKind};

/// The parts of a bundle whose golden logits come from the reference.
struct Parts {
    manifest: Manifest,
    labels: Vec<String>,
    graph: Graph,
    weights: Weights,
    golden: Golden,
}

impl Parts {
    fn random(seed: u64, [frames, height, width]: [usize; 3], classes: usize) -> Self {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let colour = if seed.is_multiple_of(2) { Colour::Rgb } else { Colour::Gray };
        let channels = colour.channels();
        let graph = reference::graph(rng, [channels, frames, height, width], classes).unwrap();
        let weights = reference::weights(rng, &graph);
        let clip = reference::clip(rng, &graph);
        let logits_f32 = reference::logits(&graph, &weights, &clip);
        let labels = (0..classes).map(|k| format!("action {k}")).collect();
        Self {
            manifest: manifest(colour, [frames, height, width], classes),
            labels,
            graph,
            weights,
            golden: Golden { clip, logits_f32, logits_int8: None },
        }
    }

    fn write(&self, dir: &Path) -> Result<Bundle, Error> {
        let model = (&self.graph, &self.weights);
        let manifest = self.manifest.clone();
        bundle::write(dir, bundle::Parts { manifest, labels: &self.labels, model, int8: None, golden: &self.golden })
    }
}

fn manifest(colour: Colour, [frames, height, width]: [usize; 3], classes: usize) -> Manifest {
    let mean = vec![0.0; colour.channels()];
    let std = vec![1.0; colour.channels()];
    Manifest {
        format: kinora::model::manifest::FORMAT,
        name: "test".into(),
        architecture: "random".into(),
        input: Input { frames, height, width, colour, frame_rate: 12.0, resize: Resize::Crop, mean, std },
        output: Output { activation: Activation::Softmax, classes, per_frame: false },
        run: Run { mode: Mode::Window, hop: 2 },
        decision: Default::default(),
        quantisation: None,
        sided: vec![],
        provenance: Provenance { licence: "MIT".into(), data: "noise".into(), recipe: "none".into() },
        measured: vec![],
        sha256: Default::default(),
    }
}

#[test]
fn tract_computes_what_the_graph_says() {
    let folder = tempfile::tempdir().unwrap();
    let shapes = [[1, 8, 8], [4, 9, 11], [5, 8, 13], [8, 16, 16], [7, 15, 10], [3, 12, 9]];
    for (seed, shape) in (0..24u64).zip(shapes.into_iter().cycle()) {
        let parts = Parts::random(seed, shape, 1 + seed as usize % 5);
        let dir = folder.path().join(seed.to_string());
        let bundle = parts.write(&dir).unwrap();
        let engine = engine::open(&bundle, &Options::default()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let deviation = engine::verify(&*engine, &bundle).unwrap();
        assert!(deviation < 1e-5, "seed {seed}: {deviation}");
        assert_eq!(onnx::read_weights(&bundle.onnx()).unwrap(), parts.weights);
    }
}

/// A bundle in `folder`, small and quick to load.
fn small(folder: &Path) -> Bundle {
    let mut parts = Parts::random(2, [4, 9, 11], 3);
    parts.labels = ["nothing", "swipe_left", "swipe_right"].map(String::from).to_vec();
    parts.manifest.sided = vec![["swipe_left".into(), "swipe_right".into()]];
    parts.write(&folder.join("small")).unwrap()
}

/// Writes `content` to a file of the bundle and corrects its hash in the manifest.
fn tamper(dir: &Path, file: &str, content: &[u8]) {
    use sha2::Digest;
    fs::write(dir.join(file), content).unwrap();
    let manifest = fs::read_to_string(dir.join("manifest.toml")).unwrap();
    let hash: String = sha2::Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect();
    let line = |line: &str| match line.starts_with(&format!("\"{file}\" =")) {
        true => format!("\"{file}\" = \"{hash}\"\n"),
        false => format!("{line}\n"),
    };
    fs::write(dir.join("manifest.toml"), manifest.lines().map(line).collect::<String>()).unwrap();
}

fn refused(dir: &Path) -> String {
    let error = Bundle::load(dir).expect_err("the bundle is broken");
    assert_eq!(error.kind(), ErrorKind::Model, "{error}");
    error.to_string()
}

#[test]
fn a_broken_manifest_is_refused_naming_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let dir = small(folder.path()).dir;
    let good = fs::read_to_string(dir.join("manifest.toml")).unwrap();
    let table = [
        ("format = 1", "format = 2", "'format': this program reads version 1, not 2: update kinora"),
        ("format = 1", "", "'format' is missing"),
        ("format = 1", "format = 1\nflavour = 3", "line 2: unknown field `flavour`"),
        ("frames = 4", "frames = 4\nlayout = 1", "unknown field `layout`"),
        ("frames = 4", "frames = ", "line "),
        ("frames = 4", "frames = -4", "line "),
        ("frames = 4", "frames = 0", "'input.frames': 0 is not from 1 to 1024"),
        ("frames = 4", "frames = 5", "is [1, 3, 4, 9, 11], but manifest and labels say [1, 3, 5, 9, 11]"),
        ("frames = 4", "", "missing field `frames`"),
        ("height = 9", "height = 7", "'input.height'"),
        ("width = 11", "width = 4096", "'input.width'"),
        ("frames = 4\nheight = 9\nwidth = 11", "frames = 1024\nheight = 2048\nwidth = 2048", "too large"),
        ("frame_rate = 12.0", "frame_rate = 0.1", "'input.frame_rate'"),
        ("frame_rate = 12.0", "frame_rate = nan", "'input.frame_rate'"),
        ("colour = \"rgb\"", "colour = \"depth\"", "unknown variant `depth`"),
        ("colour = \"rgb\"", "colour = \"gray\"", "'input.mean': 3 values for 1 channels"),
        ("mean = [0.0, 0.0, 0.0]", "mean = [0.0]", "'input.mean': 1 values"),
        ("mean = [0.0, 0.0, 0.0]", "mean = [0.0, inf, 0.0]", "'input.mean'"),
        ("std = [1.0, 1.0, 1.0]", "std = [1.0, 0.0, 1.0]", "'input.std'"),
        ("classes = 3", "classes = 4", "'output.classes': 4, but labels.txt has 3 labels"),
        ("hop = 2", "hop = 0", "'run.hop'"),
        ("mode = \"window\"", "mode = \"batch\"", "unknown variant `batch`"),
        ("enter = 0.6", "enter = 1.5", "decision.enter = "),
        ("exit = 0.4", "exit = 0.7", "decision.exit = "),
        ("exit = 0.4", "exit = nan", "decision.exit = "),
        ("cooldown_s = 0.0", "cooldown_s = -1.0", "decision.cooldown_s = "),
        ("[provenance]", "[decision.labels.hop]\nenter = 0.5\nexit = 0.4\n[provenance]", "decision.labels.hop"),
        ("cooldown_s = 0.0", "patience = 1.0", "unknown field `patience`"),
        ("\"swipe_left\", \"swipe_right\"", "\"swipe_left\", \"sweep\"", "'sided': 'sweep' is not in labels.txt"),
        ("\"swipe_left\", \"swipe_right\"", "\"swipe_left\", \"swipe_left\"", "named twice"),
        ("licence = \"MIT\"", "licence = \" \"", "'provenance.licence' is empty"),
        ("\"model.onnx\" =", "\"../model.onnx\" =", "'model.onnx': the file is not listed"),
        ("\"model.onnx\" =", "\"../x\" = \"\"\n\"model.onnx\" =", "'../x': not the plain name"),
        ("\"model.onnx\" = \"", "\"model.onnx\" = \"0", "'model.onnx': not 64 lower-case"),
        ("\"model.onnx\" =", "\"more\" = \"00\"\n\"model.onnx\" =", "'more': not 64"),
    ];
    for (from, to, message) in table {
        let broken = good.replacen(from, to, 1);
        assert_ne!(broken, good, "{from}");
        fs::write(dir.join("manifest.toml"), broken).unwrap();
        let error = refused(&dir);
        assert!(error.contains("manifest.toml") || error.contains("model.onnx"), "{error}");
        assert!(error.contains(message), "{from} -> {to}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    fs::write(dir.join("manifest.toml"), good).unwrap();
    Bundle::load(&dir).unwrap();
}

#[test]
fn a_broken_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let labels = |text: &[u8], message: &str| ("labels.txt", text.to_vec(), message.to_owned());
    let dir = small(folder.path()).dir;
    let model = fs::read(dir.join("model.onnx")).unwrap();
    let golden = fs::read(dir.join("golden.safetensors")).unwrap();
    let rest = [
        labels(b"", "there are no labels"),
        labels(b"a\nb\n", "classes"),
        labels(b"a\n\nb\n", "labels.txt: line 2: the line is blank"),
        labels(b"a\nb\na\n", "labels.txt: line 3: 'a' is there twice"),
        labels(b"a\nb \nc\n", "line 2: 'b ' has blanks"),
        labels(b"a\nb\x07\nc\n", "control characters"),
        labels(b"a\n\xff\nc\n", "labels.txt: line 2: not UTF-8"),
        ("model.onnx", vec![], "model.onnx: the file is empty".to_owned()),
        ("model.onnx", b"MIT License\n\nCopyright".to_vec(), "model.onnx: not an ONNX model".to_owned()),
        ("model.onnx", model[..model.len() - 9].to_vec(), "model.onnx: not".to_owned()),
        ("golden.safetensors", golden[..golden.len() - 9].to_vec(), "golden.safetensors: not a safetensors".to_owned()),
        ("golden.safetensors", vec![], "golden.safetensors: not a safetensors".to_owned()),
    ];
    for (file, content, message) in rest {
        let dir = small(folder.path()).dir;
        tamper(&dir, file, &content);
        let error = refused(&dir);
        assert!(error.contains(&message), "{message}: {error}");
    }
    for file in ["labels.txt", "model.onnx", "golden.safetensors"] {
        let dir = small(folder.path()).dir;
        let mut content = fs::read(dir.join(file)).unwrap();
        content[0] ^= 1;
        fs::write(dir.join(file), content).unwrap();
        assert!(refused(&dir).contains(&format!("{file}: its SHA-256")));
        fs::remove_file(dir.join(file)).unwrap();
        assert!(refused(&dir).contains(file));
        fs::create_dir(dir.join(file)).unwrap();
        assert!(refused(&dir).contains("not a regular file"));
        fs::remove_dir(dir.join(file)).unwrap();
    }
    assert!(refused(folder.path()).contains("no model bundle"));
    assert!(refused(&folder.path().join("nowhere")).contains("no model bundle"));
}

#[test]
fn parts_that_contradict_one_another_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("bundle");
    let good = || Parts::random(2, [4, 9, 11], 3);
    let refuse = |parts: Parts, message: &str| {
        let error = parts.write(&dir).expect_err(message);
        assert_eq!(error.kind(), ErrorKind::Model, "{error}");
        assert!(error.to_string().contains(message), "{error}");
    };
    refuse(Parts { labels: vec!["a".into(), "b".into()], ..good() }, "labels");
    refuse(Parts { labels: ["a", "b", "c\nd"].map(String::from).to_vec(), ..good() }, "labels");
    refuse(Parts { weights: Weights::new(), ..good() }, "lack");
    refuse(Parts { golden: Golden { logits_f32: vec![1.0], ..good().golden }, ..good() }, "logits_f32");
    refuse(Parts { golden: Golden { logits_f32: vec![f32::NAN; 3], ..good().golden }, ..good() }, "finite");
    refuse(Parts { golden: Parts::random(2, [4, 9, 12], 3).golden, ..good() }, "'clip' is [1, 3, 4, 9, 12]");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");

    good().write(&dir).unwrap();
    let before = fs::read(dir.join("model.onnx")).unwrap();
    good().write(&dir).unwrap();
    assert_eq!(before, fs::read(dir.join("model.onnx")).unwrap(), "the same parts give the same bytes");
    Parts::random(4, [4, 9, 11], 3).write(&dir).unwrap();
    assert_ne!(before, fs::read(dir.join("model.onnx")).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    fs::write(dir.join("notes.txt"), "mine").unwrap();
    let error = good().write(&dir).expect_err("notes.txt would be lost");
    assert!(error.kind() == ErrorKind::Output && error.to_string().contains("notes.txt"), "{error}");
    let error = good().write(&dir.join("notes.txt/bundle")).expect_err("a file is no folder");
    assert_eq!(error.kind(), ErrorKind::Output, "{error}");
}

#[test]
fn an_engine_that_misses_the_golden_logits_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = Parts::random(2, [4, 9, 11], 3);
    let largest = parts.golden.logits_f32.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    parts.golden.logits_f32[1] += 3e-4 * largest;
    let bundle = parts.write(&folder.path().join("bundle")).unwrap();
    let error = engine::open(&bundle, &Options::default()).err().expect("the golden logits are not the model's");
    assert_eq!(error.kind(), ErrorKind::Engine, "{error}");
    assert!(error.to_string().contains("golden.safetensors"), "{error}");
    let threads = engine::open(&bundle, &Options { engine: Choice::Tract, threads: 4, ..Options::default() });
    assert!(threads.is_err_and(|e| e.to_string().contains("one thread")));
}

#[test]
fn tract_runs_integers_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let int8 = Options { engine: Choice::Tract, precision: Some(Precision::Int8), ..Options::default() };
    let error = engine::open(&small(folder.path()), &int8).err().expect("there is no such model");
    assert!(error.to_string().contains("no int8 model"), "{error}");
    let shipped = Bundle::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mannequin")).unwrap();
    // Opening compares with the golden logits; these are not those of f32.
    let engine = engine::open(&shipped, &int8).unwrap();
    let (golden, mut logits) = (shipped.golden().unwrap(), vec![0.0; shipped.labels.len()]);
    engine.session().unwrap().infer(golden.clip.view(), &mut logits).unwrap();
    let apart = |right: &[f32]| logits.iter().zip(right).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    let (int8, f32) = (apart(&golden.logits_int8.unwrap()), apart(&golden.logits_f32));
    assert!(int8 < f32, "{int8} from the integers, {f32} from the floats");
}

#[test]
fn clips_and_logits_that_are_not_the_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = small(folder.path());
    let engine = engine::open(&bundle, &Options::default()).unwrap();
    let clip = bundle.golden().unwrap().clip;
    let mut session = engine.session().unwrap();
    let mut logits = [0.0; 3];
    assert!(session.infer(clip.slice(ndarray::s![.., .., ..3, .., ..]), &mut logits).is_err());
    assert!(session.infer(clip.view(), &mut logits[..2]).is_err());
    session.infer(clip.view(), &mut logits).unwrap();
    let first = logits;
    // A view that is not contiguous gives the same as its copy.
    let mut wide = ndarray::Array5::zeros((1, 3, 4, 9, 22));
    wide.slice_mut(ndarray::s![.., .., .., .., ..;2]).assign(&clip);
    session.infer(wide.slice(ndarray::s![.., .., .., .., ..;2]), &mut logits).unwrap();
    assert_eq!(first, logits);
}

#[test]
fn logits_that_are_not_finite_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = Parts::random(2, [4, 9, 11], 3);
    parts.weights.values_mut().for_each(|tensor| tensor.fill(f32::MAX));
    let bundle = parts.write(&folder.path().join("bundle")).unwrap();
    let error = engine::open(&bundle, &Options::default()).err().expect("the logits overflow");
    assert!(error.to_string().contains("model.onnx") && error.to_string().contains("not finite"), "{error}");
    let tract = Options { engine: Choice::Tract, ..Options::default() };
    let error = engine::open(&bundle, &tract).err().expect("the logits overflow");
    assert_eq!(error.kind(), ErrorKind::Engine, "{error}");
    assert!(error.to_string().contains("engine tract: a logit is not finite"), "{error}");
}

/// Loads a model that may be broken in any way and runs it: an error or logits, never a panic.
fn survive(dir: &Path, content: &[u8]) -> bool {
    tamper(dir, "model.onnx", content);
    let _ = onnx::read_weights(&dir.join("model.onnx"));
    match Bundle::load(dir).and_then(|bundle| engine::open(&bundle, &Options::default())) {
        Ok(_) => true,
        Err(error) => {
            assert!(error.to_string().contains("small"), "the error names no file: {error}");
            assert!(error.to_string().len() < 1000, "{error}");
            false
        }
    }
}

#[test]
fn hostile_models_give_errors() {
    let folder = tempfile::tempdir().unwrap();
    let dir = small(folder.path()).dir;
    let good = fs::read(dir.join("model.onnx")).unwrap();
    assert!(survive(&dir, &good));
    let rng = &mut fastrand::Rng::with_seed(9);
    for length in (0..60).map(|i| good.len() * i / 60).chain(good.len() - 30..good.len()) {
        assert!(!survive(&dir, &good[..length]), "cut to {length} of {}", good.len());
    }
    // Half of the flips hit names, shapes and attributes: those before the weights.
    let header = good.windows(12).position(|w| w == b"stem.spatial").unwrap() + 1600;
    for _ in 0..300 {
        let mut broken = good.clone();
        for _ in 0..rng.usize(1..4) {
            let end = if rng.bool() { header.min(good.len()) } else { good.len() };
            let at = rng.usize(0..end);
            broken[at] = if rng.bool() { broken[at] ^ (1 << rng.u8(0..8)) } else { rng.u8(..) };
        }
        survive(&dir, &broken);
    }
}

#[test]
fn a_bundle_is_described_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = small(folder.path());
    let text = inspect::describe(&bundle).unwrap();
    let parameters: usize = onnx::read_weights(&bundle.onnx()).unwrap().values().map(|w| w.len()).sum();
    let wanted = [
        "nothing, swipe_left, swipe_right",
        "11x9 pixels",
        "4 frames at 12 a second: 0.33 s",
        "one at a time (softmax)",
        "swipe_left and swipe_right change places",
        "model.onnx, ",
    ];
    for wanted in wanted.into_iter().chain([&*format!("random, {parameters} parameters")]) {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}
