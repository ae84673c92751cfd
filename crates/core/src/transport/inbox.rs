//! The bounded queue from a transport's reader to a node.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use crate::{
    model::{Delivery, NodeMetrics, Overflow, Room},
    transport::{InboxLimits, RoomFilter},
};

/// Makes the two ends of an inbox with these limits; what it drops is counted in `metrics`.
#[must_use]
pub fn inbox(limits: InboxLimits, metrics: Arc<NodeMetrics>) -> (InboxSender, Inbox) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue { limits, metrics, ..Queue::default() }),
        joins: AtomicUsize::new(0),
        filled: Notify::new(),
        emptied: Notify::new(),
    });
    (InboxSender { shared: Arc::clone(&shared) }, Inbox { shared, taken_joins: 0 })
}

/// The transport's end of an inbox. Dropped, it ends the inbox.
#[derive(Debug)]
pub struct InboxSender {
    shared: Arc<Shared>,
}

impl InboxSender {
    /// Hands over a batch without ever waiting. If there is room when it comes it is taken whole, so that a reader that
    /// has waited for room loses nothing of it: the limits are exceeded by one batch at most. If there is none, its
    /// messages are dropped, counted and become one [`Delivery::Overflow`] in their place. Returns `false` once the
    /// inbox is gone.
    pub fn push(&self, batch: impl IntoIterator<Item = Delivery>) -> bool {
        self.push_part(batch, None)
    }

    /// As [`InboxSender::push`], for a batch that comes in parts: `had_room` tells whether there was room when the
    /// first one came.
    pub fn push_part(&self, batch: impl IntoIterator<Item = Delivery>, had_room: Option<bool>) -> bool {
        let mut queue = self.shared.lock();
        let had_deliveries = !queue.deliveries.is_empty();
        let has_room = had_room.unwrap_or_else(|| !queue.is_full());
        for delivery in batch {
            let is_join = delivery.is_join();
            if queue.push(delivery, has_room) && is_join {
                queue.joins += 1;
                self.shared.joins.fetch_add(1, Ordering::Release);
            }
        }
        let open = !queue.closed;
        let wakes = queue.is_urgent || !had_deliveries && !queue.deliveries.is_empty();
        drop(queue);
        if wakes {
            self.shared.filled.notify_one();
        }
        open
    }

    /// As [`InboxSender::push`], but first waits until the inbox is below its limits. For transports whose broker holds
    /// messages meanwhile. *Cancel safety*: dropped before it returns, nothing was handed over.
    pub async fn push_when_ready(&self, batch: impl IntoIterator<Item = Delivery>) -> bool {
        self.ready().await;
        self.push(batch)
    }

    /// Whether a room may have members by the time a message for it is delivered: a join that is still in the inbox may
    /// change what `wanted` says now. To be called after everything before the message was pushed; within the batch
    /// that is pushed, lazily.
    #[must_use]
    pub fn may_have_members(&self, wanted: &dyn RoomFilter, room: &Room) -> bool {
        self.shared.joins.load(Ordering::Acquire) > 0 || wanted.may_have_members(room)
    }

    /// Waits until the inbox is below its limits, or gone. *Cancel safe.*
    pub async fn ready(&self) {
        loop {
            let emptied = self.shared.emptied.notified();
            if !self.is_full() {
                return;
            }
            emptied.await;
        }
    }

    /// Whether what is pushed now would be dropped.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let queue = self.shared.lock();
        !queue.closed && queue.is_full()
    }

    /// Whether the receiving end is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }
}

impl Drop for InboxSender {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.filled.notify_one();
    }
}

/// A node's end of an inbox.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
    /// Number of joins in the batch that was taken last, which may not be applied yet.
    taken_joins: usize,
}

