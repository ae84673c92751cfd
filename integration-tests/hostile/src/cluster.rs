//! Three nodes with a client each that emits and receives the valid traffic, and one that asks.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    Failure,
    account::Account,
    books::Series,
    client::{Client, TRAFFIC},
    node::Node,
};

pub(crate) const NODES: usize = 3;

const ROOM: &str = "traffic-room";

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// Clients in the room.
    pub(crate) watchers: Vec<Client>,
    probers: Vec<Client>,
    /// Ids of the nodes.
    pub(crate) ids: Vec<String>,
    sockets: BTreeSet<String>,
    emitted: Arc<[[AtomicU64; 2]; NODES]>,
    /// Number of requests that each node was asked to make.
    asked: Arc<[AtomicU64; NODES]>,
    stopped: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Cluster {
    pub(crate) async fn start(program: &Path, url: &str, logs: &Path) -> Result<Self, Failure> {
        let nodes = try_join_all((0..NODES).map(|number| Node::start(program, url, number, logs))).await?;
        let connect = || try_join_all(nodes.iter().map(|node| Client::connect(&node.url)));
        let (watchers, probers) = (connect().await?, connect().await?);
        for watcher in &watchers {
            watcher.perform(json!({ "kind": "join", "rooms": [ROOM] })).await?;
        }
        for prober in &probers {
            prober.perform(json!({ "kind": "watch" })).await?;
        }
        let sockets = watchers.iter().chain(&probers).map(|client| client.id.clone()).collect();
        let mut cluster = Self {
            nodes,
            watchers,
            probers,
            ids: Vec::new(),
            sockets,
            emitted: Arc::default(),
            asked: Arc::default(),
            stopped: Arc::default(),
            tasks: Vec::new(),
        };
        cluster.ids = cluster.await_ids().await?;
        Ok(cluster)
    }

    /// The ids of the nodes, once each knows the others.
    async fn await_ids(&self) -> Result<Vec<String>, Failure> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut ids = BTreeSet::new();
            let mut is_complete = true;
            for prober in &self.probers {
                let peers = texts(&prober.perform(json!({ "kind": "peers" })).await?["nodes"]);
                is_complete &= peers.len() == NODES - 1;
                ids.extend(peers);
            }
            if is_complete && ids.len() == NODES {
                return Ok(ids.into_iter().collect());
            }
            if Instant::now() > deadline {
                return Err(format!("the nodes do not find each other: {ids:?}").into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    // --- valid traffic ---

    /// Every client emits, to all and to the room in turns, and asks, until [`Cluster::stop_traffic`].
    pub(crate) fn start_traffic(&mut self) {
        self.stopped = Arc::default();
        for (node, (watcher, prober)) in self.watchers.iter().zip(&self.probers).enumerate() {
            let (emitted, stopped) = (Arc::clone(&self.emitted), Arc::clone(&self.stopped));
            self.tasks.push(tokio::spawn(emit(watcher.clone(), node, emitted, stopped)));
            self.tasks.push(tokio::spawn(ask(
                prober.clone(),
                node,
                Arc::clone(&self.asked),
                Arc::clone(&self.stopped),
            )));
        }
    }

    /// Returns what went wrong with it, once it has stopped.
    pub(crate) async fn stop_traffic(&mut self) -> Vec<String> {
        self.stopped.store(true, Ordering::Relaxed);
        let mut faults = Vec::new();
        for task in self.tasks.drain(..) {
            faults.extend(task.await.unwrap_or_else(|error| vec![error.to_string()]));
        }
        faults
    }

    /// Waits until every client has received an event of every series that is emitted from now on, so that the nodes have
    /// read all that was sent to them before; returns whether it has in time.
    pub(crate) async fn caught_up(&self, limit: Duration) -> bool {
        let next: Vec<(Series, u64)> = (0..NODES)
            .flat_map(|node| [0, 1].map(|series| (node, series)))
            .map(|(node, series)| ((node as u64, series as u64), self.emitted[node][series].load(Ordering::Relaxed)))
            .collect();
        for watcher in &self.watchers {
            // The event with the next number may be on its way already; the one after it is not.
            let has_later =
                |books: &crate::books::Books| next.iter().all(|(series, next)| books.next(*series) > next + 1);
            if !watcher.wait(limit, |state| has_later(&state.books)).await {
                return false;
            }
        }
        true
    }

    pub(crate) fn lost(&self) -> u64 {
        self.watchers.iter().map(|watcher| watcher.state().books.lost).sum()
    }

    pub(crate) fn repeated(&self) -> u64 {
        self.watchers.iter().map(|watcher| watcher.state().books.repeated).sum()
    }

    pub(crate) fn emitted(&self) -> u64 {
        self.emitted.iter().flatten().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Events that the clients received of forged messages.
    pub(crate) fn other_events(&self) -> u64 {
        self.clients().map(|client| client.state().other_events).sum()
    }

    /// What the clients complain of, once.
    pub(crate) fn client_faults(&self) -> Vec<String> {
        self.clients().flat_map(|client| std::mem::take(&mut client.state().faults)).collect()
    }

    /// What each node has missed until now, and what it says of it.
    pub(crate) async fn accounts(&self) -> Result<Vec<Account>, Failure> {
        let lost: Vec<_> = self.watchers.iter().map(|watcher| watcher.state().books.lost).collect();
        let metrics = self.metrics().await?;
        let asked: u64 = self.asked.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let accounts = lost.into_iter().zip(&metrics).enumerate().map(|(node, (lost, metrics))| {
            let count = |name: &str| metrics[name].as_u64().unwrap_or_default();
            Account {
                lost,
                requests: asked - self.asked[node].load(Ordering::Relaxed),
                missed: count("missed"),
                unknown: self.probers[node].state().unknown_gaps,
                outages: count("connections_lost"),
                repeats: count("repeats"),
            }
        });
        Ok(accounts.collect())
    }

    /// Why nodes have lost their connections.
    pub(crate) fn outages(&self) -> Vec<String> {
        let reasons = |(node, prober): (usize, &Client)| {
            let reasons = prober.state().outages.clone();
            reasons.into_iter().map(move |reason| format!("node {node}: {reason}"))
        };
        self.probers.iter().enumerate().flat_map(reasons).collect()
    }

    fn clients(&self) -> impl Iterator<Item = &Client> {
        self.watchers.iter().chain(&self.probers)
    }

    // --- requests ---

    /// Waits until all requests of all nodes are answered rightly, those that begin after `limit` at the latest. Returns
    /// when the first right ones began.
    ///
    /// # Errors
    /// What is wrong if they are not in time.
    pub(crate) async fn await_right(&self, limit: Duration) -> Result<Duration, String> {
        let began = Instant::now();
        loop {
            let asked = began.elapsed();
            match self.check_requests().await {
                Ok(()) => return Ok(asked),
                Err(wrong) if asked > limit => return Err(wrong),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn check_requests(&self) -> Result<(), String> {
        let checks = self.probers.iter().enumerate().map(|(node, prober)| async move {
            self.asked[node].fetch_add(QUESTIONS, Ordering::Relaxed);
            self.check_node(prober).await.map_err(|wrong| format!("node {node}: {wrong}"))
        });
        try_join_all(checks).await.map(drop)
    }

    async fn check_node(&self, prober: &Client) -> Result<(), String> {
        let peers = texts(&prober.perform(json!({ "kind": "peers" })).await?["nodes"]);
        if peers.len() != NODES - 1 {
            return Err(format!("{} peers", peers.len()));
        }
        let fetched = prober.perform(fetch_sockets()).await?;
        let sockets: BTreeSet<_> =
            list(&fetched["sockets"]).iter().filter_map(|socket| socket["id"].as_str()).map(str::to_owned).collect();
        if sockets != self.sockets {
            return Err(format!("fetched {} of {} sockets", sockets.len(), self.sockets.len()));
        }
        let asked = prober.perform(ask_servers()).await?;
        if list(&asked["servers"]).len() != NODES - 1 || asked["missing"] != 0 {
            return Err(format!(
                "{} of {} servers answered, {} are missing",
                list(&asked["servers"]).len(),
                NODES - 1,
                asked["missing"]
            ));
        }
        let acknowledged = prober.perform(ask_clients()).await?;
        if list(&acknowledged["answers"]).len() != NODES || !list(&acknowledged["silent"]).is_empty() {
            return Err(format!("{} of {NODES} clients answered", list(&acknowledged["answers"]).len()));
        }
        Ok(())
    }

    /// A counter of every node.
    pub(crate) async fn metrics(&self) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        for prober in &self.probers {
            all.push(prober.perform(json!({ "kind": "counters" })).await?["counters"].take());
        }
        Ok(all)
    }
}

async fn emit(
    watcher: Client,
    node: usize,
    emitted: Arc<[[AtomicU64; 2]; NODES]>,
    stopped: Arc<AtomicBool>,
) -> Vec<String> {
    let mut faults = Vec::new();
    while !stopped.load(Ordering::Relaxed) && faults.len() < 3 {
        for (series, to) in [&[][..], &[ROOM][..]].into_iter().enumerate() {
            let number = emitted[node][series].load(Ordering::Relaxed);
            let operation =
                json!({ "kind": "emit", "select": { "to": to }, "event": TRAFFIC, "args": [node, series, number] });
            match watcher.perform(operation).await {
                Ok(_) => _ = emitted[node][series].fetch_add(1, Ordering::Relaxed),
                // The client says so itself.
                Err(fault) if fault == "disconnected" => return faults,
                Err(fault) => faults.push(fault),
            }
        }
        sleep(PAUSE).await;
    }
    faults
}

/// Asks whatever the answers are: while they are forged they may be wrong, but requests end.
async fn ask(prober: Client, node: usize, asked: Arc<[AtomicU64; NODES]>, stopped: Arc<AtomicBool>) -> Vec<String> {
    let mut faults = Vec::new();
    while !stopped.load(Ordering::Relaxed) {
        asked[node].fetch_add(QUESTIONS, Ordering::Relaxed);
        for operation in [fetch_sockets(), ask_servers(), ask_clients()] {
            match prober.perform(operation).await {
                Err(fault) if fault == "disconnected" => return faults,
                Err(fault) if fault.contains("did not end") => faults.push(fault),
                _ => {}
            }
        }
        sleep(10 * PAUSE).await;
    }
    faults
}

fn fetch_sockets() -> Value {
    json!({ "kind": "fetchSockets", "select": { "timeout": REQUEST_TIMEOUT } })
}

fn ask_servers() -> Value {
    json!({ "kind": "serverSideEmitWithAck", "select": { "timeout": REQUEST_TIMEOUT }, "event": "question", "args": [1] })
}

fn ask_clients() -> Value {
    json!({ "kind": "emitWithAck", "select": { "to": [ROOM], "timeout": REQUEST_TIMEOUT }, "event": "question" })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Requests that are made in a row.
const QUESTIONS: u64 = 3;
/// In milliseconds.
const REQUEST_TIMEOUT: u64 = 2000;
/// Between the emits of a client.
const PAUSE: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_secs(20);
