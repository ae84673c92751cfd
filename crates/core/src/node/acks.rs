//! The acknowledgements of a broadcast, as a stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::sync::mpsc;

use super::command::CancelOnDrop;
use crate::{
    error::{Error, ErrorKind},
    model::{Ack, AckCounts, RequestError},
};

/// Acknowledgements of a broadcast as they arrive: the first argument of each client's answer and, from nodes that tell
/// it, the id of its socket.
///
/// Ends when every client has answered, or with an error that says which nodes and how many clients have not. Dropped
/// early, it frees what waits for it.
#[derive(Debug)]
pub struct AckStream {
    items: mpsc::UnboundedReceiver<AckItem>,
    ended: bool,
    _cancel: CancelOnDrop,
}

/// At most one acknowledgement per client, and the end.
#[derive(Debug)]
pub(super) enum AckItem {
    Ack(Ack),
    End(Result<(), RequestError<AckCounts>>),
}

impl AckStream {
    pub(super) fn new(items: mpsc::UnboundedReceiver<AckItem>, cancel: CancelOnDrop) -> Self {
        Self { items, ended: false, _cancel: cancel }
    }

    /// Next acknowledgement; `None` after the last one. *Cancel safe.*
    ///
    /// # Errors
    /// `Timeout` if not all clients answered in time, with their number; `TooLarge` if the broker does not take what one
    /// has answered.
    pub async fn next(&mut self) -> Option<Result<Ack, RequestError<AckCounts>>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// All acknowledgements.
    ///
    /// # Errors
    /// As of [`AckStream::next`], with the acknowledgements that arrived.
    pub async fn collect(mut self) -> Result<Vec<Ack>, RequestError<Vec<Ack>>> {
        let mut acks = Vec::new();
        while let Some(item) = self.next().await {
            match item {
                Ok(ack) => acks.push(ack),
                Err(error) => return Err(error.map(|_| acks)),
            }
        }
        Ok(acks)
    }
}

impl Stream for AckStream {
    type Item = Result<Ack, RequestError<AckCounts>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(self.items.poll_recv(cx));
        if let Some(AckItem::Ack(ack)) = item {
            return Poll::Ready(Some(Ok(ack)));
        }
        self.ended = true;
        Poll::Ready(match item {
            Some(AckItem::End(result)) => result.err().map(Err),
            _ => {
                Some(Err(Error::new(ErrorKind::Closed, "the node left while clients had not acknowledged yet").into()))
            }
        })
    }
}
