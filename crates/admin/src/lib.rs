#![doc = include_str!("../README.md")]

mod admin;
mod auth;
mod commands;
mod config;
mod looking;
#[cfg(feature = "redis")]
mod redis_sessions;
mod sessions;
mod shown;
mod stats;
mod time;
mod watched;
mod watchers;

#[cfg(feature = "redis")]
pub use crate::redis_sessions::RedisSessions;
pub use crate::{
    admin::{Admin, admin},
    auth::Auth,
    config::AdminConfig,
    sessions::SessionStore,
    watched::WatchedSocket,
};
