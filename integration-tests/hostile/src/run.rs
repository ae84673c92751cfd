//! One transport: hostile messages between valid ones, and what came of it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time::sleep;
use trunkline_brokers::transports::Transport;

use crate::{
    Failure,
    account::{self, Account},
    cluster::Cluster,
    forge::{Forger, Phase},
    golden,
    node::HEARTBEAT_INTERVAL,
    transport,
    wire::{self, Wire},
};

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Hostile messages.
    pub(crate) sent: u64,
    /// Events of the valid traffic, and how many deliveries of them were missed or repeated.
    pub(crate) emitted: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    /// Events that clients received of forged messages.
    pub(crate) believed: u64,
    /// Messages that a node counted as malformed or unknown, at least.
    pub(crate) refused: u64,
    /// How long until requests were right again.
    pub(crate) healed: Duration,
    /// The most memory of a node before and after, in MiB.
    pub(crate) memory: (u64, u64),
    pub(crate) took: Duration,
    /// Connections that nodes have lost, which explain losses.
    pub(crate) outages: Vec<String>,
    /// Broken promises.
    pub(crate) faults: Vec<String>,
}

/// What a run needs.
pub(crate) struct Setup<'a> {
    pub(crate) program: &'a Path,
    /// Folder for the logs of the nodes.
    pub(crate) logs: &'a Path,
    pub(crate) broker: &'a str,
    pub(crate) messages: u64,
    pub(crate) seed: u64,
}

struct Run {
    transport: Transport,
    cluster: Cluster,
    wire: Box<dyn Wire>,
    forger: Forger,
    report: Report,
}

pub(crate) async fn run(transport: Transport, setup: Setup<'_>) -> Result<Report, Failure> {
    let began = Instant::now();
    let url = transport::url(transport, setup.broker);
    let cluster = Cluster::start(setup.program, &url, setup.logs).await?;
    let wire = wire::open(transport, &url, &cluster.ids).await?;
    let golden = golden::all(transport::dialect(transport))?;
    let forger = Forger::new(setup.seed, transport::dialect(transport), golden, cluster.ids.clone());
    let mut run = Run { transport, cluster, wire, forger, report: Report::default() };
    // What ends it early is one more broken promise: what the clients have seen says why.
    if let Err(error) = run.drive(setup.messages).await {
        run.report.faults.push(error.to_string());
    }
    run.conclude(began).await;
    Ok(run.report)
}

impl Run {
    async fn drive(&mut self, messages: u64) -> Result<(), Failure> {
        self.cluster.await_right(TIMEOUT).await?;
        self.report.memory.0 = self.memory();
        self.cluster.start_traffic();
        self.content(messages - messages / 4).await?;
        self.numbers(messages / 4).await?;
        let faults = self.cluster.stop_traffic().await;
        self.report.faults.extend(faults);
        self.count().await
    }

    /// What says nothing under the numbers of a node must not touch the valid traffic at all.
    async fn content(&mut self, messages: u64) -> Result<(), Failure> {
        self.forger.phase = Phase::Content;
        let before = self.cluster.accounts().await?;
        self.send(messages).await?;
        self.check("after forged content").await;
        let repeated = self.cluster.repeated();
        if repeated > 0 {
            self.report.faults.push(format!("forged content: {repeated} events repeated or out of order"));
        }
        let has_history = self.transport.has_history();
        let unexplained = self.settled(&before, |nodes| account::unexplained(nodes, has_history)).await?;
        self.report.faults.extend(unexplained.map(|nodes| format!("forged content: {nodes}")));
        Ok(())
    }

    /// What forged numbers make a node miss is a gap that it reports; afterwards all is well again.
    async fn numbers(&mut self, messages: u64) -> Result<(), Failure> {
        self.forger.phase = Phase::Numbers;
        let before = self.cluster.accounts().await?;
        self.send(messages).await?;
        self.check("after forged numbers").await;
        // A node that was silenced is heard again; what it missed meanwhile shows only now.
        let began = Instant::now();
        if !self.cluster.caught_up(HEALING).await {
            self.report.faults.push(format!("forged numbers: the valid traffic stands still after {HEALING:?}"));
            self.cluster.caught_up(TIMEOUT).await;
        }
        self.report.healed = self.report.healed.max(began.elapsed());
        let (lost, repeated) = (self.cluster.lost(), self.cluster.repeated());
        let is_told = |nodes: &[Account]| nodes.iter().all(Account::tells_all);
        let untold = self.settled(&before, |nodes| (!is_told(nodes)).then(|| account::shown(nodes))).await?;
        self.report.faults.extend(untold.map(|nodes| format!("forged numbers: losses without gaps: {nodes}")));
        // More of the valid traffic, undisturbed.
        if !self.cluster.caught_up(TIMEOUT).await {
            self.report.faults.push("after forged numbers: the valid traffic does not arrive any more".into());
        }
        let more = (self.cluster.lost() - lost, self.cluster.repeated() - repeated);
        if more != (0, 0) {
            self.report
                .faults
                .push(format!("healed, and then {} events lost, {} repeated or out of order", more.0, more.1));
        }
        Ok(())
    }

