//! What emitters put on the wire.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use trunkline_brokers::Redis;
use trunkline_core::{Emitter, Payload, Result, Target};

use crate::{
    support::{Wire, backend},
    tap::Tap,
};

/// Every operation, as it was captured from `@socket.io/redis-emitter`.
async fn every_operation(emitter: &Emitter) -> Result<()> {
    let hello = |argument: &str| Payload::event("hello", &(argument,));
    let except = |mut target: Target, room: &str| {
        target.except.push(room.into());
        target
    };
    let both = Target { rooms: vec!["room1".into(), "room2".into()], ..Target::default() };
    let mut flagged = Target::all();
    (flagged.flags.volatile, flagged.flags.compress) = (Some(true), Some(false));
    emitter.emit(Target::all(), Payload::event("hello", &("world", 1.5, json!({"b": null})))?).await?;
    emitter.emit(Target::all(), binary()).await?;
    emitter.emit(Target::room("room1"), hello("r1")?).await?;
    emitter.emit(both, hello("r1r2")?).await?;
    emitter.emit(except(Target::all(), "room2"), hello("xr2")?).await?;
    emitter.emit(flagged, hello("flags")?).await?;
    emitter.of("/custom").emit(Target::room("room1"), hello("nsp")?).await?;
    emitter.sockets_join(Target::all(), vec!["em1".into()]).await?;
    emitter.sockets_join(except(Target::room("room1"), "room2"), vec!["em2".into(), "em3".into()]).await?;
    emitter.sockets_leave(Target::room("em1"), vec!["em1".into()]).await?;
    emitter.server_side_emit(Payload::event("sse", &("from emitter", json!({"x": 1})))?).await?;
    emitter.disconnect_sockets(Target::room("room2"), false).await?;
    emitter.disconnect_sockets(Target::all(), true).await
}

/// `["hello", <01 02>]`
fn binary() -> Payload {
    Payload::from_msgpack([&[0x92, 0xa5][..], b"hello", &[0xc4, 2, 1, 2]].concat()).unwrap()
}

/// What the official emitter sent for the same operations: channel and bytes.
fn captured() -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/data/wire/redis-classic.jsonl");
    let file = std::fs::read_to_string(path).unwrap();
    let rows = file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let emitted = rows
        .filter(|row| row["operation"].as_str().unwrap().starts_with("[redis-emitter]") && row["channel"].is_string());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    emitted.map(|row| (text(&row["channel"]), BASE64_STANDARD.decode(text(&row["raw_base64"])).unwrap())).collect()
}

#[tokio::test]
async fn every_operation_over_pubsub_is_what_the_official_emitter_sends_byte_by_byte() {
    let server = Redis::start().await.unwrap();
    let mut tap = Tap::new(server.url(), "PSUBSCRIBE", &["*".to_owned()]).await;
    let emitter = Emitter::new(&backend(Wire::PubSub, server.url(), "").await.unwrap());
    every_operation(&emitter).await.unwrap();
    let expected = captured();
    assert_eq!(expected.len(), 13);
    for (channel, bytes) in expected {
        let (on, sent) = tap.next("an operation").await;
        assert_eq!((on, sent.escape_ascii().to_string()), (channel, bytes.escape_ascii().to_string()));
    }
    assert_eq!(tap.rest(), 0);
}

#[tokio::test]
async fn every_operation_over_streams_is_what_an_adapter_would_send() {
    let server = Redis::start().await.unwrap();
    let mut tap = Tap::new(server.url(), "PSUBSCRIBE", &["*".to_owned()]).await;
    let emitter = Emitter::new(&backend(Wire::Streams, server.url(), "").await.unwrap());
    every_operation(&emitter).await.unwrap();
    let (channel, sent) = tap.next("the server-side event").await;
    let sent: Value = serde_json::from_str(&Payload::from_msgpack(sent).unwrap().to_json().text).unwrap();
    let event = json!({"type": 9, "data": {"packet": ["sse", "from emitter", {"x": 1}]}, "uid": "emitter", "nsp": "/"});
    assert_eq!((channel.as_str(), sent), ("socket.io#/#", event));
    // What is sent last is written last.
    emitter.emit(Target::all(), Payload::event("end", &()).unwrap()).await.unwrap();
    let mut entries = entries(&mut tap).await;
    while !entries.last().is_some_and(|last| last.contains("\"end\"")) {
        entries = self::entries(&mut tap).await;
    }
    let base64 = "gqZwYWNrZXSCpHR5cGUCpGRhdGGSpWhlbGxvxAIBAqRvcHRzg6Vyb29tc5CmZXhjZXB0kKVmbGFnc4A=";
    let opts = |rooms: &str, except: &str| format!(r#""opts":{{"rooms":[{rooms}],"except":[{except}],"flags":{{}}}}"#);
    let hello = |argument: &str, opts: &str| format!(r#"{{"packet":{{"type":2,"data":["hello",{argument}]}},{opts}}}"#);
    let flagged = r#""opts":{"rooms":[],"except":[],"flags":{"volatile":true,"compress":false}}"#;
    let expected = [
        ("/", 3, hello(r#""world",1.5,{"b":null}"#, &opts("", ""))),
        ("/", 3, base64.to_owned()),
        ("/", 3, hello(r#""r1""#, &opts(r#""room1""#, ""))),
        ("/", 3, hello(r#""r1r2""#, &opts(r#""room1","room2""#, ""))),
        ("/", 3, hello(r#""xr2""#, &opts("", r#""room2""#))),
        ("/", 3, hello(r#""flags""#, flagged)),
        ("/custom", 3, hello(r#""nsp""#, &opts(r#""room1""#, ""))),
        ("/", 4, format!(r#"{{{},"rooms":["em1"]}}"#, opts("", ""))),
        ("/", 4, format!(r#"{{{},"rooms":["em2","em3"]}}"#, opts(r#""room1""#, r#""room2""#))),
        ("/", 5, format!(r#"{{{},"rooms":["em1"]}}"#, opts(r#""em1""#, ""))),
        ("/", 6, format!(r#"{{{},"close":false}}"#, opts(r#""room2""#, ""))),
        ("/", 6, format!(r#"{{{},"close":true}}"#, opts("", ""))),
    ];
    for (entry, (namespace, kind, data)) in entries.iter().zip(&expected) {
        assert_eq!(entry, &format!("uid emitter nsp {namespace} type {kind} data {data}"));
    }
    assert_eq!(entries.len(), expected.len() + 1);
}

/// The fields of all entries, in a row.
async fn entries(tap: &mut Tap) -> Vec<String> {
    let mut command = redis::cmd("XRANGE");
    command.arg("socket.io").arg("-").arg("+");
    let entries: Vec<(String, Vec<String>)> = command.query_async(&mut tap.commands).await.unwrap();
    entries.into_iter().map(|(_, fields)| fields.join(" ")).collect()
}
