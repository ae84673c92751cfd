//! Rooms, as a broker is told about them that sends messages only where they have members.

use std::time::Duration;

use trunkline_core::{Room, Target};
use trunkline_socketioxide::AwaitedRooms;

use crate::kit::{Client, Interests, Options, Server, Socket, pair, servers, within};

async fn server() -> (Server, std::sync::Arc<Interests>) {
    let options = Options::new();
    let (backend, interests) = Interests::around(options.backend.clone());
    let configure = |builder: trunkline_socketioxide::ClusterBuilder| builder.reconcile_every(Duration::from_millis(5));
    (Server::start(Options { backend, configure, ..options }).await, interests)
}

fn socket(server: &Server, client: &Client) -> Socket {
    server.io.get_socket(client.id.parse().unwrap()).unwrap()
}

async fn until_present(interests: &Interests, expected: &[&str]) {
    let mut expected: Vec<_> = expected.iter().map(|room| Room::from(*room)).collect();
    expected.sort();
    within(async {
        while interests.present() != expected {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn awaited_joins_and_leaves_are_reported_to_the_broker_on_return() {
    let (server, interests) = server().await;
    let client = Client::of(&server, &[]).await;
    let socket = socket(&server, &client);
    socket.join_awaited(["x", "y"]).await.unwrap();
    assert!(interests.present().contains(&Room::from("x")));
    socket.leave_awaited("x").await.unwrap();
    assert!(!interests.present().contains(&Room::from("x")));
    assert_eq!(socket.rooms().iter().filter(|room| *room == "y").count(), 1);
}

#[tokio::test]
async fn plain_joins_leaves_and_closed_sockets_are_reported_to_the_broker() {
    let (server, interests) = server().await;
    let mut client = Client::of(&server, &["x"]).await;
    until_present(&interests, &["x", &client.id]).await;
    let socket = socket(&server, &client);
    socket.join("y");
    socket.leave("x");
    until_present(&interests, &["y", &client.id]).await;
    socket.join_awaited("z").await.unwrap();
    client.disconnect().await;
    drop(client);
    until_present(&interests, &[]).await;
}

/// Two nodes that know each other. The first one finds joins by itself only after the test.
async fn pair_without_reports() -> ([Server; 2], std::sync::Arc<Interests>) {
    let options = Options::new();
    let (backend, interests) = Interests::around(options.backend.clone());
    let configure = |builder: trunkline_socketioxide::ClusterBuilder| builder.reconcile_every(Duration::from_hours(1));
    let first = Options { backend, configure, ..options.again() };
    (servers([first, options]).await, interests)
}

#[tokio::test]
async fn the_broker_knows_the_rooms_of_a_socket_before_others_see_them() {
    let ([a, b], interests) = pair_without_reports().await;
    let client = Client::of(&a, &["x"]).await;
    assert!(interests.present().is_empty());
    let fetched = b.root().fetch_sockets(Target::room(client.id.as_str())).await.unwrap();
    assert_eq!(fetched.len(), 1);
    let present = interests.present();
    assert!(present.contains(&Room::from("x")) && present.contains(&Room::from(client.id.as_str())), "{present:?}");
}

#[tokio::test]
async fn the_broker_knows_a_socket_before_others_hear_of_it() {
    let ([a, b], interests) = pair_without_reports().await;
    let (mut sender, mut receiver) = (Client::of(&a, &[]).await, Client::of(&b, &["x"]).await);
    sender.emit("say", &("x", "my id is known")).await;
    receiver.event("said").await;
    assert_eq!(interests.present(), [Room::from(sender.id.as_str())]);
}

#[tokio::test]
async fn rooms_contain_the_id_of_a_socket_only_if_the_application_made_it_join() {
    let [a, b] = pair().await;
    let (mut joined, addressed) = (Client::of(&a, &["x"]).await, Client::of(&a, &["y"]).await);
    let id = joined.id.clone();
    let _: Vec<Option<()>> = joined.request("join", &id).await;
    // Both are addressed by their ids.
    for client in [&joined, &addressed] {
        let sockets = b.root().fetch_sockets(Target::room(client.id.as_str())).await.unwrap();
        assert_eq!(sockets[0].rooms.iter().filter(|room| **room == Room::from(client.id.as_str())).count(), 1);
    }
    for server in [&a, &b] {
        let mut rooms = server.io.rooms().await.unwrap();
        rooms.sort();
        let mut expected = ["x", "y", &id];
        expected.sort_unstable();
        assert_eq!(rooms, expected);
    }
}
