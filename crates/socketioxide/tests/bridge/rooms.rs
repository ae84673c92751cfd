//! Rooms, as a broker is told about them that sends messages only where they have members.

use std::time::Duration;

use trunkline_core::Room;
use trunkline_socketioxide::AwaitedRooms;

use crate::kit::{Client, Interests, Options, Server, Socket, within};

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
