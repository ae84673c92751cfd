//! Whether a server is still the master.
//!
//! Behind a DNS name or a proxy, a failover may leave connections to the old master standing, which is a replica then:
//! what is published there reaches nobody, without an error. So every connection asks for the role now and then.

use trunkline_core::{Error, ErrorKind};

use super::resp::Reader;
use crate::config::Address;

/// The command that asks for the role.
pub(crate) const ROLE: [&[u8]; 1] = [b"ROLE"];

/// What is said of a server that was made a replica.
pub(crate) const DEMOTED: &str = "the server is a replica, and not the master";

/// Whether an answer to [`ROLE`] is that of a replica. One that is refused, or says something else, tells nothing: a user
/// need not have the right to ask, and what stands for a server may not know the command.
pub(crate) fn is_replica(answer: &mut Reader) -> bool {
    answer.next_array().and_then(|_| answer.next_text()).is_some_and(|role| role == "slave")
}

/// The error of a connection to a replica.
pub(crate) fn demoted(address: &Address) -> Error {
    Error::new(ErrorKind::Disconnected, format!("{address}: {DEMOTED}"))
}
