//! [`Outbox`]: the bounded queue between publishers and a transport's writer.

mod flush;
mod own_copy;

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

use trunkline_core::{
    error::{Error, ErrorKind, Result},
    model::{NodeId, SeqChannel, SeqNo},
    transport::{Health, Sequencer},
};

pub use self::own_copy::own_copy;

/// Bounds of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxLimits {
    /// Bytes that may wait, or be on their way unconfirmed. Default 64 MiB.
    pub bytes: usize,
    /// How long a publish waits for room while the broker is connected but takes nothing. Default 5 s.
    pub push_timeout: Duration,
}

impl OutboxLimits {
    /// Bounds of `bytes`, for which a publish waits up to `push_timeout`.
    #[must_use]
    pub const fn new(bytes: usize, push_timeout: Duration) -> Self {
        Self { bytes, push_timeout }
    }
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { bytes: 64 << 20, push_timeout: Duration::from_secs(5) }
    }
}

/// A queue of encoded messages, bounded in bytes. Its order is the order on the wire.
///
/// The writer takes everything that is queued at once: batches form while earlier ones are on their way, and a lone
/// message leaves at once. While the broker is away messages are held; when the queue is full then, publishing fails at
/// once.
#[derive(Debug)]
pub struct Outbox<T> {
    state: Mutex<State<T>>,
    limits: OutboxLimits,
    filled: Notify,
    emptied: Notify,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<Item<T>>,
    /// Bytes of the items and of those taken but not released.
    bytes: usize,
    /// Bytes released since the outbox was made.
    released: u64,
    /// Messages that the broker refused.
    refused: u64,
    /// Why the last one.
    refusal: Option<String>,
    connected: bool,
    closed: bool,
    sequencer: Sequencer,
}

/// A queued message.
#[derive(Debug)]
struct Item<T> {
    bytes: usize,
    queued_at: Instant,
    message: T,
}

impl<T> Outbox<T> {
    /// Empty outbox of a broker that is not connected yet.
    #[must_use]
    pub fn new(limits: OutboxLimits) -> Self {
        let state = State {
            items: VecDeque::new(),
            bytes: 0,
            released: 0,
            refused: 0,
            refusal: None,
            connected: false,
            closed: false,
            sequencer: Sequencer::default(),
        };
        Self { state: Mutex::new(state), limits, filled: Notify::new(), emptied: Notify::new() }
    }

    /// Queues an encoded message of `from`, which `make` completes once it has its place: it gets the message's number
    /// on `channel` or, for a message that takes none, the high-water marks of `from`, which a heartbeat carries.
    ///
    /// Numbers are assigned under the queue's lock, in the order of the queue: a receiver would take a number that
    /// arrives behind a higher one for a repeat. Keep `make` short.
    ///
    /// An item that alone exceeds the limit is accepted by an empty queue, so that the limit bounds memory and not
    /// messages.
    ///
    /// *Cancel safety*: dropped before it returns, nothing was queued.
    ///
    /// # Errors
    /// `QueueFull` at once with the broker away, after [`OutboxLimits::push_timeout`] otherwise; `Closed`.
    pub async fn push_message(
        &self,
        from: &NodeId,
        channel: Option<SeqChannel>,
        bytes: usize,
        make: impl FnOnce(Option<SeqNo>, &[SeqNo]) -> T,
    ) -> Result<()> {
        self.push(bytes, |sequencer| numbered(sequencer, from, channel, make)).await
    }

    /// As [`Outbox::push_message`] without waiting. Returns `false` if the queue is full for the moment and the broker
    /// connected.
    ///
    /// # Errors
    /// `QueueFull` with the broker away, `Closed`.
    pub fn try_push_message(
        &self,
        from: &NodeId,
        channel: Option<SeqChannel>,
        bytes: usize,
        make: impl FnOnce(Option<SeqNo>, &[SeqNo]) -> T,
    ) -> Result<bool> {
        self.try_push(bytes, |sequencer| numbered(sequencer, from, channel, make))
    }

    /// As [`Outbox::push_message`], for items that take numbers of several senders: `make` takes them from the
    /// sequencer.
    ///
    /// # Errors
    /// As [`Outbox::push_message`].
    pub async fn push(&self, bytes: usize, make: impl FnOnce(&mut Sequencer) -> T) -> Result<()> {
        let mut make = Some(make);
        if self.push_if_room(bytes, &mut make)? {
            return Ok(());
        }
        let room = async {
            loop {
                let emptied = self.emptied.notified();
                if self.push_if_room(bytes, &mut make)? {
                    return Ok(());
                }
                emptied.await;
            }
        };
        timeout(self.limits.push_timeout, room).await.unwrap_or_else(|_| Err(self.full()))
    }

    /// As [`Outbox::push`] without waiting. Returns `false` if the queue is full for the moment and the broker
    /// connected.
    ///
    /// # Errors
    /// `QueueFull` with the broker away, `Closed`.
    pub fn try_push(&self, bytes: usize, make: impl FnOnce(&mut Sequencer) -> T) -> Result<bool> {
        self.push_if_room(bytes, &mut Some(make))
    }

