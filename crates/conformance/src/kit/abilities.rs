//! Declared abilities of backend and server.

use trunkline_core::{Backend, Capabilities, LocalAbilities};

/// Declared abilities of a backend and of the server under it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Abilities {
    /// Promises of the transport.
    pub capabilities: Capabilities,
    /// Whether rooms have to be made known to the broker before broadcasts to them arrive.
    pub interest: bool,
    /// Abilities of the server.
    pub local: LocalAbilities,
}

impl Abilities {
    pub(super) fn of(backend: &Backend, local: LocalAbilities) -> Self {
        Self { capabilities: backend.transport.capabilities(), interest: backend.interest.is_some(), local }
    }
}
