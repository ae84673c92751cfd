//! Peers whose sockets look like those of Node.js: ids of 20 characters, number rooms, a room named by each id.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use trunkline_conformance::{
    Setup,
    kit::{ClientSpec, TestCluster},
};
use trunkline_core::{
    ErrorKind, Heartbeat, Message, Namespace, NodeConfig, NodeKey, Payload, RequestError, Room, Target,
    transport::{InboxLimits, JoinRequest, Unfiltered},
};
use trunkline_socketioxide::{Handshake, PartialAnswers, remote_id};

use crate::kit::{Client, Options, SHORT, Server, TIMEOUT, event, within};

async fn cluster() -> (Server, TestCluster, trunkline_conformance::kit::TestNode) {
    let options = Options::new();
    let backend = options.backend.clone();
    let setup = Setup::new(move |_| std::future::ready(Ok(backend.clone())));
    let peers = TestCluster::new(&setup);
    let peer = peers.build().namespace("/").join().await.unwrap();
    let server = Server::start(options).await;
    server.root().await_peers(1, TIMEOUT).await.unwrap();
    peer.await_peers(1, TIMEOUT).await.unwrap();
    (server, peers, peer)
}

#[tokio::test]
async fn a_socket_with_a_longer_id_is_fetched_and_used() {
    let (server, _peers, peer) = cluster().await;
    let socket = peer.connect(ClientSpec::new().room("x").answering(Payload::value(&7).unwrap())).await.unwrap();
    let _other = peer.socket(["y"]).await.unwrap();
    assert_eq!(socket.id().as_str().len(), 20);

    let remote = server.io.within("x").fetch_sockets().await.unwrap().remove(0);
    assert_eq!(remote_id(remote.data()), socket.id().as_str());
    remote.emit("private", &1).await.unwrap();
    let answer = remote.emit_with_ack::<_, i32>("asked", &()).await.unwrap();
    assert_eq!(within(answer).await.unwrap(), 7);
    remote.join("z").await.unwrap();
    remote.leave("x").await.unwrap();
    assert_eq!(remote.rooms().await.unwrap(), ["z"]);
    server.io.to("z").emit("z", &()).await.unwrap();
    remote.disconnect().await.unwrap();
    socket.wait_for_disconnect().await.unwrap();
    socket.got(&["private", "asked", "z"]).unwrap();
}

#[tokio::test]
async fn another_node_addresses_sockets_here_by_their_ids() {
    let (server, _peers, peer) = cluster().await;
    let mut client = Client::of(&server, &["42"]).await;
    let mut other = Client::of(&server, &[]).await;
    let id = Room::from(client.id.as_str());
    peer.broadcast(Target::room(id.clone()), event("private", 1)).await.unwrap();
    peer.broadcast(Target::all().except(id.clone()), event("others", 1)).await.unwrap();
    peer.broadcast(Target::room(42), event("number", 1)).await.unwrap();
    peer.sockets_join(Target::room(id), vec![Room::from(7)]).await.unwrap();
    peer.broadcast(Target::room("7"), event("seven", 1)).await.unwrap();
    peer.broadcast(Target::all(), event("end", ())).await.unwrap();
    assert_eq!(client.until("end").await, [event("private", 1), event("number", 1), event("seven", 1)]);
    assert_eq!(other.until("end").await, [event("others", 1)]);
}

