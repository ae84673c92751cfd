//! The suite over transports with faults that must not show: delays, repeats, a size limit.

mod common;

use std::time::Duration;

use trunkline_conformance::{Setup, faults};
use trunkline_core::{
    Backend, Capabilities, Membership, Result,
    memory::{self, HistoryLimits, MemoryConfig},
};

const CAPABILITIES: Capabilities = Capabilities {
    membership: Membership::Heartbeats,
    total_order: true,
    acknowledged_in_order: true,
    numbered: true,
    announced_leave: true,
    named_answers: true,
    all_rooms_request: true,
    room_interest: true,
    history: true,
    max_message_bytes: None,
};

const LIMITED_HISTORY: HistoryLimits =
    HistoryLimits { messages: 1000, bytes: 1 << 20, session_ttl: Duration::from_millis(500), sessions: 1000 };

fn with_history(cluster: &str, limits: HistoryLimits) -> Result<Backend> {
    memory::backend(cluster, MemoryConfig { history: Some(limits) })
}

fn memory() -> Setup {
    Setup::new(|cluster| async move { with_history(&cluster, HistoryLimits::default()) })
        .limited_history(|cluster| async move { with_history(&cluster, LIMITED_HISTORY) })
}

trunkline_conformance::suite! {
    slow,
    memory().map(|backend| faults::slow(backend, 42, Duration::from_millis(3))),
    capabilities = CAPABILITIES,
    skipped = 5,
}

trunkline_conformance::suite! {
    duplicating,
    memory().map(|backend| faults::duplicating(backend, 42, 30)),
    capabilities = CAPABILITIES,
    skipped = 5,
}

trunkline_conformance::suite! {
    limited,
    memory().map(common::limited::limited),
    capabilities = Capabilities { max_message_bytes: Some(common::limited::LIMIT), ..CAPABILITIES },
    skipped = 1,
}
