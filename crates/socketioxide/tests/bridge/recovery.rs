//! What a client missed while it was away.

use std::time::Duration;

use serde_json::json;
use trunkline_core::{ErrorKind, Offset, Payload, SessionId, SocketId, memory::HistoryLimits};
use trunkline_socketioxide::ClusterBuilder;

use crate::kit::{Client, Options, SHORT, Server, Socket, servers, within};

async fn pair(limits: HistoryLimits) -> [Server; 2] {
    let options = Options { configure: |cluster| cluster.append_offsets(true), ..Options::with_history(limits) };
    servers([options.again(), options]).await
}

fn socket(server: &Server, client: &Client) -> Socket {
    server.io.get_socket(client.id.parse().unwrap()).unwrap()
}

/// The name of an event and the offset that it carries as last argument.
fn parts(event: &Payload) -> (String, Offset) {
    let all: Vec<serde_json::Value> = event.deserialize().unwrap();
    (all[0].as_str().unwrap().to_owned(), Offset::new(all.last().unwrap().as_str().unwrap()).unwrap())
}

fn names(events: &[Payload]) -> Vec<String> {
    events.iter().map(|event| parts(event).0).collect()
}

#[tokio::test]
async fn every_event_carries_its_offset_but_volatile_ones() {
    let [a, b] = pair(HistoryLimits::default()).await;
    let mut clients = [Client::of(&a, &[]).await, Client::of(&b, &[]).await];
    a.io.emit("kept", &1).await.unwrap();
    a.io.volatile().emit("gone", &1).await.unwrap();
    let mut offsets = Vec::new();
    for client in &mut clients {
        offsets.push(parts(&client.event("kept").await).1);
        assert_eq!(client.event("gone").await, crate::kit::event("gone", 1));
    }
    assert_eq!(offsets[0], offsets[1]);
}

#[tokio::test]
async fn an_event_is_the_same_with_a_history_unless_offsets_are_asked_for() {
    let options = Options::with_history(HistoryLimits::default());
    let [a, b] = servers([options.again(), options]).await;
    let mut clients = [Client::of(&a, &[]).await, Client::of(&b, &[]).await];
    a.io.emit("kept", &1).await.unwrap();
    for client in &mut clients {
        assert_eq!(client.event("kept").await, crate::kit::event("kept", 1));
    }
}

#[tokio::test]
async fn a_client_that_says_its_former_id_gets_what_was_sent_to_it_and_not_what_it_sent() {
    let [a, b] = pair(HistoryLimits::default()).await;
    let mut client = Client::of(&a, &["x"]).await;
    b.io.emit("seen", &()).await.unwrap();
    let (_, since) = parts(&client.event("seen").await);
    let former = socket(&a, &client);
    former.to("x").emit("mine", &()).await.unwrap();
    b.io.to(client.id.clone()).emit("direct", &()).await.unwrap();
    b.io.to("x").emit("room", &()).await.unwrap();
    client.until("room").await;
    a.root().persist(&former, SessionId::new("secret").unwrap()).await.unwrap();
    let former = SocketId::new(client.id.clone()).unwrap();
    drop(client);

    let mut back = Client::of(&b, &["x"]).await;
    b.root().replay_as(&socket(&b, &back), &former, since.clone()).await.unwrap();
    a.io.emit("live", &()).await.unwrap();
    assert_eq!(names(&back.until("live").await), ["direct", "room"]);

    let mut restored = Client::of(&b, &[]).await;
    let secret = SessionId::new("secret").unwrap();
    b.root().restore(&socket(&b, &restored), secret, since).await.unwrap().unwrap();
    a.io.emit("end", &()).await.unwrap();
    assert_eq!(names(&restored.until("end").await), ["direct", "room", "live"]);
}

