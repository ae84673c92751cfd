//! Which nodes are in the cluster.

use std::time::Duration;

use trunkline_core::{DownReason, ErrorKind, Event, NodeId, Target};

use crate::kit::{
    Checked, Failure, TestCluster, TestNode, check, check_eq,
    values::{fetched_ids, ids},
};

fn is_up(node: &NodeId) -> impl Fn(&Event) -> bool {
    move |event| *event == Event::NodeUp(node.clone())
}

fn is_down(node: &NodeId) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::NodeDown(down, _) if down == node)
}

/// The sorted ids of nodes, as `peers` returns them.
fn names<'a>(nodes: impl IntoIterator<Item = &'a TestNode>) -> Vec<NodeId> {
    let mut names: Vec<_> = nodes.into_iter().map(|node| node.id().clone()).collect();
    names.sort_unstable();
    names
}

pub(crate) async fn a_node_alone_counts_itself(t: TestCluster) -> Checked {
    let a = t.node().await?;
    check_eq(a.server_count().await?, 1, "number of nodes")?;
    check_eq(a.peers(), [], "other nodes")
}

pub(crate) async fn every_node_counts_and_names_all_others(t: TestCluster) -> Checked {
    let nodes = t.nodes::<3>().await?;
    for node in &nodes {
        node.wait_for_peers(2).await?;
        let others = nodes.iter().filter(|other| other.id() != node.id());
        check_eq(node.peers(), names(others), "names of the other nodes")?;
    }
    Ok(())
}

pub(crate) async fn a_node_that_joins_is_announced(t: TestCluster) -> Checked {
    let a = t.node().await?;
    let events = a.events();
    let b = t.node().await?;
    a.wait_for_event(events, is_up(b.id()), "that the second node is up").await?;
    a.wait_for_peers(1).await
}

pub(crate) async fn nodes_that_join_know_each_other_before_the_next_heartbeat(t: TestCluster) -> Checked {
    let mut config = t.config();
    config.engine.heartbeat_interval = t.timeout() * 10;
    config.engine.heartbeat_timeout = t.timeout() * 30;
    let nodes = t.build().config(config).join_several::<3>().await?;
    for node in &nodes {
        let others = nodes.iter().filter(|other| other.id() != node.id());
        check_eq(node.peers(), names(others), "names of the other nodes")?;
    }
    Ok(())
}

pub(crate) async fn a_node_receives_every_broadcast_sent_after_it_has_joined(t: TestCluster) -> Checked {
    let a = t.node().await?;
    let mut joined = Vec::new();
    for _ in 0..5 {
        let b = t.node().await?;
        let socket = b.socket(["x"]).await?;
        joined.push(b);
        a.emit(Target::all(), "to-all").await?;
        a.emit(Target::room("x"), "to-room").await?;
        a.settle().await?;
        socket.got_in_any_order(&["to-all", "to-room"])?;
    }
    Ok(())
}

pub(crate) async fn await_peers_says_how_many_nodes_are_missing(t: TestCluster) -> Checked {
    let [a, _b] = t.nodes().await?;
    a.await_peers(1, Duration::ZERO).await?;
    let result = a.await_peers(2, Duration::from_millis(50)).await;
    let error = result.err().ok_or_else(|| Failure::new("two other nodes were seen where there is one"))?;
    check_eq(error.kind(), ErrorKind::Timeout, "kind of the error")?;
    check(error.to_string().contains("1 of 2"), format!("the error does not tell how many are there: {error}"))
}

pub(crate) async fn a_node_that_leaves_is_reported_as_left(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    let events = a.events();
    for _ in 0..20 {
        b.emit(Target::all(), "goodbye").await?;
    }
    b.fetch_sockets(Target::all()).await.map_err(|error| Failure::new(error.to_string()))?;
    b.leave().await?;
    let down = Event::NodeDown(b.id().clone(), DownReason::Left);
    a.wait_for_event(events, |event| *event == down, "that a node has left").await?;
    // Nothing of it that comes late brings it back, or is a gap.
    for _ in 0..4 {
        c.settle().await?;
    }
    check_eq(a.peers(), names([&c]), "names of the other nodes")?;
    check_eq(a.metrics().gaps, 0, "gaps")?;
    a.wait_for_peers(1).await
}

