//! The stream of acknowledgements of a broadcast, for socketioxide.

use std::{
    fmt,
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
};

use futures_core::{FusedStream, Stream};
use serde::{
    Deserialize,
    de::{IntoDeserializer, value::Error as ValueError},
};
use socketioxide_core::{
    Sid, Value,
    adapter::{AckStreamItem, SocketEmitter},
};
use trunkline_core::{Ack, AckCounts, AckStream, Payload, RequestError};

use crate::convert::{Encoding, acknowledgement};

/// Stream of the acknowledgements of a broadcast from the clients of all nodes.
///
/// Each item names its socket. Where that is not known it is [`Sid::ZERO`]: for a client of a Node.js server, which does
/// not tell it, and for one that has not answered.
///
/// Ends when every client has answered or the time is up. Then it yields an `AckError::Timeout` for each client that is
/// known not to have answered, up to 65,536, and none for nodes that did not even report how many clients they have.
pub struct ClusterAckStream<E: SocketEmitter>(Inner<E>);

enum Inner<E: SocketEmitter> {
    /// socketioxide's own stream, for a broadcast to local sockets.
    Local(Pin<Box<E::AckStream>>),
    Cluster(Remote),
}

struct Remote {
    acks: Option<AckStream>,
    encoding: Encoding,
    /// Number of clients that did not answer in time and are still to be yielded.
    unanswered: u64,
}

impl<E: SocketEmitter> ClusterAckStream<E> {
    pub(crate) fn local(stream: E::AckStream) -> Self {
        Self(Inner::Local(Box::pin(stream)))
    }

    pub(crate) fn cluster(acks: AckStream, encoding: Encoding) -> Self {
        Self(Inner::Cluster(Remote { acks: Some(acks), encoding, unanswered: 0 }))
    }
}

impl<E: SocketEmitter> Stream for ClusterAckStream<E> {
    type Item = AckStreamItem<E::AckError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Inner::Local(stream) => stream.as_mut().poll_next(cx),
            Inner::Cluster(remote) => remote.poll_next::<E::AckError>(cx),
        }
    }
}

impl<E: SocketEmitter> FusedStream for ClusterAckStream<E> {
    fn is_terminated(&self) -> bool {
        match &self.0 {
            Inner::Local(stream) => stream.is_terminated(),
            Inner::Cluster(remote) => remote.acks.is_none() && remote.unanswered == 0,
        }
    }
}

impl Remote {
    fn poll_next<A: for<'de> Deserialize<'de>>(&mut self, cx: &mut Context<'_>) -> Poll<Option<AckStreamItem<A>>> {
        if let Some(acks) = &mut self.acks {
            match std::task::ready!(Pin::new(acks).poll_next(cx)) {
                Some(Ok(ack)) => return Poll::Ready(Some((sid(&ack), self.value(ack.value.as_ref())))),
                Some(Err(error)) => self.end(&error),
                None => self.acks = None,
            }
        }
        Poll::Ready(self.next_unanswered())
    }

    /// A client's acknowledgement. One that cannot be converted was never valid and counts as one without argument.
    fn value<A>(&self, value: Option<&Payload>) -> Result<Value, A> {
        let empty = || Value::Str("[]".into(), None);
        Ok(acknowledgement(value, self.encoding)
            .or_else(|_| acknowledgement(None, self.encoding))
            .unwrap_or_else(|_| empty()))
    }

    fn end(&mut self, error: &RequestError<AckCounts>) {
        self.acks = None;
        tracing::debug!(%error, "an acknowledged broadcast is incomplete");
        self.unanswered = error.incomplete().map_or(0, |incomplete| unanswered(incomplete.received));
    }

    fn next_unanswered<A: for<'de> Deserialize<'de>>(&mut self) -> Option<AckStreamItem<A>> {
        self.unanswered = self.unanswered.checked_sub(1)?;
        timed_out().map(|error| (Sid::ZERO, Err(error)))
    }
}

/// The socket that acknowledges, if it is one of a socketioxide server.
fn sid(ack: &Ack) -> Sid {
    ack.socket.as_ref().and_then(|socket| Sid::from_str(socket.as_str()).ok()).unwrap_or(Sid::ZERO)
}

/// How many clients without an answer are yielded.
fn unanswered(AckCounts { expected, received }: AckCounts) -> u64 {
    expected.saturating_sub(received).min(MAX_UNANSWERED)
}

/// Most clients without an answer that are yielded. How many there are is only what nodes say, and what collects the
/// stream does not pause between them.
const MAX_UNANSWERED: u64 = 1 << 16;

/// `AckError::Timeout`, deserialized: socketioxide does not tell adapters its error type.
fn timed_out<A: for<'de> Deserialize<'de>>() -> Option<A> {
    let variant: Result<A, ValueError> = A::deserialize("Timeout".into_deserializer());
    variant.ok()
}

impl<E: SocketEmitter> fmt::Debug for ClusterAckStream<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterAckStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invented_number_of_clients_is_not_yielded_whole() {
        let of = |expected, received| unanswered(AckCounts { expected, received });
        assert_eq!((of(5, 3), of(3, 5)), (2, 0));
        assert_eq!(of(u64::from(u32::MAX), 0), MAX_UNANSWERED);
    }
}
