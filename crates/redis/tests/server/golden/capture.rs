//! The captured messages, by the operation that sent them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use trunkline_core::Payload;

pub(super) struct Capture {
    pub(super) operations: Vec<Operation>,
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
    /// The events of each client of server B; `None` if the capture left them out.
    pub(super) received: Option<BTreeMap<String, Vec<Value>>>,
    pub(super) server_side_events: Option<Vec<Value>>,
}

pub(super) struct Row {
    pub(super) channel: String,
    pub(super) bytes: Vec<u8>,
    /// Stream and fields, if it is no publication.
    pub(super) entry: Option<(String, Fields)>,
}

/// Names and values, in their order.
pub(super) type Fields = Vec<(String, Vec<u8>)>;

/// Clients of server B.
const HERE: [&str; 4] = ["b1", "b2", "cb", "e2"];

pub(super) fn read(adapter: &str) -> Capture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../core/tests/data/wire/{adapter}.jsonl"));
    let file = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut capture = Capture {
        operations: Vec::new(),
        answer_channels: BTreeSet::new(),
        sharded: false,
        clients: BTreeMap::new(),
        details: BTreeMap::new(),
    };
    for row in file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        capture.add(&row);
    }
    capture.operations.retain(|operation| !operation.requests.is_empty());
    capture
}

impl Capture {
    fn add(&mut self, row: &Value) {
        let name = row["operation"].as_str().unwrap();
        if name.starts_with("(clients connect)") {
            self.clients = serde_json::from_value(row["result"].clone()).unwrap();
        }
        self.sharded |= row["command"] == "SPUBLISH";
        if self.operations.last().is_none_or(|last| last.name != name) {
            self.operations.push(Operation::begin(name, row));
        }
        let operation = self.operations.last_mut().unwrap();
        match row["direction"].as_str().unwrap() {
            "request" => operation.requests.push(Row::of(row)),
            "response" => {
                let answer = Row::of(row);
                self.answer_channels.insert(answer.channel.clone());
                self.details.extend(sockets(&row["decoded"]));
                operation.answers.push(answer);
            }
            _ => {}
        }
    }
}

fn sockets(answer: &Value) -> Vec<(String, (Value, Value))> {
    let data = if answer["data"].is_object() { &answer["data"] } else { answer };
    let described = |socket: &Value| {
        Some((socket["id"].as_str()?.to_owned(), (simple(&socket["handshake"]), simple(&socket["data"]))))
    };
    data["sockets"].as_array().into_iter().flatten().filter_map(described).collect()
}

impl Operation {
    fn begin(name: &str, row: &Value) -> Self {
        let received = row["received"].as_object().filter(|received| !received.contains_key("$omitted"));
        let here = |(client, events): (&String, &Value)| {
            let events = events.as_array()?.iter().map(event).collect();
            HERE.contains(&client.as_str()).then(|| (client.clone(), events))
        };
        Self {
            name: name.to_owned(),
            requests: Vec::new(),
            answers: Vec::new(),
            received: received.map(|received| received.iter().filter_map(here).collect()),
            server_side_events: row["server_side_events"]
                .as_array()
                .map(|events| events.iter().filter(|event| event["on"] == "B").map(side_event).collect()),
        }
    }
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
        let fields = |stream: &str| {
            let names = row["field_order"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            let fields = names.map(|name| (name.to_owned(), decode(&row["fields_base64"][name]))).collect();
            (stream.to_owned(), fields)
        };
        Self {
            channel: row["channel"].as_str().unwrap_or_default().to_owned(),
            bytes: decode(&row["raw_base64"]),
            entry: row["stream"].as_str().map(fields),
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
