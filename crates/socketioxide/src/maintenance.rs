//! The two background tasks of an open namespace.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};
use trunkline_core::Local;

use crate::{
    backlog::{NextFlush, SocketSink},
    interest::Interest,
    namespace::OpenNamespace,
};

/// Sends packets from the backlogs as the sockets' buffers take them, until the server is dropped.
pub(crate) async fn flush_backlogs(sink: Weak<impl SocketSink + Send + Sync>, namespace: Arc<OpenNamespace>) {
    loop {
        let changed = namespace.backlogs.changed();
        let Some(next) = sink.upgrade().map(|sink| namespace.backlogs.flush(Instant::now(), &*sink)) else { return };
        match next {
            // The tasks that write to the clients run before the next flush, also on this thread.
            NextFlush::Soon => tokio::task::yield_now().await,
            NextFlush::OnChange => changed.await,
            NextFlush::At(at) => tokio::select! {
                () = changed => {}
                () = sleep_until(at) => {}
            },
        }
    }
}

/// Reports rooms without or with first members to the broker, every `every`: `socket.join`, `socket.leave` and a
/// closing socket pass the adapter by.
pub(crate) async fn reconcile_rooms(
    local: Weak<dyn Local>,
    namespace: Arc<OpenNamespace>,
    interest: Arc<Interest>,
    every: Duration,
) {
    let mut pause = every;
    loop {
        sleep(pause).await;
        let began = Instant::now();
        let Some(rooms) = local.upgrade().map(|local| local.rooms()) else { return };
        // Listing takes longer the more sockets there are: no more than a twentieth of the time.
        pause = every.max(began.elapsed() * 20);
        interest.update(&namespace.node, &local, rooms.into_iter().collect()).await;
    }
}
