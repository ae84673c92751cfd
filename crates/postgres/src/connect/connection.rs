//! One connection to the server, driven by the task that uses it: no second task stands between a message and its
//! socket.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, ready},
};

use tokio_postgres::{AsyncMessage, Client, Connection, Notification, tls::MakeTlsConnect};

use super::{pulse::ObservedStream, tls::Connector};
use crate::{
    channel::Encoding,
    error::{Failure, describe},
};

type TlsStream = <Connector as MakeTlsConnect<ObservedStream>>::Stream;

/// A connection: `tokio-postgres`' client and the driver of its socket.
pub(crate) struct PgConnection {
    pub(crate) client: Client,
    pub(crate) driver: ConnectionDriver,
}

impl PgConnection {
    /// Runs statements without parameters.
    pub(crate) async fn execute(&mut self, statements: &str) -> Result<(), Failure> {
        self.driver.drive(self.client.batch_execute(statements)).await
    }
}

/// The half of a connection that owns the socket.
pub(crate) struct ConnectionDriver {
    connection: Connection<ObservedStream, TlsStream>,
    received: VecDeque<Notification>,
    ended: Option<String>,
}

impl ConnectionDriver {
    pub(crate) fn new(connection: Connection<ObservedStream, TlsStream>) -> Self {
        Self { connection, received: VecDeque::new(), ended: None }
    }

    /// Encoding of the database.
    pub(crate) fn encoding(&self) -> Encoding {
        Encoding::named(self.connection.parameter("server_encoding").unwrap_or("UTF8"))
    }

    /// Runs `work`, which uses the client, while moving data. Notifications that arrive meanwhile are kept.
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
        batch.append(&mut self.received);
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
                Ok(notification) => self.received.push_back(notification),
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
