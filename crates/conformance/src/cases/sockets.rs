//! Joining, leaving and disconnecting sockets of any node.

use trunkline_core::{Room, Target};

use super::LOOK_ALIKE;
use crate::kit::{
    Checked, TestCluster, TestNode, TestSocket, check_eq,
    values::{self, fetched_ids, ids},
};

fn rooms(names: &[&str]) -> Vec<Room> {
    names.iter().copied().map(Room::from).collect()
}

/// Waits until all nodes have applied the joins and leaves of `node`, and have told the broker about rooms where it has
/// to know: answers to the request come behind that.
async fn applied(node: &TestNode) -> Checked {
    node.settle().await?;
    node.fetch_sockets(Target::all()).await?;
    Ok(())
}

/// Broadcasts to a room, and waits until that has arrived.
async fn probe(node: &TestNode, room: &str) -> Checked {
    node.emit(Target::room(room), room).await?;
    node.settle().await
}

pub(crate) async fn members_of_a_room_join_another_on_every_node(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let inside = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    let outside = [a.socket(["y"]).await?, b.socket(["y"]).await?];
    a.sockets_join(Target::room("x"), rooms(&["new"])).await?;
    applied(&a).await?;
    probe(&a, "new").await?;
    inside.iter().try_for_each(|socket| socket.got(&["new"]))?;
    outside.iter().try_for_each(|socket| socket.got(&[]))
}

pub(crate) async fn a_socket_of_another_node_joins_by_its_id(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (one, other) = (b.socket(["x"]).await?, b.socket(["x"]).await?);
    a.sockets_join(Target::room(one.room()), rooms(&["new"])).await?;
    applied(&a).await?;
    probe(&a, "new").await?;
    one.got(&["new"])?;
    other.got(&[])
}

pub(crate) async fn a_socket_of_another_node_leaves_by_its_id(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (one, other) = (b.socket(["x"]).await?, b.socket(["x"]).await?);
    a.sockets_leave(Target::room(one.room()), rooms(&["x"])).await?;
    applied(&a).await?;
    probe(&a, "x").await?;
    one.got(&[])?;
    other.got(&["x"])
}

pub(crate) async fn all_sockets_join_except_those_excepted(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let moved = [a.socket(["x"]).await?, b.socket(["y"]).await?];
    let left_out = [a.socket(["quiet"]).await?, b.socket(["quiet"]).await?, b.socket(["silent"]).await?];
    a.sockets_join(Target::all().except("quiet").except("silent"), rooms(&["new"])).await?;
    applied(&a).await?;
    probe(&a, "new").await?;
    moved.iter().try_for_each(|socket| socket.got(&["new"]))?;
    left_out.iter().try_for_each(|socket| socket.got(&[]))
}

pub(crate) async fn several_rooms_are_joined_and_left_at_once(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let sockets = [b.socket(["x"]).await?, b.socket(["y"]).await?];
    let either = || Target::rooms(["x", "y"]);
    a.sockets_join(either(), rooms(&["one", "two", "three", "four"])).await?;
    a.sockets_leave(either(), rooms(&["four", "two"])).await?;
    applied(&a).await?;
    for room in ["one", "two", "three", "four"] {
        probe(&a, room).await?;
    }
    sockets.iter().try_for_each(|socket| socket.got_in_any_order(&["one", "three"]))
}

pub(crate) async fn hundreds_of_rooms_of_any_name_are_joined_left_and_listed(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket([""; 0]).await?;
    let names = (0..300).map(|number| Room::from(format!("room-{number:0>55}")));
    let all: Vec<_> = names.chain(LOOK_ALIKE.map(Room::from)).chain([Room::from("")]).collect();
    let (left, kept): (Vec<_>, Vec<_>) = all.iter().cloned().enumerate().partition(|(index, _)| index % 2 == 0);
    let [left, kept] = [left, kept].map(|half| half.into_iter().map(|(_, room)| room).collect::<Vec<_>>());
    a.sockets_join(Target::room(socket.room()), all.clone()).await?;
    check_rooms(&a, &socket, &all).await?;
    a.sockets_leave(Target::room(socket.room()), left).await?;
    check_rooms(&a, &socket, &kept).await?;
    for name in LOOK_ALIKE {
        let expected = if kept.contains(&Room::from(name)) { ids([&socket]) } else { Vec::new() };
        let found = fetched_ids(&a.fetch_sockets(Target::room(name)).await?);
        check_eq(found, expected, &format!("sockets in {name:?}"))?;
    }
    Ok(())
}

pub(crate) async fn number_rooms_are_joined_left_and_listed_as_numbers(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (socket, other) = (b.socket([""; 0]).await?, b.socket(["42"]).await?);
    a.sockets_join(Target::room(socket.room()), vec![Room::from(42)]).await?;
    applied(&a).await?;
    check_eq(fetched_ids(&a.fetch_sockets(Target::room(42)).await?), ids([&socket]), "sockets in the number room")?;
    let elsewhere = a.fetch_sockets(Target::all().except(42)).await?;
    check_eq(fetched_ids(&elsewhere), ids([&other]), "sockets that are not in the number room")?;
    a.emit(Target::room(42), "number").await?;
    a.emit(Target::room("42"), "text").await?;
    a.settle().await?;
    socket.got(&["number"])?;
    other.got(&["text"])?;
    a.disconnect_sockets(Target::room("42"), false).await?;
    other.wait_for_disconnect().await?;
    check_rooms(&a, &socket, &[Room::from(42)]).await?;
    let emitter = t.emitter().await?;
    emitter.sockets_leave(Target::room(42), vec![Room::from(42)]).await?;
    emitter.settle().await?;
    check_rooms(&a, &socket, &[]).await
}

