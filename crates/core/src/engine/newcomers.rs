//! How many unknown nodes become known per second.

use std::time::Instant;

/// Nodes that may become known at once: requests do not wait for those that do not, so a whole cluster must fit.
const BURST: u64 = 1024;

/// Nodes that may become known per second after that.
const PER_SECOND: u64 = 64;

/// Limits how fast unknown nodes become known, so that a flood of invented ones neither takes the places of real ones
/// nor is waited for. Who is turned away becomes known by a later message.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    /// Since when the count runs.
    begun: Option<Instant>,
    /// Nodes that became known, less those that time has made room for.
    count: u64,
}

impl Newcomers {
    /// Whether one more node may become known now; counts it if so.
    pub(super) fn may_join(&mut self, now: Instant) -> bool {
        let begun = *self.begun.get_or_insert(now);
        let seconds = now.duration_since(begun).as_secs();
        if seconds > 0 {
            self.begun = Some(begun + std::time::Duration::from_secs(seconds));
            self.count = self.count.saturating_sub(seconds.saturating_mul(PER_SECOND));
        }
        let may_join = self.count < BURST;
        self.count += u64::from(may_join);
        may_join
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_let_in_and_then_so_many_a_second() {
        let (start, mut newcomers) = (Instant::now(), Newcomers::default());
        let mut joining = |now| (0..2000).filter(|_| newcomers.may_join(now)).count() as u64;
        assert_eq!(joining(start), BURST);
        assert_eq!(joining(start + Duration::from_secs(1)), PER_SECOND);
        assert_eq!(joining(start + Duration::from_millis(1500)), 0);
        assert_eq!(joining(start + Duration::from_secs(3)), 2 * PER_SECOND);
        assert_eq!(joining(start + Duration::from_secs(3600)), BURST);
    }
}
