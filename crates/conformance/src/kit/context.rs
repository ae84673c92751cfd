//! What the nodes and emitters of one test cluster share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::future::join_all;
use tokio::time::timeout;
use trunkline_core::{Backend, Transport};

use super::{abilities::Abilities, failure::Checked, node_list::NodeList, setup::Setup};

/// Shared state of a test cluster: its setup, its name, its nodes, and the transports to close in the end.
#[derive(Debug)]
pub(super) struct ClusterContext {
    pub(super) setup: Setup,
    pub(super) name: String,
    pub(super) nodes: Arc<NodeList>,
    /// A backend that was connected to read its abilities; the next node takes it.
    unused: Mutex<Option<Backend>>,
    transports: Mutex<Vec<Weak<dyn Transport>>>,
}

impl ClusterContext {
    pub(super) fn new(setup: Setup, name: String, nodes: NodeList) -> Self {
        Self { setup, name, nodes: Arc::new(nodes), unused: Mutex::default(), transports: Mutex::default() }
    }

    /// Returns the unused backend, or connects one.
    pub(super) async fn backend(&self) -> Checked<Backend> {
        let unused = lock(&self.unused).take();
        match unused {
            Some(backend) => Ok(backend),
            None => self.connect().await,
        }
    }

    /// Connects a backend that is closed with the cluster.
    pub(super) async fn connect(&self) -> Checked<Backend> {
        let backend = self.connect_untracked().await?;
        self.track(&backend);
        Ok(backend)
    }

    /// Connects a backend for a node with a process of its own, with which the connections end.
    pub(super) async fn connect_untracked(&self) -> Checked<Backend> {
        Ok(self.setup.connect(self.name.clone()).await?)
    }

    /// Has a backend closed with the cluster.
    pub(super) fn track(&self, backend: &Backend) {
        lock(&self.transports).push(Arc::downgrade(&backend.transport));
    }

    pub(super) async fn abilities(&self) -> Checked<Abilities> {
        let backend = self.backend().await?;
        let abilities = Abilities::of(&backend, self.setup.make_server().abilities())?;
        *lock(&self.unused) = Some(backend);
        Ok(abilities)
    }

    /// Closes all transports that are still in use, and gives each a quarter of the timeout.
    pub(super) async fn close(&self) {
        lock(&self.unused).take();
        let transports = std::mem::take(&mut *lock(&self.transports));
        // The outcome does not matter: whether closing works is what the cases of the group `lifecycle` test.
        let closing = transports.iter().filter_map(Weak::upgrade).map(|transport| async move {
            let _ = timeout(self.setup.wait_timeout() / 4, transport.close()).await;
        });
        join_all(closing).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
