//! The task that sends publications to the servers that take them.

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    mem::{self, Discriminant},
    sync::Arc,
    time::Duration,
};

use tokio::sync::mpsc;
use trunkline_backend::{Backoff, Direction, Outbox};

use super::{
    Command, Publication, PublishObserver,
    connection::{BatchOutcome, NodeConnection, OpenConnection, Stopped, WINDOW},
};
use crate::connect::{Destination, FIRST_PAUSE, ServerPool, Status, Tasks, is_forbidden};

/// What is written in one go at most, unless a single message is bigger.
const MAX_BATCH: usize = 1 << 20;

/// The publishing end of a transport.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) outbox: Arc<Outbox<Publication>>,
    pub(crate) servers: Arc<ServerPool>,
    pub(crate) status: Arc<Status>,
    pub(crate) observer: Arc<dyn PublishObserver>,
    pub(crate) tasks: Tasks,
    pub(crate) max_backoff: Duration,
}

impl Publisher {
    /// Runs until the outbox is closed and everything is written.
    pub(crate) async fn run(self) {
        let (sender, mut outcomes) = mpsc::unbounded_channel();
        let (nodes, pinned, refused) = Default::default();
        let mut router = Router { publisher: &self, nodes, pinned, outcomes: sender, is_lost: false, refused };
        // Sooner or later each is written to.
        self.servers.all_destinations().into_iter().for_each(|destination| router.start(&destination));
        let mut batch = Vec::new();
        let mut is_open = true;
        while is_open || router.is_working() {
            let (takes, under_way) = (is_open && !router.is_congested(), router.bytes_under_way());
            tokio::select! {
                taken = self.take(&mut batch, under_way), if takes => match taken {
                    true => router.route(batch.drain(..)),
                    false => is_open = false,
                },
                Some(outcome) = outcomes.recv() => router.settle(outcome),
            }
            router.dispatch();
        }
    }

    /// Takes what is queued, as far as there is credit. False once the outbox is closed and empty. *Cancel safe.*
    async fn take(&self, batch: &mut Vec<Publication>, under_way: usize) -> bool {
        let credit = self.observer.credit().await.saturating_sub(under_way);
        if credit == 0 {
            // An outcome comes first.
            return pending().await;
        }
        self.outbox.take(batch, MAX_BATCH.min(credit)).await.is_some()
    }
}

/// Sends each publication to the server that takes it.
struct Router<'a> {
    publisher: &'a Publisher,
    nodes: HashMap<Destination, NodeQueue>,
    /// In a cluster, the slots of what waits or is under way: where, and how many publications. What follows them goes
    /// the same way, or it might overtake them when the slot moves.
    pinned: HashMap<u16, (Destination, usize)>,
    outcomes: mpsc::UnboundedSender<BatchOutcome>,
    /// The nodes were told that a server takes nothing for the moment.
    is_lost: bool,
    /// What the servers refused last of each kind of command, if they have not taken one since.
    refused: HashMap<Discriminant<Command>, String>,
}

/// What waits for a server, and what its connection has been given.
struct NodeQueue {
    waiting: VecDeque<Publication>,
    /// To the task of the connection, if there is one.
    batches: Option<mpsc::Sender<Vec<Publication>>>,
    /// The bytes of each batch that the task has.
    under_way: VecDeque<usize>,
    /// Left by the task that ran last.
    open: Option<OpenConnection>,
    was_open: bool,
    backoff: Backoff,
    /// Why the last connection failed, if it did.
    failure: Option<String>,
}

