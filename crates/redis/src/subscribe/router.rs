//! The task that knows which subscription belongs to which server.

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use trunkline_core::{Error, ErrorKind};

use super::{
    Done, Shared, Topic,
    node::{NodeCommand, NodeSubscriber},
};
use crate::connect::{Destination, slot_of};

/// How often the slot map of a cluster is read while a connection is lost.
const CHECK_SOON: Duration = Duration::from_millis(100);

/// How often it is read otherwise.
const CHECK: Duration = Duration::from_secs(5);

/// Between two attempts to follow what has moved: while a slot moves, the servers may disagree for a moment.
const MOVE_PAUSE: Duration = Duration::from_millis(20);

/// What callers ask for.
#[derive(Debug)]
pub(super) enum Request {
    /// `unless_lost`: the caller does not wait for a connection that is lost.
    Subscribe {
        topic: Topic,
        done: Done,
        unless_lost: bool,
    },
    Unsubscribe {
        topic: Topic,
        done: Done,
    },
}

/// What the tasks report.
pub(super) enum Event {
    /// From the connection to a server.
    Node(Destination, NodeEvent),
    /// The slot map was read, if that was possible.
    MapRead,
}

pub(super) enum NodeEvent {
    /// The attempt with this number was confirmed.
    Subscribed(Topic, u64),
    Rejected(Topic, u64, Error),
    /// The server does not serve it (any more). `is_interrupted`: it was active, and the status knows that it moves.
    Moved {
        topic: Topic,
        number: u64,
        is_interrupted: bool,
    },
    Lost,
    Restored,
}

/// Something that is subscribed to.
struct SubscriptionEntry {
    /// Reference count.
    wanted: usize,
    /// Tells it from earlier subscriptions to the same topic, and says in which order they were wanted.
    number: u64,
    destination: Destination,
    state: State,
    was_active: bool,
    waiting: Vec<PendingAnswer>,
}

enum State {
    Pending,
    Active,
    /// The server does not serve it (any more), and the map has not been read since.
    Moved,
    Rejected(Error),
}

/// Caller of a subscription that is not active yet.
struct PendingAnswer {
    done: Done,
    unless_lost: bool,
}

/// The connection to one server.
struct Node {
    commands: mpsc::UnboundedSender<NodeCommand>,
    is_lost: bool,
}

/// Sends subscriptions to their servers, and after them when they move.
pub(super) struct SubscriptionRouter {
    shared: Arc<Shared>,
    entries: HashMap<Topic, SubscriptionEntry>,
    nodes: HashMap<Destination, Node>,
    last_number: u64,
    /// What the tasks report is bounded by what they are asked.
    events: mpsc::UnboundedSender<Event>,
    reported: mpsc::UnboundedReceiver<Event>,
    checked: Instant,
    /// When the slot map is read next; `None` while it is being read, or if there is none.
    next_check: Option<Instant>,
}

