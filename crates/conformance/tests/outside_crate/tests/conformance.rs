//! The suite over the hub.

use std::{
    net::{SocketAddr, TcpListener},
    sync::OnceLock,
    thread,
};

use tokio::runtime::Runtime;
use trunkline_conformance::Setup;
use trunkline_core::{Capabilities, Membership};

trunkline_conformance::suite! {
    tcp,
    Setup::new(|cluster| async move { tcp_hub::connect(hub(), &cluster).await }),
    capabilities = Capabilities {
        membership: Membership::Heartbeats,
        total_order: true,
        acknowledged_in_order: true,
        numbered: true,
        announced_leave: true,
        named_answers: true,
        all_rooms_request: false,
        room_interest: false,
        history: false,
        max_message_bytes: Some((2 << 20) - 8192),
    },
    skipped = 19,
}

/// The address of a hub that all tests share, each with clusters of its own.
fn hub() -> SocketAddr {
    static HUB: OnceLock<SocketAddr> = OnceLock::new();
    *HUB.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || Runtime::new().expect("a runtime").block_on(tcp_hub::hub::serve(listener)));
        address
    })
}
