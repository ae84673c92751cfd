//! Fetching sockets and rooms of all nodes.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures_util::future::try_join_all;
use serde::Deserialize;
use trunkline_core::{Payload, Room, Target};

use super::{anything, gathered_without, timed_out};
use crate::kit::{
    Checked, ClientSpec, Failure, TestCluster, check_eq, eventually,
    values::{fetched_ids, ids, rooms, text},
};

pub(crate) async fn sockets_of_all_nodes_are_found(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["y"]).await?, b.socket(["y"]).await?, c.socket([""; 0]).await?];
    check_eq(fetched_ids(&a.fetch_sockets(Target::all()).await?), ids(&sockets), "fetched sockets")
}

pub(crate) async fn sockets_are_found_by_room_and_exception(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let x = [a.socket(["x"]).await?, b.socket(["x", "y"]).await?];
    let y = b.socket(["y"]).await?;
    let z = b.socket(["z"]).await?;
    check_eq(fetched_ids(&a.fetch_sockets(Target::room("x")).await?), ids(&x), "in one room")?;
    let in_either = a.fetch_sockets(Target::rooms(["x", "y"])).await?;
    check_eq(fetched_ids(&in_either), ids(x.iter().chain([&y])), "in one of two rooms, each once")?;
    let target = Target::rooms(["x", "y"]).except("x");
    check_eq(fetched_ids(&a.fetch_sockets(target).await?), ids([&y]), "in a room, but not in another")?;
    let target = Target::all().except("w").except("y").except("x");
    check_eq(fetched_ids(&a.fetch_sockets(target).await?), ids([&z]), "in none of several rooms")
}

pub(crate) async fn a_room_with_too_long_a_name_costs_no_socket_and_no_other_room(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let long = "x".repeat(Room::MAX_BYTES + 1);
    let sockets =
        [b.socket(["x", long.as_str(), "y"]).await?, b.socket(["x"]).await?, b.socket([long.as_str()]).await?];
    let fetched = a.fetch_sockets(Target::all()).await?;
    check_eq(fetched_ids(&fetched), ids(&sockets), "fetched sockets")?;
    let has_others = fetched
        .iter()
        .filter(|socket| socket.id == *sockets[0].id())
        .all(|socket| ["x", "y"].iter().all(|room| socket.rooms.contains(&Room::from(*room))));
    check_eq(has_others, true, "whether the socket's other rooms are listed")
}

pub(crate) async fn a_socket_is_found_by_its_id_on_any_node(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (here, there) = (a.socket(["x"]).await?, b.socket(["x"]).await?);
    for socket in [&here, &there] {
        let found = a.fetch_sockets(Target::room(socket.room())).await?;
        check_eq(fetched_ids(&found), ids([socket]), "sockets with one id")?;
    }
    Ok(())
}

