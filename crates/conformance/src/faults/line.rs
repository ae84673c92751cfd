//! The way from a transport to a node, on which things go wrong.

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

/// Deliveries under way at most. Beyond it the transport has to wait.
const MOST: usize = 10_000;

/// What is under way, by the time of its arrival.
struct Line<F> {
    fault: F,
    random: Rng,
    under_way: BinaryHeap<Reverse<(Instant, u64)>>,
    /// What has the number `first` and following; taken ones leave a gap.
    deliveries: VecDeque<Option<Delivery>>,
    first: u64,
    latest: Instant,
}

/// Passes deliveries on until either end is gone.
pub(super) async fn run<F: Fault>(mut arriving: Inbox, node: InboxSender, fault: F, random: Rng) {
    let mut line = Line {
        fault,
        random,
        under_way: BinaryHeap::new(),
        deliveries: VecDeque::new(),
        first: 0,
        latest: Instant::now(),
    };
    let mut batch = VecDeque::new();
    loop {
        tokio::select! {
            open = arriving.next_batch(&mut batch), if line.under_way.len() < MOST => {
                if !open {
                    return;
                }
                batch.drain(..).for_each(|delivery| line.enter(delivery));
            }
            () = sleep(line.next()) => {
                let due = line.take_due();
                if !node.push_when_ready(due).await {
                    return;
                }
            }
        }
    }
}

impl<F: Fault> Line<F> {
    fn enter(&mut self, delivery: Delivery) {
        let now = Instant::now();
        if !is_traffic(&delivery) {
            // What the transport itself reports keeps its place behind everything else.
            self.latest = self.latest.max(now);
            return self.schedule(self.latest, delivery);
        }
        // Further copies hold nothing up.
        let mut first = true;
        for (delay, delivery) in self.fault.pass(&mut self.random, delivery) {
            let due = if F::IN_ORDER { self.latest.max(now + delay) } else { now + delay };
            if std::mem::take(&mut first) {
                self.latest = self.latest.max(due);
            }
            self.schedule(due, delivery);
        }
    }

    fn schedule(&mut self, due: Instant, delivery: Delivery) {
        self.under_way.push(Reverse((due, self.first + self.deliveries.len() as u64)));
        self.deliveries.push_back(Some(delivery));
    }

    fn next(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse((due, _))| *due)
    }

    fn take_due(&mut self) -> Vec<Delivery> {
        let now = Instant::now();
        let mut taken = Vec::new();
        while self.next().is_some_and(|due| due <= now) {
            let Some(Reverse((_, number))) = self.under_way.pop() else { break };
            let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
            taken.extend(self.deliveries.get_mut(index).and_then(Option::take));
        }
        while self.deliveries.front().is_some_and(Option::is_none) {
            self.deliveries.pop_front();
            self.first += 1;
        }
        taken
    }
}

/// Whether it came over the network.
fn is_traffic(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Message { .. } | Delivery::Skipped { .. } | Delivery::Response { .. })
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => future::pending().await,
    }
}