pub(crate) async fn a_node_that_leaves_is_no_longer_counted(t: TestCluster) -> Checked {
    let [a, b] = t.build().fast_failure_detection().join_several().await?;
    b.leave().await?;
    a.wait_for_peers(0).await
}

pub(crate) async fn a_node_that_is_killed_is_noticed(t: TestCluster) -> Checked {
    let a = t.build().fast_failure_detection().join().await?;
    let b = t.build().fast_failure_detection().own_process().join().await?;
    a.await_peers(1, t.timeout()).await?;
    let (events, killed) = (a.events(), b.id().clone());
    b.kill().await?;
    a.wait_for_event(events, is_down(&killed), "that a node is down").await?;
    a.wait_for_peers(0).await?;
    check_eq(a.peers(), [], "names of the other nodes")
}

pub(crate) async fn a_node_that_was_killed_returns_under_a_new_id(t: TestCluster) -> Checked {
    let a = t.build().fast_failure_detection().join().await?;
    let b = t.build().fast_failure_detection().own_process().join().await?;
    a.await_peers(1, t.timeout()).await?;
    let (events, arrivals, killed) = (a.events(), a.events(), b.id().clone());
    b.kill().await?;
    let returned = t.build().fast_failure_detection().join().await?;
    check(*returned.id() != killed, "the new node has the id of the killed one")?;
    a.wait_for_event(arrivals, is_up(returned.id()), "that the new node is there").await?;
    a.wait_for_event(events, is_down(&killed), "that the killed node is down").await?;
    a.wait_for_peers(1).await?;
    returned.wait_for_peers(1).await?;
    check_eq(a.peers(), names([&returned]), "names of the other nodes")?;
    let socket = returned.socket(["x"]).await?;
    a.emit(Target::room("x"), "news").await?;
    a.settle().await?;
    socket.got(&["news"])
}

pub(crate) async fn a_silent_node_is_down_until_it_sends_again(t: TestCluster) -> Checked {
    let a = t.build().fast_failure_detection().join().await?;
    let b = t.build().fast_failure_detection().own_process().join().await?;
    let c = t.build().fast_failure_detection().join().await?;
    a.await_peers(2, t.timeout()).await?;
    let (events, mut all_events) = (a.events(), a.events());
    b.freeze().await?;
    let down = Event::NodeDown(b.id().clone(), DownReason::Silent);
    a.wait_for_event(events, |event| *event == down, "that a node is silent").await?;
    let events = a.events();
    b.thaw();
    a.wait_for_event(events, is_up(b.id()), "that the node is back").await?;
    check_eq(a.peers(), names([&b, &c]), "names of the other nodes")?;
    let is_lost = is_down(c.id());
    while let Ok(event) = all_events.try_recv() {
        check(!is_lost(&event), "the third node was taken for dead, though it sent heartbeats all the time")?;
    }
    let sockets = [b.socket(["x"]).await?, c.socket(["x"]).await?];
    a.emit(Target::room("x"), "news").await?;
    a.settle().await?;
    sockets.iter().try_for_each(|socket| socket.got(&["news"]))
}

pub(crate) async fn fifty_nodes_are_one_cluster(t: TestCluster) -> Checked {
    let count = t.scaled(50, 8);
    // Each node receives the heartbeats of all others: at the interval of the small cases they would be most of the
    // work of fifty nodes.
    let mut config = t.config();
    config.engine.heartbeat_interval = Duration::from_secs(2);
    let nodes = t.build().config(config).join_many(count).await?;
    let mut sockets = Vec::new();
    for node in &nodes {
        node.wait_for_peers(count - 1).await?;
        sockets.push(node.socket(["x"]).await?);
    }
    let [first, .., last] = nodes.as_slice() else { return Err(Failure::new("too few nodes")) };
    first.emit(Target::all(), "news").await?;
    first.settle().await?;
    sockets.iter().try_for_each(|socket| socket.got(&["news"]))?;
    check_eq(fetched_ids(&last.fetch_sockets(Target::room("x")).await?), ids(&sockets), "fetched sockets")
}

pub(crate) async fn a_node_that_has_left_receives_nothing_more(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    let (gone, stayed) = (b.socket(["x"]).await?, c.socket(["x"]).await?);
    a.emit(Target::room("x"), "before").await?;
    a.settle().await?;
    b.leave().await?;
    a.emit(Target::room("x"), "after").await?;
    a.settle().await?;
    stayed.got(&["before", "after"])?;
    gone.got(&["before"])
}
