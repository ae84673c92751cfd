//! Where in the history a node is.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::ClusterNode;
use crate::{
    error::{Error, ErrorKind, Result},
    model::{Message, Offset, Target},
    payload::Payload,
};

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

impl ClusterNode {
    /// Position in the history behind what this node has handed to its sockets so far. For a client that has received
    /// nothing yet, or nothing for a while: from it, the client can catch up ([`ClusterNode::replay`]).
    ///
    /// What was received within the last 10 s tells it; otherwise a mark is published ([`ClusterNode::mark`]).
    ///
    /// # Errors
    /// `Unsupported` without history; `Timeout` if the mark does not come back within the request time-out; otherwise
    /// as [`ClusterNode::mark`].
    pub async fn offset(&self) -> Result<Offset> {
        let mut position = self.shared.position.clone();
        if let Some(offset) = position.borrow_and_update().recent() {
            return Ok(offset);
        }
        self.mark().await?;
        let limit = self.shared.config.request_timeout;
        match timeout(limit, position.wait_for(|position| position.recent().is_some())).await {
            Ok(Ok(position)) => position.recent().ok_or_else(|| self.closed_error()),
            Ok(Err(_)) => Err(self.closed_error()),
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("a mark has not come back within {limit:?}"))),
        }
    }

    /// Publishes a mark: a broadcast to no socket, which every node of ours gets with its offset, in its place among
    /// others.
    ///
    /// # Errors
    /// `Unsupported` without history; otherwise as [`ClusterNode::broadcast`].
    pub async fn mark(&self) -> Result<()> {
        self.history()?;
        self.publish(Message::Broadcast { request: None, target: Target::mark(), payload: mark() }).await
    }
}

/// Content of a mark. No client gets it.
fn mark() -> Payload {
    Payload::from_trusted_json(r#"["mark"]"#, Vec::new())
}
