//! Namespaces: isolated, dynamic, closed and opened again.

use serde_json::json;
use trunkline_core::ErrorKind;

use crate::kit::{Client, Gate, Options, Server, TIMEOUT, connected, event, pair, servers, signal, within};

#[tokio::test]
async fn namespaces_do_not_receive_from_each_other() {
    let [a, b] = pair().await;
    for server in [&a, &b] {
        server.io.ns("/admin", connected).await.unwrap();
    }
    a.cluster.of("/admin").unwrap().await_peers(1, TIMEOUT).await.unwrap();
    let mut user = Client::of(&b, &["x"]).await;
    let mut admin = Client::with(&b, "/admin", &json!({ "rooms": ["x"] })).await;
    a.io.of("/admin").unwrap().to("x").emit("admins", &()).await.unwrap();
    a.io.to("x").emit("users", &()).await.unwrap();
    for io in [a.io.of("/admin").unwrap(), a.io.of("/").unwrap()] {
        io.emit("end", &()).await.unwrap();
    }
    assert_eq!(user.until("end").await, [signal("users")]);
    assert_eq!(admin.until("end").await, [signal("admins")]);
}

#[tokio::test]
async fn a_dynamic_namespace_is_one_across_nodes() {
    let [a, b] = pair().await;
    let mut clients = Vec::new();
    for server in [&a, &b] {
        server.io.dyn_ns("/room-{number}", connected).unwrap();
        clients.push(Client::with(server, "/room-7", &()).await);
    }
    let _elsewhere = Client::with(&b, "/room-8", &()).await;
    a.cluster.of("/room-7").unwrap().await_peers(1, TIMEOUT).await.unwrap();
    a.io.of("/room-7").unwrap().emit("seven", &()).await.unwrap();
    for client in &mut clients {
        assert_eq!(client.event("seven").await, signal("seven"));
    }
    assert_eq!(b.cluster.of("/room-7").unwrap().server_count().await.unwrap(), 2);
}

#[tokio::test]
async fn a_deleted_namespace_leaves_at_once_and_comes_back_as_a_new_node() {
    let [a, b] = pair().await;
    for server in [&a, &b] {
        server.io.ns("/x", connected).await.unwrap();
    }
    let (before, observer) = (b.cluster.of("/x").unwrap(), a.cluster.of("/x").unwrap());
    observer.await_peers(1, TIMEOUT).await.unwrap();
    let _client = Client::with(&b, "/x", &()).await;
    b.io.delete_ns("/x");
    within(before.closed()).await;
    assert_eq!(b.cluster.of("/x").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(before.server_side_emit("late", &()).await.unwrap_err().kind(), ErrorKind::Closed);

    b.io.ns("/x", connected).await.unwrap();
    let after = b.cluster.of("/x").unwrap();
    assert_ne!(after.node().id, before.node().id);
    within(async {
        while observer.peers() != [after.node().id.clone()] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut client = Client::with(&b, "/x", &()).await;
    a.io.of("/x").unwrap().emit("again", &1).await.unwrap();
    assert_eq!(client.event("again").await, event("again", 1));
}

#[tokio::test]
async fn the_handle_of_a_namespace_that_is_not_open_is_refused() {
    let [a, _b] = pair().await;
    let error = a.cluster.of("/nowhere").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(error.to_string().contains("/nowhere"), "{error}");
}

#[tokio::test]
async fn a_namespace_that_cannot_join_returns_the_reason() {
    let options = Options::new();
    let (backend, gate) = Gate::around(options.backend.clone(), 1);
    let server = Server::start(Options { backend, ..options }).await;
    gate.refuse("the broker has gone fishing");
    let error = server.io.ns("/x", connected).await.unwrap_err();
    assert!(error.to_string().contains("gone fishing"), "{error}");
    assert_eq!(error.as_error().kind(), ErrorKind::Broker);
    assert!(server.cluster.of("/x").is_err());
}

#[tokio::test]
async fn two_clients_that_open_a_dynamic_namespace_at_once_are_both_served_in_the_end() {
    let options = Options::new();
    let (backend, gate) = Gate::around(options.backend.clone(), 1);
    let [server] = servers([Options { backend, ..options }]).await;
    server.io.dyn_ns("/dynamic-{name}", connected).unwrap();
    // Both name the namespace while its first opening is under way.
    let opening = Client::open(&server, "/dynamic-x", &());
    let again = Client::open(&server, "/dynamic-x", &());
    let waiting = async {
        gate.await_queue(2).await;
        gate.let_in(2);
    };
    let (mut first, mut second, ()) = within(async { tokio::join!(opening, again, waiting) }).await;
    first.event("ready").await;
    second.event("ready").await;
    // Both hear the cluster. But socketioxide knows only one of the two openings, and hangs up on the other's client
    // when it speaks.
    for client in [&mut first, &mut second] {
        client.emit("say", &("empty room", "")).await;
    }
    let left = within(async {
        tokio::select! {
            () = first.disconnected() => second,
            () = second.disconnected() => first,
        }
    })
    .await;
    // It comes back, and then all is well.
    gate.let_in(1);
    let handle = server.cluster.of("/dynamic-x").unwrap();
    let mut clients = [left, Client::with(&server, "/dynamic-x", &()).await];
    server.io.of("/dynamic-x").unwrap().emit("hello", &()).await.unwrap();
    for client in &mut clients {
        assert_eq!(client.event("hello").await, signal("hello"));
    }
    // The forgotten opening ends with its client, noticed at the next broadcast.
    within(async {
        while handle.server_count().await.unwrap() > 1 {
            server.io.of("/dynamic-x").unwrap().emit("hello", &()).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
}
