//! The conformance suite on a real server: without history, with it, and once over TLS with a password.

mod support;

use trunkline_conformance::Setup;
use trunkline_core::{Capabilities, Membership};

fn capabilities(history: bool) -> Capabilities {
    Capabilities {
        membership: Membership::Heartbeats,
        total_order: true,
        acknowledged_in_order: true,
        numbered: true,
        announced_leave: true,
        named_answers: true,
        all_rooms_request: false,
        room_interest: false,
        history,
        max_message_bytes: Some(16 << 20),
    }
}

const LIMIT: &str = "max_message_bytes=16MiB";

trunkline_conformance::suite! {
    plain,
    Setup::new(|cluster| async move { support::shared(&cluster, LIMIT).await }),
    capabilities = capabilities(false),
    skipped = 19,
}

trunkline_conformance::suite! {
    with_history,
    Setup::new(|cluster| async move { support::shared(&cluster, &format!("{LIMIT}&history=on")).await })
        .limited_history(|cluster| async move {
            let limits = "history=on&history_messages=1000&session_ttl=1s&cleanup_interval=500ms";
            support::shared(&cluster, &format!("{LIMIT}&{limits}")).await
        }),
    capabilities = capabilities(true),
    skipped = 1,
}
