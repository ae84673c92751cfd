//! Delivery of packets to sockets, in order and without losing those that a full buffer cannot take at once.

use std::{pin::Pin, time::Duration};

use futures_util::{FutureExt, StreamExt};
use serde::Serialize;
use socketioxide_core::{
    Sid, Value,
    adapter::{BroadcastOptions, SocketEmitter, errors::SocketError},
    packet::Packet,
};
use trunkline_core::{AckSink, DeliveryReport, Offset, Payload, SocketId, Target};

use crate::{
    adapter::Trunkline,
    backlog::{HOLD, Offered, Queued, SendOutcome, SocketSink},
    convert::acknowledged,
    namespace::OpenNamespace,
};

impl<E: SocketEmitter> Trunkline<E> {
    /// Delivers to these sockets, which are those of `target`: one after the other if they are few, otherwise to all at
    /// once.
    pub(crate) fn deliver_paced(
        &self,
        namespace: &OpenNamespace,
        target: &Target,
        sockets: &[Sid],
        packet: &Packet,
        offset: Option<&Offset>,
    ) -> DeliveryReport {
        if sockets.len() <= namespace.paced_sockets || namespace.is_superseded() {
            self.deliver_each(namespace, sockets, packet, offset)
        } else {
            self.deliver_all(namespace, target, sockets, packet, offset)
        }
    }

    /// Delivers to one socket after the other, so that it is known which of them cannot take the packet.
    fn deliver_each(
        &self,
        namespace: &OpenNamespace,
        sockets: &[Sid],
        packet: &Packet,
        offset: Option<&Offset>,
    ) -> DeliveryReport {
        let mut delivered = DeliveryReport::default();
        for socket in sockets {
            let packet = Queued::Event(packet.clone(), offset.cloned());
            match namespace.backlogs.offer(*socket, packet, self) {
                Offered::Sent => delivered.sent += 1,
                Offered::Queued { hold_back } => {
                    delivered.sent += 1;
                    delivered.backpressure = delivered.backpressure.max(if hold_back { HOLD } else { Duration::ZERO });
                }
                Offered::Dropped => delivered.dropped += 1,
                Offered::Duplicate | Offered::Closed => {}
            }
        }
        delivered
    }

    /// Delivers to all sockets at once, encoded once; those with a backlog get the packet behind that. Of the others it
    /// is known only how many could not take it.
    fn deliver_all(
        &self,
        namespace: &OpenNamespace,
        target: &Target,
        sockets: &[Sid],
        packet: &Packet,
        offset: Option<&Offset>,
    ) -> DeliveryReport {
        let behind = namespace.backlogs.among(sockets);
        let mut delivered = self.deliver_each(namespace, &behind, packet, offset);
        let result = self.local.broadcast(packet.clone(), self.options_without(target, &behind));
        let refused = result.err().unwrap_or_default();
        let dropped = refused.iter().filter(|error| matches!(error, SocketError::InternalChannelFull)).count();
        delivered.sent += (sockets.len() - behind.len()).saturating_sub(refused.len()) as u64;
        delivered.dropped += dropped as u64;
        delivered
    }

    /// Delivers to these sockets, which are those of `target`, and passes their acknowledgements to `acks`. Returns how
    /// many will answer.
    pub(crate) fn deliver_with_acks(
        &self,
        namespace: &OpenNamespace,
        target: &Target,
        sockets: &[Sid],
        packet: &Packet,
        timeout: Duration,
        acks: &AckSink,
    ) -> u32 {
        let queued = || Queued::WithAck(packet.clone(), timeout, acks.clone());
        let behind = namespace.backlogs.among(sockets);
        for socket in &behind {
            namespace.backlogs.offer(*socket, queued(), self);
        }
        let opts = self.options_without(target, &behind);
        let (stream, count) = self.local.broadcast_with_ack(packet.clone(), opts, Some(timeout));
        let mut stream = Box::pin(stream);
        // Sockets whose buffer is full are reported at once.
        while let Some(Some((socket, ack))) = stream.next().now_or_never() {
            match ack {
                Ok(value) => acknowledge(acks, socket, value),
                Err(error) if is_full(&error) => {
                    namespace.backlogs.queue(socket, queued());
                }
                Err(_) => {}
            }
        }
        self.forward(stream, acks);
        count + u32::try_from(behind.len()).unwrap_or(u32::MAX)
    }

