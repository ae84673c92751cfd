//! A Trunkline backend over a broker of its own: a hub that distributes messages by topic, over TCP.
//!
//! `wire` is the format of packets between client and hub, `hub` the broker, `transport` the backend's transport,
//! `joined` the nodes that have joined, and `connection` the task that keeps the connection.

mod connection;
pub mod hub;
mod joined;
mod transport;
mod wire;

pub use transport::connect;
