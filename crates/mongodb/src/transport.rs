//! One transport: its tasks, and what nodes ask of it.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::{task::JoinHandle, time::timeout};
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, IdScheme, Membership, Message, NodeId, NodeKey, Response, Result,
    Transport,
    codec::BodyRef,
    model::Delivery,
    transport::{Health, Inbox, JoinRequest},
};

use crate::{
    collection,
    config::Config,
    history::Documents,
    reader::Reader,
    server,
    shared::{Direction, Shared, closed},
    stream,
    wire::Draft,
    writer::Writer,
};

/// Connects, and returns the backend for [`Cluster`](trunkline_core::Cluster) and [`Emitter`](trunkline_core::Emitter).
///
/// # Errors
/// As [`MongoDb::connect`].
pub async fn connect(config: Config) -> Result<Backend> {
    Ok(MongoDb::connect(config).await?.backend())
}

/// A transport over MongoDB, shared by all namespaces of a process. Cheap to clone; when the last clone is dropped, or
/// [`Transport::close`] is called, its tasks and connections end.
#[derive(Clone)]
pub struct MongoDb {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    /// Of all namespaces of this process.
    id: NodeId,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl MongoDb {
    /// Connects, creates the collection if need be, opens the change stream, and spawns a task for each direction on the current Tokio
    /// runtime.
    ///
    /// # Errors
    /// `Config` for what is set wrongly or a collection of the wrong kind, `Unsupported` for a server without change streams,
    /// `Disconnected` or `Broker` if the server cannot be reached or refuses.
    pub async fn connect(config: Config) -> Result<Self> {
        config.check()?;
        let server = server::open(&config).await?;
        let kind = collection::prepare(&server.database, &config).await?;
        let opened = stream::open(&server, &config, &None).await;
        let refused = |failure| format!("open the change stream of {:?}: {failure}", config.collection);
        let changes = opened.map_err(|failure| Error::new(ErrorKind::Broker, refused(failure)))?;
        let shared = Arc::new(Shared::new(config, server.clone(), kind));
        shared.restored(Direction::Inbound);
        shared.restored(Direction::Outbound);
        let reader = Reader::new(Arc::clone(&shared), server.clone(), &changes);
        let tasks =
            vec![tokio::spawn(reader.run(changes)), tokio::spawn(Writer::new(Arc::clone(&shared), server).run())];
        let inner = Inner { shared, id: IdScheme::Hex16.node_id(), tasks: Mutex::new(tasks) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What nodes and emitters need.
    #[must_use]
    pub fn backend(&self) -> Backend {
        Backend {
            transport: Arc::new(self.clone()),
            history: Some(Arc::new(Documents::new(Arc::clone(&self.inner.shared)))),
            interest: None,
            node_counter: None,
            ids: IdScheme::Shared(self.inner.id.clone()),
        }
    }

    async fn queue(&self, from: &NodeKey, to: Option<&NodeId>, body: BodyRef<'_>) -> Result<()> {
        let shared = &self.inner.shared;
        let most = shared.max_message_bytes();
        check_size(body.payload().map_or(0, trunkline_core::Payload::len), most)?;
        let key = shared.seats.number_key(from)?;
        let draft = Draft::new(from, key, to, body, shared.kind.is_expiring())?;
        draft.check()?;
        check_size(draft.bytes(), most)?;
        shared.outbox.push(draft.bytes(), |sequencer| draft.finish(sequencer)).await
    }
}

fn check_size(bytes: usize, most: usize) -> Result<()> {
    if bytes > most {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("message of {bytes} bytes; the largest document is {most}"),
        ));
    }
    Ok(())
}

#[async_trait]
impl Transport for MongoDb {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            membership: Membership::Heartbeats,
            total_order: true,
            acknowledged_in_order: true,
            numbered: true,
            announced_leave: true,
            named_answers: true,
            all_rooms_request: false,
            room_interest: false,
            history: true,
            max_message_bytes: Some(self.inner.shared.max_message_bytes()),
        }
    }

    async fn join(&self, seat: JoinRequest) -> Result<Inbox> {
        let shared = &self.inner.shared;
        if shared.is_closing() {
            return Err(closed());
        }
        let (taken, inbox) = shared.seats.take(seat)?;
        // The seat is given back if joining fails or is given up.
        let mut pending = Pending { shared, node: Some(taken.node.clone()) };
        let limit = shared.config.operation_timeout;
        let away = |_| Error::new(ErrorKind::Disconnected, format!("the change stream is not back after {limit:?}"));
        timeout(limit, shared.until_listening()).await.map_err(away)?;
        if shared.is_up() {
            taken.inbox.push([Delivery::Connected]);
        }
        pending.node = None;
        Ok(inbox)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        self.queue(from, None, (&message).into()).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
        self.queue(from, Some(to), (&response).into()).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        // Its numbers are kept: the id serves all namespaces and comes back with the next one.
        self.inner.shared.seats.give_back(node);
        Ok(())
    }

    fn health(&self) -> Health {
        self.inner.shared.health()
    }

    async fn close(&self) {
        let shared = &self.inner.shared;
        shared.close();
        let tasks = mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // A task that panicked has ended, too.
            let _ = task.await;
        }
        shared.seats.clear();
        if let Some(server) = shared.give_up_server() {
            server.close().await;
        }
    }
}

impl Drop for Inner {
    /// The tasks end by themselves: what is queued, most likely a last farewell, may still be sent.
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// A seat of a node that has not joined yet.
struct Pending<'a> {
    shared: &'a Shared,
    node: Option<NodeKey>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(node) = &self.node {
            self.shared.seats.give_back(node);
        }
    }
}

impl fmt::Debug for MongoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoDb").field("config", &self.inner.shared.config).field("id", &self.inner.id).finish()
    }
}
