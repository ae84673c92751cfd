//! What was sent, and what every client received: loss, repeats and order are counted from it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use crate::timing::seconds;

/// A room of which each node has one member; clients of group 0 and 1.
pub(crate) type Group = usize;

/// A message that arrives later than this counts as trouble.
pub(crate) const LATE: Duration = Duration::from_secs(2);

/// How long before its end a process may have taken messages that never left it.
const UNSENT: Duration = Duration::from_secs(2);

/// To whom the message of this number goes: to a room, or to all.
pub(crate) fn audience(number: u64) -> Option<Group> {
    match number % 4 {
        0 => Some(0),
        1 => Some(1),
        _ => None,
    }
}

/// Books of one cell. Senders and receivers are processes: a node that starts again is a new one.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
}

#[derive(Debug)]
struct Sender {
    node: usize,
    /// By number.
    messages: Vec<Sent>,
    ended: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The server has not answered yet.
    Pending,
    Accepted,
    Refused,
}

#[derive(Debug)]
struct Receiver {
    /// Number of the process, which is that of its sender.
    process: usize,
    group: Group,
    since: Instant,
    until: Option<Instant>,
    arrivals: Vec<Arrival>,
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    sender: usize,
    number: u64,
    at: Instant,
}

/// A message that one client did not receive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    /// Processes that sent it, and that of the client.
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// When it was sent.
    pub(crate) at: Instant,
}

/// What the books say.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    pub(crate) sent: u64,
    pub(crate) refused: u64,
    /// Messages of other nodes that a client did not receive, over all clients.
    pub(crate) lost: u64,
    /// Messages of the own node that a client did not receive, over all clients.
    pub(crate) own_lost: u64,
    pub(crate) repeated: u64,
    /// Messages that arrived after one of the same sender with a higher number.
    pub(crate) reordered: u64,
    /// By process: messages of other nodes that at least one of its clients missed.
    pub(crate) missing: BTreeMap<usize, u64>,
    /// Every message that a client did not receive.
    pub(crate) losses: Vec<Loss>,
    /// The last moment at which a lost message was sent or a late one arrived.
    pub(crate) last_trouble: Option<Instant>,
}

impl Ledger {
    /// A new process of a node; returns its number.
    pub(crate) fn add_sender(&mut self, node: usize) -> usize {
        self.senders.push(Sender { node, messages: Vec::new(), ended: None });
        self.senders.len() - 1
    }

    /// A client of a process that is in the rooms from now on; returns its number.
    pub(crate) fn add_receiver(&mut self, process: usize, group: Group, now: Instant) -> usize {
        self.receivers.push(Receiver { process, group, since: now, until: None, arrivals: Vec::new() });
        self.receivers.len() - 1
    }

    /// A process is about to end, and with it the connections of its clients.
    pub(crate) fn ends(&mut self, process: usize, now: Instant) {
        self.senders[process].ended = Some(now);
        for receiver in self.receivers.iter_mut().filter(|receiver| receiver.process == process) {
            receiver.until = Some(now);
        }
    }

    /// The node to which a process belongs.
    pub(crate) fn node(&self, process: usize) -> usize {
        self.senders[process].node
    }

    /// The next message of a sender is about to be sent; returns its number.
    pub(crate) fn send(&mut self, sender: usize, now: Instant) -> u64 {
        let messages = &mut self.senders[sender].messages;
        messages.push(Sent { at: now, state: State::Pending });
        messages.len() as u64 - 1
    }

    /// The server has taken or refused a message.
    pub(crate) fn answered(&mut self, sender: usize, number: u64, accepted: bool) {
        let state = if accepted { State::Accepted } else { State::Refused };
        if let Some(sent) = self.senders[sender].messages.get_mut(number as usize) {
            sent.state = state;
        }
    }

    pub(crate) fn arrived(&mut self, receiver: usize, sender: usize, number: u64, now: Instant) {
        self.receivers[receiver].arrivals.push(Arrival { sender, number, at: now });
    }

    /// Whether every connected client has received something that each running sender sent after `since`.
    pub(crate) fn is_fresh(&self, since: Instant) -> bool {
        let running: Vec<_> = (0..self.senders.len()).filter(|&sender| self.senders[sender].ended.is_none()).collect();
        self.receivers.iter().filter(|receiver| receiver.until.is_none()).all(|receiver| {
            let fresh: BTreeSet<usize> = receiver
                .arrivals
                .iter()
                .rev()
                .take_while(|arrival| arrival.at >= since)
                .filter(|arrival| self.sent(arrival).is_some_and(|sent| sent.at >= since))
                .map(|arrival| arrival.sender)
                .collect();
            running.iter().all(|sender| fresh.contains(sender))
        })
    }

    fn sent(&self, arrival: &Arrival) -> Option<&Sent> {
        self.senders.get(arrival.sender)?.messages.get(usize::try_from(arrival.number).ok()?)
    }