pub(crate) async fn rooms_handshake_and_data_arrive_unchanged(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let handshake = Payload::from_json(r#"{"headers":{"host":"example.org"},"auth":{"token":"ä"},"secure":true}"#)?;
    let data = Payload::value(&("user", 7, [Bytes::from_static(b"\0\xff")], anything()))?;
    let socket =
        b.connect(ClientSpec::new().room("x").room("ä").handshake(handshake.clone()).data(data.clone())).await?;
    let fetched = a.fetch_sockets(Target::all()).await?;
    let [info] = fetched.as_slice() else { return Err(Failure::new(format!("{} sockets fetched", fetched.len()))) };
    check_eq(rooms(info.rooms.clone()), rooms([Room::from("x"), Room::from("ä"), socket.room()]), "rooms")?;
    check_eq(info.handshake.as_ref().map(text), Some(text(&handshake)), "handshake")?;
    check_eq(info.data.as_ref().map(text), Some(text(&data)), "data")
}

/// Servers of Node.js look into the handshakes of all sockets without asking whether there is anything.
pub(crate) async fn a_socket_of_which_nothing_is_known_has_a_whole_handshake(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    a.socket(["x"]).await?;
    b.socket(["x"]).await?;
    let fetched = a.fetch_sockets(Target::room("x")).await?;
    check_eq(fetched.len(), 2, "fetched sockets")?;
    for socket in fetched {
        let handshake = socket.handshake.ok_or_else(|| Failure::new("a socket without handshake".to_owned()))?;
        let Shape { headers, time, address, xdomain, secure, issued, url, query, auth } = handshake.deserialize()?;
        check_eq([headers.len(), query.len(), auth.len()], [0; 3], "entries of the handshake's objects")?;
        check_eq((xdomain, secure, issued < 1e15), (false, false, true), "xdomain, secure, issued")?;
        check_eq(
            time.contains("GMT") && address.is_empty() && url.is_empty(),
            true,
            "whether its texts are as expected",
        )?;
    }
    Ok(())
}

/// The fields of a handshake on Node.js servers.
#[derive(Deserialize)]
struct Shape {
    headers: BTreeMap<String, String>,
    time: String,
    address: String,
    xdomain: bool,
    secure: bool,
    issued: f64,
    url: String,
    query: BTreeMap<String, String>,
    auth: BTreeMap<String, String>,
}

pub(crate) async fn each_socket_names_its_node(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (here, there) = (a.socket(["x"]).await?, b.socket(["x"]).await?);
    for info in a.fetch_sockets(Target::all()).await? {
        let node = if info.id == *here.id() { a.id() } else { b.id() };
        check_eq(info.node.as_ref(), Some(node), "node of a socket")?;
        check_eq(info.id == *here.id() || info.id == *there.id(), true, "whether the socket is known")?;
    }
    Ok(())
}

pub(crate) async fn local_finds_only_sockets_of_its_node(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let here = a.socket(["x"]).await?;
    b.socket(["x"]).await?;
    check_eq(fetched_ids(&a.fetch_sockets(Target::room("x").local()).await?), ids([&here]), "fetched sockets")
}

pub(crate) async fn without_matching_sockets_none_are_found(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    b.socket(["x"]).await?;
    check_eq(a.fetch_sockets(Target::room("nowhere")).await?.len(), 0, "sockets in an unknown room")?;
    b.leave().await?;
    let alone = t.sibling().node().await?;
    check_eq(alone.fetch_sockets(Target::all()).await?.len(), 0, "sockets of a node that is alone")
}

pub(crate) async fn hundreds_of_sockets_are_found_with_their_data(t: TestCluster) -> Checked {
    let bytes = t.within_limit(300_000).await? / 300;
    let [a, b, c] = t.nodes().await?;
    let data = Payload::value(&"x".repeat(bytes))?;
    let mut sockets = Vec::new();
    for number in 0..500 {
        let node = if number % 2 == 0 { &b } else { &c };
        sockets.push(node.connect(ClientSpec::new().data(data.clone())).await?);
    }
    let fetched = a.fetch_sockets(Target::all()).await?;
    check_eq(fetched_ids(&fetched), ids(&sockets), "fetched sockets")?;
    check_eq(fetched.iter().filter(|info| info.data.as_ref() == Some(&data)).count(), 500, "sockets with their data")
}

pub(crate) async fn concurrent_requests_get_their_own_answers(t: TestCluster) -> Checked {
    let nodes = t.nodes::<3>().await?;
    let mut sockets = Vec::new();
    for number in 0..6 {
        sockets.push(nodes[number % 3].socket([format!("room-{number}")]).await?);
    }
    let ask = |number: usize| {
        let (node, socket) = (&nodes[number % 3], &sockets[number % 6]);
        async move {
            let found = node.fetch_sockets(Target::room(format!("room-{}", number % 6))).await?;
            check_eq(fetched_ids(&found), ids([socket]), "sockets found by one of many requests")
        }
    };
    try_join_all((0..240).map(ask)).await.map(drop)
}

pub(crate) async fn a_node_that_dies_is_not_waited_for(t: TestCluster) -> Checked {
    let a = t.build().fast_failure_detection().join().await?;
    let b = t.build().fast_failure_detection().own_process().join().await?;
    let dead = b.id().clone();
    let c = t.build().fast_failure_detection().join().await?;
    a.await_peers(2, t.timeout()).await?;
    let sockets = [a.socket(["x"]).await?, c.socket(["x"]).await?];
    b.socket(["x"]).await?;
    // A frozen node cannot answer: it dies while its answer is awaited.
    b.freeze().await?;
    let fetching = a.fetch_sockets(Target::room("x"));
    let (fetched, killed) = tokio::join!(fetching, async {
        c.settle().await?;
        b.kill().await
    });
    killed?;
    check_eq(fetched_ids(&gathered_without(&dead, fetched)?), ids(&sockets), "fetched sockets")?;
    let is_left_out = || async { a.fetch_sockets(Target::room("x")).await.is_ok() };
    eventually(t.timeout(), || "requests fail for want of a dead node".to_owned(), is_left_out).await
}

pub(crate) async fn a_frozen_node_is_named_as_missing_and_the_other_answers_are_returned(t: TestCluster) -> Checked {
    let a = t.node().await?;
    let b = t.build().own_process().join().await?;
    let c = t.node().await?;
    a.await_peers(2, t.timeout()).await?;
    let sockets = [a.socket(["x"]).await?, c.socket(["x"]).await?];
    b.socket(["x"]).await?;
    b.freeze().await?;
    let (a, b, sockets) = (&a, &b, &sockets);
    t.with_growing_time_outs(|limit| async move {
        let incomplete = timed_out(a.fetch_sockets(Target::room("x").timeout(limit)).await)?;
        check_eq(incomplete.missing.as_slice(), [b.id().clone()], "nodes that are missing")?;
        check_eq(fetched_ids(&incomplete.received), ids(sockets), "sockets that arrived")?;
        let partial = a.fetch_sockets(Target::room("x").timeout(limit).partial()).await?;
        check_eq(fetched_ids(&partial), ids(sockets), "sockets of a partial result")
    })
    .await
}

pub(crate) async fn dropping_the_call_frees_its_request(t: TestCluster) -> Checked {
    let mut config = t.config();
    config.engine.max_pending_requests = 1;
    let a = t.build().config(config).join().await?;
    let b = t.build().own_process().join().await?;
    a.await_peers(1, t.timeout()).await?;
    let there = b.socket(["x"]).await?;
    b.freeze().await?;
    for _ in 0..5 {
        let fetching = a.fetch_sockets(Target::all());
        let given_up = tokio::time::timeout(Duration::from_millis(30), fetching).await.is_err();
        check_eq(given_up, true, "whether a frozen node left the request pending")?;
    }
    b.thaw();
    check_eq(fetched_ids(&a.fetch_sockets(Target::all()).await?), ids([&there]), "sockets fetched afterwards")
}

pub(crate) async fn rooms_of_all_nodes_are_listed_once_each(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["x", "y"]).await?, c.socket(["z", ""]).await?];
    let named = ["x", "y", "z", ""].map(Room::from);
    let expected = rooms(sockets.iter().map(|socket| socket.room()).chain(named));
    check_eq(rooms(a.all_rooms().await?), expected, "all rooms")
}
