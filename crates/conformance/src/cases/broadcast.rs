//! Which sockets receive a broadcast.

use trunkline_core::{Payload, Room, Target};

use super::LOOK_ALIKE;
use crate::kit::{Checked, TestCluster, check_eq};

pub(crate) async fn to_all_reaches_every_socket_of_every_node_once(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    let sockets =
        [a.socket(["x"]).await?, b.socket(["x", "y"]).await?, b.socket([""; 0]).await?, c.socket(["y"]).await?];
    a.emit(Target::all(), "news").await?;
    a.settle().await?;
    sockets.iter().try_for_each(|socket| socket.got(&["news"]))
}

pub(crate) async fn to_a_room_reaches_only_its_members(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let inside = [a.socket(["room"]).await?, b.socket(["other", "room"]).await?];
    let outside = [a.socket(["other"]).await?, b.socket(["other"]).await?];
    a.emit(Target::room("room"), "news").await?;
    a.settle().await?;
    inside.iter().try_for_each(|socket| socket.got(&["news"]))?;
    outside.iter().try_for_each(|socket| socket.got(&[]))
}

pub(crate) async fn to_several_rooms_reaches_a_member_of_several_once(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let inside = [b.socket(["x", "y", "z"]).await?, b.socket(["y"]).await?, a.socket(["z", "x"]).await?];
    let outside = b.socket(["w"]).await?;
    a.emit(Target::rooms(["x", "y", "z", "x"]), "news").await?;
    a.settle().await?;
    inside.iter().try_for_each(|socket| socket.got(&["news"]))?;
    outside.got(&[])
}

pub(crate) async fn to_hundreds_of_rooms_reaches_the_members_of_each(t: TestCluster) -> Checked {
    // 18 KB of names.
    let room = |number: usize| format!("room-{number:0>55}");
    let [a, b] = t.nodes().await?;
    let (first, last) = (b.socket([room(0)]).await?, b.socket([room(299)]).await?);
    let outside = b.socket([room(300)]).await?;
    a.emit(Target::rooms((0..300).map(room)), "news").await?;
    a.settle().await?;
    first.got(&["news"])?;
    last.got(&["news"])?;
    outside.got(&[])
}

pub(crate) async fn a_node_with_hundreds_of_rooms_receives_broadcasts_to_each(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let names: Vec<_> = (0..t.scaled(300, 60)).map(|number| format!("room-{number}")).collect();
    let mut sockets = Vec::new();
    for name in &names {
        sockets.push(b.socket([name.as_str()]).await?);
    }
    for name in &names {
        a.emit(Target::room(name.as_str()), name).await?;
    }
    a.settle().await?;
    sockets.iter().zip(&names).try_for_each(|(socket, name)| socket.got(&[name]))
}

pub(crate) async fn except_leaves_out_the_members_of_a_room(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let reached = [a.socket(["x"]).await?, b.socket(["x"]).await?, b.socket([""; 0]).await?];
    let left_out = [a.socket(["quiet"]).await?, b.socket(["x", "quiet"]).await?, b.socket(["mute"]).await?];
    a.emit(Target::all().except("quiet").except("mute").except("empty"), "news").await?;
    a.settle().await?;
    reached.iter().try_for_each(|socket| socket.got(&["news"]))?;
    left_out.iter().try_for_each(|socket| socket.got(&[]))
}

pub(crate) async fn except_leaves_out_the_members_of_hundreds_of_rooms(t: TestCluster) -> Checked {
    let room = |number: usize| format!("room-{number:0>55}");
    let [a, b] = t.nodes().await?;
    let left_out = [b.socket([room(0)]).await?, b.socket([room(299)]).await?];
    let reached = b.socket([room(300)]).await?;
    a.emit((0..300).map(room).fold(Target::all(), Target::except), "news").await?;
    a.settle().await?;
    reached.got(&["news"])?;
    left_out.iter().try_for_each(|socket| socket.got(&[]))
}

pub(crate) async fn to_a_room_except_another_leaves_out_members_of_both(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let reached = [a.socket(["room"]).await?, b.socket(["room"]).await?];
    let in_both = [a.socket(["room", "quiet"]).await?, b.socket(["quiet", "room"]).await?];
    a.emit(Target::room("room").except("quiet"), "one").await?;
    a.emit(Target::rooms(["room", "other"]).except("quiet"), "several").await?;
    a.settle().await?;
    // Broadcasts to one room and to several may take different paths, whose order is not promised.
    reached.iter().try_for_each(|socket| socket.got_in_any_order(&["one", "several"]))?;
    in_both.iter().try_for_each(|socket| socket.got(&[]))
}

pub(crate) async fn local_broadcasts_reach_only_sockets_of_their_node(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (here, there) = (a.socket(["room"]).await?, b.socket(["room"]).await?);
    a.emit(Target::all().local(), "to-all").await?;
    a.emit(Target::room("room").local(), "to-room").await?;
    a.settle().await?;
    here.got(&["to-all", "to-room"])?;
    there.got(&[])
}

pub(crate) async fn volatile_broadcasts_reach_sockets_that_are_ready(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let sockets = [a.socket(["room"]).await?, b.socket(["room"]).await?];
    a.emit(Target::all().volatile(), "to-all").await?;
    a.emit(Target::room("room").volatile(), "to-room").await?;
    let big = Payload::event("big", &"x".repeat(t.within_limit(50_000).await?))?;
    a.broadcast(Target::all().volatile(), big).await?;
    a.settle().await?;
    sockets.iter().try_for_each(|socket| socket.got_in_any_order(&["to-all", "to-room", "big"]))
}

