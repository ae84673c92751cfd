//! Decoding a cluster message, `{type, data, uid, nsp}`: the wire of sharded pub/sub, and of the requests and answers of streams.

use bytes::Bytes;
use trunkline_core::{
    Error, ErrorKind, NodeId,
    codec::{self, Body, Decoded, Header},
    model::Delivery,
};

use super::joined::{NodeInbox, PendingRooms};

/// Payloads below this are copied, so that they do not keep alive the much larger buffer that was read.
const SLICED: usize = 4 << 10;

/// The same bytes, in a buffer of their own if they are few.
pub(crate) fn own(bytes: &Bytes) -> Bytes {
    if bytes.len() < SLICED { Bytes::copy_from_slice(bytes) } else { bytes.clone() }
}

/// What a channel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChannelKind {
    /// The channel of a namespace, or of a room.
    Public,
    /// The channel of a node, which only answers come through; the official sharded adapter does not look at their namespace.
    Private,
}

/// Makes a delivery of a message, or counts why not. What is for rooms without local members is dropped before its payload is touched.
pub(crate) fn decode(
    inbox: &NodeInbox,
    bytes: &Bytes,
    kind: ChannelKind,
    rooms: &PendingRooms<'_>,
) -> Option<Delivery> {
    if kind == ChannelKind::Public
        && let Some(header) = codec::peek(bytes)
        && let Some(verdict) = drop_early(inbox, &header, rooms)
    {
        return verdict;
    }
    match codec::decode(&own(bytes)) {
        Ok(decoded) => admit(inbox, decoded, kind),
        Err(error) => {
            refuse(inbox, &error);
            None
        }
    }
}

/// What to make of a message as far as its header tells; `None` if it has to be decoded.
fn drop_early(inbox: &NodeInbox, header: &Header, rooms: &PendingRooms<'_>) -> Option<Option<Delivery>> {
    if header.namespace.as_ref() != Some(&inbox.node.namespace) {
        inbox.metrics.foreign_namespace.increment();
        return Some(None);
    }
    let from = header.from.as_ref()?;
    if *from == inbox.node.id {
        inbox.metrics.own_echoes.increment();
        return Some(None);
    }
    let room = header.room.as_ref()?;
    (!rooms.may_have_members(room)).then(|| skip(inbox, from, header))
}

fn skip(inbox: &NodeInbox, from: &NodeId, header: &Header) -> Option<Delivery> {
    if header.seq_no.is_none() {
        inbox.metrics.unwanted.increment();
        return None;
    }
    Some(Delivery::Skipped { from: from.clone(), seq_no: header.seq_no })
}

fn admit(inbox: &NodeInbox, decoded: Decoded, kind: ChannelKind) -> Option<Delivery> {
    let Decoded { from, namespace, seq_no, body } = decoded;
    let is_foreign = namespace.is_none_or(|namespace| namespace != inbox.node.namespace);
    if kind == ChannelKind::Public && is_foreign {
        inbox.metrics.foreign_namespace.increment();
        return None;
    }
    if from.as_ref() == Some(&inbox.node.id) {
        inbox.metrics.own_echoes.increment();
        return None;
    }
    match body {
        Body::Response(response) => Some(Delivery::Response { from, response }),
        Body::Message(message) if kind == ChannelKind::Public => {
            Some(Delivery::Message { from, seq_no, offset: None, message })
        }
        Body::Message(_) => {
            inbox.metrics.malformed.increment();
            None
        }
    }
}

/// Counts what could not be understood.
pub(crate) fn refuse(inbox: &NodeInbox, error: &Error) {
    let counter = match error.kind() {
        ErrorKind::Unsupported => &inbox.metrics.unknown_type,
        _ => &inbox.metrics.malformed,
    };
    counter.increment();
    tracing::debug!(node = %inbox.node.id, %error, "a message was dropped");
}
