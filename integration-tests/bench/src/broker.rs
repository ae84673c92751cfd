//! A private broker, possibly behind a slow link.

use std::{ops::Deref, time::Duration};

use trunkline_brokers::{Broker, MongoDb, Nats, Postgres, Proxy, RabbitMq, Redis};

use crate::{Failure, subject::BrokerKind};

/// A broker that stops when this is dropped.
pub(crate) struct MeasuredBroker {
    broker: Box<dyn Deref<Target = Broker> + Send + Sync>,
    url: String,
    /// What delays each direction; it lives as long as the broker.
    _link: Option<Proxy>,
}

impl MeasuredBroker {
    /// `link` is how much later everything arrives, in each direction.
    pub(crate) async fn start(kind: BrokerKind, link: Duration) -> Result<Self, Failure> {
        let broker: Box<dyn Deref<Target = Broker> + Send + Sync> = match kind {
            BrokerKind::Redis => Box::new(Redis::start().await?),
            BrokerKind::Mongodb => Box::new(MongoDb::start().await?),
            BrokerKind::Postgres => Box::new(Postgres::start().await?),
            BrokerKind::Rabbitmq => Box::new(RabbitMq::start().await?),
            BrokerKind::Nats => Box::new(Nats::start().await?),
        };
        let mut url = broker.url().to_owned();
        if link.is_zero() {
            return Ok(Self { broker, url, _link: None });
        }
        let proxy = Proxy::start(broker.port()).await?;
        proxy.delay(link);
        url = proxy.url(&url);
        if kind == BrokerKind::Mongodb {
            // Otherwise its clients go to the address that the replica set names, past the link.
            url.push_str("&directConnection=true");
        }
        Ok(Self { broker, url, _link: Some(proxy) })
    }

    /// Where clients reach it, through the link if there is one.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A proxy in front of it.
    pub(crate) async fn proxy(&self) -> Result<Proxy, Failure> {
        Ok(Proxy::start(self.broker.port()).await?)
    }

    /// The process whose processor time, with that of its descendants, is the broker's.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.broker.pid()
    }
}
