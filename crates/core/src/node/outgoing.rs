//! Work of the driver that takes time: messages, answers and room interest for the transport.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
};

use futures_util::{StreamExt as _, stream};

use super::parts;
use crate::{
    error::Result,
    model::{Exported, Message, MessageKind, NodeId, NodeKey, Response, Room},
    server::Local,
    transport::{Backend, RoomInterest},
};

/// Something for the transport, in the order of the driver's queue.
#[derive(Debug)]
pub(super) enum Outgoing {
    Publish(Message),
    Send(NodeId, Arc<Response>),
    /// An answer that the broker does not take whole.
    SendInParts(NodeId, Arc<Response>),
    /// Tells the broker about rooms into which sockets were moved or, if it knows them as having members, out of which.
    Interest {
        rooms: Vec<Room>,
        had_members: bool,
    },
}

/// Work that takes time.
pub(super) type Job<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Outgoing {
    /// Counts what other nodes get.
    pub(super) fn export(&self, exported: &Exported) {
        match self {
            Self::Publish(message) => exported.published(MessageKind::of(message), || message.payload_bytes()),
            Self::Send(_, response) | Self::SendInParts(_, response) => {
                exported.published(MessageKind::Answer, || response.answer.weight());
            }
            Self::Interest { .. } => {}
        }
    }

    /// Starts handing it to the transport.
    pub(super) fn send(&self, backend: &Backend, node: NodeKey, local: &Weak<dyn Local>) -> Job<Result<()>> {
        let transport = Arc::clone(&backend.transport);
        match self {
            Self::Publish(message) => {
                let message = message.clone();
                Box::pin(async move { transport.publish(&node, message).await })
            }
            Self::Send(to, response) => {
                let (to, response) = (to.clone(), Arc::clone(response));
                Box::pin(async move { transport.send(&node, &to, &response).await })
            }
            Self::SendInParts(to, response) => {
                let (to, response) = (to.clone(), Arc::clone(response));
                Box::pin(async move { parts::send(&*transport, &node, &to, &response).await })
            }
            Self::Interest { rooms, had_members } => {
                let (interest, rooms, local) = (backend.interest.clone(), rooms.clone(), Weak::clone(local));
                let had_members = *had_members;
                Box::pin(async move {
                    match interest {
                        Some(interest) => sync_interest(&*interest, &node, &local, &rooms, had_members).await,
                        None => Ok(()),
                    }
                })
            }
        }
    }
}

/// Tells the broker which of the rooms have got their first member here, or lost their last. Callers and the driver may
/// do so at the same time, so each looks again after it has told: the last look is right.
pub(crate) async fn sync_interest(
    interest: &dyn RoomInterest,
    node: &NodeKey,
    local: &Weak<dyn Local>,
    rooms: &[Room],
    had_members: bool,
) -> Result<()> {
    let has_members = |room: &Room| local.upgrade().is_some_and(|local| local.has_room(room));
    let has_members = &has_members;
    let sync = |room| async move {
        let mut is_known = had_members;
        while is_known != has_members(room) {
            is_known = !is_known;
            if is_known { interest.room_created(node, room).await? } else { interest.room_deleted(node, room).await? }
        }
        Ok(())
    };
    tell_all(rooms.iter().map(sync).collect()).await
}

/// Tells the broker about many rooms at a time, since it answers for each of them. Returns the first error, after all
/// were told.
pub(super) async fn tell_all(rooms: Vec<impl Future<Output = Result<()>>>) -> Result<()> {
    let mut told = stream::iter(rooms).buffered(ROOMS_AT_A_TIME);
    let mut result = Ok(());
    while let Some(next) = told.next().await {
        result = result.and(next);
    }
    result
}

/// Rooms of which the broker is told before the first of them is confirmed.
const ROOMS_AT_A_TIME: usize = 256;
