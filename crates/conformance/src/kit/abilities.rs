//! Declared abilities of backend and server.

use trunkline_core::{Backend, Capabilities};

use super::{failure::Checked, server::ServerAbilities};

/// Declared abilities of a backend and of the server under it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Abilities {
    /// Promises of the backend.
    pub capabilities: Capabilities,
    /// Whether rooms have to be made known to the broker before broadcasts to them arrive.
    pub interest: bool,
    /// Abilities of the server.
    pub server: ServerAbilities,
}

impl Abilities {
    pub(super) fn of(backend: &Backend, server: ServerAbilities) -> Checked<Self> {
        Ok(Self { capabilities: backend.capabilities()?, interest: backend.interest.is_some(), server })
    }
}
