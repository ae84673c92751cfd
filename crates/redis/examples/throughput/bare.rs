//! The commands alone, pipelined, with one reader: what there is to reach. 200 bytes each, as a message of 128 has on the wire.

use std::{error::Error, time::Instant};

use futures_util::StreamExt;
use redis::{Client, Cmd, Value, aio::MultiplexedConnection};

/// Commands per pipeline, and entries per read.
const BATCH: u64 = 1_000;

/// Messages per second over pub/sub.
pub(crate) async fn publish(url: &str, count: u64) -> Result<f64, Box<dyn Error>> {
    let client = Client::open(url)?;
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe("throughput-bare").await?;
    let reader = tokio::spawn(async move {
        let mut messages = subscription.into_on_message();
        for _ in 0..count {
            messages.next().await;
        }
    });
    let start = Instant::now();
    let payload = [b'x'; 200];
    send(&client, count, |command| {
        command.arg("PUBLISH").arg("throughput-bare").arg(&payload);
    })
    .await?;
    reader.await?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Messages per second through a stream.
pub(crate) async fn append(url: &str, count: u64) -> Result<f64, Box<dyn Error>> {
    let client = Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("DEL").arg("throughput-bare").exec_async(&mut connection).await?;
    let reader = tokio::spawn(async move { read(connection, count).await });
    let start = Instant::now();
    let payload = [b'x'; 150];
    send(&client, count, |command| {
        command.arg("XADD").arg("throughput-bare").arg("*");
        for (field, value) in [("uid", &b"0123456789abcdef"[..]), ("nsp", b"/"), ("type", b"3"), ("data", &payload)] {
            command.arg(field).arg(value);
        }
    })
    .await?;
    reader.await??;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

async fn send(client: &Client, count: u64, write: impl Fn(&mut Cmd)) -> redis::RedisResult<()> {
    let mut connection = client.get_multiplexed_async_connection().await?;
    for _ in 0..count / BATCH {
        let mut pipeline = redis::pipe();
        for _ in 0..BATCH {
            let mut command = Cmd::new();
            write(&mut command);
            pipeline.add_command(command).ignore();
        }
        pipeline.exec_async(&mut connection).await?;
    }
    Ok(())
}

async fn read(mut connection: MultiplexedConnection, count: u64) -> redis::RedisResult<()> {
    let (mut position, mut seen) = (b"0-0".to_vec(), 0);
    while seen < count {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(BATCH).arg("BLOCK").arg(400).arg("STREAMS").arg("throughput-bare").arg(&position);
        let answer: Value = command.query_async(&mut connection).await?;
        let entries = entries(answer);
        seen += entries.len() as u64;
        if let Some(Value::BulkString(id)) = entries.last().and_then(|entry| entry.first()) {
            position.clone_from(id);
        }
    }
    Ok(())
}

/// `[[stream, [[id, fields], …]]]`
fn entries(answer: Value) -> Vec<Vec<Value>> {
    let list = |value| if let Value::Array(items) = value { items } else { Vec::new() };
    let stream = list(answer).into_iter().next().map(list).unwrap_or_default();
    let entries = stream.into_iter().nth(1).map(list).unwrap_or_default();
    entries.into_iter().map(list).collect()
}
