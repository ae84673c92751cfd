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

use tokio::time::timeout;

use crate::{Failure, cluster::Load, subject::BrokerKind};

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

/// Runs both sides at once; `receive` ends with the last message.
async fn race(
    load: Load,
    send: impl Future<Output = Result<(), Failure>>,
    receive: impl Future<Output = Result<(), Failure>>,
) -> Result<f64, Failure> {
    let began = Instant::now();
    timeout(PATIENCE, async { tokio::try_join!(send, receive) })
        .await
        .map_err(|_| "the bare broker lost messages")??;
    Ok(load.messages as f64 / began.elapsed().as_secs_f64())
}

const PATIENCE: Duration = Duration::from_secs(300);
/// Messages that are written at once.
const BATCH: u64 = 1000;
