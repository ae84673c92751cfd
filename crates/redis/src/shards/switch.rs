//! The task that knows which subscription belongs where.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use trunkline_core::{Error, ErrorKind, Result};

use super::{
    Request,
    ear::{Common, Ear, Outage},
    entry::{Entry, State, Unsettled},
};
use crate::{
    crew::Crew,
    feed::{Done, Feed, FeedLimits, Topic, Waiter},
    status::Status,
    task::Task,
    topology::{Place, Servers, slot_of},
};

/// How often the map of a cluster is read while something is not where it should be.
const CHECK_SOON: Duration = Duration::from_millis(100);

/// How often it is read otherwise.
const CHECK: Duration = Duration::from_secs(5);

/// Sends subscriptions to their places, and after them when they move.
pub(super) struct Switch {
    crew: Crew,
    servers: Arc<Servers>,
    status: Arc<Status>,
    common: Arc<Common>,
    limits: FeedLimits,
    entries: HashMap<Topic, Entry>,
    lines: HashMap<Place, Line>,
    jobs: FuturesUnordered<Job>,
    tickets: u64,
    /// When the map of the cluster is read next; `None` while it is being read, or if there is none.
    next_check: Option<Instant>,
}

/// The connection to one place.
struct Line {
    feed: Feed,
    ear: Arc<Ear>,
    task: Task,
    /// Subscriptions asked for there and not given up.
    topics: usize,
}

type Job = Pin<Box<dyn Future<Output = Ended> + Send>>;

enum Ended {
    /// An attempt to subscribe: refused or not; `None` if it was given up.
    Asked(Topic, u64, Option<Result<()>>),
    /// The map of the cluster was read.
    Mapped(Result<()>),
    Unsubscribed(Done),
}

impl Switch {
    pub(super) fn new(
        crew: Crew,
        servers: Arc<Servers>,
        status: Arc<Status>,
        common: Arc<Common>,
        limits: FeedLimits,
    ) -> Self {
        let next_check = servers.is_cluster().then(|| Instant::now() + CHECK);
        Self {
            crew,
            servers,
            status,
            common,
            limits,
            entries: HashMap::new(),
            lines: HashMap::new(),
            jobs: FuturesUnordered::new(),
            tickets: 0,
            next_check,
        }
    }

