//! [`Numbers`]: which messages of a sender are missing, or came twice.

use std::collections::HashMap;

use trunkline::{
    Namespace, NodeId,
    core::{
        Message,
        model::{Delivery, SeqChannel, SeqNo},
    },
};

/// Last number of each sender on each channel.
#[derive(Debug, Default)]
pub(crate) struct Numbers(HashMap<(Namespace, NodeId, SeqChannel), u64>);

/// Channels that are kept; those of further senders are not judged.
const MAX_CHANNELS: usize = 65_536;

impl Numbers {
    /// Number of messages that are missing before this one, and its sender.
    pub(crate) fn missing(&mut self, namespace: &Namespace, delivery: &Delivery) -> Option<(NodeId, u64)> {
        let (from, own, marks) = match delivery {
            Delivery::Message { from: Some(from), message: Message::Heartbeat(heartbeat), .. } => {
                (from, None, heartbeat.high_water_marks.as_slice())
            }
            Delivery::Message { from: Some(from), seq_no, .. } => (from, *seq_no, &[][..]),
            Delivery::Skipped { from, seq_no } => (from, *seq_no, &[][..]),
            _ => return None,
        };
        // A message is itself one of those that its number counts; a heartbeat tells of those before it.
        let before = own.map(|seq_no| self.pass(namespace, from, seq_no, 1)).unwrap_or_default();
        let passed = marks.iter().map(|mark| self.pass(namespace, from, *mark, 0)).sum::<u64>();
        Some((from.clone(), before + passed)).filter(|(_, missing)| *missing > 0)
    }

    fn pass(&mut self, namespace: &Namespace, from: &NodeId, seq_no: SeqNo, own: u64) -> u64 {
        let key = (namespace.clone(), from.clone(), seq_no.channel);
        let has_room = self.0.len() < MAX_CHANNELS;
        match self.0.get_mut(&key) {
            Some(last) if seq_no.number > *last => {
                let missing = seq_no.number - *last - own;
                *last = seq_no.number;
                missing
            }
            Some(_) => 0,
            None if has_room => {
                self.0.insert(key, seq_no.number);
                0
            }
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use trunkline::core::Heartbeat;

    use super::*;

    #[test]
    fn holes_are_counted_once_and_by_sender() {
        let (namespace, mut numbers) = (Namespace::new("/"), Numbers::default());
        let seq_no = |number| SeqNo { channel: SeqChannel::ALL, number };
        let mut saw = |from: &str, message, number: Option<u64>| {
            let from = NodeId::new(from).unwrap();
            let delivery = Delivery::Message { from: Some(from), seq_no: number.map(seq_no), offset: None, message };
            numbers.missing(&namespace, &delivery).map(|(_, missing)| missing)
        };
        let other = || Message::AllRooms { request: trunkline::core::RequestId::new("r").unwrap() };
        let beat = |number| Message::Heartbeat(Heartbeat::new(false).with_high_water_marks(vec![seq_no(number)]));
        assert_eq!(saw("a", other(), Some(7)), None);
        assert_eq!(saw("a", other(), Some(8)), None);
        assert_eq!(saw("b", other(), Some(1)), None);
        assert_eq!(saw("a", other(), Some(11)), Some(2));
        assert_eq!(saw("a", other(), Some(9)), None);
        assert_eq!(saw("a", beat(11), None), None);
        assert_eq!(saw("a", beat(12), None), Some(1));
        assert_eq!(saw("a", other(), Some(13)), None);
        assert_eq!(saw("node.js", other(), None), None);
    }
}
