//! Names of the channels of the sharded adapter, and which rooms have one.

use bytes::Bytes;
use trunkline_core::{Namespace, NodeId, Room};

use crate::config::SubscriptionMode;

/// Length of a socket's id. In the dynamic mode Node.js takes every room name of this length for one.
const SOCKET_ID: usize = 20;

/// Names of the channels of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
    mode: SubscriptionMode,
}

impl Names {
    pub(super) fn new(prefix: &str, mode: SubscriptionMode) -> Self {
        Self { prefix: prefix.to_owned(), mode }
    }

    /// Channel of messages to all nodes.
    pub(super) fn public(&self, namespace: &Namespace) -> Bytes {
        format!("{}#{namespace}#", self.prefix).into()
    }

    /// Channel of answers to one node.
    pub(super) fn private(&self, namespace: &Namespace, node: &NodeId) -> Bytes {
        format!("{}#{namespace}#{node}#", self.prefix).into()
    }

    /// Channel of broadcasts to one room; `None` if they go to all nodes.
    pub(super) fn room(&self, namespace: &Namespace, room: &Room) -> Option<Bytes> {
        let has_channel = match self.mode {
            SubscriptionMode::Static => false,
            SubscriptionMode::Dynamic => !looks_like_socket(room),
            SubscriptionMode::DynamicPrivate => true,
        };
        has_channel.then(|| format!("{}#{namespace}#{}#", self.prefix, room.to_text()).into())
    }
}

/// Whether Node.js takes a room for that of a socket. JavaScript counts in UTF-16; numbers have no length.
fn looks_like_socket(room: &Room) -> bool {
    match room {
        Room::Text(name) => name.encode_utf16().count() == SOCKET_ID,
        Room::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(mode: SubscriptionMode, room: impl Into<Room>) -> Option<Bytes> {
        Names::new("socket.io", mode).room(&Namespace::new("/custom"), &room.into())
    }

    #[test]
    fn channels_are_named_as_in_node_js() {
        let names = Names::new("socket.io", SubscriptionMode::Dynamic);
        let nsp = Namespace::new("/custom");
        assert_eq!(names.public(&nsp), "socket.io#/custom#");
        assert_eq!(
            names.private(&nsp, &NodeId::new("424b246661345cfa").unwrap()),
            "socket.io#/custom#424b246661345cfa#"
        );
        assert_eq!(room(SubscriptionMode::Dynamic, "é").unwrap(), "socket.io#/custom#é#");
        assert_eq!(room(SubscriptionMode::Dynamic, 42).unwrap(), "socket.io#/custom#42#");
    }

    #[test]
    fn the_mode_says_which_rooms_have_channels() {
        let socket = "6v5U7ECleH3bY-hqAAAC";
        assert_eq!(room(SubscriptionMode::Static, "r"), None);
        assert_eq!(room(SubscriptionMode::Dynamic, socket), None);
        assert_eq!(room(SubscriptionMode::Dynamic, "é".repeat(20).as_str()), None, "twenty characters, forty bytes");
        assert!(room(SubscriptionMode::Dynamic, "é".repeat(10).as_str()).is_some(), "ten characters, twenty bytes");
        assert!(room(SubscriptionMode::DynamicPrivate, socket).is_some());
    }
}
