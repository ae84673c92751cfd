//! The captured messages, by the operation that sent them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use trunkline_core::Payload;

pub(super) struct Capture {
    /// What sent something.
    pub(super) operations: Vec<Operation>,
    /// Commands without a payload, by which server A looked for a session.
    pub(super) commands: Vec<String>,
    /// Whether the servers kept what clients may miss, and told them where each event lies.
    pub(super) recovery: bool,
    /// Where answers to server A went.
    pub(super) answer_channels: BTreeSet<String>,
    pub(super) sharded: bool,
    /// The ids of clients, by the names they have in the captures.
    pub(super) clients: BTreeMap<String, String>,
    /// What answers said of sockets of server B, by their ids: handshake and data.
    pub(super) details: BTreeMap<String, (Value, Value)>,
}

/// What one call on server A sent, and what server B and its clients made of it.
pub(super) struct Operation {
    pub(super) name: String,
    pub(super) requests: Vec<Row>,
    pub(super) answers: Vec<Row>,
    /// The events of each client of server B.
    pub(super) received: BTreeMap<String, Vec<Value>>,
    pub(super) server_side_events: Option<Vec<Value>>,
}

pub(super) struct Row {
    pub(super) channel: String,
    pub(super) bytes: Vec<u8>,
    /// If it is no publication.
    pub(super) entry: Option<Entry>,
}

pub(super) struct Entry {
    pub(super) stream: String,
    pub(super) id: String,
    pub(super) fields: Fields,
}

/// Names and values, in their order.
pub(super) type Fields = Vec<(String, Vec<u8>)>;

/// Clients of server B.
const HERE: [&str; 4] = ["b1", "b2", "cb", "e2"];

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/data/wire")
}

pub(super) fn read(adapter: &str) -> Capture {
    let path = folder().join(format!("{adapter}.jsonl"));
    let file = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut capture = Capture {
        operations: Vec::new(),
        commands: Vec::new(),
        recovery: false,
        answer_channels: BTreeSet::new(),
        sharded: false,
        clients: BTreeMap::new(),
        details: BTreeMap::new(),
    };
    for row in file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        capture.add(&row);
    }
    capture.operations.retain(|operation| !operation.requests.is_empty() || !operation.answers.is_empty());
    capture
}

impl Capture {
    fn add(&mut self, row: &Value) {
        let name = row["operation"].as_str().unwrap();
        if name.starts_with("(clients connect)") && row["result"].is_object() {
            self.clients = serde_json::from_value(row["result"].clone()).unwrap();
        }
        self.recovery |= row["options"]["connectionStateRecovery"].is_object();
        self.sharded |= row["command"].as_str().is_some_and(is_sharded);
        if self.operations.last().is_none_or(|last| last.name != name) {
            self.operations.push(Operation::begin(name, row, self.recovery));
        }
        let operation = self.operations.last_mut().unwrap();
        let direction = row["direction"].as_str().unwrap();
        assert_eq!(row["raw_base64"].is_string(), ["request", "response"].contains(&direction), "{name}: a payload");
        match direction {
            "request" => operation.requests.push(Row::of(row)),
            "response" => {
                let answer = Row::of(row);
                self.answer_channels.insert(answer.channel.clone());
                self.details.extend(sockets(&row["decoded"]));
                operation.answers.push(answer);
            }
            "command" => self.commands.push(row["command"].as_str().unwrap().to_owned()),
            // Servers subscribe each in their own way; and operations that have sent nothing.
            "subscription" | "none" => {}
            other => panic!("{name}: a {other}"),
        }
    }

    /// How many messages there are, of all operations.
    pub(super) fn messages(&self) -> usize {
        self.operations.iter().map(|operation| operation.requests.len() + operation.answers.len()).sum()
    }
}

/// Of commands to publish and to subscribe.
fn is_sharded(command: &str) -> bool {
    ["SPUBLISH", "SSUBSCRIBE"].iter().any(|verb| command.to_uppercase().starts_with(verb))
}

fn sockets(answer: &Value) -> Vec<(String, (Value, Value))> {
    let data = if answer["data"].is_object() { &answer["data"] } else { answer };
    let described = |socket: &Value| {
        Some((socket["id"].as_str()?.to_owned(), (simple(&socket["handshake"]), simple(&socket["data"]))))
    };
    data["sockets"].as_array().into_iter().flatten().filter_map(described).collect()
}

