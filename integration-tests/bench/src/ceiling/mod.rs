//! What the bare broker carries from one connection to another: nothing is encoded, matched or acknowledged, and as much is written at once
//! as its client takes.

mod mongodb;
mod nats;
mod postgres;
mod rabbitmq;
mod redis;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use tokio::time::{Interval, interval, timeout};

use crate::{Failure, client::Received, load::Load, now, subject::BrokerKind};

/// The ways to carry messages over a broker.
pub(crate) fn names(kind: BrokerKind) -> &'static [&'static str] {
    match kind {
        BrokerKind::Redis => &[redis::PUBLISH, redis::XADD],
        BrokerKind::Mongodb => &[mongodb::INSERT],
        BrokerKind::Rabbitmq => &[rabbitmq::PUBLISH],
        BrokerKind::Postgres => &[postgres::NOTIFY],
        BrokerKind::Nats => &[nats::PUBLISH],
    }
}

/// Messages per second at the receiver.
pub(crate) async fn rate(name: &str, url: &str, load: Load) -> Result<f64, Failure> {
    match name {
        redis::PUBLISH => redis::publish(url, load).await,
        redis::XADD => redis::xadd(url, load).await,
        mongodb::INSERT => mongodb::insert(url, load).await,
        rabbitmq::PUBLISH => rabbitmq::publish(url, load).await,
        postgres::NOTIFY => postgres::notify(url, load).await,
        nats::PUBLISH => nats::publish(url, load).await,
        other => Err(format!("there is no ceiling '{other}'").into()),
    }
}

/// The ways of which it is known how long a single message takes.
pub(crate) fn latency_names(kind: BrokerKind) -> &'static [&'static str] {
    match kind {
        BrokerKind::Redis => &[redis::ONE_PUBLISH, redis::ONE_XADD],
        _ => &[],
    }
}

/// How long messages take that are sent one at a time, at the load's rate.
pub(crate) async fn latency(name: &str, url: &str, load: Load) -> Result<Received, Failure> {
    let measuring = async {
        match name {
            redis::ONE_PUBLISH => redis::publish_latency(url, load).await,
            redis::ONE_XADD => redis::xadd_latency(url, load).await,
            other => Err(format!("there is no ceiling '{other}'").into()),
        }
    };
    timeout(TIMEOUT, measuring).await.map_err(|_| "the bare broker lost messages")?
}

/// When to send the next message of a load.
struct Pace {
    left: u64,
    tick: Interval,
}

impl Pace {
    fn new(load: Load) -> Self {
        Self {
            left: load.messages,
            tick: interval(Duration::from_secs(1) / u32::try_from(load.rate).unwrap_or(1).max(1)),
        }
    }

    /// False after the last one.
    async fn next(&mut self) -> bool {
        let has_next = self.left > 0;
        if has_next {
            self.left -= 1;
            self.tick.tick().await;
        }
        has_next
    }
}

/// A message of the load's length that begins with the time.
fn stamped(load: Load) -> Vec<u8> {
    let mut message = now().to_be_bytes().to_vec();
    message.resize(load.bytes.max(message.len()), b'x');
    message
}

/// Nanoseconds since such a message was made.
fn age_of(message: &[u8]) -> Result<u64, Failure> {
    let time = message.first_chunk().ok_or("a message without its time")?;
    Ok(now().saturating_sub(u64::from_be_bytes(*time)))
}

/// Runs both sides at once; `receive` ends with the last message.
async fn timed(
    load: Load,
    send: impl Future<Output = Result<(), Failure>>,
    receive: impl Future<Output = Result<(), Failure>>,
) -> Result<f64, Failure> {
    let began = Instant::now();
    timeout(TIMEOUT, async { tokio::try_join!(send, receive) })
        .await
        .map_err(|_| "the bare broker lost messages")??;
    Ok(load.messages as f64 / began.elapsed().as_secs_f64())
}

const TIMEOUT: Duration = Duration::from_secs(300);
/// Messages that are written at once.
const BATCH: u64 = 1000;