#[tokio::test]
async fn a_fetched_socket_has_rooms_handshake_and_data() {
    let (server, _peers, peer) = cluster().await;
    let client = Client::of(&server, &["x"]).await;
    let socket = server.io.get_socket(client.id.parse().unwrap()).unwrap();
    let plain = peer.fetch_sockets(Target::room("x")).await.unwrap().remove(0);
    let plain: serde_json::Value = plain.handshake.unwrap().deserialize().unwrap();
    assert!(plain["headers"].is_object() && plain["query"].is_object() && plain["issued"].is_number(), "{plain}");

    let handshake = Handshake::of(&socket).address("127.0.0.1").auth(&json!({ "user": "ada" })).unwrap();
    server.root().set_handshake(&socket, &handshake).unwrap();
    server.root().set_data(&socket, &json!({ "name": "Ada" })).unwrap();
    let seen = peer.fetch_sockets(Target::room("x")).await.unwrap().remove(0);
    assert_eq!(seen.id.as_str(), client.id);
    let mut rooms = seen.rooms;
    rooms.sort();
    let mut expected = vec![Room::from("x"), Room::from(client.id.as_str())];
    expected.sort();
    assert_eq!(rooms, expected);
    assert_eq!(seen.data, Some(Payload::value(&json!({ "name": "Ada" })).unwrap()));
    let handshake: serde_json::Value = seen.handshake.unwrap().deserialize().unwrap();
    assert_eq!(handshake["query"]["EIO"], "4");
    assert_eq!(handshake["address"], "127.0.0.1");
    assert_eq!(handshake["auth"]["user"], "ada");
    assert_eq!(handshake["headers"]["upgrade"], "websocket");
    assert_eq!(handshake["secure"], false);
    assert!(handshake["time"].as_str().unwrap().contains("GMT+0000"));
    assert!(Duration::from_millis(handshake["issued"].as_u64().unwrap()) > Duration::from_secs(1_700_000_000));
}

#[tokio::test]
async fn the_sockets_of_an_attached_server_have_the_handshakes_of_their_requests() {
    let (server, _peers, peer) = cluster().await;
    server.cluster.attach(&server.io);
    let _client = Client::of(&server, &["x"]).await;
    let handshake = async || peer.fetch_sockets(Target::room("x")).await.unwrap().remove(0).handshake.unwrap();
    let seen = handshake().await;
    let fields: serde_json::Value = seen.deserialize().unwrap();
    assert_eq!(fields["query"]["transport"], "websocket");
    assert_eq!(fields["headers"]["host"], server.address.to_string());
    assert!(fields["url"].as_str().unwrap().starts_with("/socket.io/?"), "{fields}");
    assert!(Duration::from_millis(fields["issued"].as_u64().unwrap()) > Duration::from_secs(1_700_000_000));
    assert_eq!(fields["auth"], json!({}));
    // Its time stands still.
    assert_eq!(handshake().await, seen);
}

#[tokio::test]
async fn a_silent_node_is_an_error_with_the_other_answers_or_left_out() {
    let options = Options {
        configure: |builder| builder.config(NodeConfig::default().with_request_timeout(SHORT)),
        ..Options::new()
    };
    let backend = options.backend.clone();
    let server = Server::start(options).await;
    let client = Client::of(&server, &["x"]).await;
    let silent = NodeKey { id: backend.ids.node_id(), namespace: Namespace::new("/") };
    let request = JoinRequest::new(silent.clone(), Arc::new(Unfiltered), Arc::default(), InboxLimits::default());
    let _inbox = backend.transport.join(request).await.unwrap();
    backend.transport.publish(&silent, Message::Heartbeat(Heartbeat::new(true))).await.unwrap();
    server.root().await_peers(1, TIMEOUT).await.unwrap();

    let error = server.io.to("x").fetch_sockets().await.unwrap_err();
    assert_eq!(error.as_error().kind(), ErrorKind::Timeout);
    assert_eq!(error.incomplete().unwrap().missing, std::slice::from_ref(&silent.id));
    assert_eq!(error.into_received().unwrap()[0].id.as_str(), client.id);
    for sockets in [server.io.to("x").partial(), server.io.partial().to("x"), server.io.volatile().to("x").partial()] {
        let sockets = sockets.fetch_sockets().await.unwrap();
        let [socket] = sockets.as_slice() else { panic!("{sockets:?}") };
        assert_eq!(socket.data().id.as_str(), client.id);
    }
    assert_eq!(server.io.to("x").partial().rooms().await.unwrap(), ["x"]);
    assert!(server.io.to("x").rooms().await.is_err());
    let rooms = server.root().all_rooms().await.or_else(RequestError::into_received).unwrap();
    assert!(rooms.contains(&Room::from("x")));
}
