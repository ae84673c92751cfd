//! docs/new-backend.md, proven: a crate outside the workspace that uses nothing but public APIs implements a transport
//! and passes the suite. Its files lie in `outside_crate/`.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use trunkline_conformance::CASES;

/// The files of the crate, by their paths in it.
const FILES: [(&str, &str); 8] = [
    ("Cargo.toml", include_str!("outside_crate/manifest.toml")),
    ("src/lib.rs", include_str!("outside_crate/src/lib.rs")),
    ("src/wire.rs", include_str!("outside_crate/src/wire.rs")),
    ("src/hub.rs", include_str!("outside_crate/src/hub.rs")),
    ("src/joined.rs", include_str!("outside_crate/src/joined.rs")),
    ("src/connection.rs", include_str!("outside_crate/src/connection.rs")),
    ("src/transport.rs", include_str!("outside_crate/src/transport.rs")),
    ("tests/conformance.rs", include_str!("outside_crate/tests/conformance.rs")),
];

/// What needs a history, which the hub does not keep.
const NOT_APPLICABLE: usize = 25;

#[test]
fn a_crate_outside_the_workspace_passes_with_public_apis_only() {
    let folder = TemporaryFolder::new();
    lay_out(&folder.0);
    let output = run_its_tests(&folder.0);
    assert!(
        output.contains(&format!(
            "conformance::tcp: {} cases apply, {NOT_APPLICABLE} do not",
            CASES.len() - NOT_APPLICABLE
        ))
    );
    // One test per case, one of the capabilities and one of what does not apply.
    assert!(output.contains(&format!("test result: ok. {} passed; 0 failed; 0 ignored;", CASES.len() + 2)), "{output}");
}

#[test]
fn the_guide_shows_the_lines_of_that_crate() {
    let guide = fs::read_to_string(crates().join("../docs/new-backend.md")).unwrap();
    let blocks: Vec<_> = guide.split("```").skip(1).step_by(2).collect();
    assert!(blocks.len() > 5, "the guide shows only {} pieces", blocks.len());
    for block in blocks {
        let (language, text) = block.split_once('\n').unwrap();
        if ["rust", "toml"].contains(&language) {
            let is_quoted = FILES.iter().any(|(_, file)| file.contains(text));
            assert!(is_quoted, "docs/new-backend.md shows what is in no file of the crate:\n{text}");
        }
    }
}

/// A folder that is gone when the test has ended.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Self {
        Self(env::temp_dir().join(format!("tcp-hub-{}", process::id())))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn crates() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Writes the crate. The versions of what it depends on are those of the workspace, so that nothing has to be
/// downloaded.
fn lay_out(folder: &Path) {
    for (path, text) in FILES {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("@CRATES@", crates().to_str().unwrap())).unwrap();
    }
    fs::copy(crates().join("../Cargo.lock"), folder.join("Cargo.lock")).unwrap();
}

/// Runs `cargo test` there, and returns what it printed.
fn run_its_tests(folder: &Path) -> String {
    // Apart from the workspace's own results, but kept as long as these.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("outside-crate");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg("test").current_dir(folder);
    command.env("CARGO_TARGET_DIR", target).env("CARGO_PROFILE_DEV_DEBUG", "0").env("RUST_BACKTRACE", "0");
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{text}");
    println!("{text}");
    text
}
