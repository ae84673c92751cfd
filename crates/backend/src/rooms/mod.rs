//! Rooms mapped to what a node subscribes to, for brokers that deliver only that: buckets of rooms, or a channel per
//! room.

mod buckets;
mod interest;
mod recent_joins;
mod router;
mod subscriptions;

pub use self::{
    buckets::{Bucket, Buckets},
    interest::{Interest, RoomKeys},
    recent_joins::RecentJoins,
    router::RoomRouter,
    subscriptions::*,
};
