//! Every operation, from one node to the sockets of another.

use serde_json::json;

use crate::kit::{Client, Payload, event, pair, signal};

fn names(events: &[Payload]) -> Vec<String> {
    events.iter().map(|event| event.event_name().unwrap().into_owned()).collect()
}

#[tokio::test]
async fn a_broadcast_reaches_every_socket_of_every_node_once() {
    let [a, b] = pair().await;
    let mut clients = [Client::of(&a, &[]).await, Client::of(&b, &[]).await, Client::of(&b, &["x"]).await];
    a.io.emit("news", &("hot", 1)).await.unwrap();
    a.io.emit("end", &()).await.unwrap();
    for client in &mut clients {
        assert_eq!(client.until("end").await, [event("news", ("hot", 1))]);
    }
}

#[tokio::test]
async fn rooms_and_exceptions_hold_on_other_nodes() {
    let [a, b] = pair().await;
    let mut both = Client::of(&b, &["x", "y"]).await;
    let mut one = Client::of(&b, &["x"]).await;
    let mut none = Client::of(&b, &[]).await;
    a.io.to(["x", "y"]).emit("either", &()).await.unwrap();
    a.io.to("x").except("y").emit("x not y", &()).await.unwrap();
    a.io.except("x").emit("not x", &()).await.unwrap();
    a.io.to("nowhere").emit("nowhere", &()).await.unwrap();
    a.io.emit("end", &()).await.unwrap();
    assert_eq!(names(&both.until("end").await), ["either"]);
    assert_eq!(names(&one.until("end").await), ["either", "x not y"]);
    assert_eq!(names(&none.until("end").await), ["not x"]);
}

#[tokio::test]
async fn a_sender_is_left_out_and_a_local_emit_stays_here() {
    let [a, b] = pair().await;
    let mut sender = Client::of(&a, &["x"]).await;
    let mut near = Client::of(&a, &["x"]).await;
    let mut far = Client::of(&b, &["x"]).await;
    sender.emit("say", &("x", "hello")).await;
    assert_eq!(near.event("said").await, event("said", "hello"));
    assert_eq!(far.event("said").await, event("said", "hello"));
    a.io.local().emit("local", &()).await.unwrap();
    a.io.emit("end", &()).await.unwrap();
    assert_eq!(names(&sender.until("end").await), ["local"]);
    assert_eq!(names(&near.until("end").await), ["local"]);
    assert_eq!(names(&far.until("end").await), [""; 0]);
}

#[tokio::test]
async fn sockets_of_other_nodes_are_fetched_with_their_rooms_and_used() {
    let [a, b] = pair().await;
    let mut client = Client::of(&b, &["x"]).await;
    let _other = Client::of(&b, &[]).await;
    let sockets = a.io.within("x").fetch_sockets().await.unwrap();
    let [socket] = sockets.as_slice() else { panic!("{sockets:?}") };
    assert_eq!(socket.data().id.as_str(), client.id);
    assert_eq!(socket.data().server_id.as_str(), b.root().node().id.as_str());
    assert_eq!(socket.rooms().await.unwrap(), ["x"]);
    socket.join("y").await.unwrap();
    socket.leave("x").await.unwrap();
    assert_eq!(socket.rooms().await.unwrap(), ["y"]);
    socket.emit("to you", &[1, 2]).await.unwrap();
    assert_eq!(client.event("to you").await, event("to you", (1, 2)));
    socket.clone().disconnect().await.unwrap();
    client.disconnected().await;
    assert!(a.io.within("y").fetch_sockets().await.unwrap().is_empty());
}

#[tokio::test]
async fn sockets_join_and_leave_and_are_disconnected_from_another_node() {
    let [a, b] = pair().await;
    let mut inside = Client::of(&b, &["x"]).await;
    let mut outside = Client::of(&b, &[]).await;
    a.io.within("x").join(["y", "z"]).await.unwrap();
    a.io.within("y").leave("z").await.unwrap();
    let mut rooms = a.io.rooms().await.unwrap();
    rooms.sort();
    assert_eq!(rooms, ["x", "y"]);
    a.io.to("y").emit("y", &()).await.unwrap();
    a.io.to("z").emit("z", &()).await.unwrap();
    a.io.within("y").disconnect().await.unwrap();
    a.io.emit("end", &()).await.unwrap();
    assert_eq!(inside.event("y").await, signal("y"));
    inside.disconnected().await;
    assert_eq!(names(&outside.until("end").await), [""; 0]);
}

#[tokio::test]
async fn a_socket_is_reached_by_its_id_from_any_node() {
    let [a, b] = pair().await;
    let mut near = Client::of(&a, &[]).await;
    let mut far = Client::of(&b, &["x"]).await;
    let mut other = Client::of(&b, &["x"]).await;
    for id in [near.id.clone(), far.id.clone()] {
        a.io.to(id).emit("private", &()).await.unwrap();
    }
    a.io.to("x").except(far.id.clone()).emit("not you", &()).await.unwrap();
    a.io.to([near.id.clone(), far.id.clone()]).emit("you two", &()).await.unwrap();
    a.io.emit("end", &()).await.unwrap();
    assert_eq!(names(&near.until("end").await), ["private", "you two"]);
    assert_eq!(names(&far.until("end").await), ["private", "you two"]);
    assert_eq!(names(&other.until("end").await), ["not you"]);
}

#[tokio::test]
async fn a_number_room_of_another_node_is_the_room_of_its_decimal_text() {
    let [a, b] = pair().await;
    let mut client = Client::of(&b, &["42"]).await;
    let numbered = trunkline_core::Target::room(42);
    a.root().cluster_node().broadcast(numbered, event("number", ())).await.unwrap();
    assert_eq!(client.event("number").await, event("number", ()));
}

#[tokio::test]
async fn a_volatile_broadcast_is_delivered_to_clients_that_are_ready() {
    let [a, b] = pair().await;
    let mut client = Client::of(&b, &[]).await;
    a.io.volatile().emit("position", &json!({ "x": 1 })).await.unwrap();
    assert_eq!(client.event("position").await, event("position", json!({ "x": 1 })));
}

#[tokio::test]
async fn binary_at_any_depth_arrives_as_binary() {
    let [a, b] = pair().await;
    let mut client = Client::of(&b, &[]).await;
    let picture = bytes::Bytes::from_static(&[0, 1, 254, 255]);
    a.io.emit("picture", &(&picture, json!({ "deep": [1] }), [("again", &picture)])).await.unwrap();
    let arrived = client.event("picture").await;
    assert!(arrived.has_binary());
    assert_eq!(arrived, event("picture", (&picture, json!({ "deep": [1] }), [("again", &picture)])));
}

#[tokio::test]
async fn nodes_are_counted() {
    let [a, b] = pair().await;
    assert_eq!(a.root().server_count().await.unwrap(), 2);
    assert_eq!(a.root().peers(), [b.root().node().id.clone()]);
}
