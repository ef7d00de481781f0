//! A whole bundle: manifest, labels, golden clip, models. It is loaded, opened and verified. Hashes in the manifest are put
//! right before, as no change of a file would get past them.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use fastrand::Rng;
use kinora::decision::Settings;
use kinora::engine::{self, Choice, Options};
use kinora::model::bundle::Parts;
use kinora::model::manifest::{
    self, Activation, Colour, Input, Manifest, Mode, Output, Provenance, Quantisation, Resize, Run,
};
use kinora::model::{Bundle, Golden, bundle, reference};
use kinora_fuzz::{mutate, nets};
use ndarray::Array5;
use sha2::{Digest, Sha256};

/// The manifest is the first.
const FILES: [&str; 5] = ["manifest.toml", "labels.txt", "golden.safetensors", "model.onnx", "model.int8.onnx"];

fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder").keep())
}

libfuzzer_sys::fuzz_target!(init: kinora_fuzz::write_seeds(seeds), |bytes: &[u8]| {
    let parts: [Vec<u8>; 5] = kinora_fuzz::split(bytes);
    let manifest = String::from_utf8_lossy(&parts[0]);
    let _ = Manifest::parse(&manifest);
    for (name, part) in FILES.iter().zip(&parts).skip(1) {
        let path = folder().join(name);
        match part.is_empty() {
            true => drop(std::fs::remove_file(path)),
            false => std::fs::write(path, part).expect("a file"),
        }
    }
    std::fs::write(folder().join(FILES[0]), with_hashes(&manifest, &parts)).expect("the manifest");
    let Ok(bundle) = Bundle::load(folder()) else { return };
    // A large clip is no defect, but takes long.
    if bundle.manifest.input.clip_shape().iter().product::<usize>() < 1 << 16 {
        let options = Options { engine: Choice::Native, ..Options::default() };
        let _ = engine::open(&bundle, &options);
    }
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut rng = Rng::with_seed(seed.into());
    let mut parts: [Vec<u8>; 5] = kinora_fuzz::split(&data[..size]);
    let index = [0, 0, 0, 1, 2, 2, 3, 4][rng.usize(0..8)];
    let part = &mut parts[index];
    let (old, room) = (part.len(), part.len() + 256);
    part.resize(room, 0);
    let new = match index {
        3 | 4 => mutate::model(part, old, room, &mut rng),
        _ => libfuzzer_sys::fuzzer_mutate(part, old, room),
    };
    part.truncate(new);
    let bytes = kinora_fuzz::join(&parts);
    let length = bytes.len().min(max_size);
    data[..length].copy_from_slice(&bytes[..length]);
    length
});

/// The manifest with the true hash in each line that begins with the name of a file.
fn with_hashes(manifest: &str, parts: &[Vec<u8>; 5]) -> String {
    let line = |line: &str| {
        let listed = |name: &&str| line.strip_prefix('"').is_some_and(|rest| rest.starts_with(*name));
        match FILES.iter().position(listed).filter(|index| *index > 0) {
            Some(index) => {
                let hash: String = Sha256::digest(&parts[index]).iter().map(|byte| format!("{byte:02x}")).collect();
                format!("\"{}\" = \"{hash}\"\n", FILES[index])
            }
            None => format!("{line}\n"),
        }
    };
    manifest.lines().map(line).collect()
}

fn seeds() -> Vec<Vec<u8>> {
    let rng = &mut Rng::with_seed(3);
    (0..30).filter_map(|_| seed(rng)).collect()
}

/// A bundle with a random net, and with a second one in integers. None if the first one has integers.
fn seed(rng: &mut Rng) -> Option<Vec<u8>> {
    let (graph, weights) = nets::net(rng);
    let &[_, channels, frames, height, width] = graph.input_shape() else { return None };
    let colour = match channels {
        1 => Colour::Gray,
        3 if rng.bool() => Colour::Motion,
        3 => Colour::Rgb,
        _ => return None,
    };
    let clip = Array5::from_shape_simple_fn([1, channels, frames, height, width], || rng.f32());
    let logits = reference::run(&graph, &weights, &[clip.clone().into_dyn().into()]).ok()?;
    let logits: Vec<f32> = logits[0].to_f32().iter().copied().collect();
    let labels: Vec<String> = (0..logits.len()).map(|n| ["nothing", "wave", "jump"][n].to_owned()).collect();
    let integers = weights.keys().any(|name| name.ends_with("_scale"));
    let input = Input {
        frames,
        height,
        width,
        colour,
        frame_rate: 8.0,
        resize: [Resize::Crop, Resize::Pad, Resize::Stretch][rng.usize(0..3)],
        mean: vec![0.5; channels],
        std: vec![0.25; channels],
    };
    let quantisation = integers.then(|| Quantisation { ranges: "all".into(), calibration: "none".into() });
    let manifest = Manifest {
        format: manifest::FORMAT,
        name: "seed".into(),
        architecture: "test".into(),
        input,
        output: Output { activation: Activation::Softmax, classes: labels.len(), per_frame: false },
        run: Run { mode: if rng.bool() { Mode::Window } else { Mode::Stream }, hop: 2 },
        decision: Settings { nothing: "none".into(), ..Settings::default() },
        sided: if labels.len() > 2 { vec![["wave".into(), "jump".into()]] } else { vec![] },
        quantisation,
        provenance: Provenance { licence: "MIT".into(), data: "random".into(), recipe: "none".into() },
        measured: vec![],
        sha256: Default::default(),
    };
    let golden = Golden { clip, logits_int8: integers.then(|| logits.clone()), logits_f32: logits };
    let model = (&graph, &weights);
    let int8 = integers.then_some(model);
    let written = tempfile::tempdir().ok()?;
    let folder = written.path().join("bundle");
    bundle::write(&folder, Parts { manifest, labels: &labels, model, int8, golden: &golden }).ok()?;
    Some(kinora_fuzz::join(&FILES.map(|name| std::fs::read(folder.join(name)).unwrap_or_default())))
}
