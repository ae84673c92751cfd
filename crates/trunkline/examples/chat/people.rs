//! Who is online: the pages of this node, and what the other nodes have announced of theirs.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use socketioxide::socket::Sid;
use tokio::sync::watch;
use trunkline::NodeId;

use crate::wire::{Announcement, NodeView, Person};

/// A node's view of all people online. Changes are counted, so that a burst of them leads to one update of the pages.
#[derive(Debug)]
pub(crate) struct People {
    seen: Mutex<Seen>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Seen {
    here: HashMap<Sid, Person>,
    elsewhere: HashMap<NodeId, Announcement>,
    announcements: u64,
    /// Another node wants to hear who is here.
    asked: bool,
}

impl People {
    pub(crate) fn new() -> Self {
        Self { seen: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Wakes when a person comes, goes, moves or changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn came(&self, socket: Sid, person: Person) {
        self.seen().here.insert(socket, person);
        self.changed();
    }

    pub(crate) fn left(&self, socket: Sid) {
        self.seen().here.remove(&socket);
        self.changed();
    }

    pub(crate) fn change(&self, socket: Sid, change: impl FnOnce(&mut Person)) {
        if let Some(person) = self.seen().here.get_mut(&socket) {
            change(person);
        }
        self.changed();
    }

    pub(crate) fn find(&self, socket: Sid) -> Option<Person> {
        self.seen().here.get(&socket).cloned()
    }

    /// The people on this node.
    pub(crate) fn here(&self) -> Vec<Person> {
        let mut people: Vec<_> = self.seen().here.values().cloned().collect();
        people.sort();
        people
    }

    /// What this node tells the others, numbered so that a late one does not replace a newer one.
    pub(crate) fn announcement(&self, port: u16, ask: bool) -> Announcement {
        let people = self.here();
        let mut seen = self.seen();
        seen.announcements += 1;
        Announcement { port, number: seen.announcements, people, ask }
    }

    /// Another node has said who is on it.
    pub(crate) fn announced(&self, node: NodeId, announcement: Announcement) {
        let mut seen = self.seen();
        if seen.elsewhere.get(&node).is_some_and(|known| known.number > announcement.number) {
            return;
        }
        seen.asked |= announcement.ask;
        seen.elsewhere.insert(node, announcement);
        drop(seen);
        self.changed();
    }

    /// Whether a node has asked since the last call.
    pub(crate) fn was_asked(&self) -> bool {
        mem::take(&mut self.seen().asked)
    }

    /// Another node has stopped or died, and with it its announcement.
    pub(crate) fn node_left(&self, node: &NodeId) {
        self.seen().elsewhere.remove(node);
        self.changed();
    }

    /// All nodes with the people on them: those of this process, running or not, and those that announced themselves.
    pub(crate) fn nodes(&self, own: u16, ours: &[(u16, bool)]) -> Vec<NodeView> {
        let mut nodes: BTreeMap<u16, NodeView> = ours
            .iter()
            .map(|&(port, running)| (port, NodeView { port, running, ours: true, people: Vec::new() }))
            .collect();
        let here = self.here();
        let seen = self.seen();
        let elsewhere = seen.elsewhere.values().map(|said| (said.port, said.people.clone()));
        for (port, people) in elsewhere.chain([(own, here)]) {
            let node = nodes.entry(port).or_insert(NodeView { port, running: true, ours: false, people: Vec::new() });
            if node.running {
                node.people = people;
            }
        }
        only_latest(nodes.into_values().collect())
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // The lists are valid after each step.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A person whose connection broke is on the new node at once, while the old one may not have noticed yet.
fn only_latest(mut nodes: Vec<NodeView>) -> Vec<NodeView> {
    let mut latest: HashMap<String, u64> = HashMap::new();
    for person in nodes.iter().flat_map(|node| &node.people) {
        let since = latest.entry(person.user.clone()).or_default();
        *since = person.since.max(*since);
    }
    for node in &mut nodes {
        node.people.retain(|person| latest[&person.user] == person.since);
    }
    nodes
}
