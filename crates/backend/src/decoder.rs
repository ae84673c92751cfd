//! From the encoded messages of a cluster to the deliveries of a node.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;

use crate::batch::{Arrival, Batch, Deduplicator};
use trunkline_core::{
    codec::{self, Body, Decoded, Header, Kind},
    error::{Error, ErrorKind, Result},
    model::{Delivery, Message, NodeId, NodeKey, NodeMetrics, Offset, Room, SeqNo},
    transport::{InboxSender, JoinRequest, RoomFilter},
};

/// Decoder of the messages that one node receives. Drops and counts its own messages, those for rooms without local
/// members, those of other namespaces and malformed ones.
#[derive(Clone, Debug)]
pub struct InboundDecoder {
    node: NodeKey,
    room_filter: Arc<dyn RoomFilter>,
    metrics: Arc<NodeMetrics>,
    copied_below: usize,
}

impl InboundDecoder {
    /// Decoder for the node that joins with this request.
    #[must_use]
    pub fn new(request: &JoinRequest) -> Self {
        let JoinRequest { node, room_filter, metrics, .. } = request;
        Self { node: node.clone(), room_filter: Arc::clone(room_filter), metrics: Arc::clone(metrics), copied_below: 0 }
    }

    /// The same, which copies messages of fewer bytes before they are decoded: for slices of a buffer that is much
    /// larger, and that their payload would keep alive.
    #[must_use]
    pub fn copying_below(self, bytes: usize) -> Self {
        Self { copied_below: bytes, ..self }
    }

    /// Decoder for the node that joins with this request and reads from this inbox. It keeps messages for the rooms
    /// that may have members once everything in the inbox is applied.
    ///
    /// Push a [`Message::Join`] before the next message is decoded.
    #[must_use]
    pub fn with_pending_joins(inbox: &Arc<InboxSender>, request: &JoinRequest) -> Self {
        let filter = PendingJoinFilter { room_filter: Arc::clone(&request.room_filter), inbox: Arc::clone(inbox) };
        Self { room_filter: Arc::new(filter), ..Self::new(request) }
    }

    /// Decodes a message in JSON or MessagePack. What the node does not need is dropped before its payload is touched.
    #[must_use]
    pub fn decode(&self, bytes: &Bytes) -> Option<Delivery> {
        self.judge(bytes, None)
    }

    /// As [`InboundDecoder::decode`], for a message that came over the node's own channel, which only answers do: their
    /// namespace is not looked at.
    #[must_use]
    pub fn decode_response(&self, bytes: &Bytes) -> Option<Delivery> {
        match codec::decode(&self.own(bytes)) {
            Ok(Decoded { from, .. }) if from.as_ref() == Some(&self.node.id) => self.own_echo(),
            Ok(Decoded { from, body: Body::Response(response), .. }) => Some(Delivery::Response { from, response }),
            Ok(_) => {
                self.metrics.malformed.increment();
                None
            }
            Err(error) => self.refused(&error),
        }
    }

    /// As [`InboundDecoder::decode`], for a message from the history at `offset`. Own
    /// broadcasts, acknowledged ones included, and what moves or disconnects sockets come back as
    /// [`Delivery::Stored`].
    #[must_use]
    pub fn decode_stored(&self, bytes: &Bytes, offset: Offset) -> Option<Delivery> {
        self.judge(bytes, Some(offset))
    }

    fn judge(&self, bytes: &Bytes, offset: Option<Offset>) -> Option<Delivery> {
        let is_stored = offset.is_some();
        self.decode_with(codec::peek(bytes).as_ref(), is_stored, || Ok((codec::decode(&self.own(bytes))?, offset)))
    }

    /// Decodes a message of a backend with an encoding of its own, such as BSON.
    ///
    /// `header` is what can be read without touching the payload; `None` if nothing can. `decode` reads the whole
    /// message and, if it `is_stored` in the history, its offset.
    pub fn decode_with(
        &self,
        header: Option<&Header>,
        is_stored: bool,
        decode: impl FnOnce() -> Result<(Decoded, Option<Offset>)>,
    ) -> Option<Delivery> {
        if let Some(verdict) = header.and_then(|header| self.drop_early(header, is_stored)) {
            return verdict;
        }
        match decode() {
            Ok((decoded, offset)) => self.decoded(decoded, offset),
            Err(error) => self.refused(&error),
        }
    }

