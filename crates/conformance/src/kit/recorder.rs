//! What a client was sent.

use std::{collections::HashSet, panic::Location, sync::Arc, time::Duration};

use trunkline_core::{Flags, Offset, Payload};

use super::{
    failure::{Checked, Failure, brief, check_eq},
    marker::Marker,
    watchable::Watchable,
};

/// A packet as a client gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// Event name and arguments.
    pub payload: Payload,
    /// Where it lies in the history; a client that wants to recover gets it as last argument.
    pub offset: Option<Offset>,
    /// Modifiers, as they arrived at this node.
    pub flags: Flags,
    /// Whether an acknowledgement is asked for.
    pub wants_ack: bool,
}

impl Packet {
    /// The event's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.payload.event_name().map_or_else(|| "(no event)".to_owned(), Into::into)
    }
}

/// Keeps everything one client is sent, in order. [`Marker`]s are kept apart, so that a test's own packets are all there is to see.
#[derive(Clone, Debug)]
pub struct Recorder {
    record: Arc<Watchable<Record>>,
    patience: Duration,
}

#[derive(Debug, Default)]
struct Record {
    packets: Vec<Packet>,
    markers: HashSet<Marker>,
    disconnected: Option<bool>,
}

impl Recorder {
    /// An empty recorder, which waits for at most `patience` for what is to come.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { record: Arc::default(), patience }
    }

    /// Takes a packet in.
    pub fn packet(&self, packet: Packet) {
        self.record.update(|record| match Marker::of(&packet.payload) {
            Some(marker) => drop(record.markers.insert(marker)),
            None => record.packets.push(packet),
        });
    }

    /// Notes that the client was disconnected, and whether its connection was closed.
    pub fn disconnect(&self, close: bool) {
        self.record.update(|record| record.disconnected = Some(close));
    }

    /// Everything so far.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        self.record.read(|record| record.packets.clone())
    }

    /// The names of all events so far.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.record.read(names)
    }

    /// Whether the client was disconnected from the namespace, and if so, whether its connection was closed as well.
    #[must_use]
    pub fn disconnected(&self) -> Option<bool> {
        self.record.read(|record| record.disconnected)
    }

    /// Forgets all packets so far.
    pub fn clear(&self) {
        self.record.update(|record| record.packets.clear());
    }

    /// Checks that the client got these events so far, in this order and nothing else. Meant for after
    /// [`TestNode::settle`](super::TestNode::settle).
    #[track_caller]
    pub fn got(&self, expected: &[&str]) -> Checked {
        check_eq(self.names(), expected, "events at the client")
    }

    /// As [`Recorder::got`], in any order.
    #[track_caller]
    pub fn got_in_any_order(&self, expected: &[&str]) -> Checked {
        let mut names = self.names();
        let mut expected = expected.to_vec();
        names.sort_unstable();
        expected.sort_unstable();
        check_eq(names, expected, "events at the client, sorted")
    }

    /// Waits until there are `count` packets, and returns them.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> impl Future<Output = Checked<Vec<Packet>>> + use<> {
        let at = Location::caller();
        let this = self.clone();
        async move {
            let enough = |record: &Record| (record.packets.len() >= count).then(|| record.packets.clone());
            let describe = |record: &Record| {
                format!("{} of {count} packets arrived: {}", record.packets.len(), brief(&names(record)))
            };
            this.record.until(at, this.patience, enough, describe).await
        }
    }

    /// Waits until the client is disconnected; returns whether its connection was closed.
    #[track_caller]
    pub fn wait_for_disconnect(&self) -> impl Future<Output = Checked<bool>> + use<> {
        let at = Location::caller();
        let this = self.clone();
        async move {
            let describe = |_: &Record| "the client is still connected".to_owned();
            this.record.until(at, this.patience, |record| record.disconnected, describe).await
        }
    }

    /// Waits for a marker, unless the client is disconnected, which gets none.
    pub(crate) async fn wait_for_marker(&self, at: &'static Location<'static>, marker: Marker) -> Checked {
        let arrived =
            |record: &Record| (record.disconnected.is_some() || record.markers.contains(&marker)).then_some(());
        let describe = |record: &Record| format!("a marker did not reach a client that got {}", brief(&names(record)));
        self.record.until(at, self.patience, arrived, describe).await
    }

    /// The only packet so far.
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
