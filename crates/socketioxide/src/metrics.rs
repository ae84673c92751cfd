//! What a server exports of its sockets: how many there are, how they come and go, and what waits for them.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use socketioxide::socket::DisconnectReason;
use tokio::time::{Instant, sleep};
use trunkline_core::model::{self, ServerLevels};

use crate::{
    handle::NamespaceHandle,
    namespace::{OpenNamespace, Sockets},
};

/// How often levels are exported, at most.
const LEVELS: Duration = Duration::from_secs(1);

impl NamespaceHandle {
    /// Counts a socket that has connected, as `trunkline_connects_total`. For the connect handler: socketioxide tells
    /// nothing else of it.
    pub fn count_connect(&self) {
        self.namespace().metrics.connected();
    }

    /// Counts a socket that has disconnected, as `trunkline_disconnects_total` by reason. For the disconnect handler: only
    /// that is told the reason.
    ///
    /// ```
    /// # use trunkline_socketioxide::{ClusterSocket, NamespaceHandle};
    /// # use socketioxide::socket::DisconnectReason;
    /// fn connected(socket: &ClusterSocket, handle: NamespaceHandle) {
    ///     handle.count_connect();
    ///     socket.on_disconnect(async move |reason: DisconnectReason| handle.count_disconnect(reason));
    /// }
    /// ```
    pub fn count_disconnect(&self, reason: DisconnectReason) {
        self.namespace().metrics.disconnected(reason_of(reason));
    }
}

/// The reason as Socket.IO names it.
fn reason_of(reason: DisconnectReason) -> model::DisconnectReason {
    match reason {
        DisconnectReason::TransportClose => model::DisconnectReason::TransportClose,
        DisconnectReason::MultipleHttpPollingError | DisconnectReason::TransportError => {
            model::DisconnectReason::TransportError
        }
        DisconnectReason::PacketParsingError => model::DisconnectReason::ParseError,
        DisconnectReason::HeartbeatTimeout => model::DisconnectReason::PingTimeout,
        DisconnectReason::ClientNSDisconnect => model::DisconnectReason::ClientNamespaceDisconnect,
        DisconnectReason::ServerNSDisconnect => model::DisconnectReason::ServerNamespaceDisconnect,
        DisconnectReason::ClosingServer => model::DisconnectReason::ServerShuttingDown,
    }
}

/// Exports the numbers of sockets and rooms about once a second, until the server is dropped.
pub(crate) async fn export_levels(sockets: Weak<dyn Sockets>, namespace: Arc<OpenNamespace>) {
    loop {
        let began = Instant::now();
        let Some((connected, rooms)) = sockets.upgrade().map(|sockets| sockets.count()) else { return };
        let (backlog_sockets, backlog_packets, backlog_bytes) = namespace.backlogs.totals();
        let levels = ServerLevels { sockets: connected, rooms, backlog_sockets, backlog_packets, backlog_bytes };
        namespace.metrics.set_levels(&levels);
        // Counting takes longer the more sockets there are: no more than a hundredth of the time.
        sleep(LEVELS.max(began.elapsed() * 100)).await;
    }
}
