//! Where in the history a node is.

use std::time::Duration;

use tokio::time::Instant;

use crate::{model::Offset, payload::Payload};

/// Offset of the last message that was handed to the sockets, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Position(Option<(Offset, Instant)>);

/// How long a position is used: what is older may be out of the history before the client comes back.
const RECENT: Duration = Duration::from_secs(10);

impl Position {
    pub(super) fn at(offset: Offset) -> Self {
        Self(Some((offset, Instant::now())))
    }

    /// The offset, unless it is too old.
    pub(super) fn recent(&self) -> Option<Offset> {
        let (offset, at) = self.0.as_ref()?;
        (at.elapsed() < RECENT).then(|| offset.clone())
    }
}

/// Content of a mark. No client gets it.
pub(super) fn mark() -> Payload {
    Payload::from_trusted_json(r#"["mark"]"#, Vec::new())
}
