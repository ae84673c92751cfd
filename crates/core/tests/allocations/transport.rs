//! A transport as a broker has it, without the broker: what is published is encoded into a queue, what arrives is
//! decoded.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::task::yield_now;
use trunkline_backend::{Outbox, OutboxLimits, decoder::InboundDecoder};
use trunkline_core::{
    Backend, Capabilities, Membership, Message, NodeId, NodeKey, Response, Result, Transport,
    codec::{self, Format},
    model::{IdScheme, SeqChannel, SeqNo},
    transport::{Health, Inbox, InboxSender, JoinRequest, inbox},
};

#[derive(Debug)]
pub(crate) struct RecordingTransport {
    format: Format,
    outbox: Outbox<Vec<u8>>,
    joined: Mutex<Option<(InboundDecoder, Arc<InboxSender>)>>,
}

impl RecordingTransport {
    pub(crate) fn new(format: Format) -> Arc<Self> {
        let outbox = Outbox::new(OutboxLimits::default());
        outbox.set_connected(true);
        Arc::new(Self { format, outbox, joined: Mutex::new(None) })
    }

    pub(crate) fn backend(self: &Arc<Self>) -> Backend {
        let transport = Arc::clone(self) as Arc<dyn Transport>;
        Backend::new(transport, IdScheme::Hex16)
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

    /// A question arrives and is answered with at least so many bytes.
    pub(crate) async fn answered(&self, question: &[Bytes], bytes: usize) {
        self.arrive(question);
        let mut answered = 0;
        while answered < bytes {
            yield_now().await;
            answered += self.written().await.iter().map(Bytes::len).sum::<usize>();
        }
    }

    /// A question arrives; the number of messages in each write until so many have answered it.
    pub(crate) async fn writes_until_answered(&self, question: &[Bytes], answers: usize) -> Vec<usize> {
        self.arrive(question);
        let mut writes = Vec::new();
        while writes.iter().sum::<usize>() < answers {
            yield_now().await;
            writes.extend(Some(self.written().await.len()).filter(|messages| *messages > 0));
        }
        writes
    }

    /// What was written elsewhere arrives.
    pub(crate) fn arrive(&self, messages: &[Bytes]) {
        let joined = self.joined.lock().unwrap();
        let (decoder, inbox) = joined.as_ref().unwrap();
        assert!(inbox.push(messages.iter().filter_map(|message| decoder.decode(message))));
    }
}

#[async_trait]
impl Transport for RecordingTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Membership::Heartbeats)
            .with_total_order(true)
            .with_acknowledged_in_order(true)
            .with_numbered(true)
            .with_announced_leave(true)
            .with_named_answers(true)
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let (sender, inbox) = inbox(request.limits, Arc::clone(&request.metrics));
        *self.joined.lock().unwrap() = Some((InboundDecoder::new(&request), Arc::new(sender)));
        Ok(inbox)
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        let encoded = codec::encode(self.format, &from.id, &from.namespace, &message)?;
        let pushed = self.outbox.try_push_message(&from.id, channel(&message), encoded.len(), |seq_no, marks| {
            encoded.finish(seq_no, marks)
        })?;
        Ok((!pushed).then_some(message))
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        let encoded = codec::encode(self.format, &from.id, &from.namespace, &message)?;
        let bytes = encoded.len();
        let finish = |seq_no, marks: &[SeqNo]| encoded.finish(seq_no, marks);
        self.outbox.push_message(&from.id, channel(&message), bytes, finish).await
    }

    async fn send(&self, from: &NodeKey, _: &NodeId, response: &Response) -> Result<()> {
        let encoded = codec::encode(self.format, &from.id, &from.namespace, response)?;
        self.outbox.push_message(&from.id, None, encoded.len(), |_, _| encoded.finish(None, &[])).await
    }

    async fn leave(&self, _: &NodeKey) -> Result<()> {
        *self.joined.lock().unwrap() = None;
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        self.outbox.flush().await
    }

    fn health(&self) -> Health {
        Health::default()
    }

    async fn close(&self) {
        self.outbox.close();
    }
}

fn channel(message: &Message) -> Option<SeqChannel> {
    message.is_numbered().then_some(SeqChannel::ALL)
}
