//! Clusters of processes over a real broker: what they cost while nothing is emitted, when a node starts, dies or asks all.

use std::{collections::HashSet, env::current_exe, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{sleep, timeout},
};
use trunkline_brokers::Proxy;

use super::figures::{Figure, Quantity};
use crate::{Failure, broker::MeasuredBroker, now, process, subject::BrokerKind};

/// Nodes of one cluster, with the proxy that counts their bytes.
struct Cluster {
    url: String,
    proxy: Proxy,
    broker: MeasuredBroker,
    members: Vec<Member>,
}

/// As [`super::simulation::measure`], with processes.
pub(crate) async fn measure(kind: BrokerKind, parameters: &str, nodes: usize) -> Result<Vec<Figure>, Failure> {
    let mut cluster = Cluster::start(kind, parameters, nodes).await?;
    let (published, bytes) = (cluster.published().await?, cluster.proxy.bytes());
    sleep(WINDOW).await;
    let idle = cluster.published().await? - published;
    let idle_bytes = cluster.proxy.bytes() - bytes;

    let published = cluster.published().await?;
    let mut newcomer = Member::start(&cluster.url, &[]).await?;
    let mut known_at = newcomer.until_up(nodes).await?;
    for member in &mut cluster.members {
        known_at = known_at.max(member.until_known(&newcomer.id, true).await?);
    }
    let start_time = known_at.saturating_sub(newcomer.joining);
    sleep(SETTLED).await;
    let start_messages = cluster.published().await? - published + newcomer.published().await?;

    let (sockets, fetch_time) = cluster.members[0].fetch().await?;

    let killed = now();
    newcomer.child.kill().await?;
    let mut down_at = killed;
    for member in &mut cluster.members {
        down_at = down_at.max(member.until_known(&newcomer.id, false).await?);
    }

    let source = source(kind, parameters);
    let figure = |quantity, value| Figure { source: source.clone(), nodes, quantity, value };
    let seconds = WINDOW.as_secs_f64();
    let published = idle as f64 / seconds;
    Ok(vec![
        figure(Quantity::IdleMessages, published),
        figure(Quantity::IdleBytes, idle_bytes as f64 / seconds),
        figure(Quantity::IdleDeliveries, published * (nodes - 1) as f64 / nodes as f64),
        figure(Quantity::StartMessages, start_messages as f64),
        figure(Quantity::StartTime, start_time as f64 / 1e9),
        figure(Quantity::DeathTime, (down_at - killed) as f64 / 1e9),
        // Each node has one socket; the node that asks does not answer, and the newcomer was there, too.
        figure(Quantity::FetchAnswers, sockets as f64 - 2.0),
        figure(Quantity::FetchTime, fetch_time as f64 / 1e9),
    ])
}

/// One of so many nodes has many rooms: it starts, loses its connection, and leaves.
pub(crate) async fn measure_rooms(
    kind: BrokerKind,
    parameters: &str,
    nodes: usize,
    rooms: usize,
) -> Result<Vec<Figure>, Failure> {
    let mut cluster = Cluster::start(kind, parameters, nodes - 1).await?;
    let source = source(kind, parameters);
    let figure = |quantity, value| Figure { source: source.clone(), nodes, quantity, value };
    let mut figures = Vec::new();

    let before = cluster.spent();
    // A link of its own, which is cut without the others.
    let link = Proxy::start(cluster.proxy.port()).await?;
    let url = link.url(&cluster.url);
    let mut large = Member::start(&url, &["--rooms", &rooms.to_string()]).await?;
    let took = large.ready - large.joining;
    large.until_up(nodes - 1).await?;
    let (bytes, cpu) = cluster.spent_since(before);
    figures.push(figure(Quantity::RoomsStartTime, took as f64 / 1e9));
    figures.push(figure(Quantity::RoomsStartBytes, bytes));
    figures.push(figure(Quantity::RoomsStartCpu, cpu));

    let (before, cut) = (cluster.spent(), now());
    link.cut();
    let connected = large.until_connected().await?;
    sleep(SETTLED).await;
    let (bytes, cpu) = cluster.spent_since(before);
    figures.push(figure(Quantity::RoomsReconnectTime, connected.saturating_sub(cut) as f64 / 1e9));
    figures.push(figure(Quantity::RoomsReconnectBytes, bytes));
    figures.push(figure(Quantity::RoomsReconnectCpu, cpu));

    let (before, left) = (cluster.spent(), now());
    let id = large.id.clone();
    large.leave().await?;
    let mut down_at = left;
    for member in &mut cluster.members {
        down_at = down_at.max(member.until_known(&id, false).await?);
    }
    let (bytes, cpu) = cluster.spent_since(before);
    figures.push(figure(Quantity::RoomsLeaveTime, (down_at - left) as f64 / 1e9));
    figures.push(figure(Quantity::RoomsLeaveBytes, bytes));
    figures.push(figure(Quantity::RoomsLeaveCpu, cpu));
    Ok(figures)
}

