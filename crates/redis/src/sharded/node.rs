//! A node that has joined, and the channels of its rooms.

use bytes::Bytes;
use trunkline_backend::rooms::RoomKeys;
use trunkline_core::{Namespace, Room, model::Delivery};

use super::names::Names;
use crate::{
    subscribe::PubSubMessage,
    transport_core::{ChannelKind, Hello, JoinedNode, NodeInbox, NodeRooms},
};

/// The channels of the rooms of a namespace.
#[derive(Debug)]
pub(super) struct RoomChannels {
    pub(super) names: Names,
    pub(super) namespace: Namespace,
}

impl RoomKeys for RoomChannels {
    type Key = Bytes;

    fn key_of(&self, room: &Room) -> Option<Bytes> {
        self.names.room(&self.namespace, room)
    }
}

/// A node that has joined.
#[derive(Debug)]
pub(super) struct ShardedNode {
    pub(super) inbox: NodeInbox,
    pub(super) hello: Hello,
    pub(super) rooms: NodeRooms<RoomChannels>,
}

impl JoinedNode for ShardedNode {
    type Kind = ChannelKind;

    fn inbox(&self) -> &NodeInbox {
        &self.inbox
    }

    fn decode(&self, message: &PubSubMessage, kind: ChannelKind) -> Option<Delivery> {
        self.inbox.decode(&message.payload, kind)
    }

    fn missed(&self) {
        self.inbox.missed();
    }

    fn hello(&self) -> Option<&Hello> {
        Some(&self.hello)
    }
}