    /// Runs until it is closed, or the last handle is gone.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            let check_at = self.next_check.unwrap_or_else(Instant::now);
            tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Subscribe { topics, done, impatient }) => {
                        self.subscribe(topics, done, impatient).await;
                    }
                    Some(Request::Unsubscribe { topics, done }) => self.unsubscribe(topics, done).await,
                    Some(Request::Close) | None => break,
                },
                Some(ended) = self.jobs.next() => self.ended(ended).await,
                () = self.common.changed.notified() => self.note_moved(),
                () = sleep_until(check_at), if self.next_check.is_some() => self.check(),
            }
        }
        for line in self.lines.values() {
            line.task.stop().await;
        }
    }

    async fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Asked(topic, ticket, Some(answer)) => self.answered(&topic, ticket, answer).await,
            Ended::Asked(_, _, None) => {}
            Ended::Mapped(read) => {
                if let Err(error) = read {
                    tracing::debug!(%error, "the map of the cluster could not be read");
                }
                self.rearrange().await;
            }
            // Fails only when nobody waits any more.
            Ended::Unsubscribed(done) => drop(done.send(Ok(()))),
        }
    }

    // --- subscribing ---

    async fn subscribe(&mut self, topics: Vec<Topic>, done: Done, impatient: bool) {
        if self.lines.is_empty() {
            // Sooner or later something is wanted from each.
            self.servers.all_places().into_iter().for_each(|place| {
                self.line(place);
            });
        }
        let waiter = Arc::new(Waiter::new(topics.len() + 1, done));
        for topic in topics {
            if !self.entries.contains_key(&topic) {
                let place = self.servers.place_of(slot_of(topic.name()));
                self.entries.insert(topic.clone(), Entry::new(place));
                self.ask(&topic).await;
            }
            self.want(&topic, &waiter, impatient);
        }
        waiter.one_done();
    }

    fn want(&mut self, topic: &Topic, waiter: &Arc<Waiter>, impatient: bool) {
        let Some(entry) = self.entries.get_mut(topic) else { return };
        entry.wanted += 1;
        let is_lost = || self.lines.get(&entry.place).is_some_and(|line| line.ear.is_lost());
        match &entry.state {
            State::Active => waiter.one_done(),
            State::Refused(error) => waiter.answer(Err(error.clone())),
            State::Asked | State::Astray if impatient && is_lost() => waiter.one_done(),
            State::Asked | State::Astray => {
                entry.waiting.retain(|waiter| !waiter.is_gone());
                entry.waiting.push(Arc::clone(waiter));
            }
        }
    }

    /// Asks its place for a subscription.
    async fn ask(&mut self, topic: &Topic) {
        self.tickets += 1;
        let ticket = self.tickets;
        let Some(entry) = self.entries.get_mut(topic) else { return };
        (entry.ticket, entry.state) = (ticket, State::Asked);
        let place = entry.place.clone();
        let line = self.line(place);
        line.topics += 1;
        let answer = line.feed.begin_subscribe(vec![topic.clone()]).await;
        let topic = topic.clone();
        self.jobs.push(Box::pin(async move { Ended::Asked(topic, ticket, answer.await.ok()) }));
    }

    fn line(&mut self, place: Place) -> &mut Line {
        self.lines.entry(place).or_insert_with_key(|place| {
            let ear = Arc::new(Ear::new(place.clone(), Arc::clone(&self.common)));
            let (servers, status) = (Arc::clone(&self.servers), Arc::clone(&self.status));
            let listener = Arc::clone(&ear) as _;
            let (feed, task) = Feed::new(place.clone(), servers, status, listener, self.limits);
            Line { feed, ear, task: self.crew.take_on(task), topics: 0 }
        })
    }

    async fn answered(&mut self, topic: &Topic, ticket: u64, answer: Result<()>) {
        let Some(entry) = self.entries.get_mut(topic).filter(|entry| entry.ticket == ticket) else { return };
        match answer {
            // It may have moved in the same breath.
            Ok(()) if matches!(entry.state, State::Astray) => return,
            Ok(()) => {
                (entry.state, entry.was_active) = (State::Active, true);
                entry.waiting.drain(..).for_each(|waiter| waiter.one_done());
            }
            Err(error) => {
                entry.waiting.drain(..).for_each(|waiter| waiter.answer(Err(error.clone())));
                entry.state = State::Refused(error);
            }
        }
        let settled = entry.take_unsettled();
        self.settle(topic, settled, true).await;
    }

    /// What was kept until a subscription was active again is not needed any more.
    async fn settle(&mut self, topic: &Topic, unsettled: Unsettled, wanted: bool) {
        if let Some(outage) = unsettled.outage {
            self.common.arrives(topic, &outage, wanted);
        }
        if let Some(place) = unsettled.former {
            self.dismiss(&place, vec![topic.clone()]).await;
        }
        for place in unsettled.astray_from {
            self.found(&place);
        }
    }

    fn found(&self, place: &Place) {
        if let Some(line) = self.lines.get(place) {
            line.ear.found();
        }
    }

    // --- unsubscribing ---

    async fn unsubscribe(&mut self, topics: Vec<Topic>, done: Done) {
        let mut gone: HashMap<Place, Vec<Topic>> = HashMap::new();
        for topic in topics {
            let Some(entry) = self.entries.get_mut(&topic) else { continue };
            entry.wanted -= 1;
            if entry.wanted > 0 {
                continue;
            }
            let unsettled = entry.take_unsettled();
            gone.entry(entry.place.clone()).or_default().push(topic.clone());
            self.entries.remove(&topic);
            self.settle(&topic, unsettled, false).await;
        }
        let mut answers = Vec::new();
        for (place, topics) in gone {
            answers.extend(self.dismiss(&place, topics).await);
        }
        self.jobs.push(Box::pin(async move {
            for answer in answers {
                // Whatever it is: nobody listens any more.
                let _ = answer.await;
            }
            Ended::Unsubscribed(done)
        }));
    }

    async fn dismiss(
        &mut self,
        place: &Place,
        topics: Vec<Topic>,
    ) -> Option<tokio::sync::oneshot::Receiver<Result<()>>> {
        let line = self.lines.get_mut(place)?;
        line.topics -= topics.len();
        Some(line.feed.begin_unsubscribe(topics).await)
    }

    // --- moving ---

    /// Servers do not serve something any more.
    fn note_moved(&mut self) {
        for (place, topic) in self.common.take_moved() {
            match self.entries.get_mut(&topic).filter(|entry| entry.place == place) {
                Some(entry) => {
                    entry.state = State::Astray;
                    entry.astray_from.push(place);
                    if !self.servers.is_cluster() {
                        entry.waiting.drain(..).for_each(|waiter| waiter.answer(Err(unexpected_cluster())));
                    }
                }
                None => self.found(&place),
            }
        }
        if self.next_check.is_some() {
            self.next_check = Some(Instant::now());
        }
    }

    fn check(&mut self) {
        self.next_check = None;
        let servers = Arc::clone(&self.servers);
        self.jobs.push(Box::pin(async move { Ended::Mapped(servers.refresh().await) }));
    }

    /// Everything goes where the map of the cluster says, unless it is well where it is.
    async fn rearrange(&mut self) {
        let masters: HashSet<_> = self.servers.all_places().into_iter().collect();
        let misplaced: Vec<_> = self
            .entries
            .iter()
            .filter(|(topic, entry)| self.is_misplaced(topic, entry, &masters))
            .map(|(topic, entry)| (topic.clone(), entry.was_active))
            .collect();
        let interrupted = misplaced.iter().filter(|(_, was_active)| *was_active).map(|(topic, _)| topic.clone());
        let outage = Arc::new(Outage::new(interrupted.collect()));
        for (topic, _) in misplaced {
            self.relocate(&topic, &outage).await;
        }
        self.tidy(&masters);
        self.next_check = Some(Instant::now() + if self.is_unsettled() { CHECK_SOON } else { CHECK });
    }

    fn is_misplaced(&self, topic: &Topic, entry: &Entry, masters: &HashSet<Place>) -> bool {
        if matches!(entry.state, State::Astray) {
            return true;
        }
        let is_lost = self.lines.get(&entry.place).is_some_and(|line| line.ear.is_lost());
        let is_doubtful = is_lost || !masters.contains(&entry.place);
        is_doubtful && self.servers.place_of(slot_of(topic.name())) != entry.place
    }

    async fn relocate(&mut self, topic: &Topic, outage: &Arc<Outage>) {
        let place = self.servers.place_of(slot_of(topic.name()));
        let Some(entry) = self.entries.get_mut(topic) else { return };
        let old = std::mem::replace(&mut entry.place, place);
        let is_lost = self.lines.get(&old).is_some_and(|line| line.ear.is_lost());
        // A lost connection counts as restored once nothing is wanted from it: not before this is active elsewhere.
        let stays = is_lost && !matches!(entry.state, State::Astray) && entry.former.is_none();
        if stays {
            entry.former = Some(old.clone());
        }
        if entry.was_active && entry.outage.is_none() {
            entry.outage = Some(Arc::clone(outage));
            self.common.await_first(topic.clone(), Arc::clone(outage));
        }
        if !stays {
            self.dismiss(&old, vec![topic.clone()]).await;
        }
        self.ask(topic).await;
    }

    /// Places where nothing is left.
    fn tidy(&mut self, masters: &HashSet<Place>) {
        let inhabited: HashSet<_> = self.entries.values().map(|entry| &entry.place).collect();
        for (place, line) in &self.lines {
            if !inhabited.contains(place) {
                line.ear.abandon();
            }
        }
        self.lines.retain(|place, line| line.topics > 0 || line.ear.is_lost() || masters.contains(place));
    }

    fn is_unsettled(&self) -> bool {
        self.lines.values().any(|line| line.ear.is_lost())
            || self.entries.values().any(|entry| matches!(entry.state, State::Astray) || !entry.astray_from.is_empty())
    }
}

fn unexpected_cluster() -> Error {
    Error::new(ErrorKind::Config, "the server is one of a Redis Cluster, for which cluster=on is needed")
}
