//! From the queue into the history: one frame per namespace at a time, in order, each stored once.
//!
//! Batches form while the previous frame is on its way. A frame that is not confirmed is stored again under the same id, which the server
//! recognises; nothing is sent after it before it is confirmed. So the order holds even when the server that leads the stream changes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_nats::{
    Subject,
    jetstream::{
        self,
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
    },
};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::sleep};
use trunkline_backend::{
    Backoff,
    batch::{Batch, BatchBuilder},
    connection::next_live,
};
use trunkline_core::{
    Message, NodeKey,
    codec::{self, Body, Decoded},
    model::Delivery,
};

use super::Streams;
use crate::{connection::Connection, shared::Shared, writer::Post};

/// The history is read by every node: its frames may be large.
const FRAME_BYTES: usize = 128 << 10;

/// What the headers of a stored frame take.
pub(crate) const HEADERS: usize = 96;

/// The task that writes to the history. It ends when nothing more can come and everything is stored.
#[derive(Debug)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    streams: Streams,
    posts: mpsc::UnboundedReceiver<Post>,
    /// What waits behind a frame that is on its way, by namespace.
    waiting: BTreeMap<Subject, VecDeque<Post>>,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    next_number: u64,
}

/// A frame that is no longer on its way.
#[derive(Debug)]
struct Landed {
    subject: Subject,
    weight: usize,
}

impl Log {
    /// What comes through `posts` is bounded by the outbox, which counts it until it is stored.
    pub(crate) fn new(shared: Arc<Shared>, streams: Streams, posts: mpsc::UnboundedReceiver<Post>) -> Self {
        Self { shared, streams, posts, waiting: BTreeMap::new(), flights: FuturesUnordered::new(), next_number: 1 }
    }

    /// Runs until everything is stored, or the writer has given up.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = self.store_everything() => {}
            () = shared.writer_ended.cancelled() => {}
        }
        shared.log_ended.cancel();
    }

    async fn store_everything(&mut self) {
        let mut is_open = true;
        while is_open || !self.flights.is_empty() {
            tokio::select! {
                post = self.posts.recv(), if is_open => match post {
                    Some(post) => self.take(post),
                    None => is_open = false,
                },
                Some(landed) = self.flights.next() => self.landed(landed),
            }
        }
    }

    /// Takes what is there; namespaces of which nothing is on its way are sent for at once.
    fn take(&mut self, first: Post) {
        let mut idle = Vec::new();
        let mut next = Some(first);
        while let Some(post) = next {
            let subject = post.subject.clone();
            if !self.waiting.contains_key(&subject) {
                idle.push(subject.clone());
            }
            self.waiting.entry(subject).or_default().push_back(post);
            next = self.posts.try_recv().ok();
        }
        idle.into_iter().for_each(|subject| self.launch(subject));
    }

    fn landed(&mut self, landed: Landed) {
        self.shared.outbox.release(landed.weight);
        self.launch(landed.subject);
    }

    /// Sends as much of what waits as fits into one frame.
    fn launch(&mut self, subject: Subject) {
        let most = self.shared.max_payload().saturating_sub(HEADERS).min(FRAME_BYTES);
        // A small history must not be replaced by one frame.
        let max_bytes = self.shared.connector.config.history.map_or(most, |history| most.min(history.bytes / 8));
        let Some(waiting) = self.waiting.get_mut(&subject) else { return };
        let Some(first) = waiting.pop_front() else {
            self.waiting.remove(&subject);
            return;
        };
        let mut weight = first.weight;
        let mut frame = BatchBuilder::new(self.shared.connector.sender, self.next_number, first.message.len());
        frame.push(&first.message);
        while let Some(post) = waiting.pop_front_if(|post| frame.fits(&post.message, max_bytes)) {
            weight += post.weight;
            frame.push(&post.message);
        }
        let flight = Flight {
            shared: Arc::clone(&self.shared),
            streams: self.streams.clone(),
            id: format!("{}-{}", self.shared.connector.sender, self.next_number),
            frame: frame.finish(),
            subject,
            weight,
        };
        self.next_number += 1;
        self.flights.push(Box::pin(flight.land()));
    }
}

/// A frame on its way.
struct Flight {
    shared: Arc<Shared>,
    streams: Streams,
    subject: Subject,
    id: String,
    frame: Bytes,
    weight: usize,
}

/// Why a frame was not stored.
enum Failure {
    /// It will not be, however often it is tried.
    Refused(PublishError),
    /// It may be later.
    Later(PublishError),
}

impl Flight {
    /// Tries until the frame is stored, or refused.
    async fn land(self) -> Landed {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut line = self.shared.outgoing.subscribe();
        while let Some(connection) = next_live(&mut line, Connection::has_ended).await {
            match self.store(&connection).await {
                Ok(()) => break,
                Err(Failure::Refused(error)) => {
                    tracing::error!(%error, bytes = self.frame.len(), "the history refuses a frame");
                    self.hand_back();
                    break;
                }
                Err(Failure::Later(error)) => {
                    tracing::debug!(%error, "storing a frame failed");
                    self.repair(&connection, &error).await;
                    sleep(backoff.next_pause()).await;
                }
            }
        }
        Landed { subject: self.subject, weight: self.weight }
    }

    async fn store(&self, connection: &Connection) -> Result<(), Failure> {
        let Some(jetstream) = &connection.jetstream else { return Ok(()) };
        let message = PublishMessage::build().payload(self.frame.clone()).message_id(&self.id);
        let confirmed = jetstream.send_publish(self.subject.clone(), message).await.map_err(Failure::from)?;
        confirmed.await.map_err(Failure::from)?;
        Ok(())
    }

    /// Somebody may have deleted the stream.
    async fn repair(&self, connection: &Connection, error: &PublishError) {
        let Some(jetstream) = &connection.jetstream else { return };
        if error.kind() == PublishErrorKind::StreamNotFound
            && let Err(error) = self.streams.set_up(jetstream).await
        {
            tracing::debug!(%error, "the history is not available");
        }
    }

    /// Own sockets get what the history did not take.
    fn hand_back(&self) {
        let Ok(frame) = Batch::parse(self.frame.clone()) else { return };
        for message in frame.flatten() {
            let Ok(Decoded { from: Some(id), namespace: Some(namespace), body: Body::Message(message), .. }) =
                codec::decode(&message)
            else {
                continue;
            };
            if let Message::Broadcast { .. } = message
                && let Some(place) = self.shared.place(&NodeKey { id, namespace })
            {
                place.tell(Delivery::Stored { message, offset: None });
            }
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let answer = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<jetstream::Error>());
        // 4xx: the request is wrong; 404 and 5xx: what is needed is not there at the moment.
        let is_wrong = answer.is_some_and(|answer| (400..500).contains(&answer.code()) && answer.code() != 404);
        if is_wrong || error.kind() == PublishErrorKind::MaxPayloadExceeded {
            Self::Refused(error)
        } else {
            Self::Later(error)
        }
    }
}
