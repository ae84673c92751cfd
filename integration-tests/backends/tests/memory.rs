//! What waits for a broker that is away takes no more memory than `outbox_bytes` allows, on every backend, also where a message is
//! kept for own sockets beside what is sent.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

use std::alloc::System;

use cap::Cap;
use trunkline::{Payload, Target, core::ErrorKind};
use trunkline_backends::{join, port_of, until};
use trunkline_brokers::{MongoDb, Nats, Postgres, Proxy, RabbitMq, Redis};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

const LIMIT: usize = 16 << 20;

/// What a node may need beside: the queue itself, and connections that are tried.
const BESIDE: usize = 4 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_takes_no_more_memory_than_allowed() {
    let redis = Redis::shared().await.unwrap();
    let nats = Nats::shared().await.unwrap();
    let rabbitmq = RabbitMq::shared().await.unwrap();
    let postgres = Postgres::shared().await.unwrap();
    let mongodb = MongoDb::shared().await.unwrap();
    let mut faults = Vec::new();
    // One after the other: memory is that of the whole process.
    for (url, parameters) in [
        (&redis, "mode=pubsub&prefix=memory"),
        (&redis, "mode=sharded&prefix=memory_sharded"),
        (&redis, "mode=streams&prefix=memory_streams&stream=memory_streams"),
        (&nats, "prefix=memory"),
        (&nats, "prefix=memory_history&history=on"),
        (&rabbitmq, "prefix=memory"),
        (&rabbitmq, "prefix=memory_history&history=on"),
        (&postgres, "prefix=memory&table=memory"),
        (&postgres, "prefix=memory_history&table=memory_history&history=on&history_table=memory_events"),
        (&mongodb, "collection=memory&directConnection=true"),
    ] {
        let mark = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{mark}{parameters}&outbox_bytes={LIMIT}");
        let (queued, taken) = fill(&url).await;
        // Envelopes and a copy for own sockets leave a third for payloads, at least.
        if queued < LIMIT / 3 || taken > LIMIT + BESIDE {
            faults.push(format!("{url}: payloads of {queued} bytes are queued and take {taken}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Emits while the broker is away, until nothing more is taken. Returns the bytes of the payloads that were, and the memory that
/// they take.
async fn fill(url: &str) -> (usize, usize) {
    let proxy = Proxy::start(port_of(url)).await.unwrap();
    let node = join(trunkline::connect(&proxy.url(url)).await.expect(url)).await;
    proxy.refuse();
    proxy.cut();
    until(&node, |health| !health.connected).await;
    let (before, mut queued) = (MEMORY.allocated(), 0);
    loop {
        let payload = payload();
        let length = payload.len();
        match node.broadcast(Target::all(), payload).await {
            Ok(()) => queued += length,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::QueueFull, "{url}: {error}");
                return (queued, MEMORY.allocated().saturating_sub(before));
            }
        }
    }
}

/// A payload of 4 KiB at the beginning of twice as much, as a serializer leaves it.
fn payload() -> Payload {
    let mut text = String::with_capacity(8 << 10);
    text.push_str("[\"event\",\"");
    text.extend(std::iter::repeat_n('x', 4 << 10));
    text.push_str("\"]");
    Payload::from_json(text).unwrap()
}
