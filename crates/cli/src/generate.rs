//! Completions and manual pages, from the definitions of the command line.

use std::{io::stdout, path::Path};

use clap_complete::Shell;

use crate::{
    definitions,
    output::{Failure, Status},
};

pub(crate) fn completions(shell: Shell) -> Result<Status, Failure> {
    let mut completions = Vec::new();
    clap_complete::generate(shell, &mut definitions(), "trunkline", &mut completions);
    write(&completions)
}

pub(crate) fn man(directory: Option<&Path>) -> Result<Status, Failure> {
    if let Some(directory) = directory {
        let written = clap_mangen::generate_to(definitions(), directory);
        written.map_err(|error| Failure::usage(format!("{}: {error}", directory.display())))?;
        return Ok(Status::Ok);
    }
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(definitions()).render(&mut page);
    rendered.map_err(|error| Failure::critical(error.to_string()))?;
    write(&page)
}

fn write(bytes: &[u8]) -> Result<Status, Failure> {
    // Whoever closes the output has seen enough.
    let _ = std::io::Write::write_all(&mut stdout(), bytes);
    Ok(Status::Ok)
}
