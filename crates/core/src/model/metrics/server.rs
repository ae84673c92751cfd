//! What a server exports of its sockets, beside what its node counts.

use super::{NodeMetrics, exported};

/// Metrics of a server's own sockets, with the labels of its node: [`ClusterNode::server_metrics`].
///
/// [`ClusterNode::server_metrics`]: crate::ClusterNode::server_metrics
#[derive(Debug, Default)]
pub struct ServerMetrics(exported::Server);

/// Why a socket has disconnected, as Socket.IO names the reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The connection was closed.
    TransportClose,
    /// The connection broke, or the client broke the rules of its transport.
    TransportError,
    /// The client did not send a pong in time.
    PingTimeout,
    /// The client has left the namespace.
    ClientNamespaceDisconnect,
    /// The server has disconnected the socket from the namespace.
    ServerNamespaceDisconnect,
    /// The server shuts down.
    ServerShuttingDown,
    /// The client sent what could not be understood.
    ParseError,
}

/// Numbers of a server's sockets and rooms at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerLevels {
    /// Sockets that are connected.
    pub sockets: usize,
    /// Rooms with sockets, without those that are the id of a socket.
    pub rooms: usize,
    /// Sockets for which packets wait.
    pub backlog_sockets: usize,
    /// Packets that wait for them.
    pub backlog_packets: usize,
    /// Bytes of these packets.
    pub backlog_bytes: usize,
}

impl ServerMetrics {
    pub(crate) fn of(node: &NodeMetrics) -> Self {
        Self(node.exported.server())
    }

    /// Whether there is anything to export to: counting sockets and rooms takes time.
    #[must_use]
    pub fn is_exported(&self) -> bool {
        self.0.is_exported()
    }

    /// Counts a socket that has connected.
    pub fn connected(&self) {
        self.0.connected();
    }

    /// Counts a socket that has disconnected.
    pub fn disconnected(&self, reason: DisconnectReason) {
        self.0.disconnected(reason);
    }

    /// Exports the numbers of now.
    pub fn set_levels(&self, levels: &ServerLevels) {
        self.0.levels(levels);
    }
}
