//! Asking the other nodes.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use super::{
    ClusterNode,
    command::{Command, Waiter},
    config::FAR_FUTURE,
    guards::Cancel,
};
use crate::{
    engine::{Gather, Request},
    error::{Answers, Error, Partial, Result},
    model::{Message, RequestId, Room, Target},
};

impl ClusterNode {
    pub(super) fn deadline(&self, timeout: Option<Duration>) -> std::time::Instant {
        let timeout = timeout.unwrap_or(self.shared.config.request_timeout);
        let now = Instant::now();
        now.checked_add(timeout).unwrap_or_else(|| now + FAR_FUTURE).into_std()
    }

    pub(super) fn new_request(&self) -> RequestId {
        self.shared.backend.ids.request_id()
    }

    /// Hands a request to the driver and waits until it is published.
    pub(super) async fn start(&self, request: Request, waiter: Waiter) -> Result<Cancel> {
        self.check_open()?;
        let cancel = Cancel { request: request.id.clone(), commands: self.shared.commands.clone() };
        let (entered, has_entered) = oneshot::channel();
        let command = Command::Request { request: Box::new(request), waiter, entered };
        self.shared.commands.send(command).await.map_err(|_| self.closed_error())?;
        has_entered.await.map_err(|_| self.closed_error())??;
        Ok(cancel)
    }

    /// Asks all other nodes and waits for their answers.
    pub(super) async fn ask(
        &self,
        id: RequestId,
        gather: Gather,
        message: Message,
        timeout: Option<Duration>,
    ) -> Result<Answers> {
        let (answers, answered) = oneshot::channel();
        let request = Request { id, gather, message: Some(message), deadline: self.deadline(timeout) };
        let _cancel = self.start(request, Waiter::Answers(answers)).await?;
        answered.await.map_err(|_| self.closed_error())?
    }

    /// The rooms of all other nodes.
    pub(super) async fn other_rooms(&self) -> Result<Vec<Room>> {
        let request = self.new_request();
        let message = if self.shared.capabilities.all_rooms_request {
            Message::AllRooms { request: request.clone() }
        } else {
            Message::FetchSockets { request: request.clone(), target: Target::all() }
        };
        match self.ask(request, Gather::Rooms, message, None).await? {
            Answers::Rooms(rooms) => Ok(rooms),
            other => Err(unexpected(&other)),
        }
    }
}

/// Changes the partial answers of an error.
pub(super) fn amend(error: Error, change: impl FnOnce(&mut Answers)) -> Error {
    match error.partial().cloned() {
        Some(Partial { mut answers, missing, missing_unnamed }) => {
            change(&mut answers);
            error.with_partial(Partial { answers, missing, missing_unnamed })
        }
        None => error,
    }
}

/// The engine answers each kind of request with its kind of answers.
pub(super) fn unexpected(answers: &Answers) -> Error {
    Error::malformed(format!("answers of another kind: {answers:?}"))
}
