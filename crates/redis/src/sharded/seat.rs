//! A node's seat.

use std::sync::{Mutex, MutexGuard, PoisonError};

use trunkline_core::{Gap, GapCause, model::Delivery};

use super::rooms::Rooms;
use crate::seats::Member;

/// A node that has joined.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) member: Member,
    rooms: Mutex<Rooms>,
}

impl AsRef<Member> for Seat {
    fn as_ref(&self) -> &Member {
        &self.member
    }
}

impl Seat {
    pub(super) fn new(member: Member, rooms: Rooms) -> Self {
        Self { member, rooms: Mutex::new(rooms) }
    }

    pub(super) fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lost(&self, reason: &str) {
        self.member.tell(Delivery::Lost(reason.to_owned()));
    }

    pub(super) fn missed(&self) {
        self.member.tell(Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None }));
    }

    pub(super) fn restored(&self) {
        self.member.metrics.reconnects.increment();
        self.member.tell(Delivery::Connected);
    }
}