#[tokio::test]
async fn a_client_that_reconnects_to_another_node_gets_what_it_missed_in_order_and_once() {
    let [a, b] = pair(HistoryLimits::default()).await;
    let mut client = Client::of(&a, &["x"]).await;
    b.io.emit("seen", &()).await.unwrap();
    let (_, since) = parts(&client.event("seen").await);
    drop(client);
    for (room, name) in [("x", "1"), ("other", "not mine"), ("x", "2")] {
        a.io.to(room).emit(name, &()).await.unwrap();
    }
    b.io.emit("3", &()).await.unwrap();
    let mut client = Client::of(&b, &["x"]).await;
    let count = b.root().replay(&socket(&b, &client), since).await.unwrap();
    b.io.emit("live", &()).await.unwrap();
    assert_eq!(count, 3);
    assert_eq!(names(&client.until("live").await), ["1", "2", "3"]);
}

#[tokio::test]
async fn what_arrives_during_a_replay_follows_it_once() {
    let [a, b] = pair(HistoryLimits::default()).await;
    let mut client = Client::of(&b, &["x"]).await;
    a.io.emit("start", &()).await.unwrap();
    let (_, since) = parts(&client.event("start").await);
    let paused = socket(&b, &client);
    b.cluster.pause(&paused);
    for number in 0..500 {
        a.io.to("x").emit(format!("{number}"), &()).await.unwrap();
    }
    let emitting = async {
        for number in 500..1000 {
            a.io.to("x").emit(format!("{number}"), &()).await.unwrap();
        }
        a.io.emit("end", &()).await.unwrap();
    };
    let handle = b.root();
    let (count, ()) = within(async { tokio::join!(handle.replay(&paused, since), emitting) }).await;
    assert!(count.unwrap() >= 500);
    let expected: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(names(&client.until("end").await), expected);
}

#[tokio::test]
async fn a_replay_from_a_trimmed_history_fails_and_the_socket_goes_on() {
    let [a, b] = pair(HistoryLimits { messages: 2, ..HistoryLimits::default() }).await;
    let mut client = Client::of(&b, &[]).await;
    a.io.emit("first", &()).await.unwrap();
    let (_, since) = parts(&client.event("first").await);
    for _ in 0..5 {
        a.io.emit("more", &()).await.unwrap();
    }
    let error = b.root().replay(&socket(&b, &client), since).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HistoryLost);
    let nonsense = Offset::new("nonsense").unwrap();
    let error = b.root().replay(&socket(&b, &client), nonsense).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    a.io.emit("live", &()).await.unwrap();
    client.event("live").await;
}

