//! Metrics of a live cluster, as a real Prometheus sees them, against what clients sent and saw; and the dashboard and
//! the alerts that come with the project, on that Prometheus.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "../../../../crates/socketioxide/tests/bridge/kit/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "../../../../crates/socketioxide/tests/bridge/kit/packet.rs"]
#[allow(dead_code)]
mod packet;
mod prometheus;

use std::{fs, net::SocketAddr, process, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
};
use trunkline_brokers::Redis;

use crate::{
    client::Client,
    prometheus::{ALERTS, Prometheus, get},
};

/// How long anything may take on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for what must happen; a generous limit around it.
async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, what).await.expect("it should have happened by now")
}

/// A node in a process of its own, with metrics of its own.
struct Server {
    address: SocketAddr,
    msgpack: bool,
    _process: Child,
    /// Closed, the process ends.
    _stdin: ChildStdin,
}

impl Server {
    async fn start(number: u16, broker: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_test-node"))
            .args(["--nodes", "1", "--heartbeat-interval", "500", "--until-stdin-closes", "--broker", broker])
            .args(["--first", &number.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = within(output.next_line()).await.unwrap().expect("it says where it listens");
        let line: Value = serde_json::from_str(&line).unwrap();
        let address = line["nodes"][0].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
        Self { address, msgpack: false, _process: process, _stdin: stdin }
    }
}

async fn perform(client: &mut Client, operation: Value) -> Value {
    let (outcome,): (Value,) = client.request("op", &operation).await;
    assert_eq!(outcome["error"], Value::Null, "{operation}");
    outcome
}

const MESSAGES: u32 = 40;
const FETCHES: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_sees_what_clients_sent_and_saw() {
    let name = format!("m{:x}", fastrand::u64(..1 << 40));
    let broker = format!("{}?mode=streams&prefix={name}&stream={name}", Redis::shared().await.unwrap());
    let servers = [Server::start(0, &broker).await, Server::start(1, &broker).await];
    let prometheus = Prometheus::start(&servers.each_ref().map(|server| server.address)).await;
    prometheus.until(r#"sum(trunkline_peers{namespace="/",known="by_name"})"#, 2.0).await;

    let mut a = Client::with(&servers[0], "/", &json!({})).await;
    let mut b = Client::with(&servers[1], "/", &json!({})).await;
    for number in 10..10 + MESSAGES {
        perform(&mut a, json!({ "kind": "emit", "event": "tick", "args": [number] })).await;
    }
    for client in [&mut a, &mut b] {
        for _ in 0..MESSAGES {
            within(client.event("tick")).await;
        }
    }
    for _ in 0..FETCHES {
        assert_eq!(perform(&mut b, json!({ "kind": "fetchSockets" })).await["sockets"].as_array().unwrap().len(), 2);
    }
    b.disconnect().await;
    // The server of `b` tells of it, which is one broadcast more, to one client.
    within(a.event("left")).await;

    let at = |server: usize| format!("namespace=\"/\",instance=\"{}\"", servers[server].address);
    let (here, there) = (at(0), at(1));
    let messages = f64::from(MESSAGES);
    let bytes = messages * r#"["tick",10]"#.len() as f64;
    for (query, expected) in [
        (format!("trunkline_published_messages_total{{{here},kind=\"broadcast\"}}"), messages),
        (format!("trunkline_published_bytes_total{{{here},kind=\"broadcast\"}}"), bytes),
        (format!("trunkline_received_messages_total{{{there},kind=\"broadcast\"}}"), messages),
        (format!("trunkline_received_bytes_total{{{there},kind=\"broadcast\"}}"), bytes),
        (format!("trunkline_published_messages_total{{{there},kind=\"broadcast\"}}"), 1.0),
        (r#"sum(trunkline_socket_packets_total{namespace="/"})"#.into(), messages * 2.0 + 1.0),
        (format!("trunkline_requests_total{{{there},kind=\"fetch_sockets\",outcome=\"complete\"}}"), FETCHES.into()),
        (format!("trunkline_request_duration_seconds_count{{{there},kind=\"fetch_sockets\"}}"), FETCHES.into()),
        (r#"sum(trunkline_connects_total{namespace="/"})"#.into(), 2.0),
        (format!("trunkline_disconnects_total{{{there},reason=\"client_namespace_disconnect\"}}"), 1.0),
        (r#"sum(trunkline_disconnects_total{namespace="/"})"#.into(), 1.0),
        (r#"sum(trunkline_sockets{namespace="/"})"#.into(), 1.0),
        ("sum(trunkline_gaps_total)".into(), 0.0),
        ("min(trunkline_connected)".into(), 1.0),
        ("sum(trunkline_dropped_total{reason!~\"unwanted_room|foreign\"})".into(), 0.0),
    ] {
        prometheus.until(&query, expected).await;
    }
    prometheus.until_some(&format!("trunkline_broker_echo_seconds_count{{{here}}} > 0")).await;
    for server in &servers {
        assert_eq!(get(server.address, "/livez").await, (200, r#"{"live":true}"#.to_owned()));
        let (status, body) = get(server.address, "/readyz").await;
        assert_eq!(status, 200, "{body}");
    }
    every_panel_shows_something(&prometheus).await;
    every_alert_is_evaluated_and_none_fires(&prometheus).await;
}

async fn every_panel_shows_something(prometheus: &Prometheus) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docker/grafana/dashboards/trunkline.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(folder).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let targets: Vec<_> = panels.flat_map(|panel| panel["targets"].as_array().unwrap()).collect();
    assert!(targets.len() > 30, "{}", targets.len());
    for target in targets {
        // As Grafana fills in its variables, for all namespaces.
        let query = target["expr"].as_str().unwrap().replace("$namespace", ".*").replace("$__rate_interval", "1m");
        prometheus.until_some(&query).await;
    }
}

async fn every_alert_is_evaluated_and_none_fires(prometheus: &Prometheus) {
    let alerts = prometheus.alerts().await;
    assert_eq!(alerts.len(), alert_names().len(), "{alerts:?}");
    for (name, health, state) in alerts {
        assert!(health == "ok" && state != "firing", "{name}: {health}, {state}");
    }
}

fn alert_names() -> Vec<String> {
    let alerts = fs::read_to_string(ALERTS).unwrap();
    alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

#[test]
fn every_alert_has_tests_in_which_it_fires_and_in_which_it_does_not() {
    let file = ALERTS.replace("alerts.yml", "alerts.test.yml");
    let tests = fs::read_to_string(&file).unwrap();
    assert!(!alert_names().is_empty());
    for name in alert_names() {
        assert!(tests.contains(&format!("name: {name} fires\n")), "{name}");
        assert!(tests.contains(&format!("name: {name} is quiet\n")), "{name}");
    }
    let output = process::Command::new("promtool").args(["test", "rules", &file]).output();
    let output = output.expect("promtool is installed: apt-get install prometheus");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
