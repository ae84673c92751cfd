//! The messages of Node.js servers, captured on a real Redis: played to nodes of ours they have their meaning, and what
//! our nodes publish in their place is the same to the byte, but for our own fields at the end.

use std::{collections::HashMap, fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::Value;
use trunkline_brokers::Redis;
use trunkline_core::{
    Message, NodeId,
    codec::{self, Body},
    model::Delivery,
};
use trunkline_redis::connect;

use crate::{
    support::{Member, config},
    tap::{self, Tap},
};

struct Captured {
    operation: String,
    channel: String,
    is_json: bool,
    bytes: Bytes,
}

/// The ids of the nodes by name, and what they sent.
fn read(mode: &str) -> (Value, Vec<Captured>) {
    let path = format!("../core/tests/data/wire/redis-sharded-{mode}.jsonl");
    let file = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let rows: Vec<Value> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let messages = rows.iter().filter(|row| row["raw_base64"].is_string()).map(|row| Captured {
        operation: text(row, "operation"),
        channel: text(row, "channel"),
        is_json: row["encoding"] == "json",
        bytes: BASE64_STANDARD.decode(text(row, "raw_base64")).unwrap().into(),
    });
    (rows[0]["uids"].clone(), messages.collect())
}

/// Both nodes of each namespace, by id.
async fn members(server: &Redis, mode: &str, ids: &Value) -> HashMap<NodeId, Member> {
    let mut members = HashMap::new();
    for process in ["A", "B"] {
        let backend = connect(config(server.url(), &format!("subscription={mode}&join_grace=0s"))).await.unwrap();
        for (name, namespace) in [(process.to_owned(), "/"), (format!("{process}_custom"), "/custom")] {
            let id = NodeId::new(ids[&name].as_str().unwrap()).unwrap();
            members.insert(id.clone(), Member::over(&backend, id, namespace).await);
        }
    }
    members
}

/// Without our own fields: those that stand behind the official ones.
fn assert_same_but_for_the_end(ours: &[u8], captured: &Captured) {
    let Captured { operation, bytes, .. } = captured;
    if ours == bytes {
        return;
    }
    let (ours, theirs) = match captured.is_json {
        true => (&ours[..bytes.len() - 1], &bytes[..bytes.len() - 1]),
        // The number of fields comes first.
        false => (&ours[1..bytes.len()], &bytes[1..]),
    };
    assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string(), "{operation}");
}

async fn replay(mode: &str) {
    let server = Redis::start().await.unwrap();
    let (ids, captured) = read(mode);
    assert!(captured.len() > 100, "{}", captured.len());
    let mut members = members(&server, mode, &ids).await;
    let mut channels: Vec<_> = captured.iter().map(|message| message.channel.clone()).collect();
    channels.sort_unstable();
    channels.dedup();
    let mut tap = Tap::on(server.port(), &channels).await;
    for message in &captured {
        let decoded = codec::decode(&message.bytes).unwrap();
        let (from, namespace) = (decoded.from.unwrap(), decoded.namespace.unwrap());
        let sender = members[&from].node.clone();
        let of_namespace = |member: &&Member| member.node.namespace == namespace && member.node.id != from;
        let to = members.values().find(of_namespace).unwrap().node.id.clone();
        if let Body::Message(Message::Broadcast { request: None, target, .. }) = &decoded.body
            && let Some(room) = target.single_room()
        {
            members[&to].enter(room.clone()).await;
        }
        // As Node.js sent it, and then as we do.
        tap::publish(server.port(), &message.channel, &message.bytes).await;
        assert_eq!(tap.next().await, (message.channel.clone(), message.bytes.to_vec()));
        check(&message.operation, members.get_mut(&to).unwrap().next().await, &from, &decoded.body);
        let transport = &members[&from].backend.transport;
        match decoded.body.clone() {
            Body::Message(body) => transport.publish(&sender, body).await.unwrap(),
            Body::Response(body) => transport.send(&sender, &to, &body).await.unwrap(),
        }
        let (channel, ours) = tap.next().await;
        assert_eq!(channel, message.channel, "{}", message.operation);
        assert_same_but_for_the_end(&ours, message);
        check(&message.operation, members.get_mut(&to).unwrap().next().await, &from, &decoded.body);
    }
}

fn check(operation: &str, delivery: Delivery, sender: &NodeId, body: &Body) {
    let (from, arrived) = match delivery {
        Delivery::Message { from, message, .. } => (from, Body::Message(message)),
        Delivery::Response { from, response } => (from, Body::Response(response)),
        other => panic!("{operation}: {other:?}"),
    };
    assert_eq!((from.as_ref(), &arrived), (Some(sender), body), "{operation}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_static_servers_are_understood_and_sent() {
    replay("static").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_dynamic_servers_are_understood_and_sent() {
    replay("dynamic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_dynamic_private_servers_are_understood_and_sent() {
    replay("dynamic-private").await;
}
