#![doc = include_str!("../README.md")]

mod broker;
mod certificates;
mod error;
mod guard;
mod mongodb;
mod nats;
mod port;
mod postgres;
mod process;
mod program;
mod proxy;
mod rabbitmq;
mod redis;
mod timer;
#[cfg(feature = "transports")]
pub mod transports;

pub use crate::{
    broker::Broker,
    certificates::{Certificates, ClientCertificate},
    error::{Error, Result},
    mongodb::{MongoDb, MongoDbOptions},
    nats::{Nats, NatsCluster, NatsOptions},
    postgres::{Postgres, PostgresOptions},
    proxy::Proxy,
    rabbitmq::{RabbitMq, RabbitMqOptions},
    redis::{Redis, RedisCluster, RedisOptions, RedisSentinel},
};
