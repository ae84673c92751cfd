//! What a backend promises, as data.

/// The promises of a transport. The conformance suite decides by them which cases apply; a backend states them in one place and a
/// test of its own asserts them, so that nothing passes by declaring little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How nodes learn of each other.
    pub membership: Membership,
    /// Messages of one sender keep their order, whatever their rooms, sizes and kinds. Without it the order holds per room (and for all).
    pub total_order: bool,
    /// Acknowledged broadcasts keep their order among plain ones of the same sender.
    pub acknowledged_in_order: bool,
    /// Our nodes number their messages: repeats are dropped and holes are noticed.
    pub numbered: bool,
    /// A node that leaves says so, and others know at once.
    pub announced_leave: bool,
    /// Answers name the node that gave them, so that a request can say who is missing.
    pub named_answers: bool,
    /// The wire has a request for all rooms. Without it the engine collects them from fetched sockets.
    pub all_rooms_request: bool,
    /// Messages for one room travel only to nodes with a member in it.
    pub room_interest: bool,
    /// Messages are kept for a while, can be replayed, and sessions can be restored.
    pub history: bool,
    /// The largest message that can be published, in bytes of the encoded message; `None` if only memory limits it.
    pub max_message_bytes: Option<usize>,
}

/// How the nodes of a cluster are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Membership {
    /// Every node, official peers included, sends heartbeats: the set is known.
    Heartbeats,
    /// The broker counts its subscribers ([`NodeCounter`](crate::transport::NodeCounter)), because official peers send no heartbeats. Our own nodes
    /// send them all the same: among them the set is known.
    BrokerCount,
}
