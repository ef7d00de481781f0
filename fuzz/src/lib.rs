//! What the fuzz targets share: seeds, and a mutator that knows what a model is made of.

pub mod mutate;
pub mod nets;

use std::path::PathBuf;

/// Where a target writes its first inputs before it reads its corpus.
const SEEDS: &str = "KINORA_FUZZ_SEEDS";

/// Writes `seeds` into the folder that [`SEEDS`] names, if it does. Called once, when a target starts.
pub fn write_seeds(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os(SEEDS).map(PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).expect("the folder for seeds");
    for (number, seed) in seeds().into_iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:03}")), seed).expect("a seed");
    }
}

/// Joins the files of a bundle to one input: each with its length before it.
pub fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.iter().flat_map(|part| (part.len() as u32).to_le_bytes().into_iter().chain(part.iter().copied())).collect()
}

/// The parts that [`join`] joined; what is missing is empty.
pub fn split<const N: usize>(mut bytes: &[u8]) -> [Vec<u8>; N] {
    std::array::from_fn(|_| {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return vec![] };
        let (part, rest) = rest.split_at(rest.len().min(u32::from_le_bytes(*length) as usize));
        bytes = rest;
        part.to_vec()
    })
}
