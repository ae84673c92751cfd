//! Result of a probe: how long messages take to the broker, back, and to each other node.

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer};

use super::NodeId;

/// What [`ClusterNode::probe`](crate::ClusterNode::probe) has measured, by one monotonic clock. Serializable, with
/// times as milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Probe {
    /// Time until the broker had the messages of the probe, confirmed where it confirms; `None` if it did not take them
    /// in time.
    #[serde(serialize_with = "optional_millis")]
    pub to_broker: Option<Duration>,
    /// An own heartbeat's way to the broker and back; `None` if it did not come back in time, and where the broker sends
    /// nothing back to its sender.
    #[serde(serialize_with = "optional_millis")]
    pub echo: Option<Duration>,
    /// Time until the answer of each node that is known by name.
    #[serde(serialize_with = "all_millis")]
    pub round_trips: BTreeMap<NodeId, Duration>,
    /// Nodes known by name that did not answer in time.
    pub missing: Vec<NodeId>,
    /// Number of other nodes that did not answer: Node.js servers that only the broker counts.
    pub missing_unnamed: usize,
}

impl Probe {
    /// Whether the broker has taken the messages, and every other node has answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.to_broker.is_some() && self.missing.is_empty() && self.missing_unnamed == 0
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[allow(clippy::ref_option, reason = "serde's signature")]
fn optional_millis<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(millis).serialize(serializer)
}

fn all_millis<S: Serializer>(times: &BTreeMap<NodeId, Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(times.iter().map(|(node, time)| (node.as_str(), millis(*time))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_probe_tells_milliseconds_in_json() {
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        let probe = Probe {
            to_broker: Some(Duration::from_micros(1500)),
            round_trips: [(a, Duration::from_millis(2))].into(),
            missing: vec![b],
            ..Probe::default()
        };
        let expected = json!({
            "to_broker": 1.5, "echo": null, "round_trips": { "a": 2.0 }, "missing": ["b"], "missing_unnamed": 0,
        });
        assert_eq!(serde_json::to_value(&probe).unwrap(), expected);
        assert!(!probe.is_complete());
    }
}