    fn push_if_room(&self, bytes: usize, make: &mut Option<impl FnOnce(&mut Sequencer) -> T>) -> Result<bool> {
        let mut state = self.lock();
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the transport was closed"));
        }
        if state.bytes > 0 && state.bytes.saturating_add(bytes) > self.limits.bytes {
            let connected = state.connected;
            drop(state);
            return if connected { Ok(false) } else { Err(self.full()) };
        }
        if let Some(make) = make.take() {
            let message = make(&mut state.sequencer);
            state.items.push_back(Item { bytes, queued_at: Instant::now(), message });
            state.bytes += bytes;
        }
        drop(state);
        self.filled.notify_one();
        Ok(true)
    }

    fn full(&self) -> Error {
        let state = self.lock();
        let away = if state.connected { "" } else { " and the broker is away" };
        let context = format!("{} bytes wait, allowed are {}{away}", state.bytes, self.limits.bytes);
        Error::new(ErrorKind::QueueFull, context)
    }

    /// Waits for items and moves all that are queued, up to `max_bytes` but at least one, into `batch`. Returns their
    /// bytes, which stay accounted for until [`Outbox::release`]; `None` once closed and empty. *Cancel safe.*
    pub async fn take(&self, batch: &mut Vec<T>, max_bytes: usize) -> Option<usize> {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.lock();
                if !state.items.is_empty() {
                    return Some(state.take(batch, max_bytes));
                }
                if state.closed {
                    return None;
                }
            }
            filled.await;
        }
    }

    /// Notes that taken items of so many bytes have been written, or given up.
    pub fn release(&self, bytes: usize) {
        let mut state = self.lock();
        let bytes = bytes.min(state.bytes);
        state.bytes -= bytes;
        state.released += bytes as u64;
        drop(state);
        self.emptied.notify_waiters();
    }

    /// Counts messages that the broker refused for good, for the [health](Outbox::add_to). A reason is logged once,
    /// until another one comes. They are [released](Outbox::release) as all others.
    pub fn refused(&self, messages: u64, reason: &str) {
        let mut state = self.lock();
        state.refused += messages;
        let is_new = state.refusal.as_deref() != Some(reason);
        if is_new {
            state.refusal = Some(reason.to_owned());
        }
        drop(state);
        if is_new {
            tracing::warn!(messages, reason, "the broker refuses messages, which are lost");
        } else {
            tracing::debug!(messages, reason, "the broker refuses messages, which are lost");
        }
    }

    /// Notes whether the broker can be reached.
    pub fn set_connected(&self, connected: bool) {
        self.lock().connected = connected;
        self.emptied.notify_waiters();
    }

    /// Accepts nothing more; what is queued can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// Whether the broker can be reached, how many items wait, and the bytes of those and the unreleased ones.
    #[must_use]
    pub fn status(&self) -> (bool, usize, usize) {
        let state = self.lock();
        (state.connected, state.items.len(), state.bytes)
    }

    /// Adds what is queued, and what was refused, to the health of a transport.
    #[must_use]
    pub fn add_to(&self, health: Health) -> Health {
        let state = self.lock();
        health
            .with_queued_messages(state.items.len())
            .with_queued_bytes(state.bytes)
            .with_oldest_queued(state.items.front().map(|item| item.queued_at.elapsed()))
            .with_refused(state.refused, state.refusal.clone())
    }

    /// Drops the numbers of a node that left. Not for ids that come back: their numbers go on.
    pub fn forget(&self, node: &NodeId) {
        self.lock().sequencer.forget(node);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // The state is valid after each step, even if `make` panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Outbox<T> {
    /// The writer is gone: what is left is lost.
    fn drop(&mut self) {
        let (_, messages, bytes) = self.status();
        if bytes > 0 {
            tracing::warn!(
                messages,
                bytes,
                "messages are left behind, or not confirmed: the last thing to be awaited is `close` or `flush`"
            );
        }
    }
}

/// Completes a message with its number, or with the last numbers of its sender.
fn numbered<T>(
    sequencer: &mut Sequencer,
    from: &NodeId,
    channel: Option<SeqChannel>,
    make: impl FnOnce(Option<SeqNo>, &[SeqNo]) -> T,
) -> T {
    match channel {
        Some(channel) => make(Some(sequencer.next(from, channel)), &[]),
        None => make(None, sequencer.high_water_marks(from)),
    }
}

