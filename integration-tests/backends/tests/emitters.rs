//! Emitters: what those of other languages write, on the backends whose wire has documents or rows (crates/redis has the
//! same for Redis), and what one is told whose broker is gone.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, doc};
use trunkline::{Emitter, ErrorKind, Payload, Target};
use trunkline_backends::{DIALECTS, Dialect, Server, USER, join};
use trunkline_brokers::{MongoDb, Postgres};
use trunkline_conformance::kit::{TestNode, eventually};

/// Waits until a socket of the node has joined a room. All messages before were read then.
async fn joined(node: &TestNode, room: &str) {
    let late = || format!("no socket has joined {room}");
    let is_there = async || node.fetch_sockets(Target::room(room).local()).await.unwrap().len() == 1;
    eventually(Duration::from_secs(60), late, is_there).await.unwrap();
    assert_eq!(node.metrics().malformed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_documents_are_taken_as_by_node_js() {
    let mongo = MongoDb::start().await.unwrap();
    let node = join(trunkline::connect(mongo.url()).await.unwrap()).await;
    let socket = node.socket(["x"]).await.unwrap();
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let events = client.database("socket_io").collection::<Document>("socket.io-adapter-events");
    let insert = async |kind: i32, data: Document| {
        events.insert_one(doc! { "type": kind, "data": data, "uid": "emitter", "nsp": "/" }).await.unwrap();
    };
    let long = "y".repeat(5000);
    for (name, opts) in [
        ("arrays", doc! { "rooms": [], "except": [], "flags": [] }),
        ("texts", doc! { "rooms": "", "except": "", "flags": "" }),
        ("null", doc! { "rooms": Bson::Null }),
        ("nothing", doc! {}),
        ("long", doc! { "rooms": ["x", long.as_str()], "except": [long.as_str()] }),
    ] {
        insert(3, doc! { "opts": opts, "packet": { "type": 2, "data": [name], "nsp": "/" } }).await;
    }
    insert(4, doc! { "opts": { "rooms": [], "flags": [] }, "rooms": ["joined", long.as_str()] }).await;
    joined(&node, "joined").await;
    socket.got(&["arrays", "texts", "null", "nothing", "long"]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_notifications_are_taken_as_by_node_js() {
    let postgres = Postgres::start().await.unwrap();
    let node = join(trunkline::connect(postgres.url()).await.unwrap()).await;
    let socket = node.socket(["x"]).await.unwrap();
    let notify = async |kind: u8, data: &str| {
        let notification = format!(r#"{{"uid":"emitter","nsp":"/","type":{kind},"data":{{{data}}}}}"#);
        postgres.sql(&format!("SELECT pg_notify('socket.io#/', '{notification}')")).await.unwrap();
    };
    let long = "y".repeat(5000);
    let rooms = format!(r#"{{"rooms":["x","{long}"]}}"#);
    for (name, opts) in [
        ("arrays", r#"{"rooms":[],"except":[],"flags":[]}"#),
        ("texts", r#"{"rooms":"","except":"","flags":""}"#),
        ("null", r#"{"rooms":null}"#),
        ("nothing", "{}"),
        ("array", "[]"),
        ("long", rooms.as_str()),
    ] {
        notify(3, &format!(r#""opts":{opts},"packet":{{"type":2,"data":["{name}"],"nsp":"/"}}"#)).await;
    }
    notify(4, &format!(r#""opts":{{"rooms":[],"flags":[]}},"rooms":["joined","{long}"]"#)).await;
    joined(&node, "joined").await;
    socket.got(&["arrays", "texts", "null", "nothing", "array", "long"]).unwrap();
}

/// Closes an emitter whose broker was killed under it. Returns what is wrong with what it is told.
async fn close_without_broker(dialect: &Dialect) -> Option<String> {
    let server = Server::start(dialect, false).await.unwrap();
    let url = dialect.url(false, &format!("{}:{}", USER.0, USER.1), &server.address(), "", "");
    let emitter = Emitter::new(&trunkline::connect(&url).await.expect(&url));
    let event = || Payload::event("event", &(1,)).unwrap();
    emitter.emit(Target::all(), event()).await.unwrap();
    emitter.flush().await.unwrap();
    server.broker().kill().await.unwrap();
    emitter.emit(Target::all(), event()).await.unwrap();
    let begun = Instant::now();
    let error = emitter.close().await.err();
    let (text, took) = (format!("{}: {error:?}", dialect.name), begun.elapsed());
    println!("{text}, after {took:?}");
    let is_right = error.is_some_and(|error| {
        let says_how_much = ["message waits", "messages wait", "unconfirmed"].iter().any(|it| text.contains(it));
        matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Timeout) && says_how_much
    });
    (!is_right || took > Duration::from_secs(30)).then_some(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_without_a_broker_says_in_time_what_is_left() {
    let [a, b, c, d, e] = &DIALECTS;
    let told = tokio::join!(
        close_without_broker(a),
        close_without_broker(b),
        close_without_broker(c),
        close_without_broker(d),
        close_without_broker(e)
    );
    let faults: Vec<_> = [told.0, told.1, told.2, told.3, told.4].into_iter().flatten().collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
