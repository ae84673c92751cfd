//! The target of an operation, and its flags.

use std::time::Duration;

use serde::Deserialize;
use trunkline::{Room, Target};

use crate::adapter::{Io, Operators, Socket};

/// The operators before the operation itself, all optional.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[derive(Default)]
pub(crate) struct Selection {
    /// Begin with the client's own socket, which is then excepted, instead of with the server.
    pub(crate) from_socket: bool,
    pub(crate) to: Vec<Room>,
    /// Rooms as in `to`, with the own socket.
    pub(crate) within: Vec<Room>,
    pub(crate) except: Vec<Room>,
    pub(crate) local: bool,
    pub(crate) volatile: bool,
    /// Timeout of acknowledgements in milliseconds; 0 takes the server's default.
    pub(crate) timeout: u64,
}

impl Selection {
    pub(crate) fn operators(self, socket: &Socket, io: &Io) -> Result<Operators, String> {
        let timeout = self.timeout();
        let mut operators = match (self.from_socket, self.within.is_empty()) {
            (false, _) => io.of(socket.ns()).ok_or_else(|| format!("there is no namespace {}", socket.ns()))?,
            (true, true) => socket.broadcast(),
            (true, false) => socket.within(Vec::<String>::new()),
        };
        if !self.within.is_empty() {
            operators = operators.within(texts(&self.within));
        }
        if !self.to.is_empty() {
            operators = operators.to(texts(&self.to));
        }
        if !self.except.is_empty() {
            operators = operators.except(texts(&self.except));
        }
        if self.local {
            operators = operators.local();
        }
        if self.volatile {
            operators = operators.volatile();
        }
        if let Some(timeout) = timeout {
            operators = operators.timeout(timeout);
        }
        Ok(operators)
    }

    /// The target for calls that socketioxide does not have; `from_socket` has no effect there.
    pub(crate) fn target(&self) -> Target {
        let mut target = Target::rooms(self.to.iter().chain(&self.within).cloned());
        target.except = self.except.clone();
        target.flags.local = self.local;
        target.flags.volatile = self.volatile.then_some(true);
        target.flags.timeout = self.timeout();
        target
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        (self.timeout > 0).then(|| Duration::from_millis(self.timeout))
    }
}

fn texts(rooms: &[Room]) -> Vec<String> {
    rooms.iter().map(|room| room.to_text().to_string()).collect()
}
