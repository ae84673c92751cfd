//! Every message that official servers and emitters were seen to send is sent to a node of ours, over a real server: its clients get what
//! the clients of the Node.js server in its place got, and its answers say the same.

mod capture;
mod stage;

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use trunkline_brokers::Redis;
use trunkline_core::{Emitter, Payload, Target};

use self::{
    capture::{Capture, Operation, Row},
    stage::Stage,
};
use crate::{
    support::{Wire, backend},
    tap::Tap,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_classic_adapter_and_emitter_send_has_its_effect() {
    replay("redis-classic", Wire::PubSub, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_streams_adapter_sends_has_its_effect() {
    replay("redis-streams", Wire::Streams, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_streams_adapter_sends_as_plain_text_has_its_effect() {
    replay("redis-streams-plaintext", Wire::Streams, "plaintext=on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_streams_adapter_sends_over_sharded_pubsub_has_its_effect() {
    replay("redis-streams-sharded", Wire::Streams, "sharded_pubsub=on").await;
}

async fn replay(adapter: &str, wire: Wire, parameters: &str) {
    let capture = capture::read(adapter);
    let server = Redis::start().await.unwrap();
    let node = backend(wire, server.url(), parameters).await.unwrap();
    let emitter = Emitter::new(&backend(wire, server.url(), parameters).await.unwrap());
    let root = Stage::join(&capture, "/", node.clone()).await;
    let custom = Stage::join(&capture, "/custom", node).await;
    let mut theatre =
        Theatre { wire, wall: Wall::start(server.url(), &capture).await, emitter, stages: [root, custom] };
    let mut answers = 0;
    for operation in &capture.operations {
        answers += theatre.play(operation).await;
    }
    assert_eq!(answers, theatre.wall.count(), "an answer came that nobody asked for");
    assert!(answers > 0 && capture.operations.len() > 20);
    let [root, custom] = &theatre.stages;
    for counters in [root.counters(), custom.counters()] {
        assert_eq!((counters.malformed, counters.unknown_type, counters.gaps), (0, 0, 0), "{counters:?}");
    }
}

struct Theatre {
    wire: Wire,
    wall: Wall,
    emitter: Emitter,
    /// The namespaces `/` and `/custom`.
    stages: [Stage; 2],
}

impl Theatre {
    /// Sends what belongs to an operation, and checks what came of it. Returns how many answers that were.
    async fn play(&mut self, operation: &Operation) -> usize {
        if operation.name.starts_with("[redis-emitter]") {
            self.stages[0].clients_of_the_emitter_connect();
        }
        // The captures list entries of streams first, whenever they were sent: what is asked for was asked before they changed it.
        let (publications, entries): (Vec<_>, _) = operation.requests.iter().partition(|row| row.entry.is_none());
        for rows in [publications, entries] {
            for row in rows {
                self.wall.send(row).await;
            }
            self.settle().await;
        }
        let mut got: HashMap<&str, Vec<Value>> = HashMap::new();
        for (client, event) in self.stages.iter().flat_map(Stage::take_events) {
            got.entry(client).or_default().push(event);
        }
        if let Some(received) = &operation.received {
            let expected = received.iter().map(|(client, events)| (client.as_str(), events.clone())).collect();
            assert_eq!(got, expected, "{}", operation.name);
        }
        self.check_server_side_events(operation);
        self.check_answers(operation).await
    }

    /// What is sent after everything else has arrived, over each way that messages take.
    async fn settle(&mut self) {
        let marker = Payload::event("marker", &()).unwrap();
        for namespace in ["/", "/custom"] {
            let emitter = self.emitter.of(namespace);
            emitter.emit(Target::all(), marker.clone()).await.unwrap();
            emitter.server_side_emit(marker.clone()).await.unwrap();
        }
        for stage in &self.stages {
            stage.markers().await;
        }
    }

    fn check_server_side_events(&self, operation: &Operation) {
        let got: Vec<_> = self.stages.iter().flat_map(Stage::take_server_side_events).collect();
        if let Some(expected) = &operation.server_side_events {
            assert_eq!(&got, expected, "{}", operation.name);
        }
    }

    /// In any order: acknowledgements of several clients have none.
    async fn check_answers(&mut self, operation: &Operation) -> usize {
        let mut expected: Vec<_> = operation.answers.iter().map(|row| meaning(&row.channel, &row.bytes)).collect();
        let mut got = Vec::new();
        while got.len() < expected.len() {
            got.push(self.wall.next(&operation.name).await);
        }
        let text = |answer: &Value| answer.to_string();
        expected.sort_by_key(text);
        got.sort_by_key(text);
        assert_eq!(got, expected, "{} over {:?}", operation.name, self.wire);
        expected.len()
    }
}

/// The bare server: what is captured goes out here, and answers come in.
struct Wall {
    tap: Tap,
    sharded: bool,
    seen: usize,
}

impl Wall {
    async fn start(url: &str, capture: &Capture) -> Self {
        let channels: Vec<_> = capture.answer_channels.iter().cloned().collect();
        assert!(!channels.is_empty());
        let verb = if capture.sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" };
        Self { tap: Tap::new(url, verb, &channels).await, sharded: capture.sharded, seen: 0 }
    }

    async fn send(&mut self, row: &Row) {
        let mut command = redis::Cmd::new();
        match &row.entry {
            Some((stream, fields)) => {
                command.arg("XADD").arg(stream).arg("*");
                for (name, value) in fields {
                    command.arg(name).arg(value);
                }
            }
            None => {
                let verb = if self.sharded { "SPUBLISH" } else { "PUBLISH" };
                command.arg(verb).arg(&row.channel).arg(&row.bytes);
            }
        }
        command.exec_async(&mut self.tap.commands).await.unwrap();
    }

    async fn next(&mut self, operation: &str) -> Value {
        let (channel, bytes) = self.tap.next(operation).await;
        self.seen += 1;
        meaning(&channel, &bytes)
    }

    /// How many answers there were, those included that nobody has looked at.
    fn count(&mut self) -> usize {
        self.seen += self.tap.rest();
        self.seen
    }
}

/// What an answer says, and where it goes; without the name of who gives it, and with sockets and rooms in some fixed order.
fn meaning(channel: &str, bytes: &[u8]) -> Value {
    let payload = if bytes.first() == Some(&b'{') {
        Payload::from_json(String::from_utf8(bytes.to_vec()).unwrap())
    } else {
        Payload::from_msgpack(bytes.to_vec())
    };
    let mut meaning = capture::meaning(&payload.unwrap());
    meaning.as_object_mut().unwrap().remove("uid");
    let data = if meaning["data"]["requestId"].is_string() { &mut meaning["data"] } else { &mut meaning };
    // `createAdapter` answers binary as the JSON of a Buffer; we send binary, which Node.js takes as well.
    if data["data"]["type"] == "Buffer" {
        let bytes: Vec<_> =
            data["data"]["data"].as_array().unwrap().iter().map(|byte| byte.as_f64().unwrap() as u8).collect();
        data["data"] = json!({"$binary": BASE64_STANDARD.encode(bytes)});
    }
    // Node.js writes null for `undefined` on some wires; we leave it out, and so keep both apart.
    if data["packet"].is_null() {
        data.as_object_mut().unwrap().remove("packet");
    }
    let text = |value: &Value| value.to_string();
    if let Some(sockets) = data.get_mut("sockets").and_then(Value::as_array_mut) {
        sockets.sort_by_key(|socket| text(&socket["id"]));
        sockets.iter_mut().for_each(|socket| socket["rooms"].as_array_mut().unwrap().sort_by_key(text));
    }
    json!([channel, meaning])
}
