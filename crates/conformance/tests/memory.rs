//! The suite over the memory transport.

use std::time::Duration;

use trunkline_conformance::Setup;
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
    history: false,
    max_message_bytes: None,
};

trunkline_conformance::suite! {
    plain,
    Setup::new(|cluster| async move { memory::backend(&cluster, MemoryConfig::default()) }),
    capabilities = CAPABILITIES,
    skipped = 23,
}

trunkline_conformance::suite! {
    with_history,
    Setup::new(|cluster| async move { with_history(&cluster, HistoryLimits::default()) })
        .limited_history(|cluster| async move { with_history(&cluster, LIMITED_HISTORY) }),
    capabilities = Capabilities { history: true, ..CAPABILITIES },
    skipped = 5,
}

const LIMITED_HISTORY: HistoryLimits =
    HistoryLimits { messages: 1000, bytes: 1 << 20, session_ttl: Duration::from_millis(500), sessions: 1000 };

fn with_history(cluster: &str, limits: HistoryLimits) -> Result<Backend> {
    memory::backend(cluster, MemoryConfig { history: Some(limits) })
}