#[tokio::test]
async fn without_history_there_is_nothing_to_replay() {
    let server = Server::start(Options::new()).await;
    let client = Client::of(&server, &[]).await;
    let error = server.root().replay(&socket(&server, &client), Offset::new("x").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_session_is_restored_on_another_node_with_rooms_and_data() {
    let [a, b] = pair(HistoryLimits::default()).await;
    let secret = SessionId::new("secret").unwrap();
    let mut client = Client::of(&a, &["x"]).await;
    let before = socket(&a, &client);
    a.root().set_data(&before, &json!({ "name": "Ada" })).unwrap();
    a.io.emit("seen", &()).await.unwrap();
    let (_, since) = parts(&client.event("seen").await);
    a.root().persist(&before, secret.clone()).await.unwrap();
    b.io.to("x").emit("missed", &()).await.unwrap();

    let mut back = Client::of(&b, &[]).await;
    let now = socket(&b, &back);
    let session = b.root().restore(&now, secret.clone(), since.clone()).await.unwrap().unwrap();
    assert_eq!(session.socket.as_str(), client.id);
    assert_eq!(session.data, Some(Payload::value(&json!({ "name": "Ada" })).unwrap()));
    a.io.to("x").emit("live", &()).await.unwrap();
    assert_eq!(names(&back.until("live").await), ["missed"]);
    assert!(b.root().restore(&now, secret, since).await.unwrap().is_none(), "a session is restored once");
}

#[tokio::test]
async fn a_paused_socket_gets_what_waits_when_it_is_resumed() {
    let [a, b] = pair(HistoryLimits::default()).await;
    let mut client = Client::of(&b, &[]).await;
    let paused = socket(&b, &client);
    b.cluster.pause(&paused);
    a.io.emit("waits", &()).await.unwrap();
    within(async {
        while b.root().backlog() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    b.root().resume(&paused);
    client.event("waits").await;
}

#[tokio::test]
async fn a_client_that_has_received_nothing_yet_catches_up_from_a_mark() {
    let [a, b] = pair(HistoryLimits::default()).await;
    let mut client = Client::of(&a, &[]).await;
    a.root().mark(&socket(&a, &client), "offset").await.unwrap();
    let (_, since) = parts(&client.event("offset").await);
    drop(client);
    b.io.emit("missed", &()).await.unwrap();

    let mut back = Client::of(&b, &[]).await;
    assert_eq!(b.root().replay(&socket(&b, &back), since).await.unwrap(), 1);
    assert_eq!(parts(&back.event("missed").await).0, "missed");
    let present = b.root().offset().await.unwrap();
    assert_eq!(b.root().replay(&socket(&b, &back), present).await.unwrap(), 0);
}

#[tokio::test]
async fn a_quiet_client_that_is_marked_has_an_offset_that_is_still_in_the_history() {
    let limits = HistoryLimits { messages: 50, ..HistoryLimits::default() };
    let configure = |cluster: ClusterBuilder| cluster.append_offsets(true).marks("offset", SHORT);
    let options = Options { configure, ..Options::with_history(limits) };
    let [a, b] = servers([options.again(), options]).await;
    let mut quiet = Client::of(&a, &[]).await;
    let mut other = Client::of(&b, &["busy"]).await;
    let (_, first) = parts(&quiet.event("offset").await);
    for number in 0..100 {
        b.io.to("busy").emit("not for the quiet one", &number).await.unwrap();
    }
    // Everything is stored when it comes.
    b.root().mark(&socket(&b, &other), "behind").await.unwrap();
    other.event("behind").await;
    let replay = async |since: Offset| {
        let back = Client::of(&b, &[]).await;
        b.root().replay(&socket(&b, &back), since).await
    };
    assert_eq!(replay(first).await.unwrap_err().kind(), ErrorKind::HistoryLost);
    for _ in 0..100 {
        let (_, last) = parts(&quiet.event("offset").await);
        if let Ok(missed) = replay(last).await {
            assert_eq!(missed, 0);
            return;
        }
    }
    panic!("no mark that came is in the history");
}

#[tokio::test]
async fn marks_need_a_history() {
    let server = Server::start(Options::new()).await;
    let client = Client::of(&server, &[]).await;
    let refused = server.root().mark(&socket(&server, &client), "offset").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert_eq!(server.root().offset().await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_client_that_is_back_before_its_old_connection_is_known_to_be_dead_gets_its_session() {
    let [a, b] = pair(HistoryLimits::default()).await;
    let mut client = Client::of(&a, &["x"]).await;
    let other = Client::of(&a, &[]).await;
    let former = socket(&a, &client);
    socket(&a, &other).join(client.id.clone());
    let secret = || SessionId::new("secret").unwrap();
    a.root().set_data(&former, &"Ada").unwrap();
    a.root().set_session(&former, secret()).await.unwrap();
    b.io.emit("seen", &()).await.unwrap();
    let (_, since) = parts(&client.event("seen").await);
    b.io.to("x").emit("missed", &()).await.unwrap();

    // The old connection still stands.
    let mut back = Client::of(&b, &[]).await;
    let session = b.root().restore(&socket(&b, &back), secret(), since.clone()).await.unwrap().unwrap();
    assert_eq!((session.socket.as_str(), &*session.rooms), (&*client.id, &["x".into()][..]));
    assert_eq!(session.data, Some(Payload::value(&"Ada").unwrap()));
    a.io.to("x").emit("live", &()).await.unwrap();
    assert_eq!(names(&back.until("live").await), ["missed"]);
    client.disconnected().await;
    assert!(a.io.get_socket(other.id.parse().unwrap()).is_some(), "it was only in a room of that name");

    // What its server stores when it notices is for no client.
    a.root().persist(&former, secret()).await.unwrap();
    assert!(b.root().restore_session(secret(), since).await.unwrap().is_none());
}