    /// The same bytes, in a buffer of their own if they are few.
    #[must_use]
    pub fn own(&self, bytes: &Bytes) -> Bytes {
        if bytes.len() < self.copied_below { Bytes::copy_from_slice(bytes) } else { bytes.clone() }
    }

    /// Outcome for a message as far as its header tells; `None` if it has to be decoded.
    fn drop_early(&self, header: &Header, is_stored: bool) -> Option<Option<Delivery>> {
        let from = header.from.as_ref()?;
        if header.namespace.as_ref().is_some_and(|namespace| *namespace != self.node.namespace) {
            return Some(self.foreign());
        }
        if *from == self.node.id {
            return match header.kind {
                Kind::Heartbeat | Kind::InitialHeartbeat => None,
                Kind::Broadcast | Kind::Join | Kind::Leave | Kind::Disconnect if is_stored => None,
                _ if is_stored => Some(self.own_skipped(header.seq_no)),
                _ => Some(self.own_echo()),
            };
        }
        let room = header.room.as_ref()?;
        (!self.may_have_members(room)).then(|| self.skipped(Some(from), header.seq_no))
    }

    /// Whether local sockets may be in the room when a message that is decoded now is delivered.
    #[must_use]
    pub fn may_have_members(&self, room: &Room) -> bool {
        self.room_filter.may_have_members(room)
    }

    /// Outcome for a message for rooms without local members: its number is accounted for, if it has one.
    pub fn skipped(&self, from: Option<&NodeId>, seq_no: Option<SeqNo>) -> Option<Delivery> {
        match (from, seq_no) {
            (Some(from), Some(_)) => Some(Delivery::Skipped { from: from.clone(), seq_no }),
            _ => {
                self.metrics.unwanted.increment();
                None
            }
        }
    }

    fn decoded(&self, decoded: Decoded, offset: Option<Offset>) -> Option<Delivery> {
        let Decoded { from, namespace, seq_no, body } = decoded;
        if namespace.is_some_and(|namespace| namespace != self.node.namespace) {
            return self.foreign();
        }
        let is_own = from.as_ref() == Some(&self.node.id);
        match body {
            Body::Message(message) if is_own => self.own_message(seq_no, message, offset),
            Body::Message(message) => {
                Some(Delivery::Message { from, seq_no, offset: offset_of(&message, offset), message })
            }
            Body::Response(response) => Some(Delivery::Response { from, response }),
        }
    }

    /// Outcome for an own message. That a heartbeat has come back shows the node that its connection works, and its
    /// numbers, by which own messages are judged, tell whether others have sent under the node's name.
    fn own_message(&self, seq_no: Option<SeqNo>, message: Message, offset: Option<Offset>) -> Option<Delivery> {
        if let Message::Heartbeat(heartbeat) = &message {
            return Some(if heartbeat.high_water_marks.is_empty() {
                Delivery::Skipped { from: self.node.id.clone(), seq_no: None }
            } else {
                Delivery::Message { from: Some(self.node.id.clone()), seq_no: None, offset: None, message }
            });
        }
        if offset.is_none() {
            return self.own_echo();
        }
        if matches!(message, Message::Broadcast { .. }) || message.changes_sockets() {
            let offset = offset_of(&message, offset);
            return Some(Delivery::Stored { seq_no, message, offset });
        }
        self.own_skipped(seq_no)
    }

    /// Outcome for an own message that comes back from the history and is not to be delivered: its number is accounted
    /// for, if it has one.
    fn own_skipped(&self, seq_no: Option<SeqNo>) -> Option<Delivery> {
        match seq_no {
            Some(_) => Some(Delivery::Skipped { from: self.node.id.clone(), seq_no }),
            None => self.own_echo(),
        }
    }

