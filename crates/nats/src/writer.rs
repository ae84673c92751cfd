//! From the queue to the server: everything that is queued goes into as few frames as order allows.
//!
//! A frame stays here until the server has processed it, which a mark that it echoes tells; what is left when a connection breaks is sent
//! again over the next one, with the same numbers, so that receivers drop what they have.

use std::{collections::VecDeque, future::pending, sync::Arc, time::Duration};

use async_nats::Subject;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use trunkline_backend::{
    batch::BatchBuilder,
    connection::{next_live, until_replaced},
};
use trunkline_core::Result;

use crate::{connection::Connection, shared::Shared};

/// What waits in the queue.
#[derive(Debug)]
pub(crate) enum Item {
    /// For those who are there.
    Now(Post),
    /// For the history.
    Kept(Post),
    /// A heartbeat, where there is a history: a sign of life that nothing may hold up, and, behind everything that it counts, how far its
    /// sender has numbered.
    Both { now: Post, kept: Post },
}

/// An encoded message and its subject.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) subject: Subject,
    pub(crate) message: Vec<u8>,
    /// What the queue counts for it, until it is released.
    pub(crate) weight: usize,
}

/// Messages of one run share a frame up to this size, so that a receiver need not wait long for the whole of it.
const FRAME_BYTES: usize = 32 << 10;

/// What is taken from the queue at once.
const BATCH_BYTES: usize = 1 << 20;

/// How long what is queued may still be sent once the transport is closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// When the server is changed without need, what went over the old one gets this head start on its way through the cluster.
const HEAD_START: Duration = Duration::from_millis(100);

/// A frame that the server may not have processed yet.
#[derive(Debug)]
struct Sent {
    number: u64,
    subject: Subject,
    frame: Bytes,
    /// As the queue counts.
    weight: usize,
}

type Mark = BoxFuture<'static, Result<()>>;

/// The task that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    line: watch::Receiver<Option<Arc<Connection>>>,
    /// The connection that failed last. It may not know of its end yet, and is not tried again.
    failed: u64,
    unconfirmed: VecDeque<Sent>,
    next_number: u64,
    /// Where there is a history, the way there.
    log: Option<mpsc::UnboundedSender<Post>>,
}

