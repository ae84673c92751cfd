//! `doctor`: what it measures, what differs between nodes, and users without rights.

use trunkline::{Room, Target};
use trunkline_brokers::{MongoDb, Postgres, Redis};
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
    for url in readers.urls() {
        expect(url, &PRE, "rights", "critical", 2).await;
    }
}
