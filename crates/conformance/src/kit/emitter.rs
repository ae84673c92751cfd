//! An emitter into a test cluster.

use std::{ops::Deref, panic::Location, sync::Arc};

use trunkline_core::{Backend, Emitter, Namespace, Payload, Target};

use super::{
    cluster::Roster,
    failure::Checked,
    marker::Marker,
    node::{Path, Seat, common_paths, room_paths, settle_path},
};

/// An emitter whose effects can be waited for. Derefs to the [`Emitter`].
#[derive(Clone, Debug)]
pub struct TestEmitter {
    emitter: Emitter,
    namespace: Namespace,
    backend: Backend,
    roster: Arc<Roster>,
}

impl TestEmitter {
    pub(super) fn new(emitter: Emitter, backend: Backend, roster: Arc<Roster>) -> Self {
        Self { emitter, namespace: Namespace::new("/"), backend, roster }
    }

    /// The same emitter, for another namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Self {
        Self { emitter: self.emitter.of(namespace), namespace: Namespace::new(namespace), ..self.clone() }
    }

    /// Broadcasts an event without arguments.
    pub async fn emit(&self, target: Target, name: &str) -> Checked {
        Ok(self.emitter.emit(target, Payload::event(name, &())?).await?)
    }

    /// As [`TestNode::settle`](super::TestNode::settle).
    #[track_caller]
    pub fn settle(&self) -> impl Future<Output = Checked> {
        let at = Location::caller();
        async move {
            let capabilities = self.backend.transport.capabilities();
            let seats = self.roster.seats(&self.namespace);
            for path in common_paths(capabilities) {
                self.settle_path(at, &path, &seats).await?;
            }
            for path in room_paths(capabilities, &seats) {
                self.settle_path(at, &path, &seats).await?;
            }
            Ok(())
        }
    }

    async fn settle_path(&self, at: &'static Location<'static>, path: &Path, seats: &[Arc<Seat>]) -> Checked {
        let seats: Vec<_> = seats.iter().collect();
        settle_path(at, path, &seats, |marker| self.send_marker(path, marker)).await
    }

    async fn send_marker(&self, path: &Path, marker: Marker) -> trunkline_core::Result<()> {
        match path {
            Path::Broadcast(target) => self.emitter.emit(target.clone(), marker.payload()).await,
            Path::ServerSide => self.emitter.server_side_emit(marker.payload()).await,
        }
    }
}

impl Deref for TestEmitter {
    type Target = Emitter;

    fn deref(&self) -> &Emitter {
        &self.emitter
    }
}
