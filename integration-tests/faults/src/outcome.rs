//! What a cell has measured: one line of JSON, and the source of the table.

use serde::{Deserialize, Serialize};

use trunkline_brokers::transports::Transport;

use crate::{broker::Leftovers, fault::Fault};

/// Everything that one cell has measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) transport: Transport,
    pub(crate) fault: Fault,
    #[serde(flatten)]
    pub(crate) measured: Measured,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Measured {
    Run(Box<Figures>),
    /// The fault does not exist on this transport; says why.
    NotApplicable {
        not_applicable: String,
    },
    /// The cell could not be run; says why.
    Failed {
        error: String,
    },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Broken promises, each a sentence.
    pub(crate) broken: Vec<String>,
    pub(crate) sent: u64,
    pub(crate) refused: u64,
    /// Over all clients.
    pub(crate) lost: u64,
    pub(crate) own_lost: u64,
    /// The losses in words.
    #[serde(default)]
    pub(crate) losses: Vec<String>,
    pub(crate) repeated: u64,
    pub(crate) reordered: u64,
    /// One entry for each node that has missed something or reported gaps.
    pub(crate) gaps: Vec<GapBook>,
    /// Seconds from the end of the fault until everything was right again; `None` if that was not seen.
    pub(crate) recovery: Option<f64>,
    pub(crate) requests: usize,
    pub(crate) requests_failed: usize,
    /// Requests that ended as a success and left something out, a few of them in words.
    pub(crate) wrong: usize,
    pub(crate) wrong_answers: Vec<String>,
    /// Resident memory of the largest node in MiB, before the fault and at the end.
    pub(crate) memory: [u64; 2],
    /// Open files of the node with the most, before the fault and at the end.
    pub(crate) files: [u64; 2],
    /// Lines that the most talkative node has logged.
    pub(crate) log_lines: u64,
    pub(crate) leftovers: Leftovers,
    /// Times that nodes took themselves for disconnected, gained and lost peers.
    pub(crate) events: Vec<String>,
}

/// What one node has missed, and what it has said about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GapBook {
    pub(crate) node: usize,
    /// Messages of other nodes that at least one of its clients did not receive.
    pub(crate) missing: u64,
    /// Requests of other nodes that it may have missed besides.
    pub(crate) requests: u64,
    /// Sizes of the gaps that it reported.
    pub(crate) reported: Vec<Option<u64>>,
}

impl GapBook {
    /// Why what it said is not true.
    pub(crate) fn error(&self, has_history: bool) -> Option<String> {
        let Self { node, missing, requests, reported } = self;
        if *missing > 0 && reported.is_empty() {
            return Some(format!("node {node} missed {missing} messages and reported no gap"));
        }
        // Requests do not go through every history; a gap may be theirs.
        let may_be_requests = |size: &Option<u64>| size.is_some_and(|size| (1..=*requests).contains(&size));
        if has_history && *missing == 0 && !reported.iter().all(may_be_requests) {
            return Some(format!("node {node} reported gaps {} and missed nothing", shown(reported)));
        }
        let sum: u64 =
            reported.iter().try_fold(0_u64, |sum, missed| missed.map(|missed| sum.saturating_add(missed)))?;
        let most = missing + requests;
        (sum < *missing || sum > most).then(|| {
            let missed = if requests > &0 { format!("{missing} to {most}") } else { missing.to_string() };
            format!("node {node} reported gaps {} and missed {missed} messages", shown(reported))
        })
    }
}

/// Sizes of gaps as a sum, `?` for those that are not known.
pub(crate) fn shown(sizes: &[Option<u64>]) -> String {
    let sizes: Vec<_> = sizes.iter().map(|size| size.map_or("?".to_owned(), |size| size.to_string())).collect();
    if sizes.is_empty() { "–".to_owned() } else { sizes.join("+") }
}

impl Outcome {
    /// Whether the cell ran and kept every promise, or does not exist.
    pub(crate) fn is_good(&self) -> bool {
        match &self.measured {
            Measured::Run(figures) => figures.broken.is_empty(),
            Measured::NotApplicable { .. } => true,
            Measured::Failed { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(missing: u64, requests: u64, reported: &[Option<u64>]) -> GapBook {
        GapBook { node: 0, missing, requests, reported: reported.to_vec() }
    }

    #[test]
    fn a_gap_must_have_the_size_of_the_loss() {
        assert_eq!(book(5, 0, &[Some(5)]).error(false), None);
        assert_eq!(book(5, 2, &[Some(3), Some(4)]).error(false), None);
        assert!(book(5, 0, &[Some(4)]).error(false).is_some());
        assert!(book(5, 2, &[Some(8)]).error(false).is_some());
    }

    #[test]
    fn a_gap_of_unknown_size_is_true_and_silence_is_not() {
        assert_eq!(book(5, 0, &[Some(1), None]).error(false), None);
        assert!(book(5, 0, &[]).error(false).is_some());
        assert_eq!(book(0, 0, &[]).error(true), None);
    }

    #[test]
    fn a_history_has_no_gap_where_nothing_is_missing() {
        assert!(book(0, 9, &[None]).error(true).is_some());
        assert!(book(0, 9, &[Some(0)]).error(true).is_some());
        assert_eq!(book(0, 9, &[Some(4)]).error(false), None);
    }

    #[test]
    fn outcomes_survive_a_line_of_json() {
        let figures = Figures { recovery: Some(1.5), gaps: vec![book(1, 2, &[None])], ..Figures::default() };
        for measured in [
            Measured::Run(Box::new(figures)),
            Measured::NotApplicable { not_applicable: "no".into() },
            Measured::Failed { error: "no".into() },
        ] {
            let outcome = Outcome { transport: Transport::Mongodb, fault: Fault::BrokerFrozen2, measured };
            let line = serde_json::to_string(&outcome).unwrap();
            let read: Outcome = serde_json::from_str(&line).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), line);
        }
    }
}
