#![doc = include_str!("../README.md")]

mod broker;
mod certificates;
mod error;
mod guard;
mod port;
mod process;
mod program;
mod redis;

pub use crate::{
    broker::Broker,
    certificates::Certificates,
    error::{Error, Result},
    redis::{ClientCertificate, Redis, RedisOptions},
};
