//! What emitters put on the wire.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use trunkline_brokers::Redis;
use trunkline_conformance::kit::Failure;
use trunkline_core::{Emitter, Payload, Result, Target, payload::Rules};

use crate::{
    support::{Wire, backend, cluster, over_all},
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

over_all! { what_emitters_of_other_languages_send_is_taken }

/// Broadcasts, joins and disconnects of an emitter, for the channel or stream of the namespace `/`.
struct ForeignEmitter {
    wire: Wire,
    tap: Tap,
}

impl ForeignEmitter {
    async fn emit(&mut self, opts: &Value) {
        let packet = json!({"type": 2, "data": ["news"], "nsp": "/"});
        match self.wire {
            Wire::PubSub => {
                let packed =
                    Payload::value(&json!(["emitter", packet, opts])).unwrap().to_msgpack(Rules::MsgpackJs).unwrap();
                self.run(&["PUBLISH", "socket.io#/#"], &packed).await;
            }
            _ => self.request(3, 3, json!({"opts": opts, "packet": packet})).await,
        }
    }

    async fn request(&mut self, kind: u8, classic: u8, mut data: Value) {
        match self.wire {
            Wire::PubSub => {
                data["type"] = classic.into();
                self.run(&["PUBLISH", "socket.io-request#/#"], data.to_string().as_bytes()).await;
            }
            Wire::Sharded => {
                let message = json!({"uid": "emitter", "nsp": "/", "type": kind, "data": data});
                let packed = Payload::value(&message).unwrap().to_msgpack(Rules::MsgpackJs).unwrap();
                self.run(&["SPUBLISH", "socket.io#/#"], &packed).await;
            }
            Wire::Streams => {
                let kind = kind.to_string();
                let fields = ["XADD", "socket.io", "*", "nsp", "/", "type", &kind, "data"];
                self.run(&fields, data.to_string().as_bytes()).await;
            }
        }
    }

    async fn run(&mut self, words: &[&str], last: &[u8]) {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.arg(last).exec_async(&mut self.tap.commands).await.unwrap();
    }
}

async fn what_emitters_of_other_languages_send_is_taken(wire: Wire) -> std::result::Result<(), Failure> {
    let server = Redis::start().await.unwrap();
    let node = cluster(wire, server.url(), "").node().await?;
    let (inside, outside) = (node.socket(["x"]).await?, node.socket(["y"]).await?);
    let mut emitter = ForeignEmitter { wire, tap: Tap::new(server.url(), "SUBSCRIBE", &[]).await };
    let to_all = [
        json!({"rooms": [], "flags": []}),
        json!({"rooms": "", "flags": ""}),
        json!({"rooms": "", "except": "", "flags": null}),
        json!([]),
    ];
    for opts in &to_all {
        emitter.emit(opts).await;
    }
    for socket in [&inside, &outside] {
        socket.wait_for(to_all.len()).await?;
    }
    emitter.emit(&json!({"rooms": "x", "flags": []})).await;
    inside.wait_for(to_all.len() + 1).await?;
    emitter.request(4, 2, json!({"opts": {"rooms": "", "flags": ""}, "rooms": ["new"]})).await;
    emitter.emit(&json!({"rooms": ["new"], "except": "y", "flags": []})).await;
    inside.wait_for(to_all.len() + 2).await?;
    // Numbers are rooms, too.
    emitter.request(4, 2, json!({"opts": {"rooms": "x", "except": null, "flags": null}, "rooms": ["text"]})).await;
    emitter.request(4, 2, json!({"opts": {"rooms": ["x", 7], "flags": ""}, "rooms": [7, "seven"]})).await;
    emitter.request(5, 3, json!({"opts": {"rooms": [], "except": "", "flags": []}, "rooms": ["new", 7]})).await;
    emitter.request(5, 3, json!({"opts": [], "rooms": ["text"]})).await;
    for room in ["new", "text"] {
        emitter.emit(&json!({"rooms": room, "flags": []})).await;
    }
    emitter.emit(&json!({"rooms": ["seven"], "flags": ""})).await;
    inside.wait_for(to_all.len() + 3).await?;
    emitter.request(6, 4, json!({"opts": {"rooms": [], "except": "x", "flags": []}, "close": 1})).await;
    assert!(outside.wait_for_disconnect().await?, "its connection is closed");
    emitter.request(6, 4, json!({"opts": {"rooms": "", "flags": ""}, "close": ""})).await;
    assert!(!inside.wait_for_disconnect().await?, "its connection stays");
    assert_eq!(outside.packets().len(), to_all.len());
    assert_eq!(node.metrics().malformed, 0);
    Ok(())
}

#[tokio::test]
async fn each_of_several_streams_is_read_for_every_namespace() {
    let server = Redis::start().await.unwrap();
    let node = cluster(Wire::Streams, server.url(), "streams=3").node().await.unwrap();
    let socket = node.socket(["x"]).await.unwrap();
    let mut tap = Tap::new(server.url(), "SUBSCRIBE", &[]).await;
    for stream in ["socket.io-0", "socket.io-1", "socket.io-2"] {
        let data = json!({"opts": {"rooms": ["x"]}, "packet": {"type": 2, "data": [stream]}}).to_string();
        let mut command = redis::cmd("XADD");
        command.arg(&[stream, "*", "nsp", "/", "type", "3", "data", &data]);
        command.exec_async(&mut tap.commands).await.unwrap();
    }
    socket.wait_for(3).await.unwrap();
    let mut names = socket.names();
    names.sort();
    assert_eq!(names, ["socket.io-0", "socket.io-1", "socket.io-2"]);
    assert_eq!((node.metrics().malformed, node.metrics().gaps), (0, 0));
}

/// The fields of all entries, in a row.
async fn entries(tap: &mut Tap) -> Vec<String> {
    let mut command = redis::cmd("XRANGE");
    command.arg("socket.io").arg("-").arg("+");
    let entries: Vec<(String, Vec<String>)> = command.query_async(&mut tap.commands).await.unwrap();
    entries.into_iter().map(|(_, fields)| fields.join(" ")).collect()
}
