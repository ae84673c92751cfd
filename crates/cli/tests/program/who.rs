//! `nodes`, `sockets`, `rooms`.

use std::time::Duration;

use serde_json::json;
use trunkline::Payload;
use trunkline_conformance::kit::{ClientSpec, Failure, check, check_eq, eventually};

use crate::support::{Wire, cluster, over_all, run};

over_all!(who_is_where_is_told);

async fn who_is_where_is_told(wire: Wire) -> Result<(), Failure> {
    let url = wire.url("who").await;
    let [a, b] = cluster(&url).nodes().await?;
    let first =
        a.connect(ClientSpec::new().room("lobby").data(Payload::value(&json!({"name": "Ann"})).unwrap())).await?;
    let second = b.socket(["lobby", "muted"]).await?;
    let listen = ["--nodes", "2", "--listen", "20s", "--timeout", "20s", "--json"];

    let found = run(&url, &[&["nodes"], &listen[..]].concat()).await.ends(0).json();
    let mut nodes: Vec<_> = found["nodes"].as_array().unwrap().iter().collect();
    nodes.sort_by_key(|node| node["sockets"].as_u64());
    check_eq(nodes.len(), 2, "nodes")?;
    for node in nodes {
        let is_ours = node["id"] == a.id().as_str() || node["id"] == b.id().as_str();
        check(
            is_ours && node["sockets"] == 1 && node["kind"] == "trunkline" && node["answered"] == true,
            node.to_string(),
        )?;
    }

    let found =
        run(&url, &[&["sockets", "--room", "lobby", "--except", "muted", "--data"], &listen[..]].concat()).await;
    let expected =
        json!([{ "id": first.id().as_str(), "node": a.id().as_str(), "rooms": ["lobby"], "data": {"name": "Ann"} }]);
    check_eq(found.ends(0).json()["sockets"].clone(), expected, "sockets")?;
    let found = run(&url, &[&["sockets", "--node", b.id().as_str()], &listen[..]].concat()).await.ends(0).json();
    check_eq(found["sockets"][0]["id"].as_str(), Some(second.id().as_str()), "sockets of a node")?;

    let found = run(&url, &[&["rooms"], &listen[..]].concat()).await.ends(0).json();
    let names: Vec<_> =
        found["rooms"].as_array().unwrap().iter().map(|room| (&room["name"], &room["sockets"])).collect();
    check_eq(json!(names), json!([["lobby", 2], ["muted", 1]]), "rooms")?;
    let found = run(&url, &[&["rooms", "--containing", "lob", "--node", a.id().as_str()], &listen[..]].concat()).await;
    check_eq(found.ends(0).json()["rooms"].as_array().map(Vec::len), Some(1), "filtered rooms")?;

    // It has left in good order: nobody waits for it.
    a.wait_for_peers(1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_silent_before_is_named_where_the_broker_counts() -> Result<(), Failure> {
    a_node_that_was_silent_before_is_named(Wire::RedisPubSub).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_silent_before_is_named_where_nodes_are_known_by_heartbeats() -> Result<(), Failure> {
    a_node_that_was_silent_before_is_named(Wire::Nats).await
}

/// Only the other node knows it.
async fn a_node_that_was_silent_before_is_named(wire: Wire) -> Result<(), Failure> {
    let url = wire.url("silent").await;
    let cluster = cluster(&url);
    let mut config = cluster.config();
    config.engine = config.engine.with_heartbeat_timeout(Duration::from_secs(600));
    let a = cluster.build().config(config).join().await?;
    let frozen = cluster.build().own_process().join().await?;
    // By its name, which the broker's count does not tell.
    let unknown = || "the other node is not known by name".to_owned();
    eventually(Duration::from_secs(30), unknown, async || !a.peers().is_empty()).await?;
    frozen.freeze().await?;
    let name = frozen.id().as_str();
    let partial = format!("PARTIAL: 1 node did not answer: {name}");
    let told = format!("critical heartbeats: not heard, though other nodes know it: {name}");
    for (command, code, says) in [
        (&["nodes"][..], 1, &format!("2 nodes; {partial}")),
        (&["sockets"], 1, &partial),
        (&["top", "--once"], 1, &partial),
        (&["doctor"], 2, &told),
    ] {
        let ran = run(&url, &[command, &["--listen", "2s", "--timeout", "2s"]].concat()).await.ends(code);
        check(ran.out.contains(says), &ran.out)?;
    }
    frozen.thaw();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_answer_is_shown_where_the_broker_counts() -> Result<(), Failure> {
    a_partial_answer_is_shown_as_such(Wire::RedisPubSub).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_answer_is_shown_where_nodes_are_known_by_heartbeats() -> Result<(), Failure> {
    a_partial_answer_is_shown_as_such(Wire::Postgres).await
}

async fn a_partial_answer_is_shown_as_such(wire: Wire) -> Result<(), Failure> {
    let url = wire.url("partial").await;
    let cluster = cluster(&url);
    let [a] = cluster.nodes().await?;
    let frozen = cluster.build().own_process().join().await?;
    a.wait_for_peers(1).await?;
    a.socket(["r"]).await?;
    frozen.socket(["r"]).await?;
    // The program has heard of the node when it freezes: its own heartbeat is answered at once.
    let program = tokio::spawn({
        let url = url.clone();
        async move { run(&url, &["sockets", "--listen", "4s", "--timeout", "1s"]).await }
    });
    a.wait_for_peers(2).await?;
    frozen.wait_for_peers(2).await?;
    frozen.settle().await?;
    frozen.freeze().await?;
    let ran = program.await.unwrap();
    frozen.thaw();
    let ran = ran.ends(1);
    check(ran.out.contains("1 socket; PARTIAL: 1 node did not answer"), format!("{ran:?}"))
}
