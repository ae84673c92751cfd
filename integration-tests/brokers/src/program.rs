//! Finding programs, and running those that end by themselves.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::error::{Error, Result};

/// Finds a program in `$PATH` or in one of the folders where its package puts it.
pub(crate) fn find(name: &str, folders: &[&str], install: &'static str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(folders.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| Error::Missing { program: name.into(), install })
}

/// Runs a command to its end and returns what it printed.
pub(crate) async fn run(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output =
        command.stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(Error::io(format!("start {shown}")))?;
    let printed = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    Err(Error::Failed { command: shown, output: format!("{}, {printed} {complaint}", output.status) })
}

/// The program without its arguments, which may hold a password.
fn shown(command: &Command) -> String {
    Path::new(command.as_std().get_program()).display().to_string()
}
