//! A wrapper that limits the size of messages.

use std::sync::Arc;

use async_trait::async_trait;
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, Message, NodeId, NodeKey, Response, Result, Transport,
    transport::{Health, Inbox, JoinRequest},
};

/// A transport that refuses messages of more than [`LIMIT`] bytes.
#[derive(Debug)]
struct Limited(Arc<dyn Transport>);

/// Message size limit, small so that the cases reach it quickly.
pub(crate) const LIMIT: usize = 256 << 10;

/// Wraps a backend so that it refuses messages above the limit.
pub(crate) fn limited(mut backend: Backend) -> Backend {
    backend.transport = Arc::new(Limited(backend.transport));
    backend
}

/// Approximate size of an encoded message.
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
        self.0.capabilities().with_max_message_bytes(Some(LIMIT))
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        self.0.join(request).await
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        check(size(&message))?;
        self.0.try_publish(from, message)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        check(size(&message))?;
        self.0.publish(from, message).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        check(response.weight())?;
        self.0.send(from, to, response).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        self.0.leave(node).await
    }

    async fn flush(&self) -> Result<()> {
        self.0.flush().await
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
