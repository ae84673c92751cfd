//! The state of one open namespace, shared by its adapter and its handles.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use socketioxide_core::{Sid, packet::Packet};
use tokio::time::Instant;
use trunkline_core::{ClusterNode, Payload, SocketInfo, model::ServerMetrics};

use crate::{
    backlog::Backlogs,
    details::{Details, SocketDetails},
    handlers::Handlers,
    interest::Interest,
    marks::Marks,
    tasks::Tasks,
};

/// An open namespace of this server: its node in the cluster, and what the bridge keeps for its sockets.
pub(crate) struct OpenNamespace {
    pub(crate) sockets: Weak<dyn Sockets>,
    pub(crate) node: ClusterNode,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) details: SocketDetails,
    /// Of sockets whose request is not known, because no server is attached.
    pub(crate) unknown_handshake: Payload,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) backlogs: Backlogs,
    pub(crate) marks: Marks,
    pub(crate) metrics: ServerMetrics,
    /// What the broker knows of rooms, where it is told about them.
    pub(crate) interest: Option<Arc<Interest>>,
    /// Set when the namespace was opened a second time: see [`OpenNamespace::supersede`].
    pub(crate) superseded: AtomicBool,
    /// Whether events carry their offset as last argument.
    pub(crate) appends_offsets: bool,
    /// Up to how many sockets are served one by one.
    pub(crate) paced_sockets: usize,
    /// Until when there was a socket or an operation.
    pub(crate) used_until: Mutex<Instant>,
}

/// The server's sockets of a namespace, whatever the type of its adapter.
pub(crate) trait Sockets: Send + Sync {
    /// Whether the socket is connected to this namespace.
    fn is_connected(&self, socket: Sid) -> bool;

    /// The socket as other nodes see it.
    fn describe(&self, socket: Sid) -> Option<SocketInfo>;

    /// Number of sockets, and of rooms with sockets.
    fn count(&self) -> (usize, usize);

    /// The packet of an event for sockets of this namespace; `None` if the payload cannot be encoded for them.
    fn event(&self, payload: &Payload) -> Option<Packet>;
}

impl OpenNamespace {
    /// Changes what other nodes see of a socket.
    pub(crate) fn change_details(&self, socket: Sid, change: impl FnOnce(&mut Details)) {
        let is_connected = |other| self.sockets.upgrade().is_some_and(|sockets| sockets.is_connected(other));
        self.details.change(socket, is_connected, change);
    }

    /// Notes a socket, or an operation that takes up to `time`.
    pub(crate) fn used(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut used_until = self.used_until.lock().unwrap_or_else(PoisonError::into_inner);
        *used_until = until.max(*used_until);
    }

    /// Whether there has been neither socket nor operation for this long.
    pub(crate) fn is_unused(&self, time: Duration) -> bool {
        self.used_until.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > time
    }

    /// Begins to leave the cluster and ends all tasks. From any thread, any number of times.
    pub(crate) fn close(&self) {
        self.node.close();
        self.tasks.close();
    }

    /// Two clients that name a dynamic namespace at once open it twice. socketioxide forgets the first opening: its
    /// client goes on hearing the cluster, but is disconnected when it sends, and then reconnects to the second one.
    /// Only this adapter can notice that such a socket is closed, and that this opening is over.
    pub(crate) fn supersede(&self) {
        self.superseded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.tasks.is_closed()
    }

    /// Waits until all tasks have ended and the node has left, after [`OpenNamespace::close`].
    pub(crate) async fn closed(&self) {
        self.tasks.closed().await;
        self.node.closed().await;
    }
}

impl fmt::Debug for OpenNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenNamespace")
            .field("node", &self.node)
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}
