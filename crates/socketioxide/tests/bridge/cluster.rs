//! The cluster of a server: all its namespaces, health and closing. Names nothing of the core crate, as an application
//! need not.

use trunkline_socketioxide::{DownReason, ErrorKind, Event, Payload, Target};

use crate::kit::{Client, connected, pair, within};

#[tokio::test]
async fn closing_a_cluster_leaves_in_all_namespaces_and_keeps_the_clients() {
    let [a, b] = pair().await;
    b.io.ns("/x", connected).await.unwrap();
    let mut client = Client::of(&b, &["x"]).await;
    assert_eq!(b.cluster.namespaces().len(), 2);
    assert!(b.cluster.health().connected);
    let mut events = a.root().events();

    b.cluster.close();
    within(b.cluster.closed()).await;
    assert!(b.cluster.namespaces().is_empty());
    assert_eq!(b.cluster.of("/x").unwrap_err().kind(), ErrorKind::Closed);
    let left = within(events.recv()).await.unwrap();
    assert!(matches!(left, Event::NodeDown(_, DownReason::Left)), "{left:?}");
    assert!(b.io.emit("late", &()).await.is_err());

    let socket = b.io.get_socket(client.id.parse().unwrap()).unwrap();
    socket.emit("still here", &()).unwrap();
    client.event("still here").await;
}

#[tokio::test]
async fn closing_one_namespace_keeps_the_others() {
    let [a, b] = pair().await;
    b.io.ns("/x", connected).await.unwrap();
    let x = b.cluster.of("/x").unwrap();
    x.close();
    within(x.closed()).await;
    assert!(b.cluster.of("/x").is_err());
    let mut client = Client::of(&b, &[]).await;
    a.io.emit("news", &1).await.unwrap();
    client.event("news").await;
}

#[tokio::test]
async fn fetched_sockets_have_rooms_and_data_and_all_rooms_are_listed() {
    let [a, b] = pair().await;
    let client = Client::of(&b, &["x"]).await;
    let socket = b.io.get_socket(client.id.parse().unwrap()).unwrap();
    b.root().set_data(&socket, &"Ada").unwrap();
    let sockets = a.root().fetch_sockets(Target::room("x")).await.unwrap();
    let [fetched] = sockets.as_slice() else { panic!("{sockets:?}") };
    assert_eq!(fetched.id.as_str(), client.id);
    assert!(fetched.rooms.contains(&"x".into()));
    assert_eq!(fetched.data, Some(Payload::value(&"Ada").unwrap()));
    assert!(a.root().all_rooms().await.unwrap().contains(&"x".into()));
}

#[tokio::test]
async fn sockets_are_disconnected_by_a_target() {
    let [a, b] = pair().await;
    let mut client = Client::of(&b, &["x"]).await;
    a.root().disconnect_sockets(Target::room("x"), false).await.unwrap();
    client.disconnected().await;
}
