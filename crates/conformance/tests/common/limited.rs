//! A transport with a largest message, around any other.

use std::sync::Arc;

use async_trait::async_trait;
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, Message, NodeId, NodeKey, Response, Result, Transport,
    transport::{Health, Inbox, JoinRequest},
};

/// Refuses messages of more than [`LIMIT`] bytes.
#[derive(Debug)]
struct Limited(Arc<dyn Transport>);

/// Small, so that cases that look for it are quick.
pub(crate) const LIMIT: usize = 256 << 10;

/// The same backend with a limit.
pub(crate) fn limited(backend: Backend) -> Backend {
    Backend { transport: Arc::new(Limited(backend.transport)), ..backend }
}

/// What a message would take on a wire.
pub(crate) fn size(message: &Message) -> usize {
    let target = match message {
        Message::Broadcast { target, .. } => target.rooms.iter().map(|room| room.to_text().len() + 3).sum(),
        _ => 0,
    };
    message.weight() + target
}

pub(crate) fn check(bytes: usize) -> Result<()> {
    if bytes <= LIMIT {
        return Ok(());
    }
    Err(Error::new(ErrorKind::TooLarge, format!("{bytes} bytes, allowed are {LIMIT}")))
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Transport for Limited {
    fn capabilities(&self) -> Capabilities {
        Capabilities { max_message_bytes: Some(LIMIT), ..self.0.capabilities() }
    }

    async fn join(&self, seat: JoinRequest) -> Result<Inbox> {
        self.0.join(seat).await
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        check(size(&message))?;
        self.0.publish(from, message).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
        self.0.send(from, to, response).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        self.0.leave(node).await
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
