//! From the history to one node: reads on from where it was, whatever happens to connections and servers in between.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::Info,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{sync::watch, time::sleep};
use trunkline_backend::{Backoff, batch::Batch, connection::next_live, decoder::BatchDecoder};
use trunkline_core::{Error, ErrorKind, Gap, GapCause, Result, model::Delivery, transport::InboxSender};

use super::{
    Streams,
    position::{Position, epoch},
};
use crate::{connection::Connection, place::Place, shared::Shared};

/// Frames that the server may send ahead of us.
const AHEAD: usize = 64;

/// How long the server remembers a reader that is gone. One that only pauses begins anew where it was.
const FORGOTTEN: Duration = Duration::from_secs(5);

/// How long the server holds a request for frames while there are none.
const REQUEST: Duration = Duration::from_secs(30);

/// The task that reads the history for one node.
pub(crate) struct Follower {
    place: Arc<Place>,
    streams: Streams,
    frames: BatchDecoder,
    inbox: Arc<InboxSender>,
    line: watch::Receiver<Option<Arc<Connection>>>,
    ping_interval: Duration,
    /// In which stream it has come how far; `None` before the first connection.
    read: Option<(u32, u64)>,
}

impl Follower {
    pub(crate) fn new(
        shared: &Shared,
        streams: Streams,
        place: Arc<Place>,
        frames: BatchDecoder,
        inbox: Arc<InboxSender>,
    ) -> Self {
        Self {
            place,
            streams,
            frames,
            inbox,
            line: shared.incoming.subscribe(),
            ping_interval: shared.connector.config.ping_interval,
            read: None,
        }
    }

    /// Runs until the node leaves, or nobody reads its inbox any more.
    pub(crate) async fn run(mut self) {
        let place = Arc::clone(&self.place);
        tokio::select! {
            () = place.leaving.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        while let Some(connection) = next_live(&mut self.line, Connection::has_ended).await {
            let before = self.read;
            match self.read_from(&connection).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(node = %self.place.node.id, %error, "reading the history begins anew"),
            }
            if self.read != before {
                backoff.reset();
            }
            sleep(backoff.next_pause()).await;
        }
    }

    /// Reads until nobody reads the inbox any more, or something is wrong.
    async fn read_from(&mut self, connection: &Connection) -> Result<()> {
        let mut frames = self.open(connection).await?;
        self.place.following.cancel();
        let mut expected = 1;
        loop {
            let next = tokio::select! {
                next = frames.next() => next.ok_or_else(|| broken("the reader has ended"))?,
                () = connection.ended() => return Err(broken("the connection has ended")),
            };
            let message = next.map_err(|error| broken("reading failed").with_source(error))?;
            let info = message.info().map_err(|error| broken("a frame without place").with_source(error))?;
            if info.consumer_sequence != expected {
                return Err(broken(format!("frame {} of this reader comes as {expected}", info.consumer_sequence)));
            }
            expected += 1;
            let sequence = info.stream_sequence;
            if self.hand_over(message.message.payload.clone(), sequence).await.is_break() {
                return Ok(());
            }
        }
    }

    /// Begins after what was read.
    async fn open(&mut self, connection: &Connection) -> Result<pull::Stream> {
        let jetstream = connection.jetstream()?;
        let stream = jetstream.get_stream(self.streams.log()).await;
        let stream = stream.map_err(|error| broken("the stream is not available").with_source(error))?;
        let start = self.start(stream.cached_info());
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start },
            ack_policy: AckPolicy::None,
            filter_subject: self.place.hall.subjects.log.to_string(),
            inactive_threshold: FORGOTTEN,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| broken("no reader").with_source(error))?;
        let heartbeat = self.ping_interval.clamp(Duration::from_millis(250), Duration::from_secs(10));
        let frames =
            consumer.stream().max_messages_per_batch(AHEAD).heartbeat(heartbeat).expires(REQUEST).messages().await;
        frames.map_err(|error| broken("no frames").with_source(error))
    }

    /// The first frame that was not read. Says so if it, or one after it, may be gone.
    fn start(&mut self, info: &Info) -> u64 {
        let epoch = epoch(info);
        let (first, last) = (info.state.first_sequence, info.state.last_sequence);
        let start = match self.read {
            None => last + 1,
            Some((read_epoch, read)) if read_epoch == epoch && read + 1 >= first => read + 1,
            Some(_) => {
                self.inbox.push([Delivery::Gap(Gap { cause: GapCause::Trimmed, missed: None })]);
                first.max(1)
            }
        };
        self.read = Some((epoch, start - 1));
        start
    }

    /// Waits while the inbox is full: the server keeps what comes.
    async fn hand_over(&mut self, payload: Bytes, sequence: u64) -> ControlFlow<()> {
        let (epoch, _) = self.read.unwrap_or_default();
        self.inbox.ready().await;
        self.take_in(payload, epoch, sequence)?;
        self.read = Some((epoch, sequence));
        ControlFlow::Continue(())
    }

    fn take_in(&mut self, payload: Bytes, epoch: u32, sequence: u64) -> ControlFlow<()> {
        let offset =
            |_: &Batch, left: usize| Position { epoch, sequence, left: left.try_into().unwrap_or(u32::MAX) }.offset();
        self.frames.take_stored(Batch::parse(payload), offset, |_| {})
    }
}

fn broken(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Broker, context)
}
