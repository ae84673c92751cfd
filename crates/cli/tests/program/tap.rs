//! `tap`.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::time::interval;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
};
use trunkline::{Payload, Room, Target};
use trunkline_brokers::{Proxy, Redis};
use trunkline_conformance::kit::{Failure, check, check_eq};

use crate::support::{Wire, cluster, over_all, run, with};

/// A running `tap`, whose subscription is there.
struct Tap {
    program: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _errors: Lines<BufReader<ChildStderr>>,
}

impl Tap {
    async fn start(url: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
        // It ends by itself if what is waited for does not come.
        command.args(["tap", "--for", "20s"]).args(arguments).env("TRUNKLINE_BROKER", url).kill_on_drop(true);
        let mut program = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let mut errors = BufReader::new(program.stderr.take().unwrap()).lines();
        let begins = errors.next_line().await.unwrap().unwrap_or_default();
        assert!(begins.starts_with("listening on "), "{begins}");
        Self { program, lines, _errors: errors }
    }

    async fn line(&mut self) -> String {
        self.lines.next_line().await.unwrap().unwrap_or_default()
    }

    async fn json(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    async fn ends(mut self, code: i32) -> String {
        let mut rest = String::new();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            rest.push_str(&line);
            rest.push('\n');
        }
        assert_eq!(self.program.wait().await.unwrap().code(), Some(code), "{rest}");
        rest
    }
}

over_all!(the_traffic_is_shown);

async fn the_traffic_is_shown(wire: Wire) -> Result<(), Failure> {
    let url = wire.url("tap").await;
    let cluster = cluster(&url);
    let [a, b] = cluster.nodes().await?;
    let socket = b.socket(["lobby"]).await?;
    let types = ["-t", "broadcast", "-t", "join", "-t", "disconnect", "-t", "server-emit"];
    let mut tap =
        Tap::start(&url, &[&["--jsonl", "--payload", "--room", "lobby", "--count", "3"][..], &types].concat()).await;
    let mut all = Tap::start(&url, &[&["--event", "news", "--count", "2"][..], &types[..2]].concat()).await;

    a.emit(Target::room("lobby").except("muted"), "news").await?;
    a.emit(Target::all(), "news").await?;
    a.sockets_join(Target::room("lobby"), vec![Room::new("vip")]).await?;
    a.server_side_emit(Payload::event("reload", &(7,)).unwrap()).await?;
    a.disconnect_sockets(Target::room("lobby"), false).await?;
    socket.wait_for(2).await?;

    let shown = tap.json().await;
    let expected =
        json!({ "type": "broadcast", "namespace": "/", "rooms": ["lobby"], "except": ["muted"], "event": "news" });
    for (name, value) in expected.as_object().unwrap() {
        check_eq(&shown[name], value, name)?;
    }
    check_eq(shown["sender"].as_str(), Some(a.id().as_str()), "sender")?;
    check_eq(shown["payload"][0].as_str(), Some("news"), "payload")?;
    check(shown["bytes"].as_u64() > Some(0) && shown["time"].is_string(), shown.to_string())?;
    check_eq(tap.json().await["note"].as_str(), Some("joins vip"), "the join")?;
    check_eq(tap.json().await["type"].as_str(), Some("disconnect"), "the disconnect")?;
    tap.ends(0).await;

    let line = all.line().await;
    let parts = [a.id().as_str(), "broadcast", "\"news\"", "to lobby", "except muted", " B"];
    check(parts.iter().all(|part| line.contains(part)) && !line.contains('\x1b'), &line)?;
    check(!all.line().await.contains(" to "), "the second one is for all")?;
    all.ends(0).await;

    // No node knows it, and no request waits for it.
    check_eq(a.peers().len(), 1, "peers")?;
    check_eq(a.fetch_sockets(Target::all()).await.map(|sockets| sockets.len()).ok(), Some(0), "requests are complete")
}