/// One of two nodes has many sockets: its memory, and how long the other one takes to get their descriptions.
pub(crate) async fn measure_sockets(
    kind: BrokerKind,
    parameters: &str,
    sockets: usize,
    memberships: usize,
) -> Result<Vec<Figure>, Failure> {
    let cluster = Cluster::start(kind, parameters, 0).await?;
    let mut empty = Member::start(&cluster.url, &["--sockets", "0"]).await?;
    let (sockets_of, rooms, per_socket) = (sockets.to_string(), "20000", (memberships / sockets.max(1)).to_string());
    let arguments = ["--sockets", &sockets_of, "--rooms", rooms, "--rooms-per-socket", &per_socket];
    let full = Member::start(&cluster.url, &arguments).await?;
    empty.until_up(1).await?;
    let before = cluster.spent();
    let (fetched, fetch_time) = empty.fetch().await?;
    if fetched != sockets as u64 {
        return Err(format!("{fetched} of {sockets} sockets were described").into());
    }
    let (bytes, _) = cluster.spent_since(before);
    let source = source(kind, parameters);
    let figure = |quantity, value| Figure { source: source.clone(), nodes: sockets, quantity, value };
    Ok(vec![
        figure(Quantity::Memory, full.memory - empty.memory),
        figure(Quantity::DescriptionsTime, fetch_time as f64 / 1e9),
        figure(Quantity::DescriptionsBytes, bytes),
    ])
}

/// Four processes with so many namespaces each, while nothing is emitted.
pub(crate) async fn measure_namespaces(
    kind: BrokerKind,
    parameters: &str,
    namespaces: usize,
) -> Result<Vec<Figure>, Failure> {
    const PROCESSES: usize = 4;
    let cluster = Cluster::start_with(kind, parameters, PROCESSES, &["--namespaces", &namespaces.to_string()]).await?;
    // What they say when they start is over.
    sleep(SETTLED).await;
    let used = |cluster: &Cluster| -> Duration { cluster.members.iter().filter_map(Member::used).sum() };
    let (before, broker_before) = (used(&cluster), cluster.spent());
    sleep(WINDOW).await;
    let spent = used(&cluster).saturating_sub(before).as_secs_f64();
    let (_, broker) = cluster.spent_since(broker_before);
    let source = source(kind, parameters);
    let per_second = 1000.0 / WINDOW.as_secs_f64();
    let figure = |quantity, seconds: f64| Figure {
        source: source.clone(),
        nodes: namespaces,
        quantity,
        value: seconds * per_second,
    };
    Ok(vec![figure(Quantity::NamespacesCpu, spent / PROCESSES as f64), figure(Quantity::NamespacesBrokerCpu, broker)])
}

fn source(kind: BrokerKind, parameters: &str) -> String {
    let broker = match kind {
        BrokerKind::Redis => "Redis",
        BrokerKind::Mongodb => "MongoDB",
        BrokerKind::Postgres => "PostgreSQL",
        BrokerKind::Rabbitmq => "RabbitMQ",
        BrokerKind::Nats => "NATS",
    };
    match parameters.rsplit_once('=') {
        Some((_, value)) => format!("{broker}, {value}"),
        None => broker.to_owned(),
    }
}

impl Cluster {
    /// Returns when all nodes know each other.
    async fn start(kind: BrokerKind, parameters: &str, nodes: usize) -> Result<Self, Failure> {
        Self::start_with(kind, parameters, nodes, &[]).await
    }

    async fn start_with(kind: BrokerKind, parameters: &str, nodes: usize, arguments: &[&str]) -> Result<Self, Failure> {
        let broker = MeasuredBroker::start(kind, Duration::ZERO).await?;
        let proxy = broker.proxy().await?;
        let mut url = proxy.url(broker.url());
        if kind == BrokerKind::Mongodb {
            url.push_str("&directConnection=true");
        }
        if !parameters.is_empty() {
            url = format!("{url}{}{parameters}", if url.contains('?') { '&' } else { '?' });
        }
        let mut members = Vec::with_capacity(nodes);
        for _ in 0..nodes {
            members.push(Member::start(&url, arguments).await?);
        }
        for member in &mut members {
            member.until_up(nodes - 1).await?;
        }
        Ok(Self { url, proxy, broker, members })
    }

    /// Messages and answers that all nodes have published so far.
    async fn published(&mut self) -> Result<u64, Failure> {
        let mut published = 0;
        for member in &mut self.members {
            published += member.published().await?;
        }
        Ok(published)
    }

