//! The messages of one channel in the order of their notifications, although rows have to be fetched.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use trunkline_backend::repeats::{Deduplicator, NumberVerdict};
use trunkline_core::{
    Message, NodeId, Offset, Result,
    codec::{self, Header, Kind},
    model::Delivery,
};

use super::fetches::RowRef;
use crate::{joined_node::JoinedNode, publish::RowNotification};

/// The messages of one channel on their way to the nodes of this process. While the row of a message is fetched, what
/// came after it waits.
#[derive(Debug)]
pub(crate) struct ChannelReassembler {
    number: u64,
    members: Vec<Member>,
    /// Whether own broadcasts are delivered when they come back.
    has_history: bool,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Joins among them: which rooms will have members behind them is not known yet.
    waiting_joins: usize,
    /// Numbers of answers.
    answers: Deduplicator<NodeId>,
    has_foreign_peers: bool,
}

/// A node that takes part in the channel, and its next deliveries.
#[derive(Debug)]
struct Member {
    node: Arc<JoinedNode>,
    ready: Vec<Delivery>,
}

#[derive(Debug)]
enum Waiting {
    Message {
        received: ReceivedMessage,
        is_join: bool,
    },
    /// A message whose row is being fetched.
    Row {
        offset: Option<i64>,
        is_join: bool,
    },
    ForAll(Delivery),
}

/// An encoded message.
#[derive(Debug)]
pub(crate) struct ReceivedMessage {
    pub(crate) bytes: Bytes,
    /// Its offset in the history, if it is stored.
    pub(crate) offset: Option<i64>,
}

