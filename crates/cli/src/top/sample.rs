//! [`Watch`]: measures a namespace; [`Sample`]: what it found in an interval.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use trunkline::{Backend, Membership, NodeId, Probe, SocketInfo, Target, core::model::Delivery};

use crate::{
    broker,
    echo::Echo,
    gather::{NodeStatus, TELLING, statuses, unheard},
    observer::{Missing, Observer},
    options::{ListenOptions, TopOptions},
    output::{Failure, Status, counted, shown, table},
    tap::{Heard, Listener, Numbers},
};

/// What is measured of a namespace: a node without sockets asks, a listener hears, and an echo takes the time.
pub(crate) struct Watch {
    observer: Observer,
    listening: Backend,
    listener: NodeId,
    echo: Echo,
    traffic: Arc<Mutex<Traffic>>,
    namespace: String,
    timeout: Duration,
    /// How long nodes may take to tell their status.
    telling: Duration,
    /// Nodes that the broker counts and that belong to this program.
    own_nodes: usize,
}

/// What the nodes have sent since the last sample.
#[derive(Debug, Default)]
struct Traffic {
    senders: HashMap<NodeId, Sent>,
    /// Of senders without a name.
    unnamed: Sent,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    messages: u64,
    bytes: u64,
    missing: u64,
}

/// Senders that are told apart; those beyond are counted as one.
const MAX_SENDERS: usize = 4_096;

impl Traffic {
    fn sent(&mut self, from: Option<&NodeId>) -> &mut Sent {
        match from {
            Some(id) if self.senders.len() < MAX_SENDERS || self.senders.contains_key(id) => {
                self.senders.entry(id.clone()).or_default()
            }
            _ => &mut self.unnamed,
        }
    }

    fn heard(&mut self, heard: &Heard, numbers: &mut Numbers, is_numbered: bool) {
        if let Some((from, missing)) = numbers.missing(&heard.namespace, &heard.delivery)
            && is_numbered
        {
            self.sent(Some(&from)).missing += missing;
        }
        match &heard.delivery {
            Delivery::Message { from, message, .. } => {
                let sent = self.sent(from.as_ref());
                sent.messages += 1;
                sent.bytes += message.weight() as u64;
            }
            Delivery::Gap(gap) => self.unnamed.missing += gap.missed.unwrap_or(1),
            Delivery::Overflow(overflow) => self.unnamed.missing += overflow.missed,
            _ => (),
        }
    }
}

impl Watch {
    pub(crate) async fn start(options: &TopOptions) -> Result<Self, Failure> {
        let (url, namespace) = (&options.broker.broker, &options.broker.namespace);
        let observer = Observer::join(url, namespace, options.timeout).await?;
        // With a connection of its own: on MongoDB all nodes of one have the same id.
        let listening = broker::connect_to_listen(url).await?;
        let capabilities = listening.transport.capabilities();
        let (sender, mut heard) = mpsc::channel(1_000);
        let listener = Listener::join(url, &listening, namespace).await?;
        let id = listener.id();
        tokio::spawn(listener.run(sender));
        let traffic = Arc::<Mutex<Traffic>>::default();
        let counted = Arc::clone(&traffic);
        // Ends with the listener, which ends with its transport.
        tokio::spawn(async move {
            let mut numbers = Numbers::default();
            while let Some(heard) = heard.recv().await {
                let mut traffic = counted.lock().unwrap_or_else(PoisonError::into_inner);
                traffic.heard(&heard, &mut numbers, capabilities.numbered);
            }
        });
        let echo = Echo::open(url, &listening).await?;
        let own_nodes = if capabilities.membership == Membership::BrokerCount { 2 } else { 1 };
        let (namespace, timeout) = (namespace.clone(), options.timeout);
        let telling = if options.once { TELLING } else { SOON };
        Ok(Self { observer, listening, listener: id, echo, traffic, namespace, timeout, telling, own_nodes })
    }

    /// Waits until nodes are known.
    pub(crate) async fn listen(&self, options: &ListenOptions) {
        self.observer.listen(options).await;
    }

