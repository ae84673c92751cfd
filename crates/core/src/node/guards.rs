//! What happens when a caller gives up.

use std::fmt;

use tokio::sync::mpsc;

use super::{ClusterNode, command::Command};
use crate::{
    error::Result,
    model::{RequestId, Room},
};

/// Own sockets were moved into or out of rooms, and the broker is still to be told. If the caller gives up before, the driver tells it.
pub(super) struct Untold<'a> {
    pub(super) cluster: &'a ClusterNode,
    pub(super) rooms: &'a [Room],
    /// Out of them, if any.
    pub(super) were_entered: bool,
    pub(super) is_due: bool,
}

impl Untold<'_> {
    pub(super) async fn tell(mut self) -> Result<()> {
        let told = self.cluster.rooms_changed(self.rooms, self.were_entered).await;
        self.is_due = false;
        told
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if self.is_due {
            let changed = Command::RoomsChanged { rooms: self.rooms.to_vec(), were_entered: self.were_entered };
            // Fails only when the driver is gone, or so far behind that whoever gives up now is one of a thousand.
            let _ = self.cluster.shared.commands.try_send(changed);
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