    /// Losses in words: from which node to which, how many, and when they were sent, in seconds since `origin`.
    pub(crate) fn describe(&self, losses: &[Loss], origin: Instant) -> Vec<String> {
        let mut grouped: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
        for loss in losses {
            grouped.entry((loss.from, loss.to)).or_default().push(seconds(loss.at, origin));
        }
        let shown = grouped.into_iter().map(|((from, to), times)| {
            let first = times.iter().copied().fold(f64::INFINITY, f64::min);
            let last = times.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let (from, to) = (self.node(from), self.node(to));
            format!("node {from} to {to}: {} sent from {first:.1} to {last:.1} s", times.len())
        });
        shown.collect()
    }

    /// Counts everything.
    pub(crate) fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        for message in self.senders.iter().flat_map(|sender| &sender.messages) {
            balance.sent += 1;
            balance.refused += u64::from(message.state == State::Refused);
        }
        let mut missing: BTreeMap<usize, BTreeSet<(usize, u64)>> = BTreeMap::new();
        for receiver in &self.receivers {
            let lost = self.count(receiver, &mut balance);
            missing.entry(receiver.process).or_default().extend(lost);
        }
        balance.missing = missing.into_iter().map(|(process, lost)| (process, lost.len() as u64)).collect();
        balance
    }

    /// Counts what one client received; returns what it lost of other nodes.
    fn count(&self, receiver: &Receiver, balance: &mut Balance) -> Vec<(usize, u64)> {
        let mut known: HashMap<(usize, u64), Instant> = HashMap::new();
        let mut highest: HashMap<usize, u64> = HashMap::new();
        for arrival in &receiver.arrivals {
            if known.contains_key(&(arrival.sender, arrival.number)) {
                balance.repeated += 1;
                continue;
            }
            known.insert((arrival.sender, arrival.number), arrival.at);
            let highest = highest.entry(arrival.sender).or_insert(arrival.number);
            balance.reordered += u64::from(arrival.number < *highest);
            *highest = arrival.number.max(*highest);
            if let Some(sent) = self.sent(arrival)
                && arrival.at > sent.at + LATE
            {
                balance.last_trouble = balance.last_trouble.max(Some(arrival.at));
            }
        }
        let mut lost = Vec::new();
        for (sender, messages) in self.senders.iter().enumerate() {
            for (number, sent) in messages.messages.iter().enumerate() {
                let number = number as u64;
                if known.contains_key(&(sender, number)) || !self.is_owed(receiver, sender, number, sent) {
                    continue;
                }
                balance.losses.push(Loss { from: sender, to: receiver.process, at: sent.at });
                balance.last_trouble = balance.last_trouble.max(Some(sent.at));
                if sender == receiver.process {
                    balance.own_lost += 1;
                } else {
                    balance.lost += 1;
                    lost.push((sender, number));
                }
            }
        }
        lost
    }

    /// Whether a client ought to have received a message: the server has taken it, for a room of the client, while the
    /// client was there and the server not about to end.
    fn is_owed(&self, receiver: &Receiver, sender: usize, number: u64, sent: &Sent) -> bool {
        let before = |end: Option<Instant>| end.is_none_or(|end| sent.at + UNSENT < end);
        sent.state == State::Accepted
            && audience(number).is_none_or(|group| group == receiver.group)
            && sent.at > receiver.since
            && before(receiver.until)
            && before(self.senders[sender].ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Books {
        ledger: Ledger,
        began: Instant,
    }

    /// Two nodes of one client each: process and receiver 0 in group 0, process and receiver 1 in group 1.
    fn books() -> Books {
        let (mut ledger, began) = (Ledger::default(), Instant::now());
        for node in 0..2 {
            ledger.add_sender(node);
            ledger.add_receiver(node, node, began);
        }
        Books { ledger, began }
    }

    impl Books {
        fn at(&self, milliseconds: u64) -> Instant {
            self.began + Duration::from_millis(milliseconds)
        }

        /// Sends numbers 0 to `count`, one per second from second 1 on.
        fn send(&mut self, sender: usize, count: u64) {
            for _ in 0..count {
                let number = self.ledger.senders[sender].messages.len() as u64;
                let sent = self.ledger.send(sender, self.at((number + 1) * 1_000));
                self.ledger.answered(sender, sent, true);
            }
        }

        fn arrive(&mut self, receiver: usize, sender: usize, numbers: &[u64]) {
            for &number in numbers {
                self.ledger.arrived(receiver, sender, number, self.at((number + 1) * 1_000 + 10));
            }
        }
    }

    #[test]
    fn everything_once_and_in_order_is_no_fault() {
        let mut books = books();
        books.send(0, 6);
        books.arrive(0, 0, &[0, 2, 3, 4]);
        books.arrive(1, 0, &[1, 2, 3, 5]);
        let balance = books.ledger.balance();
        assert_eq!((balance.lost, balance.own_lost, balance.repeated, balance.reordered), (0, 0, 0, 0));
        assert_eq!((balance.sent, balance.refused, balance.last_trouble), (6, 0, None));
    }

    #[test]
    fn a_loss_is_counted_at_each_client_and_once_per_process() {
        let mut books = books();
        books.ledger.add_receiver(1, 0, books.began);
        books.send(0, 4);
        books.arrive(0, 0, &[0, 2, 3]);
        books.arrive(1, 0, &[1, 3]);
        books.arrive(2, 0, &[3]);
        let balance = books.ledger.balance();
        assert_eq!((balance.lost, balance.own_lost), (3, 0));
        assert_eq!(balance.missing[&1], 2, "the message for all is one, whoever missed it");
        assert_eq!(balance.last_trouble, Some(books.at(3_000)));
    }

    #[test]
    fn what_own_clients_miss_is_counted_apart() {
        let mut books = books();
        books.send(0, 3);
        books.arrive(1, 0, &[1, 2]);
        let balance = books.ledger.balance();
        assert_eq!((balance.lost, balance.own_lost, balance.missing[&0]), (0, 2, 0));
        let described = books.ledger.describe(&balance.losses, books.began);
        assert_eq!(described, ["node 0 to 0: 2 sent from 1.0 to 3.0 s"]);
    }

    #[test]
    fn a_repeat_is_neither_reordered_nor_counted_as_received_twice() {
        let mut books = books();
        books.send(0, 4);
        books.arrive(0, 0, &[0, 2, 3]);
        books.arrive(1, 0, &[1, 2, 1, 3, 3]);
        let balance = books.ledger.balance();
        assert_eq!((balance.lost, balance.repeated, balance.reordered), (0, 2, 0));
    }

    #[test]
    fn every_message_behind_a_higher_number_is_reordered() {
        let mut books = books();
        books.send(0, 8);
        books.arrive(0, 0, &[0, 2, 3, 4, 6, 7]);
        books.arrive(1, 0, &[5, 1, 2, 3, 7, 6]);
        assert_eq!(books.ledger.balance().reordered, 4);
    }

    #[test]
    fn senders_are_not_ordered_against_each_other() {
        let mut books = books();
        books.send(0, 4);
        books.send(1, 4);
        books.arrive(0, 0, &[0, 2]);
        books.arrive(0, 1, &[0, 2, 3]);
        books.arrive(0, 0, &[3]);
        books.arrive(1, 0, &[1, 2, 3]);
        books.arrive(1, 1, &[1, 2, 3]);
        assert_eq!(books.ledger.balance().reordered, 0);
    }

    #[test]
    fn refused_and_unanswered_messages_are_owed_to_nobody() {
        let mut books = books();
        let refused = books.ledger.send(0, books.at(100));
        books.ledger.answered(0, refused, false);
        books.ledger.send(0, books.at(200));
        let balance = books.ledger.balance();
        assert_eq!((balance.sent, balance.refused, balance.lost, balance.own_lost), (2, 1, 0, 0));
    }

    #[test]
    fn a_client_is_owed_what_is_sent_while_it_is_there() {
        let mut books = books();
        books.send(0, 12);
        let late = books.ledger.add_receiver(1, 1, books.at(10_500));
        books.arrive(late, 0, &[10, 11]);
        books.arrive(0, 0, &[0, 2, 3, 4, 6, 7, 8, 10, 11]);
        books.arrive(1, 0, &[1, 2, 3, 5]);
        books.ledger.ends(1, books.at(9_000));
        // Number 6 is sent at 7 s, too close to the end; 7 and later still more so.
        assert_eq!(books.ledger.balance().lost, 0);
    }

    #[test]
    fn what_a_process_took_just_before_it_was_killed_is_no_loss() {
        let mut books = books();
        books.send(0, 6);
        books.arrive(1, 0, &[1, 2]);
        books.arrive(0, 0, &[0, 2]);
        books.ledger.ends(0, books.at(5_500));
        assert_eq!(books.ledger.balance().lost, 0);
        books.ledger.ends(0, books.at(60_000));
        assert_eq!(books.ledger.balance().lost, 2);
    }

    #[test]
    fn the_last_late_arrival_is_trouble() {
        let mut books = books();
        books.send(0, 3);
        books.arrive(0, 0, &[0, 2]);
        books.arrive(1, 0, &[1]);
        books.ledger.arrived(1, 0, 2, books.at(8_000));
        assert_eq!(books.ledger.balance().last_trouble, Some(books.at(8_000)));
    }

    #[test]
    fn traffic_is_fresh_when_each_client_hears_each_sender() {
        let mut books = books();
        books.send(0, 4);
        books.send(1, 4);
        books.arrive(0, 0, &[2, 3]);
        books.arrive(0, 1, &[2, 3]);
        books.arrive(1, 0, &[2, 3]);
        assert!(!books.ledger.is_fresh(books.at(2_500)));
        books.arrive(1, 1, &[2, 3]);
        assert!(books.ledger.is_fresh(books.at(2_500)));
        assert!(!books.ledger.is_fresh(books.at(5_000)));
    }
}