impl SubscriptionRouter {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (events, reported) = mpsc::unbounded_channel();
        let checked = Instant::now();
        let next_check = shared.servers.is_cluster().then(|| checked + CHECK);
        let (entries, nodes) = Default::default();
        Self { shared, entries, nodes, last_number: 0, events, reported, checked, next_check }
    }

    /// Runs until the last handle is gone.
    pub(super) async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Subscribe { topic, done, unless_lost }) => {
                        self.subscribe(&topic, PendingAnswer { done, unless_lost });
                    }
                    Some(Request::Unsubscribe { topic, done }) => self.unsubscribe(topic, done),
                    None => return,
                },
                Some(event) = self.reported.recv() => match event {
                    Event::Node(destination, event) => self.node_event(&destination, event),
                    Event::MapRead => self.map_read(),
                },
                () = due(self.next_check) => self.check(),
            }
        }
    }

    // --- subscribing ---

    fn subscribe(&mut self, topic: &Topic, waiting: PendingAnswer) {
        if self.nodes.is_empty() && matches!(topic, Topic::Shard(_)) {
            // Sooner or later something is wanted from each.
            self.shared.servers.all_destinations().into_iter().for_each(|destination| {
                self.node(destination);
            });
        }
        if !self.entries.contains_key(topic) {
            self.last_number += 1;
            let entry = SubscriptionEntry {
                wanted: 0,
                number: self.last_number,
                destination: self.destination_of(topic),
                state: State::Pending,
                was_active: false,
                waiting: Vec::new(),
            };
            self.entries.insert(topic.clone(), entry);
            self.ask(topic);
        }
        self.want(topic, waiting);
    }

    fn destination_of(&self, topic: &Topic) -> Destination {
        match topic {
            Topic::Shard(name) => self.shared.servers.destination_of(slot_of(name)),
            Topic::Channel(_) | Topic::Pattern(_) => Destination::Anywhere,
        }
    }

    fn want(&mut self, topic: &Topic, waiting: PendingAnswer) {
        let Some(entry) = self.entries.get_mut(topic) else { return };
        entry.wanted += 1;
        let is_lost = || self.nodes.get(&entry.destination).is_some_and(|node| node.is_lost);
        match &entry.state {
            State::Active => answer(waiting, None),
            State::Rejected(error) => answer(waiting, Some(error)),
            State::Pending | State::Moved if waiting.unless_lost && is_lost() => answer(waiting, None),
            State::Pending | State::Moved => {
                entry.waiting.retain(|waiting| !waiting.done.is_closed());
                entry.waiting.push(waiting);
            }
        }
    }

    /// Asks its server for a subscription.
    fn ask(&mut self, topic: &Topic) {
        let Some(entry) = self.entries.get_mut(topic) else { return };
        entry.state = State::Pending;
        let (number, is_interrupted) = (entry.number, entry.was_active);
        let command = NodeCommand::Subscribe { topic: topic.clone(), number, is_interrupted };
        let destination = entry.destination.clone();
        // Fails only when the transport is closed.
        let _ = self.node(destination).commands.send(command);
    }

    /// The connection to a server; its task connects when something is wanted from it.
    fn node(&mut self, destination: Destination) -> &Node {
        let (shared, events) = (&self.shared, &self.events);
        self.nodes.entry(destination).or_insert_with_key(|destination| {
            let (commands, received) = mpsc::unbounded_channel();
            let node = NodeSubscriber::new(destination.clone(), Arc::clone(shared), events.clone(), received);
            shared.tasks.spawn(node.run());
            Node { commands, is_lost: false }
        })
    }

    fn unsubscribe(&mut self, topic: Topic, done: Done) {
        let entry = self.entries.get_mut(&topic).filter(|entry| entry.wanted > 1);
        if let Some(entry) = entry {
            entry.wanted -= 1;
        } else if let Some(entry) = self.entries.remove(&topic) {
            if matches!(entry.state, State::Moved) && entry.was_active {
                self.move_ends();
            }
            return self.forget(&entry.destination, topic, Some(done));
        }
        // Fails only if the caller has given up.
        let _ = done.send(Ok(()));
    }

    /// Takes a subscription away from a server.
    fn forget(&self, destination: &Destination, topic: Topic, done: Option<Done>) {
        if let Some(node) = self.nodes.get(destination) {
            let _ = node.commands.send(NodeCommand::Unsubscribe { topic, done });
        }
    }

    // --- what the tasks report ---

    fn node_event(&mut self, destination: &Destination, event: NodeEvent) {
        match event {
            NodeEvent::Subscribed(topic, number) => {
                if let Some(entry) = self.entry(destination, &topic, number) {
                    (entry.state, entry.was_active) = (State::Active, true);
                    entry.waiting.drain(..).for_each(|waiting| answer(waiting, None));
                }
            }
            NodeEvent::Rejected(topic, number, error) => {
                if let Some(entry) = self.entry(destination, &topic, number) {
                    entry.reject(error);
                }
            }
            NodeEvent::Moved { topic, number, is_interrupted } => {
                if !self.moved(destination, &topic, number) && is_interrupted {
                    self.move_ends();
                }
            }
            NodeEvent::Lost => self.lost(destination),
            NodeEvent::Restored => self.set_lost(destination, false),
        }
    }

    /// `None` if the report is about a subscription that is not wanted any more, or is elsewhere now.
    fn entry(&mut self, destination: &Destination, topic: &Topic, number: u64) -> Option<&mut SubscriptionEntry> {
        let entry = self.entries.get_mut(topic)?;
        (entry.number == number && entry.destination == *destination).then_some(entry)
    }

    fn set_lost(&mut self, destination: &Destination, is_lost: bool) {
        if let Some(node) = self.nodes.get_mut(destination) {
            node.is_lost = is_lost;
        }
    }

    fn lost(&mut self, destination: &Destination) {
        self.set_lost(destination, true);
        for entry in self.entries.values_mut().filter(|entry| entry.destination == *destination) {
            if let State::Active = entry.state {
                entry.state = State::Pending;
            }
            entry.waiting.extract_if(.., |waiting| waiting.unless_lost).for_each(|waiting| answer(waiting, None));
        }
        self.check_by(Instant::now() + CHECK_SOON);
    }

    // --- moving ---

    /// False if it is not wanted any more, or cannot follow.
    fn moved(&mut self, destination: &Destination, topic: &Topic, number: u64) -> bool {
        let (soon, is_cluster) = (self.checked + MOVE_PAUSE, self.shared.servers.is_cluster());
        let Some(entry) = self.entry(destination, topic, number) else { return false };
        if is_cluster {
            entry.state = State::Moved;
            self.check_by(soon);
        } else {
            let context = "the server is one of a Redis Cluster, for which cluster=on is needed";
            entry.reject(Error::new(ErrorKind::Config, context));
        }
        is_cluster
    }

    /// A subscription that was on its way to another server is not any more.
    fn move_ends(&self) {
        self.shared.status.connections_restored(1, || self.shared.handler.restored());
    }

    fn check_by(&mut self, at: Instant) {
        self.next_check = self.next_check.map(|check| check.min(at));
    }

    fn check(&mut self) {
        self.next_check = None;
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.shared.tasks.spawn(async move {
            shared.servers.try_refresh().await;
            let _ = events.send(Event::MapRead);
        });
    }

    /// Everything goes where the slot map says, unless it is well where it is.
    fn map_read(&mut self) {
        let masters: HashSet<_> = self.shared.servers.all_destinations().into_iter().collect();
        let is_misplaced = |(topic, entry): &(&Topic, &SubscriptionEntry)| match entry.state {
            State::Moved => true,
            _ => {
                let is_lost = self.nodes.get(&entry.destination).is_some_and(|node| node.is_lost);
                (is_lost || !masters.contains(&entry.destination)) && self.destination_of(topic) != entry.destination
            }
        };
        let misplaced: Vec<_> =
            self.entries.iter().filter(is_misplaced).map(|(topic, entry)| (entry.number, topic.clone())).collect();
        self.relocate(misplaced);
        let inhabited: HashSet<_> = self.entries.values().map(|entry| &entry.destination).collect();
        self.nodes.retain(|destination, _| inhabited.contains(destination) || masters.contains(destination));
        self.checked = Instant::now();
        let is_lost = self.nodes.values().any(|node| node.is_lost);
        self.next_check = Some(self.checked + if is_lost { CHECK_SOON } else { CHECK });
    }

    /// Asks other servers for subscriptions, in the order in which they were wanted.
    fn relocate(&mut self, mut topics: Vec<(u64, Topic)>) {
        topics.sort_unstable_by_key(|(number, _)| *number);
        for (_, topic) in topics {
            let destination = self.destination_of(&topic);
            let Some(entry) = self.entries.get_mut(&topic) else { continue };
            let former = std::mem::replace(&mut entry.destination, destination);
            if !matches!(entry.state, State::Moved) {
                if entry.was_active {
                    self.shared.status.subscription_moves();
                }
                self.forget(&former, topic.clone(), None);
            }
            self.ask(&topic);
        }
    }
}

impl SubscriptionEntry {
    fn reject(&mut self, error: Error) {
        self.waiting.drain(..).for_each(|waiting| answer(waiting, Some(&error)));
        self.state = State::Rejected(error);
    }
}

/// Fails only if the caller has given up.
fn answer(waiting: PendingAnswer, error: Option<&Error>) {
    let _ = waiting.done.send(error.cloned().map_or(Ok(()), Err));
}

async fn due(check: Option<Instant>) {
    match check {
        Some(check) => sleep_until(check).await,
        None => pending().await,
    }
}
