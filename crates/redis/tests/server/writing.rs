//! What is on its way to the server, and what waits for its answer.

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
    for event in ["one", "second", "third", "fourth"] {
        scene.emit(event).await;
    }
    scene.expect(&["one", "second"]).await;
    scene.expect_no_more().await;
    scene.proxy.refuse();
    scene.proxy.cut();
    until("all connections are cut", async || scene.proxy.connections() == 0).await;
    scene.proxy.resume();
    scene.expect(&["one", "second", "third", "fourth"]).await;
    scene.expect_no_more().await;
}
