//! What the tasks of the transport share: the seats, and what happens to them.

use std::sync::Arc;

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::seat::Seat;
use crate::{
    envelope::{self, Door},
    feed::{Arrival, Topic},
    seats::Seats,
    shards::{Audience, Shards},
};

/// What the tasks share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) seats: Arc<Seats<Seat, Door>>,
    /// Rooms were left: there may be something to give up.
    pub(super) left_rooms: Notify,
}

/// Gives up the channels of rooms that are left for long enough.
pub(super) async fn sweep(shared: Arc<Shared>, shards: Shards) {
    loop {
        let due = shared.seats.all().iter().filter_map(|seat| seat.rooms().deadline()).min();
        tokio::select! {
            () = shared.left_rooms.notified() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
        for seat in shared.seats.all() {
            let topics = shared.take_expired(&seat);
            if !topics.is_empty() && shards.unsubscribe(topics).await.is_err() {
                tracing::debug!("the server did not confirm that rooms were left");
            }
        }
    }
}

impl Shared {
    fn take_expired(&self, seat: &Arc<Seat>) -> Vec<Topic> {
        let mut rooms = seat.rooms();
        let topics: Vec<_> = rooms.take_expired(Instant::now()).into_iter().map(Topic::Shard).collect();
        topics.iter().for_each(|topic| self.seats.disconnect(seat, topic, Door::Public));
        topics
    }
}

impl Audience for Shared {
    fn arrived(&self, batch: &mut Vec<Arrival>) {
        self.seats.route(
            batch,
            |arrival| &arrival.topic,
            |arrival, seat, door, wants| envelope::take(&seat.member, &arrival.payload, door, wants),
        );
    }

    fn lost(&self, reason: &str) {
        self.seats.all().iter().for_each(|seat| seat.lost(reason));
    }

    fn missed(&self, topics: Option<&[Topic]>) {
        match topics {
            None => self.seats.all().iter().for_each(|seat| seat.missed()),
            Some(topics) => self.seats.of_topics(topics).values().for_each(|seat| seat.missed()),
        }
    }

    fn restored(&self) {
        self.seats.all().iter().for_each(|seat| seat.restored());
    }
}