impl Inbox {
    /// Waits for deliveries and moves all that are there into `batch`, in order. Returns `false` when the transport has
    /// ended it and nothing is left. *Cancel safe*: nothing is lost when dropped.
    ///
    /// Numbers of messages for others ([`Delivery::Skipped`]) wait for up to 50 ms, or until there are 256 of them: a
    /// node that serves nothing of what it hears is not woken for each message. They keep their place in the order.
    ///
    /// To be called when the batch before has been applied.
    pub async fn next_batch(&mut self, batch: &mut VecDeque<Delivery>) -> bool {
        self.shared.joins.fetch_sub(std::mem::take(&mut self.taken_joins), Ordering::Release);
        // At first, what is there is taken: something else has woken the node.
        let mut takes_numbers = true;
        loop {
            let filled = self.shared.filled.notified();
            let has_numbers = {
                let mut queue = self.shared.lock();
                if queue.is_urgent || (takes_numbers && !queue.deliveries.is_empty()) {
                    queue.take(batch);
                    self.taken_joins = std::mem::take(&mut queue.joins);
                    drop(queue);
                    self.shared.emptied.notify_waiters();
                    return true;
                }
                if queue.ended && queue.deliveries.is_empty() {
                    return false;
                }
                !queue.deliveries.is_empty()
            };
            if has_numbers {
                takes_numbers = timeout(NUMBERS_WAIT, filled).await.is_err();
            } else {
                filled.await;
                takes_numbers = false;
            }
        }
    }

    /// Number of deliveries that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lock().deliveries.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        queue.deliveries.clear();
        drop(queue);
        self.shared.emptied.notify_waiters();
    }
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Number of joins in the queue and in the batch that was taken last.
    joins: AtomicUsize,
    filled: Notify,
    emptied: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code panics while it holds the lock, and the queue is valid after each step.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Queue {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    joins: usize,
    /// Whether there is more than a few numbers of messages for others.
    is_urgent: bool,
    limits: InboxLimits,
    metrics: Arc<NodeMetrics>,
    /// The receiver is gone.
    closed: bool,
    /// The sender is gone.
    ended: bool,
}

impl Queue {
    fn is_full(&self) -> bool {
        self.deliveries.len() >= self.limits.messages || self.bytes >= self.limits.bytes
    }

    /// Returns whether the delivery has its place.
    fn push(&mut self, delivery: Delivery, has_room: bool) -> bool {
        if self.closed {
            return false;
        }
        let has_room = has_room || (delivery.is_presence() && self.has_reserve());
        if delivery.is_droppable() && !has_room {
            self.overflow(delivery);
            return false;
        }
        if delivery.is_answer()
            && !has_room
            && self.deliveries.len() >= self.limits.messages.saturating_add(MAX_ANSWERS)
        {
            self.metrics.inbox_overflow.increment();
            return false;
        }
        let is_number = matches!(delivery, Delivery::Skipped { seq_no: Some(_), .. });
        self.bytes += delivery.weight();
        self.deliveries.push_back(delivery);
        self.is_urgent |= !is_number || self.deliveries.len() >= MOST_NUMBERS || self.is_full();
        true
    }

    /// Whether there is room for heartbeats and leaves.
    fn has_reserve(&self) -> bool {
        self.deliveries.len() < self.limits.messages.saturating_mul(2)
    }

    fn overflow(&mut self, delivery: Delivery) {
        let (from, seq_no, lost) = match delivery {
            Delivery::Message { from, seq_no, message, .. } => (from, seq_no, message.is_numbered()),
            Delivery::Skipped { from, seq_no } => (Some(from), seq_no, false),
            _ => return,
        };
        if lost {
            self.metrics.inbox_overflow.increment();
        }
        if let Some(Delivery::Overflow(overflow)) = self.deliveries.back_mut() {
            overflow.add(from, seq_no, lost);
        } else {
            let mut overflow = Overflow::default();
            overflow.add(from, seq_no, lost);
            self.deliveries.push_back(Delivery::Overflow(overflow));
            self.is_urgent = true;
        }
    }

