//! Where the shared test data are: real clips, pictures and models.

use std::path::{Path, PathBuf};

/// The folder `name` of the test data for the test `test`, or `None` where there are none and that is allowed.
pub fn folder(test: &str, name: &str) -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("KINORA_TEST_DATA").map_or(shared, PathBuf::from).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var("KINORA_REQUIRE_DATA").as_deref() != Ok("1"), "no {}", folder.display());
    eprintln!("left out: {test}: no {}", folder.display());
    None
}
