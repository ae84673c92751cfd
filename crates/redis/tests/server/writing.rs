//! What is on its way to the server, and what waits for its answer.

use std::time::Duration;

use tokio::time::interval;
use trunkline_brokers::{Proxy, Redis};
use trunkline_core::{Backend, Emitter, Payload, Target};

use crate::{
    support::{Wire, backend, server, until},
    tap::Tap,
};

/// An emitter whose answers can be held back, and what the server gets from it.
struct Scene {
    proxy: Proxy,
    backend: Backend,
    emitter: Emitter,
    tap: Tap,
    _server: Redis,
}

impl Scene {
    async fn new() -> Self {
        let server = server().await;
        let proxy = Proxy::start(server.port()).await.unwrap();
        let backend = backend(Wire::PubSub, &proxy.url(server.url()), "response_timeout=20s").await.unwrap();
        let emitter = Emitter::new(&backend);
        let tap = Tap::new(server.url(), "PSUBSCRIBE", &["socket.io#*".to_owned(), "marker".to_owned()]).await;
        let mut scene = Self { proxy, backend, emitter, tap, _server: server };
        scene.emit("first").await;
        scene.expect(&["first"]).await;
        until("it is answered", async || scene.backend.transport.health().queued_bytes == 0).await;
        scene
    }

    async fn emit(&self, event: &str) {
        self.emitter.emit(Target::all(), Payload::event(event, &()).unwrap()).await.unwrap();
    }

    async fn expect(&mut self, events: &[&str]) {
        for event in events {
            let (_, message) = self.tap.next(event).await;
            let message = message.escape_ascii().to_string();
            assert!(message.contains(event), "{event}: {message}");
        }
    }

    /// Nothing else has arrived.
    async fn expect_no_more(&mut self) {
        redis::cmd("PUBLISH").arg("marker").arg("a marker").exec_async(&mut self.tap.commands).await.unwrap();
        self.expect(&["a marker"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_one_message_does_not_wait_for_its_answer() {
    let mut scene = Scene::new().await;
    scene.proxy.mute();
    scene.emit("one").await;
    scene.expect(&["one"]).await;
    scene.emit("second").await;
    scene.expect(&["second"]).await;
    // Two writes are unconfirmed: from here on a batch forms.
    scene.emit("third").await;
    scene.emit("fourth").await;
    scene.expect_no_more().await;
    scene.proxy.resume();
    scene.expect(&["third", "fourth"]).await;
    scene.expect_no_more().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_answered_when_the_connection_broke_is_written_again_in_order() {
    let mut scene = Scene::new().await;
    scene.proxy.mute();
    for event in ["one", "second"] {
        scene.emit(event).await;
        scene.expect(&[event]).await;
    }
    scene.emit("third").await;
    scene.emit("fourth").await;
    scene.expect_no_more().await;
    scene.proxy.refuse();
    scene.proxy.cut();
    until("all connections are cut", async || scene.proxy.connections() == 0).await;
    scene.proxy.resume();
    scene.expect(&["one", "second", "third", "fourth"]).await;
    scene.expect_no_more().await;
}

/// How many commands the server has got since it was started, and in how many reads.
async fn commands_and_reads(server: &Redis) -> (u64, u64) {
    let stats = server.cli(&["INFO", "stats"]).await.unwrap();
    let field = |name: &str| stats.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    (field("total_commands_processed:").unwrap(), field("total_reads_processed:").unwrap())
}

/// Waits until everything that `backend` has published is answered. Returns how many commands came in how many reads
/// since `before`.
async fn published_since(server: &Redis, backend: &Backend, before: (u64, u64)) -> (u64, u64) {
    until("it is answered", async || backend.transport.health().queued_bytes == 0).await;
    let after = commands_and_reads(server).await;
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_many_messages_share_a_write() {
    const COUNT: u64 = 20_000;
    let server = server().await;
    let backend = backend(Wire::PubSub, server.url(), "").await.unwrap();
    let emitter = Emitter::new(&backend);
    let before = commands_and_reads(&server).await;
    for number in 0..COUNT {
        emitter.emit(Target::room("r"), Payload::event("n", &number).unwrap()).await.unwrap();
    }
    let (commands, reads) = published_since(&server, &backend, before).await;
    assert!(commands >= COUNT && reads * 10 <= commands, "{commands} commands in {reads} reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_two_writes_are_unconfirmed_one_batch_grows() {
    const TICKS: u64 = 200;
    const EACH: u64 = 10;
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let backend = backend(Wire::PubSub, &proxy.url(server.url()), "").await.unwrap();
    let emitter = Emitter::new(&backend);
    emitter.emit(Target::all(), Payload::event("first", &()).unwrap()).await.unwrap();
    let before = published_since(&server, &backend, (0, 0)).await;
    proxy.delay(Duration::from_millis(20));
    let mut pace = interval(Duration::from_millis(1));
    for _ in 0..TICKS {
        pace.tick().await;
        for number in 0..EACH {
            emitter.emit(Target::room("r"), Payload::event("n", &number).unwrap()).await.unwrap();
        }
    }
    // Without a window each tick would be a write: ten commands in a read.
    let (commands, reads) = published_since(&server, &backend, before).await;
    assert!(commands >= TICKS * EACH && reads * 30 <= commands, "{commands} commands in {reads} reads");
}
