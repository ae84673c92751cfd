//! Joining, leaving and closing, without tasks or connections left over.

use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
    thread,
};

use tokio::{runtime::Builder, sync::oneshot, time::timeout};
use trunkline_core::{
    ClusterNode, DownReason, Error, ErrorKind, Event, Local, Namespace, Payload, Room, Target, transport::Health,
};

use crate::kit::{
    Checked, ClientSpec, Failure, RoomServer, Server as _, TestCluster, TestNode, check, check_eq, eventually,
};

/// Waits until at most `left` tasks of a node's process are running.
async fn tasks_ended(t: &TestCluster, node: &TestNode, left: usize) -> Checked {
    let alive = || node.tasks().map(|tasks| tasks.to_string()).unwrap_or_else(|failure| failure.to_string());
    let what = || format!("{} tasks are alive, allowed are {left},", alive());
    eventually(t.timeout(), what, async || node.tasks().is_ok_and(|tasks| tasks <= left)).await
}

pub(crate) async fn a_working_node_is_healthy(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    for node in [&a, &b] {
        node.emit(Target::all(), "news").await?;
        node.settle().await?;
        let transport = &node.backend().transport;
        check(transport.health().connected, "the broker is said to be away")?;
        let idle = Health::default().with_connected(true);
        let what = || format!("everything has arrived, but the health is {:?}", transport.health());
        eventually(t.timeout(), what, async || transport.health() == idle).await?;
    }
    Ok(())
}

pub(crate) async fn a_probe_measures_the_way_to_every_node(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    let probe = a.probe(t.timeout()).await?;
    check(probe.is_complete(), "the broker and all nodes are there, and the probe has not reached all")?;
    let peers = [b.node().id.clone(), c.node().id.clone()];
    check_eq(probe.round_trips.keys().cloned().collect::<BTreeSet<_>>(), BTreeSet::from(peers), "nodes that answered")?;
    check(a.health().since.is_some(), "the health does not tell since when")?;
    b.leave().await?;
    c.leave().await?;
    a.wait_for_peers(0).await?;
    let alone = a.probe(t.timeout()).await?;
    check(alone.is_complete() && alone.round_trips.is_empty(), "a probe of a node that is alone is not complete")
}

pub(crate) async fn closing_twice_has_the_effect_of_closing_once(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    b.close();
    b.leave().await?;
    b.leave().await?;
    b.close_transport().await?;
    b.close_transport().await?;
    a.wait_for_peers(0).await
}

pub(crate) async fn leaving_twice_has_the_effect_of_leaving_once(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let c = t.build().namespace("/admin").sharing(&b).join().await?;
    b.leave().await?;
    for _ in 0..2 {
        let leaving = timeout(t.timeout(), b.backend().transport.leave(b.node())).await;
        leaving.map_err(|_| Failure::new("leaving again did not end"))??;
    }
    let socket = c.socket(["x"]).await?;
    c.emit(Target::all(), "news").await?;
    c.settle().await?;
    socket.got(&["news"])?;
    a.wait_for_peers(0).await
}

pub(crate) async fn closing_during_traffic_delivers_what_was_accepted(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let sender = (*a).clone();
    let sending = tokio::spawn(async move {
        for number in 0.. {
            let payload = Payload::event(&number.to_string(), &"x".repeat(1000))?;
            if let Err(error) = sender.broadcast(Target::room("x"), payload).await {
                return Ok::<_, Error>((number, error.kind()));
            }
            tokio::task::yield_now().await;
        }
        unreachable!("an endless loop ended")
    });
    socket.wait_for(10).await?;
    a.leave().await?;
    let (sent, kind) = sending.await.map_err(|error| Failure::new(error.to_string()))??;
    check_eq(kind, ErrorKind::Closed, "kind of the error after closing")?;
    let names = socket.wait_for(sent).await?.iter().map(|packet| packet.name()).collect::<Vec<_>>();
    check_eq(names, (0..sent).map(|number| number.to_string()).collect::<Vec<_>>(), "events that were accepted")?;
    b.emit(Target::room("x"), "still here").await?;
    socket.wait_for(sent + 1).await.map(drop)
}

