use futures_util::StreamExt;
use redis::{AsyncCommands, Client, pipe, streams::StreamReadOptions, streams::StreamReadReply};

use super::{BATCH, race};
use crate::{Failure, cluster::Load};

pub(super) const PUBLISH: &str = "bare PUBLISH, pipelined";
pub(super) const XADD: &str = "bare XADD, pipelined";

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
    race(load, send, receive).await
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
        let options = StreamReadOptions::default().block(500).count(1000);
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
    let rate = race(load, send, receive).await;
    let _: () = writer.del(KEY).await?;
    rate
}

fn batches(load: Load) -> impl Iterator<Item = u64> {
    (0..load.messages).step_by(BATCH as usize).map(move |from| BATCH.min(load.messages - from))
}

const KEY: &str = "trunkline-bench";
