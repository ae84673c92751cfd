//! What the connections hear, brought together.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::Audience;
use crate::{
    feed::{Arrival, Listener, Topic},
    topology::Place,
};

/// What the ears of all places share.
#[derive(Debug)]
pub(super) struct Common {
    audience: Arc<dyn Audience>,
    /// Places whose connection is lost.
    down: AtomicUsize,
    /// What servers do not serve any more.
    moved: Mutex<HashSet<(Place, Topic)>>,
    /// Subscriptions that are on their way to another place.
    awaited: Mutex<HashMap<Topic, Arc<Outage>>>,
    /// Whether there are any.
    awaits: AtomicBool,
    /// Something was lost or moved.
    pub(super) changed: Notify,
}

/// A time in which messages of some subscriptions may have been missed. Told once.
#[derive(Debug)]
pub(super) struct Outage {
    topics: Vec<Topic>,
    told: AtomicBool,
}

impl Outage {
    pub(super) fn new(topics: Vec<Topic>) -> Self {
        Self { topics, told: AtomicBool::new(false) }
    }
}

impl Common {
    pub(super) fn new(audience: Arc<dyn Audience>) -> Self {
        Self {
            audience,
            down: AtomicUsize::new(0),
            moved: Mutex::default(),
            awaited: Mutex::default(),
            awaits: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// Takes what servers have said not to serve any more.
    pub(super) fn take_moved(&self) -> HashSet<(Place, Topic)> {
        std::mem::take(&mut *lock(&self.moved))
    }

    /// A subscription begins at another place: whatever arrives first comes after an outage.
    pub(super) fn await_first(&self, topic: Topic, outage: Arc<Outage>) {
        lock(&self.awaited).insert(topic, outage);
        self.awaits.store(true, Ordering::Release);
    }

    /// A subscription is active again, or not wanted any more.
    pub(super) fn arrives(&self, topic: &Topic, outage: &Outage, wanted: bool) {
        let mut awaited = lock(&self.awaited);
        awaited.remove(topic);
        self.awaits.store(!awaited.is_empty(), Ordering::Release);
        drop(awaited);
        if wanted {
            self.tell(outage);
        }
    }

    fn tell(&self, outage: &Outage) {
        if !outage.told.swap(true, Ordering::AcqRel) {
            self.audience.missed(Some(&outage.topics));
        }
    }

    fn arrived(&self, batch: &mut Vec<Arrival>) {
        if self.awaits.load(Ordering::Acquire) {
            let over: Vec<_> = {
                let mut awaited = lock(&self.awaited);
                batch.iter().filter_map(|arrival| awaited.remove(&arrival.topic)).collect()
            };
            over.iter().for_each(|outage| self.tell(outage));
        }
        self.audience.arrived(batch);
    }
}

/// Listens to one place.
#[derive(Debug)]
pub(super) struct Ear {
    place: Place,
    common: Arc<Common>,
    state: Mutex<State>,
    /// The connection was lost, and that messages may be missing was not told yet.
    untold: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    is_lost: bool,
    /// There is a connection again.
    is_back: bool,
    /// Subscriptions that the server does not serve any more, and that are not active elsewhere yet.
    astray: usize,
}

impl Ear {
    pub(super) fn new(place: Place, common: Arc<Common>) -> Self {
        Self { place, common, state: Mutex::default(), untold: AtomicBool::new(false) }
    }

    pub(super) fn is_lost(&self) -> bool {
        lock(&self.state).is_lost
    }

    /// A subscription that went astray is active elsewhere, or not wanted any more.
    pub(super) fn found(&self) {
        lock(&self.state).astray -= 1;
        self.end_outage();
    }

    /// All subscriptions have gone elsewhere: what is missing is told there.
    pub(super) fn abandon(&self) {
        self.untold.store(false, Ordering::Release);
    }

    fn end_outage(&self) {
        {
            let mut state = lock(&self.state);
            if !(state.is_lost && state.is_back && state.astray == 0) {
                return;
            }
            state.is_lost = false;
        }
        self.tell_missed();
        if self.common.down.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.common.audience.restored();
        }
    }

    fn tell_missed(&self) {
        if self.untold.swap(false, Ordering::AcqRel) {
            self.common.audience.missed(None);
        }
    }
}

impl Listener for Ear {
    fn arrived(&self, batch: &mut Vec<Arrival>) {
        if self.untold.load(Ordering::Acquire) {
            self.tell_missed();
        }
        self.common.arrived(batch);
    }

    fn lost(&self, reason: &str) {
        self.untold.store(true, Ordering::Release);
        {
            let mut state = lock(&self.state);
            state.is_back = false;
            if std::mem::replace(&mut state.is_lost, true) {
                return;
            }
        }
        if self.common.down.fetch_add(1, Ordering::AcqRel) == 0 {
            self.common.audience.lost(reason);
        }
        self.common.changed.notify_one();
    }

    fn restored(&self) {
        lock(&self.state).is_back = true;
        self.end_outage();
    }

    fn moved(&self, topic: &Topic) {
        if lock(&self.common.moved).insert((self.place.clone(), topic.clone())) {
            lock(&self.state).astray += 1;
        }
        self.common.changed.notify_one();
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
