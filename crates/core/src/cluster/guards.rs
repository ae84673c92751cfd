//! What happens when a caller gives up.

use std::fmt;

use tokio::sync::mpsc;

use super::Cluster;
use crate::{driver::Command, id::RequestId, local::Delivered, payload::Payload, target::Target};

/// What a published broadcast is for the own sockets. They get it also if the caller gives up before it is their turn.
pub(super) struct OwnPart<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) target: &'a Target,
    pub(super) payload: &'a Payload,
    pub(super) is_due: bool,
}

impl OwnPart<'_> {
    pub(super) fn deliver(&mut self) -> Delivered {
        self.is_due = false;
        self.cluster.deliver(self.target, self.payload)
    }
}

impl Drop for OwnPart<'_> {
    fn drop(&mut self) {
        if self.is_due {
            self.deliver();
        }
    }
}

/// Gives up a request when its caller does.
pub(crate) struct Cancel {
    pub(super) request: RequestId,
    pub(super) commands: mpsc::Sender<Command>,
}

impl Drop for Cancel {
    fn drop(&mut self) {
        // If the queue is full the request ends by its own deadline.
        let _ = self.commands.try_send(Command::Cancel(self.request.clone()));
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancel({})", self.request)
    }
}
