//! What the READMEs tell a newcomer to write: the dependencies are enough for the program, and the versions are true.

// In helpers of tests, too, a panic is the failure message.
#![allow(clippy::unwrap_used)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

#[test]
fn the_program_of_the_readme_needs_no_more_than_its_dependencies() {
    let folder = TemporaryFolder::new();
    let readme = read("README.md");
    // The backend of the program's URL is always there; those of brokers have their own tests.
    let dependencies = block(&readme, "toml").replace(r#"{ version = "0.1", features = ["redis"] }"#, r#""0.1""#);
    let package = "[package]\nname = \"first-steps\"\nedition = \"2024\"\n\n[workspace]\n\n";
    fs::write(folder.0.join("Cargo.toml"), format!("{package}{dependencies}\n{}", patches())).unwrap();
    fs::create_dir(folder.0.join("src")).unwrap();
    fs::write(folder.0.join("src/main.rs"), block(&readme, "rust,no_run")).unwrap();
    // With the versions of the workspace nothing has to be downloaded.
    fs::copy(workspace().join("Cargo.lock"), folder.0.join("Cargo.lock")).unwrap();

    // Apart from the workspace's own results, but kept as long as these.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("first-steps");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg("check").current_dir(&folder.0).env("CARGO_TARGET_DIR", target).env("RUSTFLAGS", "-D warnings");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_versions_in_the_readmes_are_those_of_the_workspace() {
    let manifest = read("Cargo.toml");
    let readmes = ["README.md", "crates/trunkline/README.md", "crates/socketioxide/README.md"].map(read);
    for readme in &readmes {
        for line in block(readme, "toml").lines().filter(|line| line.contains(" = ")) {
            let (name, version) = (line.split(' ').next().unwrap(), version(line));
            assert!(version_in(&manifest, name).starts_with(version), "{line}");
        }
    }
    let rust = version(line_of(&manifest, "rust-version"));
    let socketioxide = version_in(&manifest, "socketioxide");
    for readme in &readmes[..2] {
        assert!(readme.contains(&format!("Rust {rust}")) && readme.contains(&format!("socketioxide {socketioxide}")));
    }
}

/// The first block of this language in a document.
fn block<'a>(document: &'a str, language: &str) -> &'a str {
    let start = format!("```{language}\n");
    document.split_once(&start).and_then(|(_, rest)| rest.split_once("```")).unwrap().0
}

/// The first quoted text that is a version.
fn version(line: &str) -> &str {
    line.split('"').skip(1).step_by(2).find(|text| text.starts_with(|first: char| first.is_ascii_digit())).unwrap()
}

fn version_in<'a>(manifest: &'a str, name: &str) -> &'a str {
    version(line_of(manifest, name))
}

fn line_of<'a>(manifest: &'a str, name: &str) -> &'a str {
    manifest.lines().find(|line| line.starts_with(&format!("{name} ="))).unwrap()
}

/// The crates of the workspace in place of published ones.
fn patches() -> String {
    let crates = ["backend", "core", "mongodb", "nats", "postgres", "rabbitmq", "redis", "socketioxide"];
    let names = crates.map(|name| (format!("trunkline-{name}"), name));
    let entry = |(name, folder): (String, &str)| {
        format!("{name} = {{ path = {:?} }}\n", workspace().join("crates").join(folder))
    };
    let entries: String = names.into_iter().chain([("trunkline".to_owned(), "trunkline")]).map(entry).collect();
    format!("[patch.crates-io]\n{entries}")
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap()
}

/// A folder that is gone when the test has ended.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("first-steps-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
