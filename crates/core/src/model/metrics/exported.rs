//! What a node gives to the recorder of the `metrics` crate.
//!
//! All handles are registered when the node joins: counters are there with 0, and a message costs no lookup. What counts
//! messages is added up here and given to the recorder once a second: its counters cost several times as much as a number
//! of our own.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{
    Counter, Gauge, Histogram, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use super::{
    DisconnectReason, HistoryKind, HistoryOutcome, Levels, MessageKind, RequestKind, RequestOutcome, ServerLevels,
};
use crate::model::GapCause;

/// Namespaces with a label of their own; clients may be allowed to open any number of them.
const MAX_NAMESPACES: usize = 32;

/// Label values of an enumeration, in the order of its cases.
macro_rules! labels {
    ($name:ident { $($case:ident = $label:literal,)* }) => {
        impl $name {
            const ALL: [Self; [$($label),*].len()] = [$(Self::$case),*];

            fn label(self) -> &'static str {
                match self {
                    $(Self::$case => $label,)*
                }
            }
        }
    };
}

labels!(MessageKind {
    Broadcast = "broadcast",
    Join = "join",
    Leave = "leave",
    Disconnect = "disconnect",
    FetchSockets = "fetch_sockets",
    AllRooms = "all_rooms",
    ServerSideEmit = "server_side_emit",
    Heartbeat = "heartbeat",
    Leaving = "leaving",
    Answer = "answer",
});

labels!(RequestKind {
    Sockets = "fetch_sockets",
    Rooms = "all_rooms",
    Values = "server_side_emit",
    Acks = "broadcast_with_ack",
    Probe = "probe",
});

labels!(RequestOutcome {
    Complete = "complete",
    Partial = "partial",
    TimedOut = "timed_out",
    Failed = "failed",
    Cancelled = "cancelled",
});

labels!(HistoryKind {
    Persist = "persist",
    Restore = "restore",
    Replay = "replay",
});

labels!(HistoryOutcome {
    Complete = "complete",
    Unknown = "unknown",
    Lost = "lost",
    Failed = "failed",
});

labels!(DisconnectReason {
    TransportClose = "transport_close",
    TransportError = "transport_error",
    PingTimeout = "ping_timeout",
    ClientNamespaceDisconnect = "client_namespace_disconnect",
    ServerNamespaceDisconnect = "server_namespace_disconnect",
    ServerShuttingDown = "server_shutting_down",
    ParseError = "parse_error",
});

labels!(GapCause {
    ConnectionLost = "connection_lost",
    Overflow = "inbox_full",
    Hole = "hole",
    Trimmed = "trimmed",
});

/// Handle of one exported counter, or of none.
#[derive(Debug, Default)]
pub(super) struct Handle {
    counter: Option<Counter>,
    /// How much of the value the recorder has been given.
    given: AtomicU64,
}

impl Handle {
    fn new(counter: Counter) -> Self {
        Self { counter: Some(counter), given: AtomicU64::new(0) }
    }

    /// Gives the recorder what the value has grown by.
    pub(super) fn give(&self, value: u64) {
        if let Some(counter) = &self.counter {
            let given = self.given.fetch_max(value, Ordering::Relaxed);
            if value > given {
                counter.increment(value - given);
            }
        }
    }
}

/// Handles of everything that is no plain counter of [`NodeMetrics`](super::NodeMetrics); empty by default.
#[derive(Debug, Default)]
pub(crate) struct Exported(Option<Box<Registered>>);

#[derive(Debug)]
struct Registered {
    labels: Vec<Label>,
    published: Vec<Traffic>,
    received: Vec<Traffic>,
    requests: Vec<Vec<Counter>>,
    durations: Vec<Histogram>,
    gaps: Vec<Counter>,
    history: Vec<Vec<Counter>>,
    replayed: Counter,
    /// Registered when it is known: 0 would be an alarm.
    history_reach: OnceLock<Gauge>,
    echo: Histogram,
    connected: Gauge,
    lost_seconds: Gauge,
    outbox_messages: Gauge,
    outbox_bytes: Gauge,
    outbox_oldest: Gauge,
    inbox_messages: Gauge,
    room_subscriptions: Gauge,
    named_peers: Gauge,
    counted_peers: Gauge,
}

/// Messages of one kind in one direction.
#[derive(Debug)]
struct Traffic {
    messages: super::Counter,
    bytes: super::Counter,
}

impl Traffic {
    fn of_all_kinds(
        registered: &impl Fn(&'static str, &'static str) -> Counter,
        messages: &'static str,
        bytes: &'static str,
    ) -> Vec<Self> {
        let of = |kind: &MessageKind| Self {
            messages: super::Counter::exported(Handle::new(registered(messages, kind.label()))),
            bytes: super::Counter::exported(Handle::new(registered(bytes, kind.label()))),
        };
        MessageKind::ALL.iter().map(of).collect()
    }

