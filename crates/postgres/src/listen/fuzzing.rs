//! What is fuzzed of the messages of a channel.

use std::sync::Arc;

use bytes::Bytes;
use trunkline_core::{
    Namespace, NodeId, NodeKey, Room,
    transport::{InboxLimits, JoinRequest, RoomFilter},
};

use super::reassembler::{ChannelReassembler, ReceivedMessage};
use crate::{
    joined_node::JoinedNode,
    publish::{RowNotification, offset_of},
};

#[derive(Debug)]
struct Rooms;

impl RoomFilter for Rooms {
    fn may_have_members(&self, room: &Room) -> bool {
        room.to_text().len().is_multiple_of(2)
    }
}

/// A script of lines: a line with `!` is a row that was fetched, with `?` one that is not there, any other a
/// notification.
pub(crate) fn reassembler(bytes: &[u8]) {
    let key = NodeKey { id: NodeId::new("me").expect("short"), namespace: Namespace::new("/") };
    let request = JoinRequest::new(key, Arc::new(Rooms), Arc::default(), InboxLimits::default());
    let (node, _inbox) = JoinedNode::new(request, "channel".into());
    let mut channel = ChannelReassembler::new(1, bytes.len().is_multiple_of(2));
    channel.add(node);
    let mut fetching = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        match line.split_first() {
            Some((b'!', row)) => {
                channel.fetched(Some(Bytes::copy_from_slice(row)));
                fetching -= 1;
            }
            Some((b'?', _)) => {
                channel.fetched(None);
                fetching -= 1;
            }
            _ => {
                let Ok(text) = std::str::from_utf8(line) else { continue };
                if let Some((id, row)) = RowNotification::read(text) {
                    fetching += i32::from(channel.receive_notification(id, &row).is_some());
                } else {
                    channel.receive(ReceivedMessage { bytes: Bytes::copy_from_slice(line), offset: offset_of(text) });
                }
            }
        }
        fetching = fetching.max(0);
        channel.flush();
    }
    (0..fetching).for_each(|_| channel.fetched(None));
    assert_eq!(channel.waiting_bytes(), 0, "something still waits");
}
