//! What the driver's errors mean here.

use std::fmt;

use mongodb::error::{CommandError, Error as DriverError, ErrorKind as Kind, WriteFailure};
use trunkline_core::{Error, ErrorKind};

/// Why something at the server did not succeed, in one line. The server's answer is left out: it may quote documents.
pub(crate) fn describe(error: &DriverError) -> String {
    match &*error.kind {
        Kind::Command(command) => of_command(command),
        Kind::Write(WriteFailure::WriteError(write)) => coded(write.code_name.as_deref(), write.code, &write.message),
        Kind::Write(WriteFailure::WriteConcernError(concern)) => {
            coded(Some(&concern.code_name), concern.code, &concern.message)
        }
        other => other.to_string(),
    }
}

fn of_command(command: &CommandError) -> String {
    coded(Some(&command.code_name), command.code, &command.message)
}

/// What the server says, with its code.
pub(crate) fn coded(name: Option<&str>, code: i32, message: &str) -> String {
    // A message about a document goes on with the document.
    let message = message.split(" : ").next().unwrap_or_default();
    match name.filter(|name| !name.is_empty()) {
        Some(name) => format!("{message} ({name}, {code})"),
        None => format!("{message} (code {code})"),
    }
}

/// As error of a call.
pub(crate) fn into_error(what: impl fmt::Display, error: &DriverError) -> Error {
    let kind = match &*error.kind {
        Kind::Io(_) | Kind::ServerSelection { .. } | Kind::ConnectionPoolCleared { .. } | Kind::DnsResolve { .. } => {
            ErrorKind::Disconnected
        }
        Kind::InvalidTlsConfig { .. } | Kind::InvalidArgument { .. } => ErrorKind::Config,
        _ => ErrorKind::Broker,
    };
    Error::new(kind, format!("{what}: {}", describe(error)))
}

/// The server will never carry out this command, with these documents or for this user.
pub(crate) fn is_refusal(error: &DriverError) -> bool {
    match &*error.kind {
        Kind::Command(command) => REFUSED.contains(&command.code),
        Kind::InvalidArgument { .. } | Kind::Bson(_) => true,
        _ => false,
    }
}

/// The connection is gone, or the server is not the primary any more or about to end: the next attempt may find another way at once.
pub(crate) fn is_transient(error: &DriverError) -> bool {
    const CODES: [i32; 12] = [6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436];
    match &*error.kind {
        Kind::Command(command) => CODES.contains(&command.code),
        Kind::Io(_) | Kind::ConnectionPoolCleared { .. } => true,
        _ => false,
    }
}

/// Bad values, too large, not allowed, not valid.
const REFUSED: [i32; 8] = [2, 9, 13, 14, 22, 73, 121, 10334];

/// The change stream cannot go on where it stood: that part of the oplog is gone, or holds what is too large to be passed on.
pub(crate) fn is_history_lost(error: &DriverError) -> bool {
    const CODES: [i32; 6] = [260, 280, 286, 10334, 40585, 40615];
    matches!(&*error.kind, Kind::Command(command) if CODES.contains(&command.code))
}

/// Whether the server answered, if only with an error.
pub(crate) fn is_answer(error: &DriverError) -> bool {
    matches!(&*error.kind, Kind::Command(_))
}
