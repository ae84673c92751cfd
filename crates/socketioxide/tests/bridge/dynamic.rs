//! Dynamic namespaces that leave the cluster when they are empty, and their limit.

use serde_json::json;
use socketioxide::handler::ConnectHandler;
use tokio::runtime::Handle;
use trunkline_conformance::kit::eventually;
use trunkline_core::ErrorKind;
use trunkline_socketioxide::{ClusterBuilder, DownReason, Event, NamespaceHandle};

use crate::kit::{Client, Io, Options, SHORT, Server, Socket, TIMEOUT, connected, event, servers, within};

/// Two nodes whose dynamic namespaces leave soon.
async fn pair() -> [Server; 2] {
    let options = Options { configure: soon, ..Options::new() };
    let servers = servers([options.again(), options]).await;
    for server in &servers {
        server.io.dyn_ns("/room-{name}", connected).unwrap();
    }
    servers
}

fn soon(builder: ClusterBuilder) -> ClusterBuilder {
    builder.close_empty_after(SHORT)
}

/// Waits until the other node has left.
async fn left(observer: &NamespaceHandle) {
    let mut events = observer.events();
    within(async {
        while !observer.peers().is_empty() {
            let left = events.recv().await.unwrap();
            assert!(!matches!(left, Event::NodeDown(_, ref why) if !matches!(why, DownReason::Left)), "{left:?}");
        }
    })
    .await;
}

/// Waits for what no event tells.
async fn until(condition: impl AsyncFn() -> bool) {
    let holds = eventually(TIMEOUT, || "it is still not so".to_owned(), || condition());
    holds.await.unwrap();
}

async fn emit(io: &Io, text: &str) {
    io.of("/room-1").unwrap().emit("news", text).await.unwrap();
}

