//! What the driver's errors mean here.

use std::fmt;

use mongodb::error::{CommandError, Error as DriverError, ErrorKind as Kind, WriteFailure};
use trunkline_core::{Error, ErrorKind};

/// Why something at the server did not succeed, in one line. The server's answer is left out: it may quote documents.
pub(crate) fn describe(error: &DriverError) -> String {
    match &*error.kind {
        Kind::Command(command) => of_command(command),
        Kind::InsertMany(failed) => {
            let write = failed.write_errors.iter().flatten().next();
            let concern = failed.write_concern_error.as_ref();
            match (write, concern) {
                (Some(write), _) => coded(write.code_name.as_deref(), write.code, &write.message),
                (None, Some(concern)) => coded(Some(&concern.code_name), concern.code, &concern.message),
                (None, None) => "the server refused documents".into(),
            }
        }
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

fn coded(name: Option<&str>, code: i32, message: &str) -> String {
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

/// What became of an ordered insert that failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Insert {
    /// This document is there already: an earlier attempt had put it there.
    Repeated(usize),
    /// The server will never take this document; those before it are there.
    Refused(usize),
    /// The server will never take one of the documents, and none is there.
    AllRefused,
    /// May succeed later.
    MayPass,
}

impl Insert {
    pub(crate) fn of(error: &DriverError) -> Self {
        match &*error.kind {
            Kind::InsertMany(failed) => match failed.write_errors.iter().flatten().next() {
                Some(write) if write.code == DUPLICATE_KEY => Self::Repeated(write.index),
                Some(write) if PASSING.contains(&write.code) => Self::MayPass,
                Some(write) => Self::Refused(write.index),
                None => Self::MayPass,
            },
            Kind::Command(command) if REFUSED.contains(&command.code) => Self::AllRefused,
            Kind::InvalidArgument { .. } | Kind::Bson(_) => Self::AllRefused,
            _ => Self::MayPass,
        }
    }
}

const DUPLICATE_KEY: i32 = 11000;

/// The server is short of something, locked, in recovery or read-only: not the document's fault.
const PASSING: [i32; 22] = [
    7, 24, 46, 50, 64, 89, 91, 100, 112, 189, 262, 371, 8000, 9001, 10058, 10107, 11600, 11601, 11602, 13435, 13436,
    14031,
];

/// Bad values, too large, not allowed, not valid: the command will never succeed with these documents or this user.
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
