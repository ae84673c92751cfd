//! What is fuzzed (`fuzz/`): the decoder of batches, with everything that one node hands to its inbox.

use std::sync::Arc;

use bytes::Bytes;
use trunkline_core::{
    model::{Namespace, NodeId, NodeKey, Offset, Room},
    transport::{InboxLimits, JoinRequest, RoomFilter, inbox},
};

use crate::{
    batch::Batch,
    decoder::{BatchDecoder, InboundDecoder},
};

/// Name and entry of each target.
#[allow(clippy::type_complexity)] // A list needs no name of its own.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[("backend_batch", batch)];

#[derive(Debug)]
struct Rooms;

impl RoomFilter for Rooms {
    fn may_have_members(&self, room: &Room) -> bool {
        room.to_text().len().is_multiple_of(2)
    }
}

fn join_request() -> JoinRequest {
    let node = NodeKey { id: NodeId::new("me").expect("short"), namespace: Namespace::new("/") };
    JoinRequest::new(node, Arc::new(Rooms), Arc::default(), InboxLimits::default())
}

fn batch(bytes: &[u8]) {
    let request = join_request();
    let (sender, receiver) = inbox(request.limits, Arc::clone(&request.metrics));
    let sender = Arc::new(sender);
    let mut decoder = BatchDecoder::new(InboundDecoder::with_pending_joins(&sender, &request), sender);
    let bytes = Bytes::copy_from_slice(bytes);
    let _ = decoder.decode(Batch::parse(bytes.clone()), |_| {});
    // A repeat, unless it is not numbered.
    let received = receiver.len();
    let is_numbered = Batch::parse(bytes.clone()).is_ok_and(|batch| batch.number().is_some());
    let _ = decoder.decode(Batch::parse(bytes.clone()), |_| {});
    assert!(!is_numbered || receiver.len() == received, "a repeat was delivered");
    let offset = |_: &Batch, left: usize| Offset::new(left.to_string()).expect("short");
    let mut stored =
        BatchDecoder::new(InboundDecoder::new(&request), Arc::new(inbox(request.limits, Arc::default()).0));
    let _ = stored.decode_stored(Batch::parse(bytes), offset, |_| {});
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
