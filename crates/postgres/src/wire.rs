//! A connection that is moved by whoever uses it: no second task stands between a message and its socket.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, ready},
};

use tokio_postgres::{AsyncMessage, Client, Connection, Notification, Socket, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Failure, describe};

type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Both ends of a connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) wire: Wire,
}

/// The end that has the socket.
pub(crate) struct Wire {
    connection: Connection<Socket, TlsStream>,
    arrived: VecDeque<Notification>,
    ended: Option<String>,
}

impl Wire {
    pub(crate) fn new(connection: Connection<Socket, TlsStream>) -> Self {
        Self { connection, arrived: VecDeque::new(), ended: None }
    }

    /// Runs `work`, which uses the other end, while moving data. Notifications that arrive meanwhile are kept.
    pub(crate) async fn drive<T, E: Into<Failure>>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let ended = self.poll_ended(cx);
            match (work.as_mut().poll(cx), ended) {
                (Poll::Ready(result), _) => Poll::Ready(result.map_err(Into::into)),
                (Poll::Pending, Poll::Ready(reason)) => Poll::Ready(Err(Failure::Lost(reason))),
                (Poll::Pending, Poll::Pending) => Poll::Pending,
            }
        })
        .await
    }

    /// Moves data until the connection ends; returns why. *Cancel safe.*
    pub(crate) async fn ended(&mut self) -> String {
        poll_fn(|cx| self.poll_ended(cx)).await
    }

    /// Waits for notifications and moves them into `batch`, up to about `most`. *Cancel safe.*
    pub(crate) async fn next_batch(&mut self, batch: &mut VecDeque<Notification>, most: usize) -> Result<(), String> {
        poll_fn(|cx| self.poll_batch(cx, batch, most)).await
    }

    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Notification>,
        most: usize,
    ) -> Poll<Result<(), String>> {
        batch.append(&mut self.arrived);
        while batch.len() < most {
            match self.poll_notification(cx) {
                Poll::Ready(Ok(notification)) => batch.push_back(notification),
                Poll::Ready(Err(reason)) if batch.is_empty() => return Poll::Ready(Err(reason)),
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        if batch.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        loop {
            match ready!(self.poll_notification(cx)) {
                Ok(notification) => self.arrived.push_back(notification),
                Err(reason) => return Poll::Ready(reason),
            }
        }
    }

    fn poll_notification(&mut self, cx: &mut Context<'_>) -> Poll<Result<Notification, String>> {
        // An ended connection must not be polled again.
        if let Some(reason) = &self.ended {
            return Poll::Ready(Err(reason.clone()));
        }
        loop {
            let reason = match ready!(self.connection.poll_message(cx)) {
                Some(Ok(AsyncMessage::Notification(notification))) => return Poll::Ready(Ok(notification)),
                Some(Ok(_)) => continue,
                Some(Err(error)) => describe(&error),
                None => "connection closed".to_owned(),
            };
            self.ended = Some(reason.clone());
            return Poll::Ready(Err(reason));
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("ended", &self.ended).finish_non_exhaustive()
    }
}
