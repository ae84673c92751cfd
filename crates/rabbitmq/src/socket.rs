//! The socket that the client reads and writes, which can be aborted from outside.

use std::{
    io::{Error, ErrorKind, Result},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::io::{AsyncRead, AsyncWrite};
use tokio_util::{
    compat::{Compat, TokioAsyncReadCompatExt as _},
    sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned},
    task::task_tracker::TaskTrackerToken,
};

/// A TCP connection, encrypted or not.
pub(crate) trait ByteStream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Sync + Unpin {}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Sync + Unpin> ByteStream for S {}

/// A connection. The client has a thread for each, which ends when the socket does.
pub(crate) struct Socket {
    stream: Compat<Box<dyn ByteStream>>,
    until_aborted: Pin<Box<WaitForCancellationFutureOwned>>,
    aborted: CancellationToken,
    bytes_read: Arc<AtomicU64>,
    /// Dropped last: nothing reads or writes any more.
    _ended: (DropGuard, TaskTrackerToken),
}

impl Socket {
    /// It fails once the first token is cancelled, and cancels the second one when it is dropped.
    pub(crate) fn new(
        stream: Box<dyn ByteStream>,
        bytes_read: Arc<AtomicU64>,
        (aborted, ended, alive): (CancellationToken, CancellationToken, TaskTrackerToken),
    ) -> Self {
        Self {
            stream: stream.compat(),
            until_aborted: Box::pin(aborted.clone().cancelled_owned()),
            aborted,
            bytes_read,
            _ended: (ended.drop_guard(), alive),
        }
    }

    fn check(&self) -> Result<()> {
        if self.aborted.is_cancelled() { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<usize>> {
        if self.until_aborted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Error::from(ErrorKind::ConnectionAborted)));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(bytes)) = read {
            self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// At once: the client waits for this in a thread, and the peer may take nothing any more.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}
