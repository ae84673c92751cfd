//! How a test knows that something was *not* delivered: a later message is.

use std::sync::atomic::{AtomicU64, Ordering};

use trunkline_core::Payload;

/// A message that a test sends behind others. Once it has arrived, so has everything that its sender sent before and that was to arrive
/// at all: nobody has to sleep to see that something stays away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Marker(u64);

/// The event name by which markers are told from a test's own events.
const EVENT: &str = "trunkline:marker";

impl Marker {
    /// A marker unlike all others of this process.
    #[must_use]
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The marker as an event.
    #[must_use]
    pub fn payload(self) -> Payload {
        let text = format!(r#"["{EVENT}",{}]"#, self.0);
        Payload::from_trusted_json(text, Vec::new())
    }

    /// The marker in an event, if it is one.
    #[must_use]
    pub fn of(payload: &Payload) -> Option<Self> {
        if payload.event_name()? != EVENT {
            return None;
        }
        let (number,) = payload.arguments().ok()?;
        Some(Self(number))
    }
}
