//! Sequence numbers for published messages, per node and channel.

use std::collections::{HashMap, VecDeque};

use crate::model::{Message, NodeId, SeqChannel, SeqNo};

/// Assigns sequence numbers per node and channel, from 1.
#[derive(Debug, Default)]
pub struct Sequencer {
    /// Sorted by channel.
    nodes: HashMap<NodeId, Vec<SeqNo>>,
    /// Nodes that left lately: what they publish at the last moment would be taken for a repeat if its numbers began
    /// anew.
    forgotten: VecDeque<(NodeId, Vec<SeqNo>)>,
}

/// Most nodes that left and are remembered.
const MAX_FORGOTTEN: usize = 256;

impl Sequencer {
    /// Assigns a number to a message that is about to be queued; a heartbeat gets the high-water marks of its sender
    /// instead.
    ///
    /// A node id never takes a number twice: one that may come back (shared by all namespaces of a process) must not be
    /// forgotten.
    pub fn assign(&mut self, node: &NodeId, channel: SeqChannel, message: &mut Message) -> Option<SeqNo> {
        if let Message::Heartbeat(heartbeat) = message {
            heartbeat.high_water_marks = self.high_water_marks(node).to_vec();
        }
        message.is_numbered().then(|| self.next(node, channel))
    }

    /// Drops the numbers of a node that left. Not for ids that come back: their numbers go on.
    pub fn forget(&mut self, node: &NodeId) {
        let Some(seq_nos) = self.nodes.remove(node) else { return };
        if self.forgotten.len() >= MAX_FORGOTTEN {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back((node.clone(), seq_nos));
    }

    /// The next number of a node on a channel; the first is 1.
    pub fn next(&mut self, node: &NodeId, channel: SeqChannel) -> SeqNo {
        let seq_nos = self.seq_nos(node);
        match seq_nos.binary_search_by_key(&channel, |seq_no| seq_no.channel) {
            Ok(index) => {
                seq_nos[index].number += 1;
                seq_nos[index]
            }
            Err(index) => {
                let seq_no = SeqNo { channel, number: 1 };
                seq_nos.insert(index, seq_no);
                seq_no
            }
        }
    }

    fn seq_nos(&mut self, node: &NodeId) -> &mut Vec<SeqNo> {
        if !self.nodes.contains_key(node)
            && let Some(index) = self.forgotten.iter().position(|(forgotten, _)| forgotten == node)
        {
            return &mut self.forgotten[index].1;
        }
        self.nodes.entry(node.clone()).or_default()
    }

    /// What a heartbeat of `node` carries: its last number on each channel, or an explicit 0 on [`SeqChannel::ALL`]
    /// before the first one.
    #[must_use]
    pub fn high_water_marks(&self, node: &NodeId) -> &[SeqNo] {
        match self.nodes.get(node).map_or(&[] as &[_], Vec::as_slice) {
            [] => &[SeqNo { channel: SeqChannel::ALL, number: 0 }],
            marks => marks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Heartbeat, payload::Payload};

    #[test]
    fn heartbeats_take_no_number_but_tell_the_last_ones() {
        let mut sequencer = Sequencer::default();
        let node = NodeId::new("a").unwrap();
        let mut heartbeat = Message::Heartbeat(Heartbeat::default());
        let mut emit = Message::ServerSideEmit { request: None, payload: Payload::event("x", &()).unwrap() };
        assert_eq!(sequencer.assign(&node, SeqChannel::ALL, &mut heartbeat), None);
        assert_eq!(heartbeat, high_water_marks(&[(0, 0)]));
        assert_eq!(
            sequencer.assign(&node, SeqChannel(7), &mut emit),
            Some(SeqNo { channel: SeqChannel(7), number: 1 })
        );
        assert_eq!(sequencer.assign(&node, SeqChannel::ALL, &mut Message::Leaving), None);
        assert_eq!(sequencer.assign(&node, SeqChannel::ALL, &mut heartbeat), None);
        assert_eq!(heartbeat, high_water_marks(&[(7, 1)]));
    }

    fn high_water_marks(marks: &[(u16, u64)]) -> Message {
        let seq_no = |&(channel, number)| SeqNo { channel: SeqChannel(channel), number };
        Message::Heartbeat(Heartbeat { high_water_marks: marks.iter().map(seq_no).collect(), ..Heartbeat::default() })
    }
}
