//! What the driver has to hand to the transport.

use std::{future::Future, pin::Pin, sync::Arc};

use crate::{
    error::Result,
    id::{Node, NodeId},
    message::{Message, Response},
    room::Room,
    transport::Backend,
};

/// Something for the transport.
#[derive(Debug)]
pub(super) enum Outgoing {
    Publish(Message),
    Send(NodeId, Response),
    Enter(Room),
    Leave(Room),
}

/// Work that takes time.
pub(super) type Job<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Outgoing {
    /// Hands it over.
    pub(super) fn send(&self, backend: &Backend, node: Node) -> Job<Result<()>> {
        let transport = Arc::clone(&backend.transport);
        let interest = backend.interest.clone();
        match self {
            Self::Publish(message) => {
                let message = message.clone();
                Box::pin(async move { transport.publish(&node, message).await })
            }
            Self::Send(to, response) => {
                let (to, response) = (to.clone(), response.clone());
                Box::pin(async move { transport.send(&node, &to, response).await })
            }
            Self::Enter(room) => {
                let room = room.clone();
                Box::pin(async move {
                    match interest {
                        Some(interest) => interest.enter(&node, &room).await,
                        None => Ok(()),
                    }
                })
            }
            Self::Leave(room) => {
                let room = room.clone();
                Box::pin(async move {
                    match interest {
                        Some(interest) => interest.leave(&node, &room).await,
                        None => Ok(()),
                    }
                })
            }
        }
    }
}
