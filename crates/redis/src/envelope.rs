//! What a node makes of a cluster message, `{type, data, uid, nsp}`: the wire of sharded pub/sub, and of the requests and answers of streams.

use bytes::Bytes;
use trunkline_core::{
    Error, ErrorKind,
    codec::{self, Body, Decoded, Header},
    model::Delivery,
};

use crate::seats::{Member, Wants};

/// Payloads below this are copied, so that they do not keep alive the much larger buffer that was read.
const SLICED: usize = 4 << 10;

/// The same bytes, in a buffer of their own if they are few.
pub(crate) fn own(bytes: &Bytes) -> Bytes {
    if bytes.len() < SLICED { Bytes::copy_from_slice(bytes) } else { bytes.clone() }
}

/// Where a message came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Door {
    /// The channel of a namespace, or of a room.
    Public,
    /// The channel of a node, which only answers come through; the official sharded adapter does not look at their namespace.
    Private,
}

/// Takes in a message. What is not wanted is dropped before its payload is touched.
pub(crate) fn take(member: &Member, bytes: &Bytes, door: Door, wants: &Wants<'_>) -> Option<Delivery> {
    if door == Door::Public
        && let Some(header) = codec::peek(bytes)
        && let Some(verdict) = drop_early(member, &header, wants)
    {
        return verdict;
    }
    match codec::decode(&own(bytes)) {
        Ok(decoded) => admit(member, decoded, door),
        Err(error) => {
            refuse(member, &error);
            None
        }
    }
}

/// What to make of a message as far as its header tells; `None` if it has to be decoded.
fn drop_early(member: &Member, header: &Header, wants: &Wants<'_>) -> Option<Option<Delivery>> {
    if header.namespace.as_ref() != Some(&member.node.namespace) {
        member.metrics.foreign_namespace.increment();
        return Some(None);
    }
    let from = header.from.as_ref()?;
    if *from == member.node.id {
        member.metrics.own_echoes.increment();
        return Some(None);
    }
    let room = header.room.as_ref()?;
    (!wants.room(room)).then(|| skip(member, from, header))
}

fn skip(member: &Member, from: &trunkline_core::NodeId, header: &Header) -> Option<Delivery> {
    if header.seq_no.is_none() {
        member.metrics.unwanted.increment();
        return None;
    }
    Some(Delivery::Skipped { from: from.clone(), seq_no: header.seq_no })
}

fn admit(member: &Member, decoded: Decoded, door: Door) -> Option<Delivery> {
    let Decoded { from, namespace, seq_no, body } = decoded;
    let is_foreign = namespace.is_none_or(|namespace| namespace != member.node.namespace);
    if door == Door::Public && is_foreign {
        member.metrics.foreign_namespace.increment();
        return None;
    }
    if from.as_ref() == Some(&member.node.id) {
        member.metrics.own_echoes.increment();
        return None;
    }
    match body {
        Body::Response(response) => Some(Delivery::Response { from, response }),
        Body::Message(message) if door == Door::Public => {
            Some(Delivery::Message { from, seq_no, offset: None, message })
        }
        Body::Message(_) => {
            member.metrics.malformed.increment();
            None
        }
    }
}

/// Counts what could not be understood.
pub(crate) fn refuse(member: &Member, error: &Error) {
    let counter = match error.kind() {
        ErrorKind::Unsupported => &member.metrics.unknown_type,
        _ => &member.metrics.malformed,
    };
    counter.increment();
    tracing::debug!(node = %member.node.id, %error, "a message was dropped");
}
