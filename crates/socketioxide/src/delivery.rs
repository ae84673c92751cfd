//! Handing packets to sockets, in order and without losing any that a buffer cannot take at once.

use std::{borrow::Cow, pin::Pin, time::Duration};

use futures_util::{FutureExt, StreamExt};
use serde::Serialize;
use socketioxide_core::{
    Sid,
    adapter::{BroadcastOptions, SocketEmitter, errors::SocketError},
    packet::Packet,
};
use trunkline_core::{AckSink, DeliveryReport, Offset, Payload, Target};

use crate::{
    adapter::Trunkline,
    convert::acknowledged,
    handle::Opened,
    lanes::{Given, Outlet, PAUSE, Sent, Waiting},
};

impl<E: SocketEmitter> Trunkline<E> {
    /// One socket after the other, so that it is known which of them cannot take it.
    pub(crate) fn deliver_each(
        &self,
        opened: &Opened,
        sockets: &[Sid],
        packet: &Packet,
        offset: Option<&Offset>,
    ) -> DeliveryReport {
        let mut delivered = DeliveryReport::default();
        for socket in sockets {
            let waiting = Waiting::Event(packet.clone(), offset.cloned());
            match opened.lanes.give(*socket, waiting, self) {
                Given::Sent => delivered.sent += 1,
                Given::Waits { hold_back } => {
                    delivered.sent += 1;
                    delivered.pause = delivered.pause.max(if hold_back { PAUSE } else { Duration::ZERO });
                }
                Given::Dropped => delivered.dropped += 1,
                Given::Repeated | Given::Gone => {}
            }
        }
        delivered
    }

    /// All sockets at once, encoded once; those with something waiting get it behind that. Only how many cannot take it is known.
    pub(crate) fn deliver_all(
        &self,
        opened: &Opened,
        target: &Target,
        sockets: &[Sid],
        packet: &Packet,
        offset: Option<&Offset>,
    ) -> DeliveryReport {
        let behind = opened.lanes.among(sockets);
        let mut delivered = self.deliver_each(opened, &behind, packet, offset);
        let result = self.local.broadcast(packet.clone(), self.leaving_out(target, &behind));
        let refused = result.err().unwrap_or_default();
        let dropped = refused.iter().filter(|error| matches!(error, SocketError::InternalChannelFull)).count();
        delivered.sent += (sockets.len() - behind.len()).saturating_sub(refused.len()) as u64;
        delivered.dropped += dropped as u64;
        delivered
    }

    /// As [`Local::deliver_with_ack`](trunkline_core::Local::deliver_with_ack), to these sockets.
    pub(crate) fn deliver_acked(
        &self,
        opened: &Opened,
        target: &Target,
        sockets: &[Sid],
        packet: &Packet,
        timeout: Duration,
        acks: &AckSink,
    ) -> u32 {
        let behind = opened.lanes.among(sockets);
        for socket in &behind {
            opened.lanes.give(*socket, Waiting::Acked(packet.clone(), timeout, acks.clone()), self);
        }
        let opts = self.leaving_out(target, &behind);
        let (stream, count) = self.local.broadcast_with_ack(packet.clone(), opts, Some(timeout));
        let mut stream = Box::pin(stream);
        // Those that cannot take it say so at once.
        while let Some(Some((socket, ack))) = stream.next().now_or_never() {
            match ack {
                Ok(value) => acks.ack(acknowledged(value)),
                Err(error) if is_full(&error) => {
                    opened.lanes.queue(socket, Waiting::Acked(packet.clone(), timeout, acks.clone()));
                }
                Err(_) => {}
            }
        }
        self.forward(stream, acks);
        count + u32::try_from(behind.len()).unwrap_or(u32::MAX)
    }

    /// Passes acknowledgements on as they arrive. A client that does not answer in time is noticed by whoever asked.
    fn forward(&self, stream: Pin<Box<E::AckStream>>, acks: &AckSink) {
        let Ok(opened) = self.opened() else { return };
        let acks = acks.clone();
        let forwarding = stream.for_each(move |(_, ack)| {
            if let Ok(value) = ack {
                acks.ack(acknowledged(value));
            }
            std::future::ready(())
        });
        if !opened.tasks.spawn(forwarding) {
            tracing::debug!("too many acknowledged broadcasts are under way: the answers to one are lost");
        }
    }

    fn send_acked(&self, socket: Sid, packet: &Packet, timeout: Duration, acks: &AckSink) -> Sent {
        let only = BroadcastOptions::new(socket);
        let (stream, _) = self.local.broadcast_with_ack(packet.clone(), only, Some(timeout));
        let mut stream = Box::pin(stream);
        match stream.next().now_or_never() {
            None => self.forward(stream, acks),
            Some(None) => return Sent::Gone,
            Some(Some((_, Ok(value)))) => acks.ack(acknowledged(value)),
            Some(Some((_, Err(error)))) => return if is_full(&error) { Sent::Full } else { Sent::Gone },
        }
        Sent::Yes
    }

    /// In an opening that socketioxide has forgotten, nobody else removes a closed socket. With the last one the namespace goes.
    fn forget_lost(&self, socket: Sid) {
        if self.opened().is_ok_and(Opened::is_superseded) {
            // It is closed already: there is nobody to tell.
            let _ = self.local.disconnect_socket(BroadcastOptions::new(socket));
        }
    }

    /// The target in socketioxide's terms, without some sockets.
    fn leaving_out(&self, target: &Target, sockets: &[Sid]) -> BroadcastOptions {
        let mut opts = self.options(target);
        for socket in sockets {
            self.adopt(*socket);
            opts.except.push(Cow::Owned(socket.to_string()));
        }
        opts
    }
}

impl<E: SocketEmitter> Outlet for Trunkline<E> {
    fn send(&self, socket: Sid, waiting: &Waiting) -> Sent {
        let only = BroadcastOptions::new(socket);
        match waiting {
            Waiting::Event(packet, _) => {
                let sent = outcome(self.local.broadcast(packet.clone(), only));
                if sent == Sent::Gone {
                    self.forget_lost(socket);
                }
                sent
            }
            Waiting::Acked(packet, timeout, acks) => self.send_acked(socket, packet, *timeout, acks),
            Waiting::Disconnect => match outcome(self.local.disconnect_socket(only)) {
                Sent::Full => Sent::Full,
                Sent::Yes | Sent::Gone => Sent::Gone,
            },
        }
    }
}

fn outcome(result: Result<(), Vec<SocketError>>) -> Sent {
    match result {
        Ok(()) => Sent::Yes,
        Err(errors) if errors.iter().any(|error| matches!(error, SocketError::InternalChannelFull)) => Sent::Full,
        Err(_) => Sent::Gone,
    }
}

/// socketioxide does not tell adapters the type of this error, only that it can be serialized.
fn is_full(error: &impl Serialize) -> bool {
    Payload::value(error).is_ok_and(|error| error.as_json_text() == Some(r#"{"Socket":"InternalChannelFull"}"#))
}

#[cfg(test)]
mod tests {
    use socketioxide::AckError;

    use super::*;

    #[test]
    fn a_full_buffer_is_told_from_other_errors() {
        assert!(is_full(&AckError::Socket(SocketError::InternalChannelFull)));
        assert!(!is_full(&AckError::Socket(SocketError::Closed)));
        assert!(!is_full(&AckError::Timeout));
    }
}