impl Router<'_> {
    fn is_working(&self) -> bool {
        self.nodes.values().any(|node| !node.under_way.is_empty() || !node.waiting.is_empty())
    }

    /// As far as an answer is to be expected soon.
    fn bytes_under_way(&self) -> usize {
        self.working().flat_map(|node| &node.under_way).sum()
    }

    /// Nothing more is taken while it would only wait here: the batch grows where it is.
    fn is_congested(&self) -> bool {
        if !self.publisher.servers.is_cluster() {
            return self.nodes.values().any(|node| !node.waiting.is_empty() || node.under_way.len() >= WINDOW);
        }
        // What waits for a node that is down does not hold up the others; the outbox bounds it.
        let waiting: usize = self.working().flat_map(|node| &node.waiting).map(|publication| publication.bytes).sum();
        waiting >= MAX_BATCH
    }

    fn working(&self) -> impl Iterator<Item = &NodeQueue> {
        self.nodes.values().filter(|node| node.failure.is_none())
    }

    fn route(&mut self, publications: impl Iterator<Item = Publication>) {
        for publication in publications {
            let destination = self.destination_of(&publication);
            self.node(destination).waiting.push_back(publication);
        }
    }

    fn destination_of(&mut self, publication: &Publication) -> Destination {
        let servers = &self.publisher.servers;
        let Some(slot) = publication.slot.filter(|_| servers.is_cluster()) else { return Destination::Anywhere };
        let (destination, count) = self.pinned.entry(slot).or_insert_with(|| (servers.destination_of(slot), 0));
        *count += 1;
        destination.clone()
    }

    fn unpin(&mut self, publication: &Publication) {
        let Some(slot) = publication.slot else { return };
        if let Some((_, count)) = self.pinned.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                self.pinned.remove(&slot);
            }
        }
    }

    fn node(&mut self, destination: Destination) -> &mut NodeQueue {
        let max_backoff = self.publisher.max_backoff;
        self.nodes.entry(destination).or_insert_with(|| NodeQueue {
            waiting: VecDeque::new(),
            batches: None,
            under_way: VecDeque::new(),
            open: None,
            was_open: false,
            backoff: Backoff::new(FIRST_PAUSE, max_backoff),
            failure: None,
        })
    }

    fn start(&mut self, destination: &Destination) {
        let (publisher, outcomes) = (self.publisher, self.outcomes.clone());
        self.node(destination.clone()).start(publisher, destination, &outcomes);
    }

    /// Gives a batch to every connection that can take one.
    fn dispatch(&mut self) {
        for (destination, node) in &mut self.nodes {
            while node.under_way.len() < node.window() && !node.waiting.is_empty() {
                if node.batches.is_none() {
                    node.start(self.publisher, destination, &self.outcomes);
                }
                if !node.give_batch() {
                    break;
                }
            }
        }
    }

    fn settle(&mut self, outcome: BatchOutcome) {
        let Publisher { outbox, observer, .. } = self.publisher;
        for (publication, answer) in outcome.answered {
            self.unpin(&publication);
            let command = mem::discriminant(&publication.command);
            let bytes = match answer {
                Ok(reply) => {
                    self.refused.remove(&command);
                    observer.acknowledged(publication, reply)
                }
                Err(reason) => {
                    let bytes = observer.rejected(publication, &reason);
                    outbox.refused(1, &reason);
                    self.refused.insert(command, reason);
                    bytes
                }
            };
            outbox.release(bytes);
        }
        let node = self.node(outcome.destination);
        match outcome.stopped {
            None => node.confirmed(),
            Some(stopped) => {
                node.stopped(stopped);
                self.reroute();
            }
        }
        self.tell_connected();
    }

    /// The slot map of the cluster may have changed: everything that waits gets its destination anew.
    fn reroute(&mut self) {
        if !self.publisher.servers.is_cluster() {
            return;
        }
        let waiting: Vec<_> = self.nodes.values_mut().flat_map(|node| node.waiting.drain(..)).collect();
        waiting.iter().for_each(|publication| self.unpin(publication));
        self.route(waiting.into_iter());
        self.nodes.retain(|_, node| node.batches.is_some() || node.open.is_some() || !node.waiting.is_empty());
    }

    fn tell_connected(&mut self) {
        let Publisher { outbox, observer, status, .. } = self.publisher;
        let failure = self.nodes.values().find_map(|node| node.failure.as_deref());
        outbox.set_connected(failure.is_none());
        let refusal = self.refused.values().find(|reason| is_forbidden(reason.as_bytes()));
        status.set_publishing(failure.or(refusal.map(String::as_str)));
        match failure {
            Some(reason) if !mem::replace(&mut self.is_lost, true) => {
                tracing::warn!(%reason, "messages are held: the server takes none");
                status.connection_lost(Direction::Outbound, reason, |reason| observer.lost(reason));
            }
            None if mem::take(&mut self.is_lost) => status.connections_restored(1, || observer.restored()),
            _ => {}
        }
    }
}

impl NodeQueue {
    /// Starts the task of a connection.
    fn start(
        &mut self,
        publisher: &Publisher,
        destination: &Destination,
        outcomes: &mpsc::UnboundedSender<BatchOutcome>,
    ) {
        let (batches, received) = mpsc::channel(WINDOW);
        let (servers, status) = (Arc::clone(&publisher.servers), Arc::clone(&publisher.status));
        let connection = NodeConnection::new(destination.clone(), servers, status, outcomes.clone());
        let pause = self.failure.is_some().then(|| self.backoff.next_pause());
        publisher.tasks.spawn(connection.run(self.open.take(), pause, self.was_open, received));
        self.batches = Some(batches);
    }

    /// Batches that may be under way.
    fn window(&self) -> usize {
        if self.failure.is_some() { 1 } else { WINDOW }
    }

    /// False if the task is about to end.
    fn give_batch(&mut self) -> bool {
        let Some(batches) = &self.batches else { return false };
        // A server without memory takes no entry of a stream, and the heartbeat behind it that counts it: what has failed
        // is tried alone, so that nothing overtakes it.
        let max_bytes = if self.failure.is_some() { 0 } else { MAX_BATCH };
        let mut bytes = 0;
        let count = self.waiting.iter().take_while(|publication| {
            let fits = bytes == 0 || bytes + publication.bytes <= max_bytes;
            bytes += if fits { publication.bytes } else { 0 };
            fits
        });
        let count = count.count();
        match batches.try_send(self.waiting.drain(..count).collect()) {
            Ok(()) => {
                self.under_way.push_back(bytes);
                true
            }
            Err(error) => {
                self.put_back(error.into_inner());
                false
            }
        }
    }

    fn put_back(&mut self, publications: Vec<Publication>) {
        publications.into_iter().rev().for_each(|publication| self.waiting.push_front(publication));
    }

    /// The oldest batch is complete.
    fn confirmed(&mut self) {
        self.under_way.pop_front();
        self.was_open = true;
        self.failure = None;
        self.backoff.reset();
    }

    fn stopped(&mut self, stopped: Stopped) {
        let Stopped { unsent, failure, open, was_open } = stopped;
        self.batches = None;
        self.under_way.clear();
        self.put_back(unsent);
        self.open = open;
        self.was_open |= was_open;
        self.failure = failure.map(|error| error.to_string());
        if let Some(reason) = &self.failure {
            tracing::debug!(%reason, "publishing failed");
        }
    }
}