/// Why a connection is no longer written to.
enum End {
    /// It is gone, or will be.
    Connection,
    /// There is nothing more to write.
    Queue,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, log: Option<mpsc::UnboundedSender<Post>>) -> Self {
        let line = shared.outgoing.subscribe();
        Self { shared, line, failed: 0, unconfirmed: VecDeque::new(), next_number: 1, log }
    }

    /// Runs until the queue is closed and empty, or for a moment longer if the server takes nothing any more.
    pub(crate) async fn run(mut self) {
        let closing = self.shared.closing.clone();
        let overdue = async {
            closing.cancelled().await;
            sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = self.write_everything() => {}
            () = overdue => {}
        }
        if !self.unconfirmed.is_empty() {
            tracing::debug!(frames = self.unconfirmed.len(), "closed before everything was sent");
        }
        self.shared.writer_ended.cancel();
    }

    async fn write_everything(&mut self) {
        self.write_until_closed().await;
        self.log = None;
        self.shared.log_ended.cancelled().await;
    }

    async fn write_until_closed(&mut self) {
        while let Some(connection) = self.next_connection().await {
            if self.send_again(&connection).await.is_ok() && matches!(self.serve(&connection).await, End::Queue) {
                return;
            }
            self.failed = connection.number;
        }
    }

    /// `None` if there will be none, or not soon enough to wait for it while closing.
    async fn next_connection(&mut self) -> Option<Arc<Connection>> {
        let is_over = |connection: &Connection| connection.has_ended() || connection.number <= self.failed;
        tokio::select! {
            biased;
            connection = next_live(&mut self.line, is_over) => connection,
            () = self.shared.closing.cancelled() => None,
        }
    }

    async fn send_again(&mut self, connection: &Connection) -> Result<()> {
        for sent in &self.unconfirmed {
            send(connection, sent).await?;
        }
        Ok(())
    }

    async fn serve(&mut self, connection: &Arc<Connection>) -> End {
        let shared = Arc::clone(&self.shared);
        let mut batch = Vec::new();
        let mut mark: Option<(u64, Mark)> = None;
        loop {
            if mark.is_none()
                && let Some(last) = self.unconfirmed.back()
            {
                let connection = Arc::clone(connection);
                mark = Some((last.number, Box::pin(async move { connection.round_trip().await })));
            }
            tokio::select! {
                biased;
                result = echo(&mut mark) => {
                    match result {
                        (number, Ok(())) => self.confirmed(number),
                        (_, Err(_)) => return End::Connection,
                    }
                    mark = None;
                }
                () = until_replaced(&mut self.line, connection) => return self.hand_over(connection).await,
                taken = shared.outbox.take(&mut batch, BATCH_BYTES) => match taken {
                    Some(_) => if self.write(connection, &mut batch).await.is_err() {
                        return End::Connection;
                    },
                    None if self.unconfirmed.is_empty() => return End::Queue,
                    // Nothing comes any more: what is left is to hear that everything has arrived.
                    None => return self.finish(connection).await,
                },
            }
        }
    }

    /// Waits for the last mark.
    async fn finish(&mut self, connection: &Connection) -> End {
        match connection.round_trip().await {
            Ok(()) => {
                self.confirmed(u64::MAX);
                End::Queue
            }
            Err(_) => End::Connection,
        }
    }

    /// Lets go of a connection that still stands, without letting what follows overtake what it carries.
    async fn hand_over(&mut self, connection: &Connection) -> End {
        if !connection.has_ended()
            && let Ok(Ok(())) = timeout(HEAD_START * 10, connection.round_trip()).await
        {
            self.confirmed(u64::MAX);
            sleep(HEAD_START).await;
        }
        End::Connection
    }

    fn confirmed(&mut self, number: u64) {
        let mut weight = 0;
        while let Some(sent) = self.unconfirmed.pop_front_if(|sent| sent.number <= number) {
            weight += sent.weight;
        }
        self.shared.outbox.release(weight);
    }

    /// Puts the messages into frames and sends them. All of them count as sent even if the connection breaks: they will be sent again.
    async fn write(&mut self, connection: &Connection, batch: &mut Vec<Item>) -> Result<()> {
        let first = self.unconfirmed.len();
        let posts = batch.drain(..).filter_map(|item| self.set_apart(item)).collect();
        self.frame(posts, connection.max_payload().min(FRAME_BYTES));
        for sent in self.unconfirmed.range(first..) {
            send(connection, sent).await?;
        }
        Ok(())
    }

    /// Passes on what is for the history, and returns what is not.
    fn set_apart(&self, item: Item) -> Option<Post> {
        let (now, kept) = match item {
            Item::Now(now) => (Some(now), None),
            Item::Kept(kept) => (None, Some(kept)),
            Item::Both { now, kept } => (Some(now), Some(kept)),
        };
        if let (Some(log), Some(kept)) = (&self.log, kept) {
            // Fails only when the log has ended, which it does after this.
            let _ = log.send(kept);
        }
        now
    }

    /// One frame per run of messages to one subject.
    fn frame(&mut self, posts: Vec<Post>, max_bytes: usize) {
        let mut posts = posts.into_iter().peekable();
        while let Some(Post { subject, message, mut weight }) = posts.next() {
            let mut frame = BatchBuilder::new(self.shared.connector.sender, self.next_number, message.len());
            frame.push(&message);
            let fits =
                |frame: &BatchBuilder, post: &Post| post.subject == subject && frame.fits(&post.message, max_bytes);
            while let Some(post) = posts.next_if(|post| fits(&frame, post)) {
                weight += post.weight;
                frame.push(&post.message);
            }
            self.unconfirmed.push_back(Sent { number: self.next_number, subject, frame: frame.finish(), weight });
            self.next_number += 1;
        }
    }
}

async fn send(connection: &Connection, sent: &Sent) -> Result<()> {
    if sent.frame.len() > connection.max_payload() {
        // It was queued for another server. Trying it would cost the connection, again and again.
        tracing::error!(
            bytes = sent.frame.len(),
            server = connection.server,
            "a message is too large for this server: dropped"
        );
        return Ok(());
    }
    connection.publish(sent.subject.clone(), sent.frame.clone()).await
}

async fn echo(mark: &mut Option<(u64, Mark)>) -> (u64, Result<()>) {
    match mark {
        Some((number, echo)) => (*number, echo.await),
        None => pending().await,
    }
}