    /// Counts a message that this node has sent.
    pub fn own_echo(&self) -> Option<Delivery> {
        self.metrics.own_echoes.increment();
        None
    }

    /// Counts a message of another namespace.
    pub fn foreign(&self) -> Option<Delivery> {
        self.metrics.foreign_namespace.increment();
        None
    }

    /// Counts a malformed message, and warns of the first one: a program that speaks another protocol under the same
    /// names makes requests slow on both sides, and nothing else would tell why.
    pub fn refused(&self, error: &Error) -> Option<Delivery> {
        let NodeKey { id: node, namespace } = &self.node;
        let counter = match error.kind() {
            ErrorKind::Unsupported => &self.metrics.unknown_type,
            _ => &self.metrics.malformed,
        };
        if error.kind() != ErrorKind::Unsupported && counter.value() == 0 {
            tracing::warn!(
                %node, %namespace, %error,
                "a message is in no format of this cluster, and dropped: if another adapter, such as one of \
                 socketioxide's own, uses the same broker and prefix, give one of them another, since each waits in \
                 vain for the other's answers. The metric `malformed` counts what follows"
            );
        } else {
            tracing::debug!(%node, %namespace, %error, "a message was dropped");
        }
        counter.increment();
        None
    }
}

/// Hands over deliveries that are decoded one by one: `deliveries` has to be lazy. A join reaches the inbox before the
/// next message is decoded, which may be for a room that has members only then. If the inbox is below its limits when
/// the first one comes, all are taken. `false` once the inbox is gone.
pub fn push_decoded(inbox: &InboxSender, deliveries: impl IntoIterator<Item = Delivery>) -> bool {
    let (mut part, mut was_ready) = (Vec::new(), None);
    for delivery in deliveries {
        let is_join = delivery.is_join();
        part.push(delivery);
        if is_join {
            let was_ready = *was_ready.get_or_insert_with(|| !inbox.is_full());
            if !inbox.push_part(part.drain(..), Some(was_ready)) {
                return false;
            }
        }
    }
    if part.is_empty() { !inbox.is_closed() } else { inbox.push_part(part, was_ready) }
}

/// Decoder of the [batches](crate::batch) that one node receives: messages of all kinds, in order, each batch once.
#[derive(Debug)]
pub struct BatchDecoder {
    decoder: InboundDecoder,
    inbox: Arc<InboxSender>,
    repeats: Deduplicator,
}

impl BatchDecoder {
    /// Hands what `decoder` makes of the messages to `inbox`.
    #[must_use]
    pub fn new(decoder: InboundDecoder, inbox: Arc<InboxSender>) -> Self {
        Self { decoder, inbox, repeats: Deduplicator::default() }
    }

    /// Hands over the messages of a batch, unless it is a repeat. `note` sees each before. Breaks once the inbox is
    /// gone.
    pub fn decode(&mut self, batch: Result<Batch>, note: impl FnMut(&Delivery)) -> ControlFlow<()> {
        self.decode_each(batch, |decoder, message| decoder.decode(message), note)
    }

    /// As [`BatchDecoder::decode`], for a batch from the history. `offset` tells the position of a message from the
    /// batch and the number of messages that follow in it.
    pub fn decode_stored(
        &mut self,
        batch: Result<Batch>,
        offset: impl Fn(&Batch, usize) -> Offset,
        note: impl FnMut(&Delivery),
    ) -> ControlFlow<()> {
        let whole = batch.as_ref().ok().cloned();
        let mut left = whole.clone().map_or(0, Iterator::count);
        let take = |decoder: &InboundDecoder, message: &Bytes| {
            left -= 1;
            decoder.decode_stored(message, offset(whole.as_ref()?, left))
        };
        self.decode_each(batch, take, note)
    }

