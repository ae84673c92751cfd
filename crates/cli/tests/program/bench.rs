//! `bench`.

use trunkline_conformance::kit::{Failure, check, check_eq};

use crate::support::{Wire, over_all, run};

over_all!(nodes_of_its_own_measure_a_broker);

async fn nodes_of_its_own_measure_a_broker(wire: Wire) -> Result<(), Failure> {
    let url = wire.url("bench").await;
    let small = ["--messages", "200", "--latency-messages", "20", "--timeout", "20s"];
    let ran = run(&url, &[&["bench", "--nodes", "3", "--json"], &small[..]].concat()).await.ends(0);
    let measured = &ran.json()["runs"][0];
    check_eq(measured["received"].as_u64(), Some(3 * 2 * 220), &ran.out)?;
    for fault in ["lost", "out_of_order", "repeated"] {
        check_eq(measured[fault].as_u64(), Some(0), &ran.out)?;
    }
    check(measured["sent_per_second"].as_f64() > Some(0.0), &ran.out)?;
    check(measured["latency_seconds"]["p99"].as_f64() > Some(0.0), &ran.out)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_are_compared() -> Result<(), Failure> {
    let url = Wire::RedisPubSub.url("bench_compared").await;
    let other = Wire::Nats.url("bench_compared").await;
    let small = ["--messages", "100", "--latency-messages", "10", "--timeout", "20s"];
    let ran = run(&url, &[&["bench", "--compare", &other], &small[..]].concat()).await.ends(0);
    check(ran.out.contains("RATIO") && ran.out.contains("redis://") && ran.out.contains("nats://"), &ran.out)?;
    check(ran.out.contains("latency p99") && ran.out.contains('█') && !ran.out.contains('\x1b'), &ran.out)
}

#[tokio::test]
async fn a_node_that_fails_says_why() {
    let ran = run("redis://app:s3cret@127.0.0.1:1", &["bench"]).await.ends(2);
    assert!(ran.err.contains("a node of the bench has failed") && !ran.err.contains("s3cret"), "{}", ran.err);
}
