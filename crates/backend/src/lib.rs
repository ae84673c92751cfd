#![doc = include_str!("../README.md")]

pub mod backoff;
pub mod batch;
pub mod batched;
pub mod connect_failure;
pub mod connection;
pub mod credentials;
pub mod decoder;
// Only for the fuzz targets, which are another crate.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod joined;
pub mod known_peers;
pub mod link_state;
pub mod outbox;
pub mod repeats;
pub mod rooms;
#[cfg(feature = "tls")]
pub mod tls;
pub mod url;
#[cfg(test)]
mod warnings;

pub use crate::{
    backoff::Backoff,
    connect_failure::ConnectFailure,
    credentials::{CredentialsProvider, Login},
    joined::{JoinedNodes, Namespaces},
    known_peers::KnownPeers,
    link_state::{Direction, LinkState, Loss},
    outbox::{Outbox, OutboxLimits, own_copy},
};
