//! The suite over the memory transport.

use std::time::Duration;

use trunkline_conformance::Setup;
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
    .with_room_interest(true);

trunkline_conformance::suite! {
    plain,
    Setup::new(|cluster| async move { memory::backend(&cluster, MemoryConfig::default()) }),
    capabilities = CAPABILITIES,
    skipped = 31,
}

trunkline_conformance::suite! {
    with_history,
    Setup::new(|cluster| async move { with_history(&cluster, HistoryLimits::default()) })
        .limited_history(|cluster| async move { with_history(&cluster, LIMITED_HISTORY) }),
    capabilities = CAPABILITIES.with_history(true),
    skipped = 7,
}

const LIMITED_HISTORY: HistoryLimits =
    HistoryLimits { messages: 1000, bytes: 1 << 20, session_ttl: Duration::from_millis(500), sessions: 1000 };

fn with_history(cluster: &str, limits: HistoryLimits) -> Result<Backend> {
    memory::backend(cluster, MemoryConfig { history: Some(limits) })
}
