//! Offset up to which the history has been received, from which a reconnected reader goes on.

use crate::config::HistoryConfig;

/// Position of the reader in the history.
#[derive(Debug)]
pub(crate) struct ResumePoint {
    /// Everything stored up to here has arrived.
    position: i64,
    /// Table of the history, by the server's number of it, once a ping has told.
    table: Option<u32>,
}

impl ResumePoint {
    pub(crate) fn new(position: i64) -> Self {
        Self { position, table: None }
    }

    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// Notes that a notification has arrived. Returns whether it is for a message that has not: each is notified of
    /// once, in the order of offsets.
    pub(crate) fn is_new(&mut self, offset: i64) -> bool {
        let is_new = offset > self.position;
        self.position = self.position.max(offset);
        is_new
    }

    /// Notes what a ping says: the last message stored before it, and its table. Returns whether the table is another
    /// one than before. The position also moves back, because a forged notification may carry an offset that does not
    /// exist.
    pub(crate) fn pinged(&mut self, ping: &str) -> bool {
        let read =
            ping.split_once(' ').and_then(|(position, table)| Some((position.parse().ok()?, table.parse().ok()?)));
        let Some((position, table)) = read else { return false };
        self.position = position;
        self.table.replace(table).is_some_and(|before| before != table)
    }
}

/// Notification to the channel, with the last message stored before it and the number of their table.
pub(crate) fn ping(channel: &str, history: Option<&HistoryConfig>) -> String {
    let text = history.map_or_else(
        || "''".to_owned(),
        |history| {
            let events = history.events.quoted();
            format!("coalesce((SELECT id || ' ' || tableoid FROM {events} ORDER BY id DESC LIMIT 1), '')")
        },
    );
    format!("SELECT pg_notify('{channel}', {text})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_new_once_and_a_forged_offset_does_not_last() {
        let mut point = ResumePoint::new(10);
        assert_eq!([10, 11, 5, 11, 12].map(|offset| point.is_new(offset)), [false, true, false, false, true]);
        assert!(point.is_new(1 << 60));
        assert!(!point.is_new(13));
        assert!(!point.pinged("13 7"));
        assert!(point.is_new(14));
    }

    #[test]
    fn another_table_is_noticed_once() {
        let mut point = ResumePoint::new(10);
        assert_eq!(
            ["10 7", "", "11 7", "90 8", "91 8"].map(|ping| point.pinged(ping)),
            [false, false, false, true, false]
        );
        assert_eq!(point.position(), 91);
    }
}
