//! Server-side events: the handlers of this node.

use tokio::sync::mpsc;
use trunkline::Payload;
use trunkline_socketioxide::{Cluster, ServerSideEvent};

use crate::{adapter::Io, values::Arguments};

/// Registers, for a namespace: `notice`, which is emitted to the clients of this node; `question`, which is answered
/// with the node and the arguments; and `never`, which is not answered in time. Every other event has no handler.
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

/// A `notice` received from another node.
#[derive(Debug)]
pub(crate) struct Notice {
    namespace: &'static str,
    arguments: Arguments,
}

/// Emits the notices in order, until the node stops.
pub(crate) async fn pass_on(mut notices: mpsc::UnboundedReceiver<Notice>, io: Io) {
    while let Some(Notice { namespace, arguments }) = notices.recv().await {
        if let Some(clients) = io.of(namespace) {
            clients.local().emit("notice", &arguments).await.ok();
        }
    }
}
