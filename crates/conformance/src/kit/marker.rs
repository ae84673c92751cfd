//! A broadcast that a test recognises, see [`settle`](super::TestNode::settle).

use std::sync::atomic::{AtomicU64, Ordering};

use trunkline_core::Payload;

/// A unique event that a test sends behind others in order to wait for its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Marker(u64);

/// Event name of markers, by which they are told from a test's own events.
const EVENT: &str = "trunkline:marker";

impl Marker {
    /// Creates a marker that differs from all others of this process.
    #[must_use]
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The marker as event name and arguments.
    #[must_use]
    pub fn payload(self) -> Payload {
        let text = format!(r#"["{EVENT}",{}]"#, self.0);
        Payload::from_trusted_json(text, Vec::new())
    }

    /// Reads the marker in an event, `None` if it is another event.
    #[must_use]
    pub fn of(payload: &Payload) -> Option<Self> {
        if payload.event_name()? != EVENT {
            return None;
        }
        let (number,) = payload.arguments().ok()?;
        Some(Self(number))
    }
}
