//! Classifying the errors of the driver.

use std::fmt;

use mongodb::error::{Error as DriverError, ErrorKind as Kind, RESUMABLE_CHANGE_STREAM_ERROR, WriteFailure};
use trunkline_backend::ConnectFailure;
use trunkline_core::{Error, ErrorKind};

/// Describes an error in one line, without the server's answer, which may quote documents.
pub(crate) fn describe(error: &DriverError) -> String {
    match &*error.kind {
        Kind::Command(command) => coded(Some(&command.code_name), command.code, &command.message),
        Kind::Write(WriteFailure::WriteError(write)) => coded(write.code_name.as_deref(), write.code, &write.message),
        Kind::Write(WriteFailure::WriteConcernError(concern)) => {
            coded(Some(&concern.code_name), concern.code, &concern.message)
        }
        other => other.to_string(),
    }
}

/// A message of the server with its code, cut before a quoted document.
pub(crate) fn coded(name: Option<&str>, code: i32, message: &str) -> String {
    let message = message.split(" : ").next().unwrap_or_default();
    let message = message.split(" {").next().unwrap_or_default();
    match name.filter(|name| !name.is_empty()) {
        Some(name) => format!("{message} ({name}, {code})"),
        None => format!("{message} (code {code})"),
    }
}

/// Converts an error of the driver into that of an operation of ours.
pub(crate) fn into_error(what: impl fmt::Display, error: &DriverError) -> Error {
    if let Some(failure) = rejection(error) {
        return failure.at("the server").within(what).with_source(describe(error));
    }
    let kind = match &*error.kind {
        Kind::Io(_) | Kind::ServerSelection { .. } | Kind::ConnectionPoolCleared { .. } | Kind::DnsResolve { .. } => {
            ErrorKind::Disconnected
        }
        Kind::InvalidTlsConfig { .. } | Kind::InvalidArgument { .. } => ErrorKind::Config,
        _ => ErrorKind::Broker,
    };
    Error::new(kind, format!("{what}: {}", describe(error)))
}

/// Why the server does not accept us, if that is what the error says.
fn rejection(error: &DriverError) -> Option<ConnectFailure> {
    const UNAUTHORIZED: i32 = 13;
    const AUTHENTICATION_FAILED: i32 = 18;
    /// Of Atlas, for whatever it has to say.
    const ATLAS_ERROR: i32 = 8000;
    match &*error.kind {
        Kind::Authentication { .. } => Some(ConnectFailure::Credentials),
        Kind::Command(command) => match command.code {
            AUTHENTICATION_FAILED => Some(ConnectFailure::Credentials),
            ATLAS_ERROR if command.message.contains("auth") => Some(ConnectFailure::Credentials),
            UNAUTHORIZED => Some(ConnectFailure::Rights),
            _ => None,
        },
        Kind::Io(_) | Kind::ServerSelection { .. } => {
            const ADVICE: &str = "name the host as the certificate does; tlsInsecure=true checks nothing";
            ConnectFailure::of_tls(error).map(|failure| failure.or_name(ADVICE))
        }
        _ => None,
    }
}

/// Whether the server does not accept the user or the password.
pub(crate) fn is_unauthenticated(error: &DriverError) -> bool {
    rejection(error) == Some(ConnectFailure::Credentials)
}

/// Whether the server will never carry out the command, with these documents or for this user.
pub(crate) fn is_refusal(error: &DriverError) -> bool {
    match &*error.kind {
        Kind::Command(command) => REFUSED.contains(&command.code),
        Kind::InvalidArgument { .. } | Kind::Bson(_) => true,
        _ => false,
    }
}

/// Whether the connection is gone, or the server no longer the primary or about to end: the next attempt may succeed at
/// once.
pub(crate) fn is_transient(error: &DriverError) -> bool {
    const CODES: [i32; 12] = [6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436];
    match &*error.kind {
        Kind::Command(command) => CODES.contains(&command.code),
        Kind::Io(_) | Kind::ConnectionPoolCleared { .. } => true,
        _ => false,
    }
}

/// Codes for bad values, documents too large or invalid, missing permission.
const REFUSED: [i32; 8] = [2, 9, 13, 14, 22, 73, 121, 10334];

/// Whether a change stream cannot go on at its resume point: that part of the oplog is gone, or has an event too large
/// to be sent.
pub(crate) fn is_history_lost(error: &DriverError) -> bool {
    const CODES: [i32; 6] = [260, 280, 286, 10334, 40585, 40615];
    matches!(&*error.kind, Kind::Command(command) if CODES.contains(&command.code))
}

/// Whether the server answered with an error that does not pass by itself.
pub(crate) fn is_lasting(error: &DriverError) -> bool {
    let passes = |code| RETRYABLE.contains(&code) || error.contains_label(RESUMABLE_CHANGE_STREAM_ERROR);
    matches!(&*error.kind, Kind::Command(command) if !passes(command.code))
}

/// The server is short of something, locked, in recovery or read-only: not the fault of a document or a command.
pub(crate) const RETRYABLE: [i32; 25] = [
    6, 7, 24, 46, 50, 64, 89, 91, 100, 112, 134, 189, 262, 365, 371, 8000, 9001, 10058, 10107, 11600, 11601, 11602,
    13435, 13436, 14031,
];
