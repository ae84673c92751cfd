//! Replays the corpus of fuzz targets in an ordinary test. Included by the crates whose decoders are fuzzed.

use std::{fs, path::Path};

/// Runs each target with every file of its corpus; they panic if something is wrong.
#[allow(clippy::type_complexity)] // As the lists that it gets.
pub(super) fn replay(targets: &[(&str, fn(&[u8]))]) {
    for (name, target) in targets {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus")).join(name);
        let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for file in files {
            println!("{}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}