    /// Passes acknowledgements on as they arrive. A client that does not answer in time is noticed by the node that
    /// asked.
    fn forward(&self, stream: Pin<Box<E::AckStream>>, acks: &AckSink) {
        let acks = acks.clone();
        let forwarding = stream.for_each(move |(socket, ack)| {
            if let Ok(value) = ack {
                acknowledge(&acks, socket, value);
            }
            std::future::ready(())
        });
        if !self.namespace().is_ok_and(|namespace| namespace.tasks.spawn(forwarding)) {
            tracing::debug!("too many acknowledged broadcasts are pending: the answers to one are lost");
        }
    }

    fn send_with_ack(&self, socket: Sid, packet: &Packet, timeout: Duration, acks: &AckSink) -> SendOutcome {
        let only = BroadcastOptions::new(socket);
        let (stream, _) = self.local.broadcast_with_ack(packet.clone(), only, Some(timeout));
        let mut stream = Box::pin(stream);
        match stream.next().now_or_never() {
            None => self.forward(stream, acks),
            Some(None) => return SendOutcome::Closed,
            Some(Some((socket, Ok(value)))) => acknowledge(acks, socket, value),
            Some(Some((_, Err(error)))) => {
                return if is_full(&error) { SendOutcome::Full } else { SendOutcome::Closed };
            }
        }
        SendOutcome::Sent
    }

    /// Removes a closed socket from an opening that socketioxide has forgotten. With its last socket the namespace is
    /// dropped.
    fn remove_from_superseded(&self, socket: Sid) {
        if self.namespace().is_ok_and(|namespace| namespace.is_superseded()) {
            // An error says that the client cannot be told, which is closed already.
            let _ = self.local.disconnect_socket(BroadcastOptions::new(socket));
        }
    }
}

impl<E: SocketEmitter> SocketSink for Trunkline<E> {
    fn send(&self, socket: Sid, packet: &Queued) -> SendOutcome {
        let only = BroadcastOptions::new(socket);
        match packet {
            Queued::Event(packet, _) => {
                let outcome = outcome(self.local.broadcast(packet.clone(), only));
                if outcome == SendOutcome::Closed {
                    self.remove_from_superseded(socket);
                }
                outcome
            }
            Queued::WithAck(packet, timeout, acks) => self.send_with_ack(socket, packet, *timeout, acks),
            Queued::Disconnect => match outcome(self.local.disconnect_socket(only)) {
                SendOutcome::Full => SendOutcome::Full,
                SendOutcome::Sent | SendOutcome::Closed => SendOutcome::Closed,
            },
        }
    }
}

fn acknowledge(acks: &AckSink, socket: Sid, value: Value) {
    let value = acknowledged(value);
    match SocketId::new(socket.as_str()) {
        Ok(socket) => acks.ack_of(socket, value),
        Err(_) => acks.ack(value),
    }
}

fn outcome(result: Result<(), Vec<SocketError>>) -> SendOutcome {
    match result {
        Ok(()) => SendOutcome::Sent,
        Err(errors) if errors.iter().any(|error| matches!(error, SocketError::InternalChannelFull)) => {
            SendOutcome::Full
        }
        Err(_) => SendOutcome::Closed,
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
    fn a_full_buffer_is_distinguished_from_other_errors() {
        assert!(is_full(&AckError::Socket(SocketError::InternalChannelFull)));
        assert!(!is_full(&AckError::Socket(SocketError::Closed)));
        assert!(!is_full(&AckError::Timeout));
    }
}
