//! What a client received of the valid traffic, compared with what was emitted.

use std::collections::HashMap;

/// Where an event of the valid traffic comes from: its node, and 0 if it went to all, 1 if it went to the room.
pub(crate) type Series = (u64, u64);

/// What one client has received: each series is numbered from 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    next: HashMap<Series, u64>,
    pub(crate) lost: u64,
    /// Events with a number that had arrived before, or after a higher one.
    pub(crate) repeated: u64,
}

impl Books {
    pub(crate) fn received(&mut self, series: Series, number: u64) {
        let next = self.next.entry(series).or_default();
        match number.checked_sub(*next) {
            Some(missing) => {
                self.lost += missing;
                *next = number + 1;
            }
            None => self.repeated += 1,
        }
    }

    /// Number of the event of a series that comes next.
    pub(crate) fn next(&self, series: Series) -> u64 {
        self.next.get(&series).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_repeats_are_counted() {
        let mut books = Books::default();
        for number in [0, 1, 4, 4, 2, 5] {
            books.received((0, 0), number);
        }
        books.received((1, 0), 0);
        assert_eq!((books.lost, books.repeated, books.next((0, 0)), books.next((1, 0))), (2, 2, 6, 1));
    }
}
