//! From the batches of a cluster to the inbox of a node.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use trunkline_core::{
    error::{Error, Result},
    model::{Delivery, Offset},
    transport::InboxSender,
};

use super::InboundDecoder;
use crate::{
    batch::Batch,
    repeats::{Deduplicator, NumberVerdict},
};

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
            NumberVerdict::New => Ok(Some(batch)),
            NumberVerdict::Repeat => Ok(None),
            NumberVerdict::Malformed => {
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use trunkline_core::{
        model::{Message, Namespace, NodeKey, Target},
        transport::{InboxLimits, JoinRequest, inbox},
    };

    use super::*;
    use crate::{
        batch::{BatchBuilder, ConnectionId},
        decoder::tests::{Wants, broadcast, decoder, encoded, id},
    };

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
}