    /// What is wrong with what the nodes have missed since `before`, once there was time to report it.
    async fn settled(
        &mut self,
        before: &[Account],
        wrong: impl Fn(&[Account]) -> Option<String>,
    ) -> Result<Option<String>, Failure> {
        let deadline = Instant::now() + HEALING;
        loop {
            let now = self.cluster.accounts().await?;
            let nodes: Vec<_> = now.iter().zip(before).map(|(now, before)| now.since(before)).collect();
            let wrong = wrong(&nodes);
            if wrong.is_none() || Instant::now() > deadline {
                return Ok(wrong);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Sends in portions that the nodes have to digest first, so that none is lost for want of room.
    async fn send(&mut self, messages: u64) -> Result<(), Failure> {
        let mut left = messages;
        while left > 0 {
            let portion = left.min(PORTION);
            for message in self.wire.observed() {
                self.forger.observe(message);
            }
            for _ in 0..portion {
                let message = self.forger.next();
                self.wire.put(message, self.forger.phase, &mut self.forger.rng);
            }
            self.wire.flush().await?;
            left -= portion;
            self.report.sent += portion;
            // Forged numbers may hold it up for a while.
            let limit = if self.forger.phase == Phase::Content { TIMEOUT } else { Duration::from_millis(200) };
            if !self.cluster.caught_up(limit).await && self.forger.phase == Phase::Content {
                self.report.faults.push(format!("after {} messages the valid traffic stands still", self.report.sent));
                return Ok(());
            }
            if let Some(fault) = self.cluster.nodes.iter_mut().find_map(crate::node::Node::fault) {
                return Err(fault.into());
            }
        }
        Ok(())
    }

    /// Everyone is well again within two heartbeat intervals after what was sent has been read.
    async fn check(&mut self, when: &str) {
        self.cluster.caught_up(HEALING).await;
        match self.cluster.await_right(HEALING).await {
            Ok(took) => self.report.healed = self.report.healed.max(took),
            Err(wrong) => self.report.faults.push(format!("{when}: requests are wrong after {HEALING:?}: {wrong}")),
        }
        let faults = self.cluster.client_faults();
        self.report.faults.extend(faults);
    }

    /// Each malformed message is counted at each node, once.
    async fn count(&mut self) -> Result<(), Failure> {
        const MALFORMED: u64 = 50;
        let before = self.cluster.metrics().await?;
        (0..MALFORMED).for_each(|_| self.wire.put_malformed());
        self.wire.flush().await?;
        let deadline = Instant::now() + HEALING;
        let counted = loop {
            let now = self.cluster.metrics().await?;
            let counted: Vec<_> = now.iter().zip(&before).map(|(now, before)| refused(now) - refused(before)).collect();
            if counted.iter().all(|count| *count >= MALFORMED) || Instant::now() > deadline {
                break counted;
            }
        };
        if counted.iter().any(|count| *count != MALFORMED) {
            self.report.faults.push(format!("of {MALFORMED} malformed messages the nodes counted {counted:?}"));
        }
        Ok(())
    }

    async fn conclude(&mut self, began: Instant) {
        let metrics = self.cluster.metrics().await.unwrap_or_default();
        let report = &mut self.report;
        report.refused = metrics.iter().map(refused).min().unwrap_or_default();
        report.emitted = self.cluster.emitted();
        report.lost = self.cluster.lost();
        report.repeated = self.cluster.repeated();
        report.believed = self.cluster.other_events();
        report.outages = self.cluster.outages();
        report.faults.extend(self.cluster.client_faults());
        report.faults.extend(self.cluster.nodes.iter_mut().filter_map(crate::node::Node::fault));
        for counter in ["inbox_overflow", "dropped_by_sockets"] {
            let count = sum(&metrics, counter);
            if count > 0 {
                report.faults.push(format!("{counter}: {count}"));
            }
        }
        report.memory.1 = self.cluster.nodes.iter().map(crate::node::Node::memory).max().unwrap_or_default();
        if report.memory.1 > report.memory.0 + MEMORY {
            report.faults.push(format!("memory rose from {} to {} MiB", report.memory.0, report.memory.1));
        }
        if report.refused == 0 {
            report.faults.push("nothing was refused: the messages did not arrive".into());
        }
        report.took = began.elapsed();
    }

    fn memory(&self) -> u64 {
        self.cluster.nodes.iter().map(crate::node::Node::memory).max().unwrap_or_default()
    }
}

fn refused(metrics: &Value) -> u64 {
    ["malformed", "unknown_type"].iter().filter_map(|name| metrics[*name].as_u64()).sum()
}

fn sum(metrics: &[Value], counter: &str) -> u64 {
    metrics.iter().filter_map(|metrics| metrics[counter].as_u64()).sum()
}

/// Messages that are sent at once.
const PORTION: u64 = 250;
/// Two heartbeat intervals, a tenth of them in which a silent node is only suspected, and the time to ask.
const HEALING: Duration = HEARTBEAT_INTERVAL.saturating_mul(2).saturating_add(Duration::from_millis(1300));
/// Until what nodes say is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How much more memory a node may use in the end, in MiB.
const MEMORY: u64 = 256;
const TIMEOUT: Duration = Duration::from_secs(20);
