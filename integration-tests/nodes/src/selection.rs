//! Which sockets an operation is about, and how it is sent.

use std::time::Duration;

use serde::Deserialize;

use crate::adapter::{Io, Operators, Socket};

/// The chain of operators before the operation itself, all optional.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[derive(Default)]
pub(crate) struct Selection {
    /// Start at the client's own socket, which the operation then leaves out, instead of at the server.
    pub(crate) from_socket: bool,
    pub(crate) to: Vec<String>,
    /// Like `to`, but with the own socket.
    pub(crate) within: Vec<String>,
    pub(crate) except: Vec<String>,
    pub(crate) local: bool,
    pub(crate) volatile: bool,
    /// Milliseconds to wait for acknowledgements; 0 leaves it to the server.
    pub(crate) timeout: u64,
}

impl Selection {
    pub(crate) fn operators(self, socket: &Socket, io: &Io) -> Result<Operators, String> {
        let mut operators = match (self.from_socket, self.within.is_empty()) {
            (false, _) => io.of(socket.ns()).ok_or_else(|| format!("there is no namespace {}", socket.ns()))?,
            (true, true) => socket.broadcast(),
            (true, false) => socket.within(Vec::<String>::new()),
        };
        if !self.within.is_empty() {
            operators = operators.within(self.within);
        }
        if !self.to.is_empty() {
            operators = operators.to(self.to);
        }
        if !self.except.is_empty() {
            operators = operators.except(self.except);
        }
        if self.local {
            operators = operators.local();
        }
        if self.volatile {
            operators = operators.volatile();
        }
        if self.timeout > 0 {
            operators = operators.timeout(Duration::from_millis(self.timeout));
        }
        Ok(operators)
    }
}
