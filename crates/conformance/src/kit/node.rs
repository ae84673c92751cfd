//! A node of a test cluster.

use std::{ops::Deref, panic::Location, sync::Arc, time::Duration};

use tokio::time::timeout;
use trunkline_core::{Backend, ClusterNode, Error, ErrorKind, Event, NodeId, Payload, Room, Target};

use super::{
    client::{Client, ClientSpec, TestSocket},
    failure::{Checked, Failure},
    node_list::{NodeList, NodeProbe, NodeState},
    observer::{Handler, ServerSideEvent},
    process::Process,
    recorder::Recorder,
    server::Server,
    settle::{Sender, settle},
};

/// A node with a server of its own, which lives as long as this value. Derefs to the [`ClusterNode`], for its
/// operations.
#[derive(Debug)]
pub struct TestNode {
    node: ClusterNode,
    backend: Backend,
    server: Arc<dyn Server>,
    process: Option<Arc<Process>>,
    probe: Arc<NodeProbe>,
    nodes: Arc<NodeList>,
}

impl TestNode {
    pub(super) fn new(
        node: ClusterNode,
        backend: Backend,
        server: Arc<dyn Server>,
        process: Option<Arc<Process>>,
        probe: Arc<NodeProbe>,
        nodes: Arc<NodeList>,
    ) -> Self {
        Self { node, backend, server, process, probe, nodes }
    }