impl<T> State<T> {
    fn take(&mut self, batch: &mut Vec<T>, max_bytes: usize) -> usize {
        let mut taken = 0;
        while let Some(next) = self.items.front() {
            if taken > 0 && taken + next.bytes > max_bytes {
                break;
            }
            let Some(item) = self.items.pop_front() else { break };
            taken += item.bytes;
            batch.push(item.message);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::warnings::Warnings;
    use trunkline_core::{model::Message, payload::Payload};

    pub(super) fn outbox(bytes: usize) -> Arc<Outbox<u64>> {
        let outbox = Outbox::new(OutboxLimits::new(bytes, Duration::from_secs(1)));
        outbox.set_connected(true);
        Arc::new(outbox)
    }

    #[tokio::test]
    async fn numbers_follow_the_order_of_the_queue() {
        let outbox = outbox(1 << 20);
        let node = NodeId::new("a").unwrap();
        for _ in 0..3 {
            outbox.push(1, |sequencer| sequencer.next(&node, SeqChannel::ALL).number).await.unwrap();
        }
        let mut batch = Vec::new();
        assert_eq!(outbox.take(&mut batch, usize::MAX).await, Some(3));
        assert_eq!(batch, [1, 2, 3]);
    }

    #[test]
    fn what_is_left_behind_is_said_once() {
        let left = Outbox::new(OutboxLimits::default());
        left.try_push(5, |_| 1).unwrap();
        let warnings = Warnings::of(|| drop(left));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("messages=1 bytes=5"), "{warnings:?}");
        let done = Outbox::new(OutboxLimits::default());
        done.try_push(5, |_| 1).unwrap();
        done.release(5);
        assert_eq!(Warnings::of(|| drop(done)), [""; 0]);
    }

    #[test]
    fn what_the_broker_refuses_is_counted_and_said_once_for_each_reason() {
        let outbox = Outbox::<u64>::new(OutboxLimits::default());
        let warnings = Warnings::of(|| {
            for reason in ["full", "full", "forbidden", "forbidden"] {
                outbox.refused(2, reason);
            }
        });
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        let health = outbox.add_to(Health::default());
        assert_eq!((health.refused_messages, health.refusal.as_deref()), (8, Some("forbidden")));
    }

    #[tokio::test]
    async fn the_numbers_of_a_node_go_on_while_it_leaves() {
        let outbox = outbox(1 << 20);
        let node = NodeId::new("a").unwrap();
        let mut seq_nos = Vec::new();
        for leaves in [false, true] {
            let mut emit = Message::ServerSideEmit { request: None, payload: Payload::event("x", &()).unwrap() };
            let seq_nos = &mut seq_nos;
            let number = |sequencer: &mut Sequencer| {
                seq_nos.push(sequencer.assign(&node, SeqChannel::ALL, &mut emit));
                0
            };
            outbox.push(1, number).await.unwrap();
            if !leaves {
                outbox.forget(&node);
            }
        }
        assert_eq!(seq_nos, [1, 2].map(|number| Some(SeqNo { channel: SeqChannel::ALL, number })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_waits_while_connected_and_fails_when_nothing_moves() {
        let outbox = outbox(10);
        outbox.push(10, |_| 0).await.unwrap();
        let error = outbox.push(1, |_| 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueFull);
        let waiting = tokio::spawn({
            let outbox = Arc::clone(&outbox);
            async move { outbox.push(1, |_| 2).await }
        });
        tokio::task::yield_now().await;
        let mut batch = Vec::new();
        let bytes = outbox.take(&mut batch, usize::MAX).await.unwrap();
        assert!(!waiting.is_finished(), "taken is not yet written");
        outbox.release(bytes);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn with_the_broker_away_a_full_queue_is_an_error_at_once() {
        let outbox = outbox(10);
        outbox.set_connected(false);
        outbox.push(10, |_| 0).await.unwrap();
        let error = outbox.push(1, |_| 1).await.unwrap_err();
        assert!(error.to_string().contains("broker is away"), "{error}");
        assert!(error.is_retryable());
    }

    #[tokio::test]
    async fn a_closed_queue_hands_out_what_it_holds_and_ends() {
        let outbox = outbox(10);
        outbox.push(1, |_| 7).await.unwrap();
        outbox.close();
        assert_eq!(outbox.push(1, |_| 8).await.unwrap_err().kind(), ErrorKind::Closed);
        let mut batch = Vec::new();
        assert_eq!(outbox.take(&mut batch, 1).await, Some(1));
        assert_eq!(outbox.take(&mut batch, 1).await, None);
    }

    #[tokio::test]
    async fn the_health_tells_the_age_of_the_oldest_message() {
        let outbox = outbox(10);
        assert_eq!(outbox.add_to(Health::default()).oldest_queued, None);
        outbox.push(1, |_| 1).await.unwrap();
        let first = outbox.add_to(Health::default()).oldest_queued.unwrap();
        outbox.push(1, |_| 2).await.unwrap();
        assert!(outbox.add_to(Health::default()).oldest_queued.unwrap() >= first);
        outbox.take(&mut Vec::new(), usize::MAX).await.unwrap();
        assert_eq!(outbox.add_to(Health::default()).oldest_queued, None);
    }

    #[tokio::test]
    async fn an_oversized_item_goes_alone() {
        let outbox = outbox(10);
        outbox.push(100, |_| 0).await.unwrap();
        let mut batch = Vec::new();
        assert_eq!(outbox.take(&mut batch, 10).await, Some(100));
    }
}
