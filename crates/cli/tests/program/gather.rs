//! `gather`, and `doctor --archive`.

use serde_json::Value;
use trunkline::{Event, Target};
use trunkline_brokers::{Proxy, Redis};
use trunkline_conformance::kit::{Failure, check, check_eq};

use crate::support::{Wire, cluster, over_all, run, run_in};

over_all!(what_nodes_tell_is_in_one_file);

async fn what_nodes_tell_is_in_one_file(wire: Wire) -> Result<(), Failure> {
    let url = wire.url("gather").await;
    let [a, b] = cluster(&url).nodes().await?;
    let folder = std::env::temp_dir().join(format!("trunkline-gather-{}-{wire:?}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let listen = ["--nodes", "2", "--listen", "20s", "--timeout", "20s"];
    run_in(&folder, &url, &[&["gather", "--output", "x.json"], &listen[..]].concat()).await.ends(0);
    let text = std::fs::read_to_string(folder.join("x.json")).unwrap();
    let archive: Value = serde_json::from_str(&text).unwrap();
    let mut ids: Vec<_> =
        archive["nodes"].as_array().unwrap().iter().map(|node| node["node"].as_str().unwrap()).collect();
    let mut expected = [a.id().as_str(), b.id().as_str()];
    ids.sort_unstable();
    expected.sort_unstable();
    check_eq(ids, expected.to_vec(), "nodes")?;
    for node in archive["nodes"].as_array().unwrap() {
        check(node["health"]["connected"] == true && node["version"].is_string(), node.to_string())?;
        check(node["metrics"]["published"].is_u64(), node.to_string())?;
    }
    // Their servers did not see the question.
    check_eq((a.server_side_events().len(), b.server_side_events().len()), (0, 0), "server-side events")?;
    let arguments =
        ["doctor", "--archive", "x.json", "--json", "--skip", "echo-time", "--skip", "prefix", "--skip", "heartbeats"];
    let ran = run_in(&folder, "", &arguments).await.ends(0);
    let has = |code: &str| ran.json()["checks"].as_array().unwrap().iter().any(|check| check["code"] == code);
    check(["reachable", "echo", "answers", "versions", "node-health"].into_iter().all(has), &ran.out)?;
    std::fs::remove_dir_all(&folder).unwrap();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_tells_what_was_wrong() -> Result<(), Failure> {
    let server = Redis::options().password("s3cret").start().await.unwrap();
    server.cli(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 60"]).await.unwrap();
    let proxy = Proxy::start(server.port()).await.unwrap();
    let [a] = cluster(&proxy.url(server.url())).nodes().await?;
    let [b] = cluster(server.url()).nodes().await?;
    a.wait_for_peers(1).await?;
    let (losses, events) = (a.events(), a.events());
    proxy.refuse();
    proxy.cut();
    a.wait_for_event(losses, |event| matches!(event, Event::Lost(_)), "the loss").await?;
    b.emit(Target::all(), "missed").await?;
    proxy.resume();
    a.wait_for_event(events, |event| matches!(event, Event::Gap(_)), "the gap").await?;
    let file = std::env::temp_dir().join(format!("trunkline-archive-{}.json", std::process::id()));
    let path = file.to_str().unwrap();
    run(server.url(), &["gather", "--output", path, "--nodes", "2", "--listen", "20s"]).await.ends(0);
    let text = std::fs::read_to_string(&file).unwrap();
    check(!text.contains("s3cret"), "no password")?;
    let ran = run("", &["doctor", "--archive", path]).await.ends(2);
    check(ran.out.contains("critical redis-output-buffer") && ran.out.contains("node-gaps"), &ran.out)?;
    // An archive in which the versions differ.
    let mut archive: Value = serde_json::from_str(&text).unwrap();
    let mut older = archive["nodes"][0].clone();
    older["version"] = "0.0.1".into();
    archive["nodes"].as_array_mut().unwrap().push(older);
    archive["checks"] = Value::Array(Vec::new());
    std::fs::write(&file, archive.to_string()).unwrap();
    let ran = run("", &["doctor", "--archive", path, "--only", "versions", "--json"]).await.ends(1);
    check(ran.out.contains("0.0.1"), &ran.out)?;
    std::fs::write(&file, "{}").unwrap();
    run("", &["doctor", "--archive", path]).await.ends(3);
    run("", &["doctor", "--archive", "/nowhere"]).await.ends(3);
    std::fs::remove_file(&file).unwrap();
    Ok(())
}
