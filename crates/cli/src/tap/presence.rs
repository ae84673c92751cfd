//! [`Presence`]: nodes that send heartbeats, and fall silent.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use trunkline::{Namespace, NodeId, core::Message, core::model::Delivery};

use super::Heard;

/// Nodes that have sent a heartbeat, and when they were heard last.
#[derive(Debug, Default)]
pub(super) struct Presence(HashMap<(Namespace, NodeId), Instant>);

/// Silence after which nodes give each other up, by default.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// Nodes that are kept; of further ones nothing is told.
const MAX_NODES: usize = 4_096;

impl Presence {
    pub(super) fn heard(&mut self, heard: &Heard) {
        let (from, message) = match &heard.delivery {
            Delivery::Message { from: Some(from), message, .. } => (from, Some(message)),
            Delivery::Skipped { from, .. } | Delivery::Response { from: Some(from), .. } => (from, None),
            _ => return,
        };
        let key = (heard.namespace.clone(), from.clone());
        match message {
            Some(Message::Leaving) => drop(self.0.remove(&key)),
            Some(Message::Heartbeat(_)) if self.0.len() < MAX_NODES => drop(self.0.insert(key, Instant::now())),
            _ => drop(self.0.get_mut(&key).map(|last| *last = Instant::now())),
        }
    }

    /// Nodes that have fallen silent, once each.
    pub(super) fn silent(&mut self) -> Vec<(Namespace, NodeId)> {
        self.0.extract_if(|_, last| last.elapsed() >= SILENCE).map(|(node, _)| node).collect()
    }
}

#[cfg(test)]
mod tests {
    use trunkline::core::Heartbeat;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_falls_silent_is_told_once_and_one_that_leaves_never() {
        let mut presence = Presence::default();
        let say = |presence: &mut Presence, from: &str, message| {
            let from = Some(NodeId::new(from).unwrap());
            let delivery = Delivery::Message { from, seq_no: None, offset: None, message };
            presence.heard(&Heard { namespace: Namespace::new("/"), delivery });
        };
        let beat = || Message::Heartbeat(Heartbeat::new(false));
        for node in ["frozen", "leaving", "alive"] {
            say(&mut presence, node, beat());
        }
        say(&mut presence, "leaving", Message::Leaving);
        tokio::time::advance(SILENCE / 2).await;
        say(&mut presence, "alive", beat());
        assert_eq!(presence.silent(), []);
        tokio::time::advance(SILENCE / 2).await;
        let frozen = (Namespace::new("/"), NodeId::new("frozen").unwrap());
        assert_eq!(presence.silent(), [frozen]);
        assert_eq!(presence.silent(), []);
    }
}
