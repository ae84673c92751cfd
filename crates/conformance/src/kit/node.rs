//! A node of a test cluster.

use std::{
    ops::Deref,
    panic::Location,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use trunkline_core::{
    Adapter, Backend, Capabilities, ClusterNode, Error, ErrorKind, Event, Namespace, NodeId, Payload, Room, Target,
};

use super::{
    cluster::Roster,
    failure::{Checked, Failure},
    marker::Marker,
    observer::{Handler, Observer, ServerSideEvent},
    process::Process,
    recorder::Recorder,
    server::Server,
    socket::{Client, TestSocket, Visitor},
};

/// A node with a server of its own, which lives as long as this value. Derefs to the [`ClusterNode`], whose [`Adapter`] it is used through.
#[derive(Debug)]
pub struct TestNode {
    cluster: ClusterNode,
    backend: Backend,
    server: Arc<dyn Server>,
    process: Option<Arc<Process>>,
    seat: Arc<Seat>,
    roster: Arc<Roster>,
}

/// What others see of a node: where markers arrive.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) namespace: Namespace,
    observer: Arc<Observer>,
    sockets: Mutex<Vec<TestSocket>>,
    presence: AtomicU8,
    patience: Duration,
}

/// Whether a node takes part.
const ATTENDING: u8 = 0;
const FROZEN: u8 = 1;
const GONE: u8 = 2;

impl Seat {
    pub(crate) fn new(namespace: Namespace, observer: Arc<Observer>, patience: Duration) -> Self {
        Self { namespace, observer, sockets: Mutex::default(), presence: AtomicU8::new(ATTENDING), patience }
    }

    pub(crate) fn is_attending(&self) -> bool {
        self.presence.load(Ordering::Relaxed) == ATTENDING
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.presence.load(Ordering::Relaxed) == GONE
    }

    fn set_presence(&self, presence: u8) {
        self.presence.store(presence, Ordering::Relaxed);
    }

    fn sockets(&self) -> Vec<TestSocket> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn rooms(&self) -> Vec<Room> {
        trunkline_core::Local::rooms(&*self.observer)
    }

    fn has_room(&self, room: &Room) -> bool {
        trunkline_core::Local::has_room(&*self.observer, room)
    }

    /// Waits until a marker has passed the node and its clients.
    async fn wait_for(&self, at: &'static Location<'static>, marker: Marker) -> Checked {
        self.observer.wait_for_marker(at, self.patience, marker).await?;
        for socket in self.sockets() {
            socket.wait_for_marker(at, marker).await?;
        }
        Ok(())
    }
}

impl TestNode {
    pub(super) fn new(
        cluster: ClusterNode,
        backend: Backend,
        server: Arc<dyn Server>,
        process: Option<Arc<Process>>,
        seat: Arc<Seat>,
        roster: Arc<Roster>,
    ) -> Self {
        Self { cluster, backend, server, process, seat, roster }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.cluster.node().id
    }

