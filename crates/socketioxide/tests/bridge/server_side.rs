//! Events between the servers themselves.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::mpsc;
use trunkline_core::{Emitter, ErrorKind, NodeId, Payload};
use trunkline_socketioxide::ServerSideEvent;

use crate::kit::{Options, Server, event, pair, servers, within};

const LONG: Option<Duration> = Some(Duration::from_secs(3600));

#[tokio::test]
async fn an_event_reaches_the_other_servers_and_not_the_sender() {
    let options = Options::new();
    let [a, b, c] = servers([options.again(), options.again(), options]).await;
    let (heard, mut events) = mpsc::unbounded_channel();
    for (name, server) in [("a", &a), ("b", &b), ("c", &c)] {
        let heard = heard.clone();
        server.cluster.on_server_side_event("/", "tick", move |event: ServerSideEvent| {
            heard.send((name, event.from.clone(), event.arguments::<(i32, String)>().unwrap())).unwrap();
            async {}
        });
    }
    a.root().server_side_emit("tick", &(1, "x")).await.unwrap();
    let mut got = [within(events.recv()).await.unwrap(), within(events.recv()).await.unwrap()];
    got.sort();
    let from = a.root().node().id.clone();
    assert_eq!(got, [("b", from.clone(), (1, "x".to_owned())), ("c", from, (1, "x".to_owned()))]);
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn every_other_server_answers_a_server_side_event_and_one_without_a_handler_at_once() {
    let options = Options::new();
    let [a, b, c] = servers([options.again(), options.again(), options]).await;
    b.root().on_server_side_event("sum", |event: ServerSideEvent| async move {
        let (x, y): (i32, i32) = event.arguments().unwrap();
        tokio::task::yield_now().await;
        Payload::value(&(x + y))
    });
    let mut answers = a.root().server_side_emit_with_ack::<_, i32>("sum", &(1, 2), LONG).await.unwrap();
    answers.sort();
    assert_eq!(answers, [None, Some(3)]);
    drop(c);
}

#[tokio::test]
async fn binary_travels_both_ways() {
    let [a, b] = pair().await;
    let picture = bytes::Bytes::from_static(&[0, 255]);
    b.root().on_server_side_event("picture", |event: ServerSideEvent| async move {
        let (picture, _): (bytes::Bytes, i32) = event.arguments().unwrap();
        Payload::value(&picture)
    });
    let answers = a.root().server_side_emit_with_ack::<_, bytes::Bytes>("picture", &(&picture, 1), LONG).await;
    assert_eq!(answers.unwrap(), [Some(picture)]);
}

#[tokio::test]
async fn a_node_whose_handler_takes_too_long_is_reported_as_missing() {
    let [a, b] = pair().await;
    b.root().on_server_side_event("slow", |_: ServerSideEvent| std::future::pending::<()>());
    let short = Some(Duration::from_millis(100));
    let error = a.root().server_side_emit_with_ack::<_, ()>("slow", &(), short).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.incomplete().unwrap().missing, [b.root().node().id.clone()]);
}

#[tokio::test]
async fn handlers_are_registered_before_the_namespace_is_opened_and_stay_when_it_is_closed() {
    let [a, b] = pair().await;
    let seen = Arc::new(Mutex::new(0));
    let counting = Arc::clone(&seen);
    b.cluster.on_server_side_event("/later", "tick", move |_: ServerSideEvent| {
        *counting.lock().unwrap() += 1;
        async { Payload::value(&"here") }
    });
    a.io.ns("/later", async || {}).await.unwrap();
    for round in 1..=2 {
        b.io.ns("/later", async || {}).await.unwrap();
        let handle = a.cluster.of("/later").unwrap();
        handle.await_peers(1, Duration::from_secs(20)).await.unwrap();
        let answers = handle.server_side_emit_with_ack::<_, String>("tick", &(), LONG).await.unwrap();
        assert_eq!(answers, [Some("here".to_owned())]);
        assert_eq!(*seen.lock().unwrap(), round);
        let closing = b.cluster.of("/later").unwrap();
        b.io.delete_ns("/later");
        within(closing.closed()).await;
        while !handle.peers().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn an_emitter_reaches_all_servers() {
    let options = Options::new();
    let emitter = Emitter::new(&options.backend);
    let server = Server::start(options).await;
    let (heard, mut events) = mpsc::unbounded_channel();
    server.root().on_server_side_event("job", move |event: ServerSideEvent| {
        heard.send(event).unwrap();
        async {}
    });
    emitter.server_side_emit(event("job", 7)).await.unwrap();
    let event = within(events.recv()).await.unwrap();
    assert_eq!((event.from.clone(), event.arguments::<(i32,)>().unwrap()), (NodeId::EMITTER, (7,)));
}
