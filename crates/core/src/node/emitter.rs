//! [`Emitter`]: emits into a cluster from a process that is no node.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

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
///
/// A process that ends takes along what is still queued. Await [`Emitter::close`] as the last thing it does, or
/// [`Emitter::flush`] where others use the backend.
#[derive(Clone, Debug)]
pub struct Emitter {
    backend: Backend,
    node: NodeKey,
    /// What the broker had refused when the last flush told so.
    refused: Arc<AtomicU64>,
}

impl Emitter {
    /// Emitter into the namespace `/`.
    #[must_use]
    pub fn new(backend: &Backend) -> Self {
        let node = NodeKey { id: NodeId::EMITTER, namespace: Namespace::new("/") };
        let refused = Arc::new(AtomicU64::new(backend.transport.health().refused_messages));
        Self { backend: backend.clone(), node, refused }
    }

    /// Emitter over the same backend into another namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Self {
        let node = NodeKey { id: NodeId::EMITTER, namespace: Namespace::new(namespace) };
        Self { backend: self.backend.clone(), node, refused: Arc::clone(&self.refused) }
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

    /// Returns when everything that was queued before is with the broker, confirmed where the broker confirms.
    ///
    /// *Cancel safe*: what is queued stays queued.
    ///
    /// # Errors
    /// `Broker` if the broker has refused a message of this backend since the last flush; `Disconnected` or `Timeout` if
    /// it takes nothing for 5 s, or as long as `push_timeout` says.
    pub async fn flush(&self) -> Result<()> {
        self.backend.transport.flush().await?;
        let health = self.backend.transport.health();
        let refused = health.refused_messages;
        match refused.saturating_sub(self.refused.swap(refused, Ordering::Relaxed)) {
            0 => Ok(()),
            messages => {
                let reason = health.refusal.unwrap_or_default();
                Err(Error::new(ErrorKind::Broker, format!("{messages} messages were refused: {reason}")))
            }
        }
    }

    /// Flushes, and closes the backend: with it, all emitters and nodes over it end. Do not drop it before it returns.
    ///
    /// # Errors
    /// As [`Emitter::flush`]; the backend is closed all the same.
    pub async fn close(self) -> Result<()> {
        let flushed = self.flush().await;
        self.backend.transport.close().await;
        flushed
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