    /// The backend it uses.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(super) fn process(&self) -> Option<Arc<Process>> {
        self.process.clone()
    }

    // --- clients ---

    /// Connects a client that is in these rooms.
    pub async fn socket<R: Into<Room>>(&self, rooms: impl IntoIterator<Item = R>) -> Checked<TestSocket> {
        self.connect(Visitor::new().rooms(rooms)).await
    }

    /// Connects a client. On return, what is broadcast to its rooms arrives.
    pub async fn connect(&self, visitor: Visitor) -> Checked<TestSocket> {
        let rooms = visitor.wanted_rooms().to_vec();
        let client = Arc::new(Client::new(visitor, Recorder::new(self.seat.patience)));
        let socket = TestSocket::new(Arc::clone(&client));
        self.server.connect(client, &rooms);
        self.seat.sockets.lock().unwrap_or_else(PoisonError::into_inner).push(socket.clone());
        self.cluster.rooms_created(&[rooms, vec![socket.room()]].concat()).await?;
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
            self.cluster.broadcast(target, payload.map_err(failed)?).await.map_err(failed)
        }
    }

    /// Waits until everything that this node has sent before has arrived wherever it was to arrive: at every node of its namespace, this
    /// one included, and at their clients. What has not arrived then never will.
    #[track_caller]
    pub fn settle(&self) -> impl Future<Output = Checked> {
        let at = Location::caller();
        async move {
            let seats = self.roster.seats(&self.seat.namespace);
            let capabilities = self.cluster.capabilities();
            for path in common_paths(capabilities) {
                self.settle_path(at, &path, &seats).await?;
            }
            // Not before: which rooms there are at other nodes may be what has just arrived.
            for path in room_paths(capabilities, &seats) {
                self.settle_path(at, &path, &seats).await?;
            }
            Ok(())
        }
    }

    async fn settle_path(&self, at: &'static Location<'static>, path: &Path, seats: &[Arc<Seat>]) -> Checked {
        let is_reached = |seat: &&Arc<Seat>| path.reaches_sender() || !Arc::ptr_eq(seat, &self.seat);
        let seats: Vec<_> = seats.iter().filter(is_reached).collect();
        settle_path(at, path, &seats, |marker| self.send_marker(path, marker)).await
    }

    async fn send_marker(&self, path: &Path, marker: Marker) -> trunkline_core::Result<()> {
        match path {
            Path::Broadcast(target) => self.cluster.broadcast(target.clone(), marker.payload()).await,
            Path::ServerSide => self.cluster.server_side_emit(marker.payload()).await,
        }
    }

    // --- server-side events ---

    /// The server-side events so far.
    #[must_use]
    pub fn server_side_events(&self) -> Vec<ServerSideEvent> {
        self.seat.observer.events()
    }

    /// Waits until there are `count` server-side events, and returns them.
    #[track_caller]
    pub fn wait_for_server_side_events(&self, count: usize) -> impl Future<Output = Checked<Vec<ServerSideEvent>>> {
        let at = Location::caller();
        self.seat.observer.wait_for_events(at, self.seat.patience, count)
    }

    /// Answers server-side events from now on; without a value: `undefined`.
    pub fn answer_server_side(&self, value: Option<Payload>) {
        self.seat.observer.set_handler(Handler::Answer(value));
    }

    /// Leaves server-side events unanswered from now on.
    pub fn ignore_server_side(&self) {
        self.seat.observer.set_handler(Handler::Keep(Vec::new()));
    }

    // --- peers ---

    /// Waits until `wanted` recognises an event of this node; to be called with a receiver made before what causes it.
    #[track_caller]
    pub fn wait_for_event(
        &self,
        mut events: tokio::sync::broadcast::Receiver<Event>,
        wanted: impl Fn(&Event) -> bool,
        what: &str,
    ) -> impl Future<Output = Checked<Event>> {
        let at = Location::caller();
        let mut seen = Vec::new();
        async move {
            let found = async {
                while let Ok(event) = events.recv().await {
                    if wanted(&event) {
                        return Some(event);
                    }
                    seen.push(event);
                }
                None
            };
            let found = timeout(self.seat.patience, found).await.ok().flatten();
            found.ok_or_else(|| Failure::at(at, format!("no event {what}, only {seen:?}")))
        }
    }

    /// As [`Adapter::await_peers`], and then waits until those nodes are known by name: where the broker counts, that comes a moment later.
    ///
    /// # Errors
    /// As [`Adapter::await_peers`].
    pub async fn await_peers(&self, count: usize, limit: Duration) -> trunkline_core::Result<()> {
        self.cluster.await_peers(count, limit).await?;
        let named = async {
            while self.cluster.peers().len() < count {
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(limit.max(POLL), named).await.map_err(|_| {
            let names = self.cluster.peers();
            Error::new(ErrorKind::Timeout, format!("{count} nodes are counted, but known are only {names:?}"))
        })
    }

    /// Waits until this node knows exactly `count` other nodes.
    #[track_caller]
    pub fn wait_for_peers(&self, count: usize) -> impl Future<Output = Checked> {
        let at = Location::caller();
        async move {
            let mut last = None;
            let settled = async {
                loop {
                    last = self.cluster.server_count().await.ok();
                    if last == Some(count + 1) {
                        return;
                    }
                    tokio::time::sleep(POLL).await;
                }
            };
            if timeout(self.seat.patience, settled).await.is_ok() {
                return Ok(());
            }
            Err(Failure::at(at, format!("{last:?} nodes are counted, this one included; expected {}", count + 1)))
        }
    }

    // --- life ---

    /// Leaves, and waits until the node has left.
    pub async fn leave(&self) -> Checked {
        self.seat.set_presence(GONE);
        self.cluster.close();
        let closed = timeout(self.seat.patience, self.cluster.closed());
        closed.await.map_err(|_| Failure::new(format!("a node was not closed after {:?}", self.seat.patience)))
    }

    /// Closes the transport, with all nodes that share it.
    ///
    /// # Errors
    /// If it does not end.
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
        let late = || Failure::new(format!("a transport was not closed after {:?}", self.seat.patience));
        timeout(self.seat.patience, closed).await.map_err(|_| late())?
    }

    /// Ends the node without a word, as SIGKILL would, and whoever shares its process. It must have been built with
    /// [`own_process`](super::NodeBuilder::own_process).
    pub async fn kill(self) -> Checked {
        self.seat.set_presence(GONE);
        self.process.as_ref().ok_or_else(no_process)?.kill().await;
        Ok(())
    }

    /// Stops the node without ending its connections, as SIGSTOP would, until [`TestNode::thaw`]. It must have been built with
    /// [`own_process`](super::NodeBuilder::own_process).
    pub async fn freeze(&self) -> Checked {
        self.seat.set_presence(FROZEN);
        self.process.as_ref().ok_or_else(no_process)?.freeze().await
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self) {
        self.seat.set_presence(ATTENDING);
        if let Some(process) = &self.process {
            process.thaw();
        }
    }

    /// How many tasks are alive in the node's own process.
    ///
    /// # Errors
    /// If it has none.
    pub fn tasks(&self) -> Checked<usize> {
        Ok(self.process.as_ref().ok_or_else(no_process)?.tasks())
    }

    /// Runs a future in the node's own process.
    pub async fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Checked<T> {
        self.process.as_ref().ok_or_else(no_process)?.run(future).await
    }
}

