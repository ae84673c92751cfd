//! What the three transports have in common: servers, the queue, and the task that writes it.

use std::{
    fmt,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    runtime::{Handle, Id},
    time::timeout,
};
use trunkline_backend::Outbox;
use trunkline_core::{
    Error, ErrorKind, NodeKey, Result,
    assist::{Assistant, assisted},
    model::{Message, SeqChannel, SeqNo},
    transport::{Health, Sequencer},
};

use crate::{
    config::Config,
    courtesy::{Courtesy, PATIENCE},
    crew::Crew,
    post::{Post, Verb},
    resp::Reply,
    seats::{Member, Seats},
    status::Status,
    task::Task,
    topology::{Servers, slot_of},
    writer::{Clerk, Writer},
};

/// What a message takes in the queue beyond its own bytes.
const OVERHEAD: usize = 128;

/// How long the last messages may take when the transport is closed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Servers, queue and writer of a transport.
#[derive(Debug)]
pub(crate) struct Plumbing {
    pub(crate) servers: Arc<Servers>,
    pub(crate) status: Arc<Status>,
    pub(crate) outbox: Arc<Outbox<Post>>,
    pub(crate) max_message_bytes: usize,
    pub(crate) crew: Crew,
    writing: Task,
    assistant: Assistant,
    courtesy: Courtesy,
    /// Where the tasks run.
    runtime: Id,
}

impl Plumbing {
    /// Begins to write what is queued. A server has just answered.
    pub(crate) fn new(
        config: &Config,
        servers: Arc<Servers>,
        outbox: Arc<Outbox<Post>>,
        clerk: Arc<dyn Clerk>,
    ) -> Self {
        let status = Arc::<Status>::default();
        outbox.set_connected(true);
        status.set_writing(true);
        let writer = Writer {
            outbox: Arc::clone(&outbox),
            servers: Arc::clone(&servers),
            status: Arc::clone(&status),
            clerk,
            max_backoff: config.max_backoff,
        };
        let (writing, assistant) = assisted(writer.run());
        let crew = Crew::new();
        let writing = crew.take_on(writing);
        let max_message_bytes = config.max_message_bytes;
        let courtesy = Courtesy::default();
        let runtime = Handle::current().id();
        Self { servers, status, outbox, max_message_bytes, crew, writing, assistant, courtesy, runtime }
    }

    /// Queues a message for subscribers. `make` gets its number and, for a heartbeat, the counters.
    pub(crate) async fn publish(
        &self,
        from: &NodeKey,
        route: Route,
        mut message: Message,
        bytes: usize,
        make: impl FnOnce(Option<SeqNo>, &[SeqNo]) -> Vec<u8>,
    ) -> Result<()> {
        self.check_size(bytes)?;
        let bytes = bytes + OVERHEAD;
        let from = from.clone();
        let make = move |sequencer: &mut Sequencer| {
            let seq_no = route.numbered.and_then(|channel| sequencer.assign(&from.id, channel, &mut message));
            let payload = make(seq_no, &metrics(sequencer, &from, &message));
            route.post(from, bytes, payload)
        };
        self.queue(bytes, make).await
    }

    /// Queues something that has no number, such as an answer.
    pub(crate) async fn send(&self, from: &NodeKey, route: Route, payload: Vec<u8>) -> Result<()> {
        self.check_size(payload.len())?;
        let bytes = payload.len() + OVERHEAD;
        let from = from.clone();
        self.queue(bytes, move |_| route.post(from, bytes, payload)).await
    }

    /// Queues a message. One that need not wait is written at once; others form a batch while what is before them is on its way.
    pub(crate) async fn queue(&self, bytes: usize, make: impl FnOnce(&mut Sequencer) -> Post) -> Result<()> {
        let push = self.outbox.push(bytes, make);
        match self.outbox.is_idle() || self.status.is_prompt() {
            true => self.assistant.hand_in(push).await,
            false => push.await,
        }
    }