/// Interval of what is emitted until it is shown.
const TICK: std::time::Duration = std::time::Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_request_does_not_wait_for_it_where_the_broker_counts_it() -> Result<(), Failure> {
    let url = Wire::RedisPubSub.url("tap_counted").await;
    let [a, _b] = cluster(&url).nodes().await?;
    let mut tap = Tap::start(&url, &["--jsonl", "-t", "fetch-sockets", "--count", "1"]).await;
    check(a.fetch_sockets(Target::all()).await.is_ok(), "an answer is missing")?;
    check_eq(tap.json().await["type"].as_str(), Some("fetch-sockets"), "the request")?;
    tap.ends(0).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_counted_by_room_event_and_sender() -> Result<(), Failure> {
    let url = Wire::RedisStreams.url("tap_report").await;
    let [a] = cluster(&url).nodes().await?;
    let report = async |by| {
        let tap = Tap::start(&url, &["--json", "--report", by, "-t", "broadcast", "--count", "3"]).await;
        for (room, event) in [("x", "one"), ("x", "two"), ("y", "two")] {
            a.emit(Target::room(room), event).await?;
        }
        Ok::<_, Failure>(serde_json::from_str::<Value>(&tap.ends(0).await).unwrap())
    };
    let rooms = report("rooms").await?;
    check_eq(&rooms["rows"][0]["name"], &json!("x"), "the room with most messages")?;
    check_eq(&rooms["rows"][0]["messages"], &json!(2), "its messages")?;
    check_eq(&report("events").await?["rows"][0]["name"], &json!("two"), "events")?;
    let senders = report("senders").await?;
    check_eq(&senders["rows"][0]["name"], &json!(a.id().as_str()), "senders")?;
    check_eq(&senders["messages"], &json!(3), "all")?;
    let ran = run(&url, &["tap", "--report", "events", "--for", "100ms"]).await.ends(0);
    check(ran.out.contains("a second"), ran.out)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_missing_are_shown() -> Result<(), Failure> {
    let server = Redis::start().await.unwrap();
    let [a] = cluster(server.url()).nodes().await?;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let mut tap = Tap::start(&proxy.url(server.url()), &["--jsonl", "-t", "broadcast", "--count", "2"]).await;
    a.emit(Target::all(), "before").await?;
    check_eq(tap.json().await["event"].as_str(), Some("before"), "the first one")?;
    proxy.refuse();
    proxy.cut();
    let lost = tap.json().await;
    check_eq(lost["type"].as_str(), Some("gap"), &lost.to_string())?;
    a.emit(Target::all(), "meanwhile").await?;
    proxy.resume();
    // From when on it hears again is not told to it alone: until then each is missed.
    let mut ticks = interval(TICK);
    let last = loop {
        tokio::select! {
            line = tap.json() => if line["event"] == "after" { break line },
            _ = ticks.tick() => a.emit(Target::all(), "after").await?,
        }
    };
    check(last["number"].as_u64() > Some(2), last.to_string())?;
    tap.ends(1).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latency_is_measured() -> Result<(), Failure> {
    let url = Wire::Nats.url("tap_latency").await;
    let mut tap = Tap::start(&url, &["--jsonl", "--latency"]).await;
    let measured = tap.json().await;
    check_eq(measured["type"].as_str(), Some("latency"), &measured.to_string())?;
    check(measured["note"].as_str().unwrap().contains("through the broker and back"), measured.to_string())
}

/// Nodes that subscribe to their own rooms need not be asked: the pattern hears all of them, from the first message on.
#[tokio::test(flavor = "multi_thread")]
async fn all_rooms_are_heard_where_nodes_subscribe_to_their_own_on_classic_redis() -> Result<(), Failure> {
    let url = with(&Wire::RedisPubSub.url("tap_own_rooms").await, "subscription=rooms");
    let [a, b] = cluster(&url).nodes().await?;
    let mut tap = Tap::start(&url, &["--jsonl", "-t", "broadcast", "--count", "2"]).await;
    let _socket = b.socket(["lobby"]).await?;
    a.emit(Target::room("lobby"), "one").await?;
    a.emit(Target::room("without-members"), "two").await?;
    for (room, event) in [("lobby", "one"), ("without-members", "two")] {
        let line = tap.json().await;
        check_eq((line["rooms"][0].as_str(), line["event"].as_str()), (Some(room), Some(event)), &line.to_string())?;
    }
    tap.ends(0).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_with_channels_of_their_own_are_found() -> Result<(), Failure> {
    let url = with(&Wire::RedisSharded.url("tap_rooms").await, "subscription=dynamic");
    let [a, b] = cluster(&url).nodes().await?;
    let mut tap = Tap::start(&url, &["--jsonl", "-t", "broadcast", "--count", "1"]).await;
    let _socket = b.socket(["later"]).await?;
    let mut ticks = interval(TICK);
    let line = loop {
        tokio::select! {
            line = tap.json() => break line,
            _ = ticks.tick() => a.emit(Target::room("later"), "hello").await?,
        }
    };
    check_eq(line["rooms"][0].as_str(), Some("later"), "room")
}