impl ChannelReassembler {
    /// `number` tells it from an earlier one of the same channel.
    pub(crate) fn new(number: u64, has_history: bool) -> Self {
        Self {
            number,
            members: Vec::new(),
            has_history,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_joins: 0,
            answers: Deduplicator::default(),
            has_foreign_peers: false,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    // --- nodes ---

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Arc<JoinedNode>> {
        self.members.iter().map(|member| &member.node)
    }

    /// Adds a node, unless it was added before.
    pub(crate) fn add(&mut self, node: Arc<JoinedNode>) {
        if !self.nodes().any(|other| Arc::ptr_eq(other, &node)) {
            self.members.push(Member { node, ready: Vec::new() });
        }
    }

    pub(crate) fn remove(&mut self, node: &Arc<JoinedNode>) {
        self.members.retain(|member| !Arc::ptr_eq(&member.node, node));
    }

    /// Whether no node is left.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.members.is_empty()
    }

    // --- what arrives ---

    /// Receives a message.
    pub(crate) fn receive(&mut self, received: ReceivedMessage) {
        if self.waiting.is_empty() {
            return self.decode(&received);
        }
        let is_join = codec::peek(&received.bytes).is_none_or(|header| header.kind == Kind::Join);
        self.wait(Waiting::Message { received, is_join });
    }

    /// Delivers the same to every node, behind what was received before.
    pub(crate) fn deliver_to_all(&mut self, delivery: Delivery) {
        if self.waiting.is_empty() {
            return self.make_ready(&delivery);
        }
        self.wait(Waiting::ForAll(delivery));
    }

    /// Receives the notification of a row with this id. Returns the row to fetch, if a node here may need it.
    pub(crate) fn receive_notification(&mut self, id: i64, notification: &RowNotification) -> Option<RowRef> {
        let offset = notification.offset();
        if self.nodes().any(|node| self.is_needed(node, notification)) {
            self.wait(Waiting::Row { offset, is_join: notification.kind() == Some(Kind::Join) });
            return Some(offset.filter(|_| self.has_history).map_or(RowRef::Attachment(id), RowRef::Stored));
        }
        if let Some(from) = notification.from() {
            self.deliver_to_all(Delivery::Skipped { from, seq_no: notification.seq_no() });
        }
        None
    }

    fn is_needed(&self, node: &JoinedNode, notification: &RowNotification) -> bool {
        if notification.from().as_ref() == Some(&node.key.id) {
            return self.has_history && notification.kind() == Some(Kind::Broadcast);
        }
        notification.room().is_none_or(|room| self.waiting_joins > 0 || node.may_have_members(room))
    }

    /// Receives the row that was waited for first; `None` if it does not exist.
    pub(crate) fn fetched(&mut self, bytes: Option<Bytes>) {
        let Some(Waiting::Row { offset, .. }) = self.next(|_| true) else { return };
        match bytes {
            Some(bytes) => self.decode(&ReceivedMessage { bytes, offset }),
            // If it was numbered, a hole is noticed with the next message of its sender.
            None => self.refuse(),
        }
        while let Some(waiting) = self.next(|waiting| !matches!(waiting, Waiting::Row { .. })) {
            match waiting {
                Waiting::Message { received, .. } => self.decode(&received),
                Waiting::ForAll(delivery) => self.make_ready(&delivery),
                // Left where it is until it is fetched.
                Waiting::Row { .. } => {}
            }
        }
    }

    /// Counts a malformed message at each node.
    pub(crate) fn refuse(&self) {
        self.nodes().for_each(|node| node.metrics.malformed.increment());
    }

    /// Bytes that wait for a row.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether an official node or emitter takes part in the channel: what it publishes is not stored.
    pub(crate) fn has_foreign_peers(&self) -> bool {
        self.has_foreign_peers
    }

    /// Moves what is ready to the inboxes. A node without an inbox has left.
    pub(crate) fn flush(&mut self) {
        self.members.retain_mut(|Member { node, ready }| ready.is_empty() || node.inbox.push(ready.drain(..)));
    }

    fn wait(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.weight();
        self.waiting_joins += usize::from(waiting.is_join());
        self.waiting.push_back(waiting);
    }

    fn next(&mut self, is_next: impl FnOnce(&mut Waiting) -> bool) -> Option<Waiting> {
        let waiting = self.waiting.pop_front_if(is_next)?;
        self.waiting_bytes -= waiting.weight();
        self.waiting_joins -= usize::from(waiting.is_join());
        Some(waiting)
    }

    fn make_ready(&mut self, delivery: &Delivery) {
        for Member { node, ready } in &mut self.members {
            match delivery {
                Delivery::Skipped { from, .. } if *from == node.key.id && !self.has_history => {
                    node.metrics.own_echoes.increment();
                }
                delivery => {
                    node.peers.note(delivery);
                    ready.push(delivery.clone());
                }
            }
        }
    }

    /// Decodes the message for every node.
    fn decode(&mut self, ReceivedMessage { bytes, offset }: &ReceivedMessage) {
        let must_peek = offset.is_none() && (self.has_history || may_be_ephemeral(bytes));
        let header = if must_peek { codec::peek(bytes) } else { None };
        match header.as_ref().map_or(NumberVerdict::New, |header| self.judged_answer(header)) {
            NumberVerdict::New => {}
            NumberVerdict::Repeat => return,
            NumberVerdict::Malformed => return self.refuse(),
        }
        let from = header.as_ref().and_then(|header| header.from.as_ref());
        for Member { node, ready } in &mut self.members {
            // An own broadcast that is not stored, being volatile, is delivered in its place all the same.
            let is_own = self.has_history && from == Some(&node.key.id);
            let delivery = match offset.or(is_own.then_some(0)).map(text_of) {
                Some(Ok(text)) if node.expects(*offset) => node.decoder.decode_stored(bytes, text),
                Some(_) => None,
                None => node.decoder.decode(bytes),
            };
            let Some(delivery) = delivery else { continue };
            self.has_foreign_peers |= is_foreign(&delivery);
            node.peers.note(&delivery);
            let is_join = delivery.is_join();
            ready.push(delivery);
            if is_join {
                // The inbox must know that rooms are about to have members.
                node.inbox.push(ready.drain(..));
            }
        }
    }

    /// Judges an answer by its number: it may have arrived before, and been sent again after a connection broke. Messages
    /// are judged by the engine.
    fn judged_answer(&mut self, header: &Header) -> NumberVerdict {
        let is_answer =
            matches!(header.kind, Kind::Sockets | Kind::ServerSideEmitAnswer | Kind::ClientCount | Kind::Ack);
        match (&header.from, header.seq_no) {
            (Some(from), Some(seq_no)) if is_answer => self.answers.arrived(from.clone(), Some(seq_no.number)),
            _ => NumberVerdict::New,
        }
    }
}

impl Waiting {
    fn weight(&self) -> usize {
        const FIXED: usize = 64;
        match self {
            Self::Message { received, .. } => FIXED + received.bytes.len(),
            Self::Row { .. } => 0,
            Self::ForAll(_) => FIXED,
        }
    }