    fn take(&mut self, batch: &mut VecDeque<Delivery>) {
        self.bytes = 0;
        self.is_urgent = false;
        if batch.is_empty() {
            std::mem::swap(batch, &mut self.deliveries);
        } else {
            batch.append(&mut self.deliveries);
        }
    }
}

/// Numbers of messages for others that wake the node.
const MOST_NUMBERS: usize = 256;

/// Time for which fewer numbers wait.
const NUMBERS_WAIT: Duration = Duration::from_millis(50);

/// Answers that a full inbox takes all the same: they are few, unless a peer floods this node. A request that misses
/// one says whose.
const MAX_ANSWERS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Answer, Dropped, MAX_DROPPED, Message, NodeId, RequestId, Response, SeqChannel, SeqNo, Target};

    fn skipped(number: u64) -> Delivery {
        Delivery::Skipped { from: NodeId::new("a").unwrap(), seq_no: Some(SeqNo { channel: SeqChannel::ALL, number }) }
    }

    fn message() -> Delivery {
        let message = Message::Leave { target: Target::all(), rooms: Vec::new() };
        Delivery::Message { from: None, seq_no: None, offset: None, message }
    }

    #[tokio::test]
    async fn what_does_not_fit_becomes_one_overflow_in_its_place() {
        let metrics = Arc::new(NodeMetrics::default());
        let (sender, mut inbox) = inbox(InboxLimits { messages: 2, bytes: 1 << 20 }, Arc::clone(&metrics));
        sender.push([message()]);
        sender.push([message()]);
        sender.push([message(), skipped(7)]);
        sender.push([skipped(8), message(), Delivery::Connected]);
        let mut batch = VecDeque::new();
        assert!(inbox.next_batch(&mut batch).await);
        let expected = Overflow {
            missed: 2,
            dropped: vec![Dropped {
                from: NodeId::new("a").unwrap(),
                last: SeqNo { channel: SeqChannel::ALL, number: 8 },
                count: 2,
                missed: 0,
            }],
        };
        assert_eq!(batch, [message(), message(), Delivery::Overflow(expected), Delivery::Connected]);
        assert_eq!(metrics.snapshot().inbox_overflow, 2);
    }

    #[tokio::test]
    async fn a_full_inbox_has_a_reserve_for_signs_of_life() {
        let leave = || Delivery::Message { from: None, seq_no: None, offset: None, message: Message::Leaving };
        let (sender, mut inbox) = inbox(InboxLimits { messages: 1, bytes: 1 << 20 }, Arc::default());
        sender.push([message()]);
        sender.push([leave(), leave()]);
        let mut batch = VecDeque::new();
        assert!(inbox.next_batch(&mut batch).await);
        assert_eq!(batch, [message(), leave(), Delivery::Overflow(Overflow::default())]);
    }

    #[test]
    fn a_flood_is_bounded_whatever_it_consists_of() {
        let (sender, inbox) = inbox(InboxLimits { messages: 1, bytes: 1 << 20 }, Arc::default());
        let response = Response { request: RequestId::new("r").unwrap(), answer: Answer::ClientCount(1) };
        for number in 0..2 * MAX_ANSWERS {
            sender.push([Delivery::Response { from: None, response: response.clone() }]);
            if number < 2 * MAX_DROPPED {
                let from = NodeId::new(number.to_string()).unwrap();
                sender.push([Delivery::Skipped { from, seq_no: Some(SeqNo { channel: SeqChannel::ALL, number: 1 }) }]);
            }
        }
        assert!(inbox.len() <= MAX_ANSWERS + 1, "{}", inbox.len());
    }

    #[tokio::test]
    async fn a_batch_for_which_there_was_room_is_taken_whole() {
        let metrics = Arc::new(NodeMetrics::default());
        let (sender, mut inbox) = inbox(InboxLimits { messages: 2, bytes: 1 << 20 }, Arc::clone(&metrics));
        for _ in 0..3 {
            sender.ready().await;
            assert!(sender.push((0..5).map(|_| message())));
            let mut batch = VecDeque::new();
            assert!(inbox.next_batch(&mut batch).await);
            assert_eq!(batch.len(), 5);
        }
        assert_eq!(metrics.snapshot().inbox_overflow, 0);
    }

    #[tokio::test]
    async fn a_waiting_sender_goes_on_when_the_batch_was_taken() {
        let (sender, mut inbox) = inbox(InboxLimits { messages: 1, bytes: 1 << 20 }, Arc::default());
        sender.push([message()]);
        let second = tokio::spawn(async move { sender.push_when_ready([Delivery::Connected]).await });
        let mut batch = VecDeque::new();
        assert!(inbox.next_batch(&mut batch).await);
        assert!(second.await.unwrap());
        assert!(inbox.next_batch(&mut batch).await);
        assert_eq!(batch, [message(), Delivery::Connected]);
        assert!(!inbox.next_batch(&mut batch).await, "the sender is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_of_messages_for_others_wait_for_more_or_for_anything_else() {
        let (sender, mut inbox) = inbox(InboxLimits::default(), Arc::default());
        let started = tokio::time::Instant::now();
        let reader = tokio::spawn(async move {
            let mut batches = Vec::new();
            let mut batch = VecDeque::new();
            while inbox.next_batch(&mut batch).await {
                batches.push((started.elapsed(), batch.len(), batch.back() == Some(&Delivery::Connected)));
                batch.clear();
            }
            batches
        });
        // The clock is simulated, and moves only here.
        let a_millisecond_passes = async || {
            tokio::time::advance(Duration::from_millis(1)).await;
            tokio::task::yield_now().await;
        };
        for number in 1..=20 {
            a_millisecond_passes().await;
            sender.push([skipped(number)]);
        }
        for _ in 0..NUMBERS_WAIT.as_millis() {
            a_millisecond_passes().await;
        }
        for delivery in [skipped(21), skipped(22), Delivery::Connected] {
            a_millisecond_passes().await;
            sender.push([delivery]);
        }
        for number in 23..23 + MOST_NUMBERS as u64 {
            tokio::task::yield_now().await;
            sender.push([skipped(number)]);
        }
        tokio::task::yield_now().await;
        a_millisecond_passes().await;
        drop(sender);
        // The first number waited for as long as it may (it was read a millisecond later), the next ones until something
        // else came, the last for enough.
        let at = Duration::from_millis;
        assert_eq!(reader.await.unwrap(), [(at(52), 20, false), (at(73), 3, true), (at(73), MOST_NUMBERS, false)]);
    }

    #[tokio::test]
    async fn every_room_is_wanted_until_a_join_was_applied() {
        #[derive(Debug)]
        struct Nothing;
        impl RoomFilter for Nothing {
            fn may_have_members(&self, _: &Room) -> bool {
                false
            }
        }
        let (sender, mut inbox) = inbox(InboxLimits { messages: 2, bytes: 1 << 20 }, Arc::default());
        let join = || Delivery::Message {
            from: None,
            seq_no: None,
            offset: None,
            message: Message::Join { target: Target::all(), rooms: vec!["x".into()] },
        };
        let wants = || sender.may_have_members(&Nothing, &"x".into());
        assert!(!wants());
        sender.push([join(), join()]);
        // It does not fit, and will not be applied.
        sender.push([join()]);
        let mut batch = VecDeque::new();
        inbox.next_batch(&mut batch).await;
        assert!(wants(), "taken is not yet applied");
        sender.push([message()]);
        inbox.next_batch(&mut batch).await;
        assert!(!wants());
    }

    #[test]
    fn a_sender_learns_that_the_inbox_is_gone() {
        let (sender, inbox) = inbox(InboxLimits::default(), Arc::default());
        assert!(sender.push([message()]));
        drop(inbox);
        assert!(!sender.push([message()]));
        assert!(sender.is_closed());
    }
}
