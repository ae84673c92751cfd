//! Publishing: batches, order, limits, refused and malformed documents.

use std::collections::HashSet;

use mongodb::bson::doc;
use trunkline_brokers::MongoDb as Server;
use trunkline_core::{Emitter, ErrorKind, Payload, Target, model::Delivery};

use crate::{
    proxy::{InsertProxy, Inserts},
    support::{TestNode, admin, config, config_under_load, documents, id, is_lost, unique_name},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_of_all_sizes_arrive_complete_and_in_order() {
    const COUNT: usize = 10_000;
    let url = Server::shared().await.unwrap();
    let config = config_under_load(&url, &format!("collection={}", unique_name()));
    let (a, mut b) = (TestNode::join(config.clone()).await, TestNode::join(config).await);
    let sender = tokio::spawn(async move {
        for number in 0..COUNT {
            let bytes = match number {
                _ if number % 500 == 499 => 1 << 20,
                _ if number % 20 == 19 => 20 << 10,
                _ => 100,
            };
            a.emit_bytes(number, bytes).await.unwrap();
        }
        a
    });
    b.expect(0..COUNT).await;
    sender.await.unwrap();
    assert_eq!(b.metrics.snapshot().inbox_overflow, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queued_messages_go_into_few_inserts_in_order() {
    const COUNT: usize = 5_000;
    let server = Server::start().await.unwrap();
    let mut a = TestNode::join(config(server.url(), "collection=c")).await;
    let before = inserts(&server).await;
    for number in 0..COUNT {
        a.emit(number).await.unwrap();
    }
    a.expect(0..COUNT).await;
    let commands = inserts(&server).await - before;
    assert!(commands < 500, "{commands}");
    let mut cursor =
        documents(server.url(), "c").await.find(doc! { "type": 3 }).sort(doc! { "$natural": 1 }).await.unwrap();
    let (mut last, mut count) = (None, 0);
    while cursor.advance().await.unwrap() {
        let id = cursor.deserialize_current().unwrap().get_object_id("_id").unwrap();
        assert!(last.is_none_or(|last| last < id), "ids grow in the order of insertion");
        (last, count) = (Some(id), count + 1);
    }
    assert_eq!(count, COUNT);
}

/// How many inserts the server has carried out.
async fn inserts(server: &Server) -> i64 {
    let status = admin(server, doc! { "serverStatus": 1 }).await;
    let commands = status.get_document("metrics").unwrap().get_document("commands").unwrap();
    commands.get_document("insert").unwrap().get_i64("total").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emitter_inserts_the_document_of_the_official_one() {
    let url = Server::shared().await.unwrap();
    let name = unique_name();
    let mut a = TestNode::join(config(&url, &format!("collection={name}"))).await;
    let emitter = Emitter::new(&a.backend);
    emitter.emit(Target::room("r"), Payload::event("n", &(1, "")).unwrap()).await.unwrap();
    let Delivery::Message { from, seq_no, .. } = a.find(|it| matches!(it, Delivery::Message { .. })).await else {
        unreachable!()
    };
    assert_eq!((from, seq_no), (Some(id("emitter")), None));
    let document = documents(&url, &name).await.find_one(doc! { "uid": "emitter" }).await.unwrap().unwrap();
    let keys: Vec<_> = document.keys().map(String::as_str).collect();
    assert_eq!(keys, ["_id", "type", "data", "uid", "nsp"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_of_the_official_emitter_arrives() {
    let url = Server::shared().await.unwrap();
    let name = unique_name();
    let mut a = TestNode::join(config(&url, &format!("collection={name}"))).await;
    let emitted = doc! {
        "type": 3, "uid": "emitter", "nsp": "/",
        "data": { "packet": { "type": 2, "data": ["n", 7, ""], "nsp": "/" }, "opts": { "rooms": [], "flags": {}, "except": [] } },
    };
    documents(&url, &name).await.insert_one(emitted).await.unwrap();
    a.expect(7..8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_the_server_refuses_is_counted_and_delivered_to_own_sockets_only() {
    let url = Server::shared().await.unwrap();
    let name = unique_name();
    let mut a = TestNode::join(config(&url, &format!("collection={name}"))).await;
    let validator = doc! { "data.packet.data.1": { "$ne": 13 } };
    let client = crate::support::client(&url).await;
    let modify = doc! { "collMod": &name, "validator": validator };
    client.database(crate::support::DATABASE).run_command(modify).await.unwrap();
    for number in 10..20 {
        a.emit(number).await.unwrap();
    }
    let mut arrived = HashSet::new();
    for _ in 10..20 {
        let (number, offset) = a.number().await;
        assert_eq!(offset.is_none(), number == 13);
        arrived.insert(number);
    }
    assert_eq!(arrived, (10..20).collect());
    assert_eq!(a.metrics.snapshot().publish_errors, 1);
    let health = a.backend.transport.health();
    assert!(health.refused_messages == 1 && health.refusal.is_some(), "{health:?}");
    let emitter = Emitter::new(&a.backend);
    emitter.emit(Target::all(), Payload::event("e", &(13,)).unwrap()).await.unwrap();
    let error = emitter.flush().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broker, "{error}");
    emitter.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_queued_while_an_insert_is_unconfirmed_go_into_one_insert() {
    const COUNT: usize = 1_000;
    let server = Server::start().await.unwrap();
    let proxy = InsertProxy::start(&server).await;
    let mut a = TestNode::join(config_under_load(proxy.url(), "")).await;
    // One was for the right to insert.
    let before = proxy.count();
    proxy.set(Inserts::Hold);
    a.emit(0).await.unwrap();
    proxy.until(before + 1).await;
    for number in 1..=COUNT {
        a.emit(number).await.unwrap();
    }
    proxy.set(Inserts::Pass);
    a.expect(0..=COUNT).await;
    assert_eq!(proxy.count() - before, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_tried_again_while_the_cache_of_the_server_is_full() {
    let server = Server::start().await.unwrap();
    let proxy = InsertProxy::start(&server).await;
    let mut a = TestNode::join(config_under_load(proxy.url(), "")).await;
    let before = proxy.count();
    proxy.set(Inserts::CacheFull);
    for number in 0..3 {
        a.emit(number).await.unwrap();
    }
    let Delivery::Lost(reason) = a.find(is_lost).await else { unreachable!() };
    assert!(reason.contains("cache (code 388)"), "{reason}");
    proxy.until(before + 3).await;
    proxy.set(Inserts::Pass);
    for number in 0..3 {
        let (stored, offset) = a.number().await;
        assert_eq!((stored, offset.is_some()), (number, true));
    }
    assert_eq!(a.metrics.snapshot().publish_errors, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_the_limit_is_refused_at_once() {
    let url = Server::shared().await.unwrap();
    for (parameters, most) in [("capped_bytes=1MiB", 1 << 20), ("ttl=1h", trunkline_mongodb::MAX_DOCUMENT_BYTES)] {
        let mut a = TestNode::join(config(&url, &format!("collection={}&{parameters}", unique_name()))).await;
        assert_eq!(a.backend.transport.capabilities().max_message_bytes, Some(most));
        let error = a.emit_bytes(0, most).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains(&most.to_string()), "{error}");
        a.emit_bytes(1, most - 500).await.unwrap();
        a.expect(1..2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_documents_in_the_collection_are_skipped() {
    let url = Server::shared().await.unwrap();
    let name = unique_name();
    let mut a = TestNode::join(config(&url, &format!("collection={name}"))).await;
    let official = documents(&url, &name).await;
    for garbage in [
        doc! {},
        doc! { "type": "3", "nsp": "/" },
        doc! { "type": 3, "nsp": "/", "uid": "x" },
        doc! { "type": 3, "nsp": "/", "uid": 5, "data": 1 },
        doc! { "type": 99, "nsp": "/", "uid": "x" },
        doc! { "type": 3, "nsp": "/elsewhere", "uid": "x", "data": {} },
        doc! { "type": 7, "nsp": "/", "uid": "x", "data": { "opts": [] } },
        doc! { "_id": "text", "type": 13, "nsp": "/", "data": {} },
    ] {
        official.insert_one(garbage).await.unwrap();
    }
    a.emit(1).await.unwrap();
    a.expect(1..2).await;
    assert!(a.metrics.snapshot().malformed >= 2);
}