#[tokio::test]
async fn an_empty_one_leaves_and_joins_again_for_its_next_client() {
    let [a, b] = pair().await;
    let mut stays = Client::with(&a, "/room-1", &()).await;
    let leaves = Client::with(&b, "/room-1", &()).await;
    let observer = a.cluster.of("/room-1").unwrap();
    observer.await_peers(1, TIMEOUT).await.unwrap();
    drop(leaves);
    left(&observer).await;
    assert_eq!(b.cluster.of("/room-1").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(b.cluster.empty_namespaces(), ["/room-1"]);
    assert!(a.cluster.empty_namespaces().is_empty(), "a client is in it");

    let mut back = Client::with(&b, "/room-1", &json!({ "rooms": ["x"] })).await;
    observer.await_peers(1, TIMEOUT).await.unwrap();
    emit(&a.io, "to all").await;
    assert_eq!(back.event("news").await, event("news", "to all"));
    back.emit("say", &("y", "unheard")).await;
    emit(&b.io, "from there").await;
    for client in [&mut stays, &mut back] {
        assert_eq!(client.event("news").await.event_name().as_deref(), Some("news"));
    }
    assert!(b.cluster.empty_namespaces().is_empty());
}

#[tokio::test]
async fn an_operation_on_one_that_has_left_reaches_the_clients_of_other_nodes() {
    let [a, b] = pair().await;
    let mut client = Client::with(&a, "/room-1", &()).await;
    drop(Client::with(&b, "/room-1", &()).await);
    let observer = a.cluster.of("/room-1").unwrap();
    observer.await_peers(1, TIMEOUT).await.unwrap();
    left(&observer).await;
    emit(&b.io, "from an empty server").await;
    assert_eq!(client.event("news").await, event("news", "from an empty server"));
    assert_eq!(b.io.of("/room-1").unwrap().fetch_sockets().await.unwrap().len(), 1);
    // And it leaves again.
    left(&observer).await;
}

#[tokio::test]
async fn two_hundred_visited_ones_leave_nothing_behind() {
    let [a, _b] = pair().await;
    let before = Handle::current().metrics().num_alive_tasks();
    for number in 0..200 {
        drop(Client::with(&a, &format!("/room-{number}"), &()).await);
    }
    until(async || a.cluster.namespaces().len() <= 1).await;
    // A connection that ends takes its tasks with it; the task that looks at the namespaces stays.
    until(async || Handle::current().metrics().num_alive_tasks() <= before + 1).await;
    let empty = a.cluster.empty_namespaces();
    assert_eq!(empty.len(), 200);
    empty.iter().for_each(|name| a.io.delete_ns(name));
    assert!(a.cluster.empty_namespaces().is_empty());
    let _client = Client::with(&a, "/room-7", &()).await;
}

#[tokio::test]
async fn refused_clients_leave_none_behind() {
    let [a, _b] = pair().await;
    let refuse = async |_: Socket| Err::<(), _>("not today");
    a.io.dyn_ns("/private-{name}", connected.with(refuse)).unwrap();
    for number in 0..5 {
        assert_eq!(Client::refused(&a, &format!("/private-{number}")).await, "not today");
    }
    until(async || a.cluster.namespaces().len() <= 1).await;
}

#[tokio::test]
async fn clients_beyond_the_limit_are_disconnected_until_one_is_free() {
    let configure = |builder: ClusterBuilder| soon(builder).max_dynamic_namespaces(2);
    let [server] = servers([Options { configure, ..Options::new() }]).await;
    server.io.dyn_ns("/room-{name}", connected).unwrap();
    let mut clients = Vec::new();
    for name in ["/room-1", "/room-2"] {
        clients.push(Client::with(&server, name, &()).await);
    }
    let mut refused = Client::open(&server, "/room-3", &()).await;
    refused.disconnected().await;
    assert_eq!(server.cluster.join("/room-3").await.unwrap_err().kind(), ErrorKind::Limit);
    let degraded = server.cluster.health().degraded;
    assert!(degraded.iter().any(|fault| fault.contains("2 dynamic namespaces are in use")), "{degraded:?}");
    // Those inside are not affected.
    emit(&server.io, "still here").await;
    assert_eq!(clients[0].event("news").await, event("news", "still here"));

    clients.pop();
    until(async || server.cluster.join("/room-3").await.is_ok()).await;
    let mut client = Client::with(&server, "/room-3", &()).await;
    server.io.of("/room-3").unwrap().emit("news", "there is room").await.unwrap();
    assert_eq!(client.event("news").await, event("news", "there is room"));
}

#[tokio::test]
async fn a_middleware_says_that_the_limit_is_reached_and_connects_the_others_when_they_hear_the_cluster() {
    let configure = |builder: ClusterBuilder| soon(builder).max_dynamic_namespaces(1);
    let options = Options { configure, ..Options::new() };
    let [a, b] = servers([options.again(), options]).await;
    for server in [&a, &b] {
        let cluster = server.cluster.clone();
        let join = async move |socket: Socket| cluster.join(socket.ns()).await.map(drop);
        server.io.dyn_ns("/room-{name}", connected.with(join)).unwrap();
    }
    let _stays = Client::with(&a, "/room-1", &()).await;
    drop(Client::with(&b, "/room-1", &()).await);
    let refusal = Client::refused(&a, "/room-2").await;
    assert!(refusal.contains("limit reached: 1 dynamic namespaces"), "{refusal}");

    let observer = a.cluster.of("/room-1").unwrap();
    observer.await_peers(1, TIMEOUT).await.unwrap();
    left(&observer).await;
    let mut back = Client::open(&b, "/room-1", &()).await;
    assert!(b.cluster.of("/room-1").is_ok(), "it has joined before the client is connected");
    emit(&a.io, "at once").await;
    assert_eq!(back.event("news").await, event("news", "at once"));
}

#[tokio::test]
async fn a_server_that_is_closed_has_ended_with_and_without_dynamic_ones() {
    let [a, b] = pair().await;
    let _client = Client::with(&b, "/room-1", &()).await;
    for server in [a, b] {
        server.io.close().await;
        within(server.cluster.closed()).await;
    }
}