/// Checks that `socket`, the only one of the cluster, is in these rooms and its own.
async fn check_rooms(node: &TestNode, socket: &TestSocket, expected: &[Room]) -> Checked {
    applied(node).await?;
    let expected = values::rooms(expected.iter().cloned().chain([socket.room()]));
    let fetched = node.fetch_sockets(Target::all()).await?;
    check_eq(values::rooms(fetched.into_iter().flat_map(|info| info.rooms)), expected.clone(), "rooms of the socket")?;
    check_eq(values::rooms(node.all_rooms().await?), expected, "all rooms")
}

pub(crate) async fn members_leave_a_room_on_every_node(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let left = [a.socket(["x", "y"]).await?, b.socket(["x", "y"]).await?];
    let (stayed, left_out) = (b.socket(["x"]).await?, b.socket(["x", "y", "safe"]).await?);
    a.sockets_leave(Target::room("y").except("empty").except("safe"), rooms(&["x"])).await?;
    a.settle().await?;
    probe(&a, "x").await?;
    probe(&a, "y").await?;
    left.iter().try_for_each(|socket| socket.got(&["y"]))?;
    left_out.got(&["x", "y"])?;
    stayed.got(&["x"])
}

pub(crate) async fn joining_twice_and_leaving_a_room_without_being_in_it_change_nothing(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    a.sockets_join(Target::room("x"), rooms(&["x", "new", "new"])).await?;
    a.sockets_leave(Target::room("x"), rooms(&["never", "never"])).await?;
    applied(&a).await?;
    probe(&a, "x").await?;
    probe(&a, "new").await?;
    socket.got_in_any_order(&["x", "new"])
}

pub(crate) async fn local_joins_and_leaves_apply_only_to_sockets_of_their_node(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (here, there) = (a.socket(["x"]).await?, b.socket(["x"]).await?);
    a.sockets_join(Target::room("x").local(), rooms(&["new"])).await?;
    a.sockets_leave(Target::room("x").local(), rooms(&["x"])).await?;
    applied(&a).await?;
    probe(&a, "new").await?;
    probe(&a, "x").await?;
    here.got(&["new"])?;
    there.got(&["x"])
}

pub(crate) async fn a_broadcast_right_after_an_awaited_join_on_another_node_is_delivered(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket([""; 0]).await?;
    let names: Vec<_> = (0..t.scaled(40, 10)).map(|number| format!("room-{number}")).collect();
    for name in &names {
        b.sockets_join(Target::room(socket.room()), vec![Room::from(name.as_str())]).await?;
        a.emit(Target::room(name.as_str()), name).await?;
    }
    a.settle().await?;
    check_eq(sorted(socket.names()), sorted(names), "events at the client")
}

pub(crate) async fn a_broadcast_right_after_a_client_connects_to_another_node_is_delivered(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    for number in 0..t.scaled(40, 10) {
        let room = format!("room-{number}");
        let socket = b.socket([room.as_str()]).await?;
        a.emit(Target::room(room.as_str()), "to-room").await?;
        a.emit(Target::room(socket.room()), "to-id").await?;
        a.settle().await?;
        socket.got_in_any_order(&["to-room", "to-id"])?;
    }
    Ok(())
}

pub(crate) async fn a_broadcast_after_the_last_member_left_reaches_no_socket(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    b.sockets_leave(Target::room(socket.room()), rooms(&["x"])).await?;
    probe(&a, "x").await?;
    socket.got(&[])?;
    b.sockets_join(Target::room(socket.room()), rooms(&["x"])).await?;
    probe(&a, "x").await?;
    socket.got(&["x"])
}

pub(crate) async fn members_of_a_room_are_disconnected_on_every_node(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let gone = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    let stayed = [a.socket(["y"]).await?, b.socket(["x", "safe"]).await?];
    a.disconnect_sockets(Target::room("x").except("empty").except("safe"), false).await?;
    for socket in &gone {
        check_eq(socket.wait_for_disconnect().await?, false, "whether the connection was closed")?;
    }
    a.emit(Target::all(), "news").await?;
    a.settle().await?;
    gone.iter().try_for_each(|socket| socket.got(&[]))?;
    stayed.iter().try_for_each(|socket| check_eq(socket.disconnected(), None, "whether others were disconnected"))?;
    check_eq(fetched_ids(&a.fetch_sockets(Target::all()).await?), ids(&stayed), "sockets that are left")
}

pub(crate) async fn a_socket_of_another_node_is_disconnected_by_its_id(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (gone, stayed) = (b.socket(["x"]).await?, b.socket(["x"]).await?);
    a.disconnect_sockets(Target::room(gone.room()), false).await?;
    gone.wait_for_disconnect().await?;
    a.settle().await?;
    check_eq(stayed.disconnected(), None, "whether another client was disconnected")
}

pub(crate) async fn disconnecting_closes_connections_on_request(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    a.disconnect_sockets(Target::room("x"), true).await?;
    for socket in &sockets {
        check_eq(socket.wait_for_disconnect().await?, true, "whether the connection was closed")?;
    }
    Ok(())
}

pub(crate) async fn local_disconnects_only_sockets_of_its_node(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (here, there) = (a.socket(["x"]).await?, b.socket(["x"]).await?);
    a.disconnect_sockets(Target::all().local(), false).await?;
    a.settle().await?;
    check_eq(here.disconnected(), Some(false), "whether the client here was disconnected")?;
    check_eq(there.disconnected(), None, "whether the client elsewhere was disconnected")
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}
