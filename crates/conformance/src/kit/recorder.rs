//! The packets that a client was sent.

use std::{collections::HashSet, panic::Location, sync::Arc, time::Duration};

use trunkline_core::{Flags, Offset, Payload};

use super::{
    failure::{Checked, Failure, brief, check_eq},
    marker::Marker,
    watched::Watched,
};

/// An event packet as a client receives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// Event name and arguments.
    pub payload: Payload,
    /// Position in the history; a client with connection state recovery receives it as last argument.
    pub offset: Option<Offset>,
    /// Flags of the broadcast, as they arrived at this node.
    pub flags: Flags,
    /// Whether the client is to acknowledge it.
    pub wants_ack: bool,
}

impl Packet {
    /// Event name, `(no event)` if there is none.
    #[must_use]
    pub fn name(&self) -> String {
        self.payload.event_name().map_or_else(|| "(no event)".to_owned(), Into::into)
    }
}

/// Records the packets that one client is sent, in order. [`Marker`]s are kept apart: only the test's own packets show.
#[derive(Clone, Debug)]
pub struct Recorder {
    record: Arc<Watched<Record>>,
    timeout: Duration,
}

#[derive(Debug, Default)]
struct Record {
    packets: Vec<Packet>,
    markers: HashSet<Marker>,
    disconnected: Option<bool>,
}

impl Recorder {
    /// Creates an empty recorder whose waiting methods fail after `timeout`.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { record: Arc::default(), timeout }
    }

    /// Records a packet.
    pub fn packet(&self, packet: Packet) {
        self.record.update(|record| match Marker::of(&packet.payload) {
            Some(marker) => drop(record.markers.insert(marker)),
            None => record.packets.push(packet),
        });
    }

    /// Records that the client was disconnected from the namespace, and whether its connection was closed.
    pub fn disconnect(&self, close: bool) {
        self.record.update(|record| record.disconnected = Some(close));
    }

    /// Packets recorded so far.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        self.record.read(|record| record.packets.clone())
    }

    /// Names of the events recorded so far.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.record.read(names)
    }

    /// `None` while the client is connected to the namespace; afterwards whether its connection was closed as well.
    #[must_use]
    pub fn disconnected(&self) -> Option<bool> {
        self.record.read(|record| record.disconnected)
    }

    /// Discards the packets recorded so far.
    pub fn clear(&self) {
        self.record.update(|record| record.packets.clear());
    }

    /// Checks that the client received exactly these events so far, in this order. Call
    /// [`TestNode::settle`](super::TestNode::settle) before.
    #[track_caller]
    pub fn got(&self, expected: &[&str]) -> Checked {
        check_eq(self.names(), expected, "events at the client")
    }

    /// Checks that the client received exactly these events so far, in any order.
    #[track_caller]
    pub fn got_in_any_order(&self, expected: &[&str]) -> Checked {
        let mut names = self.names();
        let mut expected = expected.to_vec();
        names.sort_unstable();
        expected.sort_unstable();
        check_eq(names, expected, "events at the client, sorted")
    }

    /// Waits until at least `count` packets are recorded, and returns all of them.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> impl Future<Output = Checked<Vec<Packet>>> + use<> {
        let at = Location::caller();
        let this = self.clone();
        async move {
            let enough = |record: &Record| (record.packets.len() >= count).then(|| record.packets.clone());
            let describe = |record: &Record| {
                format!("{} of {count} packets arrived: {}", record.packets.len(), brief(&names(record)))
            };
            this.record.until(at, this.timeout, enough, describe).await
        }
    }

    /// Waits until the client is disconnected, and returns whether its connection was closed.
    #[track_caller]
    pub fn wait_for_disconnect(&self) -> impl Future<Output = Checked<bool>> + use<> {
        let at = Location::caller();
        let this = self.clone();
        async move {
            let describe = |_: &Record| "the client is still connected".to_owned();
            this.record.until(at, this.timeout, |record| record.disconnected, describe).await
        }
    }

    /// Waits for a marker. A client that is disconnected receives none and is not waited for.
    pub(super) async fn wait_for_marker(&self, at: &'static Location<'static>, marker: Marker) -> Checked {
        let arrived =
            |record: &Record| (record.disconnected.is_some() || record.markers.contains(&marker)).then_some(());
        let describe = |record: &Record| format!("a marker did not reach a client that got {}", brief(&names(record)));
        self.record.until(at, self.timeout, arrived, describe).await
    }

    /// Returns the only packet recorded so far.
    ///
    /// # Errors
    /// If there is another number of packets.
    #[track_caller]
    pub fn only_packet(&self) -> Checked<Packet> {
        match self.packets().as_slice() {
            [packet] => Ok(packet.clone()),
            packets => Err(Failure::new(format!("the client got {} packets instead of one", packets.len()))),
        }
    }
}

fn names(record: &Record) -> Vec<String> {
    record.packets.iter().map(Packet::name).collect()
}
