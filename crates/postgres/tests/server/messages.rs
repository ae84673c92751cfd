//! All messages arrive, in order, whatever their sizes, kinds and names.

use trunkline_brokers::Postgres as Server;
use trunkline_conformance::kit::Failure;
use trunkline_core::{Emitter, Event, Payload, Room, Target};

use crate::support::{TIMEOUT, cluster, config, expect_numbers, numbered, server, until};

/// A cluster on the shared server.
async fn shared(parameters: &str) -> trunkline_conformance::kit::TestCluster {
    let url = Server::shared().await.unwrap();
    let name = format!("m{:08x}", fastrand::u32(..));
    cluster(&url, &format!("prefix={name}&table={name}_rows&{parameters}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_a_thousand_times_arrives_a_thousand_times() -> Result<(), Failure> {
    let cluster = shared("").await;
    let [a, b] = cluster.nodes().await?;
    let socket = b.socket(["r"]).await?;
    for _ in 0..1_000 {
        a.broadcast(Target::room("r"), Payload::event("same", &()).unwrap()).await?;
    }
    a.settle().await?;
    assert_eq!(socket.packets().len(), 1_000);
    assert_eq!(b.metrics().repeats, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_of_an_emitter_arrives_as_often_as_it_was_sent() -> Result<(), Failure> {
    let cluster = shared("").await;
    let node = cluster.node().await?;
    let socket = node.socket(["r"]).await?;
    let emitter = Emitter::new(node.backend());
    for _ in 0..1_000 {
        emitter.emit(Target::all(), Payload::event("same", &()).unwrap()).await?;
    }
    socket.wait_for(1_000).await?;
    node.settle().await?;
    assert_eq!(socket.packets().len(), 1_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_of_mixed_sizes_keep_their_order() -> Result<(), Failure> {
    let cluster = shared("").await;
    let [a, b] = cluster.nodes().await?;
    let socket = b.socket(["r"]).await?;
    const COUNT: usize = 10_000;
    for number in 0..COUNT {
        let bytes = match number {
            number if number % 500 == 499 => 1 << 20,
            number if number % 20 == 19 => 20_000,
            _ => 100,
        };
        a.broadcast(Target::room("r"), numbered(number, bytes)).await?;
    }
    expect_numbers(&socket, COUNT).await?;
    assert_eq!((b.metrics().missed, b.metrics().inbox_overflow), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_size_around_the_limit_of_a_notification_arrives() -> Result<(), Failure> {
    let cluster = shared("").await;
    let [a, b] = cluster.nodes().await?;
    let socket = b.socket(["r"]).await?;
    let sizes = 7_700..8_050;
    for (number, bytes) in sizes.clone().enumerate() {
        a.broadcast(Target::room("r"), numbered(number, bytes)).await?;
    }
    expect_numbers(&socket, sizes.len()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_with_long_names_are_told_apart() -> Result<(), Failure> {
    let cluster = shared("").await;
    let same = "x".repeat(80);
    let (one, other) = (format!("/{same}1"), format!("/{same}2"));
    let a = cluster.build().namespace(&one).join().await?;
    let b = cluster.build().namespace(&one).join().await?;
    let c = cluster.build().namespace(&other).sharing(&b).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    let (here, there) = (b.socket(["r"]).await?, c.socket(["r"]).await?);
    a.broadcast(Target::all(), numbered(0, 1)).await?;
    expect_numbers(&here, 1).await?;
    c.settle().await?;
    there.got(&[])?;
    assert_eq!(c.peers(), []);
    Ok(())
}

/// Rows are deleted in the transaction that inserts them from now on, so that no reader finds them.
async fn let_rows_vanish(server: &Server) {
    let statements = "CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN DELETE FROM socket_io_attachments WHERE id = NEW.id; RETURN NULL; END $$;
        CREATE TRIGGER vanish AFTER INSERT ON socket_io_attachments FOR EACH ROW EXECUTE FUNCTION vanish()";
    server.sql(statements).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_a_room_without_members_is_not_fetched() -> Result<(), Failure> {
    let server = server().await;
    let cluster = cluster(server.url(), "");
    let [a, b] = cluster.nodes().await?;
    let socket = b.socket(["here"]).await?;
    let_rows_vanish(&server).await;
    a.broadcast(Target::room("elsewhere"), numbered(0, 20_000)).await?;
    a.settle().await?;
    server.sql("DROP TRIGGER vanish ON socket_io_attachments").await.unwrap();
    a.broadcast(Target::room("here"), numbered(0, 20_000)).await?;
    expect_numbers(&socket, 1).await?;
    let metrics = b.metrics();
    assert_eq!((metrics.unwanted, metrics.malformed, metrics.missed), (1, 0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_for_a_room_that_is_about_to_be_joined_is_fetched() -> Result<(), Failure> {
    let cluster = shared("").await;
    let [a, b] = cluster.nodes().await?;
    let socket = b.socket(["r"]).await?;
    for round in 0..50 {
        let room = Room::from(format!("new {round}"));
        // While the first row is fetched, the join waits behind it, and the room has no member yet.
        a.broadcast(Target::room("r"), numbered(2 * round, 20_000)).await?;
        a.sockets_join(Target::room("r"), vec![room.clone()]).await?;
        a.broadcast(Target::room(room), numbered(2 * round + 1, 20_000)).await?;
    }
    expect_numbers(&socket, 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_vanished_is_a_hole() -> Result<(), Failure> {
    let server = server().await;
    let cluster = cluster(server.url(), "");
    let [a, b] = cluster.nodes().await?;
    let socket = b.socket(["r"]).await?;
    let events = b.events();
    a.broadcast(Target::room("r"), numbered(0, 1)).await?;
    expect_numbers(&socket, 1).await?;
    let_rows_vanish(&server).await;
    a.broadcast(Target::room("r"), numbered(1, 20_000)).await?;
    a.broadcast(Target::room("r"), numbered(1, 1)).await?;
    expect_numbers(&socket, 2).await?;
    let is_gap = |event: &Event| matches!(event, Event::Gap(gap) if gap.missed == Some(1));
    b.wait_for_event(events, is_gap, "of a hole of one message").await?;
    assert_eq!(b.metrics().malformed, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn old_attachments_are_deleted() -> Result<(), Failure> {
    let server = server().await;
    let cluster = cluster(server.url(), "cleanup_interval=300ms");
    let [a, b] = cluster.nodes().await?;
    let socket = b.socket(["r"]).await?;
    a.broadcast(Target::room("r"), numbered(0, 20_000)).await?;
    expect_numbers(&socket, 1).await?;
    let count = async || server.sql("SELECT count(*) FROM socket_io_attachments").await.unwrap();
    until("the attachment is deleted", async || count().await.trim() == "0").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_usage_of_the_notification_queue_can_be_seen() -> Result<(), Failure> {
    let server = server().await;
    let transport = trunkline_postgres::Postgres::connect(config(server.url(), "")).await?;
    assert_eq!(transport.notification_queue_usage().await?, 0.0);
    // Who listens and stays in a transaction holds up the queue.
    let (client, connection) = tokio_postgres::connect(server.url(), tokio_postgres::NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    client.batch_execute("LISTEN \"socket.io#/\"").await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    let emitter = Emitter::new(&transport.backend());
    for _ in 0..2_000 {
        emitter.emit(Target::all(), numbered(0, 5_000)).await?;
    }
    let usage = async || transport.notification_queue_usage().await.unwrap();
    until("the queue fills", async || usage().await > 0.0).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    driving.abort();
    Ok(())
}
