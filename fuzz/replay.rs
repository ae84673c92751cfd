//! Replays the corpus of fuzz targets in an ordinary test. Included by the crates whose decoders are fuzzed.

use std::{fs, path::Path};

use super::TARGETS;

/// Runs each target with every file of its corpus; they panic if something is wrong.
#[test]
fn the_corpus_holds() {
    for (name, target) in TARGETS {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus")).join(name);
        let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for file in files {
            println!("{}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}
