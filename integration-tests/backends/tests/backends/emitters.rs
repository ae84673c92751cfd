//! Emitters: what those of other languages write, on the backends whose wire has documents or rows (crates/redis has the
//! same for Redis), and what one is told whose broker is gone.

use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, doc};
use tokio::task::JoinSet;
use trunkline::{Emitter, Payload, Room, Target};
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

/// The rooms of the one socket in a room, sorted, without its own and the very long one.
async fn short_rooms(node: &TestNode, room: &str) -> Vec<Room> {
    let sockets = node.fetch_sockets(Target::room(room).local()).await.unwrap();
    let [socket] = &sockets[..] else { panic!("{sockets:?}") };
    let is_short = |room: &&Room| **room != Room::from(socket.id.as_str()) && format!("{room:?}").len() < 1000;
    let mut rooms: Vec<_> = socket.rooms.iter().filter(is_short).cloned().collect();
    rooms.sort_unstable();
    rooms
}

fn rooms_of(names: &[&str]) -> Vec<Room> {
    names.iter().map(|name| Room::from(*name)).collect()
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
    insert(4, doc! { "opts": { "rooms": [], "flags": [] }, "rooms": ["joined", long.as_str(), 7] }).await;
    joined(&node, "joined").await;
    let outside = node.socket(["outside"]).await.unwrap();
    insert(5, doc! { "opts": [], "rooms": ["joined"] }).await;
    insert(5, doc! { "opts": { "rooms": "", "except": "", "flags": "" }, "rooms": [7] }).await;
    insert(4, doc! { "opts": { "rooms": "x", "except": Bson::Null, "flags": Bson::Null }, "rooms": ["last"] }).await;
    joined(&node, "last").await;
    assert_eq!(short_rooms(&node, "x").await, rooms_of(&["last", "x"]));
    insert(6, doc! { "opts": { "rooms": [], "except": "x", "flags": [] }, "close": 1 }).await;
    assert!(outside.wait_for_disconnect().await.unwrap(), "its connection is closed");
    insert(6, doc! { "opts": { "rooms": "", "flags": "" }, "close": "" }).await;
    assert!(!socket.wait_for_disconnect().await.unwrap(), "its connection stays");
    assert_eq!(node.metrics().malformed, 0);
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
    notify(4, &format!(r#""opts":{{"rooms":[],"flags":[]}},"rooms":["joined","{long}",7]"#)).await;
    joined(&node, "joined").await;
    let outside = node.socket(["outside"]).await.unwrap();
    notify(5, r#""opts":[],"rooms":["joined"]"#).await;
    notify(5, r#""opts":{"rooms":"","except":"","flags":""},"rooms":[7]"#).await;
    notify(4, r#""opts":{"rooms":"x","except":null,"flags":null},"rooms":["last"]"#).await;
    joined(&node, "last").await;
    assert_eq!(short_rooms(&node, "x").await, rooms_of(&["last", "x"]));
    notify(6, r#""opts":{"rooms":[],"except":"x","flags":[]},"close":1"#).await;
    assert!(outside.wait_for_disconnect().await.unwrap(), "its connection is closed");
    notify(6, r#""opts":{"rooms":"","flags":""},"close":"""#).await;
    assert!(!socket.wait_for_disconnect().await.unwrap(), "its connection stays");
    assert_eq!(node.metrics().malformed, 0);
    socket.got(&["arrays", "texts", "null", "nothing", "array", "long"]).unwrap();
}

/// How a broker vanishes.
#[derive(Clone, Copy, Debug)]
enum Vanishing {
    Killed,
    /// Its connections stand.
    Frozen,
}

/// Flushes and closes an emitter whose broker has vanished. Returns what is wrong with what it is told.
async fn close_without_broker(dialect: &Dialect, how: Vanishing) -> Vec<String> {
    let server = Server::start(dialect, false).await.unwrap();
    let url = dialect.url(false, &format!("{}:{}", USER.0, USER.1), &server.address(), "", "");
    let emitter = Emitter::new(&trunkline::connect(&url).await.expect(&url));
    emit(&emitter).await;
    emitter.flush().await.unwrap();
    match how {
        Vanishing::Killed => server.broker().kill().await.unwrap(),
        Vanishing::Frozen => server.broker().freeze().unwrap(),
    }
    let mut begun = Instant::now();
    let mut told = Ok(());
    for _ in 0..MAX_TAKEN {
        begun = Instant::now();
        emit(&emitter).await;
        told = emitter.flush().await;
        if told.is_err() {
            break;
        }
    }
    let mut faults = Vec::from_iter(fault(&format!("{}, {how:?}, flush", dialect.name), told, begun));
    begun = Instant::now();
    let told = emitter.close().await;
    faults.extend(fault(&format!("{}, {how:?}, close", dialect.name), told, begun));
    if let Vanishing::Frozen = how {
        server.broker().thaw().unwrap();
    }
    faults
}

/// Messages that a process of PostgreSQL may still take when its server has been killed.
const MAX_TAKEN: usize = 1000;

async fn emit(emitter: &Emitter) {
    emitter.emit(Target::all(), Payload::event("event", &(1,)).unwrap()).await.unwrap();
}

/// What is wrong with what is told of a broker that is gone.
fn fault(what: &str, told: trunkline::Result<()>, begun: Instant) -> Option<String> {
    let (text, took) = (format!("{what}: {:?}", told.err()), begun.elapsed());
    println!("{text}, after {took:?}");
    let is_kind = ["Disconnected", "Timeout"].iter().any(|kind| text.contains(kind));
    let says_how_much = ["message waits", "messages wait", "unconfirmed"].iter().any(|it| text.contains(it));
    (!is_kind || !says_how_much || took > FLUSH_LIMIT).then_some(text)
}

/// The 5 s of [`Emitter::flush`], what closing takes, and what a busy machine adds.
const FLUSH_LIMIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn flushing_and_closing_without_a_broker_says_in_time_what_is_left() {
    let cases = DIALECTS.iter().flat_map(|dialect| [(dialect, Vanishing::Killed), (dialect, Vanishing::Frozen)]);
    let mut told = JoinSet::new();
    for (dialect, how) in cases {
        told.spawn(close_without_broker(dialect, how));
    }
    let faults: Vec<_> = told.join_all().await.into_iter().flatten().collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
