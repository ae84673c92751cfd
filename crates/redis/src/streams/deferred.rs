//! [`Deferred`]: heartbeats that wait until the stream has been read.

use std::collections::HashMap;

use trunkline_core::{
    NodeId,
    model::{Heartbeat, SeqNo},
};

/// Heartbeats, by sender, that tell how much it has put into the stream. They overtake it, and what waits there to be
/// read would be taken for missing: they are held back until as much has been read.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// Since the reader asked last.
    new: HashMap<NodeId, Heartbeat>,
    /// Before: what they tell of has been read at the next end of the stream.
    due: HashMap<NodeId, Heartbeat>,
}

/// Senders whose heartbeats are deferred at most.
const MAX_DEFERRED: usize = 4096;

impl Deferred {
    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.due.is_empty()
    }

    pub(super) fn put(&mut self, from: &NodeId, heartbeat: Heartbeat) {
        if self.new.len() < MAX_DEFERRED || self.new.contains_key(from) {
            self.new.insert(from.clone(), heartbeat);
        }
    }

    /// Forgets a node that has left: it is not to be heard of any more.
    pub(super) fn forget(&mut self, from: &NodeId) {
        self.new.remove(from);
        self.due.remove(from);
    }

    /// Raises the marks of a sender to what has been read of it. A heartbeat waits for the end of the stream, and its
    /// marks may be old by then: they would be those of another node with the same name.
    pub(super) fn raise(&mut self, from: &NodeId, seq_no: SeqNo) {
        for heartbeat in [&mut self.new, &mut self.due].into_iter().filter_map(|heartbeats| heartbeats.get_mut(from)) {
            let marks = &mut heartbeat.high_water_marks;
            match marks.iter_mut().find(|mark| mark.channel == seq_no.channel) {
                Some(mark) => mark.number = mark.number.max(seq_no.number),
                None => marks.push(seq_no),
            }
        }
    }

    /// The reader is about to ask for what it has not read: what is here tells of that.
    pub(super) fn asking(&mut self) {
        self.due.extend(self.new.drain());
    }

    /// Those of which everything has been read, now that the reader is at the end of the stream.
    pub(super) fn at_end(&mut self) -> impl Iterator<Item = (NodeId, Heartbeat)> {
        self.due.drain()
    }
}

#[cfg(test)]
mod tests {
    use trunkline_core::model::SeqChannel;

    use super::*;

    fn heartbeat(number: u64) -> Heartbeat {
        Heartbeat::new(false).with_high_water_marks(vec![seq_no(number)])
    }

    fn seq_no(number: u64) -> SeqNo {
        SeqNo { channel: SeqChannel::ALL, number }
    }

    #[test]
    fn a_heartbeat_waits_for_the_end_behind_it() {
        let (mut deferred, a) = (Deferred::default(), NodeId::new("a").unwrap());
        deferred.put(&a, heartbeat(3));
        assert_eq!(deferred.at_end().count(), 0);
        deferred.asking();
        assert_eq!(deferred.at_end().collect::<Vec<_>>(), [(a, heartbeat(3))]);
        assert!(deferred.is_empty());
    }

    #[test]
    fn its_marks_are_not_below_what_has_been_read_meanwhile() {
        let (mut deferred, a) = (Deferred::default(), NodeId::new("a").unwrap());
        deferred.put(&a, Heartbeat::new(true));
        deferred.asking();
        deferred.put(&a, heartbeat(2));
        deferred.raise(&a, seq_no(1));
        deferred.raise(&NodeId::new("b").unwrap(), seq_no(9));
        let due: Vec<_> = deferred.at_end().map(|(_, heartbeat)| heartbeat.high_water_marks).collect();
        assert_eq!(due, [vec![seq_no(1)]]);
        deferred.asking();
        deferred.raise(&a, seq_no(4));
        assert_eq!(deferred.at_end().collect::<Vec<_>>(), [(a, heartbeat(4))]);
    }

    #[test]
    fn none_of_a_node_that_has_left_is_kept() {
        let (mut deferred, a) = (Deferred::default(), NodeId::new("a").unwrap());
        deferred.put(&a, heartbeat(1));
        deferred.asking();
        deferred.put(&a, heartbeat(2));
        deferred.forget(&a);
        assert!(deferred.is_empty());
    }
}
