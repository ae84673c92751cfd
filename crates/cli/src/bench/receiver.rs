//! [`Receiver`]: counts what arrives at a node of the bench.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;
use tokio::time::Instant;
use trunkline::Payload;

use super::{load::Found, report::latencies};

/// A message: number of the run, of the node, and of the message, when it was sent, and what fills it.
pub(crate) type Packet = (u64, usize, u64, u64, String);

/// Microseconds since the Unix epoch, by the clock that all processes of a machine share.
pub(crate) fn now_micros() -> u64 {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    u64::try_from(micros).unwrap_or(u64::MAX)
}

/// Counts the messages of the other nodes.
#[derive(Debug)]
pub(crate) struct Receiver {
    index: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When a message arrived last.
    last: Option<Instant>,
    runs: HashMap<u64, Run>,
}

#[derive(Debug)]
struct Run {
    received: u64,
    out_of_order: u64,
    repeated: u64,
    /// Next number of each sender, and those that came.
    senders: HashMap<usize, (u64, Vec<bool>)>,
    latencies: Histogram<u64>,
}

impl Run {
    fn new() -> Self {
        Self { received: 0, out_of_order: 0, repeated: 0, senders: HashMap::new(), latencies: latencies() }
    }

    fn arrived(&mut self, sender: usize, number: u64, sent: u64) {
        let (next, seen) = self.senders.entry(sender).or_default();
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        if place >= MAX_MESSAGES {
            return;
        }
        if seen.len() <= place {
            seen.resize(place + 1, false);
        }
        if std::mem::replace(&mut seen[place], true) {
            self.repeated += 1;
            return;
        }
        self.received += 1;
        self.out_of_order += u64::from(number < *next);
        *next = (*next).max(number + 1);
        // It grows with its values, up to all that fit 64 bits.
        let _ = self.latencies.record(now_micros().saturating_sub(sent).max(1));
    }
}

/// As many of a node are counted.
pub(crate) const MAX_MESSAGES: usize = 100_000_000;

impl Receiver {
    pub(crate) fn new(index: usize) -> Self {
        Self { index, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages of a run that have arrived.
    pub(crate) fn count(&self, run: u64) -> u64 {
        self.lock().runs.get(&run).map_or(0, |run| run.received)
    }

    /// How long nothing has arrived.
    pub(crate) fn quiet_for(&self, since: Instant) -> Duration {
        self.lock().last.map_or(since, |last| last.max(since)).elapsed()
    }

    /// What arrived in a run that began at that time here.
    pub(crate) fn found(&self, run: u64, began: Instant, expected: u64) -> Found {
        let mut state = self.lock();
        let last = state.last.unwrap_or(began);
        let Some(run) = state.runs.remove(&run) else { return Found { lost: expected, ..Found::default() } };
        let latencies = run.latencies.iter_recorded();
        Found {
            sending: Duration::ZERO,
            receiving: last.saturating_duration_since(began),
            received: run.received,
            lost: expected.saturating_sub(run.received),
            out_of_order: run.out_of_order,
            repeated: run.repeated,
            latencies: latencies.map(|value| (value.value_iterated_to(), value.count_at_value())).collect(),
        }
    }

    /// Counts a packet.
    pub(crate) fn take(&self, payload: &Payload) {
        let Ok((run, sender, number, sent, _)) = payload.arguments::<Packet>() else { return };
        if sender != self.index {
            let mut state = self.lock();
            state.last = Some(Instant::now());
            // Another node may have begun before.
            state.runs.entry(run).or_insert_with(Run::new).arrived(sender, number, sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_order_and_repeats_are_counted() {
        let receiver = Receiver::new(0);
        let arrives = |sender: usize, number: u64| {
            let packet: Packet = (1, sender, number, now_micros(), "x".into());
            receiver.take(&Payload::event("bench", &packet).unwrap());
        };
        // Own messages do not count.
        for (sender, number) in [(0, 0), (1, 0), (1, 2), (1, 1), (1, 2)] {
            arrives(sender, number);
        }
        let late: Packet = (1, 2, 0, now_micros() - 5_000_000, "x".into());
        receiver.take(&Payload::event("bench", &late).unwrap());
        let found = receiver.found(1, Instant::now(), 6);
        assert_eq!((found.received, found.lost, found.out_of_order, found.repeated), (4, 2, 1, 1));
        assert_eq!(found.latencies.iter().map(|(_, count)| count).sum::<u64>(), 4);
        assert!(found.latencies.iter().any(|(micros, _)| (5_000_000..6_000_000).contains(micros)), "{found:?}");
        assert_eq!(receiver.found(1, Instant::now(), 6).lost, 6);
    }
}
