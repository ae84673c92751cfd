use futures_util::StreamExt;
use redis::{
    AsyncCommands, Client, pipe,
    streams::{StreamReadOptions, StreamReadReply},
};

use super::{BATCH, Pace, age_of, stamped, timed};
use crate::{Failure, client::Received, load::Load};

pub(super) const PUBLISH: &str = "bare PUBLISH, pipelined";
pub(super) const XADD: &str = "bare XADD, pipelined";
pub(super) const ONE_PUBLISH: &str = "bare PUBLISH";
pub(super) const ONE_XADD: &str = "bare XADD";

pub(super) async fn publish(url: &str, load: Load) -> Result<f64, Failure> {
    let client = Client::open(url)?;
    let mut publisher = client.get_multiplexed_async_connection().await?;
    let mut subscriber = client.get_async_pubsub().await?;
    subscriber.subscribe(KEY).await?;
    let payload = vec![b'x'; load.bytes];
    let send = async {
        for batch in batches(load) {
            let mut commands = pipe();
            for _ in 0..batch {
                commands.publish(KEY, &payload[..]).ignore();
            }
            commands.query_async::<()>(&mut publisher).await?;
        }
        Ok(())
    };
    let mut messages = subscriber.on_message();
    let receive = async {
        for _ in 0..load.messages {
            messages.next().await.ok_or("the subscriber was cut off")?;
        }
        Ok(())
    };
    timed(load, send, receive).await
}

pub(super) async fn xadd(url: &str, load: Load) -> Result<f64, Failure> {
    let client = Client::open(url)?;
    let mut writer = client.get_multiplexed_async_connection().await?;
    let mut reader = client.get_multiplexed_async_connection().await?;
    let _: () = writer.del(KEY).await?;
    let payload = vec![b'x'; load.bytes];
    let send = async {
        for batch in batches(load) {
            let mut commands = pipe();
            for _ in 0..batch {
                commands.xadd(KEY, "*", &[("data", &payload[..])]).ignore();
            }
            commands.query_async::<()>(&mut writer).await?;
        }
        Ok(())
    };
    let receive = async {
        let options = read_options();
        let (mut read, mut position) = (0, "0".to_owned());
        while read < load.messages {
            let reply: StreamReadReply = reader.xread_options(&[KEY], &[&position], &options).await?;
            for entry in reply.keys.into_iter().flat_map(|stream| stream.ids) {
                read += 1;
                position = entry.id;
            }
        }
        Ok(())
    };
    let rate = timed(load, send, receive).await;
    let _: () = writer.del(KEY).await?;
    rate
}

/// How long each message takes, one at a time.
pub(super) async fn publish_latency(url: &str, load: Load) -> Result<Received, Failure> {
    let client = Client::open(url)?;
    let mut publisher = client.get_multiplexed_async_connection().await?;
    let mut subscriber = client.get_async_pubsub().await?;
    subscriber.subscribe(KEY).await?;
    let receiving = tokio::spawn(async move {
        let mut messages = subscriber.into_on_message();
        let mut received = Received { expected: load.messages, ..Received::default() };
        while received.events < load.messages {
            received.add(age_of(messages.next().await.ok_or("the subscriber was cut off")?.get_payload_bytes())?);
        }
        Ok::<_, Failure>(received)
    });
    let mut pace = Pace::new(load);
    while pace.next().await {
        let _: () = publisher.publish(KEY, stamped(load)).await?;
    }
    receiving.await?
}

/// As [`publish_latency`], through a stream.
pub(super) async fn xadd_latency(url: &str, load: Load) -> Result<Received, Failure> {
    let client = Client::open(url)?;
    let mut writer = client.get_multiplexed_async_connection().await?;
    let mut reader = client.get_multiplexed_async_connection().await?;
    let _: () = writer.del(KEY).await?;
    let receiving = tokio::spawn(async move {
        let (mut received, mut position) =
            (Received { expected: load.messages, ..Received::default() }, "0".to_owned());
        while received.events < load.messages {
            let reply: StreamReadReply = reader.xread_options(&[KEY], &[&position], &read_options()).await?;
            for entry in reply.keys.into_iter().flat_map(|stream| stream.ids) {
                received.add(age_of(&entry.get::<Vec<u8>>("data").unwrap_or_default())?);
                position = entry.id;
            }
        }
        Ok::<_, Failure>(received)
    });
    let mut pace = Pace::new(load);
    while pace.next().await {
        let _: () = writer.xadd(KEY, "*", &[("data", stamped(load))]).await?;
    }
    let received = receiving.await?;
    let _: () = writer.del(KEY).await?;
    received
}

fn read_options() -> StreamReadOptions {
    StreamReadOptions::default().block(500).count(1000)
}

fn batches(load: Load) -> impl Iterator<Item = u64> {
    (0..load.messages).step_by(BATCH as usize).map(move |from| BATCH.min(load.messages - from))
}

const KEY: &str = "trunkline-bench";