pub(crate) async fn after_closing_every_operation_fails_with_closed(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    a.leave().await?;
    let payload = || Payload::event("news", &());
    let rooms = || vec![Room::from("y")];
    let kinds = [
        a.broadcast(Target::all(), payload()?).await.err(),
        a.broadcast(Target::all().local(), payload()?).await.err(),
        a.broadcast_with_ack(Target::all(), payload()?).await.err(),
        a.sockets_join(Target::all(), rooms()).await.err(),
        a.sockets_leave(Target::all(), rooms()).await.err(),
        a.disconnect_sockets(Target::all(), false).await.err(),
        a.fetch_sockets(Target::all()).await.err().map(Error::from),
        a.all_rooms().await.err().map(Error::from),
        a.server_side_emit(payload()?).await.err(),
        a.server_side_emit_with_ack(payload()?, None).await.err().map(Error::from),
        a.server_count().await.err(),
    ]
    .map(|error| error.map(|error| error.kind()));
    check_eq(kinds, [Some(ErrorKind::Closed); 11], "kinds of the errors")?;
    b.settle().await?;
    socket.got(&[])?;
    check_eq(socket.disconnected(), None, "whether the client was disconnected")
}

pub(crate) async fn a_request_ends_when_its_node_closes(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let there = b.connect(ClientSpec::new().silent()).await?;
    let acks = a.broadcast_with_ack(Target::all(), Payload::event("question", &())?).await?;
    there.wait_for(1).await?;
    a.leave().await?;
    let ended = timeout(t.config().request_timeout / 2, acks.collect()).await;
    let result = ended.map_err(|_| Failure::new("the request outlives its node"))?;
    check_eq(result.err().map(|error| error.kind()), Some(ErrorKind::Closed), "kind of the error")
}

pub(crate) async fn closing_ends_all_tasks(t: TestCluster) -> Checked {
    let a = t.node().await?;
    let b = t.build().own_process().join().await?;
    a.await_peers(1, t.timeout()).await?;
    let c = t.build().namespace("/admin").sharing(&b).join().await?;
    let socket = b.socket(["x"]).await?;
    a.emit(Target::room("x"), "there").await?;
    b.emit(Target::room("x"), "here").await?;
    socket.wait_for(2).await?;
    b.fetch_sockets(Target::all()).await?;
    check(b.tasks()? > 0, "a node without tasks")?;
    c.leave().await?;
    b.leave().await?;
    b.close_transport().await?;
    tasks_ended(&t, &b, 0).await
}

pub(crate) async fn joining_and_leaving_many_times_leaves_no_task_running(t: TestCluster) -> Checked {
    let a = t.build().own_process().join().await?;
    // The first join may open connections that are kept.
    join_and_leave(&t, &a, 0).await?;
    let before = a.tasks()?;
    for turn in 1..=t.scaled(20, 5) {
        join_and_leave(&t, &a, turn).await?;
    }
    tasks_ended(&t, &a, before).await
}

/// Joins a second node of the same process, uses it, and leaves. It counts the nodes, which may take connections of its
/// own, and uses a room of its own: broadcasts of the turn before may still be on their way, and would be delivered to
/// this node.
async fn join_and_leave(t: &TestCluster, a: &TestNode, turn: usize) -> Checked {
    let node = t.build().namespace("/again").sharing(a).join().await?;
    let room = format!("x{turn}");
    let socket = node.socket([room.as_str()]).await?;
    node.emit(Target::room(room), "news").await?;
    node.settle().await?;
    socket.got(&["news"])?;
    node.server_count().await?;
    node.leave().await
}

pub(crate) async fn a_node_can_join_again_after_closing(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    b.leave().await?;
    b.close_transport().await?;
    let again = t.node().await?;
    a.wait_for_peers(1).await?;
    again.wait_for_peers(1).await?;
    let sockets = [a.socket(["x"]).await?, again.socket(["x"]).await?];
    for (node, name) in [(&a, "there"), (&again, "back")] {
        node.emit(Target::room("x"), name).await?;
        node.settle().await?;
    }
    sockets.iter().try_for_each(|socket| socket.got(&["there", "back"]))
}

pub(crate) async fn a_namespace_can_be_opened_again_over_the_same_connections(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let emitter = t.emitter().await?.of("/again");
    for _ in 0..3 {
        let again = t.build().namespace("/again").sharing(&b).join().await?;
        let other = t.build().namespace("/again").sharing(&a).join().await?;
        again.await_peers(1, t.timeout()).await?;
        let socket = again.socket(["x"]).await?;
        other.emit(Target::room("x"), "news").await?;
        other.settle().await?;
        emitter.emit(Target::room("x"), "emitted").await?;
        emitter.settle().await?;
        socket.got(&["news", "emitted"])?;
        again.leave().await?;
        other.leave().await?;
    }
    Ok(())
}

