//! Nodes in processes of their own, which are killed.

use std::{
    env::{current_exe, var},
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use tokio::task::spawn_blocking;
use trunkline_brokers::Nats;
use trunkline_conformance::kit::eventually;
use trunkline_core::Room;
use trunkline_nats::{Config, HistoryConfig};

use crate::member::{Member, config};

/// Tells the program of this test that it is the node of another one, and where.
const URL: &str = "TRUNKLINE_TEST_NODE";

/// What the node says when it has its rooms.
const READY: &str = "node: ready";

/// A node in a process of its own, with many rooms. It ends with its owner.
pub(crate) struct NodeProcess(Child);

impl NodeProcess {
    pub(crate) async fn start(url: &str) -> Self {
        let mut command = Command::new(current_exe().unwrap());
        command.args(["--exact", "process::a_node_of_its_own", "--nocapture"]).env(URL, url);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut process = Self(child);
        let stdout = process.0.stdout.take().unwrap();
        let is_ready = move || BufReader::new(stdout).lines().any(|line| line.unwrap().contains(READY));
        assert!(spawn_blocking(is_ready).await.unwrap(), "the node gets ready");
        process
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Returns when all threads of the process have stopped.
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).unwrap();
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), stopped).unwrap();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program of the process. In the run of the tests it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_its_own() {
    let Ok(url) = var(URL) else { return };
    let member = Member::join(Config::from_url(&url).unwrap()).await;
    if member.backend.interest.is_some() {
        for number in 0..2000 {
            member.enter(&Room::new(format!("room {number}"))).await;
        }
    }
    println!("\n{READY}");
    // Ends with the process that started it, at the latest.
    spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_leaves_nothing_behind_in_the_server() {
    let server = Nats::options().monitored().start().await.unwrap();
    let survivor = Member::join(config(server.url())).await;
    survivor.enter(&"r".into()).await;
    let before = Traces::of(&server).await;
    let process = NodeProcess::start(server.url()).await;
    let with_node = Traces::of(&server).await;
    assert_eq!(with_node.connections, before.connections + 1);
    assert!(with_node.subscriptions > before.subscriptions + 250, "{with_node:?}");
    process.kill();
    expect_traces(&server, &before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_history_that_is_killed_leaves_nothing_behind_in_the_server() {
    let server = Nats::options().monitored().start().await.unwrap();
    let mut with_history = config(server.url());
    with_history.history = Some(HistoryConfig::default());
    let _survivor = Member::join(with_history).await;
    let url = format!("{}?history=on", server.url());
    // What the server sets up for all with the first requests of a client is there after this one.
    NodeProcess::start(&url).await.kill();
    expect_traces(&server, &Traces { connections: 1, subscriptions: u64::MAX, consumers: 1 }).await;
    let before = Traces::of(&server).await;
    let process = NodeProcess::start(&url).await;
    assert_eq!(Traces::of(&server).await.consumers, 2);
    process.kill();
    expect_traces(&server, &before).await;
}

/// Waits until the server has no more than this.
async fn expect_traces(server: &Nats, expected: &Traces) {
    let timeout = Duration::from_secs(30);
    let last = Mutex::new(None);
    let what = || format!("allowed are {expected:?}, but the server has {:?}", last.lock().unwrap());
    let is_so = async || {
        let traces = Traces::of(server).await;
        !last.lock().unwrap().insert(traces).exceeds(expected)
    };
    eventually(timeout, what, is_so).await.unwrap_or_else(|failure| panic!("{failure}"));
}

/// What the server sees of its clients.
#[derive(Debug)]
struct Traces {
    connections: u64,
    subscriptions: u64,
    consumers: u64,
}

impl Traces {
    async fn of(server: &Nats) -> Self {
        Self {
            connections: count(server, "/connz", "num_connections").await,
            subscriptions: count(server, "/subsz", "num_subscriptions").await,
            consumers: count(server, "/jsz", "consumers").await,
        }
    }

    fn exceeds(&self, other: &Self) -> bool {
        self.connections > other.connections
            || self.subscriptions > other.subscriptions
            || self.consumers > other.consumers
    }
}

async fn count(server: &Nats, page: &str, name: &str) -> u64 {
    let page: Value = serde_json::from_str(&server.page(page).await.unwrap()).unwrap();
    page[name].as_u64().unwrap()
}