    fn add(&self, bytes: usize) {
        self.messages.increment();
        self.bytes.add(bytes as u64);
    }

    fn give(&self) {
        self.messages.give();
        self.bytes.give();
    }
}

impl Exported {
    pub(super) fn new(backend: &'static str, namespace: &str) -> Self {
        describe();
        let labels = vec![Label::new("backend", backend), Label::new("namespace", label_of(namespace))];
        let with = |more: &[(&'static str, &'static str)]| {
            let more = more.iter().map(|(name, value)| Label::from_static_parts(name, value));
            labels.iter().cloned().chain(more).collect::<Vec<_>>()
        };
        let by_kind = |name: &'static str, kind: &'static str| zero(counter!(name, with(&[("kind", kind)])));
        let requests = RequestKind::ALL.map(|kind| {
            let of = |outcome: RequestOutcome| {
                let labels = with(&[("kind", kind.label()), ("outcome", outcome.label())]);
                zero(counter!("trunkline_requests_total", labels))
            };
            RequestOutcome::ALL.map(of).into()
        });
        let durations = RequestKind::ALL
            .map(|kind| histogram!("trunkline_request_duration_seconds", with(&[("kind", kind.label())])));
        let gaps = GapCause::ALL.map(|cause| zero(counter!("trunkline_gaps_total", with(&[("cause", cause.label())]))));
        let history = HistoryKind::ALL.map(|kind| {
            let of = |outcome: HistoryOutcome| {
                let labels = with(&[("kind", kind.label()), ("outcome", outcome.label())]);
                zero(counter!("trunkline_history_requests_total", labels))
            };
            HistoryOutcome::ALL.map(of).into()
        });
        Self(Some(Box::new(Registered {
            published: Traffic::of_all_kinds(
                &by_kind,
                "trunkline_published_messages_total",
                "trunkline_published_bytes_total",
            ),
            received: Traffic::of_all_kinds(
                &by_kind,
                "trunkline_received_messages_total",
                "trunkline_received_bytes_total",
            ),
            requests: requests.into(),
            durations: durations.into(),
            gaps: gaps.into(),
            history: history.into(),
            replayed: zero(counter!("trunkline_replayed_messages_total", labels.clone())),
            history_reach: OnceLock::new(),
            echo: histogram!("trunkline_broker_echo_seconds", labels.clone()),
            connected: gauge!("trunkline_connected", labels.clone()),
            lost_seconds: gauge!("trunkline_lost_seconds", labels.clone()),
            outbox_messages: gauge!("trunkline_outbox_messages", labels.clone()),
            outbox_bytes: gauge!("trunkline_outbox_bytes", labels.clone()),
            outbox_oldest: gauge!("trunkline_outbox_oldest_seconds", labels.clone()),
            room_subscriptions: gauge!("trunkline_room_subscriptions", labels.clone()),
            inbox_messages: gauge!("trunkline_inbox_messages", labels.clone()),
            named_peers: gauge!("trunkline_peers", with(&[("known", "by_name")])),
            counted_peers: gauge!("trunkline_peers", with(&[("known", "by_count")])),
            labels,
        })))
    }

    /// Registers a counter with one label more, or none if it has no exported name.
    pub(super) fn counter(&self, name: Option<&'static str>, label: &[(&'static str, &'static str)]) -> Handle {
        let (Some(registered), Some(name)) = (&self.0, name) else { return Handle::default() };
        let label = label.iter().map(|(name, value)| Label::from_static_parts(name, value));
        let labels = registered.labels.iter().cloned().chain(label).collect::<Vec<_>>();
        Handle::new(zero(counter!(name, labels)))
    }

