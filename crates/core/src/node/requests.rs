//! Requests of a node to the other nodes of its cluster.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    AckStream, ClusterNode,
    command::{CancelOnDrop, Command, ResponseSink},
    config::FAR_FUTURE,
};
use crate::{
    engine::{Gather, Gathered, Request},
    error::Result,
    model::{Message, RequestError, RequestId, Room, SocketInfo, Target},
    payload::Payload,
};

impl ClusterNode {
    pub(super) async fn request_acks(&self, target: Target, payload: Payload) -> Result<AckStream> {
        let (items, received) = mpsc::unbounded_channel();
        let id = self.new_request();
        let timeout = target.flags.timeout.unwrap_or(self.shared.config.request_timeout);
        let local = (target.clone(), payload.clone(), timeout);
        let is_local = target.flags.local;
        let message = Message::Broadcast { request: Some(id.clone()), target, payload };
        message.check()?;
        let request = Request {
            id,
            gather: Gather::Acks,
            message: (!is_local).then_some(message),
            deadline: self.deadline(Some(timeout)),
        };
        let cancel = self.start(request, ResponseSink::Acks { items, local: Some(local) }).await?;
        Ok(AckStream::new(received, cancel))
    }

    /// Asks all other nodes for their sockets.
    pub(super) async fn request_sockets(&self, target: Target) -> Result<Asked<'_, Vec<SocketInfo>>> {
        let timeout = target.flags.timeout;
        let id = self.new_request();
        let message = Message::FetchSockets { request: id.clone(), target };
        self.ask(id, Gather::Sockets, message, timeout, |gathered| gathered.sockets).await
    }

    /// Asks all other nodes for their rooms.
    pub(super) async fn request_rooms(&self) -> Result<Asked<'_, Vec<Room>>> {
        let id = self.new_request();
        let message = if self.shared.capabilities.all_rooms_request {
            Message::AllRooms { request: id.clone() }
        } else {
            Message::FetchSockets { request: id.clone(), target: Target::all() }
        };
        self.ask(id, Gather::Rooms, message, None, |gathered| gathered.rooms).await
    }

    pub(super) async fn request_values(
        &self,
        payload: Payload,
        timeout: Option<Duration>,
    ) -> Result<Vec<Option<Payload>>, RequestError<Vec<Option<Payload>>>> {
        let id = self.new_request();
        let message = Message::ServerSideEmit { request: Some(id.clone()), payload };
        self.ask(id, Gather::Values, message, timeout, |gathered| gathered.values).await?.answered().await
    }

    /// What one of the other nodes of ours answers, if any does.
    pub(super) async fn request_session(
        &self,
        payload: Payload,
        timeout: Duration,
    ) -> Result<Vec<Option<Payload>>, RequestError<Vec<Option<Payload>>>> {
        let id = self.new_request();
        let message = Message::ServerSideEmit { request: Some(id.clone()), payload };
        self.ask(id, Gather::Session, message, Some(timeout), |gathered| gathered.values).await?.answered().await
    }

    /// Asks all other nodes. Returns when the message is queued.
    async fn ask<T>(
        &self,
        id: RequestId,
        gather: Gather,
        message: Message,
        timeout: Option<Duration>,
        part: fn(Gathered) -> T,
    ) -> Result<Asked<'_, T>> {
        let (sender, answered) = oneshot::channel();
        let request = Request { id, gather, message: Some(message), deadline: self.deadline(timeout) };
        let cancel = self.start(request, ResponseSink::Gathered(sender)).await?;
        Ok(Asked { node: self, answered, part, _cancel: cancel })
    }

    /// Hands a request to the driver and waits until its message is queued.
    pub(super) async fn start(&self, request: Request, sink: ResponseSink) -> Result<CancelOnDrop> {
        self.check_open()?;
        let cancel = CancelOnDrop { request: request.id.clone(), commands: self.shared.commands.clone() };
        let (published, is_published) = oneshot::channel();
        let command = Command::Request { request: Box::new(request), sink, published };
        self.shared.commands.send(command).await.map_err(|_| self.closed_error())?;
        is_published.await.map_err(|_| self.closed_error())??;
        Ok(cancel)
    }

    pub(super) fn deadline(&self, timeout: Option<Duration>) -> std::time::Instant {
        let timeout = timeout.unwrap_or(self.shared.config.request_timeout);
        let now = Instant::now();
        now.checked_add(timeout).unwrap_or_else(|| now + FAR_FUTURE).into_std()
    }

    pub(super) fn new_request(&self) -> RequestId {
        self.shared.backend.ids.request_id()
    }
}

/// A request that other nodes have been asked; dropped, it ends.
pub(super) struct Asked<'a, T> {
    node: &'a ClusterNode,
    answered: oneshot::Receiver<Result<Gathered, RequestError<Gathered>>>,
    /// What is wanted of the answers.
    part: fn(Gathered) -> T,
    _cancel: CancelOnDrop,
}

impl<T> Asked<'_, T> {
    /// Waits for the answers.
    pub(super) async fn answered(self) -> Result<T, RequestError<T>> {
        let gathered = self.answered.await.map_err(|_| self.node.closed_error())?;
        gathered.map(self.part).map_err(|error| error.map(self.part))
    }
}
