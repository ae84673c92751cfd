//! What is on its way to the server, and what waits for its answer.

use std::{sync::Arc, thread};

use futures_util::FutureExt;
use tokio::time::timeout;
use trunkline_brokers::{Proxy, Redis};
use trunkline_core::{Backend, Emitter, Payload, Target};

use crate::{
    support::{PATIENCE, Wire, backend, server, until},
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
async fn what_follows_a_lone_message_does_not_wait_for_its_answer() {
    let mut scene = Scene::new().await;
    scene.proxy.mute();
    scene.emit("lone").await;
    scene.expect(&["lone"]).await;
    scene.emit("second").await;
    scene.expect(&["second"]).await;
    // From here on a batch forms.
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
    for event in ["lone", "second", "third", "fourth"] {
        scene.emit(event).await;
    }
    scene.expect(&["lone", "second"]).await;
    scene.expect_no_more().await;
    scene.proxy.refuse();
    scene.proxy.cut();
    until("all connections are cut", async || scene.proxy.connections() == 0).await;
    scene.proxy.resume();
    scene.expect(&["lone", "second", "third", "fourth"]).await;
    scene.expect_no_more().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_sockets_wait_for_the_answer_of_a_server_on_this_machine_but_not_for_long() {
    let mut scene = Scene::new().await;
    let transport = Arc::clone(&scene.backend.transport);
    scene.proxy.mute();
    scene.emit("lone").await;
    scene.expect(&["lone"]).await;
    let mut stepping_aside = transport.step_aside().expect("the server is near, and it is the first time");
    assert!((&mut stepping_aside).now_or_never().is_none(), "nothing was answered");
    timeout(PATIENCE, stepping_aside).await.expect("it takes too long");
    assert!(transport.health().queued_bytes > 0, "it was answered");
    scene.proxy.resume();
    until("it is answered", async || transport.health().queued_bytes == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_answer_outside_of_the_runtime_with_its_timers() {
    let scene = Scene::new().await;
    let transport = Arc::clone(&scene.backend.transport);
    assert!(thread::spawn(move || transport.step_aside().is_none()).join().unwrap());
    until("it would have here", async || scene.backend.transport.step_aside().is_some()).await;
}
