//! What a backend promises, as data.

use super::setters;

/// Promises of a backend. The conformance suite decides by them which cases apply; a backend states them in one place
/// and a test of its own asserts them, so that nothing passes by declaring little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// How nodes learn of each other.
    pub membership: Membership,
    /// Messages of one sender keep their order, whatever their rooms, sizes and kinds. Without it the order holds per
    /// room (and for all).
    pub total_order: bool,
    /// Acknowledged broadcasts keep their order among plain ones of the same sender.
    pub acknowledged_in_order: bool,
    /// Our nodes number their messages: repeats are dropped and holes are noticed.
    pub numbered: bool,
    /// A node that leaves says so, and others know at once.
    pub announced_leave: bool,
    /// Answers name the node that gave them, so that a request can say which nodes are missing.
    pub named_answers: bool,
    /// The wire has a request for all rooms. Without it the engine collects them from fetched sockets.
    pub all_rooms_request: bool,
    /// Messages for one room travel only to nodes with a member in it. Follows where the backend has a
    /// [`RoomInterest`](crate::transport::RoomInterest); a transport that filters without being told promises it by
    /// itself.
    pub room_interest: bool,
    /// Messages are kept for a while, can be replayed, and sessions can be restored. Follows from the backend's
    /// [`History`](crate::transport::History); what a transport says is ignored.
    pub history: bool,
    /// Largest message that can be published, in bytes of the encoded message; `None` if only memory limits it.
    pub max_message_bytes: Option<usize>,
}

impl Capabilities {
    /// Nothing promised but how nodes learn of each other.
    #[must_use]
    pub const fn new(membership: Membership) -> Self {
        Self {
            membership,
            total_order: false,
            acknowledged_in_order: false,
            numbered: false,
            announced_leave: false,
            named_answers: false,
            all_rooms_request: false,
            room_interest: false,
            history: false,
            max_message_bytes: None,
        }
    }
}

setters!(Capabilities {
    with_membership(membership: Membership),
    with_total_order(total_order: bool),
    with_acknowledged_in_order(acknowledged_in_order: bool),
    with_numbered(numbered: bool),
    with_announced_leave(announced_leave: bool),
    with_named_answers(named_answers: bool),
    with_all_rooms_request(all_rooms_request: bool),
    with_room_interest(room_interest: bool),
    with_history(history: bool),
    with_max_message_bytes(max_message_bytes: Option<usize>),
});

/// How the nodes of a cluster are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Membership {
    /// Every node, official peers included, sends heartbeats: the set is known.
    Heartbeats,
    /// The broker counts its subscribers ([`NodeCounter`](crate::transport::NodeCounter)), because official peers send
    /// no heartbeats. Our own nodes send them all the same: among them the set is known.
    BrokerCount,
}
