//! Errors of the server and of the way to it.

use std::{error::Error as _, io};

use redis::RedisError;
use trunkline_backend::ConnectFailure;
use trunkline_core::{Error, ErrorKind};

use crate::config::Address;

/// The way to a server is broken, or never was one.
pub(crate) fn lost(address: &Address, error: io::Error) -> Error {
    match ConnectFailure::of_tls(&error) {
        Some(failure) => failure.at(address).with_source(error),
        None => Error::new(ErrorKind::Disconnected, format!("{address}: {error}")).with_source(error),
    }
}

/// Why the server does not accept us, if that is what its error says.
pub(crate) fn rejection(error: &[u8]) -> Option<ConnectFailure> {
    // The last two are those of a server for which no password, or only one password, was set.
    const CREDENTIALS: [&[u8]; 4] = [b"WRONGPASS", b"NOAUTH", b"ERR invalid password", b"ERR AUTH "];
    if CREDENTIALS.iter().any(|code| error.starts_with(code)) {
        return Some(ConnectFailure::Credentials);
    }
    error.starts_with(b"NOPERM").then_some(ConnectFailure::Rights)
}

/// Whether an error of the server says that it is not ready, or no longer the right one.
pub(crate) fn is_temporary(error: &[u8]) -> bool {
    const CODES: [&[u8]; 13] = [
        b"ASK",
        b"TRYAGAIN",
        b"CLUSTERDOWN",
        b"LOADING",
        b"BUSY",
        b"MASTERDOWN",
        b"READONLY",
        b"UNBLOCKED",
        b"NOAUTH",
        b"NOREPLICAS",
        b"MISCONF",
        b"OOM",
        b"ERR max number of clients reached",
    ];
    CODES.iter().any(|code| error.starts_with(code))
}

/// Whether an error of the server says that we lack a right, or have to give a password.
pub(crate) fn is_forbidden(error: &[u8]) -> bool {
    [&b"NOPERM"[..], b"NOAUTH", b"WRONGPASS"].iter().any(|code| error.starts_with(code))
}

/// Whether a command was not executed for a lack of rights.
pub(crate) fn is_refusal(error: &Error) -> bool {
    is_forbidden(code(error).as_bytes())
}

fn code(error: &Error) -> &str {
    let source = error.source().and_then(|source| source.downcast_ref::<RedisError>());
    source.and_then(RedisError::code).unwrap_or_default()
}

/// Whether another node of a cluster may do what this one did not.
pub(crate) fn may_be_elsewhere(error: &Error) -> bool {
    let code = code(error);
    // Of a transaction only the end is seen here, not why.
    let is_said = matches!(code, "MOVED" | "EXECABORT") || is_temporary(code.as_bytes());
    error.kind() == ErrorKind::Disconnected || is_said
}

/// The error of a command: the server refuses it, or the connection is gone.
pub(crate) fn refused(address: &Address, error: RedisError) -> Error {
    if let Some(failure) = error.code().and_then(|code| rejection(code.as_bytes())) {
        return failure.at(address).with_source(error);
    }
    let is_password = error.kind() == redis::ErrorKind::AuthenticationFailed;
    let is_lost = !is_password && (error.is_io_error() || error.is_unrecoverable_error());
    let kind = if is_lost { ErrorKind::Disconnected } else { ErrorKind::Broker };
    Error::new(kind, format!("{address}: {error}")).with_source(error)
}
