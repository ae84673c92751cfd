//! A transport as a broker has it, without the broker: what is published is encoded into a queue, what arrives is decoded.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use trunkline_backend::{Outbox, OutboxLimits, decoder::InboundDecoder};
use trunkline_core::{
    Backend, Capabilities, Membership, Message, NodeId, NodeKey, Response, Result, Transport,
    codec::{self, Format},
    model::{IdScheme, SeqChannel},
    transport::{Health, Inbox, InboxSender, JoinRequest, inbox},
};

#[derive(Debug)]
pub(crate) struct Wire {
    format: Format,
    outbox: Outbox<Vec<u8>>,
    door: Mutex<Option<(InboundDecoder, Arc<InboxSender>)>>,
}

impl Wire {
    pub(crate) fn new(format: Format) -> Arc<Self> {
        let outbox = Outbox::new(OutboxLimits::default());
        outbox.set_connected(true);
        Arc::new(Self { format, outbox, door: Mutex::new(None) })
    }

    pub(crate) fn backend(self: &Arc<Self>) -> Backend {
        let transport = Arc::clone(self) as Arc<dyn Transport>;
        Backend { transport, history: None, interest: None, node_counter: None, ids: IdScheme::Hex16 }
    }

    /// Everything that was published, as it arrives elsewhere: slices of one buffer.
    pub(crate) async fn written(&self) -> Vec<Bytes> {
        let mut batch = Vec::new();
        if self.outbox.status().1 > 0 {
            let bytes = self.outbox.take(&mut batch, usize::MAX).await.unwrap();
            self.outbox.release(bytes);
        }
        let mut buffer = BytesMut::from(&*batch.concat());
        batch.iter().map(|message| buffer.split_to(message.len()).freeze()).collect()
    }

    /// What was written elsewhere arrives.
    pub(crate) fn arrive(&self, messages: &[Bytes]) {
        let door = self.door.lock().unwrap();
        let (decoder, inbox) = door.as_ref().unwrap();
        assert!(inbox.push(messages.iter().filter_map(|message| decoder.decode(message))));
    }
}

#[async_trait]
impl Transport for Wire {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            membership: Membership::Heartbeats,
            total_order: true,
            acknowledged_in_order: true,
            numbered: true,
            announced_leave: true,
            named_answers: true,
            all_rooms_request: false,
            room_interest: false,
            history: false,
            max_message_bytes: None,
        }
    }

    async fn join(&self, seat: JoinRequest) -> Result<Inbox> {
        let (sender, inbox) = inbox(seat.limits, Arc::clone(&seat.metrics));
        *self.door.lock().unwrap() = Some((InboundDecoder::new(&seat), Arc::new(sender)));
        Ok(inbox)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        let frame = codec::encode(self.format, &from.id, &from.namespace, &message)?;
        let seq_nos = message.is_numbered();
        self.outbox
            .push(frame.len(), |sequencer| match seq_nos {
                true => frame.finish(Some(sequencer.next(&from.id, SeqChannel::ALL)), &[]),
                false => frame.finish(None, sequencer.high_water_marks(&from.id)),
            })
            .await
    }

    async fn send(&self, _: &NodeKey, _: &NodeId, _: Response) -> Result<()> {
        Ok(())
    }

    async fn leave(&self, _: &NodeKey) -> Result<()> {
        *self.door.lock().unwrap() = None;
        Ok(())
    }

    fn health(&self) -> Health {
        Health::default()
    }

    async fn close(&self) {
        self.outbox.close();
    }
}