    /// What happens until this much time has passed. An outage is told in it.
    pub(crate) async fn next(&mut self, interval: Duration) -> Sample {
        let began = Instant::now();
        self.take();
        sleep_until(began + interval).await;
        let Traffic { mut senders, unnamed } = self.take();
        let seconds = began.elapsed().as_secs_f64();
        let (asked, failure) = match self.ask().await {
            Ok(asked) => (asked, None),
            Err(failure) => (Asked::default(), Some(failure.text)),
        };
        let Asked { probe, sockets, mut missing, statuses, count, echo } = asked;
        let mut heard = self.observer.heard();
        missing.name(unheard(&statuses, &heard, &self.observer.node.node().id));
        heard.remove(&self.listener);
        heard.retain(|_, heard| heard.last.elapsed() < FORGOTTEN);
        let health = self.observer.node.health();
        senders.remove(&self.observer.node.node().id);
        let mut nodes: BTreeMap<NodeId, Node> = BTreeMap::new();
        for (id, heard) in &heard {
            let node = nodes.entry(id.clone()).or_default();
            node.kind = heard.kind();
            node.heard = Some(heard.last.elapsed());
            node.round_trip = probe.as_ref().and_then(|probe| probe.round_trips.get(id).copied());
            node.is_missing = probe.as_ref().is_some_and(|probe| probe.missing.contains(id));
        }
        for id in &missing.named {
            nodes.entry(id.clone()).or_default().is_missing = true;
        }
        for socket in &sockets {
            if let Some(id) = &socket.node {
                nodes.entry(id.clone()).or_default().sockets += 1;
            }
        }
        for (id, sent) in senders {
            nodes.entry(id).or_default().sent = sent;
        }
        for status in statuses {
            if let Some((_, node)) = nodes.iter_mut().find(|(id, _)| id.as_str() == status.node) {
                node.told = Some(Told { queued: status.health.queued_messages, gaps: status.metrics.gaps });
            }
        }
        Sample {
            backend: self.listening.name,
            namespace: self.namespace.clone(),
            seconds,
            unnamed_nodes: count.saturating_sub(nodes.len()),
            sockets: sockets.len(),
            nodes,
            unnamed,
            missing,
            echo,
            queued_messages: health.queued_messages,
            queued_bytes: health.queued_bytes,
            reconnects: health.reconnects,
            obstacle: broker::obstacle(&self.observer.backend).or(failure),
        }
    }

    async fn ask(&mut self) -> Result<Asked, Failure> {
        let probe = self.observer.node.probe(self.timeout).await?;
        let fetching = self.observer.node.fetch_sockets(Target::all().timeout(self.timeout));
        // Node.js servers do not tell it: what the others tell at once is enough.
        let telling = statuses(&self.observer, Some(self.timeout.min(self.telling)));
        let (answers, statuses) = tokio::join!(fetching, telling);
        let (sockets, missing) = Missing::split(answers)?;
        let statuses = statuses?.0;
        let count = self.observer.node.server_count().await?.saturating_sub(self.own_nodes);
        Ok(Asked { probe: Some(probe), sockets, missing, statuses, count, echo: self.echo.time().await? })
    }

    fn take(&self) -> Traffic {
        std::mem::take(&mut *self.traffic.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) async fn end(self) {
        self.echo.close().await;
        self.observer.leave().await;
        broker::close(&self.listening).await;
    }
}

/// What nodes and broker have answered.
#[derive(Default)]
struct Asked {
    probe: Option<Probe>,
    sockets: Vec<SocketInfo>,
    missing: Missing,
    statuses: Vec<NodeStatus>,
    /// Number of other nodes.
    count: usize,
    echo: Option<Duration>,
}

/// How long nodes may take to tell their status on a dashboard: Node.js servers never do.
const SOON: Duration = Duration::from_millis(500);

/// Silence after which a node is not listed any more.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// What was found in an interval.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) backend: &'static str,
    pub(crate) namespace: String,
    seconds: f64,
    nodes: BTreeMap<NodeId, Node>,
    /// Nodes that the broker counts and that have told no name.
    unnamed_nodes: usize,
    sockets: usize,
    unnamed: Sent,
    missing: Missing,
    echo: Option<Duration>,
    queued_messages: usize,
    queued_bytes: usize,
    reconnects: u64,
    /// Why the broker does not take what this program publishes.
    obstacle: Option<String>,
}

#[derive(Debug, Default)]
struct Node {
    kind: Option<&'static str>,
    sockets: usize,
    sent: Sent,
    heard: Option<Duration>,
    round_trip: Option<Duration>,
    is_missing: bool,
    told: Option<Told>,
}

/// What a node tells of itself; Node.js servers do not.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// Messages that wait for the broker.
    queued: usize,
    /// Since its start.
    gaps: u64,
}

/// Headings of [`Sample::rows`].
pub(crate) const COLUMNS: [&str; 10] =
    ["NODE", "KIND", "SOCKETS", "SENT/S", "BYTES/S", "MISSING", "GAPS", "QUEUE", "HEARD", "ANSWER"];

