//! Reads the stream for one node: a pull consumer that begins anew where it was whenever something is wrong.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::Info,
};
use futures_util::StreamExt as _;
use trunkline_backend::{
    batch::Batch,
    batched::{BatchConnection as _, HistoryEntry, HistorySource},
};
use trunkline_core::{Error, ErrorKind, Offset, Result};

use super::{
    Streams,
    position::{Position, epoch},
};
use crate::connection::Connection;

/// Batches that the server may send ahead of us.
const PREFETCH: usize = 64;

/// How long the server remembers a consumer that is gone. One that only pauses begins anew where it was.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(5);

/// How long the server holds a request for batches while there are none.
const REQUEST: Duration = Duration::from_secs(30);

/// What a node reads from the stream, and how far it has come.
pub(crate) struct StreamSource {
    streams: Streams,
    subject: String,
    heartbeat: Duration,
    batches: Option<pull::Stream>,
    /// The consumer's number of the next batch.
    expected: u64,
    /// In which stream it has come how far; `None` before the first connection.
    read: Option<(u32, u64)>,
    /// Whether batches were trimmed before they were read.
    is_gap: bool,
}

impl StreamSource {
    pub(crate) fn new(streams: Streams, subject: String, ping_interval: Duration) -> Self {
        let heartbeat = ping_interval.clamp(Duration::from_millis(250), Duration::from_secs(10));
        Self { streams, subject, heartbeat, batches: None, expected: 1, read: None, is_gap: false }
    }

    /// The first batch that was not read. Notes if it, or one after it, may be gone.
    fn start(&mut self, info: &Info) -> u64 {
        let epoch = epoch(info);
        let (first, last) = (info.state.first_sequence, info.state.last_sequence);
        let start = match self.read {
            None => last + 1,
            Some((read_epoch, read)) if read_epoch == epoch && read + 1 >= first => read + 1,
            Some(_) => {
                self.is_gap = true;
                first.max(1)
            }
        };
        self.read = Some((epoch, start - 1));
        start
    }
}

impl HistorySource for StreamSource {
    type Connection = Connection;

    async fn open(&mut self, connection: &Arc<Connection>) -> Result<()> {
        // Made again, if it was deleted.
        let stream = self.streams.log_stream(connection.jetstream()?).await?;
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.start(stream.cached_info()) },
            inactive_threshold: INACTIVE_THRESHOLD,
            ..reading(self.subject.clone())
        };
        let consumer =
            stream.create_consumer(config).await.map_err(|error| broken("no consumer").with_source(error))?;
        let batches = consumer.stream().max_messages_per_batch(PREFETCH).heartbeat(self.heartbeat).expires(REQUEST);
        let batches = batches.messages().await.map_err(|error| broken("no batches").with_source(error))?;
        (self.batches, self.expected) = (Some(batches), 1);
        Ok(())
    }

    async fn next(&mut self, connection: &Connection) -> Result<HistoryEntry> {
        if std::mem::take(&mut self.is_gap) {
            return Ok(HistoryEntry::Gap);
        }
        let batches = self.batches.as_mut().ok_or_else(|| broken("it is not open"))?;
        let next = tokio::select! {
            next = batches.next() => next.ok_or_else(|| broken("the consumer has ended"))?,
            () = connection.ended() => return Err(broken("the connection has ended")),
        };
        let message = next.map_err(|error| broken("reading failed").with_source(error))?;
        let info = message.info().map_err(|error| broken("a batch without position").with_source(error))?;
        if info.consumer_sequence != self.expected {
            let context = format!("batch {} of this consumer comes as {}", info.consumer_sequence, self.expected);
            return Err(broken(context));
        }
        self.expected += 1;
        let sequence = info.stream_sequence;
        if let Some((_, read)) = &mut self.read {
            *read = sequence;
        }
        Ok(HistoryEntry::Batch { batch: Batch::parse(message.message.payload.clone()), sequence })
    }

    fn offset(&self, _: &Batch, sequence: u64, remaining: usize) -> Offset {
        let epoch = self.read.map_or(0, |(epoch, _)| epoch);
        Position { epoch, sequence, remaining: remaining.try_into().unwrap_or(u32::MAX) }.offset()
    }
}

/// A consumer that reads without acknowledging, and is not worth a copy.
pub(super) fn reading(filter_subject: String) -> pull::Config {
    pull::Config {
        ack_policy: AckPolicy::None,
        filter_subject,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    }
}

fn broken(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Broker, context)
}
