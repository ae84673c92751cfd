//! `doctor`: what it measures, what differs between nodes, and users without rights.

use trunkline::{Room, Target};
use trunkline_brokers::{MongoDb, Nats, Postgres, RabbitMq, Redis};
use trunkline_conformance::kit::Failure;

use crate::{
    doctor::{PRE, check, expect},
    support::{Readers, Wire, cluster, with},
};

#[tokio::test]
async fn a_clock_that_differs() {
    let (redis, postgres, mongodb) = (Redis::shared().await, Postgres::shared().await, MongoDb::shared().await);
    for url in [redis.unwrap(), postgres.unwrap(), mongodb.unwrap()] {
        let url = if url.starts_with("mongodb") { with(&url, "collection=clock") } else { url };
        // Other tests' clusters are alive on these servers.
        let alone = ["--pre", "--skip", "echo-time", "--skip", "prefix"];
        let ran = expect(&url, &alone, "clock", "ok", 0).await;
        assert!(check(&ran, "clock")["text"].as_str().unwrap().starts_with("the broker's clock is 0.0"), "{ran:?}");
        // The machine's clock stays as it is: the limits are such that any difference is too large.
        let none = ["--pre", "--skip", "echo-time", "--clock-critical", "0s"];
        expect(&url, &none, "clock", "critical", 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_too_short() -> Result<(), Failure> {
    let url = Wire::RedisStreams.url("history").await;
    let [node] = cluster(&url).nodes().await?;
    let mongodb = Wire::MongoDb.url("history").await;
    let [other] = cluster(&with(&mongodb, "capped_bytes=64KiB")).nodes().await?;
    for number in 0..300 {
        node.emit(Target::all(), &format!("e{number}")).await?;
        other.emit(Target::all(), &format!("e{number}")).await?;
    }
    node.settle().await?;
    other.settle().await?;
    let ran = expect(&with(&url, "max_len=20"), &PRE, "history", "critical", 2).await;
    assert!(check(&ran, "history")["text"].as_str().unwrap().contains("s at the present rate of"), "{ran:?}");
    let ran = expect(&mongodb, &PRE, "history", "critical", 2).await;
    assert!(check(&ran, "history")["text"].as_str().unwrap().contains("s at the present rate of"), "{ran:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_subscription_mode() -> Result<(), Failure> {
    let url = Wire::RedisSharded.url("subscription").await;
    let arguments = ["--nodes", "1", "--listen", "20s", "--timeout", "20s", "--skip", "echo-time", "--skip", "prefix"];
    for (here, there) in [("static", "dynamic"), ("dynamic", "static")] {
        let url = with(&url, &format!("prefix={here}"));
        let url = url.replacen("prefix=subscription_redissharded&", "", 1);
        let [node] = cluster(&with(&url, &format!("subscription={there}"))).nodes().await?;
        let socket = node.socket(["lobby"]).await?;
        node.sockets_join(Target::room(Room::new(socket.id().as_str())), vec![Room::new("vip")]).await?;
        let ran = expect(&with(&url, &format!("subscription={here}")), &arguments, "settings", "critical", 2).await;
        assert!(check(&ran, "settings")["cause"].as_str().unwrap().contains("subscription"), "{ran:?}");
        expect(&with(&url, &format!("subscription={there}")), &arguments, "settings", "ok", 0).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_another_collection_or_channel_prefix() -> Result<(), Failure> {
    let (mongodb, postgres) = (MongoDb::start().await.unwrap(), Postgres::start().await.unwrap());
    let [node] = cluster(&with(mongodb.url(), "collection=chat")).nodes().await?;
    node.emit(Target::all(), "alive").await?;
    let listen = ["--listen", "500ms", "--skip", "echo-time"];
    let ran = expect(mongodb.url(), &listen, "prefix", "warning", 1).await;
    assert!(check(&ran, "prefix")["text"].as_str().unwrap().contains("chat"), "{ran:?}");
    // As a Node.js server listens.
    let (client, connection) = tokio_postgres::connect(postgres.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("LISTEN \"chat#/\"").await.unwrap();
    let ran = expect(postgres.url(), &listen, "prefix", "warning", 1).await;
    assert!(check(&ran, "prefix")["text"].as_str().unwrap().contains("chat"), "{ran:?}");
    Ok(())
}

#[tokio::test]
async fn users_without_rights() {
    let readers = Readers::start().await;
    // All that is missing is named at once, not only what is refused first.
    let missing = [
        &["PUBLISH", "SUBSCRIBE socket.io-request", "SUBSCRIBE socket.io-response"][..],
        &["CREATE ON SCHEMA, for socket_io_attachments"],
        &["Publish", "Subscription"],
        &["configure access to exchange", "configure access to queue", "write access to queue", "read access to queue"],
        &["insert on socket_io.socket.io-adapter-events", "createCollection on"],
    ];
    for (url, missing) in readers.urls().iter().zip(missing) {
        let ran = expect(url, &PRE, "rights", "critical", 2).await;
        let cause = check(&ran, "rights")["cause"].as_str().unwrap().to_owned();
        assert!(missing.iter().all(|right| cause.contains(right)), "{missing:?}: {cause}");
    }
}

#[tokio::test]
async fn a_table_with_some_rights_missing() {
    let server = Postgres::start().await.unwrap();
    server.sql("CREATE ROLE app LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC").await.unwrap();
    server.sql(trunkline_postgres::SCHEMA).await.unwrap();
    server.sql("GRANT SELECT ON socket_io_attachments TO app").await.unwrap();
    let url = server.url().replacen("postgres@", "app@", 1);
    let url = with(&url, "create_tables=off&payload_threshold=1B");
    let ran = expect(&url, &PRE, "rights", "critical", 2).await;
    let cause = check(&ran, "rights")["cause"].as_str().unwrap().to_owned();
    for right in ["INSERT ON", "DELETE ON", "USAGE ON SEQUENCE"] {
        assert!(cause.contains(right), "{right}: {cause}");
    }
    assert!(!cause.contains("SELECT ON"), "{cause}");
}

#[tokio::test]
async fn a_postgresql_standby_behind_the_address() {
    let server = Postgres::start().await.unwrap();
    expect(server.url(), &PRE, "primary", "ok", 0).await;
    server.stop().await.unwrap();
    std::fs::write(server.folder().join("data/standby.signal"), "").unwrap();
    server.restart().await.unwrap();
    let ran = expect(server.url(), &PRE, "primary", "critical", 2).await;
    assert!(check(&ran, "primary")["advice"].as_str().unwrap().contains("pg_promote()"), "{ran:?}");
}

/// A server whose clock differs by so much: a function of that name is found before the one of the system.
#[tokio::test]
async fn a_clock_that_is_wrong() {
    let server = Postgres::start().await.unwrap();
    server.sql("ALTER ROLE postgres SET search_path = public, pg_catalog").await.unwrap();
    for (interval, outcome, code) in [("-90 s", "critical", 2), ("5 s", "warning", 1), ("0 s", "ok", 0)] {
        let function = format!(
            "CREATE OR REPLACE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
             $$ SELECT pg_catalog.clock_timestamp() + interval '{interval}' $$"
        );
        server.sql(&function).await.unwrap();
        let ran = expect(server.url(), &PRE, "clock", outcome, code).await;
        let text = check(&ran, "clock")["text"].as_str().unwrap().to_owned();
        let direction = if interval.starts_with('-') { "behind" } else { "ahead of" };
        assert!(outcome == "ok" || text.contains(direction), "{interval}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_in_jetstream_or_tables_that_is_too_short() -> Result<(), Failure> {
    let nats = with(&Wire::Nats.url("short_history").await, "history=on&history_batches=5");
    let tables = "history=on&history_table=short_history_events&session_table=short_history_sessions";
    let postgres = with(&Wire::Postgres.url("short_history").await, tables);
    let [a] = cluster(&nats).nodes().await?;
    let [b] = cluster(&postgres).nodes().await?;
    for number in 0..300 {
        a.emit(Target::all(), &format!("e{number}")).await?;
        b.emit(Target::all(), &format!("e{number}")).await?;
    }
    a.settle().await?;
    b.settle().await?;
    for url in [nats, with(&postgres, "history_messages=20")] {
        let ran = expect(&url, &PRE, "history", "critical", 2).await;
        assert!(check(&ran, "history")["text"].as_str().unwrap().contains("s at the present rate of"), "{ran:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_keeps_too_little() -> Result<(), Failure> {
    let server = RabbitMq::start().await.unwrap();
    for (policy, outcome, code) in [
        (r#"{"max-length": 100}"#, "critical", 2),
        (r#"{"max-length": 1000, "overflow": "reject-publish"}"#, "warning", 1),
        (r#"{"max-length-bytes": 600000}"#, "warning", 1),
    ] {
        server.ctl(&["set_policy", "short", "^trunkline", policy, "--apply-to", "queues"]).await.unwrap();
        let ran = expect(server.url(), &PRE, "rabbitmq-queue-limits", outcome, code).await;
        assert!(check(&ran, "rabbitmq-queue-limits")["cause"].as_str().unwrap().contains("policy"), "{ran:?}");
    }
    server.ctl(&["clear_policy", "short"]).await.unwrap();
    let ran = expect(server.url(), &PRE, "rabbitmq-queue-limits", "ok", 0).await;
    assert_eq!(check(&ran, "rabbitmq-queue-limits")["value"]["value"], 2000.0, "{ran:?}");

    let url = with(server.url(), "history=on&history_bytes=16KiB");
    let [node] = cluster(&url).nodes().await?;
    for number in 0..300 {
        node.emit(Target::all(), &format!("e{number}")).await?;
        // A batch of its own: fewer than a hundred are no rate.
        node.settle().await?;
    }
    let ran = expect(&url, &PRE, "history", "critical", 2).await;
    assert!(check(&ran, "history")["text"].as_str().unwrap().contains("batches a second"), "{ran:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_another_prefix_on_nats() -> Result<(), Failure> {
    let server = Nats::start().await.unwrap();
    let [node] = cluster(&with(server.url(), "prefix=chat")).nodes().await?;
    let emitting = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            ticks.tick().await;
            node.emit(Target::all(), "alive").await.unwrap();
        }
    });
    let listen = ["--listen", "1s", "--skip", "echo-time"];
    let ran = expect(server.url(), &listen, "prefix", "warning", 1).await;
    emitting.abort();
    assert!(check(&ran, "prefix")["text"].as_str().unwrap().contains("chat"), "{ran:?}");
    Ok(())
}
