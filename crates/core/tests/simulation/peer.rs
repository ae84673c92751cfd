//! The peers of a run, and their state in the network.

use std::{collections::VecDeque, sync::Arc};

use trunkline_core::{
    Capabilities, Membership, Message, Namespace, NodeId, NodeKey, NodeMetrics,
    engine::{Engine, EngineConfig, Input},
    model::SeqNo,
    transport::{Inbox, InboxSender, Sequencer},
};

use crate::{
    checks::NodeChecker,
    clock::Clock,
    names::{self, MAX_PEERS, Tag},
    scenario::{BackendKind, CHANNELS, Faults, Micros},
};

/// A node with an engine, or a foreign peer without one.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) state: State,
    /// Whether the broker counts it.
    pub(crate) counted: bool,
    pub(crate) connected: bool,
    /// Number of the connection; deliveries to an earlier one are dropped.
    pub(crate) connection: u32,
    /// Published while the connection was lost.
    pub(crate) unsent: Vec<PublishedMessage>,
    pub(crate) sequencer: Sequencer,
    pub(crate) numbers: [u64; CHANNELS],
    pub(crate) serial: u64,
    pub(crate) subscribed: [bool; CHANNELS],
    /// Arrival time of the last message to each receiver, by path.
    pub(crate) arrivals: Vec<[Micros; PATHS]>,
    /// State of the node, `None` for a foreign peer.
    pub(crate) engine_node: Option<Box<EngineNode>>,
}

/// Number of paths between two peers on which messages keep their order: one per channel, and one for answers.
pub(crate) const PATHS: usize = CHANNELS + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Frozen,
    Gone,
}

/// A published message.
#[derive(Clone, Debug)]
pub(crate) struct PublishedMessage {
    pub(crate) message: Message,
    pub(crate) seq_no: Option<SeqNo>,
    pub(crate) tag: Tag,
}

/// A node with an engine.
#[derive(Debug)]
pub(crate) struct EngineNode {
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<NodeMetrics>,
    pub(crate) checker: NodeChecker,
    /// The next wake-up in the queue.
    pub(crate) wake: Option<Micros>,
    /// Present while the node is frozen.
    pub(crate) backlog: Option<Backlog>,
    pub(crate) counting: bool,
    pub(crate) count_again: bool,
    pub(crate) requests: u32,
    /// Whether publishing the next request fails.
    pub(crate) refuses: bool,
}

/// What waits for a frozen process.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) sender: InboxSender,
    pub(crate) inbox: Inbox,
    /// The senders of the answers in the inbox, which need not carry an id.
    pub(crate) responders: VecDeque<usize>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) ticks_first: bool,
}

impl Peer {
    pub(crate) fn foreign(index: usize) -> Self {
        Self {
            id: names::node(index, true),
            state: State::Running,
            counted: true,
            connected: true,
            connection: 0,
            unsent: Vec::new(),
            sequencer: Sequencer::default(),
            numbers: [0; CHANNELS],
            serial: 0,
            subscribed: [true; CHANNELS],
            arrivals: vec![[0; PATHS]; MAX_PEERS],
            engine_node: None,
        }
    }

    pub(crate) fn engine_node(index: usize, kind: BackendKind, faults: Faults, clock: Clock) -> Self {
        let id = names::node(index, false);
        let config = EngineConfig::default().with_max_pending_requests(kind.max_pending);
        let metrics = Arc::<NodeMetrics>::default();
        let node = NodeKey { id: id.clone(), namespace: Namespace::new("/") };
        let engine_node = EngineNode {
            engine: Engine::new(node, capabilities(kind), config, Arc::clone(&metrics)),
            clock,
            metrics,
            checker: NodeChecker::new(index, kind, faults, config),
            wake: None,
            backlog: None,
            counting: false,
            count_again: false,
            requests: 0,
            refuses: false,
        };
        Self { id, engine_node: Some(Box::new(engine_node)), subscribed: [true, false, false], ..Self::foreign(index) }
    }

    pub(crate) fn is_present(&self) -> bool {
        self.state != State::Gone
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    pub(crate) fn is_foreign(&self) -> bool {
        self.engine_node.is_none()
    }
}

fn capabilities(kind: BackendKind) -> Capabilities {
    Capabilities::new(kind.membership)
        .with_total_order(!kind.split)
        .with_acknowledged_in_order(!kind.split)
        .with_numbered(kind.numbered)
        .with_announced_leave(true)
        .with_named_answers(kind.membership == Membership::Heartbeats || kind.named)
        .with_all_rooms_request(true)
        .with_room_interest(true)
}
