//! The table of `docs/guarantees.md`.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use clap::ValueEnum;

use trunkline_brokers::transports::Transport;

use crate::{
    Failure,
    fault::Fault,
    outcome::{Figures, Measured, Outcome, shown},
    promise::{Promise, recovery_rule},
};

const BEGIN: &str = "<!-- faults: begin, written by `just faults --write` -->";
const END: &str = "<!-- faults: end -->";

/// The latest outcomes of all cells, as a file of JSON lines.
#[derive(Debug, Default)]
pub(crate) struct Results(BTreeMap<(Transport, Fault), Outcome>);

impl Results {
    /// Reads the file; none is one without lines.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        };
        let mut results = Self::default();
        for line in text.lines() {
            let outcome = serde_json::from_str(line).map_err(|error| format!("{}: {error}", path.display()))?;
            results.add(outcome);
        }
        Ok(results)
    }

    /// Replaces the former outcome of the same cell.
    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.0.insert((outcome.transport, outcome.fault), outcome);
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut text = String::new();
        for outcome in self.0.values() {
            text += &serde_json::to_string(outcome)?;
            text.push('\n');
        }
        Ok(fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?)
    }

    /// The table in Markdown, with what stands above it.
    pub(crate) fn table(&self) -> String {
        let mut text = head();
        for outcome in self.0.values() {
            text += &row(outcome);
        }
        text
    }
}

fn head() -> String {
    let mut text = format!(
        "Promised are loss/repeats/reordering over all clients, and the time until everything and every request is right again: {}, and\n\
         where nobody is told of the fault (half-open connections) the time to notice it besides. \"gap\": messages sent during the outage\n\
         may be lost, if the nodes that missed them report gaps of the right size. A success that leaves out sockets or answers of a\n\
         running node is never promised; those are counted as wrong. A line with **✗** breaks its promise.\n\n",
        recovery_rule()
    );
    text += "| transport | fault | promised | lost/repeated/reordered | gaps: reported of missed | right again | wrong answers | memory, files | left behind | |\n";
    text += "|---|---|---|---|---|---|---|---|---|---|\n";
    text
}

fn row(outcome: &Outcome) -> String {
    let Outcome { transport, fault, measured } = outcome;
    let cells = match measured {
        Measured::Run(figures) => {
            let broken = if figures.broken.is_empty() { String::new() } else { broken(figures) };
            measured_cells(Promise::of(*transport, *fault), figures) + &broken
        }
        Measured::NotApplicable { not_applicable } => format!("– ({not_applicable}) | | | | | | | "),
        Measured::Failed { error } => {
            let line = error.lines().next().unwrap_or_default().replace('|', "/");
            format!("{} | not measured: {line} | | | | | | **✗**", Promise::of(*transport, *fault).shown())
        }
    };
    format!("| {} | {} | {cells} |\n", transport, fault.name())
}

fn measured_cells(promise: Promise, figures: &Figures) -> String {
    let Figures { lost, own_lost, repeated, reordered, memory, files, leftovers, wrong, .. } = figures;
    let right = figures.recovery.map_or("never".to_owned(), |took| format!("{took:.1} s"));
    let left = leftovers.connections + leftovers.subscriptions;
    let mark = if figures.broken.is_empty() { "✓" } else { "**✗**" };
    format!(
        "{} | {}/{repeated}/{reordered} | {} | {right} | {wrong} | {}→{} MiB, {}→{} | {left} | {mark}",
        promise.shown(),
        lost + own_lost,
        gaps(figures),
        memory[0],
        memory[1],
        files[0],
        files[1],
    )
}

/// What is broken.
fn broken(figures: &Figures) -> String {
    format!(" {}", figures.broken.join(", ").replace('|', "/"))
}

/// By node: what it reported, of what it missed.
fn gaps(figures: &Figures) -> String {
    let mut text = String::new();
    for book in &figures.gaps {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a text cannot fail.
        let _ = write!(text, "{separator}{} of {}", shown(&book.reported), book.missing);
    }
    if text.is_empty() { "–".to_owned() } else { text }
}

/// The names of all faults with what they do, for the help and the documentation.
pub(crate) fn faults() -> String {
    let mut text = String::from("| fault | what it is |\n|---|---|\n");
    for fault in Fault::value_variants() {
        let _ = writeln!(text, "| {} | {} |", fault.name(), fault.about());
    }
    text
}

/// Puts a text between the markers of a document.
pub(crate) fn insert(path: &Path, text: &str) -> Result<(), Failure> {
    let document = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let document = between(&document, text).ok_or_else(|| format!("{} lacks '{BEGIN}' and '{END}'", path.display()))?;
    Ok(fs::write(path, document).map_err(|error| format!("cannot write {}: {error}", path.display()))?)
}

fn between(document: &str, text: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_replaces_what_stands_between_the_markers() {
        let document = format!("a\n{BEGIN}\nold\n{END}\nz\n");
        let new = between(&document, "new\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\n\nnew\n\n{END}\nz\n"));
        assert_eq!(between(&new, "new\n").unwrap(), new);
        assert_eq!(between("nothing", "new"), None);
    }

    #[test]
    fn every_row_has_the_columns_of_the_head() {
        let columns = |line: &str| line.matches('|').count();
        let head = head();
        let wanted = columns(head.lines().last().unwrap());
        for measured in [
            Measured::Run(Box::default()),
            Measured::NotApplicable { not_applicable: "no".into() },
            Measured::Failed { error: "a | b".into() },
        ] {
            let outcome = Outcome { transport: Transport::Nats, fault: Fault::Full, measured };
            assert_eq!(columns(&row(&outcome)), wanted, "{}", row(&outcome));
        }
    }

    #[test]
    fn the_latest_outcome_of_a_cell_counts() {
        let mut results = Results::default();
        for error in ["first", "second"] {
            let measured = Measured::Failed { error: error.into() };
            results.add(Outcome { transport: Transport::Nats, fault: Fault::Full, measured });
        }
        let table = results.table();
        assert!(table.contains("second") && !table.contains("first"), "{table}");
    }
}
