//! [`Tally`]: messages counted by room, event or sender.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::entry::Entry;
use crate::{
    options::ReportBy,
    output::{counted, shown, table},
};

/// Messages counted by room, event or sender.
#[derive(Debug)]
pub(crate) struct Tally {
    by: ReportBy,
    began: Instant,
    rows: HashMap<String, Row>,
    total: Row,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    messages: u64,
    bytes: u64,
}

impl Row {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// Names that are told apart; those beyond are counted together.
const MAX_ROWS: usize = 100_000;

impl Tally {
    pub(crate) fn new(by: ReportBy) -> Self {
        Self { by, began: Instant::now(), rows: HashMap::new(), total: Row::default() }
    }

    /// Counts a message. One for several rooms counts in each of them.
    pub(crate) fn add(&mut self, entry: &Entry) {
        let names = match self.by {
            ReportBy::Rooms if entry.rooms.is_empty() => vec!["(all)"],
            ReportBy::Rooms => entry.rooms.iter().map(String::as_str).collect(),
            ReportBy::Events => vec![entry.event.as_deref().unwrap_or(entry.kind.in_parentheses())],
            ReportBy::Senders => vec![entry.sender.as_deref().unwrap_or("(unnamed)")],
        };
        self.total.add(entry.bytes);
        for name in names {
            let name = if self.rows.len() < MAX_ROWS || self.rows.contains_key(name) { name } else { "(others)" };
            self.rows.entry(name.to_owned()).or_default().add(entry.bytes);
        }
    }

    fn sorted(&self) -> Vec<(&str, Row)> {
        let mut rows: Vec<_> = self.rows.iter().map(|(name, row)| (name.as_str(), *row)).collect();
        rows.sort_by(|a, b| (b.1.messages, a.0).cmp(&(a.1.messages, b.0)));
        rows
    }

    pub(crate) fn text(&self) -> String {
        let seconds = self.seconds();
        let lines: Vec<_> = self
            .sorted()
            .into_iter()
            .map(|(name, row)| {
                let share = 100.0 * row.messages as f64 / self.total.messages.max(1) as f64;
                let rate = row.messages as f64 / seconds;
                vec![
                    shown(name),
                    row.messages.to_string(),
                    format!("{rate:.1}/s"),
                    format!("{share:.0} %"),
                    row.bytes.to_string(),
                ]
            })
            .collect();
        let total = format!(
            "{} in {seconds:.1} s, {:.1} a second, with {} B of payload",
            counted(self.total.messages as usize, "message"),
            self.total.messages as f64 / seconds,
            self.total.bytes
        );
        if lines.is_empty() {
            return total;
        }
        table(&[self.by.heading(), "MESSAGES", "RATE", "SHARE", "BYTES"], &lines) + "\n" + &total
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.sorted().into_iter();
        let rows = rows.map(|(name, row)| json!({ "name": name, "messages": row.messages, "bytes": row.bytes }));
        json!({ "by": self.by.heading().to_lowercase() + "s", "seconds": self.seconds(), "messages": self.total.messages,
            "bytes": self.total.bytes, "rows": rows.collect::<Vec<_>>() })
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64().max(0.001)
    }
}