    /// Node id.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.node.node().id
    }

    /// Backend of the node.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(super) fn process(&self) -> Option<Arc<Process>> {
        self.process.clone()
    }

    // --- clients ---

    /// Connects a client and adds it to `rooms`.
    pub async fn socket<R: Into<Room>>(&self, rooms: impl IntoIterator<Item = R>) -> Checked<TestSocket> {
        self.connect(ClientSpec::new().rooms(rooms)).await
    }

    /// Connects a client. On return, broadcasts to its rooms arrive.
    pub async fn connect(&self, spec: ClientSpec) -> Checked<TestSocket> {
        let rooms = spec.initial_rooms().to_vec();
        let client = Arc::new(Client::new(spec, Recorder::new(self.probe.timeout)));
        let socket = TestSocket::new(Arc::clone(&client));
        self.server.connect(client, &rooms);
        self.probe.add_socket(socket.clone());
        self.node.rooms_created(&[rooms, vec![socket.room()]].concat()).await?;
        Ok(socket)
    }

    // --- sending ---

    /// Broadcasts an event without arguments.
    #[track_caller]
    pub fn emit(&self, target: Target, name: &str) -> impl Future<Output = Checked> {
        let payload = Payload::event(name, &());
        let at = Location::caller();
        async move {
            let failed = |error| Failure::at(at, format!("broadcasting failed: {error}"));
            self.node.broadcast(target, payload.map_err(failed)?).await.map_err(failed)
        }
    }

    /// Waits until everything that this node has sent so far has arrived wherever it must: at every running node of its
    /// namespace, this one included, and at their clients. Anything that has not arrived then never will, so that a
    /// test can check what was *not* delivered.
    #[track_caller]
    pub fn settle(&self) -> impl Future<Output = Checked> {
        let at = Location::caller();
        let sender = Sender::Node(&self.node, &self.probe);
        settle(at, sender, &self.nodes, &self.probe.namespace, self.node.capabilities())
    }

    // --- server-side events ---

    /// Server-side events received so far.
    #[must_use]
    pub fn server_side_events(&self) -> Vec<ServerSideEvent> {
        self.probe.observer.events()
    }

    /// Waits until at least `count` server-side events are received, and returns all of them.
    #[track_caller]
    pub fn wait_for_server_side_events(&self, count: usize) -> impl Future<Output = Checked<Vec<ServerSideEvent>>> {
        let at = Location::caller();
        self.probe.observer.wait_for_events(at, self.probe.timeout, count)
    }

    /// Answers server-side events from now on, with `undefined` if there is no value.
    pub fn answer_server_side(&self, value: Option<Payload>) {
        self.probe.observer.set_handler(Handler::Answer(value));
    }

    /// Never answers server-side events from now on.
    pub fn ignore_server_side(&self) {
        self.probe.observer.set_handler(Handler::Ignore(Vec::new()));
    }

    // --- peers ---

    /// Waits for an event of this node that `matches`. `events` must have been subscribed before the cause of the
    /// event.
    #[track_caller]
    pub fn wait_for_event(
        &self,
        mut events: tokio::sync::broadcast::Receiver<Event>,
        matches: impl Fn(&Event) -> bool,
        what: &str,
    ) -> impl Future<Output = Checked<Event>> {
        let at = Location::caller();
        let mut seen = Vec::new();
        async move {
            let found = async {
                while let Ok(event) = events.recv().await {
                    if matches(&event) {
                        return Some(event);
                    }
                    seen.push(event);
                }
                None
            };
            let found = timeout(self.probe.timeout, found).await.ok().flatten();
            found.ok_or_else(|| Failure::at(at, format!("no event {what}, only {seen:?}")))
        }
    }

    /// Waits as [`ClusterNode::await_peers`] does, and then until those nodes are known by id: where the broker counts
    /// nodes, ids follow later.
    ///
    /// # Errors
    /// As [`ClusterNode::await_peers`].
    pub async fn await_peers(&self, count: usize, limit: Duration) -> trunkline_core::Result<()> {
        self.node.await_peers(count, limit).await?;
        let named = async {
            while self.node.peers().len() < count {
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(limit.max(POLL), named).await.map_err(|_| {
            let names = self.node.peers();
            Error::new(ErrorKind::Timeout, format!("{count} nodes are counted, but known are only {names:?}"))
        })
    }

    /// Waits until this node counts exactly `count` other nodes.
    #[track_caller]
    pub fn wait_for_peers(&self, count: usize) -> impl Future<Output = Checked> {
        let at = Location::caller();
        async move {
            let mut last = None;
            let counted = async {
                loop {
                    last = self.node.server_count().await.ok();
                    if last == Some(count + 1) {
                        return;
                    }
                    tokio::time::sleep(POLL).await;
                }
            };
            if timeout(self.probe.timeout, counted).await.is_ok() {
                return Ok(());
            }
            Err(Failure::at(at, format!("{last:?} nodes are counted, this one included; expected {}", count + 1)))
        }
    }

    // --- lifecycle ---

    /// Leaves, and waits until the node has left.
    pub async fn leave(&self) -> Checked {
        self.probe.set_state(NodeState::Gone);
        self.node.close();
        let closed = timeout(self.probe.timeout, self.node.closed());
        closed.await.map_err(|_| Failure::new(format!("a node was not closed after {:?}", self.probe.timeout)))
    }

    /// Closes the transport and so all nodes that share it.
    ///
    /// # Errors
    /// If it does not close in time.
    pub async fn close_transport(&self) -> Checked {
        let transport = Arc::clone(&self.backend.transport);
        let closing = async move { transport.close().await };
        let closed = async {
            match &self.process {
                Some(process) => process.run(closing).await,
                None => {
                    closing.await;
                    Ok(())
                }
            }
        };
        let late = || Failure::new(format!("a transport was not closed after {:?}", self.probe.timeout));
        timeout(self.probe.timeout, closed).await.map_err(|_| late())?
    }

    /// Kills the node, as SIGKILL does, and all nodes that share its process. It must have been built with
    /// [`own_process`](super::NodeBuilder::own_process).
    pub async fn kill(self) -> Checked {
        self.probe.set_state(NodeState::Gone);
        self.process.as_ref().ok_or_else(no_process)?.kill().await;
        Ok(())
    }

    /// Stops the node without closing its connections, as SIGSTOP does, until [`TestNode::thaw`]. It must have been
    /// built with [`own_process`](super::NodeBuilder::own_process).
    pub async fn freeze(&self) -> Checked {
        self.probe.set_state(NodeState::Frozen);
        self.process.as_ref().ok_or_else(no_process)?.freeze().await
    }

    /// Continues a frozen node.
    pub fn thaw(&self) {
        self.probe.set_state(NodeState::Running);
        if let Some(process) = &self.process {
            process.thaw();
        }
    }

    /// Number of tasks in the node's own process that have not ended.
    ///
    /// # Errors
    /// If the node has no process of its own.
    pub fn tasks(&self) -> Checked<usize> {
        Ok(self.process.as_ref().ok_or_else(no_process)?.tasks())
    }

    /// Runs a future in the node's own process.
    ///
    /// # Errors
    /// If the node has no process of its own.
    pub async fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Checked<T> {
        self.process.as_ref().ok_or_else(no_process)?.run(future).await
    }
}

impl Drop for TestNode {
    /// Takes the node off the list, and keeps its counts in case the test fails.
    fn drop(&mut self) {
        self.probe.set_state(NodeState::Gone);
        self.nodes.keep_anomalies(self.id(), self.node.metrics());
    }
}

impl Deref for TestNode {
    type Target = ClusterNode;

    fn deref(&self) -> &ClusterNode {
        &self.node
    }
}

#[track_caller]
fn no_process() -> Failure {
    Failure::new("this node has no process of its own; build it with own_process()")
}

/// Interval at which counts are polled.
const POLL: Duration = Duration::from_millis(20);
