//! Deliveries: what a transport hands to a node through its inbox.

use crate::model::{Gap, Message, NodeId, Offset, Response, SeqChannel, SeqNo};

/// Something that a transport hands to a node. Exhaustive on purpose: a node, and each wrapper of a transport, must
/// handle every kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// A message of another node or of an emitter.
    Message {
        /// Node or emitter that published it; an official peer may leave it out.
        from: Option<NodeId>,
        /// Its sequence number, if the sender is one of our own nodes.
        seq_no: Option<SeqNo>,
        /// Its position in the history, if there is one.
        offset: Option<Offset>,
        /// The message.
        message: Message,
    },
    /// A message that was dropped before decoding because no local socket is in its room, or an own one that has come
    /// back and is not to be delivered: with a history all that are numbered, and own heartbeats, which prove that the
    /// connection works (as [`Delivery::Message`] if they tell numbers, which own messages are judged by). Its sender is alive, and its number is accounted for.
    Skipped {
        /// Node that published it.
        from: NodeId,
        /// Its sequence number.
        seq_no: Option<SeqNo>,
    },
    /// An answer to a request of this node.
    Response {
        /// Node that answers; unknown for Node.js peers on classic Redis, whose answers carry no name.
        from: Option<NodeId>,
        /// The answer.
        response: Response,
    },
    /// An own message that has come back from the history, to be delivered locally in its place among those of other
    /// nodes. Other own messages that come back there are [`Delivery::Skipped`], for the sake of their numbers.
    Stored {
        /// Its sequence number, which is judged like those of other nodes; `None` for a message that the history
        /// refused, and that comes out of its place.
        seq_no: Option<SeqNo>,
        /// The message.
        message: Message,
        /// Its position in the history; `None` if the history does not keep it.
        offset: Option<Offset>,
    },
    /// The broker has no queue for this node any more: it counts as silent. Whatever arrives from it brings it back.
    Absent(NodeId),
    /// Messages may be missing from here on.
    Gap(Gap),
    /// Messages did not fit into the inbox. Made by [`InboxSender`](crate::transport::InboxSender).
    Overflow(Overflow),
    /// The connection to the broker is established (again).
    Connected,
    /// The connection to the broker was lost; the text says why.
    Lost(String),
    /// The node is subscribed to this channel from here on.
    Subscribed(SeqChannel),
    /// The node is no longer subscribed to this channel: its messages may stay away.
    Unsubscribed(SeqChannel),
}

impl Delivery {
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Message { message, .. } | Self::Stored { message, .. } => message.weight(),
            Self::Response { response, .. } => response.weight(),
            _ => 64,
        }
    }

    /// Whether it is a message that a full inbox may drop. Everything else is small and rare, or its loss would go
    /// unnoticed.
    pub(crate) fn is_droppable(&self) -> bool {
        matches!(self, Self::Message { .. } | Self::Skipped { .. })
    }

    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Response { .. })
    }

    /// Whether it is a heartbeat or a leave: small, and without them nodes that live would seem dead. A full inbox has
    /// a reserve for them.
    pub(crate) fn is_presence(&self) -> bool {
        matches!(self, Self::Message { message, .. } if !message.is_numbered())
    }

    /// Whether it makes sockets join rooms, so that rooms may get members here that had none.
    #[must_use]
    pub fn is_join(&self) -> bool {
        matches!(
            self,
            Self::Message { message: Message::Join { .. }, .. } | Self::Stored { message: Message::Join { .. }, .. }
        )
    }
}

/// Messages that a full inbox dropped one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overflow {
    /// Number of messages.
    pub missed: u64,
    /// Sequence numbers among them, by sender and channel, so that the same hole is not reported twice.
    pub dropped: Vec<Dropped>,
}

/// Messages of one sender and channel that a full inbox dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Node that sent them.
    pub from: NodeId,
    /// Last number that was dropped.
    pub last: SeqNo,
    /// How many numbers, the last one included. Fewer than passed by if others were lost on the way.
    pub count: u64,
    /// Number of them for rooms with members here.
    pub missed: u64,
}

impl Overflow {
    pub(crate) fn add(&mut self, from: Option<NodeId>, seq_no: Option<SeqNo>, lost: bool) {
        self.missed += u64::from(lost);
        let (Some(from), Some(seq_no)) = (from, seq_no) else { return };
        let is_known = |dropped: &Dropped| dropped.from == from && dropped.last.channel == seq_no.channel;
        if let Some(index) = self.dropped.iter().position(is_known) {
            let dropped = &mut self.dropped[index];
            dropped.count += u64::from(seq_no.number > dropped.last.number);
            dropped.last.number = dropped.last.number.max(seq_no.number);
            dropped.missed += u64::from(lost);
        } else if self.dropped.len() < MAX_DROPPED {
            self.dropped.push(Dropped { from, last: seq_no, count: 1, missed: u64::from(lost) });
        }
    }
}

/// Senders and channels whose dropped numbers are kept at most. Those of others are reported a second time, as holes.
pub(crate) const MAX_DROPPED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_of_many_senders_is_bounded() {
        let mut overflow = Overflow::default();
        for number in 0..2 * MAX_DROPPED {
            let seq_no = SeqNo { channel: SeqChannel::ALL, number: 1 };
            overflow.add(Some(NodeId::new(number.to_string()).unwrap()), Some(seq_no), true);
        }
        assert_eq!((overflow.missed, overflow.dropped.len()), (2 * MAX_DROPPED as u64, MAX_DROPPED));
    }
}
