//! Probes: what a server tells an orchestrator of itself, and how long the ways in its cluster are.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use trunkline_core::{Backend, memory, memory::MemoryConfig, transport::Health};
use trunkline_socketioxide::Cluster;

use crate::kit::{Gate, Options, Server, TIMEOUT, pair};

/// Status and body of the answer to `/readyz`.
fn readiness(cluster: &Cluster) -> (u16, Value) {
    let response = cluster.readyz();
    assert_eq!(response.headers()["content-type"], "application/json");
    (response.status().as_u16(), serde_json::from_str(response.body()).unwrap())
}

#[tokio::test]
async fn a_server_is_ready_while_a_namespace_is_open() {
    let backend = memory::backend("probes-ready", MemoryConfig::default()).unwrap();
    let unopened = Cluster::from(backend.clone());
    assert_eq!(readiness(&unopened), (503, expected(false, "no namespace is open")));
    let server = Server::start(Options::over(backend)).await;
    let (status, body) = readiness(&server.cluster);
    assert_eq!((status, &body["ready"], &body["reason"]), (200, &json!(true), &Value::Null));
    let [namespace] = body["namespaces"].as_array().unwrap().as_slice() else { panic!("{body}") };
    assert_eq!((&namespace["namespace"], &namespace["health"]["connected"]), (&json!("/"), &json!(true)));
    assert!(namespace["health"]["since"].is_u64(), "{body}");
    server.cluster.close();
    assert_eq!(readiness(&server.cluster).0, 503);
    assert_eq!(server.cluster.livez().status(), 200);
}

fn expected(ready: bool, reason: &str) -> Value {
    json!({ "ready": ready, "reason": reason, "lost_seconds": null, "namespaces": [] })
}

#[tokio::test]
async fn an_outage_makes_a_server_unready_after_a_grace_period_and_never_dead() {
    let (backend, health) = ailing("probes-outage");
    let mut options = Options::over(backend);
    options.configure = |builder| builder.ready_grace(TIMEOUT * 3);
    let server = Server::start(options).await;
    for (lost_for, expected) in [(0, 200), (60, 503), (3600, 503)] {
        let since = SystemTime::now() - Duration::from_secs(lost_for);
        *health.lock().unwrap() = Some(Health::default().with_loss("listening: reset", since));
        let (status, body) = readiness(&server.cluster);
        assert_eq!((status, &body["ready"]), (expected, &json!(expected == 200)), "{body}");
        assert_eq!(body["reason"], "the connection to the broker is lost: listening: reset");
        assert_eq!(server.cluster.livez().status(), 200);
    }
    *health.lock().unwrap() = None;
    assert_eq!(readiness(&server.cluster).0, 200);
}

/// A backend whose health the test says.
fn ailing(name: &str) -> (Backend, Arc<Mutex<Option<Health>>>) {
    let (backend, gate) = Gate::around(memory::backend(name, MemoryConfig::default()).unwrap(), 8);
    (backend, gate.health_to_tell())
}

#[tokio::test]
async fn a_probe_measures_the_ways_to_the_broker_back_and_to_the_other_nodes() {
    let [a, b] = pair().await;
    let probe = a.root().probe(TIMEOUT).await.unwrap();
    assert!(probe.is_complete(), "{probe:?}");
    assert_eq!(probe.round_trips.keys().collect::<Vec<_>>(), [&b.root().node().id]);
}
