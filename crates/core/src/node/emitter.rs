//! [`Emitter`]: emits into a cluster from a process that is no node.

use crate::{
    error::{Error, ErrorKind, Result},
    model::{Message, Namespace, NodeId, NodeKey, Room, Target},
    payload::Payload,
    transport::Backend,
};

/// Sends to a cluster without taking part in it: it serves no clients, is not counted, and gets no answers. For jobs,
/// cron tasks and other services.
///
/// Operations return when the message has its place in the queue to the broker; errors are as of
/// [`ClusterNode`](crate::ClusterNode), and `Unsupported` for a target with `local`. *Cancel safety*: a dropped call
/// has been published whole or not at all.
#[derive(Clone, Debug)]
pub struct Emitter {
    backend: Backend,
    node: NodeKey,
}

impl Emitter {
    /// Emitter into the namespace `/`.
    #[must_use]
    pub fn new(backend: &Backend) -> Self {
        let node = NodeKey { id: NodeId::EMITTER, namespace: Namespace::new("/") };
        Self { backend: backend.clone(), node }
    }

    /// Emitter over the same backend into another namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Self {
        let node = NodeKey { id: NodeId::EMITTER, namespace: Namespace::new(namespace) };
        Self { backend: self.backend.clone(), node }
    }

    /// Sends a packet to the matching sockets.
    pub async fn emit(&self, target: Target, payload: Payload) -> Result<()> {
        refuse_local(&target)?;
        self.publish(Message::Broadcast { request: None, target, payload }).await
    }

    /// Makes the matching sockets join rooms.
    pub async fn sockets_join(&self, target: Target, rooms: Vec<Room>) -> Result<()> {
        refuse_local(&target)?;
        self.publish(Message::Join { target, rooms }).await
    }

    /// Makes the matching sockets leave rooms.
    pub async fn sockets_leave(&self, target: Target, rooms: Vec<Room>) -> Result<()> {
        refuse_local(&target)?;
        self.publish(Message::Leave { target, rooms }).await
    }

    /// Disconnects the matching sockets from the namespace; with `close`, closes their connections where the server
    /// can.
    pub async fn disconnect_sockets(&self, target: Target, close: bool) -> Result<()> {
        refuse_local(&target)?;
        self.publish(Message::Disconnect { target, close }).await
    }

    /// Hands an event to the servers of all nodes.
    pub async fn server_side_emit(&self, payload: Payload) -> Result<()> {
        self.publish(Message::ServerSideEmit { request: None, payload }).await
    }

    async fn publish(&self, message: Message) -> Result<()> {
        message.check()?;
        self.backend.publish(&self.node, message).await
    }
}

/// Refuses a target with `local`: an emitter has no sockets of its own.
fn refuse_local(target: &Target) -> Result<()> {
    if target.flags.local {
        return Err(Error::new(ErrorKind::Unsupported, "an emitter has no local sockets"));
    }
    Ok(())
}