pub(crate) async fn dropping_the_server_ends_its_node(t: TestCluster) -> Checked {
    let a = t.node().await?;
    let server = RoomServer::default();
    let local: Arc<dyn Local> = server.local();
    let backend = t.backend().await?;
    let node = ClusterNode::join(backend, Namespace::new("/"), Arc::downgrade(&local), t.config()).await?;
    a.wait_for_peers(1).await?;
    drop((server, local));
    let ended = timeout(t.timeout(), node.closed()).await;
    ended.map_err(|_| Failure::new("the node outlives its server"))?;
    a.wait_for_peers(0).await
}

pub(crate) async fn a_node_leaves_when_its_last_handle_is_dropped(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    drop(b);
    a.wait_for_peers(0).await
}

pub(crate) async fn a_runtime_can_end_during_the_traffic_of_its_node(t: TestCluster) -> Checked {
    let b = t.node().await?;
    let socket = b.socket(["x"]).await?;
    let (ended, has_ended) = oneshot::channel();
    let apart = t.clone();
    thread::spawn(move || ended.send(flood_until(&apart, async move || socket.wait_for(100).await.map(drop))));
    let ended = timeout(t.timeout() * 2, has_ended).await;
    ended.map_err(|_| Failure::new("the runtime goes on"))?.map_err(|error| Failure::new(error.to_string()))?
}

/// Floods the room `x` from a node in a runtime of its own, and drops that runtime meanwhile, once `enough` has
/// returned.
fn flood_until(t: &TestCluster, enough: impl AsyncFnOnce() -> Checked) -> Checked {
    // Dropped after the runtime: otherwise the node would leave first.
    let server = RoomServer::default();
    let local: Arc<dyn Local> = server.local();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(error.to_string()))?;
    runtime.block_on(async {
        let backend = t.backend().await?;
        let node = ClusterNode::join(backend, Namespace::new("/"), Arc::downgrade(&local), t.config()).await?;
        node.await_peers(1, t.timeout()).await?;
        for _ in 0..2 {
            tokio::spawn(flood(node.clone()));
        }
        enough().await
    })
}

async fn flood(node: ClusterNode) -> Checked {
    let payload = Payload::event("flood", &"x".repeat(10_000))?;
    loop {
        for _ in 0..1000 {
            node.broadcast(Target::room("x"), payload.clone()).await?;
        }
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn what_was_queued_and_the_leave_are_with_the_broker_when_closed_returns(t: TestCluster) -> Checked {
    const COUNT: usize = 100;
    let a = t.node().await?;
    let b = t.build().own_process().join().await?;
    a.await_peers(1, t.timeout()).await?;
    let (socket, events, leaving) = (a.socket(["x"]).await?, a.events(), (*b).clone());
    let (closed, is_closed) = oneshot::channel();
    let (killed, is_killed) = mpsc::channel::<()>();
    let emit_and_leave = async move {
        for number in 0..COUNT {
            leaving.broadcast(Target::all(), Payload::event(&number.to_string(), &"x".repeat(1000))?).await?;
        }
        leaving.close();
        leaving.closed().await;
        let _ = closed.send(());
        // Blocks the only thread of the process, so that no other task of it runs again.
        let _ = is_killed.recv();
        Ok::<_, Error>(())
    };
    b.run(async { drop(tokio::spawn(emit_and_leave)) }).await?;
    let id = b.id().clone();
    let is_closed = timeout(t.timeout(), is_closed).await;
    check(matches!(is_closed, Ok(Ok(()))), "a node was not closed")?;
    let (ended, ()) = tokio::join!(b.kill(), async { drop(killed) });
    ended?;
    let names = socket.wait_for(COUNT).await?.iter().map(|packet| packet.name()).collect::<Vec<_>>();
    check_eq(names, (0..COUNT).map(|number| number.to_string()).collect::<Vec<_>>(), "events of the node that left")?;
    let left = Event::NodeDown(id, DownReason::Left);
    a.wait_for_event(events, |event| *event == left, "that the node has left").await.map(drop)
}

pub(crate) async fn a_frozen_peer_does_not_keep_others_from_closing(t: TestCluster) -> Checked {
    let a = t.node().await?;
    let b = t.build().own_process().join().await?;
    a.await_peers(1, t.timeout()).await?;
    b.freeze().await?;
    for _ in 0..100 {
        a.emit(Target::all(), "news").await?;
    }
    let closed = a.leave().await;
    b.thaw();
    closed
}
