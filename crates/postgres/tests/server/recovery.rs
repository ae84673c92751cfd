//! What a server and its administrator do to connections and tables: it is noticed in time, on each connection by
//! itself, and mended.

use std::time::{Duration, Instant};

use tokio_postgres::NoTls;
use trunkline_brokers::{Postgres as Server, Proxy};
use trunkline_conformance::kit::{Failure, TestNode};
use trunkline_core::{Event, Payload, Room, Target};

use crate::support::{
    LISTENS, PUBLISHES, QUERIES, TIMEOUT, cluster, expect_numbers, named, numbered, numbers, server, stop_process,
    until,
};

/// Two nodes that know each other, one with connections called `a` at the server, one over `url` with those called `b`.
async fn pair(server: &Server, url: &str, parameters: &str) -> Result<[TestNode; 2], Failure> {
    let cluster = cluster(server.url(), parameters);
    let a = cluster.build().over(named(server.url(), "a", parameters).await?).join().await?;
    let b = cluster.build().over(named(url, "b", parameters).await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    b.await_peers(1, TIMEOUT).await?;
    Ok([a, b])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_half_open_connection_is_noticed_by_itself() -> Result<(), Failure> {
    let server = server().await;
    for connection in [LISTENS, PUBLISHES] {
        let [a, b] = pair(&server, server.url(), "ping_interval=500ms&ping_timeout=1500ms").await?;
        let (lost, connected) = (b.events(), b.events());
        let _stopped = stop_process(&server, "b", connection).await;
        let start = Instant::now();
        b.wait_for_event(lost, |event| matches!(event, Event::Lost(_)), "of the loss").await?;
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        b.wait_for_event(connected, |event| matches!(event, Event::Connected), "of the return").await?;
        let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
        b.broadcast(Target::room("r"), numbered(0, 10)).await?;
        expect_numbers(&here, 1).await?;
        a.broadcast(Target::room("r"), numbered(1, 10)).await?;
        there.wait_for(2).await?;
        a.leave().await?;
        b.leave().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_for_queries_holds_a_row_up_for_a_while_only() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(&server, server.url(), "ping_interval=500ms&ping_timeout=1500ms").await?;
    let there = b.socket(["r"]).await?;
    let _stopped = stop_process(&server, "b", QUERIES).await;
    let start = Instant::now();
    a.broadcast(Target::room("r"), numbered(0, 20_000)).await?;
    expect_numbers(&there, 1).await?;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_connections_half_open_connected_means_both_directions() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(&server, server.url(), "ping_interval=500ms&ping_timeout=1500ms").await?;
    let there = b.socket(["r"]).await?;
    let lost = b.events();
    let _listening = stop_process(&server, "b", LISTENS).await;
    let _publishing = stop_process(&server, "b", PUBLISHES).await;
    b.wait_for_event(lost, |event| matches!(event, Event::Lost(_)), "of the loss").await?;
    until("it is connected", async || b.health().connected).await;
    a.broadcast(Target::room("r"), numbered(0, 10)).await?;
    there.wait_for(1).await?;
    assert_eq!(b.health().reconnects, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn large_rows_make_progress_over_a_slow_link() -> Result<(), Failure> {
    const BYTES: usize = 6 << 20;
    let server = server().await;
    for history in ["history=off", "history=on"] {
        let proxy = Proxy::start(server.port()).await.unwrap();
        let [a, b] = pair(&server, &proxy.url(server.url()), history).await?;
        let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
        // A megabyte in this time: a row takes longer than the server may be silent, 2.2 s.
        proxy.delay(Duration::from_millis(600));
        let start = Instant::now();
        b.broadcast(Target::room("r"), numbered(0, BYTES)).await?;
        here.wait_for(1).await?;
        assert!(start.elapsed() > Duration::from_millis(2_200), "{:?}", start.elapsed());
        a.broadcast(Target::room("r"), numbered(1, BYTES)).await?;
        there.wait_for(2).await?;
        assert_eq!((numbers(&here), numbers(&there)), (vec![0, 1], vec![0, 1]));
        assert_eq!((b.health().reconnects, b.metrics().gaps), (0, 0), "{history}");
        a.leave().await?;
        b.leave().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_dropped_is_made_again_and_misses_nothing() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(&server, server.url(), "history=on").await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    a.broadcast(Target::room("r"), numbered(0, 10)).await?;
    expect_numbers(&there, 1).await?;
    server.sql("DROP TABLE socket_io_events").await.unwrap();
    for number in 1..100 {
        a.broadcast(Target::room("r"), numbered(number, if number % 10 == 0 { 20_000 } else { 10 })).await?;
    }
    expect_numbers(&there, 100).await?;
    expect_numbers(&here, 100).await?;
    a.settle().await?;
    // The numbers show that nothing is missing.
    assert_eq!((b.metrics().gaps, a.metrics().gaps, a.metrics().publish_errors), (0, 0, 0));
    assert!(a.health().connected && b.health().connected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_and_sessions_that_are_dropped_are_made_again() -> Result<(), Failure> {
    let server = server().await;
    for table in ["socket_io_attachments", "socket_io_sessions"] {
        for history in ["history=off", "history=on"] {
            let [a, b] = pair(&server, server.url(), history).await?;
            let there = b.socket(["r"]).await?;
            server.sql(&format!("DROP TABLE IF EXISTS {table}")).await.unwrap();
            for number in 0..30 {
                a.broadcast(Target::room("r"), numbered(number, if number % 10 == 0 { 20_000 } else { 10 })).await?;
            }
            expect_numbers(&there, 30).await?;
            assert_eq!((a.metrics().publish_errors, b.metrics().gaps), (0, 0), "{table} {history}");
            a.leave().await?;
            b.leave().await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_notified_of_again_reaches_nobody() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(&server, server.url(), "history=on").await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    for number in 0..2 {
        a.broadcast(Target::room("r"), numbered(number, 20_000)).await?;
    }
    expect_numbers(&here, 2).await?;
    let offset = here.packets()[0].offset.clone().unwrap();
    let again = format!(
        r#"{{"uid":"{}","type":3,"attachmentId":"1","room":"r","stamp":[0,1],"offset":"{}"}}"#,
        a.id(),
        offset.as_str()
    );
    for _ in 0..10 {
        server.sql(&format!("SELECT pg_notify('socket.io#/', '{again}')")).await.unwrap();
    }
    a.broadcast(Target::room("r"), numbered(2, 10)).await?;
    expect_numbers(&here, 3).await?;
    expect_numbers(&there, 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn time_limits_of_the_server_do_not_end_idle_connections() -> Result<(), Failure> {
    let limits = ["-c", "idle_session_timeout=300ms", "-c", "statement_timeout=300ms"];
    let server = Server::options().arguments(&limits).start().await.unwrap();
    let [a, b] = pair(&server, server.url(), "ping_interval=1m").await?;
    // They would end before it, which has begun to be idle after them.
    let (idle, connection) = tokio_postgres::connect(server.url(), NoTls).await.unwrap();
    let _ = connection.await;
    assert!(idle.is_closed(), "the server ends idle sessions");
    let there = b.socket(["r"]).await?;
    a.broadcast(Target::room("r"), numbered(0, 20_000)).await?;
    expect_numbers(&there, 1).await?;
    assert_eq!((a.health().reconnects, b.health().reconnects), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn characters_that_the_database_does_not_hold_arrive() -> Result<(), Failure> {
    let server = server().await;
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let create = format!("CREATE DATABASE {encoding} ENCODING '{encoding}' TEMPLATE template0");
        server.sql(&create).await.unwrap();
        let url = server.url().replace("/postgres?", "?");
        let url = url.strip_suffix("/postgres").unwrap_or(&url);
        let url = format!("{url}/{}", encoding.to_lowercase());
        for (history, namespace) in [("history=off", "/"), ("history=on", "/"), ("history=on", "/é😀")] {
            let cluster = cluster(&url, history);
            let a = cluster.build().namespace(namespace).join().await?;
            let b = cluster.build().namespace(namespace).join().await?;
            a.await_peers(1, TIMEOUT).await?;
            b.await_peers(1, TIMEOUT).await?;
            let room = Room::from("é😀");
            let (here, there) = (a.socket([room.clone()]).await?, b.socket([room.clone()]).await?);
            let sent = ["é".to_owned(), "😀".to_owned(), "😁".repeat(1_500), "😂".repeat(5_000)];
            for text in &sent {
                a.broadcast(Target::room(room.clone()), Payload::event("é😀", &(text,)).unwrap()).await?;
            }
            for socket in [here, there] {
                socket.wait_for(sent.len()).await?;
                let packets = socket.packets();
                let texts: Vec<_> =
                    packets.iter().map(|packet| packet.payload.arguments::<(String,)>().unwrap().0).collect();
                assert!(texts == sent, "{encoding} {history} {namespace}");
            }
            assert_eq!((a.metrics().publish_errors, b.metrics().gaps), (0, 0));
            assert_eq!(b.fetch_sockets(Target::room(room)).await?.len(), 2);
            a.leave().await?;
            b.leave().await?;
        }
    }
    Ok(())
}
