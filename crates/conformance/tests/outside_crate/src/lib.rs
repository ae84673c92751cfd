//! A backend for Trunkline over a broker of its own: a hub that passes on what it is sent, over TCP.
//!
//! `wire` says what travels between a client and the hub, `hub` is the broker, `transport` is the backend, and
//! `connection` keeps the backend connected.

mod connection;
pub mod hub;
mod place;
mod transport;
mod wire;

pub use transport::connect;