    fn is_join(&self) -> bool {
        matches!(self, Self::Message { is_join: true, .. } | Self::Row { is_join: true, .. })
    }
}

fn text_of(offset: i64) -> Result<Offset> {
    Offset::new(offset.to_string())
}

/// Whether it is worth looking for an ephemeral number: in JSON it stands at the end, and rows are few.
fn may_be_ephemeral(bytes: &Bytes) -> bool {
    const WINDOW: usize = 36;
    let end = &bytes[bytes.len().saturating_sub(WINDOW)..];
    bytes.first() != Some(&b'{') || end.windows(EPHEMERAL_NUMBER.len()).any(|window| window == EPHEMERAL_NUMBER)
}

/// Beginning of the number of a message that is not stored.
const EPHEMERAL_NUMBER: &[u8] = b"\"stamp\":[1,";

/// Whether the sender stores nothing: our own nodes number everything but heartbeats, which have their last numbers.
fn is_foreign(delivery: &Delivery) -> bool {
    match delivery {
        Delivery::Message { message: Message::Heartbeat(heartbeat), .. } => heartbeat.high_water_marks.is_empty(),
        Delivery::Message { message: Message::Leaving, .. } => false,
        Delivery::Message { from: Some(_), seq_no: None, .. } => true,
        // What is skipped without a number is an own heartbeat.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use trunkline_core::{
        Heartbeat, Namespace, NodeKey, Room,
        codec::{BodyRef, Format, encode},
        model::{Answer, RequestId, Response, SeqChannel, SeqNo},
        transport::{InboxLimits, JoinRequest, RoomFilter},
    };

    use super::*;

    #[derive(Debug)]
    struct AllRooms;

    impl RoomFilter for AllRooms {
        fn may_have_members(&self, _: &Room) -> bool {
            true
        }
    }

    fn key(id: &str) -> NodeKey {
        NodeKey { id: NodeId::new(id).unwrap(), namespace: Namespace::new("/") }
    }

    fn heartbeat(from: &str, high_water_marks: &[SeqNo]) -> ReceivedMessage {
        let NodeKey { id, namespace } = key(from);
        let message = Message::Heartbeat(Heartbeat::new(false));
        let encoded = encode(Format::Json, &id, &namespace, BodyRef::Message(&message)).unwrap();
        ReceivedMessage { bytes: encoded.finish(None, high_water_marks).into(), offset: None }
    }

    fn answer(from: &str, number: u64) -> ReceivedMessage {
        let NodeKey { id, namespace } = key(from);
        let response = Response { request: RequestId::new("r").unwrap(), answer: Answer::ClientCount(1) };
        let encoded = encode(Format::Json, &id, &namespace, BodyRef::Response(&response)).unwrap();
        let seq_no = SeqNo { channel: SeqChannel(1), number };
        ReceivedMessage { bytes: encoded.finish(Some(seq_no), &[]).into(), offset: None }
    }

    #[test]
    fn nodes_that_tell_their_last_numbers_are_our_own_this_one_included() {
        let request = JoinRequest::new(key("me"), Arc::new(AllRooms), Arc::default(), InboxLimits::default());
        let (node, _inbox) = JoinedNode::new(request, "channel".into());
        let mut channel = ChannelReassembler::new(1, true);
        channel.add(node);
        let marks = [SeqNo { channel: SeqChannel::ALL, number: 7 }];
        for from in ["me", "other"] {
            channel.receive(heartbeat(from, &marks));
            assert!(!channel.has_foreign_peers(), "{from}");
        }
        channel.receive(heartbeat("official", &[]));
        assert!(channel.has_foreign_peers());
    }

    #[tokio::test]
    async fn an_answer_is_delivered_once_and_one_with_a_forged_number_makes_no_repeats_of_others() {
        let request = JoinRequest::new(key("me"), Arc::new(AllRooms), Arc::default(), InboxLimits::default());
        let metrics = Arc::clone(&request.metrics);
        let (node, mut inbox) = JoinedNode::new(request, "channel".into());
        let mut channel = ChannelReassembler::new(1, true);
        channel.add(node);
        for number in [1, u64::MAX, 5000, 2, 2, 3] {
            channel.receive(answer("other", number));
        }
        channel.flush();
        let mut delivered = VecDeque::new();
        inbox.next_batch(&mut delivered).await;
        assert_eq!((delivered.len(), metrics.snapshot().malformed), (4, 1), "{delivered:?}");
    }
}
