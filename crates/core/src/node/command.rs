//! What handles ask of the driver, and who waits for the answers.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::adapter::AckItem;
use crate::{
    engine::Request,
    error::{Answers, Result},
    model::{RequestId, Room, Target},
    payload::Payload,
};

/// What handles ask of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start a request; `entered` is told when its message is queued.
    Request { request: Box<Request>, waiter: Waiter, entered: oneshot::Sender<Result<()>> },
    /// The caller is gone.
    Cancel(RequestId),
    /// Own sockets were moved into rooms or, if the broker knows them as entered, out of them, and the caller is gone.
    RoomsChanged { rooms: Vec<Room>, were_entered: bool },
    /// Somebody waits for nodes and the broker counts them.
    Recount,
}

/// Who waits for the answers of a request.
#[derive(Debug)]
pub(crate) enum Waiter {
    Answers(oneshot::Sender<Result<Answers>>),
    Acks {
        items: mpsc::UnboundedSender<AckItem>,
        /// What to send to the own clients.
        own: Option<Own>,
    },
}

/// An acknowledged broadcast for the own clients.
pub(super) type Own = (Target, Payload, Duration);

/// A request, as its driver knows it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) waiter: Waiter,
    pub(super) entered: Option<oneshot::Sender<Result<()>>>,
}

impl Waiter {
    pub(super) fn take_own(&mut self) -> Option<Own> {
        match self {
            Self::Answers(_) => None,
            Self::Acks { own, .. } => own.take(),
        }
    }
}

impl Waiting {
    pub(super) fn enter(&mut self, result: Result<()>) {
        if let Some(entered) = self.entered.take() {
            // Fails only when the caller is gone.
            let _ = entered.send(result);
        }
    }
}
