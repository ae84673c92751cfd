//! The events of the node, passed on to a client.

use serde::Serialize;
use trunkline::{Event, core::GapCause};
use trunkline_socketioxide::NamespaceHandle;

use crate::adapter::Socket;

/// An event of the node, as its client gets it.
#[derive(Debug, Serialize)]
struct Shown {
    kind: &'static str,
    text: String,
    /// Of a gap: the number of missing messages, if it is known.
    missed: Option<u64>,
    /// Of a gap: its cause.
    cause: Option<&'static str>,
}

/// Emits the node's events to the socket as `event`, until either is gone.
pub(crate) fn watch(socket: Socket, handle: &NamespaceHandle) {
    let mut events = handle.events();
    tokio::spawn(async move {
        loop {
            let shown = match events.recv().await {
                Ok(event) => Shown::of(&event),
                Err(tokio::sync::broadcast::error::RecvError::Lagged(count)) => Shown::lagged(count),
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            };
            if socket.emit("event", &shown).is_err() && !socket.connected() {
                return;
            }
        }
    });
}

impl Shown {
    fn of(event: &Event) -> Self {
        let (kind, text) = match event {
            Event::Connected => ("connected", String::new()),
            Event::Lost(reason) => ("lost", reason.clone()),
            Event::Gap(gap) => {
                let (missed, cause) = (gap.missed, Some(cause(gap.cause)));
                return Self { kind: "gap", text: gap.to_string(), missed, cause };
            }
            Event::NodeUp(node) => ("nodeUp", node.to_string()),
            Event::NodeDown(node, reason) => ("nodeDown", format!("{node} {reason:?}")),
            Event::Misconfigured(text) => ("misconfigured", text.clone()),
            other => ("other", format!("{other:?}")),
        };
        Self { kind, text, missed: None, cause: None }
    }

    fn lagged(count: u64) -> Self {
        Self { kind: "lagged", text: format!("{count} events were too many"), missed: None, cause: None }
    }
}

fn cause(cause: GapCause) -> &'static str {
    match cause {
        GapCause::ConnectionLost => "connectionLost",
        GapCause::Overflow => "overflow",
        GapCause::Hole => "hole",
        GapCause::Trimmed => "trimmed",
        _ => "other",
    }
}
