//! Sessions of clients that come back before their former connection is known to be dead.

use tokio::task::yield_now;
use trunkline_core::{Payload, Session, SessionId, Target};

use super::recovery::{last_offset, names, restored};
use crate::kit::{
    Checked, ClientSpec, TestCluster, TestNode, TestSocket, check, check_eq,
    values::{rooms, text},
};

/// A client whose session is known to its node, not stored.
async fn connected(node: &TestNode) -> Checked<(TestSocket, Session)> {
    let data = Payload::value(&("user", 7))?;
    let socket = node.connect(ClientSpec::new().rooms(["x", "y"]).data(data.clone())).await?;
    let id = SessionId::new(format!("session-of-{}", socket.id()))?;
    node.set_session(id.clone(), socket.id()).await?;
    // The client comes back later than this is known.
    node.settle().await?;
    Ok((socket.clone(), Session::new(id, socket.id().clone(), vec!["x".into(), "y".into()]).with_data(Some(data))))
}

/// What every hand-over brings, and that nothing is left behind.
async fn taken_over(former: &TestNode, next: &TestNode) -> Checked {
    let (socket, session) = connected(former).await?;
    // Any socket may be in a room of that name.
    let other = former.socket([socket.room()]).await?;
    let since = last_offset(next, &socket).await?;
    next.emit(Target::room("x"), "room").await?;
    next.emit(Target::room(socket.room()), "direct").await?;
    next.emit(Target::room("x").except(socket.room()), "own").await?;
    next.settle().await?;
    let back = restored(next, &session, &since).await?;
    check_eq(names(&back.missed), ["room", "direct"], "missed events")?;
    check_eq(&back.session.socket, socket.id(), "socket id")?;
    check_eq(rooms(back.session.rooms), rooms(session.rooms.clone()), "rooms")?;
    check_eq(back.session.data.as_ref().map(text), session.data.as_ref().map(text), "data")?;

    socket.wait_for_disconnect().await?;
    check(other.disconnected().is_none(), "another socket was disconnected too")?;
    // What its server stores when it notices is out of date.
    former.persist_session(session.clone()).await?;
    let again = next.restore_session(session.id, since).await?;
    check(again.is_none(), "the session came back a second time")
}

pub(crate) async fn a_session_is_taken_over_from_a_socket_on_another_node(t: TestCluster) -> Checked {
    let [a, b, _c] = t.nodes().await?;
    taken_over(&b, &a).await
}

pub(crate) async fn a_session_is_taken_over_from_a_socket_on_the_same_node(t: TestCluster) -> Checked {
    let [a, _b] = t.nodes().await?;
    taken_over(&a, &a).await
}

pub(crate) async fn a_session_that_is_about_to_be_stored_is_waited_for(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let (socket, session) = connected(&b).await?;
    let since = last_offset(&a, &socket).await?;
    b.disconnect_sockets(Target::room(socket.room()), true).await?;
    socket.wait_for_disconnect().await?;
    let storing = async {
        yield_now().await;
        b.persist_session(session.clone()).await
    };
    let (back, stored) = tokio::join!(restored(&a, &session, &since), storing);
    stored?;
    check_eq(rooms(back?.session.rooms), rooms(session.rooms), "rooms")
}

pub(crate) async fn a_client_that_has_come_back_has_no_second_session(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    // It has begun anew on the same node, or on another one.
    for next in [&b, &c] {
        for when in [Stores::First, Stores::WhenSet, Stores::Last] {
            begun_anew(&a, &b, next, when).await?;
        }
    }
    let frozen = t.build().own_process().join().await?;
    c.wait_for_peers(3).await?;
    begun_anew_while_frozen(&a, &frozen, &c).await?;

    // It has come back to another node, and knows no offset: it gives that of the moment.
    let (former, session) = connected(&b).await?;
    let back = restored(&a, &session, &a.offset().await?).await?;
    check_eq(names(&back.missed), [""; 0], "missed events")?;
    check_eq(rooms(back.session.rooms), rooms(session.rooms.clone()), "rooms")?;
    former.wait_for_disconnect().await?;
    b.persist_session(session.clone()).await?;
    let stored = a.restore_session(session.id, a.offset().await?).await?;
    check(stored.is_none(), "the session of the former socket was stored")
}

/// When the former node stores the session of a client that has begun anew.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stores {
    /// Before the new socket has the session.
    First,
    /// When the new socket has the session.
    WhenSet,
    /// When the session of the new socket is stored, too.
    Last,
}

/// The session of a client that has begun anew at `next` is that of its new socket, whatever its former node stores.
async fn begun_anew(looking: &TestNode, former: &TestNode, next: &TestNode, when: Stores) -> Checked {
    let (socket, session) = connected(former).await?;
    let since = last_offset(looking, &socket).await?;
    if when == Stores::First {
        former.persist_session(session.clone()).await?;
    }
    let new = next.socket(["z"]).await?;
    next.set_session(session.id.clone(), new.id()).await?;
    next.settle().await?;
    if when == Stores::Last {
        next.persist_session(Session::new(session.id.clone(), new.id().clone(), vec!["z".into()])).await?;
    }
    if when != Stores::First {
        former.persist_session(session.clone()).await?;
    }
    let back = restored(looking, &session, &since).await?.session;
    check_eq(&back.socket, new.id(), "socket id")?;
    check_eq(rooms(back.rooms), rooms(["z"]), "rooms")
}

/// The same, if the former node was frozen all the while and notices at last that its client is gone.
async fn begun_anew_while_frozen(looking: &TestNode, frozen: &TestNode, next: &TestNode) -> Checked {
    let (socket, session) = connected(frozen).await?;
    let since = last_offset(looking, &socket).await?;
    frozen.freeze().await?;
    let new = next.socket(["z"]).await?;
    next.set_session(session.id.clone(), new.id()).await?;
    next.persist_session(Session::new(session.id.clone(), new.id().clone(), vec!["z".into()])).await?;
    let thawing = async {
        yield_now().await;
        frozen.thaw();
    };
    let (stored, ()) = tokio::join!(frozen.persist_session(session.clone()), thawing);
    stored?;
    check_eq(&restored(looking, &session, &since).await?.session.socket, new.id(), "socket id")
}
