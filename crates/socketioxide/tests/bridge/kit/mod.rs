//! Servers and clients for the tests: real ones, over loopback TCP.

mod backends;
mod client;
mod packet;
mod server;

use std::time::Duration;

pub(crate) use self::{
    backends::{Gate, Interests},
    client::Client,
    server::{A, Io, Options, SHORT, Server, Socket, connected, pair, servers},
};
pub(crate) use trunkline_core::Payload;

/// Waits for what must happen; a generous limit around it.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, what).await.expect("it should have happened by now")
}

/// An event as a payload.
pub(crate) fn event<T: serde::Serialize>(name: &str, arguments: T) -> Payload {
    Payload::event(name, &arguments).unwrap()
}

/// An event as socketioxide emits it with `&()`: it has one argument, `null`.
pub(crate) fn signal(name: &str) -> Payload {
    event(name, (None::<()>,))
}

/// How long anything may take on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);
