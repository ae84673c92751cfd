//! Concurrent maps of a transport's state per joined node and per namespace.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use trunkline_core::{
    error::{Error, ErrorKind, Result},
    model::{Namespace, NodeKey},
};

/// Map of the nodes of a process that have joined, with the transport's state of each.
#[derive(Debug)]
pub struct JoinedNodes<P> {
    state: Mutex<Present<P>>,
}

#[derive(Debug)]
struct Present<P> {
    nodes: HashMap<NodeKey, Arc<P>>,
    closed: bool,
}

impl<P> JoinedNodes<P> {
    /// Adds a node.
    ///
    /// # Errors
    /// `Closed` after [`JoinedNodes::close`], `Config` if the node has joined already.
    pub fn add(&self, node: &NodeKey, place: &Arc<P>) -> Result<()> {
        let mut state = self.lock();
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the transport was closed"));
        }
        if state.nodes.contains_key(node) {
            let context = format!("node {} is already in namespace {}", node.id, node.namespace);
            return Err(Error::new(ErrorKind::Config, context));
        }
        state.nodes.insert(node.clone(), Arc::clone(place));
        Ok(())
    }

    /// Removes a node, if it has joined. Returns its state.
    pub fn remove(&self, node: &NodeKey) -> Option<Arc<P>> {
        self.lock().nodes.remove(node)
    }

    /// State of a node; `None` if it has not joined.
    #[must_use]
    pub fn find(&self, node: &NodeKey) -> Option<Arc<P>> {
        self.lock().nodes.get(node).cloned()
    }

    /// State of a node that should have joined.
    ///
    /// # Errors
    /// `Closed` if it has not.
    pub fn of(&self, node: &NodeKey) -> Result<Arc<P>> {
        let not_here =
            || Error::new(ErrorKind::Closed, format!("node {} is not in namespace {}", node.id, node.namespace));
        self.find(node).ok_or_else(not_here)
    }

    /// State of a node that publishes; `None` for an emitter.
    ///
    /// # Errors
    /// `Closed` for a node that has not joined.
    pub fn publishing(&self, node: &NodeKey) -> Result<Option<Arc<P>>> {
        if node.id.is_emitter() { Ok(None) } else { self.of(node).map(Some) }
    }

    /// States of all joined nodes.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<P>> {
        self.lock().nodes.values().cloned().collect()
    }

    /// States of the joined nodes of one namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &Namespace) -> Vec<Arc<P>> {
        let state = self.lock();
        state.nodes.iter().filter(|(node, _)| node.namespace == *namespace).map(|(_, kept)| Arc::clone(kept)).collect()
    }

    /// Refuses further nodes. Returns the states of all that have joined, those of the last moment included.
    pub fn close(&self) -> Vec<Arc<P>> {
        self.lock().closed = true;
        self.all()
    }

    fn lock(&self) -> MutexGuard<'_, Present<P>> {
        // Valid after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> Default for JoinedNodes<P> {
    fn default() -> Self {
        Self { state: Mutex::new(Present { nodes: HashMap::new(), closed: false }) }
    }
}

/// Map of the namespaces that nodes and emitters of a process use, with the transport's state of each.
///
/// A namespace without a node is remembered for the next message of an emitter, as long as there are not too many of
/// them.
#[derive(Debug)]
pub struct Namespaces<S> {
    used: Mutex<HashMap<Namespace, Arc<S>>>,
}

/// Beyond so many namespaces, those that are not in use are forgotten.
const MAX_IDLE: usize = 256;

impl<S> Namespaces<S> {
    /// State of a namespace; made, if it is used for the first time.
    ///
    /// # Errors
    /// What `make` says.
    pub fn of(&self, namespace: &Namespace, make: impl FnOnce() -> Result<S>) -> Result<Arc<S>> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = used.get(namespace) {
            return Ok(Arc::clone(state));
        }
        let state = Arc::new(make()?);
        if used.len() >= MAX_IDLE {
            used.retain(|_, state| Arc::strong_count(state) > 1);
        }
        used.insert(namespace.clone(), Arc::clone(&state));
        Ok(state)
    }
}

impl<S> Default for Namespaces<S> {
    fn default() -> Self {
        Self { used: Mutex::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_core::model::NodeId;

    fn node(id: &str) -> NodeKey {
        NodeKey { id: NodeId::new(id).unwrap(), namespace: Namespace::new("/") }
    }

    #[test]
    fn a_node_is_there_once_and_until_it_is_removed() {
        let nodes = JoinedNodes::default();
        nodes.add(&node("a"), &Arc::new(1)).unwrap();
        assert_eq!(nodes.add(&node("a"), &Arc::new(2)).unwrap_err().kind(), ErrorKind::Config);
        assert_eq!(*nodes.of(&node("a")).unwrap(), 1);
        assert_eq!(nodes.publishing(&node("a")).unwrap().as_deref(), Some(&1));
        assert_eq!(nodes.remove(&node("a")).as_deref(), Some(&1));
        assert_eq!(nodes.of(&node("a")).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(nodes.publishing(&node("a")).unwrap_err().kind(), ErrorKind::Closed);
        let emitter = NodeKey { id: NodeId::EMITTER, namespace: Namespace::new("/") };
        assert_eq!(nodes.publishing(&emitter).unwrap(), None);
    }

    #[test]
    fn nobody_enters_what_was_closed() {
        let nodes = JoinedNodes::default();
        nodes.add(&node("a"), &Arc::new(1)).unwrap();
        assert_eq!(nodes.close(), [Arc::new(1)]);
        assert_eq!(nodes.add(&node("b"), &Arc::new(2)).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(nodes.all().len(), 1);
    }

    #[test]
    fn namespaces_that_nobody_uses_are_bounded() {
        let namespaces = Namespaces::default();
        let held = namespaces.of(&Namespace::new("/held"), || Ok(0)).unwrap();
        for number in 1..=2 * MAX_IDLE {
            namespaces.of(&Namespace::new(&format!("/{number}")), || Ok(number)).unwrap();
        }
        assert!(namespaces.used.lock().unwrap().len() <= MAX_IDLE);
        let again = namespaces.of(&Namespace::new("/held"), || unreachable!("it is in use")).unwrap();
        assert!(Arc::ptr_eq(&again, &held));
    }

    #[test]
    fn a_namespace_that_cannot_be_is_not_remembered() {
        let namespaces = Namespaces::default();
        let refused = namespaces.of(&Namespace::new("/"), || Err(Error::new(ErrorKind::Config, "no")));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
        assert_eq!(*namespaces.of(&Namespace::new("/"), || Ok(1)).unwrap(), 1);
    }
}
