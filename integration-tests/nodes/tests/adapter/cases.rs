//! The tests. Each is what the one of socketioxide's suite does.

use serde::Deserialize;
use trunkline::Payload;

use crate::kit::Client;

const ROOMS: [&str; 4] = ["room1", "room2", "room4", "room5"];

pub(crate) async fn a_broadcast_reaches_all_sockets(clients: Vec<Client>) {
    broadcast(clients, "broadcast").await;
}

pub(crate) async fn a_volatile_broadcast_reaches_all_sockets(clients: Vec<Client>) {
    broadcast(clients, "volatile_broadcast").await;
}

async fn broadcast(mut clients: Vec<Client>, event: &str) {
    for sender in 0..clients.len() {
        clients[sender].emit(event, &()).await;
        let expected = Payload::event(event, &(hello(&clients[sender]),)).unwrap();
        for client in &mut clients {
            assert_eq!(text(&client.event(event).await), text(&expected));
        }
    }
}

pub(crate) async fn a_broadcast_is_acknowledged_by_all_sockets(mut clients: Vec<Client>) {
    let mut expected: Vec<_> = clients.iter().map(|client| format!("ack from {}", client.id)).collect();
    expected.sort();
    for sender in 0..clients.len() {
        let request = clients[sender].ask("broadcast_with_ack", &()).await;
        for client in &mut clients {
            acknowledge(client, "broadcast_with_ack", "ack from").await;
        }
        let (mut answers,): (Vec<String>,) = clients[sender].answer(request).await;
        answers.sort();
        assert_eq!(answers, expected);
    }
}

pub(crate) async fn all_sockets_are_disconnected(mut clients: Vec<Client>) {
    clients[0].emit("disconnect_socket", &()).await;
    for client in &mut clients {
        client.disconnected().await;
    }
}

pub(crate) async fn the_rooms_of_all_sockets_are_listed(mut clients: Vec<Client>) {
    let expected = rooms_of(&clients, &ROOMS);
    for client in &mut clients {
        assert_eq!(rooms(client).await, expected);
    }
}

pub(crate) async fn all_sockets_are_fetched(mut clients: Vec<Client>) {
    #[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    struct Fetched {
        id: String,
        ns: String,
    }
    let mut expected: Vec<_> =
        clients.iter().map(|client| Fetched { id: client.id.clone(), ns: "/".to_owned() }).collect();
    expected.sort();
    for client in &mut clients {
        let (mut fetched,): (Vec<Fetched>,) = client.request("fetch_sockets", &()).await;
        fetched.sort();
        assert_eq!(fetched, expected);
    }
}

pub(crate) async fn all_sockets_join_a_room(mut clients: Vec<Client>) {
    let expected = rooms_of(&clients, &["room1", "room2", "room4", "room5", "room7"]);
    done(&mut clients[0], "join_room", &()).await;
    assert_eq!(rooms(&mut clients[0]).await, expected);
}

pub(crate) async fn all_sockets_leave_a_room(mut clients: Vec<Client>) {
    let expected = rooms_of(&clients, &["room1", "room2", "room5"]);
    done(&mut clients[0], "leave_room", &()).await;
    assert_eq!(rooms(&mut clients[0]).await, expected);
}

pub(crate) async fn a_fetched_socket_is_emitted_to(mut clients: Vec<Client>) {
    for (sender, receiver) in pairs(&clients) {
        let id = clients[receiver].id.clone();
        done(&mut clients[sender], "emit_from_remote_sock", &id).await;
        let expected = Payload::event("emit", &(hello(&clients[sender]),)).unwrap();
        assert_eq!(text(&clients[receiver].event("emit").await), text(&expected));
    }
}

pub(crate) async fn a_fetched_socket_acknowledges(mut clients: Vec<Client>) {
    for (sender, receiver) in pairs(&clients) {
        let id = clients[receiver].id.clone();
        let request = clients[sender].ask("emit_with_ack_from_remote_sock", &id).await;
        acknowledge(&mut clients[receiver], "emit", "hi from").await;
        let (answer,): (String,) = clients[sender].answer(request).await;
        assert_eq!(answer, format!("hi from {id}"));
    }
}

pub(crate) async fn a_fetched_socket_joins_a_room(mut clients: Vec<Client>) {
    for (sender, receiver) in pairs(&clients) {
        let id = clients[receiver].id.clone();
        done(&mut clients[sender], "join_room_from_remote_sock", &id).await;
        let joined = hello(&clients[sender]);
        assert!(remote_rooms(&mut clients[sender], &id).await.contains(&joined));
    }
}

pub(crate) async fn a_fetched_socket_leaves_a_room(mut clients: Vec<Client>) {
    for (sender, receiver) in pairs(&clients) {
        let id = clients[receiver].id.clone();
        assert!(remote_rooms(&mut clients[sender], &id).await.contains(&"room4".to_owned()));
        done(&mut clients[sender], "leave_room_from_remote_sock", &id).await;
        assert!(!remote_rooms(&mut clients[sender], &id).await.contains(&"room4".to_owned()));
    }
}

pub(crate) async fn a_fetched_socket_is_disconnected(mut clients: Vec<Client>) {
    for sender in 1..clients.len() {
        let id = clients[sender - 1].id.clone();
        done(&mut clients[sender], "disconnect_remote_sock", &id).await;
        clients[sender - 1].disconnected().await;
    }
}

pub(crate) async fn the_rooms_of_a_fetched_socket_are_listed(mut clients: Vec<Client>) {
    for (sender, receiver) in pairs(&clients) {
        let expected = rooms_of(&clients[receiver..=receiver], &ROOMS);
        let id = clients[receiver].id.clone();
        assert_eq!(remote_rooms(&mut clients[sender], &id).await, expected);
    }
}

/// Each client, and the next one.
fn pairs(clients: &[Client]) -> impl Iterator<Item = (usize, usize)> + use<> {
    let count = clients.len();
    (0..count).map(move |index| (index, (index + 1) % count))
}

fn hello(client: &Client) -> String {
    format!("hello from {}", client.id)
}

/// These rooms and those of the clients' ids, sorted.
fn rooms_of(clients: &[Client], rooms: &[&str]) -> Vec<String> {
    let ids = clients.iter().map(|client| client.id.clone());
    let mut all: Vec<_> = rooms.iter().map(|room| (*room).to_owned()).chain(ids).collect();
    all.sort();
    all
}

async fn rooms(client: &mut Client) -> Vec<String> {
    let (mut rooms,): (Vec<String>,) = client.request("rooms", &()).await;
    rooms.sort();
    rooms
}

async fn remote_rooms(client: &mut Client, id: &String) -> Vec<String> {
    let (mut rooms,): (Vec<String>,) = client.request("get_rooms_remote_sock", id).await;
    rooms.sort();
    rooms
}

/// Waits for an acknowledgement without a value.
async fn done<T: serde::Serialize>(client: &mut Client, event: &str, argument: &T) {
    let _: Vec<Option<()>> = client.request(event, argument).await;
}

async fn acknowledge(client: &mut Client, event: &str, greeting: &str) {
    let asked = client.event_packet(event).await;
    let answer = Payload::value(&[format!("{greeting} {}", client.id)]).unwrap();
    client.acknowledge(&asked, answer).await;
}

fn text(payload: &Payload) -> String {
    payload.to_json_plain().to_string()
}
