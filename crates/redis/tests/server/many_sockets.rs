//! Answers of a node whose sockets have no room in one message.

use std::collections::HashSet;

use trunkline_brokers::Redis;
use trunkline_conformance::kit::{ClientSpec, Failure};
use trunkline_core::Target;

use crate::support::{TIMEOUT, Wire, over_all, pair};

const SOCKETS: usize = 100_000;

over_all!(a_node_with_100_000_sockets_answers);

async fn a_node_with_100_000_sockets_answers(wire: Wire) -> Result<(), Failure> {
    let server = Redis::start().await.unwrap();
    let [a, b] = pair(wire, server.url(), "").await?;
    for _ in 0..SOCKETS {
        b.connect(ClientSpec::new().room("x")).await?;
    }
    let fetched = a.fetch_sockets(Target::room("x").timeout(TIMEOUT)).await?;
    let ids: HashSet<_> = fetched.iter().map(|socket| &socket.id).collect();
    assert_eq!((fetched.len(), ids.len()), (SOCKETS, SOCKETS));
    assert!(fetched.iter().all(|socket| socket.node.as_ref() == Some(b.id()) && socket.rooms.len() == 2));
    Ok(())
}
