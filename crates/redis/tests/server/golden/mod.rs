//! Every message that official servers and emitters were seen to send is sent to a node of ours, over a real server:
//! its clients get what the clients of the Node.js server in its place got, and its answers say the same.

mod capture;
mod recovery;
mod stage;

use std::{collections::HashMap, fs};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use trunkline_brokers::Redis;
use trunkline_core::{Emitter, Payload, Target};
use trunkline_redis::{Config, connect};

use self::{
    capture::{Capture, Operation, Row},
    stage::Stage,
};
use crate::{support::with, tap::Tap};

/// Captured messages, and the settings of a node that takes the place of the captured server B.
struct File {
    adapter: &'static str,
    parameters: &'static str,
    /// How many there are: each is sent, or expected as an answer.
    messages: usize,
}

const FILES: [File; 8] = [
    File { adapter: "redis-classic", parameters: "mode=pubsub", messages: 116 },
    File { adapter: "redis-sharded-static", parameters: "mode=sharded&subscription=static", messages: 103 },
    File { adapter: "redis-sharded-dynamic", parameters: "mode=sharded&subscription=dynamic", messages: 103 },
    File {
        adapter: "redis-sharded-dynamic-private",
        parameters: "mode=sharded&subscription=dynamic-private",
        messages: 103,
    },
    File { adapter: "redis-streams", parameters: "mode=streams", messages: 103 },
    File { adapter: "redis-streams-csr", parameters: "mode=streams", messages: 107 },
    File { adapter: "redis-streams-plaintext", parameters: "mode=streams&plaintext=on", messages: 49 },
    File { adapter: "redis-streams-sharded", parameters: "mode=streams&sharded_pubsub=on", messages: 49 },
];

