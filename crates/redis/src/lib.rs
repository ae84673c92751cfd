#![doc = include_str!("../README.md")]

mod census;
mod classic;
mod config;
mod connect;
mod connection;
mod courtesy;
mod crew;
mod envelope;
mod error;
mod feed;
mod plumbing;
mod post;
mod resp;
mod seats;
mod sharded;
mod shards;
mod status;
mod streams;
mod task;
mod tls;
mod topology;
mod url;
mod watch;
mod writer;

pub use crate::{
    config::{Address, Config, Mode, PubSub, Server, Sharded, Streams, SubscriptionMode, Tls, Topology},
    connect::connect,
};