/// A number in at most six characters.
fn short(number: f64) -> String {
    match number {
        number if number < 99_999.5 => format!("{number:.0}"),
        number if number < 9_999_500.0 => format!("{:.0}k", number / 1e3),
        number if number < 9_999_500_000.0 => format!("{:.0}M", number / 1e6),
        number => format!("{:.0}G", number / 1e9),
    }
}

impl Sample {
    fn sent(&self) -> Sent {
        self.nodes.values().map(|node| node.sent).chain([self.unnamed]).fold(Sent::default(), |all, sent| Sent {
            messages: all.messages + sent.messages,
            bytes: all.bytes + sent.bytes,
            missing: all.missing + sent.missing,
        })
    }

    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.sent().messages as f64 / self.seconds
    }

    /// A line per node.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let rate = |count: u64| short(count as f64 / self.seconds);
        let ago = |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
        let rows = self.nodes.iter().map(|(id, node)| {
            let kind = if id.is_emitter() { "emitter" } else { node.kind.unwrap_or("node.js?") };
            let round_trip = match node.round_trip {
                Some(time) => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
                None if node.is_missing => "NO ANSWER".to_owned(),
                None => "-".to_owned(),
            };
            vec![
                shown(id.as_str()),
                kind.to_owned(),
                short(node.sockets as f64),
                rate(node.sent.messages),
                rate(node.sent.bytes),
                short(node.sent.missing as f64),
                node.told.map_or("-".to_owned(), |told| short(told.gaps as f64)),
                node.told.map_or("-".to_owned(), |told| short(told.queued as f64)),
                ago(node.heard),
                round_trip,
            ]
        });
        rows.collect()
    }

    /// What concerns all nodes, in one line.
    pub(crate) fn summary(&self) -> String {
        let sent = self.sent();
        let echo = self.echo.map_or("none in time".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1000.0));
        let mut text = format!(
            "{}, {}; {:.0} messages/s, {:.0} B/s, {} missing; echo {echo}; this program: queue {} ({} B), {} reconnects",
            counted(self.nodes.keys().filter(|id| !id.is_emitter()).count() + self.unnamed_nodes, "node"),
            counted(self.sockets, "socket"),
            self.rate(),
            sent.bytes as f64 / self.seconds,
            sent.missing,
            self.queued_messages,
            self.queued_bytes,
            self.reconnects,
        );
        if self.unnamed_nodes > 0 {
            text.push_str(&format!("; {} counted by the broker and not named", counted(self.unnamed_nodes, "node")));
        }
        if let Some(obstacle) = &self.obstacle {
            text.push_str(&format!("; THE BROKER TAKES NOTHING: {}", shown(obstacle)));
        }
        text + &self.missing.text()
    }

    /// The whole sample for people.
    pub(crate) fn text(&self) -> String {
        let rows = self.rows();
        if rows.is_empty() { self.summary() } else { table(&COLUMNS, &rows) + "\n" + &self.summary() }
    }

    pub(crate) fn json(&self) -> Value {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let nodes = self.nodes.iter().map(|(id, node)| {
            json!({ "id": id.as_str(), "kind": node.kind, "sockets": node.sockets, "messages": node.sent.messages,
                "bytes": node.sent.bytes, "missing": node.sent.missing, "gaps": node.told.map(|told| told.gaps),
                "queued_messages": node.told.map(|told| told.queued), "heard_seconds_ago": seconds(node.heard),
                "round_trip_seconds": seconds(node.round_trip), "answered": !node.is_missing })
        });
        let sent = self.sent();
        json!({ "status": self.status().word(), "backend": self.backend, "namespace": self.namespace, "seconds": self.seconds,
            "nodes": nodes.collect::<Vec<_>>(), "unnamed_nodes": self.unnamed_nodes, "sockets": self.sockets,
            "messages": sent.messages, "bytes": sent.bytes, "missing_messages": sent.missing, "echo_seconds": seconds(self.echo),
            "queued_messages": self.queued_messages, "queued_bytes": self.queued_bytes, "reconnects": self.reconnects,
            "missing": self.missing.json(), "obstacle": self.obstacle })
    }

    /// A warning if nodes or messages are missing, critical if nothing can be asked.
    pub(crate) fn status(&self) -> Status {
        if self.obstacle.is_some() {
            return Status::Critical;
        }
        if self.sent().missing > 0 || self.echo.is_none() { Status::Warning } else { self.missing.status() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, text) in
            [(0.0, "0"), (99_999.0, "99999"), (123_456.0, "123k"), (12_345_678.0, "12M"), (2e10, "20G")]
        {
            assert_eq!(short(number), text);
        }
    }
}
