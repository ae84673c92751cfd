//! What socketioxide's own end-to-end suite of adapters does (`e2e/adapter` in its repository, 14 tests), on every
//! backend: three servers, ten clients that take turns over them, and handlers that act on all sockets or on a fetched
//! one at once after they have connected. The parsers take turns over the tests.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

mod cases;
mod handlers;
mod kit;
mod offsets;

use trunkline::Backend;
use trunkline_brokers::{MongoDb, Nats, Postgres, RabbitMq, Redis};

/// A module of the 14 tests for each backend. `$url` is that of the cluster of this name.
macro_rules! suite {
    ($($backend:ident: |$name:ident| $url:expr;)*) => {
        $(mod $backend {
            use super::*;

            async fn connect($name: String) -> Backend {
                trunkline::connect(&$url).await.unwrap()
            }

            crate::suite! { @tests
                a_broadcast_reaches_all_sockets
                a_volatile_broadcast_reaches_all_sockets
                a_broadcast_is_acknowledged_by_all_sockets
                all_sockets_are_disconnected
                the_rooms_of_all_sockets_are_listed
                all_sockets_are_fetched
                all_sockets_join_a_room
                all_sockets_leave_a_room
                a_fetched_socket_is_emitted_to
                a_fetched_socket_acknowledges
                a_fetched_socket_joins_a_room
                a_fetched_socket_leaves_a_room
                a_fetched_socket_is_disconnected
                the_rooms_of_a_fetched_socket_are_listed
            }
        })*
    };
    (@tests $($test:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            kit::with_clients(stringify!($test), connect, cases::$test).await;
        })*
    };
}
use suite;

suite! {
    memory: |name| format!("memory://{name}");
    redis_pubsub: |name| format!("{}?mode=pubsub&prefix={name}", Redis::shared().await.unwrap());
    redis_pubsub_rooms: |name| {
        format!("{}?mode=pubsub&subscription=rooms&prefix={name}", Redis::shared().await.unwrap())
    };
    redis_sharded: |name| format!("{}?mode=sharded&subscription=static&prefix={name}", Redis::shared().await.unwrap());
    redis_sharded_dynamic: |name| format!("{}?mode=sharded&prefix={name}", Redis::shared().await.unwrap());
    redis_sharded_dynamic_private: |name| {
        format!("{}?mode=sharded&subscription=dynamic-private&prefix={name}", Redis::shared().await.unwrap())
    };
    redis_streams: |name| format!("{}?mode=streams&prefix={name}&stream={name}", Redis::shared().await.unwrap());
    mongodb: |name| format!("{}&collection={name}", MongoDb::shared().await.unwrap());
    postgres: |name| format!("{}?prefix={name}", Postgres::shared().await.unwrap());
    rabbitmq: |name| format!("{}?prefix={name}", RabbitMq::shared().await.unwrap());
    nats: |name| format!("{}?prefix={name}", Nats::shared().await.unwrap());
}
