//! One node of the cluster: its proxy, which stays, and its process, which may be started anew.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use trunkline_brokers::Proxy;

use crate::{
    Failure,
    client::{Client, numbered},
    clock::Clock,
    load::{self, MEMBERS, room},
    process::{Launch, Process, Usage},
    record::{Noted, Record},
    requests::SOCKETS,
};

/// How long a node may take to know the others.
const ACQUAINTANCE: Duration = Duration::from_secs(20);

/// What all nodes of a cell share.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The program of a node.
    pub(crate) program: PathBuf,
    /// Folder of the logs.
    pub(crate) folder: PathBuf,
    pub(crate) record: Arc<Record>,
    pub(crate) nodes: usize,
    /// Messages per second of each node.
    pub(crate) rate: u32,
    pub(crate) max_buffer_size: usize,
    /// The clock of the last node, if it can be set.
    pub(crate) clock: Option<Clock>,
}

/// A node and the proxy through which it reaches the broker.
#[derive(Debug)]
pub(crate) struct Node {
    index: usize,
    setup: Arc<Setup>,
    url: String,
    pub(crate) proxy: Proxy,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    /// Number of the process in the ledger.
    number: usize,
    control: Arc<Client>,
    /// In the rooms. They disconnect when dropped.
    _members: Vec<Client>,
    load: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.load.iter().for_each(JoinHandle::abort);
    }
}

impl Node {
    pub(crate) fn new(index: usize, setup: Arc<Setup>, url: String, proxy: Proxy) -> Self {
        Self { index, setup, url, proxy, running: None }
    }

    /// Starts the process, and returns when its clients are in their rooms.
    pub(crate) async fn start(&mut self) -> Result<(), Failure> {
        let Setup { program, max_buffer_size, clock, .. } = &*self.setup;
        let log = self.log();
        let clock = clock.as_ref().filter(|_| self.is_last());
        let launch = Launch { program, url: &self.url, max_buffer_size: *max_buffer_size, log: &log, clock };
        let process = Process::start(&launch).await?;
        let number = self.setup.record.ledger().add_sender(self.index);
        let control = Arc::new(self.control(process.port, number).await?);
        control.perform(&json!({ "kind": "watch" })).await?;
        let mut members = Vec::new();
        for group in 0..SOCKETS {
            members.push(self.member(process.port, number, group).await?);
        }
        self.running = Some(Running { process, number, control, _members: members, load: Vec::new() });
        Ok(())
    }

    fn is_last(&self) -> bool {
        self.index + 1 == self.setup.nodes
    }

    /// File with what its processes print to standard error.
    pub(crate) fn log(&self) -> PathBuf {
        self.setup.folder.join(format!("node-{}.log", self.index))
    }

    /// Connects the client that has the node perform operations, and that sees its events.
    async fn control(&self, port: u16, process: usize) -> Result<Client, Failure> {
        let record = Arc::clone(&self.setup.record);
        Client::connect(port, move |arguments| {
            if let Some(event) = arguments.strip_prefix(r#"["event","#).and_then(|text| text.strip_suffix(']'))
                && let Ok(event) = serde_json::from_str(event)
            {
                record.events().push(Noted { process, at: Instant::now(), event });
            }
        })
        .await
    }

    /// Connects a client, which receives what goes to its group and to all.
    async fn member(&self, port: u16, process: usize, group: usize) -> Result<Client, Failure> {
        let record = Arc::clone(&self.setup.record);
        let number = Arc::new(OnceLock::new());
        let receiver = Arc::clone(&number);
        let client = Client::connect(port, move |arguments| {
            if let (Some(&receiver), Some((sender, number))) = (receiver.get(), numbered(arguments)) {
                record.ledger().arrived(receiver, sender, number, Instant::now());
            }
        })
        .await?;
        client.perform(&json!({ "kind": "join", "rooms": [MEMBERS, room(group)] })).await?;
        number.get_or_init(|| self.setup.record.ledger().add_receiver(process, group, Instant::now()));
        Ok(client)
    }

    /// Returns when the node knows all others.
    pub(crate) async fn await_peers(&self) -> Result<(), Failure> {
        let Some(running) = &self.running else { return Err("the node does not run".into()) };
        let known = async {
            loop {
                let outcome = running.control.perform(&json!({ "kind": "peers" })).await?;
                if outcome["nodes"].as_array().map_or(0, Vec::len) + 1 >= self.setup.nodes {
                    return Ok::<_, Failure>(());
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(ACQUAINTANCE, known).await.map_err(|_| "the nodes do not know each other")?
    }

    /// Begins to emit and to ask.
    pub(crate) fn load(&mut self) {
        let Some(running) = &mut self.running else { return };
        let Setup { record, rate, .. } = &*self.setup;
        let (client, number) = (&running.control, running.number);
        running.load = vec![
            tokio::spawn(load::emit(Arc::clone(client), Arc::clone(record), number, *rate)),
            tokio::spawn(load::ask(Arc::clone(client), Arc::clone(record), self.index)),
        ];
    }

    /// Ends what [`Node::load`] began.
    pub(crate) fn unload(&mut self) {
        if let Some(running) = &mut self.running {
            running.load.drain(..).for_each(|task| task.abort());
        }
    }

    /// Performs an operation.
    pub(crate) async fn perform(&self, operation: &serde_json::Value) -> Result<serde_json::Value, Failure> {
        let running = self.running.as_ref().ok_or("the node does not run")?;
        Ok(running.control.perform(operation).await?)
    }

    /// Port of its process.
    pub(crate) fn port(&self) -> Result<u16, Failure> {
        Ok(self.process()?.port)
    }

    pub(crate) fn process(&self) -> Result<&Process, Failure> {
        Ok(&self.running.as_ref().ok_or("the node does not run")?.process)
    }

    pub(crate) fn usage(&self) -> Usage {
        self.running.as_ref().map(|running| running.process.usage()).unwrap_or_default()
    }

    /// Kills the process.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        self.setup.record.ledger().ends(running.number, Instant::now());
        self.setup.record.running().stop(self.index);
        running.process.kill().await
    }

    /// Starts the process again; it gets its load when it knows the others.
    pub(crate) async fn restart(&mut self) -> Result<(), Failure> {
        self.start().await?;
        self.setup.record.running().start(self.index, Instant::now());
        self.await_peers().await?;
        self.load();
        Ok(())
    }

    /// Ends the process in good order; returns whether it has ended in time.
    pub(crate) async fn stop(&mut self) -> Result<bool, Failure> {
        match self.running.take() {
            Some(mut running) => running.process.stop().await,
            None => Ok(true),
        }
    }
}

/// Lines that a process has printed.
pub(crate) fn lines(log: &Path) -> u64 {
    std::fs::read(log).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count() as u64)
}
