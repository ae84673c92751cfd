//! A server that only counts what it gets.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::Notify;
use trunkline_core::{
    Delivered, Local, LocalAbilities, NodeId, Offset, Payload, Replies, Reply, Room, SocketInfo, Target,
};

/// A server with one client in every room, which counts.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    count: AtomicU64,
    pub(crate) disorder: AtomicU64,
    arrived: Notify,
}

impl Counting {
    pub(crate) async fn until(&self, count: u64) {
        loop {
            let arrived = self.arrived.notified();
            if self.count.load(Ordering::Acquire) >= count {
                return;
            }
            arrived.await;
        }
    }
}

impl Local for Counting {
    fn abilities(&self) -> LocalAbilities {
        LocalAbilities { close_connections: true, number_rooms: true }
    }

    fn deliver(&self, _: &Target, payload: &Payload, _: Option<&Offset>) -> Delivered {
        let number = payload.arguments::<(String,)>().ok().and_then(|(text,)| text.parse::<u64>().ok());
        let expected = self.count.fetch_add(1, Ordering::Release);
        self.disorder.fetch_add(u64::from(number != Some(expected)), Ordering::Relaxed);
        self.arrived.notify_waiters();
        Delivered { sent: 1, ..Delivered::default() }
    }

    fn deliver_with_ack(&self, _: &Target, _: &Payload, _: Duration, _: Replies) -> u32 {
        0
    }

    fn sockets(&self, _: &Target) -> Vec<SocketInfo> {
        Vec::new()
    }

    fn rooms(&self) -> Vec<Room> {
        Vec::new()
    }

    fn has_room(&self, _: &Room) -> bool {
        true
    }

    fn join(&self, _: &Target, _: &[Room]) {}

    fn leave(&self, _: &Target, _: &[Room]) {}

    fn disconnect(&self, _: &Target, _: bool) {}

    fn server_side_event(&self, _: &NodeId, _: &Payload, _: Option<Reply>) {}
}
