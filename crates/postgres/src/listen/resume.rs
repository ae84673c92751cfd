//! Offset up to which the history has been received, from which a reconnected reader goes on.

use trunkline_backend::repeats::{MAX_STEP, NumberSet, NumberVerdict};

use crate::config::HistoryConfig;

/// Position of the reader in the history.
#[derive(Debug)]
pub(crate) struct ResumePoint {
    /// Everything stored up to here has arrived: the table or a ping says so.
    proven: i64,
    /// Largest offset that a notification has told, from which the reader goes on. It may be forged.
    last: i64,
    /// Offsets beyond the proven one that notifications have told. A forged one makes a repeat only of the message that
    /// has the very same offset.
    notified: NumberSet,
    /// Table of the history, by the server's number of it, once a ping has told.
    table: Option<u32>,
}

impl ResumePoint {
    pub(crate) fn new(position: i64) -> Self {
        Self { proven: position, last: position, notified: NumberSet::default(), table: None }
    }

    /// Position from which to go on.
    pub(crate) fn position(&self) -> i64 {
        self.last
    }

    /// Moves back to what is proven, because no message has the offset of the position. Returns whether that is another
    /// position.
    pub(crate) fn step_back(&mut self) -> bool {
        let is_another = self.last != self.proven;
        self.last = self.proven;
        is_another
    }

    /// Notes that a notification has arrived. It is new if it is for a message that has not: each is notified of once.
    pub(crate) fn notified(&mut self, offset: i64) -> NumberVerdict {
        if offset <= self.proven {
            return NumberVerdict::Repeat;
        }
        let ahead = offset.abs_diff(self.proven);
        if ahead > MAX_STEP {
            return NumberVerdict::Malformed;
        }
        self.last = self.last.max(offset);
        if self.notified.insert(offset.unsigned_abs()) { NumberVerdict::New } else { NumberVerdict::Repeat }
    }

    /// Notes that a message was read from the table, in the order of offsets. Returns whether it has not been notified
    /// of.
    pub(crate) fn read(&mut self, offset: i64) -> bool {
        let is_new = self.notified.insert(offset.unsigned_abs());
        self.prove(offset);
        is_new
    }

    /// Notes that everything stored up to an offset has arrived. The position also moves back, because a forged
    /// notification may carry an offset that does not exist.
    pub(crate) fn prove(&mut self, offset: i64) {
        self.proven = offset;
        self.last = offset;
        self.notified.forget_up_to(offset.unsigned_abs());
    }

    /// Notes what a ping says: the last message stored before it, and its table. Returns whether the table is another
    /// one than before.
    pub(crate) fn pinged(&mut self, ping: &str) -> bool {
        let read =
            ping.split_once(' ').and_then(|(position, table)| Some((position.parse().ok()?, table.parse().ok()?)));
        let Some((position, table)) = read else { return false };
        let is_another = self.table.replace(table).is_some_and(|before| before != table);
        if is_another {
            self.notified = NumberSet::default();
        }
        self.prove(position);
        is_another
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
    use super::{NumberVerdict::*, *};

    #[test]
    fn a_message_is_new_once_whatever_offsets_are_forged() {
        let mut point = ResumePoint::new(10);
        assert_eq!([10, 11, -5, 11, 12].map(|offset| point.notified(offset)), [Repeat, New, Repeat, Repeat, New]);
        assert_eq!([1 << 60, i64::MAX, i64::MIN].map(|offset| point.notified(offset)), [Malformed, Malformed, Repeat]);
        assert_eq!(([20, 1 << 31].map(|offset| point.notified(offset)), point.position()), ([New; 2], 1 << 31));
        assert_eq!([13, 12, 14].map(|offset| point.notified(offset)), [New, Repeat, New]);
        assert!(!point.pinged("14 7"));
        assert_eq!((point.notified(15), point.notified(14), point.position()), (New, Repeat, 15));
    }

    #[test]
    fn what_was_notified_of_is_not_read_again_from_the_table() {
        let mut point = ResumePoint::new(10);
        assert_eq!([11, 13, 1 << 20].map(|offset| point.notified(offset)), [New; 3]);
        assert!(point.step_back() && !point.step_back(), "there is no message with that offset");
        assert_eq!(point.position(), 10);
        assert_eq!([11, 12, 13, 14].map(|offset| point.read(offset)), [false, true, false, true]);
        assert_eq!((point.position(), point.notified(14), point.notified(15)), (14, Repeat, New));
    }

    #[test]
    fn another_table_is_noticed_once_and_begins_anew() {
        let mut point = ResumePoint::new(10);
        assert_eq!(point.notified(12), New);
        assert_eq!(
            ["10 7", "", "11 7", "90 8", "91 8", "1 9"].map(|ping| point.pinged(ping)),
            [false, false, false, true, false, true]
        );
        assert_eq!((point.position(), point.notified(12)), (1, New));
    }
}