pub(crate) async fn flags_reach_other_nodes_unchanged(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["room"]).await?;
    let mut targets = [Target::all(), Target::all().volatile(), Target::all(), Target::all()];
    targets[1].flags.compress = Some(true);
    targets[2].flags.volatile = Some(false);
    targets[3].flags.compress = Some(false);
    for target in targets.clone() {
        a.emit(target, "news").await?;
    }
    let packets = socket.wait_for(targets.len()).await?;
    let flags = packets.into_iter().map(|packet| (packet.flags.volatile, packet.flags.compress));
    let expected = targets.map(|target| (target.flags.volatile, target.flags.compress));
    check_eq(flags.collect::<Vec<_>>(), expected, "volatile and compress")
}

pub(crate) async fn the_sending_socket_can_be_excepted(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let sender = a.socket(["room"]).await?;
    let others = [a.socket(["room"]).await?, b.socket(["room"]).await?];
    a.emit(Target::all().except(sender.room()), "to-all").await?;
    a.emit(Target::room("room").except(sender.room()), "to-room").await?;
    a.settle().await?;
    sender.got(&[])?;
    others.iter().try_for_each(|socket| socket.got_in_any_order(&["to-all", "to-room"]))
}

pub(crate) async fn a_socket_id_is_a_room_on_every_node(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (here, there) = (a.socket([""; 0]).await?, b.socket([""; 0]).await?);
    a.emit(Target::room(here.room()), "to-here").await?;
    a.emit(Target::room(there.room()), "to-there").await?;
    a.emit(Target::rooms([here.room(), there.room()]), "to-both").await?;
    a.settle().await?;
    here.got_in_any_order(&["to-here", "to-both"])?;
    there.got_in_any_order(&["to-there", "to-both"])
}

pub(crate) async fn a_broadcast_to_an_unknown_room_reaches_no_socket(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let sockets = [a.socket(["room"]).await?, b.socket(["room"]).await?];
    a.emit(Target::room("nowhere"), "one").await?;
    a.emit(Target::rooms(["nowhere", "nor-here"]), "several").await?;
    a.settle().await?;
    sockets.iter().try_for_each(|socket| socket.got(&[]))
}

pub(crate) async fn the_empty_room_name_is_a_room_like_any_other(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (inside, outside) = (b.socket([""]).await?, b.socket(["room"]).await?);
    a.emit(Target::room(""), "to-room").await?;
    a.emit(Target::all().except(""), "to-others").await?;
    a.settle().await?;
    inside.got(&["to-room"])?;
    outside.got(&["to-others"])
}

pub(crate) async fn room_names_that_look_alike_are_different_rooms(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let mut sockets = Vec::new();
    for name in LOOK_ALIKE {
        sockets.push(b.socket([name]).await?);
    }
    for name in LOOK_ALIKE {
        a.emit(Target::room(name), name).await?;
    }
    a.settle().await?;
    sockets.iter().zip(LOOK_ALIKE).try_for_each(|(socket, name)| socket.got(&[name]))
}

pub(crate) async fn room_names_that_look_alike_differ_in_lists_and_exceptions(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let mut sockets = Vec::new();
    for name in LOOK_ALIKE {
        sockets.push(b.socket([name, "all"]).await?);
    }
    for name in LOOK_ALIKE {
        a.emit(Target::rooms([name, "nowhere"]), name).await?;
        a.emit(Target::rooms(["all", "nowhere"]).except(name), "others").await?;
    }
    a.settle().await?;
    sockets.iter().zip(LOOK_ALIKE).try_for_each(|(socket, name)| {
        let expected = [vec!["others"; LOOK_ALIKE.len() - 1], vec![name]].concat();
        socket.got_in_any_order(&expected)
    })
}

pub(crate) async fn a_number_room_is_not_the_room_of_its_text(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (number, text) = (b.socket([42]).await?, b.socket(["42"]).await?);
    let (fraction, zero) = (b.socket(Room::number(-1.5)).await?, b.socket([0]).await?);
    a.emit(Target::room(42), "to-number").await?;
    a.emit(Target::room("42"), "to-text").await?;
    a.emit(Target { rooms: Room::number(-1.5).into_iter().collect(), ..Target::all() }, "to-fraction").await?;
    a.emit(Target::room(0), "to-zero").await?;
    a.emit(Target::all().except(42), "except-number").await?;
    a.emit(Target::all().except(0), "except-zero").await?;
    a.settle().await?;
    number.got_in_any_order(&["to-number", "except-zero"])?;
    text.got_in_any_order(&["to-text", "except-number", "except-zero"])?;
    fraction.got_in_any_order(&["to-fraction", "except-number", "except-zero"])?;
    zero.got_in_any_order(&["to-zero", "except-number"])
}

pub(crate) async fn every_node_can_broadcast(t: TestCluster) -> Checked {
    let nodes = t.nodes::<4>().await?;
    let mut sockets = Vec::new();
    for node in &nodes {
        sockets.push(node.socket(["room"]).await?);
    }
    for (number, node) in nodes.iter().enumerate() {
        node.broadcast(Target::room("room"), Payload::event(&format!("from-{number}"), &())?).await?;
    }
    for node in &nodes {
        node.settle().await?;
    }
    sockets.iter().try_for_each(|socket| socket.got_in_any_order(&["from-0", "from-1", "from-2", "from-3"]))
}
