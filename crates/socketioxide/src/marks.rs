//! Events that tell clients how far they are in the history, whether or not they have received anything.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use socketioxide::{adapter::Adapter as ServerAdapter, socket::Socket};
use socketioxide_core::{Sid, adapter::SocketEmitter};
use tokio::time::{Instant, sleep_until};
use trunkline_core::{Error, ErrorKind, Offset, Payload, Result, Target};

use crate::{
    adapter::Trunkline,
    backlog::Queued,
    handle::NamespaceHandle,
    namespace::{OpenNamespace, Sockets as _},
};

/// Who is told the offsets of the marks that arrive.
#[derive(Debug)]
pub(crate) struct Marks {
    /// The event that every client gets, and how long there may be none.
    regular: Option<(&'static str, Duration)>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Sockets that get the next mark, under which event.
    wanted: HashMap<Sid, String>,
    /// When the last one arrived.
    last: Instant,
}

/// Sockets that may wait for a mark.
const MAX_WANTED: usize = 1 << 16;

impl Marks {
    pub(crate) fn new(regular: Option<(&'static str, Duration)>) -> Self {
        Self { regular, state: Mutex::new(State { wanted: HashMap::new(), last: Instant::now() }) }
    }

    fn want(&self, socket: Sid, event: &str) -> Result<()> {
        let mut state = self.lock();
        if state.wanted.len() >= MAX_WANTED {
            return Err(Error::new(ErrorKind::QueueFull, format!("{MAX_WANTED} sockets wait for a mark")));
        }
        state.wanted.insert(socket, event.to_owned());
        Ok(())
    }

    fn arrived(&self) -> HashMap<Sid, String> {
        let mut state = self.lock();
        state.last = Instant::now();
        std::mem::take(&mut state.wanted)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Valid after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NamespaceHandle {
    /// Position in the history behind what this server has given its sockets so far; see
    /// [`ClusterNode::offset`](trunkline_core::ClusterNode::offset). To tell it to a client, use
    /// [`NamespaceHandle::mark`], which keeps its place among events.
    ///
    /// # Errors
    /// `Unsupported` without history, `Timeout` if the history does not answer.
    pub async fn offset(&self) -> Result<Offset> {
        self.namespace().node.offset().await
    }

    /// Sends a socket an event with the present offset as its only argument, soon, and in its place among what is
    /// broadcast: for the connect handler, so that a client that has received nothing yet has an offset.
    ///
    /// # Errors
    /// `Unsupported` without history, `QueueFull` if too many sockets wait, or what the broker says.
    pub async fn mark<A: ServerAdapter>(&self, socket: &Socket<A>, event: &str) -> Result<()> {
        let namespace = self.namespace();
        namespace.marks.want(socket.id, event)?;
        namespace.node.mark().await.inspect_err(|_| drop(namespace.marks.lock().wanted.remove(&socket.id)))
    }
}

impl<E: SocketEmitter> Trunkline<E> {
    /// Tells the offset of a mark to the sockets that are to get it, behind what was delivered before.
    pub(crate) fn marked(&self, namespace: &OpenNamespace, offset: &Offset) {
        for (socket, event) in namespace.marks.arrived() {
            if let Some(packet) = mark(&event, offset).and_then(|payload| self.event(&payload)) {
                // A socket that is closed or full needs none.
                let _ = namespace.backlogs.offer(socket, Queued::Event(packet, Some(offset.clone())), self);
            }
        }
        let regular = namespace.marks.regular.and_then(|(event, _)| mark(event, offset));
        if let Some(packet) = regular.and_then(|payload| self.event(&payload)) {
            let all = Target::all();
            self.deliver_paced(namespace, &all, &self.matching(&all), &packet, Some(offset));
        }
    }
}

fn mark(event: &str, offset: &Offset) -> Option<Payload> {
    Payload::event(event, &(offset.as_str(),)).ok()
}

/// Publishes a mark when none has arrived for a while. One of the nodes of a cluster does so for all, mostly: they wait
/// for different times.
pub(crate) async fn publish_marks(namespace: Weak<OpenNamespace>, every: Duration) {
    let jitter = every / 4 * u32::try_from(RandomState::new().hash_one(()) % 256).unwrap_or(0) / 256;
    let mut next = Instant::now() + every;
    loop {
        sleep_until(next).await;
        let Some(namespace) = namespace.upgrade() else { return };
        next = namespace.marks.lock().last + every + jitter;
        if next <= Instant::now() {
            if let Err(error) = namespace.node.mark().await {
                tracing::debug!(%error, "no mark was published");
            }
            next = Instant::now() + every + jitter;
        }
    }
}

/// The task of [`publish_marks`], if clients get regular marks.
pub(crate) fn publishing(namespace: &Arc<OpenNamespace>) -> Option<impl Future<Output = ()> + use<>> {
    let (_, every) = namespace.marks.regular?;
    let has_history = namespace.node.capabilities().history;
    has_history.then(|| publish_marks(Arc::downgrade(namespace), every))
}