    /// Bytes between nodes and broker, and processor time of the broker.
    fn spent(&self) -> (u64, Duration) {
        (self.proxy.bytes(), self.broker.pid().map(process::used).unwrap_or_default())
    }

    fn spent_since(&self, (bytes, cpu): (u64, Duration)) -> (f64, f64) {
        let now = self.spent();
        ((now.0 - bytes) as f64, now.1.saturating_sub(cpu).as_secs_f64())
    }
}

/// A process that runs [`super::member::run`].
struct Member {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    id: String,
    /// When it began to join, and when it heard its rooms.
    joining: u64,
    ready: u64,
    /// What its sockets and the cluster take, in MiB.
    memory: f64,
    /// The nodes that it has ever heard of, with the time.
    up: Vec<(String, u64)>,
    down: Vec<(String, u64)>,
    connected: Option<u64>,
}

impl Member {
    /// Returns when it hears its rooms.
    async fn start(url: &str, arguments: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new(current_exe()?);
        command.arg("member").arg(url).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a node without pipes".into());
        };
        let lines = BufReader::new(stdout).lines();
        let (up, down, connected) = (Vec::new(), Vec::new(), None);
        let mut member =
            Self { child, stdin, lines, id: String::new(), joining: 0, ready: 0, memory: 0.0, up, down, connected };
        let joining = member.line("joining").await?;
        (member.id, member.joining) = (word(&joining, 0)?, word(&joining, 1)?);
        let ready = member.line("ready").await?;
        (member.ready, member.memory) = (word(&ready, 0)?, word(&ready, 1)?);
        Ok(member)
    }

    /// Reads on until a line of this kind; notes what it says of other nodes.
    async fn line(&mut self, kind: &str) -> Result<String, Failure> {
        loop {
            let line =
                timeout(TIMEOUT, self.lines.next_line()).await.map_err(|_| format!("a node did not say {kind}"))??;
            let line = line.ok_or_else(|| format!("a node has ended before it said {kind}"))?;
            let (said, rest) = line.split_once(' ').ok_or_else(|| format!("a node said '{line}'"))?;
            match said {
                "up" => self.up.push((word(rest, 0)?, word(rest, 1)?)),
                "down" => self.down.push((word(rest, 0)?, word(rest, 1)?)),
                "connected" => self.connected = Some(word(rest, 0)?),
                _ => {}
            }
            if said == kind {
                return Ok(rest.to_owned());
            }
        }
    }

    /// Until it has heard of so many nodes. Returns when it heard of the last one.
    async fn until_up(&mut self, nodes: usize) -> Result<u64, Failure> {
        while self.up.iter().map(|(id, _)| id).collect::<HashSet<_>>().len() < nodes {
            self.line("up").await?;
        }
        Ok(self.up.iter().map(|(_, time)| *time).max().unwrap_or_default())
    }

    /// Until it knows that a node is up or down. Returns when it came to know that.
    async fn until_known(&mut self, node: &str, is_up: bool) -> Result<u64, Failure> {
        loop {
            let known = if is_up { &self.up } else { &self.down };
            if let Some((_, time)) = known.iter().rev().find(|(id, _)| id == node) {
                return Ok(*time);
            }
            self.line(if is_up { "up" } else { "down" }).await?;
        }
    }

    async fn until_connected(&mut self) -> Result<u64, Failure> {
        self.line("lost").await?;
        self.connected = None;
        self.line("connected").await?;
        self.connected.ok_or_else(|| "a node is not connected".into())
    }

    async fn published(&mut self) -> Result<u64, Failure> {
        self.stdin.write_all(b"count\n").await?;
        word(&self.line("counted").await?, 0)
    }

    /// Sockets, and nanoseconds that it took.
    async fn fetch(&mut self) -> Result<(u64, u64), Failure> {
        self.stdin.write_all(b"fetch\n").await?;
        let fetched = self.line("fetched").await?;
        Ok((word(&fetched, 0)?, word(&fetched, 1)?))
    }

    /// Processor time so far.
    fn used(&self) -> Option<Duration> {
        self.child.id().map(process::used_by_threads)
    }

    async fn leave(mut self) -> Result<(), Failure> {
        drop(self.stdin);
        timeout(TIMEOUT, self.child.wait()).await??;
        Ok(())
    }
}

fn word<T: std::str::FromStr>(line: &str, index: usize) -> Result<T, Failure> {
    let word = line.split(' ').nth(index).and_then(|word| word.parse().ok());
    word.ok_or_else(|| format!("a node said '{line}'").into())
}

/// Time for which an idle cluster is watched: four heartbeats of each node.
const WINDOW: Duration = Duration::from_secs(20);
/// Time in which all have answered a newcomer.
const SETTLED: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(60);
