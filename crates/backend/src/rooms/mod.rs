//! Rooms hashed into buckets, for brokers that deliver only what a node has subscribed to.

mod buckets;
mod router;
mod subscriptions;

pub use self::{
    buckets::{Bucket, Buckets, Interest, RecentJoins},
    router::RoomRouter,
    subscriptions::*,
};
