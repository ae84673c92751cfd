//! Deliveries that a fault delays on their way from a transport to a node.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    future,
};

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};
use trunkline_core::{
    model::Delivery,
    transport::{Inbox, InboxSender},
};

use super::Fault;

/// Maximum number of delayed deliveries. Beyond it the transport has to wait.
const MAX_DELAYED: usize = 10_000;

/// Deliveries in the order of the time at which they are due.
struct DelayQueue<F> {
    fault: F,
    random: Rng,
    /// Due time and number of each delivery.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    /// The deliveries with the number `first` and following; `None` for those already handed over.
    deliveries: VecDeque<Option<Delivery>>,
    first: u64,
    /// Due time of the last delivery that keeps its order.
    latest: Instant,
}

/// Passes deliveries from the transport's inbox to the node's until either end is dropped.
pub(super) async fn forward<F: Fault>(mut from: Inbox, to: InboxSender, fault: F, random: Rng) {
    let mut queue = DelayQueue {
        fault,
        random,
        due: BinaryHeap::new(),
        deliveries: VecDeque::new(),
        first: 0,
        latest: Instant::now(),
    };
    let mut batch = VecDeque::new();
    loop {
        tokio::select! {
            open = from.next_batch(&mut batch), if queue.due.len() < MAX_DELAYED => {
                if !open {
                    return;
                }
                batch.drain(..).for_each(|delivery| queue.push(delivery));
            }
            () = sleep(queue.next_due()) => {
                let deliveries = queue.pop_due();
                if !to.push_when_ready(deliveries).await {
                    return;
                }
            }
        }
    }
}

impl<F: Fault> DelayQueue<F> {
    fn push(&mut self, delivery: Delivery) {
        let now = Instant::now();
        if !is_traffic(&delivery) {
            // What the transport itself reports keeps its place behind everything else.
            self.latest = self.latest.max(now);
            return self.schedule(self.latest, delivery);
        }
        // Further copies delay nothing else.
        let mut is_first_copy = true;
        for (delay, delivery) in self.fault.pass(&mut self.random, delivery) {
            let due = if F::IN_ORDER { self.latest.max(now + delay) } else { now + delay };
            if std::mem::take(&mut is_first_copy) {
                self.latest = self.latest.max(due);
            }
            self.schedule(due, delivery);
        }
    }

    fn schedule(&mut self, due: Instant, delivery: Delivery) {
        self.due.push(Reverse((due, self.first + self.deliveries.len() as u64)));
        self.deliveries.push_back(Some(delivery));
    }

    fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    fn pop_due(&mut self) -> Vec<Delivery> {
        let now = Instant::now();
        let mut popped = Vec::new();
        while self.next_due().is_some_and(|due| due <= now) {
            let Some(Reverse((_, number))) = self.due.pop() else { break };
            let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
            popped.extend(self.deliveries.get_mut(index).and_then(Option::take));
        }
        while self.deliveries.front().is_some_and(Option::is_none) {
            self.deliveries.pop_front();
            self.first += 1;
        }
        popped
    }
}

/// Whether a delivery came over the network, and is no report of the transport itself.
fn is_traffic(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Message { .. } | Delivery::Skipped { .. } | Delivery::Response { .. })
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => future::pending().await,
    }
}
