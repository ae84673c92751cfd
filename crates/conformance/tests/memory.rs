//! The suite over the embedded transport.

use trunkline_conformance::Setup;
use trunkline_core::{
    Capabilities, Membership,
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
    skipped = 0,
}

trunkline_conformance::suite! {
    with_history,
    Setup::new(|cluster| async move {
        memory::backend(&cluster, MemoryConfig { history: Some(HistoryLimits::default()) })
    }),
    capabilities = Capabilities { history: true, ..CAPABILITIES },
    skipped = 0,
}
