//! From the queue to the broker: everything that is queued goes into as few frames as order allows.
//!
//! A frame stays here until the broker has confirmed it; what is left when a connection breaks is sent again over the next one, with the
//! same numbers, so that receivers drop what they have. Nobody waits for a single confirmation: batches form while earlier frames are on
//! their way.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesOrdered};
use lapin::{Confirmation, types::ShortString};
use tokio::{sync::watch, time::sleep};
use trunkline_backend::{
    batch::BatchBuilder,
    connection::{next_live, until_replaced},
};

use crate::{
    connection::{Confirming, Connection},
    shared::Shared,
};

/// What waits in the queue.
#[derive(Debug)]
pub(crate) enum Item {
    One(Post),
    /// A heartbeat, where there is a history: a sign of life that nothing may hold up, and, behind everything that it counts, how far its
    /// sender has numbered.
    Two(Post, Post),
}

impl Item {
    fn posts(self) -> impl Iterator<Item = Post> {
        let (first, second) = match self {
            Self::One(post) => (post, None),
            Self::Two(first, second) => (first, Some(second)),
        };
        std::iter::once(first).chain(second)
    }
}

/// An encoded message and its routing key.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) key: ShortString,
    pub(crate) content: Content,
    /// What the queue counts for it, until it is released.
    pub(crate) weight: usize,
}

#[derive(Debug)]
pub(crate) enum Content {
    Message(Vec<u8>),
    /// Nothing; it comes back if nobody is there.
    Look,
}

/// Messages of one run share a frame up to this size, so that a receiver need not wait long for the whole of it.
const FRAME_BYTES: usize = 32 << 10;

/// What is taken from the queue at once. With a frame for each message these are hundreds of frames, and the client looks at all that are
/// unconfirmed whenever some are confirmed.
const BATCH_BYTES: usize = 64 << 10;

/// While so many frames are unconfirmed nothing is taken from the queue, where batches form.
const WINDOW: usize = 16;

/// How long what is queued may still be sent once the transport is closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A frame that the broker has not confirmed yet.
#[derive(Debug)]
struct Sent {
    key: ShortString,
    frame: Bytes,
    is_look: bool,
    /// As the queue counts.
    weight: usize,
}

/// The task that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    line: watch::Receiver<Option<Arc<Connection>>>,
    unconfirmed: VecDeque<Sent>,
    next_number: u64,
}

/// Why a connection is no longer written to.
enum End {
    /// It is gone, or will be.
    Connection,
    /// There is nothing more to write.
    Queue,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let line = shared.outgoing.subscribe();
        Self { shared, line, unconfirmed: VecDeque::new(), next_number: 1 }
    }

    /// Runs until the queue is closed and empty, or for a moment longer if the broker takes nothing any more.
    pub(crate) async fn run(mut self) {
        let closing = self.shared.closing.clone();
        let overdue = async {
            closing.cancelled().await;
            sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = self.write_until_closed() => {}
            () = overdue => {}
        }
        if !self.unconfirmed.is_empty() {
            tracing::debug!(frames = self.unconfirmed.len(), "closed before everything was confirmed");
        }
        self.shared.writer_ended.cancel();
    }

    async fn write_until_closed(&mut self) {
        while let Some(connection) = self.next_connection().await {
            if matches!(self.serve(&connection).await, End::Queue) {
                return;
            }
        }
    }

    /// `None` if there will be none, or not soon enough to wait for it while closing.
    async fn next_connection(&mut self) -> Option<Arc<Connection>> {
        tokio::select! {
            biased;
            connection = next_live(&mut self.line, Connection::has_ended) => connection,
            () = self.shared.closing.cancelled() => None,
        }
    }

    async fn serve(&mut self, connection: &Arc<Connection>) -> End {
        let shared = Arc::clone(&self.shared);
        let mut confirming: FuturesOrdered<_> = self.unconfirmed.iter().map(|sent| send(connection, sent)).collect();
        let (mut batch, mut is_closed) = (Vec::new(), false);
        while !is_closed || !confirming.is_empty() {
            tokio::select! {
                biased;
                Some(confirmation) = confirming.next() => match confirmation {
                    Ok(confirmation) => self.confirmed(confirmation),
                    Err(error) => {
                        self.failed(connection, &error);
                        return End::Connection;
                    }
                },
                () = until_replaced(&mut self.line, connection) => return End::Connection,
                taken = shared.outbox.take(&mut batch, BATCH_BYTES), if !is_closed && confirming.len() < WINDOW => {
                    is_closed = taken.is_none();
                    let first = self.unconfirmed.len();
                    self.frame(&mut batch);
                    confirming.extend(self.unconfirmed.range(first..).map(|sent| send(connection, sent)));
                }
            }
        }
        End::Queue
    }

    fn confirmed(&mut self, confirmation: Confirmation) {
        if confirmation.is_nack() {
            tracing::warn!("RabbitMQ could not pass on a frame");
        }
        if let Some(sent) = self.unconfirmed.pop_front() {
            self.shared.outbox.release(sent.weight);
        }
        // It comes with the confirmation of some frame, not always its own.
        if let Some(returned) = confirmation.take_message() {
            self.shared.nobody_there(&returned.delivery.routing_key);
        }
    }

    fn failed(&mut self, connection: &Connection, error: &lapin::Error) {
        // Only the channel is gone if the broker refused something.
        connection.cut();
        if error.is_amqp_soft_error() {
            tracing::error!(%error, frames = self.unconfirmed.len(), "RabbitMQ refuses what is published: dropped");
            self.shared.outbox.release(self.unconfirmed.drain(..).map(|sent| sent.weight).sum());
        }
    }

    /// One frame per run of messages with one key.
    fn frame(&mut self, batch: &mut Vec<Item>) {
        let mut posts = batch.drain(..).flat_map(Item::posts).peekable();
        while let Some(Post { key, content, mut weight }) = posts.next() {
            let capacity = if let Content::Message(message) = &content { message.len() } else { 0 };
            let mut frame = BatchBuilder::new(self.shared.connector.sender, self.next_number, capacity);
            self.next_number += 1;
            let is_look = matches!(content, Content::Look);
            if let Content::Message(message) = content {
                frame.push(&message);
                let fits = |frame: &BatchBuilder, post: &Post| matches!(&post.content, Content::Message(message) if post.key == key && frame.fits(message, FRAME_BYTES));
                while let Some(post) = posts.next_if(|post| fits(&frame, post)) {
                    weight += post.weight;
                    if let Content::Message(message) = post.content {
                        frame.push(&message);
                    }
                }
            }
            self.unconfirmed.push_back(Sent { key, frame: frame.finish(), is_look, weight });
        }
    }
}

fn send(connection: &Connection, sent: &Sent) -> Confirming {
    connection.publish(sent.key.clone(), sent.frame.clone(), sent.is_look)
}
