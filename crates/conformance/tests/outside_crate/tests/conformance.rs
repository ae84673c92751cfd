//! The conformance suite over the hub.

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
    capabilities = Capabilities::new(Membership::Heartbeats)
        .with_total_order(true)
        .with_acknowledged_in_order(true)
        .with_numbered(true)
        .with_announced_leave(true)
        .with_named_answers(true)
        .with_max_message_bytes(Some((2 << 20) - 8192)),
    skipped = 25,
}

/// Address of a hub that all tests share, each with clusters of its own.
fn hub() -> SocketAddr {
    static HUB: OnceLock<SocketAddr> = OnceLock::new();
    *HUB.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || Runtime::new().expect("a runtime").block_on(tcp_hub::hub::serve(listener)));
        address
    })
}
