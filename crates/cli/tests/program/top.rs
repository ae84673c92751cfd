//! `top`.

use trunkline::Target;
use trunkline_conformance::kit::{Failure, check, check_eq};

use crate::support::{Wire, cluster, over_all, run};

over_all!(a_sample_is_printed);

async fn a_sample_is_printed(wire: Wire) -> Result<(), Failure> {
    let url = wire.url("top").await;
    let [a, b] = cluster(&url).nodes().await?;
    let _socket = b.socket(["lobby"]).await?;
    let program = tokio::spawn({
        let url = url.clone();
        async move {
            let arguments =
                ["top", "--once", "--json", "--interval", "3s", "--nodes", "2", "--listen", "20s", "--timeout", "20s"];
            run(&url, &arguments).await
        }
    });
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(20));
    while !program.is_finished() {
        ticks.tick().await;
        a.emit(Target::room("lobby"), "tick").await?;
    }
    let ran = program.await.unwrap();
    let sample = ran.json();
    check_eq(ran.code, 0, &format!("{ran:?}"))?;
    check_eq(sample["sockets"].as_u64(), Some(1), "sockets")?;
    check(sample["echo_seconds"].as_f64() > Some(0.0), &ran.out)?;
    let nodes = sample["nodes"].as_array().unwrap();
    let of = |id: &str| nodes.iter().find(|node| node["id"] == id).cloned().unwrap_or_default();
    let (first, second) = (of(a.id().as_str()), of(b.id().as_str()));
    check(first["messages"].as_u64() > Some(10), &ran.out)?;
    check_eq(second["sockets"].as_u64(), Some(1), &ran.out)?;
    check_eq(nodes.len(), 2, &ran.out)?;
    check_eq(sample["unnamed_nodes"].as_u64(), Some(0), &ran.out)?;
    check_eq(sample["missing_messages"].as_u64(), Some(0), &ran.out)
}

#[tokio::test]
async fn without_a_terminal_it_says_so() {
    let refused = run("redis://127.0.0.1:1", &["top"]).await.ends(3);
    assert!(refused.err.contains("--once"), "{}", refused.err);
    run("redis://127.0.0.1:1", &["top", "--once"]).await.ends(2);
}
