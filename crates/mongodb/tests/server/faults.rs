//! Servers that are killed, frozen, stepped down, read-only or full, and collections that are dropped.

use std::time::Duration;

use mongodb::bson::{Bson, doc};
use tokio::time::timeout;
use trunkline_brokers::MongoDb as Server;
use trunkline_core::{ErrorKind, GapCause, model::Delivery};

use crate::support::{
    DATABASE, TIMEOUT, TestNode, admin, client, config, documents, is_connected, is_gap, is_lost, set_failpoint,
    unique_name, until,
};

/// A server with failpoints.
async fn server_with_failpoints() -> Server {
    Server::options().arguments(&["--setParameter", "enableTestCommands=1"]).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_server_is_killed_and_restarted() {
    let server = Server::start().await.unwrap();
    let (mut a, mut b) =
        (TestNode::join(config(server.url(), "")).await, TestNode::join(config(server.url(), "")).await);
    for number in 0..100 {
        a.emit(number).await.unwrap();
    }
    server.kill().await.unwrap();
    for number in 100..200 {
        a.emit(number).await.unwrap();
    }
    for node in [&a, &b] {
        until("the loss is noticed", async || !node.backend.transport.health().connected).await;
    }
    server.restart().await.unwrap();
    for number in 200..300 {
        a.emit(number).await.unwrap();
    }
    a.expect(0..300).await;
    b.expect(0..300).await;
    assert!(a.metrics.snapshot().reconnects > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_primary_steps_down() {
    let server = Server::start().await.unwrap();
    let (mut a, mut b) =
        (TestNode::join(config(server.url(), "")).await, TestNode::join(config(server.url(), "")).await);
    a.emit(0).await.unwrap();
    b.expect(0..1).await;
    let admin = client(server.url()).await;
    // The answer may get lost: the server closes connections.
    let _ = admin.database("admin").run_command(doc! { "replSetStepDown": 1, "force": true }).await;
    for number in 1..200 {
        a.emit(number).await.unwrap();
    }
    b.expect(1..200).await;
    a.expect(0..200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_change_stream_is_killed() {
    let url = Server::shared().await.unwrap();
    let name = unique_name();
    let parameters = format!("collection={name}");
    let (a, mut b) = (TestNode::join(config(&url, &parameters)).await, TestNode::join(config(&url, &parameters)).await);
    let admin = client(&url).await.database("admin");
    let mut killed = 0;
    let mut number = 0;
    while killed < 3 {
        let filter = doc! { "$match": { "op": "getmore", "ns": format!("{DATABASE}.{name}") } };
        let pipeline = [Bson::from(doc! { "$currentOp": {} }), filter.into()];
        let command = doc! { "aggregate": 1, "pipeline": pipeline.to_vec(), "cursor": {} };
        let found = admin.run_command(command).await.unwrap();
        let operations = found.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
        for operation in operations {
            let operation = operation.as_document().unwrap().get("opid").unwrap().clone();
            admin.run_command(doc! { "killOp": 1, "op": operation }).await.unwrap();
            killed += 1;
        }
        a.emit(number).await.unwrap();
        b.expect(number..=number).await;
        number += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_hangs_while_the_server_is_frozen() {
    let server = Server::start().await.unwrap();
    let (mut a, mut b) =
        (TestNode::join(config(server.url(), "")).await, TestNode::join(config(server.url(), "")).await);
    a.emit(0).await.unwrap();
    a.expect(0..1).await;
    b.expect(0..1).await;
    server.freeze().unwrap();
    for number in 1..100 {
        a.emit(number).await.unwrap();
    }
    a.find(is_lost).await;
    b.find(is_lost).await;
    for number in 100..200 {
        a.emit(number).await.unwrap();
    }
    server.thaw().unwrap();
    a.expect(1..200).await;
    b.expect(1..200).await;
    assert!(a.backend.transport.health().connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_holds_messages_until_there_is_space() {
    const OUT_OF_DISK_SPACE: i32 = 14031;
    let server = server_with_failpoints().await;
    let (mut a, mut b) =
        (TestNode::join(config(server.url(), "")).await, TestNode::join(config(server.url(), "")).await);
    set_failpoint(&server, "alwaysOn", "insert", OUT_OF_DISK_SPACE).await;
    for number in 0..50 {
        a.emit(number).await.unwrap();
    }
    let Delivery::Lost(reason) = a.find(is_lost).await else { unreachable!() };
    assert!(reason.contains("14031"), "{reason}");
    set_failpoint(&server, "off", "insert", OUT_OF_DISK_SPACE).await;
    a.find(is_connected).await;
    b.expect(0..50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_to_a_read_only_server_fills_the_queue_and_then_fails_at_once() {
    let server = Server::start().await.unwrap();
    let mut a = TestNode::join(config(server.url(), "outbox_bytes=1MiB")).await;
    let mut b = TestNode::join(config(server.url(), "")).await;
    admin(&server, doc! { "setUserWriteBlockMode": 1, "global": true }).await;
    a.emit(0).await.unwrap();
    a.find(is_lost).await;
    let mut held = 1;
    let refusal = loop {
        match a.emit_bytes(held, 100_000).await {
            Ok(()) => held += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refusal.kind(), ErrorKind::QueueFull);
    assert!(held > 5, "{held}");
    admin(&server, doc! { "setUserWriteBlockMode": 1, "global": false }).await;
    b.expect(0..held).await;
    a.find(is_connected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_collection_is_created_again_and_every_node_reports_a_gap() {
    let url = Server::shared().await.unwrap();
    for parameters in ["capped_bytes=1MiB", "ttl=1h"] {
        let name = unique_name();
        let parameters = format!("collection={name}&{parameters}");
        let (mut a, mut b) =
            (TestNode::join(config(&url, &parameters)).await, TestNode::join(config(&url, &parameters)).await);
        a.emit(0).await.unwrap();
        b.expect(0..1).await;
        documents(&url, &name).await.drop().await.unwrap();
        // Inserts at the same time create an ordinary collection.
        for number in 1..20 {
            a.emit(number).await.unwrap();
        }
        b.expect(1..20).await;
        a.find(is_gap).await;
        TestNode::join(config(&url, &parameters)).await.emit(20).await.unwrap();
        b.expect(20..21).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_collection_is_created_again_and_every_node_reports_a_gap() {
    let url = Server::shared().await.unwrap();
    let name = unique_name();
    let parameters = format!("collection={name}&capped_bytes=1MiB");
    let (a, mut b) = (TestNode::join(config(&url, &parameters)).await, TestNode::join(config(&url, &parameters)).await);
    let (from, to) = (format!("{DATABASE}.{name}"), format!("{DATABASE}.{name}old"));
    let rename = doc! { "renameCollection": from, "to": to };
    client(&url).await.database("admin").run_command(rename).await.unwrap();
    b.find(is_gap).await;
    a.emit(1).await.unwrap();
    b.expect(1..2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_point_that_the_oplog_has_lost_becomes_a_gap() {
    const CHANGE_STREAM_HISTORY_LOST: i32 = 286;
    let server = server_with_failpoints().await;
    let (a, mut b) = (TestNode::join(config(server.url(), "")).await, TestNode::join(config(server.url(), "")).await);
    a.emit(0).await.unwrap();
    b.expect(0..1).await;
    // Both nodes get the error, more than once.
    set_failpoint(&server, "alwaysOn", "getMore", CHANGE_STREAM_HISTORY_LOST).await;
    let Delivery::Gap(gap) = b.find(is_gap).await else { unreachable!() };
    assert_eq!((gap.cause, gap.missed), (GapCause::Trimmed, None));
    set_failpoint(&server, "off", "getMore", CHANGE_STREAM_HISTORY_LOST).await;
    // Messages sent before the stream is open again belong to the gap.
    let arrived = async {
        loop {
            a.emit(1).await.unwrap();
            if timeout(Duration::from_millis(500), b.expect(1..2)).await.is_ok() {
                return;
            }
        }
    };
    timeout(TIMEOUT, arrived).await.expect("the stream comes back");
}
