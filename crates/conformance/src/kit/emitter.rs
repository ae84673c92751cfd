//! An emitter into a test cluster.

use std::{ops::Deref, panic::Location, sync::Arc};

use trunkline_core::{Backend, Emitter, Namespace, Payload, Target};

use super::{
    failure::Checked,
    node_list::NodeList,
    settle::{Sender, settle},
};

/// An emitter whose deliveries can be waited for. Derefs to the [`Emitter`].
#[derive(Clone, Debug)]
pub struct TestEmitter {
    emitter: Emitter,
    namespace: Namespace,
    backend: Backend,
    nodes: Arc<NodeList>,
}

impl TestEmitter {
    pub(super) fn new(emitter: Emitter, backend: Backend, nodes: Arc<NodeList>) -> Self {
        Self { emitter, namespace: Namespace::new("/"), backend, nodes }
    }

    /// Returns the same emitter for another namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Self {
        Self { emitter: self.emitter.of(namespace), namespace: Namespace::new(namespace), ..self.clone() }
    }

    /// Broadcasts an event without arguments.
    pub async fn emit(&self, target: Target, name: &str) -> Checked {
        Ok(self.emitter.emit(target, Payload::event(name, &())?).await?)
    }

    /// Waits until everything that this emitter has sent so far has arrived, see
    /// [`TestNode::settle`](super::TestNode::settle).
    #[track_caller]
    pub fn settle(&self) -> impl Future<Output = Checked> {
        let at = Location::caller();
        async move {
            let capabilities = self.backend.capabilities()?;
            settle(at, Sender::Emitter(&self.emitter), &self.nodes, &self.namespace, capabilities).await
        }
    }
}

impl Deref for TestEmitter {
    type Target = Emitter;

    fn deref(&self) -> &Emitter {
        &self.emitter
    }
}
