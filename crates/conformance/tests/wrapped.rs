//! The suite over transports with faults that must not show: delays, repeats, a size limit.

mod common;

use std::time::Duration;

use trunkline_conformance::{Setup, faults};
use trunkline_core::{
    Backend, Capabilities, Membership, Result,
    memory::{self, HistoryLimits, MemoryConfig},
};

const CAPABILITIES: Capabilities = Capabilities::new(Membership::Heartbeats)
    .with_total_order(true)
    .with_acknowledged_in_order(true)
    .with_numbered(true)
    .with_announced_leave(true)
    .with_named_answers(true)
    .with_all_rooms_request(true)
    .with_room_interest(true)
    .with_history(true);

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
    skipped = 7,
}

trunkline_conformance::suite! {
    duplicating,
    memory().map(|backend| faults::duplicating(backend, 42, 30)),
    capabilities = CAPABILITIES,
    skipped = 7,
}

trunkline_conformance::suite! {
    limited,
    memory().map(common::limited::limited),
    capabilities = CAPABILITIES.with_max_message_bytes(Some(common::limited::LIMIT)),
    skipped = 1,
}
