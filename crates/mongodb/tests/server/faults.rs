//! Servers that are killed, frozen, stepped down, read-only or full, and collections that are dropped.

use std::time::Duration;

use mongodb::bson::{Bson, doc};
use tokio::time::{sleep, timeout};
use trunkline_brokers::{MongoDb as Server, Proxy};
use trunkline_core::{ErrorKind, GapCause, Offset, model::Delivery};

use crate::{
    proxy::{InsertProxy, Inserts},
    support::{
        DATABASE, TIMEOUT, TestNode, admin, client, config, config_under_load, documents, is_connected, is_gap,
        is_lost, set_failpoint, unique_name, until,
    },
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
async fn nothing_is_lost_or_repeated_when_connections_are_reset_again_and_again() {
    const ROUNDS: usize = 12;
    let server = Server::start().await.unwrap();
    let port = server.url().strip_prefix("mongodb://127.0.0.1:").unwrap().split('/').next().unwrap().parse().unwrap();
    let proxy = Proxy::start(port).await.unwrap();
    let behind = format!("mongodb://127.0.0.1:{}/?directConnection=true", proxy.port());
    let mut a = TestNode::join(config(&behind, "")).await;
    let mut b = TestNode::join(config(server.url(), "")).await;
    let mut emitted = 0;
    for round in 0..ROUNDS {
        for _ in 0..20 {
            a.emit(emitted).await.unwrap();
            emitted += 1;
        }
        // What comes next meets a connection anew: the commands that resume, and those by which they are tried again.
        for reset in 0..1 + round % 5 {
            let accepted = proxy.accepted();
            proxy.cut();
            for _ in 0..20 {
                a.emit(emitted).await.unwrap();
                emitted += 1;
            }
            if reset % 2 == 0 {
                timeout(TIMEOUT, proxy.await_accepted(accepted + 1)).await.unwrap();
            }
        }
        // With the traffic of every second round it goes on while the stream is not yet back.
        if round % 2 == 0 {
            until("the connections are back", async || a.backend.transport.health().connected).await;
        }
    }
    a.expect(0..emitted).await;
    b.expect(0..emitted).await;
    // A repeat would come before it.
    a.emit(emitted).await.unwrap();
    a.expect(emitted..=emitted).await;
    b.expect(emitted..=emitted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_waited_for_long_is_in_the_replay_of_what_came_after_it() {
    for kind in ["capped_bytes=1MiB", "ttl=1h"] {
        let server = Server::start().await.unwrap();
        let proxy = InsertProxy::start(&server).await;
        let mut a = TestNode::join(config_under_load(proxy.url(), kind)).await;
        let mut b = TestNode::join(config(server.url(), kind)).await;
        proxy.set(Inserts::CacheFull);
        for number in 0..3 {
            a.emit(number).await.unwrap();
        }
        a.find(is_lost).await;
        sleep(Duration::from_secs(22)).await;
        b.emit(3).await.unwrap();
        let (number, before) = a.number().await;
        assert_eq!(number, 3);
        proxy.set(Inserts::Pass);
        for number in 0..3 {
            let (stored, offset) = a.number().await;
            assert_eq!(stored, number);
            // A replay looks for ids that are not much older than that of the message before.
            let seconds = |offset: &Option<Offset>| u64::from_str_radix(&offset.as_ref().unwrap().as_str()[..8], 16);
            assert!(seconds(&offset).unwrap() >= seconds(&before).unwrap(), "{offset:?} {before:?}");
        }
        assert_eq!(a.metrics.snapshot().publish_errors, 0);
        b.expect([3, 0, 1, 2]).await;
        let missed = b.history().replay(&b.node, &before.unwrap(), &[]).await.unwrap();
        assert_eq!(missed.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_held_while_writes_are_locked() {
    let server = Server::start().await.unwrap();
    let (mut a, mut b) =
        (TestNode::join(config(server.url(), "")).await, TestNode::join(config(server.url(), "")).await);
    admin(&server, doc! { "fsync": 1, "lock": true }).await;
    for number in 0..50 {
        a.emit(number).await.unwrap();
    }
    a.find(is_lost).await;
    admin(&server, doc! { "fsyncUnlock": 1 }).await;
    a.expect(0..50).await;
    b.expect(0..50).await;
    a.emit(50).await.unwrap();
    a.expect(50..51).await;
    b.expect(50..51).await;
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
async fn a_collection_of_a_dropped_database_is_created_again_as_it_was() {
    let server = Server::start().await.unwrap();
    let parameters = "collection=c&capped_bytes=1MiB";
    let mut a = TestNode::join(config(server.url(), parameters)).await;
    let mut b = TestNode::join(config(server.url(), parameters)).await;
    client(server.url()).await.database(DATABASE).drop().await.unwrap();
    for node in [&mut a, &mut b] {
        node.find(is_gap).await;
    }
    for number in 0..20 {
        a.emit(number).await.unwrap();
    }
    for node in [&mut a, &mut b] {
        for number in 0..20 {
            let next =
                node.find(|it| is_gap(it) || matches!(it, Delivery::Message { .. } | Delivery::Stored { .. })).await;
            assert!(!is_gap(&next), "a second gap before {number}");
        }
    }
    let found = client(server.url()).await.database(DATABASE).list_collections().filter(doc! { "name": "c" }).await;
    let mut found = found.unwrap();
    assert!(found.advance().await.unwrap());
    assert_eq!(found.deserialize_current().unwrap().options.capped, Some(true));
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
