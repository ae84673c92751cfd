//! How messages become transactions, and what happens to a transaction that follows a failed one.

use trunkline_brokers::{Postgres as Server, Proxy};
use trunkline_conformance::kit::Failure;
use trunkline_core::{Backend, Emitter, Target};
use trunkline_postgres::connect;

use crate::support::{cluster, config, expect_numbers, fill_disk, free_disk, numbered, server, until};

/// A publisher behind a proxy, whose ping has been answered and is not repeated.
async fn publisher(server: &Server, proxy: &Proxy, parameters: &str) -> Result<(Backend, Emitter), Failure> {
    let slow = "ping_interval=1h&ping_timeout=1h&response_timeout=1m";
    let backend = connect(config(&proxy.url(server.url()), &format!("{slow}&{parameters}"))).await?;
    let emitter = Emitter::new(&backend);
    emitter.emit(Target::room("nowhere"), numbered(0, 10)).await?;
    until("everything is confirmed", async || backend.transport.health().queued_bytes == 0).await;
    Ok((backend, emitter))
}

async fn number(server: &Server, statement: &str) -> usize {
    server.sql(statement).await.unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_behind_two_unconfirmed_transactions_become_one() -> Result<(), Failure> {
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let (_backend, emitter) = publisher(&server, &proxy, "history=on").await?;
    let stored = async || number(&server, "SELECT count(*) FROM socket_io_events WHERE origin IS NOT NULL").await;
    proxy.mute();
    // Neither waits for the answer to the one before.
    for before in [1, 2] {
        emitter.emit(Target::all(), numbered(before, 10)).await?;
        until("it is stored", async || stored().await == before + 1).await;
    }
    for later in 3..100 {
        emitter.emit(Target::all(), numbered(later, 10)).await?;
    }
    assert_eq!(stored().await, 3);
    proxy.resume();
    until("all are stored", async || stored().await == 100).await;
    let transactions = "SELECT count(DISTINCT xmin::text) FROM socket_io_events WHERE origin IS NOT NULL";
    assert_eq!(number(&server, transactions).await, 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_does_not_overtake_a_failed_one() -> Result<(), Failure> {
    for history in ["history=off", "history=on"] {
        let server = server().await;
        let proxy = Proxy::start(server.port()).await.unwrap();
        let node = cluster(server.url(), history).node().await?;
        let socket = node.socket(["r"]).await?;
        let (backend, emitter) = publisher(&server, &proxy, history).await?;
        fill_disk(&server).await;
        proxy.mute();
        // The first needs a row and fails, the second would succeed. Both are on their way before the first is known to
        // have failed.
        for (sent, bytes) in [20_000, 10].into_iter().enumerate() {
            emitter.emit(Target::room("r"), numbered(sent, bytes)).await?;
            until("it is sent", async || backend.transport.health().queued_messages == 0).await;
        }
        until("the first has failed", async || {
            number(&server, "SELECT count(*) FROM refusals WHERE is_called").await == 1
        })
        .await;
        free_disk(&server).await;
        proxy.resume();
        expect_numbers(&socket, 2).await?;
        assert_eq!(node.metrics().missed, 0, "{history}");
    }
    Ok(())
}