    fn decode_each(
        &mut self,
        batch: Result<Batch>,
        mut take: impl FnMut(&InboundDecoder, &Bytes) -> Option<Delivery>,
        mut note: impl FnMut(&Delivery),
    ) -> ControlFlow<()> {
        let batch = match batch.and_then(|batch| self.judged(batch)) {
            Ok(Some(batch)) => batch,
            Ok(None) => return ControlFlow::Continue(()),
            Err(error) => {
                self.decoder.refused(&error);
                return ControlFlow::Continue(());
            }
        };
        let decoder = &self.decoder;
        let decoded = batch.filter_map(|message| match message {
            Ok(message) => take(decoder, &message).inspect(&mut note),
            Err(error) => decoder.refused(&error),
        });
        while_open(push_decoded(&self.inbox, decoded))
    }

    /// The batch by its number; `None` if it is a repeat.
    fn judged(&mut self, batch: Batch) -> Result<Option<Batch>> {
        match self.repeats.arrived(batch.sender(), batch.number()) {
            Arrival::New => Ok(Some(batch)),
            Arrival::Repeat => Ok(None),
            Arrival::Malformed => {
                Err(Error::malformed(format!("batch {:?} of sender {}", batch.number(), batch.sender())))
            }
        }
    }

    /// Hands over deliveries that did not come in a batch. Breaks once the inbox is gone.
    pub fn tell(&self, deliveries: impl IntoIterator<Item = Delivery>) -> ControlFlow<()> {
        while_open(self.inbox.push(deliveries))
    }
}

