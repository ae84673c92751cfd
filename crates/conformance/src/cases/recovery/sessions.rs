//! Sessions that one node persists and another restores.

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::time::{MissedTickBehavior, interval};
use trunkline_core::{ErrorKind, Offset, Payload, Room, SessionId, Target, transport::RestoredSession};

use super::{last_offset, names, restored, session};
use crate::kit::{
    Checked, Failure, TestCluster, TestNode, check, check_eq,
    values::{rooms, text},
};

pub(crate) async fn a_session_is_restored_on_another_node_with_the_packets_it_missed(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    let mut session = session(&socket, &["x", "a,b", ""])?;
    session.rooms.extend((0..200).map(|number| Room::from(format!("room-{number}"))));
    session.rooms.push(Room::from(42));
    session.data = Some(Payload::value(&("user", [Bytes::from_static(b"\0\xff")], 7))?);
    b.persist_session(session.clone()).await?;
    b.leave().await?;
    for name in ["one", "two", "three"] {
        a.emit(Target::room("x"), name).await?;
    }
    a.settle().await?;
    let RestoredSession { session: back, missed } = restored(&c, &session, &since).await?;
    check_eq(names(&missed), ["one", "two", "three"], "missed events")?;
    check(
        missed == c.replay(since, &session.rooms).await?,
        "the session comes back with other packets than are replayed",
    )?;
    check_eq(back.socket, session.socket, "socket id")?;
    check_eq(rooms(back.rooms), rooms(session.rooms), "rooms")?;
    check_eq(back.data.as_ref().map(text), session.data.as_ref().map(text), "data")
}

pub(crate) async fn a_session_brings_what_was_sent_to_its_socket_and_not_what_its_socket_sent(
    t: TestCluster,
) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = a.socket(["x"]).await?;
    let since = last_offset(&b, &socket).await?;
    // Without the socket's own room, as a server has it that does not keep that among the others.
    let mut session = session(&socket, &[])?;
    session.rooms = vec!["x".into()];
    a.persist_session(session.clone()).await?;
    a.emit(Target::room("x").except(socket.room()), "mine").await?;
    a.settle().await?;
    b.emit(Target::room(socket.room()), "direct").await?;
    b.emit(Target::room("x"), "room").await?;
    b.emit(Target::rooms([Room::from("y"), socket.room()]).except("x"), "excepted").await?;
    b.settle().await?;
    let RestoredSession { session, missed } = restored(&b, &session, &since).await?;
    check_eq(names(&missed), ["direct", "room"], "missed events")?;
    let replayed = b.replay(since, &session.rooms_with_own()).await?;
    check(missed == replayed, "the session comes back with other packets than are replayed")
}

pub(crate) async fn the_session_of_a_killed_node_is_restored(t: TestCluster) -> Checked {
    let a = t.node().await?;
    let b = t.build().own_process().join().await?;
    a.await_peers(1, t.timeout()).await?;
    let socket = b.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    let session = session(&socket, &["x"])?;
    b.persist_session(session.clone()).await?;
    b.kill().await?;
    a.emit(Target::room("x"), "missed").await?;
    a.settle().await?;
    check_eq(names(&restored(&a, &session, &since).await?.missed), ["missed"], "missed events")
}

pub(crate) async fn a_session_is_restored_only_once(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    let session = session(&socket, &["x"])?;
    b.persist_session(session.clone()).await?;
    let restore = |node: &TestNode| {
        let (cluster, id, since) = ((**node).clone(), session.id.clone(), since.clone());
        async move { cluster.restore_session(id, since).await }
    };
    let attempts = try_join_all([restore(&a), restore(&b), restore(&a), restore(&b)]).await?;
    check_eq(attempts.iter().flatten().count(), 1, "successful attempts out of four at once")?;
    check(restore(&a).await?.is_none(), "the session came back a second time")
}

pub(crate) async fn a_session_persisted_twice_is_restored_as_it_was_last(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    b.persist_session(session(&socket, &["x"])?).await?;
    let second = session(&socket, &["x", "y"])?;
    a.persist_session(second.clone()).await?;
    check_eq(rooms(restored(&b, &second, &since).await?.session.rooms), rooms(second.rooms), "rooms")
}

pub(crate) async fn an_unknown_session_is_not_restored(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    let known = session(&socket, &["x"])?;
    b.persist_session(known.clone()).await?;
    let id = known.id.as_str();
    for unknown in ["unknown", "*", "%", "", &id[1..], &id[..id.len() - 1], &format!("{id}2"), &id.to_uppercase()] {
        let back = a.restore_session(SessionId::new(unknown)?, since.clone()).await?;
        check(back.is_none(), format!("{unknown:?} brought the session {id:?} back"))?;
    }
    restored(&a, &known, &since).await.map(drop)
}

