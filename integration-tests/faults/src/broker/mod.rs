//! The private broker of a cell, and what an administrator does to it.

mod mongodb;
mod nats;
mod postgres;
mod rabbitmq;
mod redis;

use std::ops::Deref;

use serde::{Deserialize, Serialize};
use trunkline_brokers::{
    Broker, Postgres, RabbitMq, Redis,
    transports::{BrokerKind, Transport},
};

use crate::{
    Failure,
    broker::{mongodb::MongoDb, nats::Nats},
    fault::Fault,
};

/// A private broker. It ends when dropped.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in a cell")]
pub(crate) enum TestBroker {
    Redis(Redis),
    MongoDb(MongoDb),
    Postgres(Postgres),
    RabbitMq(RabbitMq),
    Nats(Nats),
}

/// What an administrator does to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    CloseConnections,
    /// Takes away the room for messages.
    Fill,
    RaiseAlarm,
    ForbidWrites,
    DeleteData,
    /// Undoes the others.
    Heal,
}

/// What is left in the broker of nodes that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leftovers {
    pub(crate) connections: usize,
    /// Subscribed channels, queues of nodes, consumers.
    pub(crate) subscriptions: usize,
}

impl TestBroker {
    pub(crate) async fn start(kind: BrokerKind) -> Result<Self, Failure> {
        Ok(match kind {
            BrokerKind::Redis => Self::Redis(Redis::options().append_only().start().await?),
            BrokerKind::Mongodb => Self::MongoDb(MongoDb::start().await?),
            BrokerKind::Postgres => Self::Postgres(Postgres::start().await?),
            BrokerKind::Rabbitmq => Self::RabbitMq(RabbitMq::start().await?),
            BrokerKind::Nats => Self::Nats(Nats::start().await?),
        })
    }

    pub(crate) async fn perform(&self, action: Action) -> Result<(), Failure> {
        match self {
            Self::Redis(server) => redis::perform(server, action).await,
            Self::MongoDb(server) => server.perform(action).await,
            Self::Postgres(server) => postgres::perform(server, action).await,
            Self::RabbitMq(server) => rabbitmq::perform(server, action).await,
            Self::Nats(server) => server.perform(action).await,
        }
    }

    /// What it has of nodes now.
    pub(crate) async fn leftovers(&self) -> Result<Leftovers, Failure> {
        match self {
            Self::Redis(server) => redis::leftovers(server).await,
            Self::MongoDb(server) => server.leftovers().await,
            Self::Postgres(server) => postgres::leftovers(server).await,
            Self::RabbitMq(server) => rabbitmq::leftovers(server).await,
            Self::Nats(server) => server.leftovers().await,
        }
    }
}

impl Deref for TestBroker {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        match self {
            Self::Redis(server) => server,
            Self::MongoDb(server) => server,
            Self::Postgres(server) => server,
            Self::RabbitMq(server) => server,
            Self::Nats(server) => server,
        }
    }
}

/// Why a fault does not exist on a transport.
pub(crate) fn refusal(transport: Transport, fault: Fault) -> Option<&'static str> {
    use BrokerKind::{Mongodb, Nats, Postgres, Redis};
    let history = transport.has_history();
    match (fault, transport.broker()) {
        (Fault::Full, Redis) if !history => Some("publishing takes none of the memory that is limited"),
        (Fault::Full, Postgres) => Some("only a full disk stops it, which needs a file system of its own"),
        (Fault::Full, Nats) => Some("a stream that is full drops its oldest messages"),
        (Fault::Alarmed, Redis | Mongodb | Postgres | Nats) => Some("it has no alarms"),
        (Fault::ReadOnly, Nats) => Some("it has no such mode"),
        (Fault::Deleted, Redis | Nats) if !history => Some("it keeps nothing"),
        (Fault::ClockSteps, _) if crate::clock::library().is_none() => Some("libfaketime is not installed"),
        _ => None,
    }
}

/// Number of lines that are not empty.
fn lines(printed: &str) -> usize {
    printed.lines().filter(|line| !line.trim().is_empty()).count()
}
