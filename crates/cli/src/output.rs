//! What the program prints, and its exit codes.

use std::{
    fmt::Display,
    io::{IsTerminal, Write, stderr, stdout},
    process::ExitCode,
};

use serde_json::{Value, json};
use trunkline::{Error, ErrorKind};
use trunkline_backend::url::redact;

/// Outcome of a command, and the exit code of the program: 0 to 3, as monitoring plugins have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn critical(text: impl Into<String>) -> Self {
        Self { status: Status::Critical, text: text.into() }
    }

    /// Wrong arguments, files or URLs.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { status: Status::Unknown, text: text.into() }
    }
}

impl From<Error> for Failure {
    /// The URL is read before anything else (`BrokerTarget::parse`). So what is a matter of configuration later is one of the
    /// broker: a password, a right that a node needs when it connects, joins or asks.
    fn from(error: Error) -> Self {
        let is_usage = matches!(error.kind(), ErrorKind::Malformed | ErrorKind::TooLarge);
        let status = if is_usage { Status::Unknown } else { Status::Critical };
        Self { status, text: with_causes(&error) }
    }
}

/// Text of an error and of what caused it.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Where results go: text for people, or one JSON document.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) is_json: bool,
}

impl Output {
    pub(crate) fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// Prints the result, as text or as JSON.
    pub(crate) fn result(&self, text: impl Display, json: &Value) {
        if self.is_json { print(format_args!("{json:#}\n")) } else { print(format_args!("{text}\n")) }
    }

    pub(crate) fn failure(&self, failure: &Failure) -> ExitCode {
        if self.is_json {
            print(format_args!("{:#}\n", json!({ "status": failure.status.word(), "error": failure.text })));
        } else {
            let word = if stderr().is_terminal() { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
            let _ = writeln!(stderr(), "{word} {}", failure.text);
        }
        failure.status.into()
    }
}

/// Writes to the standard output. That it is closed, as by `head`, is no error.
pub(crate) fn print(text: impl Display) {
    let _ = write!(stdout(), "{text}");
    let _ = stdout().flush();
}

/// Prints what is wrong with the arguments, or the help that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return Status::Ok.into();
    }
    let rendered = error.render();
    let mut text = if stderr().is_terminal() { rendered.ansi().to_string() } else { rendered.to_string() };
    // An argument that is not understood is repeated in the text, and it may be a URL with a password.
    for argument in std::env::args().filter(|argument| argument.contains("://")) {
        text = text.replace(&argument, &redact(&argument));
    }
    let _ = write!(stderr(), "{text}");
    Status::Unknown.into()
}

/// Lines of columns that stand below each other.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).chain([header[column].len()]).max())
        .map(Option::unwrap_or_default)
        .collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(line(header.to_vec())).chain(rows).collect::<Vec<_>>().join("\n")
}

/// Text from the network as it may stand on a terminal: without control characters.
pub(crate) fn shown(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// What may be the matter if no node or message was heard, for the end of a sentence.
pub(crate) const NOTHING_HEARD: &str = "; is this the URL of the servers, with prefix and mode? trunkline doctor tells";

/// `1 node`, `2 nodes`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_columns_of_equal_width() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["node", "n"], &rows), "node    n\na       1\nlonger  2");
    }

    #[test]
    fn only_what_was_given_is_a_matter_of_usage() {
        use ErrorKind::{
            Broker, Closed, Config, Disconnected, HistoryLost, Limit, Malformed, QueueFull, Timeout, TooLarge,
            Unsupported,
        };
        let status = |kind| Failure::from(Error::new(kind, "x")).status;
        for kind in [Config, Unsupported, Closed, Disconnected, QueueFull, Limit, Timeout, Broker, HistoryLost] {
            assert_eq!(status(kind), Status::Critical, "{kind:?}");
        }
        for kind in [Malformed, TooLarge] {
            assert_eq!(status(kind), Status::Unknown, "{kind:?}");
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(shown("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