impl Operation {
    fn begin(name: &str, row: &Value, recovery: bool) -> Self {
        Self {
            name: name.to_owned(),
            requests: Vec::new(),
            answers: Vec::new(),
            received: received(row, recovery),
            server_side_events: row["server_side_events"]
                .as_array()
                .map(|events| events.iter().filter(|event| event["on"] == "B").map(side_event).collect()),
        }
    }
}

fn received(row: &Value, recovery: bool) -> BTreeMap<String, Vec<Value>> {
    let received = &row["received"];
    let here = |client: &&String| HERE.contains(&client.as_str());
    if let Some(clients) = received.get("clients") {
        // Too large to be written down once more: each got what was sent.
        let clients: Vec<String> = serde_json::from_value(clients.clone()).unwrap();
        let sent = json!([sent(row, recovery), false]);
        return clients.iter().filter(here).map(|client| (client.clone(), vec![sent.clone()])).collect();
    }
    let events = |events: &Value| events.as_array().unwrap().iter().map(event).collect();
    let all = received.as_object().into_iter().flatten();
    all.filter(|(client, _)| here(client)).map(|(client, list)| (client.clone(), events(list))).collect()
}

/// The arguments of a broadcast, and where it lies if clients are told.
fn sent(row: &Value, recovery: bool) -> Value {
    let message = &row["decoded"];
    // Of `createAdapter`: `[uid, packet, opts]`.
    let packet = if message.is_array() { &message[1] } else { &message["data"]["packet"] };
    let place = recovery.then(|| row["entry_id"].clone());
    packet["data"].as_array().unwrap().iter().map(simple).chain(place).collect()
}

/// What a client got: the arguments, and whether it was asked to acknowledge; or that it was disconnected.
fn event(event: &Value) -> Value {
    if event["disconnect"].is_string() {
        return json!("disconnected");
    }
    json!([simple(&event["args"]), event["ack"] == true])
}

fn side_event(event: &Value) -> Value {
    let args = event["args"].as_array().unwrap().iter();
    let all: Vec<_> = std::iter::once(&event["ev"]).chain(args).map(simple).collect();
    json!([event["nsp"], all])
}

/// Without the notes on how wide numbers are; dates as text.
fn simple(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(simple).collect(),
        Value::Object(fields) => match (fields.keys().next().map(String::as_str), fields.values().next()) {
            (Some("$date"), Some(date)) => date.clone(),
            (Some("$float64"), Some(number)) => number.clone(),
            (Some("$uint64" | "$int64"), Some(digits)) => json!(digits.as_str().unwrap().parse::<f64>().unwrap()),
            _ => fields.iter().map(|(key, value)| (key.clone(), simple(value))).collect(),
        },
        Value::Number(number) => json!(number.as_f64().unwrap()),
        other => other.clone(),
    }
}

impl Row {
    fn of(row: &Value) -> Self {
        let decode = |text: &Value| BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap();
        let entry = |stream: &str| {
            let names = row["field_order"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            let fields = names.map(|name| (name.to_owned(), decode(&row["fields_base64"][name]))).collect();
            Entry { stream: stream.to_owned(), id: row["entry_id"].as_str().unwrap().to_owned(), fields }
        };
        Self {
            channel: row["channel"].as_str().unwrap_or_default().to_owned(),
            bytes: decode(&row["raw_base64"]),
            entry: row["stream"].as_str().map(entry),
        }
    }
}

/// A payload as the captures write it down.
pub(super) fn meaning(payload: &Payload) -> Value {
    let json = payload.to_json();
    let binary: Vec<_> = json.attachments.iter().map(|part| BASE64_STANDARD.encode(part)).collect();
    with_binary(&serde_json::from_str(&json.text).unwrap(), &binary)
}

fn with_binary(value: &Value, binary: &[String]) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| with_binary(item, binary)).collect(),
        Value::Object(fields) if fields.contains_key("_placeholder") => {
            json!({"$binary": binary[fields["num"].as_u64().unwrap() as usize]})
        }
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), with_binary(value, binary))).collect(),
        Value::Number(number) => json!(number.as_f64().unwrap()),
        other => other.clone(),
    }
}