impl Drop for TestNode {
    /// Nobody waits for it any more; what it counted is kept, in case the test fails.
    fn drop(&mut self) {
        self.seat.set_presence(GONE);
        self.roster.keep_counters(self.id(), self.cluster.metrics());
    }
}

impl Deref for TestNode {
    type Target = ClusterNode;

    fn deref(&self) -> &ClusterNode {
        &self.cluster
    }
}

#[track_caller]
fn no_process() -> Failure {
    Failure::new("this node has no process of its own; build it with own_process()")
}

/// How often counts are asked for that nobody announces.
const POLL: Duration = Duration::from_millis(20);

/// A way on which messages keep their order.
#[derive(Debug)]
pub(super) enum Path {
    Broadcast(Target),
    ServerSide,
}

impl Path {
    fn reaches_sender(&self) -> bool {
        matches!(self, Self::Broadcast(_))
    }

    fn is_to_room(&self) -> bool {
        matches!(self, Self::Broadcast(target) if target.single_room().is_some())
    }
}

/// The ways that messages of one sender to all nodes may take.
pub(super) fn common_paths(capabilities: Capabilities) -> Vec<Path> {
    let mut paths = vec![Path::Broadcast(Target::all())];
    if !capabilities.acknowledged_in_order {
        paths.push(Path::ServerSide);
    }
    paths
}

/// The ways that messages of one sender to one room each may take besides: none, if the transport keeps a total order.
pub(super) fn room_paths(capabilities: Capabilities, seats: &[Arc<Seat>]) -> Vec<Path> {
    if capabilities.total_order {
        return Vec::new();
    }
    let mut rooms: Vec<_> = seats.iter().flat_map(|seat| seat.rooms()).collect();
    rooms.sort_unstable();
    rooms.dedup();
    rooms.into_iter().map(|room| Path::Broadcast(Target::room(room))).collect()
}

/// How often a marker for one room is sent again, and after how long: it is lost while a node is still telling its broker about the room.
const REPEATS: usize = 20;
const REPEATED_AFTER: Duration = Duration::from_millis(500);

/// Sends markers on their way until one has arrived at all of these nodes that it leads to.
pub(super) async fn settle_path<S: Future<Output = trunkline_core::Result<()>>>(
    at: &'static Location<'static>,
    path: &Path,
    seats: &[&Arc<Seat>],
    send: impl Fn(Marker) -> S,
) -> Checked {
    let mut repeats = if path.is_to_room() { REPEATS } else { 0 };
    loop {
        let marker = Marker::unique();
        send(marker).await.map_err(|error| Failure::at(at, error.to_string()))?;
        let arriving = wait_everywhere(at, path, marker, seats);
        if repeats == 0 {
            return arriving.await;
        }
        if let Ok(arrived) = timeout(REPEATED_AFTER, arriving).await {
            return arrived;
        }
        repeats -= 1;
    }
}

/// Waits until a marker has arrived at all nodes that this path leads to.
async fn wait_everywhere(at: &'static Location<'static>, path: &Path, marker: Marker, seats: &[&Arc<Seat>]) -> Checked {
    for seat in seats {
        let leads_there = match path {
            Path::Broadcast(target) => target.single_room().is_none_or(|room| seat.has_room(room)),
            Path::ServerSide => true,
        };
        if leads_there {
            seat.wait_for(at, marker).await?;
        }
    }
    Ok(())
}
