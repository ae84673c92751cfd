//! The parties of a run, and what the network keeps for each.

use std::{collections::VecDeque, sync::Arc};

use trunkline_core::{
    Capabilities, Membership, Message, Namespace, NodeId, NodeKey, NodeMetrics,
    engine::{Engine, EngineConfig, Input},
    model::SeqNo,
    transport::{Inbox, InboxSender, Sequencer},
};

use crate::{
    checks::Witness,
    clock::Clock,
    names::{self, MAX_PEERS, Tag},
    scenario::{CHANNELS, Faults, Kind, Micros},
};

/// A node of ours, or a foreign one.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) state: State,
    /// Whether the broker counts it.
    pub(crate) counted: bool,
    pub(crate) connected: bool,
    /// What was sent to an earlier connection does not arrive.
    pub(crate) connection: u32,
    /// Published while the connection was away.
    pub(crate) held: Vec<Parcel>,
    pub(crate) sequencer: Sequencer,
    pub(crate) numbers: [u64; CHANNELS],
    pub(crate) serial: u64,
    pub(crate) subscribed: [bool; CHANNELS],
    /// When the last message to each receiver arrives, by lane.
    pub(crate) arrivals: Vec<[Micros; LANES]>,
    /// The engine, if it is one of ours.
    pub(crate) own: Option<Box<Own>>,
}

/// Messages on one lane keep their order: one per channel, and one for answers.
pub(crate) const LANES: usize = CHANNELS + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Frozen,
    Gone,
}

/// A published message.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) message: Message,
    pub(crate) seq_no: Option<SeqNo>,
    pub(crate) tag: Tag,
}

/// A node of ours.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<NodeMetrics>,
    pub(crate) witness: Witness,
    /// The next wake-up that lies in the queue.
    pub(crate) wake: Option<Micros>,
    /// While it is frozen.
    pub(crate) backlog: Option<Backlog>,
    pub(crate) counting: bool,
    pub(crate) count_again: bool,
    pub(crate) requests: u32,
    /// The next request's message cannot be published.
    pub(crate) refuses: bool,
}

/// What waits for a process that stands still.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) sender: InboxSender,
    pub(crate) inbox: Inbox,
    /// Who really gave the answers that are in the inbox: they need not say.
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
            held: Vec::new(),
            sequencer: Sequencer::default(),
            numbers: [0; CHANNELS],
            serial: 0,
            subscribed: [true; CHANNELS],
            arrivals: vec![[0; LANES]; MAX_PEERS],
            own: None,
        }
    }

    pub(crate) fn own(index: usize, kind: Kind, faults: Faults, clock: Clock) -> Self {
        let id = names::node(index, false);
        let config = EngineConfig { max_pending_requests: kind.max_pending, ..EngineConfig::default() };
        let metrics = Arc::<NodeMetrics>::default();
        let node = NodeKey { id: id.clone(), namespace: Namespace::new("/") };
        let own = Own {
            engine: Engine::new(node, capabilities(kind), config, Arc::clone(&metrics)),
            clock,
            metrics,
            witness: Witness::new(index, kind, faults, config),
            wake: None,
            backlog: None,
            counting: false,
            count_again: false,
            requests: 0,
            refuses: false,
        };
        Self { id, own: Some(Box::new(own)), subscribed: [true, false, false], ..Self::foreign(index) }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.state != State::Gone
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    pub(crate) fn is_foreign(&self) -> bool {
        self.own.is_none()
    }
}

fn capabilities(kind: Kind) -> Capabilities {
    Capabilities {
        membership: kind.membership,
        total_order: !kind.split,
        acknowledged_in_order: !kind.split,
        numbered: kind.numbered,
        announced_leave: true,
        named_answers: kind.membership == Membership::Heartbeats || kind.named,
        all_rooms_request: true,
        room_interest: true,
        history: false,
        max_message_bytes: None,
    }
}
