//! Clusters in which one server speaks the common parser's language with its clients and another one MessagePack.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use trunkline_core::Payload;

use crate::kit::{Client, Options, Server, event, servers, within};

async fn mixed() -> [Server; 2] {
    let common = Options::new();
    let msgpack = Options { msgpack: true, ..common.again() };
    servers([common, msgpack]).await
}

fn samples() -> Vec<Payload> {
    let picture = bytes::Bytes::from_static(&[0, 127, 255]);
    vec![
        event("none", ()),
        event("text", ("a \"quote\", \u{1F600}, a null \0, ümläut",)),
        event("numbers", (0, -1, 1.5, 1e300, i64::MAX, u64::MAX)),
        event("nested", json!([{ "a": [null, true, { "b": [] }] }, "x"])),
        event("binary", (&picture, vec![Some(&picture), None], ("deep", [&picture]))),
        event("long", "x".repeat(100_000)),
    ]
}

#[tokio::test]
async fn events_cross_between_the_parsers_with_everything_in_them() {
    let [common, msgpack] = mixed().await;
    let mut clients = [Client::of(&common, &[]).await, Client::of(&msgpack, &[]).await];
    for server in [&common, &msgpack] {
        for sample in samples() {
            server.root().cluster_node().broadcast(trunkline_core::Target::all(), sample.clone()).await.unwrap();
            for client in &mut clients {
                assert_eq!(client.event(&sample.event_name().unwrap()).await, sample);
            }
        }
    }
}

#[tokio::test]
async fn what_the_applications_emit_crosses_too() {
    let [common, msgpack] = mixed().await;
    let mut clients = [Client::of(&common, &[]).await, Client::of(&msgpack, &[]).await];
    let picture = bytes::Bytes::from_static(&[0, 127, 255]);
    for server in [&common, &msgpack] {
        server.io.emit("picture", &(&picture, json!({ "name": "p" }))).await.unwrap();
        for client in &mut clients {
            assert_eq!(client.event("picture").await, event("picture", (&picture, json!({ "name": "p" }))));
        }
    }
}

#[tokio::test]
async fn acknowledgements_cross_between_the_parsers() {
    let [common, msgpack] = mixed().await;
    let mut clients = [Client::of(&common, &[]).await, Client::of(&msgpack, &[]).await];
    let answer = json!({ "text": "ü", "list": [1, 2.5] });
    for server in [&common, &msgpack] {
        let asking = server.io.timeout(Duration::from_secs(20));
        let answers = asking.emit_with_ack::<_, serde_json::Value>("who", &()).await.unwrap();
        for client in &mut clients {
            let packet = client.event_packet("who").await;
            client.acknowledge(&packet, Payload::value(&[&answer]).unwrap()).await;
        }
        let answers: Vec<_> = within(answers.map(|(_, answer)| answer.unwrap()).collect()).await;
        assert_eq!(answers, [answer.clone(), answer.clone()]);
    }
}

#[tokio::test]
async fn binary_answers_cross_between_the_parsers() {
    let [common, msgpack] = mixed().await;
    let picture = bytes::Bytes::from_static(&[0, 127, 255]);
    for (asking, asked) in [(&common, &msgpack), (&msgpack, &common)] {
        let mut client = Client::of(asked, &["x"]).await;
        let socket = asking.io.within("x").fetch_sockets().await.unwrap().remove(0);
        let answer = socket.emit_with_ack::<_, bytes::Bytes>("picture", &()).await.unwrap();
        let packet = client.event_packet("picture").await;
        client.acknowledge(&packet, Payload::value(&[&picture]).unwrap()).await;
        assert_eq!(within(answer).await.unwrap(), picture);
        client.disconnect().await;
    }
}
