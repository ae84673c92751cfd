//! Several subscriptions of one connection as one stream, in the order of each sender.
//!
//! The client hands every subscription its messages through a queue of its own, and which queue is looked at first says
//! nothing about what arrived first. But it fills the queues in the order of arrival, from one task. So once a message
//! was seen and *then* all queues were found empty, everything that arrived before it was seen too; what is left is to
//! sort by the numbers that senders give their batches.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{Stream, task::AtomicWaker};
use trunkline_backend::batch::ConnectionId;

/// An item that its sender may have numbered.
pub(crate) trait Numbered {
    /// The sender and the number among everything of that sender; `None` if the sender does not number.
    fn number(&self) -> Option<(ConnectionId, u64)>;
}

/// Streams that are read as one. Each has a key, given when it was added.
#[derive(Debug)]
pub(crate) struct Merge<S> {
    streams: HashMap<usize, (S, Arc<Flag>)>,
    next: usize,
    ready: Arc<Ready>,
}

impl<S: Stream + Unpin> Merge<S> {
    pub(crate) fn new() -> Self {
        Self { streams: HashMap::new(), next: 0, ready: Arc::default() }
    }

    /// Adds a stream and returns its key.
    pub(crate) fn insert(&mut self, stream: S) -> usize {
        let key = self.next;
        self.next += 1;
        let flag = Arc::new(Flag { key, queued: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        self.streams.insert(key, (stream, Arc::clone(&flag)));
        flag.wake();
        key
    }

    pub(crate) fn remove(&mut self, key: usize) -> Option<S> {
        self.streams.remove(&key).map(|(stream, _)| stream)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Takes everything that is there, as one batch per stream; ready when there is something, or when a stream has
    /// ended, which removes it.
    ///
    /// To be polled without Tokio's budget for cooperation: with it, streams may look empty that are not.
    pub(crate) fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Vec<Vec<S::Item>>> {
        self.ready.task.register(cx.waker());
        let mut batches: BTreeMap<usize, Vec<S::Item>> = BTreeMap::new();
        let mut ended = false;
        // Taking a message is many times faster than receiving one, so this ends.
        while let Some(key) = self.ready.next() {
            let Some((stream, flag)) = self.streams.get_mut(&key) else { continue };
            flag.queued.store(false, Ordering::Release);
            let waker = Waker::from(Arc::clone(flag));
            let mut cx = Context::from_waker(&waker);
            loop {
                match Pin::new(&mut *stream).poll_next(&mut cx) {
                    Poll::Ready(Some(item)) => batches.entry(key).or_default().push(item),
                    Poll::Ready(None) => {
                        ended = true;
                        self.streams.remove(&key);
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
        if batches.is_empty() && !ended {
            return Poll::Pending;
        }
        Poll::Ready(batches.into_values().collect())
    }
}

/// Which streams may have something.
#[derive(Debug, Default)]
struct Ready {
    keys: Mutex<VecDeque<usize>>,
    task: AtomicWaker,
}

impl Ready {
    fn next(&self) -> Option<usize> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Woken when one stream has something.
#[derive(Debug)]
struct Flag {
    key: usize,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.keys.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.key);
            self.ready.task.wake();
        }
    }
}

/// Brings batches, each in its own order, into one order that keeps theirs and that of the numbers of each sender.
///
/// Repeats within a batch are dropped: they would contradict the order.
pub(crate) fn in_order<T: Numbered>(mut batches: Vec<Vec<T>>) -> Vec<T> {
    batches.iter_mut().for_each(drop_repeats);
    if batches.len() == 1 {
        return batches.pop().unwrap_or_default();
    }
    let mut remaining = RemainingNumbers::of(&batches);
    let mut ordered = Vec::with_capacity(batches.iter().map(Vec::len).sum());
    let mut queues: VecDeque<_> = batches.into_iter().map(|batch| batch.into_iter().peekable()).collect();
    let mut blocked = 0;
    while let Some(mut queue) = queues.pop_front() {
        let may_go_first = blocked > queues.len();
        let before = ordered.len();
        while let Some(item) =
            queue.next_if(|item| remaining.is_next(item) || (may_go_first && ordered.len() == before))
        {
            remaining.remove(&item);
            ordered.push(item);
        }
        blocked = if ordered.len() > before { 0 } else { blocked + 1 };
        if queue.peek().is_some() {
            queues.push_back(queue);
        }
    }
    ordered
}

/// Drops what comes after a higher number of its sender: it was sent again when a connection broke.
fn drop_repeats<T: Numbered>(batch: &mut Vec<T>) {
    let mut last: HashMap<ConnectionId, u64> = HashMap::new();
    batch.retain(|item| {
        let Some((sender, number)) = item.number() else { return true };
        let last = last.entry(sender).or_default();
        let is_new = number > *last;
        *last = number.max(*last);
        is_new
    });
}

/// The numbers of each sender that are still to come.
struct RemainingNumbers(HashMap<ConnectionId, BTreeMap<u64, usize>>);

impl RemainingNumbers {
    fn of<T: Numbered>(batches: &[Vec<T>]) -> Self {
        let mut senders: HashMap<ConnectionId, BTreeMap<u64, usize>> = HashMap::new();
        for (sender, number) in batches.iter().flatten().filter_map(T::number) {
            *senders.entry(sender).or_default().entry(number).or_default() += 1;
        }
        Self(senders)
    }

    /// Whether no other item of its sender comes before.
    fn is_next<T: Numbered>(&self, item: &T) -> bool {
        let Some((sender, number)) = item.number() else { return true };
        self.0.get(&sender).and_then(BTreeMap::first_key_value).is_none_or(|(first, _)| number <= *first)
    }

    fn remove<T: Numbered>(&mut self, item: &T) {
        let Some((sender, number)) = item.number() else { return };
        let Some(numbers) = self.0.get_mut(&sender) else { return };
        if let Some(count) = numbers.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                numbers.remove(&number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{sync::mpsc, task::unconstrained};

    use super::*;

    type Item = (ConnectionId, u64);

    impl Numbered for Item {
        fn number(&self) -> Option<(ConnectionId, u64)> {
            (self.1 > 0).then_some(*self)
        }
    }

    /// What three senders sent, with holes.
    fn arrivals(random: &mut Random) -> Vec<Item> {
        let mut senders = [(); 3].map(|()| (ConnectionId::random(), 0));
        let arrivals = (0..100).map(|_| {
            let (sender, number) = &mut senders[random.below(3)];
            *number += 1 + random.below(3) as u64;
            (*sender, *number)
        });
        arrivals.collect()
    }

    #[test]
    fn the_order_of_each_sender_and_of_each_batch_is_kept() {
        for seed in 1..=200 {
            let mut random = Random(seed);
            let arrived = arrivals(&mut random);
            let mut batches = vec![Vec::new(); 5];
            for item in &arrived {
                batches[random.below(5)].push(*item);
            }
            let ordered = in_order(batches.clone());
            assert_eq!(ordered.len(), arrived.len());
            let of = |sender, items: &[Item]| items.iter().filter(|item| item.0 == sender).copied().collect::<Vec<_>>();
            for (sender, _) in &arrived {
                assert_eq!(of(*sender, &ordered), of(*sender, &arrived), "seed {seed}");
            }
            for batch in &batches {
                let positions: Vec<_> =
                    batch.iter().map(|item| ordered.iter().position(|other| other == item)).collect();
                assert!(positions.is_sorted(), "seed {seed}");
            }
        }
    }

    #[test]
    fn resent_items_do_not_disturb_the_order() {
        let a = ConnectionId::random();
        let ordered = in_order(vec![vec![(a, 5), (a, 6), (a, 8), (a, 5), (a, 6), (a, 8)], vec![(a, 7), (a, 7)]]);
        assert_eq!(ordered, [5, 6, 7, 8].map(|number| (a, number)));
    }

    #[test]
    fn items_without_a_number_do_not_wait_for_others() {
        let (a, b) = (ConnectionId::random(), ConnectionId::random());
        assert_eq!(in_order(vec![vec![(a, 0)], vec![(b, 1), (a, 0)]]).len(), 3);
        assert!(in_order::<Item>(Vec::new()).is_empty());
    }

    struct Received(mpsc::Receiver<u32>);

    impl Stream for Received {
        type Item = u32;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
            self.0.poll_recv(cx)
        }
    }

    #[tokio::test]
    async fn everything_that_is_there_is_taken_and_ended_streams_are_dropped() {
        let mut merge = Merge::new();
        let (a, from_a) = mpsc::channel(1000);
        let (b, from_b) = mpsc::channel(1000);
        let (c, from_c) = mpsc::channel(1000);
        for receiver in [from_a, from_b, from_c] {
            merge.insert(Received(receiver));
        }
        let mut all = async || unconstrained(poll_fn(|cx| merge.poll_all(cx))).await;
        for number in 0..500 {
            a.send(number).await.unwrap();
            c.send(number).await.unwrap();
        }
        let expected: Vec<_> = (0..500).collect();
        assert_eq!(all().await, [expected.clone(), expected]);
        drop(b);
        assert!(all().await.is_empty());
        a.send(7).await.unwrap();
        assert_eq!(all().await, [vec![7]]);
        drop((a, c));
        assert!(all().await.is_empty());
        assert!(merge.is_empty());
    }

    /// A linear congruential generator: enough to shuffle.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % end
        }
    }
}
