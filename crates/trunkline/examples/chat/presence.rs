//! How the nodes tell each other who is on them, and how each keeps its pages up to date.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use trunkline::Event;
use trunkline_socketioxide::{Cluster, NamespaceHandle, ServerSideEvent};

use crate::{adapter::Io, node::Chat, wire::Announcement};

/// Takes note of what other nodes announce.
pub(crate) fn listen(cluster: &Cluster, chat: Arc<Chat>) {
    cluster.on_server_side_event("/", ANNOUNCEMENT, move |event: ServerSideEvent| {
        // A node that announces something else runs another version of this example.
        if let Ok((announcement,)) = event.arguments::<(Announcement,)>() {
            chat.people.announced(event.from, announcement);
        }
        std::future::ready(())
    });
}

/// Announces people who come to this node or leave it, forgets nodes that have left, and updates the node's pages.
pub(crate) async fn keep_up_to_date(chat: Arc<Chat>, io: Io, handle: NamespaceHandle) {
    let mut events = handle.events();
    let mut people = chat.people.changes();
    let mut running = chat.running.clone();
    let mut announced = announce(&chat, &handle, false).await;
    loop {
        tokio::select! {
            Ok(()) = people.changed() => {}
            Ok(()) = running.changed() => {}
            event = events.recv() => match event {
                // The newcomer has not heard the earlier announcements.
                Ok(Event::NodeUp(_)) => announced = announce(&chat, &handle, false).await,
                Ok(Event::NodeDown(node, _)) => chat.people.node_left(&node),
                // Announcements may have been missed, here and there.
                Ok(Event::Gap(_)) | Err(RecvError::Lagged(_)) => announced = announce(&chat, &handle, true).await,
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            },
        }
        if chat.people.was_asked() || chat.people.here() != announced {
            announced = announce(&chat, &handle, false).await;
        }
        // A page whose buffer is full misses this update and gets the next.
        io.local().emit("nodes", &chat.nodes()).await.ok();
    }
}

/// Tells all other nodes who is on this one. Returns what it told.
async fn announce(chat: &Chat, handle: &NamespaceHandle, ask: bool) -> Vec<crate::wire::Person> {
    let announcement = chat.people.announcement(chat.port, ask);
    if let Err(error) = handle.server_side_emit(ANNOUNCEMENT, &(&announcement,)).await {
        eprintln!("node {} could not tell the others who is on it: {error}", chat.port);
    }
    announcement.people
}

const ANNOUNCEMENT: &str = "people";
