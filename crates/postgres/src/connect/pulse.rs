//! Whether the server is still there: when a connection last moved data, and pings that make it move some.

use std::{
    future::pending,
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, watch},
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_postgres::Client;

use crate::{config::Config, error::Failure};

/// When the connection for one purpose, one after the other, last moved data that show a living server.
///
/// Time limits are counted from there, and not from the beginning of a statement or a reply: what is large takes its
/// time behind a slow link.
#[derive(Debug)]
pub(crate) struct Pulse {
    last: watch::Sender<Instant>,
    ping_wanted: Notify,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { last: watch::Sender::new(Instant::now()), ping_wanted: Notify::new() }
    }
}

impl Pulse {
    /// Notes that the server is there, or that nothing was expected from it.
    pub(crate) fn beat(&self) {
        self.last.send_replace(Instant::now());
    }

    /// Asks the server for an answer now, and waits until something arrives. *Cancel safe.*
    pub(crate) async fn proven(&self) {
        let since = Instant::now();
        self.ping_wanted.notify_one();
        if self.last.subscribe().wait_for(|last| *last > since).await.is_err() {
            pending::<()>().await;
        }
    }

    /// Executes `ping` now and then. Returns once the server is silent, lacks a table, or has ended the connection.
    pub(crate) async fn keep_alive(&self, client: &Client, ping: &str, config: &Config) -> Failure {
        let mut pings = interval(config.ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let pinging = async {
            loop {
                tokio::select! {
                    _ = pings.tick() => {}
                    () = self.ping_wanted.notified() => {}
                }
                match client.batch_execute(ping).await.map_err(Failure::from) {
                    Err(failure) if failure.is_lost() || failure.lacks_table() => return failure,
                    // Being refused is an answer.
                    Err(failure) => tracing::debug!(reason = %failure, "a ping was refused"),
                    Ok(()) => {}
                }
            }
        };
        tokio::select! {
            failure = pinging => failure,
            failure = self.silent(config.ping_interval + config.ping_timeout) => failure,
        }
    }

    async fn silent(&self, limit: Duration) -> Failure {
        self.beat();
        loop {
            let deadline = *self.last.borrow() + limit;
            if deadline <= Instant::now() {
                return Failure::no_answer(limit);
            }
            sleep_until(deadline).await;
            // A process that was stopped reads first what has arrived meanwhile.
            yield_now().await;
        }
    }
}

/// A socket.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A socket whose progress is noted in a [`Pulse`].
pub(crate) struct ObservedStream {
    stream: Box<dyn Stream>,
    pulse: Arc<Pulse>,
    /// Whether a write waits until the server takes what was written before.
    is_blocked: bool,
}

impl ObservedStream {
    pub(crate) fn new(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, pulse: &Arc<Pulse>) -> Self {
        Self { stream: Box::new(stream), pulse: Arc::clone(pulse), is_blocked: false }
    }
}

impl AsyncRead for ObservedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut *self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.pulse.beat();
        }
        read
    }
}

impl AsyncWrite for ObservedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write(cx, bytes);
        // The operating system takes the first bytes for a dead server, too.
        if mem::replace(&mut self.is_blocked, written.is_pending()) && matches!(written, Poll::Ready(Ok(1..))) {
            self.pulse.beat();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