#[test]
fn every_captured_file_is_replayed() {
    let folder = fs::read_dir(capture::folder()).unwrap();
    let names = folder.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<_> = names.filter(|name| name.starts_with("redis-")).collect();
    found.sort_unstable();
    let mut replayed: Vec<_> = FILES.iter().map(|file| format!("{}.jsonl", file.adapter)).collect();
    replayed.sort_unstable();
    assert_eq!(found, replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_classic_adapter_and_emitter_send_has_its_effect() {
    tokio::join!(replay("redis-classic"), replay_with("redis-classic", "mode=pubsub&subscription=rooms"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sharded_adapter_sends_has_its_effect_in_every_mode() {
    tokio::join!(
        replay("redis-sharded-static"),
        replay("redis-sharded-dynamic"),
        replay("redis-sharded-dynamic-private"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_streams_adapter_sends_has_its_effect() {
    replay("redis-streams").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_streams_adapter_sends_while_it_keeps_what_clients_miss_has_its_effect() {
    replay("redis-streams-csr").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_streams_adapter_sends_as_plain_text_has_its_effect() {
    replay("redis-streams-plaintext").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_streams_adapter_sends_over_sharded_pubsub_has_its_effect() {
    replay("redis-streams-sharded").await;
}

fn file(adapter: &str) -> &'static File {
    FILES.iter().find(|file| file.adapter == adapter).unwrap()
}

async fn replay(adapter: &str) {
    replay_with(adapter, file(adapter).parameters).await;
}

async fn replay_with(adapter: &str, parameters: &str) {
    let file = file(adapter);
    let capture = capture::read(adapter);
    assert_eq!(capture.messages(), file.messages, "{adapter}");
    let server = Redis::start().await.unwrap();
    let url = with(server.url(), parameters);
    let connect = async || connect(Config::from_url(&url).unwrap()).await.unwrap();
    let node = connect().await;
    let emitter = Emitter::new(&connect().await);
    let root = Stage::join(&capture, "/", node.clone()).await;
    let custom = Stage::join(&capture, "/custom", node).await;
    let wall = Wall::start(server.url(), &capture).await;
    let mut theatre = Theatre { adapter: adapter.to_owned(), wall, emitter, stages: [root, custom] };
    for operation in &capture.operations {
        theatre.play(operation).await;
    }
    let answers: usize = capture.operations.iter().map(|operation| operation.answers.len()).sum();
    assert_eq!((theatre.wall.sent, theatre.wall.count()), (file.messages - answers, answers), "{adapter}");
    let [root, custom] = &theatre.stages;
    for metrics in [root.metrics(), custom.metrics()] {
        assert_eq!((metrics.malformed, metrics.unknown_type, metrics.gaps), (0, 0, 0), "{metrics:?}");
    }
}

struct Theatre {
    adapter: String,
    wall: Wall,
    emitter: Emitter,
    /// The namespaces `/` and `/custom`.
    stages: [Stage; 2],
}

impl Theatre {
    /// Sends what belongs to an operation, and checks what came of it.
    async fn play(&mut self, operation: &Operation) {
        if operation.name.starts_with("[redis-emitter]") {
            self.stages[0].clients_of_the_emitter_connect();
        }
        // The captures list entries of streams first, whenever they were sent: what is asked for was asked before they
        // changed it.
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
        let here = |event: &Value| self.wall.as_it_lies_here(event);
        let expected = operation.received.iter().map(|(client, events)| (&**client, events.iter().map(here).collect()));
        assert_eq!(got, expected.collect(), "{} over {}", operation.name, self.adapter);
        self.check_server_side_events(operation);
        self.check_answers(operation).await;
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
            stage.rooms_are_entered().await;
        }
    }

    fn check_server_side_events(&self, operation: &Operation) {
        let got: Vec<_> = self.stages.iter().flat_map(Stage::take_server_side_events).collect();
        if let Some(expected) = &operation.server_side_events {
            assert_eq!(&got, expected, "{}", operation.name);
        }
    }

    /// In any order: acknowledgements of several clients have none.
    async fn check_answers(&mut self, operation: &Operation) {
        let mut expected: Vec<_> = operation.answers.iter().map(|row| meaning(&row.channel, &row.bytes)).collect();
        let mut got = Vec::new();
        while got.len() < expected.len() {
            got.push(self.wall.next(&operation.name).await);
        }
        let text = |answer: &Value| answer.to_string();
        expected.sort_by_key(text);
        got.sort_by_key(text);
        assert_eq!(got, expected, "{} over {}", operation.name, self.adapter);
    }
}

/// The bare server: what is captured goes out here, and answers come in.
struct Wall {
    tap: Tap,
    sharded: bool,
    sent: usize,
    seen: usize,
    /// Where the captured entries of streams lie here.
    places: HashMap<String, String>,
}

impl Wall {
    async fn start(url: &str, capture: &Capture) -> Self {
        let channels: Vec<_> = capture.answer_channels.iter().cloned().collect();
        assert!(!channels.is_empty());
        let verb = if capture.sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" };
        let tap = Tap::new(url, verb, &channels).await;
        Self { tap, sharded: capture.sharded, sent: 0, seen: 0, places: HashMap::new() }
    }

    async fn send(&mut self, row: &Row) {
        self.sent += 1;
        let Some(entry) = &row.entry else {
            let verb = if self.sharded { "SPUBLISH" } else { "PUBLISH" };
            let mut command = redis::cmd(verb);
            return command.arg(&row.channel).arg(&row.bytes).exec_async(&mut self.tap.commands).await.unwrap();
        };
        let mut command = redis::cmd("XADD");
        command.arg(&entry.stream).arg("*");
        for (name, value) in &entry.fields {
            command.arg(name).arg(value);
        }
        let place = command.query_async(&mut self.tap.commands).await.unwrap();
        self.places.insert(entry.id.clone(), place);
    }

    /// An event whose last argument may say where it lay when it was captured.
    fn as_it_lies_here(&self, event: &Value) -> Value {
        let mut event = event.clone();
        let last = event.get_mut(0).and_then(Value::as_array_mut).and_then(|arguments| arguments.last_mut());
        if let Some(last) = last
            && let Some(place) = last.as_str().and_then(|captured| self.places.get(captured))
        {
            *last = json!(place);
        }
        event
    }

    async fn next(&mut self, operation: &str) -> Value {
        let (channel, bytes) = self.tap.next(operation).await;
        self.seen += 1;
        meaning(&channel, &bytes)
    }

    /// How many answers there were, those included that have not been taken.
    fn count(&mut self) -> usize {
        self.seen += self.tap.rest();
        self.seen
    }
}

/// What an answer says, and where it goes; without the name of who gives it, and with sockets and rooms in some fixed
/// order.
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
