//! Results as JSON lines: one object per run.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Failure,
    client::Received,
    cluster::{Cpu, Outcome},
    load::{Load, Workload},
    statistics::percentile,
    subject::{BrokerKind, Server, Subject},
};

/// One run of one subject.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) broker: BrokerKind,
    pub(crate) workload: Workload,
    /// How much later everything arrives between servers and broker, in each direction.
    pub(crate) link_us: f64,
    /// Messages that are emitted, or calls.
    pub(crate) messages: u64,
    pub(crate) bytes: usize,
    /// Messages per second; 0 is as fast as the call lets one caller.
    pub(crate) rate: u64,
    pub(crate) own_clients: usize,
    pub(crate) clients: usize,
    pub(crate) subject: String,
    pub(crate) family: Family,
    /// Deliveries to the receiver's clients, calls, or acknowledgements. None where only the latency was measured.
    pub(crate) per_second: Option<f64>,
    /// At the clients of both servers; sockets or acknowledgements where answers are gathered.
    pub(crate) lost: u64,
    pub(crate) out_of_order: u64,
    pub(crate) repeated: u64,
    pub(crate) refused: u64,
    /// Processor time in microseconds per one of what is counted.
    pub(crate) cpu_us: Option<Cpu<f64>>,
    /// Most memory of the sender, in MiB.
    pub(crate) sender_memory_mib: Option<f64>,
    /// From the emit call to the receiver's clients.
    pub(crate) latency_us: Option<Latency>,
    /// The median to the sender's own clients.
    pub(crate) own_p50_us: Option<f64>,
    /// The median to the clients of both.
    pub(crate) both_p50_us: Option<f64>,
}

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    Trunkline,
    NodeJs,
    Socketioxide,
    /// The bare broker.
    Bare,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
}

impl Row {
    fn new(broker: BrokerKind, workload: Workload, load: Load, link: Duration, subject: &str, family: Family) -> Self {
        Self {
            broker,
            workload,
            link_us: link.as_secs_f64() * 1e6,
            messages: load.messages,
            bytes: load.bytes,
            rate: load.rate,
            own_clients: load.own_clients,
            clients: load.clients,
            subject: subject.to_owned(),
            family,
            per_second: None,
            lost: 0,
            out_of_order: 0,
            repeated: 0,
            refused: 0,
            cpu_us: None,
            sender_memory_mib: None,
            latency_us: None,
            own_p50_us: None,
            both_p50_us: None,
        }
    }

    pub(crate) fn of_servers(
        broker: BrokerKind,
        workload: Workload,
        load: Load,
        link: Duration,
        subject: &Subject,
        outcome: &Outcome,
    ) -> Self {
        let family = match subject.server {
            Server::Trunkline(_) => Family::Trunkline,
            Server::Node(_) => Family::NodeJs,
            Server::Socketioxide(_) => Family::Socketioxide,
        };
        let Outcome { remote, local, .. } = outcome;
        let median = |latencies: Vec<u64>| (!latencies.is_empty()).then(|| percentile(latencies, 0.5));
        Self {
            per_second: Some(outcome.rate),
            lost: remote.lost() + local.lost(),
            out_of_order: remote.out_of_order + local.out_of_order,
            repeated: remote.repeated + local.repeated,
            refused: outcome.refused,
            cpu_us: Some(outcome.cpu),
            sender_memory_mib: Some(outcome.sender_memory),
            latency_us: Latency::of(remote),
            own_p50_us: median(local.latencies.clone()),
            both_p50_us: median(outcome.latencies()),
            ..Self::new(broker, workload, load, link, subject.name, family)
        }
    }

    pub(crate) fn of_bare_broker(
        broker: BrokerKind,
        workload: Workload,
        load: Load,
        link: Duration,
        name: &str,
        per_second: Option<f64>,
        received: Option<&Received>,
    ) -> Self {
        Self {
            per_second,
            lost: received.map_or(0, Received::lost),
            latency_us: received.and_then(Latency::of),
            ..Self::new(broker, workload, load, link, name, Family::Bare)
        }
    }

    /// Whether every client received everything once and in order, and nothing was refused.
    pub(crate) fn is_complete(&self) -> bool {
        self.lost + self.out_of_order + self.repeated + self.refused == 0
    }

    /// What makes runs those of one table.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        let key = |row: &Self| (row.broker, row.workload, row.messages, row.bytes, row.rate, row.clients);
        key(self) == key(other) && self.link_us.total_cmp(&other.link_us).is_eq()
    }
}

impl Latency {
    fn of(received: &Received) -> Option<Self> {
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| percentile(received.latencies.clone(), share));
        (!received.latencies.is_empty()).then_some(Self { p50, p90, p99 })
    }
}

/// Empties the file, or creates it with its folders.
pub(crate) fn create(path: &Path) -> Result<(), Failure> {
    let created = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, ""));
    created.map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// Each at once: a later run that fails takes no results with it.
pub(crate) fn append(path: &Path, row: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(row)? + "\n";
    let written = OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let rows = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    rows.map_err(|error| format!("{}: {error}", path.display()).into())
}