    /// Lets a broker on this machine pass on what was published: see [`courtesy`](crate::courtesy). Other runtimes may have no timers.
    pub(crate) fn step_aside(&self) -> Option<SteppingAside<'_>> {
        let is_possible = self.status.is_near() && self.status.is_connected();
        (is_possible && self.courtesy.is_due() && self.is_at_home()).then(|| {
            Box::pin(async {
                let begun = Instant::now();
                let _ = timeout(PATIENCE, self.outbox.idle()).await;
                // The answer came first, and those to whom the message went want this processor now.
                thread::yield_now();
                self.courtesy.taken(begun.elapsed());
            }) as _
        })
    }

    fn is_at_home(&self) -> bool {
        Handle::try_current().is_ok_and(|current| current.id() == self.runtime)
    }

    /// # Errors
    /// `TooLarge`.
    pub(crate) fn check_size(&self, bytes: usize) -> Result<()> {
        if bytes <= self.max_message_bytes {
            return Ok(());
        }
        let context = format!("{bytes} bytes, allowed are {}", self.max_message_bytes);
        Err(Error::new(ErrorKind::TooLarge, context))
    }

    pub(crate) fn health(&self) -> Health {
        let (_, queued_messages, queued_bytes) = self.outbox.status();
        let (connected, reconnects) = (self.status.is_connected(), self.status.reconnects());
        Health { connected, queued_messages, queued_bytes, reconnects }
    }

    /// Writes what is queued, for a while, and ends.
    pub(crate) async fn close(&self) {
        self.outbox.close();
        let _ = timeout(LAST_WORDS, self.writing.ended()).await;
        self.crew.dismiss().await;
        self.servers.close();
    }
}

/// The counters that a heartbeat tells.
fn metrics(sequencer: &Sequencer, from: &NodeKey, message: &Message) -> Vec<SeqNo> {
    match message {
        Message::Heartbeat(heartbeat) if heartbeat.high_water_marks.is_empty() => {
            sequencer.high_water_marks(&from.id).to_vec()
        }
        Message::Heartbeat(heartbeat) => heartbeat.high_water_marks.clone(),
        _ => Vec::new(),
    }
}

/// Which channel a message takes, and as what it is numbered there.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) sharded: bool,
    pub(crate) channel: Bytes,
    pub(crate) numbered: Option<SeqChannel>,
}

impl Route {
    fn post(self, from: NodeKey, bytes: usize, payload: Vec<u8>) -> Post {
        let slot = self.sharded.then(|| slot_of(&self.channel));
        Post { from, slot, bytes, verb: Verb::Publish { sharded: self.sharded, channel: self.channel, payload } }
    }
}

/// Counts what the server refused.
#[derive(Debug)]
pub(crate) struct Accounts<S, K>(pub(crate) Arc<Seats<S, K>>);

impl<S, K> Clerk for Accounts<S, K>
where
    S: AsRef<Member> + fmt::Debug + Send + Sync + 'static,
    K: Copy + Eq + Hash + fmt::Debug + Send + Sync + 'static,
{
    fn allowance(&self) -> Pin<Box<dyn Future<Output = usize> + Send + '_>> {
        Box::pin(std::future::ready(usize::MAX))
    }

    fn written(&self, post: Post, _: Reply) -> usize {
        post.bytes
    }

    fn refused(&self, post: Post, reason: &str) -> usize {
        count_refused(&self.0, &post, reason);
        post.bytes
    }
}

/// Notes that the server does not take a message.
pub(crate) fn count_refused<S: AsRef<Member>, K: Copy + Eq + Hash>(seats: &Seats<S, K>, post: &Post, reason: &str) {
    tracing::warn!(node = %post.from.id, error = reason, "the server refuses a message");
    if let Some(seat) = seats.get(&post.from) {
        seat.as_ref().as_ref().metrics.publish_errors.increment();
    }
}