    /// Whether levels are wanted now and then.
    pub(crate) fn wants_levels(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn published(&self, kind: MessageKind, bytes: impl FnOnce() -> usize) {
        if let Some(registered) = &self.0 {
            registered.published[kind as usize].add(bytes());
        }
    }

    pub(crate) fn received(&self, kind: MessageKind, bytes: impl FnOnce() -> usize) {
        if let Some(registered) = &self.0 {
            registered.received[kind as usize].add(bytes());
        }
    }

    pub(crate) fn requested(&self, kind: RequestKind, outcome: RequestOutcome, took: Duration) {
        if let Some(registered) = &self.0 {
            registered.requests[kind as usize][outcome as usize].increment(1);
            registered.durations[kind as usize].record(took);
        }
    }

    pub(crate) fn gap(&self, cause: GapCause) {
        if let Some(registered) = &self.0 {
            registered.gaps[cause as usize].increment(1);
        }
    }

    pub(crate) fn history(&self, kind: HistoryKind, outcome: HistoryOutcome, replayed: usize) {
        if let Some(registered) = &self.0 {
            registered.history[kind as usize][outcome as usize].increment(1);
            registered.replayed.increment(replayed as u64);
        }
    }

    /// Gives the recorder the messages that were counted since the last time.
    pub(super) fn give_traffic(&self) {
        if let Some(registered) = &self.0 {
            registered.published.iter().chain(&registered.received).for_each(Traffic::give);
        }
    }

    pub(super) fn server(&self) -> Server {
        Server(self.0.as_ref().map(|registered| Box::new(RegisteredServer::new(&registered.labels))))
    }

    pub(crate) fn echo(&self, took: Duration) {
        if let Some(registered) = &self.0 {
            registered.echo.record(took);
        }
    }

    pub(crate) fn levels(&self, levels: &Levels) {
        let Some(registered) = &self.0 else { return };
        registered.connected.set(u8::from(levels.lost.is_none()));
        registered.lost_seconds.set(levels.lost.unwrap_or_default());
        registered.outbox_messages.set(levels.outbox_messages as f64);
        registered.outbox_bytes.set(levels.outbox_bytes as f64);
        registered.outbox_oldest.set(levels.outbox_oldest);
        registered.room_subscriptions.set(levels.room_subscriptions as f64);
        registered.inbox_messages.set(levels.inbox_messages as f64);
        registered.named_peers.set(levels.named_peers as f64);
        registered.counted_peers.set(levels.counted_peers as f64);
    }

    pub(crate) fn history_reach(&self, reach: Duration) {
        let Some(registered) = &self.0 else { return };
        let gauge = || gauge!("trunkline_history_reach_seconds", registered.labels.clone());
        registered.history_reach.get_or_init(gauge).set(reach);
    }
}

/// Handles of what a server tells of its sockets; empty by default.
#[derive(Debug, Default)]
pub(super) struct Server(Option<Box<RegisteredServer>>);

#[derive(Debug)]
struct RegisteredServer {
    connects: Counter,
    disconnects: Vec<Counter>,
    sockets: Gauge,
    rooms: Gauge,
    backlog_sockets: Gauge,
    backlog_packets: Gauge,
    backlog_bytes: Gauge,
}

impl RegisteredServer {
    fn new(labels: &[Label]) -> Self {
        let labels = || labels.to_vec();
        let disconnects = DisconnectReason::ALL.map(|reason| {
            let mut labels = labels();
            labels.push(Label::from_static_parts("reason", reason.label()));
            zero(counter!("trunkline_disconnects_total", labels))
        });
        Self {
            connects: zero(counter!("trunkline_connects_total", labels())),
            disconnects: disconnects.into(),
            sockets: gauge!("trunkline_sockets", labels()),
            rooms: gauge!("trunkline_rooms", labels()),
            backlog_sockets: gauge!("trunkline_backlog_sockets", labels()),
            backlog_packets: gauge!("trunkline_backlog_packets", labels()),
            backlog_bytes: gauge!("trunkline_backlog_bytes", labels()),
        }
    }
}

impl Server {
    pub(super) fn is_exported(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn connected(&self) {
        if let Some(registered) = &self.0 {
            registered.connects.increment(1);
        }
    }

    pub(super) fn disconnected(&self, reason: DisconnectReason) {
        if let Some(registered) = &self.0 {
            registered.disconnects[reason as usize].increment(1);
        }
    }

    pub(super) fn levels(&self, levels: &ServerLevels) {
        let Some(registered) = &self.0 else { return };
        registered.sockets.set(levels.sockets as f64);
        registered.rooms.set(levels.rooms as f64);
        registered.backlog_sockets.set(levels.backlog_sockets as f64);
        registered.backlog_packets.set(levels.backlog_packets as f64);
        registered.backlog_bytes.set(levels.backlog_bytes as f64);
    }
}

/// Makes a counter appear before it counts.
fn zero(counter: Counter) -> Counter {
    counter.increment(0);
    counter
}

/// The namespace itself for the first ones, `other` for all that come later.
fn label_of(namespace: &str) -> String {
    static LABELS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut labels = LABELS.lock().unwrap_or_else(PoisonError::into_inner);
    if !labels.contains(namespace) {
        if labels.len() >= MAX_NAMESPACES {
            return "other".to_owned();
        }
        labels.insert(namespace.to_owned());
    }
    namespace.to_owned()
}

fn describe() {
    const COUNTERS: [(&str, Unit, &str); 19] = [
        ("trunkline_published_messages_total", Unit::Count, "Messages and answers handed to the backend"),
        ("trunkline_published_bytes_total", Unit::Bytes, "Bytes of their payloads"),
        (
            "trunkline_received_messages_total",
            Unit::Count,
            "Messages of other nodes and emitters applied here, and answers",
        ),
        ("trunkline_received_bytes_total", Unit::Bytes, "Bytes of their payloads"),
        ("trunkline_socket_packets_total", Unit::Count, "Packets handed to sockets of this server"),
        ("trunkline_own_echoes_total", Unit::Count, "Own messages that came back"),
        ("trunkline_dropped_total", Unit::Count, "Messages and packets that were not delivered here, by reason"),
        ("trunkline_publish_errors_total", Unit::Count, "Messages that could not be published"),
        ("trunkline_gaps_total", Unit::Count, "Gaps, by cause"),
        ("trunkline_missed_messages_total", Unit::Count, "Messages that are known to be missed, over all gaps"),
        ("trunkline_connections_lost_total", Unit::Count, "Losses of the connection to the broker"),
        ("trunkline_reconnects_total", Unit::Count, "Times the connection to the broker came back"),
        ("trunkline_broker_blocked_total", Unit::Count, "Times the broker took nothing for a while"),
        (
            "trunkline_subscription_fallbacks_total",
            Unit::Count,
            "Times a node turned to a pattern because it had too many rooms to subscribe to each",
        ),
        ("trunkline_late_answers_total", Unit::Count, "Answers to requests that were over"),
        ("trunkline_history_requests_total", Unit::Count, "Requests to the history that ended, by outcome"),
        ("trunkline_replayed_messages_total", Unit::Count, "Messages that the history has returned"),
        ("trunkline_connects_total", Unit::Count, "Sockets that have connected"),
        ("trunkline_disconnects_total", Unit::Count, "Sockets that have disconnected, by reason"),
    ];
    const GAUGES: [(&str, Unit, &str); 14] = [
        ("trunkline_connected", Unit::Count, "1 while messages can be sent to the broker and received from it, else 0"),
        ("trunkline_lost_seconds", Unit::Seconds, "Time since the connection was lost, 0 while connected"),
        ("trunkline_outbox_messages", Unit::Count, "Messages that wait to be written to the broker"),
        ("trunkline_outbox_bytes", Unit::Bytes, "Bytes that wait to be written or are unconfirmed"),
        ("trunkline_outbox_oldest_seconds", Unit::Seconds, "Age of the oldest message that waits to be written"),
        ("trunkline_room_subscriptions", Unit::Count, "Keys of rooms that this node subscribes to at the broker"),
        ("trunkline_history_reach_seconds", Unit::Seconds, "Age of the oldest message that the history keeps"),
        ("trunkline_sockets", Unit::Count, "Sockets that are connected here"),
        ("trunkline_rooms", Unit::Count, "Rooms with sockets here"),
        ("trunkline_backlog_sockets", Unit::Count, "Sockets whose buffer is full"),
        ("trunkline_backlog_packets", Unit::Count, "Packets that wait for sockets whose buffer is full"),
        ("trunkline_backlog_bytes", Unit::Bytes, "Bytes of these packets"),
        ("trunkline_inbox_messages", Unit::Count, "Messages that wait to be applied here"),
        ("trunkline_peers", Unit::Count, "Other nodes, known by name or counted by the broker besides"),
    ];
    for (name, unit, text) in COUNTERS {
        describe_counter!(name, unit, text);
    }
    describe_counter!("trunkline_requests_total", Unit::Count, "Requests to the other nodes that ended, by outcome");
    for (name, unit, text) in GAUGES {
        describe_gauge!(name, unit, text);
    }
    describe_histogram!(
        "trunkline_request_duration_seconds",
        Unit::Seconds,
        "From a request to its last answer or end"
    );
    describe_histogram!(
        "trunkline_broker_echo_seconds",
        Unit::Seconds,
        "An own heartbeat's way to the broker and back"
    );
}

#[cfg(test)]
mod tests {
    use super::{MAX_NAMESPACES, label_of};

    #[test]
    fn the_first_namespaces_have_a_label_of_their_own_and_keep_it() {
        // Other tests of this process may have taken some.
        let labels: Vec<_> = (0..2 * MAX_NAMESPACES).map(|number| label_of(&format!("/bounded-{number}"))).collect();
        let own = labels.iter().take_while(|label| *label != "other").count();
        assert!(own <= MAX_NAMESPACES, "{labels:?}");
        assert!(labels[own..].iter().all(|label| label == "other"), "{labels:?}");
        for (number, label) in labels.iter().enumerate() {
            assert_eq!(label_of(&format!("/bounded-{number}")), *label);
        }
    }
}
