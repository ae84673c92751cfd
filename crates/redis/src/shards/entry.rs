//! What is known of one subscription.

use std::sync::Arc;

use trunkline_core::Error;

use super::ear::Outage;
use crate::{feed::Waiter, topology::Place};

/// Something that is subscribed to.
pub(super) struct Entry {
    /// By how many.
    pub(super) wanted: usize,
    pub(super) place: Place,
    /// Tells the latest attempt to subscribe from those before.
    pub(super) ticket: u64,
    pub(super) state: State,
    pub(super) was_active: bool,
    pub(super) waiting: Vec<Arc<Waiter>>,
    /// A lost connection that keeps the subscription until it is active elsewhere.
    pub(super) former: Option<Place>,
    /// Places that have said not to serve it, since it was active last.
    pub(super) astray_from: Vec<Place>,
    pub(super) outage: Option<Arc<Outage>>,
}

pub(super) enum State {
    Asked,
    Active,
    /// The place does not serve it (any more).
    Astray,
    Refused(Error),
}

/// What is kept until a subscription is active again.
pub(super) struct Unsettled {
    pub(super) former: Option<Place>,
    pub(super) astray_from: Vec<Place>,
    pub(super) outage: Option<Arc<Outage>>,
}

impl Entry {
    pub(super) fn new(place: Place) -> Self {
        Self {
            wanted: 0,
            place,
            ticket: 0,
            state: State::Asked,
            was_active: false,
            waiting: Vec::new(),
            former: None,
            astray_from: Vec::new(),
            outage: None,
        }
    }

    pub(super) fn take_unsettled(&mut self) -> Unsettled {
        Unsettled {
            former: self.former.take(),
            astray_from: std::mem::take(&mut self.astray_from),
            outage: self.outage.take(),
        }
    }
}
