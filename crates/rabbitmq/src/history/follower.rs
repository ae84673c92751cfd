//! From the stream to one node: reads on from where it was, whatever happens to connections and brokers in between.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{message::Delivery as Arrival, options::BasicAckOptions};
use tokio::{sync::watch, task::consume_budget, time::sleep};
use trunkline_backend::{Backoff, batch::Batch, connection::next_live, decoder::BatchDecoder};
use trunkline_core::{Error, ErrorKind, Gap, GapCause, Result, model::Delivery, transport::InboxSender};

use super::{Start, position::Position, read, records::Record, sequence};
use crate::{connection::Connection, place::Place, shared::Shared};

/// Deliveries that are acknowledged together.
const CHUNK: usize = 64;

/// The task that reads the stream for one node.
pub(crate) struct Follower {
    shared: Arc<Shared>,
    place: Arc<Place>,
    frames: BatchDecoder,
    inbox: Arc<InboxSender>,
    line: watch::Receiver<Option<Arc<Connection>>>,
    /// What comes next; `None` before anything came.
    next: Option<u64>,
}

impl Follower {
    pub(crate) fn new(shared: &Arc<Shared>, place: Arc<Place>, frames: BatchDecoder, inbox: Arc<InboxSender>) -> Self {
        let line = shared.incoming.subscribe();
        Self { shared: Arc::clone(shared), place, frames, inbox, line, next: None }
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
            let before = self.next;
            match self.read_from(&connection).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(node = %self.place.node.id, %error, "reading the history begins anew"),
            }
            if self.next != before {
                backoff.reset();
            }
            sleep(backoff.next_pause()).await;
        }
    }

    /// Reads until nobody reads the inbox any more, or something is wrong.
    async fn read_from(&mut self, connection: &Connection) -> Result<()> {
        let start = self.next.map_or(Start::Next, Start::At);
        let opened = connection.outcome(read(connection, &self.shared.connector.config.prefix, start)).await;
        let (channel, consumer) = opened.map_err(|error| broken("the stream is not available").with_source(error))?;
        if self.next.is_none() {
            self.mark(connection).await?;
        }
        let mut chunks = consumer.ready_chunks(CHUNK);
        loop {
            let chunk = connection.outcome(async { Ok(chunks.next().await) }).await;
            let Ok(Some(chunk)) = chunk else { return Err(broken("the stream or the connection is gone")) };
            let mut last = None;
            for arrival in chunk {
                let arrival = arrival.map_err(|error| broken("reading failed").with_source(error))?;
                last = Some(arrival.delivery_tag);
                if self.hand_over(arrival).await?.is_break() {
                    return Ok(());
                }
            }
            if let Some(tag) = last {
                let acknowledged = channel.basic_ack(tag, BasicAckOptions { multiple: true });
                let acknowledged = connection.outcome(acknowledged).await;
                acknowledged.map_err(|error| broken("reading failed").with_source(error))?;
            }
        }
    }

    /// Stores something, so that something arrives, and with it a place to read on from: beginning at what comes next a second time would
    /// lose what came meanwhile.
    async fn mark(&self, connection: &Connection) -> Result<()> {
        let frame = Record::claim("", fastrand::u64(..)).frame(self.shared.connector.sender);
        let stored = connection.publish(self.place.hall.keys.session.clone(), frame, false);
        let stored = connection.outcome(stored).await;
        stored.map(drop).map_err(|error| broken("the stream takes nothing").with_source(error))
    }

    /// Waits while the inbox is full: the broker keeps what comes.
    async fn hand_over(&mut self, arrival: Arrival) -> Result<ControlFlow<()>> {
        let sequence = sequence(&arrival).ok_or_else(|| broken("a delivery without place"))?;
        consume_budget().await;
        self.inbox.ready().await;
        // Later, something was trimmed. Earlier, it is another stream: a broker that crashes may forget one that it has only just declared.
        if self.next.is_some_and(|next| sequence != next) {
            self.inbox.push([Delivery::Gap(Gap { cause: GapCause::Trimmed, missed: None })]);
        }
        self.next = Some(sequence + 1);
        self.place.following.cancel();
        if arrival.routing_key != self.place.hall.keys.log {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(self.take_in(arrival, sequence))
    }

    fn take_in(&mut self, arrival: Arrival, sequence: u64) -> ControlFlow<()> {
        let offset = |whole: &Batch, left| Position::new(sequence, left, whole).offset();
        let place = &self.place;
        self.frames.take_stored(Batch::parse(arrival.data.into()), offset, |delivery| place.note(delivery))
    }
}

fn broken(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Broker, context)
}