fn while_open(is_open: bool) -> ControlFlow<()> {
    if is_open { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// Filter of rooms that takes joins on their way through the inbox into account.
#[derive(Debug)]
struct PendingJoinFilter {
    room_filter: Arc<dyn RoomFilter>,
    inbox: Arc<InboxSender>,
}

impl RoomFilter for PendingJoinFilter {
    fn may_have_members(&self, room: &Room) -> bool {
        self.inbox.may_have_members(&*self.room_filter, room)
    }
}

/// Offset to hand to clients: only broadcasts that can be replayed have one.
fn offset_of(message: &Message, offset: Option<Offset>) -> Option<Offset> {
    match message {
        Message::Broadcast { request: None, target, .. } if !target.flags.is_volatile() => offset,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::{
        batch::{BatchBuilder, ConnectionId},
        warnings::Warnings,
    };
    use trunkline_core::{
        model::{Answer, Heartbeat, Namespace, RequestId, Response, SeqChannel, Target},
        payload::Payload,
        transport::{InboxLimits, inbox},
    };

    #[derive(Debug)]
    struct Wants(Room);

    impl RoomFilter for Wants {
        fn may_have_members(&self, room: &Room) -> bool {
            *room == self.0
        }
    }

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn decoder() -> (InboundDecoder, Arc<NodeMetrics>) {
        let metrics = Arc::<NodeMetrics>::default();
        let request = JoinRequest::new(
            NodeKey { id: id("me"), namespace: Namespace::new("/") },
            Arc::new(Wants("here".into())),
            Arc::clone(&metrics),
            InboxLimits::default(),
        );
        (InboundDecoder::new(&request), metrics)
    }

    fn broadcast(target: Target) -> Message {
        Message::Broadcast { request: None, target, payload: Payload::event("e", &1).unwrap() }
    }

    const STAMP: SeqNo = SeqNo { channel: SeqChannel::ALL, number: 3 };

    fn encoded<'a>(from: &str, namespace: &str, body: impl Into<codec::BodyRef<'a>>) -> Bytes {
        crate::batch::encode(&id(from), &Namespace::new(namespace), body).unwrap().finish(Some(STAMP), &[]).into()
    }

    #[test]
    fn a_message_for_rooms_without_local_members_is_skipped_but_accounted_for() {
        let (decoder, _) = decoder();
        let there = decoder.decode(&encoded("other", "/", &broadcast(Target::room("there"))));
        assert_eq!(there, Some(Delivery::Skipped { from: id("other"), seq_no: Some(STAMP) }));
        let message = broadcast(Target::room("here"));
        let here = decoder.decode(&encoded("other", "/", &message));
        assert_eq!(
            here,
            Some(Delivery::Message { from: Some(id("other")), seq_no: Some(STAMP), offset: None, message })
        );
    }

    #[test]
    fn own_and_foreign_messages_are_dropped_and_counted() {
        let (decoder, metrics) = decoder();
        assert_eq!(decoder.decode(&encoded("me", "/", &broadcast(Target::all()))), None);
        assert_eq!(decoder.decode(&encoded("other", "/else", &broadcast(Target::all()))), None);
        assert_eq!(decoder.decode(&Bytes::from_static(b"{\"type\":77,\"uid\":\"x\",\"nsp\":\"/\"}")), None);
        assert_eq!(decoder.decode(&Bytes::from_static(b"{\"type\":3")), None);
        let counted = metrics.snapshot();
        assert_eq!((counted.own_echoes, counted.foreign_namespace), (1, 1));
        assert_eq!((counted.unknown_type, counted.malformed), (1, 1));
    }

    #[test]
    fn an_own_heartbeat_comes_back_with_its_numbers() {
        let (decoder, _) = decoder();
        let without = decoder.decode(&encoded("me", "/", &Message::Heartbeat(Heartbeat::new(true))));
        assert_eq!(without, Some(Delivery::Skipped { from: id("me"), seq_no: None }));
        let message = Message::Heartbeat(Heartbeat::new(false).with_high_water_marks(vec![STAMP]));
        let bytes = crate::batch::encode(&id("me"), &Namespace::new("/"), &message).unwrap().finish(None, &[STAMP]);
        let with = Delivery::Message { from: Some(id("me")), seq_no: None, offset: None, message };
        let bytes = Bytes::from(bytes);
        assert_eq!(decoder.decode(&bytes), Some(with.clone()));
        assert_eq!(decoder.decode_stored(&bytes, Offset::new("7").unwrap()), Some(with));
    }

    #[test]
    fn a_foreign_format_is_warned_of_once() {
        let (decoder, metrics) = decoder();
        let warnings = Warnings::of(|| {
            let newer = Bytes::from_static(b"{\"type\":77,\"uid\":\"x\",\"nsp\":\"/\"}");
            let foreign = Bytes::from_static(b"\x97foreign");
            for bytes in [&newer, &foreign, &foreign, &foreign] {
                assert_eq!(decoder.decode(bytes), None);
            }
        });
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("same broker and prefix"), "{warnings:?}");
        assert_eq!(metrics.snapshot().malformed, 3);
    }

    #[test]
    fn an_own_broadcast_comes_back_from_the_history_with_its_offset_unless_volatile() {
        let (decoder, metrics) = decoder();
        let offset = Offset::new("7").unwrap();
        let message = broadcast(Target::room("there"));
        let stored = decoder.decode_stored(&encoded("me", "/", &message), offset.clone());
        assert_eq!(stored, Some(Delivery::Stored { seq_no: Some(STAMP), message, offset: Some(offset.clone()) }));
        let message = broadcast(Target::all().volatile());
        let stored = decoder.decode_stored(&encoded("me", "/", &message), offset.clone());
        assert_eq!(stored, Some(Delivery::Stored { seq_no: Some(STAMP), message, offset: None }));
        let request = Some(RequestId::new("r").unwrap());
        let message = Message::Broadcast { request, target: Target::all(), payload: Payload::event("e", &1).unwrap() };
        let stored = decoder.decode_stored(&encoded("me", "/", &message), offset.clone());
        assert_eq!(stored, Some(Delivery::Stored { seq_no: Some(STAMP), message, offset: None }));
        let skipped = decoder.decode_stored(&encoded("me", "/", &Message::Leaving), offset.clone());
        assert_eq!(skipped, Some(Delivery::Skipped { from: id("me"), seq_no: Some(STAMP) }));
        let message = Message::Disconnect { target: Target::all(), close: true };
        let stored = decoder.decode_stored(&encoded("me", "/", &message), offset);
        assert_eq!(stored, Some(Delivery::Stored { seq_no: Some(STAMP), message, offset: None }));
        assert_eq!(metrics.snapshot().own_echoes, 0);
    }

    #[tokio::test]
    async fn a_batch_is_decoded_once_and_its_joins_count_for_what_follows_in_it() {
        let request = JoinRequest::new(
            NodeKey { id: id("me"), namespace: Namespace::new("/") },
            Arc::new(Wants("here".into())),
            Arc::default(),
            InboxLimits::default(),
        );
        let (sender, mut receiver) = inbox(request.limits, Arc::clone(&request.metrics));
        let sender = Arc::new(sender);
        let mut batches = BatchDecoder::new(InboundDecoder::with_pending_joins(&sender, &request), sender);
        let join = Message::Join { target: Target::all(), rooms: vec!["there".into()] };
        let messages = [broadcast(Target::room("there")), join, broadcast(Target::room("there"))];
        let mut builder = BatchBuilder::new(ConnectionId::random(), 1, 0);
        messages.iter().for_each(|message| builder.push(&encoded("other", "/", message)));
        let bytes = builder.finish();
        let mut noted = 0;
        for batch in [bytes.clone(), bytes.clone(), bytes.slice(..3)] {
            assert!(batches.decode(Batch::parse(batch), |_| noted += 1).is_continue());
        }
        assert_eq!((noted, request.metrics.snapshot().malformed), (3, 1));
        let mut batch = VecDeque::new();
        receiver.next_batch(&mut batch).await;
        let [first, _, last] = batch.make_contiguous() else { panic!("{batch:?}") };
        assert!(matches!(first, Delivery::Skipped { .. }) && matches!(last, Delivery::Message { .. }));
        drop(receiver);
        assert!(batches.tell([Delivery::Connected]).is_break());
    }

    #[tokio::test]
    async fn a_batch_for_which_there_was_room_is_taken_whole_also_behind_a_join() {
        let (decoder, metrics) = decoder();
        let (sender, mut receiver) =
            inbox(InboxLimits::default().with_messages(1).with_bytes(1 << 20), Arc::clone(&metrics));
        let mut batches = BatchDecoder::new(decoder, Arc::new(sender));
        let join = Message::Join { target: Target::all(), rooms: vec!["there".into()] };
        let mut builder = BatchBuilder::new(ConnectionId::random(), 1, 0);
        [join, broadcast(Target::all())].iter().for_each(|message| builder.push(&encoded("other", "/", message)));
        assert!(batches.decode(Batch::parse(builder.finish()), |_| {}).is_continue());
        let mut batch = VecDeque::new();
        receiver.next_batch(&mut batch).await;
        assert_eq!((batch.len(), metrics.snapshot().inbox_overflow), (2, 0));
    }

    #[test]
    fn the_offset_of_a_stored_message_follows_from_its_batch() {
        let (decoder, _) = decoder();
        let (sender, receiver) = inbox(InboxLimits::default(), Arc::default());
        let mut batches = BatchDecoder::new(decoder, Arc::new(sender));
        let mut builder = BatchBuilder::new(ConnectionId::random(), 7, 0);
        (0..3).for_each(|_| builder.push(&encoded("other", "/", &broadcast(Target::all()))));
        let offset = |batch: &Batch, left| Offset::new(format!("{:?} {left}", batch.number())).unwrap();
        let mut offsets = Vec::new();
        let note = |delivery: &Delivery| {
            if let Delivery::Message { offset: Some(offset), .. } = delivery {
                offsets.push(offset.as_str().to_owned());
            }
        };
        assert!(batches.decode_stored(Batch::parse(builder.finish()), offset, note).is_continue());
        assert_eq!((offsets, receiver.len()), (["Some(7) 2", "Some(7) 1", "Some(7) 0"].map(String::from).to_vec(), 3));
    }

    #[test]
    fn answers_are_passed_on() {
        let (decoder, _) = decoder();
        let response = Response { request: RequestId::new("r").unwrap(), answer: Answer::ClientCount(2) };
        let delivery = decoder.decode(&encoded("other", "/", &response));
        assert_eq!(delivery, Some(Delivery::Response { from: Some(id("other")), response }));
    }
}
