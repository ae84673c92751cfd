//! Events of a node: its connection, its peers, missing messages.

use std::fmt;

use crate::model::NodeId;

/// An event of a node that an operator wants to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The connection to the broker is established (again).
    Connected,
    /// The connection to the broker was lost; the text says why. It is being restored.
    Lost(String),
    /// Messages of other nodes may be missing.
    Gap(Gap),
    /// A node was heard of for the first time, or again.
    NodeUp(NodeId),
    /// A node left or fell silent.
    NodeDown(NodeId, DownReason),
    /// Something is set up differently on another node, and the cluster cannot work as intended; the text names both
    /// values.
    Misconfigured(String),
}

/// Why a node is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DownReason {
    /// The node announced that it leaves.
    Left,
    /// Nothing was heard of the node for longer than the time-out.
    Silent,
    /// The broker no longer sees the node, where the broker counts nodes.
    Disconnected,
}

/// Messages of other nodes that may be, or are, missing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Cause of the loss.
    pub cause: GapCause,
    /// Number of missing messages; `None` if that cannot be known (a peer does not number its messages, or has not been
    /// heard since).
    pub missed: Option<u64>,
}

/// Why messages are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapCause {
    /// The connection to the broker was away.
    ConnectionLost,
    /// This node's inbox was full.
    Overflow,
    /// A hole in the numbers of a sender: the broker or a connection dropped messages.
    Hole,
    /// The history was trimmed past the position of this node.
    Trimmed,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.missed {
            Some(missed) => write!(f, "{missed} messages missed ({:?})", self.cause),
            None => write!(f, "an unknown number of messages missed ({:?})", self.cause),
        }
    }
}
