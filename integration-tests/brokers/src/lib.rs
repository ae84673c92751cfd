#![doc = include_str!("../README.md")]

mod broker;
mod certificates;
mod error;
mod guard;
mod mongodb;
mod port;
mod postgres;
mod process;
mod program;
mod redis;

pub use crate::{
    broker::Broker,
    certificates::{Certificates, ClientCertificate},
    error::{Error, Result},
    mongodb::{MongoDb, MongoDbOptions},
    postgres::{Postgres, PostgresOptions},
    redis::{Redis, RedisOptions},
};
