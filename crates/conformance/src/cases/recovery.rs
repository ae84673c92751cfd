//! Connection state recovery: sessions, replay of missed packets.

mod sessions;

use bytes::Bytes;
use futures_util::future::try_join_all;
use trunkline_core::{
    ErrorKind, Offset, Payload, Room, Session, SessionId, Target,
    transport::{MissedBroadcast, RestoredSession},
};

pub(crate) use self::sessions::*;
use crate::kit::{Checked, Failure, TestCluster, TestNode, TestSocket, check, check_eq, values::event_names};

/// A session of `socket` in these rooms and its own.
fn session(socket: &TestSocket, in_rooms: &[&str]) -> Checked<Session> {
    let rooms = in_rooms.iter().copied().map(Room::from).chain([socket.room()]).collect();
    let id = SessionId::new(format!("session-of-{}", socket.id()))?;
    Ok(Session::new(id, socket.id().clone(), rooms).with_data(Some(Payload::value(&("user", 7))?)))
}

/// Broadcasts to a client, and returns the offset of the packet.
pub(super) async fn last_offset(node: &TestNode, socket: &TestSocket) -> Checked<Offset> {
    node.emit(Target::room(socket.room()), "seen").await?;
    let packets = socket.wait_for(1).await?;
    let offset = packets.last().and_then(|packet| packet.offset.clone());
    offset.ok_or_else(|| Failure::new("a packet came without an offset"))
}

pub(super) fn names(missed: &[MissedBroadcast]) -> Vec<String> {
    event_names(missed.iter().map(|missed| &missed.payload))
}

pub(super) async fn restored(node: &TestNode, session: &Session, since: &Offset) -> Checked<RestoredSession> {
    let restored = node.restore_session(session.id.clone(), since.clone()).await?;
    restored.ok_or_else(|| Failure::new("the session is unknown"))
}

pub(crate) async fn replay_continues_after_the_present_offset(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let replayed = async |node: &TestNode, since: &Offset| -> Checked<Vec<String>> {
        let missed = names(&node.replay(since.clone(), &["x".into()]).await?);
        Ok(missed.into_iter().filter(|name| ["one", "two"].contains(&name.as_str())).collect())
    };
    // Nothing has been stored yet.
    let first = b.offset().await?;
    a.emit(Target::room("x"), "one").await?;
    a.settle().await?;
    let second = b.offset().await?;
    a.emit(Target::room("x"), "two").await?;
    a.mark().await?;
    a.settle().await?;
    for node in [&a, &b] {
        check_eq(replayed(node, &first).await?, ["one", "two"], "after the first offset")?;
        check_eq(replayed(node, &second).await?, ["two"], "after the second offset")?;
        let present = node.offset().await?;
        check_eq(replayed(node, &present).await?, [""; 0], "after the present offset")?;
    }
    socket.got(&["one", "two"])
}

pub(crate) async fn missed_packets_are_replayed_whole_and_in_order(t: TestCluster) -> Checked {
    let most = t.scaled_within_limit(200_000).await?;
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    // More than a broker may return at once, and as many for other clients.
    let count = t.scaled(1200, 120);
    for _ in 0..count {
        a.emit(Target::room("z"), "other").await?;
    }
    let mut sent = Vec::new();
    for number in 0..count {
        let bytes = if number % 100 == 0 { most } else { 20 };
        let payload = Payload::event("n", &(number, "x".repeat(bytes), Bytes::from_static(b"\0\xff")))?;
        a.broadcast(Target::room("x"), payload.clone()).await?;
        sent.push(payload);
    }
    a.settle().await?;
    let missed = b.replay(since, &["x".into()]).await?;
    let events =
        missed.iter().map(|missed| &missed.payload).filter(|payload| payload.event_name().as_deref() == Some("n"));
    check_eq(events.collect::<Vec<_>>() == sent.iter().collect::<Vec<_>>(), true, "whether all came in order and whole")
}

pub(crate) async fn replay_continues_after_any_offset(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    let sent = ["1", "2", "3", "4", "5"];
    for name in sent {
        a.emit(Target::room("x"), name).await?;
    }
    // Without a marker behind them, so that the last one is last.
    for socket in &sockets {
        let packets = socket.wait_for(sent.len()).await?;
        socket.got(&sent)?;
        for (index, packet) in packets.into_iter().enumerate() {
            let offset = packet.offset.ok_or_else(|| Failure::new("a packet came without an offset"))?;
            let missed = b.replay(offset, &["x".into()]).await?;
            check_eq(names(&missed), &sent[index + 1..], "events after an offset")?;
        }
    }
    Ok(())
}

pub(crate) async fn replay_continues_after_the_offset_of_a_missed_packet(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    for name in ["1", "2", "3"] {
        a.emit(Target::room("x"), name).await?;
    }
    a.settle().await?;
    let missed = a.replay(since, &["x".into()]).await?;
    let [_, second, ..] = missed.as_slice() else { return Err(Failure::new("too few missed packets")) };
    check_eq(names(&b.replay(second.offset.clone(), &["x".into()]).await?), ["3"], "events after the second missed one")
}

