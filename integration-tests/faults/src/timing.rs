//! Differences of moments, as numbers of seconds with a sign.

use std::time::Instant;

/// Seconds from `origin` to `at`, negative if it was before.
pub(crate) fn seconds(at: Instant, origin: Instant) -> f64 {
    match at.checked_duration_since(origin) {
        Some(after) => after.as_secs_f64(),
        None => -origin.duration_since(at).as_secs_f64(),
    }
}
