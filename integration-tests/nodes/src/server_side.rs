//! Events between the servers themselves, which no client takes part in: what this node answers and hears.

use tokio::sync::mpsc;
use trunkline::Payload;
use trunkline_socketioxide::{Cluster, ServerSideEvent};

use crate::{adapter::Io, values::Arguments};

/// Registers, for a namespace: `notice`, which is passed on to the clients of this node; `question`, answered with the node and what was
/// asked; and `never`, which is not answered in time. Every other event has no handler.
pub(crate) fn listen(cluster: &Cluster, namespace: &'static str, node: u16, notices: mpsc::UnboundedSender<Notice>) {
    cluster.on_server_side_event(namespace, "notice", move |event: ServerSideEvent| {
        let arguments = event.arguments().unwrap_or_default();
        // Fails only while the node stops.
        notices.send(Notice { namespace, arguments }).ok();
        std::future::ready(())
    });
    cluster.on_server_side_event(namespace, "question", move |event: ServerSideEvent| async move {
        let asked: Arguments = event.arguments()?;
        Payload::value(&(node, asked.0))
    });
    cluster.on_server_side_event(namespace, "never", |_| std::future::pending::<()>());
}

/// A `notice` that this node has heard.
#[derive(Debug)]
pub(crate) struct Notice {
    namespace: &'static str,
    arguments: Arguments,
}

/// Passes on what this node hears, in order, until it stops.
pub(crate) async fn pass_on(mut notices: mpsc::UnboundedReceiver<Notice>, io: Io) {
    while let Some(Notice { namespace, arguments }) = notices.recv().await {
        if let Some(clients) = io.of(namespace) {
            clients.local().emit("notice", &arguments).await.ok();
        }
    }
}