pub(crate) async fn only_packets_for_the_rooms_of_the_session_are_replayed(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x", "y"]).await?;
    let since = last_offset(&a, &socket).await?;
    let session = session(&socket, &["x", "y"])?;
    b.persist_session(session.clone()).await?;
    a.emit(Target::room("x"), "room").await?;
    a.emit(Target::room("z"), "other-room").await?;
    a.emit(Target::rooms(["z", "y"]), "one-of-rooms").await?;
    a.emit(Target::all(), "all").await?;
    a.emit(Target::all().except("y"), "all-except").await?;
    a.emit(Target::room("x").except("z"), "room-except-other").await?;
    a.emit(Target::room("x").except(socket.room()), "room-except-me").await?;
    a.emit(Target::room(socket.room()), "me").await?;
    a.emit(Target::room("x").local(), "local").await?;
    a.settle().await?;
    let missed = names(&restored(&a, &session, &since).await?.missed);
    check_eq(missed, ["room", "one-of-rooms", "all", "room-except-other", "me"], "missed events")?;
    for (in_rooms, expected) in [
        (vec!["x"], vec!["room", "all", "all-except", "room-except-other", "room-except-me"]),
        (vec!["z", "y"], vec!["other-room", "one-of-rooms", "all"]),
        (vec![], vec!["all", "all-except"]),
    ] {
        let in_rooms: Vec<_> = in_rooms.into_iter().map(Room::from).collect();
        check_eq(names(&b.replay(since.clone(), &in_rooms).await?), expected, "events replayed without a session")?;
    }
    Ok(())
}

pub(crate) async fn number_rooms_are_kept_apart_from_their_texts(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket([42]).await?;
    let since = last_offset(&a, &socket).await?;
    a.emit(Target::room("42"), "to-text").await?;
    a.emit(Target::room(42), "to-number").await?;
    a.settle().await?;
    check_eq(names(&b.replay(since, &[Room::from(42)]).await?), ["to-number"], "missed events")
}

pub(crate) async fn broadcasts_of_every_node_and_the_emitter_are_replayed(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let emitter = t.emitter().await?;
    let socket = b.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    a.emit(Target::room("x"), "by-a").await?;
    a.settle().await?;
    b.emit(Target::room("x"), "by-b").await?;
    b.settle().await?;
    emitter.emit(Target::room("x"), "by-emitter").await?;
    emitter.settle().await?;
    check(socket.packets().iter().all(|packet| packet.offset.is_some()), "a packet came without an offset")?;
    for node in [&a, &b] {
        let missed = node.replay(since.clone(), &["x".into()]).await?;
        check_eq(names(&missed), ["by-a", "by-b", "by-emitter"], "missed events")?;
    }
    Ok(())
}

pub(crate) async fn replay_from_a_trimmed_history_fails(t: TestCluster) -> Checked {
    const ROUND: usize = 500;
    let t = t.with_limited_history()?;
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    let session = session(&socket, &["x"])?;
    for round in 1..=40 {
        for _ in 0..ROUND {
            a.emit(Target::room("x"), "missed").await?;
        }
        a.settle().await?;
        match b.replay(since.clone(), &["x".into()]).await {
            Ok(missed) => check_eq(names(&missed).len(), round * ROUND, "missed events of a history said to be whole")?,
            Err(error) => {
                check_eq(error.kind(), ErrorKind::HistoryLost, "kind of the error")?;
                b.persist_session(session.clone()).await?;
                let result = a.restore_session(session.id, since).await;
                return check_eq(result.err().map(|error| error.kind()), Some(ErrorKind::HistoryLost), "restoring");
            }
        }
    }
    Err(Failure::new("20,000 messages were kept by a history that is to forget soon"))
}

pub(crate) async fn volatile_packets_are_not_replayed(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    a.emit(Target::room("x").volatile(), "volatile").await?;
    a.emit(Target::room("x"), "kept").await?;
    a.settle().await?;
    socket.got_in_any_order(&["seen", "volatile", "kept"])?;
    check_eq(names(&b.replay(since, &["x".into()]).await?), ["kept"], "missed events")
}

pub(crate) async fn only_plain_broadcasts_are_replayed(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    let question = Payload::event("acknowledged", &())?;
    a.broadcast_with_ack(Target::room("x"), question).await?.collect().await?;
    a.server_side_emit(Payload::event("server-side", &())?).await?;
    a.sockets_join(Target::room("x"), vec!["y".into()]).await?;
    a.fetch_sockets(Target::all()).await?;
    a.emit(Target::room("x"), "plain").await?;
    a.settle().await?;
    check_eq(names(&b.replay(since, &["x".into(), "y".into()]).await?), ["plain"], "missed events")
}

pub(crate) async fn all_clients_receive_the_same_order(t: TestCluster) -> Checked {
    let count = t.scaled(200, 40);
    let nodes = t.nodes::<3>().await?;
    let mut sockets = Vec::new();
    for node in &nodes {
        sockets.push(node.socket(["x"]).await?);
    }
    let send = |index: usize| {
        let node = &nodes[index];
        async move {
            for number in 0..count {
                node.emit(Target::room("x"), &format!("{index}-{number}")).await?;
            }
            node.settle().await
        }
    };
    try_join_all((0..3).map(send)).await?;
    for socket in &sockets {
        check_eq(socket.wait_for(3 * count).await?.len(), 3 * count, "events at a client")?;
        check_eq(socket.names() == sockets[0].names(), true, "whether two clients saw the same order")?;
    }
    Ok(())
}