pub(crate) async fn an_invalid_offset_is_refused_and_the_session_stays(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    for text in ["", "nonsense", "-", "1-2-3-4", "ä", "\u{0}", "*", "$", "+", "'; --"] {
        let session = session(&socket, &["x"])?;
        a.persist_session(session.clone()).await?;
        let bad = Offset::new(text)?;
        let restored_since_bad = a.restore_session(session.id.clone(), bad.clone()).await.err();
        for error in [restored_since_bad, a.replay(bad, &["x".into()]).await.err()] {
            let kind = error.map(|error| error.kind());
            let is_refused = matches!(kind, Some(ErrorKind::Malformed | ErrorKind::HistoryLost));
            check(is_refused, format!("the offset {text:?} led to {kind:?}"))?;
        }
        restored(&a, &session, &since).await?;
    }
    Ok(())
}

pub(crate) async fn a_session_expires(t: TestCluster) -> Checked {
    let t = t.with_limited_history()?;
    let a = t.node().await?;
    let socket = a.socket(["x"]).await?;
    let since = last_offset(&a, &socket).await?;
    // Restoring removes a session, so there are several.
    let mut sessions = Vec::new();
    for number in 0..200 {
        let id = SessionId::new(format!("{}-{number}", socket.id()))?;
        let mut session = session(&socket, &["x"])?;
        session.id = id;
        a.persist_session(session.clone()).await?;
        sessions.push(session);
    }
    check(a.restore_session(sessions.remove(199).id, since.clone()).await?.is_some(), "a session expired at once")?;
    // There is no event at expiry, so one after the other is tried.
    let mut pace = interval(t.timeout() / 200);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for session in sessions {
        if a.restore_session(session.id, since.clone()).await?.is_none() {
            return Ok(());
        }
        pace.tick().await;
    }
    Err(Failure::new(format!("no session expired within {:?}", t.timeout())))
}

pub(crate) async fn namespaces_keep_their_own_sessions_and_packets(t: TestCluster) -> Checked {
    let a = t.node().await?;
    let b = t.build().namespace("/admin").sharing(&a).join().await?;
    let (main, admin) = (a.socket(["x"]).await?, b.socket(["x"]).await?);
    let (since_main, since_admin) = (last_offset(&a, &main).await?, last_offset(&b, &admin).await?);
    let session = session(&main, &["x"])?;
    a.persist_session(session.clone()).await?;
    a.emit(Target::room("x"), "main").await?;
    b.emit(Target::room("x"), "admin").await?;
    a.settle().await?;
    b.settle().await?;
    check_eq(names(&b.replay(since_admin.clone(), &["x".into()]).await?), ["admin"], "missed events")?;
    let stolen = b.restore_session(session.id.clone(), since_admin).await?;
    check(stolen.is_none(), "a session came back in another namespace")?;
    check_eq(names(&restored(&a, &session, &since_main).await?.missed), ["main"], "missed events")
}

pub(crate) async fn clusters_of_different_names_keep_their_own_sessions(t: TestCluster) -> Checked {
    let other = t.sibling();
    let (a, b) = (t.node().await?, other.node().await?);
    let (here, there) = (a.socket(["x"]).await?, b.socket(["x"]).await?);
    let (since_here, since_there) = (last_offset(&a, &here).await?, last_offset(&b, &there).await?);
    let session = session(&here, &["x"])?;
    a.persist_session(session.clone()).await?;
    a.emit(Target::room("x"), "here").await?;
    a.settle().await?;
    b.emit(Target::room("x"), "there").await?;
    b.settle().await?;
    let stolen = b.restore_session(session.id.clone(), since_there).await?;
    check(stolen.is_none(), "a session came back in another cluster")?;
    check_eq(names(&restored(&a, &session, &since_here).await?.missed), ["here"], "missed events")
}

pub(crate) async fn without_history_persisting_and_restoring_are_unsupported(t: TestCluster) -> Checked {
    let a = t.node().await?;
    let socket = a.socket(["x"]).await?;
    a.emit(Target::room("x"), "news").await?;
    check_eq(socket.wait_for(1).await?[0].offset.clone(), None, "offset of a packet")?;
    let session = session(&socket, &["x"])?;
    let since = Offset::new("0")?;
    let kinds = [
        a.persist_session(session.clone()).await.err(),
        a.restore_session(session.id, since.clone()).await.err(),
        a.replay(since, &[]).await.err(),
    ]
    .map(|error| error.map(|error| error.kind()));
    check_eq(kinds, [Some(ErrorKind::Unsupported); 3], "kinds of the errors")
}
