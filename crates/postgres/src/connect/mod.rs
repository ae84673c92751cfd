//! Connecting: hosts, TLS, the first checks of a server, and its tables.

pub(crate) mod check;
mod connection;
mod pulse;
#[cfg(feature = "tls")]
mod rustls_connector;
pub(crate) mod schema;
mod server;
mod tls;

pub(crate) use self::{
    connection::{ConnectionDriver, PgConnection},
    pulse::Pulse,
    tls::Connector,
};
pub use self::{server::ServerConfig, tls::SslMode};
